//! `evenkeel simulate`: requests on a described world under virtual time, with the choice, queue and ejection of a
//! configuration.

use super::{Failure, find};
use crate::state::config::{self, Config};
use crate::state::simulation::{
    self, Arrivals, Behaviour, Change, Description, Pause, Policy, Report, Server, Work,
};
use clap::{Args, ValueEnum};
use serde::Deserialize;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The most requests of a simulation: each keeps its latency, 4 bytes, and its arrival.
const REQUESTS_MAX: f64 = 20_000_000.0;
/// The longest bar, in characters.
const BAR: f64 = 40.0;

pub(super) const LONG_ABOUT: &str = "\
Simulate how a configuration distributes requests, under virtual time.

The choice, the limits, the queue and the ejection are those of the balancer; servers have slots, a
queue and a speed. The same arguments print the same bytes. Compares two configurations with
--against, and both with one queue in front of all slots, which no balancer can beat.

It cannot know: the network and the balancer's own time, probes, retries after a response, and
whether servers behave as described.";

pub(super) const AFTER_HELP: &str = "\
Examples:
  evenkeel simulate --scenario speeds --load 95
  evenkeel simulate -c config.json --against other.json --rate 500 --servers 1x4,2x4,4x4
  evenkeel simulate --trace access.jsonl

--servers has for each server its speed x its slots; without it, the scenario's. A trace is an access
log with log.access_format json: a request's work is its total time without the queue and the connect.";

/// The arguments of `evenkeel simulate`.
#[derive(Clone, Debug, Args)]
pub struct Arguments {
    /// Another configuration, for the same requests
    #[arg(long, value_name = "FILE")]
    pub against: Option<PathBuf>,
    /// The world
    #[arg(long, value_enum, default_value = "equal")]
    pub scenario: Scenario,
    /// Requests from an access log in JSON instead
    #[arg(long, value_name = "FILE", conflicts_with_all = ["rate", "load"])]
    pub trace: Option<PathBuf>,
    /// The servers: speed x slots of each, with commas
    #[arg(long, value_delimiter = ',', value_parser = server, value_name = "SPEEDxSLOTS")]
    pub servers: Vec<(f64, u32)>,
    /// Requests per second, instead of a load
    #[arg(long, value_parser = positive, value_name = "R")]
    pub rate: Option<f64>,
    /// Requests by the capacity of all servers, in percent
    #[arg(long, default_value_t = 80.0, value_parser = positive, value_name = "PERCENT")]
    pub load: f64,
    /// The mean service time on a server of speed 1
    #[arg(long, default_value = "40ms", value_parser = super::duration, value_name = "DURATION")]
    pub work: Duration,
    /// How long requests come, in virtual time
    #[arg(short, long, default_value = "60s", value_parser = super::duration, value_name = "DURATION")]
    pub duration: Duration,
    /// Balancers that do not know of each other
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub balancers: u32,
    /// The source of all chance
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

/// A described world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Scenario {
    /// Three equal servers
    Equal,
    /// Speeds 1, 2 and 4
    Speeds,
    /// 2, 4 and 8 slots
    Slots,
    /// One request in ten takes ten times as long
    Bimodal,
    /// Each server stands still for 300 ms in every 3 s
    Pauses,
    /// One request in 500 takes fifty times as long
    SlowUrl,
    /// One of three fails within 1 ms, from a third of the time to two thirds
    Failing,
    /// One of three never responds in that time
    Hung,
    /// One of three comes after a third of the time, and is cold at first
    Newcomer,
    /// Bursts of three times the requests
    Bursts,
    /// A hundred servers of one slot
    Hundred,
}

/// Runs it and prints the comparison.
pub(super) fn run(arguments: &Arguments, file: Option<&Path>) -> Result<u8, Failure> {
    let mut configurations = vec![("configuration", find(file)?)];
    if let Some(other) = &arguments.against {
        configurations.push(("against", config::load(other).map_err(Failure::Configuration)?));
    }
    let world = world(arguments)?;
    super::say(told(&world, arguments, &configurations).trim_end());
    Ok(0)
}

