//! One server of the table: what it is, its state, and its statistics from live traffic. All of it is read by every
//! worker, so everything that changes is an atomic or behind a short lock.

mod agent;
mod checks;
mod lease;
mod limit;
mod load;
mod responses;
mod role;
mod sessions;
mod slow_start;

pub use agent::AgentWord;
pub use checks::{Check, CheckCounts};
pub use lease::{Lease, Rejected};
pub use limit::Pace;
pub use role::{Role, SaidOfMember};

use super::address::Address;
use super::addresses::Addresses;
use super::config::ServerSpec;
use super::config::ToServers;
use super::tls::servers::ServersTls;
use super::traffic::Traffic;
use crate::base::ids::{PoolId, ServerId};
use crate::base::time::Moment;
use crate::policy::health::Health;
use crate::policy::pick::Weight;
use crate::policy::report::Reports;
use crate::policy::utilization::Utilization;
use crossbeam_utils::CachePadded;
use limit::Limits;
use parking_lot::{Mutex, RwLock};
use siphasher::sip::SipHasher13;
use std::hash::Hasher;
use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool, AtomicU8, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed,
};
use std::time::Duration;

/// The mode that an operator sets for a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Mode {
    /// It gets traffic while it is healthy.
    #[default]
    Ready,
    /// Requests in flight are finished, new ones are not sent.
    Drain,
    /// Like drain, and no probes either.
    Maint,
}

impl Mode {
    /// All modes, in the order of their numbers.
    pub const ALL: [Mode; 3] = [Mode::Ready, Mode::Drain, Mode::Maint];

    /// The word in the admin API.
    pub fn name(self) -> &'static str {
        match self {
            Mode::Ready => "ready",
            Mode::Drain => "drain",
            Mode::Maint => "maint",
        }
    }

    /// The mode of that word.
    pub fn of_name(name: &str) -> Option<Self> {
        Mode::ALL.into_iter().find(|mode| mode.name() == name)
    }
}

/// Which requests a server gets: what the table made of its mode and health.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Admits {
    /// None, except those of sessions that it keeps.
    Nothing,
    /// It is up.
    Requests,
    /// It is not, but too few servers of its pool are.
    FailOpen,
}

/// The last change of a server's health, for display.
#[derive(Clone, Debug)]
pub struct Turn {
    /// Seconds since 1970.
    pub unix_seconds: u64,
    /// Why it changed: `3 probes failed in a row (connection refused)` …
    pub why: String,
    /// How often it has flapped lately.
    pub flaps: u32,
}

