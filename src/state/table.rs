//! The table of servers: an `Arc` of an immutable snapshot behind a private `RwLock`. Readers keep the snapshot and
//! check a version; writers build the next one as a whole. No guard leaves this file (invariant 1).

use super::config::{self, Config, DEFAULT_POOL, ServerSpec};
use super::server::{Mode, Server};
use crate::base::ids::{PoolId, ServerId};
use crate::policy::health::Health;
use crate::policy::pick::{self, Algorithm, Slot, Weight};
use crossbeam_utils::CachePadded;
use parking_lot::{Mutex, RwLock};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// The servers of all pools at one moment.
#[derive(Debug)]
pub struct Snapshot {
    /// All of them, in the order in which they were added.
    pub servers: Vec<Arc<Server>>,
    /// The default pool first.
    pools: Vec<Pool>,
}

/// A pool at one moment: what of it gets traffic, and how one is chosen.
#[derive(Debug)]
pub struct Pool {
    /// All of its servers, whether they get traffic or not.
    pub count: usize,
    /// Those that get traffic: the first tier that is not empty. A [`Slot`] is an index into it.
    pub ready: Vec<Arc<Server>>,
    /// The tiers behind it, for a retry that has tried all of `ready`.
    pub reserve: Vec<Arc<Server>>,
    /// The smooth weighted order of `ready`.
    pub schedule: Vec<Slot>,
    /// The algorithm.
    pub algorithm: Algorithm,
}

/// The table.
#[derive(Debug)]
pub struct Table {
    current: RwLock<Arc<Snapshot>>,
    version: CachePadded<AtomicU64>,
    members: AtomicU64,
    writing: Mutex<()>,
    next_id: AtomicU32,
    rules: Vec<PoolRules>,
}

/// How the servers of a pool are chosen, and what new ones start with.
#[derive(Clone, Debug)]
struct PoolRules {
    name: String,
    algorithm: Algorithm,
    newcomers: Health,
    max_in_flight: Option<u32>,
}

/// A reader's own snapshot. Getting it costs a version check while nothing changed.
#[derive(Debug)]
pub struct Cached {
    version: u64,
    snapshot: Arc<Snapshot>,
}

/// Why a server was not added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Taken {
    /// Another server has the name.
    Name,
    /// The server of this name has the address already.
    Address(String),
}

impl Table {
    /// The table of a configuration, with the servers of all its pools. New servers start as `Starting` if they are
    /// probed, and as `Up` if not.
    pub fn of(config: &Config) -> Self {
        let rules = |pool: PoolId| PoolRules {
            name: config.pool_name(pool).to_owned(),
            ..PoolRules::of(config.pool(pool))
        };
        let table = Table::empty(config.pool_ids().map(rules).collect());
        table.change(|servers| {
            for pool in config.pool_ids() {
                let list = &config.pool(pool).list;
                servers.extend(list.iter().map(|spec| table.newcomer(pool, spec)));
            }
        });
        table
    }

    /// A table with one pool; `max_in_flight` is for those without a limit of their own.
    pub fn new(algorithm: Algorithm, probed: bool, max_in_flight: Option<u32>, list: &[ServerSpec]) -> Self {
        let newcomers = if probed { Health::Starting } else { Health::Up };
        let rules = PoolRules { name: DEFAULT_POOL.to_owned(), algorithm, newcomers, max_in_flight };
        let table = Table::empty(vec![rules]);
        let pool = PoolId::default();
        table.change(|servers| servers.extend(list.iter().map(|spec| table.newcomer(pool, spec))));
        table
    }

    fn empty(rules: Vec<PoolRules>) -> Self {
        Table {
            current: RwLock::new(Arc::new(Snapshot::of(Vec::new(), &rules))),
            version: CachePadded::new(AtomicU64::new(0)),
            members: AtomicU64::new(0),
            writing: Mutex::new(()),
            next_id: AtomicU32::new(0),
            rules,
        }
    }

