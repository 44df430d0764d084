//! How many requests at once a server can use, as its responses show: part of `max_in_flight: "auto"`.
//!
//! A server with four slots that gets forty requests responds to none of them sooner: thirty-six wait, and they wait for this
//! server alone. In the queue of the pool they would go to the first server with room (late binding). A server shows how
//! many slots it has: up to these a response takes the same time whatever the number of requests `n` in flight, and from
//! there on a time proportional to `n` (Little's law).
//!
//! So each window of responses is compared with that shape for each number of slots, and with that of a server without
//! any limit. What counts is what happened *within* a window: the level of its latencies is fitted, too, so that a
//! server that has become slower for good, or was measured without load, is no evidence of anything. This is where limiters
//! that compare with a shortest latency (Vegas, gradient) are misled. Evidence adds up and fades, and the number of slots is the
//! highest one that is not ruled out.
//!
//! **The limit is [`TIMES_SLOTS`] as many**, and there is none while no slots are known, or where a response takes less than a
//! millisecond. It takes the long waits from the
//! servers into the queue, and leaves enough at each of them: a limit near the slots keeps a server idle whose requests
//! come in bursts, and is too low beside another balancer, whose requests look like slots that are not there.
//!
//! Where all responses take far longer than those that were measured, it may be for a reason that has nothing to do with slots, such
//! as another service that the server waits for. What was measured is forgotten then. And a server that says 503 to more than
//! so many at once gets no more of them for a while.

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
    /// A few times what it works on at once ([`MeasuredLimit`]), and fewer where it is overloaded ([`super::overload`]).
    Auto,
}

impl fmt::Display for MaxInFlight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MaxInFlight::Fixed(most) => write!(f, "{most}"),
            MaxInFlight::Auto => f.write_str("auto"),
        }
    }
}

/// The limit is so many times the slots. With 1.5 two balancers that do not know of each other have up to 1.3 times the p99 of none at
/// 95 %, with 2 1.2 times and with 3 1.1 times; with 6 next to nothing is gained with unlike servers.
const TIMES_SLOTS: u32 = 4;
/// The logarithm of the microseconds that a response takes at the least, while a slot is free, where there is a limit: 1 ms. What
/// waits for quicker servers is better off there: with 256 and 1,000 connections the queue cost 1.4 to 1.9 times the processor time.
const USUAL_MIN: f32 = 6.9;
/// Responses of so quick a server that are not looked at, behind each window that was.
const SPARED: u32 = 4 * WINDOW;
/// Numbers of requests are kept in classes: 1, 2, 3, 4, 6, 8, 12, 16 and so on up to 4,096, each with those above the last.
const CLASSES: usize = 24;
/// The place of a server without slots among the scores.
const NO_SLOTS: usize = CLASSES;
/// Responses of a window.
const WINDOW: u32 = 64;
/// The part of all evidence that is left after a window.
const KEPT: f32 = 0.97;
/// A number of slots is ruled out when its squared error is by so many variances above that of the best one: three standard
/// errors. With 16 p99 is the same within 1 %.
const RULED_OUT: f32 = 9.0;
/// Evidence adds up to so much at the most, so that a server that changes is not measured against all that it was before. With 40
/// it is the same.
const SCORE_MAX: f32 = 30.0;
/// What one window can add to it: pauses of a server make long responses beside many requests in flight, too.
const SCORE_OF_WINDOW_MAX: f32 = 8.0;
/// How much faster than in proportion to the requests the logarithm of a latency grows, in the mean of those that vary: 1 where
/// all requests take the same, up to 1.7 where their times are exponentially distributed.
const SLOPE: f32 = 1.35;
/// The share of a window in the variance of latencies.
const NOISE_GAIN: f32 = 0.1;
/// The least variance of the logarithm of a latency: 10 % up or down.
const NOISE_MIN: f32 = 0.01;
/// The logarithm of how many times as long a response takes that may be for another reason than slots: 8 times. Where times are
/// exponentially distributed, one in 90 does by chance, and never as many in a row as the limit.
const FAR_SLOWER: f32 = 2.08;
/// The share of rejections goes by about so many responses: one URL that always gets 503 is no limit.
const REJECTED_GAIN: f32 = 1.0 / 16.0;
/// A load that the server rejected is tried again after this.
const REJECTED_FOR: Duration = Duration::from_secs(5);

