//! Layer 2: where a request goes: its route, the pool, and the head with which it goes there.

mod edits;
mod https;
mod keys;

pub use edits::ResponseEdits;
pub use keys::hash_key;

use super::context::Context;
use super::meta::{Incoming, Meta};
use super::request_view::{RequestView, SERVER_NAME, TemplateValues};
use super::upload::NameSlot;
use super::upstream;
use crate::base::ids::{PoolId, TraceId};
use crate::base::template::Piece;
use crate::http1::forward::{self, Edits, Hop, Rewritten};
use crate::http1::head::RequestHead;
use crate::http1::names::is_same_dashed;
use crate::http1::path::{self, EncodedSlash, Normalised};
use crate::http1::reason::Reason;
use crate::policy::route::without_port;
use crate::state::listener::OpenListener;
use crate::state::live::Live;
use crate::state::route::{Action, NewHost, Rewrite, Route, append_headers};
use edits::{RequestEdits, longest_authority, longest_name, with_server};
use https::{is_excepted, to_https};
use keys::key;
use std::cell::RefCell;
use std::sync::Arc;

/// Headers of a rejection that are the balancer's own, whatever its route says.
const OF_REJECTIONS: [&str; 8] = [
    "cache-control",
    "content-type",
    "date",
    "retry-after",
    "www-authenticate",
    "x-request-id",
    "ratelimit",
    "ratelimit-policy",
];

/// The route that a request matched, with what it has for the response: kept for as long as the exchange lives.
#[derive(Debug)]
pub struct MatchedRoute {
    /// The route.
    pub route: Arc<Route>,
    /// Its number, in the order of the file.
    pub index: usize,
    /// Header lines for the response, with [`SERVER_NAME`] where the server's name belongs.
    response_lines: Vec<u8>,
    /// Header lines that say where the request came from, in the place of the balancer's own.
    pub(super) origin: Vec<u8>,
    /// What the replacements in the response insert.
    inserted: Vec<Vec<Piece>>,
    /// Where in the request head the server's name belongs.
    name_slots: Vec<NameSlot>,
    is_tls: bool,
}

/// What becomes of a request.
#[derive(Debug)]
pub enum Routed {
    /// It goes to a server of the pool; its head was appended.
    Forward(PoolId, Option<Box<MatchedRoute>>),
    /// The balancer responds itself, as the route or the listener says.
    Respond(Option<Box<MatchedRoute>>, Response),
}

impl Routed {
    /// The route, if one matched.
    pub fn route(&self) -> Option<&Route> {
        match self {
            Routed::Forward(_, matched) | Routed::Respond(matched, _) => {
                matched.as_ref().map(|matched| &*matched.route)
            }
        }
    }

    /// Whether some headers for the server are not the client's to write: a route changes them, or they come from the pool
    /// that is asked. Servers that take trailers for headers would otherwise read the client's there.
    pub fn has_own_headers(&self, live: &Live) -> bool {
        let Routed::Forward(_, matched) = self else { return false };
        let changes = matched.as_ref().is_some_and(|matched| !matched.route.request_headers.is_empty());
        changes || !without(live, matched.as_ref().map(|matched| matched.index)).is_empty()
    }

    /// Where in the head the server's name belongs.
    pub fn take_name_slots(&mut self) -> Vec<NameSlot> {
        match self {
            Routed::Forward(_, Some(matched)) => std::mem::take(&mut matched.name_slots),
            _ => Vec::new(),
        }
    }
}

/// A response that a route describes.
#[derive(Debug)]
pub struct Response {
    /// Its status.
    pub status: u16,
    /// Header lines, each with its CRLF.
    pub headers: Vec<u8>,
    /// Its body.
    pub body: Arc<[u8]>,
}

