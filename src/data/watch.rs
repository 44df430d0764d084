//! Step 2, while many requests are away ([`super::away`]): the watch. Workers wait at the poller themselves, in the accept
//! thread's place, and serve what it tells them of. So a request passes through one thread, as in an event loop, and not
//! from the accept thread to a worker for the request and once more for its answer.
//!
//! The accept thread gives the poller to a worker, and gets it back when the last one has left; meanwhile it waits for its
//! listener, and looks at the poller itself when no worker has come there for a while ([`UNATTENDED`]). Nothing is
//! registered anew: who may take what the poller told of is decided by the word of each connection
//! ([`super::handover`]), whoever hears of it. What would keep a worker for one request alone makes it leave first, and
//! give what it was told of to the queue ([`super::ahead::Ahead::disperse`]).

use super::Plane;
use super::admit::Work;
use super::away::Place as AwayPlace;
use super::close;
use super::handover::Edge;
use super::park::{Connection, End, Whose};
use super::rest::Resting;
use crate::base::load;
use crate::base::time::{self, Moment};
use crate::policy::crew::{AWAY_STAYS, MANY};
use crate::policy::rest::Why;
use crate::policy::watch::{least, places};
use crate::state::stats::Outcome;
use mio::{Registry, Token, Waker};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

/// Events that a worker takes at once where it is alone there: all, so that what waits is known to wait (what it cannot
/// serve in time is refused as from the queue)…
const ALL: usize = 1024;
/// …and where others are there as well.
const SOME: usize = 64;
/// How long a worker waits at the poller before it looks into the queue.
#[cfg(target_os = "linux")]
const STAY: Duration = Duration::from_millis(4);
/// After so many waits in a row that heard of nothing it leaves the watch: answers come in waves.
const QUIET: u32 = 5;
/// When no worker has been at the poller for so long, the accept thread looks itself…
const UNATTENDED: Duration = Duration::from_millis(20);
/// …and then so often.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// The watch of a plane.
#[derive(Debug)]
pub struct Watch {
    poller: Registry,
    /// Wakes the accept thread, which waits elsewhere while workers have the poller.
    waker: Waker,
    processors: usize,
    /// Workers on watch, or called to it. 0: the accept thread has the poller; only that gives it away.
    count: AtomicUsize,
    places: AtomicUsize,
    /// When workers got the poller, and when one was last there; in nanoseconds.
    begun: AtomicU64,
    attended: AtomicU64,
    rest: Resting,
}

/// A worker's own part of it.
#[derive(Debug, Default)]
pub struct OnWatch {
    place: Option<Place>,
    /// What it was told of and has not seen to.
    told: VecDeque<Work>,
    events: Vec<(Whose, End)>,
    found: Vec<Arc<Connection>>,
    answered: Vec<Arc<AwayPlace>>,
}

/// A place on the watch; given back when dropped.
#[derive(Debug)]
struct Place {
    watch: Arc<Watch>,
    /// When many requests were last seen in hand.
    many_at: Moment,
    /// Waits in a row that heard of nothing.
    quiet: u32,
}

impl Watch {
    /// Of this poller, which the accept thread has. The waker is for where that waits when it has it not.
    pub fn new(poller: Registry, waker: Waker) -> Arc<Self> {
        let processors = load::processors();
        Arc::new(Watch {
            poller,
            waker,
            processors,
            count: AtomicUsize::new(0),
            places: AtomicUsize::new(least(processors)),
            begun: AtomicU64::new(0),
            attended: AtomicU64::new(0),
            rest: Resting::default(),
        })
    }

