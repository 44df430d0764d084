//! Counts over time and by URL: small, so that there may be thousands.

use crate::base::log_linear;
use crate::base::time::Moment;
use std::time::Duration;

/// There are 16 ranges in a power of two; the error of a quantile is at most 1/32.
const STEP_BITS: u32 = 4;
/// Powers of two of a microsecond that are told apart: up to 18 minutes.
const OCTAVES: usize = 27;
const RANGES: usize = OCTAVES << STEP_BITS;
/// The most slices of time; from there on each is twice as long.
const SLICES_MAX: usize = 600;

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// 2xx or 3xx.
    Good,
    /// A complete response with another status.
    Rejected,
    /// No complete response.
    Failed,
}

/// Requests by how they ended, and the latencies of the good ones.
#[derive(Clone, Debug, Default)]
pub(super) struct Spread {
    pub(super) good: u64,
    pub(super) rejected: u64,
    pub(super) failed: u64,
    /// Empty until the first latency.
    ranges: Vec<u32>,
}

impl Spread {
    /// Counts a request.
    pub(super) fn count(&mut self, end: End, took: Duration) {
        match end {
            End::Good => self.good += 1,
            End::Rejected => self.rejected += 1,
            End::Failed => self.failed += 1,
        }
        if end == End::Good {
            self.ranges.resize(RANGES, 0);
            self.ranges[range(took.as_micros() as u64)] += 1;
        }
    }

    /// All requests that ended.
    #[cfg(test)]
    pub(super) fn total(&self) -> u64 {
        self.good + self.rejected + self.failed
    }

    /// The latency that a share (0 to 1) of the good responses stays below, in microseconds; 0 without any.
    pub(super) fn quantile_us(&self, share: f64) -> f64 {
        let wanted = ((self.good as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        for (at, count) in self.ranges.iter().enumerate() {
            seen += u64::from(*count);
            if seen >= wanted {
                return middle_us(at);
            }
        }
        0.0
    }

    /// Adds the counts of another.
    pub(super) fn add(&mut self, other: &Spread) {
        self.good += other.good;
        self.rejected += other.rejected;
        self.failed += other.failed;
        self.ranges.resize(self.ranges.len().max(other.ranges.len()), 0);
        for (mine, theirs) in self.ranges.iter_mut().zip(&other.ranges) {
            *mine += theirs;
        }
    }
}

fn range(us: u64) -> usize {
    log_linear::range_of(us, STEP_BITS).min(RANGES - 1)
}

fn middle_us(range: usize) -> f64 {
    let (low, width) = log_linear::bounds(range, STEP_BITS);
    low as f64 + (width - 1) as f64 / 2.0
}

/// Requests by the moment from which their latency counts, in slices of equal length.
#[derive(Clone, Debug)]
pub(super) struct Slices {
    start: Moment,
    pub(super) length: Duration,
    pub(super) slices: Vec<Spread>,
}

impl Slices {
    /// Slices of a second from `start` on.
    pub(super) fn new(start: Moment) -> Self {
        Slices { start, length: Duration::from_secs(1), slices: Vec::new() }
    }

    /// Counts a request; what began before the start is in the first slice.
    pub(super) fn count(&mut self, begun: Moment, end: End, took: Duration) {
        let at = loop {
            let at = (begun.since(self.start).as_nanos() / self.length.as_nanos()) as usize;
            if at < SLICES_MAX {
                break at;
            }
            self.double();
        };
        if at >= self.slices.len() {
            self.slices.resize(at + 1, Spread::default());
        }
        self.slices[at].count(end, took);
    }

    fn double(&mut self) {
        self.length *= 2;
        let pairs = self.slices.chunks(2).map(|pair| {
            let mut sum = Spread::default();
            pair.iter().for_each(|one| sum.add(one));
            sum
        });
        self.slices = pairs.collect();
    }

    /// Adds the counts of another with the same start.
    pub(super) fn add(&mut self, other: &Slices) {
        let mut other = other.clone();
        while self.length < other.length {
            self.double();
        }
        while other.length < self.length {
            other.double();
        }
        self.slices.resize(self.slices.len().max(other.slices.len()), Spread::default());
        for (mine, theirs) in self.slices.iter_mut().zip(&other.slices) {
            mine.add(theirs);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_near_the_truth() {
        let mut spread = Spread::default();
        (1..=10_000).for_each(|us| spread.count(End::Good, Duration::from_micros(us * 10)));
        for share in [0.01, 0.5, 0.95, 0.99] {
            let (told, truth) = (spread.quantile_us(share), share * 100_000.0);
            assert!((told / truth - 1.0).abs() < 1.0 / 30.0, "{told} for {truth}");
        }
        assert_eq!(Spread::default().quantile_us(0.5), 0.0);
        assert_eq!(range(u64::MAX), RANGES - 1);
        for us in 0..100_000 {
            assert!((middle_us(range(us)) - us as f64).abs() <= us as f64 / 32.0 + 1.0, "{us}");
        }
    }

    #[test]
    fn a_long_run_has_longer_slices_and_loses_none() {
        let start = Moment::from_millis(500);
        let (mut long, mut short) = (Slices::new(start), Slices::new(start));
        for second in 0..2_000 {
            long.count(start.after(Duration::from_secs(second)), End::Good, Duration::from_millis(1));
        }
        short.count(Moment::START, End::Rejected, Duration::ZERO);
        short.add(&long);
        assert_eq!(short.length, Duration::from_secs(4));
        assert_eq!(short.slices.iter().map(Spread::total).sum::<u64>(), 2_001);
        assert_eq!((short.slices[0].rejected, short.slices[499].good), (1, 4));
    }
}
