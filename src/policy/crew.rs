//! How many workers there should be.
//!
//! - **Below min, above max** (at start, after a reload): put right at once.
//! - **Owed**: a worker left the crew with a long body. While somebody waits, another is hired in its place,
//!   whatever the processors say: the crew is not larger for it.
//! - **Asked**: the thread of a company holds up its clients, who never come into the queue, and it asks for one more
//!   ([`super::company`]). Hired at once: there is room on the processors, or it would not.
//! - **Late**: a request waited longer than the target wait, and nobody is idle. Hire: as many as Little's
//!   law asks for or one for each that waits, at least one, at most as many as there are (doubling). Then the
//!   target wait must pass before the next hire: the new ones need a moment to show.
//! - **Standing**: every wait is short, but every look for 50 ms found a queue and nobody idle. Sixteen
//!   clients in a closed loop whose requests take 0.1 ms keep one worker busy for ever with waits of 1.5 ms,
//!   on a machine that could do several times as much. Hire as above.
//! - **Brisk**: while requests hold a worker for a few milliseconds only, a queue may be nothing but bytes that came
//!   at once, and a thread too many costs all the others switches and cache. Beyond a handful the crew then
//!   grows by half, and only after a look at the processors that is newer than the last hire. (Measured with
//!   64 connections on two cores: 50 workers hired at once took 17.5 us a request, 8 took 11.3.)
//! - **Away**: where requests are with servers and no worker waits for them, what workers do is brisk, and a few do all
//!   of it. The channel wakes the longest waiter first, so that of many each is woken in its turn, by work that one awake
//!   could have done (measured with 1,000 connections and servers of 10 ms: 0.8 switches a request with 100 workers, 0.2
//!   with a dozen, and a fifth more requests). Those that are idle go at once, half of the rest where workers sleep
//!   between most requests, and it takes a longer wait to hire.
//! - **Saturated**: when the processors have nothing to give, a thread more only adds switches. Nobody is
//!   hired, unless the queue did not move for a whole window: then the workers are held by something long.
//! - **Surplus**: the least number that was idle over a window was not needed in it. Half of that is
//!   dismissed each half window, down to what Little's law asks for: so bursts that come back find most of
//!   their workers, and all are gone a few seconds after the load is.
//! - **No thread to be had**: the next try waits 100 ms, then twice as long each time, up to 5 s.
//!
//! Little's law (1961): the workers held = arrival rate × time held by each request. Over a stretch of time
//! that product is the time held per second, so one counter tells it.
//!
//! Models: Varnish's herder (the supervisor is woken when a request must queue, and grows slowly on purpose)
//! and the idle rules of Apache's MPMs; unlike both, idleness is judged over the whole crew, because the
//! channel wakes the longest waiter first, so that no single worker is ever idle for long.

use crate::base::time::Moment;
use std::time::Duration;

/// The configuration's `threadpool`, and the times that are not in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Never fewer.
    pub min: usize,
    /// Never more; counts as `min` when it is less.
    pub max: usize,
    /// A request that waits longer than this with no idle worker hires at once (2 ms).
    pub target_wait: Duration,
    /// The window over which idleness is judged (1 s).
    pub window: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Bounds { min: 1, max: 50, target_wait: Duration::from_millis(2), window: Duration::from_secs(1) }
    }
}

/// What the supervisor saw since the last order. Counters grow for ever; the policy keeps what it needs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    /// All workers; one that was dismissed no longer counts.
    pub workers: usize,
    /// Waiting on the channel now.
    pub idle: usize,
    /// In the channel now.
    pub queued: usize,
    /// Requests that are with a server while no worker waits for them.
    pub away: usize,
    /// So many workers are asked for; 0 where none are.
    pub asked: usize,
    /// Workers that ever left without notice.
    pub lost: u64,
    /// How often workers went to sleep on the channel, ever.
    pub rests: u64,
    /// Requests that workers have finished with, ever.
    pub ended: u64,
    /// The time that workers were ever held by requests (lingering is not being held).
    pub held: Duration,
    /// When the last request left the queue.
    pub last_taken: Moment,
    /// How long that one had waited.
    pub last_wait: Duration,
    /// The processors have nothing to give, and this process is a good part of why: more threads would not
    /// help.
    pub cpu_saturated: bool,
    /// The last spawn failed.
    pub spawn_failed: bool,
}

/// What the supervisor does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Starts so many workers (never 0), and asks again.
    Hire(usize),
    /// Sends so many home (never 0), and asks again.
    Dismiss(usize),
    /// Sleeps until then (always later than now), or until a request is queued with no idle worker.
    WaitUntil(Moment),
}

