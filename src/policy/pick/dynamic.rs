//! The default: the server with the least expected time to a good response, from everything that is known of
//! each.
//!
//! The cost of a server is `latency × (requests + 1) / usual requests / good share`. The reasons for the
//! details:
//! - **Latency** is what responses usually take ([`crate::policy::latency`]), and the requests in flight that were usual
//!   then come with it. So it is known what a server does under its load: four slots or forty, alone or shared with other
//!   balancers. A prediction for more or fewer requests is proportional. [`NOISE_US`] is added, because differences of some
//!   100 us come from the scheduler, not from the server.
//! - **Load.** [`SPREAD`] of a request in flight is added to both sides: where latency does not depend on load, requests
//!   still spread.
//! - **Unknown latency** (a new server): the median of the known ones. It gets its share by turn, and is not flooded while
//!   it is cold, because its requests in flight count. An estimate of few recent samples is mixed with the median of the
//!   others. If it moved towards zero, a server that has stopped responding would look faster every second.
//! - **Silence**: a server that has left several requests without any response is at least as slow as that period.
//! - **Outcomes**: a bad response is worth nothing, however fast it was ([`crate::policy::outcomes`]).
//! - **Reports** make a server look slower by a bounded factor ([`crate::policy::report`]).
//! - **Near ties** (within a factor of 1.2, and more where latencies are known from few samples: [`DOUBT`]) go to the servers
//!   with the fewest requests in flight, which are known exactly: an idle server comes before a busy one of about the same
//!   speed. Where many are usual, it is the fewest for what is usual there: of two servers with eight requests the one of
//!   sixteen slots is half empty, and at the other one some wait. Among these it is by turn or at random: equal servers
//!   share evenly whatever single responses took, and the workers do not all choose the same one.
//! - **Weights** that differ are shares, and latency has no part in them ([`super::shares`]).

use super::{Candidate, Draw, Slot, shares, weighted};
use crate::policy::latency::{Reading, SAMPLES_ENOUGH, SAMPLES_MAX};
use crate::policy::outcomes::TOLERATED_FROM;

/// Added to each latency, in microseconds.
const NOISE_US: f32 = 500.0;
/// The factor by which a cost may be too high or too low, by the number of samples, so that costs count as
/// equal up to a factor of 1.2 where both latencies are known from [`SAMPLES_MAX`] samples: 1.2 to the power
/// of half the square root of [`SAMPLES_MAX`] / samples, because the logarithm of a mean of so many samples
/// is off by the inverse of the square root of their number. At the most 2: between two servers of which next
/// to nothing is known a factor of 4 is no difference. With 1.05 in place of 1.2 p99 is 1 % lower and equal
/// servers share less evenly; with 1.3 it is up to 4 % higher where servers are of unlike speed.
const DOUBT: [f32; SAMPLES_MAX as usize + 1] = [
    2.0, 1.4234, 1.2836, 1.2261, 1.1931, 1.1710, 1.1551, 1.1428, 1.1330, 1.1249, 1.1181, 1.1123, 1.1073,
    1.1029, 1.0990, 1.0954,
];
/// What a request in flight adds where latency does not grow with load, as a part of the latency. With 0 p99
/// beside servers that pause is up to 29 % higher, with 0.3 that of unlike servers with many slots up to 21
/// %.
const SPREAD: f32 = 0.1;
/// Up to so many usual requests in flight near ties go by their number, from then on by their part of what is
/// usual. By the number alone p99.9 of unlike servers at 95 % is up to 14 % higher; with 1 p99 beside servers
/// that pause is up to 11 % (docs/experiments.md).
const PROPORTIONAL_FROM: f32 = 4.0;
/// The latency of all while none is known, in microseconds: so that requests in flight decide, and no noise.
const UNKNOWN_US: f32 = 10_000.0;
/// The most latencies used for the median; bounds the work and the stack.
const MEDIAN_OF: usize = 32;

/// The server with the least cost; see above. Sets the cost of each candidate.
pub(super) fn pick(candidates: &mut [Candidate], draw: Draw<'_>) -> Option<Slot> {
    if shares::are_wanted(candidates) {
        return shares::pick(candidates, draw);
    }
    let scale = Scale::of(candidates);
    candidates.iter_mut().for_each(|candidate| candidate.cost = scale.cost(candidate));
    weighted::turn_or_random(candidates, draw, is_best(candidates))
}

/// Whether the cost of a candidate is so close to the least that it counts as equal to it, and none of those
/// is less busy.
pub(super) fn is_best(candidates: &[Candidate]) -> impl Fn(&Candidate) -> bool + use<> {
    let least = usable(candidates)
        .fold(f32::INFINITY, |least, candidate| least.min(candidate.cost * doubt(candidate)));
    let is_close = move |candidate: &Candidate| candidate.cost <= least * doubt(candidate);
    let close = usable(candidates).filter(|candidate| is_close(candidate));
    let emptiest = close.fold(f32::INFINITY, |least, candidate| least.min(occupancy(candidate)));
    move |candidate| occupancy(candidate) <= emptiest && is_close(candidate)
}

