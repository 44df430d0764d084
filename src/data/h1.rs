//! Layer 4: a client's HTTP/1 connection. It is in one of a few phases, and `advance` moves it from one to the next: TLS where
//! there is any (`handshake`), a head (`head`), the exchange, and again a head, a tunnel or the end (`linger`).

mod handshake;
mod head;
mod info;
mod linger;
mod owner;

use super::client::Client;
use super::context::Context;
use super::exchange::{Disposition, Exchange, Step};
use super::meta::Sender;
use super::poller::{Ready, Side, Token};
use super::server_pool::ServerConnection;
use super::shared::ConnectionPermit;
use super::tls_info::TlsInfo;
use super::transport::{Stream, Transport};
use super::tunnel::{self, Tunnel};
use crate::base::ids::ConnectionKey;
use crate::base::time::Moment;
use crate::http1::reason::Reason;
use crate::state::config::Config;
use crate::state::listener::OpenListener;
use std::net::SocketAddr;
use std::sync::Arc;

/// Requests that one connection has served in a row before others get their turn: at some 10 us each, a third of a millisecond.
const REQUESTS_IN_A_ROW: u32 = 32;

/// A client's connection.
#[derive(Debug)]
pub struct Connection {
    client: Client,
    peer: Option<SocketAddr>,
    /// What is known of its TLS session.
    secure: Option<Arc<TlsInfo>>,
    /// The client's address, where a PROXY header named it.
    source: Option<SocketAddr>,
    /// The PROXY header that had to come first has come.
    has_proxy_header: bool,
    /// Bytes of `client.input` that were looked at and are no whole head.
    seen: usize,
    /// Requests that have got their response.
    requests: u64,
    /// Since when it waits for a request, or for the rest of a head.
    since: Moment,
    phase: Phase,
    /// Its key in its worker, and the generation of that.
    owner: ConnectionKey,
    /// The connection to its exchange's server, or the one that is bound to it, on the way to another worker.
    moving: Option<ServerConnection>,
    /// Copies of its requests, for the worker to take in.
    #[allow(clippy::vec_box, reason = "an exchange stays in its box, wherever it goes")]
    copies: Vec<Box<Exchange>>,
    /// None: it is the client of a copied request.
    permit: Option<ConnectionPermit>,
}

/// What it is at.
#[derive(Debug)]
enum Phase {
    /// TLS, and perhaps a PROXY header before it, is to come.
    BeforeTls,
    /// A TLS handshake is to be completed.
    Handshake,
    /// A head is to come.
    Head,
    Exchange(Box<Exchange>),
    Tunnel(Box<Tunnel>),
    /// Our side is closed; the client's bytes are dropped until it closes, too.
    Linger {
        silent_until: Moment,
        until: Moment,
    },
    /// To be rejected before anything is read.
    Reject(Reason),
}

/// How far a connection came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advance {
    /// It waits for an event, until then at the most.
    Wait(Moment),
    /// It can go on, after others had their turn.
    Yield,
    /// It waits for a request for so long that a worker need not hold it.
    Park,
    /// It is over.
    Closed,
}

impl Connection {
    /// A connection that was accepted.
    pub fn new(
        transport: Transport,
        peer: Option<SocketAddr>,
        permit: ConnectionPermit,
        now: Moment,
    ) -> Self {
        let phase = if permit.listener().tls.is_some() { Phase::BeforeTls } else { Phase::Head };
        Connection { peer, permit: Some(permit), ..Connection::on(transport, phase, now) }
    }

    /// What stands for the client of a copied request: it takes every response, and waits for none.
    pub fn of_copy(exchange: Box<Exchange>, now: Moment) -> Self {
        Connection {
            has_proxy_header: true,
            ..Connection::on(Transport::Discard, Phase::Exchange(exchange), now)
        }
    }

    /// Nothing is known of its client but the bytes.
    fn on(transport: Transport, phase: Phase, now: Moment) -> Self {
        let stream = Stream::new(transport, Token::new(Side::Client, 0, 0));
        Connection {
            client: Client { stream, input: Vec::new() },
            peer: None,
            secure: None,
            source: None,
            has_proxy_header: false,
            seen: 0,
            requests: 0,
            since: now,
            phase,
            owner: ConnectionKey::default(),
            moving: None,
            copies: Vec::new(),
            permit: None,
        }
    }

    /// Copies of its requests that were made: exchanges of their own.
    #[allow(clippy::vec_box, reason = "an exchange stays in its box, wherever it goes")]
    pub fn take_copies(&mut self) -> Vec<Box<Exchange>> {
        std::mem::take(&mut self.copies)
    }

    /// It is to be rejected, whatever its client sends.
    pub fn reject(&mut self, reason: Reason) {
        self.phase = Phase::Reject(reason);
    }

    /// The client's address as the kernel gave it; `None` on a Unix socket.
    pub fn peer(&self) -> Option<SocketAddr> {
        self.source.or(self.peer)
    }

    /// Takes in what an event said of the client.
    pub fn notify(&mut self, ready: Ready) {
        self.client.stream.notify(ready);
    }

