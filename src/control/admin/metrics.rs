//! `/metrics`: all counters, in the Prometheus text format 0.0.4. Own writer, because updating a labelled counter of a
//! metrics crate costs more than a request can afford.

use super::View;
use super::status::{self, PoolStatus, STATES, responses, state};
use crate::base::output;
use crate::base::time::{self, Moment};
use crate::front::Response;
use crate::http1::reason::Reason;
use crate::state::histogram::Counts;
use crate::state::server::Server;
use crate::state::stats::{Counter, RouteCounts, Stats};
use crate::state::tls::failure::HandshakeFailure;
use std::fmt::{Display, Write};

const KIND: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The page.
pub(super) fn response(view: &View) -> Response {
    let (mut page, now) = (Page::default(), time::now());
    process(&mut page, view, now);
    requests(&mut page, &view.stats);
    connections(&mut page, view);
    tls(&mut page, view);
    workers(&mut page, view);
    routes(&mut page, view);
    pools(&mut page, view);
    servers(&mut page, view, now);
    Response::of(200, KIND, page.text)
}

fn process(page: &mut Page, view: &View, now: Moment) {
    let algorithm = view.config.servers.algorithm.name();
    let build = [("version", env!("CARGO_PKG_VERSION")), ("algorithm", algorithm)];
    page.family("build_info", Kind::Gauge, "Always 1; the labels describe the build.").sample(&build, 1);
    let uptime = now.since(view.started).as_secs_f64();
    page.one("uptime_seconds", Kind::Gauge, "Time since the start.", uptime);
    let draining = u8::from(view.workers.is_draining());
    page.one("draining", Kind::Gauge, "1 while the balancer accepts no new connections.", draining);
}

fn requests(page: &mut Page, stats: &Stats) {
    page.counter(stats, Counter::Requests, "requests_total", "Finished requests.");
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
    page.counter(stats, Counter::BytesIn, "received_bytes_total", "Bytes of request bodies from clients.");
    page.counter(stats, Counter::BytesOut, "sent_bytes_total", "Bytes to clients, headers included.");
    page.counter(
        stats,
        Counter::Retries,
        "retries_total",
        "Requests sent again, to the same server or another.",
    );
    page.counter(stats, Counter::Connects, "server_connects_total", "Connections opened to servers.");
    page.counter(
        stats,
        Counter::Reuses,
        "server_reuses_total",
        "Requests sent on a pooled server connection.",
    );
    page.counter(stats, Counter::Mirrored, "mirrored_requests_total", "Copies of requests that mirrors got.");
    let help = "Requests that mirrors missed: too many copies were on their way, or the body was too long.";
    page.counter(stats, Counter::MirrorsDropped, "mirror_drops_total", help);
    page.counter(stats, Counter::Panics, "panics_total", "Requests that ended in a panic.");
    let help = "Requests that a rate limit with dry_run would have rejected or delayed.";
    page.counter(stats, Counter::DryRunRejections, "rate_limit_dry_run_total", help);
    let help = "Access log lines lost: the queue was full, or they could not be written.";
    page.counter(stats, Counter::AccessLinesDropped, "access_lines_dropped_total", help);
    let help = "Log lines lost: the queue was full, or they could not be written.";
    page.one("log_lines_dropped_total", Kind::Counter, help, output::error().lost());
}

fn connections(page: &mut Page, view: &View) {
    let (stats, workers) = (&view.stats, &view.workers);
    page.one("connections", Kind::Gauge, "Open client connections.", workers.connections());
    page.counter(stats, Counter::Accepted, "connections_accepted_total", "Client connections accepted.");
    page.counter(stats, Counter::Closed, "connections_closed_total", "Client connections closed.");
    page.counter(stats, Counter::AcceptErrors, "accept_errors_total", "Errors when accepting a connection.");
    page.counter(
        stats,
        Counter::Evicted,
        "connections_evicted_total",
        "Idle connections closed to make room.",
    );
    page.one("tunnels", Kind::Gauge, "Open tunnels (upgraded connections).", workers.tunnels());
    page.counter(stats, Counter::Tunnels, "tunnels_total", "Connections that became tunnels.");
}

