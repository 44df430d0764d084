//! A second algorithm that runs beside that of a pool (`shadow`): it takes no lease and no turn, and only counts where it
//! would have chosen another server.

use super::{Chooser, Tried, WHOLE_UP_TO};
use crate::policy::pick::{Algorithm, Draw, Slot};
use crate::state::server::Server;
use crate::state::table::Pool;
use crossbeam_utils::CachePadded;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The second algorithm of a pool, and what it would have chosen so far.
#[derive(Clone, Debug)]
pub struct Shadow {
    /// The algorithm.
    pub algorithm: Algorithm,
    /// Its choices.
    pub choices: Arc<Choices>,
}

/// How often the second algorithm of a pool would have chosen the same server, and how often another one.
#[derive(Debug, Default)]
pub struct Choices {
    same: CachePadded<AtomicU64>,
    different: CachePadded<AtomicU64>,
}

impl Choices {
    /// How often it would have been the same server.
    pub fn same(&self) -> u64 {
        self.same.load(Relaxed)
    }

    /// How often it would have been another one.
    pub fn different(&self) -> u64 {
        self.different.load(Relaxed)
    }
}

impl Chooser<'_> {
    /// Counts what the shadow of the pool makes of the candidates of a choice that led to `chosen`. It sees what the first
    /// algorithm saw, with the same draw, so that the same algorithm would make the same choice.
    pub(super) fn shadow(
        &mut self,
        pool: &Pool,
        servers: &[Arc<Server>],
        draw: Draw<'_>,
        chosen: Slot,
        rejected: &Tried,
    ) {
        let Some(shadow) = &pool.shadow else { return };
        let is_sample = servers.len() > WHOLE_UP_TO && pool.algorithm.sample().is_some();
        if is_sample && shadow.algorithm.sample().is_none() {
            // A hash must see every server. The chosen one may be full by now.
            self.candidates.clear();
            let qualifies = |at: usize, server: &Server| {
                at == chosen.0 as usize || !server.is_full() && !rejected.has(server.id)
            };
            let all = servers.iter().enumerate().filter(|(at, server)| qualifies(*at, server));
            self.candidates.extend(all.map(|(at, server)| server.uncompared_candidate(Slot(at as u32))));
        }
        let picked = shadow.algorithm.pick(self.candidates, draw);
        let counter = if picked == Some(chosen) { &shadow.choices.same } else { &shadow.choices.different };
        counter.fetch_add(1, Relaxed);
        if let Some(note) = &mut self.note {
            let server = picked.and_then(|slot| servers.get(slot.0 as usize));
            note.shadow =
                Some((shadow.algorithm, server.map_or(String::new(), |server| server.name.clone())));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::PoolId;
    use crate::base::random::Random;
    use crate::base::time::Moment;
    use crate::state::choose::{Asked, Chosen, Note};
    use crate::state::config::{Config, ServerSpec};
    use crate::state::live::Live;
    use crate::state::table::Table;

    const NOW: Moment = Moment::from_millis(1_000);
    const DEFAULT: PoolId = PoolId(0);

    fn table(first: Algorithm, shadow: Option<Algorithm>, servers: u16) -> Table {
        let mut config = Config::default();
        config.servers.health_check.rules.enabled = false;
        (config.servers.algorithm, config.servers.shadow) = (first, shadow);
        let spec =
            |at: u16| ServerSpec::new(at.to_string(), format!("127.0.0.1:{}", at + 1).parse().unwrap());
        config.servers.list = (0..servers).map(spec).collect();
        Table::of(Live::plain(config))
    }

    /// The servers that so many requests go to one after the other, each with a key of its own; each ends at once.
    fn chosen(table: &Table, requests: u64) -> Vec<String> {
        let snapshot = table.snapshot();
        let (turn, mut random, mut candidates) = (AtomicU64::new(0), Random::seeded(3), Vec::new());
        let mut choose = |key| {
            let mut note = Note::default();
            let mut chooser = Chooser {
                turn: &turn,
                random: &mut random,
                candidates: &mut candidates,
                now: NOW,
                note: Some(&mut note),
            };
            let asked = Asked { key, ..Asked::default() };
            let Chosen::Server(lease) = chooser.choose(snapshot.pool(DEFAULT), asked, &Tried::default())
            else {
                panic!("no server")
            };
            assert_eq!(lease.server().in_flight(), 1, "the shadow takes no lease");
            lease.server().name.clone()
        };
        (0..requests).map(|number| choose(number.wrapping_mul(0x9e37_79b9_7f4a_7c15))).collect()
    }

    fn counts(table: &Table) -> (u64, u64) {
        let choices = Arc::clone(&table.snapshot().pool(DEFAULT).shadow.as_ref().unwrap().choices);
        (choices.same(), choices.different())
    }

    #[test]
    fn the_same_algorithm_makes_the_same_choices() {
        for algorithm in Algorithm::ALL {
            for servers in [1, 3, 40] {
                let table = table(algorithm, Some(algorithm), servers);
                chosen(&table, 200);
                assert_eq!(counts(&table), (200, 0), "{algorithm:?} of {servers}");
            }
        }
    }

    #[test]
    fn another_one_is_counted_and_changes_nothing() {
        for (first, shadow) in [
            (Algorithm::RoundRobin, Algorithm::IpHash),
            (Algorithm::IpHash, Algorithm::Dynamic),
            (Algorithm::Dynamic, Algorithm::IpHash),
        ] {
            for servers in [3, 40] {
                let (with, without) = (table(first, Some(shadow), servers), table(first, None, servers));
                assert_eq!(chosen(&with, 200), chosen(&without, 200), "{first:?} beside {shadow:?}");
                let (same, different) = counts(&with);
                assert!(same + different == 200 && different > 100, "{first:?}: {same} {different}");
            }
        }
    }

    #[test]
    fn a_shadow_by_load_sees_load_though_the_first_does_not() {
        let table = table(Algorithm::RoundRobin, Some(Algorithm::LeastConnections), 2);
        let _held = table.find("0").unwrap().lease(NOW).unwrap();
        let snapshot = table.snapshot();
        let (turn, mut random, mut candidates) = (AtomicU64::new(0), Random::seeded(3), Vec::new());
        for _ in 0..10 {
            let mut chooser = Chooser {
                turn: &turn,
                random: &mut random,
                candidates: &mut candidates,
                now: NOW,
                note: None,
            };
            chooser.choose(snapshot.pool(DEFAULT), Asked::default(), &Tried::default());
        }
        assert_eq!(counts(&table), (5, 5), "each turn of 0 would have been one of 1");
    }
}
