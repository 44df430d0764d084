//! `/metrics`: all counters, in the Prometheus text format 0.0.4. Own writer, because updating a labelled counter of a
//! metrics crate costs more than a request can afford.

pub(super) mod page;
mod process;
mod traffic;

use super::View;
use super::checks;
use super::queues;
use super::server_status::{STATES, state};
use super::sessions;
use super::status::{self, PoolStatus, responses};
use super::tiers;
use crate::base::output;
use crate::base::time::{self, Moment};
use crate::front::Response;
use crate::http1::reason::Reason;
use crate::state::config::Config;
use crate::state::server::Server;
use crate::state::stats::{Counter, Stats};
use crate::state::tls::failure::HandshakeFailure;
use crate::state::tls::listener::Expiry;
use page::{Kind, Page};

const KIND: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The page.
pub(super) fn response(view: &View) -> Response {
    let (mut page, now) = (Page::default(), time::now());
    about(&mut page, view, now);
    reloads(&mut page, view);
    process::process(&mut page);
    requests(&mut page, &view.stats);
    connections(&mut page, view);
    tls(&mut page, view);
    workers(&mut page, view);
    traffic::by_name(&mut page, view);
    pools(&mut page, view);
    servers(&mut page, view, now);
    traffic::by_server(&mut page, view);
    Response::of(200, KIND, page.text)
}

fn reloads(page: &mut Page, view: &View) {
    let told = view.reloads.told();
    let is_good = told.last.as_ref().is_none_or(|last| last.is_applied);
    let help = "Whether the last reload of the configuration was applied; 1 while there was none.";
    page.one("config_last_reload_successful", Kind::Gauge, help, u8::from(is_good));
    let help = "When the configuration in use was read, since 1970.";
    page.one("config_last_reload_success_timestamp_seconds", Kind::Gauge, help, told.loaded_at_unix);
    page.family("config_reloads_total", Kind::Counter, "Reloads of the configuration, by result.");
    page.sample(&[("result", "applied")], told.applied);
    page.sample(&[("result", "failed")], told.failed);
}

fn about(page: &mut Page, view: &View, now: Moment) {
    let algorithm = view.live().config.servers.algorithm.name();
    let build = [("version", env!("CARGO_PKG_VERSION")), ("algorithm", algorithm)];
    page.family("build_info", Kind::Gauge, "Always 1; the labels describe the build.").sample(&build, 1);
    let uptime = now.since(view.started).as_secs_f64();
    page.one("uptime_seconds", Kind::Gauge, "Time since the start.", uptime);
    let draining = u8::from(view.workers.is_draining());
    page.one("draining", Kind::Gauge, "1 while the balancer accepts no new connections.", draining);
}

