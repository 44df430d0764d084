//! How bodies are framed and passed on.

use super::*;

#[track_caller]
fn check_head_only(response: &str, method: &str, status: u16, length: Option<&str>) {
    assert_eq!(
        head_only(response, method, status, length),
        1,
        "the server connection is used again: {response:?}"
    );
}

/// Two exchanges; how many connections the server saw.
#[track_caller]
fn head_only(response: &str, method: &str, status: u16, length: Option<&str>) -> usize {
    let origin = Origin::says(response);
    let balancer = Evenkeel::before(&[&origin], one_worker(json!({})));
    let mut client = Client::to(&balancer);
    for _ in 0..2 {
        client.send(format!("{method} / HTTP/1.1\r\nHost: h\r\n\r\n"));
        let seen = client.try_response_to(method).unwrap();
        assert_eq!((seen.status, seen.body.len()), (status, 0), "{response:?}");
        assert_eq!(seen.fields.all("Content-Length"), Vec::from_iter(length), "{response:?}");
        assert!(client.is_quiet(), "{response:?}");
    }
    origin.connections()
}

#[test]
fn a_server_that_promises_a_body_with_204_gets_its_connection_closed() {
    assert_eq!(head_only("HTTP/1.1 204 None\r\nContent-Length: 5\r\n\r\n", "GET", 204, None), 2);
}

