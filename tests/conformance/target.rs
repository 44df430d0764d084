//! The request target and Host (RFC 9112 section 3.2, RFC 9110 sections 4.2, 7.1 and 7.2).

use super::case::{Area, Case, Level, Step, and_smuggled};
use super::rule::Rule::*;

const A: Area = Area::Target;
const BAD: &[u16] = &[400];

/// The second word of the line, with what is behind it up to the fields.
const REJECTED_TARGETS: &[(&str, Level, &str, &[u8], &[u16])] = &[
    ("target-without-slash", Level::Should, "9112 3.2", b"GET a HTTP/1.1", BAD),
    ("target-path-without-slash", Level::Should, "9112 3.2", b"GET a/b/c HTTP/1.1", BAD),
    ("target-query-alone", Level::Should, "9112 3.2", b"GET ?q HTTP/1.1", BAD),
    ("target-backslash-first", Level::Should, "9112 3.2", b"GET \\a HTTP/1.1", BAD),
    ("target-nul", Level::Safe, "9112 3.2", b"GET /a\0b HTTP/1.1", BAD),
    ("target-control", Level::Safe, "9112 3.2", b"GET /a\x01b HTTP/1.1", BAD),
    ("target-vertical-tab", Level::Safe, "9112 3.2", b"GET /a\x0bb HTTP/1.1", BAD),
    ("target-del", Level::Safe, "9112 3.2", b"GET /a\x7fb HTTP/1.1", BAD),
    ("target-tab", Level::Safe, "9112 3.2", b"GET /a\tb HTTP/1.1", BAD),
    ("asterisk-for-get", Level::Must, "9112 3.2.4", b"GET * HTTP/1.1", BAD),
    ("asterisk-for-post", Level::Must, "9112 3.2.4", b"POST * HTTP/1.1", BAD),
    ("asterisk-and-path", Level::Must, "9112 3.2.4", b"OPTIONS */a HTTP/1.1", BAD),
    ("two-asterisks", Level::Must, "9112 3.2.4", b"OPTIONS ** HTTP/1.1", BAD),
    ("authority-form-for-get", Level::Must, "9112 3.2.3", b"GET h:80 HTTP/1.1", BAD),
    ("authority-form-for-options", Level::Must, "9112 3.2.3", b"OPTIONS h:80 HTTP/1.1", BAD),
    ("connect-with-a-path", Level::Must, "9112 3.2.3", b"CONNECT /a HTTP/1.1", &[400, 403, 404, 405, 501]),
    ("connect-without-a-port", Level::Must, "9110 9.3.6", b"CONNECT h HTTP/1.1", &[400, 403, 404, 405, 501]),
    (
        "connect-absolute",
        Level::Must,
        "9112 3.2.3",
        b"CONNECT http://h:80 HTTP/1.1",
        &[400, 403, 404, 405, 501],
    ),
    ("absolute-with-user", Level::Should, "9110 4.2.4", b"GET http://u@h/a HTTP/1.1", BAD),
    ("absolute-with-password", Level::Should, "9110 4.2.4", b"GET http://u:p@h/a HTTP/1.1", BAD),
    ("absolute-without-host", Level::Must, "9110 4.2.1", b"GET http:///a HTTP/1.1", BAD),
    ("absolute-with-port-alone", Level::Must, "9110 4.2.1", b"GET http://:80/a HTTP/1.1", BAD),
    ("absolute-with-no-number-as-port", Level::Must, "9110 4.2.1", b"GET http://h:x/a HTTP/1.1", BAD),
    ("absolute-with-one-slash", Level::Should, "9112 3.2.2", b"GET http:/a HTTP/1.1", BAD),
    ("absolute-with-broken-literal", Level::Must, "9110 4.2.1", b"GET http://[::1/a HTTP/1.1", BAD),
];

