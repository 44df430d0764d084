//! How many workers there should be.
//!
//! Two goals:
//!
//! - **Spread.** While workers rarely wake up, a thread costs next to nothing, and each request with a worker of its
//!   own is isolated from the others: as many workers as requests in flight. The more often connections are served, the
//!   less this applies: each wake-up of another thread is then a context switch that a single worker would not need.
//! - **Economy.** When workers never sleep, one more of them serves more, up to the number of processors. Beyond that,
//!   more workers only cost context switches (measured with 64 to 1,000 connections on two processors: 2 workers use 5
//!   % more processor time per request than one, 4 use 10 %, and serve no more than 2).
//!
//! Growing is fast and shrinking is slow: the most that was needed within a window counts for all of it, and half of
//! the surplus is stopped each half window. So a burst that comes back finds most of its workers, and all surplus
//! workers are gone a few seconds after the load is.

use crate::base::time::Moment;
use std::time::Duration;

/// The configuration's `threadpool`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Never fewer.
    pub min: usize,
    /// Never more; counts as `min` when it is less.
    pub max: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Bounds { min: 1, max: 50 }
    }
}

/// What the supervisor observes. Times are cumulative; the policy keeps what it needs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    /// Workers that were not told to stop.
    pub workers: usize,
    /// Exchanges in flight.
    pub in_flight: usize,
    /// The total time that workers have slept.
    pub slept: Duration,
    /// How often workers have served connections that became ready, in total.
    pub moves: u64,
    /// The last start of a worker failed.
    pub start_failed: bool,
}

/// What the supervisor does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Starts this many workers (never 0), and asks again.
    Start(usize),
    /// Tells this many to stop (never 0), and asks again.
    Stop(usize),
    /// Asks again after this.
    Wait(Duration),
}

/// The state between orders.
#[derive(Debug)]
pub struct Memory {
    processors: f64,
    sampled: Option<(Moment, Duration, u64)>,
    is_fresh: bool,
    /// Measurements in a row in which connections moved seldom.
    quiet_samples: u32,
    /// Workers were started since the last measurement: each start doubles them, and its effect must be measured first.
    has_started: bool,
    /// Served connections per second, and the share of their time that workers do not sleep.
    moves: f64,
    busy: f64,
    /// The most workers that were needed in this half of the window, and in the one before.
    needed: [usize; 2],
    half_began: Option<Moment>,
    pause: Duration,
    paused_until: Moment,
}

/// The load is measured over this period. A shorter one would be noisy, because a worker's turn may take some
/// milliseconds.
const SAMPLE: Duration = Duration::from_millis(20);
/// An older measurement does not represent the current load.
const STALE: Duration = Duration::from_millis(200);
/// Time between two observations while there is work.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// The same without work.
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// The most that was needed within this period counts for all of it.
const WINDOW: Duration = Duration::from_secs(1);
/// Served connections per second up to which there are as many workers as requests: 60 requests to servers that take
/// 300 ms make 800. A context switch costs about 2 us, so up to here they take 0.2 % of a processor in total.
const SPREAD_MOVES: f64 = 1000.0;
/// Served connections per second from which on no worker is kept for spread alone.
const NO_SPREAD_MOVES: f64 = 4000.0;
/// So many measurements in a row have to say that connections move seldom: when many clients connect at once, the first
/// ones see few requests (without this, 1,000 connections got 8 workers for the first two seconds).
const SPREAD_AFTER_SAMPLES: u32 = 3;
/// Workers that are busy for at least this share of their time count as never sleeping.
const NEVER_SLEEPS: f64 = 0.95;
/// Workers that are busy for less than this share of their time could be one fewer.
const COULD_BE_FEWER: f64 = 0.6;
/// The pause after the first start that failed, and after many.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

impl Memory {
    /// The initial state on this many processors.
    pub fn new(processors: usize) -> Self {
        Memory {
            processors: processors.max(1) as f64,
            sampled: None,
            is_fresh: false,
            quiet_samples: 0,
            has_started: false,
            moves: 0.0,
            busy: 0.0,
            needed: [0, 0],
            half_began: None,
            pause: Duration::ZERO,
            paused_until: Moment::START,
        }
    }

    /// Whether workers are overloaded: connections should then be distributed evenly over them.
    pub fn is_busy(&self) -> bool {
        self.busy >= COULD_BE_FEWER
    }

