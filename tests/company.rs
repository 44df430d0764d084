//! A worker that stays with several clients at once: it hears all of them, one that stalls keeps nobody, every deadline
//! holds, and when company ends nothing is lost.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is how a test fails")]

mod support;

use rustix::process::Signal;
use serde_json::json;
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use support::balancer::unhurried;
use support::faults::ok;
use support::tempers::{self, Arrived};
use support::{Client, Evenkeel, Gate, Origin, until};

const GET: &str = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";
const STALL: &str = "GET /stall HTTP/1.1\r\nHost: h\r\n\r\n";
const POST: &str = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\n";

/// With two connections or fewer for each processor, each client has a worker to itself.
fn enough() -> usize {
    2 * thread::available_parallelism().map_or(1, usize::from) + 8
}

/// Answers at once, but for `/stall`.
fn server(gate: &Gate) -> Origin {
    let gate = gate.clone();
    Origin::start(move |visit| {
        while let Some(request) = visit.request() {
            if request.line.contains("/stall") {
                gate.wait();
            }
            visit.send(ok("well"));
        }
    })
}

fn ask_all(crowd: &mut [Client]) {
    crowd.iter_mut().for_each(|client| _ = client.send(GET));
    crowd.iter_mut().for_each(|client| assert_eq!(client.answer().text(), "well"));
}

/// So many clients that are in company at the end.
fn in_company(balancer: &Evenkeel) -> Vec<Client> {
    let mut crowd: Vec<_> = (0..enough()).map(|_| Client::to(balancer)).collect();
    until("they are in company", || {
        (0..50).for_each(|_| ask_all(&mut crowd));
        balancer.metric("evenkeel_clients_in_company") >= (enough() / 2) as f64
    });
    crowd
}

fn paid(balancer: &Evenkeel) -> f64 {
    balancer.metric("evenkeel_lingers_total{result=\"paid\"}")
}

#[test]
fn clients_are_heard_without_the_queue_and_parked_when_they_say_nothing() {
    let origin = server(&Gate::default());
    let balancer = Evenkeel::before(&[&origin], unhurried(16, json!({})));
    let mut crowd = in_company(&balancer);
    let before = paid(&balancer);
    until("hundreds are heard in company", || {
        (0..50).for_each(|_| ask_all(&mut crowd));
        paid(&balancer) - before > 500.0
    });
    until("they are parked", || balancer.metric("evenkeel_clients_in_company") == 0.0);
    until("and no worker is busy", || balancer.metric("evenkeel_workers_busy") == 0.0);
    ask_all(&mut crowd);
}

#[test]
fn one_that_stalls_keeps_nobody_and_its_deadline_holds() {
    let gate = Gate::default();
    let origin = server(&gate);
    let balancer = Evenkeel::before(&[&origin], unhurried(16, json!({"timeouts": {"response": "700ms"}})));
    let mut crowd = in_company(&balancer);
    // In the middle of the others.
    let middle = crowd.len() / 2;
    for (at, client) in crowd.iter_mut().enumerate() {
        client.send(if at == middle { STALL } else { GET });
    }
    let mut stalled = crowd.remove(middle);
    crowd.iter_mut().for_each(|client| assert_eq!(client.answer().text(), "well"));
    // Without a pause: company is not to end for want of somebody to hear.
    let mut rounds = 0;
    while stalled.is_quiet() {
        ask_all(&mut crowd);
        rounds += 1;
        assert!(rounds < 100_000, "it is never given up");
    }
    assert!(rounds > 10, "the others went on: {rounds} rounds");
    assert_eq!(stalled.answer().status, 504);
    gate.open();
    ask_all(&mut crowd);
    until("nothing is at the server", || balancer.metric("evenkeel_server_in_flight") == 0.0);
}

#[test]
fn one_that_sends_its_body_slowly_keeps_nobody() {
    let origin = server(&Gate::default());
    let balancer = Evenkeel::before(&[&origin], unhurried(16, json!({})));
    let mut crowd = in_company(&balancer);
    let (slow, others) = crowd.split_first_mut().unwrap();
    slow.send(POST);
    (0..50).for_each(|_| ask_all(others));
    assert!(slow.is_quiet());
    slow.send("abc");
    assert_eq!(slow.answer().text(), "well");
    // A head in two parts, too.
    slow.send(&GET[..9]);
    (0..50).for_each(|_| ask_all(others));
    assert_eq!(slow.send(&GET[9..]).answer().text(), "well");
}

#[test]
fn with_one_worker_newcomers_are_served_and_those_that_leave_leave_nothing() {
    let origin = server(&Gate::default());
    let balancer = Evenkeel::before(&[&origin], unhurried(1, json!({})));
    let mut crowd = in_company(&balancer);
    let rounds = AtomicUsize::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            until("twenty newcomers were served", || {
                ask_all(&mut crowd);
                rounds.load(Ordering::Relaxed) == 20
            });
        });
        for _ in 0..20 {
            let mut newcomer = Client::to(&balancer);
            (0..3).for_each(|_| assert_eq!(newcomer.send(GET).answer().text(), "well"));
            drop(newcomer);
            rounds.fetch_add(1, Ordering::Relaxed);
        }
    });
    // Those that close their side behind a request hear its answer, and then the end.
    for mut client in crowd {
        client.send(GET).finish_writing();
        assert_eq!(client.answer().text(), "well");
        client.sees_the_end();
    }
    until("no connection is left", || balancer.metric("evenkeel_connections ") == 0.0);
    until("nor company", || balancer.metric("evenkeel_clients_in_company") == 0.0);
}

#[test]
fn a_stop_finishes_what_company_has_in_hand() {
    let gate = Gate::default();
    let origin = server(&gate);
    let mut balancer = Evenkeel::before(&[&origin], unhurried(16, json!({})));
    let mut crowd = in_company(&balancer);
    crowd.iter_mut().for_each(|client| _ = client.send(STALL));
    let has_come = |bytes: &Vec<u8>| bytes.windows(6).any(|window| window == b"/stall");
    origin.until("one is at the server", |seen| seen.bytes.iter().any(has_come));
    balancer.signal(Signal::TERM);
    until("it takes no more", || TcpStream::connect(balancer.address()).is_err());
    gate.open();
    crowd.iter_mut().for_each(|client| assert_eq!(client.answer().text(), "well"));
    assert!(balancer.wait().success());
}

#[test]
fn every_answer_belongs_to_its_request_whatever_the_servers_do_and_nothing_is_left() {
    let arrived = Arrived::default();
    let origins = [tempers::origin(&arrived), tempers::origin(&arrived)];
    let over = json!({
        "timeouts": {"response": "5s"},
        "servers": {"ejection": {"max_percent": 0}},
        "log": {"level": "info"},
    });
    let balancer = Evenkeel::before(&[&origins[0], &origins[1]], unhurried(16, over));
    let (threads, each, rounds) = (4, enough().div_ceil(4), 300);
    let tally = tempers::run(&balancer, (threads, each, rounds), tempers::QUICK, |_| {});
    eprintln!("{tally:?}, {} heard in company", paid(&balancer));
    assert!(tally.well.load(Ordering::Relaxed) > threads * each * rounds / 2, "{tally:?}");
    tempers::nothing_came_twice(&arrived);
    for name in ["evenkeel_clients_in_company", "evenkeel_server_in_flight", "evenkeel_streamers"] {
        until(&format!("{name} is 0"), || balancer.metric(name) == 0.0);
    }
    until("the crew goes home", || balancer.workers() == 1);
}
