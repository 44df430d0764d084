//! Step 9, in between: the rest after workers had to end what serves several requests at once ([`super::company`],
//! [`super::watch`]). How long it is says [`crate::policy::rest`].

use crate::base::time::Moment;
use crate::policy::rest::{Rest, Why};
use parking_lot::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Until when it is let be, and how long the last rest was.
#[derive(Debug, Default)]
pub struct Resting {
    /// In nanoseconds.
    until: AtomicU64,
    last: Mutex<Rest>,
}

impl Resting {
    /// Whether it is let be.
    pub fn is_on(&self, now: Moment) -> bool {
        now.as_nanos() < self.until.load(Relaxed)
    }

    /// A worker ends what began then. Where it is let be already, others follow one that did; that is still the same time.
    pub fn begins(&self, begun: Moment, why: Why, now: Moment) {
        if !self.is_on(now) {
            let rest = self.last.lock().after(now.since(begun), why);
            self.until.fetch_max(now.after(rest).as_nanos(), Relaxed);
        }
    }

    /// It is let be for so long, if that is not so already. Half of it is near enough: under load everybody says so all
    /// the time.
    pub fn lasts_for(&self, time: Duration, now: Moment) {
        if !self.is_on(now.after(time / 2)) {
            self.until.fetch_max(now.after(time).as_nanos(), Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_follow_make_no_rest_longer() {
        let (resting, ms) = (Resting::default(), Moment::from_millis);
        let is_on = |at| resting.is_on(ms(at));
        assert!(!is_on(0));
        for at in [100, 120, 149] {
            resting.begins(ms(90), Why::Kept, ms(at));
        }
        assert!(is_on(149) && !is_on(150), "50 ms from the first on");
        resting.begins(ms(140), Why::Kept, ms(150));
        assert!(is_on(249) && !is_on(250), "the second is twice as long");
    }

    #[test]
    fn a_rest_of_a_given_time_is_begun_again_when_half_of_it_is_over() {
        let (resting, ms, time) = (Resting::default(), Moment::from_millis, Duration::from_millis(100));
        resting.lasts_for(time, ms(10));
        resting.lasts_for(time, ms(59));
        assert!(resting.is_on(ms(109)) && !resting.is_on(ms(110)));
        resting.lasts_for(time, ms(60));
        assert!(resting.is_on(ms(159)) && !resting.is_on(ms(160)));
    }
}
