//! The configuration: the contents of `config.json`, refined into a valid [`Config`].
//!
//! A file is processed as `texts -> tree -> reader -> Config`:
//!
//! - `tree` has the syntax and the position of every value.
//! - `document` adds the files that are included, and `variables` the values of `${NAME}`.
//! - `reader` walks the tree through typed getters and collects every fault.
//! - `refine` has each key once, with its default and its bounds.
//! - `check` looks for keys that contradict each other.
//!
//! A new key stands in three places: where it is read, in `schema.json` (editors and `check --print` know it from there), and
//! in docs/configuration.md. Tests hold the three together and name what is missing.
//!
//! The file has no derived `Deserialize` structs on purpose. serde stops at the first fault, and raw structs beside the
//! refined ones would duplicate the schema; this way an operator gets every fault of a file at once, each with its
//! position and with what to write instead.

mod agent_check;
mod check;
pub mod diff;
mod document;
mod elsewhere;
mod examples;
mod expect;
mod fault;
pub mod guards;
mod hash;
mod health_check;
mod hedge;
mod hints;
mod listener;
mod listeners;
mod load;
mod load_report;
mod logs;
mod networks;
mod placeholder;
mod pool_name;
mod print;
mod reader;
mod refine;
mod renumber;
mod retries;
mod routes;
mod rules;
mod schema;
mod secrets;
mod source;
mod spell;
mod sticky;
mod to_servers;
mod tracing;
mod tree;
mod units;
mod variables;
mod written;

pub use crate::base::network::Network;
pub use agent_check::AgentCheck;
pub use expect::Expect;
pub use fault::Fault;
pub use guards::Guards;
pub use hash::HashSettings;
pub use health_check::{
    EXPECT_BYTES_MAX, ExecProbe, Expected, GrpcProbe, HealthCheck, HttpProbe, Probe, TcpProbe,
};
pub use listener::{Certificate, ClientAuth, HostCertificate, Listener, Place, TlsToClients, TlsVersion};
#[cfg(test)]
pub(super) use load::parse_routes;
pub use load::{
    Input, fault_at, load, load_despite_faults, load_from, parse, parse_change, parse_server, print,
};
pub use load_report::LoadReport;
pub use logs::{AccessLog, AccessTarget, Log, LogFormat, SyslogPlace};
pub use routes::RouteSpec;
pub use rules::{NAME_BYTES_MAX, check_name};
pub use schema::SCHEMA;
pub use secrets::Secret;
pub use sticky::{SameSite, SessionCookie, Sticky};
pub use to_servers::{TlsToServers, ToServers};
pub use tracing::Tracing;
pub use units::{read_size, show_duration};
pub use written::{Refined, Written};

use super::address::Address;
use super::route::OwnTimeouts;
use super::server::Mode;
use super::stamp::Stamped;
use crate::base::ids::PoolId;
use crate::http1::head;
use crate::http1::path::EncodedSlash;
use crate::policy::limit::MaxInFlight;
use crate::policy::networks::Networks;
use crate::policy::pick::Weight;
use crate::policy::{self, admit, health, pick, pool, retry, slow_start};
use reader::Reader;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tree::Node;

/// The file that is read when none is named.
pub const FILE: &str = "config.json";

/// The name of the pool that `servers` describes.
pub const DEFAULT_POOL: &str = "default";

/// A valid configuration. Made by [`load`], [`parse`] or [`Config::default`] (the seed's file),
/// never by hand elsewhere.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Where clients connect, and how they are identified.
    pub listen: Listen,
    /// The default pool: its servers, and how they are chosen and checked.
    pub servers: Servers,
    /// The other pools, in the order of the file. Names are unique.
    pub pools: Vec<NamedPool>,
    /// Which requests go where, in the order of the file; without any, all go to `servers`.
    pub routes: Vec<RouteSpec>,
    /// The worker pool and its channel.
    pub threadpool: Threadpool,
    /// What every request has to pass.
    pub guards: Guards,
    /// Time limits.
    pub timeouts: Timeouts,
    /// Limits on sizes and counts.
    pub limits: Limits,
    /// When a failed attempt is made again.
    pub retries: retry::Rules,
    /// Where the admin API listens.
    pub admin: Admin,
    /// What is logged.
    pub log: Log,
    /// Which choices of servers are recorded.
    pub decisions: Decisions,
    /// Where spans of requests go; `None` makes none.
    pub tracing: Option<Tracing>,
    /// Reload by itself when a file of the configuration changes.
    pub watch: bool,
    /// The file that this was read from, for a reload; `None` for a text or the defaults.
    pub file: Option<PathBuf>,
    /// What was read for it: that file, the files and folders that are included, and files of `${file:PATH}`.
    pub files: Vec<Stamped>,
    /// Files that it names and whose contents belong to it: networks, users, pages, certificates of and for servers.
    pub contents: Vec<Stamped>,
    /// Files with secrets that the texts of the file are, or stand for.
    pub secrets: Vec<Secret>,
    /// Faults that are valid but look like a mistake.
    pub warnings: Vec<Fault>,
}

