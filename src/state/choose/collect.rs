//! The candidates of a choice.
//!
//! A small table is looked at as a whole. Of a larger one only a sample are candidates, so that a choice takes the same time in a
//! table of any size: the server whose turn it is, some at random, by weight, and one that is idle where none of these is. Where
//! none of a sample qualifies, the servers are looked at one after the other, from a random one on, until some are found. A hash
//! algorithm knows the server of each key (`hashing.rs`).

use super::{Chooser, Tried, WHOLE_UP_TO};
use crate::policy::pick::{Candidate, Slot};
use crate::state::server::Server;
use crate::state::table::Pool;
use std::sync::Arc;

/// Where none of a sample qualifies, or is idle, so many servers in a row are looked at for others. In a sample of eight of a hundred
/// servers of one slot one is idle every third time at 95 %.
const LOOKED_AT: usize = 64;

/// Servers of a pool that are looked at together.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    pub(super) pool: &'a Pool,
    pub(super) servers: &'a [Arc<Server>],
    /// The order of their turns; empty where they take over for others, at random.
    pub(super) schedule: &'a [Slot],
    /// Their load and their responses matter.
    is_compared: bool,
}

impl<'a> Source<'a> {
    pub(super) fn of(pool: &'a Pool, servers: &'a [Arc<Server>], schedule: &'a [Slot]) -> Self {
        let shadow_compares = pool.shadow.as_ref().is_some_and(|shadow| shadow.algorithm.compares());
        let is_compared = servers.len() > 1 && (pool.algorithm.compares() || shadow_compares);
        Source { pool, servers, schedule, is_compared }
    }

    /// The servers from this one on, and then those before it.
    fn starting_at(self, first: usize) -> impl Iterator<Item = usize> {
        (first..self.servers.len()).chain(0..first)
    }
}

impl Chooser<'_> {
    /// Fills in the candidates. True: they are a sample. A server in slow start is one only where there is no other.
    pub(super) fn collect(&mut self, from: Source<'_>, (turn, key): (u64, u64), rejected: &Tried) -> bool {
        let qualifies = |server: &Server| !server.is_full() && !rejected.has(server.id);
        let Some(slow) = from.pool.slow_start.as_ref().filter(|_| !from.schedule.is_empty()) else {
            return self.collect_of(from, (turn, key), qualifies);
        };
        let (hashes, now) = (from.pool.algorithm.hashes(), self.now);
        let is_spared = |server: &Server| match hashes {
            true => slow.passes_over(server, key, now),
            false => server.is_in_slow_start(),
        };
        let is_sample = self.collect_of(from, (turn, key), |server| qualifies(server) && !is_spared(server));
        match self.candidates.is_empty() {
            true => self.collect_of(from, (turn, key), qualifies),
            false => is_sample,
        }
    }

    /// Fills in the candidates from the servers that qualify. True: they are a sample.
    fn collect_of(
        &mut self,
        from: Source<'_>,
        (turn, key): (u64, u64),
        qualifies: impl Fn(&Server) -> bool,
    ) -> bool {
        self.candidates.clear();
        self.add_of_key(&from, key, &qualifies);
        if !self.candidates.is_empty() {
            return false;
        }
        let Some(sample) = from.pool.algorithm.sample().filter(|_| from.servers.len() > WHOLE_UP_TO) else {
            // In the order of the table.
            (0..from.servers.len()).for_each(|at| self.add_if(&from, at, &qualifies));
            return false;
        };
        self.add_sample(&from, turn, sample, &qualifies);
        if self.candidates.is_empty() {
            self.add_first_found(&from, sample, &qualifies);
            return false;
        }
        self.add_idle(&from, &qualifies);
        !from.schedule.is_empty()
    }

    /// With a hash: the server of the key. A shadow compares the candidates, so it needs all that may have a part of the keys.
    fn add_of_key(&mut self, from: &Source<'_>, key: u64, qualifies: &impl Fn(&Server) -> bool) {
        let Some(hashing) = from.pool.hashing.as_ref().filter(|_| !from.schedule.is_empty()) else { return };
        let has_part = hashing.most(from.servers);
        let takes = |server: &Server| qualifies(server) && has_part(server);
        let is_alone = from.pool.shadow.is_none();
        match if is_alone { hashing.find(key, takes) } else { None } {
            Some(at) => self.add(from, at),
            None => (0..from.servers.len()).for_each(|at| self.add_if(from, at, &takes)),
        }
    }

    /// The server whose turn it is, and others at random, by weight.
    #[inline]
    fn add_sample(
        &mut self,
        from: &Source<'_>,
        turn: u64,
        sample: usize,
        qualifies: &impl Fn(&Server) -> bool,
    ) {
        let Source { servers, schedule, .. } = *from;
        let of_turn = turn.checked_rem(schedule.len() as u64).and_then(|at| schedule.get(at as usize));
        of_turn.into_iter().for_each(|slot| self.add_if(from, slot.0 as usize, qualifies));
        for _ in 1..sample {
            let at = match schedule {
                [] => self.random.below(servers.len()),
                _ => schedule[self.random.below(schedule.len())].0 as usize,
            };
            self.add_if(from, at, qualifies);
        }
    }

    /// One that is idle where none of the sample is. With equal weights only; else a server would get more than its share.
    fn add_idle(&mut self, from: &Source<'_>, qualifies: &impl Fn(&Server) -> bool) {
        let has_equal_weights = from.schedule.len() == from.servers.len();
        let are_busy = self.candidates.iter().all(|candidate| candidate.in_flight > 0);
        if !(from.is_compared && has_equal_weights && are_busy) {
            return;
        }
        let is_idle = |at: &usize| from.servers[*at].in_flight() == 0 && qualifies(&from.servers[*at]);
        let mut on = from.starting_at(self.random.below(from.servers.len())).take(LOOKED_AT);
        on.find(is_idle).into_iter().for_each(|at| self.add(from, at));
    }

    /// The first ones that qualify from a random one on.
    fn add_first_found(&mut self, from: &Source<'_>, wanted: usize, qualifies: &impl Fn(&Server) -> bool) {
        let on = from.starting_at(self.random.below(from.servers.len()));
        for (looked_at, at) in on.enumerate() {
            let is_enough = looked_at >= LOOKED_AT && !self.candidates.is_empty();
            if is_enough || self.candidates.len() >= wanted {
                return;
            }
            self.add_if(from, at, qualifies);
        }
    }

    #[inline]
    fn add_if(&mut self, from: &Source<'_>, at: usize, qualifies: &impl Fn(&Server) -> bool) {
        if from.servers.get(at).is_some_and(|server| qualifies(server)) {
            self.add(from, at);
        }
    }

    #[inline]
    fn add(&mut self, from: &Source<'_>, at: usize) {
        let (server, slot) = (&from.servers[at], Slot(at as u32));
        let candidate: Candidate = match from.is_compared {
            true => server.candidate(slot, self.now),
            false => server.uncompared_candidate(slot),
        };
        self.candidates.push(candidate);
    }
}
