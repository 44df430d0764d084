//! Step 8, before the bodies: the server is heard. The rest of the request's body goes out meanwhile, interim
//! answers go on to the client, and the head of the final answer is made ready for it.

use super::Plane;
use super::dial::Link;
use super::hands::{Failure, Hands, Request};
use super::socket::{Then, Want};
use super::stream::Stream;
use super::upload::Upload;
use crate::base::time::{self, Moment};
use crate::http1::body::Body;
use crate::http1::forward::{self, Answer};
use crate::http1::framing::{Asked, Framing};
use crate::http1::head::{self, Parsed, ResponseHead, Version};
use crate::http1::reason::Reason;
use crate::policy::retry::Phase;
use crate::state::server::Lease;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// Interim answers to one request; a server that sends more is broken.
const INTERIM_MAX: u32 = 32;

/// The head of the final answer, as far as the relay needs it; the head for the client is in `Hands::reply`.
#[derive(Debug)]
pub struct Final {
    /// The status.
    pub status: u16,
    /// The body as it comes from the server.
    pub body: Body,
    /// How the client is told.
    pub to_client: Framing,
    /// The server keeps its connection.
    pub server_keeps: bool,
    /// We keep the client's.
    pub client_keeps: bool,
    /// The bytes in `Hands::answer` that are there already: from the end of the head on.
    pub here: (usize, usize),
    /// When the head was complete.
    pub at: Moment,
}

/// Sends the rest of the body and hears answers until the final one; interim ones go on to the client.
pub(super) fn hear(
    plane: &Arc<Plane>,
    hands: &mut Hands,
    request: &Request<'_>,
    upload: &mut Upload,
    lease: &Lease,
    link: &Link,
    mut asked_at: Moment,
) -> Result<Final, Failure> {
    let (mut start, mut filled) = (0, 0);
    let mut interims = 0;
    loop {
        if start == filled && !upload.is_over() {
            upload.pump(plane, hands, request, link)?;
            // The server's time is what it takes once it has all of the request.
            asked_at = time::now();
        }
        if start == filled {
            (start, filled) = (0, hear_more(plane, hands, request, link, 0)?);
        }
        match parse(plane, hands, request, upload, lease, start..filled)? {
            Heard::Final(last) => {
                lease.responded(last.status, last.at.since(asked_at), last.at);
                return Ok(last);
            }
            Heard::Interim(len) => {
                start += len;
                interims += 1;
                if interims > INTERIM_MAX {
                    return Err(Failure::late(Reason::BadAnswer));
                }
                pass_on(plane, hands, request)?;
            }
            Heard::Part => {
                hands.answer.copy_within(start..filled, 0);
                (start, filled) = (0, filled - start);
                filled += hear_more(plane, hands, request, link, filled)?;
            }
        }
    }
}

/// What a look at the server's bytes found.
enum Heard {
    Part,
    /// An interim answer of this length; the head for the client is in `Hands::reply`, which may be empty.
    Interim(usize),
    Final(Final),
}

fn parse(
    plane: &Arc<Plane>,
    hands: &mut Hands,
    request: &Request<'_>,
    upload: &Upload,
    lease: &Lease,
    span: std::ops::Range<usize>,
) -> Result<Heard, Failure> {
    let now = time::now();
    hands.date(now);
    let Hands { answer, reply, date, slots, .. } = hands;
    let asked = match request.head.method {
        b"HEAD" => Asked::Head,
        b"CONNECT" => Asked::Connect,
        _ => Asked::Other,
    };
    let limits = plane.config.limits.head.of_responses();
    let parsed = head::response(&answer[span.clone()], asked, &limits, slots);
    let head = match parsed.map_err(Failure::late)? {
        Parsed::Partial => return Ok(Heard::Part),
        Parsed::Complete(head) => head,
    };
    reply.clear();
    let upgraded = head.status == 101;
    if upgraded && !request.head.upgrade {
        return Err(Failure::late(Reason::BadAnswer));
    }
    let to_client = framing_for(request.head.version, &head);
    let whole = upload.is_done();
    let client_keeps =
        request.head.keep_alive && whole && to_client != Framing::UntilClose && !plane.is_draining();
    let answer = Answer {
        client: request.head.version,
        framing: to_client,
        keep_alive: client_keeps,
        pseudonym: &plane.pseudonym,
        served_by: plane.config.listen.served_by_header.then_some(lease.server().name.as_str()),
        date: &date.1,
    };
    if head.status < 200 && !upgraded {
        // An HTTP/1.0 client knows no interim answers (RFC 9110 section 15.2).
        if request.head.version == Version::Http11 {
            forward::response(&head, &answer, reply);
        }
        return Ok(Heard::Interim(head.len));
    }
    forward::response(&head, &answer, reply);
    Ok(Heard::Final(Final {
        status: head.status,
        body: head.body(),
        to_client,
        server_keeps: head.keep_alive && whole,
        client_keeps,
        here: (span.start + head.len, span.end),
        at: now,
    }))
}

