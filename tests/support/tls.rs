//! Certificates made for a test, and a TLS client that verifies them.

use super::{DEADLINE, Evenkeel};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, IsCa, Issuer, KeyIdMethod,
    KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, RevokedCertParams, RsaKeySize, SerialNumber,
    date_time_ymd,
};
use rustls::client::WebPkiServerVerifier;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::WebPkiClientVerifier;
use rustls::{
    ClientConfig, ClientConnection, HandshakeKind, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::{Value, json};
use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, SystemTime};

/// An authority, and a folder for what it issues.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its certificate.
    pub pem: String,
    folder: tempfile::TempDir,
}

/// Seconds from now, as certificates have it; negative for the past.
fn moment(seconds: i64) -> SystemTime {
    let span = Duration::from_secs(seconds.unsigned_abs());
    if seconds < 0 { SystemTime::now() - span } else { SystemTime::now() + span }
}

/// A certificate in two files.
#[derive(Clone, Debug)]
pub struct Files {
    /// The chain.
    pub certificate: PathBuf,
    /// The key.
    pub key: PathBuf,
}

impl Files {
    /// As an entry of `certificates`.
    pub fn json(&self) -> Value {
        json!({"certificate": self.certificate, "key": self.key})
    }
}

/// The kind of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// ECDSA, P-256.
    Ecdsa,
    /// 2048 bits.
    Rsa,
}

impl Authority {
    /// A new one.
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("ca.pem"), &pem).unwrap();
        Authority { issuer: Issuer::new(params, key), pem, folder }
    }

    /// The authority's own certificate as that of a server, as `openssl req -x509` makes one.
    pub fn self_signed(name: &str) -> (Self, Files) {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("ca.pem"), &pem).unwrap();
        fs::write(folder.path().join("ca.key"), key.serialize_pem()).unwrap();
        let authority = Authority { issuer: Issuer::new(params, key), pem, folder };
        let files = Files { certificate: authority.file(), key: authority.path("ca.key") };
        (authority, files)
    }

    /// An authority below it. Its certificate is in its own `ca.pem`, alone.
    pub fn intermediate(&self, name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.serial_number = Some(SerialNumber::from(7));
        let key = KeyPair::generate().unwrap();
        let pem = params.signed_by(&key, &self.issuer).unwrap().pem();
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("ca.pem"), &pem).unwrap();
        Authority { issuer: Issuer::new(params, key), pem, folder }
    }

    /// Its list of revoked certificates, in PEM form: these serial numbers, from and until these seconds from now.
    pub fn revocations(&self, serials: &[u64], from: i64, until: i64) -> String {
        let revoked = |serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: moment(from).into(),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: moment(from).into(),
            next_update: moment(until).into(),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).unwrap().pem().unwrap()
    }

    /// Writes a file of its folder, in one step.
    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        replace(&self.path(name), text);
        self.path(name)
    }

    /// A certificate for this name with this serial number, and behind it those that lead to it.
    pub fn issue_numbered(&self, name: &str, serial: u64, chain: &[&Authority]) -> Files {
        let number = |params: &mut CertificateParams| params.serial_number = Some(SerialNumber::from(serial));
        let files = self.issue_as(name, &[name], Kind::Ecdsa, number);
        let own = fs::read_to_string(&files.certificate).unwrap();
        let all = chain.iter().fold(own, |all, authority| all + &authority.pem);
        self.write(&format!("{name}.pem"), &all);
        files
    }

    /// The file of its certificate.
    pub fn file(&self) -> PathBuf {
        self.path("ca.pem")
    }

    /// A path in its folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A certificate for these names.
    pub fn issue(&self, file: &str, names: &[&str]) -> Files {
        self.issue_as(file, names, Kind::Ecdsa, |_| ())
    }

    /// A certificate for these names, changed so.
    pub fn issue_as(
        &self,
        file: &str,
        names: &[&str],
        kind: Kind,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Files {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names.clone()).unwrap();
        params.distinguished_name.push(DnType::CommonName, names.first().map_or("test", String::as_str));
        change(&mut params);
        let key = match kind {
            Kind::Ecdsa => KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap(),
            Kind::Rsa => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap(),
        };
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        let files =
            Files { certificate: self.path(&format!("{file}.pem")), key: self.path(&format!("{file}.key")) };
        // In one step, as those who renew certificates do it.
        replace(&files.key, &key.serialize_pem());
        replace(&files.certificate, &certificate);
        files
    }

    /// Was valid in the last century.
    pub fn expired(params: &mut CertificateParams) {
        (params.not_before, params.not_after) = (date_time_ymd(1999, 1, 1), date_time_ymd(1999, 12, 31));
    }

    /// Will be valid in the next one.
    pub fn not_yet_valid(params: &mut CertificateParams) {
        (params.not_before, params.not_after) = (date_time_ymd(2100, 1, 1), date_time_ymd(2100, 12, 31));
    }

    /// The configuration of a client that trusts it.
    pub fn client(&self) -> ClientConfig {
        self.client_of(provider(), rustls::ALL_VERSIONS)
    }

    /// The same with this provider and these versions.
    pub fn client_of(
        &self,
        provider: CryptoProvider,
        versions: &[&'static rustls::SupportedProtocolVersion],
    ) -> ClientConfig {
        let (provider, roots) = (Arc::new(provider), Arc::new(self.roots()));
        let verifier =
            WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider)).build().unwrap();
        let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
        let mut config = builder.with_webpki_verifier(verifier).with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        config
    }

    /// The same with a certificate of the client.
    pub fn client_with(&self, files: &Files) -> ClientConfig {
        let builder =
            ClientConfig::builder_with_provider(Arc::new(provider())).with_safe_default_protocol_versions();
        let chain = CertificateDer::pem_file_iter(&files.certificate).unwrap().map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_file(&files.key).unwrap();
        builder.unwrap().with_root_certificates(self.roots()).with_client_auth_cert(chain, key).unwrap()
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap()).unwrap();
        roots
    }
}

