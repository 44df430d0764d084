//! Step 7: exchanged. The request goes to a server, the head of its answer comes in; what fails before that
//! is tried again where the rules allow (law 8).

use super::Plane;
use super::choose::{self, Tried};
use super::dial::{self, Link, Need};
use super::finish::{self, Fate, Served};
use super::park::Connection;
use super::relay::{self, Delivered};
use super::socket::{self, Want};
use super::stream::Stream;
use super::tunnel;
use super::upload::Upload;
use crate::base::dice::Dice;
use crate::base::ids::RequestId;
use crate::base::limits;
use crate::base::time::{self, Moment};
use crate::http1::body::Body;
use crate::http1::client;
use crate::http1::forward::{self, Answer, Hop};
use crate::http1::framing::{Asked, Framing};
use crate::http1::head::{self, Parsed, RequestHead, ResponseHead, Slots, Version};
use crate::http1::reason::Reason;
use crate::policy::pick::Candidate;
use crate::policy::retry::{self, Attempt, Phase, Retry};
use crate::state::server::{Lease, stable_hash};
use crate::state::stats::{Counter, Shard};
use crate::state::table::Cached;
use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::SystemTime;

/// A worker's buffer for answers, and for bodies on their way.
pub const BUFFER: usize = 64 * 1024;
/// Interim answers to one request; a server that sends more is broken.
const INTERIM_MAX: u32 = 32;

/// What a worker works with; lives as long as the worker.
#[derive(Debug)]
pub struct Hands {
    number: usize,
    count: u64,
    pub(super) table: Cached,
    pub(super) dice: Dice,
    pub(super) candidates: Vec<Candidate>,
    /// The request as it was sent so far: its head, and its body while that may be sent again.
    pub(super) out: Vec<u8>,
    /// The head for the client.
    pub(super) reply: Vec<u8>,
    /// Bytes of the server.
    pub(super) answer: Vec<u8>,
    /// Bytes of the client's body.
    pub(super) relay: Vec<u8>,
    /// Bytes of the client behind the body.
    pub(super) spill: Vec<u8>,
    /// The client's socket was read while serving.
    pub(super) read_client: bool,
    pub(super) stream: Stream,
    slots: Slots,
    date: (Moment, String),
}

/// A request in hand.
#[derive(Debug)]
pub struct Request<'r> {
    /// Its head.
    pub head: &'r RequestHead<'r, 'r>,
    /// What came in behind the head: of the body, or of the next request.
    pub early: &'r [u8],
    /// The client.
    pub connection: &'r Arc<Connection>,
    /// The client's address: the kernel's word, or that of a PROXY header.
    pub peer: Option<SocketAddr>,
    /// When its first bytes were in hand.
    pub started: Moment,
}

/// Why an attempt failed: whose fault (the reason says), in which phase, and so whether it may be retried.
#[derive(Clone, Copy, Debug)]
pub struct Failure {
    /// What to tell the client.
    pub reason: Reason,
    /// Where it failed.
    pub phase: Phase,
    /// The answer has begun: there is nothing more to say to the client.
    pub begun: bool,
    /// And only a reset can tell the client that it is not whole.
    pub ambiguous: bool,
}

impl Failure {
    /// The client's own fault, or ours: no other server would do better.
    pub fn client(reason: Reason) -> Self {
        Failure { reason, phase: Phase::Late, begun: false, ambiguous: false }
    }

    /// The server's fault, too late to try another one.
    pub fn late(reason: Reason) -> Self {
        Failure::client(reason)
    }

    /// The server's fault, while the client was already reading the answer.
    pub fn begun(reason: Reason) -> Self {
        Failure { reason, phase: Phase::Late, begun: true, ambiguous: false }
    }
}

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

impl Hands {
    /// The hands of the worker with this number.
    pub fn new(plane: &Plane, number: usize) -> Self {
        Hands {
            number,
            count: 0,
            table: plane.table.cached(),
            dice: Dice::fresh(),
            candidates: Vec::new(),
            out: Vec::with_capacity(4096),
            reply: Vec::with_capacity(4096),
            answer: vec![0; BUFFER],
            relay: Vec::with_capacity(BUFFER),
            spill: Vec::new(),
            read_client: false,
            stream: Stream::default(),
            slots: Slots::new(),
            date: (Moment::START, String::new()),
        }
    }

