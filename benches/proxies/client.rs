//! A client for what the load generator of `evenkeel loadtest` does not send: requests in two segments, and a mix of
//! quick and slow ones.
//!
//! A closed loop over kept connections, from two threads. Every response has 59 bytes and is a 200; anything else ends
//! the measurement with an error.

use hdrhistogram::Histogram;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

/// As many as the load generator has for this many connections.
const THREADS: usize = 2;
/// The time limit of a response.
const TIMEOUT: Duration = Duration::from_secs(10);
/// A latency above this counts as this.
const LATENCY_MAX_NS: u64 = 60_000_000_000;
/// The size of each response's body, in bytes.
const BODY: usize = 59;

/// What to send, and for how long.
#[derive(Clone, Debug)]
pub struct Load {
    pub address: SocketAddr,
    pub connections: usize,
    /// The time at the start in which nothing counts but processor time.
    pub warm_up: Duration,
    pub duration: Duration,
    /// The first segment of a request.
    pub first: Vec<u8>,
    /// The second one; none if it is empty.
    pub second: Vec<u8>,
    /// Requests that are not like that.
    pub other: Option<Other>,
}

/// Requests beside the usual ones. Their latency is not reported.
#[derive(Clone, Debug)]
pub struct Other {
    pub request: Vec<u8>,
    pub share: Share,
}

/// Which requests are other ones.
#[derive(Clone, Copy, Debug)]
pub enum Share {
    /// One of so many on each connection.
    OneIn(u64),
    /// All of so many connections, which are additional.
    Connections(usize),
}

impl Load {
    /// Connections of each thread: all, and those that send other requests alone.
    fn per_thread(&self) -> (usize, usize) {
        let others = match self.other {
            Some(Other { share: Share::Connections(others), .. }) => others,
            _ => 0,
        };
        ((self.connections + others) / THREADS, others / THREADS)
    }

    /// The other request, if it is the turn of one.
    fn other(&self, sends_others: bool, number: u64) -> Option<&Vec<u8>> {
        let Other { request, share } = self.other.as_ref()?;
        let is_other = match share {
            Share::OneIn(all) => number.is_multiple_of(*all),
            Share::Connections(_) => sends_others,
        };
        is_other.then_some(request)
    }
}

/// The result of a load, of any client.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Within the measured time.
    pub requests_per_s: f64,
    /// In both directions, within the measured time.
    pub bytes_per_s: f64,
    pub p50_us: f64,
    pub p99_us: f64,
    /// All responses, those of the warm-up included.
    pub responses: u64,
    /// All bytes in both directions, those of the warm-up included.
    pub bytes: u64,
    /// Why the result is not reliable.
    pub complaint: Option<String>,
}

/// Sends the load.
pub fn measure(load: &Load) -> Result<Outcome, String> {
    let begun = Instant::now();
    let mut all = Tally::new()?;
    let tallies: Vec<Result<Tally, String>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(|| drive(load, begun))).collect();
        let ended = |thread: std::thread::ScopedJoinHandle<_>| {
            thread.join().unwrap_or_else(|_| Err("a client thread panicked".to_string()))
        };
        threads.into_iter().map(ended).collect()
    });
    for tally in tallies {
        all.add(&tally?)?;
    }
    let seconds = load.duration.as_secs_f64();
    let us = |quantile| all.latency.value_at_quantile(quantile) as f64 / 1e3;
    Ok(Outcome {
        requests_per_s: all.responses_in_time as f64 / seconds,
        bytes_per_s: all.bytes_in_time as f64 / seconds,
        p50_us: us(0.5),
        p99_us: us(0.99),
        responses: all.responses,
        bytes: all.bytes,
        complaint: None,
    })
}

struct Tally {
    responses: u64,
    bytes: u64,
    responses_in_time: u64,
    bytes_in_time: u64,
    /// In nanoseconds, of the usual requests.
    latency: Histogram<u64>,
}

impl Tally {
    fn new() -> Result<Tally, String> {
        let latency = Histogram::new_with_bounds(1, LATENCY_MAX_NS, 3).map_err(|error| error.to_string())?;
        Ok(Tally { responses: 0, bytes: 0, responses_in_time: 0, bytes_in_time: 0, latency })
    }

