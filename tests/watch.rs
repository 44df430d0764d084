//! Workers that wait at the poller while many requests are away: everybody is heard, what takes long keeps nobody, every
//! deadline holds, and the accept thread gets its poller back.

#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a panic is how a test fails; servers take their time"
)]

mod support;

use rustix::process::Signal;
use serde_json::json;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use support::balancer::unhurried;
use support::faults::ok;
use support::{Client, Evenkeel, Gate, Origin, until};

const GET: &str = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";
const STALL: &str = "GET /stall HTTP/1.1\r\nHost: h\r\n\r\n";
/// From 64 requests in hand on, no worker waits for a server.
const CROWD: usize = 150;
/// What the server takes for each.
const DELAY: Duration = Duration::from_millis(10);

/// Takes its time; for `/stall` until the gate opens, with half of the answer before it.
fn server(gate: &Gate) -> Origin {
    let gate = gate.clone();
    Origin::start(move |visit| {
        while let Some(request) = visit.request() {
            thread::sleep(DELAY);
            let answer = ok("well");
            let (first, rest) =
                answer.split_at(if request.line.contains("/half") { answer.len() - 2 } else { 0 });
            visit.send(first);
            if request.line.contains("/stall") || request.line.contains("/half") {
                gate.wait();
            }
            visit.send(rest);
        }
    })
}

fn ask_all(crowd: &mut [Client]) {
    crowd.iter_mut().for_each(|client| _ = client.send(GET));
    crowd.iter_mut().for_each(|client| assert_eq!(client.answer().text(), "well"));
}

fn on_watch(balancer: &Evenkeel) -> f64 {
    balancer.metric("evenkeel_workers_on_watch")
}

/// Clients in a closed loop, with a worker on watch.
fn watched(balancer: &Evenkeel) -> Vec<Client> {
    let mut crowd: Vec<_> = (0..CROWD).map(|_| Client::to(balancer)).collect();
    until("a worker is on watch", || {
        ask_all(&mut crowd);
        on_watch(balancer) > 0.0
    });
    crowd
}

#[test]
fn the_accept_thread_gets_its_poller_back_and_may_give_it_again() {
    let origin = server(&Gate::default());
    let balancer = Evenkeel::before(&[&origin], unhurried(400, json!({})));
    for _ in 0..3 {
        let mut crowd = watched(&balancer);
        until("nobody is on watch", || on_watch(&balancer) == 0.0);
        // Those that were registered before, and one that was not.
        crowd.iter_mut().take(3).for_each(|client| assert_eq!(client.send(GET).answer().text(), "well"));
        assert_eq!(Client::to(&balancer).send(GET).answer().text(), "well");
    }
    until("no connection is left", || balancer.metric("evenkeel_connections ") == 0.0);
    until("the crew goes home", || balancer.workers() == 1);
}

#[test]
fn newcomers_are_served_and_those_that_leave_leave_nothing() {
    let origin = server(&Gate::default());
    let balancer = Evenkeel::before(&[&origin], unhurried(400, json!({})));
    let mut crowd = watched(&balancer);
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                ask_all(&mut crowd);
            }
        });
        for round in 0..40 {
            let mut newcomer = Client::to(&balancer);
            assert_eq!(newcomer.send(GET).answer().text(), "well");
            newcomer.send(GET);
            if round % 2 == 0 {
                newcomer.reset();
            }
        }
        over.store(true, Ordering::Relaxed);
    });
    // Those that close their side behind a request hear its answer, and then the end. A few at a time, while the others
    // go on: who has closed its side and waits for longer than that is taken for gone.
    const GONE_AFTER: Duration = Duration::from_millis(250);
    while !crowd.is_empty() {
        let mut others = crowd.split_off(crowd.len().min(15));
        let begun = Instant::now();
        crowd.iter_mut().for_each(|client| _ = client.send(GET).finish_writing());
        others.iter_mut().for_each(|client| _ = client.send(GET));
        for mut client in std::mem::replace(&mut crowd, others) {
            match client.try_answer() {
                Ok(answer) => {
                    assert_eq!(answer.text(), "well");
                    client.sees_the_end();
                }
                Err(broken) => assert!(begun.elapsed() >= GONE_AFTER, "{broken:?}"),
            }
        }
        crowd.iter_mut().for_each(|client| assert_eq!(client.answer().text(), "well"));
    }
    for name in ["evenkeel_connections ", "evenkeel_requests_away", "evenkeel_server_in_flight"] {
        until(&format!("{name} is 0"), || balancer.metric(name) == 0.0);
    }
}

