//! Slow start: which part of its requests a server gets soon after it came up, with cold caches and connections still to be made.
//!
//! The part grows with the time, and holds for every algorithm: of all requests of the pool it gets the part that its
//! weight would give it, times this one. So it is neither flooded, as by the fewest requests in flight of a server that has none, nor
//! left without any, as by the latency of one whose first responses are slow.

use super::rendezvous::mix;
use std::time::Duration;

/// The part at the beginning: with none it would never get a first request where requests are rare. As Envoy's
/// `min_weight_percent`.
const LEAST: f64 = 0.1;

/// What a server, or its pool, says of slow starts; what is absent is left to the pool, or is the default.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Settings {
    /// How long it takes, up to 1 h; 0 is none.
    pub time: Option<Duration>,
    /// How fast the part grows at first, 0.1 to 10: see [`Ramp::aggression`].
    pub aggression: Option<f32>,
}

impl Settings {
    /// What holds for a server that says this, of a pool that says that; `None` where it has no slow start.
    pub fn within(self, pool: Settings) -> Option<Ramp> {
        let time = self.time.or(pool.time).filter(|time| !time.is_zero())?;
        Some(Ramp { time, aggression: self.aggression.or(pool.aggression).unwrap_or(1.0) })
    }
}

/// How a server comes into its requests.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ramp {
    /// From the first request to the last one of the slow start; whole milliseconds.
    pub time: Duration,
    /// The part is the passed time to the power of 1 / aggression, as in Envoy: with 1 it grows in proportion, with more it is
    /// larger at first.
    pub aggression: f32,
}

impl Ramp {
    /// The part of its usual requests that a server gets so long after it came up, 0.1 to 1.
    pub fn part(self, since: Duration) -> f64 {
        let passed = since.as_secs_f64() / self.time.as_secs_f64().max(0.001);
        let part =
            if self.aggression == 1.0 { passed } else { passed.powf(1.0 / f64::from(self.aggression)) };
        part.clamp(LEAST, 1.0)
    }

    /// Everything in one word, never 0.
    pub fn pack(self) -> u64 {
        u64::from(self.aggression.to_bits()) << 32 | self.time.as_millis().min(u128::from(u32::MAX)) as u64
    }

    /// The inverse of [`Ramp::pack`]; `None` of 0.
    pub fn unpack(word: u64) -> Option<Self> {
        let time = Duration::from_millis(word & u64::from(u32::MAX));
        (word != 0).then_some(Ramp { time, aggression: f32::from_bits((word >> 32) as u32) })
    }
}

/// A server in slow start.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Beginner {
    /// Its weight.
    pub weight: u16,
    /// What [`Ramp::part`] says.
    pub part: f64,
}

/// Which of these servers gets the next request, by its index; `None`: one of the others. `weights` is the sum of all servers of the
/// tier, these among them; `chance` is 0 to 1.
pub fn drawn(beginners: impl Iterator<Item = Beginner> + Clone, weights: u64, chance: f64) -> Option<usize> {
    let missing: f64 = beginners.clone().map(|one| f64::from(one.weight) * (1.0 - one.part)).sum();
    let mut point = chance * (weights as f64 - missing);
    beginners.into_iter().position(|one| {
        point -= f64::from(one.weight) * one.part;
        point < 0.0
    })
}

/// Whether a server that has this part gets the requests of a key that are its own otherwise: the same ones all the time, and more
/// from moment to moment.
pub fn has_key(server_hash: u64, key: u64, part: f64) -> bool {
    (mix(key, !server_hash) >> 11) as f64 <= part * (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: Duration = Duration::from_secs(30);

    /// The part at these seconds, in percent.
    fn check_ramp(aggression: f32, seconds: [u64; 6], expected: [u32; 6]) {
        let ramp = Ramp { time: TIME, aggression };
        let percent = |s: u64| (ramp.part(Duration::from_secs(s)) * 100.0).round() as u32;
        assert_eq!(seconds.map(percent), expected, "{aggression}");
        assert_eq!(Ramp::unpack(ramp.pack()), Some(ramp));
    }

    #[test]
    fn the_part_grows_with_time() {
        check_ramp(1.0, [0, 1, 3, 15, 30, 99], [10, 10, 10, 50, 100, 100]);
        check_ramp(2.0, [0, 1, 3, 15, 30, 99], [10, 18, 32, 71, 100, 100]);
        check_ramp(0.5, [0, 1, 3, 15, 24, 30], [10, 10, 10, 25, 64, 100]);
        assert_eq!(Ramp::unpack(0), None);
    }

    #[test]
    fn what_a_server_says_comes_before_what_its_pool_says() {
        let (own, pool) = (Duration::from_secs(5), Settings { time: Some(TIME), aggression: Some(2.0) });
        let within = |time, aggression, pool| Settings { time, aggression }.within(pool);
        assert_eq!(within(None, None, pool), Some(Ramp { time: TIME, aggression: 2.0 }));
        assert_eq!(within(Some(own), None, pool), Some(Ramp { time: own, aggression: 2.0 }));
        assert_eq!(within(None, Some(1.0), pool), Some(Ramp { time: TIME, aggression: 1.0 }));
        assert_eq!(within(Some(Duration::ZERO), None, pool), None);
        assert_eq!(within(Some(own), None, Settings::default()), Some(Ramp { time: own, aggression: 1.0 }));
        assert_eq!(within(None, Some(3.0), Settings::default()), None);
    }

    /// Beginners as (weight, part), beside others of this weight together; the parts of the requests that they get, in percent.
    fn check(beginners: &[(u16, f64)], others: u64, expected: &[u32]) {
        let all = beginners.iter().map(|&(weight, part)| Beginner { weight, part });
        let weights = others + beginners.iter().map(|one| u64::from(one.0)).sum::<u64>();
        let mut counts = vec![0; beginners.len()];
        for step in 0..10_000 {
            if let Some(at) = drawn(all.clone(), weights, f64::from(step) / 10_000.0) {
                counts[at] += 1;
            }
        }
        let percent: Vec<u32> =
            counts.iter().map(|count| (f64::from(*count) / 100.0).round() as u32).collect();
        assert_eq!(percent, expected, "{beginners:?} beside {others}");
    }

    #[test]
    fn a_beginner_gets_its_part_by_weight() {
        check(&[(1, 1.0)], 3, &[25]);
        check(&[(1, 0.1)], 9, &[1]);
        check(&[(1, 0.5)], 1, &[33]);
        check(&[(10, 0.5), (10, 0.25)], 80, &[6, 3]);
        check(&[(0, 0.5)], 1, &[0]);
        check(&[], 1, &[]);
    }

    #[test]
    fn keys_come_to_a_beginner_one_after_the_other_and_stay() {
        let keys = |part| (0..4_000).filter(move |key| has_key(7, mix(*key, 1), part)).collect::<Vec<_>>();
        let (few, more) = (keys(0.1), keys(0.5));
        assert!((300..=500).contains(&few.len()) && (1_850..=2_150).contains(&more.len()));
        assert!(few.iter().all(|key| more.contains(key)));
        assert_eq!(keys(1.0).len(), 4_000);
    }
}
