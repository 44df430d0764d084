//! TLS of a listener: which certificate a client gets, and the configuration of its sessions, which is made again when a file
//! of certificates has changed.

use super::super::stamp::{Stamp, stamp};
use super::Problem;
use super::certificate::{self, Loaded, Part};
use crate::base::cryptography::provider;
use crate::state::config::{Certificate, Config, Listener, TlsToClients, TlsVersion};
use crate::state::live::Live;
use parking_lot::{Mutex, RwLock};
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{
    ClientHello, NoServerSessionStorage, ProducesTickets, ResolvesServerCert, WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig, SignatureAlgorithm};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// TLS of one listener.
#[derive(Debug)]
pub struct ListenerTls {
    /// The listener's name.
    pub name: String,
    /// From the accepted connection to the end of the handshake.
    pub handshake_timeout: Duration,
    key: String,
    settings: TlsToClients,
    current: RwLock<Current>,
    /// The files as they were when they were read, or found faulty, last.
    seen: Mutex<Vec<Stamp>>,
}

/// What is made of the files, and replaced when they change.
#[derive(Clone, Debug)]
struct Current {
    config: Arc<ServerConfig>,
    expiries: Vec<Expiry>,
    /// The files as they were.
    stamps: Vec<Stamp>,
    /// Encrypts session tickets for all workers; it outlives a change of certificates.
    tickets: Arc<dyn ProducesTickets>,
}

/// Until when a certificate is valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expiry {
    /// The first name that it is for; its file where it names none.
    pub name: String,
    /// Its file.
    pub file: PathBuf,
    /// In seconds since 1970.
    pub not_after: i64,
}

/// What came of a look at the files.
#[derive(Debug, PartialEq, Eq)]
pub enum Look {
    /// They are as before.
    Same,
    /// New connections get the new certificates.
    Renewed,
    /// Something is wrong with them, told once: the certificates there were stay in use.
    Kept(Vec<Problem>),
}

/// TLS of all listeners of a configuration, in their order. A listener whose socket stays open goes on with what it has in
/// `before` as far as that is the same. All faults of all files are in the error.
pub fn open_all(
    config: &Config,
    before: Option<&Live>,
    now: i64,
) -> Result<Vec<Option<Arc<ListenerTls>>>, Vec<Problem>> {
    let (mut all, mut problems) = (Vec::new(), Vec::new());
    let listeners = &config.listen.listeners;
    let open = before.map_or_else(|| vec![None; listeners.len()], |before| before.still_open(listeners));
    for (listener, open) in listeners.iter().zip(open) {
        let before = open.and_then(|open| open.tls.as_ref());
        match ListenerTls::open(listener, config.timeouts.client_head, before, now) {
            Ok(tls) => all.push(tls),
            Err(more) => problems.extend(more),
        }
    }
    if problems.is_empty() { Ok(all) } else { Err(problems) }
}

impl ListenerTls {
    /// Reads everything that a listener needs; `None` for one in clear text. Where neither settings nor files have changed
    /// it is what it was `before`; else sessions that began before are still resumed, unless other clients may come in. `now`
    /// is in seconds since 1970.
    pub fn open(
        listener: &Listener,
        client_head: Duration,
        before: Option<&Arc<Self>>,
        now: i64,
    ) -> Result<Option<Arc<Self>>, Vec<Problem>> {
        let Some(settings) = &listener.tls else { return Ok(None) };
        let key = format!("{}.tls", listener.key());
        let handshake_timeout = settings.handshake_timeout.unwrap_or(client_head);
        let stamps = stamps(settings);
        if let Some(same) = before.filter(|before| {
            let is_same = (&before.name, &before.key, &before.settings) == (&listener.name, &key, settings);
            is_same && before.handshake_timeout == handshake_timeout && before.current.read().stamps == stamps
        }) {
            return Ok(Some(Arc::clone(same)));
        }
        let tickets = before.and_then(|before| before.tickets_for(settings));
        let current = Current::read(settings, &key, tickets, now)?;
        let (name, settings, seen) = (listener.name.clone(), settings.clone(), Mutex::new(stamps));
        let tls = ListenerTls { name, handshake_timeout, key, settings, current: RwLock::new(current), seen };
        Ok(Some(Arc::new(tls)))
    }

