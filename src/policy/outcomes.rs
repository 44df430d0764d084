//! Which share of a server's recent responses was bad: a 5xx, a reset, a timeout, a broken response, or one that is not
//! what the pool expects.
//!
//! Algorithms rank servers by requests in flight and by speed. A server that fails at once has the fewest in flight and the
//! best times, and would attract nearly all requests. So what counts is the time to a *good* response: a server of whose
//! responses every second one is good costs twice as much.
//!
//! Only the comparison with the other servers counts ([`AVOIDED_BELOW`]): where all fail, because of a bad request or of a
//! database that is down, all shares are the same and nothing changes.

use crate::base::time::Moment;
use std::time::Duration;

/// The share of a new response: after four bad ones in a row a server is avoided, and no single one has an effect.
const GAIN: f32 = 1.0 / 6.0;
/// Without responses 1/e of the bad share is left after this time: a server that fails always is then sent about one request
/// a second until it is ejected, and one that had bad luck, where a third of all requests fails everywhere, is back within a
/// second. With 20 s such a server had a ninth of the requests in place of a third.
const DECAY: Duration = Duration::from_secs(5);
/// A server whose share of good responses is less than this part of the best one's gets trials only.
pub const AVOIDED_BELOW: f32 = 0.5;
/// Down to this part of the best one's it counts as the same: shares of few responses differ that much by chance, where a
/// third of all requests fails on every server.
pub const TOLERATED_FROM: f32 = 0.65;

/// The share. `Copy`, and fits in one atomic ([`Outcomes::pack`]).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Outcomes {
    /// The share of bad responses as of `at`; 0 when there were none.
    bad: f32,
    at: Moment,
}

impl Outcomes {
    /// All are bad: what a server that failed its trial gets.
    pub fn all_bad(now: Moment) -> Self {
        Outcomes { bad: 1.0, at: now }
    }

    /// With one more response.
    #[must_use]
    pub fn with(self, is_good: bool, now: Moment) -> Self {
        let target = if is_good { 0.0 } else { 1.0 };
        let bad = self.bad(now);
        Outcomes { bad: bad + (target - bad) * GAIN, at: now.max(self.at) }
    }

    /// The share of good responses now, 0 to 1; 1 when there were none.
    pub fn good(self, now: Moment) -> f32 {
        1.0 - self.bad(now)
    }

    /// Everything in one word: 27 bits for the share, 37 bits for milliseconds (four years). 0 when next to none was bad:
    /// good responses only need to read it then.
    pub fn pack(self) -> u64 {
        if self.bad < FORGOTTEN {
            return 0;
        }
        let share = u64::from(self.bad.to_bits()) >> DROPPED_BITS;
        share << TIME_BITS | (self.at.as_nanos() / 1_000_000) & TIME_MASK
    }

    /// The inverse of [`Outcomes::pack`].
    pub fn unpack(word: u64) -> Self {
        let bad = f32::from_bits(((word >> TIME_BITS) << DROPPED_BITS) as u32);
        Outcomes { bad, at: Moment::from_millis(word & TIME_MASK) }
    }

    fn bad(self, now: Moment) -> f32 {
        match now.since(self.at).as_millis() {
            _ if self.bad == 0.0 => 0.0,
            0 => self.bad,
            age_ms => self.bad * (-(age_ms as f32) / DECAY.as_millis() as f32).exp(),
        }
    }
}

/// A smaller share counts as none.
const FORGOTTEN: f32 = 0.01;
const TIME_BITS: u32 = 37;
const TIME_MASK: u64 = (1 << TIME_BITS) - 1;
/// The least significant bits of the mantissa. Dropping them and the sign, which is never set, makes room for the time.
const DROPPED_BITS: u32 = 4;

#[cfg(test)]
mod tests {
    use super::*;

    /// Bad responses (`-`) and good ones (`+`) 10 ms apart, spaces for nothing; the good share after the last, in percent.
    fn check(events: &str, expected: u32) {
        let mut word = 0;
        let mut now = Moment::START;
        for (event, at) in events.chars().zip(0..) {
            now = Moment::from_millis(at * 10);
            word = match event {
                ' ' => word,
                _ => Outcomes::unpack(word).with(event == '+', now).pack(),
            };
        }
        let got = Outcomes::unpack(word).good(now) * 100.0;
        assert!((got - expected as f32).abs() < 1.5, "{events:?}: {got}");
    }

    #[test]
    fn the_share_follows_within_a_few_responses() {
        check("", 100);
        check("+", 100);
        check("-", 83);
        check("----", 49);
        check("--------------------", 3);
        check("--------------------++++", 54);
        check("--------------------++++++++++++++++++++", 98);
        check("-+-+-+-+-+-+-+-+-+-+-+-+-+", 56);
        check("++++++++++++++++++++++++-", 83);
        check(&format!("----------{}", " ".repeat(1_000)), 89);
    }
}
