//! Layer 5: a worker: its poller, its connections, its idle server connections. It waits in [`Worker::wait`] and
//! nowhere else; nothing in it waits for one connection alone.

use super::context::{Context, EVENTS_FRESH};
use super::h1::{Advance, Connection};
use super::poller::{Poller, Side};
use super::timers::{TRY_AGAIN_INTERVAL, Timers};
use super::worker_pool::{Handle, TAKEN_AT_ONCE, Work, WorkerPool};
use crate::base::ids::ConnectionKey;
use crate::base::time::{self, Moment};
use crate::http1::reason::Reason;
use crate::state::stats::Counter;
use crate::state::workers::RequestInfo;
use slab::Slab;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// A worker that waits in the channel looks up this often, so that it does not keep an old snapshot of the table for long.
const SLEEP_MAX: Duration = Duration::from_secs(10);
/// The clock is read for so many connections at once: reading it costs 1 % of an exchange, which takes some 10 us.
const RUNS_PER_CLOCK: usize = 4;
/// A turn takes some [`EVENTS_FRESH`]. One that took so long was interrupted: the process was stopped, or had no processor.
const TURN_INTERRUPTED: Duration = Duration::from_millis(20);
/// Idle server connections are looked at this often: far more often than their `idle_time` ends, which is 30 s by default.
const SWEEP_INTERVAL: Duration = Duration::from_millis(500);

/// Runs a worker until it is told to stop.
pub fn run(pool: &Arc<WorkerPool>, number: usize, poller: Poller) {
    let mut worker = Worker::new(pool, number, poller);
    while worker.turn() {}
    worker.pool.leave(&worker.handle);
}

/// A worker.
struct Worker {
    pool: Arc<WorkerPool>,
    handle: Arc<Handle>,
    cx: Context,
    connections: Slab<Held>,
    timers: Timers,
    /// Keys of connections that can go on.
    ready: VecDeque<usize>,
    called: Vec<ConnectionKey>,
    /// Keys of connections that others may have.
    surplus: Vec<usize>,
    generation: u32,
    /// Connections that have an exchange or are a tunnel.
    busy: usize,
    stopping: bool,
    /// The deadline of the drain because of which it has looked at all of its connections; [`Moment::NEVER`] without one.
    drain_deadline: Moment,
    next_sweep: Moment,
    /// Sweeps that others have asked for, up to the last one.
    swept: u64,
}

/// A connection of the worker.
struct Held {
    connection: Box<Connection>,
    generation: u32,
    /// When it is looked at next, as the timers have it.
    look_at: Moment,
    is_ready: bool,
    is_busy: bool,
}

impl Worker {
    fn new(pool: &Arc<WorkerPool>, number: usize, poller: Poller) -> Self {
        let cx = Context::new(&pool.shared, number, poller);
        Worker {
            pool: Arc::clone(pool),
            handle: pool.enter(number, &cx.mailbox),
            cx,
            connections: Slab::new(),
            timers: Timers::default(),
            ready: VecDeque::new(),
            called: Vec::new(),
            surplus: Vec::new(),
            generation: 0,
            busy: 0,
            stopping: false,
            drain_deadline: Moment::NEVER,
            next_sweep: Moment::START,
            swept: 0,
        }
    }

    /// One turn: what has come in, then what can go on. False: it was told to stop, and nothing is left.
    fn turn(&mut self) -> bool {
        self.take_work();
        let work = self.wait();
        self.notify();
        if let Some(work) = work {
            self.take(work);
        }
        self.look_at_due();
        self.look_at_drain();
        self.run_ready();
        self.sweep();
        self.tell();
        match self.stopping {
            true => self.pass_all_on(),
            false => self.pass_surplus_on(),
        }
        !(self.stopping && self.connections.is_empty())
    }

    /// Moves what is ready, each once; what the turn has no time for waits for the next one, behind nothing that is new.
    fn run_ready(&mut self) {
        let mut moves = 0;
        for at in 0..self.ready.len() {
            if at > 0 && at % RUNS_PER_CLOCK == 0 {
                self.cx.now = time::now();
                if self.cx.now.since(self.cx.polled_at) >= EVENTS_FRESH {
                    break;
                }
            }
            let Some(key) = self.ready.pop_front() else { break };
            self.run(key);
            moves += 1;
        }
        self.handle.note_moves(moves);
    }

