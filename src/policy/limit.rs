//! How many requests at once a server can use: the limit of `max_in_flight: "measured"`.
//!
//! A server with four slots that gets eight requests responds to none of them sooner: four wait, and they wait for this
//! server alone. So what is more than it works on at once should wait in the pool's queue, and go to the first server that
//! has room. A server shows how many that is: up to its slots a response takes the same time whatever the number of
//! requests `n` in flight, and from there on a time proportional to `n` (Little's law).
//!
//! So each window of responses is compared with that shape for each number of slots, and with that of a server without
//! any limit. What counts is what happened *within* a window: the level of its latencies is fitted, too, so that a
//! server that has become slower for good, or was measured without load, is no evidence of anything. This is where limiters
//! that compare with a shortest latency (Vegas, gradient) are misled. Evidence adds up and fades.
//!
//! **The limit is the highest one that is not ruled out**, and half as many more. A limit that is too low costs throughput, one
//! that is too high only lets requests wait in a worse place. While nothing is known it is [`INITIAL`], and grows as long as requests
//! wait for it. Evidence fades and is renewed by trials: while requests wait, a few more, and then a few fewer, are let through.
//!
//! Where most requests end without a response, as their clients have left, latencies show nothing: the limit is halved. And where all
//! responses take far longer than those that were measured, it may be for a reason that has nothing to do with slots, such as another
//! service that the server waits for. What was measured is forgotten then.

use crate::base::time::Moment;
use parking_lot::Mutex;
use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

/// The most requests in flight with a server, where there is a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MaxInFlight {
    /// So many, 1 to 1,000,000.
    Fixed(u32),
    /// As many as it works on at once, which is measured ([`MeasuredLimit`]).
    Measured,
    /// None, unless it is overloaded ([`super::overload`]).
    Auto,
}

impl fmt::Display for MaxInFlight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MaxInFlight::Fixed(most) => write!(f, "{most}"),
            MaxInFlight::Measured => f.write_str("measured"),
            MaxInFlight::Auto => f.write_str("auto"),
        }
    }
}

/// Numbers of requests are kept in classes: 1, 2, 3, 4, 6, 8, 12, 16 and so on up to 4,096, each with those above the last.
const CLASSES: usize = 24;
/// The place of a server without slots among the scores.
const NO_SLOTS: usize = CLASSES;
/// The limit before anything is known: enough for most servers, and no flood for a small one.
const INITIAL: u32 = 64;
/// Responses of a window.
const WINDOW: u32 = 64;
/// The part of all evidence that is left after a window.
const KEPT: f32 = 0.97;
/// A number of slots is ruled out when its squared error is by so many variances above that of the best one: three standard errors.
const RULED_OUT: f32 = 9.0;
/// Evidence adds up to so much at the most, so that a server that changes is not measured against all that it was before. With 15
/// or 20 the limit is let up more often in an overload.
const SCORE_MAX: f32 = 30.0;
/// What one window can add to it: pauses of a server make long responses beside many requests in flight, too. With 3 an overload
/// is found out too late, with 12 p99 beside servers that pause or are of unlike speed is up to 17 % higher than without a limit.
const SCORE_OF_WINDOW_MAX: f32 = 8.0;
/// How much faster than in proportion to the requests the logarithm of a latency grows, in the mean of those that vary: 1 where all requests take
/// the same, up to 1.7 where their times are exponentially distributed.
const SLOPE: f32 = 1.35;
/// Where requests wait for a limit that is not known to be one, it grows by this factor in a window.
const GROWTH: f32 = 1.25;
/// While requests wait for the limit, in the half of one window in so many twice as many are let through, and in the half of another one
/// a fifth fewer: so it shows whether they would be served sooner, and whether as many are needed.
const TRIAL_EVERY: u32 = 4;
/// The share of a window in the variance of latencies.
const NOISE_GAIN: f32 = 0.1;
/// The least variance of the logarithm of a latency: 10 % up or down.
const NOISE_MIN: f32 = 0.01;
/// The logarithm of how many times as long a response takes that may be for another reason than slots: 8 times. Where times are
/// exponentially distributed, one in 90 does by chance, and never twice as many in a row as the limit.
const FAR_SLOWER: f32 = 2.08;
/// The highest limit.
const LIMIT_MAX: u32 = 4_096;
/// The share of rejections goes by about so many responses: one URL that always gets 503 is no limit.
const REJECTED_GAIN: f32 = 1.0 / 16.0;
/// A load that the server rejected is tried again after this.
const REJECTED_FOR: Duration = Duration::from_secs(5);

