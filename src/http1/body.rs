//! Bodies without IO: where they end, and the chunked coding in both directions (RFC 9112 section 7.1).

use super::extension::Extension;
use super::fields::Fields;
use super::framing::Framing;
use super::reason::Reason;
use super::trailers::Trailers;
use std::ops::Range;

/// The most bytes of extensions that one chunk may carry.
const EXTENSION_MAX: u32 = 4096;

/// The most bytes of extensions in excess of the payload. Each byte of payload allows one more byte of extensions, so
/// that long streams may continue to use them, but tiny chunks may not consist of overhead alone.
const EXTENSIONS_AHEAD_MAX: u64 = 16 * 1024;

/// Parses one body from its first byte to its end. Faults are the sender's: [`Reason::BadChunk`] and
/// [`Reason::TrailersTooLarge`]; for a server's body the caller treats them as a truncated response. After a fault
/// every further step returns it again.
#[derive(Debug)]
pub struct Body {
    state: State,
    /// Bytes of extensions in excess of the payload.
    extensions_ahead: u64,
    /// No payload has come, and none is announced.
    is_empty: bool,
    /// White space is allowed between a chunk's size and its line end.
    padded: bool,
    /// Made when the section begins; few bodies have one.
    trailers: Option<Box<Trailers>>,
}

/// What the next byte is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// This many bytes of payload follow.
    Length(u64),
    /// Payload until the peer closes.
    UntilClose,
    /// A hex digit, or what comes after the last.
    Size {
        digits: u8,
        size: u64,
    },
    /// After the size, before the end of its line; this many bytes of it.
    Extension {
        size: u64,
        count: u32,
        at: Extension,
    },
    /// The LF of a size line.
    SizeEnd {
        size: u64,
    },
    /// This many bytes of a chunk follow, more than 0.
    Data(u64),
    /// The CR after a chunk's data.
    DataCr,
    /// The LF after it.
    DataLf,
    /// The trailer section.
    Trailers,
    Done,
    Broken(Reason),
}

/// The result of one step through the input.
#[derive(Debug, PartialEq, Eq)]
pub struct Step<'i> {
    /// Bytes of the input that are processed.
    pub consumed: usize,
    /// The payload among them: one contiguous piece, possibly empty.
    pub data: &'i [u8],
}

impl Body {
    /// A body at its first byte. [`RequestHead::body`](super::head::RequestHead::body) and
    /// [`ResponseHead::body`](super::head::ResponseHead::body) create one that also knows which trailers its head has
    /// excluded.
    pub fn new(framing: Framing) -> Self {
        let state = match framing {
            Framing::None | Framing::Length(0) => State::Done,
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::Size { digits: 0, size: 0 },
            Framing::UntilClose => State::UntilClose,
        };
        let is_empty = !matches!(state, State::Length(_));
        Body { state, extensions_ahead: 0, is_empty, padded: false, trailers: None }
    }

    /// Drops trailers that Connection names in the head of this message: they are for one hop alone (RFC 9110 section
    /// 7.6.1). Costs nothing unless the body may have trailers.
    pub fn forbid(&mut self, head: &Fields<'_, '_>) {
        if matches!(self.state, State::Size { .. }) {
            self.trailers = Trailers::forbidding(head).map(Box::new);
        }
    }

    /// Drops all trailers, which a recipient may (RFC 9110 section 6.5.1).
    pub fn drop_trailers(&mut self) {
        if matches!(self.state, State::Size { .. }) {
            self.trailers = Some(Box::new(Trailers::none()));
        }
    }

    /// Accepts chunk sizes padded with white space, as some servers send them. What is forwarded is framed again, so no
    /// other reader can misread it; from a client it stays an error.
    pub fn allow_padding(&mut self) {
        self.padded = true;
    }