/// Values of the one Host.
const REJECTED_HOSTS: &[(&str, Level, &[u8])] = &[
    ("host-empty", Level::Should, b""),
    ("host-with-user", Level::Must, b"u@h"),
    ("host-with-path", Level::Must, b"h/a"),
    ("host-with-query", Level::Must, b"h?a"),
    ("host-with-fragment", Level::Must, b"h#a"),
    ("host-with-space", Level::Must, b"h i"),
    ("host-with-tab", Level::Must, b"h\ti"),
    ("host-of-two", Level::Must, b"h, i"),
    ("host-with-scheme", Level::Must, b"http://h"),
    ("host-with-no-number-as-port", Level::Must, b"h:x"),
    ("host-with-a-sign-in-the-port", Level::Must, b"h:+80"),
    ("host-with-two-ports", Level::Must, b"h:80:81"),
    ("host-with-port-beyond-16-bits", Level::May, b"h:65536"),
    ("host-with-huge-port", Level::May, b"h:99999999999999999999"),
    ("host-port-alone", Level::Must, b":80"),
    ("host-with-backslash", Level::Must, b"h\\i"),
    ("host-with-angle", Level::Must, b"<h>"),
    ("host-with-quote", Level::Must, b"\"h\""),
    ("host-with-brace", Level::Must, b"{h}"),
    ("host-with-pipe", Level::Must, b"h|i"),
    ("host-with-caret", Level::Must, b"h^i"),
    ("host-with-backtick", Level::Must, b"h`i"),
    ("host-with-obs-text", Level::Must, b"h\xe9"),
    ("host-with-nul", Level::Must, b"h\0i"),
    ("host-with-cr", Level::Must, b"h\ri"),
    ("host-with-control", Level::Must, b"h\x01"),
    ("host-with-broken-percent", Level::Must, b"h%zz"),
    ("host-with-half-a-percent", Level::Must, b"h%2"),
    ("host-literal-without-end", Level::Must, b"[::1"),
    ("host-literal-empty", Level::Must, b"[]"),
    ("host-literal-with-tail", Level::Must, b"[::1]x"),
    ("host-ipv6-without-brackets", Level::Must, b"::1"),
    ("host-literal-of-ipv4", Level::Must, b"[1.2.3.4]"),
    ("host-literal-of-letters", Level::Must, b"[xyz]"),
];

/// Values of the one Host that are well, and go on.
const GOOD_HOSTS: &[(&str, &str)] = &[
    ("host-name", "h.example"),
    ("host-ipv4", "127.0.0.1"),
    ("host-ipv6", "[::1]"),
    ("host-with-dash-and-digits", "a-1.b2.example"),
    ("host-with-underscore", "a_b.example"),
];

/// Fields of a request without one good Host.
const REJECTED_FIELDS: &[(&str, Level, &[u8])] = &[
    ("host-missing", Level::Must, b"X: y\r\n"),
    ("host-missing-with-no-field", Level::Must, b""),
    ("host-twice", Level::Must, b"Host: h\r\nHost: i\r\n"),
    ("host-twice-the-same", Level::Must, b"Host: h\r\nHost: h\r\n"),
    ("host-twice-in-other-case", Level::Must, b"Host: h\r\nhOST: i\r\n"),
    ("host-twice-apart", Level::Must, b"Host: h\r\nX: y\r\nHost: i\r\n"),
    ("host-twice-and-one-empty", Level::Must, b"Host: h\r\nHost:\r\n"),
    ("host-with-space-before-colon", Level::Must, b"Host : h\r\n"),
    ("host-folded", Level::Must, b"Host: h\r\n i\r\n"),
    ("host-and-folded-host", Level::Must, b"X: y\r\n Host: i\r\nHost: h\r\n"),
    ("host-and-host-with-space", Level::Must, b"Host: h\r\nHost : i\r\n"),
];

/// Targets that go on as they came.
const KEPT: &[(&str, Level, &str)] = &[
    ("path-dots", Level::Must, "/a/../b/./c"),
    ("path-double-slash", Level::Must, "//a//b"),
    ("path-percent", Level::Must, "/%61%2f%2F%20"),
    ("path-percent-nul", Level::May, "/a%00b"),
    ("path-percent-crlf", Level::Must, "/a%0d%0aX:%20y"),
    ("path-broken-percent", Level::May, "/a%zz%"),
    ("path-semicolon", Level::Must, "/a;b=c"),
    ("path-sub-delims", Level::Must, "/!$&'()*+,;=:@-._~"),
    ("path-colon-first", Level::Must, "/:a"),
    ("query-odd", Level::Must, "/a?b=c&d=%26??/:@"),
    ("query-empty", Level::Must, "/a?"),
    ("query-with-url", Level::Must, "/a?u=http://x/y"),
    ("path-pipe-and-brace", Level::May, "/a|b{c}[d]^`"),
    ("path-backslash", Level::May, "/a\\b"),
    ("path-quote", Level::May, "/a\"b<c>"),
];

