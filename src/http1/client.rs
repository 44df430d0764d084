//! The client's address behind trusted proxies, for hashing and for logs: never for what is forwarded.

use super::fields::{Fields, list, trim};
use super::head::RequestHead;
use super::names::Name;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The most proxies that are skipped. An address beyond them is not looked for.
const HOPS_MAX: usize = 64;

/// The address of the client, as far as trusted peers report it.
///
/// As long as the current address is that of a trusted proxy, the address that it reports is taken next: from
/// X-Forwarded-For, all lines as one list, from right to left; without such a field, from the `for=` of Forwarded (RFC
/// 7239 section 4). The walk ends at the first address that is not trusted, and at an entry that is not an address: the
/// last proxy reached then stands for its clients. None when the peer has no address (a Unix socket). Addresses are
/// passed and returned in canonical form: an IPv4-mapped IPv6 address is IPv4.
pub fn client_address(
    head: &RequestHead<'_, '_>,
    peer: Option<IpAddr>,
    is_trusted: impl Fn(IpAddr) -> bool,
) -> Option<IpAddr> {
    let peer = peer?.to_canonical();
    if !is_trusted(peer) {
        return Some(peer);
    }
    let fields = &head.fields;
    if fields.values(Name::XForwardedFor).next().is_some() {
        Some(walk(peer, is_trusted, entries(fields)))
    } else {
        Some(walk(peer, is_trusted, elements(fields)))
    }
}

/// Goes from hop to hop, starting at the peer, while they are trusted and report the one before them.
fn walk(
    peer: IpAddr,
    is_trusted: impl Fn(IpAddr) -> bool,
    hops: impl Iterator<Item = Option<IpAddr>>,
) -> IpAddr {
    let mut last = peer;
    for hop in hops.take(HOPS_MAX) {
        let Some(address) = hop.map(|address| address.to_canonical()) else { return last };
        last = address;
        if !is_trusted(address) {
            return last;
        }
    }
    last
}

/// The entries of X-Forwarded-For, the nearest hop first.
fn entries(fields: &Fields<'_, '_>) -> impl Iterator<Item = Option<IpAddr>> {
    fields
        .values(Name::XForwardedFor)
        .rev()
        .flat_map(|value| list(value).rev().map(|entry| node(entry, false)))
}

/// The `for=` of the elements of Forwarded, the nearest hop first.
fn elements(fields: &Fields<'_, '_>) -> impl Iterator<Item = Option<IpAddr>> {
    let values = fields.values(Name::Forwarded).rev();
    values.flat_map(|value| pieces_from_the_right(value, b',')).map(named_for)
}

/// The node that an element of Forwarded is for: one `for`, no escapes (no address needs any).
fn named_for(element: &[u8]) -> Option<IpAddr> {
    if element.contains(&b'\\') {
        return None;
    }
    let mut found = None;
    for pair in pieces_from_the_right(element, b';') {
        let (name, value) = pair.split_at(pair.iter().position(|byte| *byte == b'=')?);
        if name.eq_ignore_ascii_case(b"for") && found.replace(value.get(1..)?).is_some() {
            return None;
        }
    }
    let value = found?;
    node(value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value), true)
}

/// The pieces between separators outside of quotes, the last first, without empty ones. Read from the right, because
/// the left part is written by the client: a quote that it leaves open cannot affect what a proxy appended. (An escaped
/// quote counts as a quote here; its piece contains a backslash and is ignored.)
fn pieces_from_the_right(value: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(value);
    std::iter::from_fn(move || {
        let whole = rest?;
        let mut quoted = false;
        let cut = whole.iter().rposition(|byte| {
            quoted ^= *byte == b'"';
            *byte == separator && !quoted
        });
        rest = cut.and_then(|cut| whole.get(..cut));
        Some(trim(cut.and_then(|cut| whole.get(cut + 1..)).unwrap_or(whole)))
    })
    .filter(|piece| !piece.is_empty())
}

/// An address, with or without a port, with or without brackets; `obfuscated` allows a name as the port (RFC 7239
/// section 6).
fn node(text: &[u8], obfuscated: bool) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?;
    if let Some(rest) = text.strip_prefix('[') {
        let (address, port) = rest.split_once(']')?;
        return is_port(port, obfuscated).then(|| address.parse::<Ipv6Addr>().ok()).flatten().map(IpAddr::V6);
    }
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(address);
    }
    let colon = text.find(':')?;
    let (address, port) = text.split_at(colon);
    is_port(port, obfuscated).then(|| address.parse::<Ipv4Addr>().ok()).flatten().map(IpAddr::V4)
}

