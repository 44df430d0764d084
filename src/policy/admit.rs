//! Whether a queued request is still worth serving when a server has room for it: the deadline, and CoDel on
//! the wait.
//!
//! A full queue in front of busy servers is useless: every request waits, and clients give up on requests that are then
//! still processed. A burst is different: it is gone in a moment. CoDel (Nichols and Jacobson, "Controlling Queue
//! Delay", 2012) tells the two apart by the minimum wait: when no request had a short wait for a whole interval, the
//! queue is *standing*. While it is standing, requests may wait only briefly (Maurer, "Fail at Scale", 2015), and the rest
//! get their 503 early.

use crate::base::time::Moment;
use std::time::Duration;

/// How long a request may wait for a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// A request that waited longer is dropped, always (5 s).
    pub deadline: Duration,
    /// A wait that is acceptable (5 ms).
    pub target: Duration,
    /// How long the wait must stay above the target before the queue counts as standing (100 ms).
    pub interval: Duration,
    /// The maximum wait while the queue is standing (500 ms), so that the rest get their 503 early. With 40 ms three servers of one slot
    /// rejected 6 % at 80 % of what they can do; in an overload as many are served.
    pub max_wait: Duration,
}

impl Default for Rules {
    fn default() -> Self {
        Rules {
            deadline: Duration::from_secs(5),
            target: Duration::from_millis(5),
            interval: Duration::from_millis(100),
            max_wait: Duration::from_millis(500),
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

impl Rules {
    /// Whether a request that has waited for so long is still worth serving, in a queue that `stands` or not.
    pub fn admit(&self, waited: Duration, stands: bool) -> Admit {
        match stands && waited > self.max_wait {
            _ if waited > self.deadline => Admit::TooLate,
            true => Admit::Standing,
            false => Admit::Serve,
        }
    }
}

/// CoDel's state; one per queue.
#[derive(Clone, Copy, Debug, Default)]
pub struct Codel {
    /// When the queue starts to count as standing, unless a short wait comes first; `None` since the last short wait.
    stands_from: Option<Moment>,
    /// When a request was last taken while the wait was long.
    last_long: Moment,
}

impl Codel {
    /// A request is taken at `now` from a queue whose oldest became ready at `oldest`. Whether the queue stands.
    pub fn take(&mut self, target: Duration, interval: Duration, oldest: Moment, now: Moment) -> bool {
        if now.since(oldest) < target {
            self.stands_from = None;
            return false;
        }
        let last_long = std::mem::replace(&mut self.last_long, now);
        // What became ready after the last one was taken was alone: the queue had been empty, and a new interval begins.
        let is_new = oldest > last_long;
        let from = self.stands_from.filter(|_| !is_new).unwrap_or_else(|| now.after(interval));
        self.stands_from = Some(from);
        now >= from
    }
}

#[cfg(test)]
mod tests {
    use super::Admit::*;
    use super::*;

    /// Requests as (taken at, had waited) in ms, the oldest first, and the expected decisions.
    fn check(requests: &[(u64, u64)], expected: &[Admit]) {
        let max_wait = Duration::from_millis(40);
        let (mut codel, rules) = (Codel::default(), Rules { max_wait, ..Rules::default() });
        let mut judge = |&(now, waited): &(u64, u64)| {
            let (ready, now) = (Moment::from_millis(now - waited), Moment::from_millis(now));
            let stands = codel.take(rules.target, rules.interval, ready, now);
            rules.admit(now.since(ready), stands)
        };
        assert_eq!(requests.iter().map(&mut judge).collect::<Vec<_>>(), expected, "{requests:?}");
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
}
