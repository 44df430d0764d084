//! Another server for a request that one server has already, where it may be repeated.

use super::Exchange;
use crate::data::context::Context;
use crate::policy::retry::{self, Attempt, Phase, Retry};
use crate::state::server::Lease;
use crate::state::stats::Counter;

impl Exchange {
    /// Whether it may be tried again after the attempts that failed so far, of which the last one failed in this phase.
    pub(super) fn may_try_again(&self, phase: Phase, sent: bool, timed_out: bool, cx: &Context) -> Retry {
        let (connects_failed, reuses_failed, others_failed) = self.tries.failed;
        let attempt = Attempt {
            phase,
            idempotent: self.meta.idempotent || self.held.is_some(),
            body_buffered: self.upload.is_buffered(),
            sent,
            connects_failed,
            reuses_failed,
            others_failed,
            timed_out,
        };
        retry::may(self.retry_rules(), &attempt, &self.view.live.pool(self.pool).budget, cx.now)
    }

    /// Another server that can take it now, if the attempt counts as failed. What waits in the queue of the pool comes first,
    /// and past its deadline no attempt is begun.
    pub(super) fn another_server(&mut self, cx: &mut Context) -> Option<Lease> {
        if cx.now >= self.expires || !self.view.live.pool(self.pool).queue.is_empty() {
            return None;
        }
        self.tries.failed.2 += 1;
        let lease = match self.may_try_again(Phase::Response, true, false, cx) {
            Retry::OtherServer => self.lease_elsewhere(cx).or_else(|| {
                self.view.live.pool(self.pool).budget.refund(cx.now);
                None
            }),
            _ => None,
        };
        self.tries.failed.2 -= u32::from(lease.is_none());
        lease
    }

    /// It goes to the server of this lease; the one before was left.
    pub(super) fn go_to(&mut self, lease: Lease, cx: &mut Context) {
        cx.shard().count(Counter::Retries);
        (self.lease, self.tries.same_server, self.asked_at) = (Some(lease), false, None);
        self.download.begin_attempt(cx.now);
        self.begin_attempt(cx);
    }
}
