//! Why a handshake with a client failed: one enum, so that each kind has a counter and a line in the log.

use rustls::{CertificateError, Error, PeerIncompatible};

/// Builds the enum and its tables from one row per kind.
macro_rules! failures {
    ($($(#[$doc:meta])* $failure:ident = $name:literal, $sentence:literal;)*) => {
        /// Why a TLS handshake with a client failed.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum HandshakeFailure { $($(#[$doc])* $failure,)* }

        impl HandshakeFailure {
            /// All kinds, in order.
            pub const ALL: &'static [HandshakeFailure] = &[$(HandshakeFailure::$failure,)*];

            /// The name in metrics and logs: snake_case, stable.
            pub const fn name(self) -> &'static str {
                match self { $(HandshakeFailure::$failure => $name,)* }
            }

            /// A sentence for people.
            pub const fn sentence(self) -> &'static str {
                match self { $(HandshakeFailure::$failure => $sentence,)* }
            }
        }
    };
}

failures! {
    /// The first bytes are neither TLS nor HTTP.
    NotTls = "not_tls", "The client's first bytes were neither TLS nor HTTP.";
    /// It was not complete in time.
    Timeout = "timeout", "The handshake was not complete in time.";
    /// The client closed in the middle.
    ClientGone = "client_gone", "The client closed the connection in the middle of the handshake.";
    /// No version in common.
    Version = "version", "The client speaks no TLS version that min_version allows.";
    /// No cipher suite, group or signature scheme in common.
    Cipher = "cipher", "Client and balancer have no cipher, key exchange or kind of certificate in common.";
    /// `unknown_name` is `refuse`, and no certificate is for the name.
    UnknownName = "unknown_name", "The client named no host, or one that no certificate is for (tls.unknown_name).";
    /// ALPN: no protocol in common.
    Protocol = "protocol", "The client offers no protocol (ALPN) that is spoken here.";
    /// The client rejected our certificate, or gave up with an alert.
    RejectedByClient = "rejected_by_client", "The client ended the handshake with an alert; most often it does not trust the certificate.";
    /// A client certificate is required and there was none.
    ClientCertificateMissing = "client_certificate_missing", "The client has no certificate, and client_auth requires one.";
    /// The client's certificate is not accepted.
    ClientCertificateInvalid = "client_certificate_invalid", "The client's certificate is not accepted: it has expired, or no authority of client_auth.ca issued it.";
    /// The client's certificate is on a list of revoked ones.
    ClientCertificateRevoked = "client_certificate_revoked", "The client's certificate, or that of an authority in its chain, was revoked (client_auth.crl).";
    /// There is no list that tells whether it is.
    RevocationUnknown = "revocation_unknown", "No valid list in client_auth.crl tells whether the client's certificate was revoked: that of one of its authorities is missing or has expired.";
    /// What came is no valid TLS.
    Malformed = "malformed", "The client's messages are not valid TLS.";
}

impl HandshakeFailure {
    /// The kind of an error of a session.
    pub fn of(error: &Error) -> Self {
        match error {
            Error::AlertReceived(_) => HandshakeFailure::RejectedByClient,
            Error::NoCertificatesPresented => HandshakeFailure::ClientCertificateMissing,
            Error::InvalidCertificate(CertificateError::Revoked) => HandshakeFailure::ClientCertificateRevoked,
            Error::InvalidCertificate(
                CertificateError::UnknownRevocationStatus
                | CertificateError::ExpiredRevocationList
                | CertificateError::ExpiredRevocationListContext { .. },
            )
            | Error::InvalidCertRevocationList(_) => HandshakeFailure::RevocationUnknown,
            Error::InvalidCertificate(_) | Error::UnsupportedNameType => {
                HandshakeFailure::ClientCertificateInvalid
            }
            Error::NoApplicationProtocol => HandshakeFailure::Protocol,
            Error::PeerIncompatible(
                PeerIncompatible::Tls12NotOffered
                | PeerIncompatible::Tls12NotOfferedOrEnabled
                | PeerIncompatible::SupportedVersionsExtensionRequired
                | PeerIncompatible::ServerDoesNotSupportTls12Or13
                // Clients of TLS 1.0 and 1.1 do not know this extension.
                | PeerIncompatible::SignatureAlgorithmsExtensionRequired,
            ) => HandshakeFailure::Version,
            // What rustls says where a listener has no certificate to choose from.
            Error::General(text) if text.starts_with("no server certificate") => HandshakeFailure::UnknownName,
            // The other general error of a server: no certificate suits the client.
            Error::PeerIncompatible(_) | Error::General(_) => HandshakeFailure::Cipher,
            _ => HandshakeFailure::Malformed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_row() {
        for (at, failure) in HandshakeFailure::ALL.iter().enumerate() {
            assert_eq!(*failure as usize, at);
            let (first, rest) = failure.sentence().split_at(1);
            assert!(first == first.to_uppercase() && rest.ends_with('.'), "{failure:?}");
        }
    }
}
