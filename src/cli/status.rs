//! `evenkeel status`: the status of a running balancer, through its admin API, in 80 columns.

use super::admin::{Client, Which};
use super::columns::WIDTH;
use super::view::{
    Mood, Pool, Reload, Server, Shadow, Status, Tier, count, cut, cut_in_the_middle, millis, plain, rate,
};
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
/// The widths of the columns for names and addresses: what the others leave of it. Longer ones are repeated below in full.
const NAME: usize = 15;
const ADDRESS: usize = 21;

/// The arguments of `evenkeel status`.
#[derive(Clone, Debug, Args)]
pub struct Arguments {
    /// Print the response of the API unchanged, as JSON
    #[arg(long)]
    pub json: bool,
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
        let (text, serves) = shown(&client, arguments.json)?;
        say(text);
        return Ok(if arguments.check && !serves { UNSERVED } else { 0 });
    };
    loop {
        // A balancer that restarts is waited for.
        let text = match shown(&client, arguments.json) {
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
fn shown(client: &Client, as_json: bool) -> Result<(String, bool), Failure> {
    let (place, response) = client.status_and_place().map_err(failed)?;
    let status: Status = serde_json::from_str(&response)
        .map_err(|error| failed(format!("the response of the admin API is not valid: {error}")))?;
    let text = if as_json {
        response.trim_end().to_owned()
    } else {
        let has_colours = stdout().is_terminal() && env::var_os("NO_COLOR").is_none_or(|set| set.is_empty());
        report(&status, &place, Paint { has_colours })
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

fn report(status: &Status, place: &str, paint: Paint) -> String {
    let mut lines = vec![paint.strong(&status.title())];
    lines.extend(fact("configuration", [plain(&configuration(&status.instance))]));
    lines.extend(status.failed_reload().into_iter().flat_map(rejected));
    lines.extend(fact("listens on", status.instance.listeners.iter().map(|address| plain(address))));
    lines.extend(fact("admin API", [plain(place)]));
    lines.push(String::new());
    lines.extend(traffic(status));
    for pool in &status.pools {
        lines.push(String::new());
        lines.extend(head(pool, status, paint));
        lines.extend(pool.shadow.as_ref().map(shadow));
        lines.extend(pool.tiers.iter().map(tier));
        let servers: Vec<_> = status.servers.iter().filter(|server| server.pool == pool.name).collect();
        if servers.is_empty() {
            lines.push("  no servers".to_owned());
            continue;
        }
        lines.push(paint.dim(&row(["", "name", "address", "state", "req/s", "share", "busy", "latency"])));
        servers.iter().for_each(|server| lines.extend(of_server(server, paint)));
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

/// The heading of a pool: one line, or two where its name is long.
fn head(pool: &Pool, status: &Status, paint: Paint) -> Vec<String> {
    let mood = match (pool.ready, pool.servers) {
        _ if pool.fail_open.is_some() => Mood::Bad,
        (_, 0) => Mood::Off,
        (0, _) => Mood::Bad,
        (ready, all) if ready < all && status.servers.iter().any(|one| one.mood() == Mood::Bad) => {
            Mood::Warning
        }
        _ => Mood::Good,
    };
    let name = format!("pool {}", plain(&pool.name));
    let before = format!("{}  ", plain(&pool.algorithm));
    let ready = pool.ready_told();
    let waiting = pool.waiting_told().map_or_else(String::new, |waiting| format!("  {waiting}"));
    let after = format!("  in flight {}{waiting}", pool.in_flight);
    // Measured before it is painted: colours have no width.
    let is_one_line = fits(&name, &format!(" {before}{ready}{after}"));
    let facts = format!("{before}{}{after}", paint.mood(mood, &ready));
    let name = paint.strong(&name);
    if is_one_line { vec![format!("{name}  {facts}")] } else { vec![name, format!("  {facts}")] }
}

/// How far the second algorithm of a pool differs from the first.
fn shadow(shadow: &Shadow) -> String {
    let Shadow { algorithm, same, different } = shadow;
    let percent = 100.0 * *different as f64 / (same + different).max(1) as f64;
    let all = count(same + different);
    format!("  shadow {}  would choose another server for {percent:.1} % of {all}", plain(algorithm))
}

/// What a tier of a pool gets now.
fn tier(tier: &Tier) -> String {
    let (name, share) = (cut(&plain(&tier.name), 24), 100.0 * tier.share);
    let ready = format!("{} of {} can take requests", tier.ready, tier.servers);
    format!("  tier {name:24}  {ready}, gets {share:.0} %")
}

/// Columns of 80 in all.
fn row(cells: [&str; 8]) -> String {
    let [mark, name, address, state, rate, share, busy, latency] = cells;
    let (name, address) = (cut_in_the_middle(name, NAME), cut_in_the_middle(address, ADDRESS));
    format!(
        "  {mark:1} {name:NAME$} {address:ADDRESS$} {state:8} {rate:>7} {share:>5} {busy:>4} {latency:>8}"
    )
    .trim_end()
    .to_owned()
}

/// A server's row, and further lines where there is more to say.
fn of_server(server: &Server, paint: Paint) -> Vec<String> {
    let (name, address, state) = (plain(&server.name), plain(&server.address), plain(&server.state));
    let (rate, share, latency) = (rate(server.rate), server.share(), server.latency());
    let busy = server.in_flight.to_string();
    let line = row([server.mark(), &name, &address, &state, &rate, &share, &busy, &latency]);
    let (mark, padded) = (server.mark(), format!("{state:8}"));
    // Painted after it was padded: colours have no width.
    let line = line.replacen(mark, &paint.mood(server.mood(), mark), 1);
    let line = line.replacen(&padded, &paint.mood(server.mood(), &padded), 1);
    let weight = (server.weight != 1).then(|| format!("weight {}", server.weight));
    let used = server.fail_open.then(|| "gets requests all the same".to_owned());
    let why = (server.mood() != Mood::Good).then(|| server.why()).filter(|why| !why.is_empty());
    let before =
        server.place().into_iter().chain([weight, server.slow_start_told(), used].into_iter().flatten());
    let more: Vec<String> = before.chain(why).collect();
    let below = |text: String| paint.dim(&format!("    {}", cut(&text, WIDTH - 4)));
    let more = (!more.is_empty()).then(|| below(more.join("; ")));
    let probes = Some(server.probes()).filter(|probes| !probes.is_empty()).map(below);
    // Those that the columns cut: with an address for a name both are the same.
    let is_cut = |text: &String, width| text.chars().count() > width;
    let full_name = is_cut(&name, NAME).then(|| below(name.clone()));
    let full_address = (is_cut(&address, ADDRESS) && address != name).then(|| below(address.clone()));
    [Some(line), full_name, full_address, more, probes].into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status() -> Status {
        serde_json::from_value(serde_json::json!({
            "version": "0.1.0", "uptime_s": 3700, "draining": false,
            "instance": { "pid": 12, "config": "/etc/evenkeel/config.json", "listeners": ["0.0.0.0:8000"] },
            "threadpool": { "max": 50, "workers": 3, "in_flight": 2, "queue_capacity": 100 },
            "pools": [{ "name": "default", "algorithm": "dynamic", "servers": 3, "ready": 1, "in_flight": 2 },
                      { "name": "api", "algorithm": "round_robin" }],
            "servers": [
                { "name": "a", "pool": "default", "address": "127.0.0.1:9001", "state": "up", "mode": "ready",
                  "weight": 5, "rate": 12.0, "share": 0.75, "in_flight": 2, "ewma_ms": 1.234,
                  "last_check": { "type": "tcp", "at": "2026-07-01T08:00:09Z", "outcome": "connected", "took_ms": 0.25 },
                  "last_failed_check": { "type": "tcp", "at": "2026-07-01T08:00:00Z", "outcome": "connection refused" } },
                { "name": "a-name-that-is-too-long", "pool": "default", "address": "backend.example.internal:8080",
                  "state": "down", "mode": "ready", "weight": 1, "rate": 0.0,
                  "reason": "3 probes failed in a row (connection refused) at http://backend.example.internal:8080/health" },
                { "name": "c\u{1b}[2J", "pool": "default", "address": "10.0.0.3:80", "state": "drain",
                  "mode": "drain", "weight": 1, "backup": true, "rate": 4.0, "share": 0.25 }
            ],
            "totals": { "requests": 1234567, "responses": { "2xx": 1234000, "5xx": 567, "none": 0 },
                        "rejections": { "no_server": 7 }, "connections": { "open": 9 },
                        "request_ms": { "p50": 1.0, "p90": 8.5, "p99": 120.0 } }
        }))
        .unwrap()
    }

    #[test]
    fn a_status_fits_into_80_columns_and_says_which_balancer_it_is() {
        let expected = "\
evenkeel 0.1.0, pid 12, up 1h 1m 40s
  configuration  /etc/evenkeel/config.json
  listens on     0.0.0.0:8000
  admin API      the socket /run/a.sock

requests  1,234,567  2xx 1,234,000  5xx 567  rejected or failed 7
now       16/s to servers
latency   p50 1.00 ms  p90 8.50 ms  p99 120 ms, since the start
workers   3 of 50  in flight 2  queue 0 of 100  waiting 0  connections 9

pool default  dynamic  1 of 3 take requests  in flight 2
    name            address               state      req/s share busy  latency
  ● a               127.0.0.1:9001        up            12  75 %    2  1.23 ms
    weight 5
    tcp probe: connected in 0.25 ms; failed 2026-07-01T08:00:00Z: connection re…
  ✕ a-name-…oo-long backend.ex…ernal:8080 down           0     -    0        -
    a-name-that-is-too-long
    backend.example.internal:8080
    3 probes failed in a row (connection refused) at http://backend.example.int…
  ◐ c\\u{1b}[2J      10.0.0.3:80           drain        4.0  25 %    0        -
    backup; drained by the operator

pool api  round_robin  0 of 0 take requests  in flight 0
  no servers";
        let text = report(&status(), "the socket /run/a.sock", Paint { has_colours: false });
        assert_eq!(text, expected);
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH));
    }

    #[test]
    fn long_names_and_many_listeners_stay_within_80_columns() {
        let mut status = status();
        status.instance.listeners = (0..9).map(|at| format!("[2001:db8::{at}]:65535")).collect();
        (status.pools[0].name, status.pools[0].waiting) = ("p".repeat(64), 12);
        status.pools[0].queue_capacity = 1000;
        status.servers.iter_mut().for_each(|server| server.pool = "p".repeat(64));
        status.servers[0].address = "[2001:db8:1234:5678:9abc:def0:1234:5678]:65535".to_owned();
        let text = report(&status, "x", Paint { has_colours: false });
        let pool = format!("pool {}", "p".repeat(64));
        for expected in [
            "  listens on     [2001:db8::0]:65535, [2001:db8::1]:65535, [2001:db8::2]:65535,",
            "                 [2001:db8::3]:65535, [2001:db8::4]:65535, [2001:db8::5]:65535,",
            pool.as_str(),
            "  dynamic  1 of 3 take requests  in flight 2  waiting 12 of 1,000",
            "  ● a               [2001:db8:…678]:65535 up            12  75 %    2  1.23 ms",
            "    [2001:db8:1234:5678:9abc:def0:1234:5678]:65535",
        ] {
            assert!(text.lines().any(|line| line == expected), "{expected}\n{text}");
        }
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
    }

    #[test]
    fn a_rejected_reload_is_shown_with_its_fault() {
        let mut status = status();
        let message = "config.json:6:34: servers.queue_capacity: expected a number, found \"many\"";
        let reload = |result: &str| Reload {
            at: "2026-11-27T20:56:33Z".to_owned(),
            result: result.to_owned(),
            message: message.to_owned(),
        };
        let shown = |status: &Status| report(status, "x", Paint { has_colours: false });
        status.config.last_reload = Some(reload("applied"));
        assert!(!shown(&status).contains("reload"));
        status.config.last_reload = Some(reload("failed"));
        let text = shown(&status);
        for expected in [
            "evenkeel 0.1.0, pid 12, up 1h 1m 40s, last reload rejected",
            "                 the reload at 2026-11-27T20:56:33Z was rejected:",
            "                 config.json:6:34: servers.queue_capacity: expected a number, f…",
        ] {
            assert!(text.lines().any(|line| line == expected), "{expected}\n{text}");
        }
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
    }

    #[test]
    fn a_pool_that_fails_open_and_its_servers_are_marked() {
        let mut status = status();
        status.pools[0].fail_open = Some(super::super::view::FailOpen { used: 1 });
        status.servers[1].fail_open = true;
        let text = report(&status, "x", Paint { has_colours: false });
        for expected in [
            "pool default  dynamic  1 of 3 take requests, 1 of them not up  in flight 2",
            "    gets requests all the same; 3 probes failed in a row (connection refused) a…",
        ] {
            assert!(text.lines().any(|line| line == expected), "{expected}\n{text}");
        }
    }

    #[test]
    fn tiers_have_a_line_each_and_a_server_says_where_it_belongs() {
        let mut status = status();
        let tier = |name: &str, ready, share| Tier { name: name.to_owned(), servers: 12, ready, share };
        status.pools[0].tiers =
            vec![tier("priority 0, own zone", 3, 0.3125), tier("priority 0, other zones", 12, 0.6875)];
        status.servers[0].member_of = Some("web".to_owned());
        status.servers[0].zone = Some("eu-west-1a".to_owned());
        status.servers[0].priority = 2;
        let text = report(&status, "x", Paint { has_colours: false });
        for expected in [
            "  tier priority 0, own zone      3 of 12 can take requests, gets 31 %",
            "  tier priority 0, other zones   12 of 12 can take requests, gets 69 %",
            "    member of web; priority 2; zone eu-west-1a; weight 5",
        ] {
            assert!(text.lines().any(|line| line == expected), "{expected}\n{text}");
        }
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH));
    }

    #[test]
    fn a_balancer_without_a_file_names_none() {
        let with = Instance::of(Path::new("/etc/evenkeel/config.json"));
        assert_eq!(configuration(&with), "/etc/evenkeel/config.json");
        let without = Instance { without_file: true, ..with };
        assert_eq!(configuration(&without), "no file; started in /etc/evenkeel");
    }

    #[test]
    fn colours_change_nothing_but_colours() {
        let coloured = report(&status(), "x", Paint { has_colours: true });
        assert!(coloured.contains("\x1b[1;31m✕\x1b[0m") && coloured.contains("\x1b[32mup      \x1b[0m"));
        let mut without = coloured.clone();
        for code in ["0", "1", "2", "32", "33", "34", "1;31"] {
            without = without.replace(&format!("\x1b[{code}m"), "");
        }
        assert_eq!(without, report(&status(), "x", Paint { has_colours: false }));
    }
}
