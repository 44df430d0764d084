//! `evenkeel loadtest`: sends many requests and measures the responses.

use super::{Failure, duration, failed, find, logger, reachable};
use crate::loadtest;
use crate::state::config::{self, Config};
use clap::Args;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

/// How long a test lasts when neither a duration nor a number of requests is given.
const DURATION: Duration = Duration::from_secs(10);
/// The largest body, in bytes.
const BODY_MAX: u64 = 1024 * 1024 * 1024;

pub(super) const LONG_ABOUT: &str = "\
Send many requests and measure the responses.

Without --rate each connection sends its next request when it has the response to the last
(closed loop). With --rate requests are sent at a fixed rate, and latency counts from the
moment a request was meant to be sent (open loop), so that queueing delays are included.

Prints requests/s, bytes/s, statuses, errors, latencies (p50, p90, p99, p99.9, max) and how
the responses are distributed over the servers.";

pub(super) const AFTER_HELP: &str = "\
Examples:
  evenkeel loadtest
  evenkeel loadtest --connections 100 --duration 30s
  evenkeel loadtest http://localhost:8000/ --method GET --requests 100000
  evenkeel loadtest --rate 100 --json";

/// The arguments of `evenkeel loadtest`.
#[derive(Clone, Debug, Args)]
pub struct Arguments {
    /// Where to send requests [default: /requests on the port of the configuration]
    #[arg(value_parser = url)]
    pub url: Option<String>,
    /// Connections at a time, 1 to 100000
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000), value_name = "N")]
    pub connections: u32,
    /// How long to send requests [default: 10s]
    #[arg(short, long, value_parser = duration, conflicts_with = "requests", value_name = "DURATION")]
    pub duration: Option<Duration>,
    /// How many requests to send, instead of a duration
    #[arg(short = 'n', long, value_parser = clap::value_parser!(u64).range(1..), value_name = "N")]
    pub requests: Option<u64>,
    /// Requests per second [default: as many as possible]
    #[arg(long, value_parser = rate, value_name = "R")]
    pub rate: Option<f64>,
    /// The method of the requests
    #[arg(long, default_value = "POST", value_parser = method)]
    pub method: String,
    /// Bytes of each request's body, such as 512 or 16KiB, up to 1GiB
    #[arg(long, default_value = "0", value_parser = size, value_name = "SIZE")]
    pub body_size: usize,
    /// An additional header, as in -H "Accept: text/html"; may be given several times
    #[arg(short = 'H', long = "header", value_parser = header, value_name = "NAME: VALUE")]
    pub headers: Vec<(String, String)>,
    /// Open a new connection for each request
    #[arg(long)]
    pub no_keep_alive: bool,
    /// Print the result as JSON
    #[arg(long)]
    pub json: bool,
    /// Threads that send, 1 to 1024 [default: depends on the machine]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1024), value_name = "N")]
    pub threads: Option<u32>,
    /// The maximum time for one response
    #[arg(long, default_value = "30s", value_parser = duration, value_name = "DURATION")]
    pub timeout: Duration,
}

/// Runs the test; the exit code is the load generator's.
pub(super) fn run(arguments: Arguments, file: Option<&Path>) -> Result<u8, Failure> {
    meant_connections(file)?;
    let config = find(file)?;
    logger::start(log::LevelFilter::Warn);
    loadtest::run(options(arguments, &config)).map_err(failed)
}

/// In ab, wrk and hey -c is the number of connections; here it is the configuration, as in every command.
fn meant_connections(file: Option<&Path>) -> Result<(), Failure> {
    let number = file.and_then(Path::to_str).filter(|text| text.parse::<u32>().is_ok());
    match number.filter(|number| !Path::new(number).exists()) {
        Some(number) => Err(Failure::Usage(format!(
            "-c names the configuration file; for {number} connections write --connections {number}"
        ))),
        None => Ok(()),
    }
}

fn options(arguments: Arguments, config: &Config) -> loadtest::Options {
    let mut in_clear = config.listen.listeners.iter().filter(|listener| listener.tls.is_none());
    let address = in_clear.find_map(|listener| listener.place.address());
    let address = address.unwrap_or(SocketAddr::from((Ipv4Addr::LOCALHOST, 8000)));
    let url = arguments.url.unwrap_or_else(|| format!("http://{}/requests", reachable(address)));
    let default = if arguments.requests.is_none() { Some(DURATION) } else { None };
    loadtest::Options {
        url,
        connections: arguments.connections as usize,
        duration: arguments.duration.or(default),
        requests: arguments.requests,
        rate: arguments.rate,
        method: arguments.method,
        body_size: arguments.body_size,
        headers: arguments.headers,
        keep_alive: !arguments.no_keep_alive,
        quiet: false,
        json: arguments.json,
        threads: arguments.threads.map(|threads| threads as usize),
        timeout: arguments.timeout,
        warm_up: Duration::ZERO,
    }
}

/// A URL; `http://` is optional.
fn url(text: &str) -> Result<String, String> {
    let advice = "write one such as http://localhost:8000/requests";
    let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
    if !scheme.eq_ignore_ascii_case("http") {
        return Err(format!("only http is supported, not {scheme}; {advice}"));
    }
    if rest.is_empty() || rest.starts_with('/') {
        return Err(format!("this has no host; {advice}"));
    }
    Ok(format!("http://{rest}"))
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
        Ok(options(arguments, &Config::default()))
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
    fn a_number_of_connections_is_not_taken_for_a_file() {
        assert!(matches!(meant_connections(Some(Path::new("100"))), Err(Failure::Usage(_))));
        assert!(meant_connections(Some(Path::new("100.json"))).is_ok());
        assert!(meant_connections(None).is_ok());
        let options = parsed("evenkeel loadtest -n 5").unwrap();
        assert_eq!((options.requests, options.duration), (Some(5), None));
        assert_eq!(parsed("evenkeel loadtest -d 2s").unwrap().duration, Some(Duration::from_secs(2)));
    }

    #[test]
    fn what_is_out_of_bounds_is_reported() {
        for (line, advice) in [
            ("evenkeel loadtest https://a/", "only http"),
            ("evenkeel loadtest http://", "no host"),
            ("evenkeel loadtest --connections 0", "1..=100000"),
            ("evenkeel loadtest --duration 1s --requests 5", "cannot be used with"),
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
