//! Requests that would harm a tiny_http without care: bodies, headers, and clients that stall.

use super::*;

#[test]
fn bodies_that_would_kill_the_process_are_rejected_and_others_are_served() {
    let fixture = Fixture::new();
    let mut waiting = Vec::new();
    for (line, length) in [
        ("POST /api/v1/servers", "99999999999999"),
        ("GET /metrics", "18446744073709551615"),
        ("GET /", "65537"),
    ] {
        let mut connection = fixture.connect();
        let json = "Content-Type: application/json";
        let head =
            format!("{line} HTTP/1.1\r\nHost: localhost\r\n{json}\r\nContent-Length: {length}\r\n\r\n{{");
        connection.get_mut().write_all(head.as_bytes()).unwrap();
        let rejected = reply(&mut connection, false);
        assert!(rejected.status == 413 && rejected.body.contains("65536 bytes"), "{rejected:?}");
        assert_eq!(rejected.fields["connection"], "close");
        assert_eq!(fixture.get("/live").status, 200);
        waiting.push(connection);
    }
    // And the same when those clients disconnect, which ends the body too early.
    drop(waiting);
    assert_eq!(fixture.get("/api/v1/status").status, 200);
}

#[test]
fn what_tiny_http_reads_leniently_is_rejected() {
    let fixture = Fixture::new();
    for fields in [
        &["Content-Length: 5", "Content-Length: 5"][..],
        &["Content-Length: +5"],
        &["Content-Length: x"],
        &["Content-Length: 5", "Transfer-Encoding: chunked"],
    ] {
        let rejected = fixture.call("POST /api/v1/servers", fields, "12345");
        assert_eq!((rejected.status, &*rejected.fields["connection"]), (400, "close"), "{fields:?}");
    }
    assert_eq!(fixture.call("POST /api/v1/servers", &["Transfer-Encoding: gzip"], "").status, 400);
}

#[test]
fn a_body_that_is_nested_deeply_is_rejected() {
    let fixture = Fixture::new();
    for (line, open) in [
        ("POST /api/v1/servers", "["),
        ("POST /api/v1/servers", "{\"name\":"),
        ("PATCH /api/v1/servers/a", "{\"weight\":["),
    ] {
        let rejected = fixture.call(line, &["Content-Type: application/json"], &open.repeat(5000));
        assert_eq!(rejected.status, 400, "{line} {open}");
    }
    assert_eq!(fixture.get("/api/v1/status").status, 200);
}

/// The response to what follows a chunked body shows that the connection is still in sync.
fn chunked(fixture: &Fixture, body: &str) -> (u16, BufReader<UnixStream>) {
    let mut connection = fixture.connect();
    let head = "POST /api/v1/servers HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
                Transfer-Encoding: chunked\r\n\r\n";
    connection.get_mut().write_all(format!("{head}{body}").as_bytes()).unwrap();
    (reply(&mut connection, false).status, connection)
}

#[test]
fn chunked_bodies_are_read_whole_and_never_as_the_next_request() {
    let fixture = Fixture::new();
    let smuggled =
        "DELETE /api/v1/servers/a HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\r\n";
    let get = b"GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let body = r#"{"address":"127.0.0.1:9007"}"#;
    let (status, mut connection) = chunked(&fixture, &format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len()));
    assert_eq!(status, 201);
    connection.get_mut().write_all(get).unwrap();
    assert_eq!(reply(&mut connection, false).body, "live\n");
    let (status, mut connection) =
        chunked(&fixture, &format!("{:x}\r\n{smuggled}\r\n0\r\n\r\n", smuggled.len()));
    assert_eq!(status, 400);
    connection.get_mut().write_all(get).unwrap();
    assert_eq!(reply(&mut connection, false).body, "live\n", "the next response is to the next request");
    let (status, _connection) = chunked(&fixture, "0\r\nDELETE: /api/v1/servers/a HTTP/1.1\r\n\r\n");
    assert_eq!(status, 400, "trailers");
    let long = smuggled.repeat(1000);
    let (status, _connection) = chunked(&fixture, &format!("{:x}\r\n{long}\r\n0\r\n\r\n", long.len()));
    assert_eq!(status, 413);
    assert!(fixture.table.find("a").is_some());
}

