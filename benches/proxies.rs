//! Measures Evenkeel against a direct connection, nginx and HAProxy, in interleaved rounds of one run.
//!
//! `cargo bench` measures every row of docs/performance.md; `cargo bench --bench proxies -- --work small` is a quick
//! run, see `-- --help` for options. Client and origin are the same for all, and none of their processor time counts.
//! Each figure is the median over the rounds; the order of the proxies rotates, so that a slowdown of the machine
//! affects all of them. No ratio is printed if a run had errors.

#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock and waits for processes")]
#![allow(missing_docs, unreachable_pub, reason = "a program, not a library")]

#[path = "proxies/arguments.rs"]
mod arguments;
#[path = "proxies/chart.rs"]
mod chart;
#[path = "proxies/client.rs"]
mod client;
#[path = "proxies/floor.rs"]
mod floor;
#[path = "proxies/idle.rs"]
mod idle;
#[path = "proxies/machine.rs"]
mod machine;
#[path = "proxies/markdown.rs"]
mod markdown;
#[path = "proxies/origin.rs"]
mod origin;
#[path = "proxies/overload.rs"]
mod overload;
#[path = "proxies/picks.rs"]
mod picks;
#[path = "proxies/plots.rs"]
mod plots;
#[path = "proxies/process.rs"]
mod process;
#[path = "proxies/proxy.rs"]
mod proxy;
#[path = "proxies/result.rs"]
mod result;
#[path = "instructions/servers.rs"]
mod servers;
#[path = "proxies/settings.rs"]
mod settings;
#[path = "proxies/slots.rs"]
mod slots;
#[path = "proxies/soak.rs"]
mod soak;
#[path = "proxies/steady.rs"]
mod steady;
#[path = "proxies/table.rs"]
mod table;
#[path = "proxies/work.rs"]
mod work;

use arguments::Arguments;
use origin::Origin;
use proxy::{Kind, Proxy};
use result::{Report, Start};
use settings::Setup;
use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    let outcome = match std::env::args().nth(1).as_deref() {
        Some(origin::ARGUMENT) => {
            raise_descriptor_limit();
            let number = |at| std::env::args().nth(at).and_then(|number| number.parse().ok());
            origin::serve(number(2).unwrap_or(1), number(3).unwrap_or(slots::SLOTS)).map(|()| true)
        }
        Some(proxy::FLOOR) => {
            raise_descriptor_limit();
            floor::serve(&std::env::args().nth(2).unwrap_or_default()).map(|()| true)
        }
        // `cargo test --all-targets` only needs it to start; `cargo bench` passes `--bench`.
        _ if !std::env::args().any(|argument| argument == "--bench") => Ok(true),
        _ => bench(&Arguments::read()),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Measures and prints; false when something could not be measured cleanly, or a guarantee was violated.
fn bench(arguments: &Arguments) -> Result<bool, String> {
    proxy::give(arguments.programs());
    arguments.check()?;
    raise_descriptor_limit();
    if let Some(minutes) = arguments.soak {
        return soak::run(arguments, minutes, &kept_in());
    }
    let old = arguments.compare.as_deref().map(Report::read).transpose()?;
    let report = match &arguments.from {
        Some(path) => Report::read(path)?,
        None => run(arguments)?,
    };
    if arguments.from.is_some() {
        table::print_all(&report);
    }
    if let Some(old) = old {
        table::print_comparison(&report, &old);
    }
    if arguments.markdown {
        println!("\n{}", markdown::tables(&report));
    }
    for folder in arguments.plots.iter().cloned().chain([kept_in()]) {
        let drawn = plots::draw(&report, &folder)?;
        if !drawn.is_empty() {
            println!("charts in {}: {}", folder.display(), drawn.join(", "));
        }
    }
    let clean = report.rows.iter().all(|row| row.complaint().is_none());
    let measured = !report.missing.iter().any(|missing| missing.starts_with("evenkeel"));
    Ok(clean && measured && overload::broken_promises(&report).is_empty())
}

fn run(arguments: &Arguments) -> Result<Report, String> {
    let path = arguments.output.clone().unwrap_or_else(|| kept_in().join("proxies.json"));
    let mut report = if arguments.add { Report::read(&path)? } else { Report::default() };
    report.forget(|name| arguments.wants(name));
    (report.rounds, report.seconds) = (arguments.rounds, arguments.seconds);
    let kinds = kinds(arguments, &mut report);
    report.machine = machine::look();
    table::print_machine(&report);
    for work in work::ALL.iter().filter(|work| arguments.wants(work.name)) {
        steady::run(arguments, work, &kinds, &mut report)?;
    }
    // Its figure is the cost of small exchanges, and nothing else.
    let kinds: Vec<Kind> = kinds.into_iter().filter(|kind| *kind != Kind::Floor).collect();
    if arguments.wants(overload::NAME) {
        overload::run(arguments, &kinds, &mut report)?;
    }
    if arguments.wants(picks::NAME) {
        picks::run(arguments.rounds, &mut report);
    }
    for (name, tls) in [(arguments::IDLE, false), (arguments::IDLE_TLS, true)] {
        if arguments.wants(name) {
            let origin = Origin::start(1)?;
            let setup = Setup { max_workers: arguments.workers, tls, ..Setup::default() };
            let proxies = steady::start_all(&kinds, &origin, setup, &mut report);
            let with_process = proxies.iter().filter(|proxy| proxy.kind != Kind::Direct);
            report.idle.extend(with_process.map(|proxy| idle::hold(proxy, arguments.idle)));
        }
    }
    if !report.idle.is_empty() {
        table::print_idle(&report);
    }
    if arguments.wants(arguments::START) {
        start_often(arguments, &kinds, &mut report)?;
        table::print_starts(&report);
    }
    report.write(&path)?;
    println!("\nwritten to {}", path.display());
    Ok(report)
}

/// The requested proxies that are installed.
fn kinds(arguments: &Arguments, report: &mut Report) -> Vec<Kind> {
    let asked =
        |kind: &Kind| arguments.only.is_empty() || arguments.only.iter().any(|name| name == kind.name());
    let mut kinds = Vec::new();
    for kind in Kind::measured().into_iter().filter(asked) {
        match kind.program() {
            Ok(_) => kinds.push(kind),
            Err(missing) => report.missing.push(missing),
        }
    }
    kinds
}

/// Starts each proxy once a round, and records the time to its first response.
fn start_often(arguments: &Arguments, kinds: &[Kind], report: &mut Report) -> Result<(), String> {
    let origin = Origin::start(1)?;
    let setup = Setup { max_workers: arguments.workers, ..Setup::default() };
    for kind in kinds.iter().filter(|kind| **kind != Kind::Direct) {
        let once = |_| Proxy::start(*kind, &origin.addresses, setup).map(|proxy| proxy.start_ms);
        let start_ms = (0..arguments.rounds).map(once).collect::<Result<_, _>>()?;
        report.starts.push(Start { proxy: kind.name().to_string(), start_ms });
    }
    Ok(())
}

/// `target/bench`, relative to the path of this program: `target/release/deps`.
fn kept_in() -> PathBuf {
    let program = std::env::current_exe().unwrap_or_default();
    program.ancestors().nth(3).map(PathBuf::from).unwrap_or_default().join("bench")
}

/// Thousands of connections need as many descriptors; child processes inherit the limit.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let _ = setrlimit(Resource::Nofile, limit);
}
