//! Properties of the codec, for any bytes and any split of them: heads, bodies, and what goes on.
//!
//! Bytes come from three places: pieces of HTTP put together at random, good messages with bytes changed, and
//! noise. `PROPTEST_CASES` asks for more of them.

use crate::checks;
use evenkeel::http1::framing::Framing;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

/// Pieces that requests, responses and attacks are made of.
const PIECES: &[&str] = &[
    "GET ",
    "POST ",
    "OPTIONS ",
    "TRACE ",
    "CONNECT ",
    "HEAD ",
    "/ ",
    "/a?b=c ",
    "* ",
    "http://a:1/b ",
    "http://a ",
    "HTTP/1.1\r\n",
    "HTTP/1.0\r\n",
    "HTTP/1.2\r\n",
    "HTTP/2.0\r\n",
    "HTTP/1.1 200 OK\r\n",
    "HTTP/1.1 204 \r\n",
    "HTTP/1.0 304\r\n",
    "HTTP/1.1 101 X\r\n",
    "Host: a\r\n",
    "Host: b:80\r\n",
    "Host:\r\n",
    "Content-Length: 3\r\n",
    "Content-Length: 0\r\n",
    "Content-Length: x\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Transfer-Encoding: gzip\r\n",
    "Transfer-Encoding : chunked\r\n",
    "Connection: close\r\n",
    "Connection: upgrade, host, x-a\r\n",
    "Upgrade: websocket\r\n",
    "TE: trailers\r\n",
    "Trailer: a\r\n",
    "Expect: 100-continue\r\n",
    "Expect: x\r\n",
    "Via: 1.1 pseudonym-of-the-test\r\n",
    "Max-Forwards: 1\r\n",
    "X-Forwarded-For: 1.1.1.1\r\n",
    "X-A: b\r\n",
    "X-Request-Id: q\r\n",
    "x:y\r\n",
    "X-Odd: \u{e9}\t \r\n",
    "Forwarded: for=x\r\n",
    " folded\r\n",
    "\r\n",
    "\r\n\r\n",
    "\n",
    "\r",
    "\0",
    ":",
    " ",
    "\t",
    "#",
    "0\r\n",
    "3\r\nabc\r\n",
    "a;b=c\r\n",
    "5",
    "ffffffffffffffff",
    ";x",
    "0;y\r\n",
    "T: u\r\n",
    "Host: t\r\n",
    "ABC",
];

const GOOD: &[&str] = &[
    "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "\r\nPOST http://b/c HTTP/1.1\r\nhost:a\r\nContent-Length: 12\r\nConnection: x-a, keep-alive\r\nX-A: 1\r\nB: 2\r\n\r\n",
    "PUT /x?y HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 0\r\nX-Forwarded-For: 1.1.1.1\r\n\r\n",
    "GET /chat HTTP/1.1\r\nHost: a:80\r\nUpgrade: websocket\r\nConnection: Upgrade, TE\r\nTE: trailers\r\n\r\n",
    "POST /u HTTP/1.1\r\nHost: [::1]:8\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\nTrailer: s\r\n\r\n",
    "HTTP/1.1 200 OK\r\nDate: x\r\nContent-Length: 5\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n\r\n",
    "HTTP/1.1 200 OK\r\nX-A : 1\r\nTransfer-Encoding: chunked\r\nConnection: close, x-a\r\n\r\n",
    "POST /t HTTP/1.1\r\nHost: a\r\nConnection: x-a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-A: 1\r\nX-B: 2\r\n\r\n",
    "HTTP/1.1 200 OK\r\nConnection: x-a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-A: 1\r\nX-B: 2\r\n\r\n",
    "5;a=b\r\nhello\r\n1 ; c\r\n!\r\n0;d\r\nX-Sum: 1\r\nHost: no\r\n\r\nGET /",
];

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let pieces = vec(select(PIECES), 0..16).prop_map(|pieces| pieces.concat().into_bytes());
    let noise = vec(any::<u8>(), 0..80);
    prop_oneof![4 => pieces, 4 => spoiled(), 2 => request_with_fields(), 1 => noise]
}

/// A good message with a few bytes changed, put in or taken out.
fn spoiled() -> impl Strategy<Value = Vec<u8>> {
    let change =
        (any::<prop::sample::Index>(), 0..3, prop_oneof![any::<u8>(), select(b"\r\n\t :;,0aA#\0".to_vec())]);
    (select(GOOD), vec(change, 0..4)).prop_map(|(good, changes)| {
        let mut bytes = good.as_bytes().to_vec();
        for (at, how, byte) in changes {
            let at = at.index(bytes.len());
            match how {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                _ => drop(bytes.remove(at)),
            }
            if bytes.is_empty() {
                break;
            }
        }
        bytes
    })
}

