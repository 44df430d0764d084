//! What is counted of the requests of one listener, route or pool, and of the responses of one server. The counts belong
//! to the thing itself and go where it goes; [`Registry`] gives a listener, route or pool of the same name the same
//! counts again, so that a changed configuration lets no total decrease.

use super::histogram::{Counts, Histogram};
use crate::http1::reason::Reason;
use crate::policy::slow::Times;
use crossbeam_utils::CachePadded;
use parking_lot::Mutex;
use std::array;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

/// The most shards: there are as many as processors, because no more threads run at once.
const SHARDS_MAX: usize = 16;
/// Statuses whose counters are allocated together: few of them occur.
const BLOCK: usize = 16;
/// Blocks for the statuses from 100 on, with one cell for all above 599, the highest with a class.
const BLOCKS: usize = 32;
/// The lowest status.
const FIRST_STATUS: u16 = 100;
/// The highest status with a count of its own.
const LAST_STATUS: u16 = 599;
/// Statuses that have a series of their own. More are registered nowhere, and servers choose them: one that sends all
/// there are would multiply every page of metrics.
const CODES_MAX: usize = 64;

/// The counts of one listener, route, pool or server. Every update is a few additions that never wait, in the shard of
/// the calling worker; shards are allocated when they are first needed.
#[derive(Debug)]
pub struct Traffic {
    shards: Box<[OnceLock<Box<Shard>>]>,
    /// The statuses that were read first, up to [`CODES_MAX`]: a series once begun goes on.
    codes: Mutex<BTreeSet<u16>>,
}

/// A request that has ended, as far as it is counted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ended {
    /// The status of its response; `None` if it got none.
    pub status: Option<u16>,
    /// Body bytes from the client.
    pub received: u64,
    /// Bytes to the client, headers included.
    pub sent: u64,
    /// How long it took; `None` if it never came as a whole.
    pub took: Option<Duration>,
    /// How long it waited in the queue of its pool, if it did.
    pub waited: Option<Duration>,
    /// Why it did not end well.
    pub reason: Option<Reason>,
}

/// The counts at one moment.
#[derive(Clone, Debug, Default)]
pub struct TrafficCounts {
    /// Requests that have begun.
    pub begun: u64,
    /// Requests that ended without a response.
    pub none: u64,
    /// Responses by status; only those that occurred, and all above 599 as 600.
    pub statuses: BTreeMap<u16, u64>,
    /// Which of them are told by their own number; the rest is one sum.
    codes: BTreeSet<u16>,
    /// Body bytes from clients.
    pub received: u64,
    /// Bytes to clients, headers included.
    pub sent: u64,
    /// How long requests took.
    pub durations: Counts,
    /// How long those waited that had to.
    pub waits: Counts,
    /// Bad ends by reason; only those that occurred.
    pub reasons: Vec<(Reason, u64)>,
}

#[derive(Debug)]
struct Shard(CachePadded<Cells>);

#[derive(Debug)]
struct Cells {
    begun: AtomicU64,
    none: AtomicU64,
    received: AtomicU64,
    sent: AtomicU64,
    statuses: [OnceLock<Box<[AtomicU64; BLOCK]>>; BLOCKS],
    durations: Histogram,
    /// Allocated when something waits: most never do.
    waits: OnceLock<Box<Histogram>>,
    /// Allocated at the first bad end.
    reasons: OnceLock<Box<[AtomicU64; Reason::ALL.len()]>>,
}

impl Default for Traffic {
    fn default() -> Self {
        static SHARDS: OnceLock<usize> = OnceLock::new();
        let shards = *SHARDS.get_or_init(|| {
            thread::available_parallelism().map_or(1, usize::from).next_power_of_two().min(SHARDS_MAX)
        });
        Traffic { shards: (0..shards).map(|_| OnceLock::new()).collect(), codes: Mutex::default() }
    }
}

