//! How long the responses of a server usually take, and how many requests it had then.
//!
//! - **Typical, not last and not highest.** The estimate moves on a logarithmic scale, and one response moves it by at most
//!   [`CAP_OCTAVES`] × [`GAIN`]: a page that takes 400 times longer than the others raises it by 4 %, and not by 400 times.
//!   Many slow responses in a row move it all the way.
//! - **The first ones count in full.** While there are few samples, the next may move it further, so that the first one, which may
//!   be as far off, is corrected by the next few: with the same bound for all samples it took a hundred.
//! - **Under its load.** A response that took 40 ms beside seven others says something else than one that took 40 ms alone.
//!   The number of requests in flight when it was sent is averaged in the same way, and a prediction for another number
//!   is proportional to it.
//!
//! Only good responses are samples: a fast failure must not look like speed.

use crate::base::time::Moment;
use std::time::Duration;

/// The share of a new sample. With 1/8 p50 is 2 % higher (docs/experiments.md), and a server that had bad
/// luck got next to nothing for ten seconds at low load.
const GAIN: f32 = 1.0 / 16.0;
/// A sample counts as at most this many powers of two away from an estimate of many samples; of few samples,
/// by as much more as its gain is larger. With 2 or 4 p99 beside servers that pause is up to 11 % higher.
const CAP_OCTAVES: f32 = 1.0;
/// Samples count for 1/e after this time: the next sample then moves the estimate further, and until it comes
/// the estimate is mixed with what is usual in the pool. With 4 s, or when samples did not fade, single
/// servers of ten equal ones had a tenth of their share at 20 requests a second; p99 is the same.
const DECAY: Duration = Duration::from_secs(2);

/// What is known at some moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reading {
    /// What a response usually takes, in microseconds.
    pub typical_us: f32,
    /// The requests in flight when these were sent, each counting itself; 1 or more.
    pub load: f32,
    /// Samples that it rests on, 0 to 15; those of a while ago count for less.
    pub samples: f32,
}

/// The estimate. `Copy`, and fits in one atomic ([`Latency::pack`]).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Latency {
    /// The binary logarithm of microseconds.
    log_us: f32,
    /// The binary logarithm of requests in flight.
    log_load: f32,
    /// Samples that it rested on when the last one came, that one among them, up to [`SAMPLES_MAX`]; 0:
    /// nothing is known.
    samples: u8,
    /// When the last sample came, in units of [`TICK_MS`]; only its last [`TICK_BITS`] bits.
    tick: u64,
}

impl Latency {
    /// With one more sample: a response that took so long, sent when the server had `load` requests, it among
    /// them.
    #[must_use]
    pub fn with(self, took: Duration, load: u32, now: Moment) -> Self {
        let log_us = (took.as_secs_f32() * 1e6).max(1.0).log2().min(LOG_US_MAX);
        let log_load = (load.max(1) as f32).log2();
        let samples = self.samples_at(now);
        let gain = (1.0 / (samples + 1.0)).max(GAIN);
        let (from_us, from_load) =
            if self.is_known() { (self.log_us, self.log_load) } else { (log_us, log_load) };
        let cap = CAP_OCTAVES * gain / GAIN;
        let step = (log_us - from_us).clamp(-cap, cap);
        Latency {
            log_us: from_us + step * gain,
            log_load: from_load + (log_load - from_load) * gain,
            samples: (samples.round() as u8 + 1).min(SAMPLES_MAX),
            tick: tick(now) & TICK_MASK,
        }
    }

    /// The estimate now; `None` before the first sample.
    pub fn reading(self, now: Moment) -> Option<Reading> {
        self.is_known().then(|| Reading {
            typical_us: self.log_us.exp2(),
            load: self.log_load.exp2(),
            samples: self.samples_at(now),
        })
    }

