//! Requests that wait for a server of a pool, because all that qualify have as many as they may (`max_in_flight`): in the order
//! of [`Backlog`], bounded by `queue_capacity`. No server is promised to what waits: the first that has room takes the head of
//! the queue (late binding).
//!
//! A waiting exchange stays with its worker, which keeps its deadline; here is only its place in the order, and where
//! to call it. A call says that there may be room, or that its place is gone, nothing more: the exchange looks, and passes
//! the call on when it does not need it.

use crate::base::time::Moment;
use crate::policy::admit::{Admit, Rules};
use crate::policy::backlog::{Backlog, Full, Place, Priority};
use parking_lot::Mutex;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool, AtomicU32, AtomicUsize,
    Ordering::{Relaxed, SeqCst},
};
use std::time::Duration;

/// A wait of so many times what a request takes at its server is fine, up to the interval of CoDel, and in a standing queue a request may
/// wait for so long in any case: slow servers alone are no reason to reject anything.
const TIMES_LATENCY: u32 = 4;

/// The same where limits are measured: at 95 % of the capacity of twelve slots one request in a thousand waits for eleven times of what
/// one takes.
const TIMES_LATENCY_MEASURED: u32 = 11;

/// What a request takes is the mean of about so many that waited. That of the last one alone is another one with each server, where these
/// are of unlike speed.
const USUAL_OF: u32 = 8;

/// A thread that has connections, as others call one of them.
pub trait Call: fmt::Debug + Send + Sync {
    /// Calls the connection with this key and turn. Never waits.
    fn call(&self, client: (usize, u32));
}

/// Where to call what waits.
#[derive(Clone, Debug)]
struct Waiter {
    worker: Arc<dyn Call>,
    client: (usize, u32),
}

impl Waiter {
    fn call(&self) {
        self.worker.call(self.client);
    }
}

/// The queue in front of the servers.
#[derive(Debug, Default)]
pub struct ServerQueue {
    backlog: Mutex<Backlog<Waiter>>,
    /// How many wait; read without the lock by each request that ends.
    waiting: AtomicUsize,
    /// What requests that waited take at their servers, in microseconds; 0 while that is not known.
    usual_us: AtomicU32,
    /// The first that waits could have a server, and waits for a faster one.
    chooses_later: AtomicBool,
}

/// An exchange's place in the queue, as the exchange holds it.
#[derive(Debug)]
pub struct QueueToken {
    place: Place,
    /// Since when it waits.
    pub since: Moment,
}

/// What a request in the queue may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It is served next.
    First,
    /// Others are served before.
    Waits,
    /// It has waited for too long in a standing queue.
    Standing,
    /// Another one has taken its place in a full queue.
    PushedOut,
}

