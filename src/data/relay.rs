//! Step 8, towards the client: the answer's head and body, as they come, in constant memory.

use super::Plane;
use super::dial::Link;
use super::finish;
use super::hands::{Failure, Hands, Request};
use super::hear::{self, Final};
use super::socket::{self, Then, Want};
use super::splice::{self, Pipe};
use super::upload::Upload;
use crate::http1::body::{Body, CHUNK_HEAD_MAX, chunk_head};
use crate::http1::framing::Framing;
use crate::http1::reason::Reason;
use crate::state::server::Lease;
use std::io::{self, IoSlice};

/// A piece up to this size is copied behind the head, for one send without a vector.
const COPIED: usize = 4 * 1024;

/// An answer that reached the client whole.
#[derive(Clone, Copy, Debug)]
pub struct Delivered {
    /// Its status.
    pub status: u16,
    /// The client's connection stays open.
    pub client_keeps: bool,
    /// The connection is a tunnel now and has left the worker.
    pub tunnelled: bool,
}

/// Sends head and body to the client, and the link to the pool where it may be used again.
pub fn answer(
    plane: &Plane,
    hands: &mut Hands,
    request: &Request<'_>,
    upload: &Upload,
    link: Link,
    last: Final,
    lease: &Lease,
) -> Result<Delivered, Failure> {
    let ambiguous = last.to_client == Framing::UntilClose;
    pass(plane, hands, request, upload, link, last, lease).map_err(|failure| Failure { ambiguous, ..failure })
}

fn pass(
    plane: &Plane,
    hands: &mut Hands,
    request: &Request<'_>,
    upload: &Upload,
    link: Link,
    mut last: Final,
    lease: &Lease,
) -> Result<Delivered, Failure> {
    hands.stream.begin(plane, last.at);
    hands.told.status = last.status;
    let mut span = last.here;
    let mut begun = false;
    if span.0 == span.1 && last.body.remaining().is_some_and(|left| left > 0) {
        // Head and body often come in two segments: if the second is here already, they go on as one.
        span = (0, link.socket.recv_now(&mut hands.answer).unwrap_or(0));
    }
    let clean = loop {
        hands.stream.look(plane);
        let decoded = last.body.compact(&mut hands.answer[span.0..span.1]);
        let (consumed, payload) = decoded.map_err(|_| broken(begun))?;
        let left_over = span.0 + consumed < span.1;
        send(plane, hands, request, &last, span.0..span.0 + payload)?;
        begun = true;
        if last.body.is_done() {
            if left_over {
                lease.server().talks_unasked();
            }
            break !left_over;
        }
        // A body of more than one piece may take long.
        hands.ahead.disperse(plane);
        if last.to_client != Framing::Chunked
            && last.body.remaining().is_some_and(|left| left >= splice::LONG)
        {
            splice_on(plane, hands, request, &link, &mut last.body)?;
            if last.body.is_done() {
                // What the server said beyond the length lies in the socket, for the next request to take for its answer.
                let clean = link.socket.is_quiet();
                if !clean && !link.socket.is_at_end() {
                    lease.server().talks_unasked();
                }
                break clean;
            }
        }
        match hear::receive(plane, hands, request, &link, 0).map_err(cut)? {
            0 if last.body.close() => {
                // The server closed, and that was the end: say so in the client's framing.
                send(plane, hands, request, &last, 0..0)?;
                break false;
            }
            0 => return Err(Failure::begun(Reason::AnswerTruncated)),
            count => span = (0, count),
        }
    };
    if clean && last.server_keeps && upload.is_done() {
        plane.pool.put(lease.server(), link, last.at);
    }
    finish::praise(plane, lease);
    Ok(Delivered { status: last.status, client_keeps: last.client_keeps, tunnelled: false })
}

