//! What the documents show, run.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a panic is how a test fails; tests read the clock for their deadlines"
)]

#[path = "../support/mod.rs"]
mod support;

mod commands;
mod configurations;
