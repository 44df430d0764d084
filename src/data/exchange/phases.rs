//! When an exchange did what: for the counts, the access log and traces.

use super::Exchange;
use crate::base::time::Moment;
use crate::data::context::Context;
use crate::data::waiting::QueueToken;
use crate::state::traffic::Ended;
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
}

impl Phases {
    /// Another attempt begins.
    pub(super) fn begin_attempt(&mut self, now: Moment) {
        (self.connected, self.first_byte_at, self.served_at) = (None, None, None);
        (self.asked_from, self.tries) = (now, self.tries + 1);
    }

    /// The pool that was asked lets the request pass: what comes is the first attempt of the request itself.
    pub(super) fn begin_again(&mut self) {
        *self = Phases { queued: self.queued, ..Phases::default() };
    }
}

impl Exchange {
    /// It waits no more: the next one is called.
    pub(super) fn leave_queue(&mut self, cx: &Context) -> Option<QueueToken> {
        let token = self.queue_token.take()?;
        let pool = cx.shared.pool(self.pool);
        pool.queue.leave(&token);
        pool.queue.call_next();
        let waited = cx.now.since(token.since);
        self.phases.queued = Some(self.phases.queued.unwrap_or_default() + waited);
        cx.shard().wait.record(waited);
        Some(token)
    }

    /// Counts the response of a server, once, where there was one.
    pub(super) fn count_at_server(&mut self, cx: &Context) {
        let (Some(server), Some(first_byte_at)) = (&self.server, self.phases.first_byte_at) else { return };
        let ended = Ended {
            status: Some(self.download.status()),
            received: self.upload.passed(),
            sent: self.download.bytes(),
            took: Some(
                self.phases.served_at.unwrap_or(cx.now).max(first_byte_at).since(self.phases.asked_from),
            ),
            waited: self.phases.queued,
        };
        server.traffic.ends(cx.number(), &ended);
    }
}