    /// Workers on watch, or called to it.
    pub fn count(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// Whether workers have the poller. Once it is so, it stays so until the last one has left.
    pub fn is_kept(&self) -> bool {
        self.count() > 0
    }

    /// Wakes the accept thread where it waits while workers have the poller.
    pub fn wake(&self) {
        // Without it, it looks a moment later.
        let _ = self.waker.wake();
    }

    /// When the accept thread should look at the poller itself.
    pub fn look_at(&self, now: Moment) -> Moment {
        match self.is_kept() {
            true if self.is_unattended(now) => now.after(LOOK_AGAIN),
            true => Moment::from_nanos(self.attended.load(Ordering::Relaxed)).after(UNATTENDED),
            false => Moment::NEVER,
        }
    }

    /// Workers have the poller, and none has been there for long.
    pub fn is_unattended(&self, now: Moment) -> bool {
        self.is_kept() && now.since(Moment::from_nanos(self.attended.load(Ordering::Relaxed))) >= UNATTENDED
    }

    /// The accept thread, between two waits: gives the poller away while many requests are away and are answered, and calls
    /// one more worker where those on watch have no rest.
    pub fn look(&self, plane: &Plane, heard: &mut load::Heard, answered: bool, now: Moment) {
        let calls = match self.is_kept() {
            true => {
                let Some(used) = plane.crew.used(heard, now) else { return };
                let wanted = places(self.places.load(Ordering::Relaxed), self.processors, used);
                self.places.store(wanted, Ordering::Relaxed);
                self.grows()
            }
            false => answered && plane.away.count() >= MANY && !plane.is_draining() && self.opens(now),
        };
        if calls && !plane.queue.push_call() {
            self.shrinks();
        }
    }

    /// The poller is given to workers from here on, where that can be: by the accept thread, which does not wait there
    /// any more.
    fn opens(&self, now: Moment) -> bool {
        if cfg!(not(target_os = "linux")) || self.rest.is_on(now) {
            return false;
        }
        self.begun.store(now.as_nanos(), Ordering::Relaxed);
        self.attended.store(now.as_nanos(), Ordering::Relaxed);
        self.count.store(1, Ordering::Release);
        true
    }

    /// One more, where there are some but not too many.
    fn grows(&self) -> bool {
        let places = self.places.load(Ordering::Relaxed);
        let one_more = |count| (count > 0 && count < places).then_some(count + 1);
        self.count.fetch_update(Ordering::AcqRel, Ordering::Relaxed, one_more).is_ok()
    }

    fn shrinks(&self) {
        if self.count.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.wake();
        }
    }

    fn place(self: &Arc<Self>, now: Moment) -> Place {
        Place { watch: Arc::clone(self), many_at: now, quiet: 0 }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.watch.shrinks();
    }
}

impl Place {
    /// Whether the worker stays, with so many requests away.
    fn is_due(&mut self, away: usize, now: Moment) -> bool {
        if away >= MANY {
            self.many_at = now;
        }
        let is_one_too_many = self.watch.count() > self.watch.places.load(Ordering::Relaxed);
        self.quiet < QUIET && !is_one_too_many && now.since(self.many_at) < AWAY_STAYS
    }

    /// A wait at the poller has heard of so much.
    fn has_heard(&mut self, events: usize, now: Moment) {
        self.watch.attended.store(now.as_nanos(), Ordering::Relaxed);
        self.quiet = if events == 0 { self.quiet + 1 } else { 0 };
        // What waits in the poller is in hand, too.
        if events >= MANY {
            self.many_at = now;
        }
    }
}

impl OnWatch {
    /// Whether the worker is on watch.
    pub fn is_on(&self) -> bool {
        self.place.is_some()
    }

    /// The next that it was told of.
    pub fn take_told(&mut self) -> Option<Work> {
        self.told.pop_front()
    }

    /// Whether there is more.
    pub fn has_told(&self) -> bool {
        !self.told.is_empty()
    }

    /// It was called, and counted.
    pub fn begins(&mut self, plane: &Plane, now: Moment) {
        match self.place {
            None => self.place = Some(plane.watch.place(now)),
            Some(_) => plane.watch.shrinks(),
        }
    }

    /// Waits at the poller, if it is on watch or finds a place there. False: it found none, or has left.
    pub fn waits(&mut self, plane: &Plane, scratch: &mut [u8]) -> bool {
        let now = time::now();
        if self.place.is_none() && plane.watch.grows() {
            self.place = Some(plane.watch.place(now));
        }
        let Some(place) = &mut self.place else { return false };
        if plane.is_draining() || !place.is_due(plane.away.count(), now) {
            self.leaves(plane);
            return false;
        }
        let most = if plane.watch.count() == 1 { ALL } else { SOME };
        wait(&plane.watch.poller, most, &mut self.events);
        let now = time::now();
        place.has_heard(self.events.len(), now);
        let OnWatch { told, events, found, answered, .. } = self;
        plane.away.answered(events.iter().filter_map(|(whose, _)| whose.server()), answered);
        told.extend(answered.drain(..).map(Work::Answered));
        let clients = events.iter().filter_map(|(whose, end)| Some((whose.client()?, *end)));
        plane.lot.find(clients, found);
        sort(plane, found, scratch, now);
        told.extend(found.drain(..).map(|connection| Work::Serve { connection, ready: now }));
        events.clear();
        true
    }

