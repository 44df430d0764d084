//! The chunked coding of requests (RFC 9112 section 7.1).

use super::case::{Area, Case, Level, SMUGGLED, Step, and_smuggled, post};
use super::rule::Rule::*;

const A: Area = Area::Chunked;
const BAD: &[u16] = &[400];
const CODING: &str = "Transfer-Encoding: chunked\r\n";

/// What is behind the head, and is not chunked.
const REJECTED: &[(&str, Level, &str, &[u8])] = &[
    ("size-hex-prefix", Level::Must, "9112 7.1", b"0x5\r\nhello\r\n0\r\n\r\n"),
    ("size-plus", Level::Must, "9112 7.1", b"+5\r\nhello\r\n0\r\n\r\n"),
    ("size-minus", Level::Must, "9112 7.1", b"-5\r\nhello\r\n0\r\n\r\n"),
    ("size-minus-one", Level::Must, "9112 7.1", b"-1\r\nhello\r\n0\r\n\r\n"),
    ("size-plus-zero", Level::Must, "9112 7.1", b"+0\r\n\r\n"),
    ("size-minus-zero", Level::Must, "9112 7.1", b"-0\r\n\r\n"),
    ("size-underscore", Level::Must, "9112 7.1", b"1_0\r\nhello world!!!!!\r\n0\r\n\r\n"),
    ("size-letters", Level::Must, "9112 7.1", b"xyz\r\nhello\r\n0\r\n\r\n"),
    ("size-and-letter", Level::Must, "9112 7.1", b"5g\r\nhello\r\n0\r\n\r\n"),
    ("size-point", Level::Must, "9112 7.1", b"5.0\r\nhello\r\n0\r\n\r\n"),
    ("size-comma", Level::Must, "9112 7.1", b"5,5\r\nhello\r\n0\r\n\r\n"),
    ("size-suffix-h", Level::Must, "9112 7.1", b"5h\r\nhello\r\n0\r\n\r\n"),
    ("size-empty", Level::Must, "9112 7.1", b"\r\nhello\r\n0\r\n\r\n"),
    ("size-quoted", Level::Must, "9112 7.1", b"\"5\"\r\nhello\r\n0\r\n\r\n"),
    ("size-leading-space", Level::Must, "9112 7.1", b" 5\r\nhello\r\n0\r\n\r\n"),
    ("size-leading-tab", Level::Must, "9112 7.1", b"\t5\r\nhello\r\n0\r\n\r\n"),
    ("size-trailing-space", Level::Safe, "9112 7.1", b"5 \r\nhello\r\n0\r\n\r\n"),
    ("size-trailing-tab", Level::Safe, "9112 7.1", b"5\t\r\nhello\r\n0\r\n\r\n"),
    ("size-inner-space", Level::Safe, "9112 7.1", b"5 5\r\nhello\r\n0\r\n\r\n"),
    ("size-words-behind", Level::Safe, "9112 7.1", b"2 erfrferferf\r\naa\r\n0 rrrr\r\n\r\n"),
    ("size-vertical-tab", Level::Must, "9112 7.1", b"5\x0b\r\nhello\r\n0\r\n\r\n"),
    ("size-nul", Level::Must, "9112 7.1", b"5\0\r\nhello\r\n0\r\n\r\n"),
    ("size-obs-text", Level::Must, "9112 7.1", b"5\xa0\r\nhello\r\n0\r\n\r\n"),
    ("size-beyond-64-bits", Level::Must, "9112 7.1", b"FFFFFFFFFFFFFFFF0\r\nhello\r\n0\r\n\r\n"),
    ("size-wraps-to-five", Level::Must, "9112 7.1", b"10000000000000005\r\nhello\r\n0\r\n\r\n"),
    ("size-wraps-32-bits", Level::Must, "9112 7.1", b"10000000000000000\r\n\r\n0\r\n\r\n"),
    ("size-cr-alone", Level::Must, "9112 2.2", b"5\rhello\r\n0\r\n\r\n"),
    ("size-cr-cr-lf", Level::Must, "9112 2.2", b"5\r\r\nhello\r\n0\r\n\r\n"),
    ("size-cr-cr-semicolon", Level::Must, "9112 7.1", b"5\r\r;ABCD\r\n34\r\nE\r\n0\r\n\r\n"),
    ("data-without-crlf", Level::Must, "9112 7.1", b"5\r\nhello0\r\n\r\n"),
    ("data-longer-than-size", Level::Must, "9112 7.1", b"5\r\nhello!!\r\n0\r\n\r\n"),
    ("data-shorter-than-size", Level::Must, "9112 7.1", b"6\r\nhello\r\n0\r\n\r\n"),
    ("data-cr-alone-behind", Level::Must, "9112 7.1", b"5\r\nhello\r0\r\n\r\n"),
    ("data-two-bytes-for-crlf", Level::Must, "9112 7.1", b"5\r\nhelloXX0\r\n\r\n"),
    ("data-cr-and-byte-for-crlf", Level::Must, "9112 7.1", b"5\r\nhello\rX0\r\n\r\n"),
    ("data-lf-cr-for-crlf", Level::Must, "9112 7.1", b"5\r\nhello\n\r0\r\n\r\n"),
    ("last-chunk-then-junk", Level::Must, "9112 7.1", b"5\r\nhello\r\n0\r\njunk\r\n\r\n"),
    ("last-chunk-cr-and-byte", Level::Must, "9112 7.1", b"5\r\nhello\r\n0\r\n\rX"),
    ("last-chunk-cr-alone", Level::Must, "9112 7.1", b"5\r\nhello\r\n0\r\r\n\r\n"),
    ("extension-cr-alone", Level::Must, "9112 7.1.1", b"5;a\rX\r\nhello\r\n0\r\n\r\n"),
    ("extension-nul", Level::Safe, "9112 7.1.1", b"5;a\0b\r\nhello\r\n0\r\n\r\n"),
    ("extension-control", Level::Safe, "9112 7.1.1", b"5;a\x01b\r\nhello\r\n0\r\n\r\n"),
    ("extension-without-name", Level::May, "9112 7.1.1", b"5;\r\nhello\r\n0\r\n\r\n"),
    ("extension-of-a-space", Level::May, "9112 7.1.1", b"5; \r\nhello\r\n0\r\n\r\n"),
    ("extension-value-alone", Level::May, "9112 7.1.1", b"5;=a\r\nhello\r\n0\r\n\r\n"),
    ("extension-without-value", Level::May, "9112 7.1.1", b"5;a=\r\nhello\r\n0\r\n\r\n"),
    ("extension-bad-name", Level::May, "9112 7.1.1", b"5;bad[=x\r\nhello\r\n0\r\n\r\n"),
    ("extension-two-semicolons", Level::May, "9112 7.1.1", b"5;;a\r\nhello\r\n0\r\n\r\n"),
    ("extension-open-quote", Level::May, "9112 7.1.1", b"5;a=\"b\r\nhello\r\n0\r\n\r\n"),
    ("extension-junk-behind-quote", Level::May, "9112 7.1.1", b"5;a=\"b\"c\r\nhello\r\n0\r\n\r\n"),
];

