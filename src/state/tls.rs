//! TLS: certificates, read and checked, and what sessions are made of. No sockets: the data plane and the probes have those.

pub mod certificate;
mod choice;
mod clients;
pub mod failure;
pub mod listener;
pub mod revocation;
pub mod servers;
pub mod subject;

use super::config::Config;
use super::live::Live;
use listener::ListenerTls;
use servers::ServersTls;
use std::sync::Arc;

/// TLS of a configuration, towards clients and towards servers.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    /// By the index of the listener; `None` in clear text.
    pub listeners: Vec<Option<Arc<ListenerTls>>>,
    /// By the id of the pool; `None` in clear text.
    pub servers: Vec<Option<Arc<ServersTls>>>,
}

impl Tls {
    /// Reads all files but those that are as they were in `before`. `now` is in seconds since 1970. All faults are in the
    /// error.
    pub fn open(config: &Config, before: Option<&Live>, now: i64) -> Result<Self, Vec<Problem>> {
        match (listener::open_all(config, before, now), servers::open_all(config, before, now)) {
            (Ok(listeners), Ok(servers)) => Ok(Tls { listeners, servers }),
            (one, other) => Err(one.err().into_iter().chain(other.err()).flatten().collect()),
        }
    }
}

/// Something about a file that stops its use, for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The key in the configuration.
    pub key: String,
    /// The file, what is wrong, and what to do.
    pub advice: String,
}
