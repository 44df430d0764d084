//! Step 1: accepted. One thread waits for everything at once: new connections, bytes on parked ones, and
//! deadlines. It never blocks on a client or on a full queue, and it survives every accept error (law 2).

use super::Plane;
use super::admit::Overflow;
use super::away::{self, Place};
use super::close;
use super::listen::{Listener, Pollers};
use super::park::{Carry, Connection, End, FIRST_TOKEN, Whose};

use super::socket::Socket;
use super::watch;
use crate::base::load;
use crate::base::sys;
use crate::base::time::{self, Moment};
use crate::http1::reason::Reason;
use crate::policy::eviction::LookForRoom;
use crate::state::stats::Counter;
use mio::{Events, Token};
use rustix::io::Errno;
use rustix::net::{SocketFlags, acceptfrom_with};
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Token of the waker.
pub const WAKER: Token = Token(FIRST_TOKEN - 1);
/// The one listener of this thread.
const LISTENER: Token = Token(0);
/// Every deadline has passed by then, and "never" has not.
const LATER_THAN_ANY: Moment = Moment::from_nanos(Moment::NEVER.as_nanos() - 1);
/// Events taken from the poller at once.
const EVENTS: usize = 1024;
/// Connections accepted before the parked ones are looked at again.
const BURST: usize = 256;
/// A connection that was parked a moment ago is between two requests rather than idle: closing it would cost
/// its client the one that is on its way.
const IDLE_LEAST: Duration = Duration::from_secs(1);
/// A connection that has sent no whole request for so long gives its place to a new one: on a machine with time
/// to spare a head comes within a few milliseconds.
const HEAD_LEAST: Duration = Duration::from_millis(50);
/// How long accepting rests when descriptors or memory have run out.
const PACE: Duration = Duration::from_millis(50);
/// While that lasts, the log hears of it this often.
const TELL_AGAIN: Duration = Duration::from_secs(10);

/// The accept thread's own things.
#[derive(Debug)]
pub struct Acceptor {
    plane: Arc<Plane>,
    pollers: Pollers,
    used: load::Heard,
    listener: Option<Listener>,
    overflow: Overflow,
    /// The listener has more, and no edge will say so again.
    more: bool,
    /// Accepting rests until then.
    paced_until: Option<Moment>,
    /// When the log was last told that descriptors or memory have run out.
    told_at: Option<Moment>,
    next_look: Moment,
    look_every: Duration,
    next_look_away: Moment,
    room: LookForRoom,
    found: Vec<Arc<Connection>>,
    answered: Vec<Arc<Place>>,
    scratch: Vec<u8>,
}

impl Acceptor {
    /// The accept thread of this plane; the listener is watched from here on.
    pub fn new(plane: Arc<Plane>, pollers: Pollers, listener: Listener) -> io::Result<Self> {
        pollers.add(listener.fd.as_raw_fd(), LISTENER)?;
        let timeouts = &plane.config.timeouts;
        let shortest = timeouts.client_head.min(timeouts.keep_alive);
        Ok(Acceptor {
            overflow: Overflow::new(&plane.config.threadpool.admit),
            look_every: (shortest / 8).clamp(Duration::from_millis(10), Duration::from_secs(1)),
            next_look: time::now(),
            listener: Some(listener),
            more: false,
            paced_until: None,
            told_at: None,
            next_look_away: time::now(),
            room: LookForRoom::default(),
            found: Vec::with_capacity(EVENTS),
            answered: Vec::with_capacity(EVENTS),
            scratch: vec![0; 16 * 1024],
            plane,
            pollers,
            used: load::Heard::default(),
        })
    }

    /// Runs until the plane stops and the last connection has left, or the time for that is over.
    pub fn run(mut self) {
        // Under load it then runs when a worker waits, not instead of one, and finds many events at once.
        sys::schedule_as_batch();
        let mut events = Events::with_capacity(EVENTS);
        while !self.is_over() {
            if let Err(error) = self.wait(&mut events) {
                if error.kind() != io::ErrorKind::Interrupted {
                    log::error!("the poller failed: {error}; pausing for {PACE:?}");
                    self.rest();
                }
                continue;
            }
            self.outlives(|acceptor| acceptor.act(&events, time::now()));
        }
        self.part_with_the_rest();
        self.plane.accept_ended.store(true, Ordering::Release);
        // It may sleep for long, and sends the crew home.
        self.plane.crew.nudge();
        log::debug!("{}: the accept thread ends", self.plane.name);
    }

