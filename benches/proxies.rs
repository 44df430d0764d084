//! Measures Evenkeel against a direct connection, nginx and HAProxy, in interleaved rounds of one run.
//!
//! `cargo bench` measures small answers at 1, 16, 64 and 256 connections; `cargo bench -- --work all`
//! everything; `cargo bench -- --help` tells the rest. Client and origin are the same for all, and none
//! of their processor time counts. Each figure is the median over the rounds; the order of the proxies
//! rotates, so that a machine that slows down slows all of them. No ratio is printed where a run had errors.

#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock and waits for processes")]
#![allow(missing_docs, unreachable_pub, reason = "a program, not a library")]

#[path = "proxies/origin.rs"]
mod origin;
#[path = "proxies/process.rs"]
mod process;
#[path = "proxies/proxy.rs"]
mod proxy;
#[path = "proxies/result.rs"]
mod result;
#[path = "proxies/table.rs"]
mod table;
#[path = "proxies/work.rs"]
mod work;

use clap::Parser;
use evenkeel::loadtest::{Summary, measure};
use origin::Origin;
use proxy::{Kind, Proxy, Setup, ask};
use result::{Idle, Machine, Report, Row, Sample, Start};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use work::{Measure, Work};

/// Before the first round of each load, each proxy runs this long unmeasured.
const WARM_UP: Duration = Duration::from_millis(300);

