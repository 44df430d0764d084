//! A set of response statuses, as one that a configuration lists. Whether it has one costs one look at a bit.

use std::fmt;
use std::ops::RangeInclusive;

/// The first status that can be in a set.
const FIRST: u16 = 100;
/// Bits of a word.
const WORD: u16 = 64;

/// Statuses from 100 to 599.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Statuses([u64; 8]);

impl Statuses {
    /// Those in these ranges, both ends included. What is below 100 or above 599 is left out.
    pub fn of(ranges: &[(u16, u16)]) -> Self {
        let mut set = Statuses::default();
        for (low, high) in ranges {
            for at in (*low).max(FIRST)..=(*high).min(599) {
                set.0[usize::from((at - FIRST) / WORD)] |= 1 << ((at - FIRST) % WORD);
            }
        }
        set
    }

    /// Whether it is one of them.
    pub fn has(&self, status: u16) -> bool {
        let at = status.wrapping_sub(FIRST);
        self.0.get(usize::from(at / WORD)).is_some_and(|word| word >> (at % WORD) & 1 == 1)
    }

    /// Whether all of them are in this range.
    pub fn are_within(&self, range: RangeInclusive<u16>) -> bool {
        self.all().all(|status| range.contains(&status))
    }

    fn all(&self) -> impl Iterator<Item = u16> {
        (FIRST..=599).filter(|status| self.has(*status))
    }
}

impl fmt::Debug for Statuses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.all()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_has_what_its_ranges_have() {
        let set = Statuses::of(&[(502, 504), (429, 429), (100, 100), (599, 700), (0, 50)]);
        let all: Vec<u16> = (0..=1000).filter(|status| set.has(*status)).collect();
        assert_eq!(all, [100, 429, 502, 503, 504, 599]);
        assert!(set.are_within(100..=599) && !set.are_within(400..=599));
        assert_eq!(format!("{:?}", Statuses::of(&[(502, 503)])), "{502, 503}");
        assert!((0..=1000).all(|status| !Statuses::default().has(status)));
    }
}
