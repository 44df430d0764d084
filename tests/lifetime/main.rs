//! Start, reload, upgrade, drain and stop, and what is kept.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a panic is how a test fails; tests read the clock for their deadlines"
)]

#[path = "../support/mod.rs"]
mod support;

mod drain;
mod instance;
mod reload_files;
mod reloading;
mod run;
mod state;
mod stop;
mod upgrade;