    /// The current snapshot.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.current.read())
    }

    /// Incremented by every change of the table.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Incremented when a server is added or removed, and by no other change.
    pub fn members(&self) -> u64 {
        self.members.load(Ordering::Acquire)
    }

    /// A reader's own snapshot.
    pub fn cached(&self) -> Cached {
        // The version first: a change in between is then noticed at the next check.
        let version = self.version();
        Cached { version, snapshot: self.snapshot() }
    }

    /// The server of this name in the default pool.
    pub fn find(&self, name: &str) -> Option<Arc<Server>> {
        self.find_in(PoolId::default(), name)
    }

    /// The server of this name in that pool.
    pub fn find_in(&self, pool: PoolId, name: &str) -> Option<Arc<Server>> {
        self.snapshot().servers.iter().find(|server| server.pool == pool && server.name == name).cloned()
    }

    /// Adds a server to a pool.
    pub fn add(&self, pool: PoolId, spec: &ServerSpec) -> Result<Arc<Server>, Taken> {
        self.change(|servers| {
            let mut others = servers.iter().filter(|server| server.pool == pool);
            if others.clone().any(|server| server.name == spec.name) {
                return Err(Taken::Name);
            }
            if let Some(other) = others.find(|server| server.address == spec.address) {
                return Err(Taken::Address(other.name.clone()));
            }
            let server = self.newcomer(pool, spec);
            servers.push(Arc::clone(&server));
            Ok(server)
        })
        .inspect(|_| _ = self.members.fetch_add(1, Ordering::Release))
    }

    /// Takes a server out for good. Requests in flight keep their lease.
    pub fn remove(&self, pool: PoolId, name: &str) -> Option<Arc<Server>> {
        self.change(|servers| {
            let at = servers.iter().position(|server| server.pool == pool && server.name == name)?;
            let server = servers.remove(at);
            server.set_open(false);
            Some(server)
        })
        .inspect(|_| _ = self.members.fetch_add(1, Ordering::Release))
    }

    /// Changes a server's mode or weight for the operator. Both take effect with one snapshot.
    pub fn adjust(&self, server: &Server, mode: Option<Mode>, weight: Option<Weight>) {
        self.change(|_| {
            mode.into_iter().for_each(|mode| server.set_mode(mode));
            weight.into_iter().for_each(|weight| server.set_weight(weight));
        });
    }

    /// Changes the health of a server. Only the health thread may call this (invariant 7).
    pub fn set_health(&self, server: &Server, health: Health) {
        self.set_healths(&[(server, health)]);
    }

    /// Like [`Table::set_health`], for many servers in one change: a change takes time proportional to the size of the
    /// table.
    pub fn set_healths(&self, changes: &[(&Server, Health)]) {
        self.change(|_| changes.iter().for_each(|(server, health)| server.set_health(*health)));
    }

    fn newcomer(&self, pool: PoolId, spec: &ServerSpec) -> Arc<Server> {
        let id = ServerId(self.next_id.fetch_add(1, Ordering::Relaxed));
        let rules = &self.rules[usize::from(pool.0)];
        let most = spec.max_in_flight.or(rules.max_in_flight);
        let spec = ServerSpec { max_in_flight: most, ..spec.clone() };
        Arc::new(Server::new(id, pool, &rules.name, &spec, rules.newcomers))
    }

    /// One change at a time: copy the list, change it, publish the snapshot made from it.
    fn change<T>(&self, change: impl FnOnce(&mut Vec<Arc<Server>>) -> T) -> T {
        let _writing = self.writing.lock();
        let mut servers = self.snapshot().servers.clone();
        let outcome = change(&mut servers);
        let next = Arc::new(Snapshot::of(servers, &self.rules));
        *self.current.write() = next;
        self.version.fetch_add(1, Ordering::Release);
        outcome
    }
}

impl Cached {
    /// The snapshot, renewed when the table has changed.
    pub fn look(&mut self, table: &Table) -> &Snapshot {
        if self.version != table.version() {
            *self = table.cached();
        }
        &self.snapshot
    }
}

impl Snapshot {
    /// A pool; the default one where there is no such pool.
    pub fn pool(&self, pool: PoolId) -> &Pool {
        // There is always a default pool.
        self.pools.get(usize::from(pool.0)).unwrap_or(&self.pools[0])
    }

    /// All pools, in the order of their ids.
    pub fn pools(&self) -> impl Iterator<Item = (PoolId, &Pool)> {
        (0..).map(PoolId).zip(&self.pools)
    }

    fn of(servers: Vec<Arc<Server>>, rules: &[PoolRules]) -> Self {
        let mut tiers: Vec<[Vec<Arc<Server>>; 4]> = Vec::new();
        tiers.resize_with(rules.len(), Default::default);
        let mut counts = vec![0; rules.len()];
        for server in &servers {
            counts[usize::from(server.pool.0)] += 1;
            let tier = tier(server);
            server.set_open(tier.is_some());
            if let Some(tier) = tier {
                tiers[usize::from(server.pool.0)][tier].push(Arc::clone(server));
            }
        }
        let pools = tiers.into_iter().zip(counts).zip(rules);
        let pools = pools.map(|((tiers, count), rules)| Pool::of(tiers, count, rules.algorithm));
        Snapshot { pools: pools.collect(), servers }
    }
}