    /// What is to be done after a wait.
    fn act(&mut self, events: &Events, now: Moment) {
        let heard = self.take_answered(events, now);
        self.take_ready(events, now);
        self.accept_burst(now);
        self.settle_overflow(now);
        self.look_around(now);
        self.plane.watch.look(&self.plane, &mut self.used, heard, now);
    }

    /// The last resort: what panics for one connection is caught where that is known ([`close::turn_away`]). Without this
    /// thread no client would be heard any more.
    fn outlives(&mut self, act: impl FnOnce(&mut Self)) {
        if catch_unwind(AssertUnwindSafe(|| act(self))).is_err() {
            self.plane.stats.shard(0).count(Counter::Panics);
            log::error!("{}: the accept thread panicked and goes on", self.plane.name);
            self.rest();
        }
    }

    fn wait(&mut self, events: &mut Events) -> io::Result<()> {
        self.more |= self.pollers.turn(&self.plane.watch);
        let patience = self.patience();
        self.more |= self.pollers.wait(&self.plane.watch, events, patience, LISTENER)?;
        Ok(())
    }

    /// Bytes, or an end, on parked connections.
    fn take_ready(&mut self, events: &Events, now: Moment) {
        let told =
            events.iter().filter_map(|event| Some((Whose::of(event.token()).client()?, End::of(event))));
        let mut found = std::mem::take(&mut self.found);
        self.plane.lot.find(told, &mut found);
        watch::sort(&self.plane, &mut found, &mut self.scratch, now);
        found.drain(..).for_each(|connection| self.admit(connection, now));
        self.found = found;
    }

    /// Answers to requests that are away, and the ends of those whose time is over. Whether there were answers.
    fn take_answered(&mut self, events: &Events, now: Moment) -> bool {
        let mut answered = std::mem::take(&mut self.answered);
        let keys = events.iter().filter_map(|event| Whose::of(event.token()).server());
        self.plane.away.answered(keys, &mut answered);
        let heard = !answered.is_empty();
        if now >= self.next_look_away && self.plane.away.count() > 0 {
            self.next_look_away = now.after(away::LOOK_EVERY);
            self.plane.away.overdue(self.plane.config.timeouts.response, now, &mut answered);
        }
        if !answered.is_empty() {
            // What finds no room stays for the next round.
            answered.retain(|place| !self.plane.queue.push_answered(place));
            self.see_to_workers(now);
        }
        self.answered = answered;
        heard
    }

    /// Workers that are being woken still count as idle: a burst must not pass for one that they can take.
    fn see_to_workers(&self, now: Moment) {
        if self.plane.crew.idle() < self.plane.queue.len() {
            self.plane.crew.nudge_for_queued(now);
        }
    }

    /// Into the queue, behind those who came before; or held, or turned away.
    fn admit(&mut self, connection: Arc<Connection>, ready: Moment) {
        let queue = &self.plane.queue;
        let pushed = match self.overflow.is_empty() {
            // Whoever would be turned away at the end of a wait hears it now.
            true if !self.overflow.reaches_the_end_of(queue, ready) => {
                return self.turn_away(&connection, Reason::QueueFull, ready);
            }
            true => queue.push(connection, ready),
            false => Err(connection),
        };
        if let Err(connection) = pushed.or_else(|connection| self.overflow.hold(queue, connection, ready)) {
            self.turn_away(&connection, Reason::QueueFull, ready);
        }
        self.see_to_workers(ready);
    }

    fn settle_overflow(&mut self, now: Moment) {
        let crew = &self.plane.crew;
        self.overflow.look(&self.plane.queue, crew.done(), crew.workers(), now);
        if self.overflow.is_empty() {
            return;
        }
        let mut away = Vec::new();
        self.overflow.settle(&self.plane.queue, now, &mut away);
        away.iter().for_each(|connection| self.turn_away(connection, Reason::QueueFull, now));
    }

    fn turn_away(&mut self, connection: &Arc<Connection>, reason: Reason, now: Moment) {
        close::turn_away(&self.plane, connection, reason, &mut self.scratch, now);
    }

