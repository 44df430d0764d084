//! Servers with a capacity: so many slots, each at one request for a fixed time, and a bounded queue.
//!
//! The slots are reckoned, not run: a request begins when the slot that is free first has ended the one
//! before, and not when the origin gets to look. So the capacity is exact, however coarse the timers are.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Requests that are worked on at a time.
pub const SLOTS: usize = 20;
/// How long each takes.
pub const SERVICE: Duration = Duration::from_millis(20);
/// Requests that may wait for a slot; more are refused with 503.
pub const QUEUE: usize = 100;
/// Requests per second that the servers can do.
pub const CAPACITY: f64 = SLOTS as f64 / SERVICE.as_secs_f64();

/// When each request ends that is in a slot or waits for one, in the order in which they came.
#[derive(Debug, Default)]
pub struct Slots(VecDeque<Instant>);

impl Slots {
    /// All free.
    pub fn new() -> Slots {
        Slots::default()
    }

    /// Takes a request in: when it will be done. `None` when the queue is full.
    pub fn take(&mut self, now: Instant) -> Option<Instant> {
        while self.0.front().is_some_and(|done| *done <= now) {
            self.0.pop_front();
        }
        if self.0.len() >= SLOTS + QUEUE {
            return None;
        }
        // All take the same time, so the one that came SLOTS requests before leaves its slot to this one.
        let before = self.0.len().checked_sub(SLOTS).and_then(|at| self.0.get(at));
        let begins = before.map_or(now, |done| now.max(*done));
        self.0.push_back(begins + SERVICE);
        Some(begins + SERVICE)
    }
}
