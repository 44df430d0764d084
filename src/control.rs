//! Layer 3, the control plane: the agents that change what the data plane sees. It speaks HTTP through ureq (probes,
//! load reports) and tiny_http (the admin API), and never refers to the data plane.

pub mod access;
pub mod admin;
pub mod certificates;
pub mod health;
pub mod judge;
pub mod names;
pub mod probe;
pub mod report;
pub mod state_file;
pub mod supervise;
pub mod threads;
pub mod traces;
