//! The JSON of `/api/v1/status` and `/api/v1/servers`, filled from the shared state.

use super::View;
use super::agents::{self, AgentStatus};
use super::checks::{self, Checks, LastCheck};
use super::fail_open::FailOpenStatus;
use super::listeners::{self, ListenerStatus};
use super::names::{self, NameStatus};
use super::queues::{self, QueueStatus};
use super::rates::Rates;
use super::sessions::{self, StickyStatus};
use super::tiers::TierStatus;
use crate::base::ids::{ByPool, PoolId};
use crate::base::time::{self, Moment};
use crate::http1::reason::Reason;
use crate::policy::health::Health;
use crate::state::histogram::Counts;
use crate::state::history::Sample;
use crate::state::instance::Instance;
use crate::state::server::{Mode, Server};
use crate::state::stats::{Counter, Stats};
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::{Duration, UNIX_EPOCH};

/// All server states.
pub(super) const STATES: [&str; 6] = ["up", "down", "starting", "ejected", "drain", "maint"];

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

/// One server, also `GET /api/v1/servers/{name}`.
#[derive(Debug, Serialize)]
pub(super) struct ServerStatus {
    name: String,
    pool: String,
    address: String,
    /// The name that it is one of the addresses of; null for a server on its own.
    member_of: Option<String>,
    state: &'static str,
    /// It gets requests all the same, because too few servers of its pool are up.
    fail_open: bool,
    /// `file`, or `api` for one that was registered.
    origin: &'static str,
    /// What the operator set: `ready`, `drain` or `maint`.
    mode: &'static str,
    /// What its agent says; null where it has none, or was not heard yet.
    agent_port: Option<u16>,
    agent: Option<AgentStatus>,
    /// Why its health is what it is, and since when; null while it is as it was at the start.
    reason: Option<String>,
    since: Option<String>,
    /// How often it went down soon after it had come up, as of its last change.
    flaps: u32,
    weight: u16,
    /// The part of its share that it gets in its slow start, 0.1 to 1; null when it gets all.
    slow_start: Option<f64>,
    backup: bool,
    priority: u8,
    /// Null where it is in none.
    zone: Option<String>,
    in_flight: u32,
    /// Null without a limit.
    max_in_flight: Option<u32>,
    /// Whether that is measured (`"auto"`).
    max_in_flight_auto: bool,
    /// Requests sent to it per second, over the last ten seconds.
    rate: f64,
    /// Its part of the requests of its pool in that time, 0 to 1; null while there are none.
    share: Option<f64>,
    /// Null while unknown.
    ewma_ms: Option<f64>,
    /// Null when the server reports nothing, or has not done so for a while.
    reported_queue: Option<f64>,
    /// How much of it is in use by its responses, 0 to 1; null when they do not say, or have not for a while.
    reported_utilization: Option<f64>,
    requests: u64,
    failures: u64,
    /// What kind of probe it gets: `http`, `tcp`, `grpc` or `exec`; null without probes.
    check_type: Option<&'static str>,
    last_check: Option<LastCheck>,
    /// The last one that failed; null while none did.
    last_failed_check: Option<LastCheck>,
    checks: Checks,
    /// Null unless the address has a name.
    name_lookup: Option<NameLookup>,
}

