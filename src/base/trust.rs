//! Whether a certificate is trusted, and in which words it is not: those of servers, also in the load generator, and of clients.

use super::cryptography::{provider, verify_signatures};
use rustls::client::danger::{ServerCertVerified, ServerCertVerifier};
use rustls::client::{VerifierBuilderError, WebPkiServerVerifier, verify_server_name};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, Error, RootCertStore};
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, ServerName, UnixTime};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};
use x509_parser::prelude::{FromDer, X509Certificate};

/// Trusts what these authorities have issued, and the certificates in `named` themselves. `openssl req -x509` makes a certificate
/// that calls itself an authority, which a server must not show by RFC 5280; an operator who names that very
/// certificate means it, as with curl and nginx. Its dates and names count all the same. With `lists` of revoked certificates
/// every authority of a chain needs one, and one that is over proves nothing.
pub fn verifier(
    authorities: RootCertStore,
    named: Vec<CertificateDer<'static>>,
    lists: Vec<CertificateRevocationListDer<'static>>,
) -> Result<Arc<dyn ServerCertVerifier>, VerifierBuilderError> {
    let mut builder = WebPkiServerVerifier::builder_with_provider(Arc::new(authorities), provider());
    if !lists.is_empty() {
        builder = builder.with_crls(lists).enforce_revocation_expiration();
    }
    let issued = builder.build()?;
    Ok(match named.is_empty() {
        true => issued,
        false => Arc::new(IssuedOrNamed { issued, named }),
    })
}

#[derive(Debug)]
struct IssuedOrNamed {
    issued: Arc<WebPkiServerVerifier>,
    named: Vec<CertificateDer<'static>>,
}

impl ServerCertVerifier for IssuedOrNamed {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let issued = self.issued.verify_server_cert(shown, intermediates, name, ocsp, now);
        if issued.is_ok() || !self.named.iter().any(|named| named == shown) {
            return issued;
        }
        in_time(shown, now)?;
        verify_server_name(&ParsedCertificate::try_from(shown)?, name)?;
        Ok(ServerCertVerified::assertion())
    }

    verify_signatures!();
}

/// Whether the dates of a certificate are good.
pub fn in_time(certificate: &CertificateDer<'_>, now: UnixTime) -> Result<(), CertificateError> {
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|_| CertificateError::BadEncoding)?;
    let moment =
        |time: i64| UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(time).unwrap_or(0)));
    let validity = parsed.validity();
    let (from, until) = (moment(validity.not_before.timestamp()), moment(validity.not_after.timestamp()));
    if now > until {
        return Err(CertificateError::ExpiredContext { time: now, not_after: until });
    }
    if now < from {
        return Err(CertificateError::NotValidYetContext { time: now, not_before: from });
    }
    Ok(())
}

/// Which check of a certificate failed, as a part of a sentence.
pub fn words(error: &CertificateError) -> String {
    match error {
        CertificateError::Expired => "certificate expired".into(),
        CertificateError::ExpiredContext { not_after, .. } => {
            format!("certificate expired: it was valid until {}", when(*not_after))
        }
        CertificateError::NotValidYet => "certificate not valid yet".into(),
        CertificateError::NotValidYetContext { not_before, .. } => {
            format!("certificate not valid yet: it is valid from {}", when(*not_before))
        }
        CertificateError::UnknownIssuer => "unknown issuer".into(),
        CertificateError::NotValidForName => "name mismatch: the certificate is for another name".into(),
        CertificateError::NotValidForNameContext { expected, presented } => {
            let presented: Vec<_> = presented.iter().map(|name| bare(name)).collect();
            let of = if presented.is_empty() { "no name".to_owned() } else { presented.join(", ") };
            format!("name mismatch: wanted {}, certificate is for {of}", expected.to_str())
        }
        CertificateError::Revoked => "certificate revoked".into(),
        CertificateError::UnknownRevocationStatus => {
            "no list of revoked certificates (crl) of one of its authorities".into()
        }
        CertificateError::ExpiredRevocationList | CertificateError::ExpiredRevocationListContext { .. } => {
            "the list of revoked certificates (crl) of one of its authorities has expired".into()
        }
        CertificateError::BadSignature => {
            "certificate with a bad signature, or with an RSA key of fewer than 2048 bits".into()
        }
        CertificateError::UnsupportedSignatureAlgorithmContext { .. } => {
            "certificate signed in a way that is not accepted, such as with SHA-1".into()
        }
        CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            "certificate with a key of a kind that is not supported; RSA, ECDSA (P-256, P-384, P-521) and Ed25519 are".into()
        }
        other if of_webpki(other, "UnsupportedCertVersion") => {
            "certificate of an old version, without extensions".into()
        }
        other if of_webpki(other, "UnsupportedCriticalExtension") => {
            "certificate with a critical extension that is not known".into()
        }
        other if is_authority(other) => {
            "certificate of an authority (CA:TRUE, as self-signed ones have it) that is not trusted itself".into()
        }
        other => format!("certificate not accepted: {other}"),
    }
}

