//! Prints a summary: for a person, or as one JSON object.

use super::{Bar, Summary};
use std::fmt::Write;

/// The longest bar, in characters.
const BAR: usize = 40;

/// The summary as text with bars.
pub(super) fn text(summary: &Summary) -> String {
    let mut out = String::new();
    head(&mut out, summary);
    latency(&mut out, summary);
    chart(&mut out, &summary.latency_chart);
    shares(&mut out, "Statuses", summary.statuses.iter(), summary.responses);
    shares(&mut out, "Servers", summary.servers.iter(), summary.servers.values().sum());
    errors(&mut out, summary);
    out
}

fn head(out: &mut String, summary: &Summary) {
    let early = if summary.interrupted { ", interrupted" } else { "" };
    line(
        out,
        &format!("{} · {} connections · {:.2} s{early}", summary.url, summary.connections, summary.elapsed_s),
    );
    line(out, "");
    line(out, &format!("Requests/s  {}", grouped(summary.requests_per_s)));
    line(out, &format!("Received/s  {}", bytes(summary.received_per_s)));
    if summary.sent_per_s > summary.received_per_s / 10.0 {
        line(out, &format!("Sent/s      {}", bytes(summary.sent_per_s)));
    }
    line(out, &format!("Responses   {} of {} requests", summary.responses, summary.started));
    if summary.unsent > 0 {
        line(out, &format!("Not sent    {} were due, but not started before the end", summary.unsent));
    }
}

fn latency(out: &mut String, summary: &Summary) {
    let l = &summary.latency_us;
    let quantiles = [
        ("p50", l.p50),
        ("p90", l.p90),
        ("p99", l.p99),
        ("p99.9", l.p99_9),
        ("max", l.max),
        ("mean", l.mean),
    ];
    let cells: Vec<_> = quantiles.iter().map(|(name, value)| format!("{name} {}", micros(*value))).collect();
    line(out, &format!("Latency     {}", cells.join(" · ")));
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
