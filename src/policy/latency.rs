//! A latency average that follows peaks immediately and decays with time (the peak EWMA of linkerd and Finagle).
//!
//! A mean would need many slow responses before it shows that a server has just become slow, and each of them is a slow
//! request. So a sample above the average replaces it, and only time brings the average down again. Only good responses
//! are samples: a fast failure must not look like speed.

use crate::base::time::Moment;
use std::time::Duration;

/// One stall per this time is ignored: its requests are not sampled. Otherwise a server that hung and responds again
/// would be passed over until the peak has decayed, which takes half a minute. A server that stays slow is detected by
/// the next stall.
pub const FORGIVE_EVERY: Duration = Duration::from_secs(30);

/// Anything shorter is not a stall, however fast the server was: it decays within seconds.
const STALL_FROM: Duration = Duration::from_millis(100);
/// Neither is anything below this many times the average: latencies vary by that much.
const STALL_FROM_AVERAGES: f32 = 3.0;

/// The average at some moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reading {
    /// The average in microseconds, decayed since its last update.
    pub faded_us: f32,
    /// The part that is left of it: 1 right after an update, near 0 when it says nothing about the present any more.
    pub freshness: f32,
}

/// The average. `Copy` and two words, so that it fits in one atomic ([`Latency::pack`]) or under a short lock.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Latency {
    /// The average in microseconds at its last update; 0 or less means that there was no sample yet.
    pub average_us: f32,
    /// The time of the last update.
    pub at: Moment,
}

impl Latency {
    /// The time constant: without updates the average falls to 1/e in this time, so half of a peak is gone after 3.5 s.
    /// Finagle and linkerd use 10 s. With 10 s a server that had been ten times slower and became fast waited 34 s for
    /// its full share (simulated in `pick/dynamic.rs`), with 5 s half of that.
    pub const DECAY: Duration = Duration::from_secs(5);

    /// With one more sample. Time counts in whole milliseconds, the resolution of [`Latency::pack`]: of the samples
    /// within one millisecond the first one counts, and every peak.
    #[must_use]
    pub fn with(self, sample: Duration, now: Moment) -> Self {
        let sample_us = (sample.as_secs_f32() * 1e6).max(SHORTEST_US);
        let now = now.max(self.at);
        let average_us = match self.is_known() && sample_us < self.average_us {
            true => sample_us + (self.average_us - sample_us) * kept(self.at, now, Latency::DECAY),
            false => sample_us,
        };
        Latency { average_us, at: now }
    }

    /// The estimate now, in microseconds: without updates the average decays, so that a server that was slow once gets
    /// traffic again. None before the first sample.
    pub fn read(self, now: Moment) -> Option<f32> {
        self.reading(now).map(|reading| reading.faded_us)
    }

    /// Like [`Latency::read`], with the part of the average that is left.
    pub fn reading(self, now: Moment) -> Option<Reading> {
        let freshness = kept(self.at, now, Latency::DECAY);
        self.is_known().then_some(Reading { faded_us: self.average_us * freshness, freshness })
    }

    /// Everything in one word: 27 bits for the average (two parts in a million), 37 bits for milliseconds (four years;
    /// 32 bits would overflow after 50 days and make every server look fast). 0 when there was no sample. Two threads
    /// that update one word at the same time may lose a sample, which does no harm.
    pub fn pack(self) -> u64 {
        if self.is_known() { pack(self.average_us, self.at) } else { 0 }
    }

    /// The inverse of [`Latency::pack`].
    pub fn unpack(word: u64) -> Self {
        let (average_us, at) = unpack(word);
        Latency { average_us, at }
    }

    /// Whether a sample is far above the average: a stall rather than normal variation.
    pub fn is_stall(self, sample: Duration) -> bool {
        let sample_us = sample.as_secs_f32() * 1e6;
        self.is_known() && sample >= STALL_FROM && sample_us > STALL_FROM_AVERAGES * self.average_us
    }

    /// Whether a sample is above the last known average. An unknown average is not exceeded.
    pub fn is_exceeded(self, sample: Duration) -> bool {
        self.is_known() && sample.as_secs_f32() * 1e6 > self.average_us
    }

