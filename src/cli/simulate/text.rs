//! The result for a terminal.

use super::outcome::{Outcome, Run};
use std::fmt::Write;

/// The longest bar, and the most columns of a line over time, in characters.
const WIDTH: usize = 60;
/// Events of a result that are shown; `--json` has more.
const EVENTS: usize = 8;
/// Servers whose shares are shown; `--json` has all.
const SHARES: usize = 16;
const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// All of it.
pub(super) fn told(run: &Run) -> String {
    let mut out = String::new();
    let requests = run.results.first().map_or(0, |ideal| ideal.requests);
    // Writing to a String cannot fail, here and below.
    let _ = writeln!(
        out,
        "{}, seed {}: {requests} requests to {} servers\n",
        run.source,
        run.seed,
        run.servers.len()
    );
    table(&mut out, &run.results);
    bars(&mut out, &run.results);
    over_time(&mut out, &run.results);
    run.results.iter().skip(1).for_each(|result| details(&mut out, result));
    for note in &run.notes {
        let _ = writeln!(out, "{note}");
    }
    let _ = writeln!(out, "Not simulated: {}.", run.not_simulated.join("; "));
    out.push_str("The ideal is one queue in front of all slots that knows which servers work.\n");
    out
}

fn table(out: &mut String, results: &[Outcome]) {
    let _ = writeln!(
        out,
        "{:<14}{:>10}{:>10}{:>10}{:>10}{:>9}{:>10}{:>10}{:>11}",
        "", "p50 ms", "p99", "p99.9", "good", "failed", "rejected", "timed out", "ejections"
    );
    for result in results {
        let Outcome { name, p50_ms, p99_ms, p99_9_ms, good, failed, rejected, timed_out, ejections, .. } =
            result;
        let _ = writeln!(
            out,
            "{name:<14}{p50_ms:>10.1}{p99_ms:>10.1}{p99_9_ms:>10.1}{good:>10}{failed:>9}{rejected:>10}{timed_out:>10}{ejections:>11}",
        );
    }
}

fn bars(out: &mut String, results: &[Outcome]) {
    let longest = results.iter().map(|result| result.p99_9_ms).fold(1e-9, f64::max);
    for (title, value) in [
        ("p99", (|result| result.p99_ms) as fn(&Outcome) -> f64),
        ("p99.9", |result: &Outcome| result.p99_9_ms),
    ] {
        let _ = writeln!(out, "\n{title}");
        for result in results {
            let ms = value(result);
            let bar = "█".repeat((ms / longest * WIDTH as f64).ceil() as usize);
            let _ = writeln!(out, "{:<14}{bar} {ms:.1} ms", result.name);
        }
    }
}

/// A character for each second, or for several of them the slowest one.
fn over_time(out: &mut String, results: &[Outcome]) {
    let seconds = results.iter().map(|result| result.seconds.len()).max().unwrap_or(0);
    if seconds < 2 {
        return out.push('\n');
    }
    let each = seconds.div_ceil(WIDTH);
    let values = |result: &Outcome| -> Vec<f64> {
        let most =
            |part: &[super::outcome::Moment]| part.iter().map(|second| second.p99_ms).fold(0.0, f64::max);
        result.seconds.chunks(each).map(most).collect()
    };
    let highest = results.iter().flat_map(values).fold(1e-9, f64::max);
    let _ = writeln!(out, "\np99 over time: {each} s a character, up to {highest:.0} ms");
    for result in results {
        let level = |ms: f64| LEVELS[((ms / highest * 8.0) as usize).min(7)];
        let line: String = values(result).into_iter().map(level).collect();
        let _ = writeln!(out, "{:<14}{line}", result.name);
    }
    out.push('\n');
}

fn details(out: &mut String, result: &Outcome) {
    let algorithm = result.algorithm.unwrap_or_default();
    let shares: Vec<_> = result
        .shares
        .iter()
        .take(SHARES)
        .map(|share| format!("{} {:.1}", share.server, share.percent))
        .collect();
    let more = if result.shares.len() > SHARES { ", …" } else { "" };
    let _ = writeln!(out, "Shares of {} ({algorithm}), %: {}{more}", result.name, shares.join(", "));
    if !result.rejections.is_empty() {
        let reasons: Vec<_> =
            result.rejections.iter().map(|(name, count)| format!("{name} {count}")).collect();
        let _ = writeln!(out, "  rejected: {}", reasons.join(", "));
    }
    for event in result.events.iter().take(EVENTS) {
        let _ = writeln!(out, "  {event}");
    }
    if result.events.len() > EVENTS {
        let _ = writeln!(out, "  and more: --json has {} of them", result.events.len());
    }
}
