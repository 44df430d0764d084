//! The commands: arguments in, an exit code out. Mistakes of an operator end in readable sentences, never in a
//! backtrace.

pub mod admin;
pub mod changes;
pub mod check;
mod columns;
pub mod explain;
pub mod generate;
mod habits;
pub mod healthcheck;
pub mod loadtest;
mod logger;
mod processes;
pub mod reload;
pub mod run;
pub mod server;
pub mod simulate;
pub mod status;
pub mod top;
pub mod upgrade;
mod view;

use crate::app;
use crate::base::{limits, output, program};
use crate::state::config::{self, Config, FILE, Fault, LogFormat};
use clap::{ArgAction, Args, Parser, Subcommand};
use columns::WIDTH;
use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What stands for the standard input in the place of a file.
const STDIN: &str = "-";

const ABOUT: &str = "A layer 7 (HTTP/1.1) load balancer on blocking OS threads";

const LONG_ABOUT: &str = "\
Evenkeel is a layer 7 (HTTP/1.1) load balancer on blocking OS threads.

It accepts requests, in clear text or over TLS, and distributes them over your
servers, by host and path if there are routes. It checks the servers, takes out
those that are down, and starts and stops its own workers as the load changes.

Without a command it runs the balancer with ./config.json, or with the defaults
when there is no such file: port 8000, admin API on 127.0.0.1:9301.";

const AFTER_HELP: &str = "\
First steps:
  evenkeel demo              a balancer and three servers, to try it
  evenkeel                   the balancer, in one terminal
  evenkeel server 9001       a sample server, in the next
  curl -X POST http://localhost:8000/requests
                             a request through the balancer
  evenkeel loadtest          many requests
  evenkeel status            workers, servers and totals
  evenkeel top               the same, live
  evenkeel explain           why requests went where they went
  evenkeel run --listen :8080 --to 127.0.0.1:9001 --to 127.0.0.1:9002
                             a balancer without a configuration file

Exit codes:
  0  done
  1  it failed while running;
     for check: something on this machine prevents a start;
     for healthcheck: the balancer does not serve requests;
     for loadtest: a response was missing, or was not 2xx or 3xx
  2  the command line is wrong
  3  the configuration is not valid

Environment:
  RUST_LOG  takes precedence over log.level of the configuration
            (error, warn, info, debug, trace)";

/// The command line.
#[derive(Debug, Parser)]
#[command(name = "evenkeel", version, about = ABOUT, long_about = LONG_ABOUT, after_help = AFTER_HELP, max_term_width = WIDTH)]
pub struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    /// The configuration file, or - for standard input [default: ./config.json if it is there, else the defaults]
    #[arg(short, long, global = true, value_name = "FILE", display_order = 900)]
    config: Option<PathBuf>,
    /// Check the configuration and exit, as the command check does
    #[arg(short = 't', long = "test", value_name = "FILE", num_args = 0..=1, display_order = 901)]
    test: Option<Option<PathBuf>>,
    /// Print the version, as -V
    #[arg(short = 'v', action = ArgAction::Version, hide = true)]
    small_v: Option<bool>,
}