    /// Whether it waits for a request.
    pub fn is_idle(&self) -> bool {
        matches!(self.phase, Phase::BeforeTls | Phase::Handshake | Phase::Head)
    }

    /// When the wait for a request, or for the rest of a head, is over.
    pub fn head_deadline(&self, config: &Config) -> Moment {
        let times = &config.timeouts;
        if let Some(listener) = self.listener().filter(|_| self.is_before_requests()) {
            return self.since.after(listener.handshake_timeout(times.client_head));
        }
        let first = self.requests == 0 || !self.client.input.is_empty();
        self.since.after(if first { times.client_head } else { times.keep_alive })
    }

    /// Waits that began at `since` or later begin now.
    pub fn restart_waits(&mut self, since: Moment, now: Moment) {
        if self.since >= since {
            self.since = now;
        }
        if let Phase::Exchange(exchange) = &mut self.phase {
            exchange.restart_waits(since, now);
        }
    }

    /// Whether a part of a head has come, or of what comes before the first head.
    pub fn has_partial_head(&self) -> bool {
        !self.client.input.is_empty() || self.is_before_requests()
    }

    /// The listener that it came through, as it was then; `None` for a copy.
    pub fn listener(&self) -> Option<&Arc<OpenListener>> {
        self.permit.as_ref().map(ConnectionPermit::listener)
    }

    /// For its next request; `None` for a copy, which has none.
    fn sender(&self) -> Option<Sender<'_>> {
        let (listener, secure) = (self.listener()?, self.secure.as_ref());
        Some(Sender { peer: self.peer(), owner: self.owner, listener, secure })
    }

    /// Moves it as far as it goes now.
    pub fn advance(&mut self, cx: &mut Context) -> Advance {
        let mut in_a_row = 0;
        loop {
            let next = match &mut self.phase {
                Phase::BeforeTls => self.read_before_tls(cx),
                Phase::Handshake => self.handshake(cx),
                Phase::Head if in_a_row == REQUESTS_IN_A_ROW => Some(Advance::Yield),
                Phase::Head => self.read_head(cx),
                Phase::Exchange(exchange) => {
                    let step = exchange.advance(&mut self.client, cx);
                    self.copies.extend(exchange.take_copy());
                    match step {
                        Step::Suspend(until) => Some(Advance::Wait(until)),
                        Step::Yield => Some(Advance::Yield),
                        Step::Done(disposition) => {
                            in_a_row += 1;
                            self.go_on(disposition, cx)
                        }
                    }
                }
                Phase::Tunnel(tunnel) => match tunnel.advance(&mut self.client, cx) {
                    tunnel::Step::Suspend(until) => Some(Advance::Wait(until)),
                    tunnel::Step::Yield => Some(Advance::Yield),
                    tunnel::Step::Done => {
                        self.abandon(Reason::ClientGone, cx);
                        self.linger(cx)
                    }
                },
                Phase::Linger { .. } => self.drop_input(cx),
                Phase::Reject(reason) => {
                    let reason = *reason;
                    self.reject_now(reason, cx)
                }
            };
            if let Some(next) = next {
                return next;
            }
        }
    }

    /// The connection ends in another way: nothing of it stays in the worker.
    pub fn abandon(&mut self, reason: Reason, cx: &mut Context) {
        cx.servers.close_bound(self.owner.key);
        match std::mem::replace(&mut self.phase, Phase::Head) {
            Phase::Exchange(exchange) => exchange.abandon(reason, cx),
            Phase::Tunnel(tunnel) => tunnel.close(cx),
            _ => {}
        }
    }

    /// After an exchange.
    fn go_on(&mut self, disposition: Disposition, cx: &mut Context) -> Option<Advance> {
        let Phase::Exchange(exchange) = std::mem::replace(&mut self.phase, Phase::Head) else { return None };
        let (_, sent) = exchange.bytes();
        exchange.recycle(cx);
        (self.requests, self.since, self.seen) = (self.requests + 1, cx.now, 0);
        match disposition {
            Disposition::Keep => None,
            Disposition::Tunnel(tunnel) => {
                self.phase = Phase::Tunnel(tunnel);
                None
            }
            Disposition::Abort => {
                self.client.stream.reset_on_close();
                Some(Advance::Closed)
            }
            Disposition::Linger => self.linger(cx),
            Disposition::Close => self.close_behind(sent, cx),
        }
    }

    /// Before anything is read: on a port with TLS there is no way to say why.
    fn reject_now(&mut self, reason: Reason, cx: &mut Context) -> Option<Advance> {
        if self.secure.is_none() && self.listener().is_some_and(|listener| listener.tls.is_some()) {
            cx.shard().reject(reason);
            return Some(Advance::Closed);
        }
        self.begin_rejection(reason, cx);
        None
    }

    /// Tells the client why it is not served.
    fn begin_rejection(&mut self, reason: Reason, cx: &mut Context) {
        let Some(sender) = self.sender() else { return };
        let exchange = Exchange::of_rejection(reason, &self.client.input, sender, cx);
        self.phase = Phase::Exchange(exchange);
    }
}
