//! Whether a request is tried again, and where: the rules are in `policy::retry`, and here is what they ask for.

use super::{Exchange, State, Tries};
use crate::data::context::Context;
use crate::data::failure::Failure;
use crate::http1::reason::Reason;
use crate::policy::retry::{self, Attempt, Phase, Retry};
use crate::state::server::Lease;
use crate::state::stats::Counter;

impl Exchange {
    /// Whether a failed attempt may be made again, and where.
    pub(super) fn may_retry(&mut self, failure: &Failure, cx: &Context) -> Retry {
        match failure.phase {
            Phase::Connect => self.tries.connects_failed += 1,
            Phase::Reuse => self.tries.reuses_failed += 1,
            Phase::Response => self.tries.others_failed += 1,
            Phase::Late => return Retry::No,
        }
        self.retry(failure.phase, failure.sent, failure.reason == Reason::ServerTimeout, cx)
    }

    /// The same after the attempts that failed so far, of which the last one failed in this phase.
    fn retry(&self, phase: Phase, sent: bool, timed_out: bool, cx: &Context) -> Retry {
        let Tries { connects_failed, reuses_failed, others_failed, .. } = self.tries;
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

    /// Those of its route, or of the configuration.
    pub(super) fn retry_rules(&self) -> &retry::Rules {
        let own = self.matched.as_ref().and_then(|matched| matched.route.retries.as_ref());
        own.unwrap_or(&self.view.live.config.retries)
    }

    /// Another server that can take it now, if the attempt counts as failed. What waits in the queue of the pool comes first,
    /// and past its deadline no attempt is begun.
    pub(super) fn another_server(&mut self, cx: &mut Context) -> Option<Lease> {
        if cx.now >= self.expires || !self.view.live.pool(self.pool).queue.is_empty() {
            return None;
        }
        self.tries.others_failed += 1;
        let lease = match self.retry(Phase::Response, true, false, cx) {
            Retry::OtherServer => self.choose_another(cx).or_else(|| {
                self.view.live.pool(self.pool).budget.refund(cx.now);
                None
            }),
            _ => None,
        };
        self.tries.others_failed -= u32::from(lease.is_none());
        lease
    }

    /// It goes to the server of this lease; the one before was left.
    pub(super) fn go_to(&mut self, lease: Lease, cx: &mut Context) -> State {
        cx.shard().count(Counter::Retries);
        (self.lease, self.tries.same_server, self.asked_at) = (Some(lease), false, None);
        self.download.begin_attempt(cx.now);
        self.begin_attempt(cx)
    }
}
