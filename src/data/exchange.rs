//! Step 7: exchanged. The request goes to a server, the head of its answer comes in; what fails before that
//! is tried again where the rules allow (law 8).

use super::Plane;
use super::ahead::Sent;
use super::choose::{self, Tried};
use super::dial::{self, Link, Need};
use super::finish::{self, Fate, Served};
use super::hands::{Failure, Hands, Request, Unread};
use super::hear::{self, Final};
use super::onward::Onward;
use super::relay::{self, Delivered};
use super::socket::{self, Then, Want};
use super::tunnel;
use super::upload::Upload;
use crate::base::ids::RequestId;
use crate::base::limits;
use crate::base::time::{self, Moment};
use crate::http1::client;
use crate::http1::forward::{self, Hop};
use crate::http1::reason::Reason;
use crate::policy::retry::{self, Attempt, Phase, Retry};
use crate::state::server::{Lease, stable_hash};
use crate::state::stats::Counter;
use std::io::{self, IoSlice};
use std::net::IpAddr;
use std::sync::Arc;

/// What became of a request for now.
pub enum Exchanged {
    /// It came to its end.
    Served(Served),
    /// It is out, and the worker may go on.
    Out(Sent),
}

/// Serves a request to its end, or until it is out where the worker goes on then.
pub fn serve(plane: &Arc<Plane>, hands: &mut Hands, request: &Request<'_>, onward: Onward) -> Exchanged {
    let id = hands.next_id(plane);
    hands.begin(request.started);
    let mut upload = Upload::new(request.head, plane.config.limits.body);
    if request.head.max_forwards == Some(0) {
        return Exchanged::Served(finish::last_hop(plane, hands, request, upload, id));
    }
    let outcome = prepare(plane, hands, request, &mut upload, id).and_then(|()| {
        plane.budget.earn(request.started);
        // What has more to send, or may become a tunnel, is not let out of sight.
        let is_whole = upload.is_done() && !request.head.upgrade;
        attempts(plane, hands, request, &mut upload, if is_whole { onward } else { Onward::Wait })
    });
    let outcome = match outcome {
        Ok(Done::Out(lease, link)) => {
            let out = std::mem::replace(&mut hands.out, hands.ahead.spare());
            return Exchanged::Out(Sent { lease, link, id, out, away_since: None });
        }
        Ok(Done::Delivered(delivered)) => Ok(delivered),
        Err(failure) => Err(failure),
    };
    Exchanged::Served(finish::finish(plane, hands, request, &upload, outcome, id))
}

/// Goes on with a request that is out, to its end.
pub fn resume(plane: &Arc<Plane>, hands: &mut Hands, request: &Request<'_>, sent: Sent) -> Served {
    let Sent { lease, link, id, out, away_since } = sent;
    hands.begin(request.started);
    hands.told.server = plane.access.as_ref().map(|_| Arc::clone(lease.server()));
    if let Some(since) = away_since {
        let awaited = time::now().since(since);
        hands.stream.was_away(awaited);
        hands.awaited = Some(awaited);
    }
    let mut upload = Upload::new(request.head, plane.config.limits.body);
    // It was whole, so this only finds again where the body ends.
    let outcome = upload.start(request.early, hands).map_err(Failure::client).and_then(|()| {
        let before = std::mem::replace(&mut hands.out, out);
        hands.ahead.keep(before);
        let first = conclude(plane, hands, request, &mut upload, &lease, link, request.started);
        after(plane, hands, request, &mut upload, Tries::default(), lease, first)
    });
    finish::finish(plane, hands, request, &upload, outcome, id)
}

/// Refuses bytes that are no request.
pub fn refuse_unread(plane: &Arc<Plane>, hands: &mut Hands, unread: &Unread<'_>) -> Fate {
    let id = hands.next_id(plane);
    finish::refuse_unread(plane, hands, unread, id)
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
    let peer_trusted = peer.is_some_and(|peer| plane.config.listen.trusts(peer));
    if request.head.secure && !peer_trusted {
        return Err(Failure::client(Reason::Misdirected));
    }
    // An HTTP/1.0 client may name no host; then the request goes to a server under the server's own name.
    let nameless = request.head.host.is_empty();
    let first = hands.table.look(&plane.table).ready.first().filter(|_| nameless);
    let authority = first.map(|server| server.authority()).unwrap_or_default();
    let hop = Hop {
        peer,
        peer_trusted,
        proto: "http",
        pseudonym: &plane.pseudonym,
        request_id: id,
        forwarded: plane.config.listen.forwarded,
        authority: &authority,
    };
    forward::request(request.head, &hop, &mut hands.out).map_err(Failure::client)?;
    upload.start(request.early, hands).map_err(Failure::client)
}

