//! Steady loads: the closed loop, in interleaved rounds.

use super::arguments::Arguments;
use super::client::{self, Outcome};
use super::origin::Origin;
use super::process;
use super::proxy::{Kind, Proxy};
use super::result::{Report, Row, Sample};
use super::settings::Setup;
use super::table;
use super::work::{Measure, Sends, Unit, Work};
use evenkeel::loadtest::{Summary, measure};
use std::time::Duration;

/// Measures a workload at each of its steps, and prints the results.
pub fn run(arguments: &Arguments, work: &Work, kinds: &[Kind], report: &mut Report) -> Result<(), String> {
    let kinds: Vec<Kind> = kinds.iter().filter(|kind| work.measures(**kind)).copied().collect();
    let steps = match (work.unit, &arguments.connections[..]) {
        (Unit::Connections, given @ [_, ..]) => given,
        _ => work.at,
    };
    for &at in steps {
        let origin = Origin::start(work.servers(at))?;
        let setup = work.setup(at, arguments.workers, arguments.health_check);
        // New ones for each step: their memory is not affected by the step before.
        let proxies = start_all(&kinds, &origin, setup, report);
        let rows = run_step(arguments, work, &proxies, at);
        report.rows.extend(rows);
        table::print_load(report, work.name, at);
    }
    Ok(())
}

/// Starts every proxy; one that does not start is reported and left out.
pub fn start_all(kinds: &[Kind], origin: &Origin, setup: Setup, report: &mut Report) -> Vec<Proxy> {
    let mut proxies = Vec::new();
    for kind in kinds {
        match Proxy::start(*kind, &origin.addresses, setup) {
            Ok(proxy) => proxies.push(proxy),
            Err(why) if report.missing.contains(&why) => {}
            Err(why) => {
                println!("! {why}");
                report.missing.push(why);
            }
        }
    }
    proxies
}

/// All rounds of one step. Each round begins with another proxy.
fn run_step(arguments: &Arguments, work: &Work, proxies: &[Proxy], at: usize) -> Vec<Row> {
    let row = |proxy: &Proxy| Row {
        work: work.name.to_string(),
        unit: work.unit,
        at,
        proxy: proxy.kind.name().to_string(),
        by_bytes: work.measure == Measure::Bytes,
        samples: Vec::new(),
    };
    let mut rows: Vec<Row> = proxies.iter().map(row).collect();
    for round in 0..arguments.rounds {
        for turn in 0..proxies.len() {
            let number = (round + turn) % proxies.len();
            let duration = Duration::from_secs_f64(arguments.seconds);
            rows[number].samples.push(sample(work, &proxies[number], at, duration));
        }
    }
    rows
}

/// One measurement. Processor time is that of all processes of the proxy, from before the warm-up to after the last
/// response, divided by all requests in that time.
pub fn sample(work: &Work, proxy: &Proxy, at: usize, duration: Duration) -> Sample {
    process::reset_peak(&proxy.pids());
    let before = process::usage(&proxy.pids());
    let outcome = match work.sends {
        Sends::Whole => {
            measure(&work.load(proxy.address, at, duration)).map(|summary| outcome_of(work, summary))
        }
        _ => client::measure(&work.special_load(proxy.address, at, duration)),
    };
    let after = process::usage(&proxy.pids());
    let memory = process::memory(&proxy.pids());
    let outcome = outcome.unwrap_or_else(|error| Outcome { complaint: Some(error), ..Outcome::default() });
    let cpu_us = (after.cpu_s - before.cpu_s) * 1e6;
    let responses = (outcome.responses as f64).max(1.0);
    Sample {
        requests_per_s: outcome.requests_per_s,
        bytes_per_s: outcome.bytes_per_s,
        p50_us: outcome.p50_us,
        p99_us: outcome.p99_us,
        cpu_us_per_request: cpu_us / responses,
        cpu_us_per_mib: cpu_us / (outcome.bytes as f64 / 1_048_576.0).max(1e-9),
        switches_per_request: after.switches.saturating_sub(before.switches) as f64 / responses,
        memory,
        complaint: outcome.complaint,
    }
}

fn outcome_of(work: &Work, summary: Summary) -> Outcome {
    Outcome {
        requests_per_s: summary.requests_per_s,
        bytes_per_s: summary.received_per_s + summary.sent_per_s,
        p50_us: summary.latency_us.p50,
        p99_us: summary.latency_us.p99,
        responses: summary.responses + summary.warm_up_responses,
        bytes: summary.received + summary.sent + summary.warm_up_bytes,
        complaint: summary.complaint().or_else(|| work.wrong_handshakes(summary.handshakes, summary.resumed)),
    }
}