/// The command; without one, the balancer runs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the balancer (the default command)
    ///
    /// Runs until SIGTERM, SIGINT (ctrl-C) or SIGQUIT: then new connections are refused and requests
    /// in flight are finished, for as long as timeouts.drain says. A second signal, a second or more
    /// later, stops at once.
    #[command(after_help = run::AFTER_HELP)]
    Run(run::Arguments),
    /// Run a balancer and three sample servers, for a first try
    ///
    /// All four are in one process. The balancer listens on 127.0.0.1:8000; one of the servers is slow. It prints
    /// commands to try next and stops on ctrl-C. It has its own configuration.
    Demo,
    /// Run a sample server that registers itself with the balancer
    #[command(long_about = server::LONG_ABOUT, after_help = server::AFTER_HELP)]
    Server(server::Arguments),
    /// Send many requests and measure the responses
    #[command(long_about = loadtest::LONG_ABOUT, after_help = loadtest::AFTER_HELP)]
    Loadtest(loadtest::Arguments),
    /// Simulate how a configuration distributes requests
    #[command(long_about = simulate::LONG_ABOUT, after_help = simulate::AFTER_HELP)]
    Simulate(simulate::Arguments),
    /// Check a configuration, and whether the balancer can start with it here
    ///
    /// Prints a summary, or every fault at once with its position in the file and what to write instead. Exits with 3
    /// when the file has a fault, and with 1 when a port, a folder or an address of this machine prevents a start. A
    /// port in use by the running balancer of the same file does not. With --diff the running balancer is asked what a
    /// reload would change, by key.
    #[command(visible_alias = "validate", alias = "test", after_help = check::AFTER_HELP)]
    Check(check::Arguments),
    /// Print the JSON schema of the configuration, for editors
    ///
    /// Write it to a file, and name that file in the configuration: "$schema": "evenkeel.schema.json".
    Schema,
    /// Ask a running balancer whether it can serve requests, for containers
    ///
    /// Asks /ready through the admin socket or port of the configuration, for 3 s at most. Prints the response.
    #[command(after_help = healthcheck::AFTER_HELP)]
    Healthcheck(healthcheck::Arguments),
    /// Print the completions for a shell
    ///
    /// bash: evenkeel completions bash > /etc/bash_completion.d/evenkeel
    /// zsh:  evenkeel completions zsh > "${fpath[1]}/_evenkeel"
    /// fish: evenkeel completions fish > ~/.config/fish/completions/evenkeel.fish
    #[command(verbatim_doc_comment)]
    Completions {
        /// The shell
        shell: generate::Shell,
    },
    /// Print the manual page, or write one for each command
    Man(generate::Man),
    /// Print the version, as -V
    Version,
    /// Show the workers, servers and totals of a running balancer
    #[command(long_about = status::LONG_ABOUT, after_help = status::AFTER_HELP)]
    Status(status::Arguments),
    /// Watch a running balancer live, and drain its servers
    #[command(long_about = top::LONG_ABOUT, after_help = top::AFTER_HELP)]
    Top(top::Arguments),
    /// Show why requests went where they went
    #[command(long_about = explain::LONG_ABOUT, after_help = explain::AFTER_HELP)]
    Explain(explain::Arguments),
    /// Have a running balancer read its configuration again
    #[command(long_about = reload::LONG_ABOUT, after_help = reload::AFTER_HELP)]
    Reload(reload::Arguments),
    /// Replace the program of a running balancer without losing a connection
    #[command(long_about = upgrade::LONG_ABOUT, after_help = upgrade::AFTER_HELP)]
    Upgrade(upgrade::Arguments),
    /// Work with the configuration of a running balancer
    #[command(subcommand)]
    Config(changes::ConfigCommand),
    /// Work with what the admin API has changed
    #[command(subcommand)]
    State(changes::StateCommand),
}

/// A configuration file that is given without -c.
#[derive(Clone, Debug, Default, Args)]
pub struct File {
    /// The configuration file, as with -c
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
}

impl File {
    /// The file that was given, here or with -c.
    fn or<'f>(&'f self, config: Option<&'f Path>) -> Result<Option<&'f Path>, Failure> {
        match (self.file.as_deref(), config) {
            (Some(one), Some(other)) if one != other => {
                let (one, other) = (one.display(), other.display());
                Err(Failure::Usage(format!("two configuration files are given, {other} and {one}; give one")))
            }
            (named, config) => Ok(named.or(config)),
        }
    }
}

/// Why a command failed.
#[derive(Debug)]
pub enum Failure {
    /// It failed while running; exit code 1.
    Runtime(String),
    /// The arguments are not valid; exit code 2.
    Usage(String),
    /// The configuration is not valid; exit code 3.
    Configuration(Vec<Fault>),
}

/// Runs the command line. Returns the exit code of the process.
pub fn run() -> u8 {
    limits::survive_full_files();
    let code = match Arguments::try_parse() {
        Ok(arguments) => arguments.execute().unwrap_or_else(|failure| failure.report()),
        Err(mut asked) => match habits::message(&asked) {
            Some(message) => Failure::Usage(message).report(),
            None => {
                without_tip_of_values(&mut asked);
                // Help and the version arrive here too, with exit code 0.
                let _ = asked.print();
                suggestion(&asked).into_iter().for_each(print_error);
                asked.exit_code() as u8
            }
        },
    };
    let code = match output::unprinted() {
        // Else a file with a part of the result would pass for a whole one.
        Some(error) if code == 0 => {
            failed(format!("the standard output cannot be written: {error}")).report()
        }
        _ => code,
    };
    logger::end();
    code
}

