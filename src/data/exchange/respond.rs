//! The responses of our own to a request: why it gets none of a server's, or what its route has for it.

use super::{Exchange, State};
use crate::data::context::Context;
use crate::data::{route, upstream};
use crate::http1::challenge;
use crate::http1::encoding::Coding;
use crate::http1::framing::Method;
use crate::http1::head::RequestHead;
use crate::http1::reason::Reason;
use crate::http1::reply::{self, Fixed, LastHop, Reply};
use crate::state::guard::Rejected;

/// What the client accepts, where responses are compressed.
#[derive(Debug, Default)]
pub(super) struct Accepts {
    pub(super) coding: Option<Coding>,
    /// It asks by a weak tag.
    pub(super) weak_tag: bool,
}

impl Exchange {
    /// A response of our own takes the place of a server's.
    pub(super) fn reject(&mut self, reason: Reason, cx: &mut Context) -> State {
        self.reject_as(Rejected::of(reason), cx)
    }

    /// The same, with what its guards say of it.
    pub(super) fn reject_as(&mut self, mut rejected: Rejected, cx: &mut Context) -> State {
        let reason = rejected.reason;
        if let Some(guarded) = &self.guards.guarded {
            rejected.lines.extend_from_slice(&guarded.lines);
        }
        if let Some(matched) = &self.matched {
            let server = self.attempt.server.as_ref().map_or("", |server| server.name.as_str());
            matched.append_to_rejection(server, &mut rejected.lines);
        }
        let keeps = self.may_keep(cx) && !reason.closes();
        self.ending.reason = Some(reason);
        self.write_rejection(&rejected, keeps, cx);
        self.download.incoming.moved_at = cx.now;
        State::Finish
    }

    fn write_rejection(&mut self, rejected: &Rejected, keeps: bool, cx: &mut Context) {
        cx.refresh_date();
        let reason = rejected.reason;
        let mut digits = [0; 32];
        let pages = self.view.live.guard(self.matched.as_ref().map(|matched| matched.index)).error_pages();
        let is_empty =
            reason == Reason::NoServer && upstream::pool(cx.view(), &self.view, self.pool).count == 0;
        let reply = Reply {
            reason,
            request_id: self.meta.shown_id.bytes(&mut digits),
            form: self.meta.form,
            page: pages.and_then(|pages| pages.page(reason, is_empty)),
            details: pages.is_some_and(|pages| pages.details),
            head_only: self.meta.method == Method::Head,
            keep_alive: keeps,
            date: &cx.date.1,
            retry_after: u32::try_from(challenge::seconds(rejected.retry_after)).unwrap_or(u32::MAX),
            lines: &rejected.lines,
        };
        self.download.replace(reason.status(), keeps, |out| reply::write(&reply, out));
    }

    /// Responds as its route says.
    pub(super) fn respond_as_route(&mut self, response: &route::Response, cx: &mut Context) -> State {
        cx.refresh_date();
        let keeps = self.may_keep(cx);
        let reply = Fixed {
            status: response.status,
            headers: &response.headers,
            body: &response.body,
            head_only: self.meta.method == Method::Head,
            keep_alive: keeps,
            date: &cx.date.1,
        };
        self.download.replace(response.status, keeps, |out| reply::fixed(&reply, out));
        self.download.incoming.moved_at = cx.now;
        State::Finish
    }

    /// Responds in place of a server to OPTIONS and TRACE whose Max-Forwards has run out (RFC 9110 section 7.6.2).
    pub(super) fn respond_as_last_hop(&mut self, head: &RequestHead<'_, '_>, cx: &mut Context) -> State {
        cx.refresh_date();
        let keeps = self.may_keep(cx);
        let how = LastHop { keep_alive: keeps, date: &cx.date.1 };
        self.download.replace(200, keeps, |out| reply::last_hop(head, &how, out));
        State::Finish
    }

    /// Whether the client's connection may stay behind a response of our own.
    fn may_keep(&self, cx: &Context) -> bool {
        self.meta.keep_alive && self.is_request_received() && cx.keeps_connections(self.meta.listener)
    }
}
