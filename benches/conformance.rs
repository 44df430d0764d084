//! Runs the conformance suite against Evenkeel, nginx and HAProxy, and reports the failures of each.
//!
//! `cargo bench --bench conformance`; see `-- --help` for options. The cases are those of `tests/conformance`: they are
//! independent of the proxy, and accept every safe choice that the RFCs allow. Each case gets a new proxy, so that it
//! is not affected by earlier cases.

#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock and waits for processes")]
#![allow(
    missing_docs,
    unreachable_pub,
    dead_code,
    reason = "a program, not a library; it uses a part of what it shares"
)]

#[path = "conformance/peers.rs"]
mod peers;
#[path = "proxies/process.rs"]
mod process;
#[path = "proxies/proxy.rs"]
mod proxy;
#[path = "proxies/settings.rs"]
mod settings;
#[path = "../tests/conformance/suite.rs"]
mod suite;
#[path = "../tests/support/mod.rs"]
mod support;

use clap::Parser;
use proxy::Kind;
use serde::Serialize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use suite::run::{self, Waits};
use suite::{Area, Case, Level, evenkeel};

/// Runs the conformance suite against Evenkeel, nginx and HAProxy
#[derive(Debug, Parser)]
#[command(name = "cargo bench --bench conformance --")]
struct Arguments {
    /// Only these: evenkeel, nginx, haproxy
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Only cases whose name contains this text
    #[arg(long, default_value = "")]
    case: String,
    /// Seconds that a proxy may take for a response or for closing
    #[arg(long, default_value_t = 5.0)]
    max_wait: f64,
    /// Number of cases that run at the same time
    #[arg(long, default_value_t = 4)]
    lanes: usize,
    /// Also print for each failure what was sent and received
    #[arg(long)]
    verbose: bool,
    /// Write the results to this file
    #[arg(long)]
    json: Option<PathBuf>,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

/// The results of all cases with one proxy.
#[derive(Serialize)]
struct Results {
    proxy: &'static str,
    version: String,
    cases: Vec<Verdict>,
}

/// The result of one case.
#[derive(Serialize)]
struct Verdict {
    id: String,
    area: String,
    level: &'static str,
    rfc: &'static str,
    /// The reason of a failure; empty if it passed.
    failure: Option<String>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let cases: Vec<Case> =
        suite::all().into_iter().filter(|case| case.id.contains(&arguments.case)).collect();
    let wanted = |kind: &Kind| {
        *kind != Kind::Direct
            && (arguments.only.is_empty() || arguments.only.iter().any(|name| name == kind.name()))
    };
    let mut all = Vec::new();
    for kind in Kind::ALL.into_iter().filter(wanted) {
        match kind.program() {
            Ok(_) => all.push(results(kind, &cases, &arguments)),
            Err(missing) => eprintln!("{missing}"),
        }
    }
    println!("{} cases\n", cases.len());
    table(&cases, &all);
    all.iter().for_each(|results| list(results, arguments.verbose));
    match arguments.json.as_ref().map(|file| write(file, &all)) {
        Some(Err(why)) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}

fn results(kind: Kind, cases: &[Case], arguments: &Arguments) -> Results {
    let waits =
        Waits { response: Duration::from_secs_f64(arguments.max_wait), pause: Duration::from_millis(100) };
    let judge = |case: &Case| match kind {
        Kind::Evenkeel => run::run(case, waits, evenkeel::start),
        kind => run::run(case, waits, |servers, setup| peers::start(kind, servers, setup)),
    };
    let verdict = |case: &Case| Verdict {
        id: case.id.clone(),
        area: case.area.name(),
        level: case.level.name(),
        rfc: case.rfc,
        failure: judge(case).err(),
    };
    let cases = run::all(cases, arguments.lanes, verdict);
    Results { proxy: kind.name(), version: kind.version(), cases }
}

/// Failures by area and level.
fn table(cases: &[Case], all: &[Results]) {
    let mut areas: Vec<Area> = cases.iter().map(|case| case.area).collect();
    areas.sort();
    areas.dedup();
    let levels = Level::ALL.map(Level::name).join("/");
    print!("{:<14}{:>22}", "cases", levels);
    all.iter().for_each(|results| print!("{:>18}", results.proxy));
    println!();
    for area in areas.into_iter().map(Area::name) {
        let of = |level: &'static str| {
            cases.iter().filter(|case| case.area.name() == area && case.level.name() == level).count()
        };
        row(&area, &Level::ALL.map(|level| of(level.name())), all, |verdict| verdict.area == area);
    }
    let of = |level: Level| cases.iter().filter(|case| case.level == level).count();
    row("all", &Level::ALL.map(of), all, |_| true);
}

fn row(name: &str, counts: &[usize; 4], all: &[Results], counts_in: impl Fn(&Verdict) -> bool) {
    let joined = |counts: &[usize; 4]| counts.map(|count| count.to_string()).join("/");
    print!("{name:<14}{:>22}", joined(counts));
    for results in all {
        let failed = |level: Level| {
            let here = |verdict: &&Verdict| counts_in(verdict) && verdict.level == level.name();
            results.cases.iter().filter(here).filter(|verdict| verdict.failure.is_some()).count()
        };
        print!("{:>18}", joined(&Level::ALL.map(failed)));
    }
    println!();
}

/// Every failure, with its reason.
fn list(results: &Results, verbose: bool) {
    let failures: Vec<_> = results.cases.iter().filter(|verdict| verdict.failure.is_some()).collect();
    println!("\n{} ({}): {} fail", results.proxy, results.version, failures.len());
    for verdict in failures {
        let why = verdict.failure.as_deref().unwrap_or_default();
        if verbose {
            println!("{why}\n");
            continue;
        }
        let wrong: Vec<_> =
            why.lines().skip(1).take_while(|line| !line.starts_with("  sent:")).map(str::trim).collect();
        let wrong = if wrong.is_empty() { why.replace('\n', " ") } else { wrong.join("; ") };
        println!("  {} [{}, {}, RFC {}] {wrong}", verdict.id, verdict.area, verdict.level, verdict.rfc);
    }
}

fn write(file: &PathBuf, all: &[Results]) -> Result<(), String> {
    let text = serde_json::to_string_pretty(all).map_err(|error| error.to_string())?;
    std::fs::write(file, text).map_err(|error| format!("{}: {error}", file.display()))
}