fn told(world: &Description, arguments: &Arguments, configurations: &[(&str, Config)]) -> String {
    let with = |config: &Config| Description { policy: policy(config), ..world.clone() };
    let mut reports = vec![("ideal", simulation::ideal(world))];
    for (name, config) in configurations {
        reports.push((name, simulation::run(&with(config))));
    }
    let mut out = String::new();
    let source = match &arguments.trace {
        Some(file) => file.display().to_string(),
        None => format!("{:?}, seed {}", arguments.scenario, arguments.seed),
    };
    // Writing to a String cannot fail, here and below.
    let _ =
        writeln!(out, "{source}: {} requests to {} servers\n", reports[0].1.requests, world.servers.len());
    table(&mut out, &reports);
    chart(&mut out, &reports);
    for (name, report) in &reports[1..] {
        let shares: Vec<_> =
            report.percent(0..report.shares.len()).iter().map(|one| format!("{one:.0}")).collect();
        let _ = writeln!(out, "Shares of {name}, %: {}", shares.join(" "));
        for line in report.log.iter().take(10) {
            let _ = writeln!(out, "  {line}");
        }
    }
    out.push_str(
        "\nNot simulated: the network, the balancer's own time, probes, retries after a response.\n",
    );
    out.push_str("The ideal is one queue in front of all slots, without pauses and failures.\n");
    out
}

fn table(out: &mut String, reports: &[(&str, Report)]) {
    let _ = writeln!(
        out,
        "{:<14}{:>10}{:>10}{:>10}{:>10}{:>9}{:>10}{:>10}{:>11}",
        "", "p50 ms", "p99", "p99.9", "good", "failed", "rejected", "timed out", "ejections"
    );
    for (name, report) in reports {
        let [p50, p99, p99_9] = [0.5, 0.99, 0.999].map(|share| report.quantile(share).as_secs_f64() * 1e3);
        let _ = writeln!(
            out,
            "{name:<14}{p50:>10.1}{p99:>10.1}{p99_9:>10.1}{:>10}{:>9}{:>10}{:>10}{:>11}",
            report.good,
            report.bad,
            report.rejected,
            report.timed_out,
            report.log.len()
        );
    }
}

fn chart(out: &mut String, reports: &[(&str, Report)]) {
    let longest = reports.iter().map(|(_, report)| report.quantile(0.99).as_secs_f64()).fold(1e-9, f64::max);
    let _ = writeln!(out, "\np99");
    for (name, report) in reports {
        let p99 = report.quantile(0.99).as_secs_f64();
        let bar = "█".repeat((p99 / longest * BAR).ceil() as usize);
        let _ = writeln!(out, "{name:<14}{bar} {:.1} ms", p99 * 1e3);
    }
    out.push('\n');
}

fn policy(config: &Config) -> Policy {
    Policy {
        algorithm: config.servers.algorithm,
        max_in_flight: config.servers.max_in_flight,
        queue_capacity: config.servers.queue_capacity,
        queue: config.threadpool.admit,
        ejection: config.servers.ejection,
        reports: false,
    }
}