/// The cases.
pub fn cases() -> Vec<Case> {
    let rejects = |id: &str, level, rfc, bytes: Vec<u8>, statuses| {
        let case = Case::new(A, id, level, rfc).sends(and_smuggled(bytes)).step(Step::Finish).response("GET");
        case.holds([Rejects(statuses), Unseen("smuggled")])
    };
    let mut cases = Vec::new();
    cases.extend(REJECTED_TARGETS.iter().map(|&(id, level, rfc, line, statuses)| {
        rejects(id, level, rfc, [line, b"\r\nHost: h\r\n\r\n"].concat(), statuses)
    }));
    cases.extend(REJECTED_HOSTS.iter().map(|&(id, level, host)| {
        rejects(id, level, "9112 3.2", [b"GET / HTTP/1.1\r\nHost: ", host, b"\r\n\r\n"].concat(), BAD)
    }));
    cases.extend(REJECTED_FIELDS.iter().map(|&(id, level, fields)| {
        rejects(id, level, "9112 3.2", [b"GET / HTTP/1.1\r\n", fields, b"\r\n"].concat(), BAD)
    }));
    cases.extend(GOOD_HOSTS.iter().map(|&(id, host)| {
        let case = Case::new(A, id, Level::Must, "9112 3.2")
            .sends(format!("GET /a HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        case.response("GET").holds([Status(&[200]), SeenHas("Host", host), Line("GET /a HTTP/1.1")])
    }));
    cases.extend(KEPT.iter().map(|&(id, level, target)| {
        let line: &'static str = format!("GET {target} HTTP/1.1").leak();
        let case =
            Case::new(A, id, level, "9110 7.7").sends(format!("{line}\r\nHost: h\r\n\r\n")).response("GET");
        let case = case.holds([Status(&[200]), Line(line)]);
        if level == Level::May { case.holds([Rejects(BAD)]) } else { case }
    }));
    cases.extend(forms());
    cases.extend(odd());
    cases
}

/// The other forms of a target (RFC 9112 sections 3.2.2 and 3.2.4).
fn forms() -> Vec<Case> {
    let absolute =
        |id: &str, level, sent: &str| Case::new(A, id, level, "9112 3.2.2").sends(sent).response("GET");
    let origin = |path: &'static str| [Status(&[200]), Line(path), SeenHas("Host", "h")];
    vec![
        absolute("absolute-form", Level::Must, "GET http://h/a?b HTTP/1.1\r\nHost: h\r\n\r\n")
            .holds(origin("GET /a?b HTTP/1.1"))
            .holds(origin("GET http://h/a?b HTTP/1.1")),
        absolute("absolute-form-capitals", Level::Must, "GET HTTP://h/a HTTP/1.1\r\nHost: h\r\n\r\n")
            .holds(origin("GET /a HTTP/1.1"))
            .holds(origin("GET HTTP://h/a HTTP/1.1")),
        absolute(
            "absolute-form-replaces-host",
            Level::Must,
            "GET http://h/a HTTP/1.1\r\nHost: other\r\n\r\n",
        )
        .holds([Rejects(BAD)])
        .holds([Status(&[200]), SeenHas("Host", "h"), Unseen("other")]),
        absolute(
            "absolute-form-of-post-replaces-host",
            Level::Must,
            "POST http://h/a HTTP/1.1\r\nHost: other\r\nContent-Length: 1\r\n\r\nx",
        )
        .holds([Rejects(BAD)])
        .holds([Status(&[200]), SeenHas("Host", "h"), Unseen("other"), SeenBody(b"x".to_vec())]),
        absolute("absolute-form-needs-a-host-too", Level::Must, "GET http://h/a HTTP/1.1\r\n\r\n")
            .holds([Rejects(BAD)]),
        absolute("absolute-form-without-path", Level::Must, "GET http://h HTTP/1.1\r\nHost: h\r\n\r\n")
            .holds(origin("GET / HTTP/1.1"))
            .holds(origin("GET http://h HTTP/1.1"))
            .holds(origin("GET http://h/ HTTP/1.1")),
        absolute("absolute-form-with-query-alone", Level::Must, "GET http://h?q HTTP/1.1\r\nHost: h\r\n\r\n")
            .holds(origin("GET /?q HTTP/1.1"))
            .holds(origin("GET http://h?q HTTP/1.1"))
            .holds(origin("GET http://h/?q HTTP/1.1")),
        absolute("absolute-form-in-1.0", Level::Must, "GET http://h/a HTTP/1.0\r\n\r\n")
            .holds([Status(&[200]), SeenHas("Host", "h")])
            .holds([Status(&[400])]),
        absolute(
            "absolute-form-of-https-in-the-clear",
            Level::Must,
            "GET https://h/a HTTP/1.1\r\nHost: h\r\n\r\n",
        )
        .rfc("9110 7.4")
        .holds([Status(&[400, 403, 421]), Seen(0)]),
        absolute("absolute-form-of-another-scheme", Level::May, "GET ftp://h/a HTTP/1.1\r\nHost: h\r\n\r\n")
            .holds([Status(&[400, 403, 404, 421, 501]), Seen(0)])
            .holds(origin("GET ftp://h/a HTTP/1.1")),
        Case::new(A, "options-asterisk", Level::Must, "9112 3.2.4")
            .sends("OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n")
            .response("GET")
            .holds([Status(&[200]), Line("OPTIONS * HTTP/1.1")]),
        Case::new(A, "options-of-a-whole-server", Level::Must, "9112 3.2.4")
            .sends("OPTIONS http://h HTTP/1.1\r\nHost: h\r\n\r\n")
            .response("GET")
            .holds([Status(&[200]), Line("OPTIONS * HTTP/1.1")])
            .holds([Status(&[200]), Line("OPTIONS http://h HTTP/1.1")]),
        Case::new(A, "options-of-the-root", Level::Must, "9112 3.2.4")
            .sends("OPTIONS http://h/ HTTP/1.1\r\nHost: h\r\n\r\n")
            .response("GET")
            .holds([Status(&[200]), Line("OPTIONS / HTTP/1.1")])
            .holds([Status(&[200]), Line("OPTIONS http://h/ HTTP/1.1")]),
    ]
}

/// Where a proxy may choose.
fn odd() -> Vec<Case> {
    let case = |id: &str, level, rfc, sent: &[u8]| Case::new(A, id, level, rfc).sends(sent).response("GET");
    vec![
        case("fragment", Level::Should, "9112 3.2", b"GET /a#b HTTP/1.1\r\nHost: h\r\n\r\n")
            .holds([Rejects(BAD)])
            .holds([Status(&[200]), Line("GET /a HTTP/1.1")]),
        case(
            "fragment-in-absolute-form",
            Level::Should,
            "9112 3.2",
            b"GET http://h/a#b HTTP/1.1\r\nHost: h\r\n\r\n",
        )
        .holds([Rejects(BAD)])
        .holds([Status(&[200]), Line("GET /a HTTP/1.1")]),
        case("target-obs-text", Level::Should, "9112 3.2", b"GET /caf\xc3\xa9 HTTP/1.1\r\nHost: h\r\n\r\n")
            .holds([Rejects(BAD)])
            .holds([Status(&[200]), Line("GET /caf%C3%A9 HTTP/1.1")]),
        case("target-overlong-utf8", Level::Should, "9112 3.2", b"GET /\xc0\xaf HTTP/1.1\r\nHost: h\r\n\r\n")
            .holds([Rejects(BAD)])
            .holds([Status(&[200]), Line("GET /%C0%AF HTTP/1.1")]),
        case(
            "connect",
            Level::Safe,
            "9110 9.3.6",
            b"CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: 127.0.0.1:22\r\n\r\n",
        )
        .holds([Status(&[400, 403, 404, 405, 501]), Seen(0)])
        .holds([Line("CONNECT 127.0.0.1:22 HTTP/1.1")]),
        case("host-with-port", Level::May, "9110 7.2", b"GET /a HTTP/1.1\r\nHost: h:8080\r\n\r\n")
            .holds([Status(&[200]), SeenHas("Host", "h:8080")]),
        case("host-with-empty-port", Level::Must, "9110 7.2", b"GET /a HTTP/1.1\r\nHost: h:\r\n\r\n")
            .holds([Status(&[200]), SeenHas("Host", "h:")])
            .holds([Status(&[200]), SeenHas("Host", "h")]),
        case(
            "host-with-white-space-around",
            Level::Must,
            "9110 5.5",
            b"GET /a HTTP/1.1\r\nHost: \t h \t\r\n\r\n",
        )
        .holds([Status(&[200]), SeenHas("Host", "h")]),
        case(
            "host-last-of-the-fields",
            Level::Must,
            "9110 7.2",
            b"GET /a HTTP/1.1\r\nX: y\r\nHost: h\r\n\r\n",
        )
        .holds([Status(&[200]), SeenHas("Host", "h")]),
        case("host-name-in-other-case", Level::Must, "9110 5.1", b"GET /a HTTP/1.1\r\nhOsT: h\r\n\r\n")
            .holds([Status(&[200]), SeenHas("Host", "h")]),
    ]
}