    fn add(&mut self, other: &Tally) -> Result<(), String> {
        self.responses += other.responses;
        self.bytes += other.bytes;
        self.responses_in_time += other.responses_in_time;
        self.bytes_in_time += other.bytes_in_time;
        self.latency.add(&other.latency).map_err(|error| error.to_string())
    }
}

struct Connection {
    stream: TcpStream,
    begun: Instant,
    /// It sends other requests alone.
    sends_others: bool,
    is_other: bool,
    /// Bytes of the current request.
    sent: usize,
    /// The response so far.
    response: Vec<u8>,
}

impl Connection {
    fn open(
        address: SocketAddr,
        poll: &Poll,
        index: usize,
        sends_others: bool,
    ) -> std::io::Result<Connection> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        poll.registry().register(&mut SourceFd(&stream.as_raw_fd()), Token(index), Interest::READABLE)?;
        let (begun, response) = (Instant::now(), Vec::new());
        Ok(Connection { stream, begun, sends_others, is_other: false, sent: 0, response })
    }

    /// Sends the next request. An idle connection accepts a small one at once.
    fn send(&mut self, load: &Load, number: u64) -> std::io::Result<()> {
        let other = load.other(self.sends_others, number);
        self.response.clear();
        self.is_other = other.is_some();
        self.begun = Instant::now();
        let first = other.unwrap_or(&load.first);
        self.stream.write_all(first)?;
        self.stream.write_all(&load.second)?;
        self.sent = first.len() + load.second.len();
        Ok(())
    }

    /// Reads what there is; true when the response is complete.
    fn receive(&mut self, buffer: &mut [u8]) -> Result<bool, String> {
        match self.stream.read(buffer) {
            Ok(0) => return Err("a connection was closed".to_string()),
            Ok(count) => self.response.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error.to_string()),
        }
        let Some(head) = memchr::memmem::find(&self.response, b"\r\n\r\n") else { return Ok(false) };
        if !self.response.starts_with(b"HTTP/1.1 200") || self.response.len() > head + 4 + BODY {
            return Err(format!("a wrong response: {}", String::from_utf8_lossy(&self.response)));
        }
        Ok(self.response.len() == head + 4 + BODY)
    }
}

/// One thread: its part of the connections, until the last response.
fn drive(load: &Load, begun: Instant) -> Result<Tally, String> {
    let cannot = |error: std::io::Error| format!("a client failed: {error}");
    let start = begun + load.warm_up;
    let end = start + load.duration;
    let mut poll = Poll::new().map_err(cannot)?;
    let mut tally = Tally::new()?;
    let (all, others) = load.per_thread();
    let open = |index| Connection::open(load.address, &poll, index, index < others);
    let mut connections: Vec<Connection> = (0..all).map(open).collect::<Result<_, _>>().map_err(cannot)?;
    let mut requests = 0;
    for connection in &mut connections {
        requests += 1;
        connection.send(load, requests).map_err(cannot)?;
    }
    let mut in_flight = connections.len();
    let mut buffer = vec![0; 16 << 10];
    let mut events = Events::with_capacity(512);
    while in_flight > 0 {
        match poll.poll(&mut events, Some(TIMEOUT)) {
            Err(error) if error.kind() != ErrorKind::Interrupted => return Err(cannot(error)),
            Ok(()) if events.is_empty() => return Err(format!("{in_flight} got no response")),
            _ => {}
        }
        for event in &events {
            let connection = &mut connections[event.token().0];
            if !connection.receive(&mut buffer)? {
                continue;
            }
            count(&mut tally, connection, start, end);
            if Instant::now() < end {
                requests += 1;
                connection.send(load, requests).map_err(cannot)?;
            } else {
                in_flight -= 1;
            }
        }
    }
    Ok(tally)
}

/// Counts a complete response.
fn count(tally: &mut Tally, connection: &Connection, start: Instant, end: Instant) {
    let now = Instant::now();
    let bytes = (connection.sent + connection.response.len()) as u64;
    tally.responses += 1;
    tally.bytes += bytes;
    if now < start || now >= end {
        return;
    }
    tally.responses_in_time += 1;
    tally.bytes_in_time += bytes;
    if !connection.is_other {
        tally.latency.saturating_record(now.duration_since(connection.begun).as_nanos() as u64);
    }
}