    /// The next order.
    pub fn order(&mut self, seen: &Seen, bounds: Bounds, now: Moment) -> Order {
        let max = bounds.max.max(bounds.min);
        let is_fresh = self.sample(seen, now);
        // The load is unknown at its first moment.
        let wanted = if is_fresh { self.target(seen) } else { seen.workers.min(self.processors as usize) };
        let target = wanted.clamp(bounds.min, max);
        self.remember(target, now);
        if seen.workers < target && !self.has_started && now >= self.paused_until(seen, now) {
            self.has_started = seen.workers >= bounds.min;
            return Order::Start((target - seen.workers).min(seen.workers.max(1)));
        }
        if seen.workers > max {
            return Order::Stop(seen.workers - max);
        }
        if let Some(count) = self.surplus(seen, bounds.min, target, now) {
            return Order::Stop(count);
        }
        let is_quiet = seen.in_flight == 0 && seen.workers <= bounds.min;
        Order::Wait(if is_quiet { LONGEST_WAIT } else { LOOK_EVERY })
    }

    /// Measures the load. False: it is not known yet, for example after an idle period.
    fn sample(&mut self, seen: &Seen, now: Moment) -> bool {
        let is_known = |at: Moment| now.since(at) < STALE;
        let Some((at, slept, moves)) = self.sampled.filter(|(at, ..)| is_known(*at)) else {
            self.sampled = Some((now, seen.slept, seen.moves));
            (self.is_fresh, self.quiet_samples) = (false, 0);
            return false;
        };
        let passed = now.since(at);
        if passed < SAMPLE {
            return self.is_fresh;
        }
        let passed = passed.as_secs_f64();
        let workers = seen.workers.max(1) as f64;
        let slept = seen.slept.saturating_sub(slept).as_secs_f64() / passed / workers;
        self.moves = seen.moves.saturating_sub(moves) as f64 / passed;
        self.quiet_samples =
            if self.moves < NO_SPREAD_MOVES { self.quiet_samples.saturating_add(1) } else { 0 };
        self.busy = (1.0 - slept).clamp(0.0, 1.0);
        self.sampled = Some((now, seen.slept, seen.moves));
        (self.is_fresh, self.has_started) = (true, false);
        true
    }

    /// How many workers the current load needs.
    fn target(&self, seen: &Seen) -> usize {
        let share = (NO_SPREAD_MOVES - self.moves) / (NO_SPREAD_MOVES - SPREAD_MOVES);
        let share = if self.quiet_samples < SPREAD_AFTER_SAMPLES { 0.0 } else { share.clamp(0.0, 1.0) };
        let spread = (seen.in_flight as f64 * share).ceil() as usize;
        let workers = seen.workers.max(1);
        let economy = match self.busy {
            busy if busy >= NEVER_SLEEPS => workers + 1,
            busy if busy < COULD_BE_FEWER => {
                ((workers as f64 * busy / COULD_BE_FEWER).ceil() as usize).max(1)
            }
            _ => workers,
        };
        // More workers than processors only take turns, and one request keeps one worker busy.
        spread.max(economy.min(self.processors as usize).min(seen.in_flight.max(1)))
    }

    fn remember(&mut self, target: usize, now: Moment) {
        let began = *self.half_began.get_or_insert(now);
        if now.since(began) >= WINDOW / 2 {
            self.needed = [target, self.needed[0]];
            self.half_began = Some(now);
        }
        self.needed[0] = self.needed[0].max(target);
    }

    /// At the beginning of each half window: half of what was not needed in the last whole window.
    fn surplus(&self, seen: &Seen, min: usize, target: usize, now: Moment) -> Option<usize> {
        if self.half_began != Some(now) {
            return None;
        }
        let needed = self.needed[0].max(self.needed[1]).max(target).max(min);
        let surplus = seen.workers.saturating_sub(needed).div_ceil(2);
        (surplus > 0).then_some(surplus)
    }

