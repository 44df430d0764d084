//! Whether a queued request is still worth serving when a worker takes it: the deadline, and CoDel on the
//! wait.
//!
//! A full queue in front of busy workers is useless: every request waits, and clients give up on requests that are then
//! still processed. A burst is different: it is gone in a moment. CoDel (Nichols and Jacobson, "Controlling Queue
//! Delay", 2012) tells the two apart by the minimum wait: when no request had a short wait for a whole interval, the
//! queue is *standing*. While it is standing, requests may wait only briefly (Maurer, "Fail at Scale", 2015; the
//! defaults are close to its numbers), and the rest get their 503 early.

use crate::base::time::Moment;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// How long a request may wait for a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// A request that waited longer is dropped, always (5 s).
    pub deadline: Duration,
    /// A wait that is acceptable (5 ms).
    pub target: Duration,
    /// How long the wait must stay above the target before the queue counts as standing (100 ms).
    pub interval: Duration,
    /// The maximum wait while the queue is standing (40 ms), so that the rest get their 503 early.
    pub max_wait: Duration,
}

impl Default for Rules {
    fn default() -> Self {
        Rules {
            deadline: Duration::from_secs(5),
            target: Duration::from_millis(5),
            interval: Duration::from_millis(100),
            max_wait: Duration::from_millis(40),
        }
    }
}

/// What happens to a request at the head of the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admit {
    /// It is served.
    Serve,
    /// It waited past the deadline.
    TooLate,
    /// It waited longer than `max_wait` while the queue was standing.
    Standing,
}

/// CoDel's state; one per queue, shared by all workers through atomics. A request with a short wait costs one relaxed
/// load. Nothing is ordered with it: two workers that judge at the same time may both begin an interval, and the later
/// one counts.
#[derive(Debug)]
pub struct Codel {
    /// When the queue starts to count as standing, unless a short wait comes first; in nanoseconds, or [`NOT`].
    stands_from: AtomicU64,
    /// When the last request with a long wait was taken, in nanoseconds.
    last_long: AtomicU64,
}

/// No long wait since the last short one.
const NOT: u64 = u64::MAX;

impl Codel {
    /// Nothing has waited yet.
    pub const fn new() -> Self {
        Codel { stands_from: AtomicU64::new(NOT), last_long: AtomicU64::new(0) }
    }

    /// A request that became ready at `ready` is taken at `now`.
    pub fn judge(&self, rules: &Rules, ready: Moment, now: Moment) -> Admit {
        let wait = now.since(ready);
        let stands = match wait < rules.target {
            true => self.short_wait(),
            false => self.long_wait(rules, ready, now),
        };
        match stands && wait > rules.max_wait {
            _ if wait > rules.deadline => Admit::TooLate,
            true => Admit::Standing,
            false => Admit::Serve,
        }
    }

    /// Whether the queue is standing; for a request that finds the queue full.
    pub fn is_standing(&self, now: Moment) -> bool {
        let from = self.stands_from.load(Relaxed);
        from != NOT && now.as_nanos() >= from
    }

    /// One short wait ends it. Loads first, so that under light load no worker writes to this cache line.
    fn short_wait(&self) -> bool {
        if self.stands_from.load(Relaxed) != NOT {
            self.stands_from.store(NOT, Relaxed);
        }
        false
    }

    /// The queue is first in, first out. A request that became ready after the last one was taken was therefore alone
    /// in it: the queue had been empty since, and a new interval begins.
    fn long_wait(&self, rules: &Rules, ready: Moment, now: Moment) -> bool {
        let last_long = self.last_long.swap(now.as_nanos(), Relaxed);
        if self.stands_from.load(Relaxed) == NOT || ready.as_nanos() > last_long {
            self.stands_from.store(now.after(rules.interval).as_nanos().min(NOT - 1), Relaxed);
        }
        self.is_standing(now)
    }
}

impl Default for Codel {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::Admit::*;
    use super::*;

    /// Requests as (taken at, had waited) in ms, and the expected decisions.
    fn check(requests: &[(u64, u64)], expected: &[Admit]) {
        let codel = Codel::new();
        let judge = |&(now, waited): &(u64, u64)| {
            codel.judge(&Rules::default(), Moment::from_millis(now - waited), Moment::from_millis(now))
        };
        assert_eq!(requests.iter().map(judge).collect::<Vec<_>>(), expected, "{requests:?}");
    }

    #[test]
    fn waits() {
        check(&[(1_000, 0), (1_001, 4)], &[Serve, Serve]);
        check(&[(9_000, 5_000)], &[Serve]);
        check(&[(9_000, 5_001)], &[TooLate]);
        // a burst: long waits for less than the interval
        check(&[(1_000, 50), (1_050, 80), (1_099, 90)], &[Serve, Serve, Serve]);
        // a standing queue rejects requests that waited long, and serves the rest
        check(
            &[(1_000, 50), (1_050, 80), (1_100, 90), (1_101, 40), (1_102, 41)],
            &[Serve, Serve, Standing, Serve, Standing],
        );
        // one short wait ends it
        check(
            &[(1_000, 50), (1_100, 101), (1_101, 4), (1_102, 50), (1_190, 90)],
            &[Serve, Standing, Serve, Serve, Serve],
        );
        // the deadline holds while it stands, too
        check(&[(9_000, 50), (9_100, 6_000)], &[Serve, TooLate]);
        // a long silence, then one long wait: the queue had been empty
        check(&[(1_000, 50), (60_000, 50), (60_100, 101)], &[Serve, Serve, Standing]);
        // slow workers take rarely, but the queue was never empty
        check(&[(1_000, 50), (1_500, 520), (2_000, 900)], &[Serve, Standing, Standing]);
    }

    #[test]
    fn a_full_queue_can_ask() {
        let (codel, rules, at) = (Codel::new(), Rules::default(), Moment::from_millis);
        assert!(!codel.is_standing(at(1_000)));
        codel.judge(&rules, at(990), at(1_000));
        assert!(!codel.is_standing(at(1_099)));
        assert!(codel.is_standing(at(1_100)));
        codel.judge(&rules, at(1_199), at(1_200));
        assert!(!codel.is_standing(at(1_200)));
    }
}
