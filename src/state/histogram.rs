//! A log-linear histogram of durations: four buckets per power of two of a microsecond. An update is one relaxed
//! addition; the last bucket also counts all longer durations.

use crate::base::log_linear;
use std::array;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Powers of two that are distinguished: up to 2^28 us, about four and a half minutes.
const OCTAVES: usize = 28;
/// Buckets within a power of two; the error of a quantile is at most 1/8 of it.
const STEPS: usize = 1 << STEP_BITS;
const STEP_BITS: u32 = 2;
const BUCKETS: usize = OCTAVES * STEPS;

/// The counts, written by many threads.
#[derive(Debug)]
pub struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    sum_us: AtomicU64,
}

/// The counts at one moment; several histograms add up.
#[derive(Clone, Debug)]
pub struct Counts {
    buckets: [u64; BUCKETS],
    /// The sum of all durations, in microseconds.
    pub sum_us: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Histogram { buckets: array::from_fn(|_| AtomicU64::new(0)), sum_us: AtomicU64::new(0) }
    }
}

impl Histogram {
    /// Counts one duration.
    pub fn record(&self, duration: Duration) {
        let us = duration.as_micros() as u64;
        self.buckets[bucket(us)].fetch_add(1, Relaxed);
        self.sum_us.fetch_add(us, Relaxed);
    }

    /// Adds the counts of this histogram to `counts`.
    pub fn add_to(&self, counts: &mut Counts) {
        for (sum, bucket) in counts.buckets.iter_mut().zip(&self.buckets) {
            *sum += bucket.load(Relaxed);
        }
        counts.sum_us += self.sum_us.load(Relaxed);
    }
}

impl Default for Counts {
    fn default() -> Self {
        Counts { buckets: [0; BUCKETS], sum_us: 0 }
    }
}

impl Counts {
    /// How many durations were counted.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// What was counted since `before`, counts of the same histograms.
    pub fn since(&self, before: &Counts) -> Counts {
        let buckets = array::from_fn(|at| self.buckets[at].saturating_sub(before.buckets[at]));
        Counts { buckets, sum_us: self.sum_us.saturating_sub(before.sum_us) }
    }

    /// The duration that `share` (0 to 1) of all stay below, in microseconds; 0 when nothing was counted.
    pub fn quantile_us(&self, share: f64) -> u64 {
        let wanted = (self.count() as f64 * share).ceil() as u64;
        let mut seen = 0;
        for (at, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= wanted.max(1) {
                return upper_us(at);
            }
        }
        0
    }

    /// The middles of the buckets that are not empty, in microseconds, and their counts.
    pub fn each(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let buckets = self.buckets.iter().enumerate().filter(|(_, count)| **count > 0);
        buckets.map(|(at, count)| {
            let (low, width) = log_linear::bounds(at, STEP_BITS);
            (low + width / 2, *count)
        })
    }

    /// The cumulative counts at each power of two: (upper bound in microseconds, durations up to it).
    pub fn cumulative(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.buckets.chunks_exact(STEPS).enumerate().scan(0, |sum, (octave, steps)| {
            *sum += steps.iter().sum::<u64>();
            Some((upper_us(octave * STEPS + STEPS - 1), *sum))
        })
    }
}

/// The bucket of a duration.
fn bucket(us: u64) -> usize {
    log_linear::range_of(us, STEP_BITS).min(BUCKETS - 1)
}

/// The longest duration that a bucket counts.
fn upper_us(bucket: usize) -> u64 {
    let (low, width) = log_linear::bounds(bucket, STEP_BITS);
    low + width - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_contiguous_and_bounds_hold() {
        let mut last = 0;
        for us in 0..1_000_000u64 {
            let at = bucket(us);
            assert!(at == last || at == last + 1, "{us}");
            assert!(us <= upper_us(at) && (at == 0 || us > upper_us(at - 1)), "{us} in {at}");
            last = at;
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_and_sums_are_near_the_truth() {
        let histogram = Histogram::default();
        (1..=1000).for_each(|ms| histogram.record(Duration::from_millis(ms)));
        let mut counts = Counts::default();
        histogram.add_to(&mut counts);
        assert_eq!(counts.count(), 1000);
        assert_eq!(counts.sum_us, 500_500_000);
        let p99 = counts.quantile_us(0.99) as f64;
        assert!((990_000.0..990_000.0 * 1.2).contains(&p99), "{p99}");
        assert_eq!(Counts::default().quantile_us(0.5), 0);
        assert_eq!(counts.cumulative().last().map(|(_, sum)| sum), Some(1000));
    }
}