fn requests(page: &mut Page, stats: &Stats) {
    counter(page, stats, Counter::Requests, "requests_total", "Finished requests.");
    page.family("responses_total", Kind::Counter, "Responses by status class.");
    responses(stats).into_iter().for_each(|(class, count)| page.sample(&[("class", class)], count));
    page.family("rejections_total", Kind::Counter, "Requests that were rejected or failed, by reason.");
    for reason in Reason::ALL {
        page.sample(&[("reason", reason.name())], stats.rejected(*reason));
    }
    let help = "From the last byte of a request's headers to the last byte of its response.";
    page.histogram("request_duration_seconds", help, &stats.durations());
    page.histogram(
        "queue_wait_seconds",
        "Time that connections waited for a worker, and requests for a server.",
        &stats.waits(),
    );
    counter(page, stats, Counter::BytesIn, "received_bytes_total", "Bytes of request bodies from clients.");
    counter(page, stats, Counter::BytesOut, "sent_bytes_total", "Bytes to clients, headers included.");
    counter(
        page,
        stats,
        Counter::Retries,
        "retries_total",
        "Requests sent again, to the same server or another.",
    );
    let help = "Those sent to another server because of the status of a response (retries.on_status).";
    counter(page, stats, Counter::RetriesOnStatus, "retries_on_status_total", help);
    let help = "Second attempts that were begun beside a first one, at another server.";
    counter(page, stats, Counter::Hedges, "hedges_total", help);
    let help = "Second attempts whose response came first.";
    counter(page, stats, Counter::HedgesWon, "hedges_won_total", help);
    counter(page, stats, Counter::Connects, "server_connects_total", "Connections opened to servers.");
    counter(
        page,
        stats,
        Counter::Reuses,
        "server_reuses_total",
        "Requests sent on a pooled server connection.",
    );
    counter(
        page,
        stats,
        Counter::Mirrored,
        "mirrored_requests_total",
        "Copies of requests that mirrors got.",
    );
    let help = "Requests that mirrors missed: too many copies were on their way (in_flight), or the body was too long.";
    page.family("mirror_drops_total", Kind::Counter, help);
    page.sample(&[("reason", "in_flight")], stats.total(Counter::MirrorsDropped));
    page.sample(&[("reason", "body_too_long")], stats.total(Counter::MirrorBodiesTooLong));
    counter(page, stats, Counter::Panics, "panics_total", "Requests that ended in a panic.");
    let help = "Requests that a rate limit with dry_run would have rejected or delayed.";
    counter(page, stats, Counter::DryRunRejections, "rate_limit_dry_run_total", help);
    let help = "Requests that a concurrency limit with dry_run would have rejected.";
    counter(page, stats, Counter::DryRunConcurrency, "concurrency_limit_dry_run_total", help);
    let help = "Requests that waited because no server could be connected to.";
    counter(page, stats, Counter::ServersAwaited, "server_waits_total", help);
    let help = "Access log lines lost: the queue was full, or they could not be written.";
    counter(page, stats, Counter::AccessLinesDropped, "access_lines_dropped_total", help);
    let help = "Spans that the collector took.";
    counter(page, stats, Counter::SpansExported, "spans_exported_total", help);
    let help = "Spans lost: the queue was full, or the collector did not take them.";
    counter(page, stats, Counter::SpansDropped, "spans_dropped_total", help);
    let help = "Log lines lost: the queue was full, or they could not be written.";
    page.one("log_lines_dropped_total", Kind::Counter, help, output::error().lost());
}

fn connections(page: &mut Page, view: &View) {
    let (stats, workers) = (&view.stats, &view.workers);
    page.one("connections", Kind::Gauge, "Open client connections.", workers.connections());
    counter(page, stats, Counter::Accepted, "connections_accepted_total", "Client connections accepted.");
    counter(page, stats, Counter::Closed, "connections_closed_total", "Client connections closed.");
    counter(page, stats, Counter::AcceptErrors, "accept_errors_total", "Errors when accepting a connection.");
    counter(
        page,
        stats,
        Counter::Evicted,
        "connections_evicted_total",
        "Idle connections closed to make room.",
    );
    page.one("tunnels", Kind::Gauge, "Open tunnels (upgraded connections).", workers.tunnels());
    counter(page, stats, Counter::Tunnels, "tunnels_total", "Connections that became tunnels.");
}

fn tls(page: &mut Page, view: &View) {
    let stats = &view.stats;
    counter(
        page,
        stats,
        Counter::TlsHandshakes,
        "tls_handshakes_total",
        "TLS handshakes with clients that were completed.",
    );
    let help = "Handshakes with clients that resumed an earlier session.";
    counter(page, stats, Counter::TlsResumed, "tls_handshakes_resumed_total", help);
    let help = "TLS handshakes with clients that failed, by reason.";
    page.family("tls_handshake_failures_total", Kind::Counter, help);
    for failure in HandshakeFailure::ALL {
        page.sample(&[("reason", failure.name())], stats.failed_handshakes(*failure));
    }
    let live = view.live();
    let listeners = || live.listeners.iter().filter_map(|listener| listener.tls.as_ref());
    let pools = || live.config.pool_ids().filter_map(|pool| live.servers_tls(pool));
    let now = i64::try_from(time::unix_seconds()).unwrap_or(i64::MAX);
    let help = "Time until the certificate expires; negative once it has.";
    page.family("certificate_expiry_seconds", Kind::Gauge, help);
    listeners().for_each(|tls| expiries(page, ("listener", &tls.name), tls.expiries(), now));
    pools()
        .for_each(|tls| expiries(page, ("pool", &tls.pool), tls.certificate.iter().cloned().collect(), now));
    let help =
        "Time until the list of revoked certificates of clients or servers expires; negative once it has.";
    page.family("crl_expiry_seconds", Kind::Gauge, help);
    listeners().for_each(|tls| expiries(page, ("listener", &tls.name), tls.lists(), now));
    pools().for_each(|tls| expiries(page, ("pool", &tls.pool), tls.lists.clone(), now));
}

