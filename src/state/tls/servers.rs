//! TLS towards the servers of a pool: whom to trust, what to show, and what to say of a handshake that failed.

use super::super::stamp::{Stamp, stamp};
use super::Problem;
use super::certificate;
use super::listener::{Expiry, expiry, problems_of, roots};
use super::revocation;
use crate::base::cryptography::{AnyCertificate, provider};
use crate::base::ids::PoolId;
use crate::base::trust;
use crate::state::address::Address;
use crate::state::config::{Config, TlsToServers};
use crate::state::live::Live;
use rustls::client::danger::ServerCertVerifier;
use rustls::client::{Resumption, VerifierBuilderError};
use rustls::sign::CertifiedKey;
use rustls::{
    AlertDescription, CertificateError, ClientConfig, ClientConnection, Error, InvalidMessage, RootCertStore,
};
use rustls_pki_types::{CertificateDer, ServerName};
use std::sync::Arc;

/// Sessions of all servers of a pool that are kept to be resumed, by all workers and probes.
const SESSIONS: usize = 4096;

/// TLS towards the servers of one pool.
#[derive(Debug)]
pub struct ServersTls {
    /// The pool's name.
    pub pool: String,
    /// Until when the certificate that servers are shown is valid.
    pub certificate: Option<Expiry>,
    /// Until when the lists of revoked certificates hold.
    pub lists: Vec<Expiry>,
    settings: TlsToServers,
    /// The files as they were when they were read.
    stamps: Vec<Stamp>,
    config: Arc<ClientConfig>,
    /// The same, offering HTTP/2 alone.
    http2: Arc<ClientConfig>,
    server_name: Option<ServerName<'static>>,
}

/// TLS of all pools of a configuration, in the order of [`Config::pool_ids`]; with its sessions that of `before`, where
/// neither settings nor files have changed. All faults of all files are in the error.
pub fn open_all(
    config: &Config,
    before: Option<&Live>,
    now: i64,
) -> Result<Vec<Option<Arc<ServersTls>>>, Vec<Problem>> {
    let (mut all, mut problems) = (Vec::new(), Vec::new());
    for pool in config.pool_ids() {
        let before = before.and_then(|before| before.servers_tls(pool));
        match open(config, pool, before, now) {
            Ok(tls) => all.push(tls),
            Err(more) => problems.extend(more),
        }
    }
    if problems.is_empty() { Ok(all) } else { Err(problems) }
}

fn open(
    config: &Config,
    pool: PoolId,
    before: Option<&Arc<ServersTls>>,
    now: i64,
) -> Result<Option<Arc<ServersTls>>, Vec<Problem>> {
    let Some(settings) = &config.pool(pool).tls else { return Ok(None) };
    let is_same =
        |before: &&Arc<ServersTls>| before.settings == *settings && before.stamps == stamps(settings);
    if let Some(same) = before.filter(is_same) {
        return Ok(Some(Arc::clone(same)));
    }
    let key = format!("{}.tls", config.pool_key(pool));
    ServersTls::open(config.pool_name(pool), settings, &key, now).map(|tls| Some(Arc::new(tls)))
}

impl ServersTls {
    /// Reads everything that connections to these servers need; `key` is that of the settings.
    fn open(pool: &str, settings: &TlsToServers, key: &str, now: i64) -> Result<Self, Vec<Problem>> {
        let stamps = stamps(settings);
        let (Verifier { verifier, lists }, shown) =
            match (Verifier::of(settings, key, now), shown(settings, key, now)) {
                (Ok(verifier), Ok(shown)) => (verifier, shown),
                (one, other) => return Err(one.err().into_iter().chain(other.err()).flatten().collect()),
            };
        let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
        let builder = builder.map_err(|error| {
            let (_, advice) = cannot(error);
            vec![Problem { key: key.to_owned(), advice }]
        })?;
        let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
        let (certificate, mut config) = match shown {
            None => (None, builder.with_no_client_auth()),
            Some((expiry, key)) => {
                let resolver = Arc::new(rustls::sign::SingleCertAndKey::from(key));
                (Some(expiry), builder.with_client_cert_resolver(resolver))
            }
        };
        config.resumption = Resumption::in_memory_sessions(SESSIONS);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let mut http2 = config.clone();
        http2.alpn_protocols = vec![b"h2".to_vec()];
        let server_name = settings.server_name.clone().and_then(|name| ServerName::try_from(name).ok());
        Ok(ServersTls {
            pool: pool.to_owned(),
            certificate,
            lists,
            settings: settings.clone(),
            stamps,
            config: Arc::new(config),
            http2: Arc::new(http2),
            server_name,
        })
    }

    /// A session with the server at this address. The error says why there can be none.
    pub fn session(&self, address: &Address) -> Result<ClientConnection, String> {
        self.session_of(&self.config, address)
    }

    /// The same for HTTP/2.
    pub fn http2_session(&self, address: &Address) -> Result<ClientConnection, String> {
        self.session_of(&self.http2, address)
    }

    fn session_of(&self, config: &Arc<ClientConfig>, address: &Address) -> Result<ClientConnection, String> {
        let name = match (&self.server_name, address) {
            (Some(name), _) => name.clone(),
            (None, Address::Tcp { host, .. }) => {
                let host = host.trim_start_matches('[').trim_end_matches([']', '.']).to_owned();
                ServerName::try_from(host)
                    .map_err(|_| "its address is not a valid name for TLS; set tls.server_name".to_owned())?
            }
            (None, Address::Unix(_)) => {
                return Err("a Unix socket has no name for TLS; set tls.server_name".to_owned());
            }
        };
        ClientConnection::new(Arc::clone(config), name).map_err(|error| words(&error))
    }
}

