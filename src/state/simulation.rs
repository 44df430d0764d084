//! A simulation, for tests only: requests on servers that fail, hang and recover, under virtual time and from a seed.
//! The table, the servers and all policies are the real ones; only sockets and threads are replaced.

use super::config::ServerSpec;
use super::server::Lease;
use super::table::Table;
use crate::base::ids::PoolId;
use crate::base::random::Random;
use crate::base::time::Moment;
use crate::policy::health::{self, Ejection, Event, Health, Others, Record, Rules};
use crate::policy::outlier::Outliers;
use crate::policy::pick::{Algorithm, Draw, Slot, Weight};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::time::Duration;

/// The behaviour of a server.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Does {
    /// 200 after this many ms, plus or minus a tenth.
    Work(u64),
    /// This status immediately.
    Fail(u16),
    /// Never responds.
    Hang,
    /// It accepts no connection.
    Refuse,
}

/// The arrival of requests.
#[derive(Clone, Copy, Debug)]
enum Load {
    /// This many clients, each with one request at a time.
    Clients(usize),
    /// This many requests a second, independent of the responses.
    PerSecond(u64),
}

/// How long a client waits for a response.
const CLIENT_TIMEOUT_US: u64 = 3_000_000;
const AT_ONCE_US: u64 = 300;
const MS: u64 = 1_000;

struct World {
    now_us: u64,
    next_us: u64,
    random: Random,
    table: Table,
    does: Vec<Does>,
    ends: BinaryHeap<Reverse<(u64, u64)>>,
    open: HashMap<u64, Request>,
    outliers: Outliers,
    records: Vec<Record>,
    sent: u64,
    log: Vec<String>,
}

struct Request {
    lease: Lease,
    at_us: u64,
    does: Does,
}

/// The result of a phase, in percent of its requests.
#[derive(Debug)]
struct Phase {
    /// The share of each server.
    shares: Vec<f64>,
    /// Good responses.
    good: f64,
}

impl World {
    fn new(algorithm: Algorithm, servers: usize) -> Self {
        let spec = |port: usize| ServerSpec {
            name: format!("s{port}"),
            address: format!("127.0.0.1:{}", port + 1).parse().unwrap(),
            weight: Weight(1),
            backup: false,
            max_in_flight: None,
        };
        let rules = Rules { enabled: false, ..Rules::default() };
        World {
            now_us: 0,
            next_us: 0,
            random: Random::seeded(11),
            table: Table::new(algorithm, false, None, &(0..servers).map(spec).collect::<Vec<_>>()),
            does: vec![Does::Work(10); servers],
            ends: BinaryHeap::new(),
            open: HashMap::new(),
            outliers: Outliers::default(),
            records: vec![Record::new(&rules, Moment::START); servers],
            sent: 0,
            log: Vec::new(),
        }
    }

    /// The time until the last ejection is over, in s, rounded up.
    fn ejected_for_s(&self) -> u64 {
        let ends = self.records.iter().map(|record| match record.health {
            Health::Ejected { until } => until.since(self.now()).as_secs() + 1,
            _ => 0,
        });
        ends.max().unwrap_or(0)
    }

    fn now(&self) -> Moment {
        Moment::from_nanos(self.now_us * 1_000)
    }

    /// Runs for this long with servers that behave like this. A server that hung and recovers responds to all its
    /// requests.
    fn run(&mut self, does: &[Does], load: Load, seconds: u64) -> Phase {
        self.does = does.to_vec();
        let released = self.open.iter().filter(|(_, request)| request.does == Does::Hang);
        let released = released.filter(|(_, request)| does[at(&request.lease)] != Does::Hang);
        let released: Vec<_> = released.map(|(number, _)| *number).collect();
        for number in released {
            self.open.get_mut(&number).unwrap().does = Does::Work(0);
            self.ends.push(Reverse((self.now_us + self.random.below(1_000) as u64, number)));
        }
        let until = self.now_us + seconds * 1_000_000;
        self.next_us = self.now_us;
        let (mut counts, mut good) = (vec![0.0; does.len()], 0.0);
        while self.now_us < until {
            let due = match load {
                Load::Clients(clients) => self.open.len() < clients,
                Load::PerSecond(_) => self.ends.peek().is_none_or(|Reverse((end, _))| self.next_us <= *end),
            };
            if due {
                if let Load::PerSecond(rate) = load {
                    self.now_us = self.now_us.max(self.next_us);
                    self.next_us += 1_000_000 / rate;
                }
                counts[self.begin()] += 1.0;
            } else if self.end() {
                good += 1.0;
            }
            self.look();
        }
        let total: f64 = counts.iter().sum();
        Phase {
            shares: counts.iter().map(|count| count * 100.0 / total).collect(),
            good: good * 100.0 / total,
        }
    }

