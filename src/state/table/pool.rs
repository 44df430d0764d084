//! A pool at one moment.

use super::super::choose::{Shadow, WHOLE_UP_TO};
use super::super::config::Servers;
use super::super::hashing::Hashing;
use super::super::server::Server;
use super::super::session::ByTag;
use super::super::slow_start::SlowStart;
use super::FailOpen;
use super::tiers::{Filled, Tiers};
use crate::policy::pick::{self, Algorithm, Slot};
use crate::policy::rendezvous::mix;
use crate::policy::tiers::Rank;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Makes of a key a draw that has nothing to do with the server it belongs to.
const TIER_OF_KEY: u64 = 0x7469_6572;

/// A pool at one moment: what of it gets traffic, and how one is chosen. A further tier that gets a part of the requests is a pool of
/// its own.
#[derive(Debug)]
pub struct Pool {
    /// All of its servers, whether they get traffic or not.
    pub count: usize,
    /// Those that get traffic: the first tier that is not empty. A [`Slot`] is an index into it.
    pub ready: Vec<Arc<Server>>,
    /// Those of the same priority in other zones: where all of `ready` are full they take a request.
    pub beside: Vec<Arc<Server>>,
    /// All others that can take requests, in the order of their tiers, for a retry that has tried all of `ready`.
    pub reserve: Vec<Arc<Server>>,
    /// Those that get none.
    pub out: Vec<Arc<Server>>,
    /// Too few are left, so that `ready` has servers whose probes fail, or that are ejected.
    pub fail_open: Option<FailOpen>,
    /// The smooth weighted order of `ready`.
    pub schedule: Vec<Slot>,
    /// The algorithm.
    pub algorithm: Algorithm,
    /// The servers of `ready` that came up a short while ago.
    pub slow_start: Option<SlowStart>,
    /// With a hash algorithm: which server has which keys.
    pub hashing: Option<Hashing>,
    /// A second one that runs beside it.
    pub shadow: Option<Shadow>,
    /// Servers that keep their sessions, also those that get no new requests; empty where the pool has no sessions.
    pub sessions: ByTag,
    /// All tiers, in order; empty where there is one only.
    pub tiers: Vec<TierShare>,
    /// What `ready` is.
    rank: Rank,
    /// Further tiers that get a part of the requests now.
    spill: Option<Spill>,
    /// Counts the requests of a further tier.
    turn: Option<AtomicU64>,
}

/// The tiers that get requests beside the first one.
#[derive(Debug)]
struct Spill {
    /// The part of the first one, 0 to 1.
    first: f64,
    others: Vec<(f64, Pool)>,
}

/// A tier and what it gets.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TierShare {
    /// What it is.
    pub tier: TierName,
    /// Its servers, whether they get traffic or not.
    pub servers: usize,
    /// Those that can take requests.
    pub ready: usize,
    /// The part of the requests of the pool that it gets now, 0 to 1.
    pub share: f64,
}

/// What a tier is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TierName {
    rank: Rank,
    /// Some servers of its priority are elsewhere.
    has_zones: bool,
}

impl fmt::Display for TierName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.rank.is_backup {
            true => out.write_str("backup")?,
            false => write!(out, "priority {}", self.rank.priority)?,
        }
        match (self.has_zones, self.rank.is_elsewhere) {
            (false, _) => Ok(()),
            (true, false) => out.write_str(", own zone"),
            (true, true) => out.write_str(", other zones"),
        }
    }
}

impl Pool {
    /// Puts the tiers together; `before` is the pool as it was.
    pub(super) fn of(
        mut tiers: Tiers,
        settings: &Servers,
        shadow: Option<Shadow>,
        before: Option<&Pool>,
    ) -> Self {
        let filled = tiers.take();
        let parts = || filled.iter().map(|tier| tier.servers.len() + tier.rest.len()).sum::<usize>();
        let count = tiers.out.len() + parts();
        let shown = if filled.len() > 1 { named(&filled) } else { Vec::new() };
        let used: Vec<usize> = (0..filled.len()).filter(|at| filled[*at].share > 0.0).collect();
        // With weights of 0 only, or nothing at all.
        let first = used.first().copied().or_else(|| filled.iter().position(|tier| !tier.servers.is_empty()));
        let tier = |at: usize| {
            let known = before.and_then(|before| before.with_rank(filled[at].rank)?.hashing.as_ref());
            let mut pool = Pool::tier(&filled, at, settings, known);
            (pool.shadow, pool.tiers) = (shadow.clone(), shown.clone());
            pool
        };
        let mut pool = first.map_or_else(|| Pool::empty(settings.algorithm), tier);
        if used.len() > 1 {
            // As of the pool before: were it to begin again with each change of the table, its first server would get the most.
            let turn = |at: usize| {
                let known = before.and_then(|before| before.with_rank(filled[at].rank)?.turn.as_ref());
                known.map_or(0, |turn| turn.load(Relaxed))
            };
            let other =
                |at: &usize| (filled[*at].share, Pool { turn: Some(AtomicU64::new(turn(*at))), ..tier(*at) });
            let others = used[1..].iter().map(other).collect();
            pool.spill = Some(Spill { first: filled[used[0]].share, others });
        }
        pool.shadow = shadow.clone();
        Pool { count, out: tiers.out, fail_open: tiers.fail_open, sessions: tiers.sessions, ..pool }
    }