/// A good first line with field lines of all kinds: mostly accepted, so that much goes on.
fn request_with_fields() -> impl Strategy<Value = Vec<u8>> {
    let lines: Vec<&str> =
        PIECES.iter().copied().filter(|piece| piece.contains(": ") && piece.ends_with("\r\n")).collect();
    (
        select(vec!["POST /a HTTP/1.1\r\nHost: a\r\n", "OPTIONS http://b HTTP/1.0\r\n"]),
        vec(select(lines), 0..6),
    )
        .prop_map(|(line, fields)| format!("{line}{}\r\n", fields.concat()).into_bytes())
}

fn cuts() -> impl Strategy<Value = Vec<usize>> {
    vec(0usize..9, 0..20)
}

fn chunked() -> impl Strategy<Value = Vec<u8>> {
    let pieces =
        vec(select(&PIECES[PIECES.len() - 24..]), 0..12).prop_map(|pieces| pieces.concat().into_bytes());
    prop_oneof![pieces, bytes()]
}

/// What a client may write into X-Forwarded-For and Forwarded.
fn forged() -> impl Strategy<Value = Vec<u8>> {
    let pieces =
        vec!["for=", "1.1.1.1", "10.0.0.1", ", ", ";", "\"", "\\", "[::1]:1", "host=", " ", "=", ",", ":80"];
    let pieces = vec(select(pieces), 0..20).prop_map(|pieces| pieces.concat().into_bytes());
    prop_oneof![4 => pieces, 1 => bytes()]
}

/// Preambles of both versions, good and spoiled.
fn preamble() -> impl Strategy<Value = Vec<u8>> {
    let words = vec(
        select(vec![
            "PROXY ",
            "TCP4 ",
            "TCP6 ",
            "UNKNOWN",
            " ",
            "1.2.3.4 ",
            "::1 ",
            "2001:db8::2 ",
            "1 ",
            "65535",
            "01",
            "\r\n",
            "\n",
            "\0",
        ]),
        0..9,
    )
    .prop_map(|words| ["PROXY ", &words.concat()].concat().into_bytes());
    let head = (
        select(vec![0x20, 0x21, 0x22, 0x11]),
        select(vec![0, 0x11, 0x12, 0x21, 0x31, 0x41]),
        select(vec![0u16, 12, 15, 16, 36, 43, 216, 4080, 4081]),
    );
    let block = (head, vec(select(vec![0, 1, 3, 4, 7, 0x20, 0xff]), 0..80)).prop_map(
        |((command, family, len), rest)| {
            [b"\r\n\r\n\0\r\nQUIT\n", &[command, family][..], &len.to_be_bytes(), &rest].concat()
        },
    );
    prop_oneof![2 => words, 3 => block, 1 => bytes()]
}

/// 20,000 cases, unless `PROPTEST_CASES` says how many.
fn config() -> ProptestConfig {
    let told = std::env::var_os("PROPTEST_CASES").is_some();
    let default = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    if told { default } else { ProptestConfig { cases: 20_000, ..default } }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn request_heads(bytes in bytes()) {
        checks::request(&bytes);
    }

    #[test]
    fn response_heads(bytes in bytes()) {
        checks::response(&bytes);
    }

    #[test]
    fn whole_messages(head in bytes(), body in chunked()) {
        let bytes = [head, body].concat();
        checks::request_message(&bytes);
        checks::response_message(&bytes);
    }

    #[test]
    fn clients(forged in forged()) {
        checks::client(&forged);
    }

    #[test]
    fn preambles(bytes in preamble()) {
        checks::preamble(&bytes);
    }

    #[test]
    fn chunked_bodies(bytes in chunked(), cuts in cuts()) {
        checks::body(Framing::Chunked, &bytes, &cuts);
    }

    #[test]
    fn other_bodies(bytes in vec(any::<u8>(), 0..60), length in 0u64..80, cuts in cuts()) {
        checks::body(Framing::Length(length), &bytes, &cuts);
        checks::body(Framing::UntilClose, &bytes, &cuts);
        checks::body(Framing::None, &bytes, &cuts);
    }

    #[test]
    fn chunks_we_write(payload in vec(any::<u8>(), 0..200), cuts in cuts()) {
        checks::round_trip(&payload, &cuts);
    }
}

#[test]
fn the_good_ones_are_good() {
    for good in GOOD {
        checks::request(good.as_bytes());
        checks::response(good.as_bytes());
        checks::request_message(good.as_bytes());
        checks::response_message(good.as_bytes());
        checks::body(Framing::Chunked, good.as_bytes(), &[1, 2, 3]);
    }
}