    /// The only place where a worker blocks: in the channel when it has no connection at all, otherwise in its poller.
    fn wait(&mut self) -> Option<Work> {
        let begun = time::now();
        if begun.since(self.cx.polled_at) >= TURN_INTERRUPTED {
            self.after_interruption(begun);
        }
        let mut work = None;
        if self.connections.is_empty() && self.cx.servers.is_empty() && !self.stopping {
            // The last one may have been passed on since others were told.
            self.handle.connections.store(0, Relaxed);
            work = self.pool.take(SLEEP_MAX);
        } else if !self.ready.is_empty() {
            self.poll(Some(Duration::ZERO));
        } else {
            let mut limit = self.timers.next().min(self.next_sweep).since(begun);
            if self.stopping {
                let is_over = begun >= self.cx.shared.drain_deadline();
                limit = limit.min(if is_over { Duration::ZERO } else { TRY_AGAIN_INTERVAL });
            }
            let has_work = self.handle.sleeps.set(|| self.pool.waiting() > 0 && !self.stopping);
            self.poll(Some(if has_work { Duration::ZERO } else { limit }));
            self.handle.sleeps.clear();
        }
        self.cx.now = time::now();
        self.cx.polled_at = self.cx.now;
        let slept = self.cx.now.since(begun);
        self.handle.note_sleep(slept);
        work
    }

    /// What began in the last turn may have begun behind the interruption, and has all of its time from now on.
    fn after_interruption(&mut self, now: Moment) {
        let turn_begun = self.cx.polled_at;
        self.connections.iter_mut().for_each(|(_, held)| held.connection.restart_waits(turn_begun, now));
    }

    fn poll(&mut self, limit: Option<Duration>) {
        if let Err(error) = self.cx.poller.wait(limit) {
            log::error!("{}: the poller failed: {error}", self.cx.shared.name);
        }
    }

    /// Takes in the events of the last wait: all of them before any connection goes on, so that none uses a server
    /// connection of which an event says that it must not be used.
    fn notify(&mut self) {
        let Worker { cx, connections, ready, .. } = self;
        let Context { poller, servers, mailbox, .. } = cx;
        for (token, told) in poller.ready() {
            let key = match token.side {
                Side::Server => servers.notify(token, told),
                Side::Client => {
                    let key = token.key as usize;
                    let held = connections.get_mut(key).filter(|held| held.generation == token.generation);
                    held.map(|held| {
                        held.connection.notify(told);
                        key
                    })
                }
            };
            if let Some((key, held)) = key.and_then(|key| Some((key, connections.get_mut(key)?))) {
                make_ready(ready, key, held);
            }
        }
        self.called.clear();
        mailbox.take(&mut self.called);
        for ConnectionKey { key, generation } in self.called.drain(..) {
            if let Some(held) = connections.get_mut(key).filter(|held| held.generation == generation) {
                make_ready(ready, key, held);
            }
        }
    }

    /// What is in the channel, as far as others are not to have it.
    fn take_work(&mut self) {
        if self.stopping {
            return;
        }
        for _ in 0..TAKEN_AT_ONCE {
            match self.pool.take_now() {
                Some(work) => self.take(work),
                None => return,
            }
            if self.stopping {
                break;
            }
        }
        // Another one may take the rest.
        self.pool.wake_one();
    }

    fn take(&mut self, work: Work) {
        match work {
            Work::Connection(mut connection, at) => {
                self.cx.now = time::now();
                let waited = self.cx.now.since(at);
                let listener = connection.listener().map(Arc::as_ref);
                self.cx.shared.count_wait(listener, self.cx.number(), waited);
                if connection.is_idle() && waited > self.cx.live().config.threadpool.admit.deadline {
                    connection.reject(Reason::QueueTimeout);
                }
                self.handle.note_moves(1);
                self.adopt(connection);
            }
            Work::Stop => self.stopping = true,
        }
    }