    /// It will be kept by one request alone: it leaves, and lets it be for a while.
    pub fn parts(&mut self, plane: &Plane, why: Why, now: Moment) {
        if self.is_on() {
            let begun = Moment::from_nanos(plane.watch.begun.load(Ordering::Relaxed));
            plane.watch.rest.begins(begun, why, now);
            self.leaves(plane);
        }
    }

    /// It gives back its place, and what it was told of; what finds no room in the queue it keeps.
    pub fn leaves(&mut self, plane: &Plane) {
        if !self.is_on() {
            return;
        }
        while let Some(work) = self.told.pop_front() {
            if let Err(work) = plane.queue.push_told(work) {
                self.told.push_front(work);
                break;
            }
        }
        self.place = None;
        // No event of the poller will tell that these wait.
        plane.crew.nudge();
    }
}

/// Of parked connections on which bytes came, or an end, those stay that a worker is to serve. They are the caller's.
pub(super) fn sort(plane: &Plane, told: &mut Vec<Arc<Connection>>, scratch: &mut [u8], now: Moment) {
    told.retain(|connection| match connection.handover.edge() {
        // Who came and went without a word is no work for the crew, nor is who broke off.
        Edge::Queue if connection.is_broken() => gives_up(plane, connection, !connection.socket.is_at_end()),
        Edge::Queue if connection.has_ended() && connection.socket.is_at_end() => {
            gives_up(plane, connection, false)
        }
        Edge::Queue => true,
        Edge::Drain => {
            close::drain(plane, connection, scratch, now);
            false
        }
        Edge::Noted => false,
    });
}

/// The client has closed or reset its connection: whatever it sent before, here or waiting, is a request that it gave up.
fn gives_up(plane: &Plane, connection: &Arc<Connection>, has_waiting: bool) -> bool {
    if has_waiting || connection.has_partial_head() {
        plane.stats.shard(0).ends(Outcome::given_up());
    }
    close::now(plane, connection);
    false
}

/// Waits for [`STAY`] at the most. mio's own wait is for one thread at a time; this one takes any number, of which each
/// event wakes one.
#[cfg(target_os = "linux")]
fn wait(poller: &Registry, most: usize, into: &mut Vec<(Whose, End)>) {
    use rustix::event::{Timespec, epoll};
    let stay = Timespec { tv_sec: 0, tv_nsec: STAY.as_nanos() as i64 };
    let mut events = [const { std::mem::MaybeUninit::<epoll::Event>::uninit() }; ALL];
    // A wait that a signal ended, or that failed, heard of nothing; the next one follows.
    if let Ok((events, _)) = epoll::wait(poller, &mut events[..most], Some(&stay)) {
        into.extend(events.iter().map(|event| {
            let (token, flags) = (Token(event.data.u64() as usize), event.flags);
            (Whose::of(token), End::of_flags(flags))
        }));
    }
}

/// Elsewhere nobody is ever on watch: see [`Watch::opens`].
#[cfg(not(target_os = "linux"))]
fn wait(_: &Registry, _: usize, _: &mut Vec<(Whose, End)>) {}

/// What workers have been told of at the most, where there are so many of them.
pub fn told_at_most(workers: usize) -> usize {
    (ALL + SOME * load::processors()).min(ALL * workers)
}

#[cfg(target_os = "linux")]
#[cfg(test)]
mod tests {
    use super::super::accept::WAKER;
    use super::super::ahead::tests::{ahead, plane};
    use super::super::listen::Pollers;
    use super::super::park::{Carry, Ticket};
    use super::super::socket::Socket;
    use super::*;
    use mio::unix::SourceFd;
    use mio::{Events, Interest};
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::{AsRawFd, OwnedFd};
    use std::os::unix::net::UnixStream;

    /// A parked client, and its own end.
    fn client(plane: &Plane) -> (Arc<Connection>, UnixStream) {
        let (near, far) = UnixStream::pair().unwrap();
        let connection = plane.lot.enter(Socket::from(OwnedFd::from(near)), None);
        plane.lot.park(&connection, Carry::default(), time::now(), Moment::NEVER).unwrap();
        (connection, far)
    }