/// What was tried so far for one request.
#[derive(Default)]
struct Tries {
    servers: Tried,
    /// Attempts that failed: to connect, on a pooled connection, otherwise.
    failed: (u32, u32, u32),
    last: Option<Failure>,
    /// The next attempt goes to the server of the last, on a new connection.
    is_again: bool,
}

/// Server after server, until one answers or the rules say that it is enough. Only a first attempt leaves its answer
/// for later.
fn attempts(
    plane: &Arc<Plane>,
    hands: &mut Hands,
    request: &Request<'_>,
    upload: &mut Upload,
    onward: Onward,
) -> Result<Done, Failure> {
    let mut tries = Tries::default();
    let lease = choose(plane, hands, request, &mut tries)?;
    let first = attempt(plane, hands, request, upload, &lease, &tries, onward);
    if let Ok(Attempted::Out(link)) = first {
        return Ok(Done::Out(lease, link));
    }
    after(plane, hands, request, upload, tries, lease, first).map(Done::Delivered)
}

/// A lease on the server that the next attempt goes to. With nobody left, the client hears why the last one failed.
fn choose(
    plane: &Arc<Plane>,
    hands: &mut Hands,
    request: &Request<'_>,
    tries: &mut Tries,
) -> Result<Lease, Failure> {
    let key = client_key(client_address(plane, request));
    // An attempt before may have taken long.
    let now = if tries.last.is_some() { time::now() } else { request.started };
    let chosen = choose::server(plane, hands, key, &mut tries.servers, now);
    let lease = chosen.ok_or(tries.last.unwrap_or(Failure::client(Reason::NoServer)))?;
    if plane.access.is_some() {
        hands.told.server = Some(Arc::clone(lease.server()));
    }
    Ok(lease)
}

/// After an attempt on the server of this lease: it is over, or there is another.
fn after(
    plane: &Arc<Plane>,
    hands: &mut Hands,
    request: &Request<'_>,
    upload: &mut Upload,
    mut tries: Tries,
    mut lease: Lease,
    mut attempted: Result<Attempted, Failure>,
) -> Result<Delivered, Failure> {
    loop {
        let failure = match attempted {
            Ok(Attempted::Delivered(delivered)) => return Ok(delivered),
            Ok(Attempted::Upgraded(link, last)) => {
                return tunnel::open(plane, hands, request, upload, lease, link, &last);
            }
            // Only the first attempt may be left, and is not seen here then.
            Ok(Attempted::Out(_)) => return Err(Failure::client(Reason::Internal)),
            Err(failure) => failure,
        };
        // Others need not wait for what may take long now.
        hands.ahead.disperse(plane);
        let verdict = verdict(plane, request, upload, &mut tries, &failure);
        tries.is_again = verdict == Retry::SameServer;
        if !tries.is_again {
            // A pooled connection may die under a request without anybody's fault; not so twice.
            finish::blame(plane, &lease, &failure);
        }
        if verdict == Retry::No {
            return Err(failure);
        }
        tries.last = Some(failure);
        hands.shard(plane).count(Counter::Retries);
        if !tries.is_again {
            tries.servers.add(lease.server().id);
            drop(lease);
            lease = choose(plane, hands, request, &mut tries)?;
        }
        attempted = attempt(plane, hands, request, upload, &lease, &tries, Onward::Wait);
    }
}

/// Whether a failed attempt may be made again, and where.
fn verdict(
    plane: &Plane,
    request: &Request<'_>,
    upload: &Upload,
    tries: &mut Tries,
    failure: &Failure,
) -> Retry {
    match failure.phase {
        Phase::Connect => tries.failed.0 += 1,
        Phase::Reuse => tries.failed.1 += 1,
        Phase::Answer | Phase::Late => tries.failed.2 += 1,
    }
    let attempt = Attempt {
        phase: failure.phase,
        idempotent: retry::is_idempotent(request.head.method),
        body_in_hand: upload.is_in_hand(),
        sent: failure.phase != Phase::Connect,
        connects_failed: tries.failed.0,
        reuses_failed: tries.failed.1,
        others_failed: tries.failed.2,
        timed_out: failure.reason == Reason::ServerTimeout,
    };
    retry::may(&plane.config.retries, &attempt, &plane.budget, time::now())
}

