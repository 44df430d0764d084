//! The command line.

use super::proxy::{Kind, Programs};
use super::{overload, picks, slots, work};
use clap::Parser;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use std::io;
use std::path::PathBuf;

/// Workloads that are not in [`work::ALL`].
pub const IDLE: &str = "idle";
pub const IDLE_TLS: &str = "idle-tls";
pub const START: &str = "start";

/// Measures Evenkeel against a direct connection, nginx and HAProxy
#[derive(Debug, Parser)]
#[command(name = "cargo bench --bench proxies --", after_help = WORKS)]
pub struct Arguments {
    /// Number of rounds, of which medians are taken
    #[arg(long, default_value_t = 5)]
    pub rounds: usize,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 2.0)]
    pub seconds: f64,
    /// Connections, instead of each workload's own
    #[arg(long, value_delimiter = ',')]
    pub connections: Vec<usize>,
    /// Only these: direct, floor, evenkeel, before, nginx, haproxy
    #[arg(long, value_delimiter = ',')]
    pub only: Vec<String>,
    /// This nginx instead of the installed one
    #[arg(long, value_name = "PATH", value_parser = existing)]
    nginx: Option<PathBuf>,
    /// This HAProxy instead of the installed one
    #[arg(long, value_name = "PATH", value_parser = existing)]
    haproxy: Option<PathBuf>,
    /// Also measure this earlier build of Evenkeel, as the proxy "before"
    #[arg(long, value_name = "PATH", value_parser = existing)]
    before: Option<PathBuf>,
    /// Only these workloads; see below
    #[arg(long, value_delimiter = ',', default_value = "all")]
    pub work: Vec<String>,
    /// Evenkeel's max_workers
    #[arg(long, default_value_t = 16)]
    pub workers: usize,
    /// Slots of the servers in the workload overload; each does 50 requests/s
    #[arg(long, default_value_t = slots::SLOTS)]
    pub slots: usize,
    /// Evenkeel's queue_capacity in the workload overload, instead of five times the slots
    #[arg(long)]
    pub queue: Option<usize>,
    /// Let Evenkeel check the health of its server during the measurement
    #[arg(long)]
    pub health_check: bool,
    /// Connections of the workloads idle and idle-tls
    #[arg(long, default_value_t = 8000)]
    pub idle: usize,
    /// Only full load on Evenkeel for this many minutes; fails when memory, descriptors or threads grow
    #[arg(long, value_name = "MINUTES")]
    pub soak: Option<f64>,
    /// Compare with the JSON of an earlier run
    #[arg(long, value_name = "FILE")]
    pub compare: Option<PathBuf>,
    /// Print the JSON of an earlier run instead of measuring
    #[arg(long, value_name = "FILE")]
    pub from: Option<PathBuf>,
    /// Print the tables of docs/performance.md at the end
    #[arg(long)]
    pub markdown: bool,
    /// Also draw the charts into this folder, such as docs
    #[arg(long, value_name = "FOLDER")]
    pub plots: Option<PathBuf>,
    /// Where to write the JSON, instead of target/bench/proxies.json
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Keep the existing results of workloads that are not measured now: for a long run in several parts
    #[arg(long)]
    pub add: bool,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

/// Proxies run in a folder of their own, so a path must not depend on it.
fn existing(path: &str) -> io::Result<PathBuf> {
    std::fs::canonicalize(path)
}

const WORKS: &str = "Works: small, new-connection, post-1k, post-64k, get-10k, get-64k, get-1m, post-1m, \
get-64m, post-64m, chunked, split-response, split-request, mixed, two-pools, delay-10ms, tls-small, \
tls-handshakes, tls-resumed, tls-1m, routes, idle, idle-tls, start, overload, connections, servers, workers, workers-10ms, \
picks; or all, which takes about half an hour. For a quick look: --work small --rounds 3";

impl Arguments {
    /// Parses the command line. An unknown argument may be cargo's, or meant for another bench of the same `cargo
    /// bench`: it is reported and ignored.
    pub fn read() -> Arguments {
        let mut given: Vec<String> = std::env::args().collect();
        loop {
            let error = match Arguments::try_parse_from(&given) {
                Ok(arguments) => return arguments,
                Err(error) => error,
            };
            let unknown = match (error.kind(), error.get(ContextKind::InvalidArg)) {
                (ErrorKind::UnknownArgument, Some(ContextValue::String(unknown))) => unknown.clone(),
                _ => error.exit(),
            };
            // `--name=value` is reported as `--name`.
            let is = |one: &String| *one == unknown || one.starts_with(&format!("{unknown}="));
            let Some(at) = given.iter().skip(1).position(is) else { error.exit() };
            eprintln!("proxies: unknown argument {}, ignored", given.remove(at + 1));
        }
    }

    /// The programs that are given by path.
    pub fn programs(&self) -> Programs {
        let (nginx, haproxy, before) = (self.nginx.clone(), self.haproxy.clone(), self.before.clone());
        Programs { nginx, haproxy, before }
    }

    /// Whether this workload is requested.
    pub fn wants(&self, name: &str) -> bool {
        self.work.iter().any(|asked| asked == "all" || asked == name)
    }

    /// Fails for unknown workloads or proxies.
    pub fn check(&self) -> Result<(), String> {
        let others = ["all", IDLE, IDLE_TLS, START, overload::NAME, picks::NAME];
        let known = |name: &str| others.contains(&name) || work::ALL.iter().any(|work| work.name == name);
        if let Some(unknown) = self.work.iter().find(|name| !known(name)) {
            return Err(format!("there is no workload {unknown}; see --help"));
        }
        let known = |name: &String| Kind::measured().iter().any(|kind| kind.name() == name);
        match self.only.iter().find(|name| !known(name)) {
            Some(unknown) => Err(format!("there is no proxy {unknown}; see --help")),
            None => Ok(()),
        }
    }
}
