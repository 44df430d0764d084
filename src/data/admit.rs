//! Step 3: admitted. The bounded channel between the accept thread and the workers, and what becomes of a
//! request that finds it full.

use super::ahead::{self, Pending};
use super::away::Place;
use super::company;
use super::park::Connection;
use super::socket::{self, Want};
use super::watch;
use crate::base::time::Moment;
use crate::policy::admit::{self, Admit, Codel};
use crate::state::crew::{Crew, Done};
use crossbeam_channel::{Receiver, Sender, TrySendError, bounded, select};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

/// What the channel carries.
#[derive(Debug)]
pub enum Work {
    /// Bytes came on this connection.
    Serve {
        /// The connection; whoever takes the message holds it.
        connection: Arc<Connection>,
        /// When the accept thread learnt of the bytes.
        ready: Moment,
    },
    /// A request that another worker sent on its way, and could not wait for.
    Resume {
        /// The request.
        pending: Box<Pending>,
        /// It had been on its way for longer than quick servers take.
        slow: bool,
    },
    /// The answer to a request that is away, or the end of its time.
    Answered(Arc<Place>),
    /// The worker that takes this goes on watch ([`super::watch`]).
    Watch,
    /// The worker that takes this leaves the crew.
    Leave,
}

/// The channel, with the rules for what waited in it.
#[derive(Debug)]
pub struct Queue {
    sender: Sender<Work>,
    receiver: Receiver<Work>,
    /// What comes first: answers, of which each makes room at a server and is done with soon, and calls to the watch.
    first: (Sender<Work>, Receiver<Work>),
    /// Connections that may wait. The channel has more room: for requests that are at a server already, and notices.
    capacity: usize,
    rules: admit::Rules,
    codel: Codel,
    /// The patience of the moment, in nanoseconds; see [`Queue::adapt`].
    patience: AtomicU64,
    /// Requests hold a worker for very short times at the moment.
    quick: AtomicBool,
    /// Requests that were given back because their server is not quick, and wait here.
    slow: AtomicUsize,
}

/// Requests that take less than this come from servers so quick that a worker need not wait for each, until they take
/// [`BRISK`] or more.
const QUICK: Duration = Duration::from_millis(2);
/// Where requests take long, a queue that stands for a few of them is no overload.
const HOLDS_PATIENT: u32 = 4;
/// Requests that hold a worker for less than this are brisk: then a queue is bytes that came at once, or a
/// moment in which the machine had no time for us, and waiting beats refusing.
const BRISK: Duration = Duration::from_millis(5);
/// By this factor the patience is longer for brisk requests.
const LENIENT: u32 = 12;
/// And by this one for requests that have a place, in the queue or by a promise of the overflow: only a crew
/// that has come to a stop makes them wait for so long.
const PLACED: u32 = 25;
/// Who would be reached only in the last part of the time that is given in a standing queue is not let in: the
/// forecast is not that good.
const TIMELY: f64 = 0.8;

/// A client that has closed its side and waited for so long is taken for gone.
const LONG_WAIT: Duration = Duration::from_secs(1);
/// After such a wait it is worth a system call to see whether the client has reset its connection…
const WAIT: Duration = Duration::from_millis(50);
/// …and after a shorter one where it is new: crowds that come only to break off again have no history.
const STRANGERS_WAIT: Duration = Duration::from_millis(5);

impl Queue {
    /// A queue of so many requests, for a crew of at most so many workers.
    pub fn new(capacity: usize, workers: usize, rules: admit::Rules) -> Self {
        let capacity = capacity.max(1);
        // Notices are never more than the workers; each worker may give back what it has sent ahead, those in company
        // more, and those on watch what they were told of.
        let given_back = ahead::MOST * workers + company::sent_at_most(workers);
        let (sender, receiver) = bounded(capacity + given_back + watch::told_at_most(workers) + workers + 2);
        // Requests that are away are not more than the workers, but for a few, and so are calls.
        let first = bounded(3 * workers);
        let patience = AtomicU64::new((rules.patience * PLACED).as_nanos() as u64);
        let (codel, quick, slow) = (Codel::new(), AtomicBool::new(false), AtomicUsize::new(0));
        Queue { sender, receiver, first, capacity, rules, codel, patience, quick, slow }
    }

