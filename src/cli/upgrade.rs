//! `evenkeel upgrade`: a new process of the binary that is on the disk now takes over from the running one.

use super::admin::{Client, Which};
use super::{Failure, File, failed, find, running, say};
use crate::sample::{AdminApi, Unmet};
use crate::state::upgrade::Upgrade;
use clap::Args;
use crossbeam_channel::after;
use std::path::Path;
use std::time::Duration;

pub(super) const LONG_ABOUT: &str = "\
Replace the program of a running balancer without losing a connection.

The balancer starts the file that it was started from, as it is now, with the
same arguments and the same listening sockets. When the new process is ready it
takes over, and the old one drains. If it does not become ready, the old one
goes on; this command then says why, and exits with 1.";

pub(super) const AFTER_HELP: &str = "\
Exit codes:
  0  the new process has taken over
  1  the old process goes on, or no balancer runs with this file
  2  the command line is wrong
  3  the configuration is not valid";

/// Where upgrades are in the admin API.
const UPGRADE: &str = "/api/v1/upgrade";
/// Between two questions how far it came.
const LOOK: Duration = Duration::from_millis(100);
/// After so many of them without an answer: longer than a balancer waits for its successor.
const LOOKS: u32 = 600;

/// The arguments of `evenkeel upgrade`.
#[derive(Clone, Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    pub(super) which: Which,
    #[command(flatten)]
    pub(super) file: File,
}

/// Asks for the upgrade, and waits for its end.
pub(super) fn run(arguments: &Arguments, file: Option<&Path>) -> Result<u8, Failure> {
    // A file that is not valid is reported before anything is started. With --admin the balancer has a file of its own.
    let client = match &arguments.which.admin {
        Some(_) => running(&arguments.which, file)?,
        None => Client::of(&find(file)?, None)?,
    };
    let old = client.instance().map_err(failed)?.pid;
    match client.call("POST", UPGRADE, "{}".to_owned()).map_err(failed)? {
        (202, _) => {}
        (_, text) => return Err(failed(sentence(&text))),
    }
    for _ in 0..LOOKS {
        match outcome(&client, old) {
            Some(Ok(new)) => {
                say(format!("process {new} has taken over from process {old}, which drains"));
                return Ok(0);
            }
            Some(Err(why)) => return Err(failed(format!("{why}; process {old} goes on"))),
            None => _ = after(LOOK).recv(),
        }
    }
    Err(failed("the balancer did not say how the upgrade ended; look at its log"))
}

/// How the upgrade ended, if it has: the new process answers for itself.
fn outcome(client: &Client, old: u32) -> Option<Result<u32, String>> {
    let answers = |pid: u32| client.instance().is_ok_and(|instance| instance.pid == pid);
    match client.call("GET", UPGRADE, String::new()) {
        Ok((200, text)) => match serde_json::from_str(&text) {
            Ok(Upgrade::Failed { error }) => Some(Err(error)),
            Ok(Upgrade::Done { pid }) if answers(pid) => Some(Ok(pid)),
            // The new process has had no upgrade yet.
            Ok(Upgrade::None) => {
                let pid = client.instance().ok()?.pid;
                (pid != old).then_some(Ok(pid))
            }
            _ => None,
        },
        Ok((_, text)) => Some(Err(sentence(&text))),
        // The one has left its socket, and the other is about to answer there.
        Err(Unmet::Absent(_) | Unmet::Other(_)) => None,
    }
}

/// The sentence of a rejection.
fn sentence(text: &str) -> String {
    let rejection: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
    rejection["error"].as_str().unwrap_or(text.trim()).trim_end_matches('.').to_owned()
}
