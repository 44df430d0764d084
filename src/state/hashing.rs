//! The servers that keys belong to, for pools with a hash algorithm: the winners of all parts, found when they are first asked
//! for and kept from one snapshot of the table to the next; and the bound on what one server gets.

use super::server::Server;
use crate::policy::pick::{Contender, PARTS, part};
use crate::policy::rendezvous::mix;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// Where the winner of a key can take no request, so many parts, the same ones for the same key, are asked. With nine servers of ten
/// full, one key in a thousand finds none in 64 of them, one in five in 16; behind them the servers are looked at in a row.
const ASKED_MAX: u64 = 64;

/// After a change with more newcomers than this all winners are found again: to compare all parts with each of them takes longer.
const NEWCOMERS_MAX: usize = 16;

/// How often the requests in flight of all servers are counted: once in a number of choices that is this part of the number of
/// servers, so that a choice counts so many at the mean.
const COUNTED_PER_CHOICE: u64 = 8;

/// What a pool with a hash algorithm has beside its servers.
#[derive(Debug)]
pub struct Hashing {
    winners: Option<Winners>,
    /// A server gets at most so many times its part of the requests in flight.
    bound: Option<Bound>,
}

/// The winner of each part.
#[derive(Debug)]
struct Winners {
    /// The servers of the tier, as they were when it was made.
    contenders: Vec<(Arc<Server>, Contender)>,
    /// For each part the index of its winner and 1; 0 while it was not asked for.
    parts: Box<[AtomicU32]>,
}

#[derive(Debug)]
struct Bound {
    factor: f64,
    weights: u64,
    in_flight: AtomicU64,
    choices: AtomicU64,
}

impl Hashing {
    /// Of the servers of a tier. Tables of `small` servers are looked at as a whole; of larger ones the winners are kept, as far
    /// as `before` knows them.
    pub fn new(
        ready: &[Arc<Server>],
        bounded_load: Option<f32>,
        small: usize,
        before: Option<&Hashing>,
    ) -> Self {
        let before = before.and_then(|before| before.winners.as_ref());
        let bound = |factor| Bound {
            factor: f64::from(factor),
            weights: ready.iter().map(|server| u64::from(server.weight_now().0)).sum(),
            in_flight: AtomicU64::new(0),
            choices: AtomicU64::new(0),
        };
        Hashing {
            winners: (ready.len() > small).then(|| Winners::new(ready, before)),
            bound: bounded_load.map(bound),
        }
    }

    /// The index of the first server that qualifies, in the order of the key. No server is looked at for longer than it takes to ask
    /// [`ASKED_MAX`] parts and each server once, however many are full.
    pub fn find(&self, key: u64, qualifies: impl Fn(&Server) -> bool) -> Option<usize> {
        let winners = self.winners.as_ref()?;
        let keys = (0..ASKED_MAX).map(|nth| if nth == 0 { key } else { mix(key, nth) });
        let of_parts = keys.filter_map(|key| winners.of(part(key)));
        let count = winners.contenders.len();
        let from = (mix(key, ASKED_MAX) % count.max(1) as u64) as usize;
        let in_a_row = (from..count).chain(0..from);
        of_parts
            .chain(in_a_row)
            .find(|at| winners.contenders.get(*at).is_some_and(|(server, _)| qualifies(server)))
    }

    /// The most requests that a server of this weight may have in flight before one more, now (Mirrokni, Thorup and
    /// Zadimoghaddam, "Consistent hashing with bounded loads", 2018).
    pub fn most(&self, servers: &[Arc<Server>]) -> impl Fn(&Server) -> bool + use<> {
        let per_weight = self.bound.as_ref().map(|bound| {
            let total = bound.total(servers) + 1;
            bound.factor * total as f64 / bound.weights.max(1) as f64
        });
        move |server: &Server| {
            per_weight.is_none_or(|per_weight| {
                f64::from(server.in_flight()) < (per_weight * f64::from(server.weight_now().0)).ceil()
            })
        }
    }
}

impl Bound {
    /// The requests in flight of all servers, as they were a few choices ago.
    fn total(&self, servers: &[Arc<Server>]) -> u64 {
        let every = (servers.len() as u64 / COUNTED_PER_CHOICE).max(1);
        if self.choices.fetch_add(1, Relaxed).is_multiple_of(every) {
            let total = servers.iter().map(|server| u64::from(server.in_flight())).sum();
            self.in_flight.store(total, Relaxed);
        }
        self.in_flight.load(Relaxed)
    }
}