/// What the policy remembers between orders.
#[derive(Debug, Default)]
pub struct Memory {
    load: Load,
    surplus: Surplus,
    hiring: Hiring,
    /// When requests were last seen away.
    away_at: Option<Moment>,
}

impl Memory {
    /// Nothing seen yet.
    pub fn new() -> Self {
        Self::default()
    }
}

/// The next order; see above. Costs a few dozen operations, so a nudge for every queued request is no harm.
pub fn order(memory: &mut Memory, seen: Seen, bounds: Bounds, now: Moment) -> Order {
    let bounds = Bounds { max: bounds.max.max(bounds.min), ..bounds };
    let seen = Seen { away: memory.away(&seen, now), ..seen };
    memory.load.observe(&seen, &bounds, now);
    memory.surplus.observe(&seen, now);
    memory.hiring.observe(&seen, now);
    if seen.workers > bounds.max {
        return Order::Dismiss(seen.workers - bounds.max);
    }
    if let Some(count) = memory.wanted(&seen, &bounds, now) {
        return Order::Hire(memory.hiring.hire(count, &seen, now));
    }
    match memory.surplus.judge(&seen, &bounds, memory.load.needed(&bounds), now) {
        Some(count) => Order::Dismiss(count),
        None => Order::WaitUntil(memory.next_look(&seen, &bounds, now)),
    }
}

impl Memory {
    /// Requests that are away. Between two waves of answers there may be none for a moment.
    fn away(&mut self, seen: &Seen, now: Moment) -> usize {
        if seen.away > 0 {
            self.away_at = Some(now);
        }
        let lately = self.away_at.is_some_and(|at| now.since(at) < AWAY_STAYS);
        seen.away.max(usize::from(lately))
    }

    /// How many to hire now.
    fn wanted(&self, seen: &Seen, bounds: &Bounds, now: Moment) -> Option<usize> {
        // What is away has a place among the most that there may be.
        let room = bounds.max.saturating_sub(seen.workers + seen.away);
        if room == 0 || self.hiring.is_paused(now) {
            return None;
        }
        if seen.workers < bounds.min {
            return Some(bounds.min - seen.workers);
        }
        if seen.workers < seen.asked {
            return Some((seen.asked - seen.workers).min(room));
        }
        if self.hiring.owed > 0 {
            return Some(self.hiring.owed.min(seen.queued).min(room));
        }
        if seen.cpu_saturated {
            return self.hiring.is_stuck(seen, bounds, now).then_some(1);
        }
        let is_brisk = seen.workers >= MANY
            || (seen.workers >= HANDFUL && (seen.away > 0 || self.hiring.is_brisk(seen)));
        let most = if is_brisk { seen.workers / 2 } else { seen.workers };
        let missing = self.load.needed(bounds).saturating_sub(seen.workers).max(seen.queued);
        let count = missing.clamp(1, most.max(1)).min(room);
        let is_settled = !is_brisk || self.hiring.is_older_than(LOAD_SAMPLE, now);
        let is_enough = seen.away > 0 && seen.workers >= self.load.needed(bounds) + HANDFUL;
        let patience = if is_enough { AWAY_PATIENCE } else { 1 };
        (is_settled && self.hiring.is_late(seen, bounds, patience, now)).then_some(count)
    }

    /// When to look again if no nudge comes. With the crew at min and nobody waiting there is nothing to see.
    fn next_look(&self, seen: &Seen, bounds: &Bounds, now: Moment) -> Moment {
        let often = now.after((bounds.window / 4).max(SHORTEST_SLEEP));
        let routine = if seen.workers > bounds.min { often } else { now.after(LONGEST_SLEEP) };
        let may_hire = seen.workers < bounds.max;
        let wants = self.hiring.waiting_since.is_some() || seen.workers < bounds.min;
        match may_hire && wants {
            true if self.hiring.is_paused(now) => routine.min(self.hiring.paused_until),
            true if seen.cpu_saturated => often,
            true => routine.min(now.after(bounds.target_wait.max(SHORTEST_SLEEP))),
            false => routine,
        }
    }
}

/// With so many requests in hand workers do not wait for servers any more. A crew of this size grows slowly.
pub const MANY: usize = 64;

