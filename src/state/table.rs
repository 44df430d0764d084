//! The table of servers, and the configuration that they belong to: an `Arc` of an immutable snapshot behind a private
//! `RwLock`. Readers keep the snapshot and check a version; writers build the next one as a whole. No guard leaves this
//! file (invariant 1).

use super::choose::Shadow;
use super::choose::WHOLE_UP_TO;
use super::config::{Config, ServerSpec};
use super::hashing::Hashing;
use super::live::Live;
use super::merge::{Merged, merge};
use super::server::{Admits, Mode, Server};
use super::session::{ByTag, Sticky};
use crate::base::ids::{ByPool, PoolId, ServerId};
use crate::base::time;
use crate::policy::fail_open;
use crate::policy::health::Health;
use crate::policy::pick::{self, Algorithm, Slot, Weight};
use crossbeam_utils::CachePadded;
use parking_lot::{Mutex, RwLock};
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// The configuration, and the servers of all its pools at one moment.
#[derive(Debug)]
pub struct Snapshot {
    /// The configuration.
    pub live: Arc<Live>,
    /// All of them, in the order in which they were added.
    pub servers: Vec<Arc<Server>>,
    pools: ByPool<Pool>,
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
    /// Those that get none.
    pub out: Vec<Arc<Server>>,
    /// Too few are left, so that `ready` has servers whose probes fail, or that are ejected.
    pub fail_open: Option<FailOpen>,
    /// The smooth weighted order of `ready`.
    pub schedule: Vec<Slot>,
    /// The algorithm.
    pub algorithm: Algorithm,
    /// With a hash algorithm: which server has which keys.
    pub hashing: Option<Hashing>,
    /// A second one that runs beside it.
    pub shadow: Option<Shadow>,
    /// Servers that keep their sessions, also those that get no new requests; empty where the pool has no sessions.
    pub sessions: ByTag,
}

/// A pool of which too few servers are left, so that the last known good ones are used as well ([`fail_open`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailOpen {
    /// Servers that are up, or have not been probed yet.
    pub left: usize,
    /// Those that are used all the same.
    pub used: usize,
    /// Seconds since 1970 when it began.
    pub since_unix: u64,
}

/// The table.
#[derive(Debug)]
pub struct Table {
    current: RwLock<Arc<Snapshot>>,
    version: CachePadded<AtomicU64>,
    members: AtomicU64,
    writing: Mutex<()>,
    next_id: AtomicU32,
}

/// A snapshot as one thread holds it, and lends to its exchanges. Its clones are counted in memory that belongs to this
/// thread: were it the snapshot's own count, all workers would write to the same cache line for every request.
#[derive(Clone, Debug)]
#[allow(clippy::redundant_allocation, reason = "the outer count belongs to one thread, the inner to all")]
pub struct View(Arc<Arc<Snapshot>>);

impl Deref for View {
    type Target = Snapshot;

    fn deref(&self) -> &Snapshot {
        &self.0
    }
}

impl View {
    /// Whether both have the same configuration.
    pub fn has_same_live(&self, other: &View) -> bool {
        Arc::ptr_eq(&self.live, &other.live)
    }
}

/// A reader's own snapshot. Getting it costs a version check while nothing changed.
#[derive(Debug)]
pub struct Cached {
    version: u64,
    view: View,
}

/// Why a server was not added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Taken {
    /// Another server has the name.
    Name,
    /// The server of this name has the address already.
    Address(String),
    /// A reload has taken the pool out.
    NoPool,
}

impl Table {
    /// The table of a configuration, with the servers of all its pools. New servers start as `Starting` if they are
    /// probed, and as `Up` if not.
    pub fn of(live: Live) -> Self {
        let live = Arc::new(live);
        let table = Table {
            current: RwLock::new(Arc::new(Snapshot::of(Arc::clone(&live), Vec::new(), None))),
            version: CachePadded::new(AtomicU64::new(0)),
            members: AtomicU64::new(0),
            writing: Mutex::new(()),
            next_id: AtomicU32::new(0),
        };
        table.change(|servers| {
            for pool in live.config.pool_ids() {
                let list = &live.config.pool(pool).list;
                servers.extend(list.iter().map(|spec| table.newcomer(&live, pool, spec)));
            }
        });
        table
    }

