//! The workloads: the requests sent to the proxies; each is a row of the table by its name.

use super::client::{Load, Other, Share};
use super::proxy::Kind;
use super::settings::{self, Setup};
use evenkeel::loadtest::Options;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::time::Duration;

/// The time at the start of each measurement in which nothing counts: connections are made and the worker pool grows.
const WARM_UP: Duration = Duration::from_millis(500);
/// Thousands of connections at once overflow a backlog, and dropped ones are retried after a second.
const LONG_WARM_UP: Duration = Duration::from_millis(2500);
const LONG_WARM_UP_ABOVE_CLIENTS: usize = 1000;

/// The figures that matter in a workload, besides requests/s.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// Processor time per request.
    Requests,
    /// Bytes per second, and processor time per MiB.
    Bytes,
}

/// What differs between the measurements of a workload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// The number of client connections.
    #[default]
    Connections,
    /// The number of configured servers.
    Servers,
    /// Evenkeel's `max_workers`; the others have none.
    Workers,
    /// The number of routes.
    Routes,
    /// The number of client connections to the second pool.
    Second,
}

impl Unit {
    /// The name in the table.
    pub fn name(self) -> &'static str {
        match self {
            Unit::Connections => "connections",
            Unit::Servers => "servers",
            Unit::Workers => "workers",
            Unit::Routes => "routes",
            Unit::Second => "connections to the second pool",
        }
    }
}

/// What a client sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sends {
    /// The same request always, in one write if it is small.
    Whole,
    /// The head of a request in one segment, and its body in a second one.
    Split,
    /// One request of a hundred to a path that takes 100 ms; only the latency of the others is reported.
    Mixed,
    /// Further connections send requests to a second pool, whose server takes 50 ms; their latency is not reported.
    TwoPools,
}

/// One kind of load.
#[derive(Clone, Copy, Debug)]
pub struct Work {
    /// Its name on the command line.
    pub name: &'static str,
    /// A description.
    pub title: &'static str,
    /// The figures that matter.
    pub measure: Measure,
    /// What differs.
    pub unit: Unit,
    /// The values of it, in turn.
    pub at: &'static [usize],
    /// Connections, if something else differs.
    connections: usize,
    /// Workers, if this workload needs more than the command line says.
    max_workers: Option<usize>,
    /// What a client sends.
    pub sends: Sends,
    path: &'static str,
    body_size: usize,
    keep_alive: bool,
    /// Clients speak TLS.
    tls: bool,
    /// They resume earlier sessions.
    resume: bool,
}

const fn get(name: &'static str, title: &'static str, path: &'static str, at: &'static [usize]) -> Work {
    Work {
        name,
        title,
        measure: Measure::Requests,
        unit: Unit::Connections,
        at,
        connections: 0,
        max_workers: None,
        sends: Sends::Whole,
        path,
        body_size: 0,
        keep_alive: true,
        tls: false,
        resume: false,
    }
}

const fn post(name: &'static str, title: &'static str, body_size: usize, at: &'static [usize]) -> Work {
    Work { body_size, ..get(name, title, "/small", at) }
}

const fn over_tls(work: Work) -> Work {
    Work { tls: true, ..work }
}

const fn by_bytes(work: Work) -> Work {
    Work { measure: Measure::Bytes, ..work }
}

/// Many connections to servers that take 10 ms, with the seed's `max_workers`: each worker has many requests in flight.
const DELAYED: Work =
    Work { max_workers: Some(50), ..get("delay-10ms", "servers that take 10 ms", "/delay10ms", &[1000]) };

/// All workloads with a closed loop.
pub const ALL: &[Work] = &[
    get("small", "responses of 59 bytes, keep-alive", "/small", &[1, 16, 64, 256, 1000]),
    Work {
        keep_alive: false,
        ..get("new-connection", "a new connection for each request", "/small", &[16, 64])
    },
    post("post-1k", "requests with 1 KiB", 1 << 10, &[64]),
    by_bytes(post("post-64k", "requests with 64 KiB", 64 << 10, &[64])),
    get("get-10k", "responses of 10 KiB", "/10k", &[64]),
    by_bytes(get("get-64k", "responses of 64 KiB", "/64k", &[64])),
    by_bytes(get("get-1m", "responses of 1 MiB", "/1m", &[16])),
    by_bytes(post("post-1m", "requests with 1 MiB", 1 << 20, &[16])),
    by_bytes(get("get-64m", "responses of 64 MiB", "/64m", &[4])),
    by_bytes(post("post-64m", "requests with 64 MiB", 64 << 20, &[4])),
    get("chunked", "responses of 16 chunks", "/chunked", &[64]),
    get("split-response", "responses of 59 bytes, head and body in two segments", "/split", &[16, 64, 256]),
    Work {
        sends: Sends::Split,
        ..post("split-request", "requests with 1 KiB, head and body in two segments", 1 << 10, &[64])
    },
    Work {
        sends: Sends::Mixed,
        ..get("mixed", "small responses, 1 % take 100 ms; latency of the others", "/small", &[64])
    },
    Work {
        unit: Unit::Second,
        connections: 64,
        sends: Sends::TwoPools,
        ..get(
            "two-pools",
            "small responses, 64 connections, beside a pool that takes 50 ms",
            "/small",
            &[0, 64, 256],
        )
    },
    DELAYED,
    over_tls(get("tls-small", "responses of 59 bytes over TLS, keep-alive", "/small", &[16, 64, 256])),
    over_tls(Work {
        keep_alive: false,
        ..get("tls-handshakes", "a full handshake for each request", "/small", &[16])
    }),
    over_tls(Work {
        keep_alive: false,
        resume: true,
        ..get("tls-resumed", "a resumed handshake for each request", "/small", &[16])
    }),
    by_bytes(over_tls(get("tls-1m", "responses of 1 MiB over TLS", "/1m", &[16]))),
    Work {
        unit: Unit::Routes,
        connections: 64,
        ..get("routes", "small responses, 64 connections", "/small", &[10, 100, 1000, 10_000])
    },
    get("connections", "the same small responses", "/small", &[10, 30, 100, 300, 1000, 3000, 8000]),
    Work {
        unit: Unit::Servers,
        connections: 64,
        ..get("servers", "small responses, 64 connections", "/small", &[3, 30, 300, 3000])
    },
    Work {
        unit: Unit::Workers,
        connections: 256,
        ..get("workers", "small responses, 256 connections", "/small", &[1, 2, 4, 8, 16, 64, 256, 2000])
    },
    Work {
        unit: Unit::Workers,
        connections: 1000,
        name: "workers-10ms",
        title: "servers that take 10 ms, 1,000 connections",
        // With fewer, most of 1,000 clients would be rejected.
        at: &[16, 32, 64, 128, 256, 512, 1024, 2000],
        ..DELAYED
    },
];

