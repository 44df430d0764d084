//! Counters and histograms, sharded to avoid contention on cache lines: each thread writes its own shard, and readers
//! add the shards up.

use super::decisions::Decisions;
use super::histogram::{Counts, Histogram};
use super::malformed::Malformed;
use super::tls::failure::HandshakeFailure;
use super::traffic::Registry;
use crate::http1::reason::Reason;
use crossbeam_utils::CachePadded;
use std::array;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Shards: more than the number of threads that run at once on any supported machine.
const SHARDS: usize = 32;

/// What is counted, besides reasons and histograms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Counter {
    /// Client connections accepted.
    Accepted,
    /// Client connections closed.
    Closed,
    /// Idle client connections closed to make room for new ones.
    Evicted,
    /// Accept errors, all kinds.
    AcceptErrors,
    /// Finished requests: each that got a response, valid or not, and each that its client gave up before. The sum of
    /// the following six.
    Requests,
    /// Requests that got no response.
    ResponsesNone,
    /// Final responses by class, complete or not; a 101 counts as final.
    Responses1xx,
    /// See [`Counter::Responses1xx`].
    Responses2xx,
    /// See [`Counter::Responses1xx`].
    Responses3xx,
    /// See [`Counter::Responses1xx`].
    Responses4xx,
    /// See [`Counter::Responses1xx`].
    Responses5xx,
    /// Body bytes from clients.
    BytesIn,
    /// Bytes to clients, heads included.
    BytesOut,
    /// Requests sent again, to the same server or to another.
    Retries,
    /// Those of them that went to another server because of the status of a response.
    RetriesOnStatus,
    /// Connections opened to servers.
    Connects,
    /// Requests sent on a pooled server connection.
    Reuses,
    /// Upgraded connections that became tunnels.
    Tunnels,
    /// Second attempts that were begun beside a first one.
    Hedges,
    /// Those of them whose response came first.
    HedgesWon,
    /// Copies of requests that went to a mirror.
    Mirrored,
    /// Requests of which a mirror got no copy because too many were on their way.
    MirrorsDropped,
    /// Requests of which a mirror got no copy because the body was too long.
    MirrorBodiesTooLong,
    /// Panics of a request, each caught.
    Panics,
    /// TLS handshakes with clients that were completed.
    TlsHandshakes,
    /// Those of them that resumed an earlier session.
    TlsResumed,
    /// Lines of the access log that were lost: the channel was full, or they could not be written.
    AccessLinesDropped,
    /// Requests that a rate limit would have rejected or delayed, were it no dry run.
    DryRunRejections,
    /// Requests that a concurrency limit would have rejected, were it no dry run.
    DryRunConcurrency,
    /// Requests that waited because no server could be connected to.
    ServersAwaited,
    /// Spans that a collector took.
    SpansExported,
    /// Spans that were lost: the queue was full, or the collector did not take them.
    SpansDropped,
}

impl Counter {
    const COUNT: usize = Counter::SpansDropped as usize + 1;

    /// The counter of a final status.
    pub fn of_status(status: u16) -> Self {
        match status / 100 {
            0 | 1 => Counter::Responses1xx,
            2 => Counter::Responses2xx,
            3 => Counter::Responses3xx,
            4 => Counter::Responses4xx,
            _ => Counter::Responses5xx,
        }
    }
}

/// How a request ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The status of the response that was sent, or begun; `None` if there was none.
    pub status: Option<u16>,
    /// Bytes sent to the client, headers and interim responses included.
    pub bytes: u64,
    /// Why it was rejected or failed.
    pub reason: Option<Reason>,
}

impl Outcome {
    /// There was no response, for this reason.
    pub const fn unanswered(reason: Reason) -> Self {
        Outcome { status: None, bytes: 0, reason: Some(reason) }
    }
}

/// The counters of one thread. Every update is an addition that never waits.
#[derive(Debug)]
pub struct Shard {
    counters: [AtomicU64; Counter::COUNT],
    reasons: [AtomicU64; Reason::ALL.len()],
    handshake_failures: [AtomicU64; HandshakeFailure::ALL.len()],
    /// From the complete head of a request to the last byte of its response.
    pub duration: Histogram,
    /// From readiness to a worker.
    pub wait: Histogram,
}

impl Shard {
    fn new() -> Self {
        Shard {
            counters: array::from_fn(|_| AtomicU64::new(0)),
            reasons: array::from_fn(|_| AtomicU64::new(0)),
            handshake_failures: array::from_fn(|_| AtomicU64::new(0)),
            duration: Histogram::default(),
            wait: Histogram::default(),
        }
    }

    /// Counts one.
    pub fn count(&self, counter: Counter) {
        self.add(counter, 1);
    }

    /// Counts several.
    pub fn add(&self, counter: Counter, by: u64) {
        self.counters[counter as usize].fetch_add(by, Relaxed);
    }