    fn begin(&mut self) -> usize {
        let (now, snapshot) = (self.now(), self.table.snapshot());
        let snapshot = snapshot.pool(PoolId(0));
        let slots = (0..).map(Slot).zip(&snapshot.ready);
        let candidates: Vec<_> = slots.map(|(slot, server)| server.candidate(slot, now)).collect();
        self.sent += 1;
        let random = self.random.number();
        let draw = Draw { random, turn: self.sent, key: random, schedule: &snapshot.schedule };
        let slot = (snapshot.pick)(&candidates, draw).unwrap();
        let lease = snapshot.ready[slot.0 as usize].lease(now).unwrap();
        let server = at(&lease);
        let does = self.does[server];
        let long = match does {
            Does::Work(ms) => ms * MS + self.random.below((ms * MS / 10) as usize + 1) as u64,
            Does::Fail(_) | Does::Refuse => AT_ONCE_US,
            Does::Hang => CLIENT_TIMEOUT_US,
        };
        self.ends.push(Reverse((self.now_us + long, self.sent)));
        self.open.insert(self.sent, Request { lease, at_us: self.now_us, does });
        server
    }

    /// Handles the next end of a request. Returns whether it was a good response.
    fn end(&mut self) -> bool {
        let Reverse((end, number)) = self.ends.pop().unwrap();
        self.now_us = self.now_us.max(end);
        let Some(Request { lease, at_us, does }) = self.open.remove(&number) else { return false };
        let (took, now) = (Duration::from_micros(self.now_us - at_us), self.now());
        match does {
            Does::Work(_) => lease.responded(200, took, now),
            Does::Fail(status) => lease.responded(status, took, now),
            Does::Hang => {}
            Does::Refuse => {
                lease.server().fails(now);
                self.learn(at(&lease), Event::RequestFailed);
            }
        }
        matches!(does, Does::Work(_))
    }

    /// What the health thread does.
    fn look(&mut self) {
        let now = self.now();
        if now < self.outliers.next_look() {
            return;
        }
        let snapshot = self.table.snapshot();
        let totals: Vec<_> =
            snapshot.pool(PoolId(0)).ready.iter().map(|server| (server.id, server.totals())).collect();
        let margin = Ejection::default().error_margin_percent;
        for (id, outlier) in self.outliers.look(&totals, margin, now) {
            self.learn(id.0 as usize, Event::FailsMore(outlier));
        }
        (0..self.records.len()).for_each(|server| self.learn(server, Event::Tick));
    }

    fn learn(&mut self, server: usize, event: Event) {
        let is_out = |record: &Record| matches!(record.health, Health::Ejected { .. });
        let ejected =
            self.records.iter().enumerate().filter(|(at, record)| *at != server && is_out(record)).count();
        let servers = self.records.len();
        let others = Others { servers, ejected, is_another_ready: ejected + 1 < servers };
        let rules = Rules { enabled: false, ..Rules::default() };
        let now = self.now();
        let (record, change) =
            health::after(self.records[server], event, &rules, &Ejection::default(), others, now);
        self.records[server] = record;
        if let Some(change) = change {
            self.log.push(format!("{} ms, s{server}: {}", self.now_us / MS, change.why));
            self.table.set_health(&self.table.snapshot().servers[server], change.to);
        }
    }
}

/// The index of the server of this lease.
fn at(lease: &Lease) -> usize {
    lease.server().id.0 as usize
}

