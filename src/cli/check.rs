//! `evenkeel check`: whether a configuration holds together.

use super::{Failure, File, find, say};
use crate::state::config::{Config, FILE, Fault};
use clap::Args;
use std::path::Path;

/// The arguments of `evenkeel check`.
#[derive(Clone, Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    pub(super) file: File,
}

/// The most servers that a summary names.
const SERVERS_SHOWN: usize = 5;

/// Prints a summary, or every fault; these are what was asked for and go to the standard output.
pub(super) fn run(file: Option<&Path>) -> Result<u8, Failure> {
    match find(file) {
        Ok(config) => {
            say(summary(&config));
            Ok(0)
        }
        Err(Failure::Configuration(faults)) => {
            say(told(&faults));
            Ok(3)
        }
        Err(failure) => Err(failure),
    }
}

/// Every fault with its place, and how many there are.
pub(super) fn told(faults: &[Fault]) -> String {
    let file = faults.first().and_then(|fault| fault.file.as_deref()).unwrap_or("the configuration");
    let count = if faults.len() == 1 { "1 fault".to_owned() } else { format!("{} faults", faults.len()) };
    let mut told: Vec<String> = faults.iter().map(Fault::to_string).collect();
    told.push(format!("{file} does not hold together: {count}"));
    told.join("\n\n")
}

fn summary(config: &Config) -> String {
    let head = match &config.file {
        Some(file) => format!("{} holds together", file.display()),
        None => format!("there is no {FILE} here; the defaults hold together"),
    };
    let crew = &config.threadpool;
    let mut lines = vec![
        head,
        format!("  listens on  {}", config.listen.address),
        format!("  admin       {}", admin(config)),
        format!("  servers     {}", servers(config)),
        format!(
            "  workers     {} to {}, with a queue of {}",
            crew.bounds.min, crew.bounds.max, crew.queue_capacity
        ),
    ];
    lines.extend(config.warnings.iter().map(|warning| format!("\nwarning: {warning}")));
    lines.join("\n")
}

fn admin(config: &Config) -> String {
    let bind = config.admin.bind.map(|bind| bind.to_string());
    let socket = config.admin.socket.as_ref().map(|socket| socket.display().to_string());
    let places: Vec<String> = bind.into_iter().chain(socket).collect();
    if places.is_empty() { "off".to_owned() } else { places.join(" and ") }
}

fn servers(config: &Config) -> String {
    let list = &config.servers.list;
    let algorithm = config.servers.algorithm.name();
    if list.is_empty() {
        return format!("none yet ({algorithm}); they can register through the admin API");
    }
    let shown = list.iter().take(SERVERS_SHOWN).map(|server| match server.address.to_string() {
        address if address == server.name => address,
        address => format!("{} {address}", server.name),
    });
    let mut shown: Vec<String> = shown.collect();
    if list.len() > SERVERS_SHOWN {
        shown.push(format!("and {} more", list.len() - SERVERS_SHOWN));
    }
    format!("{} ({algorithm}): {}", list.len(), shown.join(", "))
}
