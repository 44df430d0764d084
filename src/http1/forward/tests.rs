//! Tables of what is forwarded of a head in both directions, and what is not.

use super::*;
use crate::http1::framing::Method;
use crate::http1::head::{self, Limits, Parsed, Slots};

const LIMITS: Limits = Limits { head: 16_384, headers: 100, uri: 8192, trace: true };

fn hop() -> Hop<'static> {
    Hop {
        peer: Some(IpAddr::from([192, 0, 2, 1])),
        peer_trusted: false,
        proto: "http",
        client_certificate: None,
        pseudonym: "ek-7",
        request_id: Some(RequestId::new(0, 1)),
        trace_parent: None,
        forwarded: false,
        authority: "server.test:9001",
        rewritten: Rewritten::default(),
        edits: None,
    }
}

const OURS: &str = "Via: 1.1 ek-7\r\nX-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: a\r\n\
                    X-Request-Id: 00000000000000000000000000000001\r\n";

fn forwarded(came: &str, hop: &Hop<'_>) -> Result<String, Reason> {
    let mut slots = Slots::new();
    let Ok(Parsed::Complete(head)) = head::request(came.as_bytes(), &LIMITS, &mut slots) else {
        panic!("{came}")
    };
    let mut out = b"before".to_vec();
    let done = request(&head, hop, &mut out);
    let out = String::from_utf8_lossy(&out).into_owned();
    let out = out.strip_prefix("before").expect("appended").to_string();
    assert_eq!(done.is_err(), out.is_empty());
    done.map(|()| out)
}

/// `came` is forwarded as `goes`, both without the empty line.
#[track_caller]
fn whole(hop: &Hop<'_>, came: &str, goes: &str) {
    assert_eq!(
        forwarded(&format!("{came}\r\n"), hop).as_deref(),
        Ok(format!("{goes}\r\n").as_str()),
        "{came}"
    );
}

/// Of a request with the fields `came`, the fields `kept` are forwarded in place and `added` after ours.
#[track_caller]
fn check(came: &str, kept: &str, added: &str) {
    let lines = |fields: &str| {
        fields
            .split('|')
            .filter(|line| !line.is_empty())
            .map(|line| format!("{line}\r\n"))
            .collect::<String>()
    };
    let came = format!("POST /p HTTP/1.1\r\nHost: a\r\n{}", lines(came));
    let goes = format!("POST /p HTTP/1.1\r\nHost: a\r\n{}{OURS}{}", lines(kept), lines(added));
    whole(&hop(), &came, &goes);
}

#[test]
fn end_to_end_fields_go_on_as_they_came() {
    check("", "", "");
    check("b:1|A:  2 \t|b: 3|X: \u{e9}|Empty:|hOsTs: 1", "b:1|A:  2 \t|b: 3|X: \u{e9}|Empty:|hOsTs: 1", "");
    check(
        "Accept: */*|Date: x|Content-Type: y|X-Served-By: z",
        "Accept: */*|Date: x|Content-Type: y|X-Served-By: z",
        "",
    );
    check(
        "Authorization: x|Cookie: y|Proxy-Authorization: z",
        "Authorization: x|Cookie: y|Proxy-Authorization: z",
        "",
    );
}

#[test]
fn hop_by_hop_fields_do_not() {
    check("Connection: close|A: 1|Close: 2", "A: 1", "");
    check("Close: 2|A: 1", "Close: 2|A: 1", "");
    check("Connection: keep-alive|Keep-Alive: timeout=5|Proxy-Connection: x", "", "");
    check("A: 1|Connection: b, C|B: 1|c: 1|B: 2|D: 1", "A: 1|D: 1", "");
    check("Connection: b|Connection: c|b: 1|c: 2", "", "");
    check("Upgrade: websocket|A: 1", "A: 1", "");
    check("Connection: upgrade, http2-settings|Upgrade: h2c|HTTP2-Settings: x", "", "");
    check("Upgrade: websocket|Connection: Upgrade|A: 1", "Upgrade: websocket|A: 1", "Connection: upgrade");
    check("TE: gzip", "", "");
    check("TE: trailers, gzip|Connection: TE", "", "Connection: TE|TE: trailers");
    check(
        "Upgrade: x|Connection: upgrade, TE|TE: trailers",
        "Upgrade: x",
        "Connection: upgrade, TE|TE: trailers",
    );
    check("Trailer: x", "", "");
    check("Trailer: x|Transfer-Encoding: chunked", "Trailer: x", "Transfer-Encoding: chunked");
}

