//! Layer 4: a client's HTTP/1 connection: heads in, one exchange at a time, and an end that lets the client read its last
//! response (RFC 9112 section 9.6).

mod greeting;

use super::buffers::TURN_BYTES;
use super::client::Client;
use super::context::Context;
use super::exchange::{Disposition, Exchange, Step};
use super::meta::Sender;
use super::poller::{Ready, Side, Token};
use super::secure::Secure;
use super::server_pool::ServerConnection;
use super::shared::{DRAIN_LOOK, Permit};
use super::transport::{Moved, Stream, Transport};
use super::tunnel::{self, Tunnel};
use crate::base::time::Moment;
use crate::http1::head::{self, Parsed};
use crate::http1::proxy_protocol;
use crate::http1::reason::Reason;
use crate::policy::backlog::Priority;
use crate::state::config::Config;
use crate::state::listener::OpenListener;
use crate::state::stats::Outcome;
use crate::state::workers::RequestInfo;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Requests that one connection has served in a row before others get their turn.
const REQUESTS_IN_A_ROW: u32 = 32;

/// A connection that waits for a request for so long is parked: it costs a socket and a few hundred bytes then.
const PARK_AFTER: Duration = Duration::from_secs(1);

/// Where connections run short, one that has sent no whole request for so long is parked: it can make room for a new one
/// then. On a machine with time to spare a head comes within a few milliseconds.
const PARK_NEAR_LIMIT_AFTER: Duration = Duration::from_millis(50);

/// A lingering close ends after so much silence of the client …
const LINGER_SILENCE: Duration = Duration::from_secs(5);
/// … and after this in any case (the times of nginx's `lingering_timeout` and `lingering_time`).
const LINGER_TIME: Duration = Duration::from_secs(30);
/// What it gets of that where connections run short, it is beyond the limit itself, or the balancer is to stop.
const LINGER_NEAR_LIMIT: Duration = Duration::from_secs(1);
/// After a response larger than this a part of it may still be on its way when the connection closes; bytes that the
/// client sends then would make the kernel drop it.
const LINGER_ABOVE_BYTES: u64 = 64 * 1024;

/// A client's connection.
#[derive(Debug)]
pub struct Connection {
    client: Client,
    peer: Option<SocketAddr>,
    /// What is known of its TLS session.
    secure: Option<Arc<Secure>>,
    /// The client's address, where a PROXY header named it.
    source: Option<SocketAddr>,
    /// The PROXY header that had to come first has come.
    introduced: bool,
    /// Bytes of `client.input` that were looked at and are no whole head.
    seen: usize,
    /// Requests that were answered.
    requests: u64,
    /// Since when it waits for a request, or for the rest of a head.
    since: Moment,
    phase: Phase,
    /// The key and the turn in its worker.
    owner: (usize, u32),
    /// The connection to its exchange's server, on the way to another worker.
    moving: Option<ServerConnection>,
    /// Copies of its requests, for the worker to take in.
    #[allow(clippy::vec_box, reason = "an exchange stays in its box, wherever it goes")]
    copies: Vec<Box<Exchange>>,
    /// None: it is the client of a copied request.
    permit: Option<Permit>,
}

