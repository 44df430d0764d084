//! Requests that wait for a server of a pool, because all that qualify have as many as they may (`max_in_flight`): first in,
//! first out, bounded by `queue_capacity`. No server is promised to what waits: the first that has room takes the head of
//! the queue (late binding).
//!
//! A waiting exchange stays with its worker, which keeps its deadline; here is only its place in the order, and where
//! to call it. A call says that there may be room, nothing more: the exchange tries again, and passes the call on when
//! it does not need it.

use crate::base::time::Moment;
use crate::policy::admit::{Admit, Codel, Rules};
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{
    AtomicU32, AtomicUsize,
    Ordering::{Relaxed, SeqCst},
};
use std::time::Duration;

/// In a standing queue a request may wait for so many times what one takes at its server: slow servers alone are no
/// reason to reject anything.
const TIMES_LATENCY: u32 = 4;

/// A thread that has connections, as others call one of them.
pub trait Call: fmt::Debug + Send + Sync {
    /// Calls the connection with this key and turn. Never waits.
    fn call(&self, client: (usize, u32));
}

/// A place in the queue.
#[derive(Clone, Debug)]
struct Place {
    id: u64,
    worker: Arc<dyn Call>,
    client: (usize, u32),
}

/// The queue in front of the servers.
#[derive(Debug, Default)]
pub struct ServerQueue {
    places: Mutex<(VecDeque<Place>, u64)>,
    /// How many wait; read without the lock by each request that ends.
    waiting: AtomicUsize,
    /// What the last request that waited takes at its server, in microseconds.
    usual_us: AtomicU32,
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
    /// How many requests wait.
    pub fn len(&self) -> usize {
        self.waiting.load(SeqCst)
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes the last place, which `worker` calls for the connection `client`; `None` when `capacity` requests wait. The
    /// caller tries once more to get a server after this: one may have become free just before.
    pub fn enter(
        &self,
        worker: Arc<dyn Call>,
        client: (usize, u32),
        capacity: usize,
        now: Moment,
    ) -> Option<QueueToken> {
        let mut places = self.places.lock();
        if places.0.len() >= capacity {
            return None;
        }
        places.1 += 1;
        let id = places.1;
        places.0.push_back(Place { id, worker, client });
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
        first.into_iter().for_each(|place| place.worker.call(place.client));
    }

    /// Until when a request that expires then may wait: its server needs time, too. Half of the time may pass in the queue,
    /// however slow the servers seem: what is known of them may be old.
    pub fn last_moment(&self, since: Moment, expires: Moment) -> Moment {
        if expires == Moment::NEVER {
            return expires;
        }
        let (usual, time) = (Duration::from_micros(self.usual_us.load(Relaxed).into()), expires.since(since));
        since.after(time.saturating_sub(usual).max(time / 2))
    }

    /// Whether a request that waited since then and got a server is still worth serving. `took_us`: what requests take
    /// at that server, as a wait of a few times that is not an overload.
    pub fn judge(&self, rules: &Rules, since: Moment, took_us: f32, now: Moment) -> Admit {
        self.usual_us.store(took_us as u32, Relaxed);
        let usual = Duration::from_micros(took_us as u64) * TIMES_LATENCY;
        let rules = Rules { max_wait: rules.max_wait.max(usual), ..*rules };
        self.codel.judge(&rules, since, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default)]
    struct Called(Mutex<Vec<(usize, u32)>>);

    impl Call for Called {
        fn call(&self, client: (usize, u32)) {
            self.0.lock().push(client);
        }
    }

    #[test]
    fn first_in_is_first_called_and_a_full_queue_says_so() {
        let (worker, queue) = (Arc::new(Called::default()), ServerQueue::default());
        let now = Moment::from_millis(1);
        let enter = |key| queue.enter(Arc::clone(&worker) as Arc<dyn Call>, (key, 0), 2, now);
        let (first, second) = (enter(7).unwrap(), enter(8).unwrap());
        assert!(enter(9).is_none());
        assert!(queue.is_first(&first) && !queue.is_first(&second));
        let called = || {
            queue.call_next();
            std::mem::take(&mut *worker.0.lock())
        };
        assert_eq!(called(), [(7, 0)]);
        queue.leave(&first);
        assert!(queue.is_first(&second));
        assert_eq!(called(), [(8, 0)]);
        queue.leave(&second);
        assert_eq!((called().len(), queue.len()), (0, 0));
    }
}
