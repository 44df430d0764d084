//! The heads of a connection's requests: they are read until one is complete, and then there is an exchange, or the reason why
//! there is none. Between two requests, this is where a connection waits.

use super::handshake;
use super::{Advance, Connection, Phase};
use crate::base::time::Moment;
use crate::data::context::Context;
use crate::data::exchange::Exchange;
use crate::data::transport::Moved;
use crate::http1::head::{self, Parsed, RequestHead};
use crate::http1::proxy_protocol;
use crate::http1::reason::Reason;
use crate::state::stats::Outcome;
use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

/// A connection that waits for a request for so long is parked: it costs a socket and a few hundred bytes then.
const PARK_AFTER: Duration = Duration::from_secs(1);

/// Where connections run short, one that has sent no whole request for so long is parked: it can make room for a new one
/// then. On a machine with time to spare a head comes within a few milliseconds.
const PARK_NEAR_LIMIT_AFTER: Duration = Duration::from_millis(50);

/// What a look at the input found.
enum Head {
    /// No whole head.
    Partial,
    /// The PROXY header that comes before the first head, of this length.
    ProxyHeader(usize),
    /// An exchange, and how many bytes of the input it used.
    Exchange(Box<Exchange>, usize),
    Rejected(Reason),
}

/// There may be more of a head, or what became of it.
type Read = ControlFlow<Option<Advance>>;

impl Connection {
    /// Reads until a head is complete; then there is an exchange.
    pub(super) fn read_head(&mut self, cx: &mut Context) -> Option<Advance> {
        cx.refresh();
        loop {
            let here = self.client.input.len();
            let read = match here {
                0 => self.read_first(cx),
                _ if here > self.seen => self.read_input(cx),
                _ => self.read_more(cx),
            };
            if let ControlFlow::Break(next) = read {
                return next;
            }
        }
    }

    /// Nothing is here: most heads come as a whole, and are looked at where they are received.
    fn read_first(&mut self, cx: &mut Context) -> Read {
        let mut input = std::mem::take(&mut cx.input);
        let received = self.client.stream.recv(&mut input);
        let read = match received {
            Ok(Moved::Bytes(count)) => {
                self.since = cx.now;
                self.look_at(&input[..count], cx)
            }
            received => self.after_receive(received, cx),
        };
        cx.input = input;
        read
    }

    /// Bytes are here that were not looked at.
    fn read_input(&mut self, cx: &mut Context) -> Read {
        let bytes = std::mem::take(&mut self.client.input);
        self.look_at(&bytes, cx)
    }

    /// A part of a head is here.
    fn read_more(&mut self, cx: &mut Context) -> Read {
        let here = self.client.input.len();
        let room = cx.input.len().saturating_sub(here).max(1);
        self.client.input.resize(here + room, 0);
        let received = self.client.stream.recv(&mut self.client.input[here..]);
        let count = if let Ok(Moved::Bytes(count)) = received { count } else { 0 };
        self.client.input.truncate(here + count);
        self.after_receive(received, cx)
    }

