//! `evenkeel server`: a sample server in a terminal of its own.

use super::admin::{Client, Place};
use super::{Failure, duration_or_zero, failed, find, logger};
use crate::sample;
use crate::state::config::{self, Config};
use clap::Args;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

pub(super) const LONG_ABOUT: &str = "\
Run a sample server that registers itself with the balancer.

It has a bounded request queue that its own threads process:
  POST /requests       queues a request; 200 with JSON when it is done, 503 when
                       the queue is full
  POST /queue/status   the queue as JSON (GET works too)
  GET  /health         200
  anything else        200 with what was received, as JSON

It finds the balancer through the same configuration, by its Unix socket or by
admin.bind, keeps trying while the balancer is not running, and removes itself
from it on ctrl-C. It never registers with a balancer of another configuration,
unless --admin selects it.";

pub(super) const AFTER_HELP: &str = "\
Examples:
  evenkeel server 9001
  evenkeel server 9002 --name slow --delay 200ms
  evenkeel server 9003 --fail-rate 0.1 --queue-capacity 10";

/// The arguments of `evenkeel server`.
#[derive(Clone, Debug, Args)]
pub struct Arguments {
    /// The port to listen on; 0 lets the operating system choose
    #[arg(value_parser = port)]
    pub port: u16,
    /// The address to listen on
    #[arg(long, default_value = "127.0.0.1", value_name = "ADDRESS")]
    pub bind: IpAddr,
    /// Its name in responses and at the balancer [default: server-<PORT>]
    #[arg(long, value_parser = name)]
    pub name: Option<String>,
    /// How long a worker processes one request
    #[arg(long, default_value = "20ms", value_parser = duration_or_zero, value_name = "DURATION")]
    pub delay: Duration,
    /// How much longer or shorter than the delay it may take, at random
    #[arg(long, default_value = "5ms", value_parser = duration_or_zero, value_name = "DURATION")]
    pub jitter: Duration,
    /// Threads that process the queue, 1 to 1000
    #[arg(long, default_value_t = 4, value_parser = count(1, 1000), value_name = "N")]
    pub workers: u32,
    /// Requests that may wait, 1 to 1000000 [default: servers.queue_capacity of the configuration]
    #[arg(long, value_parser = count(1, 1_000_000), value_name = "N")]
    pub queue_capacity: Option<u32>,
    /// The share of requests that get a 500, 0 to 1
    #[arg(long, default_value_t = 0.0, value_parser = share, value_name = "SHARE")]
    pub fail_rate: f64,
    /// Do not register with the balancer
    #[arg(long)]
    pub no_register: bool,
    /// Register with the balancer at this address, whatever its configuration
    #[arg(long, value_name = "ADDRESS|unix:PATH", conflicts_with = "no_register")]
    pub admin: Option<Place>,
}

/// Runs the server until a signal stops it.
pub(super) fn run(arguments: Arguments, file: Option<&Path>) -> Result<u8, Failure> {
    let config = find(file)?;
    let options = options(arguments, &config)?;
    logger::start(config.log.level, config.log.format);
    sample::run(options).map_err(failed)?;
    Ok(0)
}

fn options(arguments: Arguments, config: &Config) -> Result<sample::Options, Failure> {
    let api = |named| Client::of(config, named).map(|client| Arc::new(client) as Arc<dyn sample::AdminApi>);
    let register = match arguments.no_register {
        true => None,
        false => Some(api(arguments.admin.as_ref())?),
    };
    let capacity = arguments.queue_capacity.map(|capacity| capacity as usize);
    Ok(sample::Options {
        name: arguments.name,
        port: arguments.port,
        bind: arguments.bind,
        delay: arguments.delay,
        jitter: arguments.jitter,
        workers: arguments.workers as usize,
        queue_capacity: capacity.unwrap_or(config.servers.queue_capacity),
        fail_rate: arguments.fail_rate,
        register,
    })
}

fn name(text: &str) -> Result<String, String> {
    config::check_name(text).map(|()| text.to_owned())
}

fn port(text: &str) -> Result<u16, String> {
    text.parse().map_err(|_| "this is not a port; write 0 to 65535, such as 9001".to_owned())
}

fn share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| "this is not a share; write 0 to 1, such as 0.1".to_owned())
}

fn count(low: i64, high: i64) -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(low..=high)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn parsed(line: &str) -> Result<sample::Options, String> {
        let arguments =
            super::super::Arguments::try_parse_from(line.split(' ')).map_err(|error| error.to_string())?;
        let Some(super::super::Command::Server(arguments)) = arguments.command else { panic!("{line}") };
        let text =
            r#"{"servers":{"queue_capacity":7},"admin":{"bind":"0.0.0.0:1","token":"0123456789abcdef"}}"#;
        options(arguments, &config::parse(text, Path::new("")).unwrap())
            .map_err(|failure| format!("{failure:?}"))
    }

    #[test]
    fn what_is_not_said_comes_from_the_configuration() {
        let options = parsed("evenkeel server 9001").unwrap();
        assert_eq!((options.port, options.queue_capacity, options.workers), (9001, 7, 4));
        assert_eq!((options.delay, options.jitter), (Duration::from_millis(20), Duration::from_millis(5)));
        let register = format!("{:?}", options.register.unwrap());
        assert!(register.contains("127.0.0.1:1") && register.contains("0123456789abcdef"), "{register}");
    }

    #[test]
    fn what_is_said_counts() {
        let line = "evenkeel server 0 --name a --delay 0ms --workers 2 --queue-capacity 3 --fail-rate 0.5 --no-register";
        let options = parsed(line).unwrap();
        assert_eq!((options.name.as_deref(), options.delay), (Some("a"), Duration::ZERO));
        assert_eq!((options.workers, options.queue_capacity, options.fail_rate), (2, 3, 0.5));
        assert!(options.register.is_none());
    }

    #[test]
    fn what_is_out_of_bounds_is_reported() {
        for (line, advice) in [
            ("evenkeel server", "<PORT>"),
            ("evenkeel server 70000", "0 to 65535"),
            ("evenkeel server :9001", "0 to 65535"),
            ("evenkeel server 1 --workers 0", "1..=1000"),
            ("evenkeel server 1 --fail-rate 2", "0 to 1"),
            ("evenkeel server 1 --fail-rate NaN", "0 to 1"),
            ("evenkeel server 1 --delay 5", "20ms"),
            ("evenkeel server 1 --name a/b", "without spaces"),
        ] {
            let said = parsed(line).unwrap_err();
            assert!(said.contains(advice), "{line}: {said}");
        }
    }
}
