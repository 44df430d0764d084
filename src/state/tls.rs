//! TLS: certificates, read and checked, and what sessions are made of. No sockets: the data plane and the probes have those.

pub mod certificate;
pub mod failure;
pub mod listener;
pub mod subject;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use std::sync::{Arc, OnceLock};

/// The one implementation of cryptography, passed explicitly wherever it is needed.
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| Arc::new(aws_lc_rs::default_provider())))
}

/// Something about a file of certificates that stops its use, for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The key in the configuration.
    pub key: String,
    /// The file, what is wrong, and what to do.
    pub advice: String,
}
