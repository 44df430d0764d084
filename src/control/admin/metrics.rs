//! `/metrics`: everything that is counted, in the Prometheus text format 0.0.4. Own writer: a labelled counter of a
//! metrics crate costs an update more than a request may.

use super::View;
use super::status::{STATES, answers, state};
use crate::base::output;
use crate::base::time::{self, Moment};
use crate::front::Answer;
use crate::http1::reason::Reason;
use crate::state::histogram::Counts;
use crate::state::server::Server;
use crate::state::stats::{Counter, Stats};
use std::fmt::{Display, Write};
use std::sync::Arc;

const KIND: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The page.
pub(super) fn answer(view: &View) -> Answer {
    let (mut page, now) = (Page::default(), time::now());
    process(&mut page, view, now);
    requests(&mut page, &view.stats);
    connections(&mut page, view);
    workers(&mut page, view);
    servers(&mut page, &view.table.snapshot().servers, now);
    Answer::of(200, KIND, page.text)
}

fn process(page: &mut Page, view: &View, now: Moment) {
    let algorithm = view.config.servers.algorithm.name();
    let build = [("version", env!("CARGO_PKG_VERSION")), ("algorithm", algorithm)];
    page.family("build_info", Kind::Gauge, "Always 1; the labels say what runs.").sample(&build, 1);
    let uptime = now.since(view.started).as_secs_f64();
    page.one("uptime_seconds", Kind::Gauge, "Time since the start.", uptime);
    let draining = u8::from(view.team.is_draining());
    page.one("draining", Kind::Gauge, "1 while the balancer takes no new connections.", draining);
}

fn requests(page: &mut Page, stats: &Stats) {
    page.counter(stats, Counter::Requests, "requests_total", "Requests, each when it has ended.");
    page.family("answers_total", Kind::Counter, "Requests by the class of the status that was sent.");
    answers(stats).into_iter().for_each(|(class, count)| page.sample(&[("class", class)], count));
    page.family(
        "refusals_total",
        Kind::Counter,
        "Requests that were refused or came to a bad end, by reason.",
    );
    for reason in Reason::ALL {
        page.sample(&[("reason", reason.name())], stats.refused(*reason));
    }
    let help = "From the first byte of a request's head to the last byte of its answer.";
    page.histogram("request_duration_seconds", help, &stats.durations());
    page.histogram("queue_wait_seconds", "From a request's readiness to a worker.", &stats.waits());
    page.counter(stats, Counter::BytesIn, "received_bytes_total", "Bytes of request bodies from clients.");
    page.counter(stats, Counter::BytesOut, "sent_bytes_total", "Bytes to clients, heads included.");
    page.counter(
        stats,
        Counter::Retries,
        "retries_total",
        "Requests sent again, to the same server or another.",
    );
    page.counter(stats, Counter::Dials, "server_dials_total", "Connections opened to servers.");
    page.counter(
        stats,
        Counter::Reuses,
        "server_reuses_total",
        "Requests sent on a pooled server connection.",
    );
    page.counter(stats, Counter::Panics, "panics_total", "Requests lost to a fault of the balancer.");
    let help = "Lines of the access log that came too fast, or could not be written.";
    page.counter(stats, Counter::AccessLinesDropped, "access_lines_dropped_total", help);
    let help = "Lines of the log that came too fast, or could not be written.";
    page.one("log_lines_dropped_total", Kind::Counter, help, output::error().lost());
}

fn connections(page: &mut Page, view: &View) {
    let (stats, team) = (&view.stats, &view.team);
    page.one("connections", Kind::Gauge, "Open client connections.", team.connections());
    page.counter(stats, Counter::Accepted, "connections_accepted_total", "Client connections accepted.");
    page.counter(stats, Counter::Closed, "connections_closed_total", "Client connections closed.");
    page.counter(stats, Counter::AcceptErrors, "accept_errors_total", "Errors of accepting a connection.");
    page.counter(
        stats,
        Counter::Evicted,
        "connections_evicted_total",
        "Idle connections closed to make room.",
    );
    let told = "Requests that are with a server while no worker waits for them.";
    page.one("requests_away", Kind::Gauge, told, team.away());
    let told = "Clients that share one worker, which waits for all of them at once.";
    page.one("clients_in_company", Kind::Gauge, told, team.in_company());
    let told = "Workers that wait for clients and servers in the accept thread's place.";
    page.one("workers_on_watch", Kind::Gauge, told, team.on_watch());
    page.one("streamers", Kind::Gauge, "Workers that left the crew with a long body.", team.streamers());
    let help = "Requests sent on their way while their worker went on with others.";
    page.counter(stats, Counter::SentAhead, "requests_sent_ahead_total", help);
    page.one("tunnels", Kind::Gauge, "Open tunnels (upgraded connections).", team.tunnels());
    page.counter(stats, Counter::Tunnels, "tunnels_total", "Connections that became tunnels.");
    let help = "Waits of a worker on a socket for the next request, by whether it came.";
    page.family("lingers_total", Kind::Counter, help);
    page.sample(&[("result", "paid")], stats.total(Counter::LingersPaid));
    page.sample(&[("result", "wasted")], stats.total(Counter::LingersWasted));
}