/// `load_balancer`: where clients connect.
#[derive(Clone, Debug, PartialEq)]
pub struct Listen {
    /// Never empty. That of `load_balancer_port` is the first, then come the listed ones.
    pub listeners: Vec<Listener>,
    /// The zone that the balancer is in; its servers come first.
    pub zone: Option<String>,
    /// Add `X-Served-By: <server name>` to responses.
    pub served_by_header: bool,
    /// Peers whose `X-Forwarded-*` and `Forwarded` are believed and appended to.
    pub trusted_proxies: Networks,
    /// Send RFC 7239 `Forwarded` too.
    pub forwarded: bool,
    /// The name in `Via`.
    pub via: Via,
    /// Send `X-Request-Id` to clients.
    pub request_id_header: bool,
    /// Begin a trace (`traceparent`) for requests that are not part of one, and log the traces' ids.
    pub trace_context: bool,
    /// Forward TRACE instead of rejecting it.
    pub trace: bool,
    /// What is done with `%2F` in a path, where there are routes.
    pub encoded_slash: EncodedSlash,
}

/// An entry of `pools`: a pool beside the default one.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedPool {
    /// Its number; never 0.
    pub id: PoolId,
    /// 1 to 64 characters, as those of a server; never [`DEFAULT_POOL`].
    pub name: String,
    /// Its servers: the same keys as those of `servers`.
    pub servers: Servers,
}

/// The name of the balancer in `Via`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Via {
    /// One made for this instance.
    #[default]
    Instance,
    /// A token of 1 to 64 characters.
    Named(String),
    /// There is no `Via` of ours, and loops are not found.
    Off,
}

/// `servers`, and each entry of `pools`: which servers respond, how one is chosen and how they are checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Servers {
    /// Requests that may wait for a server while all that qualify are at their `max_in_flight`, 1 to 1,000,000; also the
    /// queue of a sample server started with this file.
    pub queue_capacity: usize,
    /// The most requests at once with each server that has no limit of its own, 1 to 1,000,000; `None` is unlimited.
    pub max_in_flight: Option<MaxInFlight>,
    /// How a server is chosen.
    pub algorithm: pick::Algorithm,
    /// A second algorithm that only counts where it would choose another server.
    pub shadow: Option<pick::Algorithm>,
    /// Which responses are good, for what is known of the servers; `None`: those below 500.
    pub expect: Option<Expect>,
    /// Where less than this share of the servers is up, in percent, the last known good ones are used as well; 0 to 100, 0 never.
    pub panic_percent: u32,
    /// How a server that comes up gets less than its share at first, where it says nothing of its own.
    pub slow_start: slow_start::Settings,
    /// What becomes of the addresses of a name, where a server does not say.
    pub resolve: Resolve,
    /// The servers at the start; names and addresses are unique.
    pub list: Vec<ServerSpec>,
    /// Active probes.
    pub health_check: HealthCheck,
    /// Agents beside the servers; `None` asks none.
    pub agent_check: Option<AgentCheck>,
    /// Load reports by the servers.
    pub load_report: LoadReport,
    /// When live traffic takes a server out.
    pub ejection: health::Ejection,
    /// Idle connections to each server.
    pub pool: Pool,
    /// Time limits of requests to it, where they are others than those of `timeouts`.
    pub timeouts: OwnTimeouts,
    /// When a second attempt is made beside the first; `None` is never.
    pub hedge: Option<policy::hedge::Rules>,
    /// They speak TLS.
    pub tls: Option<TlsToServers>,
    /// How connections to them begin.
    pub connecting: ToServers,
    /// What a hash algorithm goes by.
    pub hash: HashSettings,
    /// Clients stay with their servers.
    pub sticky: Option<Sticky>,
}