/// With nothing to do.
const LONGEST_SLEEP: Duration = Duration::from_secs(10);
/// Whatever the bounds say, looking is never a busy loop.
const SHORTEST_SLEEP: Duration = Duration::from_millis(1);
/// The crew is larger than Little's law says: arrivals are not even.
const HEADROOM: f64 = 1.25;
/// The least stretch over which the load is measured; requests are counted when they end, so less would be
/// noise.
const LOAD_SAMPLE: Duration = Duration::from_millis(100);
/// The part of a window after which a queue that was there at every look stands (50 ms of 1 s).
const STANDING: u32 = 20;
/// Where nobody waits for servers, a few workers get by with waits that are longer by this factor.
const AWAY_PATIENCE: u32 = 10;
/// Requests that were away this short a time ago will be again: answers come in waves.
pub const AWAY_STAYS: Duration = Duration::from_millis(250);
/// Workers that sleep once or more often in so many requests are too many for what is left to do.
const WAKEFUL: u64 = 4;
/// So many workers are no burden to any machine.
const HANDFUL: usize = 4;
/// Requests that hold a worker for less than this are brisk.
const BRISK: Duration = Duration::from_millis(5);
/// After the first failed spawn.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);
/// After many.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// How many workers the requests need, smoothed over a window.
#[derive(Debug, Default)]
struct Load {
    /// Workers held on average.
    held: f64,
    held_before: Duration,
    sampled_at: Option<Moment>,
}

impl Load {
    /// A request that held its worker for long is counted all at once; no more can be held than there are.
    fn observe(&mut self, seen: &Seen, bounds: &Bounds, now: Moment) {
        let passed = match self.sampled_at {
            Some(before) if now.since(before) < LOAD_SAMPLE => return,
            before => before.map(|before| now.since(before)),
        };
        if let Some(passed) = passed {
            let held = seen.held.saturating_sub(self.held_before).as_secs_f64() / passed.as_secs_f64();
            let sample = held.min(seen.workers as f64);
            self.held = sample + (self.held - sample) * kept(passed, bounds.window);
        }
        (self.sampled_at, self.held_before) = (Some(now), seen.held);
    }

    fn needed(&self, bounds: &Bounds) -> usize {
        let by_little = self.held * HEADROOM + 1.0;
        (by_little as usize).clamp(bounds.min, bounds.max)
    }
}

/// The least that were idle, over the running half of the window and over the one before; and how often workers slept.
#[derive(Debug, Default)]
struct Surplus {
    least: usize,
    least_before: usize,
    /// Rests and ended requests when the half began.
    began_with: (u64, u64),
    half_began: Option<Moment>,
}

impl Surplus {
    fn observe(&mut self, seen: &Seen, now: Moment) {
        if self.half_began.is_none() {
            self.begin_half(seen, now);
        }
        self.least = self.least.min(seen.idle);
    }

    /// At the end of each half window: how many to dismiss.
    fn judge(&mut self, seen: &Seen, bounds: &Bounds, needed: usize, now: Moment) -> Option<usize> {
        if now.since(self.half_began?) < bounds.window / 2 {
            return None;
        }
        let unused = self.least.min(self.least_before);
        let spare = seen.workers.saturating_sub(needed);
        // Where no worker waits for servers, the few that work are better off without the many that rest.
        let surplus = match seen.away > 0 {
            true if self.is_drowsy(seen) => unused.max(spare.saturating_sub(HANDFUL).div_ceil(2)),
            true => unused,
            false => unused.div_ceil(2),
        };
        let count = surplus.min(spare);
        self.begin_half(seen, now);
        (count > 0).then_some(count)
    }

    /// Workers slept between most of the requests of this half.
    fn is_drowsy(&self, seen: &Seen) -> bool {
        let (rests, ended) = self.began_with;
        (seen.rests.saturating_sub(rests)).saturating_mul(WAKEFUL) > seen.ended.saturating_sub(ended)
    }

    fn begin_half(&mut self, seen: &Seen, now: Moment) {
        self.began_with = (seen.rests, seen.ended);
        self.least_before = if self.half_began.is_some() { self.least } else { 0 };
        self.least = seen.idle;
        self.half_began = Some(now);
    }
}

/// What is known about the need for more, and about getting them.
#[derive(Debug, Default)]
struct Hiring {
    /// Since when every look found a queue and nobody idle.
    waiting_since: Option<Moment>,
    hired_at: Option<Moment>,
    /// What was lost when last seen, and how many of those have had nobody hired in their place.
    lost_then: u64,
    owed: usize,
    /// What had ended, and been held, when the last ones were hired.
    work_then: (u64, Duration),
    /// The outcome of the last hire has not been seen yet.
    is_asked: bool,
    /// After a failed spawn: how long and until when nobody is hired.
    pause: Duration,
    paused_until: Moment,
}

