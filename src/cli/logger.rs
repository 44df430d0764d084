//! The log of the process: lines with time, level and message on the error output.

use log::LevelFilter;
use std::io::Write;

/// Starts the logger; once in a process. `RUST_LOG` overrides the level, and with it the modules.
pub(super) fn start(level: LevelFilter) {
    let mut builder = env_logger::Builder::new();
    match std::env::var("RUST_LOG") {
        Ok(filters) if !filters.is_empty() => builder.parse_filters(&filters),
        // Other crates are heard only when something is wrong.
        _ => builder
            .filter_level(level.min(LevelFilter::Warn))
            .filter_module("evenkeel", level)
            // It calls its own orderly end an error.
            .filter_module("tiny_http", LevelFilter::Off),
    };
    builder.format(|out, record| {
        let style = out.default_level_style(record.level());
        let (time, level, message) = (out.timestamp_millis(), record.level(), record.args());
        writeln!(out, "{time} {style}{level:<5}{style:#} {message}")
    });
    // It fails when there is a logger already, which then serves as well.
    let _ = builder.try_init();
}
