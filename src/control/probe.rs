//! One look at a server, through ureq: is it alive, and how much has it to do. Each has a connection of its
//! own, goes to exactly the address that traffic goes to, and has one time limit for everything.

use crate::base::limits;
use crate::state::address::Address;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, TcpConnector, Transport,
};
use ureq::{Agent, Error};

/// The most that is read of an answer. A load report is a few numbers.
const BODY_MAX: u64 = 16 * 1024;
/// Buffers of a probe's connection.
const BUFFER: usize = 16 * 1024;

/// What to ask a server.
#[derive(Clone, Debug)]
pub struct Question {
    /// `GET` or `POST`.
    pub method: &'static str,
    /// From `/` on.
    pub path: String,
    /// The Host field; the server's address when absent.
    pub host: Option<String>,
    /// For everything: connecting, sending, the answer's last byte.
    pub timeout: Duration,
}

/// What it answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The beginning of the body.
    pub body: String,
}

/// The address of a name, asked of the system's resolver. It has no time limit of its own to set: the
/// resolver's holds, usually 5 s a try. Only the control plane waits for it.
pub fn resolve(address: &Address) -> io::Result<Option<SocketAddr>> {
    match address {
        Address::Unix(_) => Ok(None),
        Address::Tcp { host, port } => {
            let mut found = (host.as_str(), *port).to_socket_addrs()?.collect::<Vec<_>>();
            // IPv4 first: a name such as localhost often has both, and its server listens on one.
            found.sort_by_key(SocketAddr::is_ipv6);
            found.first().copied().map(Some).ok_or_else(|| io::ErrorKind::NotFound.into())
        }
    }
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Silence {
    /// A few words for a log line.
    pub words: String,
    /// This process could not ask, for want of descriptors or memory: that says nothing of the server.
    pub is_ours: bool,
}

impl From<String> for Silence {
    fn from(words: String) -> Self {
        Silence { words, is_ours: false }
    }
}

/// Asks.
pub fn ask(address: &Address, resolved: Option<SocketAddr>, question: &Question) -> Result<Answer, Silence> {
    let agent = agent(address, resolved, question.timeout);
    let host = question.host.clone().unwrap_or_else(|| host_of(address));
    let request = ureq::http::Request::builder()
        .method(question.method)
        .uri(format!("http://{}{}", authority(resolved), question.path))
        .header("Host", host)
        .header("Connection", "close")
        .body(())
        .map_err(|error| format!("the question cannot be asked: {error}"))?;
    let answered = agent.run(request).map_err(|error| Silence {
        words: say(&error, question.timeout),
        is_ours: matches!(&error, Error::Io(error) if limits::is_exhausted(error)),
    })?;
    let status = answered.status().as_u16();
    let mut body = Vec::new();
    let reader = answered.into_body().into_reader();
    // A body that is cut or late says nothing about whether the server is alive: its status has been seen.
    let _ = reader.take(BODY_MAX).read_to_end(&mut body);
    Ok(Answer { status, body: String::from_utf8_lossy(&body).into_owned() })
}

fn agent(address: &Address, resolved: Option<SocketAddr>, timeout: Duration) -> Agent {
    let config = Agent::config_builder()
        .proxy(None)
        .max_redirects(0)
        .http_status_as_error(false)
        .max_idle_connections(0)
        .timeout_global(Some(timeout))
        .input_buffer_size(BUFFER)
        .output_buffer_size(BUFFER)
        .user_agent(concat!("evenkeel/", env!("CARGO_PKG_VERSION"), " (health check)"))
        .build();
    let pinned = Pinned(resolved.unwrap_or(NOWHERE));
    match address {
        Address::Tcp { .. } => Agent::with_parts(config, TcpConnector::default(), pinned),
        Address::Unix(path) => Agent::with_parts(config, UnixConnector(path.clone()), pinned),
    }
}

/// Stands in where no address is needed: a Unix socket.
const NOWHERE: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 80));

fn authority(resolved: Option<SocketAddr>) -> SocketAddr {
    resolved.unwrap_or(NOWHERE)
}

fn host_of(address: &Address) -> String {
    match address {
        Address::Tcp { .. } => address.to_string(),
        Address::Unix(_) => "localhost".to_owned(),
    }
}

/// A few words for people.
fn say(error: &Error, timeout: Duration) -> String {
    match error {
        Error::Io(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            "connection refused".to_owned()
        }
        Error::Io(error) if error.kind() == io::ErrorKind::ConnectionReset => "connection reset".to_owned(),
        Error::Io(error) if error.kind() == io::ErrorKind::NotFound => "there is no such socket".to_owned(),
        Error::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            "closed without an answer".to_owned()
        }
        Error::Timeout(_) => format!("no answer in {}", humantime::format_duration(timeout)),
        Error::Io(error) if error.kind() == io::ErrorKind::TimedOut => {
            format!("no answer in {}", humantime::format_duration(timeout))
        }
        other => format!("{other}"),
    }
}

