//! A failed response counts as load for a while, as if its request were still in flight.
//!
//! Least-loaded algorithms rank a server by its requests in flight and by how fast it responds. A server that fails
//! immediately has the fewest in flight and the best times, and would attract nearly all requests. So each failure
//! counts as one more request in flight and decays with time: the more requests the other servers have in flight, the
//! more failures a server may have before it is passed over. A server that always fails still gets a few requests a
//! second, so that its recovery is noticed: each good response halves the count.
//!
//! When all servers fail, all counts grow at the same rate and the choice is as even as before.

use super::latency;
use crate::base::time::Moment;
use std::time::Duration;

/// Recent failures. `Copy`, and fits in one atomic ([`RecentFailures::pack`]).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RecentFailures {
    /// The decayed count as of `at`; 0 when there were none.
    count: f32,
    at: Moment,
}

impl RecentFailures {
    /// The time constant with which failures decay. Longer than most servers take for a good response, so that a
    /// failure weighs at least as much as a success; short enough that a server that has recovered is used again within
    /// seconds.
    pub const DECAY: Duration = Duration::from_secs(2);

    /// With one more failure.
    #[must_use]
    pub fn failed(self, now: Moment) -> Self {
        RecentFailures { count: self.read(now) + 1.0, at: now.max(self.at) }
    }

    /// After a good response.
    #[must_use]
    pub fn passed(self, now: Moment) -> Self {
        match self.read(now) / 2.0 {
            count if count < FORGOTTEN => RecentFailures::default(),
            count => RecentFailures { count, at: now.max(self.at) },
        }
    }

    /// Their load now, in requests in flight. A single failure counts for nothing: the request itself may be the cause.
    pub fn as_load(self, now: Moment) -> u32 {
        (self.read(now).ceil() as u32).saturating_sub(1)
    }

    /// Everything in one word, in the format of [`latency::Latency::pack`]; 0 when there were no failures.
    pub fn pack(self) -> u64 {
        if self.count > 0.0 { latency::pack(self.count, self.at) } else { 0 }
    }

    /// The inverse of [`RecentFailures::pack`].
    pub fn unpack(word: u64) -> Self {
        let (count, at) = latency::unpack(word);
        RecentFailures { count, at }
    }

    fn read(self, now: Moment) -> f32 {
        if self.count > 0.0 { self.count * latency::kept(self.at, now, Self::DECAY) } else { 0.0 }
    }
}

/// Anything below counts as none: the word is then 0, and good responses only need to read it.
const FORGOTTEN: f32 = 0.1;

#[cfg(test)]
mod tests {
    use super::*;

    /// Failures (`-`) and good responses (`+`) 100 ms apart, spaces for nothing; the load after the last.
    fn check(events: &str, expected: u32) {
        let mut word = 0;
        let mut now = Moment::START;
        for (event, at) in events.chars().zip(0..) {
            now = Moment::from_millis(at * 100);
            let before = RecentFailures::unpack(word);
            word = match event {
                '-' => before.failed(now).pack(),
                '+' => before.passed(now).pack(),
                _ => word,
            };
        }
        assert_eq!(RecentFailures::unpack(word).as_load(now), expected, "{events:?}");
    }

    #[test]
    fn failures_count_as_load_and_fade() {
        check("", 0);
        check("+", 0);
        check("- ", 0);
        check("--", 1);
        check("----------", 8);
        check("----------                    ", 2);
        check("----------++", 1);
        check("----------++++", 0);
        check("-+-+-+-+-+-+-+-+-", 1);
        check("++++++++++++++++-++++++++++++++-", 0);
    }

    #[test]
    fn many_in_a_millisecond_all_count() {
        let at = |micros: u64| Moment::from_nanos(micros * 1_000);
        let word = (0..1_000).fold(0, |word, n| RecentFailures::unpack(word).failed(at(n)).pack());
        assert_eq!(RecentFailures::unpack(word).as_load(at(999)), 999);
        assert!((600..610).contains(&RecentFailures::unpack(word).as_load(at(1_000_000))));
    }
}
