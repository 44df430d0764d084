//! The probes of a server, for display.

use super::Server;
use std::time::Duration;

/// The last probe of a server, for display.
#[derive(Clone, Debug)]
pub struct Check {
    /// What kind of probe it was: `http`, `tcp`, `grpc` or `exec`.
    pub kind: &'static str,
    /// Seconds since 1970.
    pub unix_seconds: u64,
    /// How long the probe took.
    pub took: Duration,
    /// `200`, `connection refused`, `no response in 1s` …
    pub outcome: String,
    /// Whether it counted as a pass.
    pub passed: bool,
}

/// All probes of a server so far, for display.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CheckCounts {
    /// Those that passed.
    pub passed: u64,
    /// Those that failed; one that is repeated at once counts once.
    pub failed: u64,
    /// How long all of them took together.
    pub took: Duration,
}

impl Server {
    /// The last probe.
    pub fn last_check(&self) -> Option<Check> {
        self.last_check.lock().clone()
    }

    /// Records a probe; called by the health thread.
    pub fn checked(&self, check: Check) {
        let mut counts = self.checks.lock();
        counts.passed += u64::from(check.passed);
        counts.failed += u64::from(!check.passed);
        counts.took += check.took;
        drop(counts);
        if !check.passed {
            *self.last_failed_check.lock() = Some(check.clone());
        }
        *self.last_check.lock() = Some(check);
    }

    /// The last probe that failed.
    pub fn last_failed_check(&self) -> Option<Check> {
        self.last_failed_check.lock().clone()
    }

    /// All probes so far.
    pub fn checks(&self) -> CheckCounts {
        *self.checks.lock()
    }
}