impl ServerQueue {
    /// How many requests wait.
    pub fn len(&self) -> usize {
        self.waiting.load(SeqCst)
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many requests of each priority wait, from the lowest, and whether they are served last in, first out.
    pub fn by_priority(&self) -> [(usize, bool); Priority::ALL.len()] {
        let backlog = self.backlog.lock();
        Priority::ALL.map(|priority| backlog.of(priority))
    }

    /// Takes a place, which `worker` calls for the connection `client`; `None` when `capacity` requests wait that are served
    /// before. The caller tries once more to get a server after this: one may have become free just before.
    pub fn enter(
        &self,
        worker: Arc<dyn Call>,
        client: (usize, u32),
        (priority, expires): (Priority, Moment),
        rules: &Rules,
        capacity: usize,
        now: Moment,
    ) -> Option<QueueToken> {
        let target = target(rules, self.usual(), expires, now);
        let mut backlog = self.backlog.lock();
        let entered = backlog.enter(Waiter { worker, client }, priority, target, capacity, now);
        self.waiting.store(backlog.len(), SeqCst);
        drop(backlog);
        match entered {
            Ok((place, pushed_out)) => {
                pushed_out.into_iter().for_each(|waiter| waiter.call());
                // With more behind it, the first may not wait for a faster server any more.
                if self.chooses_later.load(Relaxed) {
                    self.call_next();
                }
                Some(QueueToken { place, since: now })
            }
            Err(Full) => None,
        }
    }

    /// What a request in the queue may do: look for a server if nothing is served before it.
    pub fn turn(&self, token: &QueueToken, rules: &Rules, now: Moment) -> Turn {
        let backlog = self.backlog.lock();
        let stands = backlog.of(token.place.priority).1;
        let rules = self::rules(rules, self.usual());
        match backlog.first() {
            _ if !backlog.has(token.place) => Turn::PushedOut,
            _ if rules.admit(now.since(token.since), stands) == Admit::Standing => Turn::Standing,
            Some((first, _)) if first == token.place => Turn::First,
            _ => Turn::Waits,
        }
    }

    /// Gives the place back: it waits no more.
    pub fn leave(&self, token: &QueueToken) {
        let mut backlog = self.backlog.lock();
        backlog.leave(token.place);
        self.waiting.store(backlog.len(), SeqCst);
    }

    /// Gives the place back: it got a server, at which requests take `takes_us` as far as is known. Whether it is still worth serving.
    pub fn serve(&self, token: &QueueToken, rules: &Rules, takes_us: Option<f32>, now: Moment) -> Admit {
        let usual = usual_after(self.usual(), takes_us);
        self.usual_us.store(u32::try_from(usual.as_micros()).unwrap_or(u32::MAX), Relaxed);
        let mut backlog = self.backlog.lock();
        let stands = backlog.serve(token.place, rules.interval, now);
        self.waiting.store(backlog.len(), SeqCst);
        drop(backlog);
        let rules = self::rules(rules, self.usual());
        rules.admit(now.since(token.since), stands.unwrap_or(false))
    }

    /// Notes whether the first in the queue could have a server and waits for a faster one: it is called when more wait behind it.
    pub fn note_choice(&self, is_later: bool) {
        if self.chooses_later.load(Relaxed) != is_later {
            self.chooses_later.store(is_later, Relaxed);
        }
    }

    /// A server may have room: calls the first in the queue. Costs one load where none waits.
    pub fn call_next(&self) {
        if self.is_empty() {
            return;
        }
        let first = self.backlog.lock().first().map(|(_, waiter)| waiter.clone());
        first.into_iter().for_each(|waiter| waiter.call());
    }

    /// Until when a request that waits since then and expires then may wait, see [`last_moment`].
    pub fn last_moment(&self, since: Moment, expires: Moment) -> Moment {
        last_moment(since, expires, self.usual())
    }

    /// What a request takes at a server.
    fn usual(&self) -> Duration {
        Duration::from_micros(self.usual_us.load(Relaxed).into())
    }
}

/// What a request takes at a server, after one more that waited has got one, at which it `takes_us`. A server of which nothing is known,
/// as a backup that takes over, changes nothing: else all that has waited for the others would count as late.
pub fn usual_after(before: Duration, takes_us: Option<f32>) -> Duration {
    match takes_us.map(|us| Duration::from_micros(us as u64)) {
        None => before,
        Some(takes) if before.is_zero() => takes,
        Some(takes) => (before * (USUAL_OF - 1) + takes) / USUAL_OF,
    }
}

/// Until when a request that expires then may wait: its server needs time, too, the `usual` one. Half of its time may pass in
/// the queue, however slow the servers seem: what is known of them may be old.
pub fn last_moment(since: Moment, expires: Moment, usual: Duration) -> Moment {
    if expires == Moment::NEVER {
        return expires;
    }
    let time = expires.since(since);
    since.after(time.saturating_sub(usual).max(time / 2))
}

/// The rules for a queue of servers that usually take so long: a wait of a few times that is no sign of an overload.
pub fn rules(rules: &Rules, usual: Duration) -> Rules {
    match rules.is_measured {
        false => {
            let fine = usual * TIMES_LATENCY;
            let target = rules.target.max(fine.min(rules.interval));
            Rules { target, max_wait: rules.max_wait.max(fine), ..*rules }
        }
        true => {
            let fine = (usual * TIMES_LATENCY_MEASURED).clamp(rules.deadline / 10, rules.deadline / 4);
            Rules { target: rules.target.max(fine), max_wait: rules.max_wait.max(fine), ..*rules }
        }
    }
}

/// The wait that is fine for a request that comes now, and expires then.
pub fn target(rules: &Rules, usual: Duration, expires: Moment, now: Moment) -> Duration {
    self::rules(rules, usual).target.min(expires.since(now) / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default)]
    struct Called(Mutex<Vec<(usize, u32)>>);

    impl Call for Called {
        fn call(&self, client: (usize, u32)) {
            self.0.lock().push(client);
        }
    }

    #[derive(Default)]
    struct Fixture {
        worker: Arc<Called>,
        queue: ServerQueue,
    }

    /// Four times what a request takes is more than this.
    const RULES: Rules = Rules {
        deadline: Duration::from_secs(5),
        target: Duration::from_millis(5),
        interval: Duration::from_millis(100),
        max_wait: Duration::from_millis(40),
        is_measured: false,
    };

    impl Fixture {
        fn enter(&self, key: usize, priority: Priority, capacity: usize, ms: u64) -> Option<QueueToken> {
            let worker = Arc::clone(&self.worker) as Arc<dyn Call>;
            let now = Moment::from_millis(ms);
            self.queue.enter(worker, (key, 0), (priority, Moment::NEVER), &RULES, capacity, now)
        }