/// Requests in flight, in proportion to those that are usual there.
fn occupancy(candidate: &Candidate) -> f32 {
    let usual = known(candidate).map_or(0.0, |latency| latency.load);
    requests(candidate) as f32 / usual.max(PROPORTIONAL_FROM)
}

/// A server of which nothing is known counts as any other.
fn doubt(candidate: &Candidate) -> f32 {
    let samples = known(candidate).map_or(f32::from(SAMPLES_MAX), |latency| latency.samples);
    DOUBT[((samples + 0.5) as usize).min(DOUBT.len() - 1)]
}

/// Requests in flight that others wait for.
fn requests(candidate: &Candidate) -> u32 {
    candidate.in_flight.saturating_sub(candidate.tunnels)
}

/// The reference for all candidates.
struct Scale {
    /// What a response usually takes in the pool, in microseconds: in place of an unknown latency, and mixed
    /// with an estimate of few samples. Computed only where it is needed.
    median_us: f32,
}

impl Scale {
    fn of(candidates: &[Candidate]) -> Self {
        if usable(candidates)
            .all(|candidate| known(candidate).is_some_and(|latency| latency.samples >= SAMPLES_ENOUGH))
        {
            return Scale { median_us: 0.0 };
        }
        let known_us = usable(candidates).filter_map(known).map(|latency| latency.predicted_us(0));
        Scale { median_us: median(known_us).unwrap_or(UNKNOWN_US) }
    }

    fn cost(&self, candidate: &Candidate) -> f32 {
        if candidate.is_avoided {
            return f32::INFINITY;
        }
        let requests = requests(candidate);
        let predicted_us = match known(candidate) {
            None => self.median_us * (requests as f32 + 1.0),
            Some(latency) if latency.samples >= SAMPLES_ENOUGH => latency.predicted_us(requests),
            Some(latency) => {
                let other_us = self.median_us * (requests as f32 + 1.0);
                other_us + (latency.predicted_us(requests) - other_us) * (latency.samples / SAMPLES_ENOUGH)
            }
        };
        let usual_us = predicted_us.max(candidate.silence_us) + NOISE_US;
        usual_us * candidate.report * (1.0 + SPREAD * requests as f32)
            / (candidate.good / TOLERATED_FROM).min(1.0)
    }
}

fn usable(candidates: &[Candidate]) -> impl Iterator<Item = &Candidate> {
    candidates.iter().filter(|candidate| candidate.weight.0 > 0)
}

fn known(candidate: &Candidate) -> Option<Reading> {
    candidate.latency.filter(|latency| latency.typical_us.is_finite() && latency.load >= 1.0)
}

