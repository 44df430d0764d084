//! How much of a server is in use, as it says in its responses, and what that says about the next request.
//!
//! As with load reports ([`super::report`]) what counts is how far it is above its own mean, within the same bound and for the
//! same time: a server that always says the same says nothing new. The measure is another one. A server of which the part `u`
//! is in use takes about `1 / (1 - u)` times as long as an idle one, so the factor is `(1 - mean) / (1 - u)`.

use super::report::{FACTOR_MAX, freshness};
use crate::base::time::Moment;
use std::time::Duration;

/// The mean follows with this time constant: as that of load reports, whose ten reports take 5 s.
const MEAN_OVER: Duration = Duration::from_secs(5);
/// A server says at most that so much of it is in use: from here on the factor is at its bound anyway.
const MOST: f32 = 0.99;

/// The last value and the mean.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Utilization {
    last: f32,
    mean: f32,
    at: Moment,
    is_known: bool,
}

impl Utilization {
    /// With one more value, which may come with each response.
    #[must_use]
    pub fn with(self, value: f32, now: Moment) -> Self {
        let last = if value.is_finite() { value.clamp(0.0, MOST) } else { 0.0 };
        let gain = 1.0 - (-now.since(self.at).as_secs_f32() / MEAN_OVER.as_secs_f32()).exp();
        let mean = if self.is_known { self.mean + (last - self.mean) * gain } else { last };
        Utilization { last, mean, at: now, is_known: true }
    }

    /// The factor by which the server's expected latency is more than what was measured.
    pub fn factor(self, now: Moment) -> f32 {
        let above = ((1.0 - self.mean) / (1.0 - self.last) - 1.0).max(0.0);
        1.0 + above.min(FACTOR_MAX - 1.0) * self.freshness(now)
    }

    /// The last value, while it counts for anything.
    pub fn last(self, now: Moment) -> Option<f32> {
        (self.freshness(now) > 0.0).then_some(self.last)
    }

    fn freshness(self, now: Moment) -> f32 {
        if self.is_known { freshness(now.since(self.at)) } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A value each 100 ms; the factor right after the last.
    #[track_caller]
    fn check(values: &[f32], expected: f32) {
        let mut utilization = Utilization::default();
        let mut now = Moment::START;
        for value in values {
            now = now.after(Duration::from_millis(100));
            utilization = utilization.with(*value, now);
        }
        let got = utilization.factor(now);
        assert!((got - expected).abs() < 0.02, "{values:?}: {got}");
    }

    #[test]
    fn only_what_is_above_its_own_mean_counts_and_within_a_bound() {
        check(&[], 1.0);
        check(&[0.9; 50], 1.0);
        check(&[50.0; 50], 1.0);
        check(&[0.5, 0.5, 0.5, 0.6], 1.24);
        check(&[0.1, 0.1, 0.1, 0.2], 1.12);
        check(&[0.5, 0.5, 0.5, 0.9], 1.5);
        check(&[0.5, 0.5, 0.5, 0.1], 1.0);
        check(&[f32::NAN, f32::INFINITY, -4.0], 1.0);
        let step = [&[0.2; 50][..], &[0.6; 300]].concat();
        check(&step[..51], 1.5);
        check(&step, 1.0);
    }

    #[test]
    fn many_values_a_second_make_no_other_mean_than_few() {
        let at = |ms| Moment::from_millis(ms);
        let each = |every: u64| {
            let mut utilization = Utilization::default().with(0.2, at(0));
            for ms in (every..=2_000).step_by(every as usize) {
                utilization = utilization.with(0.6, at(ms));
            }
            utilization.mean
        };
        assert!((each(10) - each(500)).abs() < 0.001);
        let last = Utilization::default().with(0.2, at(0)).with(0.9, at(1));
        assert_eq!((last.factor(at(10_000)), last.last(at(10_000))), (1.0, None));
    }
}
