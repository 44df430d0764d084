//! `evenkeel reload`: the running balancer reads its configuration again.

use super::admin::{Client, Which};
use super::{Failure, File, check, failed, find, say};
use crate::sample::AdminApi;
use crate::state::config::{self, Config, FILE};
use clap::Args;
use serde_json::Value;
use std::path::Path;

pub(super) const LONG_ABOUT: &str = "\
Have a running balancer read its configuration again, without losing a request.

Prints what is different, and what needs a restart. A file that is not valid changes nothing: its
faults are printed, and the exit code is 1.";

/// Where reloads are in the admin API.
const RELOAD: &str = "/api/v1/reload";

/// The arguments of `evenkeel reload`.
#[derive(Clone, Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    pub(super) which: Which,
    #[command(flatten)]
    pub(super) file: File,
}

/// Asks for the reload, and tells what came of it.
pub(super) fn run(arguments: &Arguments, file: Option<&Path>) -> Result<u8, Failure> {
    let (config, invalid) = match find(file) {
        Ok(config) => (config, None),
        // The balancer is asked all the same, so that it says in its log and status what was wrong.
        Err(Failure::Configuration(faults)) => (beside(file), Some(faults)),
        Err(other) => return Err(other),
    };
    let client = Client::of(&config, arguments.which.admin.as_ref());
    let called = client.and_then(|client| client.call("POST", RELOAD, "{}".to_owned()).map_err(failed));
    let (status, text) = match (called, invalid) {
        (Ok(called), _) => called,
        (Err(_), Some(faults)) => return Err(failed(check::told(&faults))),
        (Err(failure), None) => return Err(failure),
    };
    let response: Value = serde_json::from_str(&text).unwrap_or_default();
    if status != 200 {
        return Err(failed(faults(&response, &text)));
    }
    let lines = |key: &str| -> Vec<String> {
        let list = response[key].as_array().cloned().unwrap_or_default();
        list.iter().filter_map(|line| line.as_str().map(str::to_owned)).collect()
    };
    let (changes, restart) = (lines("changes"), lines("needs_restart"));
    if changes.is_empty() && restart.is_empty() {
        say("nothing has changed");
    }
    changes.into_iter().chain(restart).for_each(say);
    Ok(0)
}

/// What is known of a file that is not valid: where its socket is if it does not say so.
fn beside(file: Option<&Path>) -> Config {
    let file = file.unwrap_or(Path::new(FILE));
    let config = config::parse("{}", file.parent().unwrap_or(Path::new(""))).unwrap_or_default();
    Config { file: Some(file.to_owned()), ..config }
}

fn faults(response: &Value, text: &str) -> String {
    let sentence = response["error"].as_str().unwrap_or(text.trim()).to_owned();
    let list = response["faults"].as_array().cloned().unwrap_or_default();
    let told = list.iter().map(|fault| {
        let part = |key: &str| fault[key].as_str().unwrap_or_default().to_owned();
        let line = fault["line"].as_u64().map_or(String::new(), |line| format!(" (line {line})"));
        format!("\n  {}{line}: {}", part("path"), part("advice"))
    });
    sentence + &told.collect::<String>()
}