fn world(arguments: &Arguments) -> Result<Description, Failure> {
    let mut world = Description {
        seed: arguments.seed,
        balancers: arguments.balancers as usize,
        policy: Policy::default(),
        servers: vec![Server::default(); 3],
        arrivals: Arrivals::PerSecond(1.0),
        work: Work::Exponential(arguments.work),
        length: arguments.duration,
        warm_up: Duration::ZERO,
        client_timeout: Duration::from_secs(10),
        changes: Vec::new(),
    };
    shape(&mut world, arguments.scenario);
    if !arguments.servers.is_empty() {
        let one = |(speed, slots): &(f64, u32)| Server { speed: *speed, slots: *slots, ..Server::default() };
        world.servers = arguments.servers.iter().map(one).collect();
        world.changes.retain(|change| change.server < arguments.servers.len());
    }
    let per_second = arguments.rate.unwrap_or(world.capacity() * arguments.load / 100.0);
    world.arrivals = match arguments.scenario {
        Scenario::Bursts => {
            let (every, first) = (Duration::from_secs(1), Duration::from_millis(200));
            Arrivals::Bursts { per_second, every, first, factor: 3.0 }
        }
        _ => Arrivals::PerSecond(per_second),
    };
    if let Some(file) = &arguments.trace {
        let list = trace(file)?;
        world.length = list.last().map_or(Duration::ZERO, |last| last.0) + Duration::from_millis(1);
        world.arrivals = Arrivals::Listed(list);
    } else if per_second * world.length.as_secs_f64() > REQUESTS_MAX {
        return Err(Failure::Usage("these are over 20 million requests; shorten --duration".to_owned()));
    }
    Ok(world)
}

fn shape(world: &mut Description, scenario: Scenario) {
    let (mean, third) = (Work::mean_s(&world.work), world.length / 3);
    let mean = Duration::from_secs_f64(mean);
    let two = |factor: u32, one_in| Work::Two { short: mean, long: mean * factor, one_in };
    let last_does = |behaviour| {
        let at = |at, behaviour| Change { at, server: 2, behaviour };
        vec![at(third, behaviour), at(third * 2, Behaviour::Works)]
    };
    match scenario {
        Scenario::Equal | Scenario::Bursts => {}
        Scenario::Speeds => (world.servers[1].speed, world.servers[2].speed) = (2.0, 4.0),
        Scenario::Slots => {
            world.servers.iter_mut().zip([2, 4, 8]).for_each(|(server, slots)| server.slots = slots);
        }
        Scenario::Bimodal => world.work = two(10, 10),
        Scenario::SlowUrl => world.work = two(50, 500),
        Scenario::Pauses => {
            for (at, server) in (0..).zip(&mut world.servers) {
                let first = Duration::from_millis(500 + 1_000 * at);
                let (every, lasts) = (Duration::from_secs(3), Duration::from_millis(300));
                server.pause = Some(Pause { every, lasts, first });
            }
        }
        Scenario::Failing => world.changes = last_does(Behaviour::Fails { after: Duration::from_millis(1) }),
        Scenario::Hung => world.changes = last_does(Behaviour::Hangs),
        Scenario::Newcomer => {
            world.servers[2].joins = third;
            world.servers[2].cold = Some((Duration::from_secs(5), 4.0));
        }
        Scenario::Hundred => world.servers = vec![Server { slots: 1, ..Server::default() }; 100],
    }
}

/// A line of the access log in JSON; other members are not read.
#[derive(Deserialize)]
struct Line {
    /// When it ended.
    time: String,
    total_ms: Option<f64>,
    queue_ms: Option<f64>,
    connect_ms: Option<f64>,
    server: Option<String>,
}

/// The requests of an access log that a server got, the first one at zero. What a request took at its server, queueing
/// there included, is its work.
fn trace(file: &Path) -> Result<Vec<(Duration, Duration)>, Failure> {
    let wrong = |why: String| Failure::Usage(format!("{}: {why}", file.display()));
    let text = std::fs::read_to_string(file).map_err(|error| wrong(error.to_string()))?;
    let mut requests = Vec::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let read = serde_json::from_str(line).map_err(|error| error.to_string()).and_then(request);
        requests.extend(read.map_err(|why| wrong(format!("line {}: {why}", number + 1)))?);
    }
    requests.sort_unstable();
    let first = requests.first().map(|request| request.0);
    let first = first.ok_or_else(|| wrong("it has no request that a server got".to_owned()))?;
    Ok(requests.into_iter().map(|(at, work)| (at - first, work)).collect())
}

