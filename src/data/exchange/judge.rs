//! Whether a response is one that the pool expects, for what is known of its server. What the client gets does not depend on it.

use super::{Exchange, load};
use crate::base::time::Moment;
use crate::data::context::Context;
use crate::http1::framing::Method;

impl Exchange {
    /// The final response has begun. The server's time is what it takes once it has all of the request.
    pub(super) fn note_response(&mut self, key: usize, cx: &mut Context) {
        self.note_session(cx.now);
        self.note_status(key, cx);
    }

    /// The same of a response that is not the client's: it tells of its server, and nothing of a session.
    pub(super) fn note_status(&mut self, key: usize, cx: &mut Context) {
        self.attempt.first_byte_at = Some(cx.now);
        if let Some(connection) = cx.servers.get_mut(key) {
            connection.server.responded_in(self.download.is_http10());
            load::note(&connection.server, self.download.take_reported(), cx.now);
        }
        match self.is_good() {
            Some(is_good) => self.record(is_good, cx.now),
            None => {
                self.attempt.is_unjudged = true;
                self.attempt.lease.iter().for_each(|lease| lease.responds());
            }
        }
        // A measured limit counts requests until their response begins.
        if self.attempt.lease.as_ref().is_some_and(|lease| lease.server().has_own_measure()) {
            self.view.live.pool(self.pool).queue.call_next();
        }
    }

    /// More of a response has come of which its body tells whether it is good.
    pub(super) fn judge_body(&mut self, cx: &Context) {
        if let Some(is_good) = self.is_good() {
            self.attempt.is_unjudged = false;
            self.record(is_good, cx.now);
        }
    }

    /// Whether the response is good, as far as it has come; `None` while that is not known.
    fn is_good(&self) -> Option<bool> {
        let status = self.download.status();
        let Some(expect) = &self.view.live.config.pool(self.pool).expect else { return Some(status < 500) };
        let is_expected = expect.has_status(status);
        let may_be_empty = self.meta.method == Method::Head || matches!(status, 204 | 205 | 304);
        let wants_body = expect.body && status < 400 && !may_be_empty;
        match (is_expected, self.download.is_empty(), self.download.is_received()) {
            (true, true, false) if wants_body => None,
            (true, true, true) if wants_body => Some(false),
            (is_expected, ..) => Some(is_expected),
        }
    }

    fn record(&self, is_good: bool, now: Moment) {
        let Some(lease) = &self.attempt.lease else { return };
        let asked_at = self.attempt.asked_at.unwrap_or(now);
        lease.responded(is_good, self.attempt.first_byte_at.unwrap_or(now).since(asked_at), now);
        if self.download.status() == 503 {
            lease.rejected(now);
        }
        if !is_good && self.download.status() < 500 {
            lease.server().responded_unexpectedly();
        }
    }
}
