//! How the balancer starts and stops: signals, drains, ports that are taken, the seed's file.

mod support;

use rustix::process::Signal;
use serde_json::json;
use std::net::TcpListener;
use support::balancer::list;
use support::{Broken, Client, Evenkeel, Gate, Origin, until};

const SEED: &str = r#"{"load_balancer": {"load_balancer_port": "8000"}, "servers": {"queue_capacity": 1000}, "threadpool": {"min_workers": 1, "max_workers": 50, "queue_capacity": 100}}"#;
const GET: &str = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";

#[track_caller]
fn until_it_refuses(balancer: &Evenkeel) {
    until("new connections are refused", || Client::connect(balancer.address()).is_err());
}

#[test]
fn a_signal_drains_what_is_in_hand_is_finished_and_the_exit_code_is_0() {
    for signal in [Signal::TERM, Signal::INT] {
        let gate = Gate::default();
        let origin = Origin::waits_for(&gate, "finished");
        let mut balancer = Evenkeel::before(&[&origin], json!({}));
        let mut client = Client::to(&balancer);
        let mut idle = Client::to(&balancer);
        client.send(GET);
        origin.until("the request came", |seen| seen.requests.len() == 1);
        balancer.signal(signal);
        until_it_refuses(&balancer);
        idle.sees_the_end();
        assert!(balancer.runs(), "it waits for the request in hand");
        gate.open();
        let answer = client.answer();
        assert_eq!((answer.text().as_str(), answer.fields.one("Connection").as_str()), ("finished", "close"));
        client.sees_the_end();
        assert_eq!(balancer.wait().code(), Some(0));
    }
}

#[test]
fn a_drain_finishes_a_head_and_an_upload_that_have_begun() {
    let origin = Origin::echoes();
    let mut balancer = Evenkeel::before(&[&origin], json!({}));
    let (mut head, mut upload) = (Client::to(&balancer), Client::to(&balancer));
    // The head is parked by a worker once it has answered the request before it.
    head.send(format!("{GET}POST / HTTP/1.1\r\nHost: h\r\n"));
    assert_eq!(head.answer().status, 200);
    upload.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 6\r\n\r\nup");
    origin.until("the upload's head came", |seen| seen.heads == 2);
    balancer.signal(Signal::TERM);
    until_it_refuses(&balancer);
    assert_eq!(head.send("Content-Length: 2\r\n\r\nok").answer().text(), "ok");
    assert_eq!(upload.send("load").answer().text(), "upload");
    assert_eq!(balancer.wait().code(), Some(0));
}

#[test]
fn a_drain_with_nothing_in_hand_is_over_at_once() {
    let origin = Origin::answers("ok");
    let mut balancer = Evenkeel::before(&[&origin], json!({}));
    let mut idle: Vec<_> = (0..10).map(|_| Client::to(&balancer)).collect();
    idle.iter_mut().for_each(|client| assert_eq!(client.get("/").status, 200));
    balancer.signal(Signal::TERM);
    assert_eq!(balancer.wait().code(), Some(0));
    idle.iter_mut().for_each(Client::sees_the_end);
    balancer_says(&balancer, "stopped");
}

fn balancer_says(balancer: &Evenkeel, what: &str) {
    balancer.logs(what);
}

#[test]
fn a_drain_ends_at_its_deadline() {
    let origin = Origin::stalls();
    let mut balancer = Evenkeel::before(&[&origin], json!({"timeouts": {"drain": "200ms"}}));
    let mut client = Client::to(&balancer);
    client.send(GET);
    until("the request came", || origin.connections() == 1);
    balancer.signal(Signal::TERM);
    assert_eq!(balancer.wait().code(), Some(0));
    assert!(
        matches!(client.try_answer(), Err(Broken::End | Broken::Reset(_))),
        "no answer, and no half of one"
    );
    balancer_says(&balancer, "are cut");
}

