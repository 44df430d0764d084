//! As much of HPACK (RFC 7541) as a question for a server's health needs: literals to send, and a response of which three
//! headers matter. The dynamic table is switched off by our SETTINGS, so none is kept.

/// What a response's headers are read for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Fields {
    /// `:status`.
    pub(super) status: Option<u16>,
    /// `grpc-status`.
    pub(super) grpc_status: Option<u32>,
    /// `grpc-message`, as it was sent.
    pub(super) grpc_message: Option<Vec<u8>>,
}

/// The names of the static table that are sent or read.
pub(super) const AUTHORITY: usize = 1;
pub(super) const METHOD_POST: usize = 3;
pub(super) const PATH: usize = 4;
pub(super) const SCHEME_HTTP: usize = 6;
pub(super) const SCHEME_HTTPS: usize = 7;
pub(super) const CONTENT_TYPE: usize = 31;
pub(super) const USER_AGENT: usize = 58;

/// The entries of the static table that are `:status`, from index 8 on.
const STATUSES: [u16; 7] = [200, 204, 206, 304, 400, 404, 500];
/// The last index of the static table.
const STATIC_MAX: usize = 61;

/// Writes a header of the static table.
pub(super) fn indexed(block: &mut Vec<u8>, index: usize) {
    integer(block, 0x80, 7, index);
}

/// Writes a header whose name is in the static table.
pub(super) fn with_static_name(block: &mut Vec<u8>, index: usize, value: &str) {
    integer(block, 0, 4, index);
    string(block, value);
}

/// Writes a header as literals.
pub(super) fn literal(block: &mut Vec<u8>, name: &str, value: &str) {
    block.push(0);
    string(block, name);
    string(block, value);
}

fn string(block: &mut Vec<u8>, text: &str) {
    integer(block, 0, 7, text.len());
    block.extend_from_slice(text.as_bytes());
}

/// An integer in what the first bits leave of a byte, and in more bytes if need be (section 5.1).
fn integer(block: &mut Vec<u8>, first: u8, bits: u8, value: usize) {
    let most = (1_usize << bits) - 1;
    if value < most {
        return block.push(first | value as u8);
    }
    block.push(first | most as u8);
    let mut rest = value - most;
    while rest >= 128 {
        block.push((rest % 128) as u8 | 0x80);
        rest /= 128;
    }
    block.push(rest as u8);
}

/// Reads a header block; what is found is added to the fields. The error says what is wrong.
pub(super) fn read(block: &[u8], fields: &mut Fields) -> Result<(), &'static str> {
    let mut left = Block(block);
    while let Some(first) = left.0.first().copied() {
        match first {
            0x80.. => {
                let index = left.integer(7)?;
                match index {
                    8..=14 => fields.status = Some(STATUSES[index - 8]),
                    1..=STATIC_MAX => {}
                    _ => return Err("it refers to a table of headers that was switched off"),
                }
            }
            0x20..0x40 => _ = left.integer(5)?,
            _ => {
                let name = left.name(if first >= 0x40 { 6 } else { 4 })?;
                let value = left.string()?;
                fields.take(&name, value);
            }
        }
    }
    Ok(())
}

impl Fields {
    fn take(&mut self, name: &[u8], value: Vec<u8>) {
        let number = || std::str::from_utf8(&value).ok();
        match name {
            b":status" => self.status = number().and_then(|text| text.parse().ok()),
            b"grpc-status" => self.grpc_status = number().and_then(|text| text.parse().ok()),
            b"grpc-message" => self.grpc_message = Some(value),
            _ => {}
        }
    }
}

/// What is left of a header block.
struct Block<'b>(&'b [u8]);

const SHORT: &str = "its headers end too soon";

impl Block<'_> {
    fn byte(&mut self) -> Result<u8, &'static str> {
        let (first, rest) = self.0.split_first().ok_or(SHORT)?;
        self.0 = rest;
        Ok(*first)
    }

    fn integer(&mut self, bits: u8) -> Result<usize, &'static str> {
        let most = (1_usize << bits) - 1;
        let first = usize::from(self.byte()?) & most;
        if first < most {
            return Ok(first);
        }
        let mut value = most;
        // Four more bytes hold more than any length here.
        for shift in [0, 7, 14, 21] {
            let byte = self.byte()?;
            value += usize::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err("a number in its headers is too large")
    }

    /// The name of a literal; empty for one of the static table that does not matter.
    fn name(&mut self, bits: u8) -> Result<Vec<u8>, &'static str> {
        match self.integer(bits)? {
            0 => self.string(),
            8..=14 => Ok(b":status".to_vec()),
            1..=STATIC_MAX => Ok(Vec::new()),
            _ => Err("it refers to a table of headers that was switched off"),
        }
    }

    fn string(&mut self) -> Result<Vec<u8>, &'static str> {
        let is_huffman = self.0.first().is_some_and(|first| *first >= 0x80);
        let length = self.integer(7)?;
        let (text, rest) = self.0.split_at_checked(length).ok_or(SHORT)?;
        self.0 = rest;
        if is_huffman { huffman(text) } else { Ok(text.to_vec()) }
    }
}

