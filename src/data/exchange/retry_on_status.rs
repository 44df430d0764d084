//! Another server for a request whose response has a status of `retries.on_status`. The response is given up only when
//! another server has taken the request; until then it is kept, and where none does it is the client's as it came.

use super::{Exchange, State};
use crate::data::context::Context;
use crate::data::finish;
use crate::policy::statuses::Statuses;
use crate::state::stats::Counter;

impl Exchange {
    /// The statuses after which another server may get it; `None` where that is out of the question. A question whether it may
    /// pass is decided by its response, and a copy has no client.
    pub(super) fn retries_on(&self) -> Option<Statuses> {
        let statuses = self.retry_rules().on_status?;
        let may = self.is_own() && self.meta.idempotent && self.upload.is_buffered();
        may.then_some(statuses)
    }

    /// A response came with such a status: another server gets the request. `None`: none can take it now.
    pub(super) fn leave_status(&mut self, key: usize, cx: &mut Context) -> Option<State> {
        let before = self.tries.after_status.replace(self.download.status());
        let Some(lease) = self.another_server(cx) else {
            self.tries.after_status = before;
            return None;
        };
        let status = self.download.status();
        log::debug!(
            "{}: {}: {status} from a server, and another one is tried",
            cx.shared.name,
            self.meta.shown_id
        );
        self.leave_server_with_response(key, cx);
        cx.shard().count(Counter::RetriesOnStatus);
        Some(self.go_to(lease, cx))
    }

    /// The response counts at its server, and the connection is kept if all of the response was here.
    fn leave_server_with_response(&mut self, key: usize, cx: &mut Context) {
        self.note_status(key, cx);
        self.count_at_server(cx);
        self.put_back_connection(cx);
        if let Some(lease) = &self.attempt.lease {
            finish::record_success(lease, cx);
        }
        self.leave_lease();
    }
}
