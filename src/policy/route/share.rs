//! Weighted shares by a key: the same key gets the same share, and changed weights move few keys.

use crate::policy::rendezvous::{mix, score};

/// One of several shares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// The hash of its name, so that it does not depend on the order of the file.
    pub hash: u64,
    /// Its part of the whole, relative to the others; 0 gets nothing.
    pub weight: u32,
}

/// The index of the share of a key; None when no share has a weight. When one weight grows, keys only move to that share. A
/// random key draws at random.
pub fn choose(shares: impl IntoIterator<Item = Share>, key: u64) -> Option<usize> {
    let score = |share: &Share| score(mix(key, share.hash), share.weight);
    let scored = shares.into_iter().enumerate().filter(|(_, share)| share.weight > 0);
    let scored = scored.map(|(index, share)| (score(&share), index));
    scored.max_by(|(one, _), (other, _)| one.total_cmp(other)).map(|(_, index)| index)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: u64 = 20_000;

    fn shares(weights: &[u32]) -> Vec<Share> {
        (1..).zip(weights).map(|(hash, &weight)| Share { hash, weight }).collect()
    }

    fn of(weights: &[u32], key: u64) -> usize {
        choose(shares(weights), mix(key, 77)).unwrap()
    }

    #[test]
    fn shares_follow_the_weights() {
        for weights in [&[1, 1][..], &[95, 5], &[1, 2, 7], &[0, 3, 1]] {
            let mut counts = vec![0_u64; weights.len()];
            (0..KEYS).for_each(|key| counts[of(weights, key)] += 1);
            let total: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
            for (&count, &weight) in counts.iter().zip(weights) {
                let ideal = KEYS * u64::from(weight) / total;
                assert!(count.abs_diff(ideal) <= ideal / 20 + 60, "{weights:?}: {counts:?}");
            }
        }
        assert_eq!(choose(shares(&[0, 0]), 1), None);
        assert_eq!(choose([], 1), None);
    }

    #[test]
    fn a_share_that_grows_takes_and_gives_nothing() {
        let moved = (0..KEYS).filter(|key| {
            let (before, after) = (of(&[95, 5], *key), of(&[95, 6], *key));
            assert!(before == after || after == 1, "{key} moved from {before} to {after}");
            before != after
        });
        let moved = moved.count() as u64;
        assert!((KEYS / 200..KEYS / 60).contains(&moved), "{moved} keys moved");
    }
}