/// A length that the server told is passed on; one that it tells by chunks or by closing becomes chunks, or a
/// close for HTTP/1.0.
fn framing_for(client: Version, head: &ResponseHead<'_, '_>) -> Framing {
    match (head.framing, client) {
        (Framing::Chunked | Framing::UntilClose, Version::Http11) => Framing::Chunked,
        (Framing::Chunked | Framing::UntilClose, Version::Http10) => Framing::UntilClose,
        (known, _) => known,
    }
}

/// Sends an interim answer on.
fn pass_on(plane: &Arc<Plane>, hands: &mut Hands, request: &Request<'_>) -> Result<(), Failure> {
    hands
        .tell(plane, &request.connection.socket, Then::Open)
        .map_err(|_| Failure::client(Reason::ClientGone))?;
    hands.told.bytes += hands.reply.len() as u64;
    Ok(())
}

/// More of a head; an end here is a failure.
fn hear_more(
    plane: &Arc<Plane>,
    hands: &mut Hands,
    request: &Request<'_>,
    link: &Link,
    at: usize,
) -> Result<usize, Failure> {
    if at == hands.answer.len() {
        return Err(Failure::late(Reason::ResponseHeadTooLarge));
    }
    match receive(plane, hands, request, link, at) {
        Ok(0) if at == 0 => Err(RESET),
        Ok(0) => Err(CUT),
        got => got,
    }
}

/// No byte of an answer, and none will come.
const RESET: Failure =
    Failure { reason: Reason::ServerReset, phase: Phase::Answer, begun: false, ambiguous: false };

/// Part of a head, and no more will come. The client has seen none of it: as good as nothing.
const CUT: Failure =
    Failure { reason: Reason::BadAnswer, phase: Phase::Answer, begun: false, ambiguous: false };

/// Receives from the server behind what is there; 0 when it closed. Waits in one system call first; a longer
/// wait also watches whether the client is still there, and gives up when it is not.
pub fn receive(
    plane: &Plane,
    hands: &mut Hands,
    request: &Request<'_>,
    link: &Link,
    at: usize,
) -> Result<usize, Failure> {
    let Hands { answer, stream, ahead, awaited, .. } = hands;
    let waited = awaited.take();
    let limit = plane.config.timeouts.response.saturating_sub(waited.unwrap_or_default());
    // Others do not wait with this one, not even for the slice.
    let mut got = match waited.is_none() && ahead.keeps_nobody_waiting() {
        true => link.socket.recv_slice(&mut answer[at..]),
        false => link.socket.recv_now(&mut answer[at..]),
    };
    loop {
        match got {
            Ok(count) => return Ok(count),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) if at == 0 => return Err(RESET),
            Err(_) => return Err(CUT),
        }
        ahead.disperse(plane);
        await_server(plane, stream, request, link, limit)?;
        got = link.socket.recv_now(&mut answer[at..]);
    }
}

/// Waits until the server has said more of a body.
pub fn await_more(
    plane: &Plane,
    hands: &mut Hands,
    request: &Request<'_>,
    link: &Link,
) -> Result<(), Failure> {
    await_server(plane, &mut hands.stream, request, link, plane.config.timeouts.response)
}

/// Waits until the server says something, or closes; no longer than the client does.
fn await_server(
    plane: &Plane,
    stream: &mut Stream,
    request: &Request<'_>,
    link: &Link,
    limit: Duration,
) -> Result<(), Failure> {
    let client = (&request.connection.socket, Want::Gone);
    match stream.wait(plane, (&link.socket, Want::Read), client, limit) {
        Ok([server, client]) if client.gone && !server.read => Err(Failure::client(Reason::ClientGone)),
        Ok(_) => Ok(()),
        Err(_) => Err(Failure::late(Reason::ServerTimeout)),
    }
}