    /// Everything in one word; 0 when there was no sample. Two threads that update one word at the same time
    /// may lose a sample, which does no harm.
    pub fn pack(self) -> u64 {
        let us = (self.log_us * US_STEPS).round() as u64;
        let load = (self.log_load * LOAD_STEPS).round() as u64;
        let word = (us << LOAD_BITS | load) << SAMPLES_BITS | u64::from(self.samples);
        word << TICK_BITS | self.tick
    }

    /// The inverse of [`Latency::pack`].
    pub fn unpack(word: u64) -> Self {
        let bits = |shift: u32, count: u32| (word >> shift) & ((1 << count) - 1);
        Latency {
            log_us: bits(TICK_BITS + SAMPLES_BITS + LOAD_BITS, US_BITS) as f32 / US_STEPS,
            log_load: bits(TICK_BITS + SAMPLES_BITS, LOAD_BITS) as f32 / LOAD_STEPS,
            samples: bits(TICK_BITS, SAMPLES_BITS) as u8,
            tick: word & TICK_MASK,
        }
    }

    fn samples_at(self, now: Moment) -> f32 {
        let samples = f32::from(self.samples);
        match self.age(now) * TICK_MS {
            0 => samples,
            age_ms => samples * (-(age_ms as f32) / DECAY.as_millis() as f32).exp(),
        }
    }

    /// The ticks since the last sample; none where that came later than `now`, which another thread's may.
    /// The counter begins again, so that is what more than half of its range means.
    fn age(self, now: Moment) -> u64 {
        let ticks = tick(now).wrapping_sub(self.tick) & TICK_MASK;
        if ticks <= TICK_MASK / 2 { ticks } else { 0 }
    }

    fn is_known(self) -> bool {
        self.samples > 0
    }
}

impl Reading {
    /// What a response would take now, in microseconds, where this many requests are in flight already.
    pub fn predicted_us(self, in_flight: u32) -> f32 {
        self.typical_us * (in_flight as f32 + 1.0) / self.load
    }

    /// The same for a server that is known to work on `slots` requests at once: up to that many a response
    /// takes no longer.
    pub fn with_slots_us(self, in_flight: u32, slots: f32) -> f32 {
        self.typical_us * (in_flight as f32 + 1.0).max(slots) / self.load.max(slots)
    }
}

/// 12 days: what takes longer counts as this.
const LOG_US_MAX: f32 = 40.0;
/// Enough for [`GAIN`] to be the larger one.
pub const SAMPLES_MAX: u8 = 15;
/// An estimate of fewer samples is mixed with what is known of the other servers.
pub const SAMPLES_ENOUGH: f32 = 12.0;
/// The resolution of time. The word has room for 397 days of it, and then begins again.
const TICK_MS: u64 = 256;
const TICK_BITS: u32 = 27;
const TICK_MASK: u64 = (1 << TICK_BITS) - 1;
const SAMPLES_BITS: u32 = 4;
/// Up to 2^20 requests in flight, in steps of 1/1024 of a power of two.
const LOAD_BITS: u32 = 15;
const LOAD_STEPS: f32 = 1024.0;
/// Steps of 1/4096 of a power of two: 0.02 %.
const US_BITS: u32 = 18;
const US_STEPS: f32 = 4096.0;

