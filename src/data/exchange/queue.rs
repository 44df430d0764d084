//! `Queue`: a place in the queue of the pool, while all servers that qualify have as many requests as they may.

use super::{Exchange, Flow, State};
use crate::base::time::Moment;
use crate::data::context::Context;
use crate::data::failure::Failure;
use crate::http1::reason::Reason;
use crate::policy::admit::Admit;
use crate::policy::backlog::Priority;
use crate::state::queue::{QueueToken, Turn};
use crate::state::server::Lease;
use std::sync::Arc;

impl Exchange {
    /// The priority of its route.
    pub fn priority(&self) -> Priority {
        self.matched.as_ref().map_or(Priority::default(), |matched| matched.route.priority)
    }

    /// Whether others are served before it. What has waited for too long, or was pushed out of a full queue, fails.
    pub(super) fn is_behind(&self, cx: &Context) -> Result<bool, Failure> {
        let live = &self.view.live;
        let queue = &live.pool(self.pool).queue;
        let Some(token) = &self.choice.queue_token else { return Ok(!queue.is_empty()) };
        match queue.turn(token, &live.config.threadpool.admit, cx.now) {
            Turn::First => Ok(false),
            Turn::Waits => Ok(true),
            Turn::Standing => Err(Failure::last(Reason::Overloaded)),
            Turn::PushedOut => Err(Failure::last(Reason::QueueFull)),
        }
    }

    /// Requests that wait behind it, where it is the first.
    pub(super) fn waiting_behind(&self) -> usize {
        let queue = &self.view.live.pool(self.pool).queue;
        if self.choice.queue_token.is_some() { queue.len().saturating_sub(1) } else { 0 }
    }

    /// It waits for a server that is faster than one which has room, or it does not.
    pub(super) fn note_choice(&self, is_later: bool) {
        if self.choice.queue_token.is_some() {
            self.view.live.pool(self.pool).queue.note_choice(is_later);
        }
    }

    /// Takes a place, and looks once more: a server may have got room just before that.
    pub(super) fn enter_queue(&mut self, cx: &Context) -> Result<Flow, Failure> {
        let (live, worker) = (&self.view.live, Arc::clone(&cx.mailbox));
        let token = live.pool(self.pool).queue.enter(
            worker,
            self.owner,
            (self.priority(), self.expires),
            &live.config.threadpool.admit,
            live.config.pool(self.pool).queue_capacity,
            cx.now,
        );
        self.choice.queue_token = Some(token.ok_or(Failure::last(Reason::QueueFull))?);
        Ok(Flow::Again)
    }

    /// Called, or time has passed.
    pub(super) fn wait_in_queue(&mut self, cx: &mut Context) -> Result<Flow, Failure> {
        let (deadline, reason) = self.queue_deadline(cx);
        if cx.now >= deadline {
            return Err(Failure::last(reason));
        }
        Ok(Flow::To(State::Choose))
    }

    /// It has a server: is it still worth serving there, should it have waited? If not, the server has room again before the next
    /// one in the queue is called.
    pub(super) fn admit_from_queue(&mut self, lease: Lease, cx: &Context) -> Result<Lease, Failure> {
        let too_late = self.too_late();
        let Some(token) = self.choice.queue_token.take() else { return Ok(lease) };
        let live = &self.view.live;
        let queue = &live.pool(self.pool).queue;
        let latency = lease.server().latency(cx.now);
        let rejected = match queue.serve(&token, &live.config.threadpool.admit, latency, cx.now) {
            Admit::Serve if cx.now > queue.last_moment(token.since, self.expires) => Some(too_late),
            Admit::Serve => None,
            Admit::TooLate => Some(Reason::QueueTimeout),
            Admit::Standing => Some(Reason::Overloaded),
        };
        let admitted = rejected.map_or(Ok(lease), |reason| Err(Failure::last(reason)));
        self.left_queue(&token, cx);
        admitted
    }

    /// It waits no more, if it did.
    pub(super) fn leave_queue(&mut self, cx: &Context) {
        if let Some(token) = self.choice.queue_token.take() {
            self.view.live.pool(self.pool).queue.leave(&token);
            self.left_queue(&token, cx);
        }
    }

    /// The queue is told of a client that had waited there and leaves before its response.
    pub(super) fn note_leaving(&self, has_left: bool, cx: &Context) {
        if has_left && self.choice.queued.is_some() {
            self.view.live.pool(self.pool).queue.client_left(cx.now);
        }
    }

    /// There may be room for the next one, too.
    fn left_queue(&mut self, token: &QueueToken, cx: &Context) {
        self.view.live.pool(self.pool).queue.call_next();
        let waited = cx.now.since(token.since);
        self.choice.queued = Some(self.choice.queued.unwrap_or_default() + waited);
        cx.shard().wait.record(waited);
    }

    /// Until when it may wait for a server, and why it fails then.
    pub(super) fn queue_deadline(&self, cx: &Context) -> (Moment, Reason) {
        let live = &self.view.live;
        let since = self.choice.queue_token.as_ref().map_or(cx.now, |queue_token| queue_token.since);
        let own = since.after(live.config.threadpool.admit.deadline).min(self.question_until());
        let last = live.pool(self.pool).queue.last_moment(since, self.expires);
        if last < own { (last, self.too_late()) } else { (own, Reason::QueueTimeout) }
    }

    /// What its client is told when its deadline comes while it waits for a server: 503 where none has seen it, so that
    /// sending it again is safe, as after other rejections of the queue.
    pub(super) fn too_late(&self) -> Reason {
        let is_new = self.choice.queue_token.is_some() && self.tries.begun == 0;
        if is_new { Reason::QueueDeadline } else { Reason::DeadlineExceeded }
    }
}