#[test]
fn a_request_that_is_not_whole_when_the_time_for_draining_is_over_hears_why() {
    let origin = Origin::answers("ok");
    let mut balancer = Evenkeel::before(&[&origin], json!({"timeouts": {"drain": "500ms"}}));
    let mut client = Client::to(&balancer);
    // The rest is parked by a worker once it has answered the request before it.
    client.send(format!("{GET}POST / HTTP/1.1\r\nHost: h\r\n"));
    assert_eq!(client.answer().status, 200);
    balancer.signal(Signal::TERM);
    let answer = client.answer();
    assert_eq!((answer.status, answer.reason().as_str()), (503, "draining"));
    assert_eq!(answer.fields.all("Connection"), ["close"]);
    client.sees_the_end();
    assert_eq!(balancer.wait().code(), Some(0));
}

#[test]
fn a_second_signal_stops_at_once() {
    let origin = Origin::stalls();
    let mut balancer = Evenkeel::before(&[&origin], json!({}));
    let mut client = Client::to(&balancer);
    client.send(GET);
    until("the request came", || origin.connections() == 1);
    balancer.signal(Signal::TERM);
    until_it_refuses(&balancer);
    balancer.signal(Signal::TERM);
    // Long before the drain's 30 s, and not by a crash: it has an exit code.
    assert_eq!(balancer.wait().code(), Some(1));
    assert!(client.try_answer().is_err());
}

#[test]
fn a_port_that_is_taken_is_a_sentence_and_exit_code_1() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let started = Evenkeel::try_start(json!({"load_balancer": {"load_balancer_port": port}}));
    let (status, said) = started.expect_err("two cannot have one port");
    assert_eq!(status.code(), Some(1));
    assert!(
        said.contains(&format!("port {port} of 127.0.0.1 is taken")) && said.contains("ss -ltnp"),
        "{said}"
    );
    let started =
        Evenkeel::try_start(json!({"admin": {"socket": "a.sock", "bind": format!("127.0.0.1:{port}")}}));
    let (status, said) = started.expect_err("an admin port that is named is wanted");
    assert_eq!(status.code(), Some(1));
    assert!(said.contains("admin.bind") && said.contains("is taken"), "{said}");
}

#[test]
fn an_address_that_is_not_ours_is_a_sentence_and_exit_code_1() {
    let started = Evenkeel::try_start(json!({"load_balancer": {"bind": "192.0.2.1"}}));
    let (status, said) = started.expect_err("nobody has a documentation address");
    assert_eq!(status.code(), Some(1));
    assert!(said.contains("no address of this machine"), "{said}");
}

/// Word for word, on its own port: where that is taken on this machine, the balancer must say so.
#[test]
fn the_seeds_configuration_starts() {
    match Evenkeel::try_start_text(SEED) {
        Ok(mut balancer) => {
            assert_eq!(balancer.address().port(), 8000);
            let mut client = Client::to(&balancer);
            let answer =
                client.send("POST /requests HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n").answer();
            assert_eq!((answer.status, answer.reason().as_str()), (503, "no_server"));
            drop(client);
            balancer.signal(Signal::INT);
            assert_eq!(balancer.wait().code(), Some(0));
        }
        Err((status, said)) => {
            assert_eq!(status.code(), Some(1), "{said}");
            assert!(said.contains("port 8000 of 0.0.0.0 is taken"), "{said}");
        }
    }
}

/// The seed's file but for its ports, which other programs of this machine may have.
#[test]
fn the_seeds_flow_works_with_the_seeds_configuration_on_a_port_of_our_own() {
    let seed: serde_json::Value = serde_json::from_str(SEED).unwrap();
    let mut config = seed;
    config["load_balancer"]["load_balancer_port"] = json!("0");
    config["admin"] = json!({"bind": null, "socket": null});
    let origin = Origin::answers("queued");
    config["servers"]["list"] = list(&[&origin]);
    let balancer = Evenkeel::try_start_text(&config.to_string()).expect("it starts");
    let mut client = Client::to(&balancer);
    for path in ["/requests", "/queue/status"] {
        client.send(format!("POST {path} HTTP/1.1\r\nHost: localhost:8000\r\nAccept: */*\r\n\r\n"));
        assert_eq!(client.answer().text(), "queued");
    }
}
