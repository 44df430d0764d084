//! What is counted by listener, route, pool and server: the same families for each of them.

use super::View;
use super::page::{Buckets, Kind, Page};
use crate::state::histogram::Counts;
use crate::state::traffic::TrafficCounts;

/// One listener, route, pool or server: its labels, and its counts.
struct Row<'r> {
    labels: Vec<(&'static str, &'r str)>,
    counts: &'r TrafficCounts,
}

/// The families of listeners, routes and pools.
pub(super) fn by_name(page: &mut Page, view: &View) {
    let registry = &view.stats.traffic;
    for (kind, all) in
        [("listener", registry.listeners()), ("route", registry.routes()), ("pool", registry.pools())]
    {
        let row = |(name, counts)| Row { labels: vec![(kind, name)], counts };
        let rows: Vec<Row<'_>> = all.iter().map(|(name, counts)| row((name.as_str(), counts))).collect();
        let help = format!("Finished requests of the {kind}, by class of the response.");
        by_class(page, &format!("{kind}_requests_total"), &help, &rows);
        page.family(
            &format!("{kind}_requests_in_flight"),
            Kind::Gauge,
            &format!("Requests of the {kind} in flight, without tunnels."),
        );
        rows.iter().for_each(|row| page.sample(&row.labels, row.counts.in_flight()));
        let help = format!(
            "Requests of the {kind}, from the last byte of the headers to the last byte of the response."
        );
        histograms(page, &format!("{kind}_request_duration_seconds"), &help, &rows, |of| &of.durations);
        common(page, kind, &rows);
    }
    rejections(page, &registry.pools());
}

/// What of the rejections and bad ends was a pool's.
fn rejections(page: &mut Page, pools: &[(String, TrafficCounts)]) {
    let help = "Requests of the pool that were rejected or failed, by reason; a reason is there once it has occurred.";
    page.family("pool_rejections_total", Kind::Counter, help);
    for (name, counts) in pools {
        for (reason, count) in &counts.reasons {
            page.sample(&[("pool", name), ("reason", reason.name())], count);
        }
    }
}

/// The families of servers.
pub(super) fn by_server(page: &mut Page, view: &View) {
    let snapshot = view.table.snapshot();
    let all: Vec<_> = snapshot.servers.iter().map(|server| (server, server.traffic.read())).collect();
    let row =
        |(server, counts)| Row { labels: super::labels(&snapshot.live.config, server).to_vec(), counts };
    let rows: Vec<Row<'_>> = all.iter().map(|(server, counts)| row((*server, counts))).collect();
    by_class(page, "server_responses_total", "Responses of the server, by class.", &rows);
    let help = "From the choice of the server to the end of its response.";
    histograms(page, "server_response_duration_seconds", help, &rows, |of| &of.durations);
    common(page, "server", &rows);
}

/// Each class is there from the start, so that a first error is an increase.
fn by_class(page: &mut Page, name: &str, help: &str, rows: &[Row<'_>]) {
    page.family(name, Kind::Counter, help);
    for row in rows {
        let classes = TrafficCounts::CLASSES.into_iter().zip(row.counts.classes());
        classes
            .for_each(|(class, count)| page.sample(&[&row.labels[..], &[("class", class)]].concat(), count));
    }
}

/// What all of them have in the same way.
fn common(page: &mut Page, kind: &str, rows: &[Row<'_>]) {
    let help = format!("Responses of the {kind} by status; a status is there once it has occurred.");
    page.family(&format!("{kind}_response_codes_total"), Kind::Counter, &help);
    for row in rows {
        let (codes, other) = row.counts.by_code();
        for (status, count) in codes {
            page.sample(&[&row.labels[..], &[("code", &status.to_string())]].concat(), count);
        }
        if other > 0 {
            page.sample(&[&row.labels[..], &[("code", "other")]].concat(), other);
        }
    }
    let help = format!("How long requests of the {kind} waited in a queue, where they had to.");
    histograms(page, &format!("{kind}_queue_wait_seconds"), &help, rows, |of| &of.waits);
    for (name, help, bytes) in [
        ("received", "Bytes of request bodies from clients", (|of| of.received) as fn(&TrafficCounts) -> u64),
        ("sent", "Bytes to clients, headers included", |of| of.sent),
    ] {
        let help = format!("{help}, for requests of the {kind}.");
        page.family(&format!("{kind}_{name}_bytes_total"), Kind::Counter, &help);
        rows.iter().for_each(|row| page.sample(&row.labels, bytes(row.counts)));
    }
}

/// A histogram is there once something was recorded: a configuration may have thousands of routes.
fn histograms(
    page: &mut Page,
    name: &str,
    help: &str,
    rows: &[Row<'_>],
    of: impl Fn(&TrafficCounts) -> &Counts,
) {
    page.family(name, Kind::Histogram, help);
    for row in rows.iter().filter(|row| of(row.counts).count() > 0) {
        page.buckets(&row.labels, of(row.counts), Buckets::Few);
    }
}