    /// After a start that failed, the next attempt waits, longer each time.
    fn paused_until(&mut self, seen: &Seen, now: Moment) -> Moment {
        if !seen.start_failed {
            self.pause = Duration::ZERO;
            return Moment::START;
        }
        if now >= self.paused_until && self.pause.is_zero() {
            self.pause = SHORTEST_PAUSE;
            self.paused_until = now.after(self.pause);
        } else if now >= self.paused_until {
            self.pause = (self.pause * 2).min(LONGEST_PAUSE);
            let until = std::mem::replace(&mut self.paused_until, now.after(self.pause));
            return until;
        }
        self.paused_until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A pool under virtual time, on two processors: each observation is 10 ms after the last.
    struct Pool {
        memory: Memory,
        seen: Seen,
        now: Moment,
        bounds: Bounds,
    }

    impl Pool {
        fn new(bounds: Bounds) -> Self {
            let seen = Seen { workers: bounds.min, ..Seen::default() };
            Pool { memory: Memory::new(2), seen, now: Moment::from_millis(1000), bounds }
        }

        /// Passes time with a load: requests in flight, served connections per second, and the share of time that
        /// workers sleep.
        fn pass(&mut self, ms: u64, in_flight: usize, moves: u64, sleeps: f64) -> &mut Self {
            self.seen.in_flight = in_flight;
            for _ in 0..ms / 10 {
                self.now = self.now.after(Duration::from_millis(10));
                self.seen.moves += moves / 100;
                self.seen.slept += Duration::from_millis(10).mul_f64(sleeps * self.seen.workers as f64);
                loop {
                    match self.memory.order(&self.seen, self.bounds, self.now) {
                        Order::Start(count) => self.seen.workers += count,
                        Order::Stop(count) => self.seen.workers -= count,
                        Order::Wait(_) => break,
                    }
                }
            }
            self
        }

        #[track_caller]
        fn has(&mut self, workers: std::ops::RangeInclusive<usize>) -> &mut Self {
            assert!(workers.contains(&self.seen.workers), "{} workers", self.seen.workers);
            self
        }
    }

    #[test]
    fn slow_servers_spread_requests_up_to_max_and_quiet_brings_the_pool_back_to_min() {
        let mut pool = Pool::new(Bounds::default());
        pool.pass(500, 0, 0, 1.0).has(1..=1);
        pool.pass(300, 60, 400, 0.99).has(50..=50);
        pool.pass(6000, 0, 0, 1.0).has(1..=1);
    }

    #[test]
    fn quick_requests_get_no_more_workers_than_processors() {
        for (in_flight, moves, sleeps) in [(16, 100_000, 0.0), (64, 60_000, 0.0), (1000, 40_000, 0.02)] {
            Pool::new(Bounds::default()).pass(3000, in_flight, moves, sleeps).has(2..=2);
        }
        Pool::new(Bounds::default()).pass(3000, 1, 50_000, 0.3).has(1..=1);
        Pool::new(Bounds::default()).pass(3000, 8, 20_000, 0.7).has(1..=1);
    }

    #[test]
    fn the_first_moment_of_a_load_starts_nothing() {
        let mut pool = Pool::new(Bounds::default());
        pool.pass(500, 0, 0, 1.0).pass(20, 64, 100_000, 0.0).has(1..=1);
        pool.pass(1000, 64, 100_000, 0.0).has(2..=2);
    }

    #[test]
    fn a_pool_that_was_spread_gathers_when_requests_become_quick() {
        let mut pool = Pool::new(Bounds::default());
        pool.pass(1000, 40, 300, 0.99).has(40..=40);
        pool.pass(4000, 40, 50_000, 0.5).has(1..=2);
    }

    #[test]
    fn bounds_hold() {
        let bounds = Bounds { min: 3, max: 5 };
        let mut pool = Pool::new(bounds);
        pool.pass(1000, 0, 0, 1.0).has(3..=3);
        pool.pass(1000, 100, 100, 0.99).has(5..=5);
        pool.pass(9000, 0, 0, 1.0).has(3..=3);
        Pool::new(Bounds { min: 4, max: 2 }).pass(1000, 0, 0, 1.0).has(4..=4);
    }

    #[test]
    fn after_a_failed_start_the_next_try_waits_longer_each_time() {
        let mut memory = Memory::new(2);
        let mut seen = Seen { workers: 1, in_flight: 40, ..Seen::default() };
        let mut tries = Vec::new();
        for ms in (0..10_000).step_by(10) {
            let now = Moment::from_millis(1000 + ms);
            seen.slept += Duration::from_millis(10);
            seen.moves += 1;
            if matches!(memory.order(&seen, Bounds::default(), now), Order::Start(_)) {
                tries.push(ms);
                seen.start_failed = true;
            }
        }
        let waits: Vec<u64> = tries.windows(2).map(|two| two[1] - two[0]).collect();
        assert!(waits.len() >= 5 && waits[0] >= 100, "{waits:?}");
        assert!(waits.windows(2).all(|two| two[1] >= two[0]), "{waits:?}");
    }
}
