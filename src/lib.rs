//! Evenkeel: a layer 7 (HTTP/1.1) load balancer on blocking OS threads.
//!
//! The house has floors, and nothing points up:
//!
//! ```text
//! main -> app -> {data | control} -> state -> {policy | http1} -> base
//! ```
//!
//! - [`base`]: the clock, chance, ids, and the one room of `unsafe`.
//! - [`http1`]: the codec without IO. [`policy`]: decisions, values in and values out.
//! - [`state`]: what threads share; no sockets, no waiting.
//! - [`front`]: what stands before tiny_http, for the admin API and the sample server.
//! - [`data`]: the life of a request, a file a step. [`control`]: the agents that change what it sees.
//! - [`app`]: builds the parts, starts and joins the threads; alone sees both planes.
//! - [`cli`]: the commands. [`sample`] and [`loadtest`] stand beside the balancer.
//!
//! `docs/architecture.md` tells the whole story; `tests/floors.rs` reads the imports and fails when a
//! floor is broken.

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
