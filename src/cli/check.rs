//! `evenkeel check`: whether a configuration is valid, and whether a balancer could start with it here.

use super::admin::Client;
use super::columns::WIDTH;
use super::{Failure, File, STDIN, failed, find, processes, reload, say};
use crate::app::preflight::{Obstacle, preflight};
use crate::base::program;
use crate::base::text::counted;
use crate::state::config::{self, Config, FILE, Fault, Input};
use crate::state::instance::Instance;
use clap::Args;
use std::io::Read;
use std::path::Path;

/// The arguments of `evenkeel check`.
#[derive(Clone, Debug, Default, Args)]
pub struct Arguments {
    /// Check only the file, not the ports, folders and addresses of this machine
    #[arg(long)]
    pub(super) file_only: bool,
    /// Print the effective configuration as JSON: every key with its value, and where that comes from
    #[arg(long)]
    pub(super) print: bool,
    /// Ask the balancer that runs with this file what a reload would do; see the exit codes
    #[arg(long, conflicts_with_all = ["file_only", "print"])]
    pub(super) diff: bool,
    #[command(flatten)]
    pub(super) file: File,
}

pub(super) const AFTER_HELP: &str = "\
Exit codes:
  0  it is valid; with --diff: a reload would change nothing
  1  something on this machine prevents a start, or the reload;
     with --diff also: no balancer runs with this file
  2  the command line is wrong
  3  the configuration is not valid
  4  with --diff: a reload would change what is printed
  5  with --diff: some of what is printed needs a restart";

/// The most servers that a summary names.
const SERVERS_SHOWN: usize = 5;
/// Pools that the summary lists; further ones are counted.
const POOLS_SHOWN: usize = 10;
/// Columns of the summary in front of a value.
const INDENT: usize = 14;

/// Prints a summary, or every fault; they are the result and go to the standard output.
pub(super) fn run(arguments: &Arguments, file: Option<&Path>) -> Result<u8, Failure> {
    if arguments.print {
        return print(file);
    }
    let config = match find(file) {
        Ok(config) => config,
        Err(Failure::Configuration(faults)) => {
            let besides = if arguments.file_only { Vec::new() } else { besides(&faults, file) };
            say(all_told(&faults, &besides));
            return Ok(3);
        }
        Err(failure) => return Err(failure),
    };
    if arguments.diff {
        return diff(&config);
    }
    let running = running(&config);
    let obstacles = if arguments.file_only { Vec::new() } else { preflight(&config, running.as_ref()) };
    let (stops, goes_without): (Vec<_>, Vec<_>) = obstacles.iter().partition(|obstacle| obstacle.stops);
    let place = |obstacle: &&Obstacle| at_its_place(config.file.as_deref(), obstacle).to_string();
    let warnings = config.warnings.iter().map(Fault::to_string).chain(goes_without.iter().map(place));
    let warnings = warnings.map(|warning| format!("warning: {warning}"));
    if stops.is_empty() {
        let warnings = warnings.map(|warning| format!("\n{warning}"));
        let running = running.filter(|_| !arguments.file_only).map(|running| instance(&config, &running));
        say(summary(&config, file).chain(running).chain(warnings).collect::<Vec<_>>().join("\n"));
        return Ok(0);
    }
    let mut lines: Vec<String> = stops.iter().map(place).chain(warnings).collect();
    let (name, count) = (named(&config, file), counted(stops.len(), "obstacle", "obstacles"));
    lines.push(format!("{name} is valid, but a balancer cannot start with it on this machine: {count}"));
    say(lines.join("\n\n"));
    Ok(1)
}

fn at_its_place(file: Option<&Path>, obstacle: &Obstacle) -> Fault {
    config::fault_at(file, &obstacle.key, obstacle.advice.clone())
}

/// What else prevents a start on this machine, of what the file says besides its faults. Lists with a fault are left out, since the
/// number of an entry is not certain there, and so are defaults, which may stand in for what is at fault.
fn besides(faults: &[Fault], file: Option<&Path>) -> Vec<Fault> {
    let file = file.unwrap_or(Path::new(FILE));
    let Some(config) = config::load_despite_faults(file) else { return Vec::new() };
    let roots: Vec<&str> = faults.iter().filter_map(|fault| fault.path.split('[').next()).collect();
    let is_sure =
        |fault: &Fault| fault.line.is_some() && !roots.iter().any(|root| fault.path.starts_with(root));
    let stops = preflight(&config, running(&config).as_ref()).into_iter().filter(|obstacle| obstacle.stops);
    stops.map(|obstacle| at_its_place(Some(file), &obstacle)).filter(is_sure).collect()
}

