//! The copy of a request for the mirror of its route: an exchange of its own, whose client takes every response.

use super::Exchange;
use crate::base::ids::{ConnectionKey, PoolId};
use crate::data::context::Context;
use crate::data::shared::MirrorPermit;
use crate::data::upload::Upload;
use crate::http1::body::Body;
use crate::http1::framing::Framing;
use crate::http1::head::RequestHead;
use crate::state::stats::Counter;

/// What a request has to do with the mirror of its route.
#[derive(Debug, Default)]
pub(super) struct Mirror {
    /// The pool that gets a copy of it, once it was sent.
    pub(super) pool: Option<PoolId>,
    /// The copy, for its worker to take in.
    pub(super) copy: Option<Box<Exchange>>,
    /// It is the copy of another one: no client waits for its response, and only its server counts it.
    pub(super) permit: Option<MirrorPermit>,
}

impl Exchange {
    /// The pool that is to get a copy. The copy of an upgrade would be a tunnel without a client.
    pub(super) fn mirror_of(&self, head: &RequestHead<'_, '_>, cx: &mut Context) -> Option<PoolId> {
        let mirror = self.matched.as_ref()?.route.mirror?;
        if head.upgrade || !mirror.takes(cx.random.number()) {
            return None;
        }
        // How long a body in chunks is shows at its end.
        if matches!(head.framing, Framing::Length(length) if length > mirror.body_max) {
            cx.shard().count(Counter::MirrorBodiesTooLong);
            return None;
        }
        Some(mirror.pool)
    }

    /// The copy of this request for its mirror: once, when the whole of it was sent.
    pub(super) fn make_copy(&mut self, cx: &mut Context) {
        // What is sent while the request is held is the question whether it may pass.
        let is_sent = self.attempt.asked_at.is_some() && self.guards.held.is_none();
        let Some(pool) = self.mirror.pool.filter(|_| is_sent) else { return };
        self.mirror.pool = None;
        let longest = self
            .matched
            .as_ref()
            .and_then(|matched| matched.route.mirror)
            .map_or(0, |mirror| mirror.body_max);
        let Some(bytes) = self.upload.whole().filter(|_| self.upload.passed() <= longest) else {
            return cx.shard().count(Counter::MirrorBodiesTooLong);
        };
        let Some(permit) = MirrorPermit::take(&cx.shared) else {
            return cx.shard().count(Counter::MirrorsDropped);
        };
        let mut upload = Upload::new(bytes.to_vec(), Body::new(Framing::None), false, None, cx.now);
        upload.will_name_server(self.upload.name_slots().to_vec());
        let mut copy =
            Exchange::new(self.meta.clone(), upload, ConnectionKey::default(), self.view.clone(), cx);
        (copy.pool, copy.mirror.permit, copy.meta.keep_alive) = (pool, Some(permit), false);
        copy.choice.recorded = self.choice.recorded;
        self.mirror.copy = Some(copy);
    }

    /// Whether it is such a copy.
    pub(super) fn is_copy(&self) -> bool {
        self.mirror.permit.is_some()
    }

    /// The copy of it, when there is one: an exchange of its own.
    pub fn take_copy(&mut self) -> Option<Box<Exchange>> {
        self.mirror.copy.take()
    }
}
