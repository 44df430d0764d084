//! The default: the server with the least expected wait, from everything that is known of each.
//!
//! The cost of a server is `latency × (1 + load × mean weight / weight)`, as in the peak EWMA balancers of Finagle and
//! linkerd. The reasons for the details:
//! - **Latency** includes peaks and decay ([`crate::policy::latency`]). [`NOISE_US`] is added to it, because
//!   differences of some 100 us come from the scheduler, not from the server.
//! - **Unknown latency** (a new server): the median of the known ones, so that it is neither flooded nor starved. An
//!   average without recent updates moves towards that median. If it decayed towards zero, a server that has stopped
//!   responding would look faster every second.
//! - **Silence**: a server that has left several requests without any response is at least as slow as that period.
//! - **Load** is what this balancer has in flight, which is exact and current, and what the server reports, which is
//!   late but includes other clients. The report contains our own requests: if all of it is ours, the load is the
//!   larger of the two; if none is, it is their sum. The middle of both is used, `max + min / 2`: never off by more
//!   than half, and it always grows with our own requests, so that they do not all go to one server until the next
//!   report.
//! - **Weight** divides the load and not the whole cost, so that idle servers share by weight. If it divided the whole
//!   cost, a balancer under light load would send every request to the heaviest server.
//! - **Near ties** (within [`CLOSE`]) are resolved by turn or at random: equal servers share evenly, and the workers do
//!   not all choose the same one.
//! - **Exploration**: one request in [`EXPLORE_ONE_IN`] goes to a random server, with probability proportional to
//!   weight over cost. A server that is ten times slower still gets a few requests that measure it, and one that has
//!   become fast is found.
//!
//! Failures are not latency samples, and count as load for a while ([`crate::policy::failures`]): a server that fails
//! fast must not look fast or idle. Ejecting it is up to the health policy.

use super::{Candidate, Draw, Slot, weighted};
use crate::policy::latency::Reading;

/// Added to each latency, in microseconds.
const NOISE_US: f32 = 500.0;
/// Costs up to this factor above the lowest count as equal to it.
const CLOSE: f32 = 1.2;
/// A power of two.
const EXPLORE_ONE_IN: u64 = 32;
/// An average with less than this left of it (no update for a second) is mixed with the median. Averages of servers
/// with some traffic are fresher, and do not need the median.
const FRESH: f32 = 0.8;
/// The most latencies used for the median; bounds the work and the stack.
const MEDIAN_OF: usize = 32;

/// The server with the least cost; see above.
pub(super) fn pick(candidates: &[Candidate], draw: Draw<'_>) -> Option<Slot> {
    if let [only] = candidates {
        return (only.weight.0 > 0).then_some(only.slot);
    }
    let scale = Scale::of(candidates)?;
    if explores(draw) {
        return explore(candidates, &scale, draw.random as u32);
    }
    let costs = usable(candidates).map(|candidate| scale.cost(candidate));
    let close = costs.fold(f32::INFINITY, f32::min) * CLOSE;
    weighted::turn_or_random(candidates, draw, |candidate| scale.cost(candidate) <= close)
}

/// The reference values for all candidates.
struct Scale {
    mean_weight: f32,
    /// Replaces an unknown latency.
    median_us: f32,
}

impl Scale {
    /// None when no candidate has a weight.
    fn of(candidates: &[Candidate]) -> Option<Self> {
        let (count, weights) =
            usable(candidates).fold((0_u32, 0.0), |(n, sum), c| (n + 1, sum + f32::from(c.weight.0)));
        let median_us = if usable(candidates).all(is_fresh) { 0.0 } else { usual_us(candidates) };
        (count > 0).then(|| Scale { mean_weight: weights / count as f32, median_us })
    }

    fn cost(&self, candidate: &Candidate) -> f32 {
        let latency_us = self.latency_us(candidate).max(candidate.silence_us) + NOISE_US;
        latency_us * (1.0 + load(candidate) * self.mean_weight / f32::from(candidate.weight.0))
    }

    fn latency_us(&self, candidate: &Candidate) -> f32 {
        match known_latency(candidate) {
            None => self.median_us,
            Some(known) if known.freshness >= FRESH => known.faded_us,
            Some(known) => known.faded_us + (1.0 - known.freshness) * self.median_us,
        }
    }
}

/// The highest random bits decide; the lowest ones choose the server.
fn explores(draw: Draw<'_>) -> bool {
    draw.random >> (u64::BITS - EXPLORE_ONE_IN.trailing_zeros()) == 0
}

