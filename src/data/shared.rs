//! Layer 1: what all threads of one data plane share, beside the server table: counters, limits that span connections, and
//! whether it drains.

mod drain;
mod listener;
mod permits;

pub use drain::STREAM_END_WAIT;
pub use permits::{ConnectionPermit, MirrorPermit, TunnelPermit};

use super::verify::Verifier;
use crate::base::ids::RequestIds;
use crate::base::limits::Descriptors;
use crate::base::time::Moment;
use crate::state::stats::Stats;
use crate::state::table::Table;
use crate::state::verdict::Verdicts;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Connections run short when less than one in so many of those that may be open is free: time enough for others to make room
/// while these are taken.
const FREE_ONE_IN: usize = 4;

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

    /// The first TCP address that it listens on.
    pub fn address(&self) -> Option<SocketAddr> {
        self.table.live().listeners.iter().find_map(|listener| listener.place.address())
    }

    /// Open client connections.
    pub fn open(&self) -> usize {
        self.open.load(Relaxed)
    }

    /// Whether connections run short where so many may be open: those that only linger, or take their time with a first
    /// request, should then make room soon.
    pub fn is_near_limit(&self, connections_max: usize) -> bool {
        self.open() > connections_max / FREE_ONE_IN * (FREE_ONE_IN - 1)
    }

    /// Open connections of this address; 0 where they are not counted.
    pub fn open_from(&self, address: IpAddr) -> usize {
        self.by_address.lock().get(&address).copied().unwrap_or(0)
    }
}