    fn empty(algorithm: Algorithm) -> Self {
        Pool {
            count: 0,
            ready: Vec::new(),
            beside: Vec::new(),
            reserve: Vec::new(),
            out: Vec::new(),
            fail_open: None,
            schedule: Vec::new(),
            algorithm,
            hashing: None,
            slow_start: None,
            shadow: None,
            sessions: ByTag::default(),
            tiers: Vec::new(),
            rank: Rank::default(),
            spill: None,
            turn: None,
        }
    }

    /// One of the tiers; what the others have is in reserve.
    fn tier(filled: &[Filled], at: usize, settings: &Servers, known: Option<&Hashing>) -> Self {
        let (ready, rank) = (filled[at].servers.clone(), filled[at].rank);
        let others =
            || filled.iter().enumerate().filter(move |(other, _)| *other != at).map(|(_, tier)| tier);
        let beside = others().filter(|tier| tier.rank.is_beside(rank)).flat_map(|tier| &tier.servers);
        let farther = others()
            .filter(|tier| !tier.rank.is_beside(rank))
            .flat_map(|tier| tier.servers.iter().chain(&tier.rest));
        let rest = filled.iter().filter(|tier| tier.rank.is_beside(rank)).flat_map(|tier| &tier.rest);
        let weighted: Vec<_> =
            (0_u32..).zip(&ready).map(|(at, server)| (Slot(at), server.weight_now())).collect();
        let hashing = || Hashing::new(&ready, settings.hash.bounded_load, WHOLE_UP_TO, known);
        Pool {
            schedule: pick::schedule(&weighted),
            slow_start: SlowStart::of(&ready),
            hashing: settings.algorithm.hashes().then(hashing),
            beside: beside.cloned().collect(),
            reserve: rest.chain(farther).cloned().collect(),
            rank,
            ready,
            ..Pool::empty(settings.algorithm)
        }
    }

    fn with_rank(&self, rank: Rank) -> Option<&Pool> {
        let others = self.spill.iter().flat_map(|spill| &spill.others).map(|(_, pool)| pool);
        std::iter::once(self).chain(others).find(|pool| pool.rank == rank)
    }

    /// The tier of a request: with a draw from 0 to 1, or by its key, so that it stays with a tier while that has as much as before.
    pub fn tier_of(&self, key: u64, draw: impl FnOnce() -> f64) -> &Pool {
        let Some(spill) = &self.spill else { return self };
        let by_key = || (mix(key, TIER_OF_KEY) >> 11) as f64 / (1_u64 << 53) as f64;
        let mut point = if self.algorithm.hashes() { by_key() } else { draw() } - spill.first;
        if point < 0.0 {
            return self;
        }
        let mut tiers = spill.others.iter();
        let found = tiers.find(|(share, _)| {
            point -= share;
            point < 0.0
        });
        // Sums of fractions may miss the whole by a little.
        found.map_or(self, |(_, pool)| pool)
    }

    /// Whether a server is there for its requests, other than those that are used although their probes fail because none is left.
    pub fn can_serve(&self) -> bool {
        !self.ready.is_empty() && self.fail_open.is_none_or(|open| open.left > 0)
    }

    /// What counts the requests of this tier, where the first one has that of the pool.
    pub fn own_turn(&self) -> Option<&AtomicU64> {
        self.turn.as_ref()
    }

    /// What `ready` is called, where there are several tiers.
    pub fn tier_name(&self) -> Option<TierName> {
        self.tiers.iter().map(|shown| shown.tier).find(|tier| tier.rank == self.rank)
    }

    /// The servers that get requests now, of all tiers.
    pub fn active(&self) -> impl Iterator<Item = &Arc<Server>> + Clone {
        let others = self.spill.iter().flat_map(|spill| &spill.others).flat_map(|(_, pool)| &pool.ready);
        self.ready.iter().chain(others)
    }
}

