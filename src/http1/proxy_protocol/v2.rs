//! Version 2: a binary block (`proxy-protocol.txt` section 2.2).

use super::{PREAMBLE_MAX, Preamble};
use crate::http1::head::Parsed;
use crate::http1::reason::Reason;
use std::net::{IpAddr, SocketAddr};

/// Its first bytes, which no other protocol starts with.
pub(super) const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Signature, version and command, family and transport, length.
const HEADER: usize = 16;

/// Both addresses of the UNIX family.
const UNIX_LEN: usize = 216;

/// The checksum over the whole preamble (section 2.2.3).
const CRC32C: u8 = 0x03;

/// The TLS properties of the connection: it contains TLVs of its own (section 2.2.6).
const SSL: u8 = 0x20;

/// Bytes of an SSL value before its own TLVs.
const SSL_HEAD: usize = 5;

/// The block, once its length shows that it is complete; each byte of its header is checked as soon as it is available.
pub(super) fn parse(bytes: &[u8]) -> Result<Parsed<Preamble>, Reason> {
    let Some(command) = bytes.get(12) else { return Ok(Parsed::Partial) };
    let local = match command {
        0x20 => true,
        0x21 => false,
        _ => return Err(Reason::BadProxyHeader),
    };
    let Some(family) = bytes.get(13) else { return Ok(Parsed::Partial) };
    // The family of a LOCAL command is to be ignored.
    let family = if local { Family::Unspecified } else { Family::of(*family)? };
    let Some([high, low]) = bytes.get(14..HEADER) else { return Ok(Parsed::Partial) };
    let len = HEADER + usize::from(u16::from_be_bytes([*high, *low]));
    if len > PREAMBLE_MAX || len < HEADER + family.len() {
        return Err(Reason::BadProxyHeader);
    }
    let Some(block) = bytes.get(..len) else { return Ok(Parsed::Partial) };
    understand(family, block).map(Parsed::Complete).ok_or(Reason::BadProxyHeader)
}

/// The kind of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    /// None that we could use, and what follows is ignored.
    Unspecified,
    Inet,
    Inet6,
    Unix,
}

impl Family {
    /// The valid pairs of family and transport. Datagrams are accepted too: a proxy that uses HTTP/3 with the client
    /// sends them.
    fn of(byte: u8) -> Result<Family, Reason> {
        match byte {
            0x00 => Ok(Family::Unspecified),
            0x11 | 0x12 => Ok(Family::Inet),
            0x21 | 0x22 => Ok(Family::Inet6),
            0x31 | 0x32 => Ok(Family::Unix),
            _ => Err(Reason::BadProxyHeader),
        }
    }

    /// Length of the addresses.
    fn len(self) -> usize {
        match self {
            Family::Unspecified => 0,
            Family::Inet => 12,
            Family::Inet6 => 36,
            Family::Unix => UNIX_LEN,
        }
    }
}

/// Interprets a complete block. None when it is not valid.
fn understand(family: Family, block: &[u8]) -> Option<Preamble> {
    let (addresses, extensions) = block.get(HEADER..)?.split_at_checked(family.len())?;
    let (source, destination) = match family {
        Family::Unspecified | Family::Unix => (None, None),
        Family::Inet => ends::<4>(addresses)?,
        Family::Inet6 => ends::<16>(addresses)?,
    };
    if family != Family::Unspecified {
        check_extensions(block, extensions)?;
    }
    Some(Preamble { source, destination, len: block.len() })
}

/// Two addresses of this many bytes and two ports.
fn ends<const N: usize>(bytes: &[u8]) -> Option<(Option<SocketAddr>, Option<SocketAddr>)>
where
    IpAddr: From<[u8; N]>,
{
    let (source, rest) = bytes.split_first_chunk::<N>()?;
    let (destination, ports) = rest.split_first_chunk::<N>()?;
    let [a, b, c, d] = *ports.first_chunk()?;
    let end = |address: &[u8; N], port| Some(SocketAddr::new(IpAddr::from(*address), port));
    Some((end(source, u16::from_be_bytes([a, b])), end(destination, u16::from_be_bytes([c, d]))))
}

/// Every TLV has its stated length, up to the last byte, and a checksum is correct. Other contents are ignored.
fn check_extensions(block: &[u8], mut extensions: &[u8]) -> Option<()> {
    let mut summed = false;
    while !extensions.is_empty() {
        let (kind, value, rest) = tlv(extensions)?;
        match kind {
            CRC32C => {
                let sum = u32::from_be_bytes(value.try_into().ok()?);
                let at = block.len() - rest.len() - value.len();
                if summed || crc32c_without(block, at) != sum {
                    return None;
                }
                summed = true;
            }
            SSL => check_nested(value.get(SSL_HEAD..)?)?,
            _ => {}
        }
        extensions = rest;
    }
    Some(())
}

fn check_nested(mut extensions: &[u8]) -> Option<()> {
    while !extensions.is_empty() {
        (_, _, extensions) = tlv(extensions)?;
    }
    Some(())
}

/// Type, value, and what comes after.
fn tlv(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let ([kind, high, low], rest) = bytes.split_first_chunk()?;
    let (value, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes([*high, *low])))?;
    Some((*kind, value, rest))
}

/// CRC-32C (RFC 3720 appendix B.4) of the block, with the four bytes of the checksum at `at` as zeros. Bit by bit: it
/// is computed once per connection, over a few hundred bytes.
fn crc32c_without(block: &[u8], at: usize) -> u32 {
    let zeroed = |(place, byte): (usize, &u8)| if (at..at + 4).contains(&place) { 0 } else { *byte };
    !block.iter().enumerate().map(zeroed).fold(!0, |sum, byte| {
        (0..8).fold(sum ^ u32::from(byte), |sum, _| sum >> 1 ^ (0x82f6_3b78 & (sum & 1).wrapping_neg()))
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A block with a correct checksum at its end.
    pub(in crate::http1::proxy_protocol) fn with_checksum(mut block: Vec<u8>) -> Vec<u8> {
        let len = (block.len() + 7 - HEADER) as u16;
        block[14..16].copy_from_slice(&len.to_be_bytes());
        block.extend_from_slice(&[CRC32C, 0, 4, 0, 0, 0, 0]);
        let at = block.len() - 4;
        let sum = crc32c_without(&block, at);
        block[at..].copy_from_slice(&sum.to_be_bytes());
        block
    }

    #[test]
    fn the_checksum_is_crc32c() {
        let check = |bytes: &[u8], expected| assert_eq!(crc32c_without(bytes, usize::MAX - 4), expected);
        check(b"123456789", 0xe306_9283);
        check(&[0; 32], 0x8a91_36aa);
        check(&[0xff; 32], 0x62a8_ab43);
        assert_eq!(crc32c_without(&[0, 0, 0xff, 0xff, 0xff, 0xff], 2), crc32c_without(&[0; 6], 0));
    }
}
