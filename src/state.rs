//! Layer 2: state that threads share. No sockets, no waiting.

pub mod access;
pub mod address;
pub mod addresses;
pub mod changes;
pub mod choose;
pub mod config;
pub mod events;
pub mod guard;
pub mod histogram;
pub mod history;
pub mod instance;
pub mod listener;
pub mod live;
pub mod merge;
pub mod own;
pub mod queue;
pub mod route;
pub mod server;
pub mod simulation;
pub mod stats;
pub mod table;
pub mod tls;
pub mod traffic;
pub mod upgrade;
pub mod verdict;
pub mod workers;
