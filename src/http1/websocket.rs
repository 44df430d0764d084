//! Where the frames of a WebSocket end (RFC 6455 section 5.2), and the frame that closes one.

/// The longest frame header without the masking key: two bytes and an extended length of eight.
const HEAD_MAX: usize = 10;
/// Bytes of a masking key.
const MASK_BYTES: u64 = 4;
/// The opcode of a close frame.
const CLOSE: u8 = 0x8;
/// The status of a close frame for an endpoint that is "going away", such as a server that stops (section 7.4.1).
const GOING_AWAY: u16 = 1001;

/// Follows one direction of a WebSocket: it looks at frame headers and counts payload bytes, and keeps none of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Frames {
    head: [u8; HEAD_MAX],
    /// Bytes of `head` that have come; 0 within a payload.
    have: usize,
    /// Bytes of the masking key and the payload that are still to come.
    left: u64,
    /// The frame that is on its way, or was the last one, is a close frame.
    closing: bool,
    /// The bytes are no frames.
    lost: bool,
}

impl Frames {
    /// Follows these bytes.
    pub fn follow(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let end = self.first_end(bytes);
            bytes = bytes.get(end..).unwrap_or_default();
        }
    }

    /// Follows these bytes up to the first end of a frame in them, or all of them; how many that were.
    pub fn first_end(&mut self, bytes: &[u8]) -> usize {
        let mut at = 0;
        while at < bytes.len() && !self.lost {
            if self.left > 0 {
                let count = self.left.min((bytes.len() - at) as u64);
                self.left -= count;
                at += count as usize;
            } else if let (0, Some(head)) = (self.have, bytes[at..].first_chunk()) {
                at += self.begin(head);
            } else {
                self.head_byte(bytes[at]);
                at += 1;
            }
            if self.is_between() {
                return at;
            }
        }
        bytes.len()
    }

    /// Whether the next byte would begin a frame. Never true once the bytes were no frames.
    pub fn is_between(&self) -> bool {
        self.have == 0 && self.left == 0 && !self.lost
    }

    /// Whether a close frame has come whole: no other frame may follow.
    pub fn is_closed(&self) -> bool {
        self.closing && self.is_between()
    }

    /// One more byte of a header that comes in pieces.
    fn head_byte(&mut self, byte: u8) {
        self.head[self.have] = byte;
        self.have += 1;
        if self.have >= 2 && self.have == head_len(self.head[1]) {
            self.begin(&self.head.clone());
        }
    }

    /// A frame begins with this header; its length without the masking key.
    fn begin(&mut self, head: &[u8; HEAD_MAX]) -> usize {
        let whole = head_len(head[1]);
        let length = match head[1] & 0x7f {
            126 | 127 => head[2..whole].iter().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte)),
            code => u64::from(code),
        };
        let mask = if head[1] & 0x80 != 0 { MASK_BYTES } else { 0 };
        // The most significant bit must be 0 (so the sum fits, too), and behind a close frame there is nothing.
        self.lost = length >> 63 != 0 || self.closing;
        self.closing = head[0] & 0xf == CLOSE;
        (self.have, self.left) = (0, if self.lost { 0 } else { length + mask });
        whole
    }
}

/// The length of a header with this second byte, without the masking key.
fn head_len(second: u8) -> usize {
    match second & 0x7f {
        126 => 4,
        127 => HEAD_MAX,
        _ => 2,
    }
}

/// A close frame that says "going away": with a masking key for one that goes to a server, without for a client.
pub fn going_away(mask: Option<[u8; 4]>) -> Vec<u8> {
    let payload = GOING_AWAY.to_be_bytes();
    let mut frame = vec![0x80 | CLOSE, payload.len() as u8];
    match mask {
        None => frame.extend_from_slice(&payload),
        Some(mask) => {
            frame[1] |= 0x80;
            frame.extend_from_slice(&mask);
            frame.extend(payload.iter().zip(mask).map(|(byte, key)| byte ^ key));
        }
    }
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(first: u8, mask: bool, len: usize) -> Vec<u8> {
        let bit = if mask { 0x80 } else { 0 };
        let mut frame = vec![first];
        match len {
            0..126 => frame.push(bit | len as u8),
            126..65_536 => {
                frame.push(bit | 126);
                frame.extend_from_slice(&(len as u16).to_be_bytes());
            }
            _ => {
                frame.push(bit | 127);
                frame.extend_from_slice(&(len as u64).to_be_bytes());
            }
        }
        // Bytes that would mean something in a header.
        frame.resize(frame.len() + len + if mask { 4 } else { 0 }, 0x88);
        frame
    }

    /// The ends of frames that are found in these bytes, when they come in pieces of this size.
    fn ends(bytes: &[u8], size: usize) -> Vec<usize> {
        let (mut frames, mut ends, mut at) = (Frames::default(), Vec::new(), 0);
        for mut piece in bytes.chunks(size) {
            while !piece.is_empty() {
                let end = frames.first_end(piece);
                at += end;
                piece = &piece[end..];
                if frames.is_between() {
                    ends.push(at);
                }
            }
        }
        ends
    }

    #[test]
    fn ends_are_found_whatever_the_lengths_and_the_pieces() {
        let mut bytes = Vec::new();
        let mut expected = Vec::new();
        for len in [0, 1, 125, 126, 127, 65_535, 65_536, 70_000] {
            for mask in [false, true] {
                bytes.extend(frame(0x82, mask, len));
                expected.push(bytes.len());
            }
        }
        for size in [1, 2, 3, 7, 1000, usize::MAX] {
            assert_eq!(ends(&bytes, size), expected, "in pieces of {size}");
        }
    }

    #[test]
    fn it_is_between_two_frames_and_nowhere_else() {
        let bytes = frame(0x81, true, 3);
        for cut in 0..=bytes.len() {
            let mut frames = Frames::default();
            frames.follow(&bytes[..cut]);
            assert_eq!(frames.is_between(), cut == 0 || cut == bytes.len(), "{cut}");
        }
    }

    #[test]
    fn behind_a_close_frame_there_is_no_frame() {
        let mut frames = Frames::default();
        let close = going_away(Some([1, 2, 3, 4]));
        frames.follow(&close[..close.len() - 1]);
        assert!(!frames.is_closed() && !frames.is_between());
        frames.follow(&close[close.len() - 1..]);
        assert!(frames.is_closed());
        frames.follow(b"x");
        assert!(!frames.is_between());
        frames.follow(&[0; 20]);
        assert!(!frames.is_between() && !frames.is_closed());
    }

    #[test]
    fn what_is_no_frame_has_no_end() {
        let mut frames = Frames::default();
        frames.follow(&[0x82, 127, 0x80, 0, 0, 0, 0, 0, 0, 0]);
        assert!(!frames.is_between());
        assert_eq!(frames.first_end(b"abc"), 3);
        assert!(!frames.is_between() && !frames.is_closed());
    }

    #[test]
    fn the_close_frame_says_going_away() {
        assert_eq!(going_away(None), [0x88, 2, 0x03, 0xe9]);
        assert_eq!(going_away(Some([0xff, 0, 1, 2])), [0x88, 0x82, 0xff, 0, 1, 2, 0xfc, 0xe9]);
    }
}
