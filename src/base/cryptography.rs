//! The implementation of cryptography that all of TLS has, towards clients, towards servers and in the load generator.

use rustls::Error;
use rustls::client::danger::{ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use std::sync::{Arc, OnceLock};

/// The one implementation of cryptography, passed explicitly wherever it is needed.
pub fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| Arc::new(aws_lc_rs::default_provider())))
}

/// That a peer has the key of the certificate it shows is verified in one way, whatever decides about the certificate: these are the
/// methods of both kinds of verifiers, of servers and of clients, which have no trait in common.
macro_rules! verify_signatures {
    () => {
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            certificate: &rustls_pki_types::CertificateDer<'_>,
            signed: &rustls::DigitallySignedStruct,
        ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
            let known = &$crate::base::cryptography::provider().signature_verification_algorithms;
            let signed_so = || $crate::base::version_1::signed_in_tls12(message, certificate, signed);
            let verified = rustls::crypto::verify_tls12_signature(message, certificate, signed, known);
            verified.or_else(|error| signed_so().unwrap_or(Err(error)))
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            certificate: &rustls_pki_types::CertificateDer<'_>,
            signed: &rustls::DigitallySignedStruct,
        ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
            let known = &$crate::base::cryptography::provider().signature_verification_algorithms;
            let signed_so = || $crate::base::version_1::signed_in_tls13(message, certificate, signed);
            let verified = rustls::crypto::verify_tls13_signature(message, certificate, signed, known);
            verified.or_else(|error| signed_so().unwrap_or(Err(error)))
        }

        fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
            $crate::base::cryptography::provider().signature_verification_algorithms.supported_schemes()
        }
    };
}
pub(crate) use verify_signatures;

/// Accepts every certificate, where an operator asks for that. That the peer has its key is checked all the same.
#[derive(Debug)]
pub struct AnyCertificate;

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    verify_signatures!();
}
