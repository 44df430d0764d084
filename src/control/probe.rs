//! One query of a server: is it alive, and how much load has it. Each has a connection of its own, goes to exactly the
//! addresses that traffic goes to, and has one time limit for everything, including connecting. Nothing that a peer does or
//! leaves undone takes longer than that limit, or more memory than a few buffers.

pub mod agent;
pub mod connection;
mod exec;
mod grpc;
mod hpack;
pub mod http;
pub mod over_ureq;
mod tcp;

use crate::base::text;
use crate::state::address::Address;
use crate::state::addresses::Candidates;
use crate::state::config::{EXPECT_BYTES_MAX, HealthCheck, HttpProbe, Probe, ToServers};
use crate::state::server::Server;
use crate::state::tls::servers::{self, ServersTls};
pub use exec::Commands;
use http::Response;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// A socket accepts no timeout of zero.
const SHORTEST: Duration = Duration::from_millis(1);
/// How much of what a server sent is shown, in characters: enough to know what it was, in one line of a log.
const SHOWN: usize = 80;

/// The target of a query.
#[derive(Clone, Debug)]
pub struct Target {
    /// The name of the server.
    pub name: String,
    /// That of its pool.
    pub pool: String,
    /// As configured; used for connecting to a Unix socket.
    pub address: Address,
    /// The addresses to try otherwise.
    pub candidates: Candidates,
    /// How the connection begins.
    pub connecting: ToServers,
    /// The server speaks TLS.
    pub tls: Option<Arc<ServersTls>>,
}

impl Target {
    /// Where the server, of the pool of this name, takes requests.
    pub fn of(server: &Server, pool: &str) -> Self {
        Target {
            name: server.name.clone(),
            pool: pool.to_owned(),
            address: server.address.clone(),
            candidates: server.addresses().candidates(),
            connecting: server.connecting(),
            tls: server.tls(),
        }
    }

    /// The same for a probe, which may go to another port, and in clear text; it begins with the address that stands so many
    /// places behind the first one.
    pub fn of_probe(server: &Server, pool: &str, check: &HealthCheck, places: usize) -> Self {
        let mut target = Target::of(server, pool);
        target.tls = target.tls.filter(|_| check.tls != Some(false));
        target.candidates = target.candidates.rotated(places);
        if let (Some(at), Address::Tcp { port, .. }) = (check.port, &mut target.address) {
            *port = at;
            // Something else listens there.
            target.connecting.send_proxy = None;
            target.candidates = target.candidates.at_port(at);
        }
        target
    }

    /// Where the agent of the server listens, in clear text.
    pub fn of_agent(server: &Server, pool: &str, port: u16) -> Self {
        let mut target = Target { tls: None, ..Target::of(server, pool) };
        target.connecting.send_proxy = None;
        target.candidates = target.candidates.at_port(port);
        if let Address::Tcp { port: of_address, .. } = &mut target.address {
            *of_address = port;
        }
        target
    }
}

/// What a probe found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// A response, which the configuration judges.
    Http(Response),
    /// The probe judges itself.
    Other(Passed),
}

/// Whether a probe passed, and what it found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passed {
    /// It did.
    pub is_good: bool,
    /// A short text for a log line.
    pub words: String,
}

impl Passed {
    fn yes(words: impl Into<String>) -> Self {
        Passed { is_good: true, words: words.into() }
    }

    fn no(words: impl Into<String>) -> Self {
        Passed { is_good: false, words: words.into() }
    }
}

/// Why there is no reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Silence {
    /// A short text for a log line.
    pub words: String,
    /// This process could not send the query, because of a lack of descriptors or memory: that says nothing about the
    /// server.
    pub is_ours: bool,
}

impl From<String> for Silence {
    fn from(words: String) -> Self {
        Silence { words, is_ours: false }
    }
}

/// Probes the server; a command is among `commands` while it runs. Also returns the address that was connected to.
pub fn probe(
    target: &Target,
    check: &HealthCheck,
    commands: &Commands,
) -> (Result<Reply, Silence>, Option<SocketAddr>) {
    match &check.probe {
        Probe::Http(http) => {
            let request = request(http, check.host.as_deref());
            let (response, at) = http::ask(target, &request, check.timeout);
            (response.map(Reply::Http), at)
        }
        Probe::Tcp(tcp) => {
            let (passed, at) = tcp::ask(target, tcp, check.timeout);
            (passed.map(Reply::Other), at)
        }
        Probe::Grpc(grpc) => {
            let (passed, at) = grpc::ask(target, grpc, check.host.as_deref(), check.timeout);
            (passed.map(Reply::Other), at)
        }
        Probe::Exec(exec) => (exec::run(target, exec, commands, check.timeout).map(Reply::Other), None),
    }
}

fn request<'a>(probe: &'a HttpProbe, host: Option<&'a str>) -> http::Request<'a> {
    http::Request {
        method: &probe.method,
        path: &probe.path,
        host,
        headers: &probe.headers,
        body: probe.body.as_deref(),
        read_max: if probe.expect_body.is_some() { EXPECT_BYTES_MAX } else { http::BODY_MAX },
    }
}

fn host_of(address: &Address) -> String {
    match address {
        Address::Tcp { .. } => address.to_string(),
        Address::Unix(_) => "localhost".to_owned(),
    }
}

/// A short text for display.
fn words(error: &io::Error, timeout: Duration) -> String {
    match error.kind() {
        _ if tls_error(error).is_some() => tls_error(error).unwrap_or_default(),
        io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        io::ErrorKind::ConnectionReset => "connection reset".to_owned(),
        io::ErrorKind::NotFound => "there is no such socket".to_owned(),
        io::ErrorKind::UnexpectedEof => "closed without a response".to_owned(),
        _ if connection::is_late(error) => format!("no response in {}", humantime::format_duration(timeout)),
        _ => error.to_string(),
    }
}

/// Which check of TLS failed.
fn tls_error(error: &io::Error) -> Option<String> {
    error.get_ref()?.downcast_ref::<rustls::Error>().map(servers::words)
}

/// The beginning of what a peer sent, in quotes, with everything escaped that would not show in a line.
pub(super) fn shortened(bytes: &[u8]) -> String {
    let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(4 * SHOWN)]);
    let mut short: String = shown.chars().take(SHOWN).collect();
    if short.len() < bytes.len() {
        short.push('…');
    }
    format!("\"{}\"", text::escape(&short))
}

#[cfg(test)]
mod tests;
