//! The JSON of a server, in `/api/v1/status` and `/api/v1/servers`.

use super::View;
use super::agents::{self, AgentStatus};
use super::checks::{self, Checks, LastCheck};
use super::names;
use super::rates::Rates;
use super::status::{rounded, unix_rfc3339};
use crate::base::ids::PoolId;
use crate::base::time::Moment;
use crate::policy::health::Health;
use crate::state::server::{Mode, Server};
use serde::Serialize;

/// All server states.
pub(super) const STATES: [&str; 6] = ["up", "down", "starting", "ejected", "drain", "maint"];

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
    /// Whether it is measured (`"auto"`).
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
