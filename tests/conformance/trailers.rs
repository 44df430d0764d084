//! Trailer fields, both ways (RFC 9110 section 6.5, RFC 9112 section 7.1.2).

use super::case::{Area, Case, Level, Step, and_smuggled, get, post};
use super::rule::Rule::*;

const A: Area = Area::Trailers;
const BAD: &[u16] = &[400];
const CODING: &str = "Transfer-Encoding: chunked\r\n";

/// Trailer fields that must never be taken for fields of the head, by whoever reads on (RFC 9110 section 6.5.1). No
/// RFC asks a proxy that keeps the chunks to drop them; a careful one does.
const FORBIDDEN: &[(&str, &str)] = &[
    ("Content-Length", "50"),
    ("Transfer-Encoding", "chunked"),
    ("Host", "evil"),
    ("Authorization", "Basic YTpi"),
    ("Cookie", "a=b"),
    ("Content-Encoding", "gzip"),
    ("Content-Type", "text/evil"),
    ("Content-Range", "bytes 0-1/2"),
    ("Trailer", "X"),
    ("Connection", "close"),
    ("Expect", "100-continue"),
    ("Max-Forwards", "0"),
    ("Cache-Control", "no-cache"),
    ("Range", "bytes=0-1"),
    ("If-Match", "\"a\""),
    ("TE", "trailers"),
    ("X-Forwarded-For", "6.6.6.6"),
    ("Close", "1"),
    ("Keep-Alive", "5"),
    ("Upgrade", "x"),
];

/// Lines behind the last chunk that are no fields.
const REJECTED: &[(&str, &str, &[u8])] = &[
    ("trailer-space-before-colon", "9112 5.1", b"X-Sum : 1\r\n"),
    ("trailer-without-colon", "9112 5", b"X-Sum\r\n"),
    ("trailer-name-empty", "9112 5", b": 1\r\n"),
    ("trailer-name-with-space", "9110 5.1", b"X Sum: 1\r\n"),
    ("trailer-name-with-bracket", "9110 5.1", b"X[: 1\r\n"),
    ("trailer-leading-space", "9112 5.2", b" X-Sum: 1\r\n"),
    ("trailer-value-with-nul", "9110 5.5", b"X-Sum: \0\r\n"),
    ("trailer-value-with-cr", "9112 2.2", b"X-Sum: a\rb\r\n"),
    ("trailer-that-is-a-request-line", "9112 5", b"GET /smuggled HTTP/1.1\r\nX: y\r\n"),
];

/// The cases.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    cases.extend(FORBIDDEN.iter().map(|&(name, value)| {
        let body = format!("5\r\nhello\r\n0\r\n{name}: {value}\r\n\r\n");
        let id = format!("trailer-of-a-request-{}", name.to_lowercase());
        let case = Case::new(A, id, Level::May, "9110 6.5.1").sends(post(CODING, body));
        let case = case.response("GET").holds([Rejects(BAD)]);
        case.holds([Status(&[200]), Seen(1), SeenBody(b"hello".to_vec()), SeenLacksTrailer(name)])
    }));
    cases.extend(REJECTED.iter().map(|&(id, rfc, lines)| {
        let body = [b"5\r\nhello\r\n0\r\n", lines, b"\r\n"].concat();
        let case =
            Case::new(A, id, Level::Must, rfc).sends(and_smuggled(post(CODING, body))).step(Step::Finish);
        let case = case.response("GET").holds([Rejects(BAD), Unseen("smuggled")]);
        if id == "trailer-value-with-cr" {
            case.holds([Status(&[200]), Seen(2), SeenBody(b"hello".to_vec())])
        } else {
            case
        }
    }));
    cases.extend(kept());
    cases.extend(of_responses());
    cases
}

fn kept() -> Vec<Case> {
    let case = |id: &str, level, fields: &str, trailers: &str| {
        let body = format!("5\r\nhello\r\n0\r\n{trailers}\r\n");
        Case::new(A, id, level, "9112 7.1.2").sends(post(format!("{CODING}{fields}"), body)).response("GET")
    };
    let whole = || [Status(&[200]), Stays, Seen(2), SeenBody(b"hello".to_vec())];
    vec![
        case("trailer-does-no-harm", Level::Must, "", "X-Sum: 1\r\n").holds(whole()),
        case("trailers-do-no-harm", Level::Must, "Trailer: X-Sum\r\n", "X-Sum: 1\r\nX-Two:\r\nX-Sum: 2\r\n")
            .holds(whole()),
        case("trailer-of-a-request-goes-on", Level::May, "Trailer: X-Sum\r\n", "X-Sum: 1\r\n")
            .holds([Status(&[200]), SeenTrailer("X-Sum")]),
        case("trailer-that-connection-names", Level::Must, "Connection: X-Sum\r\n", "X-Sum: 1\r\n").holds([
            Status(&[200]),
            SeenLacksTrailer("X-Sum"),
            SeenBody(b"hello".to_vec()),
        ]),
        case("trailer-is-no-field-of-the-head", Level::Must, "", "X-Sum: 1\r\n")
            .holds([Status(&[200]), SeenLacks("X-Sum")]),
        case("trailers-of-64-kib", Level::Should, "", &format!("X-Sum: {}\r\n", "a".repeat(64 << 10)))
            .holds([Rejects(&[400, 413, 431])])
            .holds(whole()),
    ]
}

fn of_responses() -> Vec<Case> {
    let case = |id: &str, level, fields: &str, trailers: &str| {
        let response = format!(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n{fields}\r\n5\r\nhello\r\n0\r\n{trailers}\r\n"
        );
        Case::new(A, id, level, "9112 7.1.2").says(response)
    };
    let asked = get("TE: trailers\r\nConnection: TE\r\n");
    vec![
        case("trailer-of-a-response-goes-on", Level::May, "Trailer: X-Sum\r\n", "X-Sum: 1\r\n")
            .sends(&asked)
            .response("GET")
            .holds([Status(&[200]), Body(b"hello".to_vec()), HasTrailer("X-Sum"), Stays]),
        case("trailer-of-a-response-does-no-harm", Level::Must, "", "X-Sum: 1\r\nX-Two: 2\r\n")
            .sends(get(""))
            .response("GET")
            .holds([Status(&[200]), Body(b"hello".to_vec()), Lacks("X-Sum"), Stays]),
        case("trailer-of-a-response-to-1.0", Level::Must, "Trailer: X-Sum\r\n", "X-Sum: 1\r\n")
            .sends("GET / HTTP/1.0\r\nHost: h\r\n\r\n")
            .response("GET")
            .holds([Status(&[200]), Body(b"hello".to_vec()), NotInChunks, Ends]),
        case("trailer-of-a-response-content-length", Level::May, "", "Content-Length: 50\r\n")
            .sends(get(""))
            .response("GET")
            .holds([Status(&[200]), Body(b"hello".to_vec()), LacksTrailer("Content-Length")])
            .holds([Incomplete]),
        case("trailer-of-a-response-set-cookie", Level::May, "", "Set-Cookie: a=b\r\n")
            .sends(get(""))
            .response("GET")
            .holds([Status(&[200]), Body(b"hello".to_vec()), LacksTrailer("Set-Cookie")])
            .holds([Incomplete]),
    ]
}