fn tick(at: Moment) -> u64 {
    at.as_nanos() / 1_000_000 / TICK_MS
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Samples as (ms taken, load), 10 ms apart; then the expected (ms, load), within 1 %.
    fn check(samples: &[(u64, u32)], expected: Option<(f32, f32)>) {
        let mut word = 0;
        let mut now = Moment::START;
        for (&(ms, load), n) in samples.iter().zip(1..) {
            now = Moment::from_millis(n * 10);
            word = Latency::unpack(word).with(Duration::from_millis(ms), load, now).pack();
        }
        let got = Latency::unpack(word).reading(now).map(|reading| (reading.typical_us / 1e3, reading.load));
        let is_near = |a: f32, b: f32| (a - b).abs() <= b * 0.01;
        let fits = match (got, expected) {
            (Some(got), Some(expected)) => is_near(got.0, expected.0) && is_near(got.1, expected.1),
            (got, expected) => got == expected,
        };
        assert!(fits, "{samples:?}: {got:?}");
    }

    #[test]
    fn one_response_moves_it_a_little_and_many_move_it_all_the_way() {
        check(&[], None);
        check(&[(10, 1)], Some((10.0, 1.0)));
        check(&[(10, 4); 50], Some((10.0, 4.0)));
        check(&[&[(10, 1); 50][..], &[(4_000, 1)]].concat(), Some((10.44, 1.0)));
        check(&[&[(10, 1); 50][..], &[(1, 1)]].concat(), Some((9.58, 1.0)));
        check(&[&[(10, 1); 50][..], &[(100, 1); 150]].concat(), Some((100.0, 1.0)));
        check(&[&[(10, 1); 50][..], &[(20, 2); 99]].concat(), Some((20.0, 2.0)));
        // The first response of a server says as little as any other: of 16 it is one.
        check(&[&[(1, 1)][..], &[(100, 1); 15]].concat(), Some((75.0, 1.0)));
        check(&[&[(2_000, 1)][..], &[(5, 1); 15]].concat(), Some((7.477, 1.0)));
    }

    #[test]
    fn after_a_while_without_samples_the_next_one_counts_for_all_before() {
        let at = Moment::from_millis;
        let latency =
            (1..=50).fold(Latency::default(), |latency, n| latency.with(Duration::from_millis(10), 1, at(n)));
        let typical_ms = |latency: Latency, now| latency.reading(now).unwrap().typical_us / 1e3;
        let soon = latency.with(Duration::from_millis(20), 1, at(60));
        assert!((10.4..10.5).contains(&typical_ms(soon, at(60))));
        let late = latency.with(Duration::from_millis(20), 1, at(20_000));
        assert!((19.9..20.1).contains(&typical_ms(late, at(20_000))));
        assert_eq!(late.samples, 1);
    }

    #[test]
    fn a_prediction_is_proportional_to_the_requests_in_flight() {
        let reading = Reading { typical_us: 8_000.0, load: 4.0, samples: 15.0 };
        assert_eq!([0, 3, 7].map(|n| reading.predicted_us(n)), [2_000.0, 8_000.0, 16_000.0]);
    }

    #[test]
    fn one_word_holds_extremes_and_old_samples_fade() {
        assert_eq!((Latency::default().pack(), Latency::unpack(0)), (0, Latency::default()));
        for (took, load, when) in [(Duration::ZERO, 0, 0), (Duration::MAX, 1 << 20, 300 * 86_400_000)] {
            let latency = Latency::default().with(took, load, Moment::from_millis(when));
            let back = Latency::unpack(latency.pack());
            assert_eq!((back.samples, back.tick), (latency.samples, latency.tick));
            assert!(
                (back.log_us - latency.log_us).abs() < 1e-3
                    && (back.log_load - latency.log_load).abs() < 1e-3
            );
        }
        let latency = Latency::default().with(Duration::from_millis(10), 1, Moment::START);
        let samples = |seconds: u64| latency.reading(Moment::from_millis(seconds * 1_000)).unwrap().samples;
        assert!(samples(0) == 1.0 && samples(1) > 0.5 && samples(30) < 0.01);
    }

    #[test]
    fn a_process_that_runs_for_years_forgets_no_sooner() {
        let day = 86_400_000;
        // The counter of ticks begins again after 397 days.
        for start in [0, 200 * day, 397 * day, 400 * day, 2_000 * day] {
            let at = |ms: u64| Moment::from_millis(start + ms);
            let sample = |latency: Latency, ms| latency.with(Duration::from_millis(10), 1, at(ms));
            let latency = (0..1_000).map(|n| n * 1_000).fold(Latency::default(), sample);
            let latency = Latency::unpack(latency.pack());
            let samples = |ms: u64| latency.reading(at(ms)).unwrap().samples;
            assert!(samples(999_000) >= 2.0 && samples(998_000) == samples(999_000), "{start}");
            assert!(samples(1_030_000) < 0.01, "{start}");
        }
    }
}
