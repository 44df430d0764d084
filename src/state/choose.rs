//! Which server of a pool gets a request, from a snapshot of the table. The data plane and the simulation both choose here.
//!
//! A small table is looked at as a whole. Of a larger one only a sample are candidates, so that a choice takes the same time in a
//! table of any size: the server whose turn it is, some at random, by weight, and one that is idle where none of these is. Where
//! none of a sample qualifies, the servers are looked at one after the other, from a random one on, until some are found. A hash
//! algorithm knows the server of each key (`hashing.rs`).

mod last_resort;
mod later;
mod note;
mod shadow;

pub use note::{Considered, Excluded, Exclusion, LISTED_MAX, Note, PassedOver, Picked};
pub use shadow::{Choices, Shadow};

use super::server::{Lease, Rejected, Server};
use super::session::Tag;
use super::table::Pool;
use crate::base::ids::ServerId;
use crate::base::random::Random;
use crate::base::time::Moment;
use crate::policy::outcomes::AVOIDED_BELOW;
use crate::policy::pick::{Algorithm, Candidate, Draw, Slot};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The most servers that one request is offered to.
const TRIED_MAX: usize = 8;

/// Tables up to this size are looked at as a whole: twice as many servers as a sample has.
pub(super) const WHOLE_UP_TO: usize = 16;

/// Where none of a sample qualifies, or is idle, so many servers in a row are looked at for others. In a sample of eight of a hundred
/// servers of one slot one is idle every third time at 95 %.
const LOOKED_AT: usize = 64;

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

    fn has(&self, id: ServerId) -> bool {
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
        let tiers =
            [(&pool.ready[..], &pool.schedule[..]), (&pool.beside[..], &[]), (&pool.reserve[..], &[])];
        let turn_of = pool.own_turn().unwrap_or(self.turn);
        for (tier, (servers, schedule)) in tiers.into_iter().enumerate() {
            while !rejected.is_full() && !servers.is_empty() {
                let turn =
                    if schedule.is_empty() { self.random.number() } else { turn_of.fetch_add(1, Relaxed) };
                let is_sample = self.collect(pool, servers, schedule, (turn, asked.key), &rejected);
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
                let slot = pool.algorithm.pick(self.candidates, draw);
                let Some(server) = slot.and_then(|slot| servers.get(slot.0 as usize)) else { break };
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
                        if let Some(slot) = slot.filter(|_| self.note.is_some() || pool.shadow.is_some()) {
                            if let Some(note) = &mut self.note {
                                note.picked(servers, self.candidates, draw, slot, tier > 0);
                            }
                            self.shadow(pool, servers, draw, slot, &rejected);
                        }
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

    /// Fills in the candidates. True: they are a sample. A server in slow start is one only where there is no other.
    fn collect(
        &mut self,
        pool: &Pool,
        servers: &[Arc<Server>],
        schedule: &[Slot],
        (turn, key): (u64, u64),
        rejected: &Tried,
    ) -> bool {
        let qualifies = |server: &Server| !server.is_full() && !rejected.has(server.id);
        let Some(slow) = pool.slow_start.as_ref().filter(|_| !schedule.is_empty()) else {
            return self.collect_of(pool, servers, schedule, (turn, key), qualifies);
        };
        let (hashes, now) = (pool.algorithm.hashes(), self.now);
        let is_spared = |server: &Server| match hashes {
            true => slow.passes_over(server, key, now),
            false => server.is_in_slow_start(),
        };
        let is_other = |server: &Server| qualifies(server) && !is_spared(server);
        let is_sample = self.collect_of(pool, servers, schedule, (turn, key), is_other);
        match self.candidates.is_empty() {
            true => self.collect_of(pool, servers, schedule, (turn, key), qualifies),
            false => is_sample,
        }
    }

    /// Fills in the candidates from the servers that qualify. True: they are a sample.
    fn collect_of(
        &mut self,
        pool: &Pool,
        servers: &[Arc<Server>],
        schedule: &[Slot],
        (turn, key): (u64, u64),
        qualifies: impl Fn(&Server) -> bool,
    ) -> bool {
        let Chooser { random, candidates, now, .. } = self;
        candidates.clear();
        let is_shadow_comparing = pool.shadow.as_ref().is_some_and(|shadow| shadow.algorithm.compares());
        let is_compared = servers.len() > 1 && (pool.algorithm.compares() || is_shadow_comparing);
        let candidate = |at: usize, server: &Server| match is_compared {
            true => server.candidate(Slot(at as u32), *now),
            false => server.uncompared_candidate(Slot(at as u32)),
        };
        if let Some(hashing) = pool.hashing.as_ref().filter(|_| !schedule.is_empty()) {
            let has_part = hashing.most(servers);
            let takes = |server: &Server| qualifies(server) && has_part(server);
            // A shadow compares the candidates: it needs them all.
            let is_alone = pool.shadow.is_none();
            let of_key = if is_alone { hashing.find(key, takes).map(|at| at..at + 1) } else { None };
            let looked_at = of_key.unwrap_or(0..servers.len());
            let found = servers[looked_at.clone()].iter().zip(looked_at).filter(|(server, _)| takes(server));
            candidates.extend(found.map(|(server, at)| candidate(at, server)));
            if !candidates.is_empty() {
                return false;
            }
        }
        let mut add = |at: usize| {
            if let Some(server) = servers.get(at).filter(|server| qualifies(server)) {
                candidates.push(candidate(at, server));
            }
        };
        let sample = pool.algorithm.sample().filter(|_| servers.len() > WHOLE_UP_TO);
        if let Some(sample) = sample {
            let of_turn = turn.checked_rem(schedule.len() as u64).and_then(|at| schedule.get(at as usize));
            of_turn.into_iter().for_each(|slot| add(slot.0 as usize));
            for _ in 1..sample {
                match schedule {
                    [] => add(random.below(servers.len())),
                    _ => add(schedule[random.below(schedule.len())].0 as usize),
                }
            }
        }
        if sample.is_some() && !candidates.is_empty() {
            // With equal weights; else a server would get more than its share.
            if is_compared
                && schedule.len() == servers.len()
                && candidates.iter().all(|one| one.in_flight > 0)
            {
                let from = random.below(servers.len());
                let on = (from..servers.len()).chain(0..from).take(LOOKED_AT);
                let is_idle = |at: &usize| servers[*at].in_flight() == 0 && qualifies(&servers[*at]);
                candidates.extend(on.into_iter().find(is_idle).map(|at| candidate(at, &servers[at])));
            }
            return !schedule.is_empty();
        }
        // A tier that is looked at as a whole is looked at in its order.
        let (wanted, from) =
            sample.map_or((usize::MAX, 0), |sample| (sample, random.below(servers.len().max(1))));
        for (looked_at, at) in (from..servers.len()).chain(0..from).enumerate() {
            let is_enough = looked_at >= LOOKED_AT && !candidates.is_empty() && wanted < usize::MAX;
            if is_enough || candidates.len() >= wanted {
                break;
            }
            if let Some(server) = servers.get(at).filter(|server| qualifies(server)) {
                candidates.push(candidate(at, server));
            }
        }
        false
    }
}