    /// What encrypts session tickets, where the same clients may come in with the other settings: a session that is resumed
    /// brings along the certificate that the client has shown.
    fn tickets_for(&self, settings: &TlsToClients) -> Option<Arc<dyn ProducesTickets>> {
        let current = self.current.read();
        let ca = settings.client_auth.as_ref().map(|auth| stamp(&auth.ca));
        let is_same = self.settings.client_auth == settings.client_auth
            && ca.is_none_or(|ca| current.stamps.last() == Some(&ca));
        is_same.then(|| Arc::clone(&current.tickets))
    }

    /// What the next session is made of.
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current.read().config)
    }

    /// Looks at the files, and reads them if one has changed. Open connections keep what they have.
    pub fn look(&self, now: i64) -> Look {
        let stamps = stamps(&self.settings);
        let mut seen = self.seen.lock();
        if *seen == stamps {
            return Look::Same;
        }
        let tickets = Arc::clone(&self.current.read().tickets);
        let read = Current::read(&self.settings, &self.key, Some(tickets), now);
        *seen = stamps;
        match read {
            Ok(current) => {
                *self.current.write() = current;
                Look::Renewed
            }
            Err(problems) => Look::Kept(problems),
        }
    }

    /// Until when its certificates are valid.
    pub fn expiries(&self) -> Vec<Expiry> {
        self.current.read().expiries.clone()
    }
}

impl Current {
    /// All faults of all files are in the error.
    fn read(
        settings: &TlsToClients,
        key: &str,
        tickets: Option<Arc<dyn ProducesTickets>>,
        now: i64,
    ) -> Result<Self, Vec<Problem>> {
        let stamps = stamps(settings);
        let mut problems = Vec::new();
        let mut loaded = Vec::new();
        for (at, files) in settings.certificates.iter().enumerate() {
            match certificate::load(files, now) {
                Ok(one) => loaded.push((files, one)),
                Err((part, advice)) => {
                    let part = if part == Part::Key && files.key != files.certificate {
                        "key"
                    } else {
                        "certificate"
                    };
                    problems.push(Problem { key: format!("{key}.certificates[{at}].{part}"), advice });
                }
            }
        }
        let verifier = settings.client_auth.as_ref().map(|auth| {
            let verifier = verifier(&auth.ca, auth.require);
            verifier.map_err(|advice| Problem { key: format!("{key}.client_auth.ca"), advice })
        });
        let verifier = match verifier.transpose() {
            Ok(verifier) => verifier,
            Err(problem) => {
                problems.push(problem);
                None
            }
        };
        if !problems.is_empty() {
            return Err(problems);
        }
        let expiries = loaded.iter().map(|(files, one)| expiry(files, one)).collect();
        let choice = Choice::of(loaded.into_iter().map(|(_, one)| one), settings.refuses_unknown_names);
        let internal = |error: rustls::Error| {
            vec![Problem { key: key.to_owned(), advice: format!("TLS cannot be set up: {error}") }]
        };
        let tickets = tickets.map_or_else(|| Ticketer::new().map_err(internal), Ok)?;
        let config = config(settings, verifier, choice, &tickets).map_err(internal)?;
        Ok(Current { config: Arc::new(config), expiries, stamps, tickets })
    }
}

