//! Layer 5: the accept thread. It waits for new connections and for bytes on parked ones, and passes both to the workers. It
//! never blocks on a client or on a full channel, does the same work for each connection however many are open, and survives
//! every accept error (invariant 2).

use super::h1::Connection;
use super::listen::Listener;
use super::poller::{Poller, Side, Token};
use super::shared::{DRAIN_LOOK_INTERVAL, LOG_INTERVAL, Permit, Shared};
use super::socket::Socket;
use super::timers::{TRY_AGAIN, Timers};
use super::transport::Transport;
use super::worker_pool::{ListenerChange, TAKEN_AT_ONCE, WorkerPool};
use crate::base::ids::ListenerId;
use crate::base::inherited;
use crate::base::sys;
use crate::base::time::{self, Moment};
use crate::http1::reason::Reason;
use crate::state::listener::OpenListener;
use crate::state::live::Live;
use crate::state::stats::{Counter, Outcome};
use crate::state::table::Cached;
use rustix::io::Errno;
use slab::Slab;
use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

/// How long accepting pauses when descriptors or memory have run out: a connection that ends meanwhile makes room.
const SHORTAGE_PAUSE: Duration = Duration::from_millis(50);

/// The accept thread's own things.
#[derive(Debug)]
pub struct Acceptor {
    pool: Arc<WorkerPool>,
    poller: Poller,
    /// The configuration, as this thread knows it.
    table: Cached,
    listeners: BTreeMap<ListenerId, Open>,
    parked: Slab<Parked>,
    /// Parked connections in the order in which they came, for those that have to go when room is needed; what it says
    /// of others is out of date.
    order: VecDeque<(usize, u32)>,
    timers: Timers,
    turn: u32,
    /// Connections that found the channel full.
    held_back: VecDeque<(Box<Connection>, Moment)>,
    /// When the files of Unix sockets are looked at.
    look_at_files: Moment,
    paused_until: Moment,
    /// Events were taken in the middle of a turn: the next one begins without a sleep.
    looks_again: bool,
    reported_at: Option<Moment>,
}

/// A listener of this thread.
#[derive(Debug)]
struct Open {
    listener: Listener,
    /// What its next connections know of it.
    known: Arc<OpenListener>,
    /// There may be more connections, and no edge will say so again.
    has_more: bool,
    /// It is closed when its backlog is empty: clients that the kernel has accepted for us may have sent their requests.
    closing: bool,
}

/// A connection that waits for a request.
#[derive(Debug)]
struct Parked {
    connection: Box<Connection>,
    turn: u32,
}

/// The turn of listeners, whose keys are their ids: no parked connection has it.
const LISTENER: u32 = 0;

