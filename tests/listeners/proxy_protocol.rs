//! The PROXY protocol end to end: whose request it is, and what becomes of a connection that begins otherwise.

use crate::support::{Broken, Client, Evenkeel, Origin, Response};
use serde_json::{Value, json};

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n";
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Expects the preamble from 127.0.0.1, and from no other address.
fn config() -> Value {
    json!({"load_balancer": {"proxy_protocol": ["127.0.0.1/32"]}})
}

/// A block of version 2.
fn block(command: u8, family: u8, addresses: &[u8]) -> Vec<u8> {
    let length = (addresses.len() as u16).to_be_bytes();
    [SIGNATURE, &[command, family], &length, addresses].concat()
}

/// 203.0.113.7:1234 to 192.0.2.1:80.
fn v4() -> Vec<u8> {
    block(0x21, 0x11, &[203, 0, 113, 7, 192, 0, 2, 1, 0x04, 0xd2, 0, 80])
}

/// 2001:db8::7 to ::1.
fn v6() -> Vec<u8> {
    let mut addresses = [0; 36];
    addresses[..4].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
    (addresses[15], addresses[31], addresses[35]) = (7, 1, 80);
    block(0x21, 0x21, &addresses)
}

/// The server sees the request as of this client.
#[track_caller]
fn check(preamble: &[u8], client: &str) {
    let origin = Origin::responds("ok");
    let balancer = Evenkeel::before(&[&origin], config());
    let sent = [preamble, GET].concat();
    let mut connection = Client::to(&balancer);
    assert_eq!(connection.send(&sent).response().status, 200, "{}", preamble.escape_ascii());
    // It comes once, and counts for the whole connection.
    assert_eq!(connection.send(GET).response().status, 200);
    for seen in origin.requests() {
        assert_eq!(seen.fields.all("X-Forwarded-For"), [client], "{}", preamble.escape_ascii());
    }
    assert_eq!(origin.count(), 2);
}

#[test]
fn version_1_names_the_client() {
    check(b"PROXY TCP4 203.0.113.7 192.0.2.1 1234 80\r\n", "203.0.113.7");
    check(b"PROXY TCP6 2001:db8::7 ::1 1234 80\r\n", "2001:db8::7");
    check(b"PROXY UNKNOWN\r\n", "127.0.0.1");
    check(b"PROXY UNKNOWN ffff::1 ::1 1 2\r\n", "127.0.0.1");
}

#[test]
fn version_2_names_the_client() {
    check(&v4(), "203.0.113.7");
    check(&v6(), "2001:db8::7");
    // A TLV behind the addresses is not read.
    check(
        &block(0x21, 0x11, &[203, 0, 113, 7, 192, 0, 2, 1, 4, 210, 0, 80, 5, 0, 2, b'h', b'i']),
        "203.0.113.7",
    );
}

#[test]
fn a_proxy_that_speaks_for_itself_is_the_client() {
    check(&block(0x20, 0x00, &[]), "127.0.0.1");
    check(&block(0x20, 0x11, &[203, 0, 113, 7, 192, 0, 2, 1, 0x04, 0xd2, 0, 80]), "127.0.0.1");
    check(&block(0x21, 0x00, &[]), "127.0.0.1");
}

#[test]
fn a_preamble_may_be_split_at_every_byte() {
    let origin = Origin::responds("ok");
    let balancer = Evenkeel::before(&[&origin], config());
    let line = &b"PROXY TCP4 203.0.113.7 192.0.2.1 1234 80\r\n"[..];
    let mut rounds = 0;
    for preamble in [line, &v4(), &v6()] {
        let sent = [preamble, GET].concat();
        for at in 1..sent.len() {
            let mut client = Client::to(&balancer);
            client.send(&sent[..at]).send(&sent[at..]);
            assert_eq!(client.response().status, 200, "cut at {at}");
            rounds += 1;
        }
        let mut client = Client::to(&balancer);
        sent.iter().for_each(|byte| _ = client.send([*byte]));
        assert_eq!(client.response().status, 200);
        rounds += 1;
    }
    assert_eq!(origin.count(), rounds);
    let named = ["203.0.113.7", "2001:db8::7"];
    assert!(
        origin.requests().iter().all(|seen| named.contains(&seen.fields.one("X-Forwarded-For").as_str()))
    );
}

