//! Which server responds far slower than the others.
//!
//! The servers of a pool get the same requests, so their response times have the same distribution. Times are compared on a
//! logarithmic scale: a page that takes 400 times longer than the others, once in 500 requests, raises the mean by 1 %.
//!
//! A server is slow when the mean of its recent times exceeds the median of all servers' means by so many *deviations*. One is the root
//! of the sum of three squares: how far the servers' means lie apart (1.4826 times the median absolute deviation, which no single server
//! can raise), how uncertain its own mean is (its standard error), and [`UNLIKE_OCTAVES`]. So servers of unlike speed, times
//! that vary widely, and few responses make a server look slow less easily.
//!
//! It must be so at [`LOOKS_IN_ROW`] looks in a row: a pause or a cold start is no reason.

use crate::base::ids::ServerId;
use crate::base::time::Moment;
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::time::Duration;

/// Time between two looks: reading the counts of 10,000 servers takes some milliseconds.
pub const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How much of the past is left at each look. Half of what counts is from the last six seconds.
const KEPT: f64 = 0.8;
/// With fewer recent responses a server is neither judged nor compared with.
const RESPONSES_MIN: f64 = 30.0;
/// Nor with more errors than this share of them.
const ERRORS_MAX: f64 = 0.1;
/// With fewer such servers there is no median that one alone cannot move.
const SERVERS_MIN: usize = 3;
/// Servers of one pool differ by that much, in powers of two, without any fault: by 41 %.
const UNLIKE_OCTAVES: f64 = 0.5;
/// A smaller difference is too small for clients to notice.
const DIFFERENCE_MIN_US: f64 = 50_000.0;
/// So many looks in a row must agree: eight seconds.
const LOOKS_IN_ROW: u32 = 4;

/// Response times of one server since the start, as sums of binary logarithms of microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Times {
    /// How many.
    pub count: f64,
    /// Their sum.
    pub sum: f64,
    /// The sum of their squares.
    pub squares: f64,
    /// Responses that were errors, and failures: what fails is fast, so other servers are not compared with it.
    pub errors: f64,
}

/// A server that is far slower than the others, with the figures for the log.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Slow {
    /// What its responses took in the (geometric) mean.
    pub own: Duration,
    /// The median of that of all servers.
    pub median: Duration,
    /// By how many deviations its mean exceeds the median.
    pub deviations: f64,
    /// Its responses that count.
    pub responses: u32,
    /// Servers that were compared.
    pub servers: u32,
}

impl fmt::Display for Slow {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Slow { own, median, deviations, responses, servers } = self;
        let ms = |time: &Duration| {
            let ms = time.as_secs_f64() * 1e3;
            if ms < 10.0 { format!("{ms:.1} ms") } else { format!("{ms:.0} ms") }
        };
        write!(
            out,
            "its last {responses} responses took {} in the mean, {deviations:.1} deviations above the {} that are the median of \
             {servers} servers",
            ms(own),
            ms(median)
        )
    }
}

impl Times {
    /// With `count` more that took so many microseconds.
    pub fn add(&mut self, us: u64, count: u64) {
        let (log, count) = ((us.max(1) as f64).log2(), count as f64);
        self.count += count;
        self.sum += count * log;
        self.squares += count * log * log;
    }

    fn times(self, factor: f64) -> Self {
        Times {
            count: self.count * factor,
            sum: self.sum * factor,
            squares: self.squares * factor,
            errors: self.errors * factor,
        }
    }

    fn plus(self, other: Times) -> Self {
        Times {
            count: self.count + other.count,
            sum: self.sum + other.sum,
            squares: self.squares + other.squares,
            errors: self.errors + other.errors,
        }
    }

    /// What was added since; nothing where there is less than before.
    fn since(self, before: Times) -> Self {
        if self.count < before.count { Times::default() } else { self.plus(before.times(-1.0)) }
    }

    /// Whether they say how fast a server is.
    fn are_known(self) -> bool {
        self.count >= RESPONSES_MIN && self.errors <= ERRORS_MAX * self.count
    }

