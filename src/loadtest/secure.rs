//! Connections in clear text and over TLS, both nonblocking.

use super::Options;
use crate::base::cryptography::{AnyCertificate, provider};
use crate::base::trust;
use rustls::client::Resumption;
use rustls::client::danger::ServerCertVerifier;
use rustls::{ClientConfig, ClientConnection, HandshakeKind, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Plaintext that a session takes before it is sent, in bytes.
const PENDING_MAX: usize = 64 << 10;

/// Connections that share a store of sessions: a store of rustls keeps 8 tickets for a server, each resumed session uses one up
/// and brings two, so with more connections that begin at once some would find none.
const CONNECTIONS_OF_A_STORE: usize = 4;

/// What a client of TLS needs for each connection.
#[derive(Clone, Debug)]
pub(super) struct Client {
    /// The same, each with sessions of its own to resume. Connections take turns.
    configs: Arc<[Arc<ClientConfig>]>,
    name: ServerName<'static>,
    counts: Arc<Counts>,
}

/// Sessions that have begun, and handshakes of connections that have ended.
#[derive(Debug, Default)]
struct Counts {
    begun: AtomicU64,
    all: AtomicU64,
    resumed: AtomicU64,
}

impl Client {
    /// For the host of a URL, with the configuration of [`config`].
    pub(super) fn new(config: &ClientConfig, options: &Options, host: &str) -> Result<Client, String> {
        let name = ServerName::try_from(host.to_owned());
        let name = name.map_err(|_| format!("{host} is not a name that TLS can check"))?;
        let with_sessions = |_| {
            let mut config = config.clone();
            config.resumption = match options.resume {
                true => Resumption::default(),
                false => Resumption::disabled(),
            };
            Arc::new(config)
        };
        let stores = options.connections.div_ceil(CONNECTIONS_OF_A_STORE).max(1);
        let configs = (0..stores).map(with_sessions).collect();
        Ok(Client { configs, name, counts: Arc::default() })
    }

    fn connect(&self) -> Result<ClientConnection, rustls::Error> {
        let at = self.counts.begun.fetch_add(1, Relaxed) as usize % self.configs.len();
        ClientConnection::new(Arc::clone(&self.configs[at]), self.name.clone())
    }

    /// Handshakes of connections that have ended, and how many of them resumed a session.
    pub(super) fn handshakes(&self) -> (u64, u64) {
        (self.counts.all.load(Relaxed), self.counts.resumed.load(Relaxed))
    }
}

/// The configuration for all connections: certificates are checked against `authorities` (a PEM file), or else those of
/// the system, or not at all. Fails with a sentence.
pub(super) fn config(insecure: bool, authorities: Option<&Path>) -> Result<ClientConfig, String> {
    let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| format!("no TLS: {error}"))?;
    let verifier = match insecure {
        true => Arc::new(AnyCertificate) as Arc<dyn ServerCertVerifier>,
        false => {
            let (roots, named) = roots(authorities)?;
            trust::verifier(roots, named, Vec::new()).map_err(|error| format!("no TLS: {error}"))?
        }
    };
    let mut config = builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// The authorities, and the certificates that are trusted themselves: those of a file.
fn roots(authorities: Option<&Path>) -> Result<(RootCertStore, Vec<CertificateDer<'static>>), String> {
    let mut roots = RootCertStore::empty();
    let Some(file) = authorities else {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        return Ok((roots, Vec::new()));
    };
    let cannot = |error: String| format!("{} cannot be read as certificates: {error}", file.display());
    let certificates = CertificateDer::pem_file_iter(file).map_err(|error| cannot(error.to_string()))?;
    let named: Vec<_> = certificates.collect::<Result<_, _>>().map_err(|error| cannot(error.to_string()))?;
    for certificate in &named {
        roots.add(certificate.clone()).map_err(|error| cannot(error.to_string()))?;
    }
    match roots.is_empty() {
        true => Err(cannot("it has none".to_string())),
        false => Ok((roots, named)),
    }
}

/// A nonblocking connection.
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<Session>),
}