    /// The poller is the workers', and one has a place.
    fn on_watch(plane: &Plane) -> OnWatch {
        let (mut worker, now) = (OnWatch::default(), time::now());
        assert!(plane.watch.opens(now));
        worker.begins(plane, now);
        worker
    }

    fn looks(worker: &mut OnWatch, plane: &Plane) -> bool {
        worker.waits(plane, &mut [0; 1024])
    }

    #[test]
    fn it_hears_of_answers_and_of_clients() {
        let plane = plane();
        let mut worker = on_watch(&plane);
        let (mut sent, mut servers) = ahead(&plane, 1);
        assert!(plane.away.leave(sent.next(&plane).unwrap(), time::now()).is_none());
        let (connection, mut far) = client(&plane);
        servers[0].write_all(b"x").unwrap();
        far.write_all(b"x").unwrap();
        let (_quiet, _far) = client(&plane);
        assert!(looks(&mut worker, &plane));
        let mut told = std::iter::from_fn(|| worker.take_told());
        let Some(Work::Answered(place)) = told.next() else { panic!("the answer comes first") };
        assert!(plane.away.take(&place).is_some());
        let Some(Work::Serve { connection: heard, .. }) = told.next() else { panic!("then the client") };
        assert!(Arc::ptr_eq(&heard, &connection) && told.next().is_none());
    }

    #[test]
    fn who_leaves_gives_back_what_it_was_told_of_and_the_last_one_the_poller() {
        let plane = plane();
        let (mut worker, mut second) = (on_watch(&plane), OnWatch::default());
        plane.watch.places.store(2, Ordering::Relaxed);
        assert!(looks(&mut second, &plane) && plane.watch.count() == 2, "a place was free");
        assert!(!looks(&mut OnWatch::default(), &plane), "and none is");
        let mut clients: Vec<_> = (0..3).map(|_| client(&plane)).collect();
        clients.iter_mut().for_each(|(_, far)| far.write_all(b"x").unwrap());
        let (mut sent, mut servers) = ahead(&plane, 1);
        assert!(plane.away.leave(sent.next(&plane).unwrap(), time::now()).is_none());
        servers[0].write_all(b"x").unwrap();
        while worker.told.len() < 4 {
            assert!(looks(&mut worker, &plane));
        }
        assert!(worker.has_told() && worker.take_told().is_some());
        worker.parts(&plane, Why::Kept, time::now());
        assert_eq!((plane.queue.len(), plane.watch.count(), worker.has_told()), (3, 1, false));
        assert!(plane.watch.is_kept() && !worker.is_on());
        second.leaves(&plane);
        assert!(!plane.watch.is_kept());
        assert!(!looks(&mut worker, &plane), "nobody joins what is not there");
        assert!(!plane.watch.opens(time::now()), "it rests");
    }

    #[test]
    fn the_accept_thread_hears_of_its_listener_wherever_it_waits_and_is_woken_when_it_has_the_poller_back() {
        const LISTENER: Token = Token(0);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut pollers = Pollers::new().unwrap();
        pollers.add(listener.as_raw_fd(), LISTENER).unwrap();
        let waker = pollers.waker(WAKER).unwrap();
        let watch = Watch::new(pollers.shared.registry().try_clone().unwrap(), waker);
        let mut events = Events::with_capacity(8);
        let mut waits = |time| {
            let turned = pollers.turn(&watch);
            (turned, pollers.wait(&watch, &mut events, time, LISTENER).unwrap())
        };
        let (long, short) = (Duration::from_secs(5), Duration::from_millis(1));
        let _first = TcpStream::connect(address).unwrap();
        assert_eq!(waits(long), (false, true));
        assert!(watch.opens(time::now()));
        let place = watch.place(time::now());
        assert_eq!(waits(long), (true, true), "it was told of in both places");
        let _second = TcpStream::connect(address).unwrap();
        assert_eq!(waits(long), (false, true));
        // Workers take what the shared poller tells, the listener's events as well: a turn asks to look in any case.
        wait(&watch.poller, SOME, &mut Vec::new());
        drop(place);
        assert!(!watch.is_kept());
        assert_eq!(waits(short), (true, false));
        assert!(watch.opens(time::now()));
        assert_eq!(waits(short), (true, false), "it is woken by what the last one left behind, once");
        // It waits there already when the last one leaves.
        let begun = time::now();
        assert!(!pollers.turn(&watch));
        drop(watch.place(begun));
        assert!(!pollers.wait(&watch, &mut events, long, LISTENER).unwrap());
        assert!(!watch.is_kept() && time::now().since(begun) < long);
    }

