//! Names for things: numbers that are never mixed up.

use std::fmt;

/// A server of the table. Given once, in order, and never to another server again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerId(pub u32);

/// Identifies one request in answers, logs and to the server (`X-Request-Id`). 128 bits of chance and
/// order, written as 32 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestId(u128);

impl RequestId {
    /// An id from a per-process half and a per-request half.
    pub const fn new(process: u64, request: u64) -> Self {
        RequestId(((process as u128) << 64) | request as u128)
    }

    /// The 32 lower-case hex digits.
    pub fn digits(self) -> [u8; 32] {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let mut digits = [0; 32];
        for (at, digit) in digits.iter_mut().enumerate() {
            *digit = HEX[(self.0 >> (124 - 4 * at)) as usize & 15];
        }
        digits
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:032x}", self.0)
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_and_display_agree() {
        for id in
            [RequestId::new(0, 0), RequestId::new(u64::MAX, 1), RequestId::new(0x0123_4567_89ab_cdef, 42)]
        {
            assert_eq!(id.to_string().as_bytes(), id.digits());
        }
        assert_eq!(RequestId::new(1, 2).to_string(), "00000000000000010000000000000002");
    }
}
