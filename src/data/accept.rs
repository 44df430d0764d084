//! Layer 5: the accept thread. It waits for new connections and for bytes on parked ones, and passes both to the workers. It
//! never blocks on a client or on a full channel, does the same work for each connection however many are open, and survives
//! every accept error (invariant 2).

mod listeners;
mod parked;

use self::listeners::Open;
use self::parked::Parked;
use super::h1::Connection;
use super::listen::Listener;
use super::poller::Poller;
use super::shared::{ConnectionPermit, LOG_INTERVAL, Shared};
use super::socket::Socket;
use super::timers::TRY_AGAIN_INTERVAL;
use super::transport::Transport;
use super::worker_pool::{Message, TAKEN_AT_ONCE, WorkerPool};
use crate::base::ids::ListenerId;
use crate::base::sys;
use crate::base::time::{self, Moment};
use crate::http1::reason::Reason;
use crate::state::listener::OpenListener;
use crate::state::live::Live;
use crate::state::stats::{Counter, Outcome};
use crate::state::table::Cached;
use rustix::io::Errno;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

/// How long accepting pauses when descriptors or memory have run out: a connection that ends meanwhile makes room.
const SHORTAGE_PAUSE: Duration = Duration::from_millis(50);

/// The accept thread: its listeners, the connections that are parked, and those that wait for room in the channel.
#[derive(Debug)]
pub struct Acceptor {
    pool: Arc<WorkerPool>,
    poller: Poller,
    /// The configuration, as this thread knows it.
    table: Cached,
    listeners: BTreeMap<ListenerId, Open>,
    parked: Parked,
    /// Connections that found the channel full, and since when they wait.
    held_back: VecDeque<(Box<Connection>, Moment)>,
    /// When the files of Unix sockets are looked at.
    look_at_files: Moment,
    /// Until when nothing is accepted, because descriptors or memory have run out.
    paused_until: Moment,
    /// Events were taken in the middle of a turn: the next one begins without a sleep.
    looks_again: bool,
    /// When the log was last told of such a shortage.
    reported_at: Option<Moment>,
}

/// The generation of listeners, whose keys are their ids: no parked connection has it.
const LISTENER: u32 = 0;

impl Acceptor {
    /// The accept thread of these listeners. `poller` is the one whose waker the pool has.
    pub fn new(
        pool: Arc<WorkerPool>,
        poller: Poller,
        listeners: Vec<(Listener, Arc<OpenListener>)>,
    ) -> io::Result<Self> {
        let table = pool.shared.table.cached();
        let mut acceptor = Acceptor {
            pool,
            poller,
            table,
            listeners: BTreeMap::new(),
            parked: Parked::default(),
            held_back: VecDeque::new(),
            look_at_files: Moment::NEVER,
            paused_until: Moment::START,
            looks_again: false,
            reported_at: None,
        };
        listeners.into_iter().try_for_each(|(listener, known)| acceptor.open(listener, known))?;
        Ok(acceptor)
    }

    /// Runs until the proxy drains and the last connection has left, or the time for that is over.
    pub fn run(mut self) {
        // Each new connection would preempt a worker or a client otherwise: 26 to 35 us of processor time for a request with a
        // connection of its own, where it is 18 to 22 like this (docs/experiments.md).
        if !sys::schedule_as_batch() {
            log::debug!("{}: the accept thread is scheduled like any other", self.shared().name);
        }
        while !self.is_over() {
            let limit = match std::mem::take(&mut self.looks_again) {
                true => Some(Duration::ZERO),
                false => self.sleep(),
            };
            if let Err(error) = self.poller.wait(limit) {
                log::error!("{}: the poller failed: {error}", self.shared().name);
                let _ = crossbeam_channel::after(SHORTAGE_PAUSE).recv();
            }
            // Invariant 2: it survives a fault of ours, too; what it was about is lost.
            if catch_unwind(AssertUnwindSafe(|| self.turn())).is_err() {
                self.shared().stats.shard(0).count(Counter::Panics);
                log::error!("{}: the accept thread panicked, and goes on", self.shared().name);
            }
        }
        log::debug!("{}: the accept thread ends", self.shared().name);
        self.pool.accept_ends();
    }

