//! The HTTP front of tiny_http: accepts connections, reads and checks requests, and passes on only complete, accepted
//! ones.
//!
//! tiny_http has no time limits, no limits on connections, threads, headers or bodies, and stops accepting at the first
//! error. So it listens on a socket that nothing outside this process can reach ([`Private`]), and one thread here owns
//! every client connection: it reads heads with the strict codec, asks the [`Service`] to check each before its body is
//! read, reads bodies within limits of size, time and number, passes the whole request to tiny_http on a separate
//! connection, and writes the response back. No client holds a thread. When all connections are in use, a new one
//! replaces the one that has been waiting for its client the longest.

mod backend;
mod connection;
mod forward;
mod private;
mod response;
mod service;
mod transfer;

pub use forward::{BODY_LENGTH, PREFIX};
pub use private::Private;
pub use response::Response;
pub use service::{Limits, Service, Stopper};

use crate::base::time::{self, Moment};
use backend::Backend;
use connection::{Connection, Next};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with};
use slab::Slab;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Token of the waker; the listeners have those from 0, connections those from [`FIRST`].
const WAKER: Token = Token(FIRST - 1);
/// The first token of a connection: an even number for its client, the odd one after it for tiny_http's side.
const FIRST: usize = 16;
/// Events taken from the poller at once.
const EVENTS: usize = 256;
/// Connections accepted on one listener before the others are checked again.
const BURST: usize = 64;
/// Interval of deadline checks while there are connections; deadlines have this precision.
const TICK: Duration = Duration::from_millis(100);
/// Interval of checks of the listeners and of tiny_http.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// How long accepting pauses when descriptors or memory have run out.
const PAUSE: Duration = Duration::from_millis(50);
/// Interval of log messages while that lasts.
const LOG_INTERVAL: Duration = Duration::from_secs(10);
/// After this time a connection to tiny_http is followed by an empty one, see [`Backend::connect_empty`].
const EMPTY_CONNECTION_AFTER: Duration = Duration::from_millis(20);
/// The most response bytes that clients have not read yet, over all connections; beyond, the client that has waited
/// longest is closed.
const UNREAD_MAX: usize = 64 << 20;

/// One listener and the connections that came through it.
#[derive(Debug)]
struct Door {
    listener: OwnedFd,
    open: usize,
    /// There may be more to accept, without a further event.
    more: bool,
}

/// The front, listening. [`Front::run`] serves.
pub struct Front {
    name: &'static str,
    service: Arc<dyn Service>,
    limits: Limits,
    poll: Poll,
    doors: Vec<Door>,
    connections: Slab<Connection>,
    /// Keys of connections whose request waits for tiny_http.
    waiting: VecDeque<usize>,
    /// Keys of connections that can continue at once.
    again: Vec<usize>,
    in_flight: usize,
    backend: Backend,
    /// When tiny_http gets an empty connection.
    empty_connection_at: Moment,
    paced_until: Moment,
    reported_at: Option<Moment>,
    next_look: Moment,
    scratch: Vec<u8>,
    stop_by: Arc<AtomicU64>,
    waker: Arc<Waker>,
}

/// Creates a front for these listening sockets (non-blocking from here on). `folder` is where the private socket is
/// created.
pub fn open(
    name: &'static str,
    service: Arc<dyn Service>,
    limits: Limits,
    listeners: Vec<OwnedFd>,
    folder: &Path,
) -> io::Result<Front> {
    let poll = Poll::new()?;
    let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
    let doors = listeners.into_iter().enumerate();
    let doors = doors.map(|(at, listener)| door(&poll, at, listener)).collect::<io::Result<Vec<_>>>()?;
    let backend = Backend::open(name, Arc::clone(&service), limits.helpers, Private::open(folder)?);
    Ok(Front {
        name,
        service,
        limits,
        poll,
        doors,
        connections: Slab::new(),
        waiting: VecDeque::new(),
        again: Vec::new(),
        in_flight: 0,
        backend,
        empty_connection_at: Moment::NEVER,
        paced_until: Moment::START,
        reported_at: None,
        next_look: Moment::START,
        scratch: vec![0; 64 * 1024],
        stop_by: Arc::new(AtomicU64::new(Moment::NEVER.as_nanos())),
        waker,
    })
}

fn door(poll: &Poll, at: usize, listener: OwnedFd) -> io::Result<Door> {
    rustix::io::ioctl_fionbio(&listener, true)?;
    poll.registry().register(&mut SourceFd(&listener.as_raw_fd()), Token(at), Interest::READABLE)?;
    Ok(Door { listener, open: 0, more: true })
}

impl Front {
    /// The handle that ends [`Front::run`].
    pub fn stopper(&self) -> Stopper {
        Stopper { stop_by: Arc::clone(&self.stop_by), waker: Arc::clone(&self.waker) }
    }

