//! The servers of a pool that are in slow start, and the requests that they get ([`crate::policy::slow_start`]).

use super::server::Server;
use crate::base::random::Random;
use crate::base::time::Moment;
use crate::policy::pick::Slot;
use crate::policy::slow_start::{self, Beginner};
use std::sync::Arc;

/// A beginner that has more requests in flight than so many times what others have for their weight, and [`BEHIND_EXTRA`] more,
/// gets none: it does not keep up. As where weights are shares (`policy/pick/shares.rs`).
const BEHIND_FACTOR: u64 = 2;
/// See there.
const BEHIND_EXTRA: u64 = 2;
/// So many others are looked at for that, so that it takes the same time in any table.
const OTHERS: usize = 8;

/// The servers of a tier that are in slow start, as of a snapshot; some may be at its end.
#[derive(Debug)]
pub struct SlowStart {
    servers: Vec<Slot>,
    /// Of all servers of the tier.
    weights: u64,
}

impl SlowStart {
    /// Of the servers of a tier. `None` where none or all of them are in it: then none has to be spared at the cost of the others. One
    /// that has no slow start ends its own.
    pub fn of(ready: &[Arc<Server>]) -> Option<Self> {
        ready.iter().filter(|server| !server.has_slow_start()).for_each(|server| server.end_slow_start());
        let beginners = (0_u32..).zip(ready).filter(|(_, server)| server.is_in_slow_start());
        let servers: Vec<_> = beginners.map(|(at, _)| Slot(at)).collect();
        if servers.len() == ready.len() {
            ready.iter().for_each(|server| server.end_slow_start());
            return None;
        }
        let weights = ready.iter().map(|server| u64::from(server.weight().0)).sum();
        (!servers.is_empty()).then_some(SlowStart { servers, weights })
    }

    /// The server in slow start that gets this request, if it is one of them.
    pub fn drawn<'s>(
        &self,
        ready: &'s [Arc<Server>],
        random: &mut Random,
        now: Moment,
    ) -> Option<&'s Arc<Server>> {
        let beginner = |slot: &Slot| {
            let server = ready.get(slot.0 as usize);
            let part = server.map_or(1.0, |server| server.slow_start_part(now));
            // At the end it is one of the others.
            let weight = server.filter(|_| part < 1.0).map_or(0, |server| server.weight().0);
            Beginner { weight, part }
        };
        let at = slow_start::drawn(self.servers.iter().map(beginner), self.weights, random.fraction())?;
        ready.get(self.servers.get(at)?.0 as usize)
    }

    /// Whether a server in slow start keeps up with what it gets, compared to some of the others.
    pub fn keeps_up(&self, server: &Server, ready: &[Arc<Server>], random: &mut Random) -> bool {
        let (mut in_flight, mut weights) = (0, 0);
        for _ in 0..OTHERS {
            let other = &ready[random.below(ready.len())];
            if other.is_in_slow_start() {
                continue;
            }
            in_flight += u64::from(other.in_flight());
            weights += u64::from(other.weight().0);
        }
        // With none of the others in the sample nothing is known.
        let part = (in_flight * u64::from(server.weight().0)).checked_div(weights);
        part.is_none_or(|part| u64::from(server.in_flight()) <= BEHIND_FACTOR * part + BEHIND_EXTRA)
    }

    /// Whether a hash algorithm passes over this server for a request of that key.
    pub fn passes_over(&self, server: &Server, key: u64, now: Moment) -> bool {
        server.is_in_slow_start() && !slow_start::has_key(server.hash, key, server.slow_start_part(now))
    }
}

#[cfg(test)]
mod tests {
    use crate::base::ids::PoolId;
    use crate::base::random::Random;
    use crate::base::time::Moment;
    use crate::policy::agent::{Advice, Line};
    use crate::policy::health::Health;
    use crate::policy::pick::Algorithm;
    use crate::policy::slow_start::Settings;
    use crate::state::choose::{Asked, Chooser, Chosen, Exclusion, Note, Tried};
    use crate::state::config::Config;
    use crate::state::live::Live;
    use crate::state::server::{AgentWord, Lease, Mode, Server};
    use crate::state::simulation::plain_spec;
    use crate::state::table::Table;
    use std::sync::Arc;
    use std::sync::atomic::AtomicU64;
    use std::time::Duration;

