//! Layer 2: what a worker lends to the exchange that it advances: the time, chance, a snapshot of the table, its server
//! connections, its poller, and buffers whose content does not outlive the call.

use super::buffers::{BODY_BYTES, Buffers, SMALL_BODY_BYTES};
use super::mailbox::Mailbox;
use super::poller::Poller;
use super::server_pool::ServerPool;
use super::shared::Shared;
use super::socket::Socket;
use super::splice::Pipes;
use super::transport::Transport;
use crate::base::ids::{ListenerId, RequestId, Share};
use crate::base::limits::Descriptors;
use crate::base::random::Random;
use crate::base::time::{self, Moment};
use crate::http1::head::{Limits, Slots};
use crate::policy::pick::Candidate;
use crate::state::live::Live;
use crate::state::stats::Shard;
use crate::state::table::{Cached, View};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Events that were taken in so short a time ago tell all that a look at a pooled connection would: what they miss came so
/// late that it could as well have come behind the look, while the request was on its way to the server. A turn of a worker
/// ends when its events are older.
pub const EVENTS_FRESH: Duration = Duration::from_micros(100);

/// A worker's context.
#[derive(Debug)]
pub struct Context {
    /// What all threads share.
    pub shared: Arc<Shared>,
    /// The time of this turn. Nothing below the worker reads a clock.
    pub now: Moment,
    /// When the poller's events were taken in last.
    pub polled_at: Moment,
    /// Chance.
    pub random: Random,
    /// Scratch for choosing a server.
    pub candidates: Vec<Candidate>,
    /// Connections to servers.
    pub servers: ServerPool,
    /// Where sockets are registered.
    pub poller: Poller,
    /// Buffers for what outlives the call.
    pub buffers: Buffers,
    /// Where this worker is notified that a server has room.
    pub mailbox: Arc<Mailbox>,
    /// How connections to servers are made.
    pub network: Network,
    /// Scratch: what clients send, as long as a head and a little more.
    pub input: Vec<u8>,
    /// Scratch for the bytes of a request or a response.
    pub scratch: Scratch,
    /// When it was written, and the date.
    pub date: (Moment, String),
    /// The table, as this worker knows it.
    pub table: Cached,
    number: usize,
    /// Numbers for requests.
    ids: Share,
}

/// How connections to servers are made.
#[derive(Debug)]
pub enum Network {
    /// By the operating system, with these descriptors.
    Sockets(Descriptors),
    /// Within a simulation.
    #[cfg(test)]
    Simulated(super::simulation::Net),
}

impl Network {
    /// Begins to connect to a TCP address, or to a Unix socket. `WouldBlock` where only a later try can tell.
    pub fn connect(&mut self, to: Target<'_>) -> io::Result<Transport> {
        let descriptors = match self {
            Network::Sockets(descriptors) => *descriptors,
            #[cfg(test)]
            Network::Simulated(net) => return net.connect(to),
        };
        let socket = match to {
            Target::Tcp(address, source) => Socket::connect_from(source, &address)?,
            Target::Unix(path) => Socket::connect_unix(path)?,
        };
        descriptors.check(socket.raw())?;
        Ok(Transport::Plain(socket))
    }
}

/// Where a connection is to lead.
#[derive(Clone, Copy, Debug)]
pub enum Target<'a> {
    /// A TCP address, from an address of this machine if it is not the system's choice.
    Tcp(SocketAddr, Option<IpAddr>),
    /// A Unix socket.
    Unix(&'a Path),
}

/// What the bytes of a request or a response pass through; nothing in it outlives the call.
#[derive(Debug)]
pub struct Scratch {
    /// Bytes of bodies and of responses' heads; as long as the longest head of a response.
    pub body: Vec<u8>,
    /// A head that goes to a client.
    pub reply: Vec<u8>,
    /// Room for a head's fields.
    pub slots: Slots,
    /// For long bodies.
    pub pipes: Pipes,
}

impl Scratch {
    /// For bodies, and heads of responses, in pieces of so many bytes; pipes take these descriptors.
    pub fn new(body_bytes: usize, descriptors: Descriptors) -> Self {
        Scratch {
            body: vec![0; body_bytes],
            reply: Vec::new(),
            slots: Slots::new(),
            pipes: Pipes::new(descriptors),
        }
    }
}

/// The longest head of a response fits.
fn body_bytes(limits: &Limits) -> usize {
    limits.head.max(BODY_BYTES)
}

impl Context {
    /// The context of the worker with this number.
    pub fn new(shared: &Arc<Shared>, number: usize, poller: Poller) -> Self {
        let table = shared.table.cached();
        let limits = &table.view().live.config.limits.head;
        Context {
            now: time::now(),
            polled_at: Moment::START,
            random: Random::fresh(),
            candidates: Vec::new(),
            servers: ServerPool::default(),
            buffers: Buffers::default(),
            mailbox: Arc::new(Mailbox::new(poller.waker())),
            poller,
            network: Network::Sockets(shared.descriptors),
            input: vec![0; limits.head + SMALL_BODY_BYTES],
            scratch: Scratch::new(body_bytes(&limits.of_responses()), shared.descriptors),
            number,
            ids: Share::default(),
            date: (Moment::START, String::new()),
            table,
            shared: Arc::clone(shared),
        }
    }

    /// After a panic: scratch that was in use has its size again.
    pub fn repair(&mut self) {
        (self.input, self.scratch.body) = (Vec::new(), Vec::new());
        self.fit_buffers();
        self.scratch.reply.clear();
    }

    /// Looks whether the table has changed. Not called while a buffer is taken out, because a new configuration may need
    /// longer ones.
    pub fn refresh(&mut self) -> &View {
        let before = Arc::as_ptr(&self.table.view().live);
        if Arc::as_ptr(&self.table.look(&self.shared.table).live) != before {
            self.fit_buffers();
        }
        self.table.view()
    }

    /// The table as of the last [`Context::refresh`].
    pub fn view(&self) -> &View {
        self.table.view()
    }

    /// The configuration as of the last [`Context::refresh`].
    pub fn live(&self) -> &Live {
        &self.table.view().live
    }

    /// Whether connections of this listener may stay open for another request: it is not closed, and nothing drains.
    pub fn keeps_connections(&self, listener: ListenerId) -> bool {
        !self.shared.is_draining() && self.live().listener(listener).is_some()
    }

    /// Whether client connections run short.
    pub fn is_near_limit(&self) -> bool {
        self.shared.is_near_limit(self.live().connections_max)
    }

    /// They never become shorter: exchanges that began under larger limits may need them.
    fn fit_buffers(&mut self) {
        let limits = self.table.view().live.config.limits.head;
        let (input, body) = (limits.head + SMALL_BODY_BYTES, body_bytes(&limits.of_responses()));
        self.input.resize(input.max(self.input.len()), 0);
        self.scratch.body.resize(body.max(self.scratch.body.len()), 0);
    }

    /// An id that no other request of this process has, and by chance none of another.
    pub fn next_id(&mut self) -> RequestId {
        self.shared.ids.next(&mut self.ids)
    }

    /// The number of the worker.
    pub fn number(&self) -> usize {
        self.number
    }

    /// Where this worker counts.
    pub fn shard(&self) -> &Shard {
        self.shared.stats.shard(self.number)
    }

    /// The date for a response, at most a second old.
    pub fn refresh_date(&mut self) {
        if self.date.1.is_empty() || self.now.since(self.date.0).as_secs() >= 1 {
            self.date = (self.now, time::http_date());
        }
    }
}
