//! Step 9: finished. Counted, noted in the access log, told to the health thread, and decided what becomes of the connection.

use super::Plane;
use super::exchange;
use super::hands::{Failure, Hands, Request, Told, Unread};
use super::park::Connection;
use super::relay::Delivered;
use super::socket::Then;
use super::upload::{self, Upload};
use crate::base::ids::{RequestId, TraceId};
use crate::base::time;
use crate::http1::head::Version;
use crate::http1::reason::Reason;
use crate::http1::reply::{self, LastHop, Reply};
use crate::http1::trace::Glimpse;
use crate::state::access::Line;
use crate::state::server::Lease;
use crate::state::stats::Counter;
use crate::state::verdict::Verdict;
use std::net::IpAddr;
use std::time::Duration;

/// What becomes of the client's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The next request may come.
    Keep,
    /// It is over; the request was read to its end.
    Close,
    /// It is over, and the client may still be sending.
    CloseSlowly,
    /// It is over in the middle of an answer.
    Abort,
    /// A tunnel thread has it.
    Tunnelled,
}

/// A request that came to its end.
#[derive(Clone, Copy, Debug)]
pub struct Served {
    /// Bytes behind the head that were its body.
    pub early_used: usize,
    /// What becomes of the connection.
    pub fate: Fate,
}

/// Counts a request, answers it if no server did, and says how to go on.
pub fn finish(
    plane: &Plane,
    hands: &mut Hands,
    request: &Request<'_>,
    upload: &Upload,
    outcome: Result<Delivered, Failure>,
    id: RequestId,
) -> Served {
    upload::count(plane, hands, upload);
    let reason = outcome.as_ref().err().map(|failure| failure.reason);
    let fate = match outcome {
        Ok(delivered) => {
            hands.told.status = delivered.status;
            match delivered {
                Delivered { tunnelled: true, .. } => Fate::Tunnelled,
                Delivered { client_keeps: true, .. } => Fate::Keep,
                _ if upload.is_done() => Fate::Close,
                _ => Fate::CloseSlowly,
            }
        }
        Err(failure) if failure.begun || failure.reason == Reason::ClientGone => {
            log_end(plane, request, failure.reason, id);
            // Where the framing shows that the answer is cut, the client may read what it got.
            let reads = !matches!(failure.reason, Reason::ClientGone | Reason::ClientStalled);
            let shown = failure.begun && !failure.ambiguous && reads;
            if shown { Fate::CloseSlowly } else { Fate::Abort }
        }
        Err(failure) => {
            log_end(plane, request, failure.reason, id);
            let keep = request.head.keep_alive && upload.is_done() && !failure.reason.closes();
            let keep = keep && !plane.is_draining();
            let head_only = request.head.method == b"HEAD";
            let json = request.head.accepts_json;
            let digits = id.digits();
            let id = request.head.request_id.unwrap_or(&digits);
            let said = Said { reason: failure.reason, json, head_only, keep, id };
            say(plane, hands, request.connection, said)
        }
    };
    hands.ends(plane, reason);
    let took = time::now().since(request.started);
    hands.shard(plane).duration.record(took);
    if plane.access.is_some() {
        let client = exchange::client_address(plane, request);
        let id = TraceId::new(request.head.request_id, id);
        note(plane, hands, client, request_line(request), (took, id, reason));
    }
    Served { early_used: upload.early_used(), fate }
}

/// Answers OPTIONS and TRACE that go no further than here (RFC 9110 section 7.6.2).
pub fn last_hop(
    plane: &Plane,
    hands: &mut Hands,
    request: &Request<'_>,
    mut upload: Upload,
    id: RequestId,
) -> Served {
    if let Err(reason) = upload.start(request.early, hands) {
        return finish(plane, hands, request, &upload, Err(Failure::client(reason)), id);
    }
    let keep_alive = request.head.keep_alive && upload.is_done() && !plane.is_draining();
    let mut answer = std::mem::take(&mut hands.reply);
    answer.clear();
    reply::last_hop(request.head, &LastHop { keep_alive, date: hands.date(request.started) }, &mut answer);
    let bytes = answer.len() as u64;
    hands.reply = answer;
    let sent = hands.tell(plane, &request.connection.socket, Then::after(keep_alive));
    hands.told.bytes += if sent.is_ok() { bytes } else { 0 };
    let delivered = Delivered { status: 200, client_keeps: keep_alive, tunnelled: false };
    let outcome = sent.map(|()| delivered).map_err(|_| Failure::begun(Reason::ClientGone));
    finish(plane, hands, request, &upload, outcome, id)
}