    const DEFAULT: PoolId = PoolId(0);

    /// Equal servers with a slow start of 30 s; none is probed.
    fn table(algorithm: Algorithm, servers: usize) -> Table {
        let mut config = Config::default();
        config.servers.health_check.rules.enabled = false;
        config.servers.algorithm = algorithm;
        config.servers.slow_start.time = Some(Duration::from_secs(30));
        config.servers.list = (0..servers).map(|at| plain_spec(&at.to_string(), at)).collect();
        Table::of(Live::plain(config))
    }

    fn agent(server: &Server) -> Advice {
        server.agent().map_or_else(Advice::default, |word| word.advice)
    }

    fn comes_up(table: &Table, name: &str) -> Arc<Server> {
        let server = table.find(name).unwrap();
        table.set_health(&server, Health::Down);
        table.set_health(&server, Health::Up);
        server
    }

    /// One request of a key at a moment.
    fn choose(
        table: &Table,
        random: &mut Random,
        turn: &AtomicU64,
        key: u64,
        at: u64,
        note: &mut Note,
    ) -> Lease {
        let mut candidates = Vec::new();
        let now = Moment::from_millis(at * 1_000);
        let mut chooser = Chooser { turn, random, candidates: &mut candidates, now, note: Some(note) };
        let asked = Asked { key, ..Asked::default() };
        match chooser.choose(table.snapshot().pool(DEFAULT), asked, &Tried::default()) {
            Chosen::Server(lease) => lease,
            other => panic!("{other:?}"),
        }
    }

    /// The share of a server in percent, at this second of a slow start; each request ends before the next.
    fn percent(table: &Table, name: &str, at: u64) -> u64 {
        let (mut random, turn) = (Random::seeded(at + 1), AtomicU64::new(0));
        let keys: Vec<u64> = (0..4_000).map(|_| random.number()).collect();
        let all =
            keys.into_iter().map(|key| choose(table, &mut random, &turn, key, at, &mut Note::default()));
        all.filter(|lease| lease.server().name == name).count() as u64 / 40
    }

    #[test]
    fn a_server_that_comes_back_gets_more_from_second_to_second_with_every_algorithm() {
        for algorithm in Algorithm::ALL {
            for servers in [4, 20] {
                let table = table(algorithm, servers);
                let whole = 100 / servers as u64;
                comes_up(&table, "1");
                for (second, part) in [(0, 0.1), (9, 0.3), (15, 0.5), (24, 0.8)] {
                    let (got, right) = (percent(&table, "1", second), part * whole as f64);
                    let far = (got as f64 - right).abs();
                    assert!(far <= 2.0 + 0.2 * right, "{algorithm:?}, {servers}: {got} % at {second} s");
                }
                let got = percent(&table, "1", 31);
                assert!(got.abs_diff(whole) <= 2 + whole / 5, "{algorithm:?}, {servers}: {got} % at the end");
                assert!(!table.find("1").unwrap().is_in_slow_start());
            }
        }
    }

    #[test]
    fn a_server_may_have_a_slow_start_of_its_own() {
        let mut config = Config::default();
        config.servers.health_check.rules.enabled = false;
        config.servers.algorithm = Algorithm::LeastConnections;
        let own = |time: u64, aggression| Settings { time: Some(Duration::from_secs(time)), aggression };
        config.servers.list = (0..4).map(|at| plain_spec(&at.to_string(), at)).collect();
        config.servers.list[1].slow_start = own(20, Some(2.0));
        config.servers.slow_start = own(10, None);
        config.servers.list[2].slow_start = own(0, None);
        let table = Table::of(Live::plain(config.clone()));
        let part =
            |name: &str, at: u64| table.find(name).unwrap().slow_start(Moment::from_millis(at * 1_000));
        for name in ["0", "1", "2"] {
            comes_up(&table, name);
        }
        percent(&table, "1", 0);
        assert_eq!([part("0", 5), part("1", 5), part("2", 5)], [Some(0.5), Some(0.5), None]);
        let got = percent(&table, "1", 5);
        assert!((13..=19).contains(&got), "half of what the two others get: {got} %");
        // A reload changes it while it goes on.
        config.servers.list[1].slow_start = own(10, None);
        config.servers.slow_start.time = None;
        table.reload(Live::plain(config));
        assert_eq!([part("0", 4), part("1", 4)], [None, Some(0.4)]);
    }