fn named(filled: &[Filled]) -> Vec<TierShare> {
    let has_zones = |of: Rank| filled.iter().any(|tier| tier.rank.is_beside(of) && tier.rank.is_elsewhere);
    let shown = |tier: &Filled| TierShare {
        tier: TierName { rank: tier.rank, has_zones: has_zones(tier.rank) },
        servers: tier.count,
        ready: tier.servers.len() + tier.rest.len(),
        share: tier.share,
    };
    filled.iter().map(shown).collect()
}

#[cfg(test)]
mod tests {
    use super::super::super::choose::{Asked, Chooser, Chosen, Note, Tried};
    use super::super::super::config::{Config, ServerSpec};
    use super::super::super::live::Live;
    use super::super::super::server::Lease;
    use super::super::super::simulation::plain_spec;
    use super::super::{Mode, Table};
    use super::*;
    use crate::base::ids::PoolId;
    use crate::base::random::Random;
    use crate::base::time::Moment;
    use crate::policy::health::Health;

    const DEFAULT: PoolId = PoolId(0);
    const REQUESTS: u64 = 4_000;

    /// Servers as their priority or `b` for a backup, their zone and `-` for one that is down: `0a 0a- 1 b`.
    fn table(algorithm: Algorithm, servers: &str, max_in_flight: Option<u32>) -> Table {
        let mut config = Config::default();
        config.servers.health_check.rules.enabled = false;
        (config.servers.algorithm, config.servers.max_in_flight) =
            (algorithm, max_in_flight.map(crate::policy::limit::MaxInFlight::Fixed));
        config.listen.zone = Some("a".to_owned());
        let spec = |(at, mark): (usize, &str)| {
            let zone = mark.trim_end_matches('-')[1..].to_owned();
            ServerSpec {
                priority: mark[..1].parse().unwrap_or(0),
                backup: mark.starts_with('b'),
                zone: Some(zone).filter(|zone| !zone.is_empty()),
                ..plain_spec(&format!("{at}:{mark}"), at)
            }
        };
        config.servers.list = servers.split(' ').enumerate().map(spec).collect();
        let table = Table::of(Live::plain(config));
        let snapshot = table.snapshot();
        let down = snapshot.servers.iter().filter(|server| server.name.ends_with('-'));
        down.for_each(|server| table.judge(&[(server, Health::Down)], &[(server, true)]));
        table
    }

    /// A lease on the server of a request of this key.
    fn choose(table: &Table, random: &mut Random, key: u64, note: &mut Note) -> Option<Lease> {
        let (turn, mut candidates) = (AtomicU64::new(key), Vec::new());
        let now = Moment::from_millis(1_000);
        let mut chooser = Chooser { turn: &turn, random, candidates: &mut candidates, now, note: Some(note) };
        let asked = Asked { key, ..Asked::default() };
        match chooser.choose(table.snapshot().pool(DEFAULT), asked, &Tried::default()) {
            Chosen::Server(lease) => Some(lease),
            Chosen::Full | Chosen::Later | Chosen::None => None,
        }
    }

    /// The part of the requests that servers with each of these marks get, in percent, with every algorithm.
    fn check(servers: &str, expected: &[(&str, f64)]) {
        for algorithm in Algorithm::ALL {
            let (table, mut random) = (table(algorithm, servers, None), Random::seeded(3));
            let keys: Vec<u64> = (0..REQUESTS).map(|_| random.number()).collect();
            let name = |key: u64, random: &mut Random| {
                let lease = choose(&table, random, key, &mut Note::default());
                lease.map_or(String::new(), |lease| lease.server().name.clone())
            };
            let names: Vec<String> = keys.into_iter().map(|key| name(key, &mut random)).collect();
            for (mark, percent) in expected {
                let of_mark = |name: &&String| name.split_once(':').is_some_and(|(_, own)| own == *mark);
                let got = names.iter().filter(of_mark).count() as f64 * 100.0 / REQUESTS as f64;
                assert!((got - percent).abs() < 3.0, "{servers}: {mark} gets {got} % with {algorithm:?}");
            }
        }
    }

    #[test]
    fn requests_go_to_priorities_and_zones_by_what_is_left_of_them() {
        check("0 0 1 1", &[("0", 100.0), ("1", 0.0)]);
        check("0 0- 1 1", &[("0", 70.0), ("1", 30.0)]);
        check("0- 0- 1 1 b", &[("0-", 0.0), ("1", 100.0), ("b", 0.0)]);
        check("0 0- 0- b", &[("0", 100.0), ("b", 0.0)]);
        check("0- 0- b b", &[("b", 100.0)]);
        check("0a 0b 0c", &[("0a", 100.0)]);
        check("0a 0a- 0b 0b 0c 0c", &[("0a", 60.0), ("0b", 20.0), ("0c", 20.0)]);
        check("0a- 0a- 0b 0b", &[("0b", 100.0)]);
        check("0b 0c 1a", &[("0b", 50.0), ("0c", 50.0), ("1a", 0.0)]);
        check("0a- 0a 0b- 0b 1a 1b", &[("0a", 70.0), ("0b", 0.0), ("1a", 30.0), ("1b", 0.0)]);
    }