#[derive(Debug, Serialize)]
pub(super) struct NameLookup {
    /// The last addresses found; they stay in use while the name does not resolve.
    addresses: Vec<String>,
    /// How long the name has not resolved; null while it does.
    fails_for_s: Option<u64>,
    error: Option<String>,
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
struct Bytes {
    #[serde(rename = "in")]
    received: u64,
    #[serde(rename = "out")]
    sent: u64,
}

#[derive(Debug, Serialize)]
struct Quantiles {
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

/// The servers of a pool, or of all pools, in the order in which they were added.
pub(super) fn servers(view: &View, pool: Option<PoolId>, now: Moment) -> Vec<ServerStatus> {
    let snapshot = view.table.snapshot();
    let wanted = snapshot.servers.iter().filter(|server| pool.is_none_or(|pool| server.pool == pool));
    let rates = Rates::of(view);
    wanted.map(|known| one(view, known, &rates, now)).collect()
}

/// The current state of one server.
pub(super) fn server(view: &View, server: &Server, now: Moment) -> ServerStatus {
    one(view, server, &Rates::of(view), now)
}

fn one(view: &View, server: &Server, rates: &Rates, now: Moment) -> ServerStatus {
    let turn = server.last_turn();
    let flaps = turn.as_ref().map_or(0, |turn| turn.flaps);
    let (word, live) = (server.agent(), view.live());
    let check = live.config.pool(server.pool).agent_check.as_ref();
    let (since, reason) = match &word {
        Some(word) if agents::takes_out(server) => (Some(word.at_unix_seconds), Some(agents::said(word))),
        _ => (turn.as_ref().map(|turn| turn.unix_seconds), turn.map(|turn| turn.why)),
    };
    ServerStatus {
        pool: view.live().config.pool_name(server.pool).to_owned(),
        name: server.name.clone(),
        address: server.shown_address(),
        member_of: names::of(server),
        state: state(server),
        fail_open: server.is_fail_open(),
        origin: origin(view, server),
        mode: server.mode().name(),
        agent_port: check.map(|check| server.own_agent_port().unwrap_or(check.port)),
        agent: word.map(agents::status),
        since: since.map(unix_rfc3339),
        reason,
        flaps,
        weight: server.weight().0,
        slow_start: server.slow_start(now).map(rounded),
        backup: server.is_backup(),
        priority: server.priority(),
        zone: server.zone().map(|zone| zone.to_string()),
        in_flight: server.in_flight(),
        max_in_flight: server.max_in_flight(),
        max_in_flight_auto: server.has_own_measure(),
        rate: rounded(rates.rate(server)),
        share: rates.share(server).map(rounded),
        ewma_ms: server.latency_us(now).map(|us| rounded(f64::from(us) / 1000.0)),
        reported_queue: server.reported(now).map(|load| rounded(f64::from(load))),
        reported_utilization: server.utilization(now).map(|value| rounded(f64::from(value))),
        requests: server.requests(),
        failures: server.failures(),
        check_type: checks::kind(view, server),
        last_check: server.last_check().map(checks::last),
        last_failed_check: server.last_failed_check().map(checks::last),
        checks: checks::counts(server),
        name_lookup: server.name_to_look_up().map(|_| name_lookup(server, now)),
    }
}

/// Where a server comes from.
pub(super) fn origin(view: &View, server: &Server) -> &'static str {
    let live = view.live();
    let list = &live.config.pool(server.pool).list;
    if list.iter().any(|spec| server.is_of(spec) || names::of(server).as_deref() == Some(&spec.name)) {
        "file"
    } else {
        "api"
    }
}

pub(super) fn name_lookup(server: &Server, now: Moment) -> NameLookup {
    let loss = server.addresses().loss();
    NameLookup {
        addresses: server.addresses().all().iter().map(ToString::to_string).collect(),
        fails_for_s: loss.as_ref().map(|loss| now.since(loss.since).as_secs()),
        error: loss.map(|loss| loss.words),
    }
}

/// One of [`STATES`]. The operator's mode takes precedence over what its agent says, and that over health.
pub(super) fn state(server: &Server) -> &'static str {
    match (server.mode_now(), server.health()) {
        (Mode::Ready, _) if server.is_down_by_agent() => "down",
        (Mode::Drain, _) => "drain",
        (Mode::Maint, _) => "maint",
        (Mode::Ready, Health::Up) => "up",
        (Mode::Ready, Health::Down) => "down",
        (Mode::Ready, Health::Starting) => "starting",
        (Mode::Ready, Health::Ejected { .. }) => "ejected",
    }
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

fn quantiles(counts: &Counts) -> Quantiles {
    let ms = |share| counts.quantile_us(share) as f64 / 1000.0;
    Quantiles { p50: ms(0.5), p90: ms(0.9), p99: ms(0.99) }
}

/// Rounded to microseconds, for readability.
pub(super) fn rounded(number: f64) -> f64 {
    (number * 1000.0).round() / 1000.0
}
