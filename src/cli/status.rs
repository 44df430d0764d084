//! `evenkeel status`: the status of a running balancer, through its admin API, in 80 columns.

mod pools;

use super::admin::{Client, Which};
use super::columns::WIDTH;
use super::view::{Mood, Reload, Status, count, cut, millis, plain, rate};
use super::{Failure, File, changes, duration, failed, running, say};
use crate::state::instance::Instance;
use clap::Args;
use std::env;
use std::io::{IsTerminal, Write, stdout};
use std::path::Path;
use std::thread;
use std::time::Duration;

pub(super) const LONG_ABOUT: &str = "\
Show the workers, servers and totals of a running balancer.

Finds the balancer through the same configuration: by its Unix socket
(admin.socket), or by admin.bind if the balancer there runs with this file.
Prints which balancer that is, its traffic, its worker pool and its servers.
Sends the admin.token of the configuration. Uses no colours with NO_COLOR, or
when the output is not a terminal.";

pub(super) const AFTER_HELP: &str = "\
Exit codes:
  0  the status was shown
  1  no balancer of this configuration responds
  2  the command line is wrong
  3  the configuration is not valid
  4  with --check: the balancer drains, or a pool has no server that takes
     requests";

/// The exit code of --check when requests are not served.
const UNSERVED: u8 = 4;
/// With more servers each has one line, if not asked otherwise: the others do not fit on a screen.
const DETAILED: usize = 20;

/// The arguments of `evenkeel status`.
#[derive(Clone, Debug, Args)]
pub struct Arguments {
    /// Print the response of the API unchanged, as JSON
    #[arg(long)]
    pub json: bool,
    /// Show all about each server: from 21 servers on each has one line, those that are not up first
    #[arg(long, conflicts_with_all = ["json", "changes"])]
    details: bool,
    /// Show what the admin API has changed
    #[arg(long)]
    changes: bool,
    /// Repeat every 2 s, or at another interval (--watch=10s), until ctrl-C
    #[arg(long, value_name = "EVERY", num_args = 0..=1, require_equals = true, default_missing_value = "2s",
          value_parser = duration, conflicts_with = "changes")]
    watch: Option<Duration>,
    /// Exit with 4 if the balancer drains, or a pool has no server that takes requests
    #[arg(long, conflicts_with_all = ["changes", "watch"])]
    check: bool,
    #[command(flatten)]
    pub(super) which: Which,
    #[command(flatten)]
    pub(super) file: File,
}

/// Gets the status and prints it.
pub(super) fn run(arguments: &Arguments, file: Option<&Path>) -> Result<u8, Failure> {
    let client = running(&arguments.which, file)?;
    if arguments.changes {
        return changes::show(&client, arguments.json);
    }
    let Some(every) = arguments.watch else {
        let (text, serves) = shown(&client, arguments)?;
        say(text);
        return Ok(if arguments.check && !serves { UNSERVED } else { 0 });
    };
    loop {
        // A balancer that restarts is waited for.
        let text = match shown(&client, arguments) {
            Ok((text, _)) => text,
            Err(Failure::Runtime(reason)) => reason,
            Err(other) => return Err(other),
        };
        let clear = if stdout().is_terminal() { "\x1b[H\x1b[2J" } else { "" };
        // The reader has gone: a closed terminal, or `| head`.
        if writeln!(stdout(), "{clear}{text}").is_err() {
            return Ok(0);
        }
        thread::park_timeout(every);
    }
}

/// The text to print, and whether requests are served.
fn shown(client: &Client, arguments: &Arguments) -> Result<(String, bool), Failure> {
    let (place, response) = client.status_and_place().map_err(failed)?;
    let status: Status = serde_json::from_str(&response)
        .map_err(|error| failed(format!("the response of the admin API is not valid: {error}")))?;
    let text = if arguments.json {
        response.trim_end().to_owned()
    } else {
        let has_colours = stdout().is_terminal() && env::var_os("NO_COLOR").is_none_or(|set| set.is_empty());
        report(&status, &place, arguments.details, Paint { has_colours })
    };
    Ok((text, status.serves()))
}

/// Colours, or none.
#[derive(Clone, Copy, Debug)]
struct Paint {
    has_colours: bool,
}