/// Prints the effective configuration, or every fault.
fn print(file: Option<&Path>) -> Result<u8, Failure> {
    let (mut text, here, folder) = (String::new(), Path::new(FILE), Path::new(""));
    let input = match file {
        Some(file) if file == Path::new(STDIN) => {
            std::io::stdin().read_to_string(&mut text).map_err(failed)?;
            Input::Text { name: Some("standard input"), text: &text, folder }
        }
        Some(file) => Input::File(file),
        None if here.symlink_metadata().is_ok() => Input::File(here),
        None => Input::Text { name: None, text: "{}", folder },
    };
    let (printed, code) = match config::print(&input) {
        Ok(printed) => (printed, 0),
        Err(faults) => (told(&faults), 3),
    };
    say(printed);
    Ok(code)
}

/// All that prevents a start on this machine, each with its place in the file; `None` if nothing is found. A balancer that
/// runs with the same file and has what this one needs comes first, and its ports are not listed.
pub(super) fn obstacles(config: &Config) -> Option<String> {
    let stops = |running: Option<&Instance>| -> Vec<Obstacle> {
        preflight(config, running).into_iter().filter(|obstacle| obstacle.stops).collect()
    };
    let running = running(config);
    let (all, others) = (stops(None), stops(running.as_ref()));
    let in_the_way = running.filter(|_| all.is_empty() || others.len() < all.len());
    let hint = in_the_way.as_ref().map(|running| already(config, running));
    let place =
        |found: Obstacle| config::fault_at(config.file.as_deref(), &found.key, found.advice).to_string();
    let told: Vec<String> = hint.into_iter().chain(others.into_iter().map(place)).collect();
    (!told.is_empty()).then(|| told.join("\n\n"))
}

/// That a balancer runs already, and what to do about it.
fn already(config: &Config, running: &Instance) -> String {
    let (program, file) = (program::name(), program::quoted(&config.origin().display().to_string()));
    format!(
        "A balancer runs with this file already (pid {}). `{program} reload -c {file}` has it read the file again, \
         `{program} upgrade -c {file}` puts this binary in its place, `kill {}` ends it.",
        running.pid, running.pid
    )
}

/// What the balancer that runs with this file would make of it.
fn diff(config: &Config) -> Result<u8, Failure> {
    let reloaded = reload::ask(&Client::of(config, None)?, "GET")?.map_err(failed)?;
    say(match (reloaded.changes.is_empty(), reloaded.needs_restart.is_empty()) {
        (true, true) => "a reload would change nothing".to_owned(),
        _ => [&reloaded.changes[..], &reloaded.needs_restart].concat().join("\n"),
    });
    Ok(match (reloaded.changes.is_empty(), reloaded.needs_restart.is_empty()) {
        (_, false) => 5,
        (false, true) => 4,
        (true, true) => 0,
    })
}

/// The balancer that runs with this file, if there is one.
fn running(config: &Config) -> Option<Instance> {
    let by_api = Client::of(config, None).ok().and_then(|client| client.at_a_glance().instance().ok());
    let wanted = Instance::of(config.origin());
    let listen: Vec<_> =
        config.listen.listeners.iter().filter_map(|listener| listener.place.address()).collect();
    by_api.or_else(|| processes::balancer_of(&wanted, &listen, config.admin.bind))
}

/// The running balancer in the summary: it has the ports of this configuration, or others.
fn instance(config: &Config, running: &Instance) -> String {
    let ports = config.listen.listeners.iter().filter_map(|listener| listener.place.port());
    let of_running: Vec<&str> = running.listeners.iter().map(String::as_str).collect();
    match ports.filter(|port| *port != 0).all(|port| running.has_port(port)) {
        true => format!("  running     pid {}, which has these ports", running.pid),
        false if of_running.is_empty() => format!("  running     pid {}, on other ports", running.pid),
        false => format!("  running     pid {}, on {}", running.pid, of_running.join(", ")),
    }
}

/// Every fault with its position, and their number.
pub(super) fn told(faults: &[Fault]) -> String {
    all_told(faults, &[])
}