/// What is measured of a server.
#[derive(Debug)]
pub struct MeasuredLimit {
    state: Mutex<State>,
    /// What may be in flight now; 0 is no limit.
    most: AtomicU32,
    /// What it works on at once at the most; 0 while that is not known.
    slots: AtomicU32,
}

#[derive(Debug)]
struct State {
    window: [Class; CLASSES],
    responses: u32,
    /// Those of them that were sent with the limit reached.
    at_limit: u32,
    /// Requests that ended without a response meanwhile.
    given_up: u32,
    windows: u32,
    /// The squared error of each number of slots above that of the best one, in variances; the last one is that of no slots.
    scores: [f32; CLASSES + 1],
    /// The variance of the logarithm of latencies under the same load; 0 while it is not known.
    noise: f32,
    limit: u32,
    /// Once slots were found: the logarithms of their number, and of the latency while one of them is free.
    measured: Option<(f32, f32)>,
    /// The last responses that took far longer than that.
    slow_in_row: u32,
    rejections: [Rejections; CLASSES],
}

/// Responses of a window that were sent under about the same load.
#[derive(Clone, Copy, Debug, Default)]
struct Class {
    count: f32,
    /// The sums of the logarithms of latencies and of loads, and of the squares of the former.
    us: f32,
    load: f32,
    squares: f32,
}

#[derive(Clone, Copy, Debug, Default)]
struct Rejections {
    /// The share among the last responses.
    share: f32,
    at: Moment,
}

impl Default for MeasuredLimit {
    fn default() -> Self {
        let state = State::new([Rejections::default(); CLASSES]);
        MeasuredLimit { state: Mutex::new(state), most: AtomicU32::new(INITIAL), slots: AtomicU32::new(0) }
    }
}

impl MeasuredLimit {
    /// A good response took so long; the server had `load` requests to respond to when it was sent, it among them.
    pub fn record(&self, took: Duration, load: u32, now: Moment) {
        let mut state = self.state.lock();
        let us = (took.as_secs_f32() * 1e6).max(1.0).ln();
        if state.is_outdated_by(us, load.max(1)) {
            *state = State::new(state.rejections);
            self.slots.store(0, Relaxed);
            self.most.store(state.most(now), Relaxed);
        }
        state.record(us, load.max(1), now);
        if state.responses >= WINDOW {
            let slots = state.judge();
            self.slots.store(slots.unwrap_or(0), Relaxed);
            self.most.store(state.most(now), Relaxed);
        } else if state.responses == WINDOW / 2 {
            self.most.store(state.most(now), Relaxed);
        }
    }

    /// A request got no response before its client or its time was gone. Where most of them end so, the limit is halved: latencies that
    /// are cut off show no slots.
    pub fn gave_up(&self, now: Moment) {
        let mut state = self.state.lock();
        state.given_up += 1;
        if state.given_up >= WINDOW / 2 {
            state.halve();
            self.most.store(state.most(now), Relaxed);
        }
    }

    /// The server rejected a request (503) of those that it had, `load` with this one. Where it rejects most of those of so
    /// high a load, the limit is below that.
    pub fn rejected(&self, load: u32, now: Moment) {
        let mut state = self.state.lock();
        state.rejections[class_of(load.max(1))].note(true, now);
        self.most.store(state.most(now), Relaxed);
    }

    /// The most requests at once now.
    pub fn most(&self) -> u32 {
        self.most.load(Relaxed)
    }

    /// What it works on at once at the most: with more it takes longer for each. `None` while it was not seen with more.
    pub fn slots(&self) -> Option<u32> {
        Some(self.slots.load(Relaxed)).filter(|slots| *slots > 0)
    }
}