    #[test]
    fn changes_of_the_table_do_not_favour_the_first_server_of_a_further_tier() {
        let (table, mut random) =
            (table(Algorithm::RoundRobin, "0a 0a- 0b 0b 0c 0c", None), Random::seeded(3));
        let mut counts = std::collections::BTreeMap::new();
        for key in 0..400 {
            let lease = choose(&table, &mut random, key, &mut Note::default()).unwrap();
            *counts.entry(lease.server().name.clone()).or_insert(0) += 1;
            table.adjust(lease.server(), None, Some(lease.server().weight()));
        }
        let elsewhere: Vec<u32> =
            counts.iter().filter(|(name, _)| !name.contains("0a")).map(|(_, n)| *n).collect();
        let (least, most) = (elsewhere.iter().min().unwrap(), elsewhere.iter().max().unwrap());
        assert!(elsewhere.len() == 4 && most - least <= 1, "{counts:?}");
    }

    #[test]
    fn fail_open_is_judged_over_all_priorities() {
        check("0- 0- 1", &[("0-", 0.0), ("1", 100.0)]);
        check("0- 0- 0- 0- 1", &[("0-", 100.0), ("1", 0.0)]);
        check("0a- 0b- 1-", &[("0a-", 100.0)]);
    }

    #[test]
    fn another_zone_takes_what_the_own_one_has_no_room_for_and_another_priority_does_not() {
        for (servers, taken) in [("0a 0b 1a", 2), ("0a 1a b", 1)] {
            let (table, mut random) = (table(Algorithm::Dynamic, servers, Some(1)), Random::seeded(1));
            let leases: Vec<_> =
                (0..5).filter_map(|key| choose(&table, &mut random, key, &mut Note::default())).collect();
            let names: Vec<&str> = leases.iter().map(|lease| lease.server().name.as_str()).collect();
            assert_eq!(names.len(), taken, "{servers}: {names:?}");
            assert!(names[0] == "0:0a" && !names.iter().any(|name| name.contains(":1")), "{names:?}");
        }
    }

    #[test]
    fn a_key_moves_only_with_the_part_of_its_tier() {
        let (before, after) = (
            table(Algorithm::ConsistentHash, "0 0 0 0- 0- 1 1 1", None),
            table(Algorithm::ConsistentHash, "0 0 0 0 0- 1 1 1", None),
        );
        let mut random = Random::seeded(5);
        let keys: Vec<u64> = (0..REQUESTS).map(|_| random.number()).collect();
        let mut name = |table: &Table, key: u64| {
            let name = choose(table, &mut random, key, &mut Note::default()).unwrap().server().name.clone();
            name.split(':').next().unwrap().to_owned()
        };
        let moved = keys.iter().filter(|key| name(&before, **key) != name(&after, **key)).count();
        // The server that is back takes a quarter of the first tier, and the first tier 16 % more of all.
        assert!(moved as f64 / REQUESTS as f64 <= 0.43, "{moved} of {REQUESTS}");
    }

    #[test]
    fn the_tier_of_a_request_is_told_and_follows_what_the_operator_takes_out() {
        let (table, mut random) = (table(Algorithm::RoundRobin, "0 0 1 b", None), Random::seeded(2));
        let mut note = Note::default();
        choose(&table, &mut random, 1, &mut note).unwrap();
        let excluded = |note: &Note| {
            note.excluded.iter().map(|one| format!("{} {}", one.server, one.why.name())).collect::<Vec<_>>()
        };
        assert_eq!(note.tier.as_deref(), Some("priority 0"));
        assert_eq!(excluded(&note), ["2:1 other_tier", "3:b backup"]);
        for name in ["0:0", "1:0"] {
            table.adjust(&table.find(name).unwrap(), Some(Mode::Drain), None);
        }
        let mut note = Note::default();
        assert_eq!(choose(&table, &mut random, 1, &mut note).unwrap().server().name, "2:1");
        assert_eq!(note.tier.as_deref(), Some("priority 1"));
        let snapshot = table.snapshot();
        let shown: Vec<_> = snapshot
            .pool(DEFAULT)
            .tiers
            .iter()
            .map(|one| format!("{} {} {} {}", one.tier, one.servers, one.ready, one.share))
            .collect();
        assert_eq!(shown, ["priority 0 2 0 0", "priority 1 1 1 1", "backup 1 1 0"]);
    }
}