/// Takes out "to pass '--it' as a value, use '-- --it'": no file has such a name.
fn without_tip_of_values(error: &mut clap::Error) {
    use clap::error::{ContextKind, ContextValue};
    if let Some(ContextValue::StyledStrs(mut tips)) = error.remove(ContextKind::Suggested) {
        tips.retain(|tip| !tip.to_string().contains(" as a value, use "));
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(tips));
    }
}

/// Suggestions that clap cannot make for a wrong command line.
fn suggestion(error: &clap::Error) -> Option<String> {
    use clap::error::{ContextKind, ContextValue, ErrorKind};
    let value = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        _ => None,
    };
    let (unknown, extra) = (value(ContextKind::InvalidSubcommand), value(ContextKind::InvalidArg));
    match (error.kind(), unknown, extra) {
        (ErrorKind::InvalidSubcommand, Some(file), _) if file.contains('.') || file.contains('/') => {
            Some(format!(
                "\n  to run the balancer with this file: {} run -c {}",
                program::name(),
                program::quoted(&file)
            ))
        }
        _ => None,
    }
}

impl Arguments {
    fn execute(self) -> Result<u8, Failure> {
        let file = self.config.as_deref();
        if let Some(named) = self.test {
            let arguments = check::Arguments { file: File { file: named }, ..check::Arguments::default() };
            return check::run(&arguments, arguments.file.or(file)?);
        }
        match self.command.unwrap_or(Command::Run(run::Arguments::default())) {
            Command::Run(arguments) => run::run(&arguments, file),
            Command::Demo => demo(file),
            Command::Server(arguments) => server::run(arguments, file),
            Command::Loadtest(arguments) => loadtest::run(arguments, file),
            Command::Simulate(arguments) => simulate::run(&arguments, file),
            Command::Check(arguments) => check::run(&arguments, arguments.file.or(file)?),
            Command::Healthcheck(arguments) => healthcheck::run(&arguments, arguments.file.or(file)?),
            Command::Completions { shell } => generate::completions(shell),
            Command::Man(arguments) => generate::man(&arguments),
            Command::Version => {
                say(format_args!("evenkeel {}", env!("CARGO_PKG_VERSION")));
                Ok(0)
            }
            Command::Schema => {
                say(config::SCHEMA.trim_end());
                Ok(0)
            }
            Command::Status(arguments) => status::run(&arguments, arguments.file.or(file)?),
            Command::Top(arguments) => top::run(&arguments, arguments.file.or(file)?),
            Command::Explain(arguments) => explain::run(&arguments, arguments.file.or(file)?),
            Command::Reload(arguments) => reload::run(&arguments, arguments.file.or(file)?),
            Command::Upgrade(arguments) => upgrade::run(&arguments, arguments.file.or(file)?),
            Command::Config(command) => changes::config(&command, file),
            Command::State(command) => changes::state(&command, file),
        }
    }
}

impl Failure {
    /// Reports the failure, and returns the exit code.
    fn report(self) -> u8 {
        match self {
            Failure::Runtime(reason) => {
                print_error(format_args!("evenkeel: {reason}"));
                1
            }
            Failure::Usage(reason) => {
                app::upgrade::failed(&reason);
                print_error(format_args!("error: {reason}\n\nFor more information, try '--help'."));
                2
            }
            Failure::Configuration(faults) => {
                app::upgrade::failed("the configuration is not valid; its log has the faults");
                print_error(check::told(&faults));
                3
            }
        }
    }
}

fn demo(file: Option<&Path>) -> Result<u8, Failure> {
    if file.is_some() {
        return Err(Failure::Usage("the demo brings its own configuration; leave --config out".to_owned()));
    }
    logger::start(log::LevelFilter::Info, LogFormat::Text);
    app::demo().map_err(failed)?;
    Ok(0)
}

/// The configuration: from the file that was given, the one in this folder, or the defaults.
fn find(named: Option<&Path>) -> Result<Config, Failure> {
    let here = Path::new(FILE);
    match named {
        Some(file) if file == Path::new(STDIN) => {
            config::load_from(std::io::stdin().lock(), "standard input").map_err(Failure::Configuration)
        }
        Some(file) => config::load(file).map_err(Failure::Configuration),
        // A dangling link counts as a file: the operator meant one to be there.
        None if here.symlink_metadata().is_ok() => config::load(here).map_err(Failure::Configuration),
        None => Ok(Config::default()),
    }
}

