//! Prints a summary: for a person, or as one JSON object.

use super::{Bar, Latency, Slice, Summary};
use crate::base::text;
use std::fmt::Write;

/// The longest bar, in characters.
const BAR: usize = 40;
/// Lateness of the generator above this is told, in microseconds: it is no longer small beside a fast response.
const LATE_US: f64 = 2_000.0;

/// The most slices of time in a table.
const SLICES_SHOWN: usize = 12;
/// The most URLs in a table.
const URLS_SHOWN: usize = 50;

/// The summary as text with bars.
pub(super) fn text(summary: &Summary) -> String {
    let mut out = String::new();
    head(&mut out, summary);
    outcomes(&mut out, summary);
    latency(&mut out, summary);
    chart(&mut out, &summary.latency_chart);
    shares(&mut out, "Statuses", summary.statuses.iter(), summary.responses);
    shares(&mut out, "Servers", summary.servers.iter(), summary.servers.values().sum());
    urls(&mut out, summary);
    rejections(&mut out, summary);
    errors(&mut out, summary);
    out
}

fn head(out: &mut String, summary: &Summary) {
    let early = if summary.interrupted { ", interrupted" } else { "" };
    let more = match summary.urls.len() {
        0 | 1 => String::new(),
        count => format!(" and {} more", count - 1),
    };
    line(
        out,
        &format!(
            "{}{more} · {} · {:.2} s{early}",
            summary.url,
            text::counted(summary.connections, "connection", "connections"),
            summary.elapsed_s
        ),
    );
    line(out, "");
    line(out, &format!("Requests/s  {}", grouped(summary.requests_per_s)));
    line(out, &format!("Received/s  {}", bytes(summary.received_per_s)));
    if summary.sent_per_s > summary.received_per_s / 10.0 {
        line(out, &format!("Sent/s      {}", bytes(summary.sent_per_s)));
    }
    let started = text::counted(summary.started, "request", "requests");
    line(out, &format!("Responses   {} of {started}", summary.responses));
    if summary.handshakes > 0 {
        line(out, &format!("Handshakes  {}, {} of them resumed", summary.handshakes, summary.resumed));
    }
    if summary.unsent > 0 {
        line(out, &format!("Not sent    {} were due, but not started before the end", summary.unsent));
    }
}

/// Good and rejected responses apart: a rejection is quick, and would make the latency look good.
fn outcomes(out: &mut String, summary: &Summary) {
    let share = |count: u64| count as f64 * 100.0 / summary.started.max(1) as f64;
    let seen =
        |name: &str, count: u64, more: String| format!("{name:<11} {count} ({:.1} %){more}", share(count));
    line(out, &seen("Good", summary.good, format!(", {}/s", grouped(summary.good_per_s))));
    if summary.rejected > 0 {
        let own: Vec<_> =
            summary.own_reasons.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
        let own =
            if own.is_empty() { String::new() } else { format!("; Evenkeel's own: {}", own.join(", ")) };
        line(out, &seen("Rejected", summary.rejected, own));
    }
    if summary.errors.total() > 0 {
        line(out, &seen("Failed", summary.errors.total(), String::new()));
    }
}

fn latency(out: &mut String, summary: &Summary) {
    let told = |out: &mut String, name: &str, l: &Latency| {
        let quantiles = [
            ("p50", l.p50),
            ("p90", l.p90),
            ("p95", l.p95),
            ("p99", l.p99),
            ("p99.9", l.p99_9),
            ("max", l.max),
            ("mean", l.mean),
        ];
        let cells: Vec<_> =
            quantiles.iter().map(|(name, value)| format!("{name} {}", micros(*value))).collect();
        // Two lines of 80 columns at most.
        let (common, tail) = cells.split_at(4);
        line(out, &format!("{name:<11} {}", common.join(" · ")));
        line(out, &format!("{:<11} {}", "", tail.join(" · ")));
    };
    match (summary.good, summary.rejected) {
        (_, 0) => told(out, "Latency", &summary.latency_us),
        (0, _) => told(out, "Rejected in", &summary.rejection_latency_us),
        _ => {
            told(out, "Good in", &summary.good_latency_us);
            told(out, "Rejected in", &summary.rejection_latency_us);
        }
    }
    if summary.lateness_us.p99 > LATE_US {
        let late = micros(summary.lateness_us.p99);
        line(out, &format!("Sent late   p99 {late}: the generator or the machine is too slow for this rate"));
    }
    ramp(out, summary);
}

