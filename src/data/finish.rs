//! Step 9: finished. Counted, told to the health thread, and decided what becomes of the connection.

use super::Plane;
use super::hands::{Failure, Hands, Request};
use super::park::Connection;
use super::relay::Delivered;
use super::socket;
use super::upload::{self, Upload};
use crate::base::ids::RequestId;
use crate::base::time;
use crate::http1::reason::Reason;
use crate::http1::reply::{self, LastHop, Reply};
use crate::state::server::Lease;
use crate::state::stats::Counter;
use crate::state::verdict::Verdict;
use std::io::IoSlice;
use std::sync::Arc;

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
    let fate = match outcome {
        Ok(delivered) => {
            let shard = hands.shard(plane);
            shard.count(Counter::of_status(delivered.status));
            shard.add(Counter::BytesOut, delivered.bytes);
            match delivered {
                Delivered { tunnelled: true, .. } => Fate::Tunnelled,
                Delivered { client_keeps: true, .. } => Fate::Keep,
                _ if upload.is_done() => Fate::Close,
                _ => Fate::CloseSlowly,
            }
        }
        Err(failure) if failure.begun || failure.reason == Reason::ClientGone => {
            hands.shard(plane).refuse(failure.reason);
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
            say(plane, hands, request.connection, Said { reason: failure.reason, json, head_only, keep }, id)
        }
    };
    let shard = hands.shard(plane);
    shard.count(Counter::Requests);
    shard.duration.record(time::now().since(request.started));
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
    let limit = plane.config.timeouts.client_body;
    let sent = socket::send_all(&request.connection.socket, &mut [IoSlice::new(&answer)], limit);
    let bytes = answer.len() as u64;
    hands.reply = answer;
    let delivered = Delivered { status: 200, bytes, client_keeps: keep_alive, tunnelled: false };
    let outcome = sent.map(|()| delivered).map_err(|_| Failure::begun(Reason::ClientGone));
    finish(plane, hands, request, &upload, outcome, id)
}

/// Answers bytes that are no request.
pub fn refuse_unread(
    plane: &Plane,
    hands: &mut Hands,
    connection: &Arc<Connection>,
    reason: Reason,
    id: RequestId,
) -> Fate {
    log::debug!("{}: {id}: {}: {}", plane.name, reason.name(), reason.sentence());
    say(plane, hands, connection, Said { reason, json: false, head_only: false, keep: false }, id);
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
        _ => return,
    };
    lease.server().fails();
    plane.pool.clear(lease.server().id);
    plane.verdicts.tell(Verdict { server: lease.server().id, failure: Some(what) });
}

/// An answer came through. The health thread hears of the first one after a failure.
pub fn praise(plane: &Plane, lease: &Lease) {
    if lease.server().recovers() {
        plane.verdicts.tell(Verdict { server: lease.server().id, failure: None });
    }
}

struct Said {
    reason: Reason,
    json: bool,
    head_only: bool,
    keep: bool,
}

/// The balancer's own answer.
fn say(plane: &Plane, hands: &mut Hands, connection: &Connection, said: Said, id: RequestId) -> Fate {
    let shard = hands.shard(plane);
    shard.refuse(said.reason);
    shard.count(Counter::of_status(said.reason.status()));
    hands.date(time::now());
    let mut answer = std::mem::take(&mut hands.reply);
    answer.clear();
    let reply = Reply {
        reason: said.reason,
        request_id: id,
        json: said.json,
        head_only: said.head_only,
        keep_alive: said.keep,
        date: hands.date(time::now()),
        retry_after: 1,
    };
    reply::write(&reply, &mut answer);
    let limit = plane.config.timeouts.client_body;
    let sent = socket::send_all(&connection.socket, &mut [IoSlice::new(&answer)], limit);
    hands.shard(plane).add(Counter::BytesOut, answer.len() as u64);
    hands.reply = answer;
    match (sent, said.keep) {
        (Err(_), _) => Fate::Abort,
        (Ok(()), true) => Fate::Keep,
        (Ok(()), false) => Fate::CloseSlowly,
    }
}

fn log_end(plane: &Plane, request: &Request<'_>, reason: Reason, id: RequestId) {
    log::debug!(
        "{}: {id}: {} {}: {}: {}",
        plane.name,
        String::from_utf8_lossy(request.head.method),
        String::from_utf8_lossy(request.head.target),
        reason.name(),
        reason.sentence()
    );
}