impl Winners {
    fn new(ready: &[Arc<Server>], before: Option<&Winners>) -> Self {
        let contender = |server: &Arc<Server>| Contender { hash: server.hash, weight: server.weight_now() };
        let contenders: Vec<_> = ready.iter().map(|server| (Arc::clone(server), contender(server))).collect();
        let parts = (0..PARTS).map(|_| AtomicU32::new(0)).collect();
        let winners = Winners { contenders, parts };
        before.into_iter().for_each(|before| winners.take_over(before));
        winners
    }

    /// What is known stays where it is true: a part stays with its winner while that is the same, unless a newcomer takes it.
    fn take_over(&self, before: &Winners) {
        let is_same = |one: &(Arc<Server>, Contender), other: &(Arc<Server>, Contender)| {
            Arc::ptr_eq(&one.0, &other.0) && one.1 == other.1
        };
        let place = |list: &[(Arc<Server>, Contender)]| -> std::collections::HashMap<_, _> {
            list.iter().enumerate().map(|(at, (server, _))| (server.id, at)).collect()
        };
        let (old, new) = (place(&before.contenders), place(&self.contenders));
        let is_newcomer = |at: &usize| {
            let one = &self.contenders[*at];
            !old.get(&one.0.id).is_some_and(|at| is_same(&before.contenders[*at], one))
        };
        let newcomers: Vec<usize> = (0..self.contenders.len()).filter(is_newcomer).collect();
        if newcomers.len() > NEWCOMERS_MAX {
            return;
        }
        let stays = |one: &(Arc<Server>, Contender)| {
            new.get(&one.0.id).copied().filter(|at| is_same(&self.contenders[*at], one))
        };
        let moved: Vec<Option<usize>> = before.contenders.iter().map(stays).collect();
        for (part, known) in before.parts.iter().enumerate() {
            let known = (known.load(Relaxed) as usize).checked_sub(1);
            let Some(winner) = known.and_then(|at| moved.get(at).copied().flatten()) else { continue };
            let better = |best: usize, at: &usize| {
                if self.contenders[*at].1.beats(self.contenders[best].1, part) { *at } else { best }
            };
            let winner = newcomers.iter().fold(winner, better);
            self.parts[part].store(winner as u32 + 1, Relaxed);
        }
    }