/// The cryptography of tests.
pub fn provider() -> CryptoProvider {
    aws_lc_rs::default_provider()
}

fn replace(path: &Path, text: &str) {
    let beside = path.with_extension("new");
    fs::write(&beside, text).unwrap();
    fs::rename(beside, path).unwrap();
}

/// The port of the listener with this name, as the log has it.
pub fn port_of(balancer: &Evenkeel, listener: &str) -> SocketAddr {
    let line = balancer.logs(&format!("(listener {listener})"));
    let place = line.split("://").nth(1).unwrap().split(' ').next().unwrap();
    let port = place.rsplit(':').next().unwrap().parse().unwrap();
    SocketAddr::new("127.0.0.1".parse().unwrap(), port)
}

/// A client that speaks TLS.
pub struct TlsClient {
    /// The connection.
    pub stream: StreamOwned<ClientConnection, TcpStream>,
}

impl TlsClient {
    /// Connects, and completes the handshake; the server must be this one.
    pub fn connect(address: SocketAddr, config: ClientConfig, name: &str) -> io::Result<Self> {
        Self::connect_shared(address, &Arc::new(config), name)
    }

    /// The same with a configuration that others use, too.
    pub fn connect_shared(address: SocketAddr, config: &Arc<ClientConfig>, name: &str) -> io::Result<Self> {
        let socket = TcpStream::connect_timeout(&address, DEADLINE)?;
        Self::over(socket, config, name)
    }

    /// The same on a connection that is there.
    pub fn over(mut socket: TcpStream, config: &Arc<ClientConfig>, name: &str) -> io::Result<Self> {
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(DEADLINE))?;
        socket.set_write_timeout(Some(DEADLINE))?;
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let mut session = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
        while session.is_handshaking() {
            session.complete_io(&mut socket)?;
        }
        Ok(TlsClient { stream: StreamOwned::new(session, socket) })
    }

    /// Sends all of it.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.stream
            .write_all(bytes.as_ref())
            .and_then(|()| self.stream.flush())
            .expect("it takes what is sent");
        self
    }

    /// Sends all of it with close_notify behind it, in one segment; the connection stays open.
    pub fn send_last(&mut self, bytes: &str) -> &mut Self {
        self.stream.conn.writer().write_all(bytes.as_bytes()).unwrap();
        self.stream.conn.send_close_notify();
        self.stream.flush().expect("it takes what is sent");
        self
    }

    /// `GET path`; the whole response, head and body.
    pub fn get(&mut self, path: &str) -> String {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n"));
        String::from_utf8_lossy(&self.response()).into_owned()
    }

    /// The next response, whose length is told.
    pub fn response(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        while !bytes.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            self.stream.read_exact(&mut byte).unwrap_or_else(|error| {
                panic!("{error} after {:?}", String::from_utf8_lossy(&bytes));
            });
            bytes.push(byte[0]);
        }
        let head = String::from_utf8_lossy(&bytes).to_lowercase();
        let length =
            head.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next()?.parse().ok());
        let from = bytes.len();
        bytes.resize(from + length.unwrap_or(0), 0);
        self.stream.read_exact(&mut bytes[from..]).unwrap();
        bytes
    }

    /// All up to close_notify; an end without it is an error.
    pub fn rest(&mut self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.stream.read_to_end(&mut bytes).map(|_| bytes)
    }
}