/// When the request of a line came, since 1970, and its work; `None` if no server got it.
fn request(line: Line) -> Result<Option<(Duration, Duration)>, String> {
    let (Some(_), Some(total_ms)) = (line.server, line.total_ms) else { return Ok(None) };
    let ended =
        humantime::parse_rfc3339_weak(&line.time).map_err(|_| format!("{:?} is no time", line.time))?;
    let ended = ended.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let ms = |ms: f64| Duration::try_from_secs_f64(ms / 1e3).unwrap_or_default();
    let work_ms = total_ms - line.queue_ms.unwrap_or(0.0) - line.connect_ms.unwrap_or(0.0);
    Ok(Some((ended.saturating_sub(ms(total_ms)), ms(work_ms))))
}

fn server(text: &str) -> Result<(f64, u32), String> {
    let advice = "write SPEEDxSLOTS, such as 2x4";
    let (speed, slots) = text.split_once('x').ok_or(advice)?;
    let slots = slots.parse().ok().filter(|slots| (1..=10_000).contains(slots)).ok_or(advice)?;
    Ok((positive(speed).map_err(|_| advice)?, slots))
}

fn positive(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number: &f64| number.is_finite() && *number > 0.0);
    number.ok_or_else(|| "this is not a number above 0".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn simulated(line: &str) -> Result<String, String> {
        let arguments =
            super::super::Arguments::try_parse_from(line.split(' ')).map_err(|error| error.to_string())?;
        let Some(super::super::Command::Simulate(arguments)) = arguments.command else { panic!("{line}") };
        let world = world(&arguments).map_err(|failure| format!("{failure:?}"))?;
        Ok(told(&world, &arguments, &[("configuration", Config::default())]))
    }

    #[test]
    fn the_same_seed_prints_the_same_bytes_and_another_does_not() {
        let line = "evenkeel simulate --duration 5s --scenario speeds";
        assert_eq!(simulated(line), simulated(line));
        let other = simulated(&format!("{line} --seed 2")).unwrap();
        assert_ne!(simulated(line).unwrap(), other);
        assert!(
            other.contains("ideal")
                && other.contains("Not simulated")
                && other.contains("Shares of configuration")
        );
    }

    #[test]
    fn every_scenario_runs() {
        for scenario in Scenario::value_variants() {
            let name = scenario.to_possible_value().unwrap().get_name().to_owned();
            let told = simulated(&format!("evenkeel simulate --duration 2s --scenario {name}")).unwrap();
            assert!(told.contains("p99"), "{name}: {told}");
        }
    }

    #[test]
    fn a_trace_is_read_in_any_order_and_what_is_wrong_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("trace.jsonl");
        let check = |text: &str| {
            std::fs::write(&file, text).unwrap();
            trace(&file).map_err(|failure| format!("{failure:?}"))
        };
        let ms = Duration::from_millis;
        let line = |time: &str, rest: &str| format!("{{\"time\":\"2026-11-27T00:00:{time}Z\",{rest}}}\n");
        let three = [
            line("01.230", r#""server":"a","total_ms":130.0,"queue_ms":20.0,"connect_ms":null"#),
            line("01.010", r#""server":"b","total_ms":10.0,"path":"/""#),
            line("01.000", r#""server":null,"total_ms":3.0"#),
        ];
        assert_eq!(check(&three.concat()), Ok(vec![(ms(0), ms(10)), (ms(100), ms(110))]));
        assert!(check("").unwrap_err().contains("no request"));
        assert!(check("{\"time\": 1}").unwrap_err().contains("line 1"));
    }

    #[test]
    fn arguments_are_checked() {
        for (line, advice) in [
            ("evenkeel simulate --servers 2", "SPEEDxSLOTS"),
            ("evenkeel simulate --servers 0x2", "SPEEDxSLOTS"),
            ("evenkeel simulate --load 0", "above 0"),
            ("evenkeel simulate --rate 1000000 --duration 1h", "20 million"),
        ] {
            let told = simulated(line).unwrap_err();
            assert!(told.contains(advice), "{line}: {told}");
        }
    }
}
