//! TLS of a listener: which certificate a client gets, and the configuration of its sessions, which is made again when a file
//! of certificates has changed.

use super::super::stamp::{Stamp, stamp};
use super::Problem;
use super::certificate::{self, Flaw, Loaded, Part};
use super::choice::{Choice, Conflict};
use super::clients::{self, Clients};
use crate::base::cryptography::provider;
use crate::state::config::{Certificate, Config, Listener, TlsToClients, TlsVersion};
use crate::state::live::Live;
use parking_lot::{Mutex, RwLock};
use rustls::server::{Acceptor, NoServerSessionStorage};
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::{CertificateDer, UnixTime};
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
    /// Some clients are asked for certificates.
    pub asks_clients: bool,
    key: String,
    settings: TlsToClients,
    current: RwLock<Current>,
    /// The files as they were when they were read, or found faulty, last.
    seen: Mutex<Vec<Stamp>>,
}

/// What is made of the files, and replaced when they change.
#[derive(Clone, Debug)]
struct Current {
    choice: Arc<Choice>,
    /// Who may come in under which names, by the index that [`Choice`] has; most listeners have one entry.
    clients: Vec<(Clients, Arc<ServerConfig>)>,
    expiries: Vec<Expiry>,
    doubts: Vec<Problem>,
    /// The files as they were.
    stamps: Vec<Stamp>,
}

/// What the beginning of a handshake says.
#[derive(Debug)]
pub enum Hello {
    /// The session is made of this.
    Complete(Arc<ServerConfig>),
    /// More of it has to come before it says for whom it is.
    Partial,
}

/// The most bytes of a ClientHello that are waited for where its name decides who may come in; some have 2 KiB.
const HELLO_MAX: usize = 16 * 1024;

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
        let stamps = stamps(settings);
        if let Some(same) = before.filter(|before| {
            let is_same = (&before.name, &before.key, &before.settings) == (&listener.name, &key, settings);
            is_same && before.handshake_timeout == handshake_timeout && before.current.read().stamps == stamps
        }) {
            return Ok(Some(Arc::clone(same)));
        }
        let known = before.map_or_else(Vec::new, |before| before.clients());
        let current = Current::read(settings, &key, &known, now)?;
        let (name, settings, seen) = (listener.name.clone(), settings.clone(), Mutex::new(stamps));
        let asks_clients = current.clients.iter().any(|(clients, _)| clients.are_asked());
        let current = RwLock::new(current);
        let tls = ListenerTls { name, handshake_timeout, asks_clients, key, settings, current, seen };
        Ok(Some(Arc::new(tls)))
    }

    fn clients(&self) -> Vec<Clients> {
        self.current.read().clients.iter().map(|(clients, _)| clients.clone()).collect()
    }

    /// What a session is made of that begins with these records. `None`: they are too long.
    pub fn config(&self, records: &[u8]) -> Option<Hello> {
        let current = self.current.read();
        let name = match &current.clients[..] {
            [_] => None,
            _ => match name_in(records) {
                Ok(Some(name)) => name,
                Ok(None) if records.len() >= HELLO_MAX => return None,
                Ok(None) => return Some(Hello::Partial),
                // The session finds the same fault, and says so to the client.
                Err(_) => None,
            },
        };
        let (_, config) = current.clients.get(current.choice.clients(name.as_deref()))?;
        Some(Hello::Complete(Arc::clone(config)))
    }

    /// Whether a connection that was made for one name, or for none, may have requests for another host.
    pub fn may_serve(&self, host: &str, name: Option<&str>) -> bool {
        let current = self.current.read();
        let of = |name: Option<&str>| {
            let at = current.choice.clients(name);
            (at, current.clients.get(at).is_some_and(|(clients, _)| clients.are_asked()))
        };
        let ((here, asks_here), (there, asks_there)) = (of(name), of(Some(host)));
        here == there && name.is_none() || !asks_here && !asks_there
    }

    /// Whether clients of this name, or of none, have to show a certificate.
    pub fn requires_certificate(&self, name: Option<&str>) -> bool {
        let current = self.current.read();
        current.clients.get(current.choice.clients(name)).is_some_and(|(clients, _)| clients.are_required())
    }

    /// Looks again at the certificate that a client has shown when its session began, which was resumed for this name.
    pub fn verify_again(
        &self,
        name: Option<&str>,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), rustls::Error> {
        let clients = {
            let current = self.current.read();
            current.clients.get(current.choice.clients(name)).map(|(clients, _)| clients.clone())
        };
        clients.map_or(Ok(()), |clients| clients.verify_again(chain, now))
    }

    /// Looks at the files, and reads them if one has changed. Open connections keep what they have.
    pub fn look(&self, now: i64) -> Look {
        let stamps = stamps(&self.settings);
        let mut seen = self.seen.lock();
        if *seen == stamps {
            return Look::Same;
        }
        let read = Current::read(&self.settings, &self.key, &self.clients(), now);
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

    /// Why clients may reject its certificates, though they are valid.
    pub fn doubts(&self) -> Vec<Problem> {
        self.current.read().doubts.clone()
    }

    /// Until when its lists of revoked certificates hold.
    pub fn lists(&self) -> Vec<Expiry> {
        self.clients().into_iter().flat_map(|clients| clients.lists).collect()
    }
}

