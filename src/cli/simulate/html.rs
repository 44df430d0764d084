//! The result as one HTML file.

use super::outcome::{Moment, Outcome, Run};
use crate::base::html::{self, escaped, lines, table};
use std::fmt::Write;

/// The colours of the lines: the ideal, the configuration, the other one.
const CLASSES: [&str; 3] = ["good", "mid", "bad"];

/// The whole file.
pub(super) fn page(run: &Run) -> String {
    let requests = run.results.first().map_or(0, |ideal| ideal.requests);
    let mut out = html::begin(&format!("Simulation of {}", run.source));
    // Writing to a String cannot fail, here and below.
    let _ = writeln!(
        out,
        "<p>{requests} requests to {} servers, seed {}. Latencies are of good responses.</p>",
        run.servers.len(),
        run.seed
    );
    figures(&mut out, run);
    let chart = |of: fn(&Moment) -> f64, unit: &'static str| {
        let of_result = |(result, class): (&Outcome, &'static str)| {
            let points = (0..).zip(&result.seconds).map(|(second, moment)| (f64::from(second), of(moment)));
            (class, result.name, points.collect())
        };
        let series: Vec<_> = run.results.iter().zip(CLASSES).map(of_result).collect();
        lines(&series, |value| format!("{value:.0}{unit}"))
    };
    for (title, svg) in [
        ("p99 over time", chart(|moment| moment.p99_ms, " ms")),
        ("p50 over time", chart(|moment| moment.p50_ms, " ms")),
        ("Good responses per second", chart(|moment| moment.good as f64, "")),
        ("Requests per second without a good response", chart(|moment| moment.failed as f64, "")),
    ] {
        let _ = write!(out, "<h2>{title}</h2>\n{svg}");
    }
    shares(&mut out, run);
    run.results.iter().for_each(|result| events(&mut out, result));
    for note in &run.notes {
        let _ = writeln!(out, "<p>{}</p>", escaped(note));
    }
    let _ = writeln!(out, "<p>Not simulated: {}.</p>", run.not_simulated.join("; "));
    out + html::END
}

fn figures(out: &mut String, run: &Run) {
    let row = |result: &Outcome| {
        let times =
            [result.mean_ms, result.p50_ms, result.p99_ms, result.p99_9_ms].map(|ms| format!("{ms:.1}"));
        let counts = [result.good, result.failed, result.rejected, result.timed_out, result.ejections];
        let name = match result.algorithm {
            Some(algorithm) => format!("{} ({algorithm})", result.name),
            None => result.name.to_owned(),
        };
        [vec![name], times.to_vec(), counts.map(|count| count.to_string()).to_vec()].concat()
    };
    let heads =
        ["", "mean ms", "p50", "p99", "p99.9", "good", "failed", "rejected", "timed out", "ejections"];
    table(out, &heads, run.results.iter().map(row).collect());
}

fn shares(out: &mut String, run: &Run) {
    out.push_str("<h2>Shares of the servers, %</h2>\n");
    let row = |(at, place): (usize, &super::outcome::Place)| {
        let size = [place.name.clone(), place.speed.to_string(), place.slots.to_string()];
        let of = |result: &Outcome| {
            result.shares.get(at).map_or("-".to_owned(), |share| format!("{:.1}", share.percent))
        };
        [size.to_vec(), run.results.iter().map(of).collect()].concat()
    };
    let heads = [vec!["", "speed", "slots"], run.results.iter().map(|result| result.name).collect()].concat();
    table(out, &heads, run.servers.iter().enumerate().map(row).collect());
}

fn events(out: &mut String, result: &Outcome) {
    let rejections = result.rejections.iter().map(|(name, count)| format!("rejected, {name}: {count}"));
    let lines: Vec<_> = rejections.chain(result.events.iter().cloned()).map(|line| escaped(&line)).collect();
    if !lines.is_empty() {
        let _ = writeln!(out, "<h2>Events of {}</h2>\n<pre>{}</pre>", result.name, lines.join("\n"));
    }
}
