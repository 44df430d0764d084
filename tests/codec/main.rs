//! The codec against a saved corpus, and properties of it for any bytes.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a panic is how a test fails; tests read the clock for their deadlines"
)]

mod checks;
mod corpus;
mod properties;