    fn after_receive(&mut self, received: io::Result<Moved>, cx: &mut Context) -> Read {
        match received {
            Ok(Moved::Bytes(_)) => ControlFlow::Continue(()),
            Ok(Moved::Blocked) => ControlFlow::Break(self.wait_for_head(cx)),
            Ok(Moved::End) | Err(_) => {
                // Between requests any end is one, with or without close_notify.
                if self.has_partial_head() {
                    cx.shared.count_unread(
                        self.listener().map(Arc::as_ref),
                        cx.number(),
                        Outcome::unanswered(Reason::ClientGone),
                    );
                }
                ControlFlow::Break(Some(Advance::Closed))
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
        if cx.now >= deadline || !is_partial && cx.now >= cx.shared.idle_end() {
            return Some(Advance::Closed);
        }
        self.wait_or_park(deadline, is_partial, cx)
    }

    pub(super) fn wait_or_park(&self, deadline: Moment, is_partial: bool, cx: &Context) -> Option<Advance> {
        let is_new = self.requests == 0 || is_partial;
        let park_after = if is_new && cx.is_near_limit() { PARK_NEAR_LIMIT_AFTER } else { PARK_AFTER };
        let park_at = self.since.after(park_after);
        match cx.shared.is_draining() {
            true => {
                let end = if is_partial { cx.shared.drain_deadline() } else { cx.shared.idle_end() };
                Some(Advance::Wait(deadline.min(end)))
            }
            false if cx.now >= park_at => Some(Advance::Park),
            false => Some(Advance::Wait(deadline.min(park_at))),
        }
    }

    /// Looks at `bytes`, which are all that is here. What of them is not used goes to `client.input`.
    fn look_at(&mut self, bytes: &[u8], cx: &mut Context) -> Read {
        let found = self.find_head(bytes, cx);
        self.seen = 0;
        let next = match found {
            Head::Partial => {
                self.client.input.extend_from_slice(bytes);
                self.seen = bytes.len();
                return ControlFlow::Continue(());
            }
            Head::ProxyHeader(len) => {
                self.client.input.extend_from_slice(bytes.get(len..).unwrap_or_default());
                return ControlFlow::Continue(());
            }
            Head::Exchange(exchange, used) => {
                self.client.input.extend_from_slice(bytes.get(used..).unwrap_or_default());
                self.phase = Phase::Exchange(exchange);
                None
            }
            Head::Rejected(reason) if reason.is_silent() => {
                // What sends this is no HTTP client that could read a response.
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
        };
        ControlFlow::Break(next)
    }

    /// What these bytes begin with, of which `seen` have been looked at before.
    fn find_head(&mut self, bytes: &[u8], cx: &mut Context) -> Head {
        match self.skip_proxy_header(bytes) {
            Ok(Some(0)) => {}
            Ok(Some(len)) => return Head::ProxyHeader(len),
            Ok(None) => return Head::Partial,
            Err(reason) => return Head::Rejected(reason),
        }
        let limits = cx.live().config.limits.head;
        if self.seen > 0 && bytes.len() <= limits.head && !head::may_be_complete(bytes, self.seen) {
            return Head::Partial;
        }
        let mut slots = std::mem::take(&mut cx.scratch.slots);
        let found = match head::request(bytes, &limits, &mut slots) {
            Ok(Parsed::Partial) => Head::Partial,
            Ok(Parsed::Complete(head)) => self.begin_exchange(&head, bytes, cx),
            Err(_) if handshake::is_tls(bytes) && self.requests == 0 => Head::Rejected(Reason::TlsOnHttpPort),
            Err(reason) => Head::Rejected(reason),
        };
        cx.scratch.slots = slots;
        found
    }

    /// The exchange of this head, which `bytes` begin with.
    fn begin_exchange(&self, head: &RequestHead<'_, '_>, bytes: &[u8], cx: &mut Context) -> Head {
        let Some(sender) = self.sender() else { return Head::Rejected(Reason::Internal) };
        let mut body = std::mem::take(&mut cx.scratch.body);
        let early = bytes.get(head.len..).unwrap_or_default();
        let count = early.len().min(body.len());
        body[..count].copy_from_slice(&early[..count]);
        let (exchange, used) = Exchange::begin(head, &mut body[..count], sender, cx);
        cx.scratch.body = body;
        Head::Exchange(exchange, head.len + used)
    }

    /// Takes the PROXY header that must come first from the peers that the configuration names: its length, or `None`
    /// while there is more of it to come.
    pub(super) fn skip_proxy_header(&mut self, bytes: &[u8]) -> Result<Option<usize>, Reason> {
        let senders = self.listener().and_then(|listener| listener.settings.proxy_protocol.as_ref());
        let Some(senders) = senders else { return Ok(Some(0)) };
        let peer = self.peer.map(|peer| peer.ip().to_canonical());
        // A peer on a Unix socket has no address that could be compared.
        let must = peer.is_none_or(|peer| senders.iter().any(|network| network.contains(peer)));
        if self.has_proxy_header || !must {
            return Ok(Some(0));
        }
        let Parsed::Complete(preamble) = proxy_protocol::parse(bytes)? else { return Ok(None) };
        (self.source, self.has_proxy_header) = (preamble.source, true);
        Ok(Some(preamble.len))
    }
}