    /// A table with one pool; `max_in_flight` is for those without a limit of their own.
    pub fn new(algorithm: Algorithm, probed: bool, max_in_flight: Option<u32>, list: &[ServerSpec]) -> Self {
        let mut config = Config::default();
        config.servers.algorithm = algorithm;
        config.servers.health_check.rules.enabled = probed;
        config.servers.max_in_flight = max_in_flight;
        config.servers.list = list.to_vec();
        Table::of(Live::plain(config))
    }

    /// The current snapshot.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.current.read())
    }

    /// The current configuration.
    pub fn live(&self) -> Arc<Live> {
        Arc::clone(&self.current.read().live)
    }

    /// Incremented by every change of the table.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Incremented when a server is added or removed, and when the configuration changes.
    pub fn members(&self) -> u64 {
        self.members.load(Ordering::Acquire)
    }

    /// A reader's own snapshot.
    pub fn cached(&self) -> Cached {
        // The version first: a change in between is then noticed at the next check.
        let version = self.version();
        Cached { version, view: View(Arc::new(self.snapshot())) }
    }

    /// Puts another configuration in the place of the current one. Servers that stay are the same ones as before, with all
    /// that is known of them; what became of the others comes back.
    pub fn reload(&self, live: Live) -> Merged {
        let _writing = self.writing.lock();
        let (before, live) = (self.snapshot(), Arc::new(live));
        let newcomer = |pool, spec: &ServerSpec| self.newcomer(&live, pool, spec);
        let (servers, merged) = merge(&before.live.config, &live.config, &before.servers, newcomer);
        servers.iter().for_each(|server| server.set_tls(live.servers_tls(server.pool)));
        self.publish(Snapshot::of(live, servers, Some(&before)));
        self.members.fetch_add(1, Ordering::Release);
        merged
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
            let live = self.live();
            if !live.config.pool_ids().any(|known| known == pool) {
                return Err(Taken::NoPool);
            }
            let mut others = servers.iter().filter(|server| server.pool == pool);
            if others.clone().any(|server| server.name == spec.name) {
                return Err(Taken::Name);
            }
            if let Some(other) = others.find(|server| server.address == spec.address) {
                return Err(Taken::Address(other.name.clone()));
            }
            let server = self.newcomer(&live, pool, spec);
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
            server.set_admits(Admits::Nothing);
            server.set_keeps_sessions(false, None);
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
        self.judge(changes, &[]);
    }

    /// Like [`Table::set_healths`], with servers that are found to be, or not to be, among the last known good
    /// ([`fail_open`]), in the same change. Only the health thread may call this.
    pub fn judge(&self, changes: &[(&Server, Health)], known_good: &[(&Server, bool)]) {
        self.change(|_| {
            known_good.iter().for_each(|(server, is_good)| server.set_last_known_good(*is_good));
            changes.iter().for_each(|(server, health)| server.set_health(*health));
        });
    }

    fn newcomer(&self, live: &Live, pool: PoolId, spec: &ServerSpec) -> Arc<Server> {
        let id = ServerId(self.next_id.fetch_add(1, Ordering::Relaxed));
        let settings = live.config.pool(pool);
        let health = if settings.health_check.rules.enabled { Health::Starting } else { Health::Up };
        let server = Server::new(id, pool, live.config.pool_name(pool), spec, health);
        server.set_max_in_flight(spec.max_in_flight, settings.max_in_flight);
        server.set_tls(live.servers_tls(pool));
        Arc::new(server)
    }

    /// One change at a time: copy the list, change it, publish the snapshot made from it.
    fn change<T>(&self, change: impl FnOnce(&mut Vec<Arc<Server>>) -> T) -> T {
        let _writing = self.writing.lock();
        let before = self.snapshot();
        let mut servers = before.servers.clone();
        let outcome = change(&mut servers);
        self.publish(Snapshot::of(Arc::clone(&before.live), servers, Some(&before)));
        outcome
    }

    fn publish(&self, next: Snapshot) {
        *self.current.write() = Arc::new(next);
        self.version.fetch_add(1, Ordering::Release);
    }
}

