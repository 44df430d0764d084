//! Slow start: which part of its requests a server gets soon after it came up, with cold caches and connections still to be made.
//!
//! The part grows in proportion to the time, and holds for every algorithm: of all requests of the pool it gets the part that its
//! weight would give it, times this one. So it is neither flooded, as by the fewest requests in flight of a server that has none, nor
//! left without any, as by the latency of one whose first responses are slow.

use super::rendezvous::mix;
use std::time::Duration;

/// The part at the beginning: with none it would never get a first request where requests are rare. As Envoy's
/// `min_weight_percent`.
const LEAST: f64 = 0.1;

/// A server in slow start.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Beginner {
    /// Its weight.
    pub weight: u16,
    /// What [`part`] says.
    pub part: f64,
}

/// The part of its usual requests that a server gets so long after it came up, 0.1 to 1; `time` is that of the whole slow start.
pub fn part(since: Duration, time: Duration) -> f64 {
    match time.is_zero() {
        true => 1.0,
        false => (since.as_secs_f64() / time.as_secs_f64()).clamp(LEAST, 1.0),
    }
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

    #[test]
    fn the_part_grows_with_time() {
        let at = |s: u64| part(Duration::from_secs(s), Duration::from_secs(30));
        assert_eq!([0, 1, 3, 15, 30, 99].map(at), [0.1, 0.1, 0.1, 0.5, 1.0, 1.0]);
        assert_eq!(part(Duration::ZERO, Duration::ZERO), 1.0);
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
