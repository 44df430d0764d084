//! The same server for the same key: weighted rendezvous hashing.
//!
//! When a server leaves, only its own keys move, and they spread over all others; when it comes back, they return. So no more keys
//! move than must. Keys fall into [`PARTS`] parts, each with a server, so that the winners can be kept in a table of bounded
//! size (`state/hashing.rs`): a choice then takes the same time among any number of servers.

use super::{Candidate, Draw, Slot, Weight};
use crate::policy::rendezvous::{mix, score};

/// Parts of all keys: a power of two. Among 1,000 equal servers the share of one deviates by 6 % (a standard deviation), among 10,000 by 20 %.
pub const PARTS: usize = 1 << 18;

/// The part of a key, which is a uniformly distributed hash.
pub fn part(key: u64) -> usize {
    (key >> (u64::BITS - PARTS.trailing_zeros())) as usize
}

/// A server that contends for a part: its hash and its weight, which is above 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contender {
    /// Stable hash of the server's name.
    pub hash: u64,
    /// Its weight.
    pub weight: Weight,
}

impl Contender {
    /// Whether it takes a part from another one.
    pub fn beats(self, other: Contender, part: usize) -> bool {
        self.entry(part).beats(&other.entry(part))
    }

    fn entry(self, part: usize) -> Entry {
        Entry { slot: Slot(0), weight: self.weight.0, mixed: mix(part as u64, self.hash) }
    }
}

/// The winner of the part of `draw.key`.
pub(super) fn pick(candidates: &[Candidate], draw: Draw<'_>) -> Option<Slot> {
    let part = part(draw.key) as u64;
    let usable = candidates.iter().filter(|candidate| candidate.weight.0 > 0);
    let entries = usable.map(|candidate| Entry::new(candidate, part));
    entries.reduce(|best, entry| if entry.beats(&best) { entry } else { best }).map(|entry| entry.slot)
}

struct Entry {
    slot: Slot,
    weight: u16,
    mixed: u64,
}

impl Entry {
    fn new(candidate: &Candidate, key: u64) -> Self {
        Entry { slot: candidate.slot, weight: candidate.weight.0, mixed: mix(key, candidate.hash) }
    }

    /// Logarithms are needed only when hash and weight point in different directions; so never between equal weights.
    fn beats(&self, other: &Entry) -> bool {
        match (self.mixed > other.mixed, self.weight >= other.weight, self.weight <= other.weight) {
            (true, true, _) => true,
            (false, _, true) => false,
            _ => self.score() > other.score(),
        }
    }

    fn score(&self) -> f64 {
        score(self.mixed, u32::from(self.weight))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    const KEYS: u64 = 20_000;

    fn winner(candidates: &[Candidate], key: u64) -> u32 {
        let draw = Draw {
            random: key,
            turn: key,
            key: mix(key, 1),
            schedule: &[],
            is_long_lived: false,
            is_sample: false,
        };
        pick(candidates, draw).unwrap().0
    }

    /// The number of keys that each server gets, within 5 % and 50.
    fn check(weights: &[u16]) {
        let all: Vec<_> = (0..).zip(weights).map(|(slot, &weight)| candidate(slot, weight, 0)).collect();
        let mut counts = vec![0_u64; weights.len()];
        (0..KEYS).for_each(|key| counts[winner(&all, key) as usize] += 1);
        let total: u64 = weights.iter().map(|&w| u64::from(w)).sum();
        for (&count, &weight) in counts.iter().zip(weights) {
            let ideal = KEYS * u64::from(weight) / total;
            assert!(count.abs_diff(ideal) <= ideal / 20 + 50, "{weights:?}: {counts:?}");
        }
    }

    #[test]
    fn shares_follow_weights() {
        check(&[1, 1, 1]);
        check(&[5, 1, 1]);
        check(&[1, 2, 3, 4]);
        check(&[1000, 1]);
        check(&[3, 0, 3]);
    }

    /// The weights with one server left out: only its own clients move.
    fn check_leaving(weights: &[u16], leaving: u32) {
        let all: Vec<_> = (0..).zip(weights).map(|(slot, &weight)| candidate(slot, weight, 0)).collect();
        let rest: Vec<_> = all.iter().filter(|c| c.slot.0 != leaving).copied().collect();
        for key in 0..KEYS {
            let (before, after) = (winner(&all, key), winner(&rest, key));
            assert!(before == leaving || before == after, "{weights:?} moved {key}: {before} to {after}");
        }
    }

    #[test]
    fn only_the_keys_of_a_leaving_server_move() {
        check_leaving(&[1, 1, 1, 1], 2);
        check_leaving(&[5, 1, 2, 1], 0);
        check_leaving(&[5, 5, 5, 1], 3);
    }
}