#[test]
fn one_that_stalls_keeps_nobody_and_its_deadline_holds() {
    for (path, status) in [("/stall", Some(504)), ("/half", None)] {
        let gate = Gate::default();
        let origin = server(&gate);
        let balancer =
            Evenkeel::before(&[&origin], unhurried(400, json!({"timeouts": {"response": "700ms"}})));
        let mut crowd = watched(&balancer);
        let middle = crowd.len() / 2;
        for (at, client) in crowd.iter_mut().enumerate() {
            client.send(if at == middle { GET.replace("/ ", &format!("{path} ")) } else { GET.to_string() });
        }
        let mut stalled = crowd.remove(middle);
        crowd.iter_mut().for_each(|client| assert_eq!(client.answer().text(), "well"));
        let (mut rounds, mut seen) = (0, 0.0f64);
        while stalled.is_quiet() || (status.is_none() && balancer.metric("evenkeel_server_in_flight") > 0.0) {
            ask_all(&mut crowd);
            rounds += 1;
            seen = seen.max(on_watch(&balancer));
            assert!(rounds < 1000, "{path}: it is never given up");
        }
        assert!(rounds > 5, "{path}: the others went on: {rounds} rounds");
        assert!(seen > 0.0, "{path}: others were on watch, or again");
        match status {
            Some(status) => assert_eq!(stalled.answer().status, status),
            None => assert!(stalled.try_answer().is_err(), "the answer was cut"),
        }
        gate.open();
        ask_all(&mut crowd);
        until("nothing is at the server", || balancer.metric("evenkeel_server_in_flight") == 0.0);
    }
}

/// Where more come at once than may be at the servers, the few workers of a crew that has just begun wait for one request
/// each. Answers come before those that wait, so that there is room for them.
#[test]
fn a_crowd_of_more_than_there_may_be_is_served_by_a_crew_that_has_just_begun() {
    let origin = server(&Gate::default());
    let over = json!({"threadpool": {"max_workers": 100, "queue_timeout": "5s", "queue_target": "5ms"}});
    let balancer = Evenkeel::before(&[&origin], unhurried(400, over));
    let mut crowd: Vec<_> = (0..700).map(|_| Client::to(&balancer)).collect();
    (0..10).for_each(|_| ask_all(&mut crowd));
}

/// Each worker waits for a server that stalls, and no more may be with the servers: those that were answered are not with
/// them any more, so that there is room for a worker that takes the answers.
#[test]
fn answers_are_taken_though_every_worker_waits_for_a_server_that_stalls() {
    let (gate, last) = (Gate::default(), Gate::default());
    let gates = (gate.clone(), last.clone());
    let origin = Origin::start(move |visit| {
        while let Some(request) = visit.request() {
            if request.line.contains("/last") { &gates.1 } else { &gates.0 }.wait();
            visit.send(ok("well"));
        }
    });
    let balancer = Evenkeel::before(&[&origin], unhurried(400, json!({"threadpool": {"max_workers": 70}})));
    let clients = |count| (0..count).map(|_| Client::to(&balancer)).collect::<Vec<_>>();
    let (mut first, mut others) = (clients(70), clients(70));
    first.iter_mut().for_each(|client| _ = client.send(GET));
    origin.until("nearly all are at the server", |seen| seen.requests.len() >= 60);
    others.iter_mut().for_each(|client| _ = client.send("GET /last HTTP/1.1\r\nHost: h\r\n\r\n"));
    until("no worker rests", || balancer.metric("evenkeel_workers_idle") == 0.0);
    gate.open();
    // The other gate would open by itself later.
    let soon = Duration::from_secs(10);
    first.iter_mut().for_each(|client| assert_eq!(client.patience(soon).answer().text(), "well"));
    last.open();
    others.iter_mut().for_each(|client| assert_eq!(client.answer().text(), "well"));
}

#[test]
fn a_stop_finishes_what_is_in_hand() {
    let gate = Gate::default();
    let origin = server(&gate);
    let mut balancer = Evenkeel::before(&[&origin], unhurried(400, json!({})));
    let mut crowd = watched(&balancer);
    let before = origin.count();
    crowd.iter_mut().for_each(|client| _ = client.send(STALL));
    origin.until("all are at the server", |seen| seen.requests.len() == before + CROWD);
    balancer.signal(Signal::TERM);
    until("it takes no more", || Client::connect(balancer.address()).is_err());
    gate.open();
    crowd.iter_mut().for_each(|client| assert_eq!(client.answer().text(), "well"));
    assert!(balancer.wait().success());
}