    /// Where this worker counts.
    pub fn shard<'p>(&self, plane: &'p Plane) -> &'p Shard {
        plane.stats.shard(self.number)
    }

    /// The date for an answer, at most a second old.
    pub(super) fn date(&mut self, now: Moment) -> &str {
        if self.date.1.is_empty() || now.since(self.date.0).as_secs() >= 1 {
            let wall: SystemTime = time::wall();
            self.date = (now, httpdate::fmt_http_date(wall));
        }
        &self.date.1
    }

    /// Worker numbers are never given twice, so neither are these.
    pub(super) fn next_id(&mut self, plane: &Plane) -> RequestId {
        self.count += 1;
        RequestId::new(plane.process_id, ((self.number as u64) << 40) | self.count)
    }
}

/// Serves a request to its end, whatever that is.
pub fn serve(plane: &Arc<Plane>, hands: &mut Hands, request: &Request<'_>) -> Served {
    let id = hands.next_id(plane);
    hands.read_client = false;
    hands.stream.rest(request.started);
    hands.spill.clear();
    hands.out.clear();
    let mut upload = Upload::new(request.head, plane.config.limits.body);
    if request.head.max_forwards == Some(0) {
        return finish::last_hop(plane, hands, request, upload, id);
    }
    let outcome = prepare(plane, hands, request, &mut upload, id)
        .and_then(|()| attempts(plane, hands, request, &mut upload));
    finish::finish(plane, hands, request, &upload, outcome, id)
}

/// Refuses bytes that are no request.
pub fn refuse_unread(
    plane: &Arc<Plane>,
    hands: &mut Hands,
    connection: &Arc<Connection>,
    reason: Reason,
) -> Fate {
    let id = hands.next_id(plane);
    finish::refuse_unread(plane, hands, connection, reason, id)
}

/// The request as every server will get it: head, and what is here of the body.
fn prepare(
    plane: &Arc<Plane>,
    hands: &mut Hands,
    request: &Request<'_>,
    upload: &mut Upload,
    id: RequestId,
) -> Result<(), Failure> {
    let peer = request.peer.map(|peer| peer.ip().to_canonical());
    // An HTTP/1.0 client may name no host; then the request goes to a server under the server's own name.
    let nameless = request.head.host.is_empty();
    let first = hands.table.look(&plane.table).ready.first().filter(|_| nameless);
    let authority = first.map(|server| server.authority()).unwrap_or_default();
    let hop = Hop {
        peer,
        peer_trusted: peer.is_some_and(|peer| plane.config.listen.trusts(peer)),
        proto: "http",
        pseudonym: &plane.pseudonym,
        request_id: id,
        forwarded: plane.config.listen.forwarded,
        authority: &authority,
    };
    forward::request(request.head, &hop, &mut hands.out).map_err(Failure::client)?;
    upload.start(request.early, hands).map_err(Failure::client)
}

/// Server after server, until one answers or the rules say that it is enough.
fn attempts(
    plane: &Arc<Plane>,
    hands: &mut Hands,
    request: &Request<'_>,
    upload: &mut Upload,
) -> Result<Delivered, Failure> {
    let idempotent = retry::is_idempotent(request.head.method);
    let key = client_key(client_address(plane, request));
    plane.budget.earn(request.started);
    let mut tried = Tried::default();
    let mut failed = (0, 0, 0);
    let mut last = None;
    let mut again: Option<Lease> = None;
    loop {
        let need = match (&again, idempotent && upload.is_in_hand()) {
            (Some(_), _) => Need::New,
            (None, true) => Need::Any,
            (None, false) => Need::Alive,
        };
        let lease = again.take().or_else(|| choose::server(plane, hands, key, &mut tried, request.started));
        // With nobody left, the client hears why the last one failed.
        let Some(lease) = lease else { return Err(last.unwrap_or(Failure::client(Reason::NoServer))) };
        let failure = match attempt(plane, hands, request, upload, &lease, need) {
            Ok(Done::Delivered(delivered)) => return Ok(delivered),
            Ok(Done::Upgraded(link, last)) => {
                return tunnel::open(plane, hands, request, upload, lease, link, &last);
            }
            Err(failure) => failure,
        };
        match failure.phase {
            Phase::Connect => failed.0 += 1,
            Phase::Reuse => failed.1 += 1,
            Phase::Answer | Phase::Late => failed.2 += 1,
        }
        let now = time::now();
        let attempt = Attempt {
            phase: failure.phase,
            idempotent,
            body_in_hand: upload.is_in_hand(),
            sent: failure.phase != Phase::Connect,
            connects_failed: failed.0,
            reuses_failed: failed.1,
            others_failed: failed.2,
            timed_out: failure.reason == Reason::ServerTimeout,
        };
        let verdict = retry::may(&plane.config.retries, &attempt, &plane.budget, now);
        if verdict != Retry::SameServer {
            // A pooled connection may die under a request without anybody's fault; not so twice.
            finish::blame(plane, &lease, &failure);
        }
        match verdict {
            Retry::No => return Err(failure),
            Retry::SameServer => again = Some(lease),
            Retry::OtherServer => tried.add(lease.server().id),
        }
        last = Some(failure);
        hands.shard(plane).count(Counter::Retries);
    }
}