    /// Requests and answers that wait.
    pub fn len(&self) -> usize {
        self.receiver.len() + self.first.1.len()
    }

    /// Answers that wait: all that come first, but for a call.
    pub fn answered(&self) -> usize {
        self.first.1.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.receiver.is_empty() && self.first.1.is_empty()
    }

    /// Queues a connection; a full queue hands it back.
    pub fn push(&self, connection: Arc<Connection>, ready: Moment) -> Result<(), Arc<Connection>> {
        if self.is_full() {
            return Err(connection);
        }
        match self.sender.try_send(Work::Serve { connection, ready }) {
            Err(TrySendError::Full(Work::Serve { connection, .. })) => Err(connection),
            // The plane holds the receiver, so the channel is never disconnected, and only `Serve` was sent.
            _ => Ok(()),
        }
    }

    /// Queues a request that is on its way already. There is room beyond the capacity: only streamers that give back
    /// much at once can find none, and have it handed back.
    pub fn push_back(&self, pending: Box<Pending>, now: Moment) -> Result<(), Box<Pending>> {
        let slow = now.since(pending.started) >= QUICK;
        // Counted before it can be taken.
        self.slow.fetch_add(usize::from(slow), Relaxed);
        match self.sender.try_send(Work::Resume { pending, slow }) {
            Err(TrySendError::Full(Work::Resume { pending, .. })) => {
                self.slow.fetch_sub(usize::from(slow), Relaxed);
                Err(pending)
            }
            _ => Ok(()),
        }
    }

    /// Queues the answer to a request that was away, before all that waits; false when there is no room for the moment.
    pub fn push_answered(&self, place: &Arc<Place>) -> bool {
        self.first.0.try_send(Work::Answered(Arc::clone(place))).is_ok()
    }

    /// Calls a worker to the watch, before all that waits; false when there is no room.
    pub fn push_call(&self) -> bool {
        self.first.0.try_send(Work::Watch).is_ok()
    }

    /// Gives back what a worker was told of on watch. There is room beyond the capacity.
    pub fn push_told(&self, work: Work) -> Result<(), Work> {
        match work {
            Work::Answered(place) if self.push_answered(&place) => Ok(()),
            Work::Answered(_) => Err(work),
            work => self.sender.try_send(work).map_err(TrySendError::into_inner),
        }
    }

    fn is_full(&self) -> bool {
        self.receiver.len() >= self.capacity
    }

    /// Whether requests wait, and servers are so quick that a worker should not wait for each. They are not where
    /// requests were given back that took long: more would pile up at servers that have just begun to be slow.
    pub fn asks_for_haste(&self) -> bool {
        self.is_quick() && !self.receiver.is_empty()
    }

    /// Whether servers are that quick.
    pub fn is_quick(&self) -> bool {
        self.quick.load(Relaxed) && self.slow.load(Relaxed) == 0
    }

    /// The next work, if there is any now.
    pub fn take_now(&self) -> Option<Work> {
        let work = self.first.1.try_recv().or_else(|_| self.receiver.try_recv()).ok()?;
        Some(self.taken(work))
    }

    fn taken(&self, work: Work) -> Work {
        if matches!(work, Work::Resume { slow: true, .. }) {
            self.slow.fetch_sub(1, Relaxed);
        }
        work
    }

    /// Asks one worker to leave; false when the queue has no room for that.
    pub fn push_notice(&self) -> bool {
        !self.is_full() && self.sender.try_send(Work::Leave).is_ok()
    }

    /// The next work, waiting for it as an idle member of the crew.
    pub fn take(&self, crew: &Crew) -> Work {
        if let Some(work) = self.take_now() {
            return work;
        }
        crew.rests();
        // The plane holds both ends of both.
        let work = select! {
            recv(self.first.1) -> work => work.unwrap_or(Work::Leave),
            recv(self.receiver) -> work => work.unwrap_or(Work::Leave),
        };
        crew.rises();
        self.taken(work)
    }

