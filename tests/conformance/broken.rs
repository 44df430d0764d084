//! Responses that are not well: what no client may get to see as if they were (RFC 9112 sections 2 to 8).

use super::case::{Area, Case, Level, OK, Script, Step, get};
use super::rule::{Rule, Rule::*, ensure};

const A: Area = Area::Broken;
const BAD: &[u16] = &[502, 500, 504];

/// Responses, behind each of which stands another that was not asked for. Rejected, or the client's is cut.
const REJECTED: &[(&str, Level, &str, &[u8])] = &[
    (
        "two-lengths-differ",
        Level::Must,
        "9112 6.3",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
    ),
    (
        "length-list-differs",
        Level::Must,
        "9112 6.3",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5, 6\r\n\r\nhello!",
    ),
    ("length-plus", Level::Must, "9112 6.3", b"HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello"),
    ("length-minus", Level::Must, "9112 6.3", b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello"),
    ("length-hex", Level::Must, "9112 6.3", b"HTTP/1.1 200 OK\r\nContent-Length: 0x5\r\n\r\nhello"),
    ("length-letters", Level::Must, "9112 6.3", b"HTTP/1.1 200 OK\r\nContent-Length: abc\r\n\r\nhello"),
    ("length-empty", Level::Must, "9112 6.3", b"HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\nhello"),
    ("length-inner-space", Level::Must, "9112 6.3", b"HTTP/1.1 200 OK\r\nContent-Length: 1 0\r\n\r\nhello"),
    (
        "length-beyond-64-bits",
        Level::Must,
        "9112 6.3",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nhello",
    ),
    (
        "coding-in-chunks-twice",
        Level::Safe,
        "9112 6.1",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    ),
    (
        "chunk-size-hex-prefix",
        Level::Must,
        "9112 7.1",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n",
    ),
    (
        "chunk-size-letters",
        Level::Must,
        "9112 7.1",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\nhello\r\n0\r\n\r\n",
    ),
    (
        "chunk-size-minus",
        Level::Must,
        "9112 7.1",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n0\r\n\r\n",
    ),
    (
        "chunk-size-overflows",
        Level::Must,
        "9112 7.1",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000005\r\nhello\r\n0\r\n\r\n",
    ),
    (
        "chunk-size-empty",
        Level::Must,
        "9112 7.1",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\r\nhello\r\n0\r\n\r\n",
    ),
    (
        "chunk-data-too-long",
        Level::Must,
        "9112 7.1",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello!!\r\n0\r\n\r\n",
    ),
    (
        "chunk-data-without-crlf",
        Level::Must,
        "9112 7.1",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloXX0\r\n\r\n",
    ),
    ("status-of-two-digits", Level::Must, "9112 4", b"HTTP/1.1 20 OK\r\nContent-Length: 2\r\n\r\nok"),
    ("status-of-four-digits", Level::Must, "9112 4", b"HTTP/1.1 2000 OK\r\nContent-Length: 2\r\n\r\nok"),
    ("status-of-letters", Level::Must, "9112 4", b"HTTP/1.1 abc OK\r\nContent-Length: 2\r\n\r\nok"),
    ("status-negative", Level::Must, "9112 4", b"HTTP/1.1 -20 OK\r\nContent-Length: 2\r\n\r\nok"),
    ("status-missing", Level::Must, "9112 4", b"HTTP/1.1\r\nContent-Length: 2\r\n\r\nok"),
    ("status-below-100", Level::Should, "9110 15", b"HTTP/1.1 099 OK\r\nContent-Length: 2\r\n\r\nok"),
    ("version-http-2", Level::Must, "9112 2.3", b"HTTP/2 200 OK\r\nContent-Length: 2\r\n\r\nok"),
    ("version-icy", Level::Must, "9112 2.3", b"ICY 200 OK\r\nContent-Length: 2\r\n\r\nok"),
    ("version-lower-case", Level::Must, "9112 2.3", b"http/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
    ("no-http-at-all", Level::Must, "9112 2.1", b"220 mail.example ESMTP\r\n\r\n"),
    ("a-request", Level::Must, "9112 2.1", b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"),
    ("tls-alert", Level::Must, "9112 2.1", b"\x15\x03\x01\x00\x02\x02\x0a\r\n\r\n"),
    ("line-without-colon", Level::Safe, "9112 5", b"HTTP/1.1 200 OK\r\nX-A\r\nContent-Length: 2\r\n\r\nok"),
    ("name-with-space", Level::Safe, "9110 5.1", b"HTTP/1.1 200 OK\r\nX A: b\r\nContent-Length: 2\r\n\r\nok"),
    ("name-empty", Level::Safe, "9112 5", b"HTTP/1.1 200 OK\r\n: b\r\nContent-Length: 2\r\n\r\nok"),
    (
        "value-with-nul",
        Level::Must,
        "9110 5.5",
        b"HTTP/1.1 200 OK\r\nX-A: b\0c\r\nContent-Length: 2\r\n\r\nok",
    ),
    (
        "first-field-folded",
        Level::Safe,
        "9112 2.2",
        b"HTTP/1.1 200 OK\r\n X-A: b\r\nContent-Length: 2\r\n\r\nok",
    ),
];

/// Responses that a proxy may also repair; the payload that the client is then to get.
const REPAIRED: &[(&str, &str, &[u8], &[u8])] = &[
    (
        "two-lengths-equal",
        "9112 6.3",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
        b"ok",
    ),
    ("length-list-equal", "9112 6.3", b"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok", b"ok"),
    (
        "both-kinds",
        "9112 6.3",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"ok",
    ),
    (
        "both-kinds-coding-first",
        "9112 6.3",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"ok",
    ),
    ("space-before-colon", "9112 5.1", b"HTTP/1.1 200 OK\r\nX-A : b\r\nContent-Length: 2\r\n\r\nok", b"ok"),
    (
        "space-before-colon-of-the-length",
        "9112 5.1",
        b"HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nok",
        b"ok",
    ),
    ("obs-fold", "9112 5.2", b"HTTP/1.1 200 OK\r\nX-A: b\r\n c\r\nContent-Length: 2\r\n\r\nok", b"ok"),
    ("bare-cr-in-value", "9112 2.2", b"HTTP/1.1 200 OK\r\nX-A: b\rc\r\nContent-Length: 2\r\n\r\nok", b"ok"),
    ("bare-lf", "9112 2.2", b"HTTP/1.1 200 OK\nContent-Length: 2\n\nok", b"ok"),
    ("two-spaces-before-status", "9112 4", b"HTTP/1.1  200 OK\r\nContent-Length: 2\r\n\r\nok", b"ok"),
];

/// Bytes behind a whole response: the next request must not get them.
const LEFT_OVER: &[(&str, &[u8])] = &[
    ("behind-a-length", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"),
    ("behind-chunks", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"),
    ("behind-a-204", b"HTTP/1.1 204 No\r\n\r\n"),
    ("behind-a-304", b"HTTP/1.1 304 No\r\n\r\n"),
    ("behind-a-length-of-zero", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
];

const POISON: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nPOISON";

/// The cases.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    cases.extend(REJECTED.iter().map(|&(id, level, rfc, says)| {
        let case = Case::new(A, format!("bad-response-{id}"), level, rfc);
        let case = case.server(Script::SaysAndCloses([says, POISON].concat())).sends(get("")).response("GET");
        case.holds([Status(BAD), Client(is_not_poisoned)]).holds([Incomplete, Client(is_not_poisoned)])
    }));
    cases.extend(REPAIRED.iter().map(|&(id, rfc, says, body)| {
        let case = Case::new(A, format!("bad-response-{id}"), Level::Safe, rfc)
            .says(says)
            .sends(get(""))
            .response("GET");
        case.holds([Status(BAD)]).holds([Incomplete]).holds([Status(&[200]), Body(body.to_vec())])
    }));
    cases.extend(LEFT_OVER.iter().map(|&(id, says)| {
        let case = Case::new(A, format!("left-over-{id}"), Level::Safe, "9112 9.2");
        let case = case.server(Script::InTurn(vec![[says, POISON].concat()])).sends(get("")).response("GET");
        let case = case.step(Step::Pause).sends(get("")).response("GET");
        case.holds([Responses(2), Client(is_not_poisoned)])
            .holds([StatusOf(1, BAD)])
            .holds([Responses(1), Ends])
    }));
    cases.extend(cut());
    cases.extend(unasked());
    cases
}

fn is_not_poisoned(seen: &mut super::observe::AtClient) -> Result<(), String> {
    let poisoned = seen.responses.iter().any(|response| response.body == b"POISON");
    ensure(!poisoned, || "the client got a response that was not asked for".into())
}

/// A response that breaks off must not look whole (RFC 9112 section 8).
fn cut() -> Vec<Case> {
    let case = |id: &str, level, says: &str| {
        let case = Case::new(A, id, level, "9112 8").server(Script::SaysAndCloses(says.into()));
        case.sends(get("")).response("GET")
    };
    let reset = |id: &str, says: &str| {
        let case = Case::new(A, id, Level::Must, "9112 8").server(Script::SaysAndResets(says.into()));
        case.sends(get("")).response("GET")
    };
    let short = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello";
    let coded = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    vec![
        case("cut-response-with-length", Level::Must, short).holds([Incomplete]),
        case("cut-response-before-the-body", Level::Must, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n")
            .holds([Incomplete]),
        case("cut-response-in-a-chunk", Level::Must, &format!("{coded}a\r\nhello")).holds([Incomplete]),
        case("cut-response-between-chunks", Level::Must, &format!("{coded}5\r\nhello\r\n"))
            .holds([Incomplete]),
        case("cut-response-in-a-chunk-size", Level::Must, &format!("{coded}5\r\nhello\r\n1"))
            .holds([Incomplete]),
        case("cut-response-before-the-last-line", Level::Must, &format!("{coded}5\r\nhello\r\n0\r\n"))
            .holds([Incomplete]),
        case("cut-response-in-the-trailers", Level::Must, &format!("{coded}5\r\nhello\r\n0\r\nX-Sum: 1\r\n"))
            .holds([Incomplete]),
        case("cut-response-in-the-head", Level::Must, "HTTP/1.1 200 OK\r\nContent-Le").holds([Incomplete]),
        case("cut-response-before-the-empty-line", Level::Must, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n")
            .holds([Incomplete]),
        case("no-response", Level::Must, "").holds([Incomplete]),
        case("no-response-is-502", Level::Should, "").holds([Status(&[502, 504])]),
        case("no-http-is-502", Level::Should, "220 mail.example ESMTP\r\n\r\n").holds([Status(&[502])]),
        reset("reset-response-with-length", short).holds([Incomplete]),
        reset("reset-response-in-a-chunk", &format!("{coded}a\r\nhello")).holds([Incomplete]),
        Case::new(A, "cut-response-to-1.0", Level::Must, "9112 8")
            .server(Script::SaysAndCloses(short.into()))
            .sends("GET / HTTP/1.0\r\nHost: h\r\n\r\n")
            .response("GET")
            .holds([Incomplete]),
        Case::new(A, "cut-chunks-to-1.0", Level::Safe, "9112 8")
            .server(Script::SaysAndCloses(format!("{coded}a\r\nhello").into()))
            .sends("GET / HTTP/1.0\r\nHost: h\r\n\r\n")
            .response("GET")
            .holds([Incomplete]),
    ]
}

/// What a server says on a connection while nothing is asked for.
fn unasked() -> Vec<Case> {
    vec![
        Case::new(A, "unasked-response-on-an-idle-connection", Level::Safe, "9112 9.2")
            .server(Script::Does(|visit| {
                let first = visit.number == 0;
                while visit.request().is_some() {
                    visit.send(OK);
                    if first {
                        std::thread::park_timeout(std::time::Duration::from_millis(20));
                        visit.send(POISON);
                    }
                }
            }))
            .sends(get(""))
            .response("GET")
            .step(Step::Pause)
            .sends(get(""))
            .response("GET")
            .holds([Responses(2), Client(is_not_poisoned)])
            .holds([StatusOf(1, BAD)]),
        Case::new(A, "response-before-the-request", Level::Safe, "9112 9.2")
            .server(Script::Does(|visit| {
                if visit.number == 0 {
                    visit.send(POISON);
                }
                while visit.request().is_some() {
                    visit.send(OK);
                }
            }))
            .sends(get(""))
            .response("GET")
            .step(Step::Pause)
            .sends(get(""))
            .response("GET")
            // The first cannot be distinguished from a response; the second must not come out of step.
            .holds([Client(|seen| {
                let second = seen.responses.get(1).map(|response| response.body.clone());
                ensure(second.as_deref() != Some(b"POISON"), || "the second response is out of step".into())
            })]),
    ]
}
