//! The end of a connection, in such a way that the client can read the last answer: stop writing, drain what
//! it still sends, in bounds, then close. A close over unread bytes would be a reset, which can take the
//! answer out of the client's hands (RFC 9112 section 9.6).

use super::Plane;
use super::park::{Carry, Connection};
use super::socket::Then;
use crate::base::ids::TraceId;
use crate::base::time::{self, Moment};
use crate::http1::framing::Framing;
use crate::http1::head::{self, Parsed, Slots};
use crate::http1::reason::Reason;
use crate::http1::reply::{self, Reply};
use crate::http1::trace::Glimpse;
use crate::state::access::Line;
use crate::state::stats::{Counter, Outcome};
use std::io;
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

/// How long a client may take to read its last answer and to close.
const LINGER: Duration = Duration::from_secs(2);
/// How much of what it still sends is drained; then the reset is its own doing.
const DRAIN_MAX: usize = 1 << 20;

/// Closes at once.
pub fn now(plane: &Plane, connection: &Arc<Connection>) {
    // Two threads may come to it at once.
    if plane.lot.leave(connection) {
        plane.stats.shard(0).count(Counter::Closed);
    }
}

/// Closes behind an answer that the client can read to its end.
pub fn behind_answer(plane: &Plane, connection: &Arc<Connection>) {
    now(plane, connection);
    // The socket closes when the last holder lets go. What was kept back for the end does not wait for that.
    if Arc::strong_count(connection) > 1 {
        connection.socket.finish_writing();
    }
}

/// Closes a connection that the poller cannot watch: nobody would hear of it any more.
pub fn unwatched(plane: &Plane, connection: &Arc<Connection>, error: &io::Error) {
    log::warn!("a connection cannot be watched: {error}");
    now(plane, connection);
}

/// Closes at once, with a reset: the client must not take what it got for a whole answer.
pub fn abruptly(plane: &Plane, connection: &Arc<Connection>) {
    connection.socket.reset_on_close();
    now(plane, connection);
}

/// Requests in a row that one go refuses on one connection.
const REFUSED_IN_A_ROW: usize = 16;

/// Answers without serving the request, and without ever waiting for the client. Where the request is whole and was to
/// be one of many, the connection stays: a flood of refusals would become a flood of connections. Else it is closed
/// slowly.
pub fn turn_away(
    plane: &Plane,
    connection: &Arc<Connection>,
    reason: Reason,
    scratch: &mut [u8],
    at: Moment,
) {
    guard(plane, connection, || {
        let stays_active = |_: &usize| refuse(plane, connection, reason, scratch, at);
        let in_a_row = (0..REFUSED_IN_A_ROW).take_while(stays_active).count();
        if in_a_row == REFUSED_IN_A_ROW {
            slowly(plane, connection, scratch, at);
        }
    });
}

/// A panic costs one connection, and not the accept thread, which reads what clients have sent here.
fn guard(plane: &Plane, connection: &Arc<Connection>, work: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(work)).is_err() {
        plane.stats.shard(0).count(Counter::Panics);
        log::error!("{}: a refusal panicked; its connection is closed", plane.name);
        abruptly(plane, connection);
    }
}

/// Refuses one request. True: the next one is here already, finds no place either, and the connection is the caller's.
fn refuse(
    plane: &Plane,
    connection: &Arc<Connection>,
    reason: Reason,
    scratch: &mut [u8],
    at: Moment,
) -> bool {
    let carry = connection.take_carry();
    let came = read_waiting(plane, connection, reason, &carry, scratch);
    let asked = came.and_then(|came| whole_request(plane, scratch.get(..came)?));
    // What was read, or was carried, is not served any more; it says whose refusal this is.
    let came = if carry.bytes.is_empty() { &scratch[..came.unwrap_or(0)] } else { &carry.bytes };
    let (glimpse, ours) = (Glimpse::of(came), plane.ids.one());
    let digits = ours.digits();
    let request_id = glimpse.request_id.unwrap_or(&digits);
    log::debug!("{}: {} {}: {}", plane.name, reason.name(), request_id.escape_ascii(), reason.sentence());
    let mut answer = Vec::with_capacity(512);
    let reply = Reply {
        reason,
        request_id,
        json: asked.as_ref().is_some_and(|asked| asked.json),
        head_only: asked.as_ref().map_or(came.starts_with(b"HEAD "), |asked| asked.head_only),
        keep_alive: asked.is_some(),
        date: &time::http_date(),
        retry_after: 1,
    };
    reply::write(&reply, &mut answer);
    // A client that takes not even this much is not worth a wait.
    let sent = connection.socket.send_now(&answer, Then::after(asked.is_some()));
    let bytes = sent.as_ref().map_or(0, |count| *count as u64);
    count(plane, Outcome { status: Some(reason.status()), bytes, reason: Some(reason) });
    if plane.access.is_some() {
        let peer = carry.client.or(connection.peer).map(|peer| peer.ip().to_canonical());
        let took = at.since(carry.head_since.unwrap_or(at));
        note(plane, peer, &glimpse, TraceId::new(glimpse.request_id, ours), (reason, bytes, took));
    }
    match asked {
        Some(_) if bytes == answer.len() as u64 => !stay(plane, connection, carry, at),
        _ => {
            slowly(plane, connection, scratch, at);
            false
        }
    }
}

