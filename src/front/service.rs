//! The service behind a front, the limits of the front, and how it is stopped.

use super::Response;
use crate::base::time::Moment;
use crate::http1::head::RequestHead;
use mio::Waker;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Limits of one front.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Open connections per listener.
    pub connections: usize,
    /// Time for a whole head, from the accept or from its first byte.
    pub head: Duration,
    /// Time between two requests.
    pub idle: Duration,
    /// Time for a whole body.
    pub body: Duration,
    /// Size of a body in bytes.
    pub body_max: u64,
    /// Bodies that are read at the same time per listener; one more ends the oldest.
    pub bodies: usize,
    /// Whether bodies are passed on; otherwise they are counted and dropped.
    pub keeps_bodies: bool,
    /// Requests that tiny_http has at the same time; each has a thread there.
    pub in_flight: usize,
    /// Time for the response of the service.
    pub response: Duration,
    /// Time in which a client must read some part of its response.
    pub write: Duration,
    /// Threads that take requests from tiny_http and call [`Service::serve`].
    pub helpers: usize,
}

/// The service behind a front.
pub trait Service: Send + Sync + 'static {
    /// Checks a request at its head, before its body is read: `None` accepts it, a response ends it. Called on the
    /// single thread of the front, so it must not wait for anything. `door` is the index of the listener.
    fn judge(&self, head: &RequestHead<'_, '_>, door: usize) -> Option<Response>;

    /// Serves a complete request on a helper thread.
    fn serve(&self, request: tiny_http::Request);

    /// A rejection by the front itself, in the service's own format; the path is empty if it is not known.
    fn rejection(&self, path: &str, status: u16, sentence: &str) -> Response;

    /// Called about once a second: a new listener to replace the first one, if that cannot be reached any more.
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
    /// Asks [`Front::run`] to accept no more, to finish its work until the deadline at most, and to return. Never
    /// waits. A later call can only bring the deadline forward.
    pub fn stop(&self, deadline: Moment) {
        self.stop_by.fetch_min(deadline.as_nanos(), Ordering::AcqRel);
        // Without a wake-up it is noticed within a second.
        let _ = self.waker.wake();
    }
}