#[test]
fn a_nomination_takes_away_nothing_that_routes_frames_or_traces() {
    check("Connection: host, via, x-forwarded-for, x-request-id|Via: 1.1 b", "Via: 1.1 b", "");
    check("Connection: content-length|Content-Length: 3", "", "Content-Length: 3");
    check("Connection: transfer-encoding|Transfer-Encoding: chunked", "", "Transfer-Encoding: chunked");
    check(
        "Connection: expect|Expect: 100-continue|Content-Length: 1",
        "Expect: 100-continue",
        "Content-Length: 1",
    );
    check("Connection: date, x-served-by|Date: x|X-Served-By: y|A: 1", "A: 1", "");
    check("Connection: accept, content-type|Accept: x|Content-Type: y|A: 1", "A: 1", "");
}

#[test]
fn framing_is_ours() {
    check("Content-Length: 007|A: 1", "A: 1", "Content-Length: 7");
    check("content-length: 0", "", "Content-Length: 0");
    check("transfer-encoding: CHUNKED", "", "Transfer-Encoding: chunked");
    check("Expect: 100-continue", "", "");
    check("Expect: 100-continue|Content-Length: 1", "Expect: 100-continue", "Content-Length: 1");
}

#[test]
fn an_untrusted_peer_says_nothing_of_where_it_came_from() {
    check("X-Forwarded-For: 1.1.1.1|x-forwarded-proto: https|X-Forwarded-Host: evil", "", "");
    check("X_Forwarded_For: 1.1.1.1|X-Forwarded-Port: 1|Forwarded: for=1.1.1.1|A: 1", "A: 1", "");
    let hop = Hop { forwarded: true, ..hop() };
    let came = "GET / HTTP/1.1\r\nHost: a:1\r\nForwarded: for=evil\r\n";
    let goes = forwarded(&format!("{came}\r\n"), &hop).unwrap();
    assert!(
        goes.contains("\r\nForwarded: for=192.0.2.1;host=\"a:1\";proto=http\r\n") && !goes.contains("evil")
    );
    let v6 = Hop { peer: Some("2001:db8::1".parse().unwrap()), ..hop };
    let goes = forwarded(&format!("{came}\r\n"), &v6).unwrap();
    assert!(goes.contains("\r\nForwarded: for=\"[2001:db8::1]\";host"));
    assert!(goes.contains("\r\nX-Forwarded-For: 2001:db8::1\r\n"));
}

#[test]
fn only_a_trusted_peer_names_the_client_and_the_request() {
    check("X-Real-IP: 1.1.1.1|X_Real_IP: 1.1.1.1|X-Request-Id: q|A: 1", "A: 1", "");
    // How much time is left is written for each attempt.
    check("X-Request-Deadline: 50|X_Request_Deadline: 50|A: 1", "A: 1", "");
    let hop = Hop { peer_trusted: true, request_id: None, ..hop() };
    let goes = forwarded("GET / HTTP/1.1\r\nHost: a\r\nX-Real-IP: 1.1.1.1\r\nX-Request-Id: q\r\n\r\n", &hop)
        .unwrap();
    assert!(goes.contains("\r\nX-Real-IP: 1.1.1.1\r\nX-Request-Id: q\r\n"), "{goes}");
}