/// How all attempts ended.
enum Done {
    Delivered(Delivered),
    /// The request is out, and the worker goes on.
    Out(Lease, Link),
}

/// How an attempt succeeded.
enum Attempted {
    Delivered(Delivered),
    /// The server switched protocols.
    Upgraded(Link, Final),
    /// The request is out, and the worker goes on.
    Out(Link),
}

/// One server: connect, send, hear the answer's head, relay the rest.
fn attempt(
    plane: &Arc<Plane>,
    hands: &mut Hands,
    request: &Request<'_>,
    upload: &mut Upload,
    lease: &Lease,
    tries: &Tries,
    onward: Onward,
) -> Result<Attempted, Failure> {
    let need = match (tries.is_again, retry::is_idempotent(request.head.method) && upload.is_in_hand()) {
        (true, _) => Need::New,
        (false, true) => Need::Any,
        (false, false) => Need::Alive,
    };
    let mut link = connect(plane, hands, lease, need, request.started)?;
    // Connecting may have taken so long that the worker left the crew: who is not counted leaves nothing to others.
    let onward = if hands.stream.has_left() { Onward::Wait } else { onward };
    dial::count(hands.shard(plane), &link);
    upload.begins_again();
    link.begins();
    let asked_at = if link.reused { request.started } else { time::now() };
    let Hands { out, ahead, .. } = hands;
    let limit = plane.config.timeouts.response;
    let mut room = |_| {
        ahead.disperse(plane);
        socket::wait(&link.socket, Want::Write, time::now().after(limit)).map(drop)
    };
    match socket::send_all_with(&link.socket, &mut [IoSlice::new(out)], Then::Open, &mut room) {
        Ok(()) if onward != Onward::Wait => {
            hands.shard(plane).count(Counter::SentAhead);
            return Ok(Attempted::Out(link));
        }
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::TimedOut => {
            return Err(Failure::late(Reason::ServerTimeout));
        }
        // It closed; what it said before that may still be read.
        Err(_) => upload.breaks(),
    }
    // This one is waited for, by nobody else: those that were sent ahead need not wait with it.
    hands.ahead.disperse(plane);
    link.unwatch();
    conclude(plane, hands, request, upload, lease, link, asked_at)
}

/// A connection to the server of this lease.
fn connect(
    plane: &Arc<Plane>,
    hands: &mut Hands,
    lease: &Lease,
    need: Need,
    now: Moment,
) -> Result<Link, Failure> {
    if let Some(link) = dial::pooled(plane, lease.server(), need, now) {
        return Ok(link);
    }
    // It may take long: others need not wait with it.
    hands.ahead.disperse_to_connect(plane);
    dial::link(plane, &mut hands.stream, lease.server()).map_err(|error| {
        log::debug!("{}: {} cannot be reached: {error}", plane.name, lease.server().name);
        if limits::is_exhausted(&error) {
            // Our own shortage: no server is to blame, and none would do better.
            return Failure::client(Reason::Overloaded);
        }
        Failure { reason: Reason::ConnectFailed, phase: Phase::Connect, begun: false, ambiguous: false }
    })
}

/// The request is out: hear the answer, relay it.
fn conclude(
    plane: &Arc<Plane>,
    hands: &mut Hands,
    request: &Request<'_>,
    upload: &mut Upload,
    lease: &Lease,
    link: Link,
    asked_at: Moment,
) -> Result<Attempted, Failure> {
    let heard = hear::hear(plane, hands, request, upload, lease, &link, asked_at);
    let last = heard.map_err(|failure| repeatable(failure, &link))?;
    if last.status == 101 {
        return Ok(Attempted::Upgraded(link, last));
    }
    relay::answer(plane, hands, request, upload, link, last, lease).map(Attempted::Delivered)
}

/// A pooled connection that died before a byte of the answer: the race of reuse, not the server's fault.
fn repeatable(failure: Failure, link: &Link) -> Failure {
    let race = failure.phase == Phase::Answer && failure.reason == Reason::ServerReset && link.reused;
    let phase = if race { Phase::Reuse } else { failure.phase };
    Failure { phase, ..failure }
}

/// Who the client is: the peer, or whom a trusted proxy names.
pub(super) fn client_address(plane: &Plane, request: &Request<'_>) -> Option<IpAddr> {
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
