//! `Expect: 100-continue` and interim responses.

use super::*;

const UPLOAD: &str = "PUT / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n";

#[test]
fn the_servers_100_reaches_the_client_and_then_the_body_the_server() {
    let origin = Origin::start(|visit| {
        while let Some(head) = visit.head() {
            visit.send("HTTP/1.1 100 Continue\r\n\r\n");
            visit.body(head);
            visit.response("done");
        }
    });
    let balancer = Evenkeel::before(&[&origin], json!({}));
    let mut client = Client::to(&balancer);
    for _ in 0..2 {
        // The body is sent only once the 100 is there, so nothing else can have sent it.
        assert_eq!(client.send(UPLOAD).response().status, 100);
        assert_eq!(client.send("body").response().text(), "done");
    }
    let seen = &origin.requests()[0];
    assert_eq!((seen.fields.one("Expect").as_str(), seen.body.as_slice()), ("100-continue", &b"body"[..]));
}

#[test]
fn a_final_response_instead_of_100_reaches_the_client_and_the_body_is_not_sent() {
    let origin = Origin::responds_early();
    let balancer = Evenkeel::before(&[&origin], json!({}));
    let mut client = Client::to(&balancer);
    let response = client.send(UPLOAD).response();
    assert_eq!((response.status, response.text().as_str()), (413, "large"));
    origin.until("its connection is over", |seen| seen.ended == 1);
    assert!(origin.all_bytes().ends_with(b"\r\n\r\n"), "no byte of a body came");
}

#[test]
fn an_unknown_expectation_is_417() {
    rejected(json!({}), b"GET / HTTP/1.1\r\nHost: h\r\nExpect: 200-ok\r\n\r\n", 417, "expectation_unknown");
}

#[test]
fn interim_responses_reach_a_1_1_client_and_never_one_of_1_0() {
    let origin = Origin::sends_interim(&[102, 103, 103]);
    let balancer = Evenkeel::before(&[&origin], json!({}));
    let mut client = Client::to(&balancer);
    for _ in 0..2 {
        client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        for status in [102, 103, 103] {
            let interim = client.response();
            assert_eq!((interim.status, interim.fields.one("X-Interim")), (status, status.to_string()));
        }
        assert_eq!(client.response().text(), "final");
    }
    let response = Client::to(&balancer).send("GET / HTTP/1.0\r\n\r\n").response();
    assert_eq!((response.status, response.text().as_str()), (200, "final"));
}

#[test]
fn an_interim_response_of_an_unknown_status_reaches_the_client() {
    let origin = Origin::sends_interim(&[142, 199]);
    let balancer = Evenkeel::before(&[&origin], json!({}));
    let mut client = Client::to(&balancer);
    client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    for status in [142, 199] {
        let interim = client.response();
        assert_eq!((interim.status, interim.fields.one("X-Interim")), (status, status.to_string()));
    }
    assert_eq!(client.response().text(), "final");
}

#[test]
fn a_hundred_interim_responses_reach_the_client() {
    static STATUSES: [u16; 100] = [103; 100];
    let origin = Origin::sends_interim(&STATUSES);
    let balancer = Evenkeel::before(&[&origin], json!({}));
    let mut client = Client::to(&balancer);
    client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    assert!((0..100).all(|_| client.response().status == 103));
    assert_eq!(client.response().text(), "final");
}

/// 64 KiB of them without progress of the request; tests/exchange/duplex.rs has more.
#[test]
fn interim_responses_without_end_are_502() {
    static STATUSES: [u16; 5000] = [103; 5000];
    let origin = Origin::sends_interim(&STATUSES);
    let balancer = Evenkeel::before(&[&origin], json!({}));
    let mut client = Client::to(&balancer);
    client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    let last = (0..5000).map(|_| client.response()).find(|response| response.status >= 200).unwrap();
    assert_eq!((last.status, last.reason().as_str()), (502, "bad_response"));
}

#[test]
fn an_early_final_response_reaches_the_client_while_it_uploads() {
    let origin = Origin::responds_early();
    let balancer = Evenkeel::before(&[&origin], json!({}));
    for body in
        ["", "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", "Content-Length: 1000000\r\n\r\nbegin"]
    {
        if body.is_empty() {
            continue;
        }
        let mut client = Client::to(&balancer);
        // The client never sends the rest: it waits for a response first.
        let response = client.send(format!("POST / HTTP/1.1\r\nHost: h\r\n{body}")).response();
        assert_eq!((response.status, response.text().as_str()), (413, "large"));
        assert_eq!(response.fields.all("Connection"), ["close"]);
        client.sees_the_end();
    }
}
