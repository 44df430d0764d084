//! The request line, line ends and versions (RFC 9112 sections 2 and 3).

use super::case::{Area, Case, Level, Step, and_smuggled, get};
use super::rule::Rule::*;

const A: Area = Area::Lines;
const BAD: &[u16] = &[400];
const BAD_VERSION: &[u16] = &[400, 505];

/// What is no request line, or no line.
const REJECTED: &[(&str, Level, &str, &[u8], &[u16])] = &[
    ("line-without-target", Level::Must, "9112 3", b"GET HTTP/1.1\r\nHost: h\r\n\r\n", BAD_VERSION),
    ("line-without-version", Level::Safe, "9112 2.3", b"GET /\r\nHost: h\r\n\r\n", BAD_VERSION),
    ("line-method-alone", Level::Must, "9112 3", b"GET\r\nHost: h\r\n\r\n", BAD_VERSION),
    ("line-four-words", Level::Must, "9112 3", b"GET /a b HTTP/1.1\r\nHost: h\r\n\r\n", BAD_VERSION),
    ("line-words-behind-version", Level::Must, "9112 3", b"GET / HTTP/1.1 x\r\nHost: h\r\n\r\n", BAD_VERSION),
    (
        "line-junk-before-method",
        Level::Must,
        "9112 3",
        b"Extra lineGET / HTTP/1.1\r\nHost: h\r\n\r\n",
        BAD_VERSION,
    ),
    ("method-with-colon", Level::Must, "9110 9.1", b"GE:T / HTTP/1.1\r\nHost: h\r\n\r\n", &[400, 405, 501]),
    ("method-with-bracket", Level::Must, "9110 9.1", b"GET[ / HTTP/1.1\r\nHost: h\r\n\r\n", &[400, 405, 501]),
    ("method-with-brace", Level::Must, "9110 9.1", b"{GET} / HTTP/1.1\r\nHost: h\r\n\r\n", &[400, 405, 501]),
    (
        "method-with-quote",
        Level::Must,
        "9110 9.1",
        b"\"GET\" / HTTP/1.1\r\nHost: h\r\n\r\n",
        &[400, 405, 501],
    ),
    ("method-with-at", Level::Must, "9110 9.1", b"G@T / HTTP/1.1\r\nHost: h\r\n\r\n", &[400, 405, 501]),
    (
        "method-with-obs-text",
        Level::Must,
        "9110 9.1",
        b"G\xcbT / HTTP/1.1\r\nHost: h\r\n\r\n",
        &[400, 405, 501],
    ),
    ("method-with-nul", Level::Must, "9110 9.1", b"GET\0 / HTTP/1.1\r\nHost: h\r\n\r\n", &[400, 405, 501]),
    ("method-with-del", Level::Must, "9110 9.1", b"GET\x7f / HTTP/1.1\r\nHost: h\r\n\r\n", &[400, 405, 501]),
    ("method-empty", Level::Must, "9112 3", b" / HTTP/1.1\r\nHost: h\r\n\r\n", BAD),
    ("line-begins-with-space", Level::Must, "9112 3", b" GET / HTTP/1.1\r\nHost: h\r\n\r\n", BAD),
    ("line-of-spaces", Level::Must, "9112 3", b"   \r\n\r\n", BAD),
    ("version-lower-case", Level::Must, "9112 2.3", b"GET / http/1.1\r\nHost: h\r\n\r\n", BAD_VERSION),
    ("version-mixed-case", Level::Must, "9112 2.3", b"GET / Http/1.1\r\nHost: h\r\n\r\n", BAD_VERSION),
    ("version-without-minor", Level::Must, "9112 2.3", b"GET / HTTP/1\r\nHost: h\r\n\r\n", BAD_VERSION),
    (
        "version-without-minor-digit",
        Level::Must,
        "9112 2.3",
        b"GET / HTTP/1.\r\nHost: h\r\n\r\n",
        BAD_VERSION,
    ),
    (
        "version-without-major-digit",
        Level::Must,
        "9112 2.3",
        b"GET / HTTP/.1\r\nHost: h\r\n\r\n",
        BAD_VERSION,
    ),
    ("version-leading-zeros", Level::Must, "9112 2.3", b"GET / HTTP/01.01\r\nHost: h\r\n\r\n", BAD_VERSION),
    ("version-two-digits", Level::Must, "9112 2.3", b"GET / HTTP/1.10\r\nHost: h\r\n\r\n", BAD_VERSION),
    ("version-three-numbers", Level::Must, "9112 2.3", b"GET / HTTP/1.1.1\r\nHost: h\r\n\r\n", BAD_VERSION),
    ("version-comma", Level::Must, "9112 2.3", b"GET / HTTP/1,1\r\nHost: h\r\n\r\n", BAD_VERSION),
    ("version-space-inside", Level::Must, "9112 2.3", b"GET / HTTP/ 1.1\r\nHost: h\r\n\r\n", BAD_VERSION),
    (
        "version-space-before-slash",
        Level::Must,
        "9112 2.3",
        b"GET / HTTP /1.1\r\nHost: h\r\n\r\n",
        BAD_VERSION,
    ),
    ("version-no-number", Level::Must, "9112 2.3", b"GET / HTTP/x.y\r\nHost: h\r\n\r\n", BAD_VERSION),
    ("version-negative", Level::Must, "9112 2.3", b"GET / HTTP/-1.1\r\nHost: h\r\n\r\n", BAD_VERSION),
    ("version-nul", Level::Must, "9112 2.3", b"GET / HTTP/1.1\0\r\nHost: h\r\n\r\n", BAD_VERSION),
    ("version-other-protocol", Level::Must, "9112 2.3", b"GET / ICE/1.0\r\nHost: h\r\n\r\n", BAD_VERSION),
    ("version-almost-http", Level::Must, "9112 2.3", b"GET / IHTTP/1.1\r\nHost: h\r\n\r\n", BAD_VERSION),
    ("version-rtsp", Level::Must, "9112 2.3", b"GET / RTSP/1.0\r\nHost: h\r\n\r\n", BAD_VERSION),
    ("version-0.9-by-name", Level::Should, "9110 15.6.6", b"GET / HTTP/0.9\r\nHost: h\r\n\r\n", BAD_VERSION),
    ("version-2.0", Level::Should, "9110 15.6.6", b"GET / HTTP/2.0\r\nHost: h\r\n\r\n", BAD_VERSION),
    ("version-3.0", Level::Should, "9110 15.6.6", b"GET / HTTP/3.0\r\nHost: h\r\n\r\n", BAD_VERSION),
    ("version-9.9", Level::Should, "9110 15.6.6", b"GET / HTTP/9.9\r\nHost: h\r\n\r\n", BAD_VERSION),
    ("http2-preface", Level::Should, "9113 3.4", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", BAD_VERSION),
    ("tls-client-hello", Level::Safe, "9112 3", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", BAD),
    ("binary-garbage", Level::Safe, "9112 3", b"\x80\x81\xfe\xff\x00\x01\x02\x03\r\n\r\n\r\n\r\n", BAD),
    ("space-before-first-field", Level::Must, "9112 2.2", b"GET / HTTP/1.1\r\n Host: h\r\n\r\n", BAD),
    ("tab-before-first-field", Level::Must, "9112 2.2", b"GET / HTTP/1.1\r\n\tHost: h\r\n\r\n", BAD),
    (
        "blank-line-of-space-before-fields",
        Level::Must,
        "9112 2.2",
        b"GET / HTTP/1.1\r\n \r\nHost: h\r\n\r\n",
        BAD,
    ),
    (
        "folded-first-field-hides-length",
        Level::Must,
        "9112 2.2",
        b"POST / HTTP/1.1\r\n Content-Length: 5\r\nHost: h\r\n\r\n",
        BAD,
    ),
    ("cr-ends-request-line", Level::Must, "9112 2.2", b"GET / HTTP/1.1\rHost: h\r\n\r\n", BAD),
    ("cr-in-target", Level::Must, "9112 2.2", b"GET /a\rb HTTP/1.1\r\nHost: h\r\n\r\n", BAD),
    ("cr-before-version", Level::Must, "9112 2.2", b"GET /\rHTTP/1.1\r\nHost: h\r\n\r\n", BAD),
    ("cr-cr-lf-ends-request-line", Level::Must, "9112 2.2", b"GET / HTTP/1.1\r\r\nHost: h\r\n\r\n", BAD),
    ("cr-cr-lf-ends-head", Level::Must, "9112 2.2", b"GET / HTTP/1.1\r\nHost: h\r\n\r\r\n", BAD),
    (
        "cr-and-letter-behind-head",
        Level::Must,
        "9112 2.2",
        b"GET / HTTP/1.1\r\nConnection: close\r\nHost: h\r\n\rZGET /evil HTTP/1.1\r\nHost: h\r\n\r\n",
        BAD,
    ),
    ("vertical-tab-between-words", Level::Safe, "9112 3", b"GET\x0b/ HTTP/1.1\r\nHost: h\r\n\r\n", BAD),
    ("form-feed-between-words", Level::Safe, "9112 3", b"GET\x0c/ HTTP/1.1\r\nHost: h\r\n\r\n", BAD),
    ("nul-between-words", Level::Safe, "9112 3", b"GET\0/ HTTP/1.1\r\nHost: h\r\n\r\n", BAD),
];

/// What may be rejected or taken as if it were right; then the request goes on as this line.
const LENIENT: &[(&str, &str, &[u8], &str)] = &[
    ("bare-lf-ends-request-line", "9112 2.2", b"GET /a HTTP/1.1\nHost: h\r\n\r\n", "GET /a HTTP/1.1"),
    ("bare-lf-ends-field", "9112 2.2", b"GET /a HTTP/1.1\r\nHost: h\nX: y\r\n\r\n", "GET /a HTTP/1.1"),
    ("bare-lf-ends-head", "9112 2.2", b"GET /a HTTP/1.1\r\nHost: h\r\n\n", "GET /a HTTP/1.1"),
    ("bare-lf-everywhere", "9112 2.2", b"GET /a HTTP/1.1\nHost: h\n\n", "GET /a HTTP/1.1"),
    ("two-spaces-behind-method", "9112 3", b"GET  /a HTTP/1.1\r\nHost: h\r\n\r\n", "GET /a HTTP/1.1"),
    ("two-spaces-before-version", "9112 3", b"GET /a  HTTP/1.1\r\nHost: h\r\n\r\n", "GET /a HTTP/1.1"),
    ("tab-behind-method", "9112 3", b"GET\t/a HTTP/1.1\r\nHost: h\r\n\r\n", "GET /a HTTP/1.1"),
    ("tab-before-version", "9112 3", b"GET /a\tHTTP/1.1\r\nHost: h\r\n\r\n", "GET /a HTTP/1.1"),
    ("space-behind-version", "9112 3", b"GET /a HTTP/1.1 \r\nHost: h\r\n\r\n", "GET /a HTTP/1.1"),
    (
        "two-empty-lines-before-request",
        "9112 2.2",
        b"\r\n\r\nGET /a HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET /a HTTP/1.1",
    ),
    ("empty-lf-line-before-request", "9112 2.2", b"\nGET /a HTTP/1.1\r\nHost: h\r\n\r\n", "GET /a HTTP/1.1"),
];

/// Requests that are well, and the line that goes on.
const GOOD: &[(&str, Level, &str, &[u8], &str)] = &[
    ("plain-get", Level::Must, "9112 3", b"GET /a HTTP/1.1\r\nHost: h\r\n\r\n", "GET /a HTTP/1.1"),
    (
        "empty-line-before-request",
        Level::Should,
        "9112 2.2",
        b"\r\nGET /a HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET /a HTTP/1.1",
    ),
    (
        "put",
        Level::Must,
        "9110 9.3.4",
        b"PUT /a HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n",
        "PUT /a HTTP/1.1",
    ),
    (
        "patch",
        Level::Must,
        "5789 2",
        b"PATCH /a HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n",
        "PATCH /a HTTP/1.1",
    ),
    ("delete", Level::Must, "9110 9.3.5", b"DELETE /a HTTP/1.1\r\nHost: h\r\n\r\n", "DELETE /a HTTP/1.1"),
    (
        "delete-with-a-body",
        Level::May,
        "9110 9.3.5",
        b"DELETE /a HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nab",
        "DELETE /a HTTP/1.1",
    ),
    ("options", Level::Must, "9110 9.3.7", b"OPTIONS /a HTTP/1.1\r\nHost: h\r\n\r\n", "OPTIONS /a HTTP/1.1"),
    (
        "webdav-propfind",
        Level::May,
        "9110 9.1",
        b"PROPFIND /a HTTP/1.1\r\nHost: h\r\n\r\n",
        "PROPFIND /a HTTP/1.1",
    ),
    ("webdav-report", Level::May, "9110 9.1", b"REPORT /a HTTP/1.1\r\nHost: h\r\n\r\n", "REPORT /a HTTP/1.1"),
    ("purge", Level::May, "9110 9.1", b"PURGE /a HTTP/1.1\r\nHost: h\r\n\r\n", "PURGE /a HTTP/1.1"),
    (
        "query-method",
        Level::May,
        "9110 9.1",
        b"QUERY /a HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nq",
        "QUERY /a HTTP/1.1",
    ),
    (
        "method-with-dash",
        Level::May,
        "9110 9.1",
        b"M-SEARCH /a HTTP/1.1\r\nHost: h\r\n\r\n",
        "M-SEARCH /a HTTP/1.1",
    ),
    (
        "method-of-odd-tokens",
        Level::May,
        "9110 9.1",
        b"A!#$%&'*+.^_`|~9 /a HTTP/1.1\r\nHost: h\r\n\r\n",
        "A!#$%&'*+.^_`|~9 /a HTTP/1.1",
    ),
    (
        "higher-minor-is-1.1",
        Level::Should,
        "9110 2.5",
        b"GET /a HTTP/1.2\r\nHost: h\r\n\r\n",
        "GET /a HTTP/1.1",
    ),
    (
        "highest-minor-is-1.1",
        Level::Should,
        "9110 2.5",
        b"GET /a HTTP/1.9\r\nHost: h\r\n\r\n",
        "GET /a HTTP/1.1",
    ),
];

/// The cases.
pub fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = REJECTED
        .iter()
        .map(|&(id, level, rfc, bytes, statuses)| {
            let case = Case::new(A, id, level, rfc).sends(and_smuggled(bytes)).step(Step::Finish);
            case.response("GET").holds([Rejects(statuses), Unseen("smuggled"), Unseen("evil")])
        })
        .collect();
    cases.extend(LENIENT.iter().map(|&(id, rfc, bytes, line)| {
        let case = Case::new(A, id, Level::Safe, rfc).sends(bytes).response("GET");
        case.holds([Rejects(BAD)]).holds([Status(&[200]), Line(line), SeenHas("Host", "h"), Seen(1)])
    }));
    cases.extend(GOOD.iter().map(|&(id, level, rfc, bytes, line)| {
        let case = Case::new(A, id, level, rfc).sends(bytes).response("GET");
        case.holds([Status(&[200]), Stays, Line(line)])
    }));
    cases.push(case_of_method());
    cases.push(http_0_9());
    cases.extend(bytewise());
    cases
}

/// Methods have a case: `get` is another method, which a proxy may reject or pass on, but not make GET.
fn case_of_method() -> Case {
    let case = Case::new(A, "method-has-a-case", Level::Must, "9110 9.1");
    let case = case.sends("get /a HTTP/1.1\r\nHost: h\r\n\r\n").response("GET");
    case.holds([Status(&[400, 405, 501]), Seen(0)]).holds([Status(&[200]), Line("get /a HTTP/1.1")])
}

/// A simple request of 1991. It has no version, so no head follows and no field of the response would be read.
fn http_0_9() -> Case {
    let case =
        Case::new(A, "http-0.9-request", Level::Safe, "9112 2.3").sends("GET /a\r\n").step(Step::Finish);
    case.response("GET").holds([Rejects(BAD_VERSION)])
}

/// However the bytes are split, the request is the same.
fn bytewise() -> [Case; 2] {
    let good = Case::new(A, "request-byte-by-byte", Level::Must, "9112 2.2");
    let bad = Case::new(A, "bad-request-byte-by-byte", Level::Must, "9112 5.1");
    [
        good.step(Step::Bytewise(get("X-A: b\r\n"))).response("GET").holds([
            Status(&[200]),
            SeenHas("X-A", "b"),
            Seen(1),
        ]),
        bad.step(Step::Bytewise(get("X-A : b\r\n"))).response("GET").holds([Rejects(BAD)]),
    ]
}