#[test]
fn a_trace_is_passed_on_or_begun() {
    let came = "GET / HTTP/1.1\r\nHost: a\r\nTraceParent: x\r\ntracestate: a=b\r\n\r\n";
    let goes = forwarded(came, &hop()).unwrap();
    assert!(goes.contains("\r\nTraceParent: x\r\ntracestate: a=b\r\n"), "{goes}");
    let begun = Hop { trace_parent: Some(TraceParent::new(1, 2)), ..hop() };
    let goes = forwarded(came, &begun).unwrap();
    let ours = "\r\ntraceparent: 00-00000000000000000000000000000001-0000000000000002-00\r\n";
    assert!(goes.contains(ours) && !goes.contains("TraceParent") && !goes.contains("tracestate"), "{goes}");
    // The trace of the client goes on with a span of ours in between.
    let came = "GET / HTTP/1.1\r\nHost: a\r\ntraceparent: 00-00000000000000000000000000000001-0000000000000009-01\r\ntracestate: a=b\r\n\r\n";
    let goes = forwarded(came, &begun).unwrap();
    assert!(
        goes.contains(ours) && goes.contains("\r\ntracestate: a=b\r\n") && !goes.contains("09-01"),
        "{goes}"
    );
}

#[test]
fn what_we_encode_says_so() {
    let hop = ResponseHop { coding: Some(Coding::Gzip), varies: true, ..response_hop(Framing::Chunked) };
    responded(
        Method::Other,
        &hop,
        "200 OK|ETag: \"a\"|Accept-Ranges: bytes|A: 1|Digest: x|Content-Length: 3",
        "200 OK|ETag: W/\"a\"|A: 1|Via: 1.1 ek|Content-Encoding: gzip|Vary: Accept-Encoding|Transfer-Encoding: chunked",
    );
    let plain = ResponseHop { varies: true, ..response_hop(Framing::Length(3)) };
    responded(
        Method::Other,
        &plain,
        "200 OK|ETag: \"a\"|Content-Length: 3",
        "200 OK|ETag: \"a\"|Via: 1.1 ek|Vary: Accept-Encoding|Content-Length: 3",
    );
}

#[test]
fn without_a_pseudonym_there_is_no_via() {
    let goes = forwarded("GET / HTTP/1.1\r\nHost: a\r\nVia: 1.1 b\r\n\r\n", &Hop { pseudonym: "", ..hop() })
        .unwrap();
    assert_eq!(goes.matches("Via:").count(), 1, "{goes}");
    let quiet = ResponseHop { pseudonym: "", request_id: Some(b"id-1"), ..response_hop(Framing::Length(3)) };
    responded(
        Method::Other,
        &quiet,
        "200 OK|X-Request-Id: theirs|Content-Length: 3",
        "200 OK|X-Request-Id: id-1|Content-Length: 3",
    );
}

#[test]
fn a_trusted_peer_is_believed_and_extended() {
    let hop = Hop { peer_trusted: true, forwarded: true, request_id: None, ..hop() };
    let came = "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1.1.1.1\r\nX-Forwarded-Proto: https\r\nX-Forwarded-For: 2.2.2.2\r\n\
                X-Forwarded-Host: b\r\nX-Forwarded-Port: 9\r\nForwarded: for=1.1.1.1\r\nX-Request-Id: q\r\n";
    let goes = "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: b\r\nX-Forwarded-Port: 9\r\n\
                Forwarded: for=1.1.1.1\r\nX-Request-Id: q\r\nVia: 1.1 ek-7\r\n\
                X-Forwarded-For: 1.1.1.1, 2.2.2.2, 192.0.2.1\r\nForwarded: for=192.0.2.1;host=\"a\";proto=http\r\n";
    whole(&hop, came, goes);
    let unix = Hop { peer: None, forwarded: false, ..hop };
    let goes = forwarded(&format!("{came}\r\n"), &unix).unwrap();
    assert!(goes.contains("\r\nX-Forwarded-For: 1.1.1.1, 2.2.2.2\r\n"), "{goes}");
    let goes = forwarded("GET / HTTP/1.1\r\nHost: a\r\n\r\n", &unix).unwrap();
    assert!(!goes.contains("X-Forwarded-For"), "{goes}");
}

