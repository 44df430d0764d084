//! Which clients may come in under some names of a listener: what verifies them, and what keeps their sessions.

use super::super::stamp::{Stamp, stamp};
use super::certificate;
use super::listener::{Expiry, roots};
use super::revocation;
use crate::base::cryptography::{provider, verify_signatures};
use crate::base::{trust, version_1};
use crate::state::config::ClientAuth;
use parking_lot::RwLock;
use rustls::DistinguishedName;
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ProducesTickets, VerifierBuilderError, WebPkiClientVerifier};
use rustls_pki_types::{CertificateDer, UnixTime};
use std::sync::Arc;

/// Who may come in.
#[derive(Clone, Debug)]
pub(super) struct Clients {
    auth: Option<ClientAuth>,
    /// The files of `auth` as they were.
    stamps: Vec<Stamp>,
    pub(super) verifier: Option<Arc<dyn ClientCertVerifier>>,
    /// Until when the lists of revoked certificates hold.
    pub(super) lists: Vec<Expiry>,
    /// Outlives a change of certificates, but none of who may come in: a session that is resumed brings along the
    /// certificate that the client has shown.
    pub(super) tickets: Arc<Tickets>,
}

/// What is at fault: a key of `client_auth`, empty for TLS itself; and what to do.
pub(super) type Fault = (&'static str, String);

impl Clients {
    /// Reads the files; sessions go on where these are the same clients as some of `before`.
    pub(super) fn read(auth: Option<&ClientAuth>, before: &[Clients], now: i64) -> Result<Self, Vec<Fault>> {
        let stamps = stamps(auth);
        let is_same = |clients: &&Clients| clients.auth.as_ref() == auth && clients.stamps == stamps;
        let tickets = before.iter().find(is_same).map(|clients| Arc::clone(&clients.tickets));
        let (verifier, lists) = match auth {
            Some(auth) => {
                let (verifier, lists) = verifier(auth, now).map_err(|fault| {
                    let unread =
                        (fault.0 == "ca").then(|| revocation::unopened(auth.crl.as_deref())).flatten();
                    [Some(fault), unread.map(|advice| ("crl", advice))]
                        .into_iter()
                        .flatten()
                        .collect::<Vec<_>>()
                })?;
                (Some(verifier), lists)
            }
            None => (None, Vec::new()),
        };
        let tickets = tickets.map_or_else(|| Tickets::new().map(Arc::new), Ok);
        let tickets = tickets.map_err(|error| vec![("", error.to_string())])?;
        Ok(Clients { auth: auth.cloned(), stamps, verifier, lists, tickets })
    }

    /// Whether these are the ones that `auth` describes.
    pub(super) fn are(&self, auth: Option<&ClientAuth>) -> bool {
        self.auth.as_ref() == auth
    }

    /// Whether they have certificates.
    pub(super) fn are_asked(&self) -> bool {
        self.auth.is_some()
    }

    /// Whether they must have certificates.
    pub(super) fn are_required(&self) -> bool {
        self.auth.as_ref().is_some_and(|auth| auth.require)
    }

    /// Looks again at what a client has shown when its session began, which the session was resumed without. If that is
    /// no longer good, no session that began before is resumed: this client, too, shows next time what it has now.
    pub(super) fn verify_again(
        &self,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), rustls::Error> {
        let (Some(verifier), Some((first, rest))) = (&self.verifier, chain.split_first()) else {
            return Ok(());
        };
        let verified = verifier.verify_client_cert(first, rest, now);
        if verified.is_err() {
            self.tickets.renew();
        }
        verified.map(drop)
    }
}

/// The files of `client_auth` as they are.
pub(super) fn stamps(auth: Option<&ClientAuth>) -> Vec<Stamp> {
    let files = auth.into_iter().flat_map(|auth| [Some(&auth.ca), auth.crl.as_ref()]);
    files.flatten().map(|file| stamp(file)).collect()
}

/// Encrypts session tickets for all workers.
#[derive(Debug)]
pub(super) struct Tickets(RwLock<Arc<dyn ProducesTickets>>);

impl Tickets {
    fn new() -> Result<Self, rustls::Error> {
        Ok(Tickets(RwLock::new(Ticketer::new()?)))
    }

    /// Tickets from before are no longer good.
    fn renew(&self) {
        match Ticketer::new() {
            Ok(new) => *self.0.write() = new,
            Err(error) => log::error!("TLS: there are no new keys for session tickets: {error}"),
        }
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        self.0.read().enabled()
    }

    fn lifetime(&self) -> u32 {
        self.0.read().lifetime()
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.0.read().encrypt(plain)
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        self.0.read().decrypt(cipher)
    }
}

/// Lets the clients in that `issued` does, and those that show one of the certificates in `named` itself: `openssl req -x509` makes
/// one that calls itself an authority, which a client must not show by RFC 5280; an operator who names that very certificate
/// means it, as with nginx. So are certificates of version 1 by an authority in `named`.
#[derive(Debug)]
struct IssuedOrNamed {
    issued: Arc<dyn ClientCertVerifier>,
    named: Vec<CertificateDer<'static>>,
}

impl ClientCertVerifier for IssuedOrNamed {
    fn client_auth_mandatory(&self) -> bool {
        self.issued.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.issued.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        shown: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let issued = self.issued.verify_client_cert(shown, intermediates, now);
        if issued.is_ok() {
            return issued;
        }
        if !self.named.iter().any(|named| named == shown) {
            // Of version 1, which webpki does not read.
            let old = version_1::is_issued(shown, &self.named, now);
            return old.map(|()| ClientCertVerified::assertion()).or(issued);
        }
        trust::in_time(shown, now)?;
        Ok(ClientCertVerified::assertion())
    }

    verify_signatures!();
}

/// What verifies clients, and until when its lists hold.
type Verifier = (Arc<dyn ClientCertVerifier>, Vec<Expiry>);

/// The error has the key that is at fault.
fn verifier(auth: &ClientAuth, now: i64) -> Result<Verifier, Fault> {
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
    // Where there are lists of revoked certificates every one has to be on or off such a list.
    let named = if auth.crl.is_none() { certificate::chain(&auth.ca).map_err(of_ca)? } else { Vec::new() };
    Ok((Arc::new(IssuedOrNamed { issued: verifier, named }), expiries))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::tls::failure::HandshakeFailure;
    use rcgen::{
        BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, IsCa, Issuer,
        KeyIdMethod, KeyPair, SerialNumber, date_time_ymd,
    };
    use std::fs;
    use std::time::Duration;

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

    #[test]
    fn a_client_whose_certificate_is_no_longer_good_ends_the_sessions_that_are_resumed() {
        let folder = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let (key, ca) = (KeyPair::generate().unwrap(), folder.path().join("ca.pem"));
        fs::write(&ca, params.self_signed(&key).unwrap().pem()).unwrap();
        let issuer = Issuer::new(params, key);
        let mut leaf = CertificateParams::new(vec!["alice".to_owned()]).unwrap();
        leaf.not_after = date_time_ymd(2030, 1, 5);
        let leaf = leaf.signed_by(&KeyPair::generate().unwrap(), &issuer).unwrap().der().clone();
        let auth = ClientAuth { ca, crl: None, require: true };
        let clients = Clients::read(Some(&auth), &[], 0).unwrap();
        let ticket = clients.tickets.encrypt(b"a session").unwrap();
        let verify = |day| {
            let now = date_time_ymd(2030, 1, day).unix_timestamp().unsigned_abs();
            let now = UnixTime::since_unix_epoch(Duration::from_secs(now));
            let verified = clients.verify_again(std::slice::from_ref(&leaf), now);
            let failure = verified.map_err(|error| HandshakeFailure::of(&error)).err();
            (failure, clients.tickets.decrypt(&ticket).is_some())
        };
        assert_eq!(verify(4), (None, true));
        assert_eq!(verify(6), (Some(HandshakeFailure::ClientCertificateInvalid), false));
    }
}
