//! Layer 1: what is known of a client's TLS session: for headers to the server, and for logs.

use crate::state::tls::subject::ClientCertificate;
use rustls::{Connection, ProtocolVersion};

/// A client's TLS session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsInfo {
    /// `TLSv1.3` or `TLSv1.2`.
    pub version: &'static str,
    /// The cipher suite, as IANA names it.
    pub cipher: String,
    /// The name that the client asked for (SNI).
    pub server_name: Option<String>,
    /// The certificate that the client showed, verified.
    pub client: Option<ClientCertificate>,
}

impl TlsInfo {
    /// Of a session whose handshake is complete.
    pub fn of(session: &Connection) -> Self {
        let version = match session.protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
            _ => "TLSv1.2",
        };
        let suite = session.negotiated_cipher_suite().map(|suite| format!("{:?}", suite.suite()));
        let server_name = match session {
            Connection::Server(session) => session.server_name().map(str::to_owned),
            Connection::Client(_) => None,
        };
        let client = session.peer_certificates().and_then(<[_]>::first).map(ClientCertificate::of);
        // rustls names those of TLS 1.3 with a prefix that IANA does not have.
        let cipher = suite.unwrap_or_default().replace("TLS13_", "TLS_");
        TlsInfo { version, cipher, server_name, client }
    }
}