#[test]
fn hosts_and_targets() {
    let ours = |host: &str, via: &str| {
        OURS.replace("Host: a\r\n", &format!("Host: {host}\r\n")).replace("1.1 ek", &format!("{via} ek"))
    };
    let came = "GET http://b:1?q HTTP/1.1\r\nA: 1\r\nHost: a\r\nB: 2\r\n";
    whole(&hop(), came, &format!("GET /?q HTTP/1.1\r\nHost: b:1\r\nA: 1\r\nB: 2\r\n{}", ours("b:1", "1.1")));
    let came = "GET http://b:1/c HTTP/1.0\r\n";
    whole(&hop(), came, &format!("GET /c HTTP/1.1\r\nHost: b:1\r\n{}", ours("b:1", "1.0")));
    let none = ours("a", "1.0").replace("X-Forwarded-Host: a\r\n", "");
    whole(&hop(), "GET / HTTP/1.0\r\n", &format!("GET / HTTP/1.1\r\nHost: server.test:9001\r\n{none}"));
    whole(
        &hop(),
        "OPTIONS http://a HTTP/1.1\r\nhost: a\r\n",
        &format!("OPTIONS * HTTP/1.1\r\nHost: a\r\n{OURS}"),
    );
    whole(&hop(), "\r\nX /a HTTP/1.9\r\nhost:a\r\n", &format!("X /a HTTP/1.1\r\nhost:a\r\n{OURS}"));
}

#[test]
fn max_forwards_is_counted_down_for_options_and_trace() {
    for method in ["OPTIONS", "TRACE"] {
        let came = format!("{method} / HTTP/1.1\r\nHost: a\r\nMax-Forwards: 10\r\n");
        whole(&hop(), &came, &format!("{method} / HTTP/1.1\r\nHost: a\r\n{OURS}Max-Forwards: 9\r\n"));
    }
    check("Max-Forwards: 10", "Max-Forwards: 10", "");
}

#[test]
fn loops() {
    for via in ["1.1 ek-7", "HTTP/1.1 EK-7 (x)", "1.0 a, 1.1\tek-7", "1.0 a\r\nVia: 1.1 ek-7"] {
        let came = format!("GET / HTTP/1.1\r\nHost: a\r\nB: 1\r\nVia: {via}\r\n\r\n");
        assert_eq!(forwarded(&came, &hop()), Err(Reason::LoopDetected), "{via}");
    }
    check("Via: 1.1 ek-8, 1.0 ek-7.example", "Via: 1.1 ek-8, 1.0 ek-7.example", "");
    check("Via: ek-7 a", "Via: ek-7 a", "");
}

#[track_caller]
fn responded(method: Method, hop: &ResponseHop<'_>, came: &str, goes: &str) {
    let came = format!("HTTP/1.1 {}\r\n\r\n", came.replace('|', "\r\n"));
    let mut slots = Slots::new();
    let Ok(Parsed::Complete(head)) = head::response(came.as_bytes(), method, &LIMITS, &mut slots) else {
        panic!("{came}")
    };
    let mut out = Vec::new();
    response(&head, hop, &mut out);
    let goes = format!("HTTP/1.1 {}\r\n\r\n", goes.replace('|', "\r\n"));
    assert_eq!(String::from_utf8_lossy(&out), goes);
}

fn response_hop(framing: Framing) -> ResponseHop<'static> {
    ResponseHop {
        client: Version::Http11,
        framing,
        keep_alive: true,
        pseudonym: "ek",
        hides_load_metrics: false,
        served_by: None,
        request_id: None,
        coding: None,
        weakens_tag: false,
        page: None,
        varies: false,
        date: "",
        session: b"",
        lines: b"",
        edits: None,
    }
}

