//! Measures how balancers choose: the same requests, at the same times and with the same work, through Evenkeel, nginx,
//! HAProxy and Caddy, and computed for one queue in front of all slots (the ideal) and for Evenkeel in its simulation.
//!
//! `cargo bench --bench balancing` runs every scenario at 80 %; `-- --help` has the options. Servers are processes of their
//! own with slots and a queue; their work is sleeping, so that two processors suffice. The work of each request is drawn
//! from the seed and sent in a header. A latency counts from when a request was due; what the generator itself was late is
//! printed. Not measured here: servers that join, that come back cold, and load reports.

#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock and waits for processes")]
#![allow(missing_docs, unreachable_pub, reason = "a program, not a library")]

#[path = "balancing/balancer.rs"]
mod balancer;
#[path = "balancing/client.rs"]
mod client;
#[path = "balancing/scenario.rs"]
mod scenario;
#[path = "balancing/server.rs"]
mod server;

use balancer::{Balancer, Kind};
use clap::Parser;
use client::Outcome;
use evenkeel::state::simulation::{self, Report};
use scenario::Scenario;
use serde::Serialize;
use std::path::PathBuf;
use std::process::ExitCode;

/// With a larger share of failures a balancer is not taken for the best.
const MOST_FAILURES: f64 = 0.01;

/// Measures how balancers choose
#[derive(Debug, Parser)]
#[command(name = "cargo bench --bench balancing --")]
struct Arguments {
    /// Only these scenarios
    #[arg(long, value_delimiter = ',')]
    scenario: Vec<String>,
    /// The share of the capacity that is asked for, in percent; 800 is overload
    #[arg(long, value_delimiter = ',', default_value = "80")]
    load: Vec<f64>,
    /// The source of all chance
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 8.0)]
    seconds: f64,
    /// Three seconds for each measurement
    #[arg(long)]
    quick: bool,
    /// This nginx instead of the one on the PATH
    #[arg(long, value_name = "PATH")]
    nginx: Option<PathBuf>,
    /// This HAProxy instead of the one on the PATH
    #[arg(long, value_name = "PATH")]
    haproxy: Option<PathBuf>,
    /// This Caddy instead of the one on the PATH
    #[arg(long, value_name = "PATH")]
    caddy: Option<PathBuf>,
    /// Print each row as JSON
    #[arg(long)]
    json: bool,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

/// A balancer in a scenario at a load.
#[derive(Debug, Serialize)]
struct Row {
    scenario: &'static str,
    load: f64,
    balancer: &'static str,
    requests: usize,
    failures: usize,
    good_per_s: f64,
    p50_ms: f64,
    p99_ms: f64,
    p99_9_ms: f64,
    /// The 99th percentile of how late the generator sent; 0 for what is computed.
    late_p99_ms: f64,
    /// Percent of the responses by server.
    shares: Vec<f64>,
}

fn main() -> ExitCode {
    let given: Vec<String> = std::env::args().collect();
    if given.get(1).is_some_and(|first| first == server::ARGUMENT) {
        server::serve(&given[2..]);
        return ExitCode::SUCCESS;
    }
    // `cargo test --all-targets` only needs it to start; `cargo bench` passes `--bench`.
    if !given.iter().any(|argument| argument == "--bench") {
        return ExitCode::SUCCESS;
    }
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), String> {
    let programs = [&arguments.nginx, &arguments.haproxy, &arguments.caddy];
    let mut kinds = Vec::new();
    for kind in Kind::ALL {
        match kind.program(programs) {
            Some(program) => kinds.push((kind, program)),
            None => eprintln!("{} is not installed, so it is not measured", kind.name()),
        }
    }
    let scenarios = scenario::all();
    let wanted =
        |name: &str| arguments.scenario.is_empty() || arguments.scenario.iter().any(|one| one == name);
    if let Some(unknown) =
        arguments.scenario.iter().find(|name| !scenarios.iter().any(|one| one.name == **name))
    {
        let known: Vec<_> = scenarios.iter().map(|one| one.name).collect();
        return Err(format!("there is no scenario {unknown}; there are {}", known.join(", ")));
    }
    let seconds = if arguments.quick { 3.0 } else { arguments.seconds };
    for scenario in scenarios.iter().filter(|scenario| wanted(scenario.name)) {
        for load in &arguments.load {
            let rows = measure(scenario, *load, seconds, arguments.seed, &kinds)?;
            match arguments.json {
                true => rows.iter().try_for_each(print_json)?,
                false => print(&rows),
            }
        }
    }
    Ok(())
}

