//! One server of the table: what it is, how it stands, and what live traffic says of it. All of it is read
//! by every worker, so everything that changes is an atomic or a short lock.

use super::address::Address;
use super::addresses::Addresses;
use super::config::ServerSpec;
use crate::base::ids::ServerId;
use crate::base::time::Moment;
use crate::policy::health::Health;
use crate::policy::latency::Latency;
use crate::policy::pick::{Candidate, Slot, Weight};
use crossbeam_utils::CachePadded;
use parking_lot::Mutex;
use siphasher::sip::SipHasher13;
use std::hash::Hasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// A load report counts in full until it is this old …
const REPORT_FRESH: Duration = Duration::from_secs(1);
/// … and for nothing when it is this old.
const REPORT_STALE: Duration = Duration::from_secs(4);

/// What an operator wants of a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Mode {
    /// Traffic, while it is healthy.
    #[default]
    Ready,
    /// Requests in hand are finished, no new ones come.
    Drain,
    /// As drain, and no probes either.
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

/// The last probe of a server, for people.
#[derive(Clone, Debug)]
pub struct Check {
    /// Seconds since 1970.
    pub unix_seconds: u64,
    /// How long the probe took.
    pub took: Duration,
    /// `200`, `connection refused`, `no answer in 1s` …
    pub outcome: String,
    /// Whether it counted as a pass.
    pub passed: bool,
}

/// A server.
#[derive(Debug)]
pub struct Server {
    /// Its number in this process.
    pub id: ServerId,
    /// Its name; unique in the table.
    pub name: String,
    /// Where it listens.
    pub address: Address,
    /// It gets traffic only while no other server is up.
    pub backup: bool,
    /// A hash of the name that is the same in every process with the same seed.
    pub hash: u64,
    in_flight: CachePadded<AtomicU32>,
    latency: AtomicU64,
    report: AtomicU64,
    requests: AtomicU64,
    failures: AtomicU64,
    suspect: AtomicBool,
    talkative: AtomicBool,
    open: AtomicBool,
    weight: AtomicU16,
    mode: AtomicU8,
    health: Mutex<Health>,
    removed: AtomicBool,
    addresses: Addresses,
    last_check: Mutex<Option<Check>>,
}

impl Server {
    /// A server that nothing is known of yet. An address that needs no look-up is resolved at once.
    pub fn new(id: ServerId, spec: &ServerSpec, health: Health) -> Self {
        Server {
            id,
            name: spec.name.clone(),
            address: spec.address.clone(),
            backup: spec.backup,
            hash: stable_hash(spec.name.as_bytes()),
            in_flight: CachePadded::default(),
            latency: AtomicU64::new(0),
            report: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            suspect: AtomicBool::new(false),
            talkative: AtomicBool::new(false),
            open: AtomicBool::new(false),
            weight: AtomicU16::new(spec.weight.0),
            mode: AtomicU8::new(Mode::Ready as u8),
            health: Mutex::new(health),
            removed: AtomicBool::new(false),
            addresses: Addresses::of(&spec.address),
            last_check: Mutex::new(None),
        }
    }

