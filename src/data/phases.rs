//! Layer 1: when an exchange did what: for the counts, the access log and traces.

use crate::base::time::Moment;
use crate::state::access::LinePhases;
use std::time::Duration;

/// The phases of an exchange so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Phases {
    /// How long it waited in the queue of its pool, in all; `None`: it did not.
    pub queued: Option<Duration>,
    /// From the choice of its server to the new connection, TLS included; `None` on a pooled one.
    pub connected: Option<Duration>,
    /// When the last attempt began.
    pub asked_from: Moment,
    /// When the head of the server's response was here.
    pub first_byte_at: Option<Moment>,
    /// When the server was done with.
    pub served_at: Option<Moment>,
    /// How often it was sent to a server.
    pub tries: u32,
    /// One of these was beside another one.
    pub hedged: bool,
}

impl Phases {
    /// Another attempt begins.
    pub fn begin_attempt(&mut self, now: Moment) {
        (self.connected, self.first_byte_at, self.served_at) = (None, None, None);
        (self.asked_from, self.tries) = (now, self.tries + 1);
    }

    /// As the access log has them; the head was complete at `started`.
    pub fn for_line(&self, started: Moment, expires: Option<Moment>) -> LinePhases {
        LinePhases {
            queue: self.queued,
            deadline: expires.map(|at| at.since(started)),
            connect: self.connected,
            first_byte: self.first_byte_at.map(|at| at.since(started)),
            tries: self.tries,
            hedged: self.hedged,
        }
    }

    /// The pool that was asked lets the request pass: what comes is the first attempt of the request itself.
    pub fn begin_again(&mut self) {
        *self = Phases { queued: self.queued, ..Phases::default() };
    }
}
