//! Writes whole lines to a descriptor that may fail in the middle of one: after a truncated line the next one starts on
//! a new line, and lost lines are counted.

use std::io;

/// Whether the output so far ends in the middle of a line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lines {
    torn: bool,
}

/// Lines that could not be written, and why.
#[derive(Debug)]
pub struct Lost {
    /// How many, including the truncated one.
    pub lines: u64,
    /// The error of the write that failed.
    pub error: io::Error,
}

impl Lines {
    /// For a file whose last byte is not a line end.
    pub const fn torn() -> Self {
        Lines { torn: true }
    }

    /// Writes `bytes`, which are whole lines, with as many calls of `write` as needed. Stops at the first error.
    pub fn write(
        &mut self,
        bytes: &[u8],
        mut write: impl FnMut(&[u8]) -> io::Result<usize>,
    ) -> Result<(), Lost> {
        let lost = |rest: &[u8], error| Lost { lines: count(rest), error };
        if self.torn {
            put(b"\n", &mut write).map_err(|(_, error)| lost(bytes, error))?;
            self.torn = false;
        }
        put(bytes, &mut write).map_err(|(written, error)| {
            self.torn = bytes[..written].last().is_some_and(|last| *last != b'\n');
            lost(&bytes[written..], error)
        })
    }
}

/// The number of line ends in these bytes.
pub fn count(bytes: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', bytes).count() as u64
}

/// Writes everything, or returns how much was written before the error.
fn put(bytes: &[u8], write: &mut impl FnMut(&[u8]) -> io::Result<usize>) -> Result<(), (usize, io::Error)> {
    let mut at = 0;
    while at < bytes.len() {
        match write(&bytes[at..]) {
            Ok(0) => return Err((at, io::ErrorKind::WriteZero.into())),
            Ok(count) => at += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err((at, error)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes each batch to a sink with a limited capacity per batch; checks the content of the sink, and how many
    /// lines each batch lost.
    #[track_caller]
    fn check(rooms: &[usize], expected: &str, lost: &[u64]) {
        let (mut lines, mut sink, mut told) = (Lines::default(), Vec::new(), Vec::new());
        for (at, room) in rooms.iter().enumerate() {
            let mut room = *room;
            let batch = format!("{at}-one\n{at}-two\n");
            let outcome = lines.write(batch.as_bytes(), |bytes| {
                // Never more than three bytes at once, and an interruption loses nothing.
                let count = bytes.len().min(room).min(3);
                room -= count;
                sink.extend_from_slice(&bytes[..count]);
                if count == 0 { Err(io::ErrorKind::StorageFull.into()) } else { Ok(count) }
            });
            told.push(outcome.map_or_else(|lost| lost.lines, |()| 0));
        }
        assert_eq!((String::from_utf8(sink).unwrap().as_str(), told.as_slice()), (expected, lost));
    }

    #[test]
    fn what_follows_a_line_that_was_cut_begins_on_its_own_line() {
        check(&[99, 99], "0-one\n0-two\n1-one\n1-two\n", &[0, 0]);
        check(&[8, 99], "0-one\n0-\n1-one\n1-two\n", &[1, 0]);
        check(&[6, 99], "0-one\n1-one\n1-two\n", &[1, 0]);
        check(&[0, 99], "1-one\n1-two\n", &[2, 0]);
        check(&[2, 0, 99], "0-\n2-one\n2-two\n", &[2, 2, 0]);
        check(&[2, 1, 99], "0-\n2-one\n2-two\n", &[2, 2, 0]);
        check(&[12, 3, 99], "0-one\n0-two\n1-o\n2-one\n2-two\n", &[0, 2, 0]);
    }

    #[test]
    fn an_interrupted_write_is_made_again_and_one_that_takes_nothing_fails() {
        let mut calls = 0;
        let outcome = Lines::torn().write(b"x\n", |bytes| {
            calls += 1;
            if calls % 2 == 1 { Err(io::ErrorKind::Interrupted.into()) } else { Ok(bytes.len()) }
        });
        assert!(outcome.is_ok() && calls == 4, "{calls} calls");
        let lost = Lines::default().write(b"x\ny\n", |_| Ok(0)).unwrap_err();
        assert_eq!((lost.lines, lost.error.kind()), (2, io::ErrorKind::WriteZero));
    }
}
