//! Upgrades and the tunnels that they become.

use super::*;

const ASK: &str = "GET /chat HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n\r\n";
const SWITCH: &str = "HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";

/// Switches, says hello in the same breath, echoes until the client has closed its side, and says goodbye.
fn echo_tunnel() -> Origin {
    Origin::start(|visit| {
        visit.request();
        visit.send(format!("{SWITCH}hello"));
        loop {
            let piece = visit.take(5);
            visit.send(&piece);
            if piece.len() < 5 {
                break;
            }
        }
        visit.send("goodbye");
    })
}

#[test]
fn an_upgrade_becomes_a_tunnel_that_keeps_early_bytes_and_half_closes() {
    let origin = echo_tunnel();
    let balancer = Evenkeel::before(&[&origin], json!({}));
    let mut client = Client::to(&balancer);
    // Early: behind the request, before the response.
    client.send(format!("{ASK}early"));
    let response = client.response();
    assert_eq!((response.status, response.fields.one("Upgrade").as_str()), (101, "websocket"));
    assert!(response.fields.one("Connection").eq_ignore_ascii_case("upgrade"));
    assert_eq!(client.bytes(10), b"helloearly");
    for word in ["one--", "two--", "three"] {
        assert_eq!(client.send(word).bytes(5), word.as_bytes());
    }
    client.finish_writing();
    assert_eq!(client.bytes(7), b"goodbye");
    client.sees_the_end();
    let seen = origin.only_request();
    assert_eq!(seen.fields.one("Upgrade"), "websocket");
    assert!(seen.fields.one("Connection").eq_ignore_ascii_case("upgrade"));
}

#[test]
fn a_tunnel_holds_no_worker() {
    let origin = Origin::start(|visit| {
        while let Some(seen) = visit.request() {
            if seen.fields.has("Upgrade") {
                visit.send(SWITCH);
                visit.to_the_end();
                return;
            }
            visit.send(ok("ok"));
        }
    });
    let config = json!({"threadpool": {"max_workers": 1}, "admin": {"socket": ADMIN}});
    let balancer = Evenkeel::before(&[&origin], config);
    assert_eq!(Client::to(&balancer).get("/").status, 200);
    let threads = balancer.threads();
    let mut tunnels: Vec<_> = (0..50).map(|_| Client::to(&balancer)).collect();
    for tunnel in &mut tunnels {
        assert_eq!(tunnel.send(ASK).response().status, 101);
    }
    balancer.metric_is("evenkeel_tunnels ", 50.0);
    assert_eq!(Client::to(&balancer).get("/").status, 200);
    // The admin API has threads of its own, which come and go.
    assert!(balancer.workers() == 1 && balancer.threads() <= threads + 8, "{} threads", balancer.threads());
    drop(tunnels);
    until("the tunnels end with their clients", || balancer.metric("evenkeel_tunnels ") == 0.0);
    balancer.metric_is("evenkeel_server_in_flight", 0.0);
}

#[test]
fn much_goes_through_a_tunnel_both_ways() {
    let origin = Origin::start(|visit| {
        visit.request();
        visit.send(SWITCH);
        let all = visit.to_the_end();
        visit.send(&all);
    });
    let balancer = Evenkeel::before(&[&origin], json!({}));
    let mut client = Client::to(&balancer);
    assert_eq!(client.send(ASK).response().status, 101);
    let much = noise(1 << 20);
    client.send(&much).finish_writing();
    let (back, end) = client.rest();
    assert!(end.is_ok() && back == much, "{} bytes, {end:?}", back.len());
}

#[test]
fn a_server_may_decline_an_upgrade() {
    let origin = Origin::responds("no");
    let balancer = Evenkeel::before(&[&origin], one_worker(json!({})));
    let mut client = Client::to(&balancer);
    assert_eq!(client.send(ASK).response().text(), "no");
    assert_eq!(client.get("/").text(), "no", "the connection goes on");
    assert_eq!(origin.connections(), 1);
}

#[test]
fn tunnels_are_bounded() {
    let origin = echo_tunnel();
    let balancer = Evenkeel::before(&[&origin], json!({"limits": {"tunnels": 1}}));
    let mut first = Client::to(&balancer);
    assert_eq!(first.send(ASK).response().status, 101);
    let response = Client::to(&balancer).send(ASK).response();
    assert_eq!((response.status, response.reason().as_str()), (503, "tunnel_limit"));
    drop(first);
    until("there is room again", || Client::to(&balancer).send(ASK).response().status == 101);
}

#[test]
fn a_tunnel_in_which_nothing_moves_is_ended() {
    let origin = echo_tunnel();
    let short = json!({"tunnel": "200ms"});
    for config in [
        json!({"timeouts": short}),
        json!({"servers": {"timeouts": short}}),
        json!({"servers": {"timeouts": {"tunnel": "5m"}}, "routes": [{"pool": "default", "timeouts": short}]}),
    ] {
        let balancer = Evenkeel::before(&[&origin], config);
        let mut client = Client::to(&balancer);
        assert_eq!(client.send(ASK).response().status, 101);
        assert_eq!(client.bytes(5), b"hello");
        let (rest, _) = client.rest();
        assert_eq!(rest, b"");
    }
}
