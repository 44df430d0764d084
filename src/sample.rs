//! The sample server, on tiny_http: a server to balance, with a bounded request queue that its own threads process, and
//! which registers itself with the balancer.
//!
//! Threads: the [front](crate::front) of tiny_http owns the connections of clients; one helper takes whole requests
//! from tiny_http in their order and responds to everything except `POST /requests` at once, so that status and health
//! respond while every worker is busy; *workers* process `POST /requests`.

mod queue;
mod register;
mod response;
mod service;

use crate::base::signals::{self, Received};
use crate::base::{limits, output, time};
use crate::front;
use crossbeam_channel::{Receiver, Sender, bounded};
use signal_hook::consts::{SIGHUP, SIGUSR1, SIGUSR2};
use std::convert::Infallible;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

/// How long a stop waits for what is queued and in progress before it skips the delays.
const DRAIN: Duration = Duration::from_secs(10);

/// Options of a sample server.
#[derive(Clone, Debug)]
pub struct Options {
    /// Its name in responses and at the balancer; `server-<port>` when `None`.
    pub name: Option<String>,
    /// The port to listen on; 0 lets the kernel choose.
    pub port: u16,
    /// The address to listen on.
    pub bind: IpAddr,
    /// How long a worker processes one request.
    pub delay: Duration,
    /// How much longer or shorter than `delay` a request may take, at random.
    pub jitter: Duration,
    /// Threads that process the queue, at least 1.
    pub workers: usize,
    /// Requests that may wait for a worker; more get 503.
    pub queue_capacity: usize,
    /// The share of `POST /requests`, 0 to 1, that gets 500.
    pub fail_rate: f64,
    /// Where to register; nowhere when `None`.
    pub register: Option<Arc<dyn AdminApi>>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            name: None,
            port: 0,
            bind: IpAddr::V4(Ipv4Addr::LOCALHOST),
            delay: Duration::from_millis(20),
            jitter: Duration::from_millis(5),
            workers: 4,
            queue_capacity: 1000,
            fail_rate: 0.0,
            register: None,
        }
    }
}

/// The admin API of the balancer to register with.
pub trait AdminApi: fmt::Debug + Send + Sync {
    /// One call, with a JSON body or none; returns the status and the text of the response.
    fn call(&self, method: &str, path: &str, body: String) -> Result<(u16, String), Unmet>;
}

/// Why there is no response of the expected balancer; each has a sentence for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unmet {
    /// Nothing responds yet.
    Absent(String),
    /// Another balancer responds, or it rejects the call.
    Other(String),
}

impl fmt::Display for Unmet {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Unmet::Absent(why) | Unmet::Other(why)) = self;
        out.write_str(why)
    }
}

/// Runs a sample server until a signal asks it to stop, then removes it from the balancer, finishes what is in
/// progress, and returns. A second stop signal, a second or more later, ends the process at once. Fails with a sentence
/// that says what to do.
pub fn run(options: Options) -> Result<(), String> {
    let signals = watch_signals()?;
    limits::raise_descriptors();
    let running = start(options)?;
    say(&running.welcome());
    // An error means that the thread that listens for signals has ended: there is nothing to wait for.
    let _ = signals.recv();
    say(&format!("{}: finishing what is in progress (ctrl-C again ends at once)", running.name));
    running.stop();
    Ok(())
}

/// Starts a sample server inside this process: for the demo and for tests. It accepts requests when this returns.
pub fn start(options: Options) -> Result<Running, String> {
    let options = sound(options)?;
    let listener = listen(&options)?;
    let address = listener.local_addr().map_err(|error| format!("cannot read the port: {error}"))?;
    let name = options.name.clone().unwrap_or_else(|| format!("server-{}", address.port()));
    let (hurry, no_hurry) = bounded(0);
    let (alive, ended) = bounded(0);
    let queue = queue::start(&options, &name, &no_hurry, &alive)?;
    let service = Arc::new(service::Sample { queue });
    let listeners = vec![listener.into()];
    let front = front::open("sample", service, service::bounds(), listeners, &std::env::temp_dir());
    let front = front.map_err(|error| format!("cannot serve: {error}"))?;
    let stopper = front.stopper();
    spawn("front", move || {
        front.run();
        drop(alive);
    })?;
    let registration = match options.register {
        Some(api) => Some(register::start(api, name.clone(), reachable(address))?),
        None => None,
    };
    Ok(Running { name, address, front: stopper, registration, hurry, ended })
}

/// A running sample server. Dropping it leaves it running until the process ends; see [`Running::stop`].
#[derive(Debug)]
pub struct Running {
    name: String,
    address: SocketAddr,
    front: front::Stopper,
    registration: Option<register::Registration>,
    /// Dropped when the time to drain is over: workers then skip their delays.
    hurry: Sender<Infallible>,
    /// Disconnects when the last thread has ended.
    ended: Receiver<Infallible>,
}

