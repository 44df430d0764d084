//! `Choose`: a server for the request, a place in the queue of its pool, or the reason why there is none.

use super::attempt::Attempt;
use super::await_server::Absence;
use super::session::Session;
use super::{Exchange, Flow, State};
use crate::data::context::Context;
use crate::data::failure::Failure;
use crate::data::upstream::{self, Asked, Chosen};
use crate::policy::retry::Phase;
use crate::state::choose::Note;
use crate::state::decisions::Recorded;
use crate::state::queue::QueueToken;
use crate::state::server::Lease;
use std::time::Duration;

/// A request that waits for a server chooses again after this, should no call have reached it.
const QUEUE_LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// What a server is chosen by, and what the request waits or has waited for until there is one.
#[derive(Debug, Default)]
pub(super) struct Choice {
    /// What a hash algorithm goes by.
    pub(super) hash_key: u64,
    /// Which server its client belongs to, where its pool keeps sessions.
    pub(super) session: Option<Box<Session>>,
    /// Its choices are recorded, for this reason.
    pub(super) recorded: Option<Recorded>,
    /// Its place in the queue of the pool, while it has one.
    pub(super) queue_token: Option<QueueToken>,
    /// How long it waited there, in all; `None`: it did not.
    pub(super) queued: Option<Duration>,
    /// It has waited, or waits, because no server could be connected to.
    pub(super) absence: Option<Box<Absence>>,
}

impl Exchange {
    pub(super) fn choose(&mut self, cx: &mut Context) -> Result<Flow, Failure> {
        if cx.now >= self.expires {
            return Err(Failure::last(self.too_late()));
        }
        let is_behind = self.is_behind(cx)?;
        match self.choose_or_wait(is_behind, cx) {
            Chosen::Server(lease) => {
                let lease = self.admit_from_queue(lease, cx)?;
                Ok(Flow::To(self.begin_attempt(lease, cx)))
            }
            Chosen::Full | Chosen::Later if self.choice.queue_token.is_none() => self.enter_queue(cx),
            Chosen::Full | Chosen::Later => {
                let look = cx.now.after(QUEUE_LOOK_INTERVAL);
                Ok(Flow::WaitIn(State::Queue, self.queue_deadline(cx).0.min(look)))
            }
            Chosen::None => {
                Err(self.tries.last.unwrap_or_else(|| Failure::last(upstream::why_none(cx, self.pool))))
            }
        }
    }

    /// Chooses, unless others are served before it. The choice is recorded where that is wanted.
    fn choose_or_wait(&mut self, is_behind: bool, cx: &mut Context) -> Chosen {
        let algorithm = || upstream::pool(cx.view(), &self.view, self.pool).algorithm;
        let mut note = self.choice.recorded.map(|_| Note::of(algorithm()));
        let chosen = match is_behind {
            true => Chosen::Full,
            false => self.choose_now(note.as_mut(), cx),
        };
        // What waits chooses again and again; that it waits is told once.
        let goes_on_waiting =
            self.choice.queue_token.is_some() && matches!(chosen, Chosen::Full | Chosen::Later);
        if let Some(note) = note.filter(|_| !goes_on_waiting) {
            self.keep_decision(note, &chosen, cx);
        }
        chosen
    }

    /// The server whose connection is its client's, or the one that its pool chooses.
    fn choose_now(&mut self, mut note: Option<&mut Note>, cx: &mut Context) -> Chosen {
        if let Some(lease) = self.bound_lease(cx) {
            note.iter_mut().for_each(|note| note.session(lease.server(), cx.now));
            return Chosen::Server(lease);
        }
        let (key, session) = (self.key_for_choice(), self.session_tag());
        let behind = self.waiting_behind();
        let could_not_connect = self.tries.last.is_some_and(|last| last.phase == Phase::Connect);
        let asked = Asked { key, session, is_long_lived: self.meta.upgrade, behind, could_not_connect };
        let chosen = upstream::choose(cx, &self.view, self.pool, asked, &self.tries.servers, note);
        self.note_choice(matches!(chosen, Chosen::Later));
        chosen
    }

    /// A lease on a server of the first tier that the request has not been to, if one can take it now.
    pub(super) fn choose_another(&self, cx: &mut Context) -> Option<Lease> {
        let mut tried = self.tries.servers;
        self.attempt.server.iter().for_each(|server| tried.add(server.id));
        let algorithm = upstream::pool(cx.view(), &self.view, self.pool).algorithm;
        let mut note = self.choice.recorded.map(|_| Note::of(algorithm));
        let asked =
            Asked { key: self.key_for_choice(), is_long_lived: self.meta.upgrade, ..Asked::default() };
        let chosen = upstream::choose(cx, &self.view, self.pool, asked, &tried, note.as_mut());
        // That there is none is no decision: the request stays where it is.
        let note = note.filter(|_| matches!(chosen, Chosen::Server(_)));
        note.into_iter().for_each(|note| self.keep_decision(note, &chosen, cx));
        match chosen {
            Chosen::Server(lease) => Some(lease),
            Chosen::Full | Chosen::Later | Chosen::None => None,
        }
    }

    /// It goes to the server of its lease.
    pub(super) fn begin_attempt(&mut self, lease: Lease, cx: &Context) -> State {
        let knows_chunks = !lease.server().is_http10();
        self.attempt = Attempt::at(lease, cx.now);
        self.tries.begun += 1;
        self.assign_session();
        let collects = self.upload.is_chunked() && self.upload.is_buffered() && !knows_chunks;
        if collects { State::Collect } else { State::Connect }
    }
}
