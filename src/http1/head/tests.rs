//! Tables of heads: what is read from them, and why invalid ones are rejected.

use super::*;
use Reason::*;

const LIMITS: Limits = Limits { head: 400, headers: 8, uri: 100, trace: false };

/// The result for `bytes`: None when complete and valid.
fn verdict(bytes: &[u8]) -> Result<Option<usize>, Reason> {
    match request(bytes, &LIMITS, &mut Slots::new())? {
        Parsed::Complete(head) => Ok(Some(head.len)),
        Parsed::Partial => Ok(None),
    }
}

/// Rejected with `reason`, however the bytes are split: each prefix is partial or has the same reason.
#[track_caller]
fn rejected(bytes: impl AsRef<[u8]>, reason: Reason) {
    let bytes = bytes.as_ref();
    let shown = String::from_utf8_lossy(bytes).into_owned();
    assert_eq!(verdict(bytes), Err(reason), "{shown:?}");
    for end in 0..bytes.len() {
        let early = verdict(&bytes[..end]);
        assert!(matches!(early, Ok(None)) || early == Err(reason), "{shown:?} after {end}: {early:?}");
    }
}

#[track_caller]
fn accepted(bytes: impl AsRef<[u8]>) {
    let bytes = bytes.as_ref();
    let shown = String::from_utf8_lossy(bytes).into_owned();
    assert_eq!(verdict(bytes), Ok(Some(bytes.len())), "{shown:?}");
    for end in 0..bytes.len() {
        assert_eq!(verdict(&bytes[..end]), Ok(None), "{shown:?} after {end}");
    }
    assert_eq!(verdict(&[bytes, b"\0\0"].concat()), Ok(Some(bytes.len())));
}

/// A request with this first line.
fn line(line: &str) -> String {
    format!("{line}\r\nHost: a\r\n\r\n")
}

/// A request with these additional fields.
fn with(fields: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n")
}

#[test]
fn good_request_lines() {
    for good in ["GET / HTTP/1.1", "GET / HTTP/1.0", "GET / HTTP/1.2", "GET / HTTP/1.9", "\r\nGET / HTTP/1.1"]
    {
        accepted(line(good));
    }
    for good in [
        "get / HTTP/1.1",
        "M-SEARCH / HTTP/1.1",
        "!#$%&'*+-.^_`|~09 / HTTP/1.1",
        "HEAD //a/../b?c=d|{}\" HTTP/1.1",
    ] {
        accepted(line(good));
    }
    for good in
        ["OPTIONS * HTTP/1.1", "OPTIONS /a HTTP/1.1", "GET http://b/ HTTP/1.1", "GET https://b:1?q HTTP/1.0"]
    {
        accepted(line(good));
    }
}

#[test]
fn bad_request_lines() {
    let bad = [
        "GET  / HTTP/1.1",
        "GET /  HTTP/1.1",
        " GET / HTTP/1.1",
        "GET / HTTP/1.1 ",
        "GET\t/ HTTP/1.1",
        "GET /",
    ];
    bad.into_iter().for_each(|bad| rejected(line(bad), BadRequestLine));
    let bad = [
        "GET / http/1.1",
        "GET / HTTP/1.",
        "GET / HTTP/1.1.",
        "GET / HTTP/1.10",
        "GET / HTTP/11.1",
        "GET / HTTP/1,1",
    ];
    bad.into_iter().for_each(|bad| rejected(line(bad), BadRequestLine));
    let bad = [
        "GET",
        "",
        "GE(T / HTTP/1.1",
        "GET / HTTPS/1.1",
        "GET / ",
        "\r\n\r\nGET / HTTP/1.1",
        "G\0T / HTTP/1.1",
        "GET / HTTP/1.x",
    ];
    for bad in bad.iter().filter(|bad| !bad.is_empty()) {
        rejected(line(bad), BadRequestLine);
    }
    rejected("\x16\x03\x01\x02\x00\x01", BadRequestLine);
    rejected("\u{e9} / HTTP/1.1", BadRequestLine);
    for bad in [
        "\nGET / HTTP/1.1",
        "\rGET / HTTP/1.1",
        "GET / HTTP/1.1\nHost: a\n\n",
        "GET /\nHost: a",
        "GET\n",
        "\r\n\n",
    ] {
        let reason = if bad == "\r\n\n" { BareLineBreak } else { verdict(bad.as_bytes()).unwrap_err() };
        assert_eq!(reason, BareLineBreak, "{bad:?}");
        rejected(bad, BareLineBreak);
    }
    rejected("GET / HTTP/1.1\rHost: a\r\n\r\n", BareLineBreak);
}