/// What is measured of a server.
#[derive(Debug, Default)]
pub struct MeasuredLimit {
    state: Mutex<State>,
    /// What may be in flight now; 0 is no limit.
    most: AtomicU32,
    /// What it works on at once at the most; 0 while that is not known.
    slots: AtomicU32,
    /// So many of the next responses are not looked at.
    spared: AtomicU32,
}

#[derive(Debug, Default)]
struct State {
    window: [Class; CLASSES],
    responses: u32,
    /// The squared error of each number of slots above that of the best one, in variances; the last one is that of no slots.
    scores: [f32; CLASSES + 1],
    /// The variance of the logarithm of latencies under the same load; 0 while it is not known.
    noise: f32,
    measured: Option<Measured>,
    /// The last responses that took far longer than that.
    slow_in_row: u32,
    rejections: [Rejections; CLASSES],
}

#[derive(Clone, Copy, Debug)]
struct Measured {
    slots: u32,
    /// The logarithm of the latency while a slot is free.
    usual: f32,
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

impl MeasuredLimit {
    /// A good response took so long; the server had `load` requests to respond to when it was sent, it among them.
    pub fn record(&self, took: Duration, load: u32, now: Moment) {
        if self.is_spared() {
            return;
        }
        let mut state = self.state.lock();
        let us = (took.as_secs_f32() * 1e6).max(1.0).ln();
        if state.is_outdated_by(us, load.max(1)) {
            *state = State { rejections: state.rejections, ..State::default() };
            self.publish(&state, now);
        }
        state.record(us, load.max(1), now);
        if state.responses >= WINDOW {
            let is_quick = state.judge();
            self.spared.store(if is_quick { SPARED } else { 0 }, Relaxed);
            self.publish(&state, now);
        }
    }

    /// The server rejected a request (503) of those that it had, `load` with this one. Where it rejects most of those of so
    /// high a load, and takes those of a lower one, the limit is below that.
    pub fn rejected(&self, load: u32, now: Moment) {
        if self.is_spared() {
            return;
        }
        let mut state = self.state.lock();
        state.rejections[class_of(load.max(1))].note(true, now);
        self.publish(&state, now);
    }

    /// The most requests at once now; `None` while it was not seen with more than it works on.
    pub fn most(&self) -> Option<u32> {
        Some(self.most.load(Relaxed)).filter(|most| *most > 0)
    }

    /// What it works on at once at the most: with more it takes longer for each. `None` while it was not seen with more.
    pub fn slots(&self) -> Option<u32> {
        Some(self.slots.load(Relaxed)).filter(|slots| *slots > 0)
    }

    /// Threads may count one response for another: it is about so many.
    fn is_spared(&self) -> bool {
        let spared = self.spared.load(Relaxed);
        if spared > 0 {
            self.spared.store(spared - 1, Relaxed);
        }
        spared > 0
    }

    fn publish(&self, state: &State, now: Moment) {
        self.slots.store(state.measured.map_or(0, |measured| measured.slots), Relaxed);
        self.most.store(state.most(now).unwrap_or(0), Relaxed);
    }
}

impl State {
    /// With this latency so many responses in a row took far longer than those that were measured that it was another server, as
    /// it were. A server that stands still for a moment makes no more of them than the limit.
    fn is_outdated_by(&mut self, us: f32, load: u32) -> bool {
        let Some(Measured { slots, usual }) = self.measured else { return false };
        let is_slow = us - waiting((slots as f32).ln(), load) > usual + FAR_SLOWER;
        self.slow_in_row = if is_slow { self.slow_in_row + 1 } else { 0 };
        self.slow_in_row > slots * TIMES_SLOTS
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
    }

    /// A window is over. True: there is no limit, because the server is so quick.
    fn judge(&mut self) -> bool {
        let mean = self.window.iter().map(|class| class.us).sum::<f32>() / self.responses.max(1) as f32;
        let measured = if mean < USUAL_MIN { None } else { self.measure() };
        self.measured = measured.filter(|measured| measured.usual >= USUAL_MIN);
        self.responses = 0;
        self.window = [Class::default(); CLASSES];
        mean < USUAL_MIN || measured.is_some() && self.measured.is_none()
    }

