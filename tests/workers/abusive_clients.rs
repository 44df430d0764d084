//! Abusive clients, all at once: slow heads, slow bodies, slow readers, idle connections and aborts, 200 of each, while
//! ordinary clients are to notice next to nothing.
//!
//! `EVENKEEL_ABUSE_SECONDS=30 cargo test --release --test workers abusive_clients -- --nocapture` is the long run with figures.

use crate::support::balancer::ADMIN;
use crate::support::{DEADLINE, Evenkeel, Origin, until};
use evenkeel::loadtest::{self, Summary};
use rustix::net::sockopt;
use rustix::process::{Resource, getrlimit, setrlimit};
use serde_json::json;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Of each kind.
const GROUP_SIZE: usize = 200;
/// Between two touches of each connection of a group.
const BEAT: Duration = Duration::from_millis(100);
/// Connections that a group makes in a beat: this machine has to play the clients and the server as well. With 50 of
/// each a busy two-core machine served nothing else for more than a second.
const COMING: usize = 10;
/// More than the buffers on the way hold.
const LARGE: usize = 4 << 20;
/// Noise of a shared machine, not of the balancer: a p99 below this is good whatever the quiet one was. A request that has
/// to wait for an abusive client waits for seconds.
const P99_FINE_US: f64 = 500_000.0;
/// …and so is one below so many times that of another balancer, which no abusive client knows, on the same machine at the
/// same time.
const TIMES_OTHER: f64 = 10.0;
/// Noise passes, a fault stays: so many looks may be taken until one is good.
const LOOKS: usize = 8;

/// What each connection of a group does at every beat; an error ends the connection, and a new one is made.
type Touch = fn(&mut TcpStream) -> std::io::Result<()>;

/// The groups: a name, what is sent first, and what is done at each beat.
const GROUPS: &[(&str, &str, Touch)] = &[
    ("slow heads", "GET / HTTP/1.1\r\nHost: h\r\nX-Slow: ", |stream| stream.write_all(b"x")),
    ("slow bodies", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\n", |stream| {
        stream.write_all(b"x")
    }),
    ("slow readers", "GET /large HTTP/1.1\r\nHost: h\r\n\r\n", |stream| {
        match stream.read(&mut [0; 512])? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }),
    ("idle", "GET / HTTP/1.1\r\nHost: h\r\n\r\n", |_| Ok(())),
    ("aborts", "GET / HTTP/1.1\r\nHost: h\r\n\r\n", |stream| {
        sockopt::set_socket_linger(&*stream, Some(Duration::ZERO))?;
        Err(ErrorKind::ConnectionAborted.into())
    }),
];

/// One group at work.
struct Group {
    name: &'static str,
    thread: JoinHandle<()>,
    /// Connections made so far.
    made: Arc<AtomicUsize>,
}

impl Group {
    fn gather(at: usize, balancer: SocketAddr, stop: &Arc<AtomicBool>) -> Self {
        let (name, first, touch) = GROUPS[at];
        let made = Arc::new(AtomicUsize::new(0));
        let (counted, stop) = (Arc::clone(&made), Arc::clone(stop));
        let thread = thread::spawn(move || {
            let mut streams: Vec<Option<TcpStream>> = (0..GROUP_SIZE).map(|_| None).collect();
            while !stop.load(Ordering::Relaxed) {
                let mut coming = 0;
                for place in &mut streams {
                    let stream = match place {
                        Some(stream) => stream,
                        None if coming == COMING => continue,
                        None => {
                            coming += 1;
                            let Ok(stream) = join(balancer, first) else { continue };
                            counted.fetch_add(1, Ordering::Relaxed);
                            place.insert(stream)
                        }
                    };
                    if touch(stream).is_err_and(|error| error.kind() != ErrorKind::WouldBlock) {
                        *place = None;
                    }
                }
                thread::sleep(BEAT);
            }
        });
        Group { name, thread, made }
    }
}

/// A connection with a small window, on which this was sent.
fn join(balancer: SocketAddr, first: &str) -> std::io::Result<TcpStream> {
    let mut stream = TcpStream::connect_timeout(&balancer, DEADLINE)?;
    sockopt::set_socket_recv_buffer_size(&stream, 4096)?;
    stream.write_all(first.as_bytes())?;
    stream.set_nonblocking(true)?;
    Ok(stream)
}

/// Responses at once: much to `/large`, little to all else.
fn server() -> Origin {
    let large = vec![b'x'; LARGE];
    Origin::start(move |visit| {
        while let Some(head) = visit.head() {
            if head.line.contains("/large") {
                visit.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {LARGE}\r\n\r\n"));
                visit.send(&large);
            } else if visit.body(head).is_some() {
                visit.response("little");
            }
        }
    })
}

/// Ordinary clients: 50 connections, 200 requests a second, which leave a slow machine with something to spare.
fn ordinary(balancer: SocketAddr, duration: Duration) -> Summary {
    let options = loadtest::Options {
        duration: Some(duration),
        rate: Some(200.0),
        threads: Some(1),
        ..loadtest::Options::new(&format!("http://{balancer}/"))
    };
    loadtest::measure(&options).unwrap()
}

#[test]
fn two_hundred_of_each_at_once_cost_ordinary_clients_nothing() {
    let seconds = std::env::var("EVENKEEL_ABUSE_SECONDS").ok().and_then(|text| text.parse().ok());
    let duration = Duration::from_secs(seconds.unwrap_or(6));
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
    let origin = server();
    let balancer =
        Evenkeel::before(&[&origin], json!({ "log": { "level": "info" }, "admin": { "socket": ADMIN } }));
    let (other_origin, stop) = (server(), Arc::new(AtomicBool::new(false)));
    let other = Evenkeel::before(&[&other_origin], json!({ "log": { "level": "info" } }));
    let groups: Vec<_> = (0..GROUPS.len()).map(|at| Group::gather(at, balancer.address(), &stop)).collect();
    let is_good = (0..LOOKS).any(|_| look(&balancer, &other, duration));
    let made = |group: &Group| group.made.load(Ordering::Relaxed);
    until("each group is complete", || groups.iter().all(|group| made(group) >= GROUP_SIZE));
    stop.store(true, Ordering::Relaxed);
    for group in groups {
        group.thread.join().unwrap();
        println!("{}: {} connections", group.name, group.made.load(Ordering::Relaxed));
    }

    assert!(is_good, "ordinary clients were held up in each look");
    until("the threads of the groups are gone", || balancer.workers() <= 50);
}

/// Whether ordinary clients of the one were served about as well as those of the other at the same time. What the one says
/// itself must not be that it has no room for them; its server, which plays all the servers of this test, may be late.
fn look(balancer: &Evenkeel, other: &Evenkeel, duration: Duration) -> bool {
    let (troubled, quiet) = thread::scope(|scope| {
        let quiet = scope.spawn(|| ordinary(other.address(), duration));
        (ordinary(balancer.address(), duration), quiet.join().unwrap())
    });
    for (told, summary) in [("quiet", &quiet), ("troubled", &troubled)] {
        let latency = &summary.latency_us;
        println!("{told}: {} responses, p50 {} us, p99 {} us", summary.responses, latency.p50, latency.p99);
    }
    let is_of_server = |reason: &String| ["connect_failed", "server_timeout"].contains(&reason.as_str());
    assert!(troubled.own_reasons.keys().all(is_of_server), "{:?}", troubled.own_reasons);
    let fine = (TIMES_OTHER * quiet.latency_us.p99).max(P99_FINE_US);
    troubled.complaint().is_none() && troubled.latency_us.p99 <= fine
}