#[test]
fn responses_go_on() {
    let check =
        |framing, came: &str, goes: &str| responded(Method::Other, &response_hop(framing), came, goes);
    check(
        Framing::Length(3),
        "200 OK|b:1|A:  2|Content-Length: 3|b: 3",
        "200 OK|b:1|A:  2|b: 3|Via: 1.1 ek|Content-Length: 3",
    );
    check(
        Framing::Chunked,
        "200|Connection: close, x|X: 1|Keep-Alive: 1",
        "200 |Via: 1.1 ek|Transfer-Encoding: chunked",
    );
    check(
        Framing::Chunked,
        "200 OK|Trailer: x|Transfer-Encoding: chunked",
        "200 OK|Trailer: x|Via: 1.1 ek|Transfer-Encoding: chunked",
    );
    check(
        Framing::Length(0),
        "200 OK|Trailer: x|Upgrade: h2c|Connection: upgrade|Content-Length: 0",
        "200 OK|Via: 1.1 ek|Content-Length: 0",
    );
    check(
        Framing::Length(0),
        "200 OK|A : 1|B\t :2|C: 3|Content-Length: 0",
        "200 OK|A: 1|B: 2|C: 3|Via: 1.1 ek|Content-Length: 0",
    );
    check(Framing::None, "204 No|Content-Length: 5", "204 No|Via: 1.1 ek");
    check(Framing::None, "304 Not|Content-Length: 5", "304 Not|Via: 1.1 ek|Content-Length: 5");
    check(Framing::None, "103 Early Hints|Link: </a>", "103 Early Hints|Link: </a>|Via: 1.1 ek");
    check(
        Framing::None,
        "101 Go|Upgrade: websocket|Connection: Upgrade",
        "101 Go|Upgrade: websocket|Via: 1.1 ek|Connection: upgrade",
    );
    check(
        Framing::Length(0),
        "426 No|Upgrade: x|Content-Length: 0",
        "426 No|Upgrade: x|Via: 1.1 ek|Content-Length: 0|Connection: upgrade",
    );
    check(
        Framing::Length(0),
        "200 OK|Set-Cookie: a|Set-Cookie: b|X-Served-By: c|Content-Length: 0",
        "200 OK|Set-Cookie: a|Set-Cookie: b|X-Served-By: c|Via: 1.1 ek|Content-Length: 0",
    );
}

#[test]
fn responses_say_what_we_add() {
    responded(
        Method::Head,
        &response_hop(Framing::None),
        "200 OK|Content-Length: 5",
        "200 OK|Via: 1.1 ek|Content-Length: 5",
    );
    let dated = ResponseHop {
        date: "now",
        served_by: Some("s"),
        keep_alive: false,
        ..response_hop(Framing::UntilClose)
    };
    responded(
        Method::Other,
        &dated,
        "200 OK|X-Served-By: c",
        "200 OK|Date: now|Via: 1.1 ek|X-Served-By: s|Connection: close",
    );
    responded(
        Method::Other,
        &dated,
        "200 OK|date: x",
        "200 OK|date: x|Via: 1.1 ek|X-Served-By: s|Connection: close",
    );
    responded(
        Method::Other,
        &dated,
        "200 OK|date: x|Connection: Date, x-a|X-A: 1|X-B: 1",
        "200 OK|X-B: 1|Date: now|Via: 1.1 ek|X-Served-By: s|Connection: close",
    );
    responded(Method::Other, &dated, "100 Continue", "100 Continue|Via: 1.1 ek");
    let old = ResponseHop { client: Version::Http10, ..response_hop(Framing::Length(1)) };
    responded(
        Method::Other,
        &old,
        "200 OK|Content-Length: 1",
        "200 OK|Via: 1.1 ek|Content-Length: 1|Connection: keep-alive",
    );
}
