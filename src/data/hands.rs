//! What a worker has in its hands: the buffers that live as long as it does, the request, and the ways in which
//! an attempt can fail.

use super::Plane;
use super::ahead::Ahead;
use super::park::Connection;
use super::socket::{self, Socket, Then, Want};
use super::splice::Pipe;
use super::stream::Stream;
use crate::base::dice::Dice;
use crate::base::ids::{RequestId, Share};
use crate::base::time::{self, Moment};
use crate::http1::head::{RequestHead, Slots};
use crate::http1::reason::Reason;
use crate::policy::pick::Candidate;
use crate::policy::retry::Phase;
use crate::state::server::Server;
use crate::state::stats::{Outcome, Shard};
use crate::state::table::Cached;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// A worker's buffer for answers, and for bodies on their way.
pub const BUFFER: usize = 64 * 1024;
/// What a worker works with; lives as long as the worker.
#[derive(Debug)]
pub struct Hands {
    number: usize,
    ids: Share,
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
    /// For long bodies; made when the first one comes.
    pub(super) pipe: Option<Pipe>,
    /// Bytes of the client behind the body.
    pub(super) spill: Vec<u8>,
    /// The client's socket was read while serving.
    pub(super) read_client: bool,
    pub(super) stream: Stream,
    /// For how long the answer was waited for while the request was away: the next receive does not wait for it
    /// from the beginning.
    pub(super) awaited: Option<Duration>,
    pub(super) ahead: Ahead,
    pub(super) slots: Slots,
    /// When it was written, and the date.
    pub(super) date: (Moment, String),
    pub(super) told: Told,
}

/// What was sent to the client for the request in hand: for the counters and the access log.
#[derive(Debug, Default)]
pub struct Told {
    /// The server that it was sent to last; not kept without an access log.
    pub server: Option<Arc<Server>>,
    /// The status of the response that has begun; 0 if none has.
    pub status: u16,
    /// Bytes that were sent, interim responses included.
    pub bytes: u64,
}

impl Hands {
    /// The hands of the worker with this number.
    pub fn new(plane: &Plane, number: usize) -> Self {
        Hands {
            number,
            ids: Share::default(),
            table: plane.table.cached(),
            dice: Dice::fresh(),
            candidates: Vec::new(),
            out: Vec::with_capacity(4096),
            reply: Vec::with_capacity(4096),
            answer: vec![0; BUFFER.max(plane.config.limits.head.of_responses().head)],
            relay: Vec::with_capacity(BUFFER),
            pipe: None,
            spill: Vec::new(),
            read_client: false,
            stream: Stream::default(),
            awaited: None,
            ahead: Ahead::default(),
            slots: Slots::new(),
            date: (Moment::START, String::new()),
            told: Told::default(),
        }
    }

    /// Where this worker counts.
    pub fn shard<'p>(&self, plane: &'p Plane) -> &'p Shard {
        plane.stats.shard(self.number)
    }

    pub(super) fn begin(&mut self, now: Moment) {
        self.read_client = false;
        self.told = Told::default();
        self.stream.rest(now);
        self.awaited = None;
        self.spill.clear();
        self.out.clear();
    }

    /// Sends what is in `reply`, a short message of our own, to a client. One that takes nothing keeps nobody else
    /// waiting: it is waited for as one that reads a body slowly.
    pub(super) fn tell(&mut self, plane: &Plane, client: &Socket, then: Then) -> io::Result<()> {
        let Hands { reply, stream, ahead, .. } = self;
        let limit = plane.config.timeouts.client_body;
        let mut room = |_| {
            ahead.disperse(plane);
            stream.begin(plane, time::now());
            stream.wait_for_client(plane, (client, Want::Write), (client, Want::Nothing), limit).map(drop)
        };
        let sent = socket::send_all_with(client, &mut [IoSlice::new(reply)], then, &mut room);
        stream.pause();
        sent
    }

    /// An empty pipe. None when there is no descriptor for one: then bodies are copied.
    pub(super) fn pipe(&mut self) -> Option<Pipe> {
        self.pipe.take().or_else(|| Pipe::new().ok())
    }

    /// The date for an answer, at most a second old.
    pub(super) fn date(&mut self, now: Moment) -> &str {
        if self.date.1.is_empty() || now.since(self.date.0).as_secs() >= 1 {
            self.date = (now, time::http_date());
        }
        &self.date.1
    }

    pub(super) fn next_id(&mut self, plane: &Plane) -> RequestId {
        plane.ids.next(&mut self.ids)
    }

    /// Counts the request in hand: what was sent for it, and why it failed if it did.
    pub(super) fn ends(&self, plane: &Plane, reason: Option<Reason>) {
        let status = Some(self.told.status).filter(|status| *status > 0);
        self.shard(plane).ends(Outcome { status, bytes: self.told.bytes, reason });
    }
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

/// Bytes that are no request.
#[derive(Debug)]
pub struct Unread<'r> {
    /// Who sent them.
    pub connection: &'r Arc<Connection>,
    /// The sender's address, as with [`Request::peer`].
    pub peer: Option<SocketAddr>,
    /// When they were in hand.
    pub started: Moment,
    /// What is wrong with them.
    pub reason: Reason,
    /// The bytes.
    pub bytes: &'r [u8],
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