fn expiries(page: &mut Page, of: (&str, &str), all: Vec<Expiry>, now: i64) {
    for Expiry { name, file, not_after, .. } in all {
        let file = file.display().to_string();
        page.sample(&[of, ("name", &name), ("file", &file)], not_after.saturating_sub(now));
    }
}

fn workers(page: &mut Page, view: &View) {
    let live = view.live();
    let pool = &live.config.threadpool;
    let gauges = view.workers.gauges();
    page.one("workers", Kind::Gauge, "Workers in the pool.", gauges.workers());
    page.one("workers_min", Kind::Gauge, "The minimum number of workers, as configured.", pool.bounds.min);
    page.one("workers_max", Kind::Gauge, "The maximum number of workers, as configured.", pool.bounds.max);
    page.one("workers_started_total", Kind::Counter, "Workers started.", gauges.started());
    page.one("workers_stopped_total", Kind::Counter, "Workers stopped.", gauges.stopped());
    let help = "Requests and tunnels in flight.";
    page.one("requests_in_flight", Kind::Gauge, help, view.workers.in_flight());
    let help = "Requests waiting for a server, because all are at max_in_flight.";
    page.one("requests_waiting", Kind::Gauge, help, view.workers.waiting());
    page.one("queue_length", Kind::Gauge, "Connections waiting for a worker.", view.workers.queued());
    page.one("queue_capacity", Kind::Gauge, "The most connections that may wait.", pool.queue_capacity);
}

fn pools(page: &mut Page, view: &View) {
    let pools = status::pools(view);
    let mut each = |name, help, value: &dyn Fn(&PoolStatus) -> usize| {
        page.family(name, Kind::Gauge, help);
        for pool in &pools {
            page.sample(&[("pool", &pool.name)], value(pool));
        }
    };
    each("pool_servers", "Servers of the pool.", &|pool| pool.servers);
    each("pool_servers_ready", "Servers of the pool that get requests now.", &|pool| pool.ready);
    let help = "Requests waiting for a server of the pool, because all are at max_in_flight.";
    each("pool_requests_waiting", help, &|pool| pool.waiting);
    let help = "Whether too few servers are up, so that requests go to the last known good ones as well.";
    each("pool_fail_open", help, &|pool| usize::from(pool.fail_open.is_some()));
    let help = "Choices of the pool's algorithm in which its shadow would have chosen the same server, or a different one.";
    page.family("pool_shadow_choices_total", Kind::Counter, help);
    for (pool, shadow) in pools.iter().filter_map(|pool| Some((pool, pool.shadow.as_ref()?))) {
        page.sample(&[("pool", &pool.name), ("result", "same")], shadow.same);
        page.sample(&[("pool", &pool.name), ("result", "different")], shadow.different);
    }
    tiers::metrics(page, &pools);
    queues::metrics(page, &pools);
    sessions::metrics(page, &pools);
}

fn servers(page: &mut Page, view: &View, now: Moment) {
    let snapshot = view.table.snapshot();
    let servers = &snapshot.servers;
    let pool = |server: &Server| snapshot.live.config.pool_name(server.pool);
    page.family("server_info", Kind::Gauge, "Always 1; the labels have the server's address.");
    for server in servers {
        let server: &Server = server;
        let (address, backup) = (server.shown_address(), if server.is_backup() { "true" } else { "false" });
        page.sample(
            &[("pool", pool(server)), ("server", &server.name), ("address", &address), ("backup", backup)],
            1,
        );
    }
    page.family("server_state", Kind::Gauge, "1 for the state that a server is in, 0 for the others.");
    for server in servers {
        for word in STATES {
            page.sample(
                &[("pool", pool(server)), ("server", &server.name), ("state", word)],
                u8::from(state(server) == word),
            );
        }
    }
    let config = &snapshot.live.config;
    let mut each = |name, kind, help, value: &dyn Fn(&Server) -> Option<f64>| {
        page.family(name, kind, help);
        for server in servers {
            let labels = labels(config, server);
            value(server).into_iter().for_each(|value| page.sample(&labels, value));
        }
    };
    server_traffic(&mut each, now);
    server_words(&mut each, now);
    server_probes(&mut each);
    checks::metrics(page, view, config, servers);
}

