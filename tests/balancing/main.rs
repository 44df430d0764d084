//! Which server gets a request, and how servers leave and come back.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a panic is how a test fails; tests read the clock for their deadlines"
)]

#[path = "../support/mod.rs"]
mod support;

mod agents;
mod explain;
mod fail_open;
mod hedging;
mod orca;
mod probes;
mod queue;
mod slow_start;
mod spread;