impl Cached {
    /// The snapshot, renewed when the table has changed.
    pub fn look(&mut self, table: &Table) -> &View {
        if self.version != table.version() {
            *self = table.cached();
        }
        &self.view
    }

    /// The snapshot as of the last look.
    pub fn view(&self) -> &View {
        &self.view
    }
}

impl Snapshot {
    /// A pool; the default one where there is no such pool.
    pub fn pool(&self, pool: PoolId) -> &Pool {
        let found = self.find_pool(pool).or_else(|| self.find_pool(PoolId::default()));
        found.unwrap_or_else(|| unreachable!("a snapshot without a default pool"))
    }

    /// A pool; `None` where the configuration does not have it.
    pub fn find_pool(&self, pool: PoolId) -> Option<&Pool> {
        self.pools.get(pool)
    }

    /// All pools, in the order of their ids.
    pub fn pools(&self) -> impl Iterator<Item = (PoolId, &Pool)> {
        self.pools.iter()
    }

    fn of(live: Arc<Live>, servers: Vec<Arc<Server>>, before: Option<&Snapshot>) -> Self {
        let mut tiers: ByPool<Tiers> = live.config.pool_ids().map(|pool| (pool, Tiers::default())).collect();
        for server in &servers {
            match tiers.get_mut(server.pool) {
                Some(tiers) => tiers.add(server),
                None => server.set_admits(Admits::Nothing),
            }
        }
        for (pool, tiers) in tiers.iter_mut() {
            let known = before.and_then(|before| before.find_pool(pool)?.fail_open);
            tiers.fail_open(live.config.pool(pool).panic_percent, known);
        }
        for server in &servers {
            if let (Some(tiers), Some(sticky)) = (tiers.get_mut(server.pool), live.sticky(server.pool)) {
                tiers.add_session_server(server, sticky);
            }
        }
        let pool = |(id, tiers): (PoolId, &mut Tiers)| {
            let settings = live.config.pool(id);
            let choices = || Arc::clone(&live.pool(id).shadow);
            let shadow = settings.shadow.map(|algorithm| Shadow { algorithm, choices: choices() });
            let mut pool = Pool::of(std::mem::take(tiers), settings.algorithm, shadow);
            let known = before.and_then(|before| before.find_pool(id)?.hashing.as_ref());
            let hashing = || Hashing::new(&pool.ready, settings.hash.bounded_load, WHOLE_UP_TO, known);
            pool.hashing = settings.algorithm.hashes().then(hashing);
            (id, pool)
        };
        let pools = tiers.iter_mut().map(pool).collect();
        Snapshot { pools, servers, live }
    }
}

/// The servers of a pool that get traffic, by their [`tier`], and those that get none.
#[derive(Default)]
struct Tiers {
    servers: [Vec<Arc<Server>>; 4],
    out: Vec<Arc<Server>>,
    fail_open: Option<FailOpen>,
    sessions: ByTag,
}

impl Tiers {
    fn add(&mut self, server: &Arc<Server>) {
        let tier = tier(server);
        server.set_admits(if tier.is_some() { Admits::Requests } else { Admits::Nothing });
        let place = tier.map_or(&mut self.out, |tier| &mut self.servers[tier]);
        place.push(Arc::clone(server));
    }

