//! One query of a server, through ureq: is it alive, and how much load has it. Each has a connection of its own, goes
//! to exactly the addresses that traffic goes to, and has one time limit for everything, including connecting.

use crate::base::limits;
use crate::base::time::{self, Moment};
use crate::state::address::Address;
use crate::state::addresses::{self, Candidates};
use crate::state::tls::servers::{self, ServersTls};
use parking_lot::Mutex;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with, sockopt};
use rustls::ClientConnection;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, Transport,
};
use ureq::{Agent, Error};

/// The most that is read of a response. A load report is a few numbers.
const BODY_MAX: u64 = 16 * 1024;
/// Buffers of a probe's connection.
const BUFFER: usize = 16 * 1024;

/// A query of a server.
#[derive(Clone, Debug)]
pub struct Question {
    /// `GET` or `POST`.
    pub method: &'static str,
    /// From `/` on.
    pub path: String,
    /// The Host header; the server's address when absent.
    pub host: Option<String>,
    /// For everything: connecting, sending, and the whole response.
    pub timeout: Duration,
}

/// The header with which a server says that it has load reports.
const LOAD_REPORT_HEADER: &str = "x-load-report";

/// The response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The status.
    pub status: u16,
    /// The beginning of the body.
    pub body: String,
    /// It says that the server has load reports.
    pub has_reports: bool,
}

/// The target of a query.
#[derive(Clone, Debug)]
pub struct Target {
    /// As configured; used for connecting to a Unix socket.
    pub address: Address,
    /// The addresses to try otherwise.
    pub candidates: Candidates,
    /// The server speaks TLS.
    pub tls: Option<Arc<ServersTls>>,
}

/// Why there is no response.
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

impl Silence {
    fn of(error: &Error, timeout: Duration) -> Self {
        let is_ours = matches!(error, Error::Io(error) if limits::is_exhausted(error));
        Silence { words: say(error, timeout), is_ours }
    }
}

/// Sends the query. Also returns the address that was connected to.
pub fn ask(target: &Target, question: &Question) -> (Result<Response, Silence>, Option<SocketAddr>) {
    let deadline = time::now().after(question.timeout);
    match open(target, deadline) {
        Ok((stream, address)) => (ask_over(stream, address, target, question, deadline), address),
        Err(error) => (Err(Silence::of(&Error::Io(error), question.timeout)), None),
    }
}

fn ask_over(
    stream: Stream,
    address: Option<SocketAddr>,
    target: &Target,
    question: &Question,
    deadline: Moment,
) -> Result<Response, Silence> {
    let host = question.host.clone().unwrap_or_else(|| host_of(&target.address));
    let address = address.unwrap_or(PLACEHOLDER);
    let request = ureq::http::Request::builder()
        .method(question.method)
        .uri(format!("http://{address}{}", question.path))
        .header("Host", host)
        .header("Connection", "close")
        .body(())
        .map_err(|error| format!("the request cannot be sent: {error}"))?;
    let session = target.tls.as_ref().map(|tls| tls.session(&target.address)).transpose()?;
    let stream = Channel { stream, session: session.map(Box::new) };
    let agent = agent(stream, address, deadline.since(time::now()).max(SHORTEST));
    let received = agent.run(request).map_err(|error| Silence::of(&error, question.timeout))?;
    let status = received.status().as_u16();
    let has_reports = received.headers().contains_key(LOAD_REPORT_HEADER);
    let mut body = Vec::new();
    let reader = received.into_body().into_reader();
    // A truncated or late body does not matter for whether the server is alive: the status has been received.
    let _ = reader.take(BODY_MAX).read_to_end(&mut body);
    Ok(Response { status, body: String::from_utf8_lossy(&body).into_owned(), has_reports })
}

/// A connection to the first address that accepts one. Each gets a share of the time that is left.
fn open(target: &Target, deadline: Moment) -> io::Result<(Stream, Option<SocketAddr>)> {
    if let Address::Unix(path) = &target.address {
        return Ok((Stream::Unix(open_unix(path, deadline.since(time::now()))?), None));
    }
    let mut failed = None;
    for (address, left) in target.candidates.clone() {
        let time = addresses::share(deadline.since(time::now()), left).max(SHORTEST);
        match TcpStream::connect_timeout(&address, time) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                return Ok((Stream::Tcp(stream), Some(address)));
            }
            Err(error) => failed = Some(addresses::first_error(failed, error)),
        }
    }
    Err(failed.unwrap_or_else(|| io::Error::other("the server has no address")))
}

/// Connecting to a Unix socket waits while the backlog is full; the send timeout bounds that.
fn open_unix(path: &Path, timeout: Duration) -> io::Result<UnixStream> {
    let fd = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    sockopt::set_socket_timeout(&fd, sockopt::Timeout::Send, Some(timeout.max(SHORTEST)))?;
    connect(&fd, &SocketAddrUnix::new(path)?)?;
    Ok(UnixStream::from(fd))
}

