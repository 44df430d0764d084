//! The client: an open loop of blocking threads. Each takes the next request, waits until it is due, and sends it.

use evenkeel::state::simulation::Listed;
use std::io::{Error, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// How long a client waits for its response.
pub const TIMEOUT: Duration = Duration::from_secs(5);
/// More requests than this are never in flight: further ones are late, and that counts as latency. With 600 the generator was late by
/// up to 4 s where a third of the capacity is away, and asked for less than an open loop does.
const THREADS: usize = 4_000;
/// Of each thread; it has few and small buffers.
const STACK_BYTES: usize = 128 * 1024;
/// Before the first request, so that all threads have been started.
const LEAD: Duration = Duration::from_millis(300);

/// What became of the requests.
pub struct Outcome {
    pub good: usize,
    pub failures: usize,
    /// p50, p99 and p99.9 of the good responses.
    pub quantiles_ms: [f64; 3],
    pub late_p99_ms: f64,
    pub shares: Vec<f64>,
}

#[derive(Default)]
struct Tally {
    good_ms: Vec<f64>,
    late_ms: Vec<f64>,
    failures: usize,
    by_server: Vec<usize>,
}

/// Sends them, in turn to each of the balancers. `begin` is called when the first one is due.
pub fn send(balancers: &[SocketAddr], requests: &[Listed], servers: usize, begin: impl FnOnce()) -> Outcome {
    let (next, tally) = (AtomicUsize::new(0), Mutex::new(Tally::default()));
    tally.lock().unwrap_or_else(|broken| broken.into_inner()).by_server = vec![0; servers];
    let start = Instant::now() + LEAD;
    std::thread::scope(|scope| {
        for _ in 0..THREADS.min(requests.len()) {
            let thread = std::thread::Builder::new().stack_size(STACK_BYTES);
            // Without the thread the others do its requests.
            let _ = thread.spawn_scoped(scope, || work(balancers, requests, &next, start, &tally));
        }
        std::thread::sleep(start.saturating_duration_since(Instant::now()));
        begin();
    });
    let mut tally = tally.into_inner().unwrap_or_else(|broken| broken.into_inner());
    let all = tally.good_ms.len().max(1) as f64;
    let quantiles_ms = [0.5, 0.99, 0.999].map(|share| quantile(&mut tally.good_ms, share));
    Outcome {
        good: tally.good_ms.len(),
        failures: tally.failures,
        quantiles_ms,
        late_p99_ms: quantile(&mut tally.late_ms, 0.99),
        shares: tally.by_server.iter().map(|count| *count as f64 * 100.0 / all).collect(),
    }
}

fn work(
    balancers: &[SocketAddr],
    requests: &[Listed],
    next: &AtomicUsize,
    start: Instant,
    tally: &Mutex<Tally>,
) {
    let mut connections: Vec<Option<TcpStream>> = balancers.iter().map(|_| None).collect();
    loop {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let Some(Listed { at, work: takes, .. }) = requests.get(number) else { return };
        let due = start + *at;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let late = due.elapsed();
        let balancer = number % balancers.len();
        let response = ask(&mut connections[balancer], balancers[balancer], *takes);
        let took = due.elapsed();
        if response.is_err() {
            connections[balancer] = None;
        }
        let mut tally = tally.lock().unwrap_or_else(|broken| broken.into_inner());
        tally.late_ms.push(late.as_secs_f64() * 1e3);
        match response {
            Ok(Some(server)) => {
                tally.good_ms.push(took.as_secs_f64() * 1e3);
                if let Some(count) = tally.by_server.get_mut(server) {
                    *count += 1;
                }
            }
            _ => tally.failures += 1,
        }
    }
}

/// One request; the number of the server, or `None` when the response is not a 200.
fn ask(
    connection: &mut Option<TcpStream>,
    address: SocketAddr,
    takes: Duration,
) -> std::io::Result<Option<usize>> {
    let stream = match connection.take() {
        Some(stream) => stream,
        None => {
            let stream = TcpStream::connect(address)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(TIMEOUT))?;
            stream
        }
    };
    let stream = connection.insert(stream);
    write!(stream, "GET / HTTP/1.1\r\nHost: bench\r\nX-Work-Us: {}\r\n\r\n", takes.as_micros())?;
    let mut response = Vec::new();
    let mut bytes = [0; 4096];
    let (head, length) = loop {
        match stream.read(&mut bytes)? {
            0 => return Err(Error::from(ErrorKind::UnexpectedEof)),
            count => response.extend_from_slice(&bytes[..count]),
        }
        if let Some(end) = memchr::memmem::find(&response, b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&response[..end]).to_ascii_lowercase();
            // A response of a fault may be chunked or end with the connection: it is a failure in any case.
            let Some(length) = value(&head, "content-length").and_then(|text| text.parse::<usize>().ok())
            else {
                return Err(Error::from(ErrorKind::InvalidData));
            };
            break (head, end + 4 + length);
        }
    };
    while response.len() < length {
        match stream.read(&mut bytes)? {
            0 => return Err(Error::from(ErrorKind::UnexpectedEof)),
            count => response.extend_from_slice(&bytes[..count]),
        }
    }
    let server = value(&head, "x-server").and_then(|text| text.parse().ok());
    if value(&head, "connection") == Some("close") {
        *connection = None;
    }
    Ok(server.filter(|_| head.starts_with("http/1.1 200")))
}

fn value<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

fn quantile(values: &mut [f64], share: f64) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    let wanted = (values.len() as f64 * share).ceil() as usize;
    values.get(wanted.saturating_sub(1)).copied().unwrap_or(0.0)
}