#[test]
fn large_bodies_within_the_limit_are_read() {
    let fixture = Fixture::new();
    let body = format!(r#"{{"address":"127.0.0.1:9007"{}}}"#, " ".repeat(60_000));
    assert_eq!(fixture.change("POST /api/v1/servers", &body).status, 201);
    let get = fixture.call("GET /live", &[], &"x".repeat(65_536));
    assert_eq!(get.status, 200);
}

/// Both ways to the admin API, and both probes there, get responses.
fn check_probes(fixture: &Fixture, beside: &str) {
    for path in [&fixture.socket, &fixture.published] {
        for line in ["GET /live", "HEAD /ready"] {
            let found = Fixture::call_on(Fixture::connect_at(path), line, &[], "");
            assert_eq!(found.status, 200, "{line} at {path:?} beside {beside}");
        }
    }
}

/// This many connections that have sent these bytes, on both ways to the admin API.
fn hold(fixture: &Fixture, count: usize, bytes: &[u8]) -> Vec<UnixStream> {
    let one = |number: usize| {
        let path = [&fixture.socket, &fixture.published][number % 2];
        let mut stream = UnixStream::connect(path).unwrap();
        // Earlier ones may have been closed for it, but not this one.
        stream.write_all(bytes).unwrap();
        stream
    };
    (0..count).map(one).collect()
}

#[test]
fn clients_that_stall_do_not_hold_the_others_up() {
    let fixture = Fixture::new();
    let body = "POST /api/v1/servers HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
    let count = 4 * bounds().connections;
    for (kind, bytes) in [
        ("slow heads", b"GET /live HTTP/1.1\r\nX: ".to_vec()),
        ("idle connections", Vec::new()),
        ("slow bodies", format!("{body}Content-Length: 60000\r\n\r\nx").into_bytes()),
        ("slow chunked bodies", format!("{body}Transfer-Encoding: chunked\r\n\r\n5\r\nx").into_bytes()),
        ("rejected bodies", b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 60000\r\n\r\nx".to_vec()),
        ("garbage", b"\x16\x03\x01garbage\r\n\r\n".to_vec()),
    ] {
        let held = hold(&fixture, count, &bytes);
        check_probes(&fixture, kind);
        assert_eq!(fixture.get("/metrics").status, 200, "beside {kind}");
        drop(held);
    }
}

#[test]
fn clients_that_do_not_read_hold_nothing_up() {
    let fixture = Fixture::new();
    // Responses of some 100 KB each: no socket takes many.
    for number in 0..100 {
        let body = format!(r#"{{"name":"s{number}","address":"127.0.0.1:{}"}}"#, 20_000 + number);
        assert_eq!(fixture.change("POST /api/v1/servers", &body).status, 201);
    }
    let _held =
        hold(&fixture, 100, b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(20).as_slice());
    check_probes(&fixture, "clients that do not read");
    // Their requests take its threads for a while, and more than a few may not wait for them.
    let deadline = time::now().after(LONGEST_WAIT);
    while fixture.get("/api/v1/status").status != 200 {
        assert!(time::now() < deadline, "others get no response");
    }
}

#[test]
fn a_slow_body_is_ended_and_reported() {
    let fixture = Fixture::new();
    let head = "POST /api/v1/servers HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
                Content-Length: 60000\r\n\r\nx";
    let mut held = Vec::new();
    for _ in 0..=bounds().bodies {
        let mut connection = fixture.connect();
        connection.get_mut().write_all(head.as_bytes()).unwrap();
        held.push(connection);
    }
    reply(&mut held[0], false).check(408, "did not arrive in time");
    reply(&mut held[1], false).check(408, "did not arrive in time");
}

#[test]
fn a_body_is_asked_for_only_where_it_is_wanted() {
    let fixture = Fixture::of(r#"{"admin":{"token":"0123456789abcdef"}}"#);
    let body = r#"{"address":"127.0.0.1:9007"}"#;
    let ask = |token: &str| {
        let mut connection = fixture.connect();
        let head = format!(
            "POST /api/v1/servers HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nExpect: 100-continue\r\n\
             Authorization: Bearer {token}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        connection.get_mut().write_all(head.as_bytes()).unwrap();
        let mut line = String::new();
        connection.read_line(&mut line).unwrap();
        (line, connection)
    };
    assert_eq!(ask("wrong").0, "HTTP/1.1 401 Unauthorized\r\n");
    let (line, mut connection) = ask("0123456789abcdef");
    assert_eq!(line, "HTTP/1.1 100 Continue\r\n");
    connection.read_line(&mut String::new()).unwrap();
    connection.get_mut().write_all(body.as_bytes()).unwrap();
    assert_eq!(reply(&mut connection, false).status, 201);
}

#[test]
fn any_byte_may_stand_in_a_header() {
    let fixture = Fixture::new();
    for path in ["/live", "/metrics", "/api/v1/status"] {
        let mut connection = fixture.connect();
        let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nX-Note: caf");
        connection.get_mut().write_all(&[head.as_bytes(), b"\xe9\r\n\r\n"].concat()).unwrap();
        assert_eq!(reply(&mut connection, false).status, 200, "{path}");
    }
}