    /// Where too few servers are left, the last known good ones are used as if they were up. Backups take over first where no
    /// other server is left: that is what they are for.
    fn fail_open(&mut self, panic_percent: u32, before: Option<FailOpen>) {
        let left = self.servers[0].len() + self.servers[1].len();
        let taken_out = |server: &&Arc<Server>| is_offered(server) && !server.is_backup();
        let primaries = left + self.out.iter().filter(taken_out).count();
        let have_backups = left == 0 && !(self.servers[2].is_empty() && self.servers[3].is_empty());
        let servers =
            if primaries > 0 { primaries } else { self.out.iter().filter(|one| is_offered(one)).count() };
        if have_backups || !fail_open::is_panic(left, servers, panic_percent) {
            return;
        }
        let mut used = self.reopen(|server| !server.is_backup() && server.health() == Health::Down);
        if left == 0 {
            let is_down = |server: &Server| server.health() == Health::Down;
            let rest: [&dyn Fn(&Server) -> bool; 3] = [&is_down, &|server| !server.is_backup(), &|_| true];
            rest.into_iter().for_each(|of| used += if used == 0 { self.reopen(of) } else { 0 });
        }
        let since_unix = before.map_or_else(time::unix_seconds, |before| before.since_unix);
        self.fail_open = (used > 0).then_some(FailOpen { left, used, since_unix });
    }

    /// Uses those of the last known good servers that are among these; returns how many.
    fn reopen(&mut self, of: impl Fn(&Server) -> bool) -> usize {
        let is_used = |server: &Arc<Server>| is_offered(server) && server.is_last_known_good() && of(server);
        let (used, out): (Vec<_>, Vec<_>) = std::mem::take(&mut self.out).into_iter().partition(is_used);
        used.iter().for_each(|server| server.set_admits(Admits::FailOpen));
        let count = used.len();
        self.out = out;
        self.servers[0].extend(used);
        count
    }

    /// A server that drains, or has no weight, keeps its sessions; one that is down or in maintenance does not.
    fn add_session_server(&mut self, server: &Arc<Server>, sticky: &Sticky) {
        let is_well = matches!(server.health(), Health::Up | Health::Starting) || server.is_fail_open();
        let keeps = is_well && server.mode() != Mode::Maint;
        server.set_keeps_sessions(keeps, sticky.settings().drain);
        if keeps {
            self.sessions.insert(sticky.tag_of(server), Arc::clone(server));
        }
    }
}

impl Pool {
    fn of(tiers: Tiers, algorithm: Algorithm, shadow: Option<Shadow>) -> Self {
        let Tiers { servers, out, fail_open, sessions } = tiers;
        let count = out.len() + servers.iter().map(Vec::len).sum::<usize>();
        let mut tiers = servers.into_iter().filter(|tier| !tier.is_empty());
        let ready = tiers.next().unwrap_or_default();
        let reserve = tiers.flatten().collect();
        let weighted: Vec<_> =
            ready.iter().enumerate().map(|(at, server)| (Slot(at as u32), server.weight())).collect();
        Pool {
            count,
            ready,
            reserve,
            out,
            fail_open,
            schedule: pick::schedule(&weighted),
            algorithm,
            hashing: None,
            shadow,
            sessions,
        }
    }
}

/// Servers that are up, then those whose first probe is not finished (trying one of them is better than rejecting the
/// request, and better than a backup: its state will be known in a moment), then backups in the same order. All others
/// get nothing.
fn tier(server: &Server) -> Option<usize> {
    if !is_offered(server) {
        return None;
    }
    let unknown = match server.health() {
        Health::Up => 0,
        Health::Starting => 1,
        Health::Down | Health::Ejected { .. } => return None,
    };
    Some(2 * usize::from(server.is_backup()) + unknown)
}