/// Whether naming the certificate, or its authority, as a trusted one would mend it.
pub fn is_untrusted(error: &CertificateError) -> bool {
    *error == CertificateError::UnknownIssuer || is_authority(error)
}

/// The server shows the certificate of an authority. rustls has no name for that; the error of webpki in it is private.
pub fn is_authority(error: &CertificateError) -> bool {
    of_webpki(error, "CaUsedAsEndEntity")
}

fn of_webpki(error: &CertificateError, name: &str) -> bool {
    matches!(error, CertificateError::Other(inner) if format!("{inner:?}").contains(name))
}

/// The name in `DnsName("a.test")`.
fn bare(presented: &str) -> &str {
    let inner = presented.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
    inner.unwrap_or(presented).trim_matches('"')
}

fn when(time: UnixTime) -> String {
    date(i64::try_from(time.as_secs()).unwrap_or(i64::MAX))
}

/// A point in time, in seconds since 1970, for people; any clock has one.
pub fn date(unix_seconds: i64) -> String {
    let seconds = u64::try_from(unix_seconds).unwrap_or(0).min(253_402_300_799);
    humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(seconds)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, date_time_ymd};

    /// A certificate as `openssl req -x509` makes one: self-signed, and an authority by its own words.
    fn self_signed(is_old: bool) -> CertificateDer<'static> {
        let mut params = CertificateParams::new(vec!["a.test".to_owned()]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        if is_old {
            (params.not_before, params.not_after) = (date_time_ymd(1999, 1, 1), date_time_ymd(1999, 12, 31));
        }
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    #[track_caller]
    fn check(
        named: &CertificateDer<'static>,
        shown: &CertificateDer<'static>,
        name: &'static str,
        expected: &str,
    ) {
        let mut roots = RootCertStore::empty();
        roots.add(named.clone()).unwrap();
        let verifier = verifier(roots, vec![named.clone()], Vec::new()).unwrap();
        let name = ServerName::try_from(name).unwrap();
        let told = match verifier.verify_server_cert(shown, &[], &name, &[], UnixTime::now()) {
            Ok(_) => "trusted".to_owned(),
            Err(Error::InvalidCertificate(error)) => words(&error),
            Err(other) => other.to_string(),
        };
        assert!(told.starts_with(expected), "{told}");
    }

    #[test]
    fn a_self_signed_certificate_that_is_named_itself_is_trusted_within_its_dates_and_names() {
        let (own, other, old) = (self_signed(false), self_signed(false), self_signed(true));
        check(&own, &own, "a.test", "trusted");
        check(&own, &own, "b.test", "name mismatch: wanted b.test, certificate is for a.test");
        check(&old, &old, "a.test", "certificate expired: it was valid until 1999-12-31");
        check(&own, &other, "a.test", "certificate of an authority (CA:TRUE, as self-signed ones have it)");
    }

    #[test]
    fn each_kind_has_words_of_its_own() {
        // As `openssl x509 -req` makes it without `-extfile`: of version 1.
        let old = include_bytes!("../../tests/corpus/certificates/version-1.der");
        let old = CertificateDer::from(old.to_vec());
        check(&self_signed(false), &old, "a.test", "certificate of an old version");
        let kind = [1, 2, 3, 4];
        let unknown = rcgen::CustomExtension::from_oid_content(&kind, vec![5, 0]);
        let with_unknown = {
            let mut params = CertificateParams::new(vec!["a.test".to_owned()]).unwrap();
            params.custom_extensions = vec![unknown];
            params.custom_extensions.iter_mut().for_each(|one| one.set_criticality(true));
            params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
        };
        check(&self_signed(false), &with_unknown, "a.test", "certificate with a critical extension");
        let supported = Vec::new();
        let signed = CertificateError::UnsupportedSignatureAlgorithmContext {
            signature_algorithm_id: vec![6],
            supported_algorithms: supported,
        };
        assert!(words(&signed).contains("such as with SHA-1"));
    }

    #[test]
    fn what_naming_it_would_mend_is_known() {
        assert!(is_untrusted(&CertificateError::UnknownIssuer));
        assert!(!is_untrusted(&CertificateError::Expired));
    }
}