/// One server as configured, or as registered through the admin API.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerSpec {
    /// Unique; 1 to 64 visible ASCII characters that need no escape in a URL path, a header or a metric.
    pub name: String,
    /// Where it listens; unique.
    pub address: Address,
    /// 0 (no new requests) to 1000.
    pub weight: Weight,
    /// Gets traffic only when no other server can.
    pub backup: bool,
    /// 0 comes first, 9 last; the next one gets requests where this one has too few servers.
    pub priority: u8,
    /// Where it is; a balancer in the same zone prefers it.
    pub zone: Option<String>,
    /// The most requests at once, 1 to 1,000,000; `None` is the pool's `max_in_flight`.
    pub max_in_flight: Option<MaxInFlight>,
    /// What becomes of the addresses of its name.
    pub resolve: Resolve,
    /// Its own slow start, as far as it differs from that of the pool.
    pub slow_start: slow_start::Settings,
    /// The port of its agent; `None` is that of the pool.
    pub agent_port: Option<u16>,
}

/// What becomes of the addresses of a server's name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Resolve {
    /// They are one server, reached at the address that responded last.
    #[default]
    First,
    /// Each is a server of the pool.
    All,
}

impl Resolve {
    /// The words in the configuration.
    pub const WORDS: [(&str, Resolve); 2] = [("first", Resolve::First), ("all", Resolve::All)];
}

impl Servers {
    /// The limit of servers without one of their own. With a hash an overload sets none: keys would go to other servers than theirs.
    pub fn limit_of_each(&self) -> Option<MaxInFlight> {
        self.max_in_flight.filter(|limit| *limit != MaxInFlight::Auto || !self.algorithm.hashes())
    }
}

impl ServerSpec {
    /// A server with the defaults of all other keys.
    pub fn new(name: impl Into<String>, address: Address) -> Self {
        ServerSpec {
            name: name.into(),
            address,
            weight: Weight(1),
            backup: false,
            priority: 0,
            zone: None,
            max_in_flight: None,
            resolve: Resolve::First,
            slow_start: slow_start::Settings::default(),
            agent_port: None,
        }
    }

    /// Whether each address of its name is a server of the pool.
    pub fn resolves_all(&self) -> bool {
        self.resolve == Resolve::All && self.address.name().is_some()
    }
}

/// `servers.pool`: idle connections kept open to each server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    /// The most per server, 0 (keep none) to 10,000.
    pub idle: usize,
    /// How long one is kept, 1 ms to 24 h.
    pub idle_time: Duration,
}

/// `threadpool`.
#[derive(Clone, Debug, PartialEq)]
pub struct Threadpool {
    /// The number of workers, 1 to 10,000.
    pub bounds: pool::Bounds,
    /// Requests that wait for a worker, 1 to 1,000,000.
    pub queue_capacity: usize,
    /// Whether a request that waited is still served.
    pub admit: admit::Rules,
}

/// `timeouts`: each 1 ms to 24 h, except `drain` and `shutdown_delay`, which may be 0, and `tunnel`, which may be 30 days.
#[derive(Clone, Debug, PartialEq)]
pub struct Timeouts {
    /// Connecting to a server.
    pub connect: Duration,
    /// The first byte of a server's response, then between reads from it.
    pub response: Duration,
    /// From the complete head of a request to the end of its response; `None` is unlimited.
    pub request: Option<Duration>,
    /// From the first byte of a request head to its end.
    pub client_head: Duration,
    /// Between reads of a request body, and between writes to a client.
    pub client_body: Duration,
    /// An idle client connection.
    pub keep_alive: Duration,
    /// Requests in flight at a stop; 0 does not wait.
    pub drain: Duration,
    /// Between a stop signal and the drain, while `/ready` says no; 0 drains at once.
    pub shutdown_delay: Duration,
    /// A tunnel without traffic.
    pub tunnel: Duration,
}

/// `limits`.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// Heads of requests and responses: 512 B to 1 MiB, 1 to 256 headers, a target of 16 B to 1 MiB.
    pub head: head::Limits,
    /// Bytes of a request body; `None` is unlimited.
    pub body: Option<u64>,
    /// Client connections, 1 to 10,000,000; `None` derives it from the descriptor limit.
    pub connections: Option<usize>,
    /// Client connections of one address, 1 to 10,000,000; `None` is unlimited.
    pub connections_per_address: Option<usize>,
    /// Upgraded connections at a time, 0 (reject all) to 100,000.
    pub tunnels: usize,
}