/// A server.
#[derive(Debug)]
pub struct Server {
    /// Its number in this process.
    pub id: ServerId,
    /// Its name; unique in its pool.
    pub name: String,
    /// Its pool.
    pub pool: PoolId,
    /// For the log: the name, behind that of the pool where it is not the default one (`api/a`).
    pub label: String,
    /// Where it listens, as configured.
    pub address: Address,
    role: Role,
    said_of_members: role::SaidOfMembers,
    /// A hash of the name that is the same in every process with the same seed.
    pub hash: u64,
    in_flight: CachePadded<AtomicU32>,
    /// See `server/limit.rs`.
    limits: Limits,
    backup: AtomicBool,
    priority: AtomicU8,
    zone: RwLock<Option<Arc<str>>>,
    idle: AtomicUsize,
    latency: AtomicU64,
    /// [`Outcomes`] in one word.
    outcomes: AtomicU64,
    /// Of the requests in flight those that are tunnels.
    tunnels: AtomicU32,
    /// When it was last sent a request, in milliseconds.
    asked_at_ms: AtomicU64,
    /// [`Awaiting`] in one word.
    awaiting: AtomicU64,
    /// Requests that got a response or failed.
    ended: AtomicU64,
    /// Those of them that were 5xx or failed.
    errors: AtomicU64,
    /// Errors since the last good response.
    errors_in_row: AtomicU32,
    /// It returned from an ejection and has to show with one request that it responds.
    on_trial: AtomicBool,
    slow_start: slow_start::SlowStart,
    reports: Mutex<Reports>,
    utilization: Mutex<Utilization>,
    /// When a response was last read for that, in milliseconds; 0: never.
    utilization_at_ms: AtomicU64,
    /// The log has said that a header of its load was not understood.
    has_misreported: AtomicBool,
    /// When the log was last told that TLS with it failed, in milliseconds; 0: never.
    tls_failure_told_ms: AtomicU64,
    /// Whether what it says of its load makes it look slower; read by each choice, before the lock is taken.
    is_report_high: AtomicBool,
    requests: AtomicU64,
    failures: AtomicU64,
    /// Responses below 500 that are not what the pool expects.
    unexpected: AtomicU64,
    suspect: AtomicBool,
    http10: AtomicBool,
    /// [`Admits`].
    admits: AtomicU8,
    /// Were too few servers left, this one would be used though its probes fail or it is ejected.
    last_known_good: AtomicBool,
    /// Requests that it was sent while its probes failed or it was ejected.
    fail_open_requests: AtomicU64,
    retired: AtomicBool,
    /// Until when it takes requests of its sessions, in milliseconds; 0: it takes none.
    sessions_until_ms: AtomicU64,
    /// When it began to drain, in milliseconds.
    drains_since_ms: AtomicU64,
    weight: AtomicU16,
    /// The weight that counts: with what its agent says, beside the others of the pool.
    weight_now: AtomicU16,
    /// What its agent says; absent where it was not heard, or is not asked.
    agent: Mutex<Option<AgentWord>>,
    /// The most requests at once by its agent; 0 is as configured.
    agent_max_in_flight: AtomicU32,
    /// The port of its agent; 0 is that of the pool.
    agent_port: AtomicU16,
    mode: AtomicU8,
    health: Mutex<Health>,
    addresses: Addresses,
    tls: RwLock<Option<Arc<ServersTls>>>,
    connecting: RwLock<ToServers>,
    last_check: Mutex<Option<Check>>,
    last_failed_check: Mutex<Option<Check>>,
    checks: Mutex<CheckCounts>,
    /// What is counted of its responses, those to copies and to questions of `forward_auth` included.
    pub traffic: Traffic,
    last_turn: Mutex<Option<Turn>>,
}

impl Server {
    /// A new server without any history. An address that needs no look-up is resolved at once.
    pub fn new(id: ServerId, pool: PoolId, pool_name: &str, spec: &ServerSpec, health: Health) -> Self {
        let name = &spec.name;
        Server {
            id,
            pool,
            label: if pool == PoolId::default() { name.clone() } else { format!("{pool_name}/{name}") },
            name: spec.name.clone(),
            address: spec.address.clone(),
            role: Role::of(spec),
            said_of_members: role::SaidOfMembers::default(),
            backup: AtomicBool::new(spec.backup),
            priority: AtomicU8::new(spec.priority),
            zone: RwLock::new(spec.zone.as_deref().map(Arc::from)),
            hash: stable_hash(spec.name.as_bytes()),
            in_flight: CachePadded::default(),
            limits: Limits::of(spec.max_in_flight),
            idle: AtomicUsize::new(0),
            latency: AtomicU64::new(0),
            outcomes: AtomicU64::new(0),
            tunnels: AtomicU32::new(0),
            asked_at_ms: AtomicU64::new(0),
            awaiting: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            errors_in_row: AtomicU32::new(0),
            on_trial: AtomicBool::new(false),
            slow_start: slow_start::SlowStart::default(),
            reports: Mutex::default(),
            utilization: Mutex::default(),
            utilization_at_ms: AtomicU64::new(0),
            has_misreported: AtomicBool::new(false),
            tls_failure_told_ms: AtomicU64::new(0),
            is_report_high: AtomicBool::new(false),
            requests: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            unexpected: AtomicU64::new(0),
            suspect: AtomicBool::new(false),
            http10: AtomicBool::new(false),
            admits: AtomicU8::new(Admits::Nothing as u8),
            last_known_good: AtomicBool::new(false),
            fail_open_requests: AtomicU64::new(0),
            retired: AtomicBool::new(false),
            sessions_until_ms: AtomicU64::new(0),
            drains_since_ms: AtomicU64::new(0),
            weight: AtomicU16::new(spec.weight.0),
            weight_now: AtomicU16::new(spec.weight.0),
            agent: Mutex::new(None),
            agent_max_in_flight: AtomicU32::new(0),
            agent_port: AtomicU16::new(spec.agent_port.unwrap_or(0)),
            mode: AtomicU8::new(Mode::Ready as u8),
            health: Mutex::new(health),
            addresses: Addresses::of(&spec.address),
            tls: RwLock::new(None),
            connecting: RwLock::default(),
            last_check: Mutex::new(None),
            last_failed_check: Mutex::new(None),
            checks: Mutex::default(),
            traffic: Traffic::default(),
            last_turn: Mutex::new(None),
        }
    }

