//! Log-linear ranges of durations: each power of two is divided into equal steps, so that a quantile of a microsecond and one
//! of an hour have the same relative error.

/// The range of a value, where each power of two has `1 << bits` steps: its power of two, and the bits below the highest.
pub fn range_of(value: u64, bits: u32) -> usize {
    let steps = 1 << bits;
    if value < steps {
        return value as usize;
    }
    let octave = value.ilog2();
    let step = (value >> (octave - bits)) & (steps - 1);
    (u64::from(octave - bits + 1) * steps + step) as usize
}

/// The lowest value of a range, and how many values it has.
pub fn bounds(range: usize, bits: u32) -> (u64, u64) {
    let (steps, range) = (1 << bits, range as u64);
    if range < steps {
        return (range, 1);
    }
    let width = 1 << (range / steps - 1);
    ((steps + range % steps) * width, width)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bits: u32) {
        let mut last = 0;
        for value in 0..1_000_000 {
            let range = range_of(value, bits);
            let (low, width) = bounds(range, bits);
            assert!(range == last || range == last + 1, "{value} with {bits} bits");
            assert!((low..low + width).contains(&value), "{value} in {range} with {bits} bits");
            last = range;
        }
    }

    #[test]
    fn ranges_are_contiguous_and_have_their_values() {
        [2, 4].into_iter().for_each(check);
        assert_eq!(bounds(range_of(u64::MAX, 4), 4), (31 << 59, 1 << 59));
    }
}