/// Whether the operator lets it have requests.
fn is_offered(server: &Server) -> bool {
    server.mode() == Mode::Ready && server.weight().0 > 0
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

    /// Servers as a letter for their health, `U`p, `D`own, `E`jected or `S`tarting, small for a backup, and `+` behind it for one
    /// of the last known good; those that then get requests first, and whether the pool fails open.
    fn check_fail_open(servers: &str, panic_percent: u32, ready: &str, fails_open: bool) {
        let marks: Vec<char> = servers.chars().collect();
        let letters: Vec<_> = marks.iter().enumerate().filter(|(_, mark)| **mark != '+').collect();
        let mut config = Config::default();
        config.servers.panic_percent = panic_percent;
        let one = |(at, letter): &(usize, &char)| {
            spec(&format!("{letter}{at}"), *at as u16 + 1, letter.is_lowercase())
        };
        config.servers.list = letters.iter().map(one).collect();
        let table = Table::of(Live::plain(config));
        let listed = table.snapshot().servers.clone();
        for (server, (at, letter)) in listed.iter().zip(&letters) {
            let health = match letter.to_ascii_uppercase() {
                'U' => Health::Up,
                'D' => Health::Down,
                'E' => Health::Ejected { until: Moment::NEVER },
                _ => Health::Starting,
            };
            table.judge(&[(server, health)], &[(server, marks.get(at + 1) == Some(&'+'))]);
        }
        let snapshot = table.snapshot();
        let pool = snapshot.pool(DEFAULT);
        let got: String = pool.ready.iter().filter_map(|server| server.name.chars().next()).collect();
        assert_eq!((&*got, pool.fail_open.is_some()), (ready, fails_open), "{servers} at {panic_percent} %");
        assert!(pool.ready.iter().all(|server| server.lease(Moment::START).is_ok()));
        assert!(pool.out.iter().all(|server| server.lease(Moment::START).is_err()));
        let anyway = listed.iter().filter(|server| server.is_fail_open());
        assert!(anyway.clone().all(|server| server.fail_open_requests() == 1));
        assert_eq!(anyway.count(), pool.fail_open.map_or(0, |told| told.used));
    }

    #[test]
    fn where_too_few_are_left_the_last_known_good_are_used() {
        check_fail_open("D+D+D", 25, "DD", true);
        check_fail_open("D+D+D", 0, "", false);
        check_fail_open("DDD", 25, "", false);
        check_fail_open("UD+D+", 25, "U", false);
        check_fail_open("UD+D+", 50, "UDD", true);
        check_fail_open("UUD+D+", 50, "UU", false);
        check_fail_open("UDDDD", 25, "U", false);
        check_fail_open("UE+E+E+E+", 50, "U", false);
        check_fail_open("D+E+", 25, "D", true);
        check_fail_open("DE+", 25, "E", true);
        check_fail_open("DE", 25, "", false);
        check_fail_open("SD+D+D+D+", 25, "DDDD", true);
        check_fail_open("SD+", 25, "S", false);
        check_fail_open("D+D+u", 25, "u", false);
        check_fail_open("D+D+d+", 25, "DD", true);
        check_fail_open("DDd+", 25, "d", true);
        check_fail_open("e+DD", 25, "e", true);
        check_fail_open("d+d+", 25, "dd", true);
    }

    #[test]
    fn what_an_operator_took_out_stays_out_of_a_pool_that_fails_open() {
        let table =
            Table::new(Algorithm::RoundRobin, true, None, &[spec("a", 1, false), spec("b", 2, false)]);
        let (a, b) = (table.find("a").unwrap(), table.find("b").unwrap());
        table.judge(&[(&a, Health::Down), (&b, Health::Down)], &[(&a, true), (&b, true)]);
        let count = || table.snapshot().pool(DEFAULT).ready.len();
        assert_eq!(count(), 2);
        for (mode, weight) in [(Mode::Drain, 1), (Mode::Maint, 1), (Mode::Ready, 0)] {
            table.adjust(&a, Some(mode), Some(Weight(weight)));
            assert_eq!((count(), a.lease(Moment::START).is_err()), (1, true), "{mode:?} {weight}");
            let told = table.snapshot().pool(DEFAULT).fail_open.unwrap();
            assert_eq!((told.left, told.used), (0, 1), "the rest of the pool goes on");
        }
        table.adjust(&b, Some(Mode::Maint), None);
        assert_eq!((count(), table.snapshot().pool(DEFAULT).fail_open), (0, None));
        table.judge(&[(&b, Health::Up)], &[]);
        table.adjust(&b, Some(Mode::Ready), None);
        assert_eq!((count(), b.is_fail_open()), (1, false));
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
