//! Which certificate a client gets: by the name that it asks for, then by the kinds of keys that it can verify. With it go the
//! clients who may come in under that name.

use super::certificate::Loaded;
use rustls::SignatureAlgorithm;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::collections::HashMap;
use std::sync::Arc;

/// The certificates of a listener by name.
#[derive(Debug, Default)]
pub(super) struct Choice {
    exact: HashMap<String, Named>,
    /// By what follows the `*`.
    wildcard: HashMap<String, Named>,
    default: Named,
    /// There is none for other names.
    is_strict: bool,
}

/// What a name has.
#[derive(Debug, Default)]
struct Named {
    /// The preferred first.
    keys: Vec<Arc<CertifiedKey>>,
    /// Index of the certificate that is the first one for it.
    first: usize,
    /// Index of the clients who may come in.
    clients: usize,
}

/// A name that two certificates have, whose clients differ.
#[derive(Debug)]
pub(super) struct Conflict {
    /// The name.
    pub(super) name: String,
    /// Indexes of the two certificates.
    pub(super) certificates: [usize; 2],
}

impl Choice {
    /// Of certificates, each with the index of its clients. The first one, and those that share a name with it, are the
    /// default.
    pub(super) fn of(all: Vec<(Loaded, usize)>, is_strict: bool) -> Result<Self, Conflict> {
        let mut choice = Choice { is_strict, ..Choice::default() };
        let mut first: Option<Vec<String>> = None;
        for (at, (Loaded { key, names, .. }, clients)) in all.into_iter().enumerate() {
            let first = first.get_or_insert_with(|| names.clone());
            if at == 0 || names.iter().any(|name| first.contains(name)) {
                choice.default.keys.push(Arc::clone(&key));
            }
            if at == 0 {
                choice.default.clients = clients;
            }
            for name in names {
                let (names, key_of_name) = match name.strip_prefix('*') {
                    Some(rest) => (&mut choice.wildcard, rest.to_owned()),
                    None => (&mut choice.exact, name.clone()),
                };
                let new = || Named { keys: Vec::new(), first: at, clients };
                let named = names.entry(key_of_name).or_insert_with(new);
                if named.clients != clients {
                    return Err(Conflict { name, certificates: [named.first, at] });
                }
                named.keys.push(Arc::clone(&key));
            }
        }
        // ECDSA costs a fraction of RSA.
        let is_slow = |key: &Arc<CertifiedKey>| key.key.algorithm() == SignatureAlgorithm::RSA;
        let all = choice.exact.values_mut().chain(choice.wildcard.values_mut());
        all.chain([&mut choice.default]).for_each(|named| named.keys.sort_by_key(is_slow));
        Ok(choice)
    }

    /// The index of the clients who may come in under a name.
    pub(super) fn clients(&self, name: Option<&str>) -> usize {
        name.and_then(|name| self.named(name)).unwrap_or(&self.default).clients
    }

    fn named(&self, name: &str) -> Option<&Named> {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        let exact = self.exact.get(&name);
        // A wildcard stands for one label (RFC 9525 section 6.3).
        let wildcard = || self.wildcard.get(name.get(name.find('.')?..)?);
        exact.or_else(wildcard)
    }
}

impl ResolvesServerCert for Choice {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let suits = |key: &&Arc<CertifiedKey>| key.key.choose_scheme(hello.signature_schemes()).is_some();
        let named = hello.server_name().and_then(|name| self.named(name));
        if named.is_none() && self.is_strict {
            return None;
        }
        let named = &named.unwrap_or(&self.default).keys;
        named.iter().find(suits).or_else(|| self.default.keys.iter().find(suits)).or(named.first()).cloned()
    }
}