    fn mean(self) -> f64 {
        self.sum / self.count
    }

    /// The square of the standard error of the mean.
    fn error_squared(self) -> f64 {
        let variance = (self.squares / self.count - self.mean().powi(2)).max(0.0);
        variance / (self.count - 1.0).max(1.0)
    }
}

/// What is recorded of the servers that take requests.
#[derive(Debug, Default)]
pub struct SlowServers {
    servers: HashMap<ServerId, Track>,
    /// Those that were slow at last: when they come back from an ejection, one look is enough.
    known_slow: HashSet<ServerId>,
    next_look: Moment,
}

#[derive(Debug)]
struct Track {
    total: Times,
    /// With the past fading.
    recent: Times,
    /// Looks in a row at which it was slow.
    slow_looks: u32,
}

impl SlowServers {
    /// When [`SlowServers::look`] has something to do again.
    pub fn next_look(&self) -> Moment {
        self.next_look
    }

    /// Compares the servers that take requests now; one that was not among them at the last look begins without a past. Returns
    /// those that are slow by so many deviations, the slowest first; none where that is 0.
    pub fn look(
        &mut self,
        servers: &[(ServerId, Times)],
        deviations: f64,
        now: Moment,
    ) -> Vec<(ServerId, Slow)> {
        self.next_look = now.after(LOOK_EVERY);
        if deviations <= 0.0 || servers.len() < SERVERS_MIN {
            self.servers.clear();
            return Vec::new();
        }
        self.note(servers);
        let Some(scale) = self.compare() else { return Vec::new() };
        let mut found = Vec::new();
        for (id, track) in &mut self.servers {
            match track.judge(scale, deviations) {
                Some(slow) => found.push((*id, slow)),
                None if track.slow_looks == 0 => _ = self.known_slow.remove(id),
                None => {}
            }
        }
        // The id breaks ties: the order of the map differs between runs.
        self.known_slow.extend(found.iter().map(|(id, _)| *id));
        found.sort_by(|(one_id, one), (two_id, two)| two.own.cmp(&one.own).then(one_id.0.cmp(&two_id.0)));
        found
    }

    fn note(&mut self, servers: &[(ServerId, Times)]) {
        if self.known_slow.len() > servers.len() {
            // Some of them are gone for good.
            self.known_slow.clear();
        }
        let there: HashSet<_> = servers.iter().map(|(id, _)| *id).collect();
        self.servers.retain(|id, _| there.contains(id));
        for (id, total) in servers {
            let slow_looks = if self.known_slow.contains(id) { LOOKS_IN_ROW - 1 } else { 0 };
            let new = || Track { total: *total, recent: Times::default(), slow_looks };
            let track = self.servers.entry(*id).or_insert_with(new);
            track.recent = track.recent.times(KEPT).plus(total.since(track.total));
            track.total = *total;
        }
    }

    /// The median of the servers' means and how far these lie apart; `None` where too few have responses.
    fn compare(&self) -> Option<Scale> {
        let known = self.servers.values().filter(|track| track.recent.are_known());
        let mut means: Vec<f64> = known.map(|track| track.recent.mean()).collect();
        if means.len() < SERVERS_MIN {
            return None;
        }
        let median = middle(&mut means);
        let mut distances: Vec<f64> = means.iter().map(|mean| (mean - median).abs()).collect();
        // For a normal distribution that is its standard deviation.
        let spread = 1.4826 * middle(&mut distances);
        Some(Scale { median, spread, servers: means.len() })
    }
}

#[derive(Clone, Copy, Debug)]
struct Scale {
    median: f64,
    spread: f64,
    servers: usize,
}

impl Track {
    fn judge(&mut self, scale: Scale, limit: f64) -> Option<Slow> {
        if !self.recent.are_known() {
            return None;
        }
        let found = self.slow(scale, limit);
        self.slow_looks = if found.is_some() { self.slow_looks + 1 } else { 0 };
        found.filter(|_| self.slow_looks >= LOOKS_IN_ROW)
    }

