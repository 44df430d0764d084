//! `Guard`: a request that its guards let pass later, or not at all; and where one goes that has passed them.

use super::forward_auth::HeldRequest;
use super::{Exchange, Flow, State};
use crate::base::time::Moment;
use crate::data::context::Context;
use crate::data::failure::Failure;
use crate::data::guard::{Guarded, Pass};
use crate::data::question::Question;
use crate::data::route;
use crate::data::upload::Upload;
use crate::http1::body::Body;
use crate::http1::encoding;
use crate::http1::framing::Framing;
use crate::http1::head::RequestHead;
use crate::http1::reason::Reason;
use crate::state::guard::Rejected;

/// What is to be done once the guards let a request pass. Where there is none, it goes to a server.
#[derive(Debug)]
pub(super) struct AfterGuards {
    /// A pool is asked first whether it may pass.
    pub(super) question: Option<Question>,
    /// Its route responds.
    pub(super) response: Option<route::Response>,
}

/// What a request has to pass before it is served.
#[derive(Debug, Default)]
pub(super) struct Guards {
    /// What the guards have to do with it.
    pub(super) guarded: Option<Box<Guarded>>,
    /// What is to be done once they let it pass.
    pub(super) after: Option<Box<AfterGuards>>,
    /// While a pool is asked whether it may pass: the request itself.
    pub(super) held: Option<Box<HeldRequest>>,
}

impl Exchange {
    /// Judges it by the guards of its route. True: it has to wait in `Guard`.
    pub(super) fn pass_guards(
        &mut self,
        head: &RequestHead<'_, '_>,
        cx: &mut Context,
    ) -> Result<bool, Rejected> {
        let name = self.matched.as_ref().map_or("", |matched| &matched.route.name);
        let guard = self.view.live.guard(self.matched.as_ref().map(|matched| matched.index));
        self.accepts.coding = guard.compression().and_then(|rules| rules.coding_for(&head.fields));
        self.accepts.weak_tag = self.accepts.coding.is_some() && encoding::has_weak_tag(&head.fields);
        self.guards.guarded = Guarded::enter(guard, head, &self.meta, name, self.owner, cx)?;
        Ok(self.guards.guarded.as_mut().is_some_and(|guarded| !matches!(guarded.look(cx.now), Pass::Now)))
    }

    pub(super) fn wait_at_guards(&mut self, cx: &mut Context) -> Result<Flow, Failure> {
        match self.guards.guarded.as_mut().map_or(Pass::Now, |guarded| guarded.look(cx.now)) {
            Pass::Now => Ok(Flow::To(self.leave_guards(cx))),
            Pass::Later(_) if cx.now >= self.expires => Err(Failure::last(Reason::DeadlineExceeded)),
            Pass::Later(until) => Ok(Flow::Wait(until.min(self.expires))),
            Pass::Never(rejected) => Ok(Flow::To(self.reject_as(rejected, cx))),
        }
    }

    /// The guards let it pass: a pool is asked whether it may, it has a response of its route, or it goes to a server.
    pub(super) fn leave_guards(&mut self, cx: &mut Context) -> State {
        // The time that it waited is none of the client's.
        self.upload.progress.moved_at = cx.now;
        let Some(mut after) = self.guards.after.take() else { return self.enter_pool(cx) };
        if let Some(Question { head, pool }) = after.question.take() {
            let body = Body::new(Framing::None);
            let upload = Upload::new(head, body, false, None, cx.now);
            let upload = std::mem::replace(&mut self.upload, upload);
            let pool = std::mem::replace(&mut self.pool, pool);
            let until = self.question_time().map_or(Moment::NEVER, |time| cx.now.after(time));
            self.guards.held = Some(Box::new(HeldRequest { upload, pool, until }));
            self.guards.after = Some(after);
            return State::Choose;
        }
        let Some(mut response) = after.response else { return self.enter_pool(cx) };
        if let Some(guarded) = &self.guards.guarded {
            response.headers.extend_from_slice(&guarded.lines);
        }
        self.respond_as_route(&response, cx)
    }

    /// It goes to a server of its pool.
    fn enter_pool(&mut self, cx: &Context) -> State {
        self.in_pool = true;
        self.view.live.pool(self.pool).traffic.begins(cx.number());
        State::Choose
    }
}
