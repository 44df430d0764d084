//! Which server of a pool gets a request, from a snapshot of the table, among the candidates that [`collect`] finds. The data plane
//! and the simulation both choose here.

mod collect;
mod last_resort;
mod later;
mod note;
mod shadow;

pub use note::{Considered, Excluded, Exclusion, LISTED_MAX, Note, PassedOver, Picked, TEXT_BYTES_MAX};
pub use shadow::{Choices, Shadow};

use super::server::{Lease, Rejected, Server};
use super::session::Tag;
use super::table::Pool;
use crate::base::ids::ServerId;
use crate::base::random::Random;
use crate::base::time::Moment;
use crate::policy::outcomes::AVOIDED_BELOW;
use crate::policy::pick::{Algorithm, Candidate, Draw, Slot};
use collect::Source;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The most servers that one request is offered to.
const TRIED_MAX: usize = 8;

/// Tables up to this size are looked at as a whole: twice as many servers as a sample has.
pub(super) const WHOLE_UP_TO: usize = 16;

/// Servers that a request has been to, or that rejected it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tried {
    ids: [Option<ServerId>; TRIED_MAX],
    count: usize,
}

impl Tried {
    /// Notes one more.
    pub fn add(&mut self, id: ServerId) {
        if let Some(place) = self.ids.get_mut(self.count) {
            *place = Some(id);
        }
        self.count += 1;
    }

    /// Whether it is one of them.
    pub fn has(&self, id: ServerId) -> bool {
        self.count > 0 && self.ids.contains(&Some(id))
    }

    fn is_full(&self) -> bool {
        self.count >= TRIED_MAX
    }
}

/// What came of choosing.
#[derive(Debug)]
pub enum Chosen {
    /// This server takes the request.
    Server(Lease),
    /// All that qualify have as many requests as they may.
    Full,
    /// One has room, but a faster one will have room so soon that waiting for it takes less time.
    Later,
    /// There is none that was not tried.
    None,
}

/// What of a request matters for the choice.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asked {
    /// The hash of what a hash algorithm goes by.
    pub key: u64,
    /// The server that its session belongs to.
    pub session: Option<Tag>,
    /// It may become a tunnel.
    pub is_long_lived: bool,
    /// Requests that wait behind it for a server with room.
    pub behind: usize,
    /// No server that it was given to has taken its connection.
    pub could_not_connect: bool,
}

/// What a chooser keeps between two choices, and the moment of this one.
#[derive(Debug)]
pub struct Chooser<'a> {
    /// Counts the requests of the pool.
    pub turn: &'a AtomicU64,
    /// Chance.
    pub random: &'a mut Random,
    /// Room for candidates, so that no choice allocates.
    pub candidates: &'a mut Vec<Candidate>,
    /// Now.
    pub now: Moment,
    /// What the choice goes by is noted here, for the few that somebody looks at.
    pub note: Option<&'a mut Note>,
}