/// Finds the route of a request and appends the head for the server, if it goes to one.
pub fn route(incoming: &Incoming<'_>, cx: &mut Context, out: &mut Vec<u8>) -> Result<Routed, Reason> {
    let Incoming { head, meta, sender, view } = *incoming;
    let live = &view.live;
    // A listener that was closed meanwhile goes on as it was.
    let listener = live.known_listener(sender.listener.id).map_or(sender.listener, |listener| listener);
    if is_for_another_name(listener, head, meta) {
        return Err(Reason::SniMismatch);
    }
    if lacks_certificate(listener, meta) {
        return Err(Reason::CertificateRequired);
    }
    if let Some(port) = listener.settings.redirect_to_https.filter(|_| !is_excepted(listener, head)) {
        return to_https(head, port);
    }
    if live.routes.list().is_empty() {
        return to_default(incoming, cx, out);
    }
    let (raw_path, query) = target_of(head);
    let slash = live.config.listen.encoded_slash;
    let normalised = path::normalise(raw_path, slash).map_err(|_| Reason::UnsafePath)?;
    let Normalised { path, others, .. } = normalised;
    let request = RequestView { head, path: &path, query, meta, listener: Some(listener) };
    let found = live.routes.find(&request, &others).map_err(|_| Reason::UnsafePath)?;
    let Some(found) = found else {
        let has_default = view.pool(PoolId::default()).count > 0;
        return if has_default { to_default(incoming, cx, out) } else { Err(Reason::NoRoute) };
    };
    let values = TemplateValues { request: &request, meta, found: &found, pool: "" };
    let pool = match &found.route.action {
        Action::Pool(pool) => *pool,
        Action::Split(split) => {
            let key = key(&split.key, &request, meta).unwrap_or_else(|| cx.random.number());
            split.choose(key, |pool| upstream::pool(cx.view(), view, pool).can_serve())
        }
        Action::Redirect(redirect) => {
            let mut headers = b"Location: ".to_vec();
            redirect.location(&values, &mut headers);
            headers.extend_from_slice(b"\r\n");
            return Ok(respond(&values, redirect.status, headers, Arc::default()));
        }
        Action::Respond(fixed) => {
            let mut headers = Vec::new();
            append_headers(&fixed.headers, &values, &mut headers);
            return Ok(respond(&values, fixed.status, headers, Arc::clone(&fixed.body)));
        }
    };
    let values = TemplateValues { pool: live.config.pool_name(pool), ..values };
    forward_to(pool, &values, incoming, cx, out)
}

/// The request goes to this pool, changed as its route has it.
fn forward_to(
    pool: PoolId,
    values: &TemplateValues<'_>,
    incoming: &Incoming<'_>,
    cx: &mut Context,
    out: &mut Vec<u8>,
) -> Result<Routed, Reason> {
    let (found, view) = (values.found, incoming.view);
    let slash = view.live.config.listen.encoded_slash;
    let (mut target, mut host) = (Vec::new(), Vec::new());
    let rewrite = found.route.rewrite.as_ref();
    let rewritten = match rewrite {
        Some(rewrite) => {
            if rewrite.host == Some(NewHost::OfServer) {
                host.resize(longest_authority(upstream::pool(cx.view(), view, pool)), b' ');
            }
            rewritten(rewrite, slash, values, &mut target, &mut host)?
        }
        None => Rewritten::default(),
    };
    let len = rewritten.host.map_or(0, <[u8]>::len);
    let without = without(&view.live, Some(found.index));
    let of_route = Some((&found.route.request_headers, values));
    let names = &|| longest_name(upstream::pool(cx.view(), view, pool));
    let own_cookie = view.live.own_cookie(pool);
    let edits =
        RequestEdits { of_route, without, own_cookie, longest_name: names, name_slots: RefCell::default() };
    prepare(incoming, &To { pool, rewritten, edits: Some(&edits) }, cx, out)?;
    let mut name_slots = edits.name_slots.take();
    if rewrite.is_some_and(|rewrite| rewrite.host == Some(NewHost::OfServer)) {
        name_slots.extend(NameSlot::of_host(out, len));
    }
    let matched = MatchedRoute { name_slots, ..MatchedRoute::of(values) };
    Ok(Routed::Forward(pool, Some(Box::new(matched))))
}

