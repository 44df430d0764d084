//! Layer 1: decisions. Values in, values out. Time, randomness and load are arguments, so every rule runs under virtual
//! time in tests and in the simulation.
//!
//! - [`admit`]: is a request that waited still worth serving? [`pick`]: which server gets it? [`retry`]: what if that
//!   fails?
//! - [`route`]: which rule of the configuration does a request match?
//! - [`pool`]: how many workers should there be?
//! - [`health`]: which servers are in use? [`outlier`]: which one fails far more than the others? [`slow`]: which one is far
//!   slower? [`fail_open`]: which are used all the same where too few are left?
//!   [`latency`], [`outcomes`], [`silence`], [`report`], [`utilization`]: what is recorded of their speed, their errors, of
//!   requests without a response, and of what they say ([`orca`], [`agent`]). [`lookup`]: which of their names are looked up, and when?
//!   [`limit`]: how many requests at once can one use? [`overload`]: has one more than it responds to in time?
//! - [`rate`]: does a request pass a rate limit? [`key`]: what limits count by ([`recent`]: the keys that are remembered).
//!   [`concurrency`]: does it pass a limit of requests at once? [`networks`]: is its client on a list?
//!   [`password`]: is it from a user?
//! - [`session`]: which server does a client's cookie name?
//! - [`drain`]: when is a long-lived stream told that it ends?

pub mod admit;
pub mod agent;
pub mod backlog;
pub mod concurrency;
pub mod drain;
pub mod fail_open;
pub mod health;
pub mod hedge;
pub mod key;
pub mod latency;
pub mod limit;
pub mod lookup;
pub mod members;
pub mod networks;
pub mod orca;
pub mod outcomes;
pub mod outlier;
pub mod overload;
pub mod password;
pub mod pick;
pub mod pool;
pub mod rate;
pub mod recent;
pub mod rendezvous;
pub mod report;
pub mod retry;
pub mod route;
pub mod session;
pub mod silence;
pub mod slow;
pub mod slow_start;
pub mod statuses;
pub mod tiers;
pub mod utilization;