#[test]
fn versions() {
    for bad in
        ["GET / HTTP/2.0", "GET / HTTP/0.9", "GET / HTTP/3.1", "PRI /a HTTP/2.0", "CONNECT a:1 HTTP/2.0"]
    {
        rejected(line(bad), VersionUnsupported);
    }
    rejected("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Http2Preface);
}

#[test]
fn targets() {
    for bad in [
        "a",
        "*",
        "?a",
        "a:80",
        "http:/a",
        "http://",
        "http://u@a/",
        "http://u:p@a/",
        "ftp://a/",
        "http://a b/",
    ] {
        let reason = if bad.contains(' ') { BadRequestLine } else { BadTarget };
        rejected(line(&format!("GET {bad} HTTP/1.1")), reason);
    }
    for byte in (0..b' ').chain([b'#', 0x7f, 0x80, 0xc3, 0xff]).filter(|byte| !matches!(byte, b'\r' | b'\n'))
    {
        let bytes = [b"GET /a", &[byte][..], b"b HTTP/1.1\r\nHost: a\r\n\r\n"].concat();
        rejected(bytes, BadTarget);
    }
    rejected(line("GET /#a HTTP/1.1"), BadTarget);
    rejected(line("CONNECT a:443 HTTP/1.1"), ConnectRejected);
    rejected(line("CONNECT / HTTP/1.1"), ConnectRejected);
    rejected(line("TRACE / HTTP/1.1"), TraceRejected);
}

#[test]
fn fields_that_are_malformed() {
    for bad in [
        "A : 1",
        " A: 1",
        "\tA: 1",
        "A: 1\r\n b",
        "A: 1\r\n\tb",
        ": 1",
        "A",
        "A(: 1",
        "A\0: 1",
        "\u{e9}: 1",
        "A\tb: 1",
    ] {
        rejected(with(bad), BadHeader);
    }
    for byte in (0..b' ').chain([0x7f]).filter(|byte| !matches!(byte, b'\r' | b'\n' | b'\t')) {
        rejected([b"GET / HTTP/1.1\r\nHost: a\r\nA: b", &[byte][..], b"c\r\n\r\n"].concat(), BadHeader);
        rejected([b"GET / HTTP/1.1\r\nHost: a\r\nA: ", &[byte][..], b"\r\n\r\n"].concat(), BadHeader);
    }
    for bad in ["A: 1\nB: 2", "A: 1\rB: 2", "A: 1\r\r", "A\n", "A: \nB: 1", "A: 1\r\n\n", "A: 1\r\n\rB: 2"] {
        rejected(with(bad), BareLineBreak);
    }
    accepted(with("A:1\r\nB:\t 2 \t\r\nC:\r\nD: \u{e9}\t\u{ff} ~"));
    rejected(with(&format!("Connection: {}", "a,".repeat(65))), BadHeader);
}

#[test]
fn hosts() {
    for bad in [
        "",
        "Host:",
        "Host: a\r\nHost: a",
        "Host: a, b",
        "Host: a,b",
        "Host: %61",
        "Host: a b",
        "Host: u@a",
        "Host: a:b",
        "Host: http://a",
        "Host: a/",
        "Host: a?b",
        "Host: a#b",
        "Host: a\\b",
        "Host: u:p@a",
        "Host: [::1",
        "Host: ::1",
        "Host: a:65536",
        "Host: a:80:80",
        "Host: :80",
        "Host: \u{e9}",
        "Host: a\r\nhOST: b",
    ] {
        let fields = if bad.is_empty() { String::new() } else { format!("{bad}\r\n") };
        rejected(format!("GET / HTTP/1.1\r\n{fields}\r\n"), BadHost);
        if !bad.is_empty() {
            rejected(format!("GET / HTTP/1.0\r\n{fields}\r\n"), BadHost);
        }
        rejected(format!("GET http://a/ HTTP/1.1\r\n{fields}\r\n"), BadHost);
    }
    accepted("GET / HTTP/1.0\r\n\r\n");
    accepted("GET / HTTP/1.1\r\nhOST:[::1]:80\r\n\r\n");
}

#[test]
fn framing_is_rejected_where_it_is_ambiguous() {
    rejected(with("Content-Length: 1\r\nContent-Length: 1"), BadContentLength);
    rejected(with("Content-Length: 1, 1"), BadContentLength);
    rejected(with("Content-Length: +1"), BadContentLength);
    rejected(with("Content-Length: 18446744073709551616"), BadContentLength);
    rejected(with("Content-Length: 1\r\nTransfer-Encoding: chunked"), LengthConflict);
    rejected(with("Transfer-Encoding: gzip"), BadTransferEncoding);
    rejected(with("Transfer-Encoding: gzip, chunked"), TransferCodingUnknown);
    rejected(with("Transfer-Encoding: chunked\r\ntransfer-encoding: chunked"), BadTransferEncoding);
    rejected(with("Transfer-Encoding: \u{b}chunked"), BadHeader);
    rejected(with("Transfer-Encoding : chunked"), BadHeader);
    rejected(with("Transfer-Encoding:\r\n chunked"), BadHeader);
    for bad in [
        "Transfer-Encoding: chunked\0",
        "Transfer-Encoding\t: chunked",
        "Transfer-Encoding\u{b}: chunked",
        "Transfer-Encoding\0: chunked",
        "Transfer Encoding: chunked",
        " Transfer-Encoding: chunked",
        "\tTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\n x",
        "A: b\r\n Transfer-Encoding: chunked",
        "Transfer_Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent_Length: 3",
        "Content-Length: 3\r\ntransfer_ENCODING: chunked",
        "Content-Length: 3\0",
        "Content-Length : 3",
        "Content-Length: 3\r\n 0",
    ] {
        rejected(with(bad), BadHeader);
    }
    for bad in
        ["A: b\nTransfer-Encoding: chunked", "A: b\rTransfer-Encoding: chunked", "Content-Length: 3\r0"]
    {
        rejected(with(bad), BareLineBreak);
    }
    for bad in
        ["", "identity, identity", "chunked, identity", "chunked\u{a0}", "chun\u{212a}ed", "'chunked'x;"]
    {
        rejected(with(&format!("Transfer-Encoding: {bad}")), BadTransferEncoding);
    }
    for bad in ["identity", "xchunked", "cow", "'chunked'", "chunked-x"] {
        rejected(with(&format!("Transfer-Encoding: {bad}")), BadTransferEncoding);
    }
    for bad in ["identity, chunked", "'chunked', chunked"] {
        rejected(with(&format!("Transfer-Encoding: {bad}")), TransferCodingUnknown);
    }
    for bad in ["Transfer-Encoding: identity", "Transfer-Encoding:", "transfer-encoding: \u{e9}"] {
        rejected(with(&format!("{bad}\r\nContent-Length: 3")), LengthConflict);
        rejected(with(&format!("Content-Length: 3\r\n{bad}")), LengthConflict);
    }
    for bad in
        ["", "-0", "+0", " 3,", ",3", "3 3", "0x3", "3_0", "3.0", "3;", "\"3\"", "3e1", "a", "\u{ff13}"]
    {
        rejected(with(&format!("Content-Length: {bad}")), BadContentLength);
    }
    accepted(with("Content-Length: 0003"));
    accepted(with("Transfer-Encoding:\t chunked \t"));
    rejected("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", BadTransferEncoding);
    accepted(with("Content-Length: 99999999999999"));
}

#[test]
fn expectations() {
    rejected(with("Expect: 200-ok"), ExpectationUnknown);
    rejected(with("Expect: 100-continue, x"), ExpectationUnknown);
    rejected(with("Expect: 100-continue\r\nExpect: x"), ExpectationUnknown);
    rejected(with("Expect: 100-continue;a=b"), ExpectationUnknown);
    accepted("POST / HTTP/1.0\r\nExpect: x\r\n\r\n");
}

#[test]
fn limits() {
    rejected(line(&format!("GET /{} HTTP/1.1", "a".repeat(100))), UriTooLong);
    accepted(line(&format!("GET /{} HTTP/1.1", "a".repeat(99))));
    rejected(format!("GET /{}", "a".repeat(100)), UriTooLong);
    rejected(with(&"A: 1\r\n".repeat(8)), TooManyHeaders);
    accepted(with("A: 1\r\nA: 1\r\nA: 1\r\nA: 1\r\nA: 1\r\nA: 1\r\nA: 1"));
    let exactly = |len: usize| with(&format!("A: {}", "a".repeat(len - with("A: ").len())));
    accepted(exactly(400));
    rejected(exactly(401), HeadTooLarge);
    rejected("A".repeat(401), HeadTooLarge);
    rejected(format!("GET / HTTP/1.1\r\nA: {}", "a".repeat(500)), HeadTooLarge);
    let wide = Limits { uri: 10_000, ..LIMITS };
    let long = format!("GET /{}", "a".repeat(1000));
    assert_eq!(request(long.as_bytes(), &wide, &mut Slots::new()).err(), Some(UriTooLong));
}

/// The parsed properties of a request, as a line of text.
#[track_caller]
fn facts(bytes: &str, expected: &str) {
    let limits = Limits { trace: true, ..LIMITS };
    let mut slots = Slots::new();
    let Ok(Parsed::Complete(head)) = request(bytes.as_bytes(), &limits, &mut slots) else {
        panic!("{bytes}")
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let flags = [
        (head.slash_first, "slash"),
        (head.host_from_target, "absolute"),
        (head.keep_alive, "keep"),
        (head.expects_continue, "continue"),
        (head.upgrade, "upgrade"),
        (head.form == Form::Json, "json"),
        (head.form == Form::Html, "html"),
        (head.authenticates_connection, "connection"),
        (head.te_trailers, "trailers"),
    ];
    let mut found = format!("{} {} {}", text(head.method), text(head.target), text(head.host));
    flags.iter().filter(|flag| flag.0).for_each(|flag| found += &format!(" {}", flag.1));
    head.max_forwards.iter().for_each(|left| found += &format!(" forwards={left}"));
    head.request_id.iter().for_each(|id| found += &format!(" id={}", text(id)));
    head.deadline_ms.iter().for_each(|ms| found += &format!(" deadline={ms}"));
    if head.framing != Framing::None {
        found += &format!(" {:?}", head.framing);
    }
    assert_eq!(found, expected, "{bytes:?}");
}

#[test]
fn what_requests_say() {
    facts("GET / HTTP/1.1\r\nHost: a:1\r\n\r\n", "GET / a:1 keep");
    facts("GET / HTTP/1.0\r\n\r\n", "GET / ");
    facts("GET http://b?q HTTP/1.1\r\nHost: a\r\n\r\n", "GET ?q b slash absolute keep");
    facts("OPTIONS http://b HTTP/1.1\r\nHost: a\r\n\r\n", "OPTIONS * b absolute keep");
    facts("GET / HTTP/1.0\r\nConnection: x, Keep-Alive\r\n\r\n", "GET /  keep");
    facts("GET / HTTP/1.2\r\nHost: a\r\n\r\n", "GET / a keep");
    let facts = |fields: &str, expected: &str| facts(&with(fields), &format!("POST / a{expected}"));
    facts("Connection: keep-alive\r\nConnection: x ,CLOSE", "");
    facts("Content-Length: 0", " keep Length(0)");
    facts("Expect: 100-Continue\r\nContent-Length: 5", " keep continue Length(5)");
    facts("Expect: 100-continue\r\nTransfer-Encoding: Chunked", " keep continue Chunked");
    facts("Expect: 100-continue\r\nContent-Length: 0", " keep Length(0)");
    facts("Connection: Upgrade\r\nUpgrade: websocket", " keep upgrade");
    facts("Connection: Upgrade\r\nUpgrade:", " keep");
    facts("Upgrade: websocket", " keep");
    facts("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: a", " keep");
    facts("TE: gzip, Trailers", " keep trailers");
    facts("Connection: Upgrade\r\nUpgrade: websocket, H2C/1", " keep");
    facts("Accept: text/html, application/problem+JSON;q=1", " keep json");
    facts("Accept: Application/json", " keep json");
    facts("Accept: Text/HTML;q=0.9, image/webp, */*", " keep html");
    facts("Accept: application/json\r\nAccept: text/html", " keep json");
    facts("Accept: text/html\r\nAccept: image/png", " keep html");
    facts("Authorization: Negotiate YII", " keep connection");
    facts("Authorization: ntlm TlRM", " keep connection");
    facts("Authorization: Basic bnRsbQ==", " keep");
    facts("Accept: application/json, text/html", " keep json");
    facts("Accept: text/html, application/json;q=0.9", " keep html");
    facts("Accept: text/html;level=1;Q=0.3, application/json;q=0.4", " keep json");
    facts("Accept: application/json;q=0, */*", " keep");
    facts("Accept: application/json; q=0.0, text/html;q=x", " keep html");
    facts("Accept: application/jsonp, image/jpeg", " keep");
    facts("Max-Forwards: 3", " keep");
    facts("X-Request-Deadline: 250", " keep deadline=250");
    facts("X-Request-Deadline: 0", " keep deadline=0");
    facts("X-Request-Deadline:   00000250 ", " keep deadline=250");
    facts("X-Request-Deadline: 100000000", " keep");
    facts("X-Request-Deadline: 2.5", " keep");
    facts("X-Request-Deadline: 250\r\nx-request-deadline: 250", " keep");
    facts("X-Request-Id: a-1:2/3", " keep id=a-1:2/3");
    facts("X-Request-Id: a\r\nX-Request-Id: a", " keep");
    facts("X-Request-Id: a b", " keep");
    facts("X-Request-Id: a\"", " keep");
    facts("X-Request-Id:", " keep");
    facts(&format!("X-Request-Id: {}", "a".repeat(129)), " keep");
}

#[test]
fn max_forwards_counts_for_two_methods() {
    facts("OPTIONS * HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n", "OPTIONS * a keep forwards=0");
    let most = format!("OPTIONS * HTTP/1.1\r\nHost: a\r\nMax-Forwards: {}\r\n\r\n", "9".repeat(30));
    facts(&most, &format!("OPTIONS * a keep forwards={}", u64::MAX));
    facts("TRACE / HTTP/1.1\r\nHost: a\r\nMax-Forwards: 12\r\n\r\n", "TRACE / a keep forwards=12");
    for bad in ["-1", "+1", "0x1", "1,1", "1 1", "1.0", "a", "", "1\r\nMax-Forwards: 1"] {
        rejected(format!("OPTIONS * HTTP/1.1\r\nHost: a\r\nMax-Forwards: {bad}\r\n\r\n"), BadHeader);
    }
    let body = "TRACE / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n";
    let limits = Limits { trace: true, ..LIMITS };
    assert_eq!(request(body.as_bytes(), &limits, &mut Slots::new()).err(), Some(TraceRejected));
}

/// The parsed properties of a response to `method`; None when it is rejected.
fn response_of(method: Method, bytes: &[u8]) -> Option<String> {
    let mut slots = Slots::new();
    let parsed = response(bytes, method, &LIMITS, &mut slots);
    match parsed {
        Ok(Parsed::Partial) => Some("partial".into()),
        Ok(Parsed::Complete(head)) => {
            let phrase = String::from_utf8_lossy(head.phrase).into_owned();
            let keep = if head.keep_alive { " keep" } else { "" };
            let told = head.declared_length.map(|length| format!(" told={length}")).unwrap_or_default();
            Some(format!("{} {phrase:?} {:?}{keep}{told}", head.status, head.framing))
        }
        Err(reason) => {
            let is_too_much = matches!(reason, ResponseHeadTooLarge | ResponseTooManyHeaders);
            assert!(reason == BadResponse || is_too_much, "{reason:?}");
            None
        }
    }
}

#[test]
fn responses_may_have_more_than_requests() {
    let limits = Limits::default().of_responses();
    let check = |fields: String, expected: Option<Reason>| {
        let bytes = format!("HTTP/1.1 200 OK\r\n{fields}\r\n");
        let mut slots = Slots::new();
        let found = response(bytes.as_bytes(), Method::Other, &limits, &mut slots);
        assert!(!matches!(found, Ok(Parsed::Partial)));
        assert_eq!(found.err(), expected, "{} bytes", bytes.len());
    };
    let long = |len| format!("X: {}\r\n", "y".repeat(len));
    let many = |count| (0..count).map(|at| format!("X-{at}: y\r\n")).collect();
    check(long(20_000), None);
    check(long(64 * 1024 - 24), None);
    check(long(64 * 1024 - 23), Some(ResponseHeadTooLarge));
    check(many(150), None);
    check(many(FIELDS_MAX), None);
    check(many(FIELDS_MAX + 1), Some(ResponseTooManyHeaders));
    assert_eq!(Limits { head: 1 << 20, ..Limits::default() }.of_responses().head, 1 << 20);
}

#[test]
fn good_responses() {
    let check = |method, head: &str, expected: &str| {
        let bytes = format!("{head}\r\n\r\n");
        assert_eq!(response_of(method, bytes.as_bytes()).as_deref(), Some(expected), "{head:?}");
        for end in 0..bytes.len() {
            assert_eq!(
                response_of(method, &bytes.as_bytes()[..end]).as_deref(),
                Some("partial"),
                "{head:?} {end}"
            );
        }
    };
    check(Method::Other, "HTTP/1.1 200 OK\r\nContent-Length: 3", "200 \"OK\" Length(3) keep");
    check(Method::Other, "HTTP/1.1 200 \r\nTransfer-Encoding: chunked", "200 \"\" Chunked keep");
    check(Method::Other, "HTTP/1.1 200\r\nContent-Length: 0", "200 \"\" Length(0) keep");
    check(Method::Other, "HTTP/1.1 200 No\tt F\u{fc}r", "200 \"No\\tt Für\" UntilClose");
    check(Method::Other, "HTTP/1.0 200 OK\r\nContent-Length: 3", "200 \"OK\" Length(3)");
    check(
        Method::Other,
        "HTTP/1.0 200 OK\r\nContent-Length: 3\r\nConnection: keep-alive",
        "200 \"OK\" Length(3) keep",
    );
    check(Method::Other, "HTTP/1.3 200 OK\r\nContent-Length: 3\r\nConnection: close", "200 \"OK\" Length(3)");
    check(Method::Other, "HTTP/1.1 100 Continue", "100 \"Continue\" None keep");
    check(Method::Other, "HTTP/1.1 101 Switching", "101 \"Switching\" None");
    check(Method::Other, "HTTP/1.1 204 X\r\nContent-Length: 5", "204 \"X\" None");
    check(Method::Other, "HTTP/1.1 204 X\r\nTransfer-Encoding: chunked", "204 \"X\" None");
    check(Method::Other, "HTTP/1.1 204 X\r\nContent-Length: 0", "204 \"X\" None keep");
    check(Method::Other, "HTTP/1.1 304 X\r\nContent-Length: 5", "304 \"X\" None keep told=5");
    check(Method::Head, "HTTP/1.1 200 X\r\nContent-Length: 5", "200 \"X\" None keep told=5");
    check(Method::Head, "HTTP/1.1 200 X\r\nTransfer-Encoding: chunked", "200 \"X\" None keep");
    check(Method::Head, "HTTP/1.1 204 X\r\nContent-Length: 5", "204 \"X\" None");
    check(Method::Other, "HTTP/1.1 999 X\r\nA : 1\r\nContent-Length: 1", "999 \"X\" Length(1) keep");
}

#[test]
fn bad_responses() {
    let lines = [
        "HTTP/1.1 099 X",
        "HTTP/1.1 20 X",
        "HTTP/1.1 2000 X",
        "HTTP/1.1  200 X",
        "HTTP/2.0 200 X",
        "HTTP/1.1 2x0 X",
        "HTTP/2 200 X",
        "HTTP/1 200 X",
        "HTTP/1.1 1000",
        "HTTP/1.1 -20 X",
        "HTTP/1.1",
        "HTTP/1.1 ",
        " HTTP/1.1 200 X",
    ];
    let others = [
        "http/1.1 200 OK",
        "ICY 200 OK",
        "HTTP/1.1 200\tOK",
        "HTTP/1.1 200 O\0K",
        "HTTP/1.1 200 O\rK",
        "HTTP/1.1 200OK",
        "\r\nHTTP/1.1 200 OK",
    ];
    // Without a body the length does not matter (RFC 9112 section 6.3, rule 1).
    let lengths = [
        "Content-Length: 1\r\nContent-Length: 1",
        "Content-Length: x",
        "Content-Length: 1,1",
        "Content-Length: 5, 5",
        "Content-Length: +5",
        "Content-Length: -1",
        "Content-Length:",
    ];
    let codings = [
        "Transfer-Encoding: identity",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: gzip",
        "Transfer-Encoding: chunked\r\nContent-Length: 1",
        "Transfer-Encoding: chunked, chunked",
    ];
    let broken = [
        "Content-Length : 1",
        "Transfer-Encoding\t: chunked",
        "Transfer-Encoding: \u{b}chunked",
        "A: 1\r\n b",
        "A: 1\r\n\tb",
        " A: 1",
        "A\0: 1",
        "A: b\rc",
        "A: 1\n b",
        "A\r\nB: 1",
        ": 1",
        "A: \0",
        "A: 1\nB: 2",
        "A: 1\rB: 2",
    ];
    let with_field = |field| format!("HTTP/1.1 200 OK\r\n{field}");
    let fields = broken.into_iter().map(with_field);
    let lines = [&lines[..], &others].concat().into_iter().map(str::to_string);
    let long = format!("HTTP/1.1 200 OK\r\nA: {}", "a".repeat(400));
    let http10 = "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked".to_string();
    for bad in lengths.into_iter().chain(codings).map(with_field).chain([http10]) {
        assert_eq!(response_of(Method::Other, format!("{bad}\r\n\r\n").as_bytes()), None, "{bad:?}");
        assert!(response_of(Method::Head, format!("{bad}\r\n\r\n").as_bytes()).is_some(), "{bad:?}");
    }
    for bad in lines.chain(fields).chain([long]) {
        assert_eq!(response_of(Method::Other, format!("{bad}\r\n\r\n").as_bytes()), None, "{bad:?}");
        assert_eq!(response_of(Method::Head, format!("{bad}\r\n\r\n").as_bytes()), None, "{bad:?}");
    }
}

#[test]
fn a_slow_sender_is_not_parsed_for_each_byte() {
    let bytes = with("A: 1\r\nB: 2");
    let parses = (1..=bytes.len()).filter(|end| may_be_complete(&bytes.as_bytes()[..*end], end - 1)).count();
    assert_eq!(parses, 2, "the first byte and the last");
    assert!(may_be_complete(b"GET / HTTP/1.1\n\n", 15));
    assert!(may_be_complete(b"GET / HTTP/1.1\n\r\n", 15));
    assert!(may_be_complete(&[b'a'; 4096], 4095));
    assert!(!may_be_complete(&[b'a'; 4095], 10));
    let whole = bytes.as_bytes();
    assert!(
        (1..whole.len()).all(|seen| may_be_complete(whole, seen)),
        "the end is found wherever it was cut"
    );
}

#[test]
fn trailers_that_connection_nominates_do_not_go_on() {
    let check = |connection: &str, section: &str, kept: &str| {
        let fields = format!("{connection}Transfer-Encoding: chunked");
        let bytes = [with(&fields), format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n")];
        let limits = Limits::default();
        let (mut slots, mut other_slots) = (Slots::new(), Slots::new());
        let request = request(bytes[0].as_bytes(), &limits, &mut slots);
        let response = response(bytes[1].as_bytes(), Method::Other, &limits, &mut other_slots);
        let (Ok(Parsed::Complete(request)), Ok(Parsed::Complete(response))) = (request, response) else {
            panic!("{fields}")
        };
        for mut body in [request.body(), response.body()] {
            body.step(format!("0\r\n{section}\r\n").as_bytes()).unwrap();
            assert!(body.is_done());
            assert_eq!(String::from_utf8_lossy(body.trailers()), kept, "{connection:?} {section:?}");
        }
    };
    check("", "A: 1\r\nB: 2\r\n", "A: 1\r\nB: 2\r\n");
    check("Connection: close\r\n", "Close: 1\r\n", "");
    check("", "Close: 1\r\n", "");
    check("Connection: a\r\n", "A: 1\r\nB: 2\r\na:3\r\n", "B: 2\r\n");
    check("Connection: x, b\r\nConnection: ,C ,close\r\n", "A: 1\r\nB: 2\r\nc: 3\r\n", "A: 1\r\n");
    check("Connection: a\r\n", "AB: 1\r\n", "AB: 1\r\n");
}
