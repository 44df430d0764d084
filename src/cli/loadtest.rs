//! `evenkeel loadtest`: sends many requests and measures the responses.

use super::{Failure, duration, failed, find, logger, reachable};
use crate::loadtest::{self, Stage, urls};
use crate::state::config::{self, Config, LogFormat};
use clap::Args;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a test lasts when neither a duration nor a number of requests is given.
const DURATION: Duration = Duration::from_secs(10);
/// The largest body, in bytes.
const BODY_MAX: u64 = 1024 * 1024 * 1024;

pub(super) const LONG_ABOUT: &str = "\
Send many requests and measure the responses.

Without --rate each connection sends its next request when it has the response
to the last (closed loop). With --rate or --ramp requests are sent at a given
rate, and latency counts from the moment a request was meant to be sent (open
loop), so that queueing delays are included.

Prints good, rejected and failed requests apart, latencies (p50, p90, p95, p99,
p99.9, max), statuses, Evenkeel's own rejections by reason, the body of the
most common error, and how the responses are distributed over the servers. Stops
at once when nothing listens.

As in hey, ab and wrk: -c 100 -z 10s -n 1000. A number after -c is the number of
connections, and anything else the configuration file.";

pub(super) const AFTER_HELP: &str = "\
Examples:
  evenkeel loadtest
  evenkeel loadtest -c 100 -z 30s
  evenkeel loadtest http://localhost:8000/ --method GET --requests 100000
  evenkeel loadtest --rate 100 --json
  evenkeel loadtest --ramp 100..1000:30s,1000:10s --html report.html
  evenkeel loadtest https://localhost:8443/ --cacert ca.pem
  evenkeel loadtest --urls requests.txt

The file of --urls has a request in each line, with a path or a whole URL, or is
a JSON array of objects:
  GET /requests weight=9
  {\"url\": \"/orders\", \"method\": \"POST\", \"weight\": 1, \"body\": {\"n\": 1}}";

/// The arguments of `evenkeel loadtest`.
#[derive(Clone, Debug, Args)]
pub struct Arguments {
    /// Where to send requests, http:// or https:// [default: /requests on the port of the configuration]
    #[arg(value_parser = url)]
    pub url: Option<String>,
    /// Requests from a file, by weight, instead of one; see below
    #[arg(short, long, value_name = "FILE", conflicts_with_all = ["body_size", "body", "body_file"])]
    pub urls: Option<PathBuf>,
    /// Connections at a time, 1 to 100000; also -c N
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000), value_name = "N")]
    pub connections: u32,
    /// How long to send requests [default: 10s]
    #[arg(short, short_alias = 'z', long, value_parser = duration, value_name = "DURATION")]
    pub duration: Option<Duration>,
    /// How many requests to send; with a duration, whichever ends first
    #[arg(short = 'n', long, value_parser = clap::value_parser!(u64).range(1..), value_name = "N")]
    pub requests: Option<u64>,
    /// Requests per second, all connections together [default: as many as possible]
    #[arg(short = 'R', long, value_parser = rate, value_name = "R")]
    pub rate: Option<f64>,
    /// A rate that changes: FROM..TO:DURATION or RATE:DURATION, several with commas
    #[arg(long, value_parser = stage, value_delimiter = ',', conflicts_with = "rate", value_name = "STAGES")]
    pub ramp: Vec<Stage>,
    /// The method of the requests
    #[arg(short, long, default_value = "POST", value_parser = method)]
    pub method: String,
    /// Bytes of each request's body, such as 512 or 16KiB, up to 1GiB
    #[arg(long, default_value = "0", value_parser = size, value_name = "SIZE")]
    pub body_size: usize,
    /// The body of each request
    #[arg(long, value_name = "TEXT", conflicts_with = "body_size")]
    pub body: Option<String>,
    /// The body of each request, from a file
    #[arg(long, value_name = "FILE", conflicts_with_all = ["body", "body_size"])]
    pub body_file: Option<PathBuf>,
    /// An additional header, as in -H "Accept: text/html"; may be given several times
    #[arg(short = 'H', long = "header", value_parser = header, value_name = "NAME: VALUE")]
    pub headers: Vec<(String, String)>,
    /// Open a new connection for each request
    #[arg(long)]
    pub no_keep_alive: bool,
    /// https: accept any certificate
    #[arg(short = 'k', long)]
    pub insecure: bool,
    /// https: check certificates against these authorities (PEM) instead of the system's
    #[arg(long, value_name = "FILE", conflicts_with = "insecure")]
    pub cacert: Option<PathBuf>,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
    /// Also write the result with charts into this file
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
    /// Threads that send, 1 to 1024 [default: depends on the machine]
    #[arg(short, long, value_parser = clap::value_parser!(u32).range(1..=1024), value_name = "N")]
    pub threads: Option<u32>,
    /// The maximum time for one response
    #[arg(long, default_value = "30s", value_parser = duration, value_name = "DURATION")]
    pub timeout: Duration,
}