/// Counts a refusal, and why nothing came of the request in the queue.
fn count(plane: &Plane, outcome: Outcome) {
    let stats = plane.stats.shard(0);
    stats.ends(outcome);
    match outcome.reason {
        Some(Reason::QueueFull) => stats.count(Counter::Shed),
        Some(Reason::QueueTimeout | Reason::Overloaded) => stats.count(Counter::Late),
        _ => {}
    }
}

/// Puts a line into the access log.
fn note(
    plane: &Plane,
    client: Option<IpAddr>,
    glimpse: &Glimpse<'_>,
    id: TraceId,
    (reason, bytes, took): (Reason, u64, Duration),
) {
    let (status, at_unix, request) = (reason.status(), time::unix_seconds(), glimpse.line.into());
    let line = Line { client, at_unix, request, status, bytes, took, id, server: None, reason: Some(reason) };
    if plane.access.as_ref().is_some_and(|access| !access.tell(line)) {
        plane.stats.shard(0).count(Counter::AccessLinesDropped);
    }
}

/// A request that is turned away, as far as its answer needs it.
struct Asked {
    json: bool,
    head_only: bool,
}

/// Reads what waits on a connection that may stay; how many bytes, all that there were.
fn read_waiting(
    plane: &Plane,
    connection: &Connection,
    reason: Reason,
    carry: &Carry,
    scratch: &mut [u8],
) -> Option<usize> {
    let may_stay = matches!(reason, Reason::QueueFull | Reason::QueueTimeout | Reason::Overloaded);
    let is_introduced = carry.introduced || plane.config.listen.proxy_protocol.is_none();
    if !may_stay || plane.is_draining() || connection.has_ended() || !carry.bytes.is_empty() || !is_introduced
    {
        return None;
    }
    connection.handover.reads();
    connection.socket.recv_now(scratch).ok().filter(|count| *count < scratch.len())
}

/// The request in these bytes, if it is whole, alone and without a body, and more may follow it.
fn whole_request(plane: &Plane, bytes: &[u8]) -> Option<Asked> {
    let mut slots = Slots::new();
    match head::request(bytes, &plane.config.limits.head, &mut slots) {
        Ok(Parsed::Complete(head))
            if head.len == bytes.len() && head.framing == Framing::None && head.keep_alive =>
        {
            Some(Asked { json: head.accepts_json, head_only: head.method == b"HEAD" })
        }
        _ => None,
    }
}

/// Parks a connection whose request was turned away. False: the next request is here already, and the queue is full.
fn stay(plane: &Plane, connection: &Arc<Connection>, mut carry: Carry, at: Moment) -> bool {
    carry.requests += 1;
    // Where a PROXY header came alone, the time counted from there.
    carry.head_since = None;
    match plane.lot.park(connection, carry, at, at.after(plane.config.timeouts.keep_alive)) {
        Ok(None) => true,
        Ok(Some(carry)) => {
            connection.put_carry(carry);
            plane.queue.push(Arc::clone(connection), at).is_ok()
        }
        Err(_) => {
            now(plane, connection);
            true
        }
    }
}

/// Stops writing and leaves the connection to the accept thread until the client has closed too.
pub fn slowly(plane: &Plane, connection: &Arc<Connection>, scratch: &mut [u8], at: Moment) {
    connection.socket.finish_writing();
    loop {
        if !empty(connection, scratch) {
            return now(plane, connection);
        }
        match plane.lot.close_slowly(connection, at.after(LINGER)) {
            Ok(true) => return,
            Ok(false) => {}
            Err(_) => return now(plane, connection),
        }
    }
}

/// The accept thread heard of a closing connection.
pub fn drain(plane: &Plane, connection: &Arc<Connection>, scratch: &mut [u8], _at: Moment) {
    if !empty(connection, scratch) {
        now(plane, connection);
    }
}

/// Reads and drops what is there. False when the client has closed, or has sent too much.
fn empty(connection: &Connection, scratch: &mut [u8]) -> bool {
    loop {
        match connection.socket.recv_now(scratch) {
            Ok(0) => return false,
            Ok(count) if connection.count_drained(count) > DRAIN_MAX => return false,
            Ok(_) => {}
            Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::ahead::tests::plane;
    use super::super::socket::Socket;
    use super::*;
    use std::io::Read;
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_panic_of_a_refusal_costs_its_connection() {
        let (plane, (near, mut far)) = (plane(), UnixStream::pair().unwrap());
        let connection = plane.lot.enter(Socket::from(OwnedFd::from(near)), None);
        guard(&plane, &connection, || panic!("as the test asked for"));
        drop(connection);
        assert_eq!(far.read(&mut [0]).unwrap_or(0), 0);
        assert_eq!((plane.lot.open(), plane.stats.total(Counter::Panics)), (0, 1));
    }
}