    #[test]
    fn where_no_worker_comes_the_accept_thread_is_told_of_all() {
        let mut pollers = Pollers::new().unwrap();
        let (registry, waker) = (pollers.shared.registry().try_clone(), pollers.waker(WAKER));
        let watch = Watch::new(registry.unwrap(), waker.unwrap());
        let (near, _far) = UnixStream::pair().unwrap();
        let (fd, client) = (near.as_raw_fd(), Ticket::new(1, 1));
        let writable = Interest::WRITABLE;
        pollers.shared.registry().register(&mut SourceFd(&fd), client.token(false), writable).unwrap();
        assert!(watch.opens(time::now()) && pollers.turn(&watch));
        while !watch.is_unattended(time::now()) {
            std::thread::yield_now();
        }
        let mut events = Events::with_capacity(8);
        assert!(!pollers.wait(&watch, &mut events, Duration::from_millis(1), Token(0)).unwrap());
        let told: Vec<_> = events.iter().map(|event| Whose::of(event.token())).collect();
        assert_eq!(told, [Whose::Client(client)]);
    }

    #[test]
    fn it_ends_when_the_plane_drains() {
        let plane = plane();
        let mut worker = on_watch(&plane);
        assert!(looks(&mut worker, &plane));
        plane.drain(Moment::NEVER);
        assert!(!looks(&mut worker, &plane) && !plane.watch.is_kept());
    }

    #[test]
    fn the_poller_is_given_away_when_many_are_away_and_are_answered() {
        let plane = plane();
        let (mut used, mut servers) = (load::Heard::default(), Vec::new());
        let mut look = |answered| plane.watch.look(&plane, &mut used, answered, time::now());
        for count in 1..=MANY {
            let (mut sent, server) = ahead(&plane, 1);
            servers.push(server);
            assert!(plane.away.leave(sent.next(&plane).unwrap(), time::now()).is_none());
            look(count < MANY);
            assert!(!plane.watch.is_kept());
        }
        look(true);
        assert!(plane.watch.is_kept() && matches!(plane.queue.take_now(), Some(Work::Watch)));
    }

    #[test]
    fn it_ends_when_few_are_away_and_when_nothing_is_heard() {
        let plane = plane();
        let watch = &plane.watch;
        let ms = Moment::from_millis;
        assert!(watch.opens(ms(0)));
        let mut place = watch.place(ms(1000));
        assert!(place.is_due(MANY, ms(1001)));
        assert!(place.is_due(MANY - 1, ms(1250)), "between two waves");
        assert!(!place.is_due(MANY - 1, ms(1251)));
        place.has_heard(MANY, ms(2000));
        assert!(place.is_due(0, ms(2001)), "what waits in the poller is in hand as well");
        (1..QUIET).for_each(|_| place.has_heard(0, ms(2002)));
        assert!(place.is_due(MANY, ms(2003)));
        place.has_heard(0, ms(2004));
        assert!(!place.is_due(MANY, ms(2005)));
        place.has_heard(1, ms(2006));
        watch.places.store(0, Ordering::Relaxed);
        assert!(!place.is_due(MANY, ms(2007)), "there are too many");
    }

    #[test]
    fn where_no_worker_comes_the_accept_thread_looks_itself() {
        let plane = plane();
        let (watch, ms) = (&plane.watch, Moment::from_millis);
        assert_eq!((watch.look_at(ms(5)), watch.is_unattended(ms(99))), (Moment::NEVER, false));
        assert!(watch.opens(ms(10)));
        assert_eq!((watch.look_at(ms(15)), watch.is_unattended(ms(29))), (ms(30), false));
        assert!(watch.is_unattended(ms(30)));
        assert_eq!(watch.look_at(ms(31)), ms(31).after(LOOK_AGAIN));
        let mut place = watch.place(ms(10));
        place.has_heard(0, ms(40));
        assert!(!watch.is_unattended(ms(41)));
    }
}