/// Runs the test; the exit code is the load generator's.
pub(super) fn run(mut arguments: Arguments, file: Option<&Path>) -> Result<u8, Failure> {
    let count = meant_connections(file)?;
    arguments.connections = count.unwrap_or(arguments.connections);
    // The file says where to send requests; with a URL it may be any file, or none.
    let config = match arguments.url {
        Some(_) => Config::default(),
        None => find(file.filter(|_| count.is_none()))?,
    };
    logger::start(log::LevelFilter::Warn, LogFormat::Text);
    loadtest::run(options(arguments, &config)?).map_err(failed)
}

/// In ab, wrk and hey -c is the number of connections; here it is also the configuration, as in every command. A number
/// that names no file is a number of connections.
fn meant_connections(file: Option<&Path>) -> Result<Option<u32>, Failure> {
    let number =
        file.filter(|file| !file.exists()).and_then(Path::to_str).and_then(|text| text.parse::<u32>().ok());
    match number {
        None => Ok(None),
        Some(number @ 1..=100_000) => Ok(Some(number)),
        Some(number) => {
            Err(Failure::Usage(format!("{number} connections are out of range; write 1 to 100000")))
        }
    }
}

fn options(arguments: Arguments, config: &Config) -> Result<loadtest::Options, Failure> {
    let mut in_clear = config.listen.listeners.iter().filter(|listener| listener.tls.is_none());
    let address = in_clear.find_map(|listener| listener.place.address());
    let address = address.unwrap_or(SocketAddr::from((Ipv4Addr::LOCALHOST, 8000)));
    let url = arguments.url.unwrap_or_else(|| format!("http://{}/requests", reachable(address)));
    let default = arguments.requests.is_none() && arguments.ramp.is_empty();
    let entries = match &arguments.urls {
        None => Vec::new(),
        Some(file) => entries(file)?,
    };
    let body = match &arguments.body_file {
        None => arguments.body.unwrap_or_default().into_bytes(),
        Some(file) => std::fs::read(file).map_err(|error| unreadable(file, error))?,
    };
    Ok(loadtest::Options {
        url,
        entries,
        connections: arguments.connections as usize,
        duration: arguments.duration.or(default.then_some(DURATION)),
        requests: arguments.requests,
        rate: arguments.rate,
        ramp: arguments.ramp,
        method: arguments.method,
        body_size: arguments.body_size,
        body,
        headers: arguments.headers,
        keep_alive: !arguments.no_keep_alive,
        resume: true,
        insecure: arguments.insecure,
        cacert: arguments.cacert,
        quiet: false,
        json: arguments.json,
        html: arguments.html,
        threads: arguments.threads.map(|threads| threads as usize),
        timeout: arguments.timeout,
        warm_up: Duration::ZERO,
    })
}

fn entries(file: &Path) -> Result<Vec<loadtest::Entry>, Failure> {
    let text = std::fs::read_to_string(file).map_err(|error| unreadable(file, error))?;
    urls::read(&text).map_err(|wrong| Failure::Usage(format!("{}: {wrong}", file.display())))
}

fn unreadable(file: &Path, error: std::io::Error) -> Failure {
    Failure::Usage(format!("cannot read {}: {error}", file.display()))
}

/// `FROM..TO:DURATION`, or `RATE:DURATION`.
fn stage(text: &str) -> Result<Stage, String> {
    let advice = "write FROM..TO:DURATION or RATE:DURATION, such as 100..1000:30s";
    let (rates, lasts) = text.split_once(':').ok_or(advice)?;
    let (from, to) = rates.split_once("..").unwrap_or((rates, rates));
    let number = |text: &str| text.parse().ok().filter(|rate: &f64| rate.is_finite() && *rate >= 0.0);
    match (number(from), number(to).filter(|rate| *rate > 0.0)) {
        (Some(from_per_s), Some(to_per_s)) => Ok(Stage { from_per_s, to_per_s, lasts: duration(lasts)? }),
        _ => Err(format!("the rates are not valid, and the last must be above 0; {advice}")),
    }
}

/// A URL; `http://` is optional.
fn url(text: &str) -> Result<String, String> {
    let advice = "write one such as http://localhost:8000/requests";
    let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
    let scheme = scheme.to_ascii_lowercase();
    if scheme != "http" && scheme != "https" {
        return Err(format!("only http and https are supported, not {scheme}; {advice}"));
    }
    if rest.is_empty() || rest.starts_with('/') {
        return Err(format!("this has no host; {advice}"));
    }
    // The system would read it as an IPv4 address.
    if rest.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!("{rest} is a port, and the host is missing; write {scheme}://localhost:{rest}/"));
    }
    Ok(format!("{scheme}://{rest}"))
}

fn header(text: &str) -> Result<(String, String), String> {
    let parts = text.split_once(':').map(|(name, value)| (name.trim(), value.trim()));
    let parts = parts.filter(|(name, value)| !name.is_empty() && !text_has_controls(name, value));
    let (name, value) = parts.ok_or("this is not a valid header; write one such as \"Accept: text/html\"")?;
    Ok((name.to_owned(), value.to_owned()))
}

