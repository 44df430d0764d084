//! The works: what is asked of the proxies, each a row of the table by its name.

use super::proxy::Setup;
use evenkeel::loadtest::Options;
use std::net::SocketAddr;
use std::time::Duration;

/// What matters in a work, besides requests/s.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// Processor time per request.
    Requests,
    /// Bytes per second, and processor time per MiB.
    Bytes,
}

/// One kind of load.
#[derive(Clone, Copy, Debug)]
pub struct Work {
    /// Its name on the command line.
    pub name: &'static str,
    /// What matters.
    pub measure: Measure,
    /// Connections, when the command line names none.
    pub connections: &'static [usize],
    /// Workers, where this work needs more than the command line says.
    max_workers: Option<usize>,
    path: &'static str,
    body_size: usize,
    keep_alive: bool,
}

const fn get(
    name: &'static str,
    path: &'static str,
    measure: Measure,
    connections: &'static [usize],
) -> Work {
    Work { name, measure, connections, max_workers: None, path, body_size: 0, keep_alive: true }
}

const fn post(name: &'static str, body_size: usize, measure: Measure, connections: &'static [usize]) -> Work {
    Work { body_size, ..get(name, "/small", measure, connections) }
}

/// All works but `idle`, which is no load.
pub const ALL: &[Work] = &[
    get("small", "/small", Measure::Requests, &[1, 16, 64, 256]),
    Work { keep_alive: false, ..get("new-connection", "/small", Measure::Requests, &[16, 64]) },
    post("post-1k", 1 << 10, Measure::Requests, &[64]),
    post("post-64k", 64 << 10, Measure::Bytes, &[64]),
    get("get-10k", "/10k", Measure::Requests, &[64]),
    get("get-64k", "/64k", Measure::Bytes, &[64]),
    get("get-1m", "/1m", Measure::Bytes, &[16]),
    post("post-1m", 1 << 20, Measure::Bytes, &[16]),
    get("get-64m", "/64m", Measure::Bytes, &[4]),
    post("post-64m", 64 << 20, Measure::Bytes, &[4]),
    get("chunked", "/chunked", Measure::Requests, &[64]),
    Work { max_workers: Some(2000), ..get("delay-10ms", "/delay10ms", Measure::Requests, &[1000]) },
];

/// The name of the work that only holds connections.
pub const IDLE: &str = "idle";

impl Work {
    /// How the proxies are set up for it.
    pub fn setup(&self, max_workers: usize, health_check: bool) -> Setup {
        let max_workers = self.max_workers.unwrap_or(max_workers);
        Setup { max_workers, queue_capacity: 2000, health_check }
    }

    /// The load on a proxy at `address`.
    pub fn load(&self, address: SocketAddr, connections: usize, duration: Duration) -> Options {
        Options {
            connections,
            duration: Some(duration),
            method: if self.body_size > 0 { "POST" } else { "GET" }.to_string(),
            body_size: self.body_size,
            keep_alive: self.keep_alive,
            timeout: Duration::from_secs(10),
            ..Options::new(&format!("http://{address}{}", self.path))
        }
    }
}
