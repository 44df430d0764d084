//! Layer 1: how other threads call a connection of a worker: its queue has room for it, or its password is verified.

use super::called::Called;
use crate::state::queue::Call;
use mio::Waker;
use std::sync::Arc;

/// What other threads tell a worker: which of its client connections are called. Posting wakes it.
#[derive(Debug)]
pub struct Mailbox {
    called: Called<(usize, u32)>,
    waker: Arc<Waker>,
}

impl Mailbox {
    /// The mailbox of the worker that this waker wakes.
    pub fn new(waker: Arc<Waker>) -> Self {
        Mailbox { called: Called::default(), waker }
    }

    /// Wakes the worker.
    pub fn wake(&self) {
        // It fails only where the counter of the waker is full: then it is awake.
        let _ = self.waker.wake();
    }

    /// Takes the keys and generations of the connections that were called.
    pub fn take(&self, into: &mut Vec<(usize, u32)>) {
        self.called.take(into);
    }
}

impl Call for Mailbox {
    fn call(&self, client: (usize, u32)) {
        self.called.push(client);
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
