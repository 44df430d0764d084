//! When requests come and what each of them takes: the same for every policy.

use super::{Arrivals, Description, Listed, Work};
use crate::base::ids::PoolId;
use crate::base::random::Random;
use std::time::Duration;

/// A request that has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Arrival {
    pub at_ns: u64,
    pub work_ns: u64,
    /// Where it goes.
    pub pool: PoolId,
    /// A random number of its own: for its hash key, and for whether it fails.
    pub dice: u64,
}

/// The requests of an open loop as they come; none of a closed one.
pub fn requests(description: &Description) -> Vec<Listed> {
    let mut source = Source::new(description);
    let listed = |arrival: Arrival| Listed {
        at: Duration::from_nanos(arrival.at_ns),
        work: Duration::from_nanos(arrival.work_ns),
        pool: arrival.pool,
    };
    std::iter::from_fn(|| source.next()).map(listed).collect()
}

/// The requests of an open loop, in order; none of a closed one, whose requests come when responses do.
pub(super) struct Source<'a> {
    description: &'a Description,
    random: Random,
    at_ns: f64,
    listed: usize,
}

impl<'a> Source<'a> {
    pub(super) fn new(description: &'a Description) -> Self {
        Source { description, random: Random::seeded(description.seed), at_ns: 0.0, listed: 0 }
    }

    /// The next one of an open loop, until its length is over.
    pub(super) fn next(&mut self) -> Option<Arrival> {
        let step = match &self.description.arrivals {
            Arrivals::Clients(_) => return None,
            Arrivals::Listed(list) => {
                let Listed { at, work, pool } = *list.get(self.listed)?;
                self.listed += 1;
                let dice = self.random.number();
                return Some(Arrival { at_ns: nanos(at), work_ns: nanos(work), pool, dice });
            }
            Arrivals::PerSecond(rate) => 1e9 / rate,
            Arrivals::Bursts { per_second, every, first, factor } => {
                let (every, first) = (nanos(*every) as f64, nanos(*first) as f64);
                // The mean over a period is `per_second`.
                let usual = per_second * every / (every - first + factor * first);
                let is_burst = self.at_ns % every < first;
                1e9 / if is_burst { usual * factor } else { usual }
            }
        };
        self.at_ns += exponential(&mut self.random) * step;
        let arrival = self.of_client(self.at_ns as u64);
        (arrival.at_ns < nanos(self.description.length)).then_some(arrival)
    }

    /// A request of a closed loop that comes now.
    pub(super) fn of_client(&mut self, at_ns: u64) -> Arrival {
        let dice = self.random.number();
        let work_ns = draw(self.description.work, &mut self.random);
        Arrival { at_ns, work_ns, pool: self.description.pool, dice }
    }
}

fn draw(work: Work, random: &mut Random) -> u64 {
    let spread = |mean: Duration, random: &mut Random| (nanos(mean) as f64 * exponential(random)) as u64;
    match work {
        Work::Fixed(each) => nanos(each),
        Work::Exponential(mean) => spread(mean, random),
        Work::LogNormal { mean, sigma } => {
            // The mean of a log-normal distribution is exp(mu + sigma² / 2).
            let factor = (sigma * normal(random) - sigma * sigma / 2.0).exp();
            (nanos(mean) as f64 * factor) as u64
        }
        Work::Two { short, long, one_in } => match random.below(one_in as usize) {
            0 => spread(long, random),
            _ => spread(short, random),
        },
    }
}

/// Exponentially distributed with the mean 1.
fn exponential(random: &mut Random) -> f64 {
    -(1.0 - random.fraction()).ln()
}

/// Normally distributed, with the mean 0 and the deviation 1 (Box and Muller).
fn normal(random: &mut Random) -> f64 {
    (2.0 * exponential(random)).sqrt() * (std::f64::consts::TAU * random.fraction()).cos()
}

pub(super) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
