//! `evenkeel explain`: why requests went where they went, from the decisions that a running balancer has recorded.

mod text;

use super::admin::{Client, Which};
use super::{Failure, File, duration, failed, running, say};
use crate::base::time;
use crate::sample::AdminApi;
use crate::state::decisions::told::Decisions;
use clap::Args;
use serde_json::Value;
use std::collections::HashSet;
use std::path::Path;
use std::thread;
use std::time::Duration;
use text::report;

pub(super) const LONG_ABOUT: &str = "\
Show why requests went to the servers that they went to.

The balancer records the choices for some requests each second
(decisions.per_second; in quiet times those for all requests): the candidates,
what their ranks were made of, and why other servers could not get the request.
The last ones are shown, the newest at the end. With --next the requests to come
are recorded and waited for.";

pub(super) const AFTER_HELP: &str = "\
Examples:
  evenkeel explain                             the last decisions
  evenkeel explain --pool api -n 1 --json      the last one of a pool, as JSON
  evenkeel explain --request-id 4bf92f3577b3   where this request went
  evenkeel explain --next --header x-debug:1   the next request with this header

Exit codes:
  0  decisions were shown
  1  there is none of that kind, or no balancer of this configuration responds
  2  the command line is wrong
  3  the configuration is not valid";

/// Between two looks whether the requests to come have come.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Decisions that are shown without -n.
const SHOWN: u64 = 5;

/// The arguments of `evenkeel explain`.
#[derive(Clone, Debug, Args)]
pub struct Arguments {
    /// The request with this id, as in logs and responses; with --next the X-Request-Id that the client sends
    #[arg(long, value_name = "ID")]
    request_id: Option<String>,
    /// Have the next requests recorded, and wait for them
    #[arg(long, conflicts_with = "server")]
    next: bool,
    /// With --next: requests with this header
    #[arg(long, value_name = "NAME:VALUE", requires = "next")]
    header: Option<String>,
    /// Requests of this pool
    #[arg(long, value_name = "POOL")]
    pool: Option<String>,
    /// Requests that were sent to this server
    #[arg(long, value_name = "SERVER")]
    server: Option<String>,
    /// How many decisions, or with --next requests [default: 5; 1 with --next]
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1000))]
    number: Option<u64>,
    /// With --next: wait at most this long
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration, requires = "next")]
    wait: Duration,
    /// Print the decisions as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    pub(super) which: Which,
    #[command(flatten)]
    pub(super) file: File,
}

/// Gets the decisions and prints them.
pub(super) fn run(arguments: &Arguments, file: Option<&Path>) -> Result<u8, Failure> {
    let client = running(&arguments.which, file)?;
    let (text, is_enough) =
        if arguments.next { awaited(&client, arguments)? } else { last(&client, arguments)? };
    let decisions: Decisions = serde_json::from_str(&text).map_err(not_valid)?;
    if decisions.decisions.is_empty() {
        return Err(Failure::Runtime(none(arguments)));
    }
    match arguments.json {
        true => say(text.trim_end()),
        false => say(decisions.decisions.iter().map(report).collect::<Vec<_>>().join("\n\n")),
    }
    Ok(u8::from(!is_enough))
}

/// The last decisions of the kind that is wanted.
fn last(client: &Client, arguments: &Arguments) -> Result<(String, bool), Failure> {
    let parts =
        [("pool", &arguments.pool), ("server", &arguments.server), ("request_id", &arguments.request_id)];
    let (limit, query) = (arguments.number.unwrap_or(SHOWN), query(&parts));
    Ok((called(client, "GET", &format!("/api/v1/decisions?limit={limit}{query}"))?, true))
}

/// The decisions for the requests to come; false where not all of them came in time.
fn awaited(client: &Client, arguments: &Arguments) -> Result<(String, bool), Failure> {
    let number = arguments.number.unwrap_or(1);
    let parts =
        [("pool", &arguments.pool), ("request_id", &arguments.request_id), ("header", &arguments.header)];
    let query = query(&parts);
    let asked = called(client, "POST", &format!("/api/v1/decisions/next?count={number}{query}"))?;
    let asked: Value = serde_json::from_str(&asked).map_err(not_valid)?;
    let since = asked["since"].as_u64().unwrap_or(0);
    let deadline = time::now().after(arguments.wait);
    loop {
        let path = format!("/api/v1/decisions?asked=true&since={since}&limit=1000");
        let text = called(client, "GET", &path)?;
        let decisions: Decisions = serde_json::from_str(&text).map_err(not_valid)?;
        let requests: HashSet<&String> = decisions.decisions.iter().map(|one| &one.request_id).collect();
        if requests.len() as u64 >= number || time::now() >= deadline {
            return Ok((text, requests.len() as u64 >= number));
        }
        let left = deadline.since(time::now()).min(LOOK_EVERY);
        thread::park_timeout(left);
    }
}

fn called(client: &Client, method: &str, path: &str) -> Result<String, Failure> {
    let body = if method == "POST" { "{}" } else { "" };
    match client.call(method, path, body.to_owned()).map_err(failed)? {
        (200 | 202, text) => Ok(text),
        (status, text) => {
            let response: Value = serde_json::from_str(&text).unwrap_or_default();
            let sentence = response["error"].as_str().unwrap_or(text.trim());
            Err(failed(format!("the balancer responded {status}: {sentence}")))
        }
    }
}

/// The part of a query for these, each as far as it is given.
fn query(parts: &[(&str, &Option<String>)]) -> String {
    let encoded = |text: &str| text.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>();
    let given = parts.iter().filter_map(|(name, text)| Some((name, text.as_ref()?)));
    given.map(|(name, text)| format!("&{name}={}", encoded(text))).collect()
}

fn not_valid(error: serde_json::Error) -> Failure {
    failed(format!("the response of the admin API is not valid: {error}"))
}

/// Why there is nothing to show, and what to do.
fn none(arguments: &Arguments) -> String {
    let name = crate::base::program::name();
    match (arguments.next, &arguments.request_id) {
        (true, _) => {
            let wait = humantime::format_duration(arguments.wait);
            format!("no such request came within {wait}")
        }
        (false, Some(_)) => format!(
            "no decision is recorded for this request: only some requests a second are (decisions.per_second), and the \
             last thousand are kept. To record one to come: {name} explain --next --request-id ID"
        ),
        (false, None) => {
            format!("no such decision is recorded; to wait for the next one: {name} explain --next")
        }
    }
}
