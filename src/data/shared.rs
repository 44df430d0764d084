//! Layer 1: what all threads of one data plane share, beside the server table: counters, limits that span connections, and
//! whether it drains.

mod listener;

use super::verify::Verifier;
use crate::base::ids::RequestIds;
use crate::base::limits::Descriptors;
use crate::base::time::{self, Moment};
use crate::policy::drain;
use crate::state::listener::OpenListener;
use crate::state::server::Server;
use crate::state::stats::{Counter, Stats};
use crate::state::table::Table;
use crate::state::verdict::Verdicts;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Connections beyond the limit that get a response at the same time; further ones are closed at once.
const REJECTED_MAX: usize = 64;

/// Copied requests on their way to mirrors, each with at most 64 KiB in memory and a connection.
const MIRRORS_MAX: usize = 256;

/// When draining begins, idle connections stay open for this long: a client that was promised a connection that stays
/// may have its next request on the way, and half a second is longer than a round trip.
const LAST_REQUESTS_WAIT: Duration = Duration::from_millis(500);

/// While draining, connections that wait for a request are looked at this often: a drain takes no longer for it than people
/// notice.
pub const DRAIN_LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// While draining, the end of an event of a stream is waited for so long, and a WebSocket's response to a close frame: many
/// streams send a comment or an event each few seconds, and a slow network takes a few round trips.
pub const STREAM_END_WAIT: Duration = Duration::from_secs(2);
/// Between two lines of the log about TLS with servers, or about a shortage of descriptors.
pub const LOG_INTERVAL: Duration = Duration::from_secs(1);

/// What the threads of one proxy share. The balancer has two proxies: one for its clients, and a small one in front of
/// its own admin API.
#[derive(Debug)]
pub struct Shared {
    /// For logs and thread names.
    pub name: &'static str,
    /// What its connections and workers may take.
    pub descriptors: Descriptors,
    /// Its configuration and its servers.
    pub table: Arc<Table>,
    /// What it counts.
    pub stats: Arc<Stats>,
    /// What it learns of its servers, for the health thread.
    pub verdicts: Verdicts,
    /// When the log was last told that TLS with a server failed, in nanoseconds; 0: never.
    tls_failure_logged: AtomicU64,
    /// Open tunnels.
    pub tunnels: AtomicUsize,
    /// Names of requests.
    pub ids: RequestIds,
    /// Verifies passwords.
    pub verifier: Verifier,
    /// Copied requests on their way.
    mirrors: AtomicUsize,
    /// Open client connections.
    open: AtomicUsize,
    /// Open connections beyond the limit, which get a response that says so.
    rejected: AtomicUsize,
    /// Open connections of each client address; empty where they are not limited.
    by_address: Mutex<HashMap<IpAddr, usize>>,
    /// It is about to drain: what stands in front is to send no more clients.
    leaving: AtomicBool,
    /// Another process has its listening sockets.
    handed_over: AtomicBool,
    /// Since when it drains.
    draining: OnceLock<Moment>,
    /// When draining ends, in nanoseconds as [`Moment`] has them.
    stop_by: AtomicU64,
}