/// At random, with probability proportional to weight over cost.
fn explore(candidates: &[Candidate], scale: &Scale, chance: u32) -> Option<Slot> {
    let worth = |candidate: &Candidate| f32::from(candidate.weight.0) / scale.cost(candidate);
    let mut point = chance as f32 / u32::MAX as f32 * usable(candidates).map(worth).sum::<f32>();
    let mut drawn = None;
    for candidate in usable(candidates) {
        drawn = Some(candidate.slot);
        point -= worth(candidate);
        if point < 0.0 {
            break;
        }
    }
    drawn
}

fn usable(candidates: &[Candidate]) -> impl Iterator<Item = &Candidate> {
    candidates.iter().filter(|candidate| candidate.weight.0 > 0)
}

/// Only finite, non-negative values: what a server reports is untrusted.
fn load(candidate: &Candidate) -> f32 {
    let own = candidate.in_flight as f32;
    let reported = candidate.reported.filter(|reported| *reported > 0.0).unwrap_or(0.0).min(1e6);
    own.max(reported) + own.min(reported) / 2.0
}

fn known_latency(candidate: &Candidate) -> Option<Reading> {
    candidate.latency.filter(|latency| latency.faded_us.is_finite() && latency.faded_us >= 0.0)
}

fn is_fresh(candidate: &Candidate) -> bool {
    known_latency(candidate).is_some_and(|latency| latency.freshness >= FRESH)
}

/// The median of the fresh latencies, or of all known ones when none is fresh.
fn usual_us(candidates: &[Candidate]) -> f32 {
    let some_fresh = usable(candidates).any(is_fresh);
    let counted = usable(candidates).filter(|candidate| !some_fresh || is_fresh(candidate));
    median(counted.filter_map(known_latency).map(|latency| latency.faded_us))
}