/// Nothing, or `:` and a port.
fn is_port(port: &str, obfuscated: bool) -> bool {
    let Some(port) = port.strip_prefix(':') else { return port.is_empty() };
    let is_name = |name: &str| {
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
    };
    let is_number = (1..=5).contains(&port.len()) && port.bytes().all(|byte| byte.is_ascii_digit());
    is_number || obfuscated && port.strip_prefix('_').is_some_and(is_name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::head::{Limits, Parsed, Slots, request};

    /// Trusts 10.0.0.0/8, ::1 and the documentation's 2001:db8::/32.
    fn is_trusted(address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => address.octets()[0] == 10,
            IpAddr::V6(address) => address.is_loopback() || address.segments()[..2] == [0x2001, 0xdb8],
        }
    }

    /// From `peer`, with these fields, separated by `|`: the client is `expected`.
    #[track_caller]
    fn check_from(peer: &str, fields: &str, expected: &str) {
        let lines: String = fields.split('|').map(|line| format!("{line}\r\n")).collect();
        let bytes = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", lines.trim_start_matches("\r\n"));
        let mut slots = Slots::new();
        let Ok(Parsed::Complete(head)) = request(bytes.as_bytes(), &Limits::default(), &mut slots) else {
            panic!("{bytes}")
        };
        let found = client_address(&head, Some(peer.parse().unwrap()), is_trusted);
        assert_eq!(found.unwrap().to_string(), expected, "{fields:?}");
        assert_eq!(client_address(&head, None, is_trusted), None);
    }

    #[track_caller]
    fn check(fields: &str, expected: &str) {
        check_from("10.0.0.1", fields, expected);
    }

    #[test]
    fn a_peer_that_is_not_trusted_is_the_client() {
        check_from("192.0.2.1", "X-Forwarded-For: 198.51.100.7", "192.0.2.1");
        check_from("192.0.2.1", "Forwarded: for=198.51.100.7", "192.0.2.1");
        check_from("::ffff:192.0.2.1", "", "192.0.2.1");
        check_from("2001:db9::1", "X-Forwarded-For: 198.51.100.7", "2001:db9::1");
    }

    #[test]
    fn trusted_hops_are_walked_past() {
        check("", "10.0.0.1");
        check("X-Forwarded-For: 192.0.2.7", "192.0.2.7");
        check_from("::ffff:10.0.0.1", "X-Forwarded-For: 192.0.2.7", "192.0.2.7");
        check("X-Forwarded-For: 1.1.1.1, 192.0.2.7 ,10.1.1.1", "192.0.2.7");
        check(
            "X-Forwarded-For: 1.1.1.1|A: 1|x-forwarded-for: 192.0.2.7|X_Forwarded_For: 10.9.9.9",
            "192.0.2.7",
        );
        check("X-Forwarded-For: 10.3.3.3, 10.2.2.2", "10.3.3.3");
        check("X-Forwarded-For: ::ffff:192.0.2.7, ::ffff:10.1.1.1", "192.0.2.7");
        check("X-Forwarded-For: ,192.0.2.7,, ,", "192.0.2.7");
        check("X-Forwarded-For: 192.0.2.7|Forwarded: for=1.1.1.1", "192.0.2.7");
    }

    #[test]
    fn ports_and_brackets_are_tolerated() {
        check("X-Forwarded-For: 192.0.2.7:8080", "192.0.2.7");
        check("X-Forwarded-For: 2001:db9::7", "2001:db9::7");
        check("X-Forwarded-For: [2001:db9::7]", "2001:db9::7");
        check("X-Forwarded-For: 192.0.2.7, [2001:db8::7]:443", "192.0.2.7");
    }

    #[test]
    fn what_is_no_address_ends_the_walk() {
        for bad in
            ["", "unknown", "a.example", "192.0.2.7 x", "192.0.2.07", "192.0.2.7:", "192.0.2.7:x", "_a"]
        {
            let expected = "10.0.0.1";
            check(&format!("X-Forwarded-For: {bad}"), expected);
            check(
                &format!("X-Forwarded-For: 192.0.2.7, {}", if bad.is_empty() { "-" } else { bad }),
                expected,
            );
            check(&format!("X-Forwarded-For: {bad}, 10.5.5.5"), "10.5.5.5");
        }
        for bad in
            ["[192.0.2.7]", "[2001:db9::7", "[2001:db9::7]4", "2001:db9::7%eth0", "\"192.0.2.7\"", "\u{e9}"]
        {
            check(&format!("X-Forwarded-For: {bad}"), "10.0.0.1");
        }
        check("X-Forwarded-For: 192.0.2.7:_x", "10.0.0.1");
        check("X-Forwarded-For: 192.0.2.7:123456", "10.0.0.1");
        let far = "10.2.2.2, ".repeat(HOPS_MAX);
        check(&format!("X-Forwarded-For: 192.0.2.7, {far}"), "10.2.2.2");
    }

    #[test]
    fn forwarded_stands_in_for_x_forwarded_for() {
        check("Forwarded: for=192.0.2.7", "192.0.2.7");
        check("Forwarded: For=\"192.0.2.7:80\";proto=http", "192.0.2.7");
        check("Forwarded: by=_x ; FOR=\"[2001:db9::7]:_port\";host=\"a,b;for=1.1.1.1\"", "2001:db9::7");
        check("Forwarded: for=1.1.1.1, for=192.0.2.7;by=q , for=10.1.1.1", "192.0.2.7");
        check("Forwarded: for=192.0.2.7|Forwarded: for=10.1.1.1, for=\"[2001:db8::9]\"", "192.0.2.7");
    }

    #[test]
    fn a_broken_forwarded_ends_the_walk() {
        let bad =
            ["unknown", "_hidden", "", "2001:db9::7%1", "\"192.0.2.7", "192.0.2.7\"", "\"\"", "192.0.2.7:"];
        for bad in bad {
            check(&format!("Forwarded: for={bad}"), "10.0.0.1");
        }
        for bad in
            ["x", "by=192.0.2.7", "for=192.0.2.7;x", "for=192.0.2.7;for=192.0.2.8", "for=\"192.0.2\\.7\""]
        {
            check(&format!("Forwarded: {bad}"), "10.0.0.1");
        }
    }

    #[test]
    fn a_client_cannot_reach_into_what_a_proxy_wrote() {
        let appended = [", for=192.0.2.7", ", for=192.0.2.7;host=\"h\", for=\"10.1.1.1\""];
        for forged in ["for=\"", "for=1.1.1.1;x=\"", "\"\"\"", "for=1.1.1.1, \"", "\\\"", "for=\"1.1.1.1\\"] {
            for appended in appended {
                check(&format!("Forwarded: {forged}{appended}"), "192.0.2.7");
            }
        }
        check("Forwarded: for=192.0.2.7;host=\"a\\\", for=1.1.1.1, x=\\\"b\"", "10.0.0.1");
    }
}
