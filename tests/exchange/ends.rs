//! What becomes of a request whose server or client fails, and of connections at their end.

use super::*;

/// Only a reset says that the client is gone: a client that has closed its side may wait for its response.
#[test]
fn a_client_that_resets_stops_the_work_at_the_server() {
    for request in ["GET / HTTP/1.1\r\nHost: h\r\n\r\n", "GET / HTTP/1.0\r\n\r\n"] {
        let origin = Origin::stalls();
        let balancer = Evenkeel::before(&[&origin], json!({ "admin": { "socket": ADMIN } }));
        let mut client = Client::to(&balancer);
        client.send(request);
        origin.until("the request came", |seen| seen.bytes.len() == 1);
        client.reset();
        // Long before the response timeout of 30 s.
        origin.until("its connection is over", |seen| seen.ended == 1);
        until("it is counted", || {
            balancer.metric("evenkeel_rejections_total{reason=\"client_gone\"}") == 1.0
        });
        balancer.metric_is("evenkeel_server_in_flight", 0.0);
    }
}

/// The first bytes of the response that such a client does not take say so.
#[test]
fn a_client_that_is_gone_stops_a_long_response() {
    let origin = Origin::start(|visit| {
        if visit.request().is_some() {
            visit.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
            // Until the balancer takes no more.
            let piece = chunked(&[&noise(10_000)]);
            let piece = &piece[..piece.len() - 5];
            while visit.try_send(piece) {}
            visit.to_the_end();
        }
    });
    let balancer = Evenkeel::before(&[&origin], json!({}));
    let mut client = Client::to(&balancer);
    client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(client.head().1, 200);
    drop(client);
    origin.until("its connection is over", |seen| seen.ended == 1);
}