    fn adopt(&mut self, connection: Box<Connection>) {
        self.generation = self.generation.wrapping_add(1) & (u32::MAX >> 1);
        let held = Held {
            connection,
            generation: self.generation,
            look_at: Moment::NEVER,
            is_ready: true,
            is_busy: false,
        };
        let key = self.connections.insert(held);
        let Some(held) = self.connections.get_mut(key) else { return };
        held.connection.adopt(key, self.generation, &mut self.cx);
        self.run(key);
    }

    fn look_at_due(&mut self) {
        if self.timers.next() <= self.cx.now {
            // The process may have been stopped since its last events: what came before a deadline is taken in before it.
            self.poll(Some(Duration::ZERO));
            self.notify();
        }
        while let Some((at, key, generation)) = self.timers.pop_due(self.cx.now) {
            let key = key as usize;
            let Some(held) = self.connections.get_mut(key).filter(|held| held.generation == generation)
            else {
                continue;
            };
            if held.look_at == at {
                held.look_at = Moment::NEVER;
                make_ready(&mut self.ready, key, held);
            }
        }
    }

    /// When a drain begins, or its deadline comes nearer, every connection is looked at once: what waits finds out when it has to
    /// end.
    fn look_at_drain(&mut self) {
        let deadline = self.cx.shared.drain_deadline();
        if self.drain_deadline == deadline {
            return;
        }
        self.drain_deadline = deadline;
        let Worker { connections, ready, .. } = self;
        connections.iter_mut().for_each(|(key, held)| make_ready(ready, key, held));
    }

    /// Moves a connection as far as it goes.
    fn run(&mut self, key: usize) {
        let Worker { cx, connections, .. } = self;
        let Some(held) = connections.get_mut(key) else { return };
        held.is_ready = false;
        let advanced = catch_unwind(AssertUnwindSafe(|| held.connection.advance(cx)));
        let Ok(advance) = advanced else { return self.after_panic(key) };
        let is_busy = held.connection.is_busy();
        match (held.is_busy, is_busy) {
            (false, true) => self.busy += 1,
            (true, false) => self.busy -= 1,
            _ => {}
        }
        held.is_busy = is_busy;
        let copies = held.connection.take_copies();
        self.go_on(key, advance);
        for exchange in copies {
            self.adopt(Box::new(Connection::of_copy(exchange, self.cx.now)));
        }
    }

    /// Does with a connection what its advance asks for.
    fn go_on(&mut self, key: usize, advance: Advance) {
        let Worker { cx, connections, timers, ready, .. } = self;
        let Some(held) = connections.get_mut(key) else { return };
        match advance {
            Advance::Wait(until) => {
                // Invariant 14.
                debug_assert!(until < Moment::NEVER, "a wait without a deadline");
                if held.connection.watch(cx).is_err() {
                    return self.close(key, Reason::Internal);
                }
                let token = super::poller::Token::new(Side::Client, key, held.generation);
                held.look_at = timers.look_by(token, held.look_at, until);
                if connections.len() > self.pool.share() {
                    self.surplus.push(key);
                }
            }
            Advance::Yield => make_ready(ready, key, held),
            Advance::Park => {
                if let Some(connection) = self.remove(key) {
                    self.pool.park(connection);
                }
            }
            Advance::Closed => self.close(key, Reason::ClientGone),
        }
    }

    /// Invariant 5: a panic costs one exchange. Its connections are closed.
    fn after_panic(&mut self, key: usize) {
        self.cx.shard().count(Counter::Panics);
        log::error!("{}: a request panicked; its connection is closed", self.cx.shared.name);
        self.cx.repair();
        let closed = catch_unwind(AssertUnwindSafe(|| self.close(key, Reason::Internal)));
        if closed.is_err() {
            self.connections.try_remove(key);
        }
        self.cx.servers.close_all_of(key);
        self.busy = self.connections.iter().filter(|(_, held)| held.is_busy).count();
    }

    fn close(&mut self, key: usize, reason: Reason) {
        let Some(mut held) = self.connections.try_remove(key) else { return };
        self.busy -= usize::from(held.is_busy);
        held.connection.abandon(reason, &mut self.cx);
    }

