//! Another server for a request that waits at one whose probes have failed: a process that was stopped, a host that is gone
//! without a reset. Such a server would keep it until `timeouts.response`, while others can respond.

use super::{Exchange, State};
use crate::base::time::Moment;
use crate::data::context::Context;
use crate::data::finish;
use crate::http1::reason::Reason;
use crate::policy::health::Health;
use crate::state::server::Server;
use std::sync::Arc;
use std::time::Duration;

/// Between two looks at the health of a server that has not responded yet. Probes take longer to find it down, and a look
/// costs about a microsecond; requests that have waited for longer look more rarely, so that long polls cost next to nothing.
const HEALTH_LOOK_INTERVAL: Duration = Duration::from_secs(1);

impl Exchange {
    /// When to look at the health of the server; never where another server is out of the question.
    pub(super) fn down_look(&self, now: Moment) -> Moment {
        match self.attempt.asked_at.filter(|_| self.may_leave()) {
            Some(asked_at) => now.after(HEALTH_LOOK_INTERVAL.max(now.since(asked_at) / 4)),
            None => Moment::NEVER,
        }
    }

    /// The server is down: another one gets the request if one can take it now. `None`: it goes on waiting.
    pub(super) fn leave_down(&mut self, cx: &mut Context) -> Option<State> {
        let is_due =
            self.attempt.asked_at.is_some_and(|asked_at| cx.now.since(asked_at) >= HEALTH_LOOK_INTERVAL);
        let is_down = |server: &Arc<Server>| server.health() == Health::Down && !server.is_fail_open();
        if !is_due || !self.may_leave() || !self.attempt.server.as_ref().is_some_and(is_down) {
            return None;
        }
        let lease = self.another_server(cx)?;
        log::debug!(
            "{}: {}: its server is down, and another one is tried",
            cx.shared.name,
            self.meta.shown_id
        );
        self.close_connection(cx);
        if let Some(left) = &self.attempt.lease {
            left.gave_up(cx.now.since(self.attempt.asked_at.unwrap_or(cx.now)));
            finish::record_failure(left, Reason::ServerTimeout, cx);
        }
        self.leave_lease();
        Some(self.go_to(lease, cx))
    }

    /// Whether another server may get it: nothing of a response has come, and it can be sent again.
    fn may_leave(&self) -> bool {
        let is_sole = self.other_attempt.is_none() && !self.is_copy() && !self.meta.upgrade;
        let is_repeatable = (self.meta.idempotent || self.guards.held.is_some()) && self.upload.is_buffered();
        is_sole && is_repeatable && !self.download.has_incoming() && !self.download.has_sent()
    }
}
