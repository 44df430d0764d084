//! Responses that are well (RFC 9110 sections 6, 8 and 15, RFC 9112 sections 4 and 6).

use super::case::{Area, Case, Level, Script, Step, get};
use super::rule::{Rule, Rule::*, ensure};
use crate::support::{chunked, noise};

const A: Area = Area::Responses;

/// Responses to GET, with the status and the payload that the client is to get; the connections stay.
const GOOD: &[(&str, Level, &str, &[u8], u16, &[u8])] = &[
    ("length", Level::Must, "9112 6.3", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 200, b"hello"),
    ("length-zero", Level::Must, "9112 6.3", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 200, b""),
    (
        "length-spaces-around",
        Level::Must,
        "9110 5.5",
        b"HTTP/1.1 200 OK\r\nContent-Length:  5 \r\n\r\nhello",
        200,
        b"hello",
    ),
    (
        "length-leading-zeros",
        Level::Must,
        "9110 8.6",
        b"HTTP/1.1 200 OK\r\nContent-Length: 005\r\n\r\nhello",
        200,
        b"hello",
    ),
    (
        "chunks",
        Level::Must,
        "9112 7.1",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n",
        200,
        b"hello",
    ),
    (
        "chunks-in-capitals",
        Level::Must,
        "9112 7",
        b"HTTP/1.1 200 OK\r\nTRANSFER-ENCODING: CHUNKED\r\n\r\nA\r\n0123456789\r\n0\r\n\r\n",
        200,
        b"0123456789",
    ),
    (
        "chunks-empty",
        Level::Must,
        "9112 7.1",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        200,
        b"",
    ),
    (
        "chunks-with-extensions",
        Level::Must,
        "9112 7.1.1",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;a;b=\"c;d\"\r\nhello\r\n0;e\r\n\r\n",
        200,
        b"hello",
    ),
    (
        "chunks-leading-zeros",
        Level::Must,
        "9112 7.1",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0005\r\nhello\r\n000\r\n\r\n",
        200,
        b"hello",
    ),
    (
        "201",
        Level::Must,
        "9110 15.3.2",
        b"HTTP/1.1 201 Created\r\nLocation: /b\r\nContent-Length: 2\r\n\r\nok",
        201,
        b"ok",
    ),
    (
        "206",
        Level::Must,
        "9110 15.3.7",
        b"HTTP/1.1 206 Partial\r\nContent-Range: bytes 0-1/9\r\nContent-Length: 2\r\n\r\nok",
        206,
        b"ok",
    ),
    (
        "205-without-a-body",
        Level::Must,
        "9110 15.3.6",
        b"HTTP/1.1 205 Reset\r\nContent-Length: 0\r\n\r\n",
        205,
        b"",
    ),
    (
        "301",
        Level::Must,
        "9110 15.4.2",
        b"HTTP/1.1 301 Moved\r\nLocation: http://x/\r\nContent-Length: 2\r\n\r\nok",
        301,
        b"ok",
    ),
    (
        "302-relative",
        Level::Must,
        "9110 10.2.2",
        b"HTTP/1.1 302 Found\r\nLocation: ../b?c\r\nContent-Length: 0\r\n\r\n",
        302,
        b"",
    ),
    (
        "401",
        Level::Must,
        "9110 15.5.2",
        b"HTTP/1.1 401 No\r\nWWW-Authenticate: Basic realm=\"a\"\r\nContent-Length: 2\r\n\r\nno",
        401,
        b"no",
    ),
    ("404", Level::Must, "9110 15.5.5", b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno", 404, b"no"),
    (
        "407-of-a-server",
        Level::May,
        "9110 15.5.8",
        b"HTTP/1.1 407 No\r\nContent-Length: 2\r\n\r\nno",
        407,
        b"no",
    ),
    ("418", Level::Must, "9110 15", b"HTTP/1.1 418 Teapot\r\nContent-Length: 2\r\n\r\nno", 418, b"no"),
    ("500", Level::Must, "9110 15.6.1", b"HTTP/1.1 500 Oh\r\nContent-Length: 2\r\n\r\nno", 500, b"no"),
    (
        "503-with-retry-after",
        Level::Must,
        "9110 15.6.4",
        b"HTTP/1.1 503 Busy\r\nRetry-After: 9\r\nContent-Length: 2\r\n\r\nno",
        503,
        b"no",
    ),
    ("status-299", Level::Must, "9110 15", b"HTTP/1.1 299 Odd\r\nContent-Length: 2\r\n\r\nok", 299, b"ok"),
    ("status-499", Level::Must, "9110 15", b"HTTP/1.1 499 Odd\r\nContent-Length: 2\r\n\r\nok", 499, b"ok"),
    ("status-599", Level::Must, "9110 15", b"HTTP/1.1 599 Odd\r\nContent-Length: 2\r\n\r\nok", 599, b"ok"),
    ("status-999", Level::May, "9110 15", b"HTTP/1.1 999 Odd\r\nContent-Length: 2\r\n\r\nok", 999, b"ok"),
    ("phrase-empty", Level::Must, "9112 4", b"HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\nok", 200, b"ok"),
    (
        "phrase-missing-with-its-space",
        Level::May,
        "9112 4",
        b"HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok",
        200,
        b"ok",
    ),
    (
        "phrase-of-many-words",
        Level::Must,
        "9112 4",
        b"HTTP/1.1 200 It Is All  Well\tHere\r\nContent-Length: 2\r\n\r\nok",
        200,
        b"ok",
    ),
    (
        "phrase-of-obs-text",
        Level::Must,
        "9112 4",
        b"HTTP/1.1 200 S\xf6\r\nContent-Length: 2\r\n\r\nok",
        200,
        b"ok",
    ),
    (
        "minor-version-beyond-1",
        Level::Must,
        "9110 2.5",
        b"HTTP/1.5 200 OK\r\nContent-Length: 2\r\n\r\nok",
        200,
        b"ok",
    ),
];

/// Fields of a response that go on.
const FIELDS: &[(&str, Level, &[u8], &str, &[&str])] = &[
    (
        "set-cookie-lines-stay-apart",
        Level::Must,
        b"Set-Cookie: a=1\r\nSet-Cookie: b=2\r\n",
        "Set-Cookie",
        &["a=1", "b=2"],
    ),
    ("cache-control", Level::Must, b"Cache-Control: max-age=9\r\n", "Cache-Control", &["max-age=9"]),
    ("age", Level::Must, b"Age: 7\r\n", "Age", &["7"]),
    ("etag", Level::Must, b"ETag: W/\"a b\"\r\n", "ETag", &["W/\"a b\""]),
    (
        "last-modified",
        Level::Must,
        b"Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\n",
        "Last-Modified",
        &["Sun, 06 Nov 1994 08:49:37 GMT"],
    ),
    (
        "date-of-the-server",
        Level::May,
        b"Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n",
        "Date",
        &["Sun, 06 Nov 1994 08:49:37 GMT"],
    ),
    ("server", Level::May, b"Server: x/1 (y)\r\n", "Server", &["x/1 (y)"]),
    ("vary", Level::Must, b"Vary: A, B\r\n", "Vary", &["A, B"]),
    ("content-encoding", Level::Must, b"Content-Encoding: gzip\r\n", "Content-Encoding", &["gzip"]),
    ("content-type", Level::Must, b"Content-Type: a/b; c=\"d\"\r\n", "Content-Type", &["a/b; c=\"d\""]),
    ("unknown", Level::Must, b"Foo-Bar: baz\r\n", "Foo-Bar", &["baz"]),
    ("underscore", Level::May, b"Foo_Bar: baz\r\n", "Foo_Bar", &["baz"]),
    ("empty", Level::Must, b"X-A:\r\n", "X-A", &[""]),
    ("link-lines-keep-their-order", Level::Must, b"X-L: 1\r\nX-M: x\r\nX-L: 2\r\n", "X-L", &["1", "2"]),
    ("accept-ranges", Level::Must, b"Accept-Ranges: bytes\r\n", "Accept-Ranges", &["bytes"]),
    ("location", Level::Must, b"Location: http://h:81/a#b\r\n", "Location", &["http://h:81/a#b"]),
];

/// The cases.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    cases.extend(GOOD.iter().map(|&(id, level, rfc, says, status, body)| {
        let statuses: &'static [u16] = vec![status].leak();
        let case =
            Case::new(A, format!("response-{id}"), level, rfc).server(Script::InTurn(vec![says.to_vec()]));
        case.sends(get("")).response("GET").holds([Status(statuses), Body(body.to_vec()), OwnVersion, Stays])
    }));
    cases.extend(FIELDS.iter().map(|&(id, level, fields, name, values)| {
        let says = [b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n", fields, b"\r\nok"].concat();
        let case = Case::new(A, format!("response-field-{id}"), level, "9110 7.7")
            .says(says)
            .sends(get(""))
            .response("GET");
        case.holds([Status(&[200]), HasAll(name, values)])
    }));
    cases.extend(until_close());
    cases.extend(sizes());
    cases.extend(others());
    cases
}