/// The median of at most [`MEDIAN_OF`] values. With no values any number will do, because it then applies to all
/// candidates.
fn median(values: impl Iterator<Item = f32>) -> f32 {
    let mut sorted = [0.0; MEDIAN_OF];
    let mut count = 0;
    for (place, value) in sorted.iter_mut().zip(values) {
        *place = value;
        count += 1;
    }
    sorted[..count].sort_unstable_by(f32::total_cmp);
    sorted[count / 2]
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use crate::base::{random::Random, time::Moment};
    use crate::policy::latency::Latency;
    use std::cmp::Reverse;
    use std::collections::BinaryHeap;
    use std::time::Duration;

    /// Weight, in flight, latency in ms, reported.
    type Server = (u16, u32, Option<f32>, Option<f32>);

    fn candidates(servers: &[Server]) -> Vec<Candidate> {
        let full = |(slot, &(weight, busy, latency_ms, reported)): (u32, &Server)| Candidate {
            latency: latency_ms.map(|ms| Reading { faded_us: ms * 1_000.0, freshness: 1.0 }),
            reported,
            ..candidate(slot, weight, busy)
        };
        (0..).zip(servers).map(full).collect()
    }

    /// The servers that may be picked when nothing is explored, all of them.
    fn check(servers: &[Server], expected: &[u32]) {
        let all = candidates(servers);
        let order = scheduled(&all);
        let mut random = Random::seeded(3);
        let mut picked: Vec<_> = (0..500)
            .map(|turn| Draw { random: random.number() | 1 << 63, turn, key: 0, schedule: &order })
            .filter_map(|draw| pick(&all, draw).map(|slot| slot.0))
            .collect();
        picked.sort_unstable();
        picked.dedup();
        assert_eq!(picked, expected, "{servers:?}");
    }

    #[test]
    fn the_least_expected_wait() {
        // latency, then load, then both
        check(&[(1, 0, Some(10.0), None), (1, 0, Some(2.0), None)], &[1]);
        check(&[(1, 1, Some(2.0), None), (1, 0, Some(2.0), None)], &[1]);
        check(&[(1, 9, Some(2.0), None), (1, 0, Some(10.0), None)], &[1]);
        check(&[(1, 1, Some(2.0), None), (1, 0, Some(10.0), None)], &[0]);
        // noise and near ties are shared
        check(&[(1, 0, Some(0.06), None), (1, 0, Some(0.12), None)], &[0, 1]);
        check(&[(1, 0, Some(10.0), None), (1, 0, Some(11.5), None)], &[0, 1]);
        // unknown latency: the median
        check(
            &[(1, 0, None, None), (1, 0, Some(2.0), None), (1, 0, Some(2.0), None), (1, 0, Some(50.0), None)],
            &[0, 1, 2],
        );
        check(&[(1, 0, None, None), (1, 0, Some(2.0), None), (1, 0, Some(50.0), None)], &[1]);
        check(&[(1, 1, None, None), (1, 0, None, None)], &[1]);
        // reports: others' load, our own load counted once, nonsense
        check(&[(1, 0, Some(2.0), Some(5.0)), (1, 0, Some(2.0), None)], &[1]);
        check(&[(1, 4, Some(2.0), Some(4.0)), (1, 8, Some(2.0), None)], &[0]);
        check(&[(1, 4, Some(2.0), Some(0.0)), (1, 4, Some(2.0), None)], &[0, 1]);
        check(&[(1, 0, Some(2.0), Some(f32::NAN)), (1, 0, Some(2.0), Some(-9.0))], &[0, 1]);
        check(&[(1, 0, Some(f32::NAN), Some(f32::INFINITY)), (1, 0, Some(2.0), None)], &[1]);
        // weights
        check(&[(5, 4, Some(2.0), None), (1, 1, Some(2.0), None)], &[0, 1]);
        check(&[(5, 2, Some(2.0), None), (1, 1, Some(2.0), None)], &[0]);
        check(&[(1000, 2, Some(2.0), None), (1000, 1, Some(2.0), None)], &[1]);
    }

    /// A closed loop of clients under virtual time; servers respond after their latency, whatever their load.
    struct Loop {
        now_us: u64,
        random: Random,
        ends: BinaryHeap<Reverse<(u64, usize, u64)>>,
        servers: Vec<Candidate>,
        memory: Vec<Latency>,
        order: Vec<Slot>,
        turn: u64,
    }

    impl Loop {
        fn new(servers: usize) -> Self {
            let servers = candidates(&vec![(1, 0, None, None); servers]);
            let (memory, order) = (vec![Latency::default(); servers.len()], scheduled(&servers));
            Loop {
                now_us: 0,
                random: Random::seeded(5),
                ends: BinaryHeap::new(),
                servers,
                memory,
                order,
                turn: 0,
            }
        }

        /// Runs for this long with this many clients; returns the share of each server in percent.
        fn run(&mut self, seconds: u64, clients: usize, latency_us: &[u64]) -> Vec<f64> {
            let until = self.now_us + seconds * 1_000_000;
            let mut counts = vec![0.0; self.servers.len()];
            while self.now_us < until {
                match self.ends.len() < clients {
                    true => counts[self.begin(latency_us)] += 1.0,
                    false => self.end(),
                }
            }
            let total: f64 = counts.iter().sum();
            counts.iter().map(|count| count * 100.0 / total).collect()
        }

        fn begin(&mut self, latency_us: &[u64]) -> usize {
            let now = Moment::from_nanos(self.now_us * 1_000);
            for (server, memory) in self.servers.iter_mut().zip(&self.memory) {
                server.latency = memory.reading(now);
            }
            self.turn += 1;
            let draw = Draw { random: self.random.number(), turn: self.turn, key: 0, schedule: &self.order };
            let at = pick(&self.servers, draw).unwrap().0 as usize;
            self.servers[at].in_flight += 1;
            let long = latency_us[at] + self.random.below(latency_us[at] as usize / 10) as u64;
            self.ends.push(Reverse((self.now_us + long, at, long)));
            at
        }

        fn end(&mut self) {
            let Reverse((end, at, long)) = self.ends.pop().unwrap();
            self.now_us = end;
            self.servers[at].in_flight -= 1;
            self.memory[at] =
                self.memory[at].with(Duration::from_micros(long), Moment::from_nanos(end * 1_000));
        }
    }

    #[test]
    fn a_slow_server_gets_a_little_and_comes_back_when_it_is_fast() {
        for clients in [1, 6, 40] {
            let mut world = Loop::new(3);
            let even = world.run(30, clients, &[5_000, 5_000, 5_000]);
            assert!(even.iter().all(|share| (25.0..42.0).contains(share)), "{clients}: {even:?}");
            let slow = world.run(120, clients, &[5_000, 50_000, 5_000]);
            assert!((0.02..5.0).contains(&slow[1]), "{clients}: {slow:?}");
            world.run(20, clients, &[5_000, 5_000, 5_000]);
            let back = world.run(10, clients, &[5_000, 5_000, 5_000]);
            assert!(back.iter().all(|share| (25.0..42.0).contains(share)), "{clients}: {back:?}");
        }
    }

    #[test]
    fn a_new_server_is_neither_flooded_nor_starved() {
        let mut world = Loop::new(3);
        world.run(20, 20, &[5_000, 5_000, 5_000]);
        world.memory[2] = Latency::default();
        let shares = world.run(1, 20, &[5_000, 5_000, 5_000]);
        assert!(shares.iter().all(|share| (25.0..42.0).contains(share)), "{shares:?}");
    }
}
