//! The session of an exchange: which server its client belongs to, and what the client is told of it.

use super::Exchange;
use crate::base::ids::PoolId;
use crate::base::time::Moment;
use crate::data::meta::Sender;
use crate::http1::head::RequestHead;
use crate::state::live::Live;
use crate::state::session::{self, Affinity, Sessions, Tag};

/// The session of an exchange.
#[derive(Debug)]
pub(super) struct Session {
    /// What the client said of it.
    asked: session::Asked,
    /// The client's connection is secure, as far as is known.
    is_tls: bool,
    /// The line that tells the client of its server; empty where it knows.
    pub(super) line: Vec<u8>,
}

/// The cookie that a pool learns, if it does, and where.
pub(super) fn learned_cookie(live: &Live, pool: PoolId) -> Option<(&str, &Sessions)> {
    live.sticky(pool)?.learns().map(|name| (name, &live.pool(pool).sessions))
}

impl Exchange {
    /// Reads the cookies of the request, where its pool keeps sessions.
    pub(super) fn begin_session(&mut self, head: &RequestHead<'_, '_>, sender: &Sender<'_>, now: Moment) {
        let live = &self.view.live;
        let Some(sticky) = live.sticky(self.pool) else { return };
        let values = |name: &'static [u8]| {
            let named = head.fields.iter().filter(move |field| field.name.eq_ignore_ascii_case(name));
            named.map(|field| field.value)
        };
        let asked = sticky.asked(values(b"cookie"), &live.pool(self.pool).sessions, now);
        let is_trusted = || sender.peer.is_some_and(|peer| live.config.listen.trusts(peer.ip()));
        let is_tls = self.meta.secure.is_some()
            || values(b"x-forwarded-proto").any(|proto| proto.eq_ignore_ascii_case(b"https")) && is_trusted();
        self.choice.session = Some(Box::new(Session { asked, is_tls, line: Vec::new() }));
    }

    /// The server that it belongs to, by its tag. A question whether it may pass has no session.
    pub(super) fn session_tag(&self) -> Option<Tag> {
        self.choice.session.as_ref().filter(|_| self.guards.held.is_none())?.asked.tag
    }

    /// What a hash algorithm goes by. A question whether it may pass, or a copy, goes by the client.
    pub(super) fn key_for_choice(&self) -> u64 {
        if self.guards.held.is_some() || self.is_copy() {
            self.meta.client_key()
        } else {
            self.choice.hash_key
        }
    }

    /// It goes to this server now.
    pub(super) fn assign_session(&mut self) {
        let (Some(session), Some(server), None) =
            (&mut self.choice.session, &self.attempt.server, &self.guards.held)
        else {
            return;
        };
        let sticky = self.view.live.sticky(self.pool);
        let line = sticky.and_then(|sticky| sticky.line(server, session.asked, session.is_tls));
        session.line = line.unwrap_or_default();
    }

    /// The server has responded: a session that it began is learned, and one that came from another server is its own now.
    pub(super) fn note_session(&mut self, now: Moment) {
        let (Some(session), Some(server), None) =
            (&self.choice.session, &self.attempt.server, &self.guards.held)
        else {
            return;
        };
        let live = &self.view.live;
        let Some(sticky) = live.sticky(self.pool) else { return };
        let (sessions, tag) = (&live.pool(self.pool).sessions, sticky.tag_of(server));
        let is_kept = session.asked.tag == Some(tag);
        sessions.count(match session.asked.is_given {
            _ if is_kept => Affinity::Kept,
            true => Affinity::Moved,
            false => Affinity::New,
        });
        let moved = session.asked.key.filter(|_| !is_kept);
        if let Some(key) = self.download.take_learned().or(moved) {
            sessions.learn(key, tag, sticky, now);
        }
    }
}
