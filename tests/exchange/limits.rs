//! Heads, bodies and connections beyond what is allowed.

use super::*;

#[test]
fn a_head_that_is_too_large_is_431() {
    let large = format!("GET / HTTP/1.1\r\nHost: h\r\nX: {}\r\n\r\n", "x".repeat(20_000));
    rejected(json!({}), large.as_bytes(), 431, "head_too_large");
    let many = format!("GET / HTTP/1.1\r\nHost: h\r\n{}\r\n", "X: y\r\n".repeat(100));
    rejected(json!({}), many.as_bytes(), 431, "too_many_headers");
    let small = json!({"limits": {"head": 600, "uri": 500}});
    let large = format!("GET / HTTP/1.1\r\nHost: h\r\nX: {}\r\n\r\n", "x".repeat(600));
    rejected(small, large.as_bytes(), 431, "head_too_large");
}

#[test]
fn a_target_that_is_too_long_is_414() {
    let long = format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", "x".repeat(9000));
    rejected(json!({}), long.as_bytes(), 414, "uri_too_long");
}

#[test]
fn a_body_that_is_known_to_be_too_large_is_413_before_a_byte_goes_on() {
    let origin = Origin::responds("ok");
    let balancer = Evenkeel::before(&[&origin], json!({"limits": {"body": 10}}));
    let mut client = Client::to(&balancer);
    let response = client.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 11\r\n\r\n").response();
    assert_eq!((response.status, response.reason().as_str()), (413, "body_too_large"));
    client.sees_the_end();
    assert_eq!(origin.connections(), 0);
    let fits = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\n0123456789";
    assert_eq!(Client::to(&balancer).send(fits).response().status, 200);
    rejected(
        json!({"limits": {"body": 10}}),
        b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 11\r\n\r\n0123456789a",
        413,
        "body_too_large",
    );
}

#[test]
fn a_body_of_unknown_length_is_cut_off_where_it_becomes_too_large() {
    let origin = Origin::echoes();
    let balancer = Evenkeel::before(&[&origin], json!({"limits": {"body": 10}}));
    let head = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut client = Client::to(&balancer);
    client.send(format!("{head}5\r\nhello\r\n"));
    origin.until("the head came", |seen| seen.heads == 1);
    let response = client.send("6\r\nworld!\r\n").response();
    assert_eq!((response.status, response.reason().as_str()), (413, "body_too_large"));
    client.sees_the_end();
    origin.until("its connection is over", |seen| seen.ended == 1);
    assert_eq!(origin.count(), 0, "the server got no whole request");
    let fits = format!("{head}a\r\n0123456789\r\n0\r\n\r\n");
    assert_eq!(Client::to(&balancer).send(fits).response().text(), "0123456789");
}