/// Writes a family with a value of each server; `None`: it has none.
type Each<'e> = &'e mut dyn FnMut(&'static str, Kind, &'static str, &dyn Fn(&Server) -> Option<f64>);

fn counted(count: u64) -> Option<f64> {
    Some(count as f64)
}

/// What servers get, and how they respond.
fn server_traffic(each: Each<'_>, now: Moment) {
    each("server_weight", Kind::Gauge, "Weight of the server.", &|s| Some(f64::from(s.weight().0)));
    let help = "The part of its share that the server gets in its slow start; absent when it gets all.";
    each("server_slow_start_ratio", Kind::Gauge, help, &|s| s.slow_start(now));
    each("server_in_flight", Kind::Gauge, "Requests in flight with the server.", &|s| {
        Some(f64::from(s.in_flight()))
    });
    let help = "The most requests that may be in flight with the server now, as set or as measured; absent without a limit.";
    each("server_max_in_flight", Kind::Gauge, help, &|s| s.max_in_flight().map(f64::from));
    each("server_requests_total", Kind::Counter, "Requests sent to the server.", &|s| counted(s.requests()));
    each("server_failures_total", Kind::Counter, "Requests that failed with the server.", &|s| {
        counted(s.failures())
    });
    let help = "Responses below 500 that are not what the pool expects (`servers.expect`).";
    each("server_unexpected_responses_total", Kind::Counter, help, &|s| counted(s.unexpected()));
    let help = "How often the server went down soon after it had come up, as of its last change of health.";
    each("server_flaps", Kind::Gauge, help, &|s| {
        Some(s.last_turn().map_or(0.0, |turn| f64::from(turn.flaps)))
    });
    let help = "Requests sent to the server while its health checks failed or it was ejected.";
    each("server_fail_open_requests_total", Kind::Counter, help, &|s| counted(s.fail_open_requests()));
    each(
        "server_latency_seconds",
        Kind::Gauge,
        "Decaying average of the server's latency; absent while unknown.",
        &|s| s.latency_us(now).map(|us| f64::from(us) / 1e6),
    );
}

/// What servers and their agents say of their load.
fn server_words(each: Each<'_>, now: Moment) {
    each("server_reported_queue", Kind::Gauge, "The load that the server reports, decayed with age.", &|s| {
        s.reported(now).map(f64::from)
    });
    let help = "How much of the server is in use, as its responses say; absent when they do not.";
    each("server_reported_utilization", Kind::Gauge, help, &|s| s.utilization(now).map(f64::from));
    let help =
        "The part of its weight that the server's agent wants, 1 being the whole; absent without an agent.";
    each("server_agent_weight_ratio", Kind::Gauge, help, &|s| {
        s.agent().map(|word| f64::from(word.advice.weight_percent) / 100.0)
    });
    let help = "Whether the last question to the server's agent got a line that was understood.";
    each("server_agent_heard", Kind::Gauge, help, &|s| {
        s.agent().map(|word| f64::from(u8::from(word.error.is_none())))
    });
}

/// What probes found.
fn server_probes(each: Each<'_>) {
    each("server_check_passed", Kind::Gauge, "Whether the last probe passed.", &|s| {
        s.last_check().map(|check| f64::from(u8::from(check.passed)))
    });
    each("server_check_duration_seconds", Kind::Gauge, "How long the last probe took.", &|s| {
        s.last_check().map(|check| check.took.as_secs_f64())
    });
    each(
        "server_check_seconds_total",
        Kind::Counter,
        "How long all probes of the server took together.",
        &|s| Some(s.checks().took.as_secs_f64()),
    );
    each("server_check_timestamp_seconds", Kind::Gauge, "When the last probe ended, since 1970.", &|s| {
        s.last_check().and_then(|check| counted(check.unix_seconds))
    });
}

/// The labels that name a server.
pub(super) fn labels<'s>(config: &'s Config, server: &'s Server) -> [(&'static str, &'s str); 2] {
    [("pool", config.pool_name(server.pool)), ("server", &server.name)]
}

fn counter(page: &mut Page, stats: &Stats, counter: Counter, name: &str, help: &str) {
    page.one(name, Kind::Counter, help, stats.total(counter));
}