    /// Takes a connection out, for another thread. `None`: it has to stay.
    fn remove(&mut self, key: usize) -> Option<Box<Connection>> {
        let held = self.connections.get_mut(key)?;
        if !held.connection.leave(&mut self.cx) {
            return None;
        }
        let held = self.connections.try_remove(key)?;
        self.busy -= usize::from(held.is_busy);
        Some(held.connection)
    }

    /// Gives a connection to another worker. False: it has to stay.
    fn pass_on(&mut self, key: usize) -> bool {
        let Some(connection) = self.remove(key) else { return false };
        let pushed = self.pool.push(connection, self.cx.now);
        pushed.map_err(|connection| self.adopt(connection)).is_ok()
    }

    /// More connections than its share are here: others get some of those that wait for a request.
    fn pass_surplus_on(&mut self) {
        for key in std::mem::take(&mut self.surplus) {
            let may_go = |held: &Held| held.connection.is_idle() && !held.is_ready;
            let is_surplus = self.connections.len() > self.pool.share();
            if is_surplus && self.connections.get(key).is_some_and(may_go) && !self.pass_on(key) {
                // The channel is full.
                return;
            }
        }
    }

    /// Told to stop: the others get its connections, exchanges in flight among them. When the time for draining is over
    /// there are no others.
    fn pass_all_on(&mut self) {
        if self.cx.now >= self.cx.shared.drain_deadline() {
            return self.cut_all();
        }
        let keys: Vec<usize> = self.connections.iter().map(|(key, _)| key).collect();
        let _ = keys.into_iter().take_while(|key| self.pass_on(*key)).count();
    }

    /// The time for draining is over: what is not whole gets a response that says why, and all connections close.
    fn cut_all(&mut self) {
        let keys: Vec<usize> = self.connections.iter().map(|(key, _)| key).collect();
        for key in keys {
            self.run(key);
            self.close(key, Reason::Draining);
        }
    }

    /// Closes what has been idle for too long.
    fn sweep(&mut self) {
        let asked = self.pool.sweeps();
        if self.cx.now < self.next_sweep && asked == self.swept {
            return;
        }
        self.swept = asked;
        // A snapshot that is not renewed would keep servers that were removed.
        self.cx.refresh();
        self.cx.servers.sweep(&self.cx.table.view().live.config, self.cx.now);
        self.next_sweep = self.cx.now.after(SWEEP_INTERVAL);
    }

    /// What others see of it.
    fn tell(&mut self) {
        self.handle.connections.store(self.connections.len(), Relaxed);
        self.handle.in_flight.store(self.busy, Relaxed);
        if self.busy > 1 {
            self.pool.gauges.notify_if_asleep();
        }
        while !self.handle.lists.1.is_empty() {
            let Ok(wanted) = self.handle.lists.1.try_recv() else { break };
            let _ = wanted.send(self.list());
        }
    }

    fn list(&self) -> Vec<RequestInfo> {
        let now = self.cx.now;
        let of = |held: &Held| held.connection.info(now);
        self.connections.iter().filter_map(|(_, held)| of(held)).collect()
    }
}

fn make_ready(ready: &mut VecDeque<usize>, key: usize, held: &mut Held) {
    if !std::mem::replace(&mut held.is_ready, true) {
        ready.push_back(key);
    }
}

#[cfg(test)]
mod tests {
    use super::super::shared::{ConnectionPermit, Shared};
    use super::super::socket::Socket;
    use super::super::transport::Transport;
    use super::*;
    use crate::base::limits::Descriptors;
    use crate::state::config;
    use crate::state::live::Live;
    use crate::state::table::Table;
    use crate::state::verdict::Verdicts;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::path::Path;

    fn worker() -> Worker {
        worker_of("{}")
    }

    fn worker_of(config: &str) -> Worker {
        let live = Live::plain(config::parse(config, Path::new("")).unwrap());
        let table = Arc::new(Table::of(live));
        let shared =
            Arc::new(Shared::new(("test", Descriptors::ALL), table, Arc::default(), Verdicts::default()));
        let accept = Poller::new().unwrap();
        Worker::new(&Arc::new(WorkerPool::new(&shared, accept.waker())), 1, Poller::new().unwrap())
    }