/// Closed without a response, and nothing of it reaches a server.
#[track_caller]
fn check_bad(bytes: &[u8], reason: &str) {
    let origin = Origin::responds("ok");
    let balancer = Evenkeel::before(&[&origin], config());
    let end = Client::to(&balancer).send([bytes, GET].concat()).try_response();
    assert!(matches!(end, Err(Broken::End | Broken::Reset(_))), "{}: {end:?}", bytes.escape_ascii());
    balancer.logs(reason);
    assert_eq!((origin.count(), origin.connections()), (0, 0), "{}", bytes.escape_ascii());
}

#[test]
fn what_is_no_preamble_closes_without_a_response() {
    check_bad(b"", "proxy_header_missing");
    check_bad(b"\r\n", "proxy_header_missing");
    check_bad(b"proxy TCP4 203.0.113.7 192.0.2.1 1234 80\r\n", "proxy_header_missing");
    check_bad(b"PROXY TCP4 203.0.113.7 192.0.2.1 1234\r\n", "bad_proxy_header");
    check_bad(b"PROXY TCP4 203.0.113.700 192.0.2.1 1234 80\r\n", "bad_proxy_header");
    check_bad(b"PROXY TCP4 203.0.113.7 192.0.2.1 1234 80\n", "bad_proxy_header");
    check_bad(b"PROXY TCP4 203.0.113.7 192.0.2.1 01234 80\r\n", "bad_proxy_header");
    check_bad(&[b"PROXY UNKNOWN ".to_vec(), vec![b'x'; 200]].concat(), "bad_proxy_header");
    check_bad(&block(0x31, 0x11, &[0; 12]), "bad_proxy_header");
    check_bad(&block(0x22, 0x11, &[0; 12]), "bad_proxy_header");
    check_bad(&block(0x21, 0x11, &[0; 11]), "bad_proxy_header");
    check_bad(&block(0x21, 0x41, &[0; 12]), "bad_proxy_header");
}

/// What a peer gets that may not send one.
fn from_elsewhere(bytes: &[u8]) -> (Response, Origin) {
    let origin = Origin::responds("ok");
    let balancer = Evenkeel::before(&[&origin], config());
    let response = Client::from("127.0.0.7", &balancer).send([bytes, GET].concat()).response();
    (response, origin)
}

#[test]
fn a_peer_that_may_not_send_one_is_an_ordinary_client() {
    let (response, origin) = from_elsewhere(b"");
    assert_eq!(
        (response.status, origin.only_request().fields.one("X-Forwarded-For").as_str()),
        (200, "127.0.0.7")
    );
    let (response, origin) = from_elsewhere(b"PROXY TCP4 203.0.113.7 192.0.2.1 1234 80\r\n");
    assert_eq!((response.status, response.reason().as_str(), origin.count()), (400, "bad_request_line", 0));
    let (response, origin) = from_elsewhere(&v4());
    assert_eq!((response.status, origin.count()), (400, 0));
}

#[test]
fn a_second_preamble_is_a_bad_request() {
    let origin = Origin::responds("ok");
    let balancer = Evenkeel::before(&[&origin], config());
    let line = b"PROXY TCP4 203.0.113.7 192.0.2.1 1234 80\r\n";
    let mut client = Client::to(&balancer);
    assert_eq!(client.send([&line[..], GET].concat()).response().status, 200);
    assert_eq!(client.send([&line[..], GET].concat()).response().status, 400);
    client.sees_the_end();
    assert_eq!(origin.count(), 1);
}

#[test]
fn a_preamble_is_read_only_where_it_is_configured() {
    let origin = Origin::responds("ok");
    let balancer = Evenkeel::before(&[&origin], json!({}));
    let sent = [b"PROXY TCP4 203.0.113.7 192.0.2.1 1234 80\r\n", GET].concat();
    assert_eq!(Client::to(&balancer).send(sent).response().status, 400);
    assert_eq!(origin.count(), 0);
}