fn config(
    settings: &TlsToClients,
    verifier: Option<Arc<dyn ClientCertVerifier>>,
    choice: Choice,
    tickets: &Arc<dyn ProducesTickets>,
) -> Result<ServerConfig, rustls::Error> {
    let versions: &[_] = match settings.min_version {
        TlsVersion::Tls12 => &[&rustls::version::TLS13, &rustls::version::TLS12],
        TlsVersion::Tls13 => &[&rustls::version::TLS13],
    };
    let builder = ServerConfig::builder_with_provider(provider()).with_protocol_versions(versions)?;
    let verified = match verifier {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let mut config = verified.with_cert_resolver(Arc::new(choice));
    config.alpn_protocols = settings.alpn.iter().map(|name| name.clone().into_bytes()).collect();
    config.ticketer = Arc::clone(tickets);
    // Tickets alone: they need no memory here, and serve every worker.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(config)
}

fn verifier(ca: &Path, require: bool) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let roots = Arc::new(roots(ca)?);
    let builder = WebPkiClientVerifier::builder_with_provider(roots, provider());
    let builder = if require { builder } else { builder.allow_unauthenticated() };
    builder.build().map_err(|error| format!("{} cannot be used: {error}", ca.display()))
}

/// The authorities of a file.
pub(super) fn roots(path: &Path) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificate::chain(path)? {
        roots.add(certificate).map_err(|_| {
            format!("{} has a certificate that cannot be an authority; export it again", path.display())
        })?;
    }
    Ok(roots)
}

fn expiry(files: &Certificate, loaded: &Loaded) -> Expiry {
    let file = files.certificate.clone();
    let name = loaded.names.first().cloned().unwrap_or_else(|| file.display().to_string());
    Expiry { name, file, not_after: loaded.not_after }
}

fn stamps(settings: &TlsToClients) -> Vec<Stamp> {
    let files = settings.certificates.iter().flat_map(|files| [&files.certificate, &files.key]);
    let files = files.chain(settings.client_auth.iter().map(|auth| &auth.ca));
    files.map(|file| stamp(file)).collect()
}

/// Chooses a certificate: by the name that the client asks for, then by the kinds of keys that it can verify.
#[derive(Debug, Default)]
struct Choice {
    exact: HashMap<String, Vec<Arc<CertifiedKey>>>,
    /// By what follows the `*`.
    wildcard: HashMap<String, Vec<Arc<CertifiedKey>>>,
    default: Vec<Arc<CertifiedKey>>,
    /// There is none for other names.
    is_strict: bool,
}

impl Choice {
    /// The first one, and those that share a name with it, are the default.
    fn of(all: impl Iterator<Item = Loaded>, is_strict: bool) -> Self {
        let mut choice = Choice { is_strict, ..Choice::default() };
        let mut first: Option<Vec<String>> = None;
        for Loaded { key, names, .. } in all {
            let first = first.get_or_insert_with(|| names.clone());
            if choice.default.is_empty() || names.iter().any(|name| first.contains(name)) {
                choice.default.push(Arc::clone(&key));
            }
            for name in names {
                match name.strip_prefix('*') {
                    Some(rest) => choice.wildcard.entry(rest.to_owned()).or_default().push(Arc::clone(&key)),
                    None => choice.exact.entry(name).or_default().push(Arc::clone(&key)),
                }
            }
        }
        // ECDSA costs a fraction of RSA.
        let is_slow = |key: &Arc<CertifiedKey>| key.key.algorithm() == SignatureAlgorithm::RSA;
        let lists = choice.exact.values_mut().chain(choice.wildcard.values_mut());
        lists.chain([&mut choice.default]).for_each(|list| list.sort_by_key(is_slow));
        choice
    }

    fn named(&self, name: &str) -> Option<&[Arc<CertifiedKey>]> {
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        let exact = self.exact.get(&name);
        // A wildcard stands for one label (RFC 9525 section 6.3).
        let wildcard = || self.wildcard.get(name.get(name.find('.')?..)?);
        exact.or_else(wildcard).map(Vec::as_slice)
    }
}

impl ResolvesServerCert for Choice {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let suits = |key: &&Arc<CertifiedKey>| key.key.choose_scheme(hello.signature_schemes()).is_some();
        let named = hello.server_name().and_then(|name| self.named(name));
        if named.is_none() && self.is_strict {
            return None;
        }
        let named = named.unwrap_or(&self.default);
        named.iter().find(suits).or_else(|| self.default.iter().find(suits)).or(named.first()).cloned()
    }
}
