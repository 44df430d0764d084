//! The log of the process: lines with time, level and message on the error output. env_logger filters and formats them;
//! [`output`] writes them, so that a stuck reader blocks no thread. For the systemd journal, which has a clock of its own, lines
//! begin with their level as sd-daemon(3) has it.

use crate::base::output;
use crate::base::time;
use crate::state::config::LogFormat;
use env_logger::{Target, WriteStyle};
use log::{Level, LevelFilter};
use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{self, IsTerminal, Write};
use std::panic::PanicHookInfo;
use std::thread;
use std::time::Duration;

/// How long the end of the process waits for the last lines: a working reader takes them at once.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);
/// More memory than the trace of a panic takes, most of it for the names in the binary.
const TRACE_BYTES: usize = 16 << 20;

/// Starts the logger; once per process. `RUST_LOG` overrides the level and the module filters.
pub(super) fn start(level: LevelFilter, format: LogFormat) {
    let mut builder = env_logger::Builder::new();
    match std::env::var("RUST_LOG") {
        Ok(filters) if !filters.is_empty() => builder.parse_filters(&filters),
        // Other crates log only warnings and errors.
        _ => builder
            .filter_level(level.min(LevelFilter::Warn))
            // The level itself is the one of the `log` crate, which a reload can change.
            .filter_module("evenkeel", LevelFilter::Trace)
            // tiny_http logs its own orderly end as an error.
            .filter_module("tiny_http", LevelFilter::Off),
    };
    let is_journal = is_journal();
    builder.format(move |out, record| {
        let (level, message) = (record.level(), record.args().to_string());
        if is_journal {
            write!(out, "<{}>", priority(level))?;
        }
        match format {
            LogFormat::Json => writeln!(out, "{}", as_json(level, &message)),
            LogFormat::Text if is_journal => writeln!(out, "{}", one_line(&message)),
            LogFormat::Text => {
                let (style, time) = (out.default_level_style(level), time());
                writeln!(out, "{time} {style}{level:<5}{style:#} {}", one_line(&message))
            }
        }
    });
    builder.target(Target::Pipe(Box::new(Lines))).write_style(style());
    // It fails when there is a logger already, which then serves just as well.
    let _ = builder.try_init();
    if std::env::var_os("RUST_LOG").is_none_or(|filters| filters.is_empty()) {
        log::set_max_level(level);
    }
    std::panic::set_hook(Box::new(panicked));
}

/// Before the process ends: gives the last lines some time to be read.
pub(super) fn end() {
    let begun = time::now();
    output::error().flush(FLUSH_TIMEOUT);
    output::standard().flush(FLUSH_TIMEOUT.saturating_sub(time::now().since(begun)));
}

fn time() -> humantime::Rfc3339Timestamp {
    humantime::format_rfc3339_millis(time::wall())
}

/// Whether the error output is the systemd journal: it says which file that is (systemd.exec(5)).
fn is_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    let Ok(file) = rustix::fs::fstat(rustix::stdio::stderr()) else { return false };
    stream == format!("{}:{}", file.st_dev, file.st_ino)
}

/// As syslog numbers levels.
fn priority(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}

/// An object, on one line whatever the message has.
fn as_json(level: Level, message: &str) -> serde_json::Value {
    let level = level.as_str().to_ascii_lowercase();
    serde_json::json!({ "time": time().to_string(), "level": level, "message": message })
}

/// Each line of env_logger arrives in one piece.
struct Lines;

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        output::error().tell(line.to_vec());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Colours for a terminal. env_logger checks for one only where it writes by itself.
fn style() -> WriteStyle {
    let declined = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let is_dumb = std::env::var_os("TERM").is_none_or(|terminal| terminal == "dumb");
    let colours = io::stderr().is_terminal() && !declined && !is_dumb;
    if colours { WriteStyle::Always } else { WriteStyle::Never }
}

/// A message stays one line, whatever a peer or a library put into it.
fn one_line(message: &str) -> String {
    let mut line = String::with_capacity(message.len());
    for char in message.chars() {
        if char.is_control() { line.extend(char.escape_default()) } else { line.push(char) }
    }
    line
}

/// Panics are written to the log: the standard library's own message would wait for the reader.
fn panicked(panic: &PanicHookInfo<'_>) {
    let thread = thread::current();
    let name = thread.name().unwrap_or("unnamed");
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    let payload = panic.payload();
    let message = payload.downcast_ref::<&str>().copied();
    let message = message.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    let message = message.unwrap_or("no message");
    log::error!("thread {name} panicked at {place}: {message}");
    // Without memory a trace fails under the lock for traces, and the report of that failure waits for the lock for ever.
    if Vec::<u8>::new().try_reserve(TRACE_BYTES).is_err() {
        return;
    }
    let trace = Backtrace::capture();
    if trace.status() == BacktraceStatus::Captured {
        trace.to_string().lines().for_each(|line| log::error!("{line}"));
    }
    if name == "main" {
        end();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_has_the_message_as_it_is() {
        let line = as_json(Level::Warn, "a \"b\"\n\u{1b}c").to_string();
        assert_eq!(line.lines().count(), 1);
        let read: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!((&read["level"], &read["message"]), (&"warn".into(), &"a \"b\"\n\u{1b}c".into()));
    }

    #[test]
    fn a_message_stays_one_line() {
        for (message, expected) in [
            ("plain, é and \"quotes\"", "plain, é and \"quotes\""),
            ("a\n2026-01-01T00:00:00Z INFO  forged", "a\\n2026-01-01T00:00:00Z INFO  forged"),
            ("\u{1b}[2J\r\t\u{85}", "\\u{1b}[2J\\r\\t\\u{85}"),
        ] {
            assert_eq!(one_line(message), expected);
        }
    }
}
