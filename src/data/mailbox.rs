//! Layer 1: how other threads call a connection of a worker: its queue has room for it, or its password is verified.

use crate::state::queue::Call;
use mio::Waker;
use parking_lot::Mutex;
use std::sync::Arc;

/// What other threads tell a worker: which of its client connections are called. Posting wakes it.
#[derive(Debug)]
pub struct Mailbox {
    called: Mutex<Vec<(usize, u32)>>,
    waker: Arc<Waker>,
}

impl Mailbox {
    /// The mailbox of the worker that this waker wakes.
    pub fn new(waker: Arc<Waker>) -> Self {
        Mailbox { called: Mutex::default(), waker }
    }

    /// Wakes the worker.
    pub fn wake(&self) {
        // It fails only where the counter of the waker is full: then it is awake.
        let _ = self.waker.wake();
    }

    /// Takes the keys and turns of the connections that were called.
    pub fn take(&self, into: &mut Vec<(usize, u32)>) {
        into.append(&mut self.called.lock());
    }
}

impl Call for Mailbox {
    fn call(&self, client: (usize, u32)) {
        self.called.lock().push(client);
        self.wake();
    }
}
