//! The result as one HTML file with charts: no script, nothing from elsewhere.

use super::report::micros;
use super::{Latency, Slice, Summary};
use std::fmt::Write;

/// The size of a chart, in pixels, and the room for its labels.
const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 220.0;
const LEFT: f64 = 70.0;
const BOTTOM: f64 = 28.0;

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:60em;margin:2em auto;padding:0 1em;color:#1c2530;background:#fff}\
h1{font-size:1.4em;overflow-wrap:anywhere}h2{font-size:1.1em;margin:2em 0 .4em}table{border-collapse:collapse}\
td,th{padding:.15em .9em .15em 0;text-align:right;vertical-align:top}td:first-child,th:first-child{text-align:left;overflow-wrap:anywhere}\
th{font-weight:600;border-bottom:1px solid #8886}pre{white-space:pre-wrap;overflow-wrap:anywhere;background:#8882;padding:.6em}\
svg{width:100%;height:auto}svg text{font:12px system-ui,sans-serif;fill:currentColor}\
.good{stroke:#1a7f5a;fill:#1a7f5a}.bad{stroke:#c2410c;fill:#c2410c}.mid{stroke:#2563eb;fill:#2563eb}.line{fill:none;stroke-width:2}\
.axis{stroke:#8888;stroke-width:1}@media(prefers-color-scheme:dark){body{color:#dde3ea;background:#14181d}}";

/// The whole file.
pub(super) fn page(summary: &Summary) -> String {
    let mut out = String::new();
    let title = format!("Load test of {}", summary.url);
    // Writing to a String cannot fail, here and below.
    let _ = write!(
        out,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width\"><title>{title}</title><style>{STYLE}</style></head><body>\n<h1>{title}</h1>\n",
        title = escaped(&title)
    );
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
    out.push_str("</body></html>\n");
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
            "<h2>The commonest error: {}{reason}, {} times</h2>\n<pre>{}</pre>",
            bad.status,
            bad.count,
            escaped(&bad.body)
        );
    }
}

fn table(out: &mut String, heads: &[&str], rows: Vec<Vec<String>>) {
    let cells = |tag: &str, cells: &mut dyn Iterator<Item = String>| {
        cells.map(|cell| format!("<{tag}>{}</{tag}>", escaped(&cell))).collect::<String>()
    };
    out.push_str("<table>\n");
    if !heads.is_empty() {
        let _ = writeln!(out, "<tr>{}</tr>", cells("th", &mut heads.iter().map(|head| (*head).to_string())));
    }
    for row in rows {
        let _ = writeln!(out, "<tr>{}</tr>", cells("td", &mut row.into_iter()));
    }
    out.push_str("</table>\n");
}

fn series(slices: &[Slice], value: impl Fn(&Slice) -> f64) -> Vec<(f64, f64)> {
    slices.iter().map(|slice| (slice.from_s, value(slice))).collect()
}

/// A line of a chart: its class, its name and its points.
type Line<'a> = (&'a str, &'a str, Vec<(f64, f64)>);

/// A chart of lines over time.
fn lines(series: &[Line<'_>], label: impl Fn(f64) -> String) -> String {
    let points = || series.iter().flat_map(|(_, _, points)| points);
    let most = points().map(|point| point.1).fold(1e-9, f64::max);
    let last = points().map(|point| point.0).fold(1.0, f64::max);
    let x = |seconds: f64| LEFT + (WIDTH - LEFT - 10.0) * seconds / last;
    let y = |value: f64| (HEIGHT - BOTTOM) - (HEIGHT - BOTTOM - 16.0) * value / most;
    let mut svg = begin(most, last, &label);
    for (at, (class, name, points)) in series.iter().enumerate() {
        let path: Vec<_> = points.iter().map(|(s, value)| format!("{:.1},{:.1}", x(*s), y(*value))).collect();
        let left = LEFT + 20.0 + at as f64 * 170.0;
        let _ = writeln!(
            svg,
            "<polyline class=\"line {class}\" points=\"{}\"/><rect class=\"{class}\" x=\"{left}\" y=\"2\" width=\"10\" \
             height=\"10\"/><text x=\"{}\" y=\"12\">{name}</text>",
            path.join(" "),
            left + 15.0
        );
    }
    svg + "</svg>\n"
}

/// The frame of a chart with its axes.
fn begin(most: f64, last_s: f64, label: &impl Fn(f64) -> String) -> String {
    let floor = HEIGHT - BOTTOM;
    let mut svg = format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\">\n");
    for part in [0.0, 0.5, 1.0] {
        let y = floor - (floor - 16.0) * part;
        let _ = writeln!(
            svg,
            "<line class=\"axis\" x1=\"{LEFT}\" y1=\"{y}\" x2=\"{WIDTH}\" y2=\"{y}\"/><text x=\"{}\" y=\"{}\" \
             text-anchor=\"end\">{}</text>",
            LEFT - 6.0,
            y + 4.0,
            label(most * part)
        );
    }
    let _ = writeln!(
        svg,
        "<text x=\"{LEFT}\" y=\"{y}\">0 s</text><text x=\"{WIDTH}\" y=\"{y}\" text-anchor=\"end\">{last_s:.0} s</text>",
        y = HEIGHT - 8.0
    );
    svg
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

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