/// Counts are no part of what a route is: two routes may be equal whatever they have counted.
impl PartialEq for Traffic {
    fn eq(&self, _other: &Self) -> bool {
        true
    }
}

impl Traffic {
    /// Counts a request that begins, in the shard of this worker.
    pub fn begins(&self, worker: usize) {
        self.shard(worker).begun.fetch_add(1, Relaxed);
    }

    /// Counts a request that has ended, once, whichever worker it began with.
    pub fn ends(&self, worker: usize, ended: &Ended) {
        let cells = self.shard(worker);
        match ended.status {
            Some(status) => cells.status(status).fetch_add(1, Relaxed),
            None => cells.none.fetch_add(1, Relaxed),
        };
        ended.took.into_iter().for_each(|took| cells.durations.record(took));
        self.adds(worker, ended.received, ended.sent);
        ended.waited.into_iter().for_each(|waited| self.waits(worker, waited));
        if let Some(reason) = ended.reason {
            let reasons = cells.reasons.get_or_init(|| Box::new(array::from_fn(|_| AtomicU64::new(0))));
            reasons[reason as usize].fetch_add(1, Relaxed);
        }
    }

    /// Counts bytes of a tunnel, whose request has ended.
    pub fn adds(&self, worker: usize, received: u64, sent: u64) {
        let cells = self.shard(worker);
        if received > 0 {
            cells.received.fetch_add(received, Relaxed);
        }
        if sent > 0 {
            cells.sent.fetch_add(sent, Relaxed);
        }
    }

    /// Counts a wait.
    pub fn waits(&self, worker: usize, waited: Duration) {
        self.shard(worker).waits.get_or_init(Box::default).record(waited);
    }

    /// How many of its requests came to this bad end.
    pub fn rejected(&self, reason: Reason) -> u64 {
        let shards = self.shards.iter().filter_map(OnceLock::get);
        let reasons = shards.filter_map(|shard| shard.0.reasons.get());
        reasons.map(|reasons| reasons[reason as usize].load(Relaxed)).sum()
    }

    /// The counts so far, of all shards.
    pub fn read(&self) -> TrafficCounts {
        let mut counts = TrafficCounts::default();
        let shards = || self.shards.iter().filter_map(OnceLock::get);
        // What has ended is read first, so that no request has ended that has not begun.
        shards().for_each(|shard| shard.0.add_to(&mut counts));
        let reasons = Reason::ALL.iter().map(|reason| (*reason, self.rejected(*reason)));
        counts.reasons = reasons.filter(|(_, count)| *count > 0).collect();
        counts.begun = shards().map(|shard| shard.0.begun.load(Relaxed)).sum();
        counts.codes = self.codes(&counts.statuses);
        counts
    }

    /// The statuses with a series of their own, these among them as far as there is room.
    fn codes(&self, statuses: &BTreeMap<u16, u64>) -> BTreeSet<u16> {
        let mut codes = self.codes.lock();
        for status in statuses.keys().filter(|status| **status <= LAST_STATUS) {
            if codes.len() < CODES_MAX {
                codes.insert(*status);
            }
        }
        codes.clone()
    }

    /// The durations so far, of all shards, as sums of their logarithms.
    pub fn times(&self) -> Times {
        let (mut counts, mut times) = (Counts::default(), Times::default());
        let shards = self.shards.iter().filter_map(OnceLock::get);
        shards.for_each(|shard| shard.0.durations.add_to(&mut counts));
        counts.each().for_each(|(us, count)| times.add(us, count));
        times
    }

    fn shard(&self, worker: usize) -> &Cells {
        // Their number is a power of two.
        let at = worker & (self.shards.len() - 1);
        &self.shards[at].get_or_init(|| Box::new(Shard(CachePadded::new(Cells::new())))).0
    }
}