    /// Requests that this balancer has with the server now.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Relaxed)
    }

    /// Requests ever sent to it.
    pub fn requests(&self) -> u64 {
        self.requests.load(Relaxed)
    }

    /// Requests that failed with it: connect, reset, timeout, broken answer.
    pub fn failures(&self) -> u64 {
        self.failures.load(Relaxed)
    }

    /// Its share of the traffic.
    pub fn weight(&self) -> Weight {
        Weight(self.weight.load(Relaxed))
    }

    /// What the operator wants of it.
    pub fn mode(&self) -> Mode {
        Mode::ALL[usize::from(self.mode.load(Relaxed)) % Mode::ALL.len()]
    }

    /// What the health thread believes of it.
    pub fn health(&self) -> Health {
        *self.health.lock()
    }

    /// Where to connect to, and which idle connections may be used.
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Whether it is no longer in the table, for good.
    pub fn is_removed(&self) -> bool {
        self.removed.load(Relaxed)
    }

    /// The last probe.
    pub fn last_check(&self) -> Option<Check> {
        self.last_check.lock().clone()
    }

    /// The health thread notes a probe.
    pub fn checked(&self, check: Check) {
        *self.last_check.lock() = Some(check);
    }

    /// One more answer took so long.
    pub fn answered(&self, took: Duration, now: Moment) {
        // Two workers may race here; one sample is lost then, which an average can bear.
        let latency = Latency::unpack(self.latency.load(Relaxed)).with(took, now);
        self.latency.store(latency.pack(), Relaxed);
    }

    /// The latency to believe now, in microseconds.
    pub fn latency_us(&self, now: Moment) -> Option<f32> {
        Latency::unpack(self.latency.load(Relaxed)).read(now)
    }

    /// The server said how many requests it has queued and in progress.
    pub fn reports(&self, load: f32, now: Moment) {
        let age = u64::from((now.as_nanos() / 1_000_000) as u32).max(1);
        self.report.store(u64::from(load.to_bits()) << 32 | age, Relaxed);
    }

    /// What it said last, fading with age; `None` when it said nothing or too long ago.
    pub fn reported(&self, now: Moment) -> Option<f32> {
        let report = self.report.load(Relaxed);
        if report == 0 {
            return None;
        }
        let now_ms = (now.as_nanos() / 1_000_000) as u32;
        let age = Duration::from_millis(u64::from(now_ms.saturating_sub(report as u32)));
        let left = REPORT_STALE.saturating_sub(age).as_secs_f32();
        let share = (left / (REPORT_STALE - REPORT_FRESH).as_secs_f32()).min(1.0);
        (share > 0.0).then(|| f32::from_bits((report >> 32) as u32) * share)
    }

    /// A live request failed. The health thread hears of every failure, and of the first success after.
    pub fn fails(&self) {
        self.failures.fetch_add(1, Relaxed);
        self.suspect.store(true, Relaxed);
    }

    /// A live request was answered. True when the one before it failed.
    pub fn recovers(&self) -> bool {
        self.suspect.load(Relaxed) && self.suspect.swap(false, Relaxed)
    }

    /// It said something that nobody had asked for.
    pub fn talks_unasked(&self) {
        self.talkative.store(true, Relaxed);
    }

    /// Whether it ever did: then no connection to it is used again without a look.
    pub fn is_talkative(&self) -> bool {
        self.talkative.load(Relaxed)
    }

    /// As an algorithm sees it.
    pub fn candidate(&self, slot: Slot, now: Moment) -> Candidate {
        Candidate {
            slot,
            weight: self.weight(),
            hash: self.hash,
            in_flight: self.in_flight(),
            latency_us: self.latency_us(now),
            reported: self.reported(now),
        }
    }

    /// What to write as Host when nobody else named one.
    pub fn authority(&self) -> String {
        match &self.address {
            Address::Tcp { .. } => self.address.to_string(),
            Address::Unix(_) => "localhost".to_owned(),
        }
    }

    /// Takes a lease, unless the server was taken out since the snapshot was made.
    pub fn lease(self: &Arc<Self>) -> Option<Lease> {
        if !self.open.load(Relaxed) {
            return None;
        }
        self.in_flight.fetch_add(1, Relaxed);
        self.requests.fetch_add(1, Relaxed);
        Some(Lease { server: Arc::clone(self) })
    }

    pub(super) fn set_mode(&self, mode: Mode) {
        self.mode.store(mode as u8, Relaxed);
    }

    pub(super) fn set_weight(&self, weight: Weight) {
        self.weight.store(weight.0, Relaxed);
    }

    pub(super) fn set_health(&self, health: Health) {
        *self.health.lock() = health;
    }

    pub(super) fn set_removed(&self) {
        self.set_open(false);
        self.removed.store(true, Relaxed);
    }

    pub(super) fn set_open(&self, open: bool) {
        self.open.store(open, Relaxed);
    }
}

/// The right to have one request with a server (law 6). The in-flight count falls when it is dropped,
/// whatever happened in between.
#[derive(Debug)]
pub struct Lease {
    server: Arc<Server>,
}

impl Lease {
    /// The server.
    pub fn server(&self) -> &Arc<Server> {
        &self.server
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.server.in_flight.fetch_sub(1, Relaxed);
    }
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

    fn server() -> Arc<Server> {
        let spec = ServerSpec {
            name: "a".into(),
            address: "127.0.0.1:9001".parse().unwrap(),
            weight: Weight(1),
            backup: false,
        };
        Arc::new(Server::new(ServerId(0), &spec, Health::Up))
    }

    #[test]
    fn a_lease_counts_until_it_is_dropped() {
        let server = server();
        assert!(server.lease().is_none(), "closed until the table opens it");
        server.set_open(true);
        let leases: Vec<_> = (0..3).map(|_| server.lease().unwrap()).collect();
        assert_eq!((server.in_flight(), server.requests()), (3, 3));
        drop(leases);
        assert_eq!((server.in_flight(), server.requests()), (0, 3));
    }

    #[test]
    fn a_report_ages_and_then_counts_for_nothing() {
        let server = server();
        assert_eq!(server.reported(Moment::from_millis(10)), None);
        server.reports(8.0, Moment::from_millis(1000));
        for (ms, expected) in
            [(1000, Some(8.0)), (2000, Some(8.0)), (3500, Some(4.0)), (5000, None), (9000, None)]
        {
            assert_eq!(server.reported(Moment::from_millis(ms)), expected, "at {ms} ms");
        }
    }

    #[test]
    fn one_success_after_failures_is_told_once() {
        let server = server();
        assert!(!server.recovers());
        server.fails();
        server.fails();
        assert_eq!(server.failures(), 2);
        assert!(server.recovers());
        assert!(!server.recovers());
    }

    #[test]
    fn the_stable_hash_is_stable() {
        assert_eq!(stable_hash(b"a"), stable_hash(b"a"));
        assert_ne!(stable_hash(b"a"), stable_hash(b"b"));
    }
}