/// `decisions`: which choices of servers are recorded, for `GET /api/v1/decisions` and `evenkeel explain`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decisions {
    /// The most requests a second of which they are; 0 to 1,000, 0 for those only that somebody asks for.
    pub per_second: u32,
}

/// Changes to a server; `None` leaves a setting as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// Whether it gets requests.
    pub mode: Option<Mode>,
    /// Its share of the traffic, 0 to 1000.
    pub weight: Option<Weight>,
}

/// `admin`.
#[derive(Clone, Debug, PartialEq)]
pub struct Admin {
    /// The Unix socket (mode 0600); a relative path starts at the folder of the configuration. Always present when
    /// `bind` is.
    pub socket: Option<PathBuf>,
    /// The TCP address; other than loopback only with a token.
    pub bind: Option<SocketAddr>,
    /// The bearer token, 1 to 256 visible ASCII characters.
    pub token: Option<String>,
    /// Where changes of the admin API are kept over a restart; a relative path starts at the folder of the configuration.
    pub state_file: Option<PathBuf>,
}

impl Config {
    /// The settings of a pool; those of the default pool where there is no such pool.
    pub fn pool(&self, pool: PoolId) -> &Servers {
        self.named(pool).map_or(&self.servers, |named| &named.servers)
    }

    /// The name of a pool.
    pub fn pool_name(&self, pool: PoolId) -> &str {
        self.named(pool).map_or(DEFAULT_POOL, |named| &named.name)
    }

    /// The pool of that name.
    pub fn pool_named(&self, name: &str) -> Option<PoolId> {
        self.pool_ids().find(|pool| self.pool_name(*pool) == name)
    }

    /// All pools, the default one first.
    pub fn pool_ids(&self) -> impl Iterator<Item = PoolId> {
        std::iter::once(PoolId::default()).chain(self.pools.iter().map(|pool| pool.id))
    }

    fn named(&self, pool: PoolId) -> Option<&NamedPool> {
        // Usually the ids are those of the order of the file.
        let at = (pool.0 as usize).checked_sub(1)?;
        let usual = self.pools.get(at).filter(|named| named.id == pool);
        usual.or_else(|| self.pools.iter().find(|named| named.id == pool))
    }

    /// Whether nothing goes to a server: all listeners redirect to HTTPS, or all routes respond themselves.
    pub fn needs_no_servers(&self) -> bool {
        let redirects = |listener: &Listener| listener.redirect_to_https.is_some();
        let all_routes =
            !self.routes.is_empty() && self.routes.iter().all(|spec| spec.route.pools().is_empty());
        all_routes || self.listen.listeners.iter().all(redirects)
    }

    /// The key under which the file has a pool: `servers`, or `pools.<name>`.
    pub fn pool_key(&self, pool: PoolId) -> String {
        match pool {
            PoolId(0) => "servers".to_owned(),
            _ => format!("pools.{}", self.pool_name(pool)),
        }
    }

    /// The file that it was read from, or the one that the defaults stand for.
    pub fn origin(&self) -> &Path {
        self.file.as_deref().unwrap_or(Path::new(FILE))
    }
}

impl Timeouts {
    /// These, with what a pool has in their place.
    #[must_use]
    pub fn with(&self, own: OwnTimeouts) -> Self {
        Timeouts {
            connect: own.connect.unwrap_or(self.connect),
            response: own.response.unwrap_or(self.response),
            request: own.request.unwrap_or(self.request),
            client_body: own.client_body.unwrap_or(self.client_body),
            tunnel: own.tunnel.unwrap_or(self.tunnel),
            ..self.clone()
        }
    }
}

impl Listen {
    /// The first TCP address.
    pub fn address(&self) -> Option<SocketAddr> {
        self.listeners.iter().find_map(|listener| listener.place.address())
    }

    /// Whether the headers in which this peer names its client are trusted.
    pub fn trusts(&self, peer: IpAddr) -> bool {
        self.trusted_proxies.contains(peer)
    }
}

impl Default for Config {
    /// The meaning of an empty object; the seed's file has the same values.
    fn default() -> Self {
        refine::config(&mut Reader::default(), &Node::empty(), Path::new(""))
    }
}

#[cfg(test)]
mod tests;
