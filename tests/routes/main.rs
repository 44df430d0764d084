//! What routes and guards do with requests.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a panic is how a test fails; tests read the clock for their deadlines"
)]

#[path = "../support/mod.rs"]
mod support;

mod guards;
mod routing;
mod sticky;
