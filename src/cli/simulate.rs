//! `evenkeel simulate`: requests on a described world or of an access log, under virtual time, with the choice, the queues
//! and the health rules of a configuration.

mod html;
mod outcome;
mod scenario;
mod server;
mod text;
mod trace;
mod world;

pub use scenario::Scenario;
pub use server::Described;

use super::{Failure, STDIN, find};
use crate::state::config::{self, Config};
use crate::state::simulation::{self, Work};
use clap::Args;
use outcome::{Outcome, Run};
use std::path::{Path, PathBuf};
use std::time::Duration;
use trace::Trace;

pub(super) const LONG_ABOUT: &str = "\
Simulate how a configuration distributes requests, under virtual time.

The choice of a server, limits, queues, health checks and ejections are those of
the balancer; servers have slots, a queue in front of them, and a speed. The
same arguments always print the same. --against compares two configurations.
Both are compared with one queue in front of all slots, which no balancer can
beat.

Not simulated: the network and the balancer's own time, workers and connections,
guards, retries after a request was sent, the time that a probe takes, fail-open
(panic_percent), agents, load in responses (ORCA), sessions, hedged requests and
tunnels. With priorities and zones, response times are compared in the first
tier only. Servers may behave otherwise than described.";

pub(super) const AFTER_HELP: &str = "\
Examples:
  evenkeel simulate --scenario speeds --load 95
  evenkeel simulate --scenario speeds,failing,newcomer --html report.html
  evenkeel simulate -c config.json --against other.json --rate 500
  evenkeel simulate --servers 1x4,1x4+hangs@20s-40s,2x8+joins@10s --rate 300
  evenkeel simulate -c config.json --trace access.jsonl.gz --against other.json
  zcat access-*.gz | evenkeel simulate -c config.json --trace - --times 2

Servers: SPEEDxSLOTS each, in the order of the configuration, or
NAME=SPEEDxSLOTS; if their number differs, they replace those of the pool. What
happens to a server follows, each with a +: fails@FROM-TO,
errors=PERCENT@FROM-TO, hangs@FROM-TO, down@FROM-TO, joins@TIME,
cold=TIME*FACTOR, pause=TIME/EVERY, says=LOAD (or 0..LOAD, or true). Without
--servers those of the configuration have speed 1 and 4 slots, or what the trace
shows of them.

Work: TIME or exponential:TIME, fixed:TIME, bimodal:SHORT:LONG:ONE_IN,
lognormal:MEAN:SIGMA.

A trace is an access log with log.access_format json, plain or gzip, or - for standard
input. The work of a request is the time it took at its server,
without the queue and the connect. The speed of a server is judged by requests
of the same routes elsewhere, and its slots are the most requests that it had at
once; so time in a server's own queue counts as work. The routes of the
configuration say which pool a request goes to, as far as the log has what they
ask for.";

/// The arguments of `evenkeel simulate`.
#[derive(Clone, Debug, Args)]
pub struct Arguments {
    /// Another configuration to compare with, on the same requests
    #[arg(long, value_name = "FILE")]
    pub against: Option<PathBuf>,
    /// What differs from equal servers under an even load; several with commas
    #[arg(long, value_enum, value_delimiter = ',', default_value = "equal")]
    pub scenario: Vec<Scenario>,
    /// Take the requests from an access log in JSON
    #[arg(long, value_name = "FILE", conflicts_with_all = ["rate", "load", "work", "duration", "pool"])]
    pub trace: Option<PathBuf>,
    /// How many times faster the requests of the trace come
    #[arg(long, default_value_t = 1.0, value_parser = positive, requires = "trace", value_name = "FACTOR")]
    pub times: f64,
    /// The servers, with commas: see below
    #[arg(long, value_delimiter = ',', value_parser = server::parse, value_name = "SPEEDxSLOTS")]
    pub servers: Vec<Described>,
    /// The pool that is simulated [default: the default pool, or the first with servers]
    #[arg(long)]
    pub pool: Option<String>,
    /// Requests per second, instead of a load
    #[arg(long, value_parser = positive, value_name = "R")]
    pub rate: Option<f64>,
    /// Requests in percent of what all servers can do
    #[arg(long, default_value_t = 80.0, value_parser = positive, value_name = "PERCENT")]
    pub load: f64,
    /// How long a request takes on a server of speed 1: see below
    #[arg(long, default_value = "40ms", value_parser = work)]
    pub work: Work,
    /// How long requests come, in virtual time
    #[arg(short, long, default_value = "60s", value_parser = super::duration, value_name = "DURATION")]
    pub duration: Duration,
    /// How long a client waits
    #[arg(long, default_value = "10s", value_parser = super::duration, value_name = "DURATION")]
    pub client_timeout: Duration,
    /// The number of balancers, each unaware of the others
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub balancers: u32,
    /// The seed of the random numbers
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Write the result as one HTML file with charts
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
}

