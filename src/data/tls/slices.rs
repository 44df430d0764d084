//! A message in several places, taken in pieces of a record's size.

use std::io::IoSlice;

/// The most pieces of a message that are encrypted together; a message has seven.
const PIECES: usize = 8;

/// What is left of some slices.
pub(super) struct Slices<'a> {
    parts: &'a [IoSlice<'a>],
    /// Bytes of the first one that are done with.
    skipped: usize,
    some: [IoSlice<'a>; PIECES],
}

impl<'a> Slices<'a> {
    pub(super) fn of(parts: &'a [IoSlice<'a>]) -> Self {
        Slices { parts, skipped: 0, some: [IoSlice::new(&[]); PIECES] }
    }

    /// The next bytes, at most so many.
    pub(super) fn take(&mut self, most: usize) -> &[IoSlice<'a>] {
        let (mut left, mut count, mut skipped) = (most, 0, self.skipped);
        for part in self.parts {
            if left == 0 || count == PIECES {
                break;
            }
            let part: &'a [u8] = part;
            let rest = part.get(skipped..).unwrap_or_default();
            skipped = skipped.saturating_sub(part.len());
            let rest = &rest[..rest.len().min(left)];
            if !rest.is_empty() {
                self.some[count] = IoSlice::new(rest);
                (count, left) = (count + 1, left - rest.len());
            }
        }
        &self.some[..count]
    }

    /// So many bytes are done with; false when they were not all that was taken last.
    pub(super) fn advance(&mut self, count: usize) -> bool {
        self.skipped += count;
        while let Some(first) = self.parts.first().filter(|first| first.len() <= self.skipped) {
            self.skipped -= first.len();
            self.parts = &self.parts[1..];
        }
        count > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_taken_in_order_whatever_their_sizes() {
        let parts = [&b"abc"[..], b"", b"defgh", b"i"].map(IoSlice::new);
        for most in 1..12 {
            let mut rest = Slices::of(&parts);
            let mut all = Vec::new();
            loop {
                let some = rest.take(most);
                let count: usize = some.iter().map(|part| part.len()).sum();
                assert!(count <= most);
                some.iter().for_each(|part| all.extend_from_slice(part));
                if !rest.advance(count) {
                    break;
                }
            }
            assert_eq!(all, b"abcdefghi", "{most} at once");
        }
    }
}
