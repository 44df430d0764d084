//! Layer 1: requests that wait for a server, because all that qualify have as many as they may
//! (`max_in_flight`). One queue, first in, first out, bounded by `servers.queue_capacity`. No server is promised to what
//! waits: the first that has room takes the head of the queue (late binding).
//!
//! A waiting exchange stays with its worker, which keeps its deadline; here is only its place in the order, and where
//! to call it. A call says that there may be room, nothing more: the exchange tries again, and passes the call on when
//! it does not need it.

use crate::base::time::Moment;
use crate::policy::admit::{Admit, Codel, Rules};
use mio::Waker;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

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

    /// Calls a connection of the worker.
    pub fn call(&self, client: (usize, u32)) {
        self.called.lock().push(client);
        self.wake();
    }
}

/// A place in the queue.
#[derive(Clone, Debug)]
struct Place {
    id: u64,
    mailbox: Arc<Mailbox>,
    client: (usize, u32),
}

/// The queue in front of the servers.
#[derive(Debug)]
pub struct ServerQueue {
    places: Mutex<(VecDeque<Place>, u64)>,
    /// How many wait; read without the lock by each request that ends.
    waiting: AtomicUsize,
    capacity: usize,
    rules: Rules,
    codel: Codel,
}

/// An exchange's place in the queue, as the exchange holds it.
#[derive(Debug)]
pub struct QueueToken {
    id: u64,
    /// Since when it waits.
    pub since: Moment,
}

impl ServerQueue {
    /// A queue for so many requests.
    pub fn new(capacity: usize, rules: Rules) -> Self {
        let (places, waiting, codel) = (Mutex::default(), AtomicUsize::new(0), Codel::new());
        ServerQueue { places, waiting, capacity, rules, codel }
    }

    /// How many requests wait.
    pub fn len(&self) -> usize {
        self.waiting.load(SeqCst)
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// When a request that waits since then is rejected.
    pub fn deadline(&self, since: Moment) -> Moment {
        since.after(self.rules.deadline)
    }

    /// Takes the last place; `None` when the queue is full. The caller tries once more to get a server after this: one
    /// may have become free just before.
    pub fn enter(&self, mailbox: &Arc<Mailbox>, client: (usize, u32), now: Moment) -> Option<QueueToken> {
        let mut places = self.places.lock();
        if places.0.len() >= self.capacity {
            return None;
        }
        places.1 += 1;
        let id = places.1;
        places.0.push_back(Place { id, mailbox: Arc::clone(mailbox), client });
        self.waiting.store(places.0.len(), SeqCst);
        Some(QueueToken { id, since: now })
    }

    /// Whether nothing waits in front of this one.
    pub fn is_first(&self, queue_token: &QueueToken) -> bool {
        self.places.lock().0.front().is_none_or(|place| place.id >= queue_token.id)
    }

    /// Gives the place back: it got a server, or waits no more.
    pub fn leave(&self, queue_token: &QueueToken) {
        let mut places = self.places.lock();
        // Most leave from the front.
        if let Some(at) = places.0.iter().position(|place| place.id == queue_token.id) {
            places.0.remove(at);
        }
        self.waiting.store(places.0.len(), SeqCst);
    }

    /// A server may have room: calls the first in the queue. Costs one load where none waits.
    pub fn call_next(&self) {
        if self.is_empty() {
            return;
        }
        let first = self.places.lock().0.front().cloned();
        first.into_iter().for_each(|place| place.mailbox.call(place.client));
    }

    /// Whether a request that waited since then and got a server is still worth serving. `took_us`: what requests take
    /// at that server, as a wait of a few times that is not an overload.
    pub fn judge(&self, since: Moment, took_us: f32, now: Moment) -> Admit {
        let usual = std::time::Duration::from_micros(took_us as u64) * TIMES_LATENCY;
        let rules = Rules { max_wait: self.rules.max_wait.max(usual), ..self.rules };
        self.codel.judge(&rules, since, now)
    }
}

/// In a standing queue a request may wait for so many times what one takes at its server: slow servers alone are no
/// reason to reject anything.
const TIMES_LATENCY: u32 = 4;

#[cfg(test)]
mod tests {
    use super::super::poller::Poller;
    use super::*;

    #[test]
    fn first_in_is_first_called_and_a_full_queue_says_so() {
        let poller = Poller::new().unwrap();
        let mailbox = Arc::new(Mailbox::new(poller.waker()));
        let queue = ServerQueue::new(2, Rules::default());
        let now = Moment::from_millis(1);
        let enter = |key| queue.enter(&mailbox, (key, 0), now);
        let (first, second) = (enter(7).unwrap(), enter(8).unwrap());
        assert!(enter(9).is_none());
        assert!(queue.is_first(&first) && !queue.is_first(&second));
        let called = || {
            let mut called = Vec::new();
            queue.call_next();
            mailbox.take(&mut called);
            called
        };
        assert_eq!(called(), [(7, 0)]);
        queue.leave(&first);
        assert!(queue.is_first(&second));
        assert_eq!(called(), [(8, 0)]);
        queue.leave(&second);
        assert_eq!((called().len(), queue.len()), (0, 0));
    }
}
