//! Step 7: exchanged. The request goes to a server, the head of its answer comes in; what fails before that
//! is tried again where the rules allow (law 8).

use super::Plane;
use super::ahead::Sent;
use super::choose::{self, Tried};
use super::dial::{self, Link, Need};
use super::finish::{self, Fate, Served};
use super::hands::{Failure, Hands, Request, Unread};
use super::hear::{self, Final};
use super::relay::{self, Delivered};
use super::socket;
use super::tunnel;
use super::upload::Upload;
use crate::base::ids::RequestId;
use crate::base::limits;
use crate::base::time::{self, Moment};
use crate::http1::client;
use crate::http1::forward::{self, Hop};
use crate::http1::framing::Framing;
use crate::http1::reason::Reason;
use crate::policy::retry::{self, Attempt, Phase, Retry};
use crate::state::server::{Lease, stable_hash};
use crate::state::stats::Counter;
use std::io::{self, IoSlice};
use std::net::IpAddr;
use std::sync::Arc;

/// Serves a request to its end, whatever that is. One that was sent ahead goes on from there.
pub fn serve(plane: &Arc<Plane>, hands: &mut Hands, request: &Request<'_>, sent: Option<Sent>) -> Served {
    let id = sent.as_ref().map_or_else(|| hands.next_id(plane), |sent| sent.id);
    hands.begin(request.started);
    let mut upload = Upload::new(request.head, plane.config.limits.body);
    if request.head.max_forwards == Some(0) {
        return finish::last_hop(plane, hands, request, upload, id);
    }
    let outcome = match sent {
        Some(Sent { lease, link, out, .. }) => {
            let before = std::mem::replace(&mut hands.out, out);
            hands.ahead.keep(None, Some(before));
            attempts(plane, hands, request, &mut upload, Some((lease, link)))
        }
        None => prepare(plane, hands, request, &mut upload, id).and_then(|()| {
            // This one may have to connect, or to wait for its body: others need not wait with it.
            hands.ahead.disperse(plane);
            plane.budget.earn(request.started);
            attempts(plane, hands, request, &mut upload, None)
        }),
    };
    finish::finish(plane, hands, request, &upload, outcome, id)
}

/// Sends a request on its way without waiting for the answer, where that is safe: it is plain, and there is a
/// pooled connection that takes it whole. Otherwise nothing has happened that [`serve`] would not do anew.
pub fn send_ahead(plane: &Arc<Plane>, hands: &mut Hands, request: &Request<'_>) -> Option<Sent> {
    let head = request.head;
    let is_plain = head.framing == Framing::None && !head.upgrade && head.max_forwards.is_none();
    if !is_plain || !matches!(head.method, b"GET" | b"HEAD") {
        return None;
    }
    let id = hands.next_id(plane);
    hands.begin(request.started);
    prepare(plane, hands, request, &mut Upload::new(head, None), id).ok()?;
    let key = client_key(client_address(plane, request));
    let lease = choose::server(plane, hands, key, &mut Tried::default(), request.started)?;
    let link = dial::pooled(plane, lease.server(), Need::Any, request.started)?;
    if !matches!(link.socket.send_now(&hands.out), Ok(count) if count == hands.out.len()) {
        return None;
    }
    plane.budget.earn(request.started);
    dial::count(hands.shard(plane), &link);
    hands.shard(plane).count(Counter::SentAhead);
    let spare = hands.ahead.spare_out();
    Some(Sent { lease, link, id, out: std::mem::replace(&mut hands.out, spare) })
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

/// Server after server, until one answers or the rules say that it is enough.
fn attempts(
    plane: &Arc<Plane>,
    hands: &mut Hands,
    request: &Request<'_>,
    upload: &mut Upload,
    mut sent: Option<(Lease, Link)>,
) -> Result<Delivered, Failure> {
    let idempotent = retry::is_idempotent(request.head.method);
    let key = client_key(client_address(plane, request));
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
        let (lease, link) = match sent.take() {
            Some((lease, link)) => (Some(lease), Some(link)),
            None => {
                let choice = || choose::server(plane, hands, key, &mut tried, request.started);
                (again.take().or_else(choice), None)
            }
        };
        // With nobody left, the client hears why the last one failed.
        let Some(lease) = lease else { return Err(last.unwrap_or(Failure::client(Reason::NoServer))) };
        if plane.access.is_some() {
            hands.told.server = Some(Arc::clone(lease.server()));
        }
        let attempt = match link {
            Some(link) => conclude(plane, hands, request, upload, &lease, link, request.started),
            None => attempt(plane, hands, request, upload, &lease, need),
        };
        let failure = match attempt {
            Ok(Done::Delivered(delivered)) => return Ok(delivered),
            Ok(Done::Upgraded(link, last)) => {
                return tunnel::open(plane, hands, request, upload, lease, link, &last);
            }
            Err(failure) => failure,
        };
        // Others need not wait for what may take long now.
        hands.ahead.disperse(plane);
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
    conclude(plane, hands, request, upload, lease, link, asked_at)
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
) -> Result<Done, Failure> {
    let heard = hear::hear(plane, hands, request, upload, lease, &link, asked_at);
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
