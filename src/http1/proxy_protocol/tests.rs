//! Tables of PROXY headers, both versions: what is read, and what is rejected.

use super::*;
use Reason::{BadProxyHeader, ProxyHeaderMissing};

/// The result for `bytes`, with the addresses as text; None while more bytes are needed.
fn verdict(bytes: &[u8]) -> Result<Option<(String, usize)>, Reason> {
    Ok(match parse(bytes)? {
        Parsed::Partial => None,
        Parsed::Complete(Preamble { source: Some(source), destination: Some(destination), len }) => {
            Some((format!("{source} {destination}"), len))
        }
        Parsed::Complete(Preamble { source: None, destination: None, len }) => Some((String::new(), len)),
        Parsed::Complete(half) => panic!("{half:?}"),
    })
}

/// Complete, whatever follows, and partial until its last byte.
#[track_caller]
fn accepted(bytes: impl AsRef<[u8]>, expected: &str) {
    let bytes = bytes.as_ref();
    let shown = String::from_utf8_lossy(bytes).into_owned();
    let expected = Ok(Some((expected.to_string(), bytes.len())));
    assert_eq!(verdict(bytes), expected, "{shown:?}");
    assert_eq!(verdict(&[bytes, b"GET / HTTP/1.1\r\n"].concat()), expected, "{shown:?}");
    for end in 0..bytes.len() {
        assert_eq!(verdict(&bytes[..end]), Ok(None), "{shown:?} after {end}");
    }
}

/// Rejected, and partial before that.
#[track_caller]
fn rejected(bytes: impl AsRef<[u8]>, reason: Reason) {
    let bytes = bytes.as_ref();
    let shown = String::from_utf8_lossy(bytes).into_owned();
    assert_eq!(verdict(bytes), Err(reason), "{shown:?}");
    for end in 0..bytes.len() {
        let early = verdict(&bytes[..end]);
        assert!(early == Ok(None) || early == Err(reason), "{shown:?} after {end}: {early:?}");
    }
}

#[test]
fn what_is_no_preamble_is_rejected_on_its_first_bytes() {
    for bytes in [
        "G",
        "GET / HTTP/1.1\r\n",
        "PRI",
        "PROXX",
        "proxy ",
        "\n",
        "\r\n\r\nX",
        "\0",
        "\x16\x03\x01",
        " PROXY ",
    ] {
        rejected(bytes, ProxyHeaderMissing);
    }
    rejected(b"\r\n\r\n\0\r\nQUIT\r", ProxyHeaderMissing);
    rejected("PROXY\r\n", ProxyHeaderMissing);
    assert_eq!(verdict(b""), Ok(None));
}

#[test]
fn lines() {
    accepted("PROXY TCP4 192.0.2.1 10.0.0.1 56324 443\r\n", "192.0.2.1:56324 10.0.0.1:443");
    accepted("PROXY TCP4 255.255.255.255 0.0.0.0 65535 0\r\n", "255.255.255.255:65535 0.0.0.0:0");
    accepted("PROXY TCP6 2001:db8::1 ::1 1 2\r\n", "[2001:db8::1]:1 [::1]:2");
    accepted("PROXY TCP6 2001:DB8:0:0:0:0:0:1 ::ffff:1.2.3.4 1 2\r\n", "[2001:db8::1]:1 [::ffff:1.2.3.4]:2");
    accepted("PROXY UNKNOWN\r\n", "");
    accepted("PROXY UNKNOWN ffff:: anything  at all\r\n", "");
    let longest = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
    accepted(format!("PROXY UNKNOWN {longest} {longest} 65535 65535\r\n"), "");
    accepted(format!("PROXY UNKNOWN {}\r\n", "x".repeat(91)), "");
}

#[test]
fn broken_lines() {
    for bad in [
        "TCP4 192.0.2.1 10.0.0.1 56324 443 ",
        "TCP4 192.0.2.1 10.0.0.1 56324 443 1",
        "TCP4  192.0.2.1 10.0.0.1 56324 443",
        " TCP4 192.0.2.1 10.0.0.1 56324 443",
        "TCP4 192.0.2.1 10.0.0.1 56324",
        "TCP4 192.0.2.1 10.0.0.1",
        "TCP4",
        "",
        "tcp4 192.0.2.1 10.0.0.1 1 2",
        "UDP4 192.0.2.1 10.0.0.1 1 2",
        "UNKNOWNS",
        "TCP4 192.0.2.01 10.0.0.1 1 2",
        "TCP4 192.0.2 10.0.0.1 1 2",
        "TCP4 192.0.2.256 10.0.0.1 1 2",
        "TCP4 ::1 ::1 1 2",
        "TCP6 192.0.2.1 10.0.0.1 1 2",
        "TCP6 [::1] ::1 1 2",
        "TCP6 fe80::1%1 ::1 1 2",
        "TCP6 1::2::3 ::1 1 2",
        "TCP4 192.0.2.1 10.0.0.1 01 2",
        "TCP4 192.0.2.1 10.0.0.1 1 00",
        "TCP4 192.0.2.1 10.0.0.1 +1 2",
        "TCP4 192.0.2.1 10.0.0.1 -1 2",
        "TCP4 192.0.2.1 10.0.0.1 65536 2",
        "TCP4 192.0.2.1 10.0.0.1 0x1 2",
        "TCP4 192.0.2.1:1 10.0.0.1:1 1 2",
        "TCP4\t192.0.2.1 10.0.0.1 1 2",
        "TCP4 192.0.2.1 10.0.0.1 1 2\0",
        "TCP4 192.0.2.1 10.0.0.1 1 \u{0661}",
        "TCP4 192.0.2.1 10.0.0.1 1 2\n",
        "TCP4 192.0.2.1 10.0.0.1 1 2\r",
    ] {
        rejected(format!("PROXY {bad}\r\n"), BadProxyHeader);
    }
    rejected("PROXY UNKNOWN\n", BadProxyHeader);
    rejected("PROXY UNKNOWN\rX", BadProxyHeader);
    rejected(format!("PROXY UNKNOWN {}\r\n", "x".repeat(92)), BadProxyHeader);
    rejected(format!("PROXY UNKNOWN {}", "x".repeat(200)), BadProxyHeader);
}