    fn slow(&self, scale: Scale, limit: f64) -> Option<Slow> {
        let recent = self.recent;
        let deviation = (scale.spread.powi(2) + recent.error_squared() + UNLIKE_OCTAVES.powi(2)).sqrt();
        let deviations = (recent.mean() - scale.median) / deviation;
        let us = [recent.mean(), scale.median].map(f64::exp2);
        let is_slow = deviations >= limit && us[0] - us[1] >= DIFFERENCE_MIN_US;
        is_slow.then(|| Slow {
            own: Duration::from_micros(us[0] as u64),
            median: Duration::from_micros(us[1] as u64),
            deviations,
            responses: recent.count as u32,
            servers: scale.servers as u32,
        })
    }
}

/// The median; of an even number the higher one of the two, so that half of the servers cannot be slow.
fn middle(values: &mut [f64]) -> f64 {
    let at = values.len() / 2;
    *values.select_nth_unstable_by(at, f64::total_cmp).1
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::random::Random;

    /// What a server does with a request: how many ms it takes, from a random number from 0 to 1 and another.
    type Model = fn(f64, f64) -> f64;

    fn exponential(mean: f64, one: f64) -> f64 {
        -mean * (1.0 - one).ln()
    }

    /// Servers with so many requests a second, for two minutes: those that are found slow, each with when that was.
    fn run(servers: &[(Model, u64)], deviations: f64, seed: u64) -> Vec<(u32, u64, Slow)> {
        let (mut slow, mut random) = (SlowServers::default(), Random::seeded(seed));
        let mut totals = vec![Times::default(); servers.len()];
        let mut found = Vec::new();
        for look in 0..60 {
            for (total, (model, per_second)) in totals.iter_mut().zip(servers) {
                for _ in 0..per_second * 2 {
                    let ms = model(random.fraction(), random.fraction());
                    total.add((ms * 1e3) as u64, 1);
                }
            }
            let list: Vec<_> = (0..).map(ServerId).zip(totals.iter().copied()).collect();
            let now = Moment::from_millis(look * 2_000);
            found.extend(
                slow.look(&list, deviations, now).into_iter().map(|(id, slow)| (id.0, look * 2, slow)),
            );
        }
        found
    }

    fn check_none(case: &str, servers: &[(Model, u64)]) {
        for seed in 0..20 {
            let found = run(servers, 6.0, seed);
            assert!(found.is_empty(), "{case}, seed {seed}: {:?}", found.first());
        }
    }

    #[test]
    fn what_is_no_fault_of_a_server_ejects_none() {
        let usual: Model = |one, _| exponential(20.0, one);
        let slow_page: Model = |one, two| if two < 1.0 / 500.0 { 8_000.0 } else { exponential(20.0, one) };
        let two_kinds: Model = |_, two| if two < 0.5 { 10.0 } else { 1_000.0 };
        let some_slow: Model =
            |one, two| if two < 0.1 { exponential(2_000.0, one) } else { exponential(10.0, one) };
        for rate in [2, 20, 200] {
            for count in [3, 10] {
                check_none("equal", &vec![(usual, rate); count]);
                check_none("one slow page in 500", &vec![(slow_page, rate); count]);
                check_none("two kinds of pages", &vec![(two_kinds, rate); count]);
                check_none("some slow pages", &vec![(some_slow, rate); count]);
            }
        }
        let double: Model = |one, _| exponential(40.0, one);
        let fourfold: Model = |one, _| exponential(80.0, one);
        let faster: Model = |one, _| exponential(1.0, one);
        check_none("speeds 1:2:4", &[(usual, 90), (double, 40), (fourfold, 20)]);
        check_none(
            "one of ten takes four times as long",
            &[vec![(usual, 50); 9], vec![(fourfold, 15)]].concat(),
        );
        check_none("one of ten is 20 times faster", &[vec![(usual, 50); 9], vec![(faster, 500)]].concat());
        let tiny: Model = |one, _| exponential(0.2, one);
        check_none("a difference too small to notice", &[vec![(tiny, 50); 5], vec![(faster, 50)]].concat());
        let very_slow: Model = |one, _| exponential(1_000.0, one);
        check_none("two servers cannot be compared", &[(usual, 90), (very_slow, 40)]);
        check_none("half of them", &[(usual, 90), (usual, 90), (very_slow, 40), (very_slow, 40)][1..]);
        check_none("all slow", &[(very_slow, 40); 4]);
        check_none("too few responses", &[(usual, 50), (usual, 50), (usual, 50), (very_slow, 1)]);
    }

    #[test]
    fn a_server_that_is_far_slower_is_found_with_its_figures() {
        let usual: Model = |one, _| exponential(20.0, one);
        let slow: Model = |one, _| exponential(600.0, one);
        for seed in 0..20 {
            for servers in [3, 10] {
                let mut all = vec![(usual, 50); servers];
                all[1] = (slow, 10);
                let found = run(&all, 6.0, seed);
                let (id, second, figures) =
                    *found.first().unwrap_or_else(|| panic!("{servers} servers, seed {seed}"));
                assert!(
                    found.iter().all(|(id, ..)| *id == 1) && id == 1,
                    "{servers} servers, seed {seed}: {found:?}"
                );
                assert!((8..=20).contains(&second), "after {second} s");
                let times = figures.own.as_secs_f64() / figures.median.as_secs_f64();
                assert!((10.0..90.0).contains(&times) && figures.servers == servers as u32, "{figures:?}");
            }
        }
        assert!(run(&[(usual, 50), (slow, 10), (usual, 50)], 0.0, 1).is_empty(), "switched off");
    }

    #[test]
    fn a_good_server_beside_some_that_fail_fast_is_not_slow() {
        for failing in [1, 2, 4] {
            let (mut slow, mut totals) = (SlowServers::default(), vec![Times::default(); failing + 3]);
            for look in 0..30 {
                for (at, total) in totals.iter_mut().enumerate() {
                    let is_failing = at < failing;
                    total.add(if is_failing { 500 } else { 200_000 }, 50);
                    total.errors += if is_failing { 50.0 } else { 1.0 };
                }
                let list: Vec<_> = (0..).map(ServerId).zip(totals.iter().copied()).collect();
                let found = slow.look(&list, 6.0, Moment::from_millis(look * 2_000));
                assert!(found.is_empty(), "{failing} fail: {found:?}");
            }
        }
    }

    #[test]
    fn a_pause_is_no_reason_and_a_server_that_was_away_begins_without_a_past() {
        let mut slow = SlowServers::default();
        let mut totals = [Times::default(); 3];
        let mut look = |now_s: u64, ms: [u64; 3], ids: std::ops::Range<usize>| {
            totals.iter_mut().zip(ms).for_each(|(total, ms)| total.add(ms * 1_000, 100));
            let list: Vec<_> = ids.map(|id| (ServerId(id as u32), totals[id])).collect();
            slow.look(&list, 6.0, Moment::from_millis(now_s * 1_000))
                .into_iter()
                .map(|(id, _)| id.0)
                .collect::<Vec<_>>()
        };
        for second in 0..40 {
            let ms = if second % 20 == 0 { 2_000 } else { 10 };
            assert_eq!(look(second, [10, 10, ms], 0..3), [0_u32; 0], "{second}");
        }
        let found: Vec<_> = (40..60).map(|second| look(second, [10, 10, 900], 0..3)).collect();
        assert!(found.iter().any(|ids| *ids == [2]), "{found:?}");
        look(60, [10, 10, 900], 0..2);
        assert_eq!(look(61, [10, 10, 900], 0..3), [0_u32; 0]);
    }

    #[test]
    fn the_log_has_figures() {
        let slow = Slow {
            own: Duration::from_millis(412),
            median: Duration::from_micros(2_340),
            deviations: 11.26,
            responses: 120,
            servers: 5,
        };
        let words = "its last 120 responses took 412 ms in the mean, 11.3 deviations above the 2.3 ms that are the median of 5 servers";
        assert_eq!(slow.to_string(), words);
    }
}