/// Runs it and prints the comparison.
pub(super) fn run(arguments: &Arguments, file: Option<&Path>) -> Result<u8, Failure> {
    let is_stdin = |file: Option<&Path>| file == Some(Path::new(STDIN));
    if is_stdin(file) && is_stdin(arguments.trace.as_deref()) {
        return Err(Failure::Usage(
            "the configuration and the trace cannot both be the standard input".to_owned(),
        ));
    }
    let mut configurations = vec![("configuration", find(file)?)];
    if let Some(other) = &arguments.against {
        configurations.push(("against", config::load(other).map_err(Failure::Configuration)?));
    }
    let trace = arguments.trace.as_deref().map(trace::read).transpose()?;
    let run = simulate(arguments, &configurations, trace.as_ref())?;
    match arguments.json {
        true => super::say(serde_json::to_string_pretty(&run).map_err(super::failed)?),
        false => super::say(text::told(&run).trim_end()),
    }
    if let Some(file) = &arguments.html {
        std::fs::write(file, html::page(&run))
            .map_err(|error| Failure::Runtime(format!("cannot write {}: {error}", file.display())))?;
    }
    Ok(0)
}

/// The ideal, and each configuration.
fn simulate(
    arguments: &Arguments,
    configurations: &[(&'static str, Config)],
    trace: Option<&Trace>,
) -> Result<Run, Failure> {
    let mut run = Run::of(arguments, trace);
    for (name, config) in configurations {
        let (world, own) = world::build(arguments, config, trace)?;
        if run.results.is_empty() {
            run.describe(&world);
            run.results.push(Outcome::of("ideal", &simulation::ideal(&world), &world, 0));
        }
        run.results.push(Outcome::of(name, &simulation::run(&world), &world, own));
    }
    Ok(run)
}

/// Reads `--work`.
fn work(text: &str) -> Result<Work, String> {
    const FORM: &str =
        "write TIME, exponential:TIME, fixed:TIME, bimodal:SHORT:LONG:ONE_IN or lognormal:MEAN:SIGMA";
    let parts: Vec<_> = text.split(':').collect();
    let time = |text: &str| super::duration(text).map_err(|why| format!("{text:?}: {why}"));
    match parts[..] {
        [mean] | ["exponential", mean] => time(mean).map(Work::Exponential),
        ["fixed", each] => time(each).map(Work::Fixed),
        ["bimodal", short, long, one_in] => {
            let one_in = one_in.parse().ok().filter(|one_in| *one_in > 1).ok_or(FORM)?;
            Ok(Work::Two { short: time(short)?, long: time(long)?, one_in })
        }
        ["lognormal", mean, sigma] => Ok(Work::LogNormal { mean: time(mean)?, sigma: positive(sigma)? }),
        _ => Err(FORM.to_owned()),
    }
}

fn positive(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number: &f64| number.is_finite() && *number > 0.0);
    number.ok_or_else(|| "this is not a number above 0".to_owned())
}

#[cfg(test)]
mod tests;