    fn measure(&mut self) -> Option<Measured> {
        self.compare();
        let highest = self.scores.iter().rposition(|score| *score < RULED_OUT).unwrap_or(NO_SLOTS);
        (highest < NO_SLOTS).then(|| self.measured_with(upper(highest)))
    }

    fn measured_with(&self, slots: u32) -> Measured {
        let log_slots = (slots as f32).ln();
        let us: f32 = self.window.iter().map(|class| class.us - class.waiting(log_slots)).sum();
        Measured { slots, usual: us / self.responses.max(1) as f32 }
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
            let rest = |class: &Class| (class.us - class.waiting(slots)) / class.count;
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

    fn most(&self, now: Moment) -> Option<u32> {
        let usable = self.measured.map(|measured| measured.slots * TIMES_SLOTS);
        let accepted = self.accepted(now);
        usable.into_iter().chain(accepted).min()
    }

    /// The highest load below the first one that it rejects, if it takes that. Where it rejects all it is no limit.
    fn accepted(&self, now: Moment) -> Option<u32> {
        let rejects = |seen: &Rejections| seen.share > 0.5 && now.since(seen.at) <= REJECTED_FOR;
        let first = self.rejections.iter().position(rejects)?;
        let is_recent = |seen: &Rejections| seen.at > Moment::START && now.since(seen.at) <= REJECTED_FOR;
        let takes = |seen: &Rejections| is_recent(seen) && seen.share < 0.25;
        let below = &self.rejections[..first];
        below.iter().any(takes).then(|| upper(first.saturating_sub(1)))
    }
}

impl Class {
    /// What of its latencies is waiting for one of the slots, of whose number this is the logarithm.
    fn waiting(&self, log_slots: f32) -> f32 {
        (self.load - log_slots * self.count).max(0.0) * SLOPE
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
fn waiting(log_slots: f32, load: u32) -> f32 {
    ((load as f32).ln() - log_slots).max(0.0) * SLOPE
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

    /// Responses of a server with so many slots and exponential service times, at loads that wander up to the limit and `seen`.
    fn run(limit: &MeasuredLimit, slots: u32, seen: u32, responses: u32, seed: u64, service_ms: f64) {
        let mut random = Random::seeded(seed);
        let mut load = 1_u32;
        for n in 0..responses {
            let up = random.below(2) == 0;
            let most = limit.most().unwrap_or(u32::MAX);
            load = if up { load + 1 } else { load.max(2) - 1 }.min(seen).min(most);
            let exponential = |random: &mut Random| -(1.0 - random.fraction()).ln();
            // It waits for one of the slots to be free so many times, then it is served.
            let waits: f64 = (slots..load).map(|_| exponential(&mut random) / f64::from(slots)).sum();
            let ms = (waits + exponential(&mut random)) * service_ms;
            limit.record(
                Duration::from_micros((ms * 1e3) as u64),
                load,
                Moment::from_millis(u64::from(n) + 1),
            );
        }
    }

    /// It is far from keeping the server idle, or from holding nothing back.
    #[track_caller]
    fn is_right(limit: &MeasuredLimit, slots: u32, what: &str) {
        let most = limit.most();
        let (least, highest) = (slots * TIMES_SLOTS * 2 / 3, slots * TIMES_SLOTS * 2);
        assert!(most.is_none_or(|most| (least..=highest).contains(&most)), "{what}: {slots} slots, {most:?}");
    }

    #[test]
    fn classes_cover_all_numbers() {
        let uppers: Vec<_> = (0..9).map(upper).collect();
        assert_eq!(uppers, [1, 2, 3, 4, 6, 8, 12, 16, 24]);
        assert!((1..5_000).all(|load| load <= upper(class_of(load)) || class_of(load) == CLASSES - 1));
    }

    #[test]
    fn a_server_that_takes_less_than_a_millisecond_has_no_limit() {
        for (service_ms, has_limit) in [(0.05, false), (0.5, false), (4.0, true)] {
            let limit = MeasuredLimit::default();
            run(&limit, 4, 60, 6_000, 1, service_ms);
            assert_eq!(limit.most().is_some(), has_limit, "{service_ms} ms");
            // What was not looked at meanwhile delays the limit of one that has become slow by four windows.
            run(&limit, 4, 60, 6_000, 2, 10.0);
            is_right(&limit, 4, &format!("{service_ms} ms before"));
            assert!(limit.most().is_some(), "{service_ms} ms before");
        }
    }

    #[test]
    fn of_a_quick_server_one_window_of_five_is_looked_at() {
        let limit = MeasuredLimit::default();
        for n in 0..WINDOW + SPARED {
            limit.record(Duration::from_micros(100), 1, Moment::from_millis(1));
            assert_eq!(limit.state.lock().responses, (n + 1) % WINDOW * u32::from(n < WINDOW), "{n}");
        }
        limit.record(Duration::from_micros(100), 1, Moment::from_millis(1));
        assert_eq!(limit.state.lock().responses, 1);
    }

    #[test]
    fn slots_are_found_and_the_limit_is_a_few_times_as_high() {
        for slots in [1, 2, 3, 4, 6, 8, 16] {
            for seed in 0..8 {
                let limit = MeasuredLimit::default();
                run(&limit, slots, slots * 3, 6_000, seed, 10.0);
                is_right(&limit, slots, &format!("seed {seed}"));
                assert!(limit.slots().is_some(), "{slots} slots, seed {seed}");
            }
        }
    }

    #[test]
    fn there_is_none_for_a_server_that_never_gets_slower_or_has_one_request_at_a_time() {
        for (slots, seen) in [(100_000, 40), (8, 1), (8, 8)] {
            let limit = MeasuredLimit::default();
            run(&limit, slots, seen, 20_000, 1, 10.0);
            assert_eq!(limit.most(), None, "{slots} slots, {seen} seen");
        }
    }

    #[test]
    fn a_server_that_becomes_slower_for_good_keeps_its_slots() {
        for seed in 0..4 {
            let limit = MeasuredLimit::default();
            for service_ms in [10.0, 40.0, 5.0] {
                // All the time, not only in the end: each change is a step.
                for part in 0..20 {
                    run(&limit, 8, 24, 300, seed * 100 + part, service_ms);
                    is_right(&limit, 8, &format!("{service_ms} ms, part {part}"));
                }
            }
        }
    }

    #[test]
    fn a_server_that_waits_for_something_else_is_not_held_to_its_slots() {
        for seed in 0..4 {
            let limit = MeasuredLimit::default();
            run(&limit, 2, 24, 6_000, seed, 10.0);
            let most = limit.most().unwrap();
            is_right(&limit, 2, "before");
            // As many at once as come, 5 s each.
            let few = (0..100).take_while(|at| {
                limit.record(Duration::from_secs(5), most, Moment::from_millis(100_000 + at));
                limit.most().is_some()
            });
            let few = few.count();
            assert!(few <= most as usize, "seed {seed}: after {few} responses");
            // Where it is the server after all, that shows.
            run(&limit, 2, 100, 3_000, seed, 500.0);
            is_right(&limit, 2, "in the end");
        }
    }

    #[test]
    fn a_load_that_is_rejected_is_above_the_limit() {
        let (limit, at) = (MeasuredLimit::default(), Moment::from_millis);
        for ms in 1..200 {
            (1..=limit.most().unwrap_or(20)).for_each(|load| match load {
                0..=8 => limit.record(Duration::from_millis(10), load, at(ms)),
                _ => limit.rejected(load, at(ms)),
            });
        }
        assert_eq!(limit.most(), Some(8));
        // It is tried again.
        (1..=64).for_each(|_| limit.record(Duration::from_millis(10), 1, at(9_000)));
        assert_eq!(limit.most(), None);
    }

    #[test]
    fn rejections_that_have_nothing_to_do_with_the_load_are_no_limit() {
        // One URL in 20 always, and then all that come.
        for (one_in, until_ms) in [(20, 2_000), (1, 4_000)] {
            let limit = MeasuredLimit::default();
            for ms in 1..until_ms {
                let load = 1 + (ms % 4) as u32;
                match ms % one_in {
                    0 => limit.rejected(load, Moment::from_millis(ms)),
                    _ => limit.record(Duration::from_millis(10), load, Moment::from_millis(ms)),
                }
                assert_eq!(limit.most(), None, "one in {one_in}");
            }
        }
    }
}