    fn turn(&mut self) {
        let now = time::now();
        self.table.look(&self.pool.shared.table);
        self.take_ready(now);
        while let Some(message) = self.pool.take_message() {
            self.take_message(message, now);
        }
        self.pass_held_back(now);
        self.renew_files(now);
        self.accept_all(now);
        self.end_overdue(now);
    }

    fn take_message(&mut self, message: Message, now: Moment) {
        match message {
            Message::Park(connection) => self.park(connection, now),
            Message::ChangeListeners(change) => self.change_listeners(change),
            Message::CopySockets(copies) => {
                // They may not be waited for any more.
                let _ = copies.send(self.duplicates());
            }
        }
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.pool.shared
    }

    fn live(&self) -> &Live {
        &self.table.view().live
    }

    /// `None`: until something happens.
    fn sleep(&self) -> Option<Duration> {
        let now = time::now();
        let mut next = self.parked.next_deadline();
        // No event tells of room in the channel, nor, while draining, that the last connection has left.
        if !self.held_back.is_empty() || self.shared().is_draining() {
            next = next.min(now.after(TRY_AGAIN_INTERVAL));
        }
        if self.listeners.values().any(|open| open.has_more) && self.held_back.is_empty() {
            next = next.min(self.paused_until);
        }
        next = next.min(self.look_at_files);
        (next < Moment::NEVER).then(|| next.since(now))
    }

    /// Bytes, or an end, on parked connections; or new ones.
    fn take_ready(&mut self, now: Moment) {
        let ready: Vec<_> = self.poller.ready().collect();
        for (token, told) in ready {
            if token.generation == LISTENER {
                let open = self.listeners.get_mut(&ListenerId(token.key));
                open.into_iter().for_each(|open| open.has_more = true);
            } else if let Some(mut connection) = self.parked.take(token) {
                connection.notify(told);
                self.pass_on(connection, now);
            }
        }
    }

    fn park(&mut self, mut connection: Box<Connection>, now: Moment) {
        let deadline = connection.head_deadline(&self.live().config);
        let token = self.parked.next_token();
        if let Err(error) = connection.watch_in(&self.poller, token) {
            log::warn!("{}: a connection cannot be watched: {error}", self.shared().name);
            return;
        }
        match deadline <= now {
            true => self.pass_on(connection, now),
            false => self.parked.insert(connection, token, deadline),
        }
    }

    /// To a worker; or it waits here for room in the channel.
    fn pass_on(&mut self, mut connection: Box<Connection>, now: Moment) {
        connection.unwatch_in(&self.poller);
        match self.held_back.is_empty() {
            true => {
                if let Err(connection) = self.pool.push(connection, now) {
                    self.held_back.push_back((connection, now));
                }
            }
            false => self.held_back.push_back((connection, now)),
        }
    }

    /// What found the channel full is offered again; what has waited for too long is rejected.
    fn pass_held_back(&mut self, now: Moment) {
        while let Some((mut connection, since)) = self.held_back.pop_front() {
            if now.since(since) > self.live().config.threadpool.admit.deadline {
                connection.reject(Reason::QueueTimeout);
            }
            if let Err(connection) = self.pool.push(connection, since) {
                self.held_back.push_front((connection, since));
                return;
            }
        }
    }

    fn accept_all(&mut self, now: Moment) {
        let ids: Vec<ListenerId> = self.listeners.keys().copied().collect();
        ids.into_iter().for_each(|id| self.accept_some(id, now));
    }

