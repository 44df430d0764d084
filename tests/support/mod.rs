//! What the end-to-end tests share: the built binary as a child process, a client for exact bytes, and servers
//! that follow a script. Everything waits with a deadline, and nothing waits without a condition.

#![allow(
    dead_code,
    unused_imports,
    clippy::wrong_self_convention,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "each test crate uses a part; a panic is how a test fails; tests read the clock for their deadlines"
)]

pub mod balancer;
pub mod behaviours;
pub mod browser;
pub mod client;
pub mod faults;
pub mod message;
pub mod origin;
pub mod port;
pub mod tls;

pub use balancer::Evenkeel;
pub use client::Client;
pub use message::{Broken, Response, Seen};
pub use origin::Origin;

use std::fmt;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// How long anything may take that is not about time. Generous: these machines are noisy.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// Waits until the condition holds; fails at the deadline. For conditions that nothing announces, such as
/// what the operating system says of a process.
#[track_caller]
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < deadline, "it did not come about that {what}");
        thread::park_timeout(Duration::from_millis(5));
    }
}

/// Waits until the value is the expected one; fails at the deadline with the last value. For what is told
/// after its cause, such as a count that follows the response.
#[track_caller]
pub fn becomes<T: PartialEq + fmt::Debug>(what: &str, expected: &T, mut value: impl FnMut() -> T) {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let value = value();
        if value == *expected {
            return;
        }
        assert!(Instant::now() < deadline, "{what} is {value:?}, not {expected:?}");
        thread::park_timeout(Duration::from_millis(5));
    }
}

/// A port that refuses, without a server.
pub fn unused_port() -> port::Port {
    port::Port::reserve()
}

/// A gate that is shut until somebody opens it. Clones are the same gate.
#[derive(Clone, Debug, Default)]
pub struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    /// Lets everybody through from now on.
    pub fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }

    /// Waits until it is open; goes on at the deadline as well, for the test's own waits to tell.
    pub fn wait(&self) {
        let shut = self.0.0.lock().unwrap();
        drop(self.0.1.wait_timeout_while(shut, DEADLINE, |open| !*open).unwrap());
    }
}

/// A value that others can wait for. Clones are the same value.
#[derive(Debug, Default)]
pub struct Shared<T>(Arc<(Mutex<T>, Condvar)>);

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Shared(Arc::clone(&self.0))
    }
}

impl<T> Shared<T> {
    /// Changes it, and wakes the threads that wait.
    pub fn change<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        let changed = change(&mut self.0.0.lock().unwrap());
        self.0.1.notify_all();
        changed
    }

    /// Looks at it.
    pub fn look<R>(&self, look: impl FnOnce(&T) -> R) -> R {
        look(&self.0.0.lock().unwrap())
    }

    /// Waits until `find` finds something; `None` at the deadline.
    pub fn wait_for<R>(&self, limit: Duration, mut find: impl FnMut(&T) -> Option<R>) -> Option<R> {
        let deadline = Instant::now() + limit;
        let mut value = self.0.0.lock().unwrap();
        loop {
            if let Some(found) = find(&value) {
                return Some(found);
            }
            let left = deadline.checked_duration_since(Instant::now())?;
            value = self.0.1.wait_timeout(value, left).unwrap().0;
        }
    }
}

/// The chunked coding of these pieces.
pub fn chunked(pieces: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    for piece in pieces {
        out.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
        out.extend_from_slice(piece);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"0\r\n\r\n");
    out
}

/// Bytes without a pattern that a copy error could hide in.
pub fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..len).map(|_| next()).collect()
}