/// The median of at most [`MEDIAN_OF`] values, the lower one of two: one slow response of a new server is
/// mixed with the others'.
fn median(values: impl Iterator<Item = f32>) -> Option<f32> {
    let mut sorted = [0.0; MEDIAN_OF];
    let mut count = 0;
    for (place, value) in sorted.iter_mut().zip(values) {
        *place = value;
        count += 1;
    }
    sorted[..count].sort_unstable_by(f32::total_cmp);
    sorted[..count].get(count.checked_sub(1)? / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use crate::base::random::Random;
    use crate::policy::pick::Algorithm;

    /// In flight, typical latency in ms and the load it was measured at.
    type Server = (u32, Option<(f32, f32)>);

    fn candidates(servers: &[Server]) -> Vec<Candidate> {
        let full = |(slot, &(busy, known)): (u32, &Server)| Candidate {
            latency: known.map(|(ms, load)| Reading { typical_us: ms * 1_000.0, load, samples: 15.0 }),
            ..candidate(slot, 1, busy)
        };
        (0..).zip(servers).map(full).collect()
    }

    /// The servers that may be picked, all of them.
    fn check_all(all: &[Candidate], expected: &[u32]) {
        let order = scheduled(all);
        let mut random = Random::seeded(3);
        let mut picked: Vec<_> = (0..500)
            .map(|turn| {
                let random = random.number();
                Draw { random, turn, key: 0, schedule: &order, is_long_lived: false, is_sample: false }
            })
            .filter_map(|draw| Algorithm::Dynamic.pick(&mut all.to_vec(), draw).map(|slot| slot.0))
            .collect();
        picked.sort_unstable();
        picked.dedup();
        assert_eq!(picked, expected, "{all:?}");
    }

    fn check(servers: &[Server], expected: &[u32]) {
        check_all(&candidates(servers), expected);
    }

    #[test]
    fn the_least_expected_time() {
        // latency, then load, then both
        check(&[(0, Some((10.0, 1.0))), (0, Some((2.0, 1.0)))], &[1]);
        check(&[(1, Some((2.0, 1.0))), (0, Some((2.0, 1.0)))], &[1]);
        check(&[(9, Some((2.0, 1.0))), (0, Some((10.0, 1.0)))], &[1]);
        check(&[(1, Some((2.0, 1.0))), (0, Some((10.0, 1.0)))], &[0]);
        // eight requests of which each takes 10 ms: one more changes little
        check(&[(7, Some((10.0, 8.0))), (0, Some((30.0, 1.0)))], &[0]);
        check(&[(20, Some((10.0, 8.0))), (0, Some((30.0, 1.0)))], &[1]);
        // noise and near ties are shared
        check(&[(0, Some((0.06, 1.0))), (0, Some((0.12, 1.0)))], &[0, 1]);
        check(&[(0, Some((10.0, 1.0))), (0, Some((11.5, 1.0)))], &[0, 1]);
        // an unknown latency counts as the median
        check(&[(0, None), (0, Some((2.0, 1.0))), (0, Some((50.0, 1.0)))], &[0, 1]);
        check(&[(0, None), (1, Some((2.0, 1.0))), (1, Some((2.0, 1.0)))], &[0]);
        check(&[(1, None), (0, None)], &[1]);
        check(&[(0, Some((f32::NAN, 1.0))), (0, Some((2.0, 1.0)))], &[0, 1]);
    }

    #[test]
    fn the_fewer_samples_the_less_a_difference_counts() {
        let known = |ms: f32, samples| Some(Reading { typical_us: ms * 1_000.0, load: 1.0, samples });
        for (samples, ms, expected) in [
            (15.0, 13.0, &[0][..]),
            (4.0, 18.0, &[0, 1]),
            (4.0, 21.0, &[0]),
            (0.4, 200.0, &[0, 1]),
            (0.4, 500.0, &[0]),
        ] {
            let mut all = candidates(&[(0, Some((10.0, 1.0))), (0, None)]);
            all[1].latency = known(ms, samples);
            check_all(&all, expected);
        }
    }

    /// Costs that count as equal where both latencies are known well.
    const CLOSE: f32 = 1.2;

    #[test]
    fn the_table_of_doubt_is_that_of_its_formula() {
        for (samples, doubt) in (1..).zip(&DOUBT[1..]) {
            let formula = CLOSE.powf(0.5 * (f32::from(SAMPLES_MAX) / samples as f32).sqrt());
            assert!((formula - doubt).abs() < 0.001, "{samples}: {formula}");
        }
        assert!((DOUBT[usize::from(SAMPLES_MAX)] - CLOSE.sqrt()).abs() < 0.001);
    }

    #[test]
    fn an_idle_server_comes_before_a_busy_one_of_about_the_same_speed() {
        check(&[(1, Some((10.0, 4.0))), (0, Some((6.0, 1.0)))], &[1]);
        check(&[(1, Some((10.0, 8.0))), (0, Some((6.0, 1.0)))], &[0]);
    }

    #[test]
    fn near_ties_go_to_the_server_that_is_less_busy_than_usual() {
        // Half of what is usual there, and twice of it.
        check(&[(8, Some((40.0, 16.0))), (3, Some((11.7, 1.5)))], &[0]);
        check(&[(15, Some((40.0, 15.0))), (0, Some((160.0, 1.5)))], &[1]);
        // Few are usual: their number decides.
        check(&[(2, Some((30.0, 3.0))), (1, Some((16.0, 1.0)))], &[1]);
        check(&[(12, Some((40.0, 12.0))), (12, Some((40.0, 12.0)))], &[0, 1]);
    }

    #[test]
    fn failures_silence_and_reports() {
        let all = |change: fn(&mut Candidate)| {
            let mut all =
                candidates(&[(0, Some((0.1, 1.0))), (0, Some((20.0, 1.0))), (0, Some((20.0, 1.0)))]);
            change(&mut all[0]);
            all
        };
        check_all(&all(|_| {}), &[0]);
        check_all(&all(|candidate| candidate.good = 0.3), &[1, 2]);
        check_all(&all(|candidate| candidate.silence_us = 30_000.0), &[1, 2]);
        check_all(&all(|candidate| candidate.is_silent = true), &[1, 2]);
        check_all(&all(|candidate| candidate.report = 1.5), &[0]);
        let mut equal = candidates(&[(0, Some((20.0, 1.0))); 3]);
        equal[1].report = 1.5;
        check_all(&equal, &[0, 2]);
    }
}