    fn accept_some(&mut self, id: ListenerId, now: Moment) {
        let is_draining = self.shared().is_draining();
        let Some(open) = self.listeners.get_mut(&id) else { return };
        open.closing |= is_draining;
        // No edge tells of what came before the last look.
        open.has_more |= open.closing;
        if let Some(known) = self.table.view().live.listener(id) {
            open.known = Arc::clone(known);
        }
        for _ in 0..TAKEN_AT_ONCE {
            let Some(open) = self.listeners.get_mut(&id) else { return };
            // While the channel is full, new connections wait in the kernel.
            if !open.has_more || !self.held_back.is_empty() || now < self.paused_until {
                break;
            }
            match open.listener.accept(self.pool.shared.descriptors) {
                Ok((socket, peer)) => {
                    let known = Arc::clone(&open.known);
                    self.take_accepted(socket, peer, &known, now);
                }
                Err(errno) => self.after_accept_error(errno, id, now),
            }
        }
        if self.listeners.get(&id).is_some_and(|open| open.closing && !open.has_more) {
            self.close_listener(id);
        }
    }

    fn take_accepted(
        &mut self,
        socket: Socket,
        peer: Option<SocketAddr>,
        listener: &Arc<OpenListener>,
        now: Moment,
    ) {
        let by_address = self.live().config.limits.connections_per_address.is_some();
        let mut permit = ConnectionPermit::new(self.shared(), listener, peer, by_address);
        let is_full = self.shared().open() > self.live().connections_max && !self.make_room(now);
        let is_rejected = is_full || self.is_beyond_limit(peer, listener);
        if is_rejected && !permit.reject() {
            // It is closed at once. In clear text that counts as a request without a response, which its client was about to
            // send; on a port with TLS it may not have been one.
            let shared = self.shared();
            match &listener.tls {
                Some(_) => shared.stats.shard(0).reject(Reason::ConnectionLimit),
                None => shared.count_unread(Some(listener), 0, Outcome::unanswered(Reason::ConnectionLimit)),
            }
            return;
        }
        let mut connection = Box::new(Connection::new(Transport::Plain(socket), peer, permit, now));
        if is_rejected {
            connection.reject(Reason::ConnectionLimit);
        }
        if let Err(connection) = self.pool.push(connection, now) {
            self.held_back.push_back((connection, now));
        }
    }

    /// Whether the address has more connections than one may have. Trusted proxies bring many clients.
    fn is_beyond_limit(&self, peer: Option<SocketAddr>, listener: &OpenListener) -> bool {
        let config = &self.live().config;
        let brings_many = |address| {
            let senders = listener.settings.proxy_protocol.iter().flatten();
            config.listen.trusts(address) || senders.into_iter().any(|network| network.contains(address))
        };
        match (config.limits.connections_per_address, peer.map(|peer| peer.ip())) {
            (Some(most), Some(address)) => self.shared().open_from(address) > most && !brings_many(address),
            _ => false,
        }
    }

    /// Takes in the events that have come since the wait of this turn.
    fn take_events(&mut self, now: Moment) {
        match self.poller.wait(Some(Duration::ZERO)) {
            Ok(()) => {
                // The waker may have been among the events.
                self.looks_again = true;
                self.take_ready(now);
            }
            Err(error) => log::debug!("{}: the poller failed: {error}", self.shared().name),
        }
    }

    /// Closes the connection that has been parked for longest: it is idle, or its client takes its time with a head.
    /// False: there is none. Those whose requests have just come go to a worker before.
    fn make_room(&mut self, now: Moment) -> bool {
        self.take_events(now);
        let closed = self.parked.take_oldest();
        if closed.is_some() {
            self.shared().stats.shard(0).count(Counter::Evicted);
        }
        closed.is_some()
    }

