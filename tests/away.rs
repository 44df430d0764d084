//! Hundreds of requests at once that nobody waits for, before servers of every temper: each client gets the answer to
//! its own request, no request that must not be repeated reaches a server twice, and nothing is left behind.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic is how a test fails")]

mod support;

use serde_json::json;
use std::sync::atomic::{AtomicUsize, Ordering};
use support::balancer::ADMIN;
use support::tempers::{self, Arrived};
use support::{Evenkeel, until};

const THREADS: usize = 40;
const EACH: usize = 8;
const ROUNDS: usize = 4;

#[test]
fn every_answer_belongs_to_its_request_whatever_the_servers_do_and_nothing_is_left() {
    let arrived = Arrived::default();
    let origins = [tempers::origin(&arrived), tempers::origin(&arrived)];
    let config = json!({
        "threadpool": {
            "min_workers": 8, "max_workers": 400, "queue_capacity": 1000,
            "queue_timeout": "60s", "queue_target": "60s",
        },
        "timeouts": {"response": "5s"},
        "servers": {"ejection": {"max_percent": 0}},
        "admin": {"socket": ADMIN},
        "log": {"level": "info"},
    });
    let balancer = Evenkeel::before(&[&origins[0], &origins[1]], config);
    let most_away = AtomicUsize::new(0);
    let tally = tempers::run(&balancer, (THREADS, EACH, ROUNDS), 0, |thread| {
        if thread == 0 {
            most_away.fetch_max(balancer.metric("evenkeel_requests_away") as usize, Ordering::Relaxed);
        }
    });
    eprintln!("{tally:?}, at most {most_away:?} seen away, {} retried", balancer.metric("evenkeel_retries"));
    assert!(tally.well.load(Ordering::Relaxed) > THREADS * EACH * ROUNDS / 2, "{tally:?}");
    tempers::nothing_came_twice(&arrived);
    for name in ["evenkeel_requests_away", "evenkeel_server_in_flight", "evenkeel_streamers"] {
        until(&format!("{name} is 0"), || balancer.metric(name) == 0.0);
    }
    until("the crew goes home", || balancer.workers() == 8);
}