/// How an attempt succeeded.
enum Done {
    Delivered(Delivered),
    /// The server switched protocols.
    Upgraded(Link, Final),
}

/// One server: connect, send, hear the answer's head, relay the rest.
fn attempt(
    plane: &Arc<Plane>,
    hands: &mut Hands,
    request: &Request<'_>,
    upload: &mut Upload,
    lease: &Lease,
    need: Need,
) -> Result<Done, Failure> {
    let connect_failed = |error: io::Error| {
        log::debug!("{}: {} cannot be reached: {error}", plane.name, lease.server().name);
        if limits::is_exhausted(&error) {
            // Our own shortage: no server is to blame, and none would do better.
            return Failure::client(Reason::Overloaded);
        }
        Failure { reason: Reason::ConnectFailed, phase: Phase::Connect, begun: false, ambiguous: false }
    };
    let link = dial::link(plane, lease.server(), need, request.started).map_err(connect_failed)?;
    dial::count(hands.shard(plane), &link);
    upload.begins_again();
    let asked_at = if link.reused { request.started } else { time::now() };
    let limit = plane.config.timeouts.response;
    if let Err(error) = socket::send_all(&link.socket, &mut [IoSlice::new(&hands.out)], limit) {
        if error.kind() == io::ErrorKind::TimedOut {
            return Err(Failure::late(Reason::ServerTimeout));
        }
        // It closed; what it said before that may still be read.
        upload.breaks();
    }
    let heard = hear(plane, hands, request, upload, lease, &link, asked_at);
    let last = heard.map_err(|failure| repeatable(failure, &link))?;
    if last.status == 101 {
        return Ok(Done::Upgraded(link, last));
    }
    relay::answer(plane, hands, request, upload, link, last, lease).map(Done::Delivered)
}

/// A pooled connection that died before a byte of the answer: the race of reuse, not the server's fault.
fn repeatable(failure: Failure, link: &Link) -> Failure {
    let race = failure.phase == Phase::Answer && failure.reason == Reason::ServerReset && link.reused;
    let phase = if race { Phase::Reuse } else { failure.phase };
    Failure { phase, ..failure }
}

/// Sends the rest of the body and hears answers until the final one; interim ones go on to the client.
fn hear(
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
                lease.server().answered(last.at.since(asked_at), last.at);
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
    let parsed = head::response(&answer[span.clone()], asked, &plane.config.limits.head, slots);
    let head = match parsed.map_err(|_| Failure::late(Reason::BadAnswer))? {
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
fn pass_on(plane: &Arc<Plane>, hands: &Hands, request: &Request<'_>) -> Result<(), Failure> {
    let limit = plane.config.timeouts.client_body;
    socket::send_all(&request.connection.socket, &mut [IoSlice::new(&hands.reply)], limit)
        .map_err(|_| Failure::client(Reason::ClientGone))
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
        return Err(Failure::late(Reason::BadAnswer));
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
    let Hands { answer, stream, .. } = hands;
    let mut got = link.socket.recv_slice(&mut answer[at..]);
    loop {
        match got {
            Ok(count) => return Ok(count),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) if at == 0 => return Err(RESET),
            Err(_) => return Err(CUT),
        }
        let client = (&request.connection.socket, Want::Gone);
        match stream.wait(plane, (&link.socket, Want::Read), client, plane.config.timeouts.response) {
            Ok([server, client]) if client.gone && !server.read => {
                return Err(Failure::client(Reason::ClientGone));
            }
            Ok(_) => got = link.socket.recv_now(&mut answer[at..]),
            Err(_) => return Err(Failure::late(Reason::ServerTimeout)),
        }
    }
}

/// Who the client is: the peer, or whom a trusted proxy names.
fn client_address(plane: &Plane, request: &Request<'_>) -> Option<IpAddr> {
    let peer = request.peer.map(|peer| peer.ip().to_canonical());
    client::client_address(request.head, peer, |address| plane.config.listen.trusts(address))
}

/// Keeps a client on its server with `ip_hash`. A client without an address (a Unix socket) is one client.
fn client_key(peer: Option<IpAddr>) -> u64 {
    match peer.map(|peer| peer.to_canonical()) {
        Some(IpAddr::V4(peer)) => stable_hash(&peer.octets()),
        Some(IpAddr::V6(peer)) => stable_hash(&peer.octets()),
        None => 0,
    }
}
