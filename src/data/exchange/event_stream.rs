//! How a drain ends the event stream of a response: its client takes the end for what it is, and comes back.

use super::Exchange;
use crate::base::time::Moment;
use crate::data::context::Context;
use crate::data::download::StreamEnd;
use crate::data::shared::STREAM_END_WAIT;

impl Exchange {
    /// Whether its event stream is to end now, and where.
    pub(super) fn stream_end(&mut self, cx: &mut Context) -> Option<StreamEnd> {
        if !self.download.is_event_stream() || !cx.shared.is_draining() {
            return None;
        }
        if self.ends_at == Moment::NEVER {
            self.ends_at = cx.shared.notice_at(cx.random.fraction());
        }
        match cx.now {
            now if now < self.ends_at => None,
            now if now < self.ends_at.after(STREAM_END_WAIT) => Some(StreamEnd::AfterEvent),
            _ => Some(StreamEnd::Now),
        }
    }

    /// When the drain has something to do with it next.
    pub(super) fn next_stream_end(&self, now: Moment) -> Moment {
        if !self.download.is_event_stream() {
            return Moment::NEVER;
        }
        [self.ends_at, self.ends_at.after(STREAM_END_WAIT)]
            .into_iter()
            .find(|at| *at > now)
            .unwrap_or(Moment::NEVER)
    }
}
