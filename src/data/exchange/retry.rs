//! Whether a request is tried again, and where: the rules are in `policy::retry`, and here is what they ask for.

use super::{Exchange, State};
use crate::data::context::Context;
use crate::data::failure::Failure;
use crate::data::upstream::Tried;
use crate::http1::reason::Reason;
use crate::policy::retry::{self, Phase, Retry};
use crate::state::server::Lease;
use crate::state::stats::Counter;

/// What was tried so far.
#[derive(Debug, Default)]
pub(super) struct Tries {
    /// Attempts that began.
    pub(super) begun: u32,
    pub(super) servers: Tried,
    /// Attempts that failed to connect.
    connects_failed: u32,
    /// Attempts that failed on a pooled connection, which had ended.
    reuses_failed: u32,
    /// Attempts that failed otherwise.
    others_failed: u32,
    pub(super) last: Option<Failure>,
    /// The next attempt goes to the server of the last, on a new connection.
    pub(super) same_server: bool,
    /// The status of the last response after which another server is tried.
    pub(super) after_status: Option<u16>,
    /// Two attempts were made at once.
    pub(super) is_hedged: bool,
    /// A second attempt was begun beside the first, or could not be.
    pub(super) is_hedge_spent: bool,
}

impl Tries {
    /// All servers may be tried again. What may have reached one still counts.
    pub(super) fn forget_servers(&mut self) {
        (self.servers, self.connects_failed) = (Tried::default(), 0);
        (self.last, self.same_server, self.after_status) = (None, false, None);
    }
}

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
        let attempt = retry::Attempt {
            phase,
            idempotent: self.meta.idempotent || self.guards.held.is_some(),
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
        self.tries.same_server = false;
        self.download.begin_attempt(cx.now);
        self.begin_attempt(lease, cx)
    }
}
