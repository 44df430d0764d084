//! Decodes chunked bodies (RFC 9112 section 7.1) as far as needed to find their end.

use super::response::Fault;

/// The longest size line, with its extensions, and the longest trailer section.
const LINE_MAX: u32 = 8 << 10;

/// A chunked body as it is received.
#[derive(Debug)]
pub(super) struct Chunked {
    at: At,
    /// Bytes of the current size line or trailer section.
    seen: u32,
}

#[derive(Clone, Copy, Debug)]
enum At {
    Size {
        value: u64,
        digits: u32,
    },
    Extension {
        value: u64,
    },
    SizeEnd {
        value: u64,
    },
    Data {
        left: u64,
    },
    DataReturn,
    DataEnd,
    /// At the start of a line of the trailer section; an empty one is the end.
    TrailerStart,
    TrailerLine,
    TrailerLineEnd,
    LastEnd,
}

impl Chunked {
    pub(super) fn new() -> Self {
        Chunked { at: At::Size { value: 0, digits: 0 }, seen: 0 }
    }

    /// Takes bytes, and passes on those that are data; returns the number used if they end the body.
    pub(super) fn feed(&mut self, bytes: &[u8], mut data: impl FnMut(&[u8])) -> Result<Option<usize>, Fault> {
        let mut from = 0;
        while from < bytes.len() {
            if let At::Data { left } = self.at {
                let here = left.min((bytes.len() - from) as u64);
                data(&bytes[from..from + here as usize]);
                from += here as usize;
                self.at = if left == here { At::DataReturn } else { At::Data { left: left - here } };
                continue;
            }
            let ended = self.step(bytes[from])?;
            from += 1;
            if ended {
                return Ok(Some(from));
            }
        }
        Ok(None)
    }

    /// Takes one byte that is not data; returns true when it was the last of the body.
    fn step(&mut self, byte: u8) -> Result<bool, Fault> {
        self.seen += 1;
        if self.seen > LINE_MAX {
            return Err(Fault::Chunk);
        }
        self.at = match (self.at, byte) {
            (At::Size { value, digits }, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') if digits < 15 => {
                At::Size { value: value * 16 + hex(byte), digits: digits + 1 }
            }
            (At::Size { value, digits: 1.. }, b'\r') => At::SizeEnd { value },
            (At::Size { value, digits: 1.. }, b';' | b' ' | b'\t') => At::Extension { value },
            (At::Extension { value }, b'\r') => At::SizeEnd { value },
            (At::Extension { value }, b'\t' | b' '..=b'~' | 0x80..) => At::Extension { value },
            (At::SizeEnd { value: 0 }, b'\n') => self.next_line(At::TrailerStart),
            (At::SizeEnd { value }, b'\n') => self.next_line(At::Data { left: value }),
            (At::DataReturn, b'\r') => At::DataEnd,
            (At::DataEnd, b'\n') => self.next_line(At::Size { value: 0, digits: 0 }),
            (At::TrailerStart, b'\r') => At::LastEnd,
            (At::TrailerLine, b'\r') => At::TrailerLineEnd,
            (At::TrailerStart | At::TrailerLine, b'\t' | b' '..=b'~' | 0x80..) => At::TrailerLine,
            (At::TrailerLineEnd, b'\n') => At::TrailerStart,
            (At::LastEnd, b'\n') => return Ok(true),
            _ => return Err(Fault::Chunk),
        };
        Ok(false)
    }

    fn next_line(&mut self, at: At) -> At {
        self.seen = 0;
        at
    }
}

fn hex(digit: u8) -> u64 {
    u64::from(match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => digit - b'A' + 10,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_found_and_nothing_after_it_is_used() {
        let check = |text: &str, end, data: &str| {
            let mut passed = Vec::new();
            let fed = Chunked::new().feed(text.as_bytes(), |bytes| passed.extend_from_slice(bytes));
            assert_eq!((fed, passed.as_slice()), (end, data.as_bytes()), "{text}");
        };
        check("0\r\n\r\n", Ok(Some(5)), "");
        check("5\r\nhello\r\n0\r\n\r\nHTTP/1.1", Ok(Some(15)), "hello");
        let extended = "A ;x=\"y\"\r\n0123456789\r\n00\r\nTrailer: 1\r\nOther: 2\r\n\r\n";
        check(extended, Ok(Some(50)), "0123456789");
        check("5\r\nhel", Ok(None), "hel");
    }

    #[test]
    fn what_is_not_a_chunk_is_rejected() {
        let check = |text: &str| {
            assert_eq!(Chunked::new().feed(text.as_bytes(), |_| {}), Err(Fault::Chunk), "{text}")
        };
        check("\r\n");
        check("+5\r\nhello\r\n");
        check("0x5\r\n");
        check("5\nhello");
        check("5\r\nhelloX");
        check("5\r\nhello\n");
        check("1000000000000000\r\n");
        check("5;a\nb\r\n");
        check(&format!("5;{}\r\n", "x".repeat(9000)));
        check(&format!("0\r\n{}", "X: 1\r\n".repeat(2000)));
    }
}
