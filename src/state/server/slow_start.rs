//! Where a server is in its slow start. It begins with the first choice after the server came up, not with the probe: a server that
//! gets no requests does not become warm.

use super::{Server, millis};
use crate::base::time::Moment;
use crate::policy::slow_start;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// It is in no slow start.
const NONE: u64 = 0;
/// It has come up, and no request was placed since.
const DUE: u64 = 1;
/// Added to the milliseconds at which it began.
const BEGUN: u64 = 2;

impl Server {
    /// The part of its usual requests that it gets now, where the whole slow start takes this time; `None` while it is in none
    /// or gets no requests at all.
    pub fn slow_start(&self, time: Option<Duration>, now: Moment) -> Option<f64> {
        let part = slow_start::part(self.since(now)?, time?);
        (part < 1.0 && self.is_open()).then_some(part)
    }

    /// It has come up.
    pub(in crate::state) fn slow_start_is_due(&self) {
        self.slow_start.store(DUE, Relaxed);
    }

    /// Whether it has come up, and its slow start is not over.
    pub(in crate::state) fn is_in_slow_start(&self) -> bool {
        self.slow_start.load(Relaxed) != NONE
    }

    /// It gets all of its requests from now on.
    pub(in crate::state) fn end_slow_start(&self) {
        if self.is_in_slow_start() {
            self.slow_start.store(NONE, Relaxed);
        }
    }

    /// [`Server::slow_start`] for a choice: begins it where it is due, and ends it when the time is over.
    pub(in crate::state) fn slow_start_part(&self, time: Duration, now: Moment) -> f64 {
        let word = self.slow_start.load(Relaxed);
        let Some(since) = self.since(now) else { return 1.0 };
        let part = slow_start::part(since, time);
        // Where another thread has changed it meanwhile that change counts.
        let next = if part < 1.0 { millis(now) + BEGUN } else { NONE };
        if word == DUE || part >= 1.0 {
            let _ = self.slow_start.compare_exchange(word, next, Relaxed, Relaxed);
        }
        part
    }

    fn since(&self, now: Moment) -> Option<Duration> {
        match self.slow_start.load(Relaxed) {
            NONE => None,
            DUE => Some(Duration::ZERO),
            begun => Some(Duration::from_millis((millis(now) + BEGUN).saturating_sub(begun))),
        }
    }
}
