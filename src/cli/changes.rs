//! What the admin API has made of the servers of the file: shown, taken back, or written into a file.

use super::admin::{Client, Which};
use super::{Failure, failed, find, print_error, say};
use crate::base::files;
use crate::control::state_file;
use crate::sample::{AdminApi, Unmet};
use crate::state::changes::{Change, Changes};
use crate::state::config::Written;
use clap::Subcommand;
use std::fs;
use std::io;
use std::path::Path;

/// Where the changes are in the admin API.
const CHANGES: &str = "/api/v1/changes";

/// `evenkeel config …`
#[derive(Clone, Debug, Subcommand)]
pub enum ConfigCommand {
    /// Print the configuration file with the changes of the admin API in it, as JSON
    ///
    /// Servers that were registered or removed, and weights, are as they are now. Comments are gone, and included files
    /// are in it. Variables stay as they are written, so no secret of the environment or of a file is shown. A file cannot say that a server is drained or in maintenance: those are named on the
    /// error output.
    Export(Which),
}

/// `evenkeel state …`
#[derive(Clone, Debug, Subcommand)]
pub enum StateCommand {
    /// Undo what the admin API changed: servers are as in the file again
    ///
    /// If no balancer runs, admin.state_file is removed.
    Clear(Which),
}

/// Runs `evenkeel config …`.
pub(super) fn config(command: &ConfigCommand, file: Option<&Path>) -> Result<u8, Failure> {
    let ConfigCommand::Export(which) = command;
    let config = find(file)?;
    let changes = changes(&Client::of(&config, which.admin.as_ref())?)?;
    let written = config.file.as_deref().map(Written::read).transpose().map_err(Failure::Configuration)?;
    let none = || serde_json::json!({});
    let values = written.as_ref().map_or_else(none, Written::values);
    let mut document = written.as_ref().map_or_else(none, Written::placeholders);
    for mode in changes.merge_into(&mut document, &values) {
        print_error(format_args!("evenkeel: not in the file: {mode}"));
    }
    say(format!("{document:#}"));
    Ok(0)
}

/// Runs `evenkeel state …`.
pub(super) fn state(command: &StateCommand, file: Option<&Path>) -> Result<u8, Failure> {
    let StateCommand::Clear(which) = command;
    let config = find(file)?;
    match Client::of(&config, which.admin.as_ref())?.call("DELETE", CHANGES, String::new()) {
        Ok((200, text)) => {
            let changes: Changes = read(&text)?;
            say(match changes.is_empty() {
                true => "there were no changes".to_owned(),
                false => format!("taken back:\n{}", shown(&changes)),
            });
        }
        Ok((status, text)) => {
            return Err(failed(format!("the balancer responded {status}: {}", text.trim())));
        }
        Err(Unmet::Absent(why)) => {
            let Some(path) = config.admin.state_file.filter(|_| which.admin.is_none()) else {
                return Err(failed(why));
            };
            let file = files::behind_links(&path);
            match state_file::must_be_plain(&path).and_then(|()| fs::remove_file(file)) {
                Ok(()) => say(format!("no balancer runs; {} was removed", path.display())),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    say(format!("no balancer runs, and there is no {}", path.display()));
                }
                Err(error) => return Err(failed(format!("{} cannot be removed: {error}", path.display()))),
            }
        }
        Err(why) => return Err(failed(why)),
    }
    Ok(0)
}

/// `evenkeel status --changes`.
pub(super) fn show(client: &Client, json: bool) -> Result<u8, Failure> {
    let changes = changes(client)?;
    say(match json {
        true => serde_json::to_string_pretty(&changes).unwrap_or_default(),
        false if changes.is_empty() => "the servers are as the file says".to_owned(),
        false => shown(&changes),
    });
    Ok(0)
}

fn changes(client: &Client) -> Result<Changes, Failure> {
    match client.call("GET", CHANGES, String::new()).map_err(failed)? {
        (200, text) => read(&text),
        (status, text) => Err(failed(format!("the balancer responded {status}: {}", text.trim()))),
    }
}

fn read(text: &str) -> Result<Changes, Failure> {
    serde_json::from_str(text)
        .map_err(|error| failed(format!("the response of the admin API is not valid: {error}")))
}

/// One line for each change.
fn shown(changes: &Changes) -> String {
    let each = changes.pools.iter().flat_map(|(pool, servers)| {
        servers.iter().map(move |(name, change)| format!("{pool}/{name}  {}", told(change)))
    });
    each.collect::<Vec<_>>().join("\n")
}

fn told(change: &Change) -> String {
    match change {
        Change::Added { address, weight, backup, state, .. } => {
            let backup = if *backup { ", backup" } else { "" };
            format!("registered at {address}: weight {weight}, {state}{backup}; not in the file")
        }
        Change::Member { of, weight, state, .. } => {
            let weight = weight.map(|weight| format!("weight {weight}"));
            let said = weight.into_iter().chain(state.clone()).collect::<Vec<_>>().join("; ");
            format!("{said}, unlike the other members of {of}")
        }
        Change::Removed { address } => format!("removed; in the file at {address}"),
        Change::Changed { weight, state, listed_weight, .. } => {
            let weight = weight.map(|weight| format!("weight {weight}, {listed_weight} in the file"));
            let state = state.as_ref().map(|state| format!("{state}, ready in the file"));
            weight.into_iter().chain(state).collect::<Vec<_>>().join("; ")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_change_is_a_line_that_names_file_and_api() {
        let text = r#"{"pools": {"default": {
            "a": {"change": "changed", "address": "h:1", "listed_weight": 1, "weight": 5, "state": "drain"},
            "b": {"change": "removed", "address": "h:2"},
            "c": {"change": "added", "address": "h:3", "weight": 2, "backup": true, "state": "ready"}
        }}}"#;
        let changes = read(text).map_err(|_| ()).unwrap();
        assert_eq!(
            shown(&changes),
            "default/a  weight 5, 1 in the file; drain, ready in the file\n\
             default/b  removed; in the file at h:2\n\
             default/c  registered at h:3: weight 2, ready, backup; not in the file"
        );
    }
}
