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

/// After so many of them in a row without a balancer it has stopped: the old one answers until the new one does.
const ABSENT: u32 = 30;

/// How far the upgrade is.
enum Progress {
    /// The process that has taken over, or why none has.
    Ended(Result<u32, String>),
    Running,
    /// No balancer answers.
    Absent,
}

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
    let mut absent = 0;
    for _ in 0..LOOKS {
        match progress(&client, old) {
            Progress::Ended(Ok(new)) => {
                say(format!("process {new} has taken over from process {old}, which drains"));
                return Ok(0);
            }
            Progress::Ended(Err(why)) => return Err(failed(format!("{why}; process {old} goes on"))),
            Progress::Running => absent = 0,
            Progress::Absent if absent == ABSENT => {
                return Err(failed(format!(
                    "process {old} has stopped, and no new one responds; look at its log"
                )));
            }
            Progress::Absent => absent += 1,
        }
        let _ = after(LOOK).recv();
    }
    Err(failed("the balancer did not say how the upgrade ended; look at its log"))
}

/// How far the upgrade is; the new process answers for itself.
fn progress(client: &Client, old: u32) -> Progress {
    let answers = |pid: u32| client.instance().is_ok_and(|instance| instance.pid == pid);
    match client.call("GET", UPGRADE, String::new()) {
        Ok((200, text)) => match serde_json::from_str(&text) {
            Ok(Upgrade::Failed { error }) => Progress::Ended(Err(error)),
            Ok(Upgrade::Done { pid }) if answers(pid) => Progress::Ended(Ok(pid)),
            // The new process has had no upgrade yet.
            Ok(Upgrade::None) => {
                let new = client.instance().map(|instance| instance.pid).ok().filter(|pid| *pid != old);
                new.map_or(Progress::Running, |pid| Progress::Ended(Ok(pid)))
            }
            _ => Progress::Running,
        },
        Ok((_, text)) => Progress::Ended(Err(sentence(&text))),
        // The one may have left its socket, and the other be about to answer there.
        Err(Unmet::Absent(_) | Unmet::Other(_)) => Progress::Absent,
    }
}

/// The sentence of a rejection.
fn sentence(text: &str) -> String {
    let rejection: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
    rejection["error"].as_str().unwrap_or(text.trim()).trim_end_matches('.').to_owned()
}