    /// Takes as much of `input` as possible: at most one piece of payload per call. Call again while bytes remain,
    /// `consumed` > 0 and not `is_done`. Bytes after the end of the body are never consumed.
    pub fn step<'i>(&mut self, input: &'i [u8]) -> Result<Step<'i>, Reason> {
        let (consumed, data) = self.advance(input)?;
        Ok(Step { consumed, data: input.get(data).unwrap_or_default() })
    }

    /// Decodes all of `bytes` in place: payload is moved to the front. Returns (consumed, payload length). Stops at the
    /// end of the body: the bytes from `consumed` on belong to the next message and stay in place.
    pub fn compact(&mut self, bytes: &mut [u8]) -> Result<(usize, usize), Reason> {
        let (mut consumed, mut len) = (0, 0);
        while consumed < bytes.len() && !self.is_done() {
            let (step, data) = self.advance(bytes.get(consumed..).unwrap_or_default())?;
            let data = consumed + data.start..consumed + data.end;
            let data_len = data.len();
            if data.start != len && data_len > 0 {
                bytes.copy_within(data, len);
            }
            len += data_len;
            consumed += step;
        }
        Ok((consumed, len))
    }

    /// The whole body has been seen.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// No payload has been seen so far, and none is announced by a length.
    pub fn is_empty(&self) -> bool {
        self.is_empty
    }

    /// The peer closed: returns whether the body is complete, which is always true for one that lasts until the close.
    pub fn close(&mut self) -> bool {
        if self.state == State::UntilClose {
            self.state = State::Done;
        }
        self.is_done()
    }

    /// Payload bytes that are still to come in a body with a length: for splice.
    pub fn remaining(&self) -> Option<u64> {
        match self.state {
            State::Length(remaining) => Some(remaining),
            State::Done => Some(0),
            _ => None,
        }
    }

    /// `count` payload bytes were transferred in another way (splice), of a body with a length or until the close.
    pub fn skip(&mut self, count: u64) {
        if let State::Length(remaining) = self.state {
            self.state = length_left(remaining.saturating_sub(count));
        }
    }

    /// Trailer lines that may be forwarded, each with CRLF, filtered (RFC 9110 section 6.5.1). Complete once the body
    /// is done.
    pub fn trailers(&self) -> &[u8] {
        self.trailers.as_deref().map_or(&[], Trailers::lines)
    }

    /// A piece of this body's payload as it is passed on: in `chunked` as a chunk, with the end of the body behind it when this is
    /// the last of it. Parts to send one after the other, some of them empty.
    pub fn framed<'a>(
        &'a self,
        chunked: bool,
        payload: &'a [u8],
        room: &'a mut [u8; CHUNK_HEAD_MAX],
    ) -> [&'a [u8]; 6] {
        if !chunked {
            return [b"", payload, b"", b"", b"", b""];
        }
        let [head, tail]: [&[u8]; 2] = if payload.is_empty() {
            [b"", b""]
        } else {
            let from = chunk_head(payload.len(), room);
            [&room[from..], b"\r\n"]
        };
        let [last, trailers, end]: [&[u8]; 3] =
            if self.is_done() { [b"0\r\n", self.trailers(), b"\r\n"] } else { [b"", b"", b""] };
        [head, payload, tail, last, trailers, end]
    }

    /// Advances to the end of the next piece of payload, or of the input.
    fn advance(&mut self, input: &[u8]) -> Result<(usize, Range<usize>), Reason> {
        let mut at = 0;
        while let Some(byte) = input.get(at) {
            match self.state {
                State::Done => break,
                State::Length(_) | State::UntilClose | State::Data(_) => {
                    let end = at + self.payload(input.len() - at);
                    return Ok((end, at..end));
                }
                state => match self.framing_byte(state, *byte) {
                    Ok(next) => self.state = next,
                    Err(reason) => {
                        self.state = State::Broken(reason);
                        return Err(reason);
                    }
                },
            }
            at += 1;
        }
        Ok((at, at..at))
    }

    /// How many of the next `available` bytes are payload; counts them as consumed.
    fn payload(&mut self, available: usize) -> usize {
        self.is_empty = false;
        let take = |left: u64| usize::try_from(left).map_or(available, |left| left.min(available));
        match self.state {
            State::Length(left) => {
                let count = take(left);
                self.state = length_left(left - count as u64);
                count
            }
            State::Data(left) => {
                let count = take(left);
                self.extensions_ahead = self.extensions_ahead.saturating_sub(count as u64);
                let left = left - count as u64;
                self.state = if left == 0 { State::DataCr } else { State::Data(left) };
                count
            }
            _ => available,
        }
    }

    /// The state after one byte of the chunked coding that is not payload.
    fn framing_byte(&mut self, state: State, byte: u8) -> Result<State, Reason> {
        match (state, byte) {
            (State::Size { digits, size }, _) if byte.is_ascii_hexdigit() => size_digit(digits, size, byte),
            (State::Size { digits: 1.., size }, b';') => {
                Ok(State::Extension { size, count: 1, at: Extension::Semicolon })
            }
            (State::Size { digits: 1.., size }, b' ' | b'\t') => {
                Ok(State::Extension { size, count: 1, at: Extension::Blank })
            }
            (State::Size { digits: 1.., size }, b'\r') => Ok(State::SizeEnd { size }),
            (State::Extension { size, at, .. }, b'\r')
                if at.may_end() || self.padded && at == Extension::Blank =>
            {
                Ok(State::SizeEnd { size })
            }
            (State::Extension { size, count, at }, _) => {
                let at = at.next(byte).ok_or(Reason::BadChunk)?;
                self.pay(count).map(|count| State::Extension { size, count, at })
            }
            (State::SizeEnd { size: 0 }, b'\n') => Ok(State::Trailers),
            (State::SizeEnd { size }, b'\n') => Ok(State::Data(size)),
            (State::DataCr, b'\r') => Ok(State::DataLf),
            (State::DataLf, b'\n') => Ok(State::Size { digits: 0, size: 0 }),
            (State::Trailers, _) => {
                let trailers = self.trailers.get_or_insert_default();
                trailers.push(byte).map(|end| if end { State::Done } else { State::Trailers })
            }
            (State::Broken(reason), _) => Err(reason),
            _ => Err(Reason::BadChunk),
        }
    }

    /// One more byte of an extension of `count`.
    fn pay(&mut self, count: u32) -> Result<u32, Reason> {
        self.extensions_ahead += 1;
        if count >= EXTENSION_MAX || self.extensions_ahead > EXTENSIONS_AHEAD_MAX {
            return Err(Reason::BadChunk);
        }
        Ok(count + 1)
    }
}