/// Gives the one address that was resolved before, whatever the name. ureq's own resolver starts a thread
/// for each call.
#[derive(Debug)]
struct Pinned(SocketAddr);

impl Resolver for Pinned {
    fn resolve(
        &self,
        _: &Uri,
        _: &ureq::config::Config,
        _: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, Error> {
        let mut found = self.empty();
        found.push(self.0);
        Ok(found)
    }
}

/// Connects to a Unix socket.
#[derive(Debug)]
struct UnixConnector(PathBuf);

impl Connector for UnixConnector {
    type Out = UnixTransport;

    fn connect(&self, details: &ConnectionDetails, _: Option<()>) -> Result<Option<UnixTransport>, Error> {
        let stream = UnixStream::connect(&self.0)?;
        let config = details.config;
        let buffers = LazyBuffers::new(config.input_buffer_size(), config.output_buffer_size());
        Ok(Some(UnixTransport { stream, buffers }))
    }
}

#[derive(Debug)]
struct UnixTransport {
    stream: UnixStream,
    buffers: LazyBuffers,
}

impl Transport for UnixTransport {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        self.stream.set_write_timeout(limit(timeout))?;
        self.stream.write_all(&self.buffers.output()[..amount])?;
        Ok(())
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        self.stream.set_read_timeout(limit(timeout))?;
        let count = match self.stream.read(self.buffers.input_append_buf()) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(Error::Timeout(timeout.reason));
            }
            got => got?,
        };
        self.buffers.input_appended(count);
        Ok(count > 0)
    }

    fn is_open(&mut self) -> bool {
        // Never asked again: no connection is kept.
        false
    }
}

/// A socket takes no timeout of zero.
fn limit(timeout: NextTimeout) -> Option<Duration> {
    timeout.not_zero().map(|after| (*after).max(Duration::from_millis(1)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};
    use std::net::TcpListener;
    use std::thread;

    fn question(timeout_ms: u64) -> Question {
        let timeout = Duration::from_millis(timeout_ms);
        Question { method: "GET", path: "/health".into(), host: None, timeout }
    }

    fn head(stream: impl Read) -> Vec<String> {
        BufReader::new(stream).lines().map_while(Result::ok).take_while(|line| !line.is_empty()).collect()
    }

    fn check(says: &'static str, expected: Result<u16, &str>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let resolved = listener.local_addr().unwrap();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let lines = head(&stream);
            stream.write_all(says.as_bytes()).unwrap();
            if says.is_empty() {
                // Stalls: holds the connection until the prober gives up.
                let _ = stream.read(&mut [0]);
            }
            lines
        });
        let address = format!("127.0.0.1:{}", resolved.port()).parse().unwrap();
        let answer = ask(&address, Some(resolved), &question(if says.is_empty() { 50 } else { 5000 }));
        match expected {
            Ok(status) => assert_eq!(answer.map(|answer| answer.status), Ok(status)),
            Err(words) => {
                assert!(answer.as_ref().is_err_and(|said| said.words.contains(words)), "{answer:?}")
            }
        }
        let lines = server.join().unwrap();
        assert_eq!(lines[0], "GET /health HTTP/1.1");
        assert!(lines.iter().any(|line| line.eq_ignore_ascii_case(&format!("host: {address}"))), "{lines:?}");
    }

    #[test]
    fn answers_and_faults_of_a_server() {
        check("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", Ok(200));
        check("HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n", Ok(503));
        check("HTTP/1.1 302 Away\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", Ok(302));
        check("HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\ncut", Ok(200));
        check("", Err("no answer in 50ms"));
        check("nonsense\r\n\r\n", Err(""));
    }

    #[test]
    fn nobody_there() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let gone = listener.local_addr().unwrap();
        drop(listener);
        let address = gone.to_string().parse().unwrap();
        assert_eq!(ask(&address, Some(gone), &question(5000)), Err("connection refused".to_owned().into()));
        let folder = tempfile::tempdir().unwrap();
        let address = Address::Unix(folder.path().join("none.sock"));
        assert_eq!(ask(&address, None, &question(5000)), Err("there is no such socket".to_owned().into()));
    }

    #[test]
    fn a_unix_socket_is_asked_too() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("server.sock");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let lines = head(&stream);
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").unwrap();
            lines
        });
        let answer = ask(&Address::Unix(path), None, &question(5000)).unwrap();
        assert_eq!(answer, Answer { status: 200, body: "{}".into() });
        assert!(server.join().unwrap().iter().any(|line| line.eq_ignore_ascii_case("host: localhost")));
    }
}