    #[test]
    fn what_begins_a_slow_start_and_what_does_not() {
        let table = table(Algorithm::Dynamic, 3);
        let is = |name: &str| table.find(name).unwrap().is_in_slow_start();
        assert!(!is("0") && !is("1") && !is("2"), "the balancer has started");
        comes_up(&table, "0");
        assert!(is("0") && !is("1"));
        let one = table.find("1").unwrap();
        table.set_health(&one, Health::Ejected { until: Moment::NEVER });
        table.set_health(&one, Health::Up);
        assert!(is("0") && is("1"));
        let two = table.find("2").unwrap();
        table.adjust(&two, Some(Mode::Drain), None);
        assert!(!is("0") && !is("1"), "where all are in it none is");
        table.adjust(&two, Some(Mode::Ready), None);
        assert!(!is("2"), "a server that drained is warm");
        table.adjust(&two, Some(Mode::Maint), None);
        table.adjust(&two, Some(Mode::Ready), None);
        assert!(is("2"));
        table.add(DEFAULT, &plain_spec("new", 9)).unwrap();
        assert!(is("new"));
        table.adjust(&two, Some(Mode::Drain), None);
        table.adjust(&two, Some(Mode::Ready), None);
        two.end_slow_start();
        for (line, begins) in [("drain", false), ("ready", false), ("down", false), ("up", true)] {
            let word = AgentWord {
                advice: agent(&two).with(&Line::read(line.as_bytes()).unwrap()),
                ..AgentWord::default()
            };
            table.advise(vec![(&*two, Some(word))]);
            assert_eq!(is("2"), begins, "{line}");
        }
        let mut config = (*table.live().config).clone();
        config.servers.list.push(plain_spec("newer", 10));
        table.reload(Live::plain(config.clone()));
        assert!(is("newer") && is("new") && is("2"));
        config.servers.slow_start.time = None;
        table.reload(Live::plain(config));
        assert!(!is("newer") && !is("new") && !is("2"), "without a slow start it is over");
    }

    #[test]
    fn where_no_other_server_can_take_a_request_it_does_and_where_it_is_behind_it_gets_none() {
        let table = table(Algorithm::LeastConnections, 2);
        comes_up(&table, "1");
        let (mut random, turn) = (Random::seeded(1), AtomicU64::new(0));
        let all = |table: &Table, random: &mut Random, count: u64| -> Vec<Lease> {
            (0..count).map(|key| choose(table, random, &turn, key, 0, &mut Note::default())).collect()
        };
        let open = all(&table, &mut random, 2_000);
        let of_1 = open.iter().filter(|lease| lease.server().name == "1").count();
        assert!(
            (100..300).contains(&of_1),
            "a tenth of its half, though it has the fewest in flight: {of_1}"
        );
        drop(open);
        let busy: Vec<Lease> =
            (0..50).map(|_| table.find("1").unwrap().lease(Moment::START).unwrap()).collect();
        let behind = (0..500).filter(|_| all(&table, &mut random, 1)[0].server().name == "1").count();
        assert!(behind <= 3, "it is behind: {behind} of 500");
        drop(busy);
        table.set_health(&table.find("0").unwrap(), Health::Down);
        assert!(all(&table, &mut random, 50).iter().all(|lease| lease.server().name == "1"));
    }

    #[test]
    fn a_note_says_that_a_server_is_in_slow_start() {
        let table = table(Algorithm::Dynamic, 3);
        comes_up(&table, "2");
        let (mut random, turn) = (Random::seeded(1), AtomicU64::new(0));
        let (mut chosen, mut passed_over) = (0, 0);
        for key in 0..1_000 {
            let mut note = Note::of(Algorithm::Dynamic);
            let lease = choose(&table, &mut random, &turn, key, 3, &mut note);
            let picked = note.picked.unwrap();
            assert_eq!(picked.server, lease.server().name);
            chosen += usize::from(picked.why.name() == "slow_start");
            assert_eq!(picked.why.name() == "slow_start", picked.server == "2");
            let is_spared = |why: &Exclusion| why.name() == "slow_start";
            passed_over +=
                note.excluded.iter().filter(|one| one.server == "2" && is_spared(&one.why)).count();
        }
        assert!((10..100).contains(&chosen) && chosen + passed_over == 1_000, "{chosen} and {passed_over}");
    }
}
