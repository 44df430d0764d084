//! An attempt: what an exchange has of one server, and what it has seen of it. A further attempt is a new value, so that nothing
//! of an earlier one is taken for its own. How far request and response came in it is in [`Upload`](crate::data::upload::Upload)
//! and [`Download`](crate::data::download::Download).

use crate::base::time::Moment;
use crate::data::connecting::Connecting;
use crate::state::server::{Lease, Server};
use std::sync::Arc;
use std::time::Duration;

/// What belongs to one attempt. It stays when it has failed: until the next one begins, its server is the one that the request
/// was sent to last.
#[derive(Debug)]
pub(super) struct Attempt {
    /// Counts the request at its server, until that has responded or failed.
    pub(super) lease: Option<Lease>,
    pub(super) server: Option<Arc<Server>>,
    /// The connection to it, in the worker's pool.
    pub(super) connection: Option<usize>,
    /// A new connection in the making.
    pub(super) connecting: Option<Box<Connecting>>,
    /// When it began to connect.
    pub(super) began: Moment,
    /// From there to the new connection, TLS included; `None` on a pooled one.
    pub(super) connected: Option<Duration>,
    /// When the server had all of the request.
    pub(super) asked_at: Option<Moment>,
    /// When the head of the server's response was here.
    pub(super) first_byte_at: Option<Moment>,
    /// Whether that response is good is not known yet.
    pub(super) is_unjudged: bool,
    /// When the server was done with; [`Moment::NEVER`] before.
    pub(super) served_at: Moment,
}

impl Attempt {
    /// None so far.
    pub(super) fn none(now: Moment) -> Self {
        Attempt {
            lease: None,
            server: None,
            connection: None,
            connecting: None,
            began: now,
            connected: None,
            asked_at: None,
            first_byte_at: None,
            is_unjudged: false,
            served_at: Moment::NEVER,
        }
    }

    /// One begins at the server of this lease.
    pub(super) fn at(lease: Lease, now: Moment) -> Self {
        Attempt { server: Some(Arc::clone(lease.server())), lease: Some(lease), ..Attempt::none(now) }
    }

    /// The next one begins at the same server.
    pub(super) fn begin_again(&mut self, now: Moment) {
        let (lease, server) = (self.lease.take(), self.server.take());
        *self = Attempt { lease, server, ..Attempt::none(now) };
    }
}