impl Work {
    /// The set-up of the proxies for it.
    pub fn setup(&self, at: usize, max_workers: usize, health_check: bool) -> Setup {
        let max_workers = match self.unit {
            Unit::Workers => at,
            _ => self.max_workers.unwrap_or(max_workers),
        };
        let routes = if self.unit == Unit::Routes { at } else { 0 };
        let second_pool = self.sends == Sends::TwoPools;
        let connections = self.clients(at) + if second_pool { at } else { 0 };
        let tls = self.tls;
        Setup { connections, max_workers, health_check, routes, tls, second_pool, ..Setup::default() }
    }

    /// The number of servers behind the proxies.
    pub fn servers(&self, at: usize) -> usize {
        match self.unit {
            Unit::Servers => at,
            Unit::Second => 2,
            _ => 1,
        }
    }

    /// The number of client connections.
    fn clients(&self, at: usize) -> usize {
        if self.unit == Unit::Connections { at } else { self.connections }
    }

    /// Whether this is measured. The floor has one thread and one server, and moves only small exchanges; only Evenkeel
    /// has workers that are set; without a proxy there is neither TLS nor a route.
    pub fn measures(&self, kind: Kind) -> bool {
        match kind {
            Kind::Evenkeel | Kind::Before => true,
            Kind::Nginx | Kind::Haproxy => self.unit != Unit::Workers,
            Kind::Direct => self.unit != Unit::Workers && self.unit != Unit::Routes && !self.tls,
            Kind::Floor => self.name == "small",
        }
    }

    /// Why the handshakes were not of the kind that this measures: the first ones of a run have nothing to resume.
    pub fn wrong_handshakes(&self, handshakes: u64, resumed: u64) -> Option<String> {
        let is_right = match self.resume {
            true => resumed * 100 >= handshakes * 95,
            false => resumed == 0,
        };
        (!is_right).then(|| format!("{resumed} of {handshakes} handshakes were resumed"))
    }

    /// The load on a proxy at `address`, of works that do not send whole requests only.
    pub fn special_load(&self, address: SocketAddr, at: usize, duration: Duration) -> Load {
        let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n").into_bytes();
        let post = || {
            let length = self.body_size;
            format!("POST {} HTTP/1.1\r\nHost: {address}\r\nContent-Length: {length}\r\n\r\n", self.path)
        };
        let other = match self.sends {
            Sends::Mixed => Some(Other { request: get("/delay100ms"), share: Share::OneIn(100) }),
            Sends::TwoPools => {
                Some(Other { request: get(settings::SECOND_POOL_PATH), share: Share::Connections(at) })
            }
            Sends::Whole | Sends::Split => None,
        };
        Load {
            address,
            connections: self.clients(at),
            warm_up: WARM_UP,
            duration,
            first: if other.is_some() { get(self.path) } else { post().into_bytes() },
            second: vec![b'x'; self.body_size],
            other,
        }
    }

    /// The load on a proxy at `address`.
    pub fn load(&self, address: SocketAddr, at: usize, duration: Duration) -> Options {
        let (scheme, host) = match self.tls {
            true => ("https", settings::HOST.to_string()),
            false => ("http", address.ip().to_string()),
        };
        let last_route = (self.unit == Unit::Routes).then(|| at.saturating_sub(1));
        Options {
            connections: self.clients(at),
            duration: Some(duration),
            method: if self.body_size > 0 { "POST" } else { "GET" }.to_string(),
            body_size: self.body_size,
            keep_alive: self.keep_alive,
            headers: last_route
                .map(|route| ("Host".to_string(), settings::host(route)))
                .into_iter()
                .collect(),
            resume: self.resume,
            insecure: self.tls,
            timeout: Duration::from_secs(10),
            // One thread could not send more than it does through a proxy.
            threads: (self.measure == Measure::Bytes).then_some(2),
            warm_up: if self.clients(at) > LONG_WARM_UP_ABOVE_CLIENTS { LONG_WARM_UP } else { WARM_UP },
            ..Options::new(&format!("{scheme}://{host}:{}{}", address.port(), self.path))
        }
    }
}