    /// Whether it gets traffic only while no other server is up.
    pub fn is_backup(&self) -> bool {
        self.backup.load(Relaxed)
    }

    /// 0 comes first; the next one gets requests where this one has too few servers.
    pub fn priority(&self) -> u8 {
        self.priority.load(Relaxed)
    }

    /// Where it is.
    pub fn zone(&self) -> Option<Arc<str>> {
        self.zone.read().clone()
    }

    /// TLS towards it; `None` in clear text.
    pub fn tls(&self) -> Option<Arc<ServersTls>> {
        self.tls.read().clone()
    }

    /// Whether the log should be told that TLS with it failed, which is so once in `interval` at most: each request may fail so.
    pub fn tells_tls_failure(&self, interval: Duration, now: Moment) -> bool {
        let (last, now) = (self.tls_failure_told_ms.load(Relaxed), millis(now).max(1));
        let is_due = last == 0 || u128::from(now.saturating_sub(last)) >= interval.as_millis();
        is_due && self.tls_failure_told_ms.compare_exchange(last, now, Relaxed, Relaxed).is_ok()
    }

    /// Requests that this balancer has in flight with the server now.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Relaxed)
    }

    /// Requests ever sent to it.
    pub fn requests(&self) -> u64 {
        self.requests.load(Relaxed)
    }

    /// Its share of the traffic, as configured or as the operator set it.
    pub fn weight(&self) -> Weight {
        Weight(self.weight.load(Relaxed))
    }

    /// The mode that the operator set.
    pub fn mode(&self) -> Mode {
        Mode::ALL[usize::from(self.mode.load(Relaxed)) % Mode::ALL.len()]
    }

    /// Its health, as set by the health thread.
    pub fn health(&self) -> Health {
        *self.health.lock()
    }

    /// Where to connect to, and which idle connections may be used.
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// The last change of its health; `None` while it is as it was at the start.
    pub fn last_turn(&self) -> Option<Turn> {
        self.last_turn.lock().clone()
    }

    /// Records a change of its health; called by the health thread.
    pub fn turns(&self, turn: Turn) {
        *self.last_turn.lock() = Some(turn);
    }

    /// The value of Host if the client sent none.
    pub fn authority(&self) -> String {
        match &self.address {
            Address::Tcp { .. } => self.address.to_string(),
            Address::Unix(_) => "localhost".to_owned(),
        }
    }

    /// Counts one more idle connection to it, unless there are `most` already.
    pub fn idle_begins(&self, most: usize) -> bool {
        let kept = self.idle.fetch_add(1, Relaxed) < most;
        if !kept {
            self.idle_ends();
        }
        kept
    }

    /// An idle connection is reused or closed.
    pub fn idle_ends(&self) {
        self.idle.fetch_sub(1, Relaxed);
    }

    /// Whether its last response was HTTP/1.0: it is then not known to accept a chunked body (RFC 9112 section 6.1).
    pub fn is_http10(&self) -> bool {
        self.http10.load(Relaxed)
    }

    /// Records the version of a response. Written only when it changes.
    pub fn responded_in(&self, http10: bool) {
        if self.is_http10() != http10 {
            self.http10.store(http10, Relaxed);
        }
    }

    /// Whether it gets traffic at all.
    pub fn is_open(&self) -> bool {
        self.admits.load(Relaxed) != Admits::Nothing as u8
    }

    /// Whether the operator and its agent let it have requests.
    pub fn is_offered(&self) -> bool {
        self.mode_now() == Mode::Ready && !self.is_down_by_agent() && self.weight_now().0 > 0
    }

    /// Whether it gets traffic though its probes fail or it is ejected, because too few servers of its pool are left.
    pub fn is_fail_open(&self) -> bool {
        self.admits.load(Relaxed) == Admits::FailOpen as u8
    }

    /// Requests that it was sent in that state, or as a last resort.
    pub fn fail_open_requests(&self) -> u64 {
        self.fail_open_requests.load(Relaxed)
    }

    /// Whether it would be used if too few servers were left, as the health thread sees it.
    pub fn is_last_known_good(&self) -> bool {
        self.last_known_good.load(Relaxed)
    }

    /// Whether a reload has taken it out: no connection to it is kept idle. It may still be open to requests that began
    /// before, where no other server took its place.
    pub fn is_retired(&self) -> bool {
        self.retired.load(Relaxed)
    }

    pub(super) fn set_mode(&self, mode: Mode) {
        let (before, was_out) = (self.mode_now(), self.is_taken_out());
        self.mode.store(mode as u8, Relaxed);
        self.note_drain(before);
        self.note_return(was_out);
    }

    pub(super) fn set_weight(&self, weight: Weight) {
        self.weight.store(weight.0, Relaxed);
    }

    pub(super) fn set_health(&self, health: Health) {
        let before = std::mem::replace(&mut *self.health.lock(), health);
        let was_out = matches!(before, Health::Down | Health::Ejected { .. });
        if was_out && health == Health::Up && !self.is_fail_open() {
            self.slow_start_is_due();
        }
        if matches!((before, health), (Health::Ejected { .. }, Health::Up)) {
            self.outcomes.store(0, Relaxed);
            self.on_trial.store(true, Relaxed);
        }
    }

    /// The tier that it belongs to.
    pub(super) fn set_place(&self, backup: bool, priority: u8, zone: Option<&str>) {
        self.backup.store(backup, Relaxed);
        self.priority.store(priority, Relaxed);
        *self.zone.write() = zone.map(Arc::from);
    }

    /// How new connections begin.
    pub fn connecting(&self) -> ToServers {
        *self.connecting.read()
    }

    /// New connections begin so; idle ones that began otherwise are not used again.
    pub(super) fn set_connecting(&self, connecting: ToServers) {
        let mut current = self.connecting.write();
        if *current != connecting {
            *current = connecting;
            self.addresses.close_idle();
        }
    }

    /// New connections speak TLS so, or not at all; idle ones that were made otherwise are not used again.
    pub(super) fn set_tls(&self, tls: Option<&Arc<ServersTls>>) {
        let mut current = self.tls.write();
        let is_same = current.as_ref().map(Arc::as_ptr) == tls.map(Arc::as_ptr);
        if !is_same {
            *current = tls.cloned();
            self.addresses.close_idle();
        }
    }

    pub(super) fn retire(&self) {
        self.retired.store(true, Relaxed);
    }

    pub(super) fn set_admits(&self, admits: Admits) {
        self.admits.store(admits as u8, Relaxed);
    }

    pub(super) fn set_last_known_good(&self, is_good: bool) {
        self.last_known_good.store(is_good, Relaxed);
    }
}

