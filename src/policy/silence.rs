//! How long a server has left requests without any response.
//!
//! A server that hangs sends no slow responses that could be measured, and its earlier ones look fine. So the
//! requests that it got since its last response are counted, and from a few on the time counts. One or two
//! may be slow themselves (a report, a long poll) and say little about the next request.

use crate::base::time::Moment;
use std::time::Duration;

/// The requests that a server got since its last response. `Copy`, and fits in one atomic ([`Awaiting::pack`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Awaiting {
    /// How many, up to 255.
    count: u8,
    /// When the count first reached the threshold; `Moment::START` if it never did.
    since: Moment,
}

/// This many in a row without a response are not all slow by themselves, even if one request in 20 is.
const SILENT_FROM_REQUESTS: u8 = 3;
/// No server counts as silent before this, however fast it was: garbage collector pauses are shorter.
const SILENT_FROM: Duration = Duration::from_secs(1);
/// Nor before it has been silent for this many times its usual latency.
const SILENT_FROM_LATENCIES: f32 = 3.0;
const COUNT_BITS: u32 = 8;

impl Awaiting {
    /// One more was sent.
    #[must_use]
    pub fn sent(self, now: Moment) -> Self {
        let count = self.count.saturating_add(1);
        let is_first = count == SILENT_FROM_REQUESTS && self.since == Moment::START;
        let since = if is_first { now } else { self.since };
        Awaiting { count, since }
    }

    /// One ended without a response: the client left, or it timed out. After a server hung, the next request
    /// is enough to reach the threshold: it gets one request, and not as many as at first.
    #[must_use]
    pub fn ended(self) -> Self {
        let least = if self.since == Moment::START { 0 } else { SILENT_FROM_REQUESTS - 1 };
        Awaiting { count: self.count.saturating_sub(1).max(least), ..self }
    }

    /// How long the threshold has been reached; zero when it is not.
    pub fn silence(self, now: Moment) -> Duration {
        if self.count >= SILENT_FROM_REQUESTS { now.since(self.since) } else { Duration::ZERO }
    }

    /// Everything in one word: 56 bits of milliseconds, 8 of the count. 0 after a response.
    pub fn pack(self) -> u64 {
        let millis = self.since.as_nanos() / 1_000_000;
        millis << COUNT_BITS | u64::from(self.count)
    }

    /// The inverse of [`Awaiting::pack`].
    pub fn unpack(word: u64) -> Self {
        Awaiting { count: word as u8, since: Moment::from_millis(word >> COUNT_BITS) }
    }
}

/// Whether a server with this usual latency in microseconds, if known, has been silent for so long that it
/// seems to hang.
pub fn is_silent(silence: Duration, latency_us: Option<f32>) -> bool {
    silence > SILENT_FROM && silence.as_secs_f32() * 1e6 > SILENT_FROM_LATENCIES * latency_us.unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Requests sent (`s`), responses (`r`) and ends without one (`e`), a second apart; the silence after the
    /// last, in s.
    fn check(events: &str, expected: u64) {
        let mut word = 0;
        let mut now = Moment::START;
        for (event, second) in events.chars().zip(0..) {
            now = Moment::from_millis(second * 1_000);
            word = match event {
                's' => Awaiting::unpack(word).sent(now).pack(),
                'e' => Awaiting::unpack(word).ended().pack(),
                'r' => 0,
                _ => word,
            };
        }
        assert_eq!(Awaiting::unpack(word).silence(now), Duration::from_secs(expected), "{events:?}");
    }

    #[test]
    fn silence_counts_from_the_third_request_without_a_response() {
        check("", 0);
        check("ss     ", 0);
        check("sss    ", 4);
        check("ssssss ", 4);
        check("ssssr  ", 0);
        check("ssssrss", 0);
        check("sss  e ", 0);
        check("sss  eee ", 0);
        check("sss  eees", 6);
        check("sss  eeesr", 0);
        check("sss  eeesrss", 0);
        check("ssss e  ", 5);
        check("ee", 0);
        check(&format!("{}  ", "s".repeat(300)), 299);
    }

    #[test]
    fn a_slow_server_is_not_silent_before_several_of_its_latencies() {
        for (silence_ms, latency_ms, expected) in [
            (900, Some(1.0), false),
            (1_100, Some(1.0), true),
            (1_100, None, true),
            (5_000, Some(2_000.0), false),
            (7_000, Some(2_000.0), true),
        ] {
            let latency_us = latency_ms.map(|ms: f32| ms * 1_000.0);
            let got = is_silent(Duration::from_millis(silence_ms), latency_us);
            assert_eq!(got, expected, "{silence_ms} of {latency_ms:?}");
        }
    }
}