fn tls(page: &mut Page, view: &View) {
    let stats = &view.stats;
    page.counter(
        stats,
        Counter::TlsHandshakes,
        "tls_handshakes_total",
        "TLS handshakes with clients that were completed.",
    );
    let help = "Handshakes with clients that resumed an earlier session.";
    page.counter(stats, Counter::TlsResumed, "tls_handshakes_resumed_total", help);
    let help = "TLS handshakes with clients that failed, by reason.";
    page.family("tls_handshake_failures_total", Kind::Counter, help);
    for failure in HandshakeFailure::ALL {
        page.sample(&[("reason", failure.name())], stats.failed_handshakes(*failure));
    }
    let now = i64::try_from(time::unix_seconds()).unwrap_or(i64::MAX);
    let help = "Time until the certificate expires; negative once it has.";
    page.family("certificate_expiry_seconds", Kind::Gauge, help);
    for listener in &view.tls {
        for expiry in listener.expiries() {
            let labels = [("listener", listener.name.as_str()), ("name", expiry.name.as_str())];
            let file = expiry.file.display().to_string();
            page.sample(&[labels[0], labels[1], ("file", &file)], expiry.not_after.saturating_sub(now));
        }
    }
}

fn workers(page: &mut Page, view: &View) {
    let pool = &view.config.threadpool;
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

fn routes(page: &mut Page, view: &View) {
    page.family("route_requests_total", Kind::Counter, "Finished requests of the route, by status class.");
    for (at, spec) in view.config.routes.iter().enumerate() {
        for (class, count) in RouteCounts::CLASSES.into_iter().zip(view.stats.route(at).read()) {
            page.sample(&[("route", &spec.route.name), ("class", class)], count);
        }
    }
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
}

fn servers(page: &mut Page, view: &View, now: Moment) {
    let snapshot = view.table.snapshot();
    let servers = &snapshot.servers;
    let pool = |server: &Server| view.config.pool_name(server.pool);
    page.family("server_info", Kind::Gauge, "Always 1; the labels have the server's address.");
    for server in servers {
        let server: &Server = server;
        let (address, backup) = (server.address.to_string(), if server.backup { "true" } else { "false" });
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
    let mut each = |name, kind, help, value: &dyn Fn(&Server) -> Option<f64>| {
        page.family(name, kind, help);
        for server in servers {
            let labels = [("pool", pool(server)), ("server", &server.name)];
            value(server).into_iter().for_each(|value| page.sample(&labels, value));
        }
    };
    let counted = |count: u64| Some(count as f64);
    each("server_weight", Kind::Gauge, "Weight of the server.", &|s| Some(f64::from(s.weight().0)));
    each("server_in_flight", Kind::Gauge, "Requests in flight with the server.", &|s| {
        Some(f64::from(s.in_flight()))
    });
    each("server_requests_total", Kind::Counter, "Requests sent to the server.", &|s| counted(s.requests()));
    each("server_failures_total", Kind::Counter, "Requests that failed with the server.", &|s| {
        counted(s.failures())
    });
    each(
        "server_latency_seconds",
        Kind::Gauge,
        "Decaying average of the server's latency; absent while unknown.",
        &|s| s.latency_us(now).map(|us| f64::from(us) / 1e6),
    );
    each("server_reported_queue", Kind::Gauge, "The load that the server reports, decayed with age.", &|s| {
        s.reported(now).map(f64::from)
    });
    each("server_check_passed", Kind::Gauge, "Whether the last probe passed.", &|s| {
        s.last_check().map(|check| f64::from(u8::from(check.passed)))
    });
    each("server_check_duration_seconds", Kind::Gauge, "How long the last probe took.", &|s| {
        s.last_check().map(|check| check.took.as_secs_f64())
    });
    each("server_check_timestamp_seconds", Kind::Gauge, "When the last probe ended, since 1970.", &|s| {
        s.last_check().and_then(|check| counted(check.unix_seconds))
    });
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// The text so far. Samples belong to the last family.
#[derive(Debug, Default)]
struct Page {
    text: String,
    name: &'static str,
}

impl Page {
    fn family(&mut self, name: &'static str, kind: Kind, help: &str) -> &mut Self {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        self.name = name;
        self.line(format_args!("# HELP evenkeel_{name} {help}"));
        self.line(format_args!("# TYPE evenkeel_{name} {kind}"));
        self
    }

    fn sample(&mut self, labels: &[(&str, &str)], value: impl Display) {
        self.suffixed("", labels, value);
    }

    /// A family with one sample.
    fn one(&mut self, name: &'static str, kind: Kind, help: &str, value: impl Display) {
        self.family(name, kind, help).sample(&[], value);
    }

    fn counter(&mut self, stats: &Stats, counter: Counter, name: &'static str, help: &str) {
        self.one(name, Kind::Counter, help, stats.total(counter));
    }

    /// Buckets at the powers of two of a microsecond. The last one also counts longer durations, so its upper bound
    /// would be wrong: it is in `+Inf` alone.
    fn histogram(&mut self, name: &'static str, help: &str, counts: &Counts) {
        self.family(name, Kind::Histogram, help);
        let buckets: Vec<_> = counts.cumulative().collect();
        for (upper_us, count) in &buckets[..buckets.len().saturating_sub(1)] {
            // Whole microseconds were counted: up to 7 us means less than 8 us.
            let bound = (upper_us + 1) as f64 / 1e6;
            self.suffixed("_bucket", &[("le", &bound.to_string())], count);
        }
        self.suffixed("_bucket", &[("le", "+Inf")], counts.count());
        self.suffixed("_sum", &[], counts.sum_us as f64 / 1e6);
        self.suffixed("_count", &[], counts.count());
    }

    fn suffixed(&mut self, suffix: &str, labels: &[(&str, &str)], value: impl Display) {
        let name = self.name;
        if labels.is_empty() {
            return self.line(format_args!("evenkeel_{name}{suffix} {value}"));
        }
        let labels = labels.iter().map(|(label, value)| format!("{label}=\"{}\"", escaped(value)));
        let labels = labels.collect::<Vec<_>>().join(",");
        self.line(format_args!("evenkeel_{name}{suffix}{{{labels}}} {value}"));
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.text, "{line}");
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::histogram::Histogram;
    use std::time::Duration;

    #[test]
    fn labels_are_escaped() {
        let mut page = Page::default();
        page.family("x", Kind::Gauge, "h").sample(&[("a", "\\ \" \n"), ("b", "é")], 1.5);
        let expected =
            "# HELP evenkeel_x h\n# TYPE evenkeel_x gauge\nevenkeel_x{a=\"\\\\ \\\" \\n\",b=\"é\"} 1.5\n";
        assert_eq!(page.text, expected);
    }

    #[test]
    fn a_histogram_is_cumulative_and_in_seconds() {
        let (histogram, mut counts) = (Histogram::default(), Counts::default());
        for us in [3, 4, 1_000_000, u64::from(u32::MAX)] {
            histogram.record(Duration::from_micros(us));
        }
        histogram.add_to(&mut counts);
        let mut page = Page::default();
        page.histogram("x", "h", &counts);
        for line in [
            "evenkeel_x_bucket{le=\"0.000004\"} 1",
            "evenkeel_x_bucket{le=\"0.000008\"} 2",
            "evenkeel_x_bucket{le=\"0.524288\"} 2",
            "evenkeel_x_bucket{le=\"1.048576\"} 3",
            "evenkeel_x_bucket{le=\"268.435456\"} 3",
            "evenkeel_x_bucket{le=\"+Inf\"} 4",
            "evenkeel_x_sum 4295.967302",
            "evenkeel_x_count 4",
        ] {
            assert!(page.text.lines().any(|found| found == line), "{line} is not in\n{}", page.text);
        }
        assert!(!page.text.contains("536.870912"), "the last bucket has no bound");
    }
}