/// All balancers, one after the other, and what is computed.
fn measure(
    scenario: &Scenario,
    load: f64,
    seconds: f64,
    seed: u64,
    kinds: &[(Kind, PathBuf)],
) -> Result<Vec<Row>, String> {
    let world = scenario.world(load / 100.0, seconds, seed);
    let requests = scenario::requests(&world);
    let listed =
        simulation::Description { arrivals: simulation::Arrivals::Listed(requests.clone()), ..world.clone() };
    let row = |balancer, outcome: Outcome| row(scenario.name, load, seconds, balancer, outcome);
    let mut working = listed.clone();
    working.servers.retain(|server| server.behaviour == simulation::Behaviour::Works);
    let mut rows = vec![
        row("ideal", computed(&simulation::ideal(&working), requests.len())),
        row("simulated", computed(&simulation::run(&listed), requests.len())),
    ];
    for (kind, program) in kinds {
        // Fresh servers for each: none inherits a queue.
        let servers = server::start_all(&world)?;
        let addresses: Vec<_> = servers.iter().map(|server| server.address).collect();
        let balancers = (0..scenario.balancers)
            .map(|_| Balancer::start(*kind, program, &addresses))
            .collect::<Result<Vec<_>, _>>()?;
        let at: Vec<_> = balancers.iter().map(|balancer| balancer.address).collect();
        rows.push(row(kind.name(), client::send(&at, &requests, addresses.len())));
    }
    Ok(rows)
}

fn computed(report: &Report, requests: usize) -> Outcome {
    let ms = |share| report.quantile(share).as_secs_f64() * 1e3;
    let shares = report.percent(0..report.shares.len());
    let (good, quantiles) = (report.good as usize, [ms(0.5), ms(0.99), ms(0.999)]);
    Outcome { good, failures: requests - good, quantiles_ms: quantiles, late_p99_ms: 0.0, shares }
}

fn row(scenario: &'static str, load: f64, seconds: f64, balancer: &'static str, outcome: Outcome) -> Row {
    let [p50_ms, p99_ms, p99_9_ms] = outcome.quantiles_ms;
    Row {
        scenario,
        load,
        balancer,
        requests: outcome.good + outcome.failures,
        failures: outcome.failures,
        good_per_s: outcome.good as f64 / seconds,
        p50_ms,
        p99_ms,
        p99_9_ms,
        late_p99_ms: outcome.late_p99_ms,
        shares: outcome.shares,
    }
}

fn print_json(row: &Row) -> Result<(), String> {
    println!("{}", serde_json::to_string(row).map_err(|error| error.to_string())?);
    Ok(())
}

fn print(rows: &[Row]) {
    let Some(ideal) = rows.first() else { return };
    // Those that are neither computed nor Evenkeel; what fails often is not good because the rest is quick.
    let is_peer = |row: &&Row| {
        !row.balancer.starts_with("evenkeel") && row.failures as f64 <= MOST_FAILURES * row.requests as f64
    };
    let peers = rows.iter().skip(2).filter(is_peer);
    let best = peers.map(|row| row.p99_ms).fold(f64::INFINITY, f64::min);
    println!("\n{} at {} %, {} requests", ideal.scenario, ideal.load, ideal.requests);
    println!(
        "{:<27}{:>9}{:>9}{:>9}{:>9}{:>9}{:>9}{:>10}{:>8}  shares",
        "", "p50 ms", "p99", "p99.9", "failures", "good/s", "to ideal", "to peer", "late"
    );
    for row in rows {
        let shares: Vec<_> = row.shares.iter().take(8).map(|share| format!("{share:.0}")).collect();
        println!(
            "{:<27}{:>9.1}{:>9.1}{:>9.1}{:>9}{:>9.0}{:>9.2}{:>10.2}{:>8.2}  {}",
            row.balancer,
            row.p50_ms,
            row.p99_ms,
            row.p99_9_ms,
            row.failures,
            row.good_per_s,
            row.p99_ms / ideal.p99_ms,
            if best.is_finite() { row.p99_ms / best } else { 0.0 },
            row.late_p99_ms,
            shares.join("/")
        );
    }
}