/// Whether a request names another host than its TLS connection was made for, where one of the two asks clients for certificates:
/// other clients may come in for it, and what is between the client and here may have let it through for the one that was named
/// (RFC 9110 section 7.4; nginx and Caddy do the same). Trusted proxies may name their servers as they like.
fn is_for_another_name(listener: &OpenListener, head: &RequestHead<'_, '_>, meta: &Meta) -> bool {
    let Some(tls) = listener.tls.as_ref().filter(|tls| tls.asks_clients && !meta.peer_trusted) else {
        return false;
    };
    let name = meta.secure.as_ref().and_then(|secure| secure.server_name.as_deref());
    let plain = |host: &[u8]| host.strip_suffix(b".").unwrap_or(host).to_ascii_lowercase();
    let host = plain(without_port(head.host));
    let is_same = name.is_some_and(|name| host == plain(name.as_bytes()));
    !head.host.is_empty() && !is_same && !tls.may_serve(&String::from_utf8_lossy(&host), name)
}

/// Whether the connection was made before its listener required client certificates, and its client has shown none.
fn lacks_certificate(listener: &OpenListener, meta: &Meta) -> bool {
    let Some(tls) = listener.tls.as_ref().filter(|tls| tls.asks_clients) else { return false };
    let Some(secure) = meta.secure.as_ref().filter(|_| meta.certificate().is_none()) else { return false };
    tls.requires_certificate(secure.server_name.as_deref())
}

/// No route matches, or there are none.
fn to_default(incoming: &Incoming<'_>, cx: &mut Context, out: &mut Vec<u8>) -> Result<Routed, Reason> {
    let pool = PoolId::default();
    let to = To { pool, rewritten: Rewritten::default(), edits: None };
    let without = without(&incoming.view.live, None);
    let own_cookie = incoming.view.live.own_cookie(pool);
    let longest_name = &|| 0;
    let edits =
        RequestEdits { of_route: None, without, own_cookie, longest_name, name_slots: RefCell::default() };
    let has_edits = !without.is_empty() || own_cookie.is_some();
    let to = To { edits: has_edits.then_some(&edits as &dyn Edits), ..to };
    prepare(incoming, &to, cx, out)?;
    Ok(Routed::Forward(pool, None))
}

/// `host` has room for the name of the server already where that is the new host.
fn rewritten<'o>(
    rewrite: &Rewrite,
    slash: EncodedSlash,
    values: &TemplateValues<'_>,
    target: &'o mut Vec<u8>,
    host: &'o mut Vec<u8>,
) -> Result<Rewritten<'o>, Reason> {
    let request = values.request;
    let has_target =
        rewrite.target(request.path, request.query, slash, values, target).map_err(|_| Reason::UnsafePath)?;
    let has_host = !host.is_empty() || rewrite.host(values, host);
    Ok(Rewritten {
        target: has_target.then_some(target.as_slice()),
        host: has_host.then_some(host.as_slice()),
    })
}

fn respond(values: &TemplateValues<'_>, status: u16, mut headers: Vec<u8>, body: Arc<[u8]>) -> Routed {
    let matched = MatchedRoute::of(values);
    matched.append_to_own("", &[], &mut headers);
    Routed::Respond(Some(Box::new(matched)), Response { status, headers, body })
}

/// Where a head goes, and with what changes.
pub(super) struct To<'a> {
    pub(super) pool: PoolId,
    pub(super) rewritten: Rewritten<'a>,
    pub(super) edits: Option<&'a dyn Edits>,
}