    fn is_known(self) -> bool {
        self.average_us > 0.0
    }
}

/// No response is faster; distinguishes a known average from 0.
const SHORTEST_US: f32 = 1.0;
const TIME_BITS: u32 = 37;
const TIME_MASK: u64 = (1 << TIME_BITS) - 1;
/// The least significant bits of the mantissa. Dropping them and the sign, which is never set, makes room for the time.
const DROPPED_BITS: u32 = 4;

/// A non-negative number, and a time in whole milliseconds, in one word.
pub(super) fn pack(value: f32, at: Moment) -> u64 {
    let value = u64::from(value.to_bits()) >> DROPPED_BITS;
    value << TIME_BITS | millis(at) & TIME_MASK
}

/// The inverse of [`pack`].
pub(super) fn unpack(word: u64) -> (f32, Moment) {
    let value = f32::from_bits(((word >> TIME_BITS) << DROPPED_BITS) as u32);
    (value, Moment::from_millis(word & TIME_MASK))
}

/// The part of an old value that is left after the time from `at` to `now`, with this time constant.
pub(super) fn kept(at: Moment, now: Moment, decay: Duration) -> f32 {
    match millis(now).saturating_sub(millis(at)) {
        0 => 1.0,
        passed => (-(passed as f32) / decay.as_millis() as f32).exp(),
    }
}

fn millis(at: Moment) -> u64 {
    at.as_nanos() / 1_000_000
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Moment {
        Moment::from_millis(ms)
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Samples as (when, how long) in ms, then the estimate at a given time, within 1 %.
    fn check(samples: &[(u64, u64)], read_at: u64, expected_us: Option<f32>) {
        let plain = samples.iter().fold(Latency::default(), |l, &(when, long)| l.with(ms(long), at(when)));
        let packed =
            samples.iter().fold(0, |w, &(when, long)| Latency::unpack(w).with(ms(long), at(when)).pack());
        for (how, latency) in [("plain", plain), ("packed", Latency::unpack(packed))] {
            match (latency.read(at(read_at)), expected_us) {
                (Some(got), Some(want)) => {
                    assert!((got - want).abs() <= want * 0.01, "{how} {samples:?}: {got} is not {want}");
                }
                (got, want) => assert_eq!(got, want, "{how} {samples:?}"),
            }
        }
    }

    #[test]
    fn peaks_at_once_and_decay_with_time() {
        check(&[], 5_000, None);
        check(&[(0, 10)], 0, Some(10_000.0));
        check(&[(0, 10), (1, 100)], 1, Some(100_000.0));
        check(&[(0, 10), (0, 100)], 0, Some(100_000.0));
        check(&[(0, 100), (0, 10)], 0, Some(100_000.0));
        check(&[(0, 100), (3_466, 10)], 3_466, Some(55_000.0));
        check(&[(0, 100), (30_000, 10)], 30_000, Some(10_220.0));
        check(&[(0, 100)], 3_466, Some(50_000.0));
        check(&[(0, 100)], 11_513, Some(10_000.0));
        check(&[(5_000, 100), (4_000, 200)], 4_000, Some(200_000.0));
    }

    #[test]
    fn many_samples_in_a_millisecond_decay_no_faster_than_time() {
        let mut word = Latency::default().with(ms(100), at(0)).pack();
        for micros in 0..1_000_000 {
            word = Latency::unpack(word).with(ms(1), Moment::from_nanos(micros * 1_000)).pack();
        }
        let average = Latency::unpack(word).read(at(999)).unwrap();
        assert!((81_500.0..83_000.0).contains(&average), "{average}");
    }

    #[test]
    fn one_word_holds_extremes() {
        assert_eq!(Latency::default().pack(), 0);
        assert_eq!(Latency::unpack(0), Latency::default());
        for (sample, when) in [(Duration::ZERO, 0), (Duration::from_secs(86_400), 3 * 365 * 86_400_000)] {
            let latency = Latency::default().with(sample, at(when));
            let back = Latency::unpack(latency.pack());
            assert_eq!(back.at, latency.at);
            assert!((back.average_us / latency.average_us - 1.0).abs() < 1e-5);
            assert_ne!(latency.pack(), 0);
        }
    }
}
