//! Measures how balancers choose: the same requests, at the same times and with the same work, through Evenkeel, nginx,
//! HAProxy and Caddy, and computed for one queue in front of all slots (the ideal) and for Evenkeel in its simulation.
//!
//! `cargo bench --bench balancing` runs every scenario at 80 %; `-- --help` has the options. Servers are processes of their
//! own with slots and a queue; their work is sleeping, so that two processors suffice. The work of each request is drawn
//! from the seed and sent in a header. A latency counts from when a request was due; what the generator itself was late is
//! printed. Runs are paired: with each seed all balancers get the same requests, and ratios are made before medians.

#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock and waits for processes")]
#![allow(missing_docs, unreachable_pub, reason = "a program, not a library")]

#[path = "balancing/balancer.rs"]
mod balancer;
#[path = "balancing/client.rs"]
mod client;
#[path = "balancing/goals.rs"]
mod goals;
#[path = "balancing/row.rs"]
mod row;
#[path = "balancing/scenario.rs"]
mod scenario;
#[path = "balancing/server.rs"]
mod server;

use balancer::{Balancer, Kind, Setup};
use clap::Parser;
use client::Outcome;
use evenkeel::state::simulation::{self, Arrivals, Description, LoadReport};
use row::Row;
use scenario::Scenario;
use std::path::PathBuf;
use std::process::ExitCode;

/// The same requests are simulated with so many draws of the balancer's own chance, and the median counts: with when probes come alone
/// p99 of a server that fails for a moment is between 0.8 and 1.8 times the ideal.
const DRAWS: u64 = 9;

/// Measures how balancers choose
#[derive(Debug, Parser)]
#[command(name = "cargo bench --bench balancing --")]
struct Arguments {
    /// List the scenarios and the balancers
    #[arg(long)]
    list: bool,
    /// Only these scenarios
    #[arg(long, alias = "scenario", value_delimiter = ',')]
    only: Vec<String>,
    /// The share of the capacity that is asked for, in percent
    #[arg(long, value_delimiter = ',', default_value = "80")]
    load: Vec<f64>,
    /// The sources of all chance; each is a run
    #[arg(long, alias = "seed", value_delimiter = ',', default_value = "1")]
    seeds: Vec<u64>,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 8.0)]
    seconds: f64,
    /// Three seconds for each measurement
    #[arg(long)]
    quick: bool,
    /// One second, and Evenkeel alone: whether every scenario works
    #[arg(long)]
    smoke: bool,
    /// Only what is computed: the ideal and the simulation
    #[arg(long)]
    simulated: bool,
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
    let kinds = kinds(arguments);
    let scenarios = chosen(&arguments.only)?;
    if arguments.list {
        scenarios.iter().for_each(|scenario| println!("{:<16}{}", scenario.name, scenario.about));
        kinds.iter().for_each(|(kind, program)| println!("{:<28}{}", kind.name(), program.display()));
        return Ok(());
    }
    if !arguments.json {
        kinds.iter().for_each(|(kind, _)| println!("{:<28}{}", kind.name(), kind.about()));
    }
    let seconds = match (arguments.smoke, arguments.quick) {
        (true, _) => 1.0,
        (false, true) => 3.0,
        (false, false) => arguments.seconds,
    };
    let mut all = Vec::new();
    for scenario in &scenarios {
        for load in scenario.loads(&arguments.load) {
            for seed in &arguments.seeds {
                let rows = measure(scenario, *load, seconds, *seed, &kinds)?;
                match arguments.json {
                    true => rows.iter().try_for_each(Row::print_json)?,
                    false => row::print(&rows, scenario),
                }
                all.extend(rows);
            }
        }
    }
    if arguments.smoke {
        return smoke(&all);
    }
    if !arguments.json {
        goals::print(&all, &scenarios);
    }
    Ok(())
}

/// The balancers that are measured, with their programs.
fn kinds(arguments: &Arguments) -> Vec<(Kind, PathBuf)> {
    let programs = [&arguments.nginx, &arguments.haproxy, &arguments.caddy];
    let is_wanted = |kind: &Kind| {
        let is_known = !kind.is_evenkeel() || kind.config(None).is_some();
        is_known && !arguments.simulated && (kind.is_evenkeel() || !arguments.smoke)
    };
    let mut kinds = Vec::new();
    for kind in Kind::ALL.into_iter().filter(is_wanted) {
        match kind.program(programs) {
            Some(program) => kinds.push((kind, program)),
            None => eprintln!("{} is not installed, so it is not measured", kind.name()),
        }
    }
    kinds
}

fn chosen(only: &[String]) -> Result<Vec<Scenario>, String> {
    let mut scenarios = scenario::all();
    if let Some(unknown) = only.iter().find(|name| !scenarios.iter().any(|one| one.name == **name)) {
        let known: Vec<_> = scenarios.iter().map(|one| one.name).collect();
        return Err(format!("there is no scenario {unknown}; there are {}", known.join(", ")));
    }
    scenarios.retain(|scenario| only.is_empty() || only.iter().any(|name| name == scenario.name));
    Ok(scenarios)
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
    let requests = simulation::requests(&world);
    let listed = Description { arrivals: Arrivals::Listed(requests.clone()), ..world.clone() };
    let row = |balancer, outcome| Row::of(scenario, [load, seconds], seed, balancer, outcome);
    let mut rows = vec![row("ideal".to_owned(), row::computed(&simulation::ideal(&listed)))];
    let limit = scenario.has_limit.then_some(scenario::OVERLOAD_LIMIT);
    for kind in Kind::ALL {
        if let Some(config) = kind.config(limit) {
            let outcome = simulated(&Description { config, ..listed.clone() });
            rows.push(row(format!("{}{}", row::SIMULATED, kind.name()), outcome));
        }
    }
    for (kind, program) in kinds {
        // Fresh servers for each: none inherits a queue.
        let mut servers = server::start_all(&world)?;
        let addresses: Vec<_> = servers.iter().map(|server| server.address).collect();
        let has_reports = world.servers.iter().any(|server| server.report != LoadReport::None);
        let setup = Setup { servers: &addresses, limit, has_reports };
        let balancers = (0..scenario.balancers)
            .map(|_| Balancer::start(*kind, program, &setup))
            .collect::<Result<Vec<_>, _>>()?;
        let at: Vec<_> = balancers.iter().map(|balancer| balancer.address).collect();
        let begin = || servers.iter_mut().for_each(server::Server::begin);
        let outcome = client::send(&at, &requests, addresses.len(), begin);
        rows.push(row(kind.name().to_owned(), outcome));
    }
    Ok(rows)
}

/// The one of several runs with the same requests whose p99 is the median.
fn simulated(world: &Description) -> Outcome {
    let draw = |number| Description { seed: world.seed + 1_000 * number, ..world.clone() };
    let mut all: Vec<_> = (0..DRAWS).map(|number| row::computed(&simulation::run(&draw(number)))).collect();
    all.sort_by(|one, other| one.quantiles_ms[1].total_cmp(&other.quantiles_ms[1]));
    all.swap_remove(all.len() / 2)
}

/// Every scenario must have had responses from Evenkeel, and been simulated.
fn smoke(rows: &[Row]) -> Result<(), String> {
    let bad: Vec<_> = rows.iter().filter(|row| row.failures == row.requests || row.p99_ms <= 0.0).collect();
    let named = bad.iter().map(|row| format!("{}: {} has no good response", row.scenario, row.balancer));
    match bad.is_empty() {
        true => Ok(()),
        false => Err(named.collect::<Vec<_>>().join("\n")),
    }
}
