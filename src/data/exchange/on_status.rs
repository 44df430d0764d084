//! Another server for a request whose response has a status of `retries.on_status`. The response is given up only when
//! another server has taken the request; until then it is kept, and where none does it is the client's as it came.

use super::Exchange;
use crate::data::context::Context;
use crate::data::finish;
use crate::policy::statuses::Statuses;
use crate::state::stats::Counter;

impl Exchange {
    /// The statuses after which another server may get it; `None` where that is out of the question. A question whether it may
    /// pass is decided by its response, and a copy has no client.
    pub(super) fn retries_on(&self) -> Option<Statuses> {
        let statuses = self.retry_rules().on_status?;
        let is_own = self.held.is_none() && self.copied.is_none();
        let may = is_own && self.meta.idempotent && self.upload.is_buffered();
        may.then_some(statuses)
    }

    /// A response came with such a status. False: no other server can take the request now.
    pub(super) fn try_elsewhere(&mut self, key: usize, cx: &mut Context) -> bool {
        let before = self.tries.after_status.replace(self.download.status());
        let Some(lease) = self.another_server(cx) else {
            self.tries.after_status = before;
            return false;
        };
        let status = self.download.status();
        log::debug!(
            "{}: {}: {status} from a server, and another one is tried",
            cx.shared.name,
            self.meta.trace
        );
        self.leave_server(key, cx);
        cx.shard().count(Counter::RetriesOnStatus);
        self.go_to(lease, cx);
        true
    }

    /// The response counts at its server, and the connection is kept if all of the response was here.
    fn leave_server(&mut self, key: usize, cx: &mut Context) {
        self.note_status(key, cx);
        self.count_at_server(cx);
        self.phases.first_byte_at = None;
        self.is_unjudged = false;
        self.connection = None;
        match self.download.server_keeps() {
            true => cx.servers.put(key, &cx.poller, &cx.table.view().live.config, cx.now),
            false => cx.servers.close(key),
        }
        if let Some(lease) = self.lease.take() {
            finish::record_success(&lease, cx);
            self.tries.servers.add(lease.server().id);
            drop(lease);
            self.view.live.pool(self.pool).queue.call_next();
        }
    }
}