fn agent(stream: Channel, address: SocketAddr, timeout: Duration) -> Agent {
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
    Agent::with_parts(config, Connected(Mutex::new(Some(stream))), Pinned(address))
}

/// A placeholder for a Unix socket, which needs no address.
const PLACEHOLDER: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 80));

/// A socket accepts no timeout of zero.
const SHORTEST: Duration = Duration::from_millis(1);

fn host_of(address: &Address) -> String {
    match address {
        Address::Tcp { .. } => address.to_string(),
        Address::Unix(_) => "localhost".to_owned(),
    }
}

/// A short text for display.
fn say(error: &Error, timeout: Duration) -> String {
    match error {
        Error::Io(error) if tls_error(error).is_some() => tls_error(error).unwrap_or_default(),
        Error::Io(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            "connection refused".to_owned()
        }
        Error::Io(error) if error.kind() == io::ErrorKind::ConnectionReset => "connection reset".to_owned(),
        Error::Io(error) if error.kind() == io::ErrorKind::NotFound => "there is no such socket".to_owned(),
        Error::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            "closed without a response".to_owned()
        }
        Error::Timeout(_) => format!("no response in {}", humantime::format_duration(timeout)),
        // A Unix socket whose backlog is full returns "would block".
        Error::Io(error) if matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock) => {
            format!("no response in {}", humantime::format_duration(timeout))
        }
        other => format!("{other}"),
    }
}

/// Which check of TLS failed.
fn tls_error(error: &io::Error) -> Option<String> {
    error.get_ref()?.downcast_ref::<rustls::Error>().map(servers::words)
}

/// Returns the one address that was resolved before, whatever the name. ureq's own resolver starts a thread for each
/// call.
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

/// Returns the one connection that was made before: ureq's own connector cannot report which address accepted it, and
/// does not support Unix sockets.
#[derive(Debug)]
struct Connected(Mutex<Option<Channel>>);

impl Connector for Connected {
    type Out = Connection;

    fn connect(&self, details: &ConnectionDetails, _: Option<()>) -> Result<Option<Connection>, Error> {
        let config = details.config;
        let buffers = LazyBuffers::new(config.input_buffer_size(), config.output_buffer_size());
        Ok(self.0.lock().take().map(|stream| Connection { stream, buffers }))
    }
}

#[derive(Debug)]
enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    fn write(&mut self, bytes: &[u8], limit: Option<Duration>) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.set_write_timeout(limit).and_then(|()| stream.write(bytes)),
            Stream::Unix(stream) => stream.set_write_timeout(limit).and_then(|()| stream.write(bytes)),
        }
    }

    fn read(&mut self, bytes: &mut [u8], limit: Option<Duration>) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.set_read_timeout(limit).and_then(|()| stream.read(bytes)),
            Stream::Unix(stream) => stream.set_read_timeout(limit).and_then(|()| stream.read(bytes)),
        }
    }
}

/// A connection, and the TLS session over it if the server speaks TLS.
#[derive(Debug)]
struct Channel {
    stream: Stream,
    session: Option<Box<ClientConnection>>,
}

impl Channel {
    fn write_all(&mut self, bytes: &[u8], limit: Option<Duration>) -> io::Result<()> {
        let mut timed = Timed::new(&mut self.stream, limit);
        match &mut self.session {
            None => timed.write_all(bytes),
            Some(session) => {
                let mut secure = rustls::Stream::new(&mut **session, &mut timed);
                secure.write_all(bytes).and_then(|()| secure.flush())
            }
        }
    }

    fn read(&mut self, bytes: &mut [u8], limit: Option<Duration>) -> io::Result<usize> {
        let mut timed = Timed::new(&mut self.stream, limit);
        match &mut self.session {
            None => timed.read(bytes),
            Some(session) => rustls::Stream::new(&mut **session, &mut timed).read(bytes),
        }
    }
}

/// A connection of which several calls have one time limit together: a handshake makes many.
struct Timed<'s> {
    stream: &'s mut Stream,
    deadline: Option<Moment>,
}

impl<'s> Timed<'s> {
    fn new(stream: &'s mut Stream, limit: Option<Duration>) -> Self {
        Timed { stream, deadline: limit.map(|limit| time::now().after(limit)) }
    }

    fn left(&self) -> io::Result<Option<Duration>> {
        let left = self.deadline.map(|deadline| deadline.since(time::now()));
        if left == Some(Duration::ZERO) { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
    }
}

impl Read for Timed<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let left = self.left()?;
        self.stream.read(bytes, left)
    }
}

impl Write for Timed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let left = self.left()?;
        self.stream.write(bytes, left)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[derive(Debug)]
struct Connection {
    stream: Channel,
    buffers: LazyBuffers,
}

impl Transport for Connection {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        let sent = self.stream.write_all(&self.buffers.output()[..amount], limit(timeout));
        sent.map_err(|error| late(error, timeout))
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        let received = self.stream.read(self.buffers.input_append_buf(), limit(timeout));
        let count = received.map_err(|error| late(error, timeout))?;
        self.buffers.input_appended(count);
        Ok(count > 0)
    }

    fn is_open(&mut self) -> bool {
        // Never called: no connection is kept.
        false
    }
}