impl Hiring {
    fn observe(&mut self, seen: &Seen, now: Moment) {
        self.owed += seen.lost.saturating_sub(std::mem::replace(&mut self.lost_then, seen.lost)) as usize;
        match seen.queued > 0 && seen.idle == 0 {
            true => self.waiting_since = self.waiting_since.or(Some(now)),
            // Whoever left is not missed.
            false => (self.waiting_since, self.owed) = (None, 0),
        }
        if std::mem::take(&mut self.is_asked) {
            self.pause = match seen.spawn_failed {
                true => (self.pause * 2).clamp(SHORTEST_PAUSE, LONGEST_PAUSE),
                false => Duration::ZERO,
            };
            self.paused_until = now.after(self.pause);
        }
    }

    fn is_paused(&self, now: Moment) -> bool {
        now < self.paused_until
    }

    /// A wait that was too long was seen since the last hire, or the queue does not move at all, or it moves
    /// but stands; all by so many times the usual.
    fn is_late(&self, seen: &Seen, bounds: &Bounds, patience: u32, now: Moment) -> bool {
        let target_wait = bounds.target_wait * patience;
        let Some(waiting_since) = self.waiting_since else { return false };
        let hired_at = self.hired_at.unwrap_or(Moment::START);
        let is_settled = self.hired_at.is_none() || now.since(hired_at) >= bounds.target_wait;
        let is_news = seen.last_taken > hired_at && now.since(seen.last_taken) <= bounds.window / 4;
        let waited = is_news && seen.last_wait > target_wait;
        let unmoved = now.since(waiting_since.max(seen.last_taken)) >= target_wait;
        let stands = now.since(waiting_since.max(hired_at)) >= bounds.window / STANDING * patience;
        is_settled && (waited || unmoved || stands)
    }

    /// The requests since the last hire were short. Where none has ended yet, they are not.
    fn is_brisk(&self, seen: &Seen) -> bool {
        let ended = seen.ended.saturating_sub(self.work_then.0);
        let held = seen.held.saturating_sub(self.work_then.1);
        ended > 0 && held < BRISK.saturating_mul(u32::try_from(ended).unwrap_or(u32::MAX))
    }

    /// The last hire was so long ago.
    fn is_older_than(&self, age: Duration, now: Moment) -> bool {
        self.hired_at.is_none_or(|hired_at| now.since(hired_at) >= age)
    }

    /// The queue did not move for a whole window.
    fn is_stuck(&self, seen: &Seen, bounds: &Bounds, now: Moment) -> bool {
        let last = seen.last_taken.max(self.hired_at.unwrap_or(Moment::START));
        self.waiting_since.is_some_and(|since| now.since(since.max(last)) >= bounds.window)
    }

    /// After a failed spawn one is tried at a time.
    fn hire(&mut self, count: usize, seen: &Seen, now: Moment) -> usize {
        self.hired_at = Some(now);
        self.owed = 0;
        self.work_then = (seen.ended, seen.held);
        self.is_asked = true;
        if self.pause.is_zero() { count } else { 1 }
    }
}

/// The part of an old value that is left after some time, with a window as the time constant.
fn kept(passed: Duration, window: Duration) -> f64 {
    (-passed.as_secs_f64() / window.as_secs_f64().max(0.001)).exp()
}

