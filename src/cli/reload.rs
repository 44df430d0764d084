//! `evenkeel reload`: the running balancer reads its configuration again.

use super::admin::{Client, Which};
use super::{Failure, File, check, failed, running, say};
use crate::sample::AdminApi;
use crate::state::config::Fault;
use crate::state::reload::Reloaded;
use clap::Args;
use serde_json::Value;
use std::path::Path;

pub(super) const LONG_ABOUT: &str = "\
Have a running balancer read its configuration again, without losing a request.

Prints what changed, and what needs a restart. A file that is not valid
changes nothing: its faults are printed, and the exit code is 1.";

pub(super) const AFTER_HELP: &str = "\
Exit codes:
  0  the configuration is in use; what changed was printed
  1  nothing was changed: the file has a fault, a port cannot be opened, or no
     balancer runs with this file
  2  the command line is wrong";

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
    // With a file that is not valid the balancer is asked all the same, so that its log and status say what is wrong.
    let reloaded = match running(&arguments.which, file) {
        Ok(client) => ask(&client, "POST")?.map_err(failed)?,
        Err(Failure::Configuration(faults)) => return Err(failed(check::told(&faults))),
        Err(failure) => return Err(failure),
    };
    if reloaded.changes.is_empty() && reloaded.needs_restart.is_empty() {
        say("nothing has changed");
    }
    reloaded.changes.iter().chain(&reloaded.needs_restart).for_each(say);
    Ok(0)
}

/// Has the balancer reload (`POST`), or say what a reload would do (`GET`). The inner error is what it says is wrong with its
/// configuration.
pub(super) fn ask(client: &Client, method: &str) -> Result<Result<Reloaded, String>, Failure> {
    let body = if method == "POST" { "{}" } else { "" };
    let (status, text) = client.call(method, RELOAD, body.to_owned()).map_err(failed)?;
    let read = |error| failed(format!("the response of the admin API is not valid: {error}"));
    match status {
        200 => serde_json::from_str(&text).map(Ok).map_err(read),
        _ => Ok(Err(faults(&serde_json::from_str(&text).unwrap_or_default(), &text))),
    }
}

/// The sentence of a rejection, and each fault with its place, as `check` says it.
fn faults(response: &Value, text: &str) -> String {
    let sentence = response["error"].as_str().unwrap_or(text.trim()).to_owned();
    let list = response["faults"].as_array().cloned().unwrap_or_default();
    let told = list.iter().map(|fault| {
        let text = |key: &str| fault[key].as_str().map(str::to_owned);
        let number = |key: &str| fault[key].as_u64().and_then(|number| usize::try_from(number).ok());
        let fault = Fault {
            path: text("path").unwrap_or_default(),
            advice: text("advice").unwrap_or_default(),
            file: text("file"),
            line: number("line"),
            column: number("column"),
            excerpt: None,
        };
        format!("\n  {fault}")
    });
    sentence + &told.collect::<String>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn faults_have_the_place_that_check_names() {
        let fault = json!({ "path": "servers.lst", "advice": "unknown key", "file": "more.json", "line": 2, "column": 15 });
        let of_whole = json!({ "path": "", "advice": "not JSON", "file": "a.json", "line": 1, "column": 1 });
        let response = json!({ "error": "2 faults.", "faults": [fault, of_whole, { "path": "a", "advice": "b", "line": null }] });
        let said = "2 faults.\n  more.json:2:15: servers.lst: unknown key\n  a.json:1:1: not JSON\n  a: b";
        assert_eq!(faults(&response, ""), said);
        assert_eq!(faults(&Value::Null, "a text\n"), "a text");
    }
}