/// Answers bytes that are no request.
pub fn refuse_unread(plane: &Plane, hands: &mut Hands, unread: &Unread<'_>, id: RequestId) -> Fate {
    let Unread { connection, peer, started, reason, bytes } = *unread;
    let Glimpse { line, request_id } = Glimpse::of(bytes);
    let (ours, head_only) = (id.digits(), line.starts_with(b"HEAD "));
    let called = request_id.unwrap_or(&ours);
    hands.told = Told::default();
    hands.stream.rest(started);
    log::debug!("{}: {}: {}: {}", plane.name, called.escape_ascii(), reason.name(), reason.sentence());
    say(plane, hands, connection, Said { reason, json: false, head_only, keep: false, id: called });
    hands.ends(plane, Some(reason));
    if plane.access.is_some() {
        let client = peer.map(|peer| peer.ip().to_canonical());
        let took = time::now().since(started);
        note(plane, hands, client, line.into(), (took, TraceId::new(request_id, id), Some(reason)));
    }
    Fate::CloseSlowly
}

/// An attempt failed: the server is told off where it was its fault.
pub fn blame(plane: &Plane, lease: &Lease, failure: &Failure) {
    let what = match failure.reason {
        Reason::ConnectFailed => "cannot be reached",
        Reason::ServerReset => "closed before it answered",
        Reason::ServerTimeout => "gave no answer in time",
        Reason::BadAnswer => "gave a broken answer",
        Reason::AnswerTruncated => "closed in the middle of an answer",
        Reason::ResponseHeadTooLarge | Reason::ResponseTooManyHeaders => {
            return lease.server().exceeds_limits();
        }
        _ => return,
    };
    lease.server().fails(time::now());
    plane.pool.clear(lease.server().id);
    plane.verdicts.tell(Verdict { server: lease.server().id, failure: Some(what) });
}

/// An answer came through. The health thread hears of the first one after a failure.
pub fn praise(plane: &Plane, lease: &Lease) {
    if lease.server().recovers() {
        plane.verdicts.tell(Verdict { server: lease.server().id, failure: None });
    }
}

struct Said<'a> {
    reason: Reason,
    json: bool,
    head_only: bool,
    keep: bool,
    /// The client's id, or ours.
    id: &'a [u8],
}

/// The balancer's own answer.
fn say(plane: &Plane, hands: &mut Hands, connection: &Connection, said: Said<'_>) -> Fate {
    hands.date(time::now());
    let mut answer = std::mem::take(&mut hands.reply);
    answer.clear();
    let reply = Reply {
        reason: said.reason,
        request_id: said.id,
        json: said.json,
        head_only: said.head_only,
        keep_alive: said.keep,
        date: hands.date(time::now()),
        retry_after: 1,
    };
    reply::write(&reply, &mut answer);
    let bytes = answer.len() as u64;
    hands.reply = answer;
    let sent = hands.tell(plane, &connection.socket, Then::after(said.keep));
    hands.told.status = said.reason.status();
    hands.told.bytes += if sent.is_ok() { bytes } else { 0 };
    match (sent, said.keep) {
        (Err(_), _) => Fate::Abort,
        (Ok(()), true) => Fate::Keep,
        (Ok(()), false) => Fate::CloseSlowly,
    }
}

/// Puts a line into the access log.
fn note(
    plane: &Plane,
    hands: &mut Hands,
    client: Option<IpAddr>,
    request: Box<[u8]>,
    (took, id, reason): (Duration, TraceId, Option<Reason>),
) {
    let Told { server, status, bytes } = std::mem::take(&mut hands.told);
    // Nothing was begun where the client left before its answer.
    let status = if status == 0 { reason.map_or(0, Reason::status) } else { status };
    let at_unix = time::unix_seconds();
    let line = Line { client, at_unix, request, status, bytes, took, id, server, reason };
    if plane.access.as_ref().is_some_and(|access| !access.tell(line)) {
        hands.shard(plane).count(Counter::AccessLinesDropped);
    }
}

/// The request line, in one allocation.
fn request_line(request: &Request<'_>) -> Box<[u8]> {
    let head = request.head;
    let slash: &[u8] = if head.slash_first { b"/" } else { b"" };
    let version: &[u8] = if head.version == Version::Http10 { b"HTTP/1.0" } else { b"HTTP/1.1" };
    [head.method, b" ", slash, head.target, b" ", version].concat().into()
}

fn log_end(plane: &Plane, request: &Request<'_>, reason: Reason, id: RequestId) {
    log::debug!(
        "{}: {}: {} {}: {}: {}",
        plane.name,
        TraceId::new(request.head.request_id, id),
        String::from_utf8_lossy(request.head.method),
        String::from_utf8_lossy(request.head.target),
        reason.name(),
        reason.sentence()
    );
}