/// The server tells the end by closing (RFC 9112 section 6.3).
fn until_close() -> Vec<Case> {
    let case = |id: &str, level, fields: &str, body: &str| {
        let says = format!("HTTP/1.1 200 OK\r\n{fields}\r\n{body}");
        Case::new(A, id, level, "9112 6.3")
            .server(Script::SaysAndCloses(says.into()))
            .sends(get(""))
            .response("GET")
    };
    vec![
        case("until-close", Level::Must, "", "hello").holds([Status(&[200]), Body(b"hello".to_vec())]),
        case("until-close-empty", Level::Must, "", "").holds([Status(&[200]), Body(Vec::new())]),
        case("until-close-with-close", Level::Must, "Connection: close\r\n", "hello")
            .holds([Status(&[200]), Body(b"hello".to_vec())]),
        case("until-close-keeps-the-client", Level::May, "", "hello").holds([
            Status(&[200]),
            InChunks,
            Stays,
        ]),
        case("length-and-close", Level::Must, "Connection: close\r\nContent-Length: 5\r\n", "hello").holds([
            Status(&[200]),
            Body(b"hello".to_vec()),
            Stays,
        ]),
        case(
            "chunks-and-close",
            Level::Must,
            "Connection: close\r\nTransfer-Encoding: chunked\r\n",
            "5\r\nhello\r\n0\r\n\r\n",
        )
        .holds([Status(&[200]), Body(b"hello".to_vec()), Stays]),
    ]
}