impl State {
    /// Nothing is known, except of what was rejected.
    fn new(rejections: [Rejections; CLASSES]) -> Self {
        State {
            window: [Class::default(); CLASSES],
            responses: 0,
            at_limit: 0,
            given_up: 0,
            windows: 0,
            scores: [0.0; CLASSES + 1],
            noise: 0.0,
            limit: INITIAL,
            measured: None,
            slow_in_row: 0,
            rejections,
        }
    }

    /// With this latency so many responses in a row took far longer than those that were measured that it was another server, as
    /// it were. A server that stands still for a moment makes no more of them than the limit.
    fn is_outdated_by(&mut self, us: f32, load: u32) -> bool {
        let Some((slots, usual)) = self.measured else { return false };
        let is_slow = us - waiting(slots, load) > usual + FAR_SLOWER;
        self.slow_in_row = if is_slow { self.slow_in_row + 1 } else { 0 };
        self.slow_in_row > self.limit * 2
    }

    fn record(&mut self, us: f32, load: u32, now: Moment) {
        let at = class_of(load);
        self.rejections[at].note(false, now);
        let class = &mut self.window[at];
        class.count += 1.0;
        class.us += us;
        class.load += (load as f32).ln();
        class.squares += us * us;
        self.responses += 1;
        self.at_limit += u32::from(load >= self.limit);
    }

    /// A window is over: sets the limit from what is known now; returns the most slots that are not ruled out.
    fn judge(&mut self) -> Option<u32> {
        self.compare();
        let is_binding = self.at_limit > self.responses / 2;
        let possible = self.scores.iter().rposition(|score| *score < RULED_OUT).unwrap_or(NO_SLOTS);
        self.measured = (possible < NO_SLOTS).then(|| self.usual(possible));
        self.begin_window();
        self.windows = if is_binding { self.windows.wrapping_add(1) } else { 0 };
        let target = if possible == NO_SLOTS { LIMIT_MAX } else { with_spare(upper(possible)) };
        // It is let up step by step, and only where requests wait for it.
        let higher = if is_binding { (self.limit as f32 * GROWTH) as u32 + 1 } else { self.limit };
        self.limit = target.min(higher).min(LIMIT_MAX);
        (possible < NO_SLOTS).then(|| upper(possible))
    }

    fn begin_window(&mut self) {
        (self.responses, self.at_limit, self.given_up) = (0, 0, 0);
        self.window = [Class::default(); CLASSES];
    }

    fn halve(&mut self) {
        if self.given_up > self.responses {
            self.limit = (self.limit / 2).max(1);
        }
        self.begin_window();
    }

    /// The logarithms of these slots, and of the latency of the window's responses while one of them is free.
    fn usual(&self, slots_at: usize) -> (f32, f32) {
        let slots = (upper(slots_at) as f32).ln();
        let of = |class: &Class| class.us - (class.load - slots * class.count).max(0.0) * SLOPE;
        (slots, self.window.iter().map(of).sum::<f32>() / self.responses.max(1) as f32)
    }

    /// Adds up by how much the window differs from what it would be with each number of slots.
    fn compare(&mut self) {
        let seen = || self.window.iter().filter(|class| class.count > 0.0);
        let classes = seen().count() as f32;
        let all: f32 = seen().map(|class| class.count).sum();
        let within: f32 = seen().map(|class| class.squares - class.us * class.us / class.count).sum();
        let noise = (within / (all - classes).max(1.0)).max(NOISE_MIN);
        self.noise = if self.noise == 0.0 { noise } else { self.noise + (noise - self.noise) * NOISE_GAIN };
        let error = |slots_at: usize| {
            let slots = if slots_at == NO_SLOTS { f32::INFINITY } else { (upper(slots_at) as f32).ln() };
            let rest = |class: &Class| {
                (class.us - (class.load - slots * class.count).max(0.0) * SLOPE) / class.count
            };
            let mean = seen().map(|class| rest(class) * class.count).sum::<f32>() / all;
            seen().map(|class| class.count * (rest(class) - mean).powi(2)).sum::<f32>()
        };
        let errors: [f32; CLASSES + 1] = std::array::from_fn(|at| error(at) / self.noise);
        let least = errors.iter().copied().fold(f32::INFINITY, f32::min);
        let mut scores = self.scores;
        for (score, error) in scores.iter_mut().zip(errors) {
            *score = *score * KEPT + (error - least).min(SCORE_OF_WINDOW_MAX);
        }
        let best = scores.iter().copied().fold(f32::INFINITY, f32::min);
        scores.iter_mut().for_each(|score| *score = (*score - best).min(SCORE_MAX));
        self.scores = scores;
    }