/// The request as every server of the pool gets it.
pub(super) fn prepare(
    incoming: &Incoming<'_>,
    to: &To<'_>,
    cx: &Context,
    out: &mut Vec<u8>,
) -> Result<(), Reason> {
    let Incoming { head, meta, sender, view } = *incoming;
    let peer = sender.peer.map(|peer| peer.ip().to_canonical());
    let peer_trusted = meta.peer_trusted;
    if head.secure && meta.secure.is_none() && !peer_trusted {
        return Err(Reason::Misdirected);
    }
    // An HTTP/1.0 client may name no host; then the request goes to a server under the server's own name.
    let nameless = head.host.is_empty();
    let first = upstream::pool(cx.view(), view, to.pool).ready.first().filter(|_| nameless);
    let authority = first.map(|server| server.authority()).unwrap_or_default();
    let hop = Hop {
        peer,
        peer_trusted,
        proto: if meta.secure.is_some() { "https" } else { "http" },
        client_certificate: meta
            .certificate()
            .map(|client| (client.subject.as_str(), client.fingerprint.as_str())),
        pseudonym: &view.live.pseudonym,
        request_id: matches!(meta.shown_id, TraceId::Ours(_)).then_some(meta.id),
        trace_parent: meta.trace_context.as_ref().and_then(|trace| trace.is_ours.then_some(trace.sent)),
        forwarded: view.live.config.listen.forwarded,
        authority: &authority,
        rewritten: to.rewritten,
        edits: to.edits,
    };
    forward::request(head, &hop, out)
}

/// The path and the query (without its `?`) that a request asks for.
fn target_of<'b>(head: &RequestHead<'_, 'b>) -> (&'b [u8], Option<&'b [u8]>) {
    let (path, query) = path::split(head.target);
    (if head.slash_first { b"/" } else { path }, query)
}

impl MatchedRoute {
    fn of(values: &TemplateValues<'_>) -> Self {
        let mut response_lines = Vec::new();
        values.found.route.response_headers.append(values, &mut response_lines);
        let mut origin = Vec::new();
        values.found.route.request_headers.append_origin(values, &mut origin);
        // No server is chosen where it is needed.
        origin.retain(|byte| *byte != SERVER_NAME);
        let is_tls = values.meta.secure.is_some();
        let (route, index) = (Arc::clone(values.found.route), values.found.index);
        let inserted = values.found.route.response_headers.inserted(values);
        MatchedRoute { route, index, response_lines, origin, inserted, name_slots: Vec::new(), is_tls }
    }

    /// The changes of the response of this server.
    pub fn response_edits<'w>(&'w self, server: &'w str) -> ResponseEdits<'w> {
        ResponseEdits { matched: self, server }
    }

    /// Appends what it sets and adds to a response of the balancer itself, but for these headers, which that has (in lower
    /// case). `server`: the one that was tried last; a line that has no other value than that of none is left out.
    fn append_to_own(&self, server: &str, but: &[&str], out: &mut Vec<u8>) {
        for line in self.response_lines.split_inclusive(|byte| *byte == b'\n') {
            let (name, value) = line.split_at(memchr::memchr(b':', line).unwrap_or(line.len()));
            let is_void = server.is_empty() && value == [b':', b' ', SERVER_NAME, b'\r', b'\n'];
            if !is_void && !but.iter().any(|own| is_same_dashed(name, own.as_bytes())) {
                with_server(line, server, out);
            }
        }
        if let Some(security) = self.route.security_headers {
            let edits = &self.route.response_headers;
            let is_set =
                |name: &str| edits.set.iter().chain(&edits.add).any(|(own, _)| own.matches(name.as_bytes()));
            security.append(self.is_tls, is_set, out);
        }
    }

    /// The header lines that it has for a rejection.
    pub fn append_to_rejection(&self, server: &str, out: &mut Vec<u8>) {
        self.append_to_own(server, &OF_REJECTIONS, out);
    }

    /// Whether it changes responses.
    pub fn edits_responses(&self) -> bool {
        !self.route.response_headers.is_empty() || self.route.security_headers.is_some()
    }
}

/// Headers that a request has from the pool that was asked, and not from its client.
fn without(live: &Live, route: Option<usize>) -> &[String] {
    live.guard(route).forward_auth().map_or(&[], |auth| &auth.copy_headers)
}