/// The files of Unix sockets are looked at this often: a temporary folder may be swept.
const FILES_LOOK_INTERVAL: Duration = Duration::from_secs(2);

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
            parked: Slab::new(),
            order: VecDeque::new(),
            timers: Timers::default(),
            turn: 0,
            held_back: VecDeque::new(),
            look_at_files: Moment::NEVER,
            paused_until: Moment::START,
            looks_again: false,
            reported_at: None,
        };
        listeners.into_iter().try_for_each(|(listener, known)| acceptor.open(listener, known))?;
        Ok(acceptor)
    }

    /// Accepts on one more listener from now on.
    fn open(&mut self, listener: Listener, known: Arc<OpenListener>) -> io::Result<()> {
        let id = known.id;
        self.poller.add(listener.raw(), Token::new(Side::Client, id.0 as usize, LISTENER), false)?;
        if listener.is_unix() {
            self.look_at_files = self.look_at_files.min(time::now().after(FILES_LOOK_INTERVAL));
        }
        self.listeners.insert(id, Open { listener, known, has_more: true, closing: false });
        Ok(())
    }

    /// Listeners that a reload has opened or closed.
    fn change_listeners(&mut self) {
        while let Some(ListenerChange { opened, closed }) = self.pool.take_listener_change() {
            for (listener, known) in opened {
                let place = listener.place.clone();
                if let Err(error) = self.open(listener, known) {
                    log::error!("{}: {place} cannot be watched: {error}", self.shared().name);
                }
            }
            for id in closed {
                self.listeners.get_mut(&id).into_iter().for_each(|open| open.closing = true);
            }
        }
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
        self.change_listeners();
        self.take_ready(now);
        while let Some(connection) = self.pool.take_parked() {
            self.park(connection, now);
        }
        self.pass_held_back(now);
        while let Some(copies) = self.pool.take_socket_request() {
            let _ = copies.send(self.duplicates());
        }
        self.renew_files(now);
        self.accept_all(now);
        self.end_overdue(now);
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
        let mut next = self.timers.next();
        if !self.held_back.is_empty() {
            next = next.min(now.after(TRY_AGAIN));
        }
        if self.listeners.values().any(|open| open.has_more) && self.held_back.is_empty() {
            next = next.min(self.paused_until);
        }
        next = next.min(self.look_at_files);
        if self.shared().is_draining() {
            next = next.min(now.after(DRAIN_LOOK_INTERVAL));
        }
        (next < Moment::NEVER).then(|| next.since(now))
    }

    /// Bytes, or an end, on parked connections; or new ones.
    fn take_ready(&mut self, now: Moment) {
        let ready: Vec<_> = self.poller.ready().collect();
        for (token, told) in ready {
            let key = token.key as usize;
            if token.turn == LISTENER {
                let open = self.listeners.get_mut(&ListenerId(token.key));
                open.into_iter().for_each(|open| open.has_more = true);
            } else if self.parked.get(key).is_some_and(|parked| parked.turn == token.turn) {
                let mut connection = self.parked.remove(key).connection;
                connection.notify(told);
                self.pass_on(connection, now);
            }
        }
    }

    fn park(&mut self, mut connection: Box<Connection>, now: Moment) {
        let deadline = connection.head_deadline(&self.live().config);
        self.turn = (self.turn.wrapping_add(1) & (u32::MAX >> 1)).max(1);
        let key = self.parked.vacant_key();
        let token = Token::new(Side::Client, key, self.turn);
        if let Err(error) = connection.watch_in(&self.poller, token) {
            log::warn!("{}: a connection cannot be watched: {error}", self.shared().name);
            return;
        }
        if deadline <= now {
            return self.pass_on(connection, now);
        }
        self.parked.insert(Parked { connection, turn: self.turn });
        self.order.push_back((key, self.turn));
        self.timers.look_by(token, Moment::NEVER, deadline);
        // Most of the order is out of date: it is made new from those that are there.
        if self.order.len() > 2 * self.parked.len() + 1024 {
            let parked = &self.parked;
            self.order.retain(|(key, turn)| parked.get(*key).is_some_and(|parked| parked.turn == *turn));
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
                    self.welcome(socket, peer, &known, now);
                }
                Err(errno) => self.survive(errno, id, now),
            }
        }
        if self.listeners.get(&id).is_some_and(|open| open.closing && !open.has_more) {
            self.close_listener(id);
        }
    }

    fn close_listener(&mut self, id: ListenerId) {
        let Some(Open { listener, .. }) = self.listeners.remove(&id) else { return };
        // Another process may have the socket, too: closing it here would not end its events.
        self.poller.remove(listener.raw());
        if self.shared().is_handed_over() {
            listener.leave();
        }
    }

    /// Copies of the listening sockets, for another process.
    fn duplicates(&self) -> io::Result<Vec<inherited::Socket>> {
        let open = self.listeners.values().filter(|open| !open.closing);
        open.map(|open| open.listener.duplicate(&open.known.settings.name)).collect()
    }

    /// Unix sockets whose files are gone get them again.
    fn renew_files(&mut self, now: Moment) {
        if now < self.look_at_files {
            return;
        }
        self.look_at_files = now.after(FILES_LOOK_INTERVAL);
        for (id, open) in &mut self.listeners {
            let listener = &mut open.listener;
            if listener.is_unix() && listener.renew() {
                let token = Token::new(Side::Client, id.0 as usize, LISTENER);
                if let Err(error) = self.poller.add(listener.raw(), token, false) {
                    log::error!("{}: {} cannot be watched: {error}", self.pool.shared.name, listener.place);
                }
                open.has_more = true;
            }
        }
    }

    fn welcome(
        &mut self,
        socket: Socket,
        peer: Option<SocketAddr>,
        listener: &Arc<OpenListener>,
        now: Moment,
    ) {
        let by_address = self.live().config.limits.connections_per_address.is_some();
        let mut permit = Permit::new(self.shared(), listener, peer, by_address);
        let is_full = self.shared().open() > self.live().connections_max && !self.make_room(now);
        let is_rejected = is_full || self.is_beyond_limit(peer, listener);
        if is_rejected && !permit.reject() {
            // What was on its way is a request that gets no response; on a port with TLS that cannot be told.
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

    /// Closes the connection that has been parked for longest: it is idle, or its client takes its time with a head.
    /// False: there is none. Those whose requests have just come go to a worker before.
    fn make_room(&mut self, now: Moment) -> bool {
        match self.poller.wait(Some(Duration::ZERO)) {
            Ok(()) => {
                // The waker may have been among the events.
                self.looks_again = true;
                self.take_ready(now);
            }
            Err(error) => log::debug!("{}: the poller failed: {error}", self.shared().name),
        }
        while let Some((key, turn)) = self.order.pop_front() {
            if self.parked.get(key).is_some_and(|parked| parked.turn == turn) {
                self.parked.remove(key);
                self.shared().stats.shard(0).count(Counter::Evicted);
                return true;
            }
        }
        false
    }

    /// Accept errors, sorted: nothing is left; try again; pause; stop listening.
    fn survive(&mut self, errno: Errno, id: ListenerId, now: Moment) {
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
        while let Some((_, key, turn)) = self.timers.pop_due(now) {
            let key = key as usize;
            if self.parked.get(key).is_some_and(|parked| parked.turn == turn) {
                let connection = self.parked.remove(key).connection;
                if connection.has_partial_head() {
                    self.pass_on(connection, now);
                }
            }
        }
        let is_over = now >= self.shared().drain_deadline();
        if self.shared().closes_idle(now) || is_over {
            let keys: Vec<usize> = self.parked.iter().map(|(key, _)| key).collect();
            for key in keys {
                // A worker closes it, unless a request is here after all.
                let connection = self.parked.remove(key).connection;
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
        let permit = Permit::new(acceptor.shared(), known, Some(peer), false);
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
