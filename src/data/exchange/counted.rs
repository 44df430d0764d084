//! Where an exchange is counted beside its end: in the queue of its pool, and with its server.

use super::Exchange;
use crate::data::context::Context;
use crate::state::queue::QueueToken;
use crate::state::traffic::Ended;

impl Exchange {
    /// It waits no more: the next one is called.
    pub(super) fn leave_queue(&mut self, cx: &Context) -> Option<QueueToken> {
        let token = self.queue_token.take()?;
        let pool = self.view.live.pool(self.pool);
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
            reason: None,
        };
        server.traffic.ends(cx.number(), &ended);
    }
}
