//! Servers with a capacity: so many slots, each at one request for a fixed time, and a bounded queue.
//!
//! The slots are reckoned, not run: a request begins when the slot that is free first has ended the one
//! before, and not when the origin gets to look. So the capacity is exact, however coarse the timers are.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Requests that are worked on at a time, unless the command line says otherwise.
pub const SLOTS: usize = 20;
/// How long each takes.
pub const SERVICE: Duration = Duration::from_millis(20);
/// For each slot so many requests may wait; more are refused with 503.
pub const QUEUE: usize = 5;

/// Requests per second that so many slots can do.
pub fn capacity(slots: usize) -> f64 {
    slots as f64 / SERVICE.as_secs_f64()
}

/// The slots, and what is in them.
#[derive(Debug)]
pub struct Slots {
    slots: usize,
    /// When each request ends that is in a slot or waits for one, in the order in which they came.
    ends: VecDeque<Instant>,
}

impl Slots {
    /// All free.
    pub fn new(slots: usize) -> Slots {
        Slots { slots, ends: VecDeque::new() }
    }

    /// Takes a request in: when it will be done. `None` when the queue is full.
    pub fn take(&mut self, now: Instant) -> Option<Instant> {
        while self.ends.front().is_some_and(|done| *done <= now) {
            self.ends.pop_front();
        }
        if self.ends.len() >= self.slots * (1 + QUEUE) {
            return None;
        }
        // All take the same time, so the one that came as many requests before as there are slots leaves its slot to this one.
        let before = self.ends.len().checked_sub(self.slots).and_then(|at| self.ends.get(at));
        let begins = before.map_or(now, |done| now.max(*done));
        self.ends.push_back(begins + SERVICE);
        Some(begins + SERVICE)
    }
}