/// A socket returns "would block" when its timeout expires.
fn late(error: io::Error, timeout: NextTimeout) -> Error {
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Error::Timeout(timeout.reason),
        _ => Error::Io(error),
    }
}

fn limit(timeout: NextTimeout) -> Option<Duration> {
    timeout.not_zero().map(|after| (*after).max(SHORTEST))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::addresses::Addresses;
    use std::io::{BufRead, BufReader};
    use std::net::TcpListener;
    use std::thread;

    fn question(timeout_ms: u64) -> Question {
        let timeout = Duration::from_millis(timeout_ms);
        Question { method: "GET", path: "/health".into(), host: None, timeout }
    }

    /// The server at this address, as configured.
    fn target(address: &str) -> Target {
        let address: Address = address.parse().unwrap();
        let candidates = Addresses::of(&address).candidates();
        Target { address, candidates, tls: None }
    }

    fn ask_at(address: &str, timeout_ms: u64) -> Result<Response, Silence> {
        ask(&target(address), &question(timeout_ms)).0
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
        let address = format!("127.0.0.1:{}", resolved.port());
        let response = ask_at(&address, if says.is_empty() { 50 } else { 5000 });
        match expected {
            Ok(status) => assert_eq!(response.map(|response| response.status), Ok(status)),
            Err(words) => {
                assert!(response.as_ref().is_err_and(|said| said.words.contains(words)), "{response:?}")
            }
        }
        let lines = server.join().unwrap();
        assert_eq!(lines[0], "GET /health HTTP/1.1");
        assert!(lines.iter().any(|line| line.eq_ignore_ascii_case(&format!("host: {address}"))), "{lines:?}");
    }

    #[test]
    fn responses_and_faults_of_a_server() {
        check("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", Ok(200));
        check("HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n", Ok(503));
        check("HTTP/1.1 302 Away\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", Ok(302));
        check("HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\ncut", Ok(200));
        check("", Err("no response in 50ms"));
        check("nonsense\r\n\r\n", Err(""));
    }

    #[test]
    fn without_a_listener_there_is_an_error() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let gone = listener.local_addr().unwrap();
        drop(listener);
        assert_eq!(ask_at(&gone.to_string(), 5000), Err("connection refused".to_owned().into()));
        let folder = tempfile::tempdir().unwrap();
        let address = format!("unix:{}", folder.path().join("none.sock").display());
        assert_eq!(ask_at(&address, 5000), Err("there is no such socket".to_owned().into()));
    }

    #[test]
    fn a_unix_socket_that_takes_no_connection_does_not_hold_the_probe() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("full.sock");
        let fd = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
        rustix::net::bind(&fd, &SocketAddrUnix::new(&path).unwrap()).unwrap();
        rustix::net::listen(&fd, 0).unwrap();
        let _filler = UnixStream::connect(&path).unwrap();
        let asked = ask_at(&format!("unix:{}", path.display()), 50);
        assert_eq!(asked, Err("no response in 50ms".to_owned().into()));
    }

    #[test]
    fn the_next_address_is_asked_when_the_first_takes_no_connection() {
        // A listener with a full backlog is silent to further connections.
        let silent =
            socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
        rustix::net::bind(&silent, &SocketAddr::from(([127, 0, 0, 31], 0))).unwrap();
        rustix::net::listen(&silent, 0).unwrap();
        let first: SocketAddr = rustix::net::getsockname(&silent).unwrap().try_into().unwrap();
        let _filler = TcpStream::connect(first).unwrap();
        let rejected = SocketAddr::from(([127, 0, 0, 32], first.port()));
        let live = TcpListener::bind(("127.0.0.33", first.port())).unwrap();
        let server = thread::spawn(move || {
            let (mut stream, _) = live.accept().unwrap();
            head(&stream);
            stream.write_all(b"HTTP/1.1 204 No\r\n\r\n").unwrap();
        });
        let address: Address = format!("app.test:{}", first.port()).parse().unwrap();
        let addresses = Addresses::of(&address);
        let third = SocketAddr::from(([127, 0, 0, 33], first.port()));
        addresses.replace(vec![first, rejected, third]);
        let target = Target { address, candidates: addresses.candidates(), tls: None };
        let (response, at) = ask(&target, &question(3000));
        assert_eq!((response.map(|response| response.status), at), (Ok(204), Some(third)));
        server.join().unwrap();
    }

    #[test]
    fn a_unix_socket_is_asked_too() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("server.sock");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let lines = head(&stream);
            stream.write_all(b"HTTP/1.1 200 OK\r\nX-Load-Report: 1\r\nContent-Length: 2\r\n\r\n{}").unwrap();
            lines
        });
        let response = ask_at(&format!("unix:{}", path.display()), 5000).unwrap();
        assert_eq!(response, Response { status: 200, body: "{}".into(), has_reports: true });
        assert!(server.join().unwrap().iter().any(|line| line.eq_ignore_ascii_case("host: localhost")));
    }
}