/// The lengths in bits of the codes of all bytes (RFC 7541, appendix B). The code is canonical: codes of one length follow
/// each other in the order of the bytes, so lengths say all.
const LENGTHS: [u8; 256] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28,
    28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6,
    6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7,
    8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7,
    15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24,
    23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23,
    23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26,
    26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20,
    21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27,
    27, 27, 26,
];
/// The longest code.
const LENGTH_MAX: usize = 30;

/// Decodes a Huffman-coded text. Bit by bit: a probe reads a few headers.
fn huffman(coded: &[u8]) -> Result<Vec<u8>, &'static str> {
    let mut bytes: Vec<u8> = (0..=255).collect();
    bytes.sort_by_key(|byte| LENGTHS[usize::from(*byte)]);
    let mut of_length = [0_u32; LENGTH_MAX + 1];
    LENGTHS.iter().for_each(|length| of_length[usize::from(*length)] += 1);
    let (mut text, mut walk) = (Vec::new(), Walk::default());
    for bit in coded.iter().flat_map(|byte| (0..8).rev().map(move |at| u32::from(byte >> at & 1))) {
        walk.code = walk.code << 1 | bit;
        walk.first <<= 1;
        walk.length += 1;
        let count = *of_length.get(walk.length).ok_or("its headers are not Huffman-coded as they say")?;
        if walk.code - walk.first < count {
            text.push(bytes[(walk.before + walk.code - walk.first) as usize]);
            walk = Walk::default();
        } else {
            walk.first += count;
            walk.before += count;
        }
    }
    // The rest is padding.
    Ok(text)
}

/// A code that is being read, against the canonical codes of its length.
#[derive(Default)]
struct Walk {
    length: usize,
    code: u32,
    /// The first code of this length.
    first: u32,
    /// Bytes with shorter codes.
    before: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<u32> = hex.chars().filter_map(|char| char.to_digit(16)).collect();
        digits.chunks(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect()
    }

    #[test]
    fn the_examples_of_the_rfc_are_decoded() {
        for (coded, text) in [
            ("f1e3c2e5f23a6ba0ab90f4ff", "www.example.com"),
            ("a8eb10649cbf", "no-cache"),
            ("25a849e95ba97d7f", "custom-key"),
            ("25a849e95bb8e8b4bf", "custom-value"),
            ("d07abe941054d444a8200595040b8166e082a62d1bff", "Mon, 21 Oct 2013 20:13:21 GMT"),
        ] {
            assert_eq!(huffman(&bytes(coded)).as_deref(), Ok(text.as_bytes()));
        }
    }

    #[test]
    fn responses_are_read_and_broken_ones_are_not() {
        let read_all = |block: &str| {
            let mut fields = Fields::default();
            read(&bytes(block), &mut fields).map(|()| fields)
        };
        // :status 302, Huffman-coded (RFC 7541, C.6.1), beside what does not matter; then a literal name.
        let found = read_all("48 82 6402 58 85 aec3771a4b").unwrap();
        assert_eq!(found.status, Some(302));
        let mut block = vec![0x20, 0x88];
        literal(&mut block, "grpc-status", "12");
        literal(&mut block, "grpc-message", &"x".repeat(300));
        let mut fields = Fields::default();
        read(&block, &mut fields).unwrap();
        assert_eq!((fields.status, fields.grpc_status), (Some(200), Some(12)));
        assert_eq!(fields.grpc_message.map(|message| message.len()), Some(300));
        assert!(read_all("be").unwrap_err().contains("switched off"), "a dynamic entry");
        for broken in ["48", "4883 64", "7f ffffffffff", "00 ff", "00 85 ffffffffff 00", "80"] {
            assert!(read_all(broken).is_err(), "{broken}");
        }
        for length in 0..=block.len() {
            let _ = read(&block[..length], &mut Fields::default());
        }
    }

    #[test]
    fn integers_have_any_length() {
        for value in [0, 1, 14, 15, 126, 127, 128, 254, 255, 1_337, 60_000] {
            let mut block = Vec::new();
            integer(&mut block, 0, 4, value);
            assert_eq!(Block(&block).integer(4), Ok(value));
        }
    }
}