impl Cells {
    fn new() -> Self {
        Cells {
            begun: AtomicU64::new(0),
            none: AtomicU64::new(0),
            received: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            statuses: array::from_fn(|_| OnceLock::new()),
            durations: Histogram::default(),
            waits: OnceLock::new(),
            reasons: OnceLock::new(),
        }
    }

    fn status(&self, status: u16) -> &AtomicU64 {
        let at = usize::from(status.min(LAST_STATUS + 1).saturating_sub(FIRST_STATUS));
        let block = self.statuses[at / BLOCK].get_or_init(|| Box::new(array::from_fn(|_| AtomicU64::new(0))));
        &block[at % BLOCK]
    }

    fn add_to(&self, counts: &mut TrafficCounts) {
        for (at, block) in self.statuses.iter().enumerate() {
            for (step, count) in block.get().into_iter().flat_map(|block| block.iter()).enumerate() {
                let count = count.load(Relaxed);
                if count > 0 {
                    let status = FIRST_STATUS + (at * BLOCK + step) as u16;
                    *counts.statuses.entry(status).or_default() += count;
                }
            }
        }
        counts.none += self.none.load(Relaxed);
        counts.received += self.received.load(Relaxed);
        counts.sent += self.sent.load(Relaxed);
        self.durations.add_to(&mut counts.durations);
        self.waits.get().into_iter().for_each(|waits| waits.add_to(&mut counts.waits));
    }
}

impl TrafficCounts {
    /// The classes, in the order of [`TrafficCounts::classes`]. `none`: there was no response.
    pub const CLASSES: [&'static str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];

    /// What has ended, by class. The sum is [`TrafficCounts::ended`].
    pub fn classes(&self) -> [u64; TrafficCounts::CLASSES.len()] {
        let mut classes = [0; TrafficCounts::CLASSES.len()];
        classes[0] = self.none;
        self.statuses.iter().for_each(|(status, count)| classes[usize::from(status / 100).min(5)] += count);
        classes
    }

    /// Responses by status, and the sum of those without a series of their own.
    pub fn by_code(&self) -> (impl Iterator<Item = (u16, u64)>, u64) {
        let is_told = |(status, _): &(&u16, &u64)| self.codes.contains(status);
        let other = self.statuses.iter().filter(|entry| !is_told(entry)).map(|(_, count)| count).sum();
        (
            self.statuses.iter().filter(move |entry| is_told(entry)).map(|(status, count)| (*status, *count)),
            other,
        )
    }

    /// Requests that have ended.
    pub fn ended(&self) -> u64 {
        self.none + self.statuses.values().sum::<u64>()
    }

    /// Requests that have begun and not ended.
    pub fn in_flight(&self) -> u64 {
        self.begun.saturating_sub(self.ended())
    }
}

/// The counts of all listeners, routes and pools that there are or were since the start, by name.
#[derive(Debug, Default)]
pub struct Registry {
    listeners: Named,
    routes: Named,
    pools: Named,
}

type Named = Mutex<BTreeMap<String, Arc<Traffic>>>;

impl Registry {
    /// The counts of the listener of this name.
    pub fn listener(&self, name: &str) -> Arc<Traffic> {
        named(&self.listeners, name)
    }

    /// The counts of the route of this name.
    pub fn route(&self, name: &str) -> Arc<Traffic> {
        named(&self.routes, name)
    }

    /// The counts of the pool of this name.
    pub fn pool(&self, name: &str) -> Arc<Traffic> {
        named(&self.pools, name)
    }

    /// All listeners with their counts, by name.
    pub fn listeners(&self) -> Vec<(String, TrafficCounts)> {
        read(&self.listeners)
    }

    /// All routes with their counts, by name.
    pub fn routes(&self) -> Vec<(String, TrafficCounts)> {
        read(&self.routes)
    }

    /// The counters of all pools, by name.
    pub fn each_pool(&self) -> Vec<(String, Arc<Traffic>)> {
        self.pools.lock().iter().map(|(name, traffic)| (name.clone(), Arc::clone(traffic))).collect()
    }

