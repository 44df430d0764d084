//! The conformance suite: what a proxy gets to see from both sides, and what must hold then. The cases are data,
//! and know nothing of the proxy: they are run against Evenkeel as a test, and against others as a bench.
//!
//! What must hold comes from RFC 9110 and RFC 9112, and from what public test suites ask. Where a proxy may
//! choose, every choice that does no harm is accepted.

#![allow(
    dead_code,
    unused_imports,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::type_complexity,
    clippy::disallowed_methods,
    reason = "two programs use a part each; a panic is how a test fails; tests read the clock for their deadlines"
)]

pub mod case;
pub mod evenkeel;
pub mod observe;
pub mod rule;
pub mod run;
pub mod strict;

mod bodies;
mod bodiless;
mod broken;
mod chunked;
mod connections;
mod early;
mod expect;
mod fields;
mod framing;
mod hops;
mod http10;
mod limits;
mod lines;
mod obfuscated;
mod responses;
mod retries;
mod target;
mod timeouts;
mod trailers;
mod upgrade;

pub use case::{Area, Case, Level, Setup};

/// All cases, in the order of the tables.
pub fn all() -> Vec<Case> {
    let groups = [
        lines::cases(),
        target::cases(),
        fields::cases(),
        framing::cases(),
        obfuscated::cases(),
        bodies::cases(),
        chunked::cases(),
        trailers::cases(),
        hops::cases(),
        expect::cases(),
        early::cases(),
        responses::cases(),
        broken::cases(),
        bodiless::cases(),
        upgrade::cases(),
        connections::cases(),
        retries::cases(),
        http10::cases(),
        limits::cases(),
        timeouts::cases(),
    ];
    groups.into_iter().flatten().collect()
}