fn stamps(settings: &TlsToServers) -> Vec<Stamp> {
    let own = settings.certificate.iter().flat_map(|files| [&files.certificate, &files.key]);
    settings.ca.iter().chain(&settings.crl).chain(own).map(|file| stamp(file)).collect()
}

/// The certificate that servers are shown, and until when it is valid.
type Shown = (Expiry, Arc<CertifiedKey>);

fn shown(settings: &TlsToServers, key: &str, now: i64) -> Result<Option<Shown>, Vec<Problem>> {
    let Some(files) = &settings.certificate else { return Ok(None) };
    let loaded = certificate::load(files, now).map_err(|flaws| problems_of(flaws, key, files))?;
    Ok(Some((expiry(files, &loaded), loaded.key)))
}

/// What verifies servers, and until when its lists hold.
struct Verifier {
    verifier: Arc<dyn ServerCertVerifier>,
    lists: Vec<Expiry>,
}

impl Verifier {
    fn of(settings: &TlsToServers, key: &str, now: i64) -> Result<Self, Vec<Problem>> {
        if !settings.verify {
            return Ok(Verifier { verifier: Arc::new(AnyCertificate), lists: Vec::new() });
        }
        verifier(settings, now).map_err(|(part, advice)| {
            let crl = settings.crl.as_deref().filter(|_| part == ".ca");
            let unread = revocation::unopened(crl).map(|advice| (".crl", advice));
            let problem = |(part, advice)| Problem { key: format!("{key}{part}"), advice };
            [Some((part, advice)), unread].into_iter().flatten().map(problem).collect()
        })
    }
}

/// The error has the end of the key that is at fault.
fn verifier(settings: &TlsToServers, now: i64) -> Result<Verifier, (&'static str, String)> {
    let (authorities, certificates) = trusted(settings).map_err(|advice| (".ca", advice))?;
    let Some((ca, crl)) = settings.ca.as_ref().zip(settings.crl.as_ref()) else {
        let verifier = trust::verifier(authorities, certificates, Vec::new());
        return verifier.map(|verifier| Verifier { verifier, lists: Vec::new() }).map_err(cannot);
    };
    let lists = revocation::load(crl, ca, &certificates, now).map_err(|advice| (".crl", advice))?;
    // Where there are lists of revoked certificates every one has to be on or off such a list.
    let verifier = trust::verifier(authorities, Vec::new(), lists.lists).map_err(|error| match error {
        VerifierBuilderError::InvalidCrl(error) => {
            (".crl", format!("{} {}", crl.display(), revocation::unusable(&error)))
        }
        other => cannot(other),
    })?;
    Ok(Verifier { verifier, lists: lists.expiries })
}

fn cannot(error: impl std::fmt::Display) -> (&'static str, String) {
    ("", format!("TLS cannot be set up: {error}"))
}

/// The authorities, those of the file or those of the system; and the certificates of the file, which are trusted
/// themselves, too.
fn trusted(settings: &TlsToServers) -> Result<(RootCertStore, Vec<CertificateDer<'static>>), String> {
    if let Some(ca) = &settings.ca {
        return Ok((roots(ca)?, certificate::chain(ca)?));
    }
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    match roots.is_empty() {
        true => Err(
            "this system has no certificates of authorities; install them (ca-certificates), or name a file"
                .into(),
        ),
        false => Ok((roots, Vec::new())),
    }
}

/// Which check of a handshake with a server failed, as a part of a sentence.
pub fn words(error: &Error) -> String {
    match error {
        Error::InvalidCertificate(error) => of_certificate(error),
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => {
            "the server does not speak TLS on this port".into()
        }
        Error::AlertReceived(AlertDescription::CertificateRequired) => {
            "the server requires a client certificate; set tls.certificate".into()
        }
        Error::AlertReceived(AlertDescription::NoApplicationProtocol) => {
            "the server does not offer the protocol that is wanted (ALPN)".into()
        }
        Error::AlertReceived(alert) => format!("the server ended the TLS handshake with the alert {alert:?}"),
        Error::PeerIncompatible(_) => "the server has no TLS version or cipher in common with us".into(),
        other => format!("TLS failed: {other}"),
    }
}

fn of_certificate(error: &CertificateError) -> String {
    let words = trust::words(error);
    if trust::is_authority(error) {
        format!(
            "{words}: set tls.ca to a file that has this very certificate, or have it issued with CA:FALSE"
        )
    } else if trust::is_untrusted(error) {
        format!("{words}: set tls.ca to the file of the authority")
    } else {
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_says_which_check_it_was() {
        let check = |error: Error, expected: &str| {
            let words = words(&error);
            assert!(words.contains(expected), "{words}");
        };
        let of = Error::InvalidCertificate;
        check(of(CertificateError::Expired), "certificate expired");
        check(of(CertificateError::UnknownIssuer), "unknown issuer: set tls.ca");
        let expected = ServerName::try_from("a.test").unwrap().to_owned();
        let presented = vec!["DnsName(\"b.test\")".to_owned(), "DnsName(\"c.test\")".to_owned()];
        check(
            of(CertificateError::NotValidForNameContext { expected, presented }),
            "name mismatch: wanted a.test, certificate is for b.test, c.test",
        );
        check(Error::InvalidMessage(InvalidMessage::InvalidContentType), "does not speak TLS");
        check(Error::AlertReceived(AlertDescription::CertificateRequired), "tls.certificate");
    }
}
