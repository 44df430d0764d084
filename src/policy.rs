//! Floor 1: decisions. Values in, values out: time, chance and load are arguments, so that every rule runs
//! under virtual time in tests and in the simulation.
//!
//! - [`admit`]: is a queued request still worth serving? [`pick`]: which server gets it? [`retry`]: what if
//!   that fails?
//! - [`linger`], [`company`]: does the worker stay on the socket, on several? [`watch`]: how many wait at the poller?
//!   [`rest`]: for how long not, after that had to end? [`crew`]: how many workers should there be?
//! - [`eviction`]: when are idle clients looked for, to make room?
//! - [`health`]: which servers are in use? [`outlier`]: which one fails far more than the others?
//!   [`latency`], [`failures`], [`silence`]: what is remembered of their speed, their errors, and of requests without a
//!   response.
//!   [`lookup`]: which of their names are looked up when?

pub mod admit;
pub mod company;
pub mod crew;
pub mod eviction;
pub mod failures;
pub mod health;
pub mod latency;
pub mod linger;
pub mod lookup;
pub mod outlier;
pub mod pick;
pub mod rest;
pub mod retry;
pub mod silence;
pub mod watch;