    /// All pools with their counts, by name.
    pub fn pools(&self) -> Vec<(String, TrafficCounts)> {
        read(&self.pools)
    }
}

fn named(all: &Named, name: &str) -> Arc<Traffic> {
    Arc::clone(all.lock().entry(name.to_owned()).or_default())
}

fn read(all: &Named) -> Vec<(String, TrafficCounts)> {
    all.lock().iter().map(|(name, traffic)| (name.clone(), traffic.read())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ops::RangeInclusive;

    fn ended(status: Option<u16>) -> Ended {
        Ended {
            status,
            received: 3,
            sent: 10,
            took: Some(Duration::from_millis(1)),
            waited: None,
            reason: None,
        }
    }

    #[test]
    fn shards_add_up_and_only_what_occurred_is_there() {
        let traffic = Traffic::default();
        for worker in 0..60 {
            traffic.begins(worker);
        }
        let statuses = [Some(200), Some(204), Some(404), Some(599), Some(101), None];
        for worker in 0..48 {
            traffic.ends(worker, &ended(statuses[worker % statuses.len()]));
        }
        traffic.waits(3, Duration::from_millis(5));
        let counts = traffic.read();
        assert_eq!((counts.begun, counts.ended(), counts.in_flight(), counts.none), (60, 48, 12, 8));
        assert_eq!(
            counts.statuses.into_iter().collect::<Vec<_>>(),
            [101, 200, 204, 404, 599].map(|s| (s, 8))
        );
        assert_eq!((counts.received, counts.sent), (144, 480));
        assert_eq!((counts.durations.count(), counts.waits.count()), (48, 1));
    }

    #[test]
    fn every_status_has_a_counter_of_its_own_and_a_class() {
        let traffic = Traffic::default();
        (100..600).for_each(|status| traffic.ends(0, &ended(Some(status))));
        let counts = traffic.read();
        assert!(counts.statuses.len() == 500 && counts.statuses.values().all(|count| *count == 1));
        assert_eq!(counts.classes(), [0, 100, 100, 100, 100, 100]);
        // What no parser lets through counts as something, and panics nowhere.
        [0, 99, 600, 999, u16::MAX].into_iter().for_each(|status| traffic.ends(0, &ended(Some(status))));
        assert_eq!(traffic.read().ended(), 505);
        assert_eq!(traffic.read().statuses.last_key_value(), Some((&600, &3)));
    }

    #[test]
    fn the_statuses_that_come_first_have_series_of_their_own() {
        let traffic = Traffic::default();
        let count =
            |statuses: RangeInclusive<u16>| statuses.for_each(|status| traffic.ends(0, &ended(Some(status))));
        count(500..=503);
        assert_eq!(
            traffic.read().by_code().0.collect::<Vec<_>>(),
            (500..=503).map(|code| (code, 1)).collect::<Vec<_>>()
        );
        count(200..=400);
        count(500..=700);
        let counts = traffic.read();
        let (told, other) = counts.by_code();
        let told: Vec<_> = told.collect();
        assert_eq!(told.len(), CODES_MAX);
        assert!(
            told.contains(&(200, 1))
                && told[60..] == (500..=503).map(|code| (code, 2)).collect::<Vec<_>>()[..]
        );
        assert_eq!(told.iter().map(|(_, count)| count).sum::<u64>() + other, counts.ended());
    }

    #[test]
    fn a_name_has_the_same_counts_again() {
        let registry = Registry::default();
        registry.route("api").begins(0);
        registry.route("api").ends(0, &ended(Some(200)));
        registry.pool("api").begins(0);
        let counts = registry.routes();
        assert_eq!((counts.len(), counts[0].0.as_str(), counts[0].1.ended()), (1, "api", 1));
        assert_eq!(registry.pools()[0].1.in_flight(), 1);
        assert!(registry.listeners().is_empty());
    }
}