    /// Whether a request that became ready then is still worth serving. `took`: the one before took the worker that
    /// asks so long, which may be news that nobody has adapted to yet.
    pub fn judge(&self, ready: Moment, took: Duration, now: Moment) -> Admit {
        let patience = Duration::from_nanos(self.patience.load(Relaxed)).max(took * HOLDS_PATIENT);
        self.codel.judge(&admit::Rules { patience, ..self.rules }, ready, now)
    }

    /// A request in a standing queue waits for as long as the overflow promises, and for a few times what a
    /// request now takes: slow servers alone are no reason to turn anybody away.
    pub(super) fn adapt(&self, took: Duration) {
        // A company answers its clients in turn. What that adds to the time of each is no reason to end it.
        let limit = if self.quick.load(Relaxed) { BRISK } else { QUICK };
        self.quick.store(!took.is_zero() && took < limit, Relaxed);
        let patience = (self.rules.patience * PLACED).max(took * HOLDS_PATIENT);
        self.patience.store(patience.as_nanos() as u64, Relaxed);
    }
}

/// Connections that found the queue full. A burst that the crew works off within the patience passes
/// through here unharmed; when that cannot be, the request is turned away at once.
#[derive(Debug)]
pub struct Overflow {
    waiting: VecDeque<(Arc<Connection>, Moment)>,
    patience: Duration,
    pace: Pace,
}

/// How fast the crew works off requests, measured over short windows.
#[derive(Debug, Default)]
struct Pace {
    since: Moment,
    done: Done,
    /// The best of late: a window in which the machine had no time for us says little of the next one.
    per_second: Option<f64>,
    /// Windows in a row that it is known from.
    windows: u32,
    /// The mean time that a request took in the last window that saw one.
    took: Duration,
    /// When requests were last brisk.
    brisk_at: Option<Moment>,
}

impl Overflow {
    /// An empty one.
    pub fn new(rules: &admit::Rules) -> Self {
        Overflow { waiting: VecDeque::new(), patience: rules.patience, pace: Pace::default() }
    }

    /// Connections that wait here.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether the crew will come to the end of the queue before those there are given up. Nobody is given up in a
    /// queue that does not stand, as that of a burst or of a crew that has just begun; and a crew whose requests take
    /// long says too little of its pace.
    pub fn reaches_the_end_of(&self, queue: &Queue, now: Moment) -> bool {
        let patience = Duration::from_nanos(queue.patience.load(Relaxed)).mul_f64(TIMELY);
        !queue.codel.is_standing(now)
            || !self.pace.is_telling()
            || self.pace.reaches(queue.len() + 1, patience)
    }

    /// Takes a connection in, unless the crew will not come to it in time: then it comes back.
    pub fn hold(
        &mut self,
        queue: &Queue,
        connection: Arc<Connection>,
        ready: Moment,
    ) -> Result<(), Arc<Connection>> {
        let patience = if self.pace.is_brisk(ready) { self.patience * LENIENT } else { self.patience };
        if !self.pace.reaches(queue.len() + self.waiting.len() + 1, patience) {
            return Err(connection);
        }
        self.waiting.push_back((connection, ready));
        Ok(())
    }

    /// Looks at how fast the crew of so many workers is: `done` is what it has done so far.
    pub fn look(&mut self, queue: &Queue, done: Done, workers: usize, now: Moment) {
        if let Some(took) = self.pace.look(done, workers, now) {
            queue.adapt(took);
        }
    }

    /// Moves what fits into the queue; what has waited too long goes to `turned_away`.
    pub fn settle(&mut self, queue: &Queue, now: Moment, turned_away: &mut Vec<Arc<Connection>>) {
        while let Some((connection, ready)) = self.waiting.pop_front() {
            if now.since(ready) > self.patience * PLACED {
                turned_away.push(connection);
            } else if let Err(connection) = queue.push(connection, ready) {
                self.waiting.push_front((connection, ready));
                return;
            }
        }
    }
}

impl Pace {
    /// Shorter windows see too few requests, longer ones see yesterday's.
    const WINDOW: Duration = Duration::from_millis(50);