/// Passes the rest of a long body on without looking at it. Nothing of it, where there is no pipe.
fn splice_on(
    plane: &Plane,
    hands: &mut Hands,
    request: &Request<'_>,
    link: &Link,
    body: &mut Body,
) -> Result<(), Failure> {
    let Some(mut pipe) = hands.pipe() else { return Ok(()) };
    while let Some(left) = body.remaining().filter(|left| *left > 0) {
        hands.stream.look(plane);
        match pipe.fill(&link.socket, left) {
            Ok(0) => return Err(Failure::begun(Reason::AnswerTruncated)),
            Ok(count) => {
                empty(plane, hands, request, &mut pipe)?;
                body.skip(count as u64);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                hear::await_more(plane, hands, request, link).map_err(cut)?;
            }
            Err(_) => return Err(Failure::begun(Reason::AnswerTruncated)),
        }
    }
    // One that failed is dropped with what is in it.
    hands.pipe = Some(pipe);
    Ok(())
}

/// All that is in the pipe goes to the client.
fn empty(plane: &Plane, hands: &mut Hands, request: &Request<'_>, pipe: &mut Pipe) -> Result<(), Failure> {
    let Hands { stream, told, .. } = hands;
    let client = &request.connection.socket;
    while pipe.held() > 0 {
        match pipe.empty(client) {
            Ok(count) => {
                stream.moves(count);
                told.bytes += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let limit = plane.config.timeouts.client_body;
                stream
                    .wait_for_client(plane, (client, Want::Write), (client, Want::Nothing), limit)
                    .map_err(stalled)?;
            }
            Err(error) => return Err(stalled(error)),
        }
    }
    Ok(())
}

/// The client does not take what it asked for.
fn stalled(error: io::Error) -> Failure {
    let gave_up = error.kind() == io::ErrorKind::TimedOut;
    Failure::begun(if gave_up { Reason::ClientStalled } else { Reason::ClientGone })
}

/// One piece of payload, with the head before it if that has not gone yet, and the end after it if this is it.
fn send(
    plane: &Plane,
    hands: &mut Hands,
    request: &Request<'_>,
    last: &Final,
    payload: std::ops::Range<usize>,
) -> Result<(), Failure> {
    let Hands { answer, reply, stream, ahead, told, .. } = hands;
    let payload = &answer[payload];
    let mut room = [0; CHUNK_HEAD_MAX];
    let chunked = last.to_client == Framing::Chunked;
    let then = Then::after(last.client_keeps || !last.body.is_done());
    let [head, tail]: [&[u8]; 2] = if chunked && !payload.is_empty() {
        let from = chunk_head(payload.len(), &mut room);
        [&room[from..], b"\r\n"]
    } else {
        [b"", b""]
    };
    let [zero, trailers, end]: [&[u8]; 3] = if chunked && last.body.is_done() {
        [b"0\r\n", last.body.trailers(), b"\r\n"]
    } else {
        [b"", b"", b""]
    };
    let parts = [head, payload, tail, zero, trailers, end];
    let total = reply.len() + parts.iter().map(|part| part.len()).sum::<usize>();
    let client = &request.connection.socket;
    let limit = plane.config.timeouts.client_body;
    let mut room = |sent| {
        // A slow reader is no reason for others to wait.
        ahead.disperse(plane);
        stream.moves(sent);
        stream.wait_for_client(plane, (client, Want::Write), (client, Want::Nothing), limit).map(drop)
    };
    let sent = if payload.len() <= COPIED {
        parts.iter().for_each(|part| reply.extend_from_slice(part));
        socket::send_all_with(client, &mut [IoSlice::new(reply)], then, &mut room)
    } else {
        let [head, payload, tail, zero, trailers, end] = parts.map(IoSlice::new);
        let mut parts = [IoSlice::new(reply), head, payload, tail, zero, trailers, end];
        socket::send_all_with(client, &mut parts, then, &mut room)
    };
    reply.clear();
    match sent {
        Ok(()) => {
            told.bytes += total as u64;
            Ok(())
        }
        Err(error) => Err(stalled(error)),
    }
}

/// The server's body is not what its framing says. As long as nothing was sent, the client hears of it.
fn broken(begun: bool) -> Failure {
    if begun { Failure::begun(Reason::BadAnswer) } else { Failure::late(Reason::BadAnswer) }
}

/// The server stopped in the middle of a body.
fn cut(failure: Failure) -> Failure {
    match failure.reason {
        Reason::ServerReset => Failure::begun(Reason::AnswerTruncated),
        reason => Failure::begun(reason),
    }
}