impl Pool {
    fn of(tiers: [Vec<Arc<Server>>; 4], count: usize, algorithm: Algorithm) -> Self {
        let mut tiers = tiers.into_iter().filter(|tier| !tier.is_empty());
        let ready = tiers.next().unwrap_or_default();
        let reserve = tiers.flatten().collect();
        let weighted: Vec<_> =
            ready.iter().enumerate().map(|(at, server)| (Slot(at as u32), server.weight())).collect();
        Pool { count, ready, reserve, schedule: pick::schedule(&weighted), algorithm }
    }
}

impl PoolRules {
    fn of(servers: &config::Servers) -> Self {
        PoolRules {
            name: String::new(),
            algorithm: servers.algorithm,
            newcomers: if servers.health_check.rules.enabled { Health::Starting } else { Health::Up },
            max_in_flight: servers.max_in_flight,
        }
    }
}

/// Servers that are up, then those whose first probe is not finished (trying one of them is better than rejecting the
/// request, and better than a backup: its state will be known in a moment), then backups in the same order. All others
/// get nothing.
fn tier(server: &Server) -> Option<usize> {
    if server.mode() != Mode::Ready || server.weight().0 == 0 {
        return None;
    }
    let unknown = match server.health() {
        Health::Up => 0,
        Health::Starting => 1,
        Health::Down | Health::Ejected { .. } => return None,
    };
    Some(2 * usize::from(server.backup) + unknown)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::time::Moment;

    const DEFAULT: PoolId = PoolId(0);

    fn spec(name: &str, port: u16, backup: bool) -> ServerSpec {
        let address = format!("127.0.0.1:{port}").parse().unwrap();
        ServerSpec { name: name.into(), address, weight: Weight(1), backup, max_in_flight: None }
    }

    fn ready(table: &Table) -> Vec<String> {
        table.snapshot().pool(DEFAULT).ready.iter().map(|server| server.name.clone()).collect()
    }

    #[test]
    fn tiers_follow_health_and_mode() {
        let list = [spec("a", 1, false), spec("b", 2, false), spec("c", 3, true)];
        let table = Table::new(Algorithm::Dynamic, true, None, &list);
        assert_eq!(ready(&table), ["a", "b"], "nothing is known: any may be tried");
        let [a, b, c] = ["a", "b", "c"].map(|name| table.find(name).unwrap());
        table.set_health(&c, Health::Up);
        assert_eq!(ready(&table), ["a", "b"], "what will be known in a moment comes before a backup");
        assert_eq!(table.snapshot().pool(DEFAULT).reserve.len(), 1);
        table.set_health(&a, Health::Up);
        table.set_health(&b, Health::Up);
        assert_eq!(ready(&table), ["a", "b"]);
        table.adjust(&a, Some(Mode::Drain), None);
        table.set_health(&b, Health::Down);
        assert_eq!(ready(&table), ["c"]);
        let lease = |server: &Arc<Server>| server.lease(Moment::START);
        assert!(lease(&a).is_err() && lease(&b).is_err() && lease(&c).is_ok());
        table.adjust(&a, Some(Mode::Ready), Some(Weight(0)));
        table.set_health(&c, Health::Down);
        assert_eq!(ready(&table), [""; 0]);
    }

    #[test]
    fn names_and_addresses_are_unique() {
        let table = Table::new(Algorithm::Dynamic, false, None, &[spec("a", 1, false)]);
        assert_eq!(table.add(DEFAULT, &spec("a", 2, false)).unwrap_err(), Taken::Name);
        assert_eq!(table.add(DEFAULT, &spec("b", 1, false)).unwrap_err(), Taken::Address("a".into()));
        assert_eq!(table.add(DEFAULT, &spec("b", 2, false)).unwrap().id, ServerId(1));
        assert!(table.remove(DEFAULT, "a").is_some() && table.remove(DEFAULT, "a").is_none());
        assert_eq!(
            table.add(DEFAULT, &spec("a", 1, false)).unwrap().id,
            ServerId(2),
            "ids are not given twice"
        );
    }

    #[test]
    fn a_cached_snapshot_notices_changes() {
        let table = Table::new(Algorithm::RoundRobin, false, None, &[spec("a", 1, false)]);
        let mut cached = table.cached();
        assert_eq!(cached.look(&table).pool(DEFAULT).ready.len(), 1);
        table.add(DEFAULT, &spec("b", 2, false)).unwrap();
        assert_eq!(cached.look(&table).pool(DEFAULT).ready.len(), 2);
        assert_eq!(cached.look(&table).pool(DEFAULT).schedule.len(), 2);
    }
}