/// By time, when the rate changes.
fn ramp(out: &mut String, summary: &Summary) {
    if !summary.is_ramp || summary.over_time.is_empty() {
        return;
    }
    line(out, "");
    line(out, "Over time   requests/s     good/s  rejected/s  failed/s        p50        p99");
    let together = summary.over_time.len().div_ceil(SLICES_SHOWN);
    for slices in summary.over_time.chunks(together) {
        let seconds = slices.len() as f64 * summary.slice_s;
        let rate = |count: fn(&Slice) -> u64| slices.iter().map(count).sum::<u64>() as f64 / seconds;
        let worst = |us: fn(&Slice) -> f64| slices.iter().map(us).fold(0.0, f64::max);
        line(
            out,
            &format!(
                "  {:>6.0} s  {:>11.0} {:>10.0} {:>11.0} {:>9.0} {:>10} {:>10}",
                slices[0].from_s,
                rate(|slice| slice.good + slice.rejected + slice.failed),
                rate(|slice| slice.good),
                rate(|slice| slice.rejected),
                rate(|slice| slice.failed),
                micros(worst(|slice| slice.p50_us)),
                micros(worst(|slice| slice.p99_us)),
            ),
        );
    }
}

fn urls(out: &mut String, summary: &Summary) {
    if summary.urls.len() < 2 {
        return;
    }
    line(out, "");
    line(out, "By URL             good  rejected    failed        p50        p95        p99");
    for url in summary.urls.iter().take(URLS_SHOWN) {
        let [p50, p95, p99] = [url.p50_us, url.p95_us, url.p99_us].map(micros);
        line(
            out,
            &format!(
                "  {:>20} {:>9} {:>9} {p50:>10} {p95:>10} {p99:>10}  {}",
                url.good, url.rejected, url.failed, url.request
            ),
        );
    }
    if summary.urls.len() > URLS_SHOWN {
        line(out, &format!("  and {} more; --json has them all", summary.urls.len() - URLS_SHOWN));
    }
}

fn rejections(out: &mut String, summary: &Summary) {
    let Some(bad) = &summary.commonest_error else { return };
    let reason = bad.reason.as_ref().map(|reason| format!(" {reason}")).unwrap_or_default();
    line(out, "");
    line(out, &format!("The most common error: {}{reason}, {} times", bad.status, bad.count));
    let body = if bad.body.is_empty() { "(no body)" } else { &bad.body };
    line(out, &format!("  {body}"));
}

fn chart(out: &mut String, bars: &[Bar]) {
    let most = bars.iter().map(|bar| bar.count).max().unwrap_or(0);
    if most == 0 {
        return;
    }
    line(out, "");
    for bar in bars {
        let length = (bar.count as f64 / most as f64 * BAR as f64).ceil() as usize;
        let label = format!("{:>8} to {:<8}", micros(bar.from_us), micros(bar.below_us));
        line(out, &format!("  {label} {:<BAR$} {}", "█".repeat(length), bar.count));
    }
}

fn shares<'s, K: std::fmt::Display + 's>(
    out: &mut String,
    title: &str,
    counts: impl Iterator<Item = (&'s K, &'s u64)>,
    all: u64,
) {
    let mut counts = counts.peekable();
    if counts.peek().is_none() {
        return;
    }
    line(out, "");
    line(out, title);
    for (key, count) in counts {
        let share = *count as f64 * 100.0 / all.max(1) as f64;
        line(out, &format!("  {:<20} {count:>10}  {share:5.1} %", key.to_string()));
    }
}

fn errors(out: &mut String, summary: &Summary) {
    if summary.errors.total() == 0 {
        return;
    }
    line(out, "");
    line(out, "Errors");
    for (kind, count) in summary.errors.by_kind() {
        if count > 0 {
            line(out, &format!("  {kind:<20} {count:>10}"));
        }
    }
    for reason in &summary.reasons {
        line(out, &format!("  ({reason})"));
    }
}

fn line(out: &mut String, text: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(out, "{text}");
}

/// Microseconds in the most readable unit.
pub(super) fn micros(value: f64) -> String {
    match value {
        value if value < 1000.0 => format!("{value:.0} us"),
        value if value < 100_000.0 => format!("{:.2} ms", value / 1000.0),
        value if value < 1_000_000.0 => format!("{:.0} ms", value / 1000.0),
        value => format!("{:.2} s", value / 1_000_000.0),
    }
}

fn bytes(value: f64) -> String {
    let units = ["B", "KiB", "MiB", "GiB"];
    let unit = (0..units.len() - 1).find(|power| value < 1024_f64.powi(*power as i32 + 1)).unwrap_or(3);
    format!("{:.1} {}", value / 1024_f64.powi(unit as i32), units[unit])
}

/// A whole number with thousands separators.
fn grouped(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut out = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!([0.0, 999.4, 1_000.0, 1_234_567.0].map(grouped), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(
            [12.0, 1_500.0, 150_000.0, 2_500_000.0].map(micros),
            ["12 us", "1.50 ms", "150 ms", "2.50 s"]
        );
        assert_eq!([1.0, 2048.0, 3.5e6, 5e12].map(bytes), ["1.0 B", "2.0 KiB", "3.3 MiB", "4656.6 GiB"]);
    }
}