/// What it is at.
#[derive(Debug)]
enum Phase {
    /// TLS, and perhaps a PROXY header before it, is to come.
    Greeting,
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

/// How a connection stands, for lists and gauges.
#[derive(Debug)]
pub enum Doing<'c> {
    /// It waits for a request.
    Nothing,
    /// It has an exchange.
    Exchange(&'c Exchange),
    /// It is a tunnel.
    Tunnel(&'c Tunnel),
    /// It is closing.
    Closing,
}

impl Connection {
    /// A connection that was accepted.
    pub fn new(transport: Transport, peer: Option<SocketAddr>, permit: Permit, now: Moment) -> Self {
        let stream = Stream::new(transport, Token::new(Side::Client, 0, 0));
        let is_secure = permit.listener().tls.is_some();
        let phase = if is_secure { Phase::Greeting } else { Phase::Head };
        Connection {
            client: Client { stream, input: Vec::new() },
            peer,
            secure: None,
            source: None,
            introduced: false,
            seen: 0,
            requests: 0,
            since: now,
            phase,
            owner: (0, 0),
            moving: None,
            copies: Vec::new(),
            permit: Some(permit),
        }
    }

    /// What stands for the client of a copied request: it takes every response, and waits for none.
    pub fn of_copy(exchange: Box<Exchange>, now: Moment) -> Self {
        let stream = Stream::new(Transport::Discard, Token::new(Side::Client, 0, 0));
        Connection {
            client: Client { stream, input: Vec::new() },
            peer: None,
            secure: None,
            source: None,
            introduced: true,
            seen: 0,
            requests: 0,
            since: now,
            phase: Phase::Exchange(exchange),
            owner: (0, 0),
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

    /// What it is at.
    pub fn doing(&self) -> Doing<'_> {
        match &self.phase {
            Phase::Greeting | Phase::Handshake | Phase::Head | Phase::Reject(_) => Doing::Nothing,
            Phase::Exchange(exchange) => Doing::Exchange(exchange),
            Phase::Tunnel(tunnel) => Doing::Tunnel(tunnel),
            Phase::Linger { .. } => Doing::Closing,
        }
    }

    /// Its exchange or tunnel, for people.
    pub fn info(&self, now: Moment) -> Option<RequestInfo> {
        let peer = self.peer().map(|peer| peer.ip());
        match &self.phase {
            Phase::Exchange(exchange) => Some(RequestInfo {
                id: exchange.meta.trace.to_string(),
                client: exchange.meta.client.or(peer),
                request: String::from_utf8_lossy(exchange.request_line()).into_owned(),
                server: exchange.server().map(|server| server.name.clone()),
                waits_for: exchange.waiting().name(),
                priority: exchange.priority().name(),
                left: exchange.expires().map(|at| at.since(now)),
                age: now.since(exchange.meta.started),
                received_bytes: exchange.bytes().0,
                sent_bytes: exchange.bytes().1,
                status: exchange.status(),
            }),
            Phase::Tunnel(tunnel) => Some(RequestInfo {
                id: String::new(),
                client: peer,
                request: String::new(),
                server: Some(tunnel.server().to_owned()),
                waits_for: "tunnel",
                priority: Priority::default().name(),
                left: None,
                age: now.since(self.since),
                received_bytes: tunnel.bytes().0,
                sent_bytes: tunnel.bytes().1,
                status: 101,
            }),
            _ => None,
        }
    }

    /// Whether it waits for a request.
    pub fn is_idle(&self) -> bool {
        matches!(self.phase, Phase::Greeting | Phase::Handshake | Phase::Head)
    }

    /// When the wait for a request, or for the rest of a head, is over.
    pub fn head_deadline(&self, config: &Config) -> Moment {
        let times = &config.timeouts;
        if let Some(listener) = self.listener().filter(|_| self.is_greeting()) {
            return self.since.after(listener.handshake_timeout(times.client_head));
        }
        let first = self.requests == 0 || !self.client.input.is_empty();
        self.since.after(if first { times.client_head } else { times.keep_alive })
    }

    /// Whether a part of a head has come, or of what comes before the first head.
    pub fn has_partial_head(&self) -> bool {
        !self.client.input.is_empty() || self.is_greeting()
    }

    /// The listener that it came through, as it was then; `None` for a copy.
    pub fn listener(&self) -> Option<&Arc<OpenListener>> {
        self.permit.as_ref().map(Permit::listener)
    }

    /// For its next request; `None` for a copy, which has none.
    fn sender(&self) -> Option<Sender<'_>> {
        let (listener, secure) = (self.listener()?, self.secure.as_ref());
        Some(Sender { peer: self.peer(), owner: self.owner, listener, secure })
    }

    /// Comes to a worker, where it has this key and turn; nothing is known of its readiness.
    pub fn adopt(&mut self, key: usize, turn: u32, cx: &mut Context) {
        self.owner = (key, turn);
        self.client.stream.unwatch(&cx.poller, Token::new(Side::Client, key, turn));
        let connection = self.moving.take().map(|connection| cx.servers.attach(connection, &cx.poller, key));
        match &mut self.phase {
            Phase::Exchange(exchange) => exchange.attach(self.owner, connection),
            Phase::Tunnel(tunnel) => tunnel.connection = connection.unwrap_or(usize::MAX),
            _ => {}
        }
    }

    /// Leaves a worker. False: it cannot now.
    pub fn leave(&mut self, cx: &mut Context) -> bool {
        let connection = match &self.phase {
            Phase::Exchange(exchange) if exchange.is_bound() => return false,
            Phase::Exchange(exchange) => exchange.connection(),
            Phase::Tunnel(tunnel) => Some(tunnel.connection),
            _ => None,
        };
        self.moving = connection.and_then(|connection| cx.servers.detach(connection, &cx.poller));
        let token = self.client.stream.token();
        self.client.stream.unwatch(&cx.poller, token);
        true
    }

    /// Watches both sides; before every wait.
    pub fn watch(&mut self, cx: &mut Context) -> io::Result<()> {
        self.client.stream.watch(&cx.poller)?;
        let connections = match &self.phase {
            Phase::Exchange(exchange) => [exchange.connection(), exchange.rival_connection()],
            Phase::Tunnel(tunnel) => [Some(tunnel.connection), None],
            _ => [None, None],
        };
        for connection in connections.into_iter().flatten() {
            if let Some(server) = cx.servers.get_mut(connection) {
                server.stream.watch(&cx.poller)?;
            }
        }
        Ok(())
    }

    /// Watches the client alone, in another poller than a worker's.
    pub fn watch_in(&mut self, poller: &super::poller::Poller, token: Token) -> io::Result<()> {
        self.client.stream.unwatch(poller, token);
        self.client.stream.watch(poller)
    }

    /// Leaves that poller.
    pub fn unwatch_in(&mut self, poller: &super::poller::Poller) {
        let token = self.client.stream.token();
        self.client.stream.unwatch(poller, token);
    }

    /// Moves it as far as it goes now.
    pub fn advance(&mut self, cx: &mut Context) -> Advance {
        let mut in_a_row = 0;
        loop {
            let next = match &mut self.phase {
                Phase::Greeting => self.greet(cx),
                Phase::Handshake => self.shake_hands(cx),
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
            Disposition::Close => {
                // A close over unread bytes is a reset, which can discard the response before the client reads it.
                let mut byte = [0];
                let unread = !self.client.input.is_empty()
                    || matches!(self.client.stream.recv_now(&mut byte), Ok(Moved::Bytes(_)));
                match unread || sent > LINGER_ABOVE_BYTES {
                    true => self.linger(cx),
                    false => Some(Advance::Closed),
                }
            }
        }
    }

    /// No more from us; what the client still sends is dropped.
    fn linger(&mut self, cx: &mut Context) -> Option<Advance> {
        self.client.stream.finish_writing();
        self.client.input = Vec::new();
        let short = self.permit.as_ref().is_some_and(Permit::is_rejected)
            || cx.is_near_limit()
            || cx.shared.is_draining();
        let time = if short { LINGER_NEAR_LIMIT } else { LINGER_TIME };
        let until = cx.now.after(time);
        self.phase = Phase::Linger { silent_until: cx.now.after(LINGER_SILENCE).min(until), until };
        None
    }

    fn drop_input(&mut self, cx: &mut Context) -> Option<Advance> {
        let Phase::Linger { silent_until, until } = &mut self.phase else { return None };
        let mut dropped = 0;
        loop {
            match self.client.stream.recv(&mut cx.scratch.body) {
                Ok(Moved::Bytes(count)) => {
                    dropped += count;
                    *silent_until = cx.now.after(LINGER_SILENCE).min(*until);
                    if dropped >= TURN_BYTES {
                        return Some(Advance::Yield);
                    }
                }
                Ok(Moved::Blocked) if cx.now < *silent_until => return Some(Advance::Wait(*silent_until)),
                _ => return Some(Advance::Closed),
            }
        }
    }

    /// Reads until a head is complete; then there is an exchange.
    fn read_head(&mut self, cx: &mut Context) -> Option<Advance> {
        cx.refresh();
        loop {
            let here = self.client.input.len();
            if here > self.seen {
                let bytes = std::mem::take(&mut self.client.input);
                match self.take_head(&bytes, cx) {
                    Head::Partial(0) => self.client.input = bytes,
                    Head::Partial(skipped) => self.client.input.extend_from_slice(&bytes[skipped..]),
                    other => return self.begin(other, &bytes, cx),
                }
                continue;
            }
            if here == 0 {
                let mut input = std::mem::take(&mut cx.input);
                let received = self.client.stream.recv(&mut input);
                let next = self.received(
                    received,
                    |this, count, cx| {
                        this.since = cx.now;
                        match this.take_head(&input[..count], cx) {
                            Head::Partial(skipped) => {
                                this.client.input.extend_from_slice(&input[skipped..count]);
                                Received::More
                            }
                            other => Received::End(this.begin(other, &input[..count], cx)),
                        }
                    },
                    cx,
                );
                cx.input = input;
                match next {
                    Received::More => {}
                    Received::End(next) => return next,
                }
                continue;
            }
            let room = cx.input.len().saturating_sub(here).max(1);
            self.client.input.resize(here + room, 0);
            let received = self.client.stream.recv(&mut self.client.input[here..]);
            let count = if let Ok(Moved::Bytes(count)) = received { count } else { 0 };
            self.client.input.truncate(here + count);
            match self.received(received, |_, _, _| Received::More, cx) {
                Received::More => {}
                Received::End(next) => return next,
            }
        }
    }

    /// What a receive in front of a request came to.
    fn received(
        &mut self,
        received: io::Result<Moved>,
        take: impl FnOnce(&mut Self, usize, &mut Context) -> Received,
        cx: &mut Context,
    ) -> Received {
        match received {
            Ok(Moved::Bytes(count)) => take(self, count, cx),
            Ok(Moved::Blocked) => Received::End(self.wait_for_head(cx)),
            Ok(Moved::End) | Err(_) => {
                // Between requests any end is one, with or without close_notify.
                if self.has_partial_head() {
                    cx.shared.count_unread(
                        self.listener().map(Arc::as_ref),
                        cx.number(),
                        Outcome::unanswered(Reason::ClientGone),
                    );
                }
                Received::End(Some(Advance::Closed))
            }
        }
    }

    fn wait_for_head(&mut self, cx: &mut Context) -> Option<Advance> {
        let deadline = self.head_deadline(&cx.live().config);
        let is_partial = self.has_partial_head();
        if is_partial && cx.now >= deadline.min(cx.shared.drain_deadline()) {
            let draining = cx.now >= cx.shared.drain_deadline();
            self.begin_rejection(if draining { Reason::Draining } else { Reason::HeadTimeout }, cx);
            return None;
        }
        if cx.now >= deadline || !is_partial && cx.shared.closes_idle(cx.now) {
            return Some(Advance::Closed);
        }
        self.wait_or_park(deadline, is_partial, cx)
    }

    fn wait_or_park(&self, deadline: Moment, is_partial: bool, cx: &Context) -> Option<Advance> {
        let is_new = self.requests == 0 || is_partial;
        let park_after = if is_new && cx.is_near_limit() { PARK_NEAR_LIMIT_AFTER } else { PARK_AFTER };
        let park_at = self.since.after(park_after);
        match cx.shared.is_draining() {
            true => {
                let end = deadline.min(cx.shared.drain_deadline());
                Some(Advance::Wait(end.min(cx.now.after(DRAIN_LOOK))))
            }
            false if cx.now >= park_at => Some(Advance::Park),
            false => Some(Advance::Wait(deadline.min(park_at))),
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

    /// Goes on with what a look at the input found. `bytes` are the input.
    fn begin(&mut self, head: Head, bytes: &[u8], cx: &mut Context) -> Option<Advance> {
        self.seen = 0;
        match head {
            Head::Exchange(exchange, used) => {
                self.client.input.extend_from_slice(bytes.get(used..).unwrap_or_default());
                self.phase = Phase::Exchange(exchange);
                None
            }
            Head::Rejected(reason) if reason.is_silent() => {
                // Whoever sends this is no HTTP client that could read a response.
                cx.shard().reject(reason);
                log::debug!("{}: {}: {}", cx.shared.name, reason.name(), reason.sentence());
                self.client.stream.reset_on_close();
                Some(Advance::Closed)
            }
            Head::Rejected(reason) => {
                self.client.input = bytes.to_vec();
                self.begin_rejection(reason, cx);
                None
            }
            Head::Partial(_) => None,
        }
    }

    /// Looks at the input for a head.
    fn take_head(&mut self, bytes: &[u8], cx: &mut Context) -> Head {
        let skipped = match self.introduce(bytes) {
            Ok(Some(skipped)) => skipped,
            Ok(None) => {
                self.seen = bytes.len();
                return Head::Partial(0);
            }
            Err(reason) => return Head::Rejected(reason),
        };
        let request = bytes.get(skipped..).unwrap_or_default();
        let limits = cx.live().config.limits.head;
        if self.seen > 0 && request.len() <= limits.head && skipped == 0 {
            let from = std::mem::replace(&mut self.seen, bytes.len());
            if !head::may_be_complete(request, from) {
                return Head::Partial(0);
            }
        }
        let mut slots = std::mem::take(&mut cx.scratch.slots);
        let found = match head::request(request, &limits, &mut slots) {
            Ok(Parsed::Partial) => {
                self.seen = request.len();
                Head::Partial(skipped)
            }
            Ok(Parsed::Complete(head)) => {
                let Some(sender) = self.sender() else { return Head::Rejected(Reason::Internal) };
                let mut body = std::mem::take(&mut cx.scratch.body);
                let early = request.get(head.len..).unwrap_or_default();
                let count = early.len().min(body.len());
                body[..count].copy_from_slice(&early[..count]);
                let (exchange, used) = Exchange::begin(&head, &mut body[..count], sender, cx);
                cx.scratch.body = body;
                Head::Exchange(exchange, skipped + head.len + used)
            }
            Err(_) if greeting::is_tls(request) && self.requests == 0 => {
                Head::Rejected(Reason::TlsOnHttpPort)
            }
            Err(reason) => Head::Rejected(reason),
        };
        cx.scratch.slots = slots;
        found
    }

    /// Takes the PROXY header that must come first from the peers that the configuration names: its length, or `None`
    /// while there is more of it to come.
    fn introduce(&mut self, bytes: &[u8]) -> Result<Option<usize>, Reason> {
        let senders = self.listener().and_then(|listener| listener.settings.proxy_protocol.as_ref());
        let Some(senders) = senders else { return Ok(Some(0)) };
        let peer = self.peer.map(|peer| peer.ip().to_canonical());
        // A peer on a Unix socket has no address that could be compared.
        let must = peer.is_none_or(|peer| senders.iter().any(|network| network.contains(peer)));
        if self.introduced || !must {
            return Ok(Some(0));
        }
        let Parsed::Complete(preamble) = proxy_protocol::parse(bytes)? else { return Ok(None) };
        (self.source, self.introduced) = (preamble.source, true);
        Ok(Some(preamble.len))
    }
}

/// What a look at the input found.
enum Head {
    /// No whole head, behind so many bytes that are done with.
    Partial(usize),
    /// An exchange, and how many bytes of the input it used.
    Exchange(Box<Exchange>, usize),
    Rejected(Reason),
}

/// What a receive in front of a request came to.
enum Received {
    /// There may be more.
    More,
    End(Option<Advance>),
}