impl Paint {
    fn with(self, code: &str, text: &str) -> String {
        if self.has_colours { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    fn strong(self, text: &str) -> String {
        self.with("1", text)
    }

    fn dim(self, text: &str) -> String {
        self.with("2", text)
    }

    fn mood(self, mood: Mood, text: &str) -> String {
        match mood {
            Mood::Good => self.with("32", text),
            Mood::Pending => self.with("34", text),
            Mood::Warning => self.with("33", text),
            Mood::Bad => self.with("1;31", text),
            Mood::Off => self.dim(text),
        }
    }
}

fn report(status: &Status, place: &str, details: bool, paint: Paint) -> String {
    let mut lines = vec![paint.strong(&status.title())];
    lines.extend(fact("configuration", [plain(&configuration(&status.instance))]));
    lines.extend(status.failed_reload().into_iter().flat_map(rejected));
    lines.extend(fact("listens on", status.instance.listeners.iter().map(|address| plain(address))));
    lines.extend(fact("admin API", [plain(place)]));
    lines.push(String::new());
    lines.extend(traffic(status));
    let is_detailed = details || status.servers.len() <= DETAILED;
    lines.extend(status.pools.iter().flat_map(|pool| pools::lines(pool, status, is_detailed, paint)));
    if !is_detailed {
        lines.extend([
            String::new(),
            "--details has all about each server, in the order of the file".to_owned(),
        ]);
    }
    lines.join("\n")
}

/// A name and its values, on as many lines as they need.
fn fact(name: &str, values: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut lines = vec![format!("  {name:13}")];
    let mut values = values.into_iter().peekable();
    while let Some(value) = values.next() {
        let value = if values.peek().is_some() { value + "," } else { value };
        let line = lines.last_mut().filter(|line| line.len() <= 15 || fits(line, &value));
        match line {
            Some(line) => *line = format!("{line} {}{value}", if line.len() <= 15 { " " } else { "" }),
            None => lines.push(format!("{:17}{value}", "")),
        }
    }
    lines
}

/// What a rejected reload means, and the first fault.
fn rejected(reload: &Reload) -> [String; 2] {
    let at = plain(&reload.at);
    let what = format!("{:17}the reload at {at} was rejected:", "");
    [what, cut(&format!("{:17}{}", "", plain(&reload.message)), WIDTH)]
}

/// Whether a line has room for one more word.
fn fits(line: &str, word: &str) -> bool {
    line.chars().count() + 1 + word.chars().count() <= WIDTH
}

/// Where its configuration comes from.
fn configuration(instance: &Instance) -> String {
    let folder = Path::new(instance.file()).parent().filter(|_| instance.without_file);
    folder.map_or(instance.file().to_owned(), |folder| format!("no file; started in {}", folder.display()))
}

fn traffic(status: &Status) -> [String; 4] {
    let (totals, workers) = (&status.totals, &status.threadpool);
    let classes: Vec<_> = totals.responses.iter().filter(|(_, number)| **number > 0).collect();
    let classes = classes.iter().map(|(class, number)| format!("  {class} {}", count(**number)));
    let rejected: u64 = totals.rejections.values().sum();
    let rejected =
        if rejected > 0 { format!("  rejected or failed {}", count(rejected)) } else { String::new() };
    let rates = status.servers.iter().map(|server| server.rate).sum();
    let of = &totals.request_ms;
    // A quick response rounds to 0 ms; before the first there is none.
    let took = |ms: f64| if totals.requests > 0 && ms == 0.0 { "0.00 ms".to_owned() } else { millis(ms) };
    [
        format!("requests  {}{}{rejected}", count(totals.requests), classes.collect::<String>()),
        format!("now       {}/s to servers", rate(rates)),
        format!(
            "latency   p50 {}  p90 {}  p99 {}, since the start",
            took(of.p50),
            took(of.p90),
            took(of.p99)
        ),
        format!(
            "workers   {} of {}  in flight {}  queue {} of {}  waiting {}  connections {}",
            workers.workers,
            workers.max,
            count(workers.in_flight as u64),
            workers.queued,
            workers.queue_capacity,
            workers.waiting,
            count(totals.connections.open as u64)
        ),
    ]
}

#[cfg(test)]
mod tests;
