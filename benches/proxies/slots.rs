//! Servers with a capacity: a number of slots, each with one request for a fixed time, and a bounded queue.
//!
//! The slots are computed, not run: a request begins when the first free slot has finished the previous one, and not
//! when the origin gets to it. So the capacity is exact, however coarse the timers are.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Requests that are processed at the same time, unless the command line says otherwise.
pub const SLOTS: usize = 20;
/// How long each takes.
pub const SERVICE: Duration = Duration::from_millis(20);
/// Waiting requests per slot; further ones are rejected with 503.
pub const QUEUE: usize = 5;

/// Requests per second for this many slots.
pub fn capacity(slots: usize) -> f64 {
    slots as f64 / SERVICE.as_secs_f64()
}

/// The slots and their contents.
#[derive(Debug)]
pub struct Slots {
    slots: usize,
    /// The end time of each request that is in a slot or waits for one, in order of arrival.
    ends: VecDeque<Instant>,
}

impl Slots {
    /// All slots are free.
    pub fn new(slots: usize) -> Slots {
        Slots { slots, ends: VecDeque::new() }
    }

    /// Adds a request: returns when it will be done. `None` when the queue is full.
    pub fn take(&mut self, now: Instant) -> Option<Instant> {
        while self.ends.front().is_some_and(|done| *done <= now) {
            self.ends.pop_front();
        }
        if self.ends.len() >= self.slots * (1 + QUEUE) {
            return None;
        }
        // All take the same time, so this request follows the one that is as many positions ahead as there are slots.
        let before = self.ends.len().checked_sub(self.slots).and_then(|at| self.ends.get(at));
        let begins = before.map_or(now, |done| now.max(*done));
        self.ends.push_back(begins + SERVICE);
        Some(begins + SERVICE)
    }
}
