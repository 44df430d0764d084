//! The exchange end to end: what a server gets to see of a request, what a client gets to see of a response, and
//! what becomes of both when one side does not keep the rules.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a panic is how a test fails; tests read the clock for their deadlines"
)]

#[path = "../support/mod.rs"]
mod support;

mod bodies;
mod connections;
mod deadlines;
mod duplex;
mod ends;
mod expectations;
mod fields;
mod limits;
mod on_status;
mod retries;
mod server_faults;
mod upgrades;

use serde_json::{Value, json};
use std::time::{Duration, Instant};
use support::balancer::{ADMIN, list, one_worker, with};
use support::faults::{Early, ok};
use support::message::Framing;
use support::{Broken, Client, Evenkeel, Gate, Origin, Response, Seen, becomes, chunked, noise, until};

/// Sends these bytes through a balancer to a server that says 200; what the server saw, and the response.
#[track_caller]
fn forwarded(config: Value, sent: &[u8]) -> (Seen, Response) {
    let origin = Origin::responds("ok");
    let balancer = Evenkeel::before(&[&origin], config);
    let response = Client::to(&balancer).send(sent).response();
    (origin.only_request(), response)
}

/// What a client gets for these bytes of a server, sent in response to `GET /`.
#[track_caller]
fn answered(bytes: impl Into<Vec<u8>>) -> Response {
    let origin = Origin::says(bytes);
    let balancer = Evenkeel::before(&[&origin], json!({}));
    Client::to(&balancer).get("/")
}

/// A request that is rejected: its status and reason, what is pipelined behind it is never served, and the
/// client reads the response and an end without a reset.
#[track_caller]
fn rejected(config: Value, sent: &[u8], status: u16, reason: &str) -> Response {
    let origin = Origin::responds("ok");
    let balancer = Evenkeel::before(&[&origin], config);
    let mut client = Client::to(&balancer);
    client.send([sent, b"GET /smuggled HTTP/1.1\r\nHost: test\r\n\r\n"].concat());
    let response = client.response();
    let told = String::from_utf8_lossy(&sent[..sent.len().min(60)]).into_owned();
    assert_eq!(
        (response.status, response.reason().as_str()),
        (status, reason),
        "{told:?}: {}",
        response.text()
    );
    assert_eq!(response.fields.all("Connection"), ["close"], "{told:?}");
    client.sees_the_end();
    let bytes = String::from_utf8_lossy(&origin.all_bytes()).into_owned();
    assert!(!bytes.contains("smuggled"), "{told:?}: the server saw {bytes:?}");
    response
}
