//! Layer 3: what an exchange leaves behind: counters, a line in the access log, and what it says of its server.

use super::context::Context;
use super::meta::{Meta, Trace};
use super::route::MatchedRoute;
use crate::base::ids::{ListenerId, PoolId};
use crate::base::time;
use crate::http1::reason::Reason;
use crate::state::access::{AccessSink, Line, LinePhases, Names, RequestText};
use crate::state::live::Live;
use crate::state::server::{Lease, Server};
use crate::state::spans::{Span, SpanSink};
use crate::state::stats::{self, Counter};
use crate::state::traffic::{Ended, Traffic};
use crate::state::verdict::Verdict;
use std::sync::Arc;

/// How an exchange ended.
#[derive(Debug)]
pub struct Outcome<'a> {
    /// The request.
    pub meta: &'a Meta,
    /// The status of the response that has begun; 0 where none has.
    pub status: u16,
    /// Payload bytes from the client.
    pub received: u64,
    /// Bytes to the client, heads included.
    pub sent: u64,
    /// The server that it was sent to last.
    pub server: Option<&'a Arc<Server>>,
    /// Why it did not end well.
    pub reason: Option<Reason>,
    /// Its route, if one matched.
    pub matched: Option<&'a MatchedRoute>,
    /// The pool that it was given to.
    pub pool: Option<PoolId>,
    /// When it did what.
    pub phases: LinePhases,
    /// Bytes to the client that were no heads.
    pub body_bytes: u64,
    /// The request as its client sent it.
    pub text: RequestText,
    /// The configuration under which it began.
    pub live: &'a Live,
}

/// Where a request is counted: with its listener, its route and its pool.
pub fn counted<'c>(
    listener: ListenerId,
    matched: Option<&'c MatchedRoute>,
    pool: Option<PoolId>,
    live: &'c Live,
) -> [Option<&'c Arc<Traffic>>; 3] {
    let pool = pool.map(|pool| &live.pool(pool).traffic);
    let listener = live.known_listener(listener).map(|listener| &listener.traffic);
    [listener, matched.map(|matched| &matched.route.traffic), pool]
}

/// Counts an exchange, once, and writes its line into the access log.
pub fn count(outcome: Outcome<'_>, cx: &Context) {
    let Outcome { meta, status, received, sent, server, reason, matched, pool, phases, text, live, .. } =
        outcome;
    let body_bytes = outcome.body_bytes;
    let shard = cx.shard();
    let took = cx.now.since(meta.started);
    shard.ends(stats::Outcome { status: (status != 0).then_some(status), bytes: sent, reason });
    let ended = Ended {
        status: (status != 0).then_some(status),
        received,
        sent,
        took: Some(took),
        waited: phases.queue,
        reason,
    };
    let counted = counted(meta.listener, matched, pool, live);
    counted.into_iter().flatten().for_each(|traffic| traffic.ends(cx.number(), &ended));
    shard.add(Counter::BytesIn, received);
    shard.duration.record(took);
    if let Some(reason) = reason {
        log::debug!("{}: {}: {}: {}", cx.shared.name, meta.shown_id, reason.name(), reason.sentence());
    }
    // Nothing had begun where the client left before its response.
    let status = if status == 0 { reason.map_or(0, Reason::status) } else { status };
    let is_logged = matched.is_none_or(|matched| matched.route.access_log);
    let access = live.access.as_ref().filter(|_| is_logged);
    let access = access.filter(|access| access.takes(status, reason, took, meta.id));
    let span = meta.trace_context.as_deref().filter(|trace| trace.is_recorded).zip(live.spans.as_ref());
    if access.is_none() && span.is_none() {
        return;
    }
    let wants_names = span.is_some() || access.is_some_and(AccessSink::wants_names);
    let line = Line {
        client: meta.client,
        peer: meta.peer,
        at_unix_ms: time::unix_millis(),
        request: text,
        status,
        received,
        bytes: sent,
        body_bytes,
        took,
        phases,
        id: meta.shown_id.clone(),
        trace: meta.trace_context.as_ref().map(|trace| trace.sent.trace),
        server: server.cloned(),
        reason,
        names: wants_names.then(|| Box::new(names(meta, matched, pool, live))),
    };
    if let Some((trace, spans)) = span {
        record(&line, *trace, spans, cx);
    }
    if access.is_some_and(|access| !access.tell(line)) {
        shard.count(Counter::AccessLinesDropped);
    }
}

/// Gives the span of a request to the thread that exports it.
fn record(line: &Line, trace: Trace, spans: &SpanSink, cx: &Context) {
    let span = Span {
        trace: trace.sent.trace,
        id: trace.sent.parent,
        parent: trace.caller,
        ended_unix_ns: time::unix_nanos(),
        line: line.clone(),
    };
    if !spans.tell(span) {
        cx.shard().count(Counter::SpansDropped);
    }
}

fn names(meta: &Meta, matched: Option<&MatchedRoute>, pool: Option<PoolId>, live: &Live) -> Names {
    Names {
        listener: live.known_listener(meta.listener).map(|listener| Arc::clone(&listener.name)),
        route: matched.map(|matched| Arc::clone(&matched.route)),
        pool: pool.map(|pool| Arc::clone(&live.pool(pool).name)),
        tls: meta.secure.as_ref().map(|secure| (secure.version, secure.cipher.as_str().into())),
        malformed_line: meta.malformed_line,
    }
}

/// A response came through. The health thread is notified of the first one after a failure.
pub fn record_success(lease: &Lease, cx: &Context) {
    let server = lease.server();
    if server.recovers() {
        cx.shared.verdicts.tell(Verdict { server: server.id, failure: None, is_unreachable: false });
    }
}

/// Whether what went wrong with an attempt is its server's, so that another attempt may do better.
pub fn is_servers(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::ConnectFailed
            | Reason::TlsFailed
            | Reason::ServerReset
            | Reason::ServerTimeout
            | Reason::BadResponse
            | Reason::ResponseTruncated
            | Reason::ResponseHeadTooLarge
            | Reason::ResponseTooManyHeaders
    )
}

/// An attempt failed. The health thread is notified where the server is at fault.
pub fn record_failure(lease: &Lease, reason: Reason, cx: &Context) {
    let what = match reason {
        Reason::ConnectFailed => "cannot be reached",
        Reason::TlsFailed => "failed the TLS handshake",
        Reason::ServerReset => "closed before it responded",
        Reason::ServerTimeout => "did not respond in time",
        Reason::BadResponse => "sent a malformed response",
        Reason::ResponseTruncated => "closed in the middle of a response",
        Reason::ResponseHeadTooLarge | Reason::ResponseTooManyHeaders => {
            return lease.server().exceeds_limits();
        }
        _ => return,
    };
    let server = lease.server();
    server.fails(cx.now);
    let is_unreachable = reason == Reason::ConnectFailed;
    cx.shared.verdicts.tell(Verdict { server: server.id, failure: Some(what), is_unreachable });
}