    /// What is kept of the best pace from one window to the next: half is gone in a quarter of a second.
    const KEPT: f64 = 0.87;

    /// A crew that was held for a smaller share of its time than this did not show what it can do. In an
    /// overload of brisk requests the share is larger: what is not in it is the work between two requests.
    const RESTED: f64 = 0.3;

    /// For so long after they were, requests count as brisk.
    const BRISK_FOR: Duration = Duration::from_secs(1);

    /// From so many requests a second on the pace says when the end of the queue is reached…
    const TELLING: f64 = 200.0;

    /// …once it is the best of so many windows: one alone may be a moment in which the machine stalled.
    const SURE: u32 = 4;

    /// Once in a window, the mean time that a request took in it.
    fn look(&mut self, done: Done, workers: usize, now: Moment) -> Option<Duration> {
        let window = now.since(self.since);
        if window < Self::WINDOW {
            return None;
        }
        let requests = done.ended.saturating_sub(self.done.ended);
        // A look after a long quiet says nothing of how fast the crew can be.
        let recent = window < 4 * Self::WINDOW;
        let held = done.held.saturating_sub(self.done.held);
        if requests > 0 {
            let took = done.took.saturating_sub(self.done.took);
            self.took = took / u32::try_from(requests).unwrap_or(u32::MAX);
            self.brisk_at = if self.took < BRISK { Some(now) } else { self.brisk_at };
        }
        let there = window.as_secs_f64() * workers as f64;
        let share = held.as_secs_f64() / there.max(f64::MIN_POSITIVE);
        // A crew that rested most of the time was as fast as requests came, and can be faster.
        let rested = requests > 0 && share < Self::RESTED && self.took < BRISK;
        let pace =
            requests as f64 / window.as_secs_f64() / if rested { share.max(f64::EPSILON) } else { 1.0 };
        self.per_second = recent.then(|| pace.max(self.per_second.unwrap_or(0.0) * Self::KEPT));
        self.windows = if recent { self.windows.saturating_add(1) } else { 0 };
        (self.since, self.done) = (now, done);
        Some(self.took)
    }

    /// Requests are brisk, or were until a moment ago: a machine that has no time for us makes them seem long.
    fn is_brisk(&self, now: Moment) -> bool {
        self.took < BRISK || self.brisk_at.is_some_and(|at| now.since(at) < Self::BRISK_FOR)
    }

    /// It counts enough requests for a forecast.
    fn is_telling(&self) -> bool {
        self.windows >= Self::SURE && self.per_second.is_some_and(|pace| pace >= Self::TELLING)
    }

    fn reaches(&self, place: usize, within: Duration) -> bool {
        self.per_second.is_none_or(|pace| place as f64 <= pace * within.as_secs_f64())
    }
}