impl Current {
    /// Sessions of the clients in `known` are still resumed. All faults of all files are in the error.
    fn read(settings: &TlsToClients, key: &str, known: &[Clients], now: i64) -> Result<Self, Vec<Problem>> {
        let stamps = stamps(settings);
        let (mut problems, mut loaded) = (Vec::new(), Vec::new());
        let mut all: Vec<Clients> = Vec::new();
        for (at, certificate) in settings.certificates.iter().enumerate() {
            let (files, auth) = (&certificate.files, certificate.client_auth.as_ref());
            let key_here = format!("{key}.certificates[{at}]");
            let one = certificate::load(files, now);
            let one = one.map_err(|flaws| problems_of(flaws, &key_here, files));
            let index = match all.iter().position(|clients| clients.are(auth)) {
                Some(index) => Ok(index),
                None => Clients::read(auth, known, now).map(|clients| {
                    all.push(clients);
                    all.len() - 1
                }),
            };
            match (one, index) {
                (Ok(one), Ok(index)) => loaded.push((one, index)),
                (one, index) => {
                    problems.extend(one.err().into_iter().flatten());
                    let is_own = certificate.client_auth != settings.client_auth;
                    let key = if is_own { &key_here } else { key };
                    let faults = index.err().into_iter().flatten().map(|(part, advice)| match part {
                        "" => Problem { key: key.to_owned(), advice: cannot(advice) },
                        part => Problem { key: format!("{key}.client_auth.{part}"), advice },
                    });
                    let new: Vec<_> = faults.filter(|problem| !problems.contains(problem)).collect();
                    problems.extend(new);
                }
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        let files = settings.certificates.iter().map(|certificate| &certificate.files);
        let expiries = files.zip(&loaded).map(|(files, (one, _))| expiry(files, one)).collect();
        let doubts = doubts(key, settings, &loaded);
        let choice = Choice::of(loaded, settings.refuses_unknown_names);
        let choice = Arc::new(choice.map_err(|conflict| vec![conflicting(key, &conflict)])?);
        let with_config = |clients: Clients| {
            let config = config(settings, &clients, &choice)?;
            Ok((clients, Arc::new(config)))
        };
        let clients = all.into_iter().map(with_config).collect::<Result<_, rustls::Error>>();
        let clients =
            clients.map_err(|error| vec![Problem { key: key.to_owned(), advice: cannot(error) }])?;
        Ok(Current { choice, clients, expiries, doubts, stamps })
    }
}

fn doubts(key: &str, settings: &TlsToClients, loaded: &[(Loaded, usize)]) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (at, (certificate, (one, _))) in settings.certificates.iter().zip(loaded).enumerate() {
        let (key, file) =
            (format!("{key}.certificates[{at}].certificate"), certificate.files.certificate.display());
        problems.extend(
            one.doubts.iter().map(|doubt| Problem { key: key.clone(), advice: format!("{file} {doubt}") }),
        );
    }
    problems
}

fn cannot(error: impl std::fmt::Display) -> String {
    format!("TLS cannot be set up: {error}")
}

/// What is wrong with a certificate and its key, at their keys below `key`.
pub(super) fn problems_of(flaws: Vec<Flaw>, key: &str, files: &Certificate) -> Vec<Problem> {
    let part_of =
        |part| if part == Part::Key && files.key != files.certificate { "key" } else { "certificate" };
    let problem = |(part, advice)| Problem { key: format!("{key}.{}", part_of(part)), advice };
    flaws.into_iter().map(problem).collect()
}

fn conflicting(key: &str, conflict: &Conflict) -> Problem {
    let [first, second] = conflict.certificates;
    Problem {
        key: format!("{key}.certificates[{second}].client_auth"),
        advice: format!(
            "{} is a name of certificates[{first}], too, which has another client_auth; write the same for both",
            conflict.name
        ),
    }
}

/// The name that a client asks for; `None` while its first message is not complete.
fn name_in(mut records: &[u8]) -> Result<Option<Option<String>>, ()> {
    let mut acceptor = Acceptor::default();
    loop {
        match acceptor.accept() {
            Ok(Some(accepted)) => {
                return Ok(Some(accepted.client_hello().server_name().map(str::to_owned)));
            }
            Ok(None) if records.is_empty() => return Ok(None),
            Ok(None) => acceptor.read_tls(&mut records).map_err(drop)?,
            Err(_) => return Err(()),
        };
    }
}

fn config(
    settings: &TlsToClients,
    clients: &Clients,
    choice: &Arc<Choice>,
) -> Result<ServerConfig, rustls::Error> {
    let versions: &[_] = match settings.min_version {
        TlsVersion::Tls12 => &[&rustls::version::TLS13, &rustls::version::TLS12],
        TlsVersion::Tls13 => &[&rustls::version::TLS13],
    };
    let builder = ServerConfig::builder_with_provider(provider()).with_protocol_versions(versions)?;
    let verified = match &clients.verifier {
        Some(verifier) => builder.with_client_cert_verifier(Arc::clone(verifier)),
        None => builder.with_no_client_auth(),
    };
    let mut config = verified.with_cert_resolver(Arc::clone(choice) as _);
    config.alpn_protocols = settings.alpn.iter().map(|name| name.clone().into_bytes()).collect();
    config.ticketer = Arc::clone(&clients.tickets) as _;
    // Tickets alone: they need no memory here, and serve every worker.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(config)
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

pub(super) fn expiry(files: &Certificate, loaded: &Loaded) -> Expiry {
    let file = files.certificate.clone();
    let name = loaded.names.first().cloned().unwrap_or_else(|| file.display().to_string());
    Expiry { name, file, not_after: loaded.not_after, warn_before: WARN_BEFORE }
}

/// All files of a listener as they are.
fn stamps(settings: &TlsToClients) -> Vec<Stamp> {
    let all = &settings.certificates;
    let files = all.iter().flat_map(|one| [&one.files.certificate, &one.files.key]);
    let mut auths: Vec<_> = all.iter().map(|one| one.client_auth.as_ref()).collect();
    auths.dedup();
    files.map(|file| stamp(file)).chain(auths.into_iter().flat_map(clients::stamps)).collect()
}