const BY_LOAD: [Algorithm; 3] = [Algorithm::Dynamic, Algorithm::LeastConnections, Algorithm::RandomTwo];
const LOADS: [Load; 5] =
    [Load::Clients(1), Load::Clients(16), Load::Clients(100), Load::PerSecond(5), Load::PerSecond(20)];

/// The first servers misbehave for a while and then recover. `most` limits their share of the traffic in the first 3 s
/// and afterwards, in percent; 5 s after ejections have ended they must have their fair share.
fn check(good: Does, bad: Does, bad_ones: usize, servers: usize, loads: &[Load], most: [f64; 2]) {
    for (algorithm, load) in
        BY_LOAD.into_iter().flat_map(|algorithm| loads.iter().map(move |load| (algorithm, *load)))
    {
        let mut world = World::new(algorithm, servers);
        let well = vec![good; servers];
        let mut ill = well.clone();
        ill[..bad_ones].fill(bad);
        world.run(&well, load, 5);
        let phases = [world.run(&ill, load, 3), world.run(&ill, load, 25)];
        world.run(&well, load, 5 + world.ejected_for_s());
        let back = world.run(&well, load, 5);
        let of_bad = |phase: &Phase| phase.shares[..bad_ones].iter().sum::<f64>();
        let fair = 100.0 * bad_ones as f64 / servers as f64;
        let case = format!(
            "{algorithm:?} {load:?}, {bad_ones} {bad:?}: {phases:.1?}, then {back:.1?}, {:#?}",
            world.log
        );
        assert!(phases.iter().zip(most).all(|(phase, most)| of_bad(phase) <= most), "{case}");
        assert!(of_bad(&back) > fair / 2.0 && back.good > 90.0, "{case}");
        let is_outlier = world.log.iter().any(|line| line.contains("5xx"));
        assert_eq!(is_outlier, matches!(bad, Does::Fail(_)), "{case}");
    }
}

#[test]
fn a_server_that_fails_at_once_gets_less_than_its_share_and_is_ejected() {
    check(Does::Work(10), Does::Fail(500), 1, 3, &LOADS, [25.0, 20.0]);
    check(Does::Work(200), Does::Fail(503), 1, 3, &LOADS, [25.0, 20.0]);
    check(Does::Work(10), Does::Fail(502), 1, 2, &LOADS, [25.0, 20.0]);
    check(Does::Work(10), Does::Fail(500), 2, 4, &LOADS, [40.0, 25.0]);
    // Until the first of its good responses could have arrived, a failure weighs less than a success.
    check(Does::Work(2_000), Does::Fail(503), 1, 3, &LOADS[1..], [75.0, 20.0]);
}

#[test]
fn servers_that_take_no_connection_get_little() {
    check(Does::Work(10), Does::Refuse, 1, 3, &LOADS, [20.0, 5.0]);
}

#[test]
fn a_server_that_hangs_holds_few_requests_back() {
    check(Does::Work(20), Does::Hang, 1, 3, &LOADS[1..], [15.0, 15.0]);
    check(Does::Work(20), Does::Hang, 2, 4, &LOADS[1..], [35.0, 25.0]);
    check(Does::Work(500), Does::Hang, 1, 3, &LOADS[1..], [15.0, 15.0]);
}

#[test]
fn where_all_fail_none_is_ejected_and_the_shares_are_even() {
    for (algorithm, load) in BY_LOAD.into_iter().flat_map(|algorithm| LOADS.map(|load| (algorithm, load))) {
        let mut world = World::new(algorithm, 3);
        world.run(&[Does::Work(10); 3], load, 5);
        let phase = world.run(&[Does::Fail(500); 3], load, 5);
        assert!(world.log.is_empty(), "{algorithm:?} {load:?}: {:?}", world.log);
        assert!(phase.shares.iter().all(|share| *share > 20.0), "{algorithm:?} {load:?}: {phase:?}");
    }
}

#[test]
fn the_same_seed_gives_the_same_simulation() {
    let run = || {
        let mut world = World::new(Algorithm::Dynamic, 3);
        let phase = world.run(&[Does::Work(10), Does::Fail(500), Does::Refuse], Load::Clients(9), 5);
        (format!("{phase:?}"), world.log)
    };
    assert_eq!(run(), run());
}
