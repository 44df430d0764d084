//! Evenkeel: a layer 7 (HTTP/1.1) load balancer on blocking OS threads.
//!
//! The code has layers, and nothing refers to a higher layer:
//!
//! ```text
//! main -> app -> {data | control} -> state -> {policy | http1} -> base
//! ```
//!
//! - [`base`]: the clock, random numbers, ids, and the only module with `unsafe`.
//! - [`http1`]: the codec without IO. [`policy`]: decisions, values in and values out.
//! - [`state`]: what threads share; no sockets, no waiting.
//! - [`front`]: the HTTP front of tiny_http, for the admin API and the sample server.
//! - [`data`]: the life of a request, one file per step. [`control`]: the agents that change what it sees.
//! - [`app`]: builds the parts, starts and joins the threads; the only layer that uses both planes.
//! - [`cli`]: the commands. [`sample`] and [`loadtest`] are independent of the balancer.
//!
//! `docs/architecture.md` has the details; `tests/layers.rs` reads the imports and fails when a layer is violated.

pub mod app;
pub mod base;
pub mod cli;
pub mod control;
pub mod data;
pub mod front;
pub mod http1;
pub mod loadtest;
pub mod policy;
pub mod sample;
pub mod state;
