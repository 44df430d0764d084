//! Random numbers, always from an explicit seed: the same seed gives the same sequence.

use std::hash::{BuildHasher, Hasher, RandomState};

/// A random number generator. One per thread or per simulation; never shared.
#[derive(Debug)]
pub struct Random(fastrand::Rng);

impl Random {
    /// A generator with this seed.
    pub fn seeded(seed: u64) -> Self {
        Random(fastrand::Rng::with_seed(seed))
    }

    /// A generator seeded by the operating system; for everything outside tests and simulations.
    pub fn fresh() -> Self {
        Random::seeded(entropy())
    }

    /// Any number.
    #[inline]
    pub fn number(&mut self) -> u64 {
        self.0.u64(..)
    }

    /// A number from 0 up to, not including, `bound`; 0 when `bound` is 0.
    #[inline]
    pub fn below(&mut self, bound: usize) -> usize {
        if bound == 0 { 0 } else { self.0.usize(..bound) }
    }

    /// A fraction from 0 up to, not including, 1.
    pub fn fraction(&mut self) -> f64 {
        self.0.f64()
    }
}

/// 64 random bits from the operating system, different at each call. (fastrand's own seed is a hash of the time since
/// boot, so two machines that boot in the same way could get the same seed.) The standard library seeds its hashers in
/// this way.
pub fn entropy() -> u64 {
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_throws() {
        let throws = |seed| {
            let mut random = Random::seeded(seed);
            (0..100).map(|_| random.number()).collect::<Vec<_>>()
        };
        assert_eq!(throws(7), throws(7));
        assert_ne!(throws(7), throws(8));
    }

    #[test]
    fn fresh_generators_differ() {
        assert_ne!(entropy(), entropy());
        assert_ne!(Random::fresh().number(), Random::fresh().number());
    }

    #[test]
    fn bounds_hold() {
        let mut random = Random::seeded(1);
        assert_eq!(random.below(0), 0);
        assert!((0..1000).all(|_| random.below(3) < 3));
        assert!((0..1000).all(|_| (0.0..1.0).contains(&random.fraction())));
    }
}
