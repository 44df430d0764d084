//! A request that is held while a pool is asked whether it may pass (`forward_auth`).

use super::attempt::Attempt;
use super::retry::Tries;
use super::{Exchange, State};
use crate::base::ids::PoolId;
use crate::base::time::Moment;
use crate::data::context::Context;
use crate::data::download::Copied;
use crate::data::upload::Upload;
use std::time::Duration;

/// A request of which a pool is asked whether it may pass.
#[derive(Debug)]
pub(super) struct HeldRequest {
    pub(super) upload: Upload,
    pub(super) pool: PoolId,
    /// When the response to the question must have begun.
    pub(super) until: Moment,
}

impl Exchange {
    /// The pool that was asked lets it pass: the connection is let go of, and the request itself goes on.
    pub(super) fn go_on_authorized(&mut self, cx: &mut Context) -> State {
        if let Some(key) = self.attempt.connection {
            self.note_response(key, cx);
        }
        self.let_go_of_server(true, cx);
        self.count_at_server(cx);
        let Some(held) = self.guards.held.take() else { return State::Choose };
        let HeldRequest { upload, pool, .. } = *held;
        let mut question = std::mem::replace(&mut self.upload, upload);
        cx.buffers.give(question.take_buffer());
        let Copied { to_server, to_client } = self.download.take_copied();
        self.upload.insert(&to_server);
        if !to_client.is_empty() {
            self.guards.guarded.get_or_insert_default().lines.extend_from_slice(&to_client);
        }
        (self.pool, self.tries, self.attempt) = (pool, Tries::default(), Attempt::none(cx.now));
        self.download.begin_attempt(cx.now);
        self.leave_guards(cx)
    }

    /// The client has sent all of its request.
    pub(super) fn is_request_received(&self) -> bool {
        self.guards.held.as_ref().map_or(&self.upload, |held| &held.upload).is_received()
    }

    /// How long the question whether it may pass can take.
    pub(super) fn question_time(&self) -> Option<Duration> {
        let guard = self.view.live.guard(self.matched.as_ref().map(|matched| matched.index));
        guard.forward_auth().and_then(|auth| auth.timeout)
    }

    /// When the response to that question must have begun.
    pub(super) fn question_until(&self) -> Moment {
        self.guards.held.as_ref().map_or(Moment::NEVER, |held| held.until)
    }
}
