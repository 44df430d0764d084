//! Where an exchange is counted beside its end: with its server.

use super::Exchange;
use crate::data::context::Context;
use crate::state::traffic::Ended;

impl Exchange {
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
