//! Certificates of version 1, which have no extensions: `openssl x509 -req` makes them of many requests for certificates of clients, and
//! nginx and HAProxy accept these. webpki reads none, so what is verified of them is verified here, with the same algorithms.

use super::cryptography::provider;
use super::trust;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::{CertificateError, DigitallySignedStruct, Error};
use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm, SubjectPublicKeyInfoDer, UnixTime};
use x509_parser::asn1_rs::Any;
use x509_parser::prelude::{FromDer, X509Certificate, X509Version};

/// Whether one of these authorities has issued the certificate itself, and its dates are good. Without extensions it could not say that
/// it is an authority or for what it may be used, so it is never more than the end of a chain, and an authority that has
/// constraints for names has no say about it.
pub fn is_issued(
    shown: &CertificateDer<'_>,
    authorities: &[CertificateDer<'_>],
    now: UnixTime,
) -> Result<(), Error> {
    let certificate = parsed(shown).ok_or(CertificateError::BadEncoding)?;
    trust::in_time(shown, now)?;
    let issued = authorities.iter().any(|authority| has_issued(authority, shown, &certificate, now));
    if issued { Ok(()) } else { Err(CertificateError::UnknownIssuer.into()) }
}

/// That the peer has the key of its certificate, in TLS 1.2. `None`: it is no certificate of version 1.
pub fn signed_in_tls12(
    message: &[u8],
    shown: &CertificateDer<'_>,
    signed: &DigitallySignedStruct,
) -> Option<Result<HandshakeSignatureValid, Error>> {
    let certificate = parsed(shown)?;
    let mapping = provider().signature_verification_algorithms.mapping;
    let of_scheme = mapping.iter().find(|(scheme, _)| *scheme == signed.scheme);
    let algorithms = of_scheme.map_or(&[][..], |(_, algorithms)| algorithms);
    let is_good = is_signed(&certificate, algorithms.iter().copied(), message, signed.signature());
    let bad = || Error::InvalidCertificate(CertificateError::BadSignature);
    Some(is_good.then(HandshakeSignatureValid::assertion).ok_or_else(bad))
}

/// The same in TLS 1.3.
pub fn signed_in_tls13(
    message: &[u8],
    shown: &CertificateDer<'_>,
    signed: &DigitallySignedStruct,
) -> Option<Result<HandshakeSignatureValid, Error>> {
    let certificate = parsed(shown)?;
    let key = SubjectPublicKeyInfoDer::from(certificate.public_key().raw);
    let known = &provider().signature_verification_algorithms;
    Some(rustls::crypto::verify_tls13_signature_with_raw_key(message, &key, signed, known))
}

/// A certificate of version 1, and nothing else.
fn parsed<'d>(der: &'d CertificateDer<'_>) -> Option<X509Certificate<'d>> {
    let (rest, certificate) = X509Certificate::from_der(der).ok()?;
    let is_plain = rest.is_empty() && certificate.extensions().is_empty();
    (is_plain && certificate.version() == X509Version::V1).then_some(certificate)
}

fn has_issued(
    authority: &CertificateDer<'_>,
    der: &CertificateDer<'_>,
    issued: &X509Certificate<'_>,
    now: UnixTime,
) -> bool {
    let Ok((_, issuer)) = X509Certificate::from_der(authority) else { return false };
    let may_issue = issuer.is_ca()
        && matches!(issuer.name_constraints(), Ok(None))
        && issuer.key_usage().is_ok_and(|usage| usage.is_none_or(|usage| usage.value.key_cert_sign()))
        && trust::in_time(authority, now).is_ok();
    if !may_issue || issuer.subject().as_raw() != issued.issuer().as_raw() {
        return false;
    }
    let Some(algorithm) = signature_algorithm(der, issued) else { return false };
    let known = provider().signature_verification_algorithms.all;
    let fitting = known.iter().copied().filter(|known| known.signature_alg_id().as_ref() == algorithm);
    is_signed(&issuer, fitting, issued.tbs_certificate.as_ref(), &issued.signature_value.data)
}

/// The contents of the `AlgorithmIdentifier` of the signature, which the signed part repeats.
fn signature_algorithm<'d>(der: &'d CertificateDer<'_>, parsed: &X509Certificate<'d>) -> Option<&'d [u8]> {
    if parsed.tbs_certificate.signature != parsed.signature_algorithm {
        return None;
    }
    let (_, whole) = Any::from_der(der).ok()?;
    let (behind, _) = Any::from_der(whole.data).ok()?;
    Any::from_der(behind).ok().map(|(_, algorithm)| algorithm.data)
}

/// Whether the key of a certificate has signed this, by one of these algorithms.
fn is_signed(
    signer: &X509Certificate<'_>,
    mut algorithms: impl Iterator<Item = &'static dyn SignatureVerificationAlgorithm>,
    message: &[u8],
    signature: &[u8],
) -> bool {
    let key = signer.public_key();
    let of_key = Any::from_der(key.raw).ok().and_then(|(_, whole)| Any::from_der(whole.data).ok());
    let Some((_, of_key)) = of_key else { return false };
    algorithms.any(|algorithm| {
        algorithm.public_key_alg_id().as_ref() == of_key.data
            && algorithm.verify_signature(&key.subject_public_key.data, message, signature).is_ok()
    })
}
