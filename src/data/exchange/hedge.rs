//! A second attempt beside the first (a hedged request): another server gets the same request when the first has left it
//! without a response for long. One attempt is in the exchange and the other in a [`OtherAttempt`]; where the one waits, the two
//! change places. The first good response counts, and the other attempt is cancelled.

use super::attempt::Attempt;
use super::{Exchange, State};
use crate::base::time::Moment;
use crate::data::context::Context;
use crate::data::download::Incoming;
use crate::data::failure::Failure;
use crate::data::finish;
use crate::data::upload::Progress;
use crate::data::upstream;
use crate::policy::hedge::{Estimate, Rules};
use crate::policy::retry::Phase;
use crate::state::stats::Counter;

/// The attempt that is not in the exchange, with what it has of its own.
#[derive(Debug)]
pub(super) struct OtherAttempt {
    state: State,
    pub(super) attempt: Attempt,
    progress: Progress,
    incoming: Incoming,
}

impl Exchange {
    /// The attempt waits until then: a second one is begun if it is time, or the other one is moved. `waited` is how long
    /// that one waits. `None`: there is something to move; else both wait until then.
    pub(super) fn wait_or_switch(
        &mut self,
        until: Moment,
        waited: &mut Option<Moment>,
        cx: &mut Context,
    ) -> Option<Moment> {
        if self.other_attempt.is_some() {
            return match waited.take() {
                Some(other) => Some(until.min(other)),
                None => {
                    *waited = Some(until);
                    self.change_places();
                    None
                }
            };
        }
        match self.hedge_due() {
            Some(due) if cx.now < due => Some(until.min(due)),
            Some(_) if self.begin_second_attempt(cx) => {
                *waited = Some(until);
                None
            }
            _ => Some(until),
        }
    }

    /// The rules for this request, and what is known of how long attempts take.
    fn hedging(&self) -> Option<(Rules, &Estimate)> {
        match self.matched.as_ref().map(|matched| &matched.route).filter(|route| route.hedge.is_some()) {
            Some(route) => route.hedge.flatten().map(|rules| (rules, &*route.attempt_time)),
            None => {
                let rules = self.view.live.config.pool(self.pool).hedge?;
                Some((rules, &self.view.live.pool(self.pool).attempt_time))
            }
        }
    }

    /// When a second attempt is due; `None` where there is to be none: for what may not be sent twice or may become a tunnel,
    /// and once a byte of a response has come.
    fn hedge_due(&self) -> Option<Moment> {
        let is_first = self.tries.begun == 1 && !self.tries.is_hedged && !self.tries.is_hedge_spent;
        let is_sent_alone = matches!(self.state, State::Connect | State::Relay) && self.guards.held.is_none();
        if !is_first || !is_sent_alone || !self.meta.idempotent || self.meta.upgrade || self.is_copy() {
            return None;
        }
        let (rules, estimate) = self.hedging()?;
        let is_bodiless = self.upload.passed() == 0 && self.upload.whole().is_some();
        // A session stays with its server.
        if !is_bodiless || self.download.has_incoming() || self.session_tag().is_some() {
            return None;
        }
        rules.due(self.attempt.began, estimate)
    }

    /// A second attempt begins, at another server that has room, if the budget pays for it. There is one try.
    fn begin_second_attempt(&mut self, cx: &mut Context) -> bool {
        self.tries.is_hedge_spent = true;
        // On another connection its user would have to log in again.
        if self.meta.authenticates_connection
            || self.attempt.connection.is_some_and(|key| cx.servers.is_bound(key))
        {
            return false;
        }
        let Some((rules, estimate)) = self.hedging() else { return false };
        rules.percentile().into_iter().for_each(|percentile| estimate.exceeded(percentile));
        let pool = self.view.live.pool(self.pool);
        let others = upstream::pool(cx.view(), &self.view, self.pool).ready.len();
        // A backup is no other server: it is there for when there is none.
        if !pool.queue.is_empty() || others < 2 || !pool.budget.spend_hedge(rules.budget_percent, cx.now) {
            return false;
        }
        let Some(lease) = self.choose_another(cx) else {
            self.view.live.pool(self.pool).budget.refund_hedge(cx.now);
            return false;
        };
        cx.shard().count(Counter::Hedges);
        self.other_attempt = Some(Box::new(OtherAttempt {
            state: State::Connect,
            attempt: Attempt::at(lease, cx.now),
            progress: Progress::none(cx.now),
            incoming: Incoming::none(cx.now),
        }));
        self.change_places();
        (self.tries.begun, self.tries.is_hedged) = (self.tries.begun + 1, true);
        true
    }

    /// The other attempt is in the exchange now, and this one waits.
    fn change_places(&mut self) {
        let Some(other) = &mut self.other_attempt else { return };
        std::mem::swap(&mut self.state, &mut other.state);
        std::mem::swap(&mut self.attempt, &mut other.attempt);
        self.upload.swap_attempt(&mut other.progress);
        self.download.swap_attempt(&mut other.incoming);
        // What the client is told of its server is that of this one.
        self.assign_session();
    }

    /// The response to the attempt in the exchange has begun: that is how long a first one takes, and the other one is
    /// cancelled.
    pub(super) fn settle_hedge(&mut self, cx: &mut Context) {
        if self.other_attempt.is_none() {
            if self.tries.is_hedge_spent || self.tries.begun != 1 || !self.meta.idempotent {
                return;
            }
            if let Some((percentile, estimate)) =
                self.hedging().and_then(|(rules, estimate)| Some((rules.percentile()?, estimate)))
            {
                estimate.took(cx.now.since(self.attempt.began), percentile);
            }
            return;
        }
        let is_second =
            self.other_attempt.as_ref().is_some_and(|other| self.attempt.began > other.attempt.began);
        if is_second {
            cx.shard().count(Counter::HedgesWon);
        }
        self.cancel_other_attempt(cx);
    }

    /// The other attempt ends: its connection closes, and its server has room again. That is no failure of the server; but
    /// its responses take at least as long as this one was waited for.
    pub(super) fn cancel_other_attempt(&mut self, cx: &mut Context) {
        let Some(mut other) = self.other_attempt.take() else { return };
        other.attempt.connection.take().into_iter().for_each(|connection| cx.servers.close(connection));
        let Some(lease) = other.attempt.lease.take() else { return };
        if let Some(asked_at) = other.attempt.asked_at {
            lease.cancelled(cx.now.since(asked_at), cx.now);
        }
        drop(lease);
        self.view.live.pool(self.pool).queue.call_next();
    }

    /// The attempt in the exchange failed, and the other one goes on alone. False: there is no other one.
    pub(super) fn leave_to_other_attempt(&mut self, failure: &Failure, cx: &mut Context) -> bool {
        if self.other_attempt.is_none() {
            return false;
        }
        if let Some(lease) = self.attempt.lease.as_ref().filter(|_| failure.phase != Phase::Reuse) {
            finish::record_failure(lease, failure.reason, cx);
        }
        self.end_attempt(cx);
        true
    }

    /// The server of the attempt in the exchange responded with an error; the other attempt goes on alone, and its response
    /// is the client's, whatever it is.
    pub(super) fn pass_error_over(&mut self, key: usize, cx: &mut Context) {
        self.note_status(key, cx);
        self.count_at_server(cx);
        if let Some(lease) = &self.attempt.lease {
            finish::record_success(lease, cx);
        }
        self.end_attempt(cx);
    }

    fn end_attempt(&mut self, cx: &mut Context) {
        self.close_connection(cx);
        self.leave_lease();
        self.download.begin_attempt(cx.now);
        self.change_places();
        self.other_attempt = None;
    }
}
