//! The worker pool and the queue in front of the servers: the pool grows and shrinks, waiting costs no worker, what
//! waits has a bound, an order and a deadline, and no peer can starve, bloat or end the process.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a panic is how a test fails; deadlines and the speed of rejections are measured"
)]

#[path = "../support/mod.rs"]
mod support;

mod abusive_clients;
mod attacks;
mod isolation;
mod memory;
mod moves;
mod pool;
mod queue;
mod shortage;

use rustix::process::{Resource, Signal, getrlimit, setrlimit};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use support::balancer::{ADMIN, list, with};
use support::faults::ok;
use support::message::Framing;
use support::origin::Visit;
use support::{Broken, Client, DEADLINE, Evenkeel, Gate, Origin, Seen, Shared, chunked, noise, until};

const GET: &str = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";

/// So many workers.
fn patient(min: usize, max: usize, queue: usize) -> Value {
    json!({"threadpool": {"min_workers": min, "max_workers": max, "queue_capacity": queue}})
}

/// Time for very many clients, on a machine with other things to do.
fn long() -> Value {
    json!({"timeouts": {"client_head": "300s"}})
}

fn clients(balancer: &Evenkeel, count: usize) -> Vec<Client> {
    (0..count).map(|_| Client::to(balancer)).collect()
}

fn get(path: impl std::fmt::Display) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n")
}

/// Lets this process, and its children, have so many descriptors.
fn raise_descriptors(wanted: u64) {
    let mut limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.unwrap_or(wanted);
    assert!(most >= wanted, "this machine allows {most} descriptors, and the test needs {wanted}");
    limit.current = limit.current.map(|current| current.max(wanted));
    setrlimit(Resource::Nofile, limit).unwrap();
}