/// Where a bare LF may be a line end, or may not (RFC 9112 section 2.2 speaks of the head alone).
const BARE_LF: &[(&str, &[u8])] = &[
    ("size-lf-alone", b"5\nhello\r\n0\r\n\r\n"),
    ("data-lf-alone", b"5\r\nhello\n0\r\n\r\n"),
    ("last-chunk-lf-alone", b"5\r\nhello\r\n0\n\r\n"),
    ("last-line-lf-alone", b"5\r\nhello\r\n0\r\n\n"),
    ("extension-lf-alone", b"5;a\nhello\r\n0\r\n\r\n"),
    ("all-lf-alone", b"5\nhello\n0\n\n"),
];

/// What is well.
const GOOD: &[(&str, Level, &[u8], &[u8])] = &[
    ("one-chunk", Level::Must, b"5\r\nhello\r\n0\r\n\r\n", b"hello"),
    ("two-chunks", Level::Must, b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", b"hello world"),
    ("no-chunk", Level::Must, b"0\r\n\r\n", b""),
    ("upper-case-size", Level::Must, b"A\r\n0123456789\r\n0\r\n\r\n", b"0123456789"),
    ("lower-case-size", Level::Must, b"a\r\n0123456789\r\n0\r\n\r\n", b"0123456789"),
    ("size-leading-zeros", Level::Must, b"0005\r\nhello\r\n0\r\n\r\n", b"hello"),
    ("many-zeros-at-the-end", Level::Must, b"5\r\nhello\r\n000\r\n\r\n", b"hello"),
    ("extension-name", Level::Must, b"5;a\r\nhello\r\n0\r\n\r\n", b"hello"),
    ("extension-value", Level::Must, b"5;a=b\r\nhello\r\n0\r\n\r\n", b"hello"),
    ("extension-quoted-value", Level::Must, b"5;a=\"b;c\"\r\nhello\r\n0\r\n\r\n", b"hello"),
    ("extension-escaped-quote", Level::Must, b"5;a=\"I \\\"b\\\"; \\\\c\";d\r\nhello\r\n0\r\n\r\n", b"hello"),
    ("extension-many", Level::Must, b"5;a;b=c;d=\"e\";f\r\nhello\r\n0;g\r\n\r\n", b"hello"),
    ("extension-spaces-around", Level::Must, b"5 ; a = b\r\nhello\r\n0\r\n\r\n", b"hello"),
    ("extension-quoted-crlf-as-text", Level::Must, b"5;a=\"\\r\\n\"\r\nhello\r\n0\r\n\r\n", b"hello"),
    ("data-of-crlf", Level::Must, b"4\r\n\r\n\r\n\r\n0\r\n\r\n", b"\r\n\r\n"),
    ("data-like-a-last-chunk", Level::Must, b"5\r\n0\r\n\r\n\r\n0\r\n\r\n", b"0\r\n\r\n"),
];

/// The cases.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    cases.extend(REJECTED.iter().map(|&(id, level, rfc, body)| {
        let case = Case::new(A, format!("chunk-{id}"), level, rfc).sends(and_smuggled(post(CODING, body)));
        case.step(Step::Finish).response("GET").holds([Rejects(BAD), Unseen("smuggled")])
    }));
    cases.extend(BARE_LF.iter().map(|&(id, body)| {
        let case = Case::new(A, format!("chunk-{id}"), Level::Safe, "9112 2.2").sends(post(CODING, body));
        let case = case.response("GET").holds([Rejects(BAD)]);
        case.holds([Status(&[200]), SeenBody(b"hello".to_vec()), Seen(1)])
    }));
    cases.extend(GOOD.iter().map(|&(id, level, body, payload)| {
        let case =
            Case::new(A, format!("chunk-{id}"), level, "9112 7.1").sends(post(CODING, body)).response("GET");
        case.holds([Status(&[200]), Stays, SeenBody(payload.to_vec()), Seen(2)])
    }));
    cases.push(long_extension());
    cases.push(hidden_in_an_extension());
    cases
}

/// A recipient bounds extensions (RFC 9112 section 7.1.1), or ignores them at any length.
fn long_extension() -> Case {
    let body = format!("5;a={}\r\nhello\r\n0\r\n\r\n", "b".repeat(64 << 10));
    let case =
        Case::new(A, "chunk-extension-of-64-kib", Level::Should, "9112 7.1.1").sends(post(CODING, body));
    let case = case.response("GET").holds([Rejects(&[400, 413, 431])]);
    case.holds([Status(&[200]), SeenBody(b"hello".to_vec())])
}

/// A reader that ends extensions at LF sees a request in here.
fn hidden_in_an_extension() -> Case {
    let body = [b"5;a\nhello\r\n0\r\n\r\n", SMUGGLED, b"\r\n0\r\n\r\n"].concat();
    let case = Case::new(A, "chunk-request-behind-lf-in-extension", Level::Safe, "9112 7.1.1");
    let case = case.sends(post(CODING, body)).response("GET").holds([Rejects(BAD)]);
    // With LF as a line end there is a second request, and nothing is hidden.
    case.holds([Status(&[200]), SeenBody(b"hello".to_vec())])
}
