//! Where a server is in its slow start. It begins with the first choice after the server came up, not with the probe: a server that
//! gets no requests does not become warm.

use super::{Server, millis};
use crate::base::time::Moment;
use crate::policy::slow_start::{Ramp, Settings};
use parking_lot::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// It is in no slow start.
const NONE: u64 = 0;
/// It has come up, and no request was placed since.
const DUE: u64 = 1;
/// Added to the milliseconds at which it began.
const BEGUN: u64 = 2;

/// The slow start of a server.
#[derive(Debug, Default)]
pub(super) struct SlowStart {
    /// [`NONE`], [`DUE`], or when it began.
    at: AtomicU64,
    /// The [`Ramp`] that applies, in one word; 0 is none.
    ramp: AtomicU64,
    /// What the server says, whatever its pool does.
    own: Mutex<Settings>,
}

impl Server {
    /// The part of its usual requests that it gets now; `None` while it is in no slow start or gets no requests at all.
    pub fn slow_start(&self, now: Moment) -> Option<f64> {
        let part = self.ramp()?.part(self.since(now)?);
        (part < 1.0 && self.is_open()).then_some(part)
    }

    /// What is said of its own slow start.
    pub fn own_slow_start(&self) -> Settings {
        *self.slow_start.own.lock()
    }

    /// What applies from now on, from what is said of the server and of its pool.
    pub(in crate::state) fn set_slow_start(&self, own: Settings, of_pool: Settings) {
        *self.slow_start.own.lock() = own;
        self.slow_start.ramp.store(own.within(of_pool).map_or(0, Ramp::pack), Relaxed);
    }

    /// It has come up.
    pub(in crate::state) fn slow_start_is_due(&self) {
        self.slow_start.at.store(DUE, Relaxed);
    }

    /// Whether it has come up, and its slow start is not over.
    pub(in crate::state) fn is_in_slow_start(&self) -> bool {
        self.slow_start.at.load(Relaxed) != NONE
    }

    /// Whether it begins slowly at all.
    pub(in crate::state) fn has_slow_start(&self) -> bool {
        self.slow_start.ramp.load(Relaxed) != 0
    }

    /// It gets all of its requests from now on.
    pub(in crate::state) fn end_slow_start(&self) {
        if self.is_in_slow_start() {
            self.slow_start.at.store(NONE, Relaxed);
        }
    }

    /// [`Server::slow_start`] for a choice: begins it where it is due, and ends it when the time is over.
    pub(in crate::state) fn slow_start_part(&self, now: Moment) -> f64 {
        let word = self.slow_start.at.load(Relaxed);
        let Some(since) = self.since(now) else { return 1.0 };
        let part = self.ramp().map_or(1.0, |ramp| ramp.part(since));
        // Where another thread has changed it meanwhile that change counts.
        let next = if part < 1.0 { millis(now) + BEGUN } else { NONE };
        if word == DUE || part >= 1.0 {
            let _ = self.slow_start.at.compare_exchange(word, next, Relaxed, Relaxed);
        }
        part
    }

    fn ramp(&self) -> Option<Ramp> {
        Ramp::unpack(self.slow_start.ramp.load(Relaxed))
    }

    fn since(&self, now: Moment) -> Option<Duration> {
        match self.slow_start.at.load(Relaxed) {
            NONE => None,
            DUE => Some(Duration::ZERO),
            begun => Some(Duration::from_millis((millis(now) + BEGUN).saturating_sub(begun))),
        }
    }
}
