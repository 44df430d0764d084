//! Hundreds of requests at once before servers that close, reset, cut and stall: each client gets the response to its
//! own request, no request that must not be repeated reaches a server twice, and nothing is left behind.

use crate::support::balancer::{unhurried, with};
use crate::support::behaviours::{self, Arrived};
use crate::support::{Evenkeel, until};
use serde_json::{Value, json};
use std::sync::atomic::Ordering;

/// So many threads with so many clients each, that ask so often each.
#[track_caller]
fn check(max_workers: usize, (threads, each, rounds): (usize, usize, usize), mark: usize, over: Value) {
    let arrived = Arrived::default();
    let origins = [behaviours::origin(&arrived), behaviours::origin(&arrived)];
    let base = json!({
        "servers": {"ejection": {"max_percent": 0}},
        "log": {"level": "info"},
    });
    let balancer = Evenkeel::before(&[&origins[0], &origins[1]], unhurried(max_workers, with(base, over)));
    let tally = behaviours::run(&balancer, (threads, each, rounds), mark, |_| {});
    assert!(tally.well.load(Ordering::Relaxed) > threads * each * rounds / 2, "{tally:?}");
    behaviours::nothing_came_twice(&arrived);
    for name in ["evenkeel_server_in_flight", "evenkeel_requests_waiting", "evenkeel_queue_length"] {
        until(&format!("{name} is 0"), || balancer.metric(name) == 0.0);
    }
    // The admin API's connections are not among them.
    until("no connection is left", || balancer.metric("evenkeel_connections ") == 0.0);
    until("the pool is at min", || balancer.workers() == 1);
}

#[test]
fn many_slow_requests_on_many_workers() {
    check(400, (40, 8, 3), 0, json!({}));
}

#[test]
fn quick_requests_on_few_workers() {
    check(3, (4, 8, 200), behaviours::QUICK, json!({}));
}

#[test]
fn all_on_one_worker() {
    check(1, (20, 8, 4), 0, json!({}));
}

#[test]
fn with_a_queue_in_front_of_the_servers() {
    check(4, (10, 8, 4), 0, json!({"servers": {"max_in_flight": 5}}));
}
