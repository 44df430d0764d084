//! `evenkeel healthcheck`: whether the balancer of a configuration works, for containers and scripts.

use super::admin::{Client, Which};
use super::{Failure, File, print_error, running, say};
use crate::sample::AdminApi;
use clap::Args;
use std::path::Path;

pub(super) const AFTER_HELP: &str = "\
Exit codes:
  0  yes
  1  no, or no balancer of this configuration responds
  2  the command line is wrong";

/// The arguments of `evenkeel healthcheck`.
#[derive(Clone, Debug, Args)]
pub struct Arguments {
    /// Ask whether it runs (/live), not whether it can serve requests (/ready)
    #[arg(long)]
    live: bool,
    #[command(flatten)]
    pub(super) which: Which,
    #[command(flatten)]
    pub(super) file: File,
}

/// Asks, and prints what was responded. The exit code is 0 for yes and 1 for everything else: a container runtime knows no
/// third.
pub(super) fn run(arguments: &Arguments, file: Option<&Path>) -> Result<u8, Failure> {
    match ask(arguments, file) {
        Ok((200..=299, text)) => {
            say(text.trim());
            Ok(0)
        }
        Ok((status, text)) => {
            print_error(format_args!("evenkeel: {status}: {}", text.trim()));
            Ok(1)
        }
        Err(failure) => {
            failure.report();
            Ok(1)
        }
    }
}

fn ask(arguments: &Arguments, file: Option<&Path>) -> Result<(u16, String), Failure> {
    let path = if arguments.live { "/live" } else { "/ready" };
    let client = match &arguments.which.admin {
        // The file is not needed, and may be about to change.
        Some(place) => Client::at(place.clone(), None),
        None => running(&arguments.which, file)?,
    };
    client.call("GET", path, String::new()).map_err(|unmet| Failure::Runtime(unmet.to_string()))
}