    /// Accept errors, sorted: nothing is left; try again; pause; stop listening.
    fn after_accept_error(&mut self, errno: Errno, id: ListenerId, now: Moment) {
        match errno {
            Errno::AGAIN => {
                self.listeners.get_mut(&id).into_iter().for_each(|open| open.has_more = false);
            }
            Errno::BADF | Errno::INVAL | Errno::NOTSOCK | Errno::OPNOTSUPP => {
                let name = self.shared().name;
                let place = self.listeners.remove(&id).map(|open| open.listener.place.to_string());
                log::error!(
                    "{name}: the listener {} is broken ({errno}); it gets no new connections",
                    place.unwrap_or_default()
                );
            }
            Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM => {
                self.shared().stats.shard(0).count(Counter::AcceptErrors);
                if self.reported_at.is_none_or(|told| now.since(told) >= LOG_INTERVAL) {
                    self.reported_at = Some(now);
                    let name = self.shared().name;
                    log::warn!("{name}: cannot accept ({errno}); trying again every {SHORTAGE_PAUSE:?}");
                }
                self.make_room(now);
                self.paused_until = now.after(SHORTAGE_PAUSE);
            }
            // The connection failed before it was taken, or a signal came: the next one may be fine.
            _ => self.shared().stats.shard(0).count(Counter::AcceptErrors),
        }
    }

    /// Ends what missed its deadline, and what need not stay while draining. One that has begun a head goes to a worker,
    /// which tells its client.
    fn end_overdue(&mut self, now: Moment) {
        if self.parked.next_deadline() <= now {
            // The process may have been stopped since the last events: a request that came before its deadline is served.
            self.take_events(now);
        }
        while let Some(connection) = self.parked.take_due(now) {
            if connection.has_partial_head() {
                self.pass_on(connection, now);
            }
        }
        let is_over = now >= self.shared().drain_deadline();
        if now >= self.shared().idle_end() || is_over {
            // A worker closes it, unless a request is here after all.
            while let Some(connection) = self.parked.take_oldest() {
                self.pass_on(connection, now);
            }
        }
    }

    fn is_over(&self) -> bool {
        let left = self.listeners.is_empty() && self.shared().open() == 0;
        self.shared().is_draining() && (left || time::now() >= self.shared().drain_deadline())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::limits::Descriptors;
    use crate::state::config;
    use crate::state::table::Table;
    use crate::state::verdict::Verdicts;
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};
    use std::path::Path;

    fn acceptor() -> Acceptor {
        let live = Live::plain(config::parse("{}", Path::new("")).unwrap());
        let shared = Arc::new(Shared::new(
            ("test", Descriptors::ALL),
            Arc::new(Table::of(live)),
            Arc::default(),
            Verdicts::default(),
        ));
        let poller = Poller::new().unwrap();
        Acceptor::new(Arc::new(WorkerPool::new(&shared, poller.waker())), poller, Vec::new()).unwrap()
    }

    /// A connection that is parked, and its client.
    fn parked(acceptor: &mut Acceptor) -> TcpStream {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = Socket::connect(&listener.local_addr().unwrap()).unwrap();
        let (client, peer) = listener.accept().unwrap();
        let known = &acceptor.live().listeners[0];
        let permit = ConnectionPermit::new(acceptor.shared(), known, Some(peer), false);
        let connection = Connection::new(Transport::Plain(near), Some(peer), permit, time::now());
        acceptor.park(Box::new(connection), time::now());
        client
    }

    #[test]
    fn a_connection_whose_request_has_just_come_makes_no_room() {
        let mut acceptor = acceptor();
        let mut busy = parked(&mut acceptor);
        let _idle = parked(&mut acceptor);
        // Events that were there before are those of its beginning.
        assert!(acceptor.poller.wait(Some(Duration::ZERO)).is_ok());
        busy.write_all(b"GET / HTTP/1.1\r\n").unwrap();
        assert!(acceptor.make_room(time::now()));
        assert_eq!((acceptor.parked.len(), acceptor.pool.waiting()), (0, 1), "the idle one was closed");
        assert!(acceptor.looks_again);
        assert!(!acceptor.make_room(time::now()));
    }
}
