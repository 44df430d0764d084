//! Second attempts beside the first: which requests get one, whose response counts, and what is left of the other.

use crate::support::balancer::{ADMIN, with};
use crate::support::{Client, Evenkeel, Gate, Origin, until};
use serde_json::{Value, json};
use std::fs;

const POST: &str = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx";
const GET: &str = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";

/// In turn, from the first server on; each second attempt is paid for.
fn hedged(over: Value) -> Value {
    let base = json!({
        "admin": { "socket": ADMIN },
        "log": { "access": "access.log", "access_format": "json" },
        "servers": { "algorithm": "round_robin", "hedge": { "after": "1ms", "budget": "100%" } },
    });
    with(base, over)
}

fn line(balancer: &Evenkeel, at: usize) -> Value {
    let mut line = Value::Null;
    until("the line is there", || {
        let text = fs::read_to_string(balancer.folder().join("access.log")).unwrap_or_default();
        let found = text.lines().nth(at).and_then(|line| serde_json::from_str(line).ok());
        found.inspect(|found: &Value| line = found.clone()).is_some()
    });
    line
}

fn in_flight(balancer: &Evenkeel) -> f64 {
    balancer.metric("evenkeel_server_in_flight{")
}

/// A server that holds everything, and one that responds: requests of both turns get the response of the second.
#[test]
fn a_server_that_waits_costs_no_client_its_time() {
    let gate = Gate::default();
    let (a, b) = (Origin::waits_for(&gate, "a"), Origin::responds("b"));
    let balancer = Evenkeel::before(&[&a, &b], hedged(json!({})));
    let mut client = Client::to(&balancer);
    while a.count() == 0 {
        assert_eq!(client.get("/").text(), "b");
    }
    until("it is counted", || {
        balancer.metric("evenkeel_hedges_total") >= 1.0 && balancer.metric("evenkeel_hedges_won_total") >= 1.0
    });
    // The other attempt is over, though its server still holds it, and that is no failure of the server.
    until("nothing is in flight", || in_flight(&balancer) == 0.0);
    balancer.metric_is("evenkeel_server_failures_total", 0.0);
    assert_eq!(client.get("/").text(), "b", "the connection of the client goes on");
    // A turn of b may come first; the request that a was asked first is the only one with two attempts before a's next turn.
    let line = (0..).map(|at| line(&balancer, at)).find(|line| line["hedged"] == true).unwrap();
    assert_eq!((&line["tries"], &line["server"], &line["status"]), (&json!(2), &json!("b"), &json!(200)));
    gate.open();
}

/// What may not be sent twice, or has a body, is sent once, however long it waits.
#[test]
fn what_has_a_body_or_is_not_idempotent_has_one_attempt() {
    let gate = Gate::default();
    let (a, b) = (Origin::waits_for(&gate, "a"), Origin::responds("b"));
    let balancer = Evenkeel::before(&[&a, &b], hedged(json!({})));
    let put = POST.replace("POST", "PUT");
    let mut held = Vec::new();
    for request in [POST, &put] {
        // Each second turn is that of b.
        let asked = a.count();
        while a.count() == asked {
            let mut client = Client::to(&balancer);
            client.send(request);
            until("a server has it", || a.count() > asked || !client.is_quiet());
            held.push(client);
        }
    }
    let hedges = || balancer.metric("evenkeel_hedges_total");
    let (sent_to_b, before) = (b.count(), hedges());
    // Requests that came later were hedged by now.
    let mut client = Client::to(&balancer);
    let mut gets = 0;
    while hedges() == before {
        assert_eq!(client.get("/").text(), "b");
        gets += 1;
    }
    assert_eq!((before, b.count() - sent_to_b), (0.0, gets));
    gate.open();
    held.iter_mut().for_each(|client| assert!(["a", "b"].contains(&client.response().text().as_str())));
}

/// An error of the one is not passed on while the other is out.
#[test]
fn the_first_good_response_counts() {
    let gate = Gate::default();
    let a = Origin::waits_for(&gate, "late");
    let b = Origin::replies(|visit| visit.send("HTTP/1.1 503 S\r\nContent-Length: 3\r\n\r\nbad"));
    let config = hedged(json!({}));
    let balancer = Evenkeel::before(&[&a, &b], config);
    let mut client = Client::to(&balancer);
    // A turn of b that responds before a second attempt is due is the client's.
    while a.count() == 0 {
        client.send(GET);
        until("one of them has it", || a.count() > 0 || !client.is_quiet());
        if a.count() == 0 {
            assert_eq!(client.response().status, 503);
        }
    }
    // With the response of b the attempt at a alone is left.
    until("b has responded", || {
        let of_b = "evenkeel_server_in_flight{pool=\"default\",server=\"b\"}";
        b.count() >= 1 && balancer.metric("evenkeel_hedges_total") >= 1.0 && balancer.metric(of_b) == 0.0
    });
    gate.open();
    let response = client.response();
    assert_eq!((response.status, response.text().as_str()), (200, "late"));
    until("nothing is in flight", || in_flight(&balancer) == 0.0);
}

/// An attempt that breaks off is no failure of the request while the other one is out.
#[test]
fn a_server_that_breaks_off_leaves_the_other() {
    let gate = Gate::default();
    let waits = gate.clone();
    let a = Origin::start(move |visit| {
        let _ = visit.request();
        waits.wait();
    });
    let b = Origin::waits_for(&gate, "b");
    let config = hedged(json!({ "retries": { "attempts": 0 } }));
    let balancer = Evenkeel::before(&[&a, &b], config);
    let mut client = Client::to(&balancer);
    client.send(GET);
    until("both have it", || a.count() == 1 && b.count() == 1);
    gate.open();
    assert_eq!(client.response().text(), "b");
    until("nothing is in flight", || in_flight(&balancer) == 0.0);
}

/// A route may have rules of its own, and none.
#[test]
fn a_route_says_otherwise() {
    let gate = Gate::default();
    let (a, b) = (Origin::waits_for(&gate, "a"), Origin::responds("b"));
    let routes = json!([
        { "name": "own", "path": "/own", "pool": "default", "hedge": { "after": "1ms", "budget": "100%" } },
        { "name": "never", "path": "/never", "pool": "default", "hedge": null },
        { "name": "other", "path": "/*", "pool": "default" },
    ]);
    let config = hedged(json!({ "servers": { "hedge": null }, "routes": routes }));
    let balancer = Evenkeel::before(&[&a, &b], config);
    let mut client = Client::to(&balancer);
    while a.count() == 0 {
        assert_eq!(client.get("/own").text(), "b");
    }
    // A request of the route without rules, and one of the pool without, wait for the server whose turn it is.
    let before = balancer.metric("evenkeel_hedges_total");
    let mut held = Vec::new();
    for path in ["/never", "/"] {
        let asked = a.count();
        while a.count() == asked {
            let mut client = Client::to(&balancer);
            client.send(format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n"));
            until("a server has it", || a.count() > asked || !client.is_quiet());
            held.push(client);
        }
    }
    gate.open();
    held.iter_mut().for_each(|client| assert!(["a", "b"].contains(&client.response().text().as_str())));
    balancer.metric_is("evenkeel_hedges_total", before);
}
