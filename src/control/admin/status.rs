//! The JSON of `/api/v1/status` and `/api/v1/pools`, filled from the shared state.

use super::View;
use super::fail_open::FailOpenStatus;
use super::listeners::{self, ListenerStatus};
use super::names::{self, NameStatus};
use super::queues::{self, QueueStatus};
use super::server_status::{ServerStatus, servers};
use super::sessions::{self, StickyStatus};
use super::tiers::TierStatus;
use crate::base::ids::{ByPool, PoolId};
use crate::base::time;
use crate::http1::reason::Reason;
use crate::state::histogram::Counts;
use crate::state::history::Sample;
use crate::state::instance::Instance;
use crate::state::stats::{Counter, Stats};
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::{Duration, UNIX_EPOCH};

/// `GET /api/v1/status`.
#[derive(Debug, Serialize)]
pub(super) struct Status {
    version: &'static str,
    instance: Instance,
    uptime_s: u64,
    draining: bool,
    config: ConfigStatus,
    listeners: Vec<ListenerStatus>,
    algorithm: &'static str,
    threadpool: Threadpool,
    pools: Vec<PoolStatus>,
    servers: Vec<ServerStatus>,
    /// Names whose addresses are all servers.
    names: Vec<NameStatus>,
    totals: Totals,
}

#[derive(Debug, Serialize)]
struct ConfigStatus {
    /// Null without a file.
    file: Option<String>,
    /// RFC 3339, in UTC.
    loaded_at: String,
    /// Null while there was none.
    last_reload: Option<ReloadStatus>,
}

#[derive(Debug, Serialize)]
struct ReloadStatus {
    /// RFC 3339, in UTC.
    at: String,
    /// `applied` or `failed`.
    result: &'static str,
    message: String,
}

#[derive(Debug, Serialize)]
struct Threadpool {
    min: usize,
    max: usize,
    workers: usize,
    in_flight: usize,
    queued: usize,
    queue_capacity: usize,
    waiting: usize,
    started: u64,
    stopped: u64,
}

/// One pool, also in `GET /api/v1/pools`.
#[derive(Debug, Serialize)]
pub(super) struct PoolStatus {
    pub(super) name: String,
    algorithm: &'static str,
    pub(super) servers: usize,
    /// Those that get requests now.
    pub(super) ready: usize,
    in_flight: u32,
    /// Requests that wait for a server with room.
    pub(super) waiting: usize,
    queue_capacity: usize,
    /// By priority, from the highest.
    pub(super) queue: Vec<QueueStatus>,
    /// Null where the pool keeps no sessions.
    pub(super) sticky: Option<StickyStatus>,
    /// Null unless too few servers are left, so that the last known good ones are used as well.
    pub(super) fail_open: Option<FailOpenStatus>,
    /// In order; empty where there is one only.
    pub(super) tiers: Vec<TierStatus>,
    /// Null without one.
    pub(super) shadow: Option<ShadowStatus>,
}

/// What the second algorithm of a pool would have chosen.
#[derive(Debug, Serialize)]
pub(super) struct ShadowStatus {
    algorithm: &'static str,
    /// Choices in which it would have been the same server.
    pub(super) same: u64,
    /// Choices in which it would have been another one.
    pub(super) different: u64,
}

#[derive(Debug, Serialize)]
struct Totals {
    requests: u64,
    responses: BTreeMap<&'static str, u64>,
    /// Only those that occurred.
    rejections: BTreeMap<&'static str, u64>,
    retries: u64,
    connections: Connections,
    bytes: Bytes,
    request_ms: Quantiles,
    queue_wait_ms: Quantiles,
}

#[derive(Debug, Serialize)]
struct Connections {
    open: usize,
    accepted: u64,
    tunnels: usize,
}