/// Measures Evenkeel against a direct connection, nginx and HAProxy
#[derive(Debug, Parser)]
#[command(name = "cargo bench --")]
struct Arguments {
    /// Rounds, of which medians are taken
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Connections, instead of each work's own
    #[arg(long, value_delimiter = ',')]
    connections: Vec<usize>,
    /// Only these: direct, evenkeel, nginx, haproxy
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Works: small, new-connection, post-1k, post-64k, get-10k, get-64k, get-1m, post-1m, get-64m,
    /// post-64m, chunked, delay-10ms, idle, or all
    #[arg(long, value_delimiter = ',', default_value = "small")]
    work: Vec<String>,
    /// Evenkeel's max_workers
    #[arg(long, default_value_t = 16)]
    workers: usize,
    /// Let Evenkeel check the health of its server meanwhile
    #[arg(long)]
    health_check: bool,
    /// Connections of the work idle
    #[arg(long, default_value_t = 8000)]
    idle: usize,
    /// Compare with the JSON of an earlier run
    #[arg(long)]
    compare: Option<PathBuf>,
    /// Print the JSON of an earlier run instead of measuring
    #[arg(long)]
    from: Option<PathBuf>,
    /// Where to write the JSON, instead of target/bench/proxies.json
    #[arg(long)]
    output: Option<PathBuf>,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let outcome = match std::env::args().nth(1).as_deref() {
        Some(origin::ARGUMENT) => {
            raise_descriptor_limit();
            origin::serve().map(|()| true)
        }
        // `cargo test --all-targets` only wants to know that it starts; `cargo bench` gives `--bench`.
        None | Some("--test") => Ok(true),
        _ => bench(&Arguments::parse()),
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

/// Measures and prints; false when something could not be measured cleanly.
fn bench(arguments: &Arguments) -> Result<bool, String> {
    let old = arguments.compare.as_deref().map(Report::read).transpose()?;
    let report = match &arguments.from {
        Some(path) => print_kept(Report::read(path)?),
        None => run(arguments)?,
    };
    if let Some(old) = old {
        table::print_comparison(&report, &old);
    }
    let clean = report.rows.iter().all(|row| row.complaint().is_none());
    Ok(clean && !report.missing.iter().any(|missing| missing.starts_with("evenkeel")))
}

fn print_kept(report: Report) -> Report {
    table::print_machine(&report);
    let mut loads: Vec<_> = report.rows.iter().map(|row| (row.work.as_str(), row.connections)).collect();
    loads.dedup();
    loads.into_iter().for_each(|(work, connections)| table::print_load(&report, work, connections));
    table::print_idle(&report);
    table::print_starts(&report);
    report
}

fn run(arguments: &Arguments) -> Result<Report, String> {
    raise_descriptor_limit();
    let all = arguments.work.iter().any(|name| name == "all");
    let wanted = |name: &str| all || arguments.work.iter().any(|work| work == name);
    check_names(arguments)?;
    let mut report = Report { rounds: arguments.rounds, seconds: arguments.seconds, ..Report::default() };
    let kinds = kinds(arguments, &mut report);
    report.machine = machine();
    table::print_machine(&report);
    let origin = Origin::start()?;
    for work in work::ALL.iter().filter(|work| wanted(work.name)) {
        run_work(arguments, work, &kinds, &origin, &mut report);
    }
    if wanted(work::IDLE) {
        let setup = Setup { max_workers: arguments.workers, queue_capacity: 2000, health_check: false };
        let proxies = start_all(&kinds, &origin, setup, &mut report);
        let with_process = proxies.iter().filter(|proxy| proxy.kind != Kind::Direct);
        report.idle.extend(with_process.map(|proxy| hold_idle(proxy, arguments.idle)));
        table::print_idle(&report);
    }
    table::print_starts(&report);
    let path = arguments.output.clone().unwrap_or_else(kept_at);
    report.write(&path)?;
    println!("\nkept in {}", path.display());
    Ok(report)
}

fn check_names(arguments: &Arguments) -> Result<(), String> {
    let known =
        |name: &String| name == "all" || name == work::IDLE || work::ALL.iter().any(|work| work.name == name);
    if let Some(unknown) = arguments.work.iter().find(|name| !known(name)) {
        return Err(format!("there is no work {unknown}; see --help"));
    }
    let known = |name: &String| Kind::ALL.iter().any(|kind| kind.name() == name);
    match arguments.only.iter().find(|name| !known(name)) {
        Some(unknown) => Err(format!("there is no proxy {unknown}; see --help")),
        None => Ok(()),
    }
}

/// The proxies that are asked for and installed.
fn kinds(arguments: &Arguments, report: &mut Report) -> Vec<Kind> {
    let asked =
        |kind: &Kind| arguments.only.is_empty() || arguments.only.iter().any(|name| name == kind.name());
    let mut kinds = Vec::new();
    for kind in Kind::ALL.into_iter().filter(asked) {
        match kind.program() {
            Ok(_) => kinds.push(kind),
            Err(missing) => report.missing.push(missing),
        }
    }
    kinds
}

/// Starts every proxy; one that does not start is told and left out.
fn start_all(kinds: &[Kind], origin: &Origin, setup: Setup, report: &mut Report) -> Vec<Proxy> {
    let mut proxies = Vec::new();
    for kind in kinds {
        match Proxy::start(*kind, origin.address, setup) {
            Ok(proxy) => proxies.push(proxy),
            Err(why) if report.missing.contains(&why) => {}
            Err(why) => {
                println!("! {why}");
                report.missing.push(why);
            }
        }
    }
    for proxy in proxies.iter().filter(|proxy| proxy.kind != Kind::Direct) {
        let name = proxy.kind.name();
        if !report.starts.iter().any(|start| start.proxy == name) {
            report.starts.push(Start { proxy: name.to_string(), start_ms: proxy.start_ms });
        }
    }
    proxies
}

fn run_work(arguments: &Arguments, work: &Work, kinds: &[Kind], origin: &Origin, report: &mut Report) {
    let setup = work.setup(arguments.workers, arguments.health_check);
    let proxies = start_all(kinds, origin, setup, report);
    let mut loads = arguments.connections.clone();
    if loads.is_empty() {
        loads.extend(work.connections);
        let all = arguments.work.iter().any(|name| name == "all");
        loads.extend((all && work.name == "small").then_some(1000));
    }
    for connections in loads {
        let rows = run_load(arguments, work, &proxies, connections);
        report.rows.extend(rows);
        table::print_load(report, work.name, connections);
    }
}

/// All rounds of one load. Each round begins with another proxy.
fn run_load(arguments: &Arguments, work: &Work, proxies: &[Proxy], connections: usize) -> Vec<Row> {
    let row = |proxy: &Proxy| Row {
        work: work.name.to_string(),
        connections,
        proxy: proxy.kind.name().to_string(),
        by_bytes: work.measure == Measure::Bytes,
        samples: Vec::new(),
    };
    let mut rows: Vec<Row> = proxies.iter().map(row).collect();
    for proxy in proxies {
        let _ = measure(&work.load(proxy.address, connections, WARM_UP));
    }
    for round in 0..arguments.rounds {
        for turn in 0..proxies.len() {
            let number = (round + turn) % proxies.len();
            let duration = Duration::from_secs_f64(arguments.seconds);
            rows[number].samples.push(sample(work, &proxies[number], connections, duration));
        }
    }
    rows
}

fn sample(work: &Work, proxy: &Proxy, connections: usize, duration: Duration) -> Sample {
    process::reset_peak(&proxy.pids);
    let before = process::usage(&proxy.pids);
    let outcome = measure(&work.load(proxy.address, connections, duration));
    let after = process::usage(&proxy.pids);
    let memory = process::memory(&proxy.pids);
    let (summary, failed) = match outcome {
        Ok(summary) => (Some(summary), None),
        Err(error) => (None, Some(error)),
    };
    let figure = |of: fn(&Summary) -> f64| summary.as_ref().map_or(0.0, of);
    let cpu_us = (after.cpu_s - before.cpu_s) * 1e6;
    let answered = figure(|summary| summary.answered as f64).max(1.0);
    let bytes_per_s = figure(|summary| summary.received_per_s + summary.sent_per_s);
    let mib = (figure(|summary| (summary.received + summary.sent) as f64) / 1_048_576.0).max(1e-9);
    Sample {
        requests_per_s: figure(|summary| summary.requests_per_s),
        bytes_per_s,
        p50_us: figure(|summary| summary.latency_us.p50),
        p99_us: figure(|summary| summary.latency_us.p99),
        cpu_us_per_request: cpu_us / answered,
        cpu_us_per_mib: cpu_us / mib,
        switches_per_request: after.switches.saturating_sub(before.switches) as f64 / answered,
        memory,
        complaint: failed.or(summary.and_then(|summary| summary.complaint())),
    }
}

/// Opens connections, uses each once, and looks at the proxy's memory while all are kept.
fn hold_idle(proxy: &Proxy, connections: usize) -> Idle {
    let before = process::memory(&proxy.pids);
    let mut held = Vec::with_capacity(connections);
    let mut complaint = None;
    for number in 0..connections {
        match open_and_ask(proxy) {
            Ok(stream) => held.push(stream),
            Err(why) => {
                complaint = Some(format!("connection {} of {connections}: {why}", number + 1));
                break;
            }
        }
    }
    let holding = process::memory(&proxy.pids);
    // All of them must still be served, not only held: the first stands for them.
    if let Some(first) = held.first_mut() {
        if complaint.is_none() && !ask(first).unwrap_or(false) {
            complaint = Some("the first connection is served no more".to_string());
        }
    }
    Idle { proxy: proxy.kind.name().to_string(), connections: held.len(), before, holding, complaint }
}

fn open_and_ask(proxy: &Proxy) -> Result<TcpStream, String> {
    let mut stream = TcpStream::connect(proxy.address).map_err(|error| error.to_string())?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).map_err(|error| error.to_string())?;
    match ask(&mut stream) {
        Ok(true) => Ok(stream),
        Ok(false) => Err("no 200".to_string()),
        Err(error) => Err(error.to_string()),
    }
}

fn machine() -> Machine {
    let first = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = first("/proc/cpuinfo");
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let peers = Kind::ALL.into_iter().filter(|kind| *kind != Kind::Direct);
    Machine {
        cpus: std::thread::available_parallelism().map_or(0, usize::from),
        model: model.map_or("processor", |(_, model)| model.trim()).to_string(),
        kernel: first("/proc/sys/kernel/osrelease").trim().to_string(),
        versions: peers.map(|kind| format!("{}: {}", kind.name(), kind.version())).collect(),
        evenkeel_bytes: std::fs::metadata(env!("CARGO_BIN_EXE_evenkeel")).map_or(0, |file| file.len()),
    }
}

/// `target/bench/proxies.json`, found from where this program lies: `target/release/deps`.
fn kept_at() -> PathBuf {
    let program = std::env::current_exe().unwrap_or_default();
    let target = program.ancestors().nth(3).map(PathBuf::from).unwrap_or_default();
    target.join("bench/proxies.json")
}

/// Thousands of connections need as many descriptors; children inherit the limit.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let _ = setrlimit(Resource::Nofile, limit);
}