#[test]
fn responses_without_a_body_have_none() {
    check_head_only("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", "HEAD", 200, Some("1000"));
    check_head_only("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "HEAD", 200, None);
    check_head_only("HTTP/1.1 200 OK\r\n\r\n", "HEAD", 200, None);
    check_head_only("HTTP/1.1 204 None\r\n\r\n", "GET", 204, None);
    check_head_only("HTTP/1.1 304 Same\r\nContent-Length: 77\r\n\r\n", "GET", 304, Some("77"));
    check_head_only("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "GET", 200, Some("0"));
}

/// Up and down again, in the framing asked for.
#[track_caller]
fn check_echo(body: &[u8], as_chunks: bool) {
    let origin = Origin::echoes();
    let balancer = Evenkeel::before(&[&origin], one_worker(json!({})));
    let mut client = Client::to(&balancer);
    let request = if as_chunks {
        let pieces: Vec<&[u8]> = body.chunks(70_000.min(body.len().max(1) / 3 + 1)).collect();
        [&b"PUT /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: CHUNKED\r\n\r\n"[..], &chunked(&pieces)].concat()
    } else {
        [format!("PUT /x HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n", body.len()).as_bytes(), body]
            .concat()
    };
    for _ in 0..2 {
        client.send(&request);
        let response = client.response();
        assert!(response.status == 200 && response.body == body, "{} bytes, {as_chunks}", body.len());
    }
    let seen = &origin.requests()[1];
    let expected = if as_chunks { Framing::Chunked } else { Framing::Length(body.len()) };
    assert_eq!((seen.framing, seen.body.as_slice() == body), (expected, true));
    assert_eq!(origin.connections(), 1);
}

#[test]
fn bodies_go_up_and_come_down_unchanged() {
    for len in [0, 1, 5, 1000, 20_000, 1 << 20] {
        check_echo(&noise(len), false);
        check_echo(&noise(len), true);
    }
}

/// More than a worker looks at: it goes through a pipe.
#[test]
fn what_a_server_says_beyond_a_long_body_is_no_response() {
    let origin = Origin::start(|visit| {
        while let Some(seen) = visit.request() {
            match seen.target() {
                "/long" => {
                    let long = "x".repeat(340_000);
                    visit.send(ok(&long) + &ok("unasked"));
                }
                _ => visit.response("of the second"),
            }
        }
    });
    let balancer = Evenkeel::before(&[&origin], json!({}));
    for _ in 0..100 {
        let mut client = Client::to(&balancer);
        client.send("GET /long HTTP/1.1\r\nHost: h\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_eq!(client.response().body.len(), 340_000);
        assert_eq!(client.response().text(), "of the second");
    }
}

#[test]
fn a_response_in_chunks_stays_in_chunks_with_its_trailers() {
    let origin = Origin::chunked_with_trailers(&["hello, ", "w", "orld"]);
    let balancer = Evenkeel::before(&[&origin], one_worker(json!({})));
    let mut client = Client::to(&balancer);
    for _ in 0..2 {
        let response = client.get("/");
        assert_eq!((response.text().as_str(), response.framing), ("hello, world", Framing::Chunked));
        assert_eq!(response.trailers.one("X-Sum"), "42");
    }
    assert_eq!(origin.connections(), 1);
}

#[test]
fn trailers_of_a_response_that_its_route_changes_as_headers_do_not_go_on() {
    for (changes, is_kept) in [
        (json!({"remove": ["X-S*"]}), false),
        (json!({"set": {"x-sum": "1"}}), false),
        (json!({"replace": [{"header": "X_Sum", "match": "4", "with": "5"}]}), false),
        (json!({"remove": ["X-Other"], "add": {"X-More": "1"}}), true),
    ] {
        let origin = Origin::chunked_with_trailers(&["hello"]);
        let route = json!({"path": "/*", "response_headers": changes});
        let balancer = Evenkeel::before(&[&origin], json!({"routes": [route]}));
        let response = Client::to(&balancer).get("/");
        assert_eq!(
            (response.text().as_str(), response.trailers.has("X-Sum")),
            ("hello", is_kept),
            "{changes}"
        );
    }
}

#[test]
fn trailers_of_a_request_go_on_but_for_those_that_frame_or_route() {
    let origin = Origin::responds("ok");
    let balancer = Evenkeel::before(&[&origin], json!({}));
    let sent = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nX-Sum: 7\r\nContent-Length: 5\r\nHost: evil\r\nTransfer-Encoding: x\r\nAuthorization: x\r\n\r\n";
    assert_eq!(Client::to(&balancer).send(sent).response().status, 200);
    let seen = origin.only_request();
    assert_eq!((seen.body.as_slice(), seen.trailers.all("X-Sum")), (&b"abc"[..], vec!["7".to_owned()]));
    assert_eq!(seen.trailers.0.len(), 1, "{}", seen.trailers);
}

#[test]
fn no_trailers_go_on_where_some_headers_are_not_the_clients_to_write() {
    let auth = Origin::responds("ok");
    let auth_pool =
        json!({"list": [{"address": auth.address().to_string()}], "health_check": {"enabled": false}});
    for config in [
        json!({"routes": [{"path": "/*", "request_headers": {"remove": ["X-Internal-*"]}}]}),
        json!({"routes": [{"path": "/*", "request_headers": {"set": {"X-Role": "guest"}}}]}),
        json!({"forward_auth": {"pool": "auth", "copy_headers": ["X-Role"]}, "pools": {"auth": auth_pool}}),
    ] {
        let origin = Origin::responds("ok");
        let balancer = Evenkeel::before(&[&origin], config);
        let trailers = "X-Internal-A: 1\r\nX-Role: admin\r\nX_Role: admin\r\n";
        let sent = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n";
        assert_eq!(Client::to(&balancer).send(format!("{sent}{trailers}\r\n")).response().status, 200);
        let seen = origin.only_request();
        assert_eq!((seen.body.as_slice(), seen.trailers.0.len()), (&b"abc"[..], 0), "{}", seen.trailers);
    }
}

#[test]
fn a_response_until_close_comes_in_chunks_to_1_1_and_until_close_to_1_0() {
    let origin = Origin::until_close("all of it");
    let balancer = Evenkeel::before(&[&origin], json!({}));
    let mut client = Client::to(&balancer);
    for _ in 0..2 {
        let response = client.get("/");
        assert_eq!((response.text().as_str(), response.framing), ("all of it", Framing::Chunked));
    }
    let mut old = Client::to(&balancer);
    let response = old.send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n").response();
    assert_eq!((response.text().as_str(), response.framing), ("all of it", Framing::Close));
    assert_eq!(response.fields.all("Connection"), ["close"]);
}

#[test]
fn a_response_in_chunks_goes_to_1_0_until_close() {
    let origin = Origin::chunked_with_trailers(&["hello, ", "world"]);
    let balancer = Evenkeel::before(&[&origin], json!({}));
    let response = Client::to(&balancer).send("GET / HTTP/1.0\r\n\r\n").response();
    assert_eq!((response.text().as_str(), response.framing), ("hello, world", Framing::Close));
}

#[test]
fn a_response_may_come_byte_by_byte() {
    let mut response = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    response.extend(chunked(&[b"abc", b"defgh"]));
    for bytes in [response, ok("abcdefgh").into_bytes()] {
        let origin = Origin::one_byte_at_a_time(bytes);
        let balancer = Evenkeel::before(&[&origin], one_worker(json!({})));
        let mut client = Client::to(&balancer);
        for _ in 0..2 {
            assert_eq!(client.get("/").text(), "abcdefgh");
        }
        assert_eq!(origin.connections(), 1);
    }
}

#[test]
fn events_reach_the_client_one_by_one() {
    let next = [(); 3].map(|()| Gate::default());
    let gates = next.clone();
    let origin = Origin::start(move |visit| {
        visit.request();
        visit.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n");
        for (at, gate) in gates.iter().enumerate() {
            gate.wait();
            visit.send(format!("data: {at}\n\n"));
        }
    });
    let balancer = Evenkeel::before(&[&origin], json!({}));
    let mut client = Client::to(&balancer);
    client.send("GET /events HTTP/1.1\r\nHost: h\r\n\r\n");
    // The head comes before the first event exists, and each event before the next one does.
    let (head, status) = client.head();
    assert_eq!((status, head.framing().unwrap()), (200, Framing::Chunked));
    for (at, gate) in next.iter().enumerate() {
        gate.open();
        let event = format!("9\r\ndata: {at}\n\n\r\n");
        assert_eq!(String::from_utf8(client.bytes(event.len())).unwrap(), event);
    }
    assert_eq!(client.bytes(5), b"0\r\n\r\n");
}