/// A server that speaks TLS and responds to every request.
pub struct TlsOrigin {
    /// Where it listens.
    pub address: SocketAddr,
    seen: Arc<Mutex<SeenTls>>,
}

/// What it saw.
#[derive(Clone, Debug, Default)]
pub struct SeenTls {
    /// The first lines of all requests, probes and load reports among them.
    pub lines: Vec<String>,
    /// For each handshake, how it was made.
    pub handshakes: Vec<HandshakeKind>,
    /// For each handshake, the name that was asked for.
    pub names: Vec<Option<String>>,
}

impl TlsOrigin {
    /// Starts it with this certificate; `clients` issues the certificates that clients must have. It lives as long as the
    /// test.
    pub fn start(files: &Files, clients: Option<&Authority>, response: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let chain = CertificateDer::pem_file_iter(&files.certificate).unwrap().map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_file(&files.key).unwrap();
        let provider = Arc::new(provider());
        let builder =
            ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
        let verified = match clients {
            None => builder.unwrap().with_no_client_auth(),
            Some(clients) => {
                let roots = Arc::new(clients.roots());
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider).build().unwrap();
                builder.unwrap().with_client_cert_verifier(verifier)
            }
        };
        let config = Arc::new(verified.with_single_cert(chain, key).unwrap());
        let seen: Arc<Mutex<SeenTls>> = Arc::default();
        let record = Arc::clone(&seen);
        thread::spawn(move || {
            for socket in listener.incoming().flatten() {
                let (config, record) = (Arc::clone(&config), Arc::clone(&record));
                thread::spawn(move || drop(serve(socket, config, &record, response)));
            }
        });
        TlsOrigin { address, seen }
    }

    /// What it saw so far.
    pub fn seen(&self) -> SeenTls {
        self.seen.lock().unwrap().clone()
    }

    /// Requests for this path so far.
    pub fn count(&self, path: &str) -> usize {
        self.seen().lines.iter().filter(|line| line.split(' ').nth(1) == Some(path)).count()
    }
}

/// Without a length in its response it closes, without close_notify. For `/notify` that comes with the response, and it is
/// the other side that closes. For `/early` it responds and closes without reading the body, which makes the close a reset.
fn serve(
    mut socket: TcpStream,
    config: Arc<ServerConfig>,
    record: &Mutex<SeenTls>,
    response: &str,
) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let mut session = ServerConnection::new(config).map_err(io::Error::other)?;
    while session.is_handshaking() {
        session.complete_io(&mut socket)?;
    }
    let name = session.server_name().map(str::to_owned);
    let kind = session.handshake_kind();
    {
        let mut record = record.lock().unwrap();
        record.names.push(name);
        record.handshakes.extend(kind);
    }
    let mut stream = StreamOwned::new(session, socket);
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte)?;
            head.push(byte[0]);
        }
        let text = String::from_utf8_lossy(&head).into_owned();
        let length = text
            .to_lowercase()
            .split("content-length: ")
            .nth(1)
            .and_then(|rest| rest.split("\r\n").next()?.parse().ok());
        if text.contains(" /early ") {
            stream.write_all(response.as_bytes())?;
            return stream.flush();
        }
        stream.read_exact(&mut vec![0; length.unwrap_or(0)])?;
        record.lock().unwrap().lines.push(text.split("\r\n").next().unwrap_or_default().to_owned());
        stream.conn.writer().write_all(response.as_bytes())?;
        let notifies = text.contains(" /notify ");
        if notifies {
            stream.conn.send_close_notify();
        }
        stream.flush()?;
        if notifies {
            return io::copy(&mut stream.sock, &mut io::sink()).map(drop);
        }
        if !response.to_lowercase().contains("content-length")
            || text.to_lowercase().contains("connection: close")
        {
            return Ok(());
        }
    }
}