/// A connection and its session.
pub(super) struct Session {
    socket: TcpStream,
    tls: ClientConnection,
    counts: Arc<Counts>,
}

impl Drop for Session {
    fn drop(&mut self) {
        let Some(kind) = self.tls.handshake_kind() else { return };
        self.counts.all.fetch_add(1, Relaxed);
        self.counts.resumed.fetch_add(u64::from(kind == HandshakeKind::Resumed), Relaxed);
    }
}

impl Stream {
    /// Begins a session if `client` is given.
    pub(super) fn over(socket: TcpStream, client: Option<&Client>) -> io::Result<Stream> {
        let Some(client) = client else { return Ok(Stream::Plain(socket)) };
        let mut tls = client.connect().map_err(io::Error::other)?;
        tls.set_buffer_limit(Some(PENDING_MAX));
        Ok(Stream::Tls(Box::new(Session { socket, tls, counts: Arc::clone(&client.counts) })))
    }

    /// Whether a read that does not fill the buffer has emptied the socket.
    pub(super) fn is_plain(&self) -> bool {
        matches!(self, Stream::Plain(_))
    }

    /// Sends what is accepted; in a session, before the end of the handshake, nothing is.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(socket) => socket.write(bytes),
            Stream::Tls(session) => session.write(bytes),
        }
    }

    /// Receives; 0 at the end.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(socket) => socket.read(buffer),
            Stream::Tls(session) => session.read(buffer),
        }
    }

    /// Performs the handshake of a blocking connection; nothing to do in clear text.
    pub(super) fn greet(&mut self) -> io::Result<()> {
        let Stream::Tls(session) = self else { return Ok(()) };
        while session.tls.is_handshaking() {
            session.tls.complete_io(&mut session.socket)?;
        }
        Ok(())
    }
}

/// The sentence of a failed handshake, if the error is one; other errors are the network's.
pub(super) fn handshake_failure(error: &io::Error) -> Option<String> {
    let inner = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    Some(match inner {
        rustls::Error::InvalidCertificate(error) if trust::is_untrusted(error) => {
            format!(
                "{}; name its authority, or itself, with --cacert FILE, or write --insecure",
                trust::words(error)
            )
        }
        rustls::Error::InvalidCertificate(error) => {
            format!("{}; --insecure accepts any certificate", trust::words(error))
        }
        _ => inner.to_string(),
    })
}

impl Session {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        while self.tls.is_handshaking() {
            self.send()?;
            if self.tls.is_handshaking() && self.receive()? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
        // What is pending goes first, so that the session has room.
        let sent = self.send();
        match (self.tls.writer().write(bytes)?, sent) {
            (0, Err(error)) => Err(error),
            (0, Ok(())) => Err(ErrorKind::WouldBlock.into()),
            (count, _) => {
                let _ = self.send().map_err(|error| log::debug!("found again at the next read: {error}"));
                Ok(count)
            }
        }
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.tls.reader().read(buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                // A server that closes without close_notify has closed.
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(0),
                done => return done,
            }
            // Records that wait for room leave with the event that tells of it.
            let sent = self.send();
            if self.receive()? == 0 {
                return Ok(0);
            }
            sent.or_else(|error| if error.kind() == ErrorKind::WouldBlock { Ok(()) } else { Err(error) })?;
        }
    }

    /// Sends all pending records.
    fn send(&mut self) -> io::Result<()> {
        while self.tls.wants_write() {
            self.tls.write_tls(&mut self.socket)?;
        }
        Ok(())
    }

    /// Receives records; 0 at the end.
    fn receive(&mut self) -> io::Result<usize> {
        let count = self.tls.read_tls(&mut self.socket)?;
        if let Err(error) = self.tls.process_new_packets() {
            // The alert tells the server why.
            let _ = self.send();
            return Err(io::Error::new(ErrorKind::InvalidData, error));
        }
        Ok(count)
    }
}