    /// What may be in flight until the next judgement.
    fn most(&self, now: Moment) -> u32 {
        let rejects = |seen: &Rejections| seen.share > 0.5 && now.since(seen.at) <= REJECTED_FOR;
        let rejecting = self.rejections.iter().position(rejects);
        let accepted = rejecting.map_or(LIMIT_MAX, |at| at.checked_sub(1).map_or(1, upper));
        let is_second_half = self.responses >= WINDOW / 2;
        let limit = match self.windows % TRIAL_EVERY {
            1 if is_second_half => self.limit * 2,
            3 if is_second_half => self.limit - self.limit / 5,
            _ => self.limit,
        };
        limit.min(accepted)
    }
}

impl Rejections {
    fn note(&mut self, is_rejected: bool, now: Moment) {
        if now.since(self.at) > REJECTED_FOR {
            self.share = 0.0;
        }
        let share = if is_rejected { 1.0 } else { 0.0 };
        self.share += (share - self.share) * REJECTED_GAIN;
        self.at = now;
    }
}

/// By how much the logarithm of a latency is longer beside so many requests, where this is the logarithm of the slots.
fn waiting(slots: f32, load: u32) -> f32 {
    ((load as f32).ln() - slots).max(0.0) * SLOPE
}

/// So many slots and half as many more requests: so that the next one is there when a response has been sent, and that more slots show.
fn with_spare(slots: u32) -> u32 {
    slots + slots.div_ceil(2)
}

fn class_of(load: u32) -> usize {
    (0..CLASSES).find(|at| load <= upper(*at)).unwrap_or(CLASSES - 1)
}