#[derive(Debug, Serialize)]
pub(super) struct Bytes {
    #[serde(rename = "in")]
    pub(super) received: u64,
    #[serde(rename = "out")]
    pub(super) sent: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct Quantiles {
    p50: f64,
    p90: f64,
    p99: f64,
}

/// The current state of the balancer.
pub(super) fn status(view: &View) -> Status {
    let now = time::now();
    Status {
        version: env!("CARGO_PKG_VERSION"),
        instance: view.instance(),
        uptime_s: now.since(view.started).as_secs(),
        draining: view.workers.is_draining(),
        config: config(view),
        listeners: listeners::all(view),
        algorithm: view.live().config.servers.algorithm.name(),
        threadpool: threadpool(view),
        pools: pools(view),
        servers: servers(view, None, now),
        names: names::names(view, None, now),
        totals: totals(view),
    }
}

fn config(view: &View) -> ConfigStatus {
    let told = view.reloads.told();
    let last_reload = told.last.map(|last| ReloadStatus {
        at: unix_rfc3339(last.at_unix),
        result: if last.is_applied { "applied" } else { "failed" },
        message: last.message,
    });
    let file = view.live().config.file.as_ref().map(|file| file.display().to_string());
    ConfigStatus { file, loaded_at: unix_rfc3339(told.loaded_at_unix), last_reload }
}

/// All pools, the default one first.
pub(super) fn pools(view: &View) -> Vec<PoolStatus> {
    let snapshot = view.table.snapshot();
    let config = &snapshot.live.config;
    let mut in_flight: ByPool<u32> = config.pool_ids().map(|pool| (pool, 0)).collect();
    for server in &snapshot.servers {
        in_flight.get_mut(server.pool).into_iter().for_each(|count| *count += server.in_flight());
    }
    let status = |pool: PoolId| {
        let (settings, servers) = (config.pool(pool), snapshot.pool(pool));
        PoolStatus {
            name: config.pool_name(pool).to_owned(),
            algorithm: settings.algorithm.name(),
            servers: servers.count,
            ready: servers.active().count(),
            tiers: servers.tiers.iter().map(TierStatus::of).collect(),
            in_flight: in_flight.get(pool).copied().unwrap_or(0),
            waiting: view.workers.waiting_in(pool),
            queue_capacity: settings.queue_capacity,
            fail_open: servers.fail_open.map(FailOpenStatus::of),
            queue: queues::status(&snapshot.live.pool(pool).queue),
            shadow: servers.shadow.as_ref().map(|shadow| ShadowStatus {
                algorithm: shadow.algorithm.name(),
                same: shadow.choices.same(),
                different: shadow.choices.different(),
            }),
            sticky: sessions::status(&snapshot.live, pool),
        }
    };
    config.pool_ids().map(status).collect()
}

/// The classes of responses and their counts.
pub(super) fn responses(stats: &Stats) -> [(&'static str, u64); 6] {
    Sample::CLASSES.map(|(class, counter)| (class, stats.total(counter)))
}

fn threadpool(view: &View) -> Threadpool {
    let live = view.live();
    let (pool, gauges) = (&live.config.threadpool, view.workers.gauges());
    Threadpool {
        min: pool.bounds.min,
        max: pool.bounds.max,
        workers: gauges.workers(),
        in_flight: view.workers.in_flight(),
        queued: view.workers.queued(),
        queue_capacity: pool.queue_capacity,
        waiting: view.workers.waiting(),
        started: gauges.started(),
        stopped: gauges.stopped(),
    }
}

fn totals(view: &View) -> Totals {
    let stats = &view.stats;
    let rejections = Reason::ALL.iter().map(|reason| (reason.name(), stats.rejected(*reason)));
    Totals {
        requests: stats.total(Counter::Requests),
        responses: responses(stats).into_iter().collect(),
        rejections: rejections.filter(|(_, count)| *count > 0).collect(),
        retries: stats.total(Counter::Retries),
        connections: Connections {
            open: view.workers.connections(),
            accepted: stats.total(Counter::Accepted),
            tunnels: view.workers.tunnels(),
        },
        bytes: Bytes { received: stats.total(Counter::BytesIn), sent: stats.total(Counter::BytesOut) },
        request_ms: quantiles(&stats.durations()),
        queue_wait_ms: quantiles(&stats.waits()),
    }
}

/// A date outside the supported range becomes the epoch: a clock may have any value.
pub(super) fn unix_rfc3339(unix_seconds: u64) -> String {
    let year_9999 = 253_402_300_799;
    let seconds = if unix_seconds > year_9999 { 0 } else { unix_seconds };
    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(seconds)).to_string()
}

pub(super) fn quantiles(counts: &Counts) -> Quantiles {
    let ms = |share| counts.quantile_us(share) as f64 / 1000.0;
    Quantiles { p50: ms(0.5), p90: ms(0.9), p99: ms(0.99) }
}

/// Rounded to microseconds, for readability.
pub(super) fn rounded(number: f64) -> f64 {
    (number * 1000.0).round() / 1000.0
}
