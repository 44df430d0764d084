//! Layer 1: how other threads call a connection of a worker: its queue has room for it, or its password is verified.

use crate::state::queue::Call;
use mio::Waker;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool,
    Ordering::{Acquire, Relaxed, Release},
};

/// What other threads tell a worker: which of its client connections are called. Posting wakes it.
#[derive(Debug)]
pub struct Mailbox {
    called: Mutex<Vec<(usize, u32)>>,
    /// There are some. Set before the worker is woken, so that a look at each turn costs no lock.
    has_called: AtomicBool,
    waker: Arc<Waker>,
}

impl Mailbox {
    /// The mailbox of the worker that this waker wakes.
    pub fn new(waker: Arc<Waker>) -> Self {
        Mailbox { called: Mutex::default(), has_called: AtomicBool::new(false), waker }
    }

    /// Wakes the worker.
    pub fn wake(&self) {
        // It fails only where the counter of the waker is full: then it is awake.
        let _ = self.waker.wake();
    }

    /// Takes the keys and turns of the connections that were called.
    pub fn take(&self, into: &mut Vec<(usize, u32)>) {
        if self.has_called.load(Acquire) {
            let mut called = self.called.lock();
            self.has_called.store(false, Relaxed);
            into.append(&mut called);
        }
    }
}

impl Call for Mailbox {
    fn call(&self, client: (usize, u32)) {
        let mut called = self.called.lock();
        called.push(client);
        self.has_called.store(true, Release);
        drop(called);
        self.wake();
    }
}

#[cfg(test)]
mod tests {
    use super::super::poller::Poller;
    use super::*;

    #[test]
    fn what_is_called_is_taken_once() {
        let mailbox = Mailbox::new(Poller::new().unwrap().waker());
        let taken = || {
            let mut called = Vec::new();
            mailbox.take(&mut called);
            called
        };
        assert_eq!(taken(), []);
        for client in [(1, 2), (3, 4)] {
            mailbox.call(client);
        }
        assert_eq!(taken(), [(1, 2), (3, 4)]);
        assert_eq!(taken(), []);
        mailbox.call((5, 6));
        assert_eq!(taken(), [(5, 6)]);
    }
}