/// The same, and what else prevents a start on this machine.
fn all_told(faults: &[Fault], besides: &[Fault]) -> String {
    // A file that cannot be read was not judged.
    if let [unread @ Fault { line: None, .. }] = faults
        && unread.path.is_empty()
    {
        return unread.to_string();
    }
    let file = faults.first().and_then(|fault| fault.file.as_deref()).unwrap_or("the configuration");
    let mut told: Vec<String> = faults.iter().chain(besides).map(Fault::to_string).collect();
    let besides = match besides.len() {
        0 => String::new(),
        count => format!("; and {} to a start on this machine", counted(count, "obstacle", "obstacles")),
    };
    told.push(format!("{file} is not valid: {}{besides}", counted(faults.len(), "fault", "faults")));
    told.join("\n\n")
}

/// What was checked, for a sentence.
fn named(config: &Config, file: Option<&Path>) -> String {
    match file {
        Some(file) if file == Path::new(STDIN) => "the standard input".to_owned(),
        _ => config.origin().display().to_string(),
    }
}

fn summary(config: &Config, file: Option<&Path>) -> impl Iterator<Item = String> {
    let head = match config.file.is_some() || file.is_some() {
        true => format!("{} is valid", named(config, file)),
        false => format!("there is no {FILE} here; the defaults are valid"),
    };
    let pool = &config.threadpool;
    let lines = [
        ("listens on", listeners(config)),
        ("admin", vec![admin(config)]),
        ("servers", servers(config)),
        ("pools", pools(config)),
        ("routes", vec![config.routes.len().to_string()]),
        (
            "workers",
            vec![format!(
                "{} to {}, with a queue of {}",
                pool.bounds.min, pool.bounds.max, pool.queue_capacity
            )],
        ),
    ];
    let has_routes = !config.routes.is_empty();
    let shown =
        lines.into_iter().filter(move |(name, items)| !items.is_empty() && (has_routes || *name != "routes"));
    std::iter::once(head).chain(shown.map(|(name, items)| row(name, &items)))
}

/// A name and its values, which go on in a further line where the width ends.
fn row(name: &str, items: &[String]) -> String {
    let mut lines = vec![format!("  {name:<width$}", width = INDENT - 2)];
    for (at, item) in items.iter().enumerate() {
        let item = if at + 1 < items.len() { format!("{item},") } else { item.clone() };
        let line = &lines[lines.len() - 1];
        let is_first = line.chars().count() == INDENT;
        match is_first || line.chars().count() + 1 + item.chars().count() <= WIDTH {
            true => {
                let last = lines.len() - 1;
                lines[last] += &format!("{}{item}", if is_first { "" } else { " " });
            }
            false => lines.push(format!("{:INDENT$}{item}", "")),
        }
    }
    lines.join("\n")
}

fn listeners(config: &Config) -> Vec<String> {
    let shown = config.listen.listeners.iter().map(|listener| match (listener.listed, &listener.tls) {
        (None, _) => listener.place.to_string(),
        (Some(_), None) => format!("{} ({})", listener.place, listener.name),
        (Some(_), Some(_)) => format!("{} ({}, TLS)", listener.place, listener.name),
    });
    shown.collect()
}

fn admin(config: &Config) -> String {
    let bind = config.admin.bind.map(|bind| bind.to_string());
    let socket = config.admin.socket.as_ref().map(|socket| socket.display().to_string());
    let places: Vec<String> = bind.into_iter().chain(socket).collect();
    if places.is_empty() { "off".to_owned() } else { places.join(" and ") }
}

fn servers(config: &Config) -> Vec<String> {
    let list = &config.servers.list;
    let algorithm = config.servers.algorithm.name();
    match (list.is_empty(), config.pools.is_empty()) {
        (true, true) => {
            return vec![format!("none yet ({algorithm}); they can register through the admin API")];
        }
        (true, false) => return Vec::new(),
        _ => {}
    }
    let shown = list.iter().take(SERVERS_SHOWN).map(|server| match server.address.to_string() {
        address if address == server.name => address,
        address => format!("{} {address}", server.name),
    });
    let mut shown: Vec<String> = shown.collect();
    shown[0] = format!("{} ({algorithm}): {}", list.len(), shown[0]);
    if list.len() > SERVERS_SHOWN {
        shown.push(format!("and {} more", list.len() - SERVERS_SHOWN));
    }
    shown
}

/// The pools beside the default one, each with the number of its servers.
fn pools(config: &Config) -> Vec<String> {
    let told = config.pools.iter().take(POOLS_SHOWN).map(|pool| {
        let servers = counted(pool.servers.list.len(), "server", "servers");
        format!("{} ({}, {servers})", pool.name, pool.servers.algorithm.name())
    });
    let mut told: Vec<String> = told.collect();
    if config.pools.len() > POOLS_SHOWN {
        told.push(format!("and {} more", config.pools.len() - POOLS_SHOWN));
    }
    told
}