    /// Counts a finished request and everything that follows from its outcome. This is the only place for that: each
    /// request passes here once.
    pub fn ends(&self, outcome: Outcome) {
        self.count(Counter::Requests);
        self.count(outcome.status.map_or(Counter::ResponsesNone, Counter::of_status));
        self.add(Counter::BytesOut, outcome.bytes);
        outcome.reason.into_iter().for_each(|reason| self.reject(reason));
    }

    /// Counts a rejection before any request.
    pub fn reject(&self, reason: Reason) {
        self.reasons[reason as usize].fetch_add(1, Relaxed);
    }

    /// Counts a TLS handshake with a client that failed.
    pub fn handshake_fails(&self, failure: HandshakeFailure) {
        self.handshake_failures[failure as usize].fetch_add(1, Relaxed);
    }
}

/// What one data plane counts: in all, and by listener, route and pool.
#[derive(Debug)]
pub struct Stats {
    shards: Box<[CachePadded<Shard>]>,
    /// The counts of its listeners, routes and pools.
    pub traffic: Registry,
    /// What was malformed last, for the log.
    pub malformed: Malformed,
    /// Which servers got the last requests, and why.
    pub decisions: Decisions,
}

impl Default for Stats {
    fn default() -> Self {
        let shards = (0..SHARDS).map(|_| CachePadded::new(Shard::new())).collect();
        let (traffic, malformed, decisions) =
            (Registry::default(), Malformed::default(), Decisions::default());
        Stats { shards, traffic, malformed, decisions }
    }
}

impl Stats {
    /// The shard of the thread with this number; if there are more threads than shards, they share.
    pub fn shard(&self, thread: usize) -> &Shard {
        &self.shards[thread % SHARDS]
    }

    /// The sum of a counter.
    pub fn total(&self, counter: Counter) -> u64 {
        self.shards.iter().map(|shard| shard.counters[counter as usize].load(Relaxed)).sum()
    }

    /// How many requests ended for this reason.
    pub fn rejected(&self, reason: Reason) -> u64 {
        self.shards.iter().map(|shard| shard.reasons[reason as usize].load(Relaxed)).sum()
    }

    /// How many TLS handshakes with clients failed so.
    pub fn failed_handshakes(&self, failure: HandshakeFailure) -> u64 {
        self.shards.iter().map(|shard| shard.handshake_failures[failure as usize].load(Relaxed)).sum()
    }

    /// The durations of all requests so far.
    pub fn durations(&self) -> Counts {
        self.counts(|shard| &shard.duration)
    }

    /// The waits in the queue of all requests so far.
    pub fn waits(&self) -> Counts {
        self.counts(|shard| &shard.wait)
    }

    fn counts(&self, which: impl Fn(&Shard) -> &Histogram) -> Counts {
        let mut counts = Counts::default();
        self.shards.iter().for_each(|shard| which(shard).add_to(&mut counts));
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn shards_add_up() {
        let stats = Stats::default();
        for thread in 0..100 {
            stats.shard(thread).count(Counter::Requests);
            stats.shard(thread).reject(Reason::NoServer);
            stats.shard(thread).wait.record(Duration::from_micros(5));
        }
        assert_eq!(stats.total(Counter::Requests), 100);
        assert_eq!(stats.rejected(Reason::NoServer), 100);
        assert_eq!(stats.rejected(Reason::Internal), 0);
        assert_eq!(stats.waits().count(), 100);
        assert_eq!(stats.durations().count(), 0);
    }

    #[test]
    fn each_end_counts_once_in_all_that_it_concerns() {
        let stats = Stats::default();
        let ends = [
            Outcome { status: Some(200), bytes: 70, reason: None },
            Outcome { status: Some(503), bytes: 30, reason: Some(Reason::QueueFull) },
            Outcome { status: Some(200), bytes: 5, reason: Some(Reason::ResponseTruncated) },
            Outcome::unanswered(Reason::ClientGone),
        ];
        ends.iter().enumerate().for_each(|(thread, end)| stats.shard(thread).ends(*end));
        let total = |counter| stats.total(counter);
        assert_eq!((total(Counter::Requests), total(Counter::BytesOut)), (4, 105));
        assert_eq!(
            (total(Counter::Responses2xx), total(Counter::Responses5xx), total(Counter::ResponsesNone)),
            (2, 1, 1)
        );
        for reason in [Reason::QueueFull, Reason::ResponseTruncated, Reason::ClientGone] {
            assert_eq!(stats.rejected(reason), 1, "{reason:?}");
        }
    }

    #[test]
    fn statuses_have_their_class() {
        for (status, counter) in
            [(101, Counter::Responses1xx), (204, Counter::Responses2xx), (599, Counter::Responses5xx)]
        {
            assert_eq!(Counter::of_status(status), counter);
        }
    }
}
