//! A connection of a driver: the request it has, and its streams.

use super::response::Response;
use super::secure::Stream;
use crate::base::time::Moment;

/// One of the connections, and its request.
pub(super) struct Connection {
    /// One for each origin, made when first needed.
    pub(super) streams: Vec<Option<Stream>>,
    /// The entry of the current request, and its origin.
    pub(super) entry: usize,
    pub(super) origin: usize,
    /// A request was started and has neither a response nor failed.
    pub(super) busy: bool,
    /// Nothing was written yet: an error means that connecting failed.
    pub(super) connecting: bool,
    /// The start of the latency of the current request.
    pub(super) begun: Moment,
    pub(super) deadline: Moment,
    pub(super) sent: u64,
    pub(super) response: Response,
}

impl Connection {
    /// One to each of so many origins, none of them made yet.
    pub(super) fn new(origins: usize) -> Self {
        Connection {
            streams: (0..origins).map(|_| None).collect(),
            entry: 0,
            origin: 0,
            busy: false,
            connecting: false,
            begun: Moment::START,
            deadline: Moment::NEVER,
            sent: 0,
            response: Response::new(),
        }
    }

    /// The connection to the current origin.
    pub(super) fn stream(&mut self) -> Option<&mut Stream> {
        self.streams[self.origin].as_mut()
    }

    /// Closes the connection to the current origin.
    pub(super) fn close(&mut self) {
        self.streams[self.origin] = None;
        self.connecting = false;
    }
}