/// The running balancer of a configuration. A file that is not valid any more hides no balancer that runs with it.
fn running(which: &admin::Which, file: Option<&Path>) -> Result<admin::Client, Failure> {
    let named = which.admin.as_ref();
    match find(file) {
        Ok(config) => admin::Client::of(&config, named),
        Err(Failure::Configuration(faults)) => {
            admin::Client::despite_faults(file.unwrap_or(Path::new(FILE)), named)
                .ok_or(Failure::Configuration(faults))
        }
        Err(failure) => Err(failure),
    }
}

/// The address at which a listener can be reached from this machine: the unspecified address is not a destination.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// A duration of the command line, above zero.
fn duration(text: &str) -> Result<Duration, String> {
    duration_or_zero(text).and_then(|duration| {
        if duration.is_zero() {
            Err("this is too short; write \"1ms\" or more".to_owned())
        } else {
            Ok(duration)
        }
    })
}

/// A duration of the command line, up to a day.
fn duration_or_zero(text: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text).ok();
    let duration = duration.ok_or("this is not a valid duration; write one such as 20ms, 10s or 1m")?;
    if duration > Duration::from_secs(24 * 3600) {
        return Err("this is too long; write 24h or less".to_owned());
    }
    Ok(duration)
}

fn failed(reason: impl Display) -> Failure {
    Failure::Runtime(reason.to_string())
}

/// Prints a line. A reader that has gone (`| head`) is no reason to panic, as `println!` would.
fn say(line: impl Display) {
    output::print(format!("{line}\n").as_bytes());
}

/// The same on the error output, whose reader may be stuck: that must not prevent the end of the process.
fn print_error(line: impl Display) {
    output::error().tell(format!("{line}\n").into_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }

    /// Every command, with its names in front.
    fn commands(command: &clap::Command, path: &str) -> Vec<(String, clap::Command)> {
        let name = format!("{path} {}", command.get_name());
        let below = command.get_subcommands().filter(|below| below.get_name() != "help");
        let below: Vec<_> = below.flat_map(|below| commands(below, &name)).collect();
        std::iter::once((name, command.clone())).chain(below).collect()
    }

    #[test]
    fn help_fits_into_a_terminal() {
        let mut all = Arguments::command();
        all.build();
        let all = commands(&all, "");
        assert!(all.len() > 20, "{}", all.len());
        for (name, mut command) in all {
            for help in [command.render_help(), command.render_long_help()] {
                for line in help.to_string().lines() {
                    assert!(line.chars().count() <= WIDTH, "{name}: {line}");
                }
            }
        }
    }

    #[test]
    fn commands_that_scripts_use_tell_their_exit_codes() {
        for name in ["check", "status", "explain", "reload", "upgrade", "healthcheck"] {
            let help = Arguments::command().find_subcommand_mut(name).unwrap().render_help().to_string();
            assert!(help.contains("Exit codes:\n  0  "), "{name}: {help}");
        }
    }

    #[test]
    fn a_listener_on_every_address_is_reached_over_loopback() {
        for (listener, destination) in
            [("0.0.0.0:80", "127.0.0.1:80"), ("[::]:80", "[::1]:80"), ("10.0.0.1:80", "10.0.0.1:80")]
        {
            assert_eq!(reachable(listener.parse().unwrap()).to_string(), destination);
        }
    }

    #[test]
    fn durations_are_bounded() {
        for (text, ms) in
            [("20ms", Some(20)), ("1m", Some(60_000)), ("0s", None), ("2days", None), ("5", None)]
        {
            assert_eq!(duration(text).ok(), ms.map(Duration::from_millis), "{text}");
        }
        assert_eq!(duration_or_zero("0s"), Ok(Duration::ZERO));
    }

    #[test]
    fn run_is_the_default_and_the_file_may_stand_anywhere() {
        for line in
            [&["evenkeel", "-c", "x"][..], &["evenkeel", "run", "-c", "x"], &["evenkeel", "-c", "x", "check"]]
        {
            let arguments = Arguments::try_parse_from(line).unwrap();
            assert_eq!(arguments.config.as_deref(), Some(Path::new("x")), "{line:?}");
        }
        let (x, y) = (Some(Path::new("x")), Some(Path::new("y")));
        let named = File { file: x.map(Path::to_owned) };
        assert_eq!(named.or(None).unwrap(), x);
        assert_eq!(named.or(x).unwrap(), x);
        assert!(matches!(named.or(y), Err(Failure::Usage(_))));
        assert_eq!(File::default().or(y).unwrap(), y);
        assert!(Arguments::try_parse_from(["evenkeel"]).unwrap().command.is_none());
    }
}
