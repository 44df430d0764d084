//! The result as one HTML file with charts: no script, nothing from elsewhere.

use super::report::micros;
use super::{Latency, Slice, Summary};
use crate::base::html::{self, WIDTH, escaped, lines, table};
use std::fmt::Write;

/// The whole file.
pub(super) fn page(summary: &Summary) -> String {
    let mut out = html::begin(&format!("Load test of {}", summary.url));
    figures(&mut out, summary);
    if !summary.over_time.is_empty() {
        out.push_str("<h2>Requests per second</h2>\n");
        let good = series(&summary.over_time, |slice| slice.good as f64 / summary.slice_s);
        let bad =
            series(&summary.over_time, |slice| (slice.rejected + slice.failed) as f64 / summary.slice_s);
        let whole = |value: f64| format!("{value:.0}");
        out.push_str(&lines(&[("good", "good", good), ("bad", "rejected or failed", bad)], whole));
        out.push_str("<h2>Latency of good responses</h2>\n");
        let (p50, p99) = (series(&summary.over_time, |s| s.p50_us), series(&summary.over_time, |s| s.p99_us));
        out.push_str(&lines(&[("mid", "p50", p50), ("bad", "p99", p99)], micros));
    }
    out.push_str("<h2>Distribution of latencies</h2>\n");
    out.push_str(&bars(summary));
    tables(&mut out, summary);
    out.push_str(html::END);
    out
}

fn figures(out: &mut String, summary: &Summary) {
    let rows = [
        (
            "Time",
            format!("{:.2} s{}", summary.elapsed_s, if summary.interrupted { ", interrupted" } else { "" }),
        ),
        ("Connections", summary.connections.to_string()),
        ("Requests", summary.started.to_string()),
        ("Responses per second", format!("{:.1}", summary.requests_per_s)),
        ("Good responses", format!("{} ({:.1}/s)", summary.good, summary.good_per_s)),
        ("Rejected", summary.rejected.to_string()),
        ("Failed", summary.errors.total().to_string()),
        ("Due, but not sent", summary.unsent.to_string()),
    ];
    let rows = rows.iter().map(|(name, value)| vec![(*name).to_string(), value.clone()]).collect();
    table(out, &[], rows);
    out.push_str("<h2>Latency</h2>\n");
    let row = |name: &str, l: &Latency| {
        let values = [l.p50, l.p90, l.p95, l.p99, l.p99_9, l.max, l.mean].map(micros);
        [vec![name.to_string()], values.to_vec()].concat()
    };
    let mut rows = vec![row("good", &summary.good_latency_us)];
    if summary.rejected > 0 {
        rows.push(row("rejected", &summary.rejection_latency_us));
    }
    if summary.lateness_us.max > 0.0 {
        rows.push(row("sent later than due", &summary.lateness_us));
    }
    table(out, &["", "p50", "p90", "p95", "p99", "p99.9", "max", "mean"], rows);
}

fn tables(out: &mut String, summary: &Summary) {
    let mut counts = |title: &str, rows: Vec<(String, u64)>| {
        if !rows.is_empty() {
            let _ = writeln!(out, "<h2>{title}</h2>");
            table(out, &[], rows.into_iter().map(|(name, count)| vec![name, count.to_string()]).collect());
        }
    };
    counts("Statuses", summary.statuses.iter().map(|(status, count)| (status.to_string(), *count)).collect());
    counts("Servers", summary.servers.iter().map(|(name, count)| (name.clone(), *count)).collect());
    counts(
        "Evenkeel's own responses",
        summary.own_reasons.iter().map(|(r, count)| (r.clone(), *count)).collect(),
    );
    let failed = summary.errors.by_kind().into_iter().filter(|(_, count)| *count > 0);
    counts("Failed requests", failed.map(|(kind, count)| (kind.to_string(), count)).collect());
    for reason in &summary.reasons {
        let _ = writeln!(out, "<p>{}</p>", escaped(reason));
    }
    if summary.urls.len() > 1 {
        out.push_str("<h2>By URL</h2>\n");
        let row = |url: &super::UrlCounts| {
            let counts = [url.good, url.rejected, url.failed].map(|count| count.to_string());
            let times = [url.p50_us, url.p95_us, url.p99_us].map(micros);
            [vec![url.request.clone()], counts.to_vec(), times.to_vec()].concat()
        };
        let heads = ["", "good", "rejected", "failed", "p50", "p95", "p99"];
        table(out, &heads, summary.urls.iter().map(row).collect());
    }
    if let Some(bad) = &summary.commonest_error {
        let reason = bad.reason.as_ref().map(|reason| format!(" {reason}")).unwrap_or_default();
        let _ = writeln!(
            out,
            "<h2>The most common error: {}{reason}, {} times</h2>\n<pre>{}</pre>",
            bad.status,
            bad.count,
            escaped(&bad.body)
        );
    }
}

fn series(slices: &[Slice], value: impl Fn(&Slice) -> f64) -> Vec<(f64, f64)> {
    slices.iter().map(|slice| (slice.from_s, value(slice))).collect()
}

fn bars(summary: &Summary) -> String {
    let most = summary.latency_chart.iter().map(|bar| bar.count).max().unwrap_or(0).max(1) as f64;
    let height = 22.0;
    let all = summary.latency_chart.len() as f64 * height;
    let mut svg = format!("<svg viewBox=\"0 0 {WIDTH} {all}\" role=\"img\">\n");
    for (at, bar) in summary.latency_chart.iter().enumerate() {
        let y = at as f64 * height;
        let long = (WIDTH - 260.0) * bar.count as f64 / most;
        let _ = writeln!(
            svg,
            "<text x=\"150\" y=\"{text}\" text-anchor=\"end\">{} to {}</text><rect class=\"mid\" x=\"160\" \
             y=\"{y}\" width=\"{long:.1}\" height=\"16\"/><text x=\"{:.1}\" y=\"{text}\">{}</text>",
            micros(bar.from_us),
            micros(bar.below_us),
            166.0 + long,
            bar.count,
            text = y + 13.0
        );
    }
    svg + "</svg>\n"
}