fn millis(at: Moment) -> u64 {
    at.as_nanos() / 1_000_000
}

/// A hash that is the same in every process and every version: SipHash-1-3 under a fixed key.
pub fn stable_hash(bytes: &[u8]) -> u64 {
    let mut hasher = SipHasher13::new_with_keys(0x6576_656e_6b65_656c, 0x6c61_7965_7220_3700);
    hasher.write(bytes);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::limit::MaxInFlight;
    use crate::policy::pick::Slot;
    use std::time::Duration;

    pub(super) fn server() -> Arc<Server> {
        let spec = ServerSpec::new("a", "127.0.0.1:9001".parse().unwrap());
        Arc::new(Server::new(ServerId(0), PoolId(0), "default", &spec, Health::Up))
    }

    #[test]
    fn a_lease_counts_until_it_is_dropped() {
        let server = server();
        assert!(server.lease(Moment::START).is_err(), "closed until the table opens it");
        server.set_admits(Admits::Requests);
        let leases: Vec<_> = (0..3).map(|_| server.lease(Moment::START).unwrap()).collect();
        assert_eq!((server.in_flight(), server.requests()), (3, 3));
        drop(leases);
        assert_eq!((server.in_flight(), server.requests()), (0, 3));
    }

    #[test]
    fn of_a_measured_limit_requests_count_until_their_response_begins() {
        let server = server();
        server.set_admits(Admits::Requests);
        server.set_max_in_flight(None, Some(MaxInFlight::Auto));
        let now = Moment::from_millis(1);
        // It takes three requests at once.
        let measured = &server.auto_limit().unwrap().measured;
        measured.record(Duration::from_millis(1), 3, now);
        (0..16).for_each(|_| measured.rejected(4, now));
        let most = server.max_in_flight().unwrap();
        let leases: Vec<_> = (0..most).map(|_| server.lease(now).unwrap()).collect();
        assert!(server.is_full() && server.lease(now).is_err());
        // Event streams and tunnels stay open for hours.
        leases[0].responded(true, Duration::from_millis(1), now);
        leases[1].becomes_tunnel();
        leases[1].becomes_tunnel();
        let others = [server.lease(now).unwrap(), server.lease(now).unwrap()];
        assert!(server.is_full() && server.lease(now).is_err());
        drop((leases, others));
        assert_eq!((server.in_flight(), server.most_now()), (0, Some(most)));
    }

    #[test]
    fn after_an_ejection_one_request_shows_whether_it_responds() {
        let server = server();
        server.set_admits(Admits::Requests);
        let now = Moment::from_millis(1);
        server.set_health(Health::Ejected { until: now });
        server.set_health(Health::Up);
        let first = server.lease(now).unwrap();
        assert!(server.is_full());
        assert_eq!(server.lease(now).unwrap_err(), Rejected::Full);
        first.responded(false, Duration::ZERO, now);
        drop(first);
        assert!(server.good_share(now) < 0.1, "only trials go to it");
        let second = server.lease(now).unwrap();
        second.responded(true, Duration::ZERO, now);
        assert!(server.good_share(now) == 1.0 && server.lease(now).is_ok());
    }

    #[test]
    fn a_tunnel_is_no_request_that_others_wait_for() {
        let server = server();
        server.set_admits(Admits::Requests);
        let at = Moment::from_millis;
        let leases: Vec<_> = (0..5).map(|_| server.lease(at(0)).unwrap()).collect();
        leases.iter().for_each(Lease::becomes_tunnel);
        let request = server.lease(at(0)).unwrap();
        let seen = server.candidate(Slot(0), at(9_000));
        assert_eq!((seen.in_flight, seen.tunnels, request.load), (6, 5, 1));
        assert!(!seen.is_silent, "no response is due on a tunnel");
        drop((leases, request));
        let seen = server.candidate(Slot(0), at(9_000));
        assert_eq!((seen.in_flight, seen.tunnels), (0, 0));
    }

    #[test]
    fn what_a_server_says_of_its_use_makes_it_look_slower() {
        let server = server();
        let at = Moment::from_millis;
        let factor = |ms| server.candidate(Slot(0), at(ms)).report;
        assert!(server.is_utilization_due(at(1)));
        server.reports_utilization(Some(0.5), at(1));
        assert!(!server.is_utilization_due(at(50)) && server.is_utilization_due(at(51)));
        assert_eq!(factor(60), 1.0);
        server.reports_utilization(Some(0.9), at(101));
        assert_eq!((factor(101), server.utilization(at(101))), (1.5, Some(0.9)));
        // A report that is as always takes nothing back.
        server.reports(3.0, at(102));
        assert_eq!(factor(102), 1.5);
        assert!(server.misreports(at(200)) && !server.misreports(at(300)), "told once");
        assert_eq!((factor(5_000), server.utilization(at(5_000))), (1.0, None));
    }

    #[test]
    fn the_stable_hash_is_stable() {
        assert_eq!(stable_hash(b"a"), stable_hash(b"a"));
        assert_ne!(stable_hash(b"a"), stable_hash(b"b"));
    }
}