impl Shared {
    /// The shared part of a data plane with these servers, and what its listeners, routes and pools count with.
    pub fn new(
        (name, descriptors): (&'static str, Descriptors),
        table: Arc<Table>,
        stats: Arc<Stats>,
        verdicts: Verdicts,
    ) -> Self {
        Shared {
            name,
            descriptors,
            table,
            stats,
            verdicts,
            tls_failure_logged: AtomicU64::new(0),
            tunnels: AtomicUsize::new(0),
            ids: RequestIds::default(),
            verifier: Verifier::default(),
            mirrors: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            rejected: AtomicUsize::new(0),
            by_address: Mutex::default(),
            leaving: AtomicBool::new(false),
            handed_over: AtomicBool::new(false),
            draining: OnceLock::new(),
            stop_by: AtomicU64::new(Moment::NEVER.as_nanos()),
        }
    }

    /// Logs why TLS with a server failed; once a second at most, because each request may fail so.
    pub fn log_tls_failure(&self, server: &Server, why: &str, now: Moment) {
        let last = self.tls_failure_logged.load(Relaxed);
        let is_due = last == 0 || now.since(Moment::from_nanos(last)) >= LOG_INTERVAL;
        if is_due && self.tls_failure_logged.compare_exchange(last, now.as_nanos(), Relaxed, Relaxed).is_ok()
        {
            log::warn!("server {} ({}): TLS: {why}", server.label, server.address);
        }
    }

    /// The first TCP address that it listens on.
    pub fn address(&self) -> Option<SocketAddr> {
        self.table.live().listeners.iter().find_map(|listener| listener.place.address())
    }

    /// It drains soon: from now on it says that it is not ready, and goes on to serve.
    pub fn announce_drain(&self) {
        self.leaving.store(true, Relaxed);
    }

    /// Another process has its listening sockets, too: those on Unix sockets leave their files to it.
    pub fn hand_over(&self) {
        self.handed_over.store(true, Relaxed);
    }

    /// Whether another process has its listening sockets.
    pub fn is_handed_over(&self) -> bool {
        self.handed_over.load(Relaxed)
    }

    /// Whether it is not to get new clients: it drains, or does so soon.
    pub fn is_leaving(&self) -> bool {
        self.leaving.load(Relaxed) || self.is_draining()
    }

    /// Takes no new connections from now on, and none at all from the deadline on. A later call can only bring the
    /// deadline nearer. Threads that sleep have to be woken.
    pub fn drain(&self, deadline: Moment) {
        self.draining.get_or_init(time::now);
        self.stop_by.fetch_min(deadline.as_nanos(), Relaxed);
    }

    /// Whether it takes no new connections.
    pub fn is_draining(&self) -> bool {
        self.draining.get().is_some()
    }

    /// When draining ends.
    pub fn drain_deadline(&self) -> Moment {
        Moment::from_nanos(self.stop_by.load(Relaxed))
    }

    /// While draining: when a long-lived stream that drew `fraction`, from 0 to 1, is told that it ends.
    pub fn notice_at(&self, fraction: f64) -> Moment {
        let begun = self.draining.get().copied().unwrap_or(Moment::NEVER);
        drain::notice_at(begun, self.drain_deadline(), fraction)
    }

    /// Whether idle connections may be closed: it drains, and clients have had time for requests on their way.
    pub fn closes_idle(&self, now: Moment) -> bool {
        self.draining.get().is_some_and(|begun| {
            let wait = LAST_REQUESTS_WAIT.min(self.drain_deadline().since(*begun) / 2);
            now.since(*begun) >= wait
        })
    }

    /// Open client connections.
    pub fn open(&self) -> usize {
        self.open.load(Relaxed)
    }

    /// Whether connections run short where so many may be open: those that only linger, or take their time with a first
    /// request, should then make room soon.
    pub fn is_near_limit(&self, connections_max: usize) -> bool {
        self.open() > connections_max / 4 * 3
    }

    /// Open connections of this address; 0 where they are not counted.
    pub fn open_from(&self, address: IpAddr) -> usize {
        self.by_address.lock().get(&address).copied().unwrap_or(0)
    }
}

/// The right to have one copied request on its way to a mirror. Given back when it is dropped.
#[derive(Debug)]
pub struct MirrorPermit(Arc<Shared>);

impl MirrorPermit {
    /// `None`: there are as many as may be. A mirror that is slower than the traffic misses some of it.
    pub fn take(shared: &Arc<Shared>) -> Option<Self> {
        let taken = shared.mirrors.fetch_add(1, Relaxed);
        // Dropping the permit corrects the count.
        let permit = MirrorPermit(Arc::clone(shared));
        (taken < MIRRORS_MAX).then_some(permit)
    }
}

impl Drop for MirrorPermit {
    fn drop(&mut self) {
        self.0.mirrors.fetch_sub(1, Relaxed);
    }
}

/// An open client connection is counted for as long as its permit lives.
#[derive(Debug)]
pub struct ConnectionPermit {
    shared: Arc<Shared>,
    listener: Arc<OpenListener>,
    address: Option<IpAddr>,
    rejected: bool,
}

impl ConnectionPermit {
    /// Counts a connection that this listener accepted from there; for its address, too, where `by_address`.
    pub fn new(
        shared: &Arc<Shared>,
        listener: &Arc<OpenListener>,
        peer: Option<SocketAddr>,
        by_address: bool,
    ) -> Self {
        let address = peer.map(|peer| peer.ip()).filter(|_| by_address);
        if let Some(address) = address {
            *shared.by_address.lock().entry(address).or_default() += 1;
        }
        shared.open.fetch_add(1, Relaxed);
        shared.stats.shard(0).count(Counter::Accepted);
        ConnectionPermit {
            shared: Arc::clone(shared),
            listener: Arc::clone(listener),
            address,
            rejected: false,
        }
    }

    /// The connection is beyond the limit, and is to get a response. False: so many get one already that it is closed
    /// at once; what is rejected must not take the descriptors that requests in flight need.
    pub fn reject(&mut self) -> bool {
        self.rejected = self.shared.rejected.fetch_add(1, Relaxed) < REJECTED_MAX;
        if !self.rejected {
            self.shared.rejected.fetch_sub(1, Relaxed);
        }
        self.rejected
    }

    /// The listener, as it was then.
    pub fn listener(&self) -> &Arc<OpenListener> {
        &self.listener
    }

    /// Whether the connection is beyond the limit.
    pub fn is_rejected(&self) -> bool {
        self.rejected
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.shared.open.fetch_sub(1, Relaxed);
        self.shared.rejected.fetch_sub(usize::from(self.rejected), Relaxed);
        self.shared.stats.shard(0).count(Counter::Closed);
        let Some(address) = self.address else { return };
        let mut by_address = self.shared.by_address.lock();
        let left = by_address.get_mut(&address).map(|count| {
            *count -= 1;
            *count
        });
        if left == Some(0) {
            by_address.remove(&address);
        }
    }
}