fn text_has_controls(name: &str, value: &str) -> bool {
    name.chars().chain(value.chars()).any(char::is_control) || name.contains(' ')
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|rate: &f64| rate.is_finite() && *rate > 0.0);
    rate.ok_or_else(|| "this is not a valid rate; write requests per second above 0, such as 500".to_owned())
}

fn method(text: &str) -> Result<String, String> {
    let is_method = (1..=32).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphabetic());
    if is_method {
        Ok(text.to_owned())
    } else {
        Err("this is not a valid method; write one such as POST".to_owned())
    }
}

fn size(text: &str) -> Result<usize, String> {
    let size = config::read_size(text).filter(|size| *size <= BODY_MAX);
    let size = size.and_then(|size| usize::try_from(size).ok());
    size.ok_or_else(|| "this is not a valid size; write up to 1GiB, such as 512 or 16KiB".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn parsed(line: &str) -> Result<loadtest::Options, String> {
        let arguments =
            super::super::Arguments::try_parse_from(line.split(' ')).map_err(|error| error.to_string())?;
        let Some(super::super::Command::Loadtest(arguments)) = arguments.command else { panic!("{line}") };
        options(arguments, &Config::default()).map_err(|failure| format!("{failure:?}"))
    }

    #[test]
    fn what_is_not_said_has_a_default() {
        let options = parsed("evenkeel loadtest").unwrap();
        assert_eq!(options.url, "http://127.0.0.1:8000/requests");
        assert_eq!((options.connections, options.duration, options.requests), (50, Some(DURATION), None));
        assert_eq!((options.method.as_str(), options.body_size, options.rate), ("POST", 0, None));
    }

    #[test]
    fn what_is_said_counts() {
        let line = "evenkeel loadtest localhost:1/a --requests 5 --rate 2.5 --method GET --body-size 1KiB --threads 2 --json";
        let options = parsed(line).unwrap();
        assert_eq!(options.url, "http://localhost:1/a");
        assert_eq!((options.duration, options.requests, options.rate), (None, Some(5), Some(2.5)));
        assert_eq!((options.method.as_str(), options.body_size, options.threads), ("GET", 1024, Some(2)));
        assert!(options.json);
    }

    #[test]
    fn a_number_after_c_is_a_number_of_connections() {
        let check =
            |file: &str, count| assert_eq!(meant_connections(Some(Path::new(file))).ok(), count, "{file}");
        check("100", Some(Some(100)));
        check("100.json", Some(None));
        check("0", None);
        check("100001", None);
        assert!(matches!(meant_connections(None), Ok(None)));
    }

    #[test]
    fn the_habits_of_other_programs_work() {
        let options = parsed("evenkeel loadtest -n 5").unwrap();
        assert_eq!((options.requests, options.duration), (Some(5), None));
        let options = parsed("evenkeel loadtest -z 2s -n 5 -m GET -t 2 -R 7").unwrap();
        assert_eq!((options.requests, options.duration), (Some(5), Some(Duration::from_secs(2))));
        assert_eq!((options.method.as_str(), options.threads, options.rate), ("GET", Some(2), Some(7.0)));
        let options = parsed("evenkeel loadtest HTTPS://a/ -k --body x").unwrap();
        assert_eq!(
            (options.url.as_str(), options.insecure, options.body),
            ("https://a/", true, b"x".to_vec())
        );
    }

    #[test]
    fn a_ramp_has_stages_and_the_duration_is_theirs() {
        let options = parsed("evenkeel loadtest --ramp 0..100:2s,100:500ms").unwrap();
        let stage =
            |from_per_s, to_per_s, ms| Stage { from_per_s, to_per_s, lasts: Duration::from_millis(ms) };
        assert_eq!(options.ramp, [stage(0.0, 100.0, 2000), stage(100.0, 100.0, 500)]);
        assert_eq!((options.duration, options.rate), (None, None));
    }

    #[test]
    fn what_is_out_of_bounds_is_reported() {
        for (line, advice) in [
            ("evenkeel loadtest ftp://a/", "only http and https"),
            ("evenkeel loadtest http://", "no host"),
            ("evenkeel loadtest --connections 0", "1..=100000"),
            ("evenkeel loadtest --rate 1 --ramp 1..2:3s", "cannot be used with"),
            ("evenkeel loadtest --ramp 1..2", "FROM..TO:DURATION"),
            ("evenkeel loadtest --ramp 1..0:1s", "above 0"),
            ("evenkeel loadtest --urls absent.txt", "cannot read absent.txt"),
            ("evenkeel loadtest --duration 0s", "too short"),
            ("evenkeel loadtest --rate 0", "above 0"),
            ("evenkeel loadtest --rate inf", "above 0"),
            ("evenkeel loadtest --method G@T", "not a valid method"),
            ("evenkeel loadtest --body-size 2GiB", "up to 1GiB"),
        ] {
            let said = parsed(line).unwrap_err();
            assert!(said.contains(advice), "{line}: {said}");
        }
    }
}