#[test]
fn a_client_that_resets_in_the_middle_of_its_upload_cuts_it_at_the_server() {
    let origin = Origin::start(|visit| {
        visit.head();
        visit.to_the_end();
    });
    let balancer = Evenkeel::before(&[&origin], json!({}));
    let mut client = Client::to(&balancer);
    client.send("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
    origin.until("the head came", |seen| seen.heads == 1);
    client.reset();
    origin.until("its connection is over", |seen| seen.ended == 1);
    assert!(!origin.all_bytes().ends_with(b"0\r\n\r\n"), "a cut body never looks whole");
}

#[test]
fn a_client_that_closes_in_the_middle_of_its_upload_cuts_it_at_the_server() {
    let origin = Origin::start(|visit| {
        visit.head();
        visit.to_the_end();
    });
    let balancer = Evenkeel::before(&[&origin], json!({}));
    let rest = ["Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", "Content-Length: 9\r\n\r\nhello"];
    for (at, rest) in rest.into_iter().enumerate() {
        let mut client = Client::to(&balancer);
        client.send(format!("POST / HTTP/1.1\r\nHost: h\r\n{rest}"));
        origin.until("the head came", |seen| seen.heads == at + 1);
        client.finish_writing();
        origin.until("its connection is over", |seen| seen.ended == at + 1);
        assert!(!origin.bytes(at).ends_with(b"0\r\n\r\n"), "a cut body never looks whole");
    }
}

/// A server that breaks off in the middle: what came before reaches the client, and no clean end.
#[track_caller]
fn check_cut(response: &'static str) {
    let origin = Origin::says_and_closes(response);
    let balancer = Evenkeel::before(&[&origin], json!({}));
    let seen = Client::to(&balancer).send("GET / HTTP/1.1\r\nHost: h\r\n\r\n").try_response();
    assert!(matches!(seen, Err(Broken::Cut(_) | Broken::Reset(_))), "{response:?}: {seen:?}");
    let seen =
        Client::to(&balancer).send("GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").try_response();
    assert!(matches!(seen, Err(Broken::Cut(_) | Broken::Reset(_))), "{response:?}: {seen:?}");
}

#[test]
fn a_server_that_breaks_off_in_a_body_makes_an_incomplete_message() {
    check_cut("HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nshort");
    check_cut("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
    check_cut("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel");
    check_cut("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n");
}

/// A server breaks off behind so much of a body, with a close or with a reset: the client gets so many bytes, or
/// fewer behind a reset, and no end; and it is counted.
#[track_caller]
fn check_cut_counts(framing: &str, sent: &[u8], payload: usize, by_reset: bool) {
    let response = [format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n").as_bytes(), sent].concat();
    let gate = Gate::default();
    let has_begun = gate.clone();
    let origin = Origin::start(move |visit| {
        if visit.request().is_some() {
            visit.send(&response);
            if by_reset {
                // It takes away what was not read yet, and the response must have begun.
                has_begun.wait();
                visit.reset_on_close();
            }
        }
    });
    let balancer = Evenkeel::before(&[&origin], json!({ "admin": { "socket": ADMIN } }));
    let counted = || balancer.metric("evenkeel_rejections_total{reason=\"response_truncated\"}");
    assert_eq!(counted(), 0.0);
    let mut client = Client::to(&balancer);
    let (head, status) = client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n").head();
    gate.open();
    let told = format!("{framing}, {payload} bytes, reset: {by_reset}");
    let got = match client.body_of("GET", head, status) {
        Err(Broken::Cut(got) | Broken::Reset(got)) => got.len(),
        seen => panic!("{told}: {seen:?}"),
    };
    assert!(if by_reset { got <= payload } else { got == payload }, "{told}: {got} came");
    assert_eq!(status, 200, "{told}");
    becomes(&told, &1.0, counted);
    balancer.metric_is("evenkeel_server_in_flight", 0.0);
}

#[test]
fn a_response_that_was_cut_is_counted() {
    const HALF: usize = 1 << 19;
    let half = noise(HALF);
    let chunk = [b"80000\r\n", &half[..], b"\r\n"].concat();
    for by_reset in [false, true] {
        check_cut_counts("Content-Length: 20", b"short", 5, by_reset);
        // So much is to come that the rest is spliced.
        check_cut_counts("Content-Length: 4194304", &half, HALF, by_reset);
        check_cut_counts("Transfer-Encoding: chunked", b"5\r\nhello\r\n", 5, by_reset);
        check_cut_counts("Transfer-Encoding: chunked", &chunk, HALF, by_reset);
        check_cut_counts("Transfer-Encoding: chunked", &chunk[..HALF], HALF - 7, by_reset);
    }
}

#[test]
fn a_broken_chunk_is_502_while_nothing_was_sent() {
    let broken = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloXX5\r\nhello\r\n0\r\n\r\n";
    let origin = Origin::says_and_closes(broken);
    let balancer = Evenkeel::before(&[&origin], json!({}));
    let response = Client::to(&balancer).get("/");
    assert_eq!((response.status, response.reason().as_str()), (502, "bad_response"));
}

#[test]
fn a_server_that_greets_speaks_another_protocol() {
    let origin = Origin::start(|visit| {
        visit.send("220 mail.example ESMTP\r\n");
        while visit.request().is_some() {
            visit.response("ok");
        }
    });
    let balancer = Evenkeel::before(&[&origin], json!({}));
    for _ in 0..3 {
        let response = Client::to(&balancer).get("/");
        assert_eq!((response.status, response.reason().as_str()), (502, "bad_response"));
    }
}

#[test]
fn a_cut_response_of_unknown_length_is_no_clean_end_to_1_0_either() {
    let origin =
        Origin::says_and_closes("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
    let balancer = Evenkeel::before(&[&origin], json!({}));
    let seen = Client::to(&balancer).send("GET / HTTP/1.0\r\n\r\n").try_response();
    assert!(matches!(seen, Err(Broken::Reset(_))), "{seen:?}");
}

/// A broken response: 502 while nothing was sent, and the client's connection goes on.
#[track_caller]
fn check_502(response: &[u8], reason: &str) {
    let told = String::from_utf8_lossy(&response[..response.len().min(80)]).into_owned();
    let origin = Origin::says_and_closes(response);
    let balancer = Evenkeel::before(&[&origin], json!({}));
    let mut client = Client::to(&balancer);
    for _ in 0..2 {
        let seen = client.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx").response();
        assert_eq!((seen.status, seen.reason().as_str()), (502, reason), "{told:?}");
    }
    assert_eq!(origin.connections(), 2, "its connection is not used again: {told:?}");
}

#[test]
fn a_broken_response_is_502() {
    for response in [
        "garbage\r\n\r\n",
        "HTTP/1.1 2OO OK\r\n\r\n",
        "HTTP/1.1 99 Low\r\n\r\n",
        "HTTP/2 200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
        "HTTP/1.1 200 OK\r\nContent-Length: 1, 1\r\n\r\nx",
        "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nx",
        "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\nx",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nx",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nBad Name: x\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Le",
        "HTTP/1.1 101 Switch\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        "H",
    ] {
        check_502(response.as_bytes(), "bad_response");
    }
    let response = format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(100_000));
    check_502(response.as_bytes(), "response_head_too_large");
    let response = format!("HTTP/1.1 200 OK\r\n{}\r\n", "X: y\r\n".repeat(300));
    check_502(response.as_bytes(), "response_too_many_headers");
    check_502(b"", "server_reset");
}

#[test]
fn a_switch_to_a_protocol_that_was_not_offered_is_502() {
    for (offered, switched, expected) in [
        ("websocket", "Upgrade: WebSocket\r\n", 101),
        ("websocket, tcp", "Upgrade: tcp\r\n", 101),
        ("websocket", "", 101),
        ("websocket", "Upgrade: h2c\r\n", 502),
        ("websocket", "Upgrade: websocket, h2c\r\n", 502),
    ] {
        let origin = Origin::says(format!("HTTP/1.1 101 Switching\r\nConnection: upgrade\r\n{switched}\r\n"));
        let balancer = Evenkeel::before(&[&origin], json!({}));
        let mut client = Client::to(&balancer);
        client
            .send(format!("GET / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: {offered}\r\n\r\n"));
        let response = client.response();
        assert_eq!(response.status, expected, "{offered} {switched} {response:?}");
        assert!(expected == 101 || response.reason() == "bad_response", "{response:?}");
    }
}

#[test]
fn a_broken_chunk_behind_a_head_is_502_or_an_incomplete_message_and_never_a_clean_end() {
    for chunk in [
        "g\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "-5\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "\r\n",
        "fffffffffffffffff\r\n",
    ] {
        let origin = Origin::says(format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}"));
        let balancer = Evenkeel::before(&[&origin], json!({}));
        let seen = Client::to(&balancer).send("GET / HTTP/1.1\r\nHost: h\r\n\r\n").try_response();
        match &seen {
            Ok(response) => assert_eq!(response.status, 502, "{chunk:?}: {response:?}"),
            Err(broken) => {
                assert!(
                    matches!(broken, Broken::End | Broken::Cut(_) | Broken::Reset(_)),
                    "{chunk:?}: {broken:?}"
                );
            }
        }
    }
}

#[test]
fn a_server_that_stalls_is_504() {
    for origin in [Origin::stalls(), Origin::slow_head()] {
        let balancer = Evenkeel::before(&[&origin], json!({"timeouts": {"response": "200ms"}}));
        let mut client = Client::to(&balancer);
        let response = client.get("/");
        assert_eq!((response.status, response.reason().as_str()), (504, "server_timeout"));
        assert_eq!(client.get("/").status, 504, "the client's connection goes on");
        origin.until("both of its connections are over", |seen| seen.ended == 2 || seen.bytes.len() == 2);
    }
}

#[test]
fn a_server_that_stalls_in_a_body_makes_an_incomplete_message() {
    let origin = Origin::start(|visit| {
        visit.request();
        visit.send("HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nshort");
        visit.to_the_end();
    });
    let balancer = Evenkeel::before(&[&origin], json!({"timeouts": {"response": "200ms"}}));
    // A busy machine may have it stall before its first byte.
    until("it stalls in the body", || {
        match Client::to(&balancer).send("GET / HTTP/1.1\r\nHost: h\r\n\r\n").try_response() {
            Err(Broken::Cut(_) | Broken::Reset(_)) => true,
            Ok(response) if response.status == 504 => false,
            other => panic!("{other:?}"),
        }
    });
    origin.until("its connections are over", |seen| seen.ended == seen.bytes.len());
}

#[test]
fn with_no_server_there_is_503_and_a_reason() {
    let balancer = Evenkeel::start(json!({}));
    let mut client = Client::to(&balancer);
    for _ in 0..2 {
        let response = client.get("/");
        assert_eq!((response.status, response.reason().as_str()), (503, "no_server"));
        assert!(response.fields.one("Retry-After").parse::<u32>().is_ok());
        assert!(response.text().contains("The service is not available."), "{}", response.text());
        assert!(response.fields.one("Content-Type").starts_with("text/plain"));
    }
}

#[test]
fn errors_are_json_on_request_and_have_the_request_id() {
    let balancer = Evenkeel::start(json!({}));
    let mut client = Client::to(&balancer);
    let response = client.send("GET / HTTP/1.1\r\nHost: h\r\nAccept: application/json\r\n\r\n").response();
    assert_eq!(response.fields.one("Content-Type"), "application/json");
    let body: Value = serde_json::from_slice(&response.body).unwrap();
    assert_eq!((&body["status"], &body["reason"]), (&json!(503), &json!("no_server")));
    assert_eq!(body["request_id"], json!(response.fields.one("X-Request-Id")));
    let response = client.get("/");
    assert!(response.text().contains(&response.fields.one("X-Request-Id")), "{}", response.text());
    client.send("HEAD / HTTP/1.1\r\nHost: h\r\n\r\n");
    let response = client.try_response_to("HEAD").unwrap();
    assert_eq!((response.status, response.body.len()), (503, 0));
    assert!(client.is_quiet());
}
