//! Version 1: one line of text (`proxy-protocol.txt` section 2.1).

use super::Preamble;
use crate::http1::head::Parsed;
use crate::http1::reason::Reason;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Its first bytes.
pub(super) const SIGNATURE: &[u8] = b"PROXY ";

/// The longest line, its CRLF included.
const LINE_MAX: usize = 107;

/// `PROXY TCP4|TCP6 source destination port port`, or `PROXY UNKNOWN` and ignored text; single spaces, CRLF.
pub(super) fn parse(bytes: &[u8]) -> Result<Parsed<Preamble>, Reason> {
    let window = bytes.get(..LINE_MAX).unwrap_or(bytes);
    let unread = window.get(SIGNATURE.len()..).is_some_and(|rest| rest.starts_with(b"UNKNOWN "));
    // After UNKNOWN everything up to CRLF is ignored.
    let belongs = |byte: &u8| matches!(byte, b' '..=b'~') || unread && *byte != b'\r';
    let end = window.iter().position(|byte| !belongs(byte)).unwrap_or(window.len());
    let len = match window.get(end..) {
        Some([b'\r', b'\n', ..]) => end + 2,
        Some([] | [b'\r']) if window.len() < LINE_MAX => return Ok(Parsed::Partial),
        _ => return Err(Reason::BadProxyHeader),
    };
    if unread {
        return Ok(Parsed::Complete(Preamble { source: None, destination: None, len }));
    }
    let words = window.get(SIGNATURE.len()..end).and_then(|words| std::str::from_utf8(words).ok());
    let (source, destination) = words.and_then(addresses).ok_or(Reason::BadProxyHeader)?;
    Ok(Parsed::Complete(Preamble { source, destination, len }))
}

type Ends = (Option<SocketAddr>, Option<SocketAddr>);

fn addresses(words: &str) -> Option<Ends> {
    let mut words = words.split(' ');
    let address: fn(&str) -> Option<IpAddr> = match words.next()? {
        "TCP4" => |word| word.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
        "TCP6" => |word| word.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        "UNKNOWN" => return Some((None, None)),
        _ => return None,
    };
    let (source, destination) = (address(words.next()?)?, address(words.next()?)?);
    let (from, to) = (port(words.next()?)?, port(words.next()?)?);
    match words.next() {
        None => Some((Some(SocketAddr::new(source, from)), Some(SocketAddr::new(destination, to)))),
        Some(_) => None,
    }
}

/// Digits without leading zeros, up to 65535.
fn port(word: &str) -> Option<u16> {
    let canonical = word == "0" || !word.starts_with(['0', '+']);
    word.parse().ok().filter(|_| canonical)
}
