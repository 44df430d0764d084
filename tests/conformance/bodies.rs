//! Bodies of requests that are well, whatever their size, and bodies that are cut.

use super::case::{Area, Case, Level, SMUGGLED, Script, Step, post};
use super::rule::Rule::*;
use crate::support::{chunked, noise};

const A: Area = Area::Bodies;

/// The cases.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, size) in [("1-byte", 1), ("8-kib", 8 << 10), ("64-kib", 64 << 10), ("300-kib", 300 << 10)] {
        cases.push(with_length(name, size));
        cases.push(in_chunks(name, size));
    }
    cases.extend(pieces());
    cases.extend(cut());
    cases
}

fn with_length(name: &str, size: usize) -> Case {
    let body = noise(size);
    let case = Case::new(A, format!("body-with-length-{name}"), Level::Must, "9112 6.3");
    case.sends(post(format!("Content-Length: {size}\r\n"), &body)).response("GET").holds([
        Status(&[200]),
        Stays,
        SeenBody(body),
        Seen(2),
    ])
}

fn in_chunks(name: &str, size: usize) -> Case {
    let body = noise(size);
    let pieces: Vec<&[u8]> = body.chunks(3001).collect();
    let case = Case::new(A, format!("body-in-chunks-{name}"), Level::Must, "9112 7.1");
    case.sends(post("Transfer-Encoding: chunked\r\n", chunked(&pieces))).response("GET").holds([
        Status(&[200]),
        Stays,
        SeenBody(body),
        Seen(2),
    ])
}

/// However a body is split, it is the same.
fn pieces() -> Vec<Case> {
    let looks_like_a_head = SMUGGLED.to_vec();
    vec![
        Case::new(A, "body-byte-by-byte", Level::Must, "9112 6.3")
            .step(Step::Bytewise(post("Content-Length: 5\r\n", "hello")))
            .response("GET")
            .holds([Status(&[200]), SeenBody(b"hello".to_vec()), Seen(1)]),
        Case::new(A, "chunks-byte-by-byte", Level::Must, "9112 7.1")
            .step(Step::Bytewise(post(
                "Transfer-Encoding: chunked\r\n",
                "3;a=b\r\nhel\r\n2\r\nlo\r\n0\r\nX-Sum: 1\r\n\r\n",
            )))
            .response("GET")
            .holds([Status(&[200]), SeenBody(b"hello".to_vec()), Seen(1)]),
        Case::new(A, "head-then-body", Level::Must, "9112 6.3")
            .sends(post("Content-Length: 5\r\n", ""))
            .step(Step::Pause)
            .sends("hello")
            .response("GET")
            .holds([Status(&[200]), SeenBody(b"hello".to_vec())]),
        Case::new(A, "body-that-looks-like-a-request", Level::Must, "9112 6.3")
            .sends(post(format!("Content-Length: {}\r\n", SMUGGLED.len()), SMUGGLED))
            .response("GET")
            .holds([Status(&[200]), Stays, Seen(2), SeenBody(looks_like_a_head)]),
        Case::new(A, "body-of-every-byte", Level::Must, "9110 6.4")
            .sends(post("Content-Length: 256\r\n", (0..=255).collect::<Vec<u8>>()))
            .response("GET")
            .holds([Status(&[200]), SeenBody((0..=255).collect())]),
        Case::new(A, "body-comes-back", Level::Must, "9110 6.4")
            .sends(post("Content-Length: 256\r\n", (0..=255).collect::<Vec<u8>>()))
            .server(Script::Echoes)
            .response("GET")
            .holds([Status(&[200]), Body((0..=255).collect())]),
        Case::new(A, "content-encoding-is-not-touched", Level::Must, "9110 7.7")
            .sends(post("Content-Encoding: gzip\r\nContent-Length: 3\r\n", b"\x1f\x8b\x08"))
            .response("GET")
            .holds([Status(&[200]), SeenHas("Content-Encoding", "gzip"), SeenBody(b"\x1f\x8b\x08".to_vec())]),
    ]
}

/// A body that does not come to its end is never passed on as whole (RFC 9112 section 8).
fn cut() -> Vec<Case> {
    let case = |id: &str, fields: &str, body: &str, end: Step| {
        let case =
            Case::new(A, id, Level::Must, "9112 8").sends(post(fields, body)).step(Step::Pause).step(end);
        case.holds([Seen(0)])
    };
    let (length, coding) = ("Content-Length: 10\r\n", "Transfer-Encoding: chunked\r\n");
    vec![
        case("cut-body-closed", length, "hello", Step::Finish).response("GET"),
        case("cut-body-reset", length, "hello", Step::Reset),
        case("cut-before-the-body", length, "", Step::Finish).response("GET"),
        case("cut-in-a-chunk", coding, "a\r\nhello", Step::Finish).response("GET"),
        case("cut-between-chunks", coding, "5\r\nhello\r\n", Step::Finish).response("GET"),
        case("cut-in-a-chunk-size", coding, "5\r\nhello\r\n1", Step::Finish).response("GET"),
        case("cut-before-the-last-line", coding, "5\r\nhello\r\n0\r\n", Step::Finish).response("GET"),
        case("cut-in-the-last-line", coding, "5\r\nhello\r\n0\r\n\r", Step::Finish).response("GET"),
        case("cut-in-the-trailers", coding, "5\r\nhello\r\n0\r\nX-Sum: 1\r\n", Step::Finish).response("GET"),
        case("cut-chunks-reset", coding, "5\r\nhello\r\n", Step::Reset),
        Case::new(A, "cut-head", Level::Must, "9112 8")
            .sends("GET /a HTTP/1.1\r\nHost: h\r\nX-A: b")
            .step(Step::Finish)
            .response("GET")
            .holds([Rejects(&[400, 408])]),
        Case::new(A, "cut-head-before-the-last-line", Level::Must, "9112 8")
            .sends("GET /a HTTP/1.1\r\nHost: h\r\n")
            .step(Step::Finish)
            .response("GET")
            .holds([Rejects(&[400, 408])]),
        Case::new(A, "nothing-at-all", Level::May, "9112 9.5")
            .step(Step::Finish)
            .response("GET")
            .holds([Rejects(&[400, 408])]),
    ]
}
