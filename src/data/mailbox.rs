//! Layer 1: how other threads call a connection of a worker: its queue has room for it, or its password is verified.

use super::called::Called;
use crate::base::ids::ConnectionKey;
use crate::state::queue::Call;
use mio::Waker;
use std::sync::Arc;

/// What other threads tell a worker: which of its client connections are called. Posting wakes it.
#[derive(Debug)]
pub struct Mailbox {
    called: Called<ConnectionKey>,
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
    pub fn take(&self, into: &mut Vec<ConnectionKey>) {
        self.called.take(into);
    }
}

impl Call for Mailbox {
    fn call(&self, client: ConnectionKey) {
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
        let [first, second, third] = [1, 2, 3].map(|key| ConnectionKey { key, generation: 7 });
        assert_eq!(taken(), []);
        for client in [first, second] {
            mailbox.call(client);
        }
        assert_eq!(taken(), [first, second]);
        assert_eq!(taken(), []);
        mailbox.call(third);
        assert_eq!(taken(), [third]);
    }
}
