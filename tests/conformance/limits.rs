//! Sizes and counts (RFC 9110 sections 5.4 and 15.5, RFC 9112 section 3).

use super::case::{Area, Case, Level, Step, get};
use super::rule::Rule::*;

const A: Area = Area::Limits;

/// The cases.
pub fn cases() -> Vec<Case> {
    let mut cases = too_much();
    let long = format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", "a".repeat(100_000));
    let case = Case::new(A, "target-too-long-is-414", Level::Must, "9112 3").sends(long).step(Step::Finish);
    cases.push(case.response("GET").holds([Rejects(&[414])]));
    cases.extend(enough());
    cases
}

/// Rejected with a status that says so, or closed. The client has sent it all before it looks.
fn too_much() -> Vec<Case> {
    let case = |id: &str, rfc, sent: Vec<u8>, statuses| {
        let case = Case::new(A, id, Level::Should, rfc).sends(sent).step(Step::Finish).response("GET");
        case.holds([Rejects(statuses)])
    };
    let many: String = (0..10_000).map(|at| format!("X-{at}: a\r\n")).collect();
    vec![
        case(
            "target-of-100-kib",
            "9112 3",
            format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", "a".repeat(100_000)).into(),
            &[400, 414, 431],
        ),
        case(
            "value-of-100-kib",
            "9110 5.4",
            get(format!("X-A: {}\r\n", "a".repeat(100_000))),
            &[400, 413, 431],
        ),
        case("name-of-100-kib", "9110 5.4", get(format!("{}: a\r\n", "X".repeat(100_000))), &[400, 413, 431]),
        case(
            "method-of-100-kib",
            "9112 3",
            format!("{} / HTTP/1.1\r\nHost: h\r\n\r\n", "A".repeat(100_000)).into(),
            &[400, 405, 414, 431, 501],
        ),
        case("fields-10000", "9110 5.4", get(many), &[400, 413, 431]),
        case(
            "host-of-100-kib",
            "9110 5.4",
            format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", "a".repeat(100_000)).into(),
            &[400, 413, 431],
        ),
        case(
            "head-without-end",
            "9110 5.4",
            [b"GET / HTTP/1.1\r\nHost: h\r\n".to_vec(), b"X-A: b\r\n".repeat(40_000)].concat(),
            &[400, 413, 431],
        ),
        case("empty-lines-without-end", "9112 2.2", b"\r\n".repeat(100_000), &[400, 408]),
        case(
            "version-without-end",
            "9112 2.3",
            format!("GET / HTTP/1.{}\r\nHost: h\r\n\r\n", "1".repeat(100_000)).into(),
            &[400, 414, 431, 505],
        ),
    ]
}

fn enough() -> Vec<Case> {
    let case = |id: &str, level, rfc, sent: Vec<u8>| {
        Case::new(A, id, level, rfc).sends(sent).response("GET").holds([Status(&[200]), Stays])
    };
    let response = |id: &str, fields: String| {
        let says = format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: 2\r\n\r\nok");
        Case::new(A, id, Level::Should, "9110 5.4").says(says).sends(get("")).response("GET")
    };
    let line = |len: usize| format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", "a".repeat(len - 15)).into_bytes();
    vec![
        case("request-line-of-8000-bytes", Level::Should, "9112 3", line(8000)),
        case("value-of-4-kib", Level::Should, "9110 5.4", get(format!("X-A: {}\r\n", "a".repeat(4096)))),
        case(
            "head-of-7-kib",
            Level::Should,
            "9110 5.4",
            get(format!("X-A: {}\r\n", "a".repeat(100)).repeat(65)),
        ),
        case(
            "fields-80",
            Level::Should,
            "9110 5.4",
            get((0..80).map(|at| format!("X-{at}: a\r\n")).collect::<String>()),
        ),
        case(
            "cookie-of-4-kib",
            Level::Should,
            "6265 6.1",
            get(format!("Cookie: a={}\r\n", "b".repeat(4090))),
        ),
        case(
            "range-of-1000",
            Level::Should,
            "9110 14.2",
            get(format!(
                "Range: bytes={}0-1\r\n",
                (0..600).map(|at| format!("{at}-{at},")).collect::<String>()
            )),
        ),
        response("response-of-80-fields", (0..80).map(|at| format!("X-{at}: a\r\n")).collect())
            .holds([Status(&[200]), Body(b"ok".to_vec())]),
        response("response-of-3-kib-in-a-field", format!("X-A: {}\r\n", "a".repeat(3000)))
            .holds([Status(&[200]), Body(b"ok".to_vec())]),
        response("response-of-100-kib-in-a-field", format!("X-A: {}\r\n", "a".repeat(100_000)))
            .holds([Status(&[502, 500])])
            .holds([Incomplete])
            .holds([Status(&[200]), Body(b"ok".to_vec())]),
    ]
}
