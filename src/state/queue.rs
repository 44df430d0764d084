//! Requests that wait for a server of a pool, because all that qualify have as many as they may (`max_in_flight`): in the order
//! of [`Backlog`], bounded by `queue_capacity`. No server is promised to what waits: the first that has room takes the head of
//! the queue (late binding).
//!
//! A waiting exchange stays with its worker, which keeps its deadline; here is only its place in the order, and where
//! to call it. A call says that there may be room, or that its place is gone, nothing more: the exchange looks, and passes
//! the call on when it does not need it.

mod usual;

pub use usual::Usual;

use crate::base::ids::ConnectionKey;
use crate::base::time::Moment;
use crate::policy::admit::{Admit, Rules};
use crate::policy::backlog::{Backlog, Full, Place, Priority};
use crate::policy::latency::Reading;
use parking_lot::Mutex;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool, AtomicU32, AtomicU64, AtomicUsize,
    Ordering::{Relaxed, SeqCst},
};
use std::time::Duration;

/// A thread that has connections, as others call one of them.
pub trait Call: fmt::Debug + Send + Sync {
    /// Calls the connection with this key and turn. Never waits.
    fn call(&self, client: ConnectionKey);
}

/// Where to call what waits.
#[derive(Clone, Debug)]
struct Waiter {
    worker: Arc<dyn Call>,
    client: ConnectionKey,
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
    /// The times of [`Usual`], in microseconds.
    usual_us: [AtomicU32; 2],
    /// Which part of the clients left, as the bits of an `f32`.
    leaving: AtomicU32,
    /// Until when clients count as impatient, in nanoseconds.
    impatient_until_ns: AtomicU64,
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
        client: ConnectionKey,
        (priority, expires): (Priority, Moment),
        rules: &Rules,
        capacity: usize,
        now: Moment,
    ) -> Option<QueueToken> {
        let fine = self.usual().fine(rules, expires, now);
        let mut backlog = self.backlog.lock();
        let entered = backlog.enter(Waiter { worker, client }, priority, fine, capacity, now);
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
        let stands = backlog.stands(token.place.priority);
        let admitted = self.usual().admit(rules, token.since, stands, now);
        match backlog.first() {
            _ if !backlog.has(token.place) => Turn::PushedOut,
            _ if admitted == Admit::Standing => Turn::Standing,
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

    /// Gives the place back: it got a server, of which this is known. Whether it is still worth serving.
    pub fn serve(&self, token: &QueueToken, rules: &Rules, server: Option<Reading>, now: Moment) -> Admit {
        let usual = self.usual().after(server);
        self.set_usual(usual);
        let mut backlog = self.backlog.lock();
        let (each, is_patient) = (usual.pace_of_last, usual.is_patient(now));
        let stands = backlog.serve(token.place, rules.interval, each, is_patient, now).unwrap_or(false);
        self.waiting.store(backlog.len(), SeqCst);
        drop(backlog);
        usual.admit(rules, token.since, stands, now)
    }

    /// The client of a request that had waited here has left before its response. Of two at the same time one may not count.
    pub fn client_left(&self, now: Moment) {
        let usual = self.usual().after_leaving(now);
        self.leaving.store(usual.leaving.to_bits(), Relaxed);
        self.impatient_until_ns.store(usual.impatient_until.as_nanos(), Relaxed);
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

    /// Until when a request that waits since then and expires then may wait, see [`Usual::last_moment`].
    pub fn last_moment(&self, since: Moment, expires: Moment) -> Moment {
        self.usual().last_moment(since, expires)
    }

    fn usual(&self) -> Usual {
        let [takes, pace_of_last] =
            self.usual_us.each_ref().map(|us| Duration::from_micros(us.load(Relaxed).into()));
        let impatient_until = Moment::from_nanos(self.impatient_until_ns.load(Relaxed));
        Usual { takes, pace_of_last, leaving: f32::from_bits(self.leaving.load(Relaxed)), impatient_until }
    }

    fn set_usual(&self, usual: Usual) {
        let us = |time: Duration| u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
        self.usual_us[0].store(us(usual.takes), Relaxed);
        self.usual_us[1].store(us(usual.pace_of_last), Relaxed);
        self.leaving.store(usual.leaving.to_bits(), Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default)]
    struct Called(Mutex<Vec<ConnectionKey>>);

    impl Call for Called {
        fn call(&self, client: ConnectionKey) {
            self.0.lock().push(client);
        }
    }

    #[derive(Default)]
    struct Fixture {
        worker: Arc<Called>,
        queue: ServerQueue,
    }

    /// What is fine of what a request takes is more than this.
    const RULES: Rules = Rules {
        deadline: Duration::from_secs(5),
        target: Duration::from_millis(5),
        interval: Duration::from_millis(100),
        max_wait: Duration::from_millis(40),
    };

    /// A server that responds to one request at a time.
    fn one_takes(ms: u16) -> Option<Reading> {
        Some(Reading { typical_us: f32::from(ms) * 1_000.0, load: 1.0, samples: 15.0 })
    }

    impl Fixture {
        fn enter(&self, key: usize, priority: Priority, capacity: usize, ms: u64) -> Option<QueueToken> {
            let worker = Arc::clone(&self.worker) as Arc<dyn Call>;
            let now = Moment::from_millis(ms);
            self.queue.enter(
                worker,
                ConnectionKey { key, generation: 0 },
                (priority, Moment::NEVER),
                &RULES,
                capacity,
                now,
            )
        }

        fn turn(&self, token: &QueueToken, ms: u64) -> Turn {
            self.queue.turn(token, &RULES, Moment::from_millis(ms))
        }

        fn serve(&self, token: &QueueToken, ms: u64) -> Admit {
            self.queue.serve(token, &RULES, one_takes(20), Moment::from_millis(ms))
        }

        fn called(&self) -> Vec<usize> {
            std::mem::take(&mut *self.worker.0.lock()).into_iter().map(|client| client.key).collect()
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
        (0..8).for_each(|_| all.queue.client_left(Moment::from_millis(999)));
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
        for server in [None, one_takes(1)] {
            let all = Fixture::default();
            let enter = |(key, ms)| all.enter(key, Priority::Normal, 9, ms).unwrap();
            let tokens: Vec<_> = [1_000, 1_001, 1_002, 1_003].into_iter().enumerate().map(enter).collect();
            let serve = |token: &QueueToken, server, ms| {
                all.queue.serve(token, &RULES, server, Moment::from_millis(ms))
            };
            assert_eq!(serve(&tokens[0], one_takes(400), 1_400), Admit::Serve);
            assert_eq!(serve(&tokens[1], one_takes(400), 1_800), Admit::Serve);
            // The servers are gone, and another one has room: at 40 ms nothing is late.
            assert_eq!(serve(&tokens[3], server, 2_100), Admit::Serve);
            assert_eq!(
                (all.turn(&tokens[2], 2_100), serve(&tokens[2], server, 2_100)),
                (Turn::First, Admit::Serve)
            );
        }
    }

    #[test]
    fn what_a_quick_server_takes_over_is_served_even_if_it_waited_for_long() {
        let all = Fixture::default();
        let tokens: Vec<_> =
            (0..20).map(|key| all.enter(key, Priority::Normal, 99, 1_000).unwrap()).collect();
        for (token, ms) in tokens.iter().zip([1_400, 1_800]) {
            assert_eq!(all.queue.serve(token, &RULES, one_takes(400), Moment::from_millis(ms)), Admit::Serve);
        }
        // At this server each takes 1 ms, so all are served within 18.
        for ms in 2_000..2_018 {
            let first = tokens.iter().find(|token| all.turn(token, ms) == Turn::First).unwrap();
            let admitted = all.queue.serve(first, &RULES, one_takes(1), Moment::from_millis(ms));
            assert_eq!(admitted, Admit::Serve, "{ms}");
        }
        assert!(all.queue.is_empty());
    }

    #[test]
    fn long_waits_are_first_in_first_out_unless_clients_leave() {
        // A few leave for reasons of their own.
        for (left, expected) in [(0, 3), (3, 3), (8, 4)] {
            let all = Fixture::default();
            let at = Moment::from_millis;
            let serve = |token: &QueueToken, ms| all.queue.serve(token, &RULES, one_takes(400), at(ms));
            assert_eq!(serve(&all.enter(0, Priority::Normal, 9, 900).unwrap(), 901), Admit::Serve);
            (0..left).for_each(|_| all.queue.client_left(at(950)));
            let tokens: Vec<_> =
                (1..5).map(|key| all.enter(key, Priority::Normal, 9, 1_000).unwrap()).collect();
            assert_eq!([serve(&tokens[0], 1_400), serve(&tokens[1], 1_700)], [Admit::Serve; 2]);
            all.queue.call_next();
            assert_eq!(all.called(), [expected], "{left} left");
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
