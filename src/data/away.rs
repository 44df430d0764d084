//! Step 7, later: away. With many requests in hand at once, a worker does not wait for its server: it leaves the
//! exchange with the accept thread's poller, as it leaves a client between two requests ([`super::park`]), and takes
//! other work. The answer's first bytes put it back into the queue.
//!
//! A thread that waits is cheap while there are few: a stack trace shows the request, and no word is passed between
//! threads. Hundreds of them are hundreds of switches (measured with 1,000 connections and servers of 10 ms: 34 us a
//! request, against 16 of nginx). So a worker waits while there are fewer than [`MANY`], and never beyond
//! `max_workers` in all: that stays the most requests that are with the servers at once, but for a few where a hire and
//! a request that leaves pass each other.
//!
//! A connection to a server is watched from its first time away until it is next used by a worker that waits. Who has
//! it is told by the same word as for clients ([`Handover`]).

use super::Plane;
use super::ahead::Pending;
use super::dial::Link;
use super::handover::{Edge, Handover};
use super::park::Ticket;
use crate::base::time::Moment;
use crate::policy::crew::{AWAY_STAYS, MANY};
use mio::unix::SourceFd;
use mio::{Interest, Registry};
use parking_lot::Mutex;
use slab::Slab;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// How often the accept thread looks for exchanges whose time is over, or whose client has gone.
pub const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A client that has closed its side is taken for gone after this time, as by a worker that waits.
const GONE_AFTER: Duration = super::dial::SERVER_SLICE;

/// All exchanges that are away, and the links that are watched for them.
#[derive(Debug)]
pub struct Away {
    places: Mutex<Slab<(Ticket, Arc<Place>)>>,
    registry: Registry,
    count: AtomicUsize,
    /// When the last one was left, in nanoseconds; 0 before the first.
    last_left: AtomicU64,
    /// Links that were ever watched, as far as that can be counted.
    turns: AtomicU32,
}

/// What is known of one watched link.
#[derive(Debug)]
pub struct Place {
    handover: Handover,
    pending: Mutex<Option<Pending>>,
    /// Since when it is away, in nanoseconds.
    since: AtomicU64,
}

/// A link's own place. The link is watched for as long as this lives.
#[derive(Debug)]
pub struct Berth {
    away: Arc<Away>,
    ticket: Ticket,
    place: Arc<Place>,
}

impl Away {
    /// Nobody is away; links will be watched by this poller.
    pub fn new(registry: Registry) -> Arc<Self> {
        let (places, count, last_left) = (Mutex::default(), AtomicUsize::new(0), AtomicU64::new(0));
        Arc::new(Away { places, registry, count, last_left, turns: AtomicU32::new(0) })
    }

    /// Exchanges that are away now.
    pub fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Whether a request was left a moment ago.
    fn was_used(&self, now: Moment) -> bool {
        let last_left = self.last_left.load(Ordering::Relaxed);
        last_left > 0 && now.since(Moment::from_nanos(last_left)) < AWAY_STAYS
    }

    /// Leaves an exchange until its answer comes. It comes back at once when the answer is here already, or when the
    /// link cannot be watched: then the caller waits for it.
    pub fn leave(self: &Arc<Self>, mut pending: Pending, now: Moment) -> Option<Pending> {
        let Some(place) = self.place_of(&mut pending.sent.link) else { return Some(pending) };
        place.since.store(now.as_nanos(), Ordering::Release);
        *place.pending.lock() = Some(pending);
        self.count.fetch_add(1, Ordering::Relaxed);
        self.last_left.store(now.as_nanos(), Ordering::Relaxed);
        if place.handover.park() { None } else { self.take(&place) }
    }

