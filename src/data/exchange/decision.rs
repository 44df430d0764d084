//! What is recorded of the choice of a server, for the requests of which it is.

use super::Exchange;
use crate::base::{text, time};
use crate::data::context::Context;
use crate::data::upstream::Chosen;
use crate::http1::head::RequestHead;
use crate::state::choose::{Note, TEXT_BYTES_MAX};
use crate::state::decisions::{Coming, Decision, Outcome, Recorded};
use std::time::Duration;

impl Exchange {
    /// Whether the choices for this request are recorded.
    pub(super) fn is_recorded(&self, head: &RequestHead<'_, '_>, cx: &Context) -> Option<Recorded> {
        let decisions = &cx.shared.stats.decisions;
        if !decisions.is_due(cx.now) {
            return None;
        }
        let has_header = |name: &str, value: &str| {
            let mut named =
                head.fields.iter().filter(|field| field.name.eq_ignore_ascii_case(name.as_bytes()));
            named.any(|field| field.value == value.as_bytes())
        };
        let coming = Coming { pool: self.pool, request_id: head.request_id, has_header: &has_header };
        decisions.records(&coming, self.view.live.config.decisions.per_second, cx.now)
    }

    /// Keeps what a choice went by.
    pub(super) fn keep_decision(&self, note: Note, chosen: &Chosen, cx: &Context) {
        let outcome = match chosen {
            Chosen::Server(_) => Outcome::Sent,
            Chosen::Full | Chosen::Later => Outcome::Queued,
            Chosen::None => Outcome::None,
        };
        let line = self.upload.request_line();
        let line = &line[..line.len().min(TEXT_BYTES_MAX)];
        let line = line.strip_suffix(b" HTTP/1.1").unwrap_or(line);
        cx.shared.stats.decisions.keep(Decision {
            number: 0,
            unix_ms: time::unix_millis(),
            request_id: self.meta.shown_id.to_string(),
            request: text::escape(&String::from_utf8_lossy(line)).to_string(),
            pool: self.view.live.pool(self.pool).name.clone(),
            route: self.matched.as_ref().map(|matched| matched.route.name.clone()),
            attempt: self.tries.begun + 1,
            after_status: self.tries.after_status,
            waited: self
                .choice
                .queue_token
                .as_ref()
                .map_or(Duration::ZERO, |token| cx.now.since(token.since)),
            is_asked: self.choice.recorded == Some(Recorded::Asked),
            outcome,
            note,
        });
    }
}