impl Running {
    /// Where it listens, with the port the kernel chose.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its name, as in its responses.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Removes the server from the balancer, stops listening, finishes what is queued and in progress (10 seconds at
    /// most, then without the delay), and returns. Responses written from now on close their connection, so that pooled
    /// connections are not found closed later.
    pub fn stop(self) {
        if let Some(registration) = self.registration {
            registration.end();
        }
        self.front.stop(time::now().after(2 * DRAIN));
        if !wait_for_end(&self.ended) {
            drop(self.hurry);
            wait_for_end(&self.ended);
        }
    }

    fn welcome(&self) -> String {
        let at = reachable(self.address);
        format!(
            "{name} listens on http://{at}\n  curl -X POST http://{at}/requests\n  curl -X POST http://{at}/queue/status\n  curl http://{at}/anything\nctrl-C stops it.",
            name = self.name
        )
    }
}

/// Rejects options that contradict each other.
fn sound(mut options: Options) -> Result<Options, String> {
    if !(0.0..=1.0).contains(&options.fail_rate) {
        return Err(format!("a fail rate is a share from 0 to 1, not {}", options.fail_rate));
    }
    if options.name.as_deref().is_some_and(str::is_empty) {
        return Err("a server's name must not be empty".to_string());
    }
    options.workers = options.workers.max(1);
    Ok(options)
}

fn listen(options: &Options) -> Result<TcpListener, String> {
    let at = SocketAddr::new(options.bind, options.port);
    TcpListener::bind(at).map_err(|error| match error.kind() {
        std::io::ErrorKind::AddrInUse => format!(
            "port {} is taken by another program: choose another port, or stop that program (`ss -ltnp` shows it)",
            at.port()
        ),
        std::io::ErrorKind::PermissionDenied => {
            format!("no permission to listen on port {}: choose a port above 1023", at.port())
        }
        std::io::ErrorKind::AddrNotAvailable => {
            format!("{} is not an address of this machine; write one that is, or leave --bind out", at.ip())
        }
        _ => format!("cannot listen on {at}: {error}"),
    })
}

/// The address under which this machine reaches a listener bound to every address.
fn reachable(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        ip if !ip.is_unspecified() => address,
        IpAddr::V4(_) => SocketAddr::from(([127, 0, 0, 1], address.port())),
        IpAddr::V6(_) => SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, address.port())),
    }
}

fn wait_for_end(ended: &Receiver<Infallible>) -> bool {
    use crossbeam_channel::RecvTimeoutError::Disconnected;
    ended.recv_deadline(time::instant(time::now().after(DRAIN))) == Err(Disconnected)
}

/// Reports the first request to stop on the channel; a second one ends the process.
fn watch_signals() -> Result<Receiver<()>, String> {
    // In a terminal SIGHUP means that the terminal was closed; elsewhere operators send it for a reload, so it must not
    // end anything.
    let (mut stop, mut others) = (signals::STOP.to_vec(), vec![SIGUSR1, SIGUSR2]);
    if signals::has_terminal() { &mut stop } else { &mut others }.push(SIGHUP);
    let watch = signals::Watch::new(&stop, &others);
    let watch = watch.map_err(|error| format!("cannot watch for signals: {error}"))?;
    let (report, reported) = bounded(1);
    spawn("signals", move || {
        while let Some(heard) = watch.wait() {
            match heard {
                Received::Stop(_) => _ = report.try_send(()),
                Received::StopNow(_) => std::process::exit(130),
                Received::Other(signal) => {
                    log::info!(
                        "{}: a sample server has nothing to do for this signal",
                        signals::name(signal)
                    );
                }
            }
        }
    })?;
    Ok(reported)
}

/// Prints to the standard output; never waits or fails if the reader is stuck or gone.
fn say(text: &str) {
    output::standard().tell(format!("{text}\n").into_bytes());
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), String> {
    let thread = std::thread::Builder::new().name(name.to_string()).spawn(work);
    thread.map(drop).map_err(|error| format!("cannot start a thread: {error}"))
}

/// Waits for this long, or until `hurry` disconnects.
fn wait(how_long: Duration, hurry: &Receiver<Infallible>) {
    let _ = hurry.recv_deadline(time::instant(time::now().after(how_long)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_options_are_rejected() {
        assert!(sound(Options { fail_rate: 1.5, ..Options::default() }).is_err());
        assert!(sound(Options { fail_rate: f64::NAN, ..Options::default() }).is_err());
        assert!(sound(Options { name: Some(String::new()), ..Options::default() }).is_err());
        assert_eq!(sound(Options { workers: 0, ..Options::default() }).unwrap().workers, 1);
    }

    #[test]
    fn a_taken_port_gets_a_sentence_that_says_what_to_do() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let rejection = start(Options { port, ..Options::default() }).unwrap_err();
        assert!(
            rejection.contains(&port.to_string()) && rejection.contains("choose another port"),
            "{rejection}"
        );
    }

    #[test]
    fn a_listener_on_every_address_is_announced_by_loopback() {
        let check = |bound: &str, announced: &str| {
            assert_eq!(reachable(bound.parse().unwrap()), announced.parse().unwrap());
        };
        check("0.0.0.0:9001", "127.0.0.1:9001");
        check("[::]:9001", "[::1]:9001");
        check("10.0.0.7:9001", "10.0.0.7:9001");
    }
}