    /// The link's place. It is watched from here on, before anybody else can take it over and close it; a link that
    /// cannot be watched gets none.
    fn place_of(self: &Arc<Self>, link: &mut Link) -> Option<Arc<Place>> {
        if link.berth.is_none() {
            let berth = self.berth();
            self.watch(link.socket.raw(), berth.ticket).ok()?;
            link.berth = Some(berth);
        }
        link.berth.as_ref().map(|berth| Arc::clone(&berth.place))
    }

    /// The exchange of this place, for the one who has taken it over.
    pub fn take(&self, place: &Place) -> Option<Pending> {
        let pending = place.pending.lock().take();
        self.count.fetch_sub(usize::from(pending.is_some()), Ordering::Relaxed);
        pending
    }

    /// The places of these tickets whose exchange the caller takes over: bytes came, or an end.
    pub fn answered(&self, told: impl Iterator<Item = Ticket>, into: &mut Vec<Arc<Place>>) {
        let mut told = told.peekable();
        if told.peek().is_none() {
            return;
        }
        let places = self.places.lock();
        let known = told.filter_map(|ticket| places.get(ticket.key).filter(|(here, _)| *here == ticket));
        into.extend(
            known.map(|(_, place)| place).filter(|place| place.handover.edge() == Edge::Queue).cloned(),
        );
    }

    /// The places whose exchange the caller takes over because a worker has to end it: no answer came within `limit`,
    /// or the client has gone.
    pub fn overdue(&self, limit: Duration, now: Moment, into: &mut Vec<Arc<Place>>) {
        let places = self.places.lock();
        let is_overdue = |place: &Place| {
            let waited = now.since(Moment::from_nanos(place.since.load(Ordering::Acquire)));
            let has_ended = || place.pending.lock().as_ref().is_some_and(|it| it.connection.has_ended());
            waited >= limit || (waited >= GONE_AFTER && has_ended())
        };
        let all = places.iter().map(|(_, (_, place))| place).filter(|place| place.handover.is_parked());
        into.extend(all.filter(|place| is_overdue(place) && place.handover.reclaim()).cloned());
    }

    fn berth(self: &Arc<Self>) -> Berth {
        let place = Place::new();
        let turn = self.turns.fetch_add(1, Ordering::Relaxed);
        let mut places = self.places.lock();
        let entry = places.vacant_entry();
        let ticket = Ticket::new(entry.key(), turn);
        entry.insert((ticket, Arc::clone(&place)));
        Berth { away: Arc::clone(self), ticket, place }
    }

    /// Edge-triggered. The poller tells at once when bytes are there already.
    fn watch(&self, fd: i32, ticket: Ticket) -> io::Result<()> {
        self.registry.register(&mut SourceFd(&fd), ticket.token(true), Interest::READABLE)
    }
}

impl Place {
    /// Of a link that is in use.
    pub(super) fn new() -> Arc<Self> {
        let (handover, pending, since) = (Handover::active(), Mutex::default(), AtomicU64::new(0));
        Arc::new(Place { handover, pending, since })
    }
}

impl Drop for Berth {
    fn drop(&mut self) {
        self.place.handover.gone();
        let _ = self.away.places.lock().try_remove(self.ticket.key);
    }
}

impl Link {
    /// A request is about to be sent: what was told of the link before is over.
    pub fn begins(&self) {
        if let Some(berth) = &self.berth {
            berth.place.handover.reads();
        }
    }

    /// The poller told of something since the last answer was taken: bytes that came with it, or an end that no edge
    /// will tell of again.
    pub fn was_stirred(&self) -> bool {
        self.berth.as_ref().is_some_and(|berth| berth.place.handover.is_stirred())
    }

    /// A worker will wait for this link itself: the accept thread need not hear of it.
    pub fn unwatch(&mut self) {
        if let Some(berth) = self.berth.take() {
            // The worst that can come of a failure is events that nobody needs.
            let _ = berth.away.registry.deregister(&mut SourceFd(&self.socket.raw()));
        }
    }
}