fn workers(page: &mut Page, view: &View) {
    let (pool, crew, stats) = (&view.config.threadpool, view.team.crew(), &view.stats);
    page.one("workers", Kind::Gauge, "Workers of the pool.", crew.workers());
    page.one("workers_idle", Kind::Gauge, "Workers that wait for a request.", crew.idle());
    page.one("workers_busy", Kind::Gauge, "Workers that hold a request.", crew.busy());
    page.one("workers_min", Kind::Gauge, "The least workers, as configured.", pool.bounds.min);
    page.one("workers_max", Kind::Gauge, "The most workers, as configured.", pool.bounds.max);
    page.one("workers_hired_total", Kind::Counter, "Workers ever started.", crew.hired());
    page.one("workers_dismissed_total", Kind::Counter, "Workers ever dismissed.", crew.dismissed());
    page.one("queue_length", Kind::Gauge, "Requests that wait for a worker.", view.team.queued());
    page.one("queue_capacity", Kind::Gauge, "Requests that may wait.", pool.queue_capacity);
    page.counter(stats, Counter::Shed, "shed_total", "Requests answered 503 because the queue was full.");
    page.counter(stats, Counter::Late, "late_total", "Requests dropped because they had waited too long.");
}

fn servers(page: &mut Page, servers: &[Arc<Server>], now: Moment) {
    page.family("server_info", Kind::Gauge, "Always 1; the labels say where a server listens.");
    for server in servers {
        let (address, backup) = (server.address.to_string(), if server.backup { "true" } else { "false" });
        page.sample(&[("server", &server.name), ("address", &address), ("backup", backup)], 1);
    }
    page.family("server_state", Kind::Gauge, "1 for the state that a server is in, 0 for the others.");
    for server in servers {
        for word in STATES {
            page.sample(&[("server", &server.name), ("state", word)], u8::from(state(server) == word));
        }
    }
    let mut each = |name, kind, help, value: &dyn Fn(&Server) -> Option<f64>| {
        page.family(name, kind, help);
        for server in servers {
            value(server).into_iter().for_each(|value| page.sample(&[("server", &server.name)], value));
        }
    };
    let counted = |count: u64| Some(count as f64);
    each("server_weight", Kind::Gauge, "Its share of the traffic.", &|s| Some(f64::from(s.weight().0)));
    each("server_in_flight", Kind::Gauge, "Requests that it has now.", &|s| Some(f64::from(s.in_flight())));
    each("server_requests_total", Kind::Counter, "Requests ever sent to it.", &|s| counted(s.requests()));
    each("server_failures_total", Kind::Counter, "Requests that failed with it.", &|s| counted(s.failures()));
    each(
        "server_latency_seconds",
        Kind::Gauge,
        "Its latency, averaged with decay; absent while unknown.",
        &|s| s.latency_us(now).map(|us| f64::from(us) / 1e6),
    );
    each("server_reported_queue", Kind::Gauge, "The load that it reports, fading with age.", &|s| {
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

/// The text so far. Samples belong to the family that was begun last.
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

    /// A family of one sample.
    fn one(&mut self, name: &'static str, kind: Kind, help: &str, value: impl Display) {
        self.family(name, kind, help).sample(&[], value);
    }

    fn counter(&mut self, stats: &Stats, counter: Counter, name: &'static str, help: &str) {
        self.one(name, Kind::Counter, help, stats.total(counter));
    }

    /// Buckets at the powers of two of a microsecond. The last one also holds what is longer, so that its bound
    /// would be a lie: it is in `+Inf` alone.
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
