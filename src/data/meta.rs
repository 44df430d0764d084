//! Layer 2: what is kept of a request for as long as its exchange lives. Its head and its bytes are not.

use super::context::Context;
use super::tls_info::TlsInfo;
use crate::base::ids::{ConnectionKey, ListenerId, RequestId, TraceId};
use crate::base::time::Moment;
use crate::http1::client as forwarded;
use crate::http1::framing::Method;
use crate::http1::head::{RequestHead, Version};
use crate::http1::malformed;
use crate::http1::page::Form;
use crate::http1::reason::Reason;
use crate::http1::trace::Glimpse;
use crate::http1::trace_context::TraceParent;
use crate::policy::retry;
use crate::state::access::{AccessSink, RequestText};
use crate::state::listener::OpenListener;
use crate::state::live::Live;
use crate::state::server::stable_hash;
use crate::state::table::View;
use crate::state::tls::subject::ClientCertificate;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// What is kept of a request.
#[derive(Clone, Debug)]
pub struct Meta {
    /// Ours; it goes to the server where the client sent none.
    pub id: RequestId,
    /// What the request is called in logs and in responses of our own.
    pub shown_id: TraceId,
    /// The trace that it is part of, where traces are switched on.
    pub trace_context: Option<Box<Trace>>,
    /// When its head was complete.
    pub started: Moment,
    /// The client, or whom a trusted proxy names.
    pub client: Option<IpAddr>,
    /// The request as its client sent it, for the access log; empty without one.
    pub text: RequestText,
    /// The other end of the connection, or whom a PROXY header names.
    pub peer: Option<SocketAddr>,
    /// That is a trusted proxy.
    pub peer_trusted: bool,
    /// In which form it wants responses of our own.
    pub form: Form,
    /// HEAD: responses have no body.
    pub method: Method,
    /// The client's version.
    pub version: Version,
    /// The client wants its connection to stay.
    pub keep_alive: bool,
    /// The client asks for another protocol.
    pub upgrade: bool,
    /// It may be sent twice (RFC 9110 section 9.2.2).
    pub idempotent: bool,
    /// The client waits for 100 before it sends the body.
    pub expects_continue: bool,
    /// The server may take what follows on its connection for the same user's.
    pub authenticates_connection: bool,
    /// The listener that it came through.
    pub listener: ListenerId,
    /// The TLS session that it came in; `None` in clear text.
    pub secure: Option<Arc<TlsInfo>>,
    /// Of a rejected head: the line that is at fault, where it is known.
    pub malformed_line: Option<u32>,
}

/// The trace that a request is part of.
#[derive(Clone, Copy, Debug)]
pub struct Trace {
    /// What the server is told.
    pub sent: TraceParent,
    /// The span of the client, where ours has it as its parent.
    pub caller: Option<u64>,
    /// What the server is told is ours, in the place of what the client sent.
    pub is_ours: bool,
    /// There is a span of ours to be exported.
    pub is_recorded: bool,
}

/// A request that has just come, and the configuration under which it did.
#[derive(Clone, Copy)]
pub struct Incoming<'a> {
    /// Its head.
    pub head: &'a RequestHead<'a, 'a>,
    /// What is kept of it.
    pub meta: &'a Meta,
    /// Whose it is.
    pub sender: &'a Sender<'a>,
    /// The configuration, and the servers of that moment.
    pub view: &'a View,
}

/// The sender of a request.
#[derive(Clone, Copy, Debug)]
pub struct Sender<'a> {
    /// The client's address: the kernel's word, or that of a PROXY header.
    pub peer: Option<SocketAddr>,
    /// The connection of the client in its worker: key and generation.
    pub owner: ConnectionKey,
    /// The listener, as it was when the connection came.
    pub listener: &'a OpenListener,
    /// The TLS session.
    pub secure: Option<&'a Arc<TlsInfo>>,
}

impl Meta {
    /// Of this head. `peer` is the address that it came from.
    pub fn of(
        head: &RequestHead<'_, '_>,
        peer: Option<IpAddr>,
        sender: Sender<'_>,
        live: &Live,
        cx: &mut Context,
    ) -> Self {
        let listen = &live.config.listen;
        let id = cx.next_id();
        let is_trusted = peer.is_some_and(|peer| listen.trusts(peer));
        let is_traced = listen.trace_context || live.spans.is_some();
        let trace_context = is_traced.then(|| Box::new(Trace::of(head, live, cx)));
        let is_recorded = trace_context.as_ref().is_some_and(|trace| trace.is_recorded);
        Meta {
            id,
            shown_id: TraceId::new(head.request_id.filter(|_| is_trusted), id),
            trace_context,
            started: cx.now,
            client: forwarded::client_address(head, peer, |address| listen.trusts(address)),
            text: request_text(head, is_recorded, live),
            peer: sender.peer,
            peer_trusted: is_trusted,
            form: head.form,
            method: Method::of(head.method),
            version: head.version,
            keep_alive: head.keep_alive,
            upgrade: head.upgrade,
            idempotent: retry::is_idempotent(head.method),
            expects_continue: head.expects_continue,
            authenticates_connection: head.authenticates_connection,
            listener: sender.listener.id,
            secure: sender.secure.cloned(),
            malformed_line: None,
        }
    }

