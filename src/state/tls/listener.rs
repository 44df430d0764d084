//! TLS of a listener: which certificate a client gets, and the configuration of its sessions, which is made again when a file
//! of certificates has changed.

use super::super::stamp::{Stamp, stamp};
use super::Problem;
use super::certificate::{self, Loaded, Part};
use super::revocation;
use crate::base::cryptography::provider;
use crate::state::config::{Certificate, ClientAuth, Config, Listener, TlsToClients, TlsVersion};
use crate::state::live::Live;
use parking_lot::{Mutex, RwLock};
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{
    ClientHello, NoServerSessionStorage, ProducesTickets, ResolvesServerCert, VerifierBuilderError,
    WebPkiClientVerifier,
};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig, SignatureAlgorithm};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// A certificate that expires within so many seconds is warned of: most are renewed 30 days before, so the renewal failed.
const WARN_BEFORE: i64 = 14 * 24 * 3600;

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
    seen: Mutex<Stamps>,
}

/// What is made of the files, and replaced when they change.
#[derive(Clone, Debug)]
struct Current {
    config: Arc<ServerConfig>,
    expiries: Vec<Expiry>,
    /// Until when the lists of revoked certificates hold.
    lists: Vec<Expiry>,
    /// The files as they were.
    stamps: Stamps,
    /// Encrypts session tickets for all workers; it outlives a change of certificates, but none of which clients may come in.
    tickets: Arc<dyn ProducesTickets>,
}

/// The files of a listener as they were.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stamps {
    certificates: Vec<Stamp>,
    /// Those that say which clients may come in.
    client_auth: Vec<Stamp>,
}

/// Until when a certificate, or a list of revoked ones, is valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expiry {
    /// The first name that it is for, its file where it names none; of a list the authority.
    pub name: String,
    /// Its file.
    pub file: PathBuf,
    /// In seconds since 1970.
    pub not_after: i64,
    /// So many seconds before that, the operator is warned.
    pub warn_before: i64,
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
        let stamps = Stamps::now(settings);
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
        let is_same = self.settings.client_auth == settings.client_auth
            && current.stamps.client_auth == client_auth_stamps(settings);
        is_same.then(|| Arc::clone(&current.tickets))
    }

    /// What the next session is made of.
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current.read().config)
    }

    /// Looks at the files, and reads them if one has changed. Open connections keep what they have.
    pub fn look(&self, now: i64) -> Look {
        let stamps = Stamps::now(&self.settings);
        let mut seen = self.seen.lock();
        if *seen == stamps {
            return Look::Same;
        }
        let read = Current::read(&self.settings, &self.key, self.tickets_for(&self.settings), now);
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

    /// Until when its lists of revoked certificates hold.
    pub fn lists(&self) -> Vec<Expiry> {
        self.current.read().lists.clone()
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
        let stamps = Stamps::now(settings);
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
            let verifier = verifier(auth, now);
            verifier.map_err(|(part, advice)| Problem { key: format!("{key}.client_auth.{part}"), advice })
        });
        let (verifier, lists) = match verifier.transpose() {
            Ok(found) => found.map_or((None, Vec::new()), |(verifier, lists)| (Some(verifier), lists)),
            Err(problem) => {
                problems.push(problem);
                (None, Vec::new())
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
        Ok(Current { config: Arc::new(config), expiries, lists, stamps, tickets })
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

/// What verifies clients, and until when its lists hold.
type Verifier = (Arc<dyn ClientCertVerifier>, Vec<Expiry>);

/// The error has the key that is at fault.
fn verifier(auth: &ClientAuth, now: i64) -> Result<Verifier, (&'static str, String)> {
    let of_ca = |advice| ("ca", advice);
    let roots = Arc::new(roots(&auth.ca).map_err(of_ca)?);
    let mut builder = WebPkiClientVerifier::builder_with_provider(roots, provider());
    let mut expiries = Vec::new();
    if let Some(crl) = &auth.crl {
        let authorities = certificate::chain(&auth.ca).map_err(of_ca)?;
        let lists = revocation::load(crl, &auth.ca, &authorities, now).map_err(|advice| ("crl", advice))?;
        expiries = lists.expiries;
        // As in nginx, HAProxy and Envoy: every authority of a chain needs a list, and one that is over proves nothing.
        builder = builder.with_crls(lists.lists).enforce_revocation_expiration();
    }
    let builder = if auth.require { builder } else { builder.allow_unauthenticated() };
    let verifier = builder.build().map_err(|error| match (error, &auth.crl) {
        (VerifierBuilderError::InvalidCrl(error), Some(crl)) => {
            ("crl", format!("{} {}", crl.display(), revocation::unusable(&error)))
        }
        (error, _) => ("ca", format!("{} cannot be used: {error}", auth.ca.display())),
    })?;
    Ok((verifier, expiries))
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
    Expiry { name, file, not_after: loaded.not_after, warn_before: WARN_BEFORE }
}

impl Stamps {
    fn now(settings: &TlsToClients) -> Self {
        let files = settings.certificates.iter().flat_map(|files| [&files.certificate, &files.key]);
        Stamps {
            certificates: files.map(|file| stamp(file)).collect(),
            client_auth: client_auth_stamps(settings),
        }
    }
}

fn client_auth_stamps(settings: &TlsToClients) -> Vec<Stamp> {
    let files = settings.client_auth.iter().flat_map(|auth| [Some(&auth.ca), auth.crl.as_ref()]);
    files.flatten().map(|file| stamp(file)).collect()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::tls::failure::HandshakeFailure;
    use rcgen::{
        BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, IsCa, Issuer,
        KeyIdMethod, KeyPair, SerialNumber, date_time_ymd,
    };
    use rustls_pki_types::UnixTime;
    use std::fs;

    #[test]
    fn a_list_that_is_over_lets_no_client_of_its_authority_in() {
        let folder = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, "ca");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let (ca, crl) = (folder.path().join("ca.pem"), folder.path().join("ca.crl"));
        fs::write(&ca, params.self_signed(&key).unwrap().pem()).unwrap();
        let issuer = Issuer::new(params, key);
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2030, 1, 1),
            next_update: date_time_ymd(2030, 1, 11),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: Vec::new(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        fs::write(&crl, list.signed_by(&issuer).unwrap().pem().unwrap()).unwrap();
        let leaf = CertificateParams::new(vec!["alice".to_owned()]).unwrap();
        let leaf = leaf.signed_by(&KeyPair::generate().unwrap(), &issuer).unwrap().der().clone();
        let auth = ClientAuth { ca, crl: Some(crl), require: true };
        let at = |day| date_time_ymd(2030, 1, day).unix_timestamp();
        let (verifier, lists) = verifier(&auth, at(2)).unwrap();
        assert_eq!((lists[0].name.as_str(), lists[0].not_after), ("CN=ca", at(11)));
        assert_eq!(lists[0].warn_before, 24 * 3600, "a tenth of its ten days");
        let verify = |day| {
            let now = UnixTime::since_unix_epoch(Duration::from_secs(at(day).unsigned_abs()));
            verifier.verify_client_cert(&leaf, &[], now).map_err(|error| HandshakeFailure::of(&error)).err()
        };
        assert_eq!(verify(10), None);
        assert_eq!(verify(12), Some(HandshakeFailure::RevocationUnknown));
        let advice = super::verifier(&auth, at(12)).unwrap_err();
        assert!(advice.0 == "crl" && advice.1.contains("was valid until 2030-01-11"), "{advice:?}");
    }
}