/// A block of version 2: command, family, and all after the length.
fn block(command: u8, family: u8, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    let len = (body.len() as u16).to_be_bytes();
    [v2::SIGNATURE, &[command, family], &len, &body].concat()
}

const INET: &[u8] = &[192, 0, 2, 1, 10, 0, 0, 1, 0xdc, 0x04, 1, 0xbb];
const INET_TEXT: &str = "192.0.2.1:56324 10.0.0.1:443";

#[test]
fn blocks() {
    accepted(block(0x21, 0x11, &[INET]), INET_TEXT);
    accepted(block(0x21, 0x12, &[INET]), INET_TEXT);
    let mut inet6 = [0; 36];
    (inet6[0], inet6[15], inet6[31], inet6[33], inet6[35]) = (0x20, 1, 2, 80, 81);
    accepted(block(0x21, 0x21, &[&inet6]), "[2000::1]:80 [::2]:81");
    accepted(block(0x21, 0x22, &[&inet6]), "[2000::1]:80 [::2]:81");
    accepted(block(0x21, 0x31, &[&[b'/'; 216]]), "");
    accepted(block(0x21, 0x32, &[&[0; 216]]), "");
    accepted(block(0x21, 0x00, &[]), "");
    accepted(block(0x21, 0x00, &[b"what goes unread"]), "");
    accepted(block(0x20, 0x00, &[]), "");
    accepted(block(0x20, 0x11, &[INET]), "");
    accepted(block(0x20, 0xff, &[b"x"]), "");
    accepted(block(0x20, 0x00, &[&[0; PREAMBLE_MAX - 16]]), "");
}

#[test]
fn broken_blocks() {
    for command in [0x00, 0x01, 0x11, 0x22, 0x2f, 0x31, 0xff] {
        rejected(block(command, 0x11, &[INET]), BadProxyHeader);
    }
    for family in [0x01, 0x02, 0x10, 0x13, 0x20, 0x23, 0x30, 0x33, 0x41, 0xff] {
        rejected(block(0x21, family, &[&[0; 216]]), BadProxyHeader);
    }
    rejected(block(0x21, 0x11, &[&INET[..11]]), BadProxyHeader);
    rejected(block(0x21, 0x21, &[&[0; 35]]), BadProxyHeader);
    rejected(block(0x21, 0x31, &[&[0; 215]]), BadProxyHeader);
    rejected(block(0x20, 0x00, &[&[0; PREAMBLE_MAX - 15]]), BadProxyHeader);
    // The length alone is sufficient.
    rejected([v2::SIGNATURE, b"\x21\x11\xff\xff"].concat(), BadProxyHeader);
}

#[test]
fn extensions() {
    let ssl = [0x20, 0, 11, 1, 0, 0, 0, 0, 0x21, 0, 3, b'T', b'L', b'S'];
    let good: [&[u8]; 5] = [&[4, 0, 0], &[4, 0, 2, 9, 9], b"\x01\0\x02h2\x02\0\x01a", &ssl, &[0xe0, 0, 1, 0]];
    for tlvs in good {
        accepted(block(0x21, 0x11, &[INET, tlvs]), INET_TEXT);
        accepted(v2::tests::with_checksum(block(0x21, 0x11, &[INET, tlvs])), INET_TEXT);
    }
    let ssl_cut = [0x20, 0, 10, 1, 0, 0, 0, 0, 0x21, 0, 3, b'T', b'L'];
    let bad: [&[u8]; 8] = [
        &[4],
        &[4, 0],
        &[4, 0, 1],
        &[4, 0, 0, 4],
        &[4, 0xff, 0xff, 1],
        &ssl_cut,
        &[0x20, 0, 4, 0, 0, 0, 0],
        &[3, 0, 3, 0, 0, 0],
    ];
    for tlvs in bad {
        rejected(block(0x21, 0x11, &[INET, tlvs]), BadProxyHeader);
    }
}

#[test]
fn a_checksum_must_be_right_where_there_is_one() {
    let good = v2::tests::with_checksum(block(0x21, 0x11, &[INET]));
    accepted(&good, INET_TEXT);
    for at in 16..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0x40;
        let kind_changed = at == 28;
        assert_eq!(verdict(&bad).is_ok(), kind_changed, "byte {at}");
    }
    rejected(v2::tests::with_checksum(good), BadProxyHeader);
}
