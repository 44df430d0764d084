//! The end of a connection, in such a way that the client can read the last answer: stop writing, drain what
//! it still sends, in bounds, then close. A close over unread bytes would be a reset, which can take the
//! answer out of the client's hands (RFC 9112 section 9.6).

use super::Plane;
use super::park::Connection;
use crate::base::time::Moment;
use crate::http1::reason::Reason;
use crate::http1::reply::{self, Reply};
use crate::state::stats::Counter;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// How long a client may take to read its last answer and to close.
const LINGER: Duration = Duration::from_secs(2);
/// How much of what it still sends is drained; then the reset is its own doing.
const DRAIN_MAX: usize = 1 << 20;

/// Closes at once.
pub fn now(plane: &Plane, connection: &Arc<Connection>) {
    plane.stats.shard(0).count(Counter::Closed);
    plane.lot.leave(connection);
}

/// Closes at once, with a reset: the client must not take what it got for a whole answer.
pub fn abruptly(plane: &Plane, connection: &Arc<Connection>) {
    connection.socket.reset_on_close();
    now(plane, connection);
}

/// Answers without reading the request, and without ever waiting for the client; then closes slowly.
/// For the accept thread.
pub fn turn_away(
    plane: &Plane,
    connection: &Arc<Connection>,
    reason: Reason,
    scratch: &mut [u8],
    at: Moment,
) {
    let stats = plane.stats.shard(0);
    stats.refuse(reason);
    stats.count(Counter::of_status(reason.status()));
    let request_id = plane.next_id();
    log::debug!("{}: {} {request_id}: {}", plane.name, reason.name(), reason.sentence());
    let mut answer = Vec::with_capacity(512);
    let date = httpdate::fmt_http_date(crate::base::time::wall());
    let reply = Reply {
        reason,
        request_id,
        json: false,
        head_only: false,
        keep_alive: false,
        date: &date,
        retry_after: 1,
    };
    reply::write(&reply, &mut answer);
    // A client that takes not even this much is not worth a wait.
    let _ = connection.socket.send_now(&answer);
    slowly(plane, connection, scratch, at);
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