#[test]
fn a_head_that_does_not_end_is_408() {
    let origin = Origin::responds("ok");
    let balancer = Evenkeel::before(&[&origin], json!({"timeouts": {"client_head": "200ms"}}));
    // Again where the machine stood still between a connection and what was sent on it.
    let times_out = |first: &str| {
        let mut client = Client::to(&balancer);
        if !first.is_empty() {
            let served =
                client.try_send(first).is_ok() && client.try_response().is_ok_and(|it| it.status == 200);
            if !served {
                return false;
            }
        }
        if client.try_send("GET / HTTP/1.1\r\nHost: h\r\nX: ").is_err() {
            return false;
        }
        let Ok(response) = client.try_response() else { return false };
        assert_eq!((response.status, response.reason().as_str()), (408, "head_timeout"));
        let _ = client.rest();
        true
    };
    until("it is told so", || times_out(""));
    until("it is told so on a connection that has served before", || {
        times_out("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
    });
}

#[test]
fn a_head_that_grows_byte_by_byte_gets_no_more_time() {
    let origin = Origin::responds("ok");
    let balancer = Evenkeel::before(&[&origin], json!({"timeouts": {"client_head": "300ms"}}));
    until("it is told that its time is over", || {
        let mut client = Client::to(&balancer);
        let _ = client.try_send("GET / HTTP/1.1\r\nHost: h\r\nX: ");
        let response = loop {
            client.max_wait(Duration::from_millis(20));
            let _ = client.try_send("x");
            match client.try_response() {
                Err(Broken::Late) => {}
                other => break other,
            }
        };
        response.is_ok_and(|response| response.status == 408)
    });
}

#[test]
fn a_body_that_stands_still_is_408() {
    for framing in ["Content-Length: 10\r\n\r\nabc", "Transfer-Encoding: chunked\r\n\r\n5\r\nab"] {
        let origin = Origin::echoes();
        let balancer = Evenkeel::before(&[&origin], json!({"timeouts": {"client_body": "200ms"}}));
        let mut client = Client::to(&balancer);
        let response = client.send(format!("POST / HTTP/1.1\r\nHost: h\r\n{framing}")).response();
        assert_eq!((response.status, response.reason().as_str()), (408, "body_timeout"));
        client.sees_the_end();
        origin.until("its connection is over", |seen| seen.ended == 1);
    }
}

#[test]
fn what_is_no_good_request_is_rejected_and_what_follows_it_is_not_read() {
    let check = |sent: &str, status, reason: &str| drop(rejected(json!({}), sent.as_bytes(), status, reason));
    check("GET  / HTTP/1.1\r\nHost: h\r\n\r\n", 400, "bad_request_line");
    check("GET / HTTP/2.0\r\nHost: h\r\n\r\n", 505, "version_unsupported");
    check("GET / HTTP/1.1\r\n\r\n", 400, "bad_host");
    check("GET / HTTP/1.1\r\nHost: h\r\nHost: h\r\n\r\n", 400, "bad_host");
    check("GET / HTTP/1.1\r\nHost : h\r\n\r\n", 400, "bad_header");
    check("GET / HTTP/1.1\nHost: h\n\n", 400, "bare_line_break");
    check("CONNECT h:1 HTTP/1.1\r\nHost: h:1\r\n\r\n", 501, "connect_rejected");
    check("TRACE / HTTP/1.1\r\nHost: h\r\n\r\n", 405, "trace_rejected");
    let post = |fields: &str| format!("POST / HTTP/1.1\r\nHost: h\r\n{fields}\r\n\r\n0\r\n\r\n");
    check(&post("Content-Length: 5\r\nTransfer-Encoding: chunked"), 400, "length_conflict");
    check(&post("Content-Length: 5\r\nContent-Length: 5"), 400, "bad_content_length");
    check(&post("Content-Length: +5"), 400, "bad_content_length");
    check(&post("Transfer-Encoding: gzip"), 400, "bad_transfer_encoding");
    check(&post("Transfer-Encoding: gzip, chunked"), 501, "transfer_coding_unknown");
    check("GET https://h/ HTTP/1.1\r\nHost: h\r\n\r\n", 421, "misdirected");
    check(&post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"), 400, "bad_transfer_encoding");
    check(
        "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0x1\r\na\r\n0\r\n\r\n",
        400,
        "bad_chunk",
    );
    check("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505, "http2_preface");
}

#[test]
fn a_rejected_client_that_goes_on_sending_can_still_read_its_response() {
    let balancer = Evenkeel::start(json!({}));
    let mut client = Client::to(&balancer);
    client.send("GET / HTTP/1.1\r\nHost: h\r\nContent-Length: x\r\n\r\n");
    // Half a megabyte behind the rejection: a close over unread bytes would be a reset.
    client.send(vec![b'x'; 512 * 1024]);
    assert_eq!(client.response().status, 400);
    client.sees_the_end();
}

/// What such a client still sends is bounded by time alone, 5 s of silence and 30 s in all: tests/exchange/duplex.rs.
#[test]
fn a_client_that_goes_on_uploading_behind_an_early_response_can_still_read_it() {
    let origin = Origin::responds_early();
    let balancer = Evenkeel::before(&[&origin], json!({}));
    let mut client = Client::to(&balancer);
    client.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000000\r\n\r\nbegin");
    origin.until("the response is on its way", |seen| seen.heads == 1);
    client.send(vec![b'x'; 40 << 20]);
    assert_eq!(client.response().status, 413);
    // It closes its side: the rest never comes, and the server sees that.
    client.finish_writing();
    origin.until("its connection is over", |seen| seen.ended == 1);
    client.sees_the_end();
}

#[test]
fn connections_are_bounded_and_those_beyond_can_read_why() {
    let origin = Origin::stalls();
    let balancer = Evenkeel::before(&[&origin], json!({"limits": {"connections": 2}}));
    let mut busy = [Client::to(&balancer), Client::to(&balancer)];
    for client in &mut busy {
        client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    }
    origin.until("both are in flight", |seen| seen.bytes.len() == 2);
    let mut third = Client::to(&balancer);
    let response = third.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n").response();
    assert_eq!((response.status, response.reason().as_str()), (503, "connection_limit"));
    third.sees_the_end();
}

#[test]
fn where_connections_are_many_the_longest_idle_makes_room() {
    let origin = Origin::responds("ok");
    let balancer = Evenkeel::before(&[&origin], json!({"limits": {"connections": 1}}));
    let mut idle = Client::to(&balancer);
    assert_eq!(idle.get("/").status, 200);
    // A worker has it for a second before it is parked; until then the newcomer is rejected, and comes again.
    until("the newcomer is served", || Client::to(&balancer).get("/").status == 200);
    idle.sees_the_end();
}

#[test]
fn connections_of_one_address_are_bounded() {
    let origin = Origin::responds("ok");
    let limits = json!({"limits": {"connections_per_address": 2}});
    let balancer = Evenkeel::before(&[&origin], limits);
    let mut kept = [Client::to(&balancer), Client::to(&balancer)];
    kept.iter_mut().for_each(|client| assert_eq!(client.get("/").status, 200));
    let response = Client::to(&balancer).get("/");
    assert_eq!((response.status, response.reason().as_str()), (503, "connection_limit"));
    drop(kept);
    until("there is room again", || Client::to(&balancer).get("/").status == 200);
}
