//! What stands behind a front, the bounds within which it is reached, and how it is stopped.

use super::Answer;
use crate::base::time::Moment;
use crate::http1::head::RequestHead;
use mio::Waker;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Bounds; all of one front.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Open connections at each door.
    pub connections: usize,
    /// Time for a whole head, from the accept or from its first byte.
    pub head: Duration,
    /// Time between two requests.
    pub idle: Duration,
    /// Time for a whole body.
    pub body: Duration,
    /// Bytes of a body.
    pub body_max: u64,
    /// Bodies that are read at the same time at each door; one more ends the oldest.
    pub bodies: usize,
    /// Whether bodies are handed on; otherwise they are counted and dropped.
    pub keeps_bodies: bool,
    /// Requests that tiny_http has at the same time; each has a thread there.
    pub in_flight: usize,
    /// Time for the response of the service.
    pub response: Duration,
    /// Time in which a client must read something of its response.
    pub write: Duration,
    /// Threads that take requests from tiny_http and call [`Service::serve`].
    pub helpers: usize,
}

/// What stands behind a front.
pub trait Service: Send + Sync + 'static {
    /// Judges a request at its head, before its body is read: `None` lets it in, an answer ends it. Called on the one
    /// thread of the front, so it must not wait for anything. `door` is the index of the listener.
    fn judge(&self, head: &RequestHead<'_, '_>, door: usize) -> Option<Answer>;

    /// Serves a request, whole, on a helper thread.
    fn serve(&self, request: tiny_http::Request);

    /// A refusal of the front itself, in the service's own form; the path is empty where it is not known.
    fn refusal(&self, path: &str, status: u16, sentence: &str) -> Answer;

    /// Called about once a second: a new listener for the first door, when the old one cannot be reached any more.
    fn renew(&self) -> Option<OwnedFd> {
        None
    }
}

/// Stops a front; cheap to clone.
#[derive(Clone, Debug)]
pub struct Stopper {
    pub(super) stop_by: Arc<AtomicU64>,
    pub(super) waker: Arc<Waker>,
}

impl Stopper {
    /// Asks [`Front::run`] to accept no more, to finish what it has until the deadline at most, and to return. Never
    /// waits. A later call can only bring the deadline nearer.
    pub fn stop(&self, deadline: Moment) {
        self.stop_by.fetch_min(deadline.as_nanos(), Ordering::AcqRel);
        // Without a wake-up it is seen within a second.
        let _ = self.waker.wake();
    }
}
