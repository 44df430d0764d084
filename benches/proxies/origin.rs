//! The server behind the proxies: its own process, one thread, prebuilt responses, as cheap as possible.
//!
//! Paths: `/small` (59 bytes), `/10k`, `/64k`, `/1m`, `/64m`, `/chunked` (16 chunks), `/split` (59 bytes, in
//! two segments), `/delay10ms`, `/delay50ms`, `/delay100ms`, and `/work`, which has a capacity ([`slots`](super::slots)). Uploads are discarded and get their response when they are complete. It
//! listens on any number of addresses, so that one process can act as thousands of servers.

use super::slots::{self, Slots};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use rustix::net::{AddressFamily, SocketFlags, SocketType, accept_with, bind, listen, socket, sockopt};
use slab::Slab;
use std::collections::VecDeque;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The hidden argument that makes this program the origin.
pub const ARGUMENT: &str = "--be-the-origin";

const PIECE: usize = 256 << 10;
const BUFFER: usize = 256 << 10;
const HEAD_MAX: usize = 64 << 10;
/// Tokens from here on are listeners.
const LISTENERS: usize = usize::MAX / 2;

/// A running origin; it ends when this is dropped, or when this process ends in any way.
pub struct Origin {
    child: Child,
    /// Where it listens; the first is used if one server is enough.
    pub addresses: Vec<SocketAddr>,
}

impl Origin {
    /// Starts this program again as the origin, listening on this many addresses.
    pub fn start(servers: usize) -> Result<Origin, String> {
        Origin::with_slots(servers, slots::SLOTS)
    }

