//! A client that sends exact bytes and reads strictly.

use super::message::{Broken, Framing, Head, Reader, Response};
use super::{DEADLINE, Evenkeel};
#[cfg(target_os = "linux")]
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with, sockopt};
use std::io::{self, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

/// A connection.
#[derive(Debug)]
pub struct Client {
    /// The socket.
    pub stream: TcpStream,
    reader: Reader<TcpStream>,
}

impl Client {
    /// Connects to the balancer.
    pub fn to(balancer: &Evenkeel) -> Self {
        Client::connect(balancer.address()).expect("the balancer takes connections")
    }

    /// Connects, if the other side does.
    pub fn connect(address: SocketAddr) -> io::Result<Self> {
        TcpStream::connect_timeout(&address, DEADLINE).map(Client::of)
    }

    /// Connects from another address of this machine, such as 127.0.0.7.
    pub fn from(source: &str, balancer: &Evenkeel) -> Self {
        let fd = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
        bind(&fd, &SocketAddr::new(source.parse().unwrap(), 0)).unwrap();
        connect(&fd, &balancer.address()).unwrap();
        Client::of(TcpStream::from(fd))
    }

    fn of(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_write_timeout(Some(DEADLINE)).unwrap();
        let reader = Reader::new(stream.try_clone().unwrap(), false);
        Client { stream, reader }
    }

    /// How long reads wait.
    pub fn max_wait(&mut self, limit: Duration) -> &mut Self {
        self.stream.set_read_timeout(Some(limit)).unwrap();
        self
    }

    /// Sends all of it.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        self.stream.write_all(bytes.as_ref()).expect("the balancer takes what is sent");
        self
    }

    /// Sends what it can: the other side may have closed.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref())
    }

    /// `GET path` with a Host.
    pub fn get(&mut self, path: &str) -> Response {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n")).response()
    }

    /// The next response, interim ones too; not to HEAD.
    #[track_caller]
    pub fn response(&mut self) -> Response {
        self.try_response().unwrap_or_else(|broken| panic!("no whole response: {broken:?}"))
    }

    /// The next response, or what became of it.
    pub fn try_response(&mut self) -> Result<Response, Broken> {
        self.try_response_to("GET")
    }

    /// The next response, to a request of this method.
    pub fn try_response_to(&mut self, method: &str) -> Result<Response, Broken> {
        let (head, status) = self.try_head()?;
        self.body_of(method, head, status)
    }

    /// The rest of a response whose head was read, to a request of this method.
    pub fn body_of(&mut self, method: &str, head: Head, status: u16) -> Result<Response, Broken> {
        let bodiless = method == "HEAD" || status < 200 || matches!(status, 204 | 304);
        let framing = match head.framing()? {
            _ if bodiless => Framing::None,
            Framing::None => Framing::Close,
            told => told,
        };
        let body = self.reader.body(framing)?;
        let Head { line, fields, .. } = head;
        Ok(Response { status, line, fields, framing, body: body.bytes, trailers: body.trailers })
    }

    /// The next head, whatever its first line is.
    pub fn next_head(&mut self) -> Result<Head, Broken> {
        self.reader.head()
    }

    /// The head of the next response alone.
    #[track_caller]
    pub fn head(&mut self) -> (Head, u16) {
        self.try_head().unwrap_or_else(|broken| panic!("no whole head: {broken:?}"))
    }

    fn try_head(&mut self) -> Result<(Head, u16), Broken> {
        let head = self.reader.head()?;
        let status = head.line.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
        let status = status.ok_or_else(|| Broken::Malformed(head.line.clone()))?;
        Ok((head, status))
    }

    /// So many bytes, whatever they are.
    #[track_caller]
    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        let taken = self.reader.take(count, &mut bytes);
        assert!(taken.is_ok(), "{taken:?} after {:?}", String::from_utf8_lossy(&bytes));
        bytes
    }

    /// So many bytes, whatever they are; or those that came, and why no more did.
    pub fn try_bytes(&mut self, count: usize) -> Result<Vec<u8>, (Vec<u8>, Broken)> {
        let mut bytes = Vec::new();
        match self.reader.take(count, &mut bytes) {
            Ok(()) => Ok(bytes),
            Err(broken) => Err((bytes, broken)),
        }
    }

    /// No more will be sent.
    pub fn finish_writing(&mut self) -> &mut Self {
        self.stream.shutdown(Shutdown::Write).unwrap();
        self
    }

    /// The other side closes, in order, and says nothing before that.
    #[track_caller]
    pub fn sees_the_end(&mut self) {
        let mut bytes = Vec::new();
        let end = self.reader.to_the_end(&mut bytes);
        assert!(end.is_ok() && bytes.is_empty(), "{end:?} after {:?}", String::from_utf8_lossy(&bytes));
    }

    /// Waits for bytes; whether the end of the connection was there as soon as they were.
    #[cfg(target_os = "linux")]
    pub fn sees_the_end_at_once(&self) -> bool {
        let mut slots = [PollFd::new(&self.stream, PollFlags::IN | PollFlags::RDHUP)];
        let limit = Timespec { tv_sec: DEADLINE.as_secs() as i64, tv_nsec: 0 };
        assert_eq!(poll(&mut slots, Some(&limit)), Ok(1), "bytes within {DEADLINE:?}");
        slots[0].revents().contains(PollFlags::IN | PollFlags::RDHUP)
    }

    /// All until the other side closes, and whether it closed in order.
    pub fn rest(&mut self) -> (Vec<u8>, Result<(), Broken>) {
        let mut bytes = Vec::new();
        let end = self.reader.to_the_end(&mut bytes);
        (bytes, end)
    }

    /// What was read and not used is dropped; how much that was.
    pub fn buffered(&mut self) -> usize {
        self.reader.rest().len()
    }

    /// Nothing is there to be read, and the connection is open.
    pub fn is_quiet(&self) -> bool {
        self.stream.set_nonblocking(true).unwrap();
        let seen = self.stream.peek(&mut [0]);
        self.stream.set_nonblocking(false).unwrap();
        matches!(seen, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Nothing is there to be read, whether the connection is open or not.
    pub fn is_quiet_or_over(&mut self) -> bool {
        let mut byte = [0];
        self.stream.set_nonblocking(true).unwrap();
        let seen = self.stream.peek(&mut byte);
        self.stream.set_nonblocking(false).unwrap();
        self.buffered() == 0 && !matches!(seen, Ok(1))
    }

    /// Closes with a reset.
    pub fn reset(self) {
        sockopt::set_socket_linger(&self.stream, Some(Duration::ZERO)).unwrap();
    }
}