        fn turn(&self, token: &QueueToken, ms: u64) -> Turn {
            self.queue.turn(token, &RULES, Moment::from_millis(ms))
        }

        fn serve(&self, token: &QueueToken, ms: u64) -> Admit {
            self.queue.serve(token, &RULES, Some(20_000.0), Moment::from_millis(ms))
        }

        fn called(&self) -> Vec<usize> {
            std::mem::take(&mut *self.worker.0.lock()).into_iter().map(|(key, _)| key).collect()
        }
    }

    #[test]
    fn first_in_is_first_called_and_a_full_queue_says_so() {
        let all = Fixture::default();
        let enter = |key| all.enter(key, Priority::Normal, 2, 1);
        let (first, second) = (enter(7).unwrap(), enter(8).unwrap());
        assert!(enter(9).is_none());
        assert_eq!([all.turn(&first, 1), all.turn(&second, 1)], [Turn::First, Turn::Waits]);
        all.queue.call_next();
        assert_eq!(all.called(), [7]);
        assert_eq!(all.serve(&first, 2), Admit::Serve);
        assert_eq!(all.turn(&second, 2), Turn::First);
        all.queue.call_next();
        assert_eq!(all.called(), [8]);
        all.queue.leave(&second);
        all.queue.call_next();
        assert_eq!((all.called().len(), all.queue.len()), (0, 0));
    }

    #[test]
    fn what_is_pushed_out_of_a_full_queue_is_called_and_finds_out() {
        let all = Fixture::default();
        let low = all.enter(7, Priority::Low, 1, 1).unwrap();
        let high = all.enter(8, Priority::High, 1, 1).unwrap();
        assert_eq!((all.called(), all.turn(&low, 1)), (vec![7], Turn::PushedOut));
        all.queue.leave(&low);
        assert_eq!((all.turn(&high, 1), all.queue.len()), (Turn::First, 1));
    }

    #[test]
    fn in_a_standing_queue_the_last_is_first_and_what_waited_for_long_is_told() {
        let all = Fixture::default();
        let entered_ms = [1_000, 1_001, 1_002, 1_100, 1_101, 1_102];
        let enter = |(key, ms)| all.enter(key, Priority::Normal, 9, ms).unwrap();
        let tokens: Vec<_> = entered_ms.into_iter().enumerate().map(enter).collect();
        assert_eq!(all.serve(&tokens[0], 1_070), Admit::Serve);
        assert_eq!(all.turn(&tokens[1], 1_170), Turn::First);
        assert_eq!(all.serve(&tokens[1], 1_170), Admit::Standing, "169 ms, where four times 20 are allowed");
        assert_eq!(all.queue.by_priority(), [(0, false), (4, true), (0, false)]);
        let turns: Vec<_> = tokens.iter().map(|token| all.turn(token, 1_171)).collect();
        let (out, waits) = (Turn::PushedOut, Turn::Waits);
        assert_eq!(turns, [out, out, Turn::Standing, waits, waits, Turn::First]);
        all.queue.call_next();
        assert_eq!(all.called(), [5]);
    }

    #[test]
    fn a_server_that_takes_over_does_not_make_what_waits_look_late() {
        for takes_us in [None, Some(1_000.0)] {
            let all = Fixture::default();
            let enter = |(key, ms)| all.enter(key, Priority::Normal, 9, ms).unwrap();
            let tokens: Vec<_> = [1_000, 1_001, 1_002, 1_003].into_iter().enumerate().map(enter).collect();
            let serve = |token: &QueueToken, takes_us, ms| {
                all.queue.serve(token, &RULES, takes_us, Moment::from_millis(ms))
            };
            assert_eq!(serve(&tokens[0], Some(400_000.0), 1_400), Admit::Serve);
            assert_eq!(serve(&tokens[1], Some(400_000.0), 1_800), Admit::Serve);
            // The servers are gone, and another one has room: at 40 ms nothing is late.
            assert_eq!(serve(&tokens[3], takes_us, 2_100), Admit::Serve);
            assert_eq!(
                (all.turn(&tokens[2], 2_100), serve(&tokens[2], takes_us, 2_100)),
                (Turn::First, Admit::Serve)
            );
        }
    }

    #[test]
    fn what_its_server_takes_is_left_of_its_time_but_half_of_it_may_pass() {
        let (all, at) = (Fixture::default(), Moment::from_millis);
        let token = all.enter(1, Priority::Normal, 1, 100).unwrap();
        all.serve(&token, 101);
        let check = |expires_ms, expected_ms| {
            assert_eq!(all.queue.last_moment(at(100), at(expires_ms)), at(expected_ms));
        };
        check(200, 180);
        check(130, 115);
        assert_eq!(all.queue.last_moment(at(100), Moment::NEVER), Moment::NEVER);
    }
}