/// Whether nobody is there any more to read the answer to a request that waited. A client that has merely closed its
/// side may do so; of a socket that is asked for nothing, only a reset is told.
pub(super) fn has_gone(connection: &Connection, requests: u64, wait: Duration, now: Moment) -> bool {
    let patience = if requests == 0 { STRANGERS_WAIT } else { WAIT };
    let want = if wait > LONG_WAIT { Want::Gone } else { Want::Nothing };
    wait > patience && socket::wait(&connection.socket, want, now).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::park::Lot;
    use crate::data::socket::Socket;
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;
    use std::thread;

    /// One request after the other: what they took held the worker.
    fn done(ended: u64, held: Duration) -> Done {
        Done { ended, held, took: held }
    }

    fn rules() -> admit::Rules {
        admit::Rules { patience: Duration::from_millis(40), ..admit::Rules::default() }
    }

    fn connections(count: usize) -> (Vec<Arc<Connection>>, mio::Poll) {
        let poll = mio::Poll::new().unwrap();
        let lot = Lot::new(poll.registry().try_clone().unwrap(), false);
        let enter = |_| lot.enter(Socket::from(OwnedFd::from(UnixStream::pair().unwrap().0)), None);
        ((0..count).map(enter).collect(), poll)
    }

    #[test]
    fn a_full_queue_hands_the_connection_back() {
        let (all, _poll) = connections(2);
        let queue = Queue::new(1, 1, rules());
        assert!(queue.push(Arc::clone(&all[0]), Moment::START).is_ok());
        let back = queue.push(Arc::clone(&all[1]), Moment::START).unwrap_err();
        assert!(Arc::ptr_eq(&back, &all[1]));
        assert!(!queue.push_notice());
        assert!(matches!(queue.take(&Crew::default()), Work::Serve { .. }));
        assert!(queue.push_notice());
        assert!(matches!(queue.take(&Crew::default()), Work::Leave));
    }

    #[test]
    fn answers_come_first_and_take_no_place_in_the_line() {
        let (all, _poll) = connections(2);
        let queue = Queue::new(2, 1, rules());
        queue.push(Arc::clone(&all[0]), Moment::START).unwrap();
        let place = Place::new();
        assert!(queue.push_answered(&place));
        queue.push(Arc::clone(&all[1]), Moment::START).unwrap();
        assert_eq!(queue.len(), 3);
        assert!(matches!(queue.take(&Crew::default()), Work::Answered(_)));
        assert!(matches!(queue.take(&Crew::default()), Work::Serve { .. }));
        // What is given back goes where it came from.
        assert!(queue.push_told(Work::Answered(place)).is_ok() && queue.push_call());
        assert!(matches!(queue.take_now(), Some(Work::Answered(_))));
        assert!(matches!(queue.take_now(), Some(Work::Watch)));
        assert!(!queue.is_empty() && matches!(queue.take_now(), Some(Work::Serve { .. })));
    }

    #[test]
    fn a_worker_that_rests_is_woken_by_either() {
        let (all, _poll) = connections(1);
        let (queue, crew) = (Queue::new(2, 1, rules()), Crew::default());
        thread::scope(|scope| {
            let taken = scope.spawn(|| [queue.take(&crew), queue.take(&crew)]);
            let rests = || {
                while crew.idle() == 0 {
                    thread::yield_now()
                }
            };
            rests();
            assert!(queue.push_answered(&Place::new()));
            while !queue.is_empty() {
                thread::yield_now()
            }
            while crew.rested() < 2 {
                thread::yield_now()
            }
            queue.push(Arc::clone(&all[0]), Moment::START).unwrap();
            assert!(matches!(taken.join().unwrap(), [Work::Answered(_), Work::Serve { .. }]));
        });
    }

    #[test]
    fn a_burst_waits_and_a_flood_is_turned_away() {
        let (all, _poll) = connections(5);
        let ms = Duration::from_millis;
        let queue = Queue::new(1, 1, rules());
        let mut overflow = Overflow::new(&rules());
        let mut away = Vec::new();
        // Nothing is known of the crew's pace yet: hold.
        for connection in &all[..2] {
            overflow.hold(&queue, Arc::clone(connection), Moment::START).unwrap();
        }
        overflow.look(&queue, done(0, ms(0)), 1, Moment::from_millis(1));
        overflow.settle(&queue, Moment::from_millis(1), &mut away);
        assert_eq!((queue.len(), overflow.len(), away.len()), (1, 1, 0));
        // One request in 60 ms, which held its worker all the time: even the next place is out of reach.
        overflow.look(&queue, done(1, ms(60)), 1, Moment::from_millis(61));
        assert!(overflow.hold(&queue, Arc::clone(&all[2]), Moment::from_millis(61)).is_err());
        // A place that was promised is kept for a while, but not for ever.
        overflow.settle(&queue, Moment::from_millis(1000), &mut away);
        assert_eq!(away.len(), 0);
        overflow.settle(&queue, Moment::from_millis(1001), &mut away);
        assert_eq!((overflow.len(), away.len()), (0, 1));
        // A fast crew reaches the next one, and a moment's stall does not change that.
        let mut overflow = Overflow::new(&rules());
        overflow.look(&queue, done(1, ms(60)), 1, Moment::from_millis(61));
        overflow.look(&queue, done(1001, ms(160)), 1, Moment::from_millis(121));
        assert!(overflow.hold(&queue, Arc::clone(&all[3]), Moment::from_millis(121)).is_ok());
        overflow.look(&queue, done(1001, ms(160)), 1, Moment::from_millis(181));
        assert!(overflow.hold(&queue, Arc::clone(&all[4]), Moment::from_millis(181)).is_ok());
    }

    #[test]
    fn who_cannot_be_reached_in_time_is_turned_away_at_once_only_where_the_queue_stands() {
        let (all, _poll) = connections(400);
        let ms = Moment::from_millis;
        let full = || {
            let queue = Queue::new(1000, 1, rules());
            all.iter().for_each(|connection| queue.push(Arc::clone(connection), Moment::START).unwrap());
            queue
        };
        // 15 in 50 ms, all that the crew could do: it reaches 240 of them in 0.8 s.
        let mut overflow = Overflow::new(&rules());
        let burst = full();
        let looks = |overflow: &mut Overflow, at| {
            overflow.look(&burst, done(3 * at / 10, Duration::from_millis(at)), 1, ms(at));
        };
        looks(&mut overflow, 10_000);
        (1..=4).for_each(|window| looks(&mut overflow, 10_000 + 50 * window));
        assert!(overflow.reaches_the_end_of(&burst, ms(10_200)), "nobody has waited yet");
        burst.judge(ms(10_140), Duration::ZERO, ms(10_200));
        assert!(overflow.reaches_the_end_of(&burst, ms(10_299)), "one has waited, for less than an interval");
        assert!(!overflow.reaches_the_end_of(&burst, ms(10_300)), "the queue stands");
        let mut hasty = Overflow::new(&rules());
        looks(&mut hasty, 10_000);
        (1..=3).for_each(|window| looks(&mut hasty, 10_000 + 50 * window));
        assert!(hasty.reaches_the_end_of(&burst, ms(10_300)), "too little is known of its pace");
        burst.judge(ms(10_299), Duration::ZERO, ms(10_301));
        assert!(overflow.reaches_the_end_of(&burst, ms(10_301)), "one has been taken at once");
        let patient = Queue { rules: admit::Rules { target: Duration::from_secs(60), ..rules() }, ..full() };
        patient.judge(ms(10_140), Duration::ZERO, ms(10_200));
        assert!(overflow.reaches_the_end_of(&patient, ms(12_000)), "such a wait is fine");
    }

    #[test]
    fn servers_become_quick_and_are_quick_no_more() {
        let queue = Queue::new(9, 1, rules());
        let took = [
            (0, false),
            (3, false),
            (2, false),
            (1, true),
            (4, true),
            (5, false),
            (4, false),
            (1, true),
            (0, false),
        ];
        for (at, (took, expected)) in took.into_iter().enumerate() {
            queue.adapt(Duration::from_millis(took));
            assert_eq!(queue.is_quick(), expected, "{at}: {took} ms");
        }
    }

    #[test]
    fn the_first_slow_requests_turn_nobody_away() {
        let queue = Queue::new(9, 1, rules());
        let second = Duration::from_secs(2);
        let taken = |held, ms| queue.judge(Moment::START, held, Moment::from_millis(ms));
        assert_eq!(taken(second, 2000), Admit::Serve);
        assert_eq!(taken(second, 2200), Admit::Serve);
        assert_eq!(taken(Duration::ZERO, 2200), Admit::Standing);
    }

    #[test]
    fn a_crew_that_rests_is_faster_than_what_it_is_given() {
        for (what, held, workers, expected) in [
            ("20 requests of 0.1 ms in 50 ms: one worker can do 10,000 a second", 2, 1, 400),
            ("20 of 2 ms in 50 ms: that was all that one worker can do", 40, 1, 16),
            ("the same with four workers, which rested", 40, 4, 80),
        ] {
            let mut pace = Pace::default();
            pace.look(done(0, Duration::ZERO), workers, Moment::from_millis(60));
            pace.look(done(20, Duration::from_millis(held)), workers, Moment::from_millis(110));
            let within = Duration::from_millis(40);
            assert!(pace.reaches(expected - 1, within), "{what}: {pace:?}");
            assert!(!pace.reaches(expected + 1, within), "{what}: {pace:?}");
        }
    }
}