impl Chooser<'_> {
    /// A lease on the server of the pool that its algorithm picks among those that were not tried yet. The algorithm
    /// proposes a server; if that one gives no lease, it is asked again. The server of its session comes first; where that
    /// one cannot take it, the request is one as any other. One that could not connect anywhere goes to a server that is
    /// out, as a last resort.
    pub fn choose(&mut self, pool: &Pool, asked: Asked, tried: &Tried) -> Chosen {
        let (chosen, tier) = match self.session_lease(pool, asked, tried) {
            Some(lease) => (Chosen::Server(lease), pool),
            None => {
                let tier = pool.tier_of(asked.key, || self.random.fraction());
                (self.find(tier, asked, tried), tier)
            }
        };
        let chosen = match chosen {
            Chosen::None if asked.could_not_connect => {
                self.last_resort(pool, tried).map_or(Chosen::None, Chosen::Server)
            }
            chosen => chosen,
        };
        if let Some(note) = &mut self.note {
            note.exclude(tier, tried, self.now);
        }
        chosen
    }

    fn find(&mut self, pool: &Pool, asked: Asked, tried: &Tried) -> Chosen {
        if let Some(lease) = self.slow_start_lease(pool, tried) {
            return Chosen::Server(lease);
        }
        let mut rejected = *tried;
        let mut full = false;
        let of = |servers, schedule| Source::of(pool, servers, schedule);
        let tiers = [of(&pool.ready, &pool.schedule), of(&pool.beside, &[]), of(&pool.reserve, &[])];
        let turn_of = pool.own_turn().unwrap_or(self.turn);
        for (tier, from) in tiers.into_iter().enumerate() {
            let Source { servers, schedule, .. } = from;
            while !rejected.is_full() && !servers.is_empty() {
                let turn =
                    if schedule.is_empty() { self.random.number() } else { turn_of.fetch_add(1, Relaxed) };
                let is_sample = self.collect(from, (turn, asked.key), &rejected);
                if self.candidates.is_empty() {
                    // Each is full or was rejected; one that has got room since then is found when the request waits.
                    full |= servers.iter().any(|server| !rejected.has(server.id));
                    break;
                }
                if self.only_worse(servers, tried) {
                    full = true;
                    break;
                }
                let random = self.random.number();
                let Asked { key, is_long_lived, .. } = asked;
                let draw = Draw { random, turn, key, schedule, is_long_lived, is_sample };
                let Some(slot) = pool.algorithm.pick(self.candidates, draw) else { break };
                let Some(server) = servers.get(slot.0 as usize) else { break };
                if pool.algorithm == Algorithm::Dynamic
                    && server.has_own_measure()
                    && let Some(times_us) = self.sooner_later(servers, server, &rejected, asked.behind)
                {
                    if let Some(note) = &mut self.note {
                        note.later(servers, self.candidates, server, times_us);
                    }
                    return Chosen::Later;
                }
                match server.lease(self.now) {
                    Ok(lease) => {
                        self.tell_pick(from, draw, slot, tier > 0, &rejected);
                        return Chosen::Server(lease);
                    }
                    Err(Rejected::Full) => full = true,
                    Err(Rejected::Closed) => {}
                }
                rejected.add(server.id);
            }
            // Another zone takes over because the own one is busy. A lower priority, or a server that is not known yet, does not.
            if full && (tier > 0 || pool.beside.is_empty()) {
                return Chosen::Full;
            }
        }
        Chosen::None
    }

    /// Notes the server that was picked, and what the shadow would have picked.
    fn tell_pick(
        &mut self,
        Source { pool, servers, .. }: Source<'_>,
        draw: Draw<'_>,
        slot: Slot,
        takes_over: bool,
        rejected: &Tried,
    ) {
        if let Some(note) = &mut self.note {
            note.picked(servers, self.candidates, draw, slot, takes_over);
        }
        self.shadow(pool, servers, draw, slot, rejected);
    }

    /// Whether all candidates hang or fail, and another server, which is full, does not: a request is better off there.
    fn only_worse(&self, servers: &[Arc<Server>], tried: &Tried) -> bool {
        let is_bad = |candidate: &Candidate| candidate.is_silent || candidate.good < AVOIDED_BELOW;
        let is_better = |server: &&Arc<Server>| {
            server.is_full() && !tried.has(server.id) && !is_bad(&server.candidate(Slot(0), self.now))
        };
        self.candidates.iter().all(is_bad)
            && servers.iter().take(WHOLE_UP_TO).any(|server| is_better(&server))
    }

    /// A lease on a server in slow start, where this request is one of those that it gets. With a hash the key decides instead.
    fn slow_start_lease(&mut self, pool: &Pool, tried: &Tried) -> Option<Lease> {
        let slow = pool.slow_start.as_ref().filter(|_| !pool.algorithm.hashes())?;
        let server = slow.drawn(&pool.ready, self.random, self.now)?;
        let is_behind = pool.algorithm.compares() && !slow.keeps_up(server, &pool.ready, self.random);
        if is_behind || tried.has(server.id) {
            return None;
        }
        let lease = server.lease(self.now).ok()?;
        if let Some(note) = &mut self.note {
            note.slow_start(server, pool.ready.len(), self.now);
        }
        Some(lease)
    }

    fn session_lease(&mut self, pool: &Pool, asked: Asked, tried: &Tried) -> Option<Lease> {
        let server = pool.sessions.get(&asked.session?)?;
        let lease = if tried.has(server.id) { None } else { server.lease_for_session(self.now).ok() }?;
        if let Some(note) = &mut self.note {
            note.session(server, self.now);
        }
        Some(lease)
    }
}
