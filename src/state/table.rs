//! The table of servers, and the configuration that they belong to: an `Arc` of an immutable snapshot behind a private
//! `RwLock`. Readers keep the snapshot and check a version; writers build the next one as a whole. No guard leaves this
//! file (invariant 1).

mod members;
mod pool;
mod tiers;

pub use members::Membership;
pub use pool::{Pool, TierShare};
pub use tiers::FailOpen;

use super::choose::Shadow;
use super::config::{Config, ServerSpec};
use super::live::Live;
use super::merge::{Merged, merge};
use super::server::{Admits, AgentWord, Mode, Role, Server};
use super::weights::weigh;
use crate::base::ids::{ByPool, PoolId, ServerId};
use crate::policy::health::Health;
use crate::policy::limit::MaxInFlight;
use crate::policy::pick::{Algorithm, Weight};
use crossbeam_utils::CachePadded;
use parking_lot::{Mutex, RwLock};
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use tiers::Tiers;

/// The configuration, and the servers of all its pools at one moment.
#[derive(Debug)]
pub struct Snapshot {
    /// The configuration.
    pub live: Arc<Live>,
    /// All of them, in the order in which they were added.
    pub servers: Vec<Arc<Server>>,
    /// Names whose addresses are all servers; these are among `servers`.
    pub names: Vec<Arc<Server>>,
    pools: ByPool<Pool>,
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
            current: RwLock::new(Arc::new(Snapshot::of(Arc::clone(&live), Vec::new(), Vec::new(), None))),
            version: CachePadded::new(AtomicU64::new(0)),
            members: AtomicU64::new(0),
            writing: Mutex::new(()),
            next_id: AtomicU32::new(0),
        };
        table.change_all(|servers, names| {
            for pool in live.config.pool_ids() {
                for spec in &live.config.pool(pool).list {
                    let list = if spec.resolves_all() { &mut *names } else { &mut *servers };
                    list.push(table.newcomer(&live, pool, spec));
                }
            }
        });
        table
    }

    /// A table with one pool; `max_in_flight` is for those without a limit of their own.
    pub fn new(
        algorithm: Algorithm,
        probed: bool,
        max_in_flight: Option<MaxInFlight>,
        list: &[ServerSpec],
    ) -> Self {
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
        let newcomer = |pool, spec: &ServerSpec| self.late_newcomer(&live, pool, spec, &before);
        let said = |name: &Arc<Server>| (Arc::clone(name), (name.mode(), name.weight()));
        let names_before: Vec<_> = before.names.iter().map(said).collect();
        let (listed, mut merged) = merge(&before.live.config, &live.config, &before.listed(), newcomer);
        let members = self.members_after(&live, &before, &listed, &merged.added);
        members::follow_names(&names_before, &members, &live.config);
        merged.remove_members(&before, &listed, &members);
        let (names, mut servers): (Vec<_>, Vec<_>) =
            listed.into_iter().partition(|one| *one.role() == Role::Name);
        servers.extend(members);
        for server in &servers {
            server.set_tls(live.servers_tls(server.pool));
            server.set_connecting(live.config.pool(server.pool).connecting);
        }
        self.publish(Snapshot::of(live, servers, names, Some(&before)));
        self.members.fetch_add(1, Ordering::Release);
        merged
    }

    /// The server of this name in the default pool.
    pub fn find(&self, name: &str) -> Option<Arc<Server>> {
        self.find_in(PoolId::default(), name)
    }

    /// The server of this name in that pool, or what stands for all members of a name.
    pub fn find_in(&self, pool: PoolId, name: &str) -> Option<Arc<Server>> {
        let snapshot = self.snapshot();
        let mut all = snapshot.names.iter().chain(&snapshot.servers);
        all.find(|server| server.pool == pool && server.name == name).cloned()
    }

    /// Adds a server to a pool.
    pub fn add(&self, pool: PoolId, spec: &ServerSpec) -> Result<Arc<Server>, Taken> {
        self.change_all(|servers, names| {
            let live = self.live();
            if !live.config.pool_ids().any(|known| known == pool) {
                return Err(Taken::NoPool);
            }
            let mut others = names.iter().chain(&*servers).filter(|server| server.pool == pool);
            if others.clone().any(|server| server.name == spec.name) {
                return Err(Taken::Name);
            }
            // A name stands for its members.
            if let Some(other) = others.find(|one| one.address == spec.address && !one.is_member()) {
                return Err(Taken::Address(other.name.clone()));
            }
            let server = self.late_newcomer(&live, pool, spec, &self.snapshot());
            let list = if spec.resolves_all() { names } else { servers };
            list.push(Arc::clone(&server));
            Ok(server)
        })
        .inspect(|_| _ = self.members.fetch_add(1, Ordering::Release))
    }

    /// Takes a server out for good, or a name with its members, which are returned behind it. Requests in flight keep their
    /// lease. A member alone, which the next look-up would bring back, cannot be taken out.
    pub fn remove(&self, pool: PoolId, name: &str) -> Vec<Arc<Server>> {
        let gone = self.change_all(|servers, names| {
            let is_it = |one: &Arc<Server>| one.pool == pool && one.name == name && !one.is_member();
            let (mut gone, rest): (Vec<_>, Vec<_>) = std::mem::take(names).into_iter().partition(is_it);
            *names = rest;
            let goes = |one: &Arc<Server>| is_it(one) || gone.iter().any(|name| one.is_member_of(name));
            let (out, rest): (Vec<_>, Vec<_>) = std::mem::take(servers).into_iter().partition(goes);
            *servers = rest;
            gone.extend(out);
            for server in &gone {
                server.set_admits(Admits::Nothing);
                server.set_keeps_sessions(false, None);
            }
            gone
        });
        self.members.fetch_add(1, Ordering::Release);
        gone
    }

    /// Changes a server's mode or weight for the operator, or those of all members of a name. Both take effect with one snapshot.
    pub fn adjust(&self, server: &Server, mode: Option<Mode>, weight: Option<Weight>) {
        self.change_all(|servers, names| {
            if let Role::Member { at, .. } = server.role() {
                let name = names.iter().find(|name| server.is_member_of(name));
                name.into_iter().for_each(|name| name.say_of_member(*at, mode, weight));
            }
            server.say_of_all_members(mode, weight);
            let members = servers.iter().filter(|other| other.is_member_of(server)).map(|member| &**member);
            for server in std::iter::once(server).chain(members) {
                mode.into_iter().for_each(|mode| server.set_mode(mode));
                weight.into_iter().for_each(|weight| server.set_weight(weight));
            }
        });
    }

    /// Takes over what the agents of servers say; `None`: it has none any more. Only the health thread may call this, and
    /// the start.
    pub fn advise(&self, words: Vec<(&Server, Option<AgentWord>)>) {
        self.change(|_| words.into_iter().for_each(|(server, word)| server.set_agent(word)));
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
    /// ([`crate::policy::fail_open`]), in the same change. Only the health thread may call this.
    pub fn judge(&self, changes: &[(&Server, Health)], known_good: &[(&Server, bool)]) {
        self.change(|_| {
            known_good.iter().for_each(|(server, is_good)| server.set_last_known_good(*is_good));
            changes.iter().for_each(|(server, health)| server.set_health(*health));
        });
    }

    /// One that joins others: it begins slowly.
    fn late_newcomer(&self, live: &Live, pool: PoolId, spec: &ServerSpec, before: &Snapshot) -> Arc<Server> {
        let server = self.newcomer(live, pool, spec);
        if before.find_pool(pool).is_some_and(|pool| pool.count > 0) {
            server.slow_start_is_due();
        }
        server
    }

    fn newcomer(&self, live: &Live, pool: PoolId, spec: &ServerSpec) -> Arc<Server> {
        let id = ServerId(self.next_id.fetch_add(1, Ordering::Relaxed));
        let settings = live.config.pool(pool);
        let health = if settings.health_check.rules.enabled { Health::Starting } else { Health::Up };
        let server = Server::new(id, pool, live.config.pool_name(pool), spec, health);
        server.set_max_in_flight(spec.max_in_flight, settings.limit_of_each());
        server.set_slow_start(spec.slow_start, settings.slow_start);
        server.set_tls(live.servers_tls(pool));
        server.set_connecting(settings.connecting);
        Arc::new(server)
    }

    /// One change at a time: copy the list, change it, publish the snapshot made from it.
    fn change<T>(&self, change: impl FnOnce(&mut Vec<Arc<Server>>) -> T) -> T {
        self.change_all(|servers, _| change(servers))
    }

    /// The same for the servers and the names.
    fn change_all<T>(&self, change: impl FnOnce(&mut Vec<Arc<Server>>, &mut Vec<Arc<Server>>) -> T) -> T {
        let _writing = self.writing.lock();
        let before = self.snapshot();
        let (mut servers, mut names) = (before.servers.clone(), before.names.clone());
        let outcome = change(&mut servers, &mut names);
        self.publish(Snapshot::of(Arc::clone(&before.live), servers, names, Some(&before)));
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

    fn of(
        live: Arc<Live>,
        servers: Vec<Arc<Server>>,
        names: Vec<Arc<Server>>,
        before: Option<&Snapshot>,
    ) -> Self {
        weigh(&servers);
        for server in servers.iter().filter(|server| live.config.pool_ids().all(|pool| pool != server.pool)) {
            server.set_admits(Admits::Nothing);
        }
        let pool = |id: PoolId| {
            let settings = live.config.pool(id);
            let own = servers.iter().filter(|server| server.pool == id);
            let before = before.and_then(|before| before.find_pool(id));
            let mut tiers = Tiers::of(own.clone(), live.config.listen.zone.as_deref());
            tiers.fail_open(settings.panic_percent, before.and_then(|before| before.fail_open));
            if let Some(sticky) = live.sticky(id) {
                own.for_each(|server| tiers.add_session_server(server, sticky));
            }
            let choices = || Arc::clone(&live.pool(id).shadow);
            let shadow = settings.shadow.map(|algorithm| Shadow { algorithm, choices: choices() });
            (id, Pool::of(tiers, settings, shadow, before))
        };
        let pools = live.config.pool_ids().map(pool).collect();
        Snapshot { pools, servers, names, live }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::time::Moment;
    use crate::policy::agent::{Advice, Line};

    const DEFAULT: PoolId = PoolId(0);

    pub(super) fn spec(name: &str, port: u16, backup: bool) -> ServerSpec {
        let address = format!("127.0.0.1:{port}").parse().unwrap();
        ServerSpec { backup, ..ServerSpec::new(name, address) }
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
    fn an_agent_takes_a_server_out_and_the_operator_comes_first() {
        let list = [spec("a", 1, false), spec("b", 2, false)];
        let table = Table::new(Algorithm::Dynamic, false, Some(MaxInFlight::Fixed(9)), &list);
        let a = table.find("a").unwrap();
        let says = |lines: &[&str]| {
            let with = |advice: Advice, line: &&str| advice.with(&Line::read(line.as_bytes()).unwrap());
            let advice = lines.iter().fold(Advice::default(), with);
            table.advise(vec![(&*a, Some(AgentWord { advice, ..AgentWord::default() }))]);
        };
        for (lines, expected) in [
            (&["up 50% maxconn:3"][..], &["a", "b"][..]),
            (&["drain"], &["b"]),
            (&["maint"], &["b"]),
            (&["down"], &["b"]),
            (&["0%"], &["b"]),
            (&["drain", "ready"], &["a", "b"]),
        ] {
            says(lines);
            assert_eq!(ready(&table), expected, "{lines:?}");
        }
        says(&["maxconn:3"]);
        assert_eq!(a.max_in_flight(), Some(3));
        table.adjust(&a, Some(Mode::Drain), None);
        assert_eq!(
            (ready(&table), a.mode_now()),
            (vec!["b".to_owned()], Mode::Drain),
            "though its agent is ready"
        );
        says(&["maint"]);
        assert_eq!(a.mode_now(), Mode::Drain);
        table.adjust(&a, Some(Mode::Ready), None);
        assert_eq!(a.mode_now(), Mode::Maint, "the operator has nothing against it");
        table.advise(vec![(&*a, None)]);
        assert_eq!((ready(&table).len(), a.max_in_flight()), (2, Some(9)));
    }

    #[test]
    fn names_and_addresses_are_unique() {
        let table = Table::new(Algorithm::Dynamic, false, None, &[spec("a", 1, false)]);
        assert_eq!(table.add(DEFAULT, &spec("a", 2, false)).unwrap_err(), Taken::Name);
        assert_eq!(table.add(DEFAULT, &spec("b", 1, false)).unwrap_err(), Taken::Address("a".into()));
        assert_eq!(table.add(DEFAULT, &spec("b", 2, false)).unwrap().id, ServerId(1));
        assert!(table.remove(DEFAULT, "a").len() == 1 && table.remove(DEFAULT, "a").is_empty());
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