    /// Serves until it is stopped.
    pub fn run(mut self) {
        let mut events = Events::with_capacity(EVENTS);
        while !self.is_over() {
            match self.poll.poll(&mut events, Some(self.until_next_due())) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    log::error!("{}: the poller failed: {error}; pausing for {PAUSE:?}", self.name);
                    let _ = crossbeam_channel::after(PAUSE).recv();
                    continue;
                }
            }
            self.turn(&events, time::now());
        }
        self.backend.end();
    }

    fn turn(&mut self, events: &Events, now: Moment) {
        for key in std::mem::take(&mut self.again) {
            self.advance(key, now);
        }
        for event in events {
            match event.token() {
                WAKER => {}
                Token(at) if at < FIRST => {
                    self.doors.get_mut(at).into_iter().for_each(|door| door.more = true)
                }
                Token(token) => self.advance((token - FIRST) / 2, now),
            }
        }
        self.accept(now);
        self.hand_over(now);
        self.look(now);
    }

    fn is_stopping(&self) -> bool {
        self.stop_by.load(Ordering::Acquire) != Moment::NEVER.as_nanos()
    }

    fn is_over(&self) -> bool {
        let deadline = Moment::from_nanos(self.stop_by.load(Ordering::Acquire));
        self.is_stopping() && (self.connections.is_empty() || time::now() >= deadline)
    }

    /// The time until something is due without an event.
    fn until_next_due(&self) -> Duration {
        let now = time::now();
        let may_accept = now >= self.paced_until && self.doors.iter().any(|door| door.more);
        if may_accept || !self.again.is_empty() {
            return Duration::ZERO;
        }
        let tick = if self.connections.is_empty() { CHECK_INTERVAL } else { TICK };
        self.empty_connection_at.since(now).min(tick)
    }

    fn accept(&mut self, now: Moment) {
        if self.is_stopping() {
            return self.leave_doors(now);
        }
        for at in 0..self.doors.len() {
            for _ in 0..BURST {
                let door = &mut self.doors[at];
                if !door.more || now < self.paced_until {
                    break;
                }
                match accept_with(&door.listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
                    Ok(client) => self.admit(client, at, now),
                    Err(Errno::AGAIN) => door.more = false,
                    Err(errno @ (Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)) => {
                        self.survive(errno, now);
                    }
                    // The connection failed before it was accepted, or a signal arrived: the next one may succeed.
                    Err(Errno::CONNABORTED | Errno::INTR | Errno::PROTO | Errno::PERM) => {}
                    Err(errno) => {
                        log::error!("{}: cannot accept ({errno}); trying again", self.name);
                        self.paced_until = now.after(CHECK_INTERVAL);
                    }
                }
            }
        }
    }

    /// Descriptors or memory have run out: an idle connection is closed to free its descriptor.
    fn survive(&mut self, errno: Errno, now: Moment) {
        if self.reported_at.is_none_or(|told| now.since(told) >= LOG_INTERVAL) {
            self.reported_at = Some(now);
            log::warn!("{}: cannot accept ({errno}); closing idle connections", self.name);
        }
        if !self.evict(None) {
            self.paced_until = now.after(PAUSE);
        }
    }

    /// A new connection. Its first bytes have most likely arrived: they are read before it can be evicted.
    fn admit(&mut self, client: OwnedFd, at: usize, now: Moment) {
        if self.doors[at].open >= self.limits.connections && !self.evict(Some(at)) {
            return; // Every connection has a request that is being served.
        }
        let entry = self.connections.vacant_entry();
        let key = entry.key();
        let token = Token(FIRST + 2 * key);
        let both = Interest::READABLE | Interest::WRITABLE;
        if self.poll.registry().register(&mut SourceFd(&client.as_raw_fd()), token, both).is_err() {
            return;
        }
        entry.insert(Connection::new(client, at, now.after(self.limits.head), now));
        self.doors[at].open += 1;
        self.advance(key, now);
    }

    /// Closes the connection with the lowest rank, of one listener or of all; false when each has a request that is
    /// being served.
    fn evict(&mut self, door: Option<usize>) -> bool {
        let here = |connection: &Connection| door.is_none_or(|door| connection.door == door);
        let all = self.connections.iter().filter(|(_, connection)| here(connection));
        let ranked = all.filter_map(|(key, connection)| Some((connection.rank()?, connection.since, key)));
        match ranked.min() {
            Some((_, _, key)) => self.close(key),
            None => return false,
        }
        true
    }

    fn close(&mut self, key: usize) {
        let Some(connection) = self.connections.try_remove(key) else { return };
        self.doors[connection.door].open -= 1;
        self.in_flight -= usize::from(connection.is_in_flight());
        self.waiting.retain(|waiting| *waiting != key);
    }

    fn advance(&mut self, key: usize, now: Moment) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let (was_reading, was_in_flight) = (connection.is_reading_body(), connection.is_in_flight());
        let front = connection::Front {
            service: &*self.service,
            limits: &self.limits,
            is_stopping: self.stop_by.load(Ordering::Acquire) != Moment::NEVER.as_nanos(),
            now,
        };
        let next = connection.advance(&front, &mut self.scratch);
        let (starts_body, door) = (!was_reading && connection.is_reading_body(), connection.door);
        self.in_flight -= usize::from(was_in_flight && !connection.is_in_flight());
        match next {
            Next::Wait => {}
            Next::Again => self.again.push(key),
            Next::HandOver => self.waiting.push_back(key),
            Next::Close => return self.close(key),
        }
        if starts_body {
            self.bound_bodies(door, now);
        }
        // One that ends the oldest body may have ended its own.
        if was_in_flight && self.connections.get(key).is_none_or(|connection| !connection.is_in_flight()) {
            self.backend.responded();
            self.bound_unread();
        }
    }

    /// Too many bodies are being read on one listener: the oldest is ended.
    fn bound_bodies(&mut self, door: usize, now: Moment) {
        let reads = |connection: &Connection| connection.door == door && connection.is_reading_body();
        let bodies = || self.connections.iter().filter(|(_, connection)| reads(connection));
        if bodies().count() > self.limits.bodies {
            let oldest = bodies().min_by_key(|(_, connection)| connection.since).map(|(key, _)| key);
            oldest.into_iter().for_each(|key| self.overdue(key, now));
        }
    }

    /// Closes the clients that have waited longest to read their responses, when these are too large in total.
    fn bound_unread(&mut self) {
        while self.connections.iter().map(|(_, connection)| connection.unread()).sum::<usize>() > UNREAD_MAX {
            let writing = self.connections.iter().filter(|(_, connection)| connection.unread() > 0);
            let Some((_, key)) = writing.map(|(key, connection)| (connection.since, key)).min() else {
                return;
            };
            self.close(key);
        }
    }

    /// Passes requests to tiny_http in their order, as many at once as allowed.
    fn hand_over(&mut self, now: Moment) {
        while self.in_flight < self.limits.in_flight {
            let Some(key) = self.waiting.front().copied() else { return };
            let behind = match self.backend.connect() {
                Ok(behind) => behind,
                // Its backlog is full, or descriptors have run out: the next tick tries again, until the deadline.
                Err(error) => return log::debug!("{}: no connection to the service yet: {error}", self.name),
            };
            self.waiting.pop_front();
            let token = Token(FIRST + 2 * key + 1);
            let both = Interest::READABLE | Interest::WRITABLE;
            let watched = self.poll.registry().register(&mut SourceFd(&behind.as_raw_fd()), token, both);
            if watched.is_err() {
                self.close(key);
                continue;
            }
            if let Some(connection) = self.connections.get_mut(key) {
                connection.hand_over(behind, now.after(self.limits.response), now);
                self.in_flight += usize::from(connection.is_in_flight());
            }
            self.empty_connection_at = self.empty_connection_at.min(now.after(EMPTY_CONNECTION_AFTER));
            self.advance(key, now);
        }
    }

    /// Checks the deadlines, and about once a second the listeners and tiny_http.
    fn look(&mut self, now: Moment) {
        if now >= self.empty_connection_at {
            self.backend.connect_empty();
            // Each one frees at most one connection.
            self.empty_connection_at =
                if self.in_flight > 0 { now.after(EMPTY_CONNECTION_AFTER) } else { Moment::NEVER };
        }
        let due = self.connections.iter().filter(|(_, connection)| connection.deadline <= now);
        for key in due.map(|(key, _)| key).collect::<Vec<_>>() {
            self.overdue(key, now);
        }
        if now < self.next_look || self.is_stopping() {
            return;
        }
        self.next_look = now.after(CHECK_INTERVAL);
        self.backend.look();
        if let Some(listener) = self.service.renew() {
            match door(&self.poll, 0, listener) {
                Ok(door) => self.doors[0] = Door { open: self.doors[0].open, ..door },
                Err(error) => log::error!("{}: the new listener cannot be watched: {error}", self.name),
            }
        }
    }

    fn overdue(&mut self, key: usize, now: Moment) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let was_in_flight = connection.is_in_flight();
        let has_response = connection.overdue(&*self.service, now.after(self.limits.write), now);
        self.in_flight -= usize::from(was_in_flight && !connection.is_in_flight());
        self.waiting.retain(|waiting| *waiting != key);
        match has_response {
            true => self.advance(key, now),
            false => self.close(key),
        }
    }

    /// Accepts no more connections; those that wait for a request are closed.
    fn leave_doors(&mut self, now: Moment) {
        for door in &mut self.doors {
            door.more = false;
            // Unlike closing our descriptor, this also affects duplicates, and refuses connections at once.
            let _ = rustix::net::shutdown(&door.listener, rustix::net::Shutdown::Both);
        }
        let idle = self.connections.iter().filter(|(_, connection)| connection.is_idle(now));
        for key in idle.map(|(key, _)| key).collect::<Vec<_>>() {
            self.close(key);
        }
    }
}

#[cfg(test)]
mod tests;
