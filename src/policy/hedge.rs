//! Hedged requests: when a response has not begun after a time that most responses need less than, a second attempt goes to
//! another server, and the first response counts (Dean and Barroso, "The Tail at Scale", 2013).

use crate::base::time::Moment;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// When a second attempt is made, and how often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// How long the first attempt may take.
    pub after: After,
    /// Second attempts of the last 5 to 10 s, in percent of the requests, 1 to 100.
    pub budget_percent: u32,
}

/// How long an attempt may take before a second one is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// As long as this percentage of the recent first attempts took at the most, 50 to 99.
    Percentile(u8),
    /// A fixed time.
    Time(Duration),
}

/// How far one attempt moves the estimate at the most, in octaves. Hundreds of attempts make an estimate that is exact to a few
/// percent, and one that has become wrong by a factor of two is right again after as many.
const STEP_OCTAVES: f32 = 0.1;
/// Before so many attempts nothing is known of a percentile.
const LEAST_SAMPLES: u32 = 100;

/// An estimate of a percentile of how long attempts take, in one word that all workers update: it moves up when an attempt
/// took longer and down when it did not, so much that both cancel out at the percentile (Robbins and Monro, 1951).
#[derive(Debug, Default)]
pub struct Estimate(AtomicU64);

/// An estimate is no part of what a route is.
impl PartialEq for Estimate {
    fn eq(&self, _other: &Self) -> bool {
        true
    }
}

impl Estimate {
    /// The response to a first attempt began after this time.
    pub fn took(&self, took: Duration, percentile: u8) {
        let (log_us, count) = self.unpack();
        let sample = log2_us(took);
        if count == 0 {
            return self.pack(sample, 1);
        }
        self.step(sample > log_us, percentile);
    }

    /// The response to a first attempt had not begun when the estimate was over.
    pub fn exceeded(&self, percentile: u8) {
        self.step(true, percentile);
    }

    /// The estimate; `None` while too little is known.
    pub fn time(&self) -> Option<Duration> {
        let (log_us, count) = self.unpack();
        (count >= LEAST_SAMPLES).then(|| Duration::from_secs_f32(log_us.exp2() / 1e6))
    }

    /// Two workers that update the word at the same time may lose a sample, which does no harm.
    fn step(&self, is_above: bool, percentile: u8) {
        let (log_us, count) = self.unpack();
        // While little is known it moves faster.
        let step = STEP_OCTAVES * (LEAST_SAMPLES as f32 / count.max(1) as f32).clamp(1.0, 10.0);
        let share = f32::from(percentile) / 100.0;
        let by = if is_above { share } else { share - 1.0 };
        self.pack((log_us + step * by).clamp(0.0, LOG_US_MAX), count.saturating_add(1));
    }

    fn pack(&self, log_us: f32, count: u32) {
        self.0.store(u64::from(log_us.to_bits()) << 32 | u64::from(count), Relaxed);
    }

    fn unpack(&self) -> (f32, u32) {
        let word = self.0.load(Relaxed);
        (f32::from_bits((word >> 32) as u32), word as u32)
    }
}

/// Twelve days: what takes longer counts as this.
const LOG_US_MAX: f32 = 40.0;

fn log2_us(took: Duration) -> f32 {
    (took.as_secs_f32() * 1e6).max(1.0).log2().min(LOG_US_MAX)
}

impl Rules {
    /// When a second attempt is due, for a first one that began then; `None` while nothing is known of what is usual.
    pub fn due(&self, begun: Moment, estimate: &Estimate) -> Option<Moment> {
        match self.after {
            After::Time(time) => Some(begun.after(time)),
            After::Percentile(_) => estimate.time().map(|time| begun.after(time)),
        }
    }

    /// The percentile that is estimated.
    pub fn percentile(&self) -> Option<u8> {
        match self.after {
            After::Percentile(percentile) => Some(percentile),
            After::Time(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::random::Random;

    /// The estimate of a percentile of so many attempts between 1 and 2 ms, all times the same often, in microseconds.
    fn estimate(percentile: u8, attempts: u32) -> Option<f32> {
        let (estimate, mut random) = (Estimate::default(), Random::seeded(5));
        for _ in 0..attempts {
            estimate.took(Duration::from_micros(1_000 + random.below(1_000) as u64), percentile);
        }
        estimate.time().map(|time| time.as_secs_f32() * 1e6)
    }

    #[test]
    fn the_estimate_is_the_percentile() {
        assert_eq!(estimate(95, 99), None);
        for (percentile, expected) in [(50, 1_500.0), (90, 1_900.0), (95, 1_950.0), (99, 1_990.0)] {
            let estimate = estimate(percentile, 3_000).unwrap();
            assert!((expected * 0.9..expected * 1.1).contains(&estimate), "p{percentile}: {estimate}");
        }
    }

    #[test]
    fn it_follows_a_change_and_cut_off_attempts_count_as_longer() {
        let estimate = Estimate::default();
        (0..200).for_each(|_| estimate.took(Duration::from_millis(1), 95));
        assert!(estimate.time().unwrap() < Duration::from_millis(2));
        (0..200).for_each(|_| estimate.exceeded(95));
        assert!(estimate.time().unwrap() > Duration::from_millis(20));
    }

    #[test]
    fn a_fixed_time_needs_no_estimate() {
        let begun = Moment::from_millis(10);
        let fixed = Rules { after: After::Time(Duration::from_millis(50)), budget_percent: 5 };
        assert_eq!(fixed.due(begun, &Estimate::default()), Some(Moment::from_millis(60)));
        let unknown = Rules { after: After::Percentile(95), budget_percent: 5 };
        assert_eq!(unknown.due(begun, &Estimate::default()), None);
    }
}
