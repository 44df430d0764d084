//! What operators see: logs, metrics, traces, the dashboard, the terminal.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a panic is how a test fails; tests read the clock for their deadlines"
)]

#[path = "../support/mod.rs"]
mod support;

mod access_log;
mod counting;
mod dashboard;
mod logging;
mod terminal;
mod tracing;
