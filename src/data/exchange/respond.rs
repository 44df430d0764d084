//! The responses of our own to a request: why it gets none of a server's, or what its route has for it.

use super::{Exchange, State};
use crate::data::context::Context;
use crate::data::{respond, route};
use crate::http1::head::RequestHead;
use crate::http1::reason::Reason;
use crate::state::guard::Rejected;

impl Exchange {
    /// A response of our own takes the place of a server's.
    pub(super) fn reject(&mut self, reason: Reason, cx: &mut Context) -> State {
        self.reject_as(Rejected::of(reason), cx)
    }

    /// The same, with what its guards say of it.
    pub(super) fn reject_as(&mut self, mut rejected: Rejected, cx: &mut Context) -> State {
        let reason = rejected.reason;
        if let Some(gate) = &self.gate {
            rejected.lines.extend_from_slice(&gate.lines);
        }
        if let Some(way) = &self.way {
            let server = self.server.as_ref().map_or("", |server| server.name.as_str());
            way.append_to_rejection(server, &mut rejected.lines);
        }
        let keeps = self.may_keep(cx) && !reason.closes();
        self.reason = Some(reason);
        let of = (self.pool, self.way.as_ref().map(|way| way.index));
        respond::rejection(&mut self.download, &rejected, &self.meta, keeps, of, &self.view, cx);
        self.download.moved_at = cx.now;
        State::Finish
    }

    /// Responds as its route says.
    pub(super) fn respond_as_route(&mut self, response: &route::Response, cx: &mut Context) -> State {
        let keeps = self.may_keep(cx);
        respond::fixed(&mut self.download, response, &self.meta, keeps, cx);
        self.download.moved_at = cx.now;
        State::Finish
    }

    /// Responds to OPTIONS and TRACE that go no further than here (RFC 9110 section 7.6.2).
    pub(super) fn respond_as_last_hop(&mut self, head: &RequestHead<'_, '_>, cx: &mut Context) -> State {
        let keeps = self.may_keep(cx);
        respond::last_hop(&mut self.download, head, keeps, cx);
        State::Finish
    }

    /// Whether the client's connection may stay behind a response of our own.
    fn may_keep(&self, cx: &Context) -> bool {
        self.meta.keep_alive && self.is_request_received() && cx.keeps_connections(self.meta.listener)
    }
}