fn sizes() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, size) in [("1-byte", 1), ("16-kib", 16 << 10), ("300-kib", 300 << 10), ("2-mib", 2 << 20)] {
        let body = noise(size);
        let mut long = format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n").into_bytes();
        long.extend_from_slice(&body);
        let mut coded = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        coded.extend(chunked(&body.chunks(7001).collect::<Vec<_>>()));
        let closed = [b"HTTP/1.1 200 OK\r\n\r\n", &body[..]].concat();
        let case = |kind: &str, script| {
            let case =
                Case::new(A, format!("response-{kind}-{name}"), Level::Must, "9112 6.3").server(script);
            case.sends(get("")).response("GET").holds([Status(&[200]), Body(body.clone())])
        };
        cases.push(case("with-length", Script::Says(long)));
        cases.push(case("in-chunks", Script::Says(coded)));
        cases.push(case("until-close", Script::SaysAndCloses(closed)));
    }
    cases
}

fn others() -> Vec<Case> {
    let case = |id: &str, level, rfc| Case::new(A, id, level, rfc).sends(get("")).response("GET");
    let ok = || [Status(&[200]), Body(b"ok".to_vec())];
    vec![
        case("response-without-date-gets-one", Level::Must, "9110 6.6.1")
            .holds([&ok()[..], &[HasAny("Date")]].concat()),
        case("response-byte-by-byte", Level::Must, "9112 2.2")
            .server(Script::SaysBytewise(
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n".to_vec(),
            ))
            .holds([&ok()[..], &[Stays]].concat()),
        case("response-head-and-body-apart", Level::Must, "9112 6.3")
            .server(Script::Does(|visit| {
                while visit.request().is_some() {
                    visit.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n");
                    std::thread::park_timeout(std::time::Duration::from_millis(30));
                    visit.send("ok");
                }
            }))
            .holds([&ok()[..], &[Stays]].concat()),
        Case::new(A, "response-starts-before-its-end-is-there", Level::May, "9110 7.6")
            .server(Script::Does(|visit| {
                if visit.request().is_some() {
                    visit.send("HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\nbegun");
                    visit.to_the_end();
                }
            }))
            .sends(get(""))
            // It reaches the client though the rest never comes.
            .step(Step::Bytes(12))
            .holds([Read(b"HTTP/1.1 200".to_vec())]),
        Case::new(A, "response-of-1.0-is-sent-as-1.1", Level::Must, "9110 2.5")
            .server(Script::SaysAndCloses(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec()))
            .sends(get(""))
            .response("GET")
            .holds([Status(&[200]), Body(b"ok".to_vec()), OwnVersion, Stays]),
        Case::new(A, "response-with-a-body-to-delete", Level::Must, "9110 9.3.5")
            .sends("DELETE / HTTP/1.1\r\nHost: h\r\n\r\n")
            .response("DELETE")
            .holds(ok()),
    ]
}