    fn accept_burst(&mut self, now: Moment) {
        if self.plane.is_draining() && self.listener.is_some() {
            // Clients that the kernel has accepted for us may have sent their requests.
            self.more = true;
            self.accept_some(now);
            if !self.more || self.plane.last_call_is_over(now) {
                self.listener = None;
            }
            return;
        }
        self.accept_some(now);
    }

    fn accept_some(&mut self, now: Moment) {
        if self.paced_until.is_some_and(|until| now < until) {
            return;
        }
        self.paced_until = None;
        for _ in 0..BURST {
            let Some(listener) = self.listener.as_ref().filter(|_| self.more) else { return };
            match acceptfrom_with(&listener.fd, SocketFlags::CLOEXEC) {
                Ok((fd, peer)) => {
                    let peer = peer.and_then(|peer| SocketAddr::try_from(peer).ok());
                    self.welcome(Socket::from(fd), peer, now);
                }
                Err(errno) => self.survive(errno, now),
            }
            if self.paced_until.is_some() {
                return;
            }
        }
    }

    /// A new connection waits for its first bytes as every other does; with a worker to spare it goes
    /// straight there, since the bytes are most likely on their way.
    fn welcome(&mut self, socket: Socket, peer: Option<SocketAddr>, now: Moment) {
        let plane = Arc::clone(&self.plane);
        plane.stats.shard(0).count(Counter::Accepted);
        let connection = plane.lot.enter(socket, peer);
        if self.is_one_too_many(peer)
            || (plane.lot.open() > plane.connections_max && self.make_room(now) == 0)
        {
            return close::turn_away(&plane, &connection, Reason::ConnectionLimit, &mut self.scratch, now);
        }
        if plane.crew.idle() > plane.queue.len() {
            return self.admit(connection, now);
        }
        let deadline = now.after(plane.config.timeouts.client_head);
        if let Err(error) = plane.lot.park(&connection, Carry::default(), now, deadline) {
            close::unwatched(&plane, &connection, &error);
        }
    }

    /// Whether the address has more connections than one may have. Trusted proxies bring many clients.
    fn is_one_too_many(&self, peer: Option<SocketAddr>) -> bool {
        let (limits, listen) = (&self.plane.config.limits, &self.plane.config.listen);
        let brings_many = |address| {
            let senders = listen.proxy_protocol.iter().flatten();
            listen.trusts(address) || senders.into_iter().any(|network| network.contains(address))
        };
        match (limits.connections_per_address, peer.map(|peer| peer.ip())) {
            (Some(most), Some(address)) => self.plane.lot.open_from(address) > most && !brings_many(address),
            _ => false,
        }
    }

    /// Closes the connections that have been idle for longest, or else those that have sent no whole request for longest;
    /// how many that were.
    fn make_room(&mut self, now: Moment) -> usize {
        if !self.room.is_due(now) {
            return 0;
        }
        let before = |age: Duration| Moment::from_nanos(now.as_nanos().saturating_sub(age.as_nanos() as u64));
        let lot = &self.plane.lot;
        let wanted = LookForRoom::wanted(lot.open());
        let mut idle = lot.longest_idle(wanted, before(IDLE_LEAST));
        if idle.is_empty() {
            idle = lot.longest_without_request(wanted, before(HEAD_LEAST));
        }
        self.room.looked(idle.len(), wanted, now);
        let evicted = idle.iter().filter(|one| one.handover.is_closing() || one.handover.reclaim());
        let count = evicted.inspect(|connection| close::now(&self.plane, connection)).count();
        self.plane.stats.shard(0).add(Counter::Evicted, count as u64);
        count
    }

    /// Accept errors, sorted: nothing is left; try again; rest; stop listening.
    fn survive(&mut self, errno: Errno, now: Moment) {
        match errno {
            Errno::AGAIN => self.more = false,
            Errno::BADF | Errno::INVAL | Errno::NOTSOCK | Errno::OPNOTSUPP => {
                log::error!("{}: the listener is broken ({errno}); no new connections", self.plane.name);
                self.listener = None;
            }
            Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM => {
                self.plane.stats.shard(0).count(Counter::AcceptErrors);
                if self.told_at.is_none_or(|told| now.since(told) >= TELL_AGAIN) {
                    self.told_at = Some(now);
                    log::warn!("{}: cannot accept ({errno}); trying again every {PACE:?}", self.plane.name);
                }
                self.paced_until = Some(now.after(PACE));
            }
            // The connection failed before we took it, or a signal came: the next one may be fine.
            _ => self.plane.stats.shard(0).count(Counter::AcceptErrors),
        }
        if self.paced_until.is_some() {
            self.plane.pool.clear_all();
            self.make_room(now);
        }
    }