    /// The certificate that its client showed, verified.
    pub fn certificate(&self) -> Option<&ClientCertificate> {
        self.secure.as_ref().and_then(|secure| secure.client.as_ref())
    }

    /// Its client for a PROXY header: the port is known where no proxy names the client.
    pub fn client_socket(&self) -> Option<SocketAddr> {
        let client = self.client?;
        let peer = self.peer.filter(|peer| peer.ip().to_canonical() == client.to_canonical());
        Some(peer.unwrap_or(SocketAddr::new(client, 0)))
    }

    /// Keeps a client with its server or its pool. A client without an address (a Unix socket) is one client.
    pub fn client_key(&self) -> u64 {
        match self.client.map(|client| client.to_canonical()) {
            Some(IpAddr::V4(client)) => stable_hash(&client.octets()),
            Some(IpAddr::V6(client)) => stable_hash(&client.octets()),
            None => 0,
        }
    }

    /// Of bytes that are no request, as far as they show what they were to be.
    pub fn of_rejected(reason: Reason, bytes: &[u8], sender: Sender<'_>, cx: &mut Context) -> Self {
        let is_located = cx.live().access.as_ref().is_some_and(AccessSink::wants_names);
        let limits = &cx.live().config.limits.head;
        let at = if is_located { malformed::line(bytes, reason, limits) } else { None };
        let (Glimpse { line, request_id }, id) = (Glimpse::of(bytes), cx.next_id());
        let is_trusted = sender.peer.is_some_and(|peer| cx.live().config.listen.trusts(peer.ip()));
        Meta {
            id,
            shown_id: TraceId::new(request_id.filter(|_| is_trusted), id),
            trace_context: None,
            started: cx.now,
            client: sender.peer.map(|peer| peer.ip().to_canonical()),
            text: RequestText::of(&[line], b"", b"", b""),
            peer: sender.peer,
            peer_trusted: is_trusted,
            form: Form::Text,
            method: if line.starts_with(b"HEAD ") { Method::Head } else { Method::Other },
            version: Version::Http11,
            keep_alive: false,
            upgrade: false,
            idempotent: false,
            expects_continue: false,
            authenticates_connection: false,
            listener: sender.listener.id,
            secure: sender.secure.cloned(),
            malformed_line: at,
        }
    }
}

impl Trace {
    /// The trace of a request: the client's goes on, or one begins here. Where spans are recorded, ours is between the
    /// client's and the server's; what the client says of recording holds for us, too (as the parent-based sampler of OpenTelemetry
    /// has it).
    fn of(head: &RequestHead<'_, '_>, live: &Live, cx: &mut Context) -> Self {
        let caller = head.trace_parent;
        let (trace, span) = match (caller, &live.spans) {
            (Some(caller), None) => {
                return Trace { sent: caller, caller: None, is_ours: false, is_recorded: false };
            }
            (Some(caller), Some(_)) => (caller.trace, cx.random.number()),
            (None, _) => {
                let trace = u128::from(cx.random.number()) << 64 | u128::from(cx.random.number());
                (trace, cx.random.number())
            }
        };
        let draw = cx.random.number();
        let is_recorded = live.spans.as_ref().is_some_and(|spans| match caller {
            Some(caller) => caller.flags & 1 == 1,
            None => spans.records(draw),
        });
        let sent = TraceParent { flags: u8::from(is_recorded), ..TraceParent::new(trace, span) };
        Trace { sent, caller: caller.map(|caller| caller.parent), is_ours: true, is_recorded }
    }
}

/// What logs and traces have of a request; nothing where there are none.
fn request_text(head: &RequestHead<'_, '_>, is_recorded: bool, live: &Live) -> RequestText {
    let access = live.access.as_ref();
    if access.is_none() && !is_recorded {
        return RequestText::default();
    }
    let slash: &[u8] = if head.slash_first { b"/" } else { b"" };
    let version: &[u8] = if head.version == Version::Http10 { b"HTTP/1.0" } else { b"HTTP/1.1" };
    let line = [head.method, b" ", slash, head.target, b" ", version];
    if !is_recorded && !access.is_some_and(AccessSink::wants_headers) {
        return RequestText::of(&line, b"", b"", b"");
    }
    let value = |name: &[u8]| {
        let found = head.fields.iter().find(|field| field.name.eq_ignore_ascii_case(name));
        found.map_or(&b""[..], |field| field.value)
    };
    RequestText::of(&line, head.host, value(b"referer"), value(b"user-agent"))
}