impl Plane {
    /// Whether so many requests are in hand that a worker should not wait for one of them, and there is a place for one
    /// more: each worker that there is may come to wait for one, too. Those in the queue count as well where requests were
    /// away a moment ago: answers may come in waves, and between two of them a small crew has few in hand. And they do
    /// where servers are not known as quick and there are places for many: a crew that has just begun has few in hand.
    pub(super) fn has_many_in_hand(&self, now: Moment) -> bool {
        let (away, workers, most) =
            (self.away.count(), self.crew.workers(), self.config.threadpool.bounds.max);
        let is_new_crowd = !self.queue.is_quick() && workers + MANY <= most;
        let queued = if is_new_crowd || self.away.was_used(now) { self.queue.len() } else { 0 };
        self.crew.busy() + away + queued >= MANY && self.has_place_away()
    }

    /// Whether there is a place for one more.
    pub(super) fn has_place_away(&self) -> bool {
        self.crew.workers() + self.away.count() <= self.config.threadpool.bounds.max
    }
}

#[cfg(test)]
mod tests {
    use super::super::ahead::tests::{ahead, plane, plane_with};
    use super::super::socket::Socket;
    use super::*;
    use crate::base::time;
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;

    #[test]
    fn what_waits_in_the_queue_counts_as_in_hand_where_requests_were_away_a_moment_ago() {
        let plane = plane_with(|config| config.threadpool.bounds.max = 100);
        plane.crew.counts_in();
        for _ in 1..MANY {
            let socket = Socket::from(OwnedFd::from(UnixStream::pair().unwrap().0));
            plane.queue.push(plane.lot.enter(socket, None), Moment::START).unwrap();
        }
        let (begun, ms) = (Moment::from_millis(1), Duration::from_millis);
        let (mut ahead, _servers) = ahead(&plane, 1);
        assert!(plane.has_many_in_hand(begun), "nobody knows the servers");
        plane.queue.adapt(ms(1));
        assert!(!plane.has_many_in_hand(begun), "servers are quick, and nothing was ever away");
        assert!(plane.away.leave(ahead.next(&plane).unwrap(), begun).is_none(), "it is away");
        let mut back = Vec::new();
        plane.away.overdue(Duration::ZERO, begun, &mut back);
        back.iter().for_each(|place| drop(plane.away.take(place)));
        assert_eq!(plane.away.count(), 0);
        assert!(plane.has_many_in_hand(begun.after(ms(1))), "between two waves of answers");
        assert!(!plane.has_many_in_hand(begun.after(AWAY_STAYS)), "that was long ago");
        plane.queue.adapt(ms(10));
        assert!(plane.has_many_in_hand(begun.after(AWAY_STAYS)), "servers are not quick");
        (0..100 - MANY).for_each(|_| plane.crew.counts_in());
        assert!(!plane.has_many_in_hand(begun.after(AWAY_STAYS)), "there are no places for many");
    }

    #[test]
    fn a_link_that_cannot_be_watched_is_not_taken_for_one_that_is() {
        let plane = plane();
        let (mut ahead, _servers) = ahead(&plane, 1);
        let mut pending = ahead.next(&plane).unwrap();
        // The poller takes no plain files.
        let file = std::fs::File::open("/proc/self/exe").unwrap();
        pending.sent.link.socket = Socket::from(OwnedFd::from(file));
        let back = plane.away.leave(pending, time::now()).unwrap();
        assert!(back.sent.link.berth.is_none(), "the next one to leave it would wait for an event in vain");
        assert_eq!((plane.away.count(), plane.away.places.lock().len()), (0, 0));
    }

    #[test]
    fn an_answer_that_finds_no_room_in_the_queue_stays_with_the_accept_thread() {
        let plane = plane();
        let berth = plane.away.berth();
        let mut told = 0;
        while plane.queue.push_answered(&berth.place) {
            told += 1;
        }
        assert_eq!(plane.queue.len(), told);
    }
}