    /// Ends what missed its deadline, and what need not stay while draining.
    fn look_around(&mut self, now: Moment) {
        if now < self.next_look && !self.plane.is_draining() {
            return;
        }
        self.next_look = now.after(self.look_every);
        let mut overdue = std::mem::take(&mut self.found);
        let all = self.plane.last_call_is_over(now);
        self.plane.lot.overdue(if all { LATER_THAN_ANY } else { now }, &mut overdue);
        for connection in overdue.drain(..) {
            self.end_overdue(&connection, now);
        }
        self.found = overdue;
        self.plane.pool.sweep(now);
    }

    fn end_overdue(&mut self, connection: &Arc<Connection>, now: Moment) {
        let due = connection.deadline() <= now;
        if connection.handover.is_closing() {
            if due {
                close::now(&self.plane, connection);
            }
        } else if connection.handover.reclaim() {
            match connection.has_partial_head() {
                true if due => {
                    close::turn_away(&self.plane, connection, Reason::HeadTimeout, &mut self.scratch, now)
                }
                // A head that has begun is a request in hand: draining waits for the rest of it.
                true => self.park_again(connection, now),
                false if due || connection.socket.is_quiet() => close::now(&self.plane, connection),
                false => self.admit(Arc::clone(connection), now),
            }
        }
    }

    /// The time for draining is over: who waits here with a part of a request hears why it is not served.
    fn part_with_the_rest(&mut self) {
        let now = time::now();
        let mut rest = std::mem::take(&mut self.found);
        self.plane.lot.overdue(LATER_THAN_ANY, &mut rest);
        for connection in rest.drain(..) {
            if connection.handover.reclaim() && connection.has_partial_head() {
                close::turn_away(&self.plane, &connection, Reason::Draining, &mut self.scratch, now);
            }
        }
        self.found = rest;
    }

    fn park_again(&mut self, connection: &Arc<Connection>, now: Moment) {
        let deadline = connection.deadline();
        let carry = connection.take_carry();
        if !matches!(self.plane.lot.park(connection, carry, now, deadline), Ok(None)) {
            close::now(&self.plane, connection);
        }
    }

    /// The time until something is due without an event.
    fn patience(&self) -> Duration {
        if !self.overflow.is_empty() || !self.answered.is_empty() {
            return Duration::from_millis(1);
        }
        let now = time::now();
        if self.more && self.listener.is_some() && self.paced_until.is_none() {
            return Duration::ZERO;
        }
        let look =
            if self.plane.is_draining() { now.after(Duration::from_millis(20)) } else { self.next_look };
        let away = if self.plane.away.count() > 0 { self.next_look_away } else { Moment::NEVER };
        look.min(self.paced_until.unwrap_or(Moment::NEVER))
            .min(away)
            .min(self.plane.watch.look_at(now))
            .since(now)
    }

    fn is_over(&self) -> bool {
        let left = self.listener.is_none() && self.plane.lot.open() == 0;
        self.plane.is_draining() && (left || time::now() >= self.plane.drain_deadline())
    }

    fn rest(&self) {
        let _ = crossbeam_channel::after(PACE).recv();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::config::Config;
    use crate::state::table::Table;
    use crate::state::verdict::Verdicts;

    #[test]
    fn a_panic_does_not_end_the_accept_thread() {
        let mut config = Config::default();
        config.listen.address = "127.0.0.1:0".parse().unwrap();
        let table = Arc::new(Table::new(config.servers.algorithm, false, &[]));
        let opened = Plane::open("test", Arc::new(config), table, Verdicts::default(), None);
        let (plane, mut acceptor) = opened.unwrap();
        acceptor.outlives(|_| panic!("as the test asked for"));
        assert_eq!(plane.stats.total(Counter::Panics), 1);
        let mut did = false;
        acceptor.outlives(|_| did = true);
        assert!(did && plane.stats.total(Counter::Panics) == 1);
        plane.drain(time::now().after(Duration::from_secs(20)));
        acceptor.run();
        assert!(plane.accept_ended.load(Ordering::Acquire), "it goes on to its orderly end");
    }
}
