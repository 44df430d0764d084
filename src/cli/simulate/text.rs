//! The result for a terminal.

use super::outcome::{Outcome, Run};
use crate::base::text::counted;
use crate::cli::columns::wrapped;
use std::fmt::Write;

/// The longest bar, and the most columns of a line over time, in characters: what a name and a figure leave of 80.
const BAR: usize = 52;
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
        "{}, seed {}: {} to {}\n",
        run.source,
        run.seed,
        counted(requests, "request", "requests"),
        counted(run.servers.len(), "server", "servers")
    );
    table(&mut out, &run.results);
    bars(&mut out, &run.results);
    over_time(&mut out, &run.results);
    run.results.iter().skip(1).for_each(|result| details(&mut out, result));
    run.notes.iter().for_each(|note| paragraph(&mut out, note, ""));
    paragraph(&mut out, &format!("Not simulated: {}.", run.not_simulated.join("; ")), "");
    out.push_str("The ideal is one queue in front of all slots that knows which servers work.\n");
    out
}

/// A text in as many lines as it needs, with this in front of each.
fn paragraph(out: &mut String, text: &str, indent: &str) {
    let next = if indent.is_empty() { String::new() } else { format!("{indent}  ") };
    wrapped(text, indent, &next).iter().for_each(|line| {
        let _ = writeln!(out, "{line}");
    });
}

fn table(out: &mut String, results: &[Outcome]) {
    let _ = writeln!(
        out,
        "{:<14}{:>8}{:>8}{:>8}{:>9}{:>7}{:>9}{:>9}{:>8}",
        "", "p50 ms", "p99", "p99.9", "good", "failed", "rejected", "timeouts", "ejected"
    );
    for result in results {
        let Outcome { name, p50_ms, p99_ms, p99_9_ms, good, failed, rejected, timed_out, ejections, .. } =
            result;
        let _ = writeln!(
            out,
            "{name:<14}{p50_ms:>8.1}{p99_ms:>8.1}{p99_9_ms:>8.1}{good:>9}{failed:>7}{rejected:>9}{timed_out:>9}{ejections:>8}",
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
            let bar = "█".repeat((ms / longest * BAR as f64).ceil() as usize);
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
    let each = seconds.div_ceil(BAR);
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
    let shares = format!("Shares of {} ({algorithm}), %: {}{more}", result.name, shares.join(", "));
    paragraph(out, &shares, "");
    if !result.rejections.is_empty() {
        let reasons: Vec<_> =
            result.rejections.iter().map(|(name, count)| format!("{name} {count}")).collect();
        paragraph(out, &format!("rejected: {}", reasons.join(", ")), "  ");
    }
    for event in result.events.iter().take(EVENTS) {
        paragraph(out, event, "  ");
    }
    if result.events.len() > EVENTS {
        let _ = writeln!(out, "  and more: --json has {} of them", result.events.len());
    }
}