fn length_left(left: u64) -> State {
    if left == 0 { State::Done } else { State::Length(left) }
}

/// The most digits of a chunk's size. Leading zeros are allowed (RFC 9112 section 7.1), but not unlimited overhead.
const DIGITS_MAX: u8 = 64;

/// One more hex digit; rejected when the size would not fit in 64 bits.
fn size_digit(digits: u8, size: u64, byte: u8) -> Result<State, Reason> {
    if digits == DIGITS_MAX || size >> 60 != 0 {
        return Err(Reason::BadChunk);
    }
    let digit = match byte {
        b'0'..=b'9' => byte - b'0',
        _ => (byte | 0x20) - b'a' + 10,
    };
    Ok(State::Size { digits: digits + 1, size: size << 4 | u64::from(digit) })
}

/// Space for a chunk's size line: sixteen digits and CRLF.
pub const CHUNK_HEAD_MAX: usize = 18;

/// Writes the size line of a chunk right-aligned into `room`; returns where it starts. A chunk of length 0 is
/// the last one: after it come the trailers and an empty line.
pub fn chunk_head(len: usize, room: &mut [u8; CHUNK_HEAD_MAX]) -> usize {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let [digits @ .., cr, lf] = room;
    (*cr, *lf) = (b'\r', b'\n');
    let mut start = digits.len();
    let mut left = len;
    for digit in digits.iter_mut().rev() {
        *digit = HEX[left & 15];
        left >>= 4;
        start -= 1;
        if left == 0 {
            break;
        }
    }
    start
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The expected result: payload, bytes consumed, trailers, whether the body is complete at the end.
    type Outcome<'o> = Result<(&'o str, usize, &'o str, bool), Reason>;

    #[track_caller]
    fn check(framing: Framing, input: &str, expected: Outcome<'_>) {
        for size in [1, 2, 3, 7, usize::MAX] {
            let found = by_steps(framing, input.as_bytes(), size);
            let found = found.as_ref().map(|(data, used, trailers, whole)| {
                (std::str::from_utf8(data).unwrap(), *used, std::str::from_utf8(trailers).unwrap(), *whole)
            });
            assert_eq!(found.map_err(|reason| *reason), expected, "{input:?} in pieces of {size}");
            assert_eq!(
                by_compact(framing, input.as_bytes(), size),
                by_steps(framing, input.as_bytes(), size)
            );
        }
    }

    #[test]
    fn a_body_is_empty_until_payload_comes_or_is_announced() {
        for (framing, input, expected) in [
            (Framing::None, "", true),
            (Framing::Length(0), "", true),
            (Framing::Length(3), "", false),
            (Framing::UntilClose, "", true),
            (Framing::UntilClose, "x", false),
            (Framing::Chunked, "", true),
            (Framing::Chunked, "3\r\n", true),
            (Framing::Chunked, "3\r\na", false),
            (Framing::Chunked, "0\r\n\r\n", true),
        ] {
            let mut body = Body::new(framing);
            let mut left = input.as_bytes();
            while !left.is_empty() && !body.is_done() {
                left = &left[body.step(left).unwrap().consumed..];
            }
            assert_eq!(body.is_empty(), expected, "{framing:?} {input:?}");
        }
    }

    type Found = Result<(Vec<u8>, usize, Vec<u8>, bool), Reason>;

    fn by_steps(framing: Framing, input: &[u8], size: usize) -> Found {
        let mut body = Body::new(framing);
        let (mut data, mut used) = (Vec::new(), 0);
        for mut piece in input.chunks(size.min(input.len().max(1))) {
            while !piece.is_empty() && !body.is_done() {
                let step = body.step(piece)?;
                assert!(step.consumed > 0);
                data.extend_from_slice(step.data);
                used += step.consumed;
                piece = &piece[step.consumed..];
            }
        }
        let whole = body.close();
        Ok((data, used, body.trailers().to_vec(), whole))
    }

    fn by_compact(framing: Framing, input: &[u8], size: usize) -> Found {
        let mut body = Body::new(framing);
        let (mut data, mut used) = (Vec::new(), 0);
        for piece in input.chunks(size.min(input.len().max(1))) {
            let mut room = piece.to_vec();
            let (consumed, len) = body.compact(&mut room)?;
            assert_eq!(room[consumed..], piece[consumed..], "left-over bytes stay");
            data.extend_from_slice(&room[..len]);
            used += consumed;
        }
        let whole = body.close();
        Ok((data, used, body.trailers().to_vec(), whole))
    }

    #[test]
    fn bodies_with_a_length_and_without() {
        check(Framing::None, "GET", Ok(("", 0, "", true)));
        check(Framing::Length(0), "GET", Ok(("", 0, "", true)));
        check(Framing::Length(3), "abcGET", Ok(("abc", 3, "", true)));
        check(Framing::Length(4), "abc", Ok(("abc", 3, "", false)));
        check(Framing::Length(u64::MAX), "abc", Ok(("abc", 3, "", false)));
        check(Framing::UntilClose, "abc", Ok(("abc", 3, "", true)));
        check(Framing::UntilClose, "", Ok(("", 0, "", true)));
    }

    #[test]
    fn chunks() {
        check(Framing::Chunked, "0\r\n\r\n", Ok(("", 5, "", true)));
        check(Framing::Chunked, "3\r\nabc\r\n0\r\n\r\nGET", Ok(("abc", 13, "", true)));
        check(
            Framing::Chunked,
            "A\r\n0123456789\r\n1\r\n!\r\n000\r\n\r\n",
            Ok(("0123456789!", 28, "", true)),
        );
        check(
            Framing::Chunked,
            "00000000000000a\r\n0123456789\r\n0\r\n\r\n",
            Ok(("0123456789", 34, "", true)),
        );
        check(Framing::Chunked, "2\r\n\r\n\r\n0\r\n\r\n", Ok(("\r\n", 12, "", true)));
        check(Framing::Chunked, "1;a=b\r\nx\r\n0;c=\"d;e\"\r\n\r\n", Ok(("x", 23, "", true)));
        check(Framing::Chunked, "1 \t; a\r\nx\r\n0\r\n\r\n", Ok(("x", 16, "", true)));
        check(Framing::Chunked, "0\r\nA: 1\r\nHost: b\r\n\r\nGET", Ok(("", 20, "A: 1\r\n", true)));
        check(Framing::Chunked, "00000000000000000000001\r\nx\r\n0\r\n\r\n", Ok(("x", 33, "", true)));
        check(Framing::Chunked, &format!("{}\r\n\r\n", "0".repeat(64)), Ok(("", 68, "", true)));
        check(Framing::Chunked, &format!("{}\r\n\r\n", "0".repeat(65)), Err(Reason::BadChunk));
        check(Framing::Chunked, "ffffffffffffffff\r\nabc", Ok(("abc", 21, "", false)));
        for cut in [
            "",
            "3",
            "3\r",
            "3\r\n",
            "3\r\nab",
            "3\r\nabc",
            "3\r\nabc\r\n",
            "3\r\nabc\r\n0\r\n",
            "3\r\nabc\r\n0\r\n\r",
        ] {
            let data = if cut.len() > 5 { "abc" } else { cut.get(3..).unwrap_or("") };
            check(Framing::Chunked, cut, Ok((data, cut.len(), "", false)));
        }
    }

    #[test]
    fn broken_chunks() {
        let bad_sizes = [
            "\r\n", ";a\r\n", "+5\r\n", "-1\r\n", "0x5\r\n", " 5\r\n", "5 \r\n", "5\n", "5\r5", "g\r\n",
            "5_0\r\n",
        ];
        let bad_data = ["1\r\nxy\r\n", "1\r\nx\n", "1\r\nx\r\r", "1\r\nx0\r\n\r\n", "3\r\nabc0\r\n\r\n"];
        let bad_extensions = [
            "1;\n",
            "1;\0\r\n",
            "1;a\rb\r\n",
            "1;\u{7f}\r\n",
            "1 a\r\n",
            "1;a\nb\r\n",
            "1;\r\n",
            "1;a=\r\n",
            "1;;a\r\n",
            "1;a=\"\r\n",
        ];
        let bad_ends = [
            "0\n\n",
            "0\r\n\n",
            "0\r\nA\r\n\r\n",
            "0\r\n\rX",
            "10000000000000000\r\n",
            "00010000000000000000\r\n",
            "FFFFFFFFFFFFFFFF0\r\n",
            "0FFFFFFFFFFFFFFFFF\r\n",
        ];
        for bad in [&bad_sizes[..], &bad_data, &bad_extensions, &bad_ends].concat() {
            check(Framing::Chunked, bad, Err(Reason::BadChunk));
        }
    }

    #[test]
    fn extensions_and_trailers_are_bounded() {
        let line = |len: usize| format!("1;{}\r\nx\r\n", "e".repeat(len));
        check(
            Framing::Chunked,
            &line(EXTENSION_MAX as usize - 1),
            Ok(("x", EXTENSION_MAX as usize + 6, "", false)),
        );
        check(Framing::Chunked, &line(EXTENSION_MAX as usize), Err(Reason::BadChunk));
        check(Framing::Chunked, &line(1000).repeat(17), Err(Reason::BadChunk));
        let paid = format!("3e8;{}\r\n{}\r\n", "e".repeat(1000), "x".repeat(1000));
        let count = paid.len() * 40;
        check(Framing::Chunked, &paid.repeat(40), Ok((&"x".repeat(40_000), count, "", false)));
        check(Framing::Chunked, &format!("0\r\nA: {}", "a".repeat(9000)), Err(Reason::TrailersTooLarge));
    }

    #[test]
    fn a_fault_stays() {
        let mut body = Body::new(Framing::Chunked);
        assert_eq!(body.step(b"x"), Err(Reason::BadChunk));
        assert_eq!(body.step(b"0\r\n\r\n"), Err(Reason::BadChunk));
        assert!(!body.is_done() && !body.close());
    }

    #[test]
    fn bytes_that_went_another_way_are_counted() {
        let mut body = Body::new(Framing::Length(10));
        assert_eq!(body.remaining(), Some(10));
        body.skip(4);
        assert_eq!((body.remaining(), body.is_done()), (Some(6), false));
        body.skip(6);
        assert_eq!((body.remaining(), body.is_done()), (Some(0), true));
        assert_eq!(Body::new(Framing::Chunked).remaining(), None);
        assert_eq!(Body::new(Framing::UntilClose).remaining(), None);
    }

    #[test]
    fn chunk_heads() {
        let check = |len: usize| {
            let mut room = [0; CHUNK_HEAD_MAX];
            let start = chunk_head(len, &mut room);
            assert_eq!(room[start..], *format!("{len:x}\r\n").as_bytes());
        };
        [0, 1, 9, 10, 15, 16, 255, 65_536, usize::MAX].into_iter().for_each(check);
    }
}
