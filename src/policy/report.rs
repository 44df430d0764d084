//! What a server's own report of its load says about the next request.
//!
//! A report is a hint with a bound. What counts is how far it is *above its own mean*: a server that always says 1,000, or
//! whose number has nothing to do with its load, says nothing new, while one that suddenly has more work than usual, from
//! clients that this balancer does not see, is slower than its last responses were. It can only make a server less
//! attractive: when all ran to the one whose report was lowest, they would overload it before its next report.

use crate::base::time::Moment;
use std::time::Duration;

/// A report counts in full up to this age …
const FRESH: Duration = Duration::from_secs(1);
/// … and not at all from this age on.
const STALE: Duration = Duration::from_secs(4);
/// The share of a new report in the mean: about ten reports, 5 s.
const GAIN: f32 = 0.1;
/// The most by which a report makes a server look slower.
pub(super) const FACTOR_MAX: f32 = 1.5;
/// No number is taken for more than this.
const LOAD_MAX: f32 = 1e6;

/// The last report and the mean of all. One writer, the health thread.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Reports {
    /// Requests queued and in progress, by the last one.
    pub last: f32,
    mean: f32,
    at: Moment,
    is_known: bool,
}

impl Reports {
    /// With one more.
    #[must_use]
    pub fn with(self, load: f32, now: Moment) -> Self {
        let last = if load.is_finite() { load.clamp(0.0, LOAD_MAX) } else { 0.0 };
        let mean = if self.is_known { self.mean + (last - self.mean) * GAIN } else { last };
        Reports { last, mean, at: now, is_known: true }
    }

    /// The factor by which the server's expected latency is more than what was measured, 1 to [`FACTOR_MAX`].
    pub fn factor(self, now: Moment) -> f32 {
        let above = (self.last - self.mean).max(0.0) / (self.mean + 1.0);
        1.0 + above.min(FACTOR_MAX - 1.0) * self.weight(now)
    }

    /// The last report, while it counts for anything.
    pub fn last(self, now: Moment) -> Option<f32> {
        (self.weight(now) > 0.0).then_some(self.last)
    }

    /// How much it counts at its age, 0 to 1.
    fn weight(self, now: Moment) -> f32 {
        if self.is_known { freshness(now.since(self.at)) } else { 0.0 }
    }
}

/// How much what a server said of its load counts at this age, 0 to 1.
pub(super) fn freshness(age: Duration) -> f32 {
    let left = STALE.saturating_sub(age).as_secs_f32();
    (left / (STALE - FRESH).as_secs_f32()).min(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reports half a second apart; the factor right after the last.
    fn check(loads: &[f32], expected: f32) {
        let mut reports = Reports::default();
        let mut now = Moment::START;
        for load in loads {
            now = now.after(Duration::from_millis(500));
            reports = reports.with(*load, now);
        }
        let got = reports.factor(now);
        assert!((got - expected).abs() < 0.01, "{loads:?}: {got}");
    }

    #[test]
    fn only_what_is_above_its_own_mean_counts_and_within_a_bound() {
        check(&[], 1.0);
        check(&[1_000.0; 9], 1.0);
        check(&[0.0, 0.0, 0.0, 0.0], 1.0);
        check(&[4.0, 4.0, 4.0, 6.0], 1.35);
        check(&[4.0, 4.0, 4.0, 1e9], 1.5);
        check(&[4.0, 4.0, 4.0, 0.0], 1.0);
        check(&[f32::NAN, f32::INFINITY, -4.0], 1.0);
        let step = [&[1.0; 9][..], &[9.0; 60]].concat();
        check(&step[..10], 1.5);
        check(&step, 1.0);
    }

    #[test]
    fn it_counts_for_nothing_when_it_is_old() {
        let now = Moment::from_millis(1_000);
        let reports = Reports::default().with(0.0, Moment::START).with(8.0, now);
        let factor = |ms| reports.factor(Moment::from_millis(ms));
        assert_eq!([1_000, 2_000, 3_500, 5_000, 9_000].map(factor), [1.5, 1.5, 1.25, 1.0, 1.0]);
        assert_eq!((reports.last(now), reports.last(Moment::from_millis(5_000))), (Some(8.0), None));
    }
}