/// The highest number of a class: two classes for each power of two.
fn upper(class: usize) -> u32 {
    match class {
        0 => 1,
        _ if class % 2 == 1 => 2 << (class / 2),
        _ => 3 << (class / 2 - 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::random::Random;

    /// Responses of a server with so many slots and service times of 10 ms, exponential or all the same, at loads that wander up to the
    /// limit and `seen`.
    fn run(auto: &MeasuredLimit, slots: u32, seen: u32, responses: u32, seed: u64, service_ms: f64) {
        let mut random = Random::seeded(seed);
        let mut load = 1_u32;
        for n in 0..responses {
            let up = random.below(2) == 0;
            load = if up { load + 1 } else { load.max(2) - 1 }.min(seen).min(auto.most());
            let exponential = |random: &mut Random| -(1.0 - random.fraction()).ln();
            // It waits for one of the slots to be free so many times, then it is served.
            let waits: f64 = (slots..load).map(|_| exponential(&mut random) / f64::from(slots)).sum();
            let ms = (waits + exponential(&mut random)) * service_ms;
            auto.record(Duration::from_micros((ms * 1e3) as u64), load, Moment::from_millis(u64::from(n)));
        }
    }

    fn limit(auto: &MeasuredLimit) -> u32 {
        auto.state.lock().limit
    }

    #[test]
    fn classes_cover_all_numbers() {
        let uppers: Vec<_> = (0..9).map(upper).collect();
        assert_eq!(uppers, [1, 2, 3, 4, 6, 8, 12, 16, 24]);
        assert!((1..5_000).all(|load| load <= upper(class_of(load)) || class_of(load) == CLASSES - 1));
    }

    #[test]
    fn it_is_a_little_above_the_slots_and_never_below_them() {
        for slots in [1, 2, 3, 4, 6, 8, 16] {
            for seed in 0..8 {
                let auto = MeasuredLimit::default();
                run(&auto, slots, slots * 3, 6_000, seed, 10.0);
                let limit = limit(&auto);
                assert!(limit >= slots && limit <= slots * 3 + 1, "{slots} slots, seed {seed}: {limit}");
                let found = auto.slots();
                assert!(found.is_none_or(|found| found >= slots * 2 / 3), "{slots}: {found:?}");
            }
        }
    }

    #[test]
    fn a_server_that_never_gets_slower_gets_as_many_as_there_are() {
        let auto = MeasuredLimit::default();
        run(&auto, 100_000, 40, 20_000, 1, 10.0);
        assert!(limit(&auto) >= INITIAL && auto.slots().is_none(), "{}", limit(&auto));
        for n in 0..20_000 {
            auto.record(Duration::from_millis(500), auto.most(), Moment::from_millis(n));
        }
        assert!(limit(&auto) >= 1_000, "{}", limit(&auto));
    }

    #[test]
    fn a_server_that_becomes_slower_for_good_or_was_measured_without_load_keeps_its_slots() {
        for seed in 0..4 {
            let auto = MeasuredLimit::default();
            run(&auto, 8, 1, 5_000, seed, 10.0);
            assert_eq!(limit(&auto), INITIAL, "one at a time shows nothing");
            for service_ms in [10.0, 40.0, 5.0] {
                // All the time, not only in the end: each change is a step.
                for part in 0..20 {
                    run(&auto, 8, 24, 300, seed * 100 + part, service_ms);
                    assert!(limit(&auto) >= 8, "{service_ms} ms, part {part}: {}", limit(&auto));
                }
                assert!(limit(&auto) <= 25, "{service_ms} ms: {}", limit(&auto));
            }
        }
    }

    #[test]
    fn a_server_that_waits_for_something_else_is_not_held_to_its_slots() {
        for seed in 0..4 {
            let auto = MeasuredLimit::default();
            run(&auto, 2, 24, 6_000, seed, 10.0);
            assert!(auto.most() <= 7, "{}", auto.most());
            // As many at once as come, 5 s each.
            let few = (0..100).take_while(|at| {
                auto.record(Duration::from_secs(5), auto.most(), Moment::from_millis(100_000 + at));
                auto.most() < INITIAL
            });
            let few = few.count();
            assert!(few <= 16, "seed {seed}: after {few} responses");
            // Where it is the server after all, that shows.
            run(&auto, 2, 100, 3_000, seed, 500.0);
            assert!(limit(&auto) <= 7, "seed {seed}: {}", limit(&auto));
        }
    }

    #[test]
    fn a_load_that_is_rejected_is_above_the_limit_and_one_url_that_always_is_changes_nothing() {
        let (auto, at) = (MeasuredLimit::default(), Moment::from_millis);
        for ms in 0..200 {
            (1..=auto.most()).for_each(|load| match load {
                0..=8 => auto.record(Duration::from_millis(10), load, at(ms)),
                _ => auto.rejected(load, at(ms)),
            });
        }
        assert_eq!(auto.most(), 8);
        let auto = MeasuredLimit::default();
        for ms in 0..2_000 {
            match ms % 20 {
                0 => auto.rejected(1 + (ms % 4) as u32, at(ms)),
                _ => auto.record(Duration::from_millis(10), 1 + (ms % 4) as u32, at(ms)),
            }
        }
        assert!(auto.most() >= INITIAL, "{}", auto.most());
    }

    #[test]
    fn where_most_clients_leave_before_their_response_it_is_halved() {
        let (auto, at) = (MeasuredLimit::default(), Moment::from_millis);
        (0..WINDOW).for_each(|ms| auto.gave_up(at(ms.into())));
        assert_eq!(auto.most(), INITIAL / 4);
        let auto = MeasuredLimit::default();
        for ms in 0..u64::from(WINDOW) * 4 {
            match ms % 4 {
                0 => auto.gave_up(at(ms)),
                _ => auto.record(Duration::from_millis(10), 1, at(ms)),
            }
        }
        assert_eq!(auto.most(), INITIAL);
    }
}