    /// A connection that the worker gets, and its client.
    fn connect(worker: &mut Worker) -> TcpStream {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = Socket::connect(&listener.local_addr().unwrap()).unwrap();
        let (client, peer) = listener.accept().unwrap();
        let listener = &worker.cx.live().listeners[0];
        let permit = ConnectionPermit::new(&worker.pool.shared, listener, Some(peer), false);
        let connection = Connection::new(Transport::Plain(near), Some(peer), permit, time::now());
        assert!(worker.pool.push(Box::new(connection), time::now()).is_ok());
        client
    }

    #[test]
    fn a_panic_costs_one_exchange() {
        let mut worker = worker();
        let (mut first, mut second) = (connect(&mut worker), connect(&mut worker));
        while worker.connections.len() < 2 {
            worker.take_work();
        }
        worker.after_panic(0);
        assert_eq!(first.read(&mut [0; 8]).unwrap_or(0), 0, "its connection is closed");
        assert_eq!(worker.pool.shared.stats.total(Counter::Panics), 1);
        second.write_all(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").unwrap();
        while !worker.connections.is_empty() {
            worker.turn();
        }
        let mut response = String::new();
        second.read_to_string(&mut response).unwrap();
        assert!(response.starts_with("HTTP/1.1 503") && response.contains("no_server"), "{response}");
    }

    #[test]
    fn only_one_with_connections_is_asked_for_its_exchanges() {
        let mut worker = worker();
        worker.pool.requests(Duration::ZERO);
        assert!(worker.handle.lists.1.is_empty(), "it would respond when its sleep in the channel is over");
        let _client = connect(&mut worker);
        worker.take_work();
        worker.tell();
        worker.pool.requests(Duration::ZERO);
        assert_eq!(worker.handle.lists.1.len(), 1);
    }

    #[test]
    fn what_began_in_a_turn_that_was_interrupted_has_all_of_its_time() {
        let mut worker = worker();
        let mut clients = vec![connect(&mut worker)];
        worker.take_work();
        worker.cx.polled_at = time::now();
        clients.push(connect(&mut worker));
        worker.take_work();
        let deadlines = |worker: &Worker| {
            let config = &worker.cx.live().config;
            [0, 1].map(|key: usize| worker.connections[key].connection.head_deadline(config))
        };
        let before = deadlines(&worker);
        let later = time::now().after(Duration::from_secs(60));
        worker.after_interruption(later);
        let after = deadlines(&worker);
        assert_eq!(after[0], before[0]);
        assert!(after[1] > later && after[1] > before[1]);
    }

    #[test]
    fn a_server_that_was_asked_in_such_a_turn_has_all_of_its_time() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = server.local_addr().unwrap();
        let mut worker = worker_of(&format!(
            r#"{{ "servers": {{ "list": [ {{ "address": "{address}" }} ], "health_check": {{ "enabled": false }} }} }}"#
        ));
        let turn_begun = time::now();
        let mut client = connect(&mut worker);
        client.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
        let mut asked = None;
        while asked.is_none() {
            worker.turn();
            server.set_nonblocking(true).unwrap();
            asked = server.accept().ok();
        }
        while worker.connections.iter().all(|(_, held)| !held.connection.is_busy()) {
            worker.turn();
        }
        (worker.cx.polled_at, worker.cx.now) = (turn_begun, time::now().after(Duration::from_secs(3600)));
        worker.after_interruption(worker.cx.now);
        worker.run(0);
        assert_eq!(worker.busy, 1, "it waits for the response");
        worker.cx.now = worker.cx.now.after(Duration::from_secs(3600));
        worker.run(0);
        assert_eq!(worker.busy, 0, "and not for ever");
    }

    #[test]
    fn one_that_stops_passes_its_connections_on() {
        let mut worker = worker();
        let _clients = [connect(&mut worker), connect(&mut worker)];
        while worker.connections.len() < 2 {
            worker.take_work();
        }
        assert!(worker.pool.push_stop());
        while worker.turn() {}
        assert_eq!((worker.pool.waiting(), worker.connections.len()), (2, 0));
    }
}
