//! The cost of idle connections.

use super::process;
use super::proxy::{Proxy, ask};
use super::result::Idle;
use super::settings;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

/// A connection of a client, in clear text or over TLS.
trait Held: Read + Write {}

impl<T: Read + Write> Held for T {}

/// Opens connections, uses each once, and measures the proxy's memory while all are open.
pub fn hold(proxy: &Proxy, connections: usize) -> Idle {
    let before = process::memory(&proxy.pids());
    let mut held = Vec::with_capacity(connections);
    let mut complaint = None;
    let tls = proxy.certificate().map(|file| client_of(&file)).transpose();
    for number in 0..connections {
        let opened = tls.clone().and_then(|tls| open_and_ask(proxy, tls));
        match opened {
            Ok(stream) => held.push(stream),
            Err(why) => {
                complaint = Some(format!("connection {} of {connections}: {why}", number + 1));
                break;
            }
        }
    }
    let holding = process::memory(&proxy.pids());
    // All of them must still be served, not only held: the first is tested for all.
    if let Some(first) = held.first_mut() {
        if complaint.is_none() && !ask(first).unwrap_or(false) {
            complaint = Some("the first connection is no longer served".to_string());
        }
    }
    let name = if proxy.certificate().is_some() { " (TLS)" } else { "" };
    let proxy = format!("{}{name}", proxy.kind.name());
    Idle { proxy, connections: held.len(), before, holding, complaint }
}

fn open_and_ask(proxy: &Proxy, tls: Option<Arc<ClientConfig>>) -> Result<Box<dyn Held>, String> {
    let told = |error: &dyn std::fmt::Display| error.to_string();
    let stream = TcpStream::connect(proxy.address).map_err(|error| told(&error))?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).map_err(|error| told(&error))?;
    let mut stream: Box<dyn Held> = match tls {
        None => Box::new(stream),
        Some(config) => {
            let name = ServerName::try_from(settings::HOST).map_err(|error| told(&error))?;
            let session = ClientConnection::new(config, name).map_err(|error| told(&error))?;
            Box::new(StreamOwned::new(session, stream))
        }
    };
    match ask(&mut stream) {
        Ok(true) => Ok(stream),
        Ok(false) => Err("no 200".to_string()),
        Err(error) => Err(error.to_string()),
    }
}

/// A client that trusts this certificate, and resumes no session.
fn client_of(file: &std::path::Path) -> Result<Arc<ClientConfig>, String> {
    let certificate = CertificateDer::from_pem_file(file).map_err(|error| error.to_string())?;
    let mut roots = RootCertStore::empty();
    roots.add(certificate).map_err(|error| error.to_string())?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| error.to_string())?;
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.resumption = rustls::client::Resumption::disabled();
    Ok(Arc::new(config))
}