/// Tables, and a small world of discrete events under virtual time.
#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::dice::Dice;
    use std::cmp::Reverse;
    use std::collections::{BinaryHeap, VecDeque};

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn at(ms: u64) -> Moment {
        Moment::from_millis(ms)
    }

    fn bounds(min: usize, max: usize) -> Bounds {
        Bounds { min, max, ..Bounds::default() }
    }

    /// A quiet crew of so many, with so many idle and queued.
    fn crew(workers: usize, idle: usize, queued: usize) -> Seen {
        Seen { workers, idle, queued, ..Seen::default() }
    }

    /// The looks (when in ms, what is seen) and the order that each gets.
    fn check(bounds: Bounds, looks: &[(u64, Seen, Order)]) {
        let mut memory = Memory::new();
        for (number, &(when, seen, expected)) in looks.iter().enumerate() {
            let got = order(&mut memory, seen, bounds, at(when));
            assert_eq!(got, expected, "look {number}: {seen:?}");
        }
    }

    fn wait(until: u64) -> Order {
        Order::WaitUntil(at(until))
    }

    #[test]
    fn the_bounds_hold() {
        let five = bounds(5, 9);
        check(five, &[(0, crew(0, 0, 0), Order::Hire(5)), (0, crew(5, 0, 0), wait(10_000))]);
        check(five, &[(0, crew(3, 3, 0), Order::Hire(2))]);
        check(five, &[(0, crew(12, 0, 9), Order::Dismiss(3))]);
        check(bounds(5, 2), &[(0, crew(1, 0, 9), Order::Hire(4)), (9, crew(5, 0, 9), wait(10_009))]);
        // min and max are the same: nothing to look for, whatever waits
        check(bounds(4, 4), &[(0, crew(4, 0, 50), wait(10_000)), (5_000, crew(4, 4, 0), wait(15_000))]);
    }

    #[test]
    fn a_late_request_hires() {
        let b = bounds(1, 50);
        // queued with nobody idle: looked at again after the target wait; nothing was taken: hire
        check(
            b,
            &[
                (10, crew(1, 0, 1), wait(12)),
                (12, crew(1, 0, 1), Order::Hire(1)),
                (12, crew(2, 0, 1), wait(14)),
            ],
        );
        // one that was taken late tells it at once, once
        let late =
            |workers, queued| Seen { last_taken: at(99), last_wait: ms(3), ..crew(workers, 0, queued) };
        check(b, &[(100, late(4, 3), Order::Hire(3)), (100, late(7, 3), wait(102))]);
        // at most doubling, at most max
        check(b, &[(100, late(4, 90), Order::Hire(4))]);
        check(b, &[(100, late(40, 90), Order::Hire(10))]);
        // moving well, or somebody is idle, or the news is old
        let prompt = Seen { last_taken: at(99), last_wait: ms(1), ..crew(1, 0, 3) };
        check(b, &[(99, prompt, wait(101)), (100, prompt, wait(102))]);
        check(b, &[(100, Seen { idle: 1, ..late(4, 3) }, wait(350))]);
        check(b, &[(5_000, late(1, 3), wait(5_002)), (5_002, late(1, 3), Order::Hire(1))]);
    }

    #[test]
    fn brisk_requests_grow_the_crew_by_half_and_with_a_look_in_between() {
        let mut memory = Memory::new();
        let mut hires = Vec::new();
        let mut workers = 1;
        for when in 10..400 {
            let taken = Seen { last_taken: at(when), last_wait: ms(3), ..crew(workers, 0, 40) };
            let seen = Seen { ended: when * 50, held: ms(when), ..taken };
            if let Order::Hire(count) = order(&mut memory, seen, bounds(1, 50), at(when)) {
                workers += count;
                hires.push((when, workers));
            }
        }
        assert_eq!(hires, [(10, 2), (12, 4), (112, 6), (212, 9), (312, 13)]);
    }

    #[test]
    fn a_queue_that_stands_hires_though_every_wait_is_short() {
        let mut memory = Memory::new();
        let look = |memory: &mut Memory, when, workers, queued| {
            let idle = usize::from(queued == 0);
            let seen = Seen { last_taken: at(when), last_wait: ms(1), ..crew(workers, idle, queued) };
            matches!(order(memory, seen, bounds(1, 50), at(when)), Order::Hire(count) if count == workers)
        };
        let hires = |memory: &mut Memory, from, to, workers, queued| {
            (from..=to).step_by(2).filter(|&when| look(memory, when, workers, queued)).collect::<Vec<_>>()
        };
        assert_eq!(hires(&mut memory, 10, 60, 1, 15), [60]);
        assert_eq!(hires(&mut memory, 62, 110, 2, 14), [110]);
        assert_eq!(hires(&mut memory, 112, 150, 4, 12), [0u64; 0]);
        assert_eq!(hires(&mut memory, 152, 152, 4, 0), [0u64; 0]);
        assert_eq!(hires(&mut memory, 154, 202, 4, 12), [0u64; 0]);
    }

    #[test]
    fn a_saturated_machine_gets_no_more_threads() {
        let busy = |workers| Seen {
            cpu_saturated: true,
            last_taken: at(99),
            last_wait: ms(30),
            ..crew(workers, 0, 60)
        };
        check(
            bounds(2, 50),
            &[(100, busy(1), Order::Hire(1)), (100, busy(2), wait(350)), (350, busy(2), wait(600))],
        );
        // but the workers may be held by something long
        check(
            bounds(2, 50),
            &[(100, busy(2), wait(350)), (1_100, busy(2), Order::Hire(1)), (1_350, busy(3), wait(1_600))],
        );
    }

    #[test]
    fn who_left_with_a_long_body_is_made_up_for_while_somebody_waits() {
        let b = bounds(1, 50);
        let saturated = |workers, idle, queued, lost| Seen {
            last_taken: at(1),
            cpu_saturated: true,
            lost,
            ..crew(workers, idle, queued)
        };
        // Three left and five wait: three, at once, though the processors are busy; nobody for it twice.
        check(
            b,
            &[
                (10, saturated(8, 0, 5, 0), wait(260)),
                (11, saturated(5, 0, 5, 3), Order::Hire(3)),
                (11, saturated(8, 0, 2, 3), wait(261)),
            ],
        );
        // One waits: one. Nobody waits, or somebody is idle: none, and they are forgotten.
        check(b, &[(11, saturated(5, 0, 1, 3), Order::Hire(1))]);
        check(b, &[(11, saturated(5, 0, 0, 3), wait(261)), (12, saturated(5, 0, 2, 3), wait(262))]);
        check(b, &[(11, saturated(5, 1, 2, 3), wait(261)), (12, saturated(5, 0, 2, 3), wait(262))]);
    }

    #[test]
    fn where_nobody_waits_for_servers_a_few_do_and_the_rest_goes_at_once() {
        let b = bounds(1, 500);
        let late =
            |workers, away| Seen { last_taken: at(99), last_wait: ms(3), away, ..crew(workers, 0, 90) };
        check(
            b,
            &[
                (100, late(40, 0), Order::Hire(40)),
                (103, Seen { last_taken: at(102), ..late(80, 0) }, wait(105)),
                (201, Seen { last_taken: at(200), ..late(80, 0) }, Order::Hire(40)),
            ],
        );
        check(
            b,
            &[
                (100, Seen { last_wait: ms(30), ..late(40, 9) }, Order::Hire(20)),
                (103, Seen { last_taken: at(102), last_wait: ms(30), ..late(60, 9) }, wait(105)),
            ],
        );
        let idle = |workers, away| Seen { away, ..crew(workers, 30, 0) };
        check(
            b,
            &[
                (0, idle(40, 0), wait(250)),
                (500, idle(40, 0), wait(750)),
                (1_000, idle(40, 0), Order::Dismiss(15)),
            ],
        );
        check(
            b,
            &[
                (0, idle(40, 9), wait(250)),
                (500, idle(40, 9), wait(750)),
                (1_000, idle(40, 9), Order::Dismiss(30)),
            ],
        );
        // All are busy at each look, and yet each sleeps between its requests: half of what is above a handful goes.
        let drowsy = |when: u64, rests, workers, away| Seen {
            away,
            rests: rests * when,
            ended: 100 * when,
            ..crew(workers, 0, 0)
        };
        let (few, many) = (20, 30);
        check(
            b,
            &[
                (0, drowsy(0, many, 100, 9), wait(250)),
                (500, drowsy(500, many, 100, 9), Order::Dismiss(48)),
                (500, drowsy(500, many, 52, 9), wait(750)),
                (1_000, drowsy(1_000, many, 52, 9), Order::Dismiss(24)),
            ],
        );
        check(b, &[(0, drowsy(0, few, 100, 9), wait(250)), (500, drowsy(500, few, 100, 9), wait(750))]);
        check(b, &[(0, drowsy(0, many, 100, 0), wait(250)), (500, drowsy(500, many, 100, 0), wait(750))]);
        // Enough for what is held: it takes ten times the wait to hire.
        let waited = |wait| Seen { last_taken: at(99), last_wait: wait, away: 9, ..crew(40, 0, 90) };
        check(b, &[(100, waited(ms(20)), wait(102))]);
        check(b, &[(100, waited(ms(21)), Order::Hire(20))]);
        // The same between two waves of answers, but not for long.
        let none = |when| Seen { away: 0, last_taken: at(when), ..waited(ms(20)) };
        check(b, &[(100, waited(ms(20)), wait(102)), (102, none(102), wait(104))]);
        check(b, &[(100, waited(ms(20)), wait(102)), (350, none(350), Order::Hire(40))]);
    }

    #[test]
    fn who_is_asked_for_is_hired_though_nobody_is_queued() {
        let b = bounds(1, 4);
        let seen = |workers, asked| Seen { asked, ..crew(workers, 0, 0) };
        for (workers, asked, expected) in [
            (1, 2, Order::Hire(1)),
            (1, 9, Order::Hire(3)),
            (2, 2, wait(350)),
            (2, 0, wait(350)),
            (4, 9, wait(350)),
        ] {
            check(b, &[(100, seen(workers, asked), expected)]);
        }
    }

    #[test]
    fn failed_spawns_are_paced() {
        let failed = Seen { spawn_failed: true, ..crew(1, 0, 9) };
        check(
            bounds(3, 50),
            &[
                (0, crew(1, 0, 9), Order::Hire(2)),
                (0, failed, wait(100)),
                (50, failed, wait(100)),
                (100, failed, Order::Hire(1)),
                (100, failed, wait(300)),
                (300, failed, Order::Hire(1)),
                (300, failed, wait(700)),
                (700, failed, Order::Hire(1)),
                (700, crew(2, 0, 9), Order::Hire(1)),
                (700, crew(3, 0, 9), wait(702)),
            ],
        );
        let mut memory = Memory::new();
        let pauses = (0..9).map(|_| {
            memory.hiring.hire(1, &Seen::default(), Moment::START);
            memory.hiring.observe(&failed, Moment::START);
            memory.hiring.pause.as_millis()
        });
        assert_eq!(pauses.collect::<Vec<_>>(), [100, 200, 400, 800, 1600, 3200, 5000, 5000, 5000]);
    }

    #[test]
    fn what_was_idle_for_a_window_goes() {
        let idle = |workers| crew(workers, workers, 0);
        check(
            bounds(1, 50),
            &[
                (0, idle(9), wait(250)),
                (250, idle(9), wait(500)),
                (500, idle(9), wait(750)),
                (1_000, idle(9), Order::Dismiss(5)),
                (1_000, idle(4), wait(1_250)),
                (1_500, idle(4), Order::Dismiss(2)),
                (2_000, idle(2), Order::Dismiss(1)),
                (2_500, idle(1), wait(12_500)),
            ],
        );
        // a request that held its worker for long ends: the load it tells of is at most the crew
        let told = |workers| Seen { held: Duration::from_secs(30), ..idle(workers) };
        check(
            bounds(1, 50),
            &[
                (0, idle(9), wait(250)),
                (250, told(9), wait(500)),
                (500, told(9), wait(750)),
                (1_000, told(9), Order::Dismiss(5)),
            ],
        );
        // one look without idle workers, and all are kept
        check(
            bounds(1, 50),
            &[
                (0, idle(9), wait(250)),
                (500, idle(9), wait(750)),
                (800, crew(9, 0, 0), wait(1_050)),
                (1_000, idle(9), wait(1_250)),
            ],
        );
    }

    /// What went on in a world.
    #[derive(Debug, Default)]
    struct Report {
        least: usize,
        most: usize,
        hired: usize,
        dismissed: usize,
        orders: usize,
        longest_wait_ms: u64,
    }

    /// Requests, workers and a supervisor in microseconds of virtual time.
    struct World {
        now: u64,
        bounds: Bounds,
        dice: Dice,
        memory: Memory,
        seen: Seen,
        queue: VecDeque<u64>,
        ends: BinaryHeap<Reverse<(u64, u64)>>,
        next_arrival: u64,
        wake: u64,
        report: Report,
    }

    impl World {
        fn new(bounds: Bounds) -> Self {
            World {
                now: 0,
                bounds,
                dice: Dice::seeded(11),
                memory: Memory::new(),
                seen: Seen::default(),
                queue: VecDeque::new(),
                ends: BinaryHeap::new(),
                next_arrival: 0,
                wake: 0,
                report: Report::default(),
            }
        }

        /// Runs for so long with so many requests a second (0: none), each held for so long (within 10 %
        /// either way).
        fn run(&mut self, long: Duration, per_second: u64, held: Duration) -> Report {
            let until = self.now + long.as_micros() as u64;
            self.report = Report { least: usize::MAX, ..Report::default() };
            self.next_arrival = if per_second == 0 { u64::MAX } else { self.now };
            loop {
                let end = self.ends.peek().map_or(u64::MAX, |Reverse((end, _))| *end);
                self.now = end.min(self.next_arrival).min(self.wake).min(until);
                match self.now {
                    now if now == until => return std::mem::take(&mut self.report),
                    now if now == end => self.end(),
                    now if now == self.wake => self.supervise(),
                    _ => self.arrive(per_second),
                }
                self.dispatch(held.as_micros() as u64);
                if !self.queue.is_empty() && self.seen.idle == 0 {
                    self.supervise();
                    self.dispatch(held.as_micros() as u64);
                }
            }
        }

        fn arrive(&mut self, per_second: u64) {
            self.queue.push_back(self.now);
            let mean = 1_000_000 / per_second;
            self.next_arrival = self.now + mean / 2 + self.dice.below(mean as usize) as u64;
        }

        fn end(&mut self) {
            if let Some(Reverse((_, long))) = self.ends.pop() {
                self.seen.held += Duration::from_micros(long);
                self.seen.ended += 1;
                self.seen.idle += 1;
            }
        }

        fn dispatch(&mut self, held: u64) {
            while self.seen.idle > 0 {
                let Some(ready) = self.queue.pop_front() else { return };
                let long = held * 9 / 10 + self.dice.below(held as usize / 5 + 1) as u64;
                self.ends.push(Reverse((self.now + long, long)));
                self.seen.idle -= 1;
                self.seen.last_taken = Moment::from_nanos(self.now * 1_000);
                self.seen.last_wait = Duration::from_micros(self.now - ready);
                self.report.longest_wait_ms = self.report.longest_wait_ms.max((self.now - ready) / 1_000);
            }
        }

        fn supervise(&mut self) {
            loop {
                self.seen.queued = self.queue.len();
                self.report.orders += 1;
                match order(&mut self.memory, self.seen, self.bounds, Moment::from_nanos(self.now * 1_000)) {
                    Order::Hire(count) => {
                        self.seen.workers += count;
                        self.seen.idle += count;
                        self.report.hired += count;
                    }
                    Order::Dismiss(count) => {
                        self.seen.workers -= count;
                        self.seen.idle -= count;
                        self.report.dismissed += count;
                    }
                    Order::WaitUntil(until) => {
                        self.wake = until.as_nanos() / 1_000;
                        assert!(self.wake > self.now, "a busy loop");
                        break;
                    }
                }
                assert!((self.bounds.min..=self.bounds.max).contains(&self.seen.workers));
            }
            self.report.most = self.report.most.max(self.seen.workers);
            self.report.least = self.report.least.min(self.seen.workers);
        }
    }

    #[test]
    fn slow_servers_grow_the_crew_and_quiet_shrinks_it() {
        let mut world = World::new(bounds(1, 50));
        let begin = world.run(ms(2_000), 100, ms(200));
        assert!((20..=27).contains(&begin.most), "{begin:?}");
        assert!(begin.longest_wait_ms <= 4, "{begin:?}");
        let steady = world.run(ms(30_000), 100, ms(200));
        assert!(steady.least >= 20 && steady.most <= 27, "{steady:?}");
        assert!(steady.hired <= 6 && steady.dismissed <= 6, "{steady:?}");
        assert!(steady.orders < 30 * 12, "{steady:?}");
        let quiet = world.run(ms(5_000), 0, ms(200));
        assert_eq!(quiet.least, 1, "{quiet:?}");
        let night = world.run(ms(60_000), 0, ms(200));
        assert!(night.orders <= 7 && night.most == 1, "{night:?}");
    }

    #[test]
    fn from_max_to_min_in_a_few_seconds() {
        let mut world = World::new(bounds(1, 50));
        let storm = world.run(ms(3_000), 2_000, ms(200));
        assert_eq!(storm.most, 50, "{storm:?}");
        world.queue.clear();
        assert_eq!(world.run(ms(5_000), 0, ms(200)).least, 1);
    }

    #[test]
    fn a_burst_is_met_by_doubling_and_forgotten() {
        let mut world = World::new(bounds(1, 50));
        world.run(ms(5_000), 10, ms(1));
        assert_eq!(world.seen.workers, 1);
        let now = world.now;
        world.queue.extend([now; 40]);
        let burst = world.run(ms(100), 10, ms(100));
        assert!(burst.most >= 32 && burst.longest_wait_ms <= 14, "{burst:?}");
        let after = world.run(ms(6_000), 10, ms(1));
        assert_eq!(after.least, 1, "{after:?}");
    }

    #[test]
    fn fast_servers_need_few() {
        let mut world = World::new(bounds(1, 50));
        let fast = world.run(ms(10_000), 5_000, Duration::from_micros(300));
        assert!(fast.most <= 5, "{fast:?}");
        let steady = world.run(ms(60_000), 5_000, Duration::from_micros(300));
        assert!(steady.hired <= 15, "{steady:?}");
    }

    #[test]
    fn a_saturated_machine_stays_at_min() {
        let mut world = World::new(bounds(2, 50));
        world.seen.cpu_saturated = true;
        let report = world.run(ms(3_000), 1_000, ms(20));
        assert_eq!((report.least, report.most), (2, 2), "{report:?}");
        assert!(report.orders < 10_000, "{report:?}");
    }

    #[test]
    fn bursts_that_come_back_find_their_workers() {
        let mut world = World::new(bounds(1, 50));
        let mut hired = 0;
        for round in 0..20 {
            let now = world.now;
            world.queue.extend([now; 20]);
            let report = world.run(ms(1_000), 20, ms(50));
            hired += if round >= 5 { report.hired } else { 0 };
        }
        assert!(hired <= 15, "{hired}");
    }
}