    fn of(&self, part: usize) -> Option<usize> {
        if let Some(known) = (self.parts[part].load(Relaxed) as usize).checked_sub(1) {
            return Some(known);
        }
        let all = self.contenders.iter().map(|(_, contender)| *contender).enumerate();
        let winner =
            all.reduce(|best, one| if one.1.beats(best.1, part) { one } else { best }).map(|(at, _)| at)?;
        // Another thread finds the same.
        self.parts[part].store(winner as u32 + 1, Relaxed);
        Some(winner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::PoolId;
    use crate::base::random::Random;
    use crate::base::time::Moment;
    use crate::policy::pick::{Algorithm, Weight};
    use crate::state::choose::{Asked, Chooser, Chosen, Tried};
    use crate::state::config::{self, Config};
    use crate::state::live::Live;
    use crate::state::server::{Lease, Mode};
    use crate::state::table::Table;

    const DEFAULT: PoolId = PoolId(0);

    fn table(servers: usize, bounded_load: Option<f32>) -> Table {
        let mut config = Config::default();
        config.servers.health_check.rules.enabled = false;
        config.servers.algorithm = Algorithm::ConsistentHash;
        config.servers.hash.bounded_load = bounded_load;
        config.servers.list = (0..servers).map(spec).collect();
        Table::of(Live::plain(config))
    }

    fn spec(at: usize) -> config::ServerSpec {
        let text = format!(r#"{{"name": "s{at}", "address": "10.0.{}.{}:80"}}"#, at / 250, at % 250 + 1);
        config::parse_server(&text, config::Resolve::First).unwrap()
    }

    fn choose(table: &Table, key: u64) -> Lease {
        let (mut random, turn, mut candidates) = (Random::seeded(key), AtomicU64::new(0), Vec::new());
        let mut chooser = Chooser {
            turn: &turn,
            random: &mut random,
            candidates: &mut candidates,
            now: Moment::from_millis(1),
            note: None,
        };
        let asked = Asked { key, ..Asked::default() };
        match chooser.choose(table.snapshot().pool(DEFAULT), asked, &Tried::default()) {
            Chosen::Server(lease) => lease,
            other => panic!("{other:?}"),
        }
    }

    fn homes(table: &Table, keys: &[u64]) -> Vec<String> {
        keys.iter().map(|key| choose(table, *key).server().name.clone()).collect()
    }

    fn keys(count: usize) -> Vec<u64> {
        let mut random = Random::seeded(5);
        (0..count).map(|_| random.number()).collect()
    }

    /// Whatever became of a table, keys are where they are in a new table with the same servers.
    #[test]
    fn winners_do_not_depend_on_what_was_before() {
        let keys = keys(3_000);
        for size in [14, 16, 17, 40] {
            let table = table(size, None);
            for step in 0..6 {
                homes(&table, &keys);
                let server = table.find(&format!("s{}", step * 2)).unwrap();
                match step % 3 {
                    0 => drop(table.remove(DEFAULT, &server.name)),
                    1 => drop(table.add(DEFAULT, &spec(100 + step)).unwrap()),
                    _ => table.adjust(&server, None, Some(Weight(3))),
                }
            }
            let mut config = (*table.live().config).clone();
            let snapshot = table.snapshot();
            let listed = snapshot.servers.iter().rev().map(|server| config::ServerSpec {
                weight: server.weight_now(),
                ..spec(server.name[1..].parse().unwrap())
            });
            config.servers.list = listed.collect();
            let other = Table::of(Live::plain(config));
            assert_eq!(homes(&table, &keys), homes(&other, &keys), "{size} servers");
        }
    }

    /// Only keys of a server that leaves move, and only to one that comes; at the border of small tables, too.
    #[test]
    fn no_more_keys_move_than_must() {
        let keys = keys(4_000);
        for size in [3, 16, 17, 60] {
            let table = table(size, None);
            let before = homes(&table, &keys);
            let leaving = table.find("s1").unwrap();
            table.adjust(&leaving, Some(Mode::Drain), None);
            let without = homes(&table, &keys);
            let wrong = before.iter().zip(&without).filter(|(old, new)| *old != "s1" && old != new).count();
            assert_eq!(wrong, 0, "{size} servers");
            table.adjust(&leaving, Some(Mode::Ready), None);
            assert_eq!(homes(&table, &keys), before, "{size} servers: they return");
            table.add(DEFAULT, &spec(999)).unwrap();
            let with = homes(&table, &keys);
            let moved: Vec<_> = before.iter().zip(&with).filter(|(old, new)| old != new).collect();
            assert!(moved.iter().all(|(_, new)| *new == "s999") && !moved.is_empty(), "{size} servers");
        }
    }

    #[test]
    fn with_a_bound_one_key_fills_no_server_and_without_one_it_does() {
        for size in [5, 40] {
            let table = table(size, Some(1.25));
            let leases: Vec<Lease> = (0..10 * size).map(|_| choose(&table, 7)).collect();
            let most = leases.iter().map(|lease| lease.server().in_flight()).max().unwrap();
            // 10 each would be level; the count of all may be some choices old.
            assert!((10..=14).contains(&most), "{size} servers: {most}");
        }
        let table = table(40, None);
        let leases: Vec<Lease> = (0..50).map(|_| choose(&table, 7)).collect();
        assert_eq!(leases[0].server().in_flight(), 50);
    }

    #[test]
    fn with_most_servers_full_the_others_are_found_and_the_cost_is_bounded() {
        let table = table(500, None);
        let snapshot = table.snapshot();
        let pool = snapshot.pool(DEFAULT);
        let hashing = pool.hashing.as_ref().unwrap();
        for well in [1, 50] {
            let asked = std::cell::Cell::new(0);
            let qualifies = |server: &Server| {
                asked.set(asked.get() + 1);
                server.name[1..].parse::<usize>().is_ok_and(|at| at < well)
            };
            for key in keys(200) {
                let before = asked.get();
                let found = hashing.find(key, qualifies).unwrap();
                assert!(qualifies(&pool.ready[found]) && asked.get() - before <= 565);
                assert_eq!(hashing.find(key, qualifies), Some(found), "the same one for the same key");
            }
        }
        assert_eq!(hashing.find(1, |_| false), None);
    }

    #[test]
    fn a_full_server_passes_a_key_on_always_to_the_same_one() {
        let table = table(40, None);
        let first = choose(&table, 9);
        table.adjust(first.server(), None, Some(Weight(0)));
        let second = choose(&table, 9);
        assert!(second.server().name != first.server().name);
        assert_eq!(choose(&table, 9).server().name, second.server().name);
    }
}