    /// The same, with this many slots for `/work`.
    pub fn with_slots(servers: usize, slots: usize) -> Result<Origin, String> {
        let cannot = |error: &dyn std::fmt::Display| format!("the origin did not start: {error}");
        let program = std::env::current_exe().map_err(|error| cannot(&error))?;
        let started = Command::new(program)
            .arg(ARGUMENT)
            .args([servers, slots].map(|number| number.to_string()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let mut child = started.map_err(|error| cannot(&error))?;
        let mut line = String::new();
        if let Some(stdout) = child.stdout.take() {
            BufReader::new(stdout).read_line(&mut line).map_err(|error| cannot(&error))?;
        }
        let first: SocketAddr = line.trim().parse().map_err(|error| cannot(&error))?;
        Ok(Origin { child, addresses: (0..servers).map(|server| address(server, first.port())).collect() })
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        // Closing its standard input ends it.
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// The first on 127.0.0.1, the others on separate loopback addresses, all on one port.
fn address(server: usize, port: u16) -> SocketAddr {
    let ip = match server {
        0 => Ipv4Addr::LOCALHOST,
        server => Ipv4Addr::new(127, 1, (server / 250) as u8, (server % 250 + 1) as u8),
    };
    SocketAddr::from((ip, port))
}

/// Serves until standard input ends.
pub fn serve(servers: usize, slots: usize) -> Result<(), String> {
    std::thread::spawn(|| {
        let _ = io::stdin().read_to_end(&mut Vec::new());
        std::process::exit(0);
    });
    let cannot = |error: io::Error| format!("the origin cannot listen: {error}");
    let mut listeners = vec![listening(address(0, 0)).map_err(cannot)?];
    let first = listeners[0].local_addr().map_err(cannot)?;
    for server in 1..servers {
        listeners.push(listening(address(server, first.port())).map_err(cannot)?);
    }
    println!("{first}");
    let mut server = Server::new(listeners, slots).map_err(|error| error.to_string())?;
    server.run().map_err(|error| format!("the origin cannot poll: {error}"))
}

fn listening(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None)?;
    sockopt::set_tcp_nodelay(&socket, true)?;
    bind(&socket, &address)?;
    listen(&socket, 4096)?;
    let listener = TcpListener::from(socket);
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// A response: its head and the beginning of its body, which repeats until the total is reached.
struct Response {
    path: &'static str,
    bytes: Vec<u8>,
    head: usize,
    total: u64,
    when: When,
    /// The head is written alone, so that the body is in a segment of its own.
    split: bool,
}

/// When a response is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    /// As soon as the request is complete.
    AtOnce,
    /// So much later, with any number of them at the same time.
    Delayed(Duration),
    /// When a slot has processed it.
    Worked,
}

impl Response {
    fn plain(path: &'static str, size: usize) -> Response {
        Response::of(path, "200 OK", size)
    }

    fn of(path: &'static str, status: &str, size: usize) -> Response {
        let fields = "Content-Type: text/plain\r\nContent-Length";
        let head = format!("HTTP/1.1 {status}\r\n{fields}: {size}\r\n\r\n");
        let mut bytes = head.clone().into_bytes();
        bytes.resize(head.len() + size.min(PIECE), b'x');
        let total = (head.len() + size) as u64;
        Response { path, bytes, head: head.len(), total, when: When::AtOnce, split: false }
    }

    fn chunked(path: &'static str) -> Response {
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n";
        let chunk = format!("40\r\n{}\r\n", "x".repeat(64));
        let bytes = format!("{head}{}0\r\n\r\n", chunk.repeat(16)).into_bytes();
        Response {
            path,
            head: head.len(),
            total: bytes.len() as u64,
            bytes,
            when: When::AtOnce,
            split: false,
        }
    }

    fn piece_after(&self, sent: u64) -> &[u8] {
        if self.split && sent < self.head as u64 {
            return &self.bytes[sent as usize..self.head];
        }
        if sent < self.bytes.len() as u64 {
            return &self.bytes[sent as usize..];
        }
        let body = &self.bytes[self.head..];
        &body[..(self.total - sent).min(body.len() as u64) as usize]
    }
}

fn responses() -> Vec<Response> {
    let delayed =
        |path, ms| Response { when: When::Delayed(Duration::from_millis(ms)), ..Response::plain(path, 59) };
    vec![
        Response::plain("/small", 59),
        Response::plain("/10k", 10 << 10),
        Response::plain("/64k", 64 << 10),
        Response::plain("/1m", 1 << 20),
        Response::plain("/64m", 64 << 20),
        Response::chunked("/chunked"),
        Response { split: true, ..Response::plain("/split", 59) },
        delayed("/delay10ms", 10),
        delayed("/delay50ms", 50),
        delayed("/delay100ms", 100),
        Response { when: When::Worked, ..Response::plain("/work", 59) },
        // Last: the response of `/work` when its queue is full.
        Response::of("/full", "503 Service Unavailable", 59),
    ]
}

struct Connection {
    stream: TcpStream,
    /// Unique per connection, so that a response for a closed connection is never sent on another.
    serial: u64,
    /// The beginning of an incomplete head.
    head: Vec<u8>,
    /// Remaining bytes of an upload, with the response that follows it.
    upload: Option<(u64, usize)>,
    /// The response being written, and the number of bytes written.
    writing: Option<(usize, u64)>,
    /// The request asked to close the connection after its response.
    closes: bool,
}

struct Server {
    listeners: Vec<TcpListener>,
    poll: Poll,
    responses: Vec<Response>,
    connections: Slab<Connection>,
    accepted: u64,
    /// Delayed responses, the next due first.
    delayed: VecDeque<Due>,
    /// Responses in slots, the next due first.
    worked: VecDeque<Due>,
    slots: Slots,
    buffer: Vec<u8>,
}

/// A response that is due later: when, on which connection, and which.
#[derive(Clone, Copy, Debug)]
struct Due {
    at: Instant,
    index: usize,
    serial: u64,
    response: usize,
}

impl Server {
    fn new(listeners: Vec<TcpListener>, slots: usize) -> io::Result<Server> {
        let poll = Poll::new()?;
        for (number, listener) in listeners.iter().enumerate() {
            let token = Token(LISTENERS + number);
            poll.registry().register(&mut SourceFd(&listener.as_raw_fd()), token, Interest::READABLE)?;
        }
        Ok(Server {
            listeners,
            poll,
            responses: responses(),
            connections: Slab::with_capacity(1024),
            accepted: 0,
            delayed: VecDeque::new(),
            worked: VecDeque::new(),
            slots: Slots::new(slots),
            buffer: vec![0; BUFFER],
        })
    }

    fn run(&mut self) -> io::Result<()> {
        let mut events = Events::with_capacity(512);
        loop {
            let next =
                [self.delayed.front(), self.worked.front()].into_iter().flatten().map(|due| due.at).min();
            let due = next.map(|at| at.saturating_duration_since(Instant::now()));
            match self.poll.poll(&mut events, due) {
                Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            self.release_due();
            for event in &events {
                match event.token().0 {
                    number if number >= LISTENERS => self.accept(number - LISTENERS),
                    index => self.serve(index, event.is_read_closed()),
                }
            }
        }
    }

    fn accept(&mut self, number: usize) {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        while let Ok(socket) = accept_with(&self.listeners[number], flags) {
            let stream = TcpStream::from(socket);
            let entry = self.connections.vacant_entry();
            let interest = Interest::READABLE | Interest::WRITABLE;
            let mut source = SourceFd(&stream.as_raw_fd());
            if self.poll.registry().register(&mut source, Token(entry.key()), interest).is_ok() {
                self.accepted += 1;
                entry.insert(Connection {
                    stream,
                    serial: self.accepted,
                    head: Vec::new(),
                    upload: None,
                    writing: None,
                    closes: false,
                });
            }
        }
    }

    /// Writes the responses that are due. If the connection is gone, they are dropped.
    fn release_due(&mut self) {
        let now = Instant::now();
        let take = |queue: &mut VecDeque<Due>| match queue.front() {
            Some(due) if due.at <= now => queue.pop_front(),
            _ => None,
        };
        while let Some(due) = take(&mut self.delayed).or_else(|| take(&mut self.worked)) {
            let Some(connection) = self.connections.get_mut(due.index) else { continue };
            if connection.serial == due.serial {
                connection.writing = Some((due.response, 0));
                self.serve(due.index, false);
            }
        }
    }

    fn serve(&mut self, index: usize, closing: bool) {
        if let Err(error) = self.pump(index, closing) {
            if error.kind() != ErrorKind::WouldBlock {
                self.connections.try_remove(index);
            }
        }
    }

    /// Writes and reads until the socket would block, which is returned as an error, or until all is written.
    fn pump(&mut self, index: usize, closing: bool) -> io::Result<()> {
        loop {
            let Some(connection) = self.connections.get_mut(index) else { return Ok(()) };
            while let Some((response, sent)) = &mut connection.writing {
                let piece = self.responses[*response].piece_after(*sent);
                if piece.is_empty() {
                    connection.writing = None;
                    if connection.closes {
                        return Err(ErrorKind::ConnectionAborted.into());
                    }
                    continue;
                }
                *sent += connection.stream.write(piece)? as u64;
            }
            let count = connection.stream.read(&mut self.buffer)?;
            if count == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            self.take(index, count)?;
            let connection = &self.connections[index];
            if connection.writing.is_none() && count < self.buffer.len() && !closing {
                return Ok(());
            }
        }
    }

    /// Takes bytes of a request. Requests are not pipelined: no proxy does that.
    fn take(&mut self, index: usize, count: usize) -> io::Result<()> {
        let connection = &mut self.connections[index];
        let bytes = &self.buffer[..count];
        if let Some((left, response)) = &mut connection.upload {
            *left = left.saturating_sub(count as u64);
            if *left == 0 {
                connection.writing = Some((*response, 0));
                connection.upload = None;
            }
            return Ok(());
        }
        let joined: Vec<u8>;
        let head = if connection.head.is_empty() {
            bytes
        } else {
            connection.head.extend_from_slice(bytes);
            joined = std::mem::take(&mut connection.head);
            &joined
        };
        let Some(end) = memchr::memmem::find(head, b"\r\n\r\n") else {
            connection.head = head.to_vec();
            return if head.len() > HEAD_MAX { Err(ErrorKind::InvalidData.into()) } else { Ok(()) };
        };
        let body = (head.len() - end - 4) as u64;
        connection.closes = memchr::memmem::find(&head[..end], b"onnection: close").is_some();
        let response = response_to(&self.responses, head);
        let left = content_length(&head[..end]).saturating_sub(body);
        if left > 0 {
            connection.upload = Some((left, response));
            return Ok(());
        }
        let serial = connection.serial;
        let due = |at| Due { at, index, serial, response };
        match self.responses[response].when {
            When::AtOnce => connection.writing = Some((response, 0)),
            When::Delayed(delay) => {
                let due = due(Instant::now() + delay);
                let place = self.delayed.partition_point(|other| other.at <= due.at);
                self.delayed.insert(place, due);
            }
            When::Worked => match self.slots.take(Instant::now()) {
                Some(done) => self.worked.push_back(due(done)),
                None => connection.writing = Some((self.responses.len() - 1, 0)),
            },
        }
        Ok(())
    }
}

/// The response for the path of a request line; the small one for any other.
fn response_to(responses: &[Response], head: &[u8]) -> usize {
    let mut words = head.split(|byte| *byte == b' ');
    let path = words.nth(1).unwrap_or_default();
    responses.iter().position(|response| response.path.as_bytes() == path).unwrap_or(0)
}

fn content_length(head: &[u8]) -> u64 {
    // In any case, few heads have another field that starts in the same way.
    let field = |line: &[u8]| line.len() > 15 && line[..15].eq_ignore_ascii_case(b"content-length:");
    let value = head.split(|byte| *byte == b'\n').find(|line| field(line)).map(|line| &line[15..]);
    value.and_then(|value| std::str::from_utf8(value).ok()?.trim().parse().ok()).unwrap_or(0)
}
