//! TLS: certificates, read and checked, and what sessions are made of. No sockets: the data plane and the probes have those.

pub mod certificate;
pub mod failure;
pub mod listener;
pub mod servers;
pub mod subject;

use super::config::Config;
use listener::ListenerTls;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use servers::ServersTls;
use std::sync::{Arc, OnceLock};

/// The one implementation of cryptography, passed explicitly wherever it is needed.
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| Arc::new(aws_lc_rs::default_provider())))
}

/// TLS of a configuration, towards clients and towards servers.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    /// By the index of the listener; `None` in clear text.
    pub listeners: Vec<Option<Arc<ListenerTls>>>,
    /// By the id of the pool; `None` in clear text.
    pub servers: Vec<Option<Arc<ServersTls>>>,
}

impl Tls {
    /// Reads all files. `now` is in seconds since 1970. All faults are in the error.
    pub fn open(config: &Config, now: i64) -> Result<Self, Vec<Problem>> {
        match (listener::open_all(config, now), servers::open_all(config, now)) {
            (Ok(listeners), Ok(servers)) => Ok(Tls { listeners, servers }),
            (one, other) => Err(one.err().into_iter().chain(other.err()).flatten().collect()),
        }
    }
}

/// Something about a file of certificates that stops its use, for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The key in the configuration.
    pub key: String,
    /// The file, what is wrong, and what to do.
    pub advice: String,
}
