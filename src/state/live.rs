//! Everything of a configuration that a reload changes, as one immutable value: an exchange takes it when it begins and keeps
//! it until it ends, so no request sees parts of two configurations. It is part of the table's [`Snapshot`], so servers and
//! configuration change together.
//!
//! What counts or waits over a reload (budgets, queues, limits, counters of routes) is behind an `Arc` here, and the next
//! value has the same one where the name and, if they matter, the parameters are the same.
//!
//! [`Snapshot`]: super::table::Snapshot

use super::access::AccessSink;
use super::awaiting::Awaiting;
use super::choose::Choices;
use super::config::{self, Config, Timeouts, Via};
use super::guard::Guard;
use super::listener::OpenListener;
use super::queue::ServerQueue;
use super::route::Routes;
use super::session::{Sessions, Sticky};
use super::sinks::Sinks;
use super::spans::SpanSink;
use super::tls::servers::ServersTls;
use super::tls::{Problem, Tls};
use super::traffic::{Registry, Traffic};
use crate::base::ids::{ByPool, ListenerId, PoolId};
use crate::base::{limits, random};
use crate::policy::hedge::Estimate;
use crate::policy::orca::Metric;
use crate::policy::retry::Budget;
use crossbeam_utils::CachePadded;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// Descriptors that are kept for listeners, pollers, probes, files and the admin API.
const RESERVED_DESCRIPTORS: usize = 64;

/// What requests need of the configuration.
#[derive(Debug)]
pub struct Live {
    /// The whole configuration.
    pub config: Arc<Config>,
    /// Which pool a request goes to.
    pub routes: Routes,
    /// Where clients connect, in the order of the configuration.
    pub listeners: Vec<Arc<OpenListener>>,
    /// Its name in `Via`; empty without one.
    pub pseudonym: String,
    /// The most client connections that may be open.
    pub connections_max: usize,
    /// Where a line per request goes, if that is wanted.
    pub access: Option<AccessSink>,
    /// Where spans of requests go, if they are wanted.
    pub spans: Option<SpanSink>,
    /// What requests without a route have to pass, and those of each route, in their order.
    guards: (Guard, Vec<Guard>),
    /// Listeners that reloads have closed and that still have connections.
    closed: Vec<Arc<OpenListener>>,
    pools: ByPool<LivePool>,
    /// The name in `Via` that was made for this process.
    instance_name: String,
}

/// A pool of the configuration.
#[derive(Debug)]
struct LivePool {
    state: Arc<PoolState>,
    tls: Option<Arc<ServersTls>>,
    sticky: Option<Sticky>,
    orca: Option<Metric>,
    timeouts: Timeouts,
}

/// What all requests of a pool share, whichever configuration they began under.
#[derive(Debug)]
pub struct PoolState {
    /// Its name.
    pub name: Arc<str>,
    /// What is counted of the requests that went to the pool.
    pub traffic: Arc<Traffic>,
    /// Pays for retries.
    pub budget: Budget,
    /// Counts requests, for the algorithms that take turns.
    pub turn: CachePadded<AtomicU64>,
    /// Requests that wait for a server with room.
    pub queue: ServerQueue,
    /// Requests that wait because no server can be connected to.
    pub awaiting: Arc<Awaiting>,
    /// How long its servers take for the start of a response, as hedged requests see it.
    pub attempt_time: Estimate,
    /// What its second algorithm would have chosen.
    pub shadow: Arc<Choices>,
    /// Which server clients belong to, where it is remembered.
    pub sessions: Sessions,
}

impl PoolState {
    /// A pool of this name without any request.
    fn new(name: &str, registry: &Registry) -> Self {
        PoolState {
            name: name.into(),
            traffic: registry.pool(name),
            budget: Budget::new(),
            turn: CachePadded::default(),
            queue: ServerQueue::default(),
            awaiting: Arc::default(),
            attempt_time: Estimate::default(),
            shadow: Arc::default(),
            sessions: Sessions::default(),
        }
    }
}

/// What was read from the files that a configuration names.
#[derive(Debug, Default)]
pub struct Files {
    /// With the files of responses.
    pub routes: Routes,
    /// Certificates, keys and authorities.
    pub tls: Tls,
}

impl Files {
    /// Reads them all. TLS of which neither settings nor files have changed since `before` is taken from there. `now` is in
    /// seconds since 1970. Every file that cannot be used is in the error.
    pub fn read(config: &Config, before: Option<&Live>, now: i64) -> Result<Self, Vec<Problem>> {
        let routes = Routes::new(&config.routes).map_err(|faults| {
            let problem = |fault: super::route::BodyFault| Problem {
                key: format!("routes[{}].respond.file", fault.route),
                advice: fault.advice,
            };
            faults.into_iter().map(problem).collect::<Vec<_>>()
        });
        let commands = commands(config);
        match (routes, Tls::open(config, before, now)) {
            (Ok(routes), Ok(tls)) if commands.is_empty() => Ok(Files { routes, tls }),
            (one, other) => Err(one.err().into_iter().chain(other.err()).flatten().chain(commands).collect()),
        }
    }
}

/// Commands of probes that cannot be executed.
fn commands(config: &Config) -> Vec<Problem> {
    let problem = |pool| match &config.pool(pool).health_check.probe {
        config::Probe::Exec(exec) => {
            let key = format!("{}.health_check.command", config.pool_key(pool));
            exec.obstacle().map(|advice| Problem { key, advice })
        }
        _ => None,
    };
    config.pool_ids().filter_map(problem).collect()
}

impl Live {
    /// A configuration and what belongs to it. What `before` has counted goes on; `registry` has the counts by name.
    pub fn new(
        config: Arc<Config>,
        files: Files,
        listeners: Vec<Arc<OpenListener>>,
        sinks: Sinks,
        registry: &Registry,
        before: Option<&Live>,
    ) -> Self {
        let mut pool_tls = config.pool_ids().zip(files.tls.servers).collect::<ByPool<_>>();
        let pool = |pool| {
            let state =
                before.and_then(|before| before.pools.get(pool)).map(|known| Arc::clone(&known.state));
            let tls = pool_tls.remove(pool).flatten();
            let new = || Arc::new(PoolState::new(config.pool_name(pool), registry));
            let sticky = config.pool(pool).sticky.as_ref();
            let sticky = sticky.map(|settings| Sticky::new(settings, config.pool_name(pool)));
            let orca = config.pool(pool).load_report.orca.clone();
            let timeouts = config.timeouts.with(config.pool(pool).timeouts);
            (pool, LivePool { state: state.unwrap_or_else(new), tls, sticky, orca, timeouts })
        };
        let pools = config.pool_ids().map(pool).collect();
        let instance_name = before.map_or_else(
            || format!("evenkeel-{:08x}", random::entropy() as u32),
            |before| before.instance_name.clone(),
        );
        Live {
            routes: files.routes.counted_by(registry),
            closed: before.map_or_else(Vec::new, |before| before.closed_for(&listeners)),
            listeners,
            pseudonym: match &config.listen.via {
                Via::Instance => instance_name.clone(),
                Via::Named(name) => name.clone(),
                Via::Off => String::new(),
            },
            connections_max: connections_max(&config),
            access: sinks.access,
            spans: sinks.spans,
            guards: guards(&config, before),
            pools,
            instance_name,
            config,
        }
    }

    /// A configuration without files, whose listeners are not opened; for tests and benches.
    pub fn plain(config: Config) -> Self {
        let listener = |(at, settings): (u32, &config::Listener)| {
            let name = settings.name.as_str().into();
            let (settings, place, traffic) = (settings.clone(), settings.place.clone(), Arc::default());
            Arc::new(OpenListener { id: ListenerId(at), name, settings, place, tls: None, traffic })
        };
        let listeners = (0..).zip(&config.listen.listeners).map(listener).collect();
        let routes = Routes::new(&config.routes).unwrap_or_default();
        Live::new(
            Arc::new(config),
            Files { routes, tls: Tls::default() },
            listeners,
            Sinks::default(),
            &Registry::default(),
            None,
        )
    }

    /// What the requests of a pool share; that of the default pool where there is no such pool.
    pub fn pool(&self, pool: PoolId) -> &Arc<PoolState> {
        &self.live_pool(pool).state
    }

    /// The time limits of requests to a pool: its own, and for the rest those of the configuration.
    pub fn timeouts(&self, pool: PoolId) -> &Timeouts {
        &self.live_pool(pool).timeouts
    }

    fn live_pool(&self, pool: PoolId) -> &LivePool {
        let known = self.pools.get(pool).or_else(|| self.pools.get(PoolId::default()));
        // There is always a default pool.
        known.unwrap_or_else(|| unreachable!("a configuration without a default pool"))
    }

    /// Requests that wait for a server, of all pools.
    pub fn waiting(&self) -> usize {
        self.pools.iter().map(|(_, pool)| pool.state.queue.len()).sum()
    }

    /// TLS towards the servers of a pool; `None` where it is in clear text.
    pub fn servers_tls(&self, pool: PoolId) -> Option<&Arc<ServersTls>> {
        self.pools.get(pool)?.tls.as_ref()
    }

    /// How a pool keeps sessions; `None` where it keeps none.
    pub fn sticky(&self, pool: PoolId) -> Option<&Sticky> {
        self.pools.get(pool)?.sticky.as_ref()
    }

    /// The cookie of the balancer's own that keeps sessions of a pool, which its servers do not get.
    pub fn own_cookie(&self, pool: PoolId) -> Option<&str> {
        self.sticky(pool)?.own()
    }

    /// What of `endpoint-load-metrics` in the responses of a pool's servers counts; `None` where the header is not read.
    pub fn orca(&self, pool: PoolId) -> Option<&Metric> {
        self.pools.get(pool)?.orca.as_ref()
    }

    /// The listener with this id; `None` once it is closed.
    pub fn listener(&self, id: ListenerId) -> Option<&Arc<OpenListener>> {
        self.listeners.iter().find(|listener| listener.id == id)
    }

    /// The same, or one that was closed after some of its connections came.
    pub fn known_listener(&self, id: ListenerId) -> Option<&Arc<OpenListener>> {
        self.listener(id).or_else(|| self.closed.iter().find(|listener| listener.id == id))
    }

    /// Those of its listeners that are not among these, and still have connections, which refer to them.
    fn closed_for(&self, listeners: &[Arc<OpenListener>]) -> Vec<Arc<OpenListener>> {
        let is_open = |id| listeners.iter().any(|listener| listener.id == id);
        let old = self.listeners.iter().filter(|listener| !is_open(listener.id));
        old.chain(&self.closed).filter(|listener| Arc::strong_count(listener) > 1).cloned().collect()
    }

    /// Those of its listeners whose sockets also serve these, one for one: the same place as configured, and where several
    /// have that (port 0) first the same name.
    pub fn still_open(&self, listeners: &[config::Listener]) -> Vec<Option<&Arc<OpenListener>>> {
        let mut free: Vec<_> = self.listeners.iter().map(Some).collect();
        let mut found = vec![None; listeners.len()];
        for by_name in [true, false] {
            for (listener, found) in listeners.iter().zip(&mut found).filter(|(_, found)| found.is_none()) {
                let serves = |open: &&mut Option<&Arc<OpenListener>>| {
                    open.is_some_and(|open| {
                        open.settings.place == listener.place
                            && (!by_name || open.settings.name == listener.name)
                    })
                };
                *found = free.iter_mut().find(serves).and_then(Option::take);
            }
        }
        found
    }

    /// What the requests of a route have to pass, or those without one.
    pub fn guard(&self, route: Option<usize>) -> &Guard {
        route.and_then(|route| self.guards.1.get(route)).unwrap_or(&self.guards.0)
    }
}

/// The guards of a configuration. They count on where they are as they were.
fn guards(config: &Config, before: Option<&Live>) -> (Guard, Vec<Guard>) {
    let none = Guard::default();
    let top_before = before.map_or(&none, |before| &before.guards.0);
    let all = Guard::new(&config.guards, &Guard::like(top_before), top_before);
    let of_name: HashMap<&str, &Guard> = before.map(Live::named_guards).unwrap_or_default();
    let of_routes = config.routes.iter().map(|spec| {
        let before = of_name.get(spec.route.name.as_str()).copied().unwrap_or(&none);
        Guard::new(&spec.guards, &all, before)
    });
    let of_routes = of_routes.collect();
    (all, of_routes)
}

impl Live {
    fn named_guards(&self) -> HashMap<&str, &Guard> {
        let names = self.config.routes.iter().map(|spec| spec.route.name.as_str());
        names.zip(&self.guards.1).collect()
    }
}

/// What to say of a `limits.connections` that the limit of open files does not allow.
pub fn too_many_connections(config: &Config) -> Option<String> {
    let (asked, allowed) = (config.limits.connections?, connections_max(config));
    let open_files = limits::descriptors();
    (allowed < asked).then(|| {
        format!(
            "the limit of open files ({open_files}) allows {allowed}; raise it (`ulimit -n`, LimitNOFILE of systemd), or \
             write {allowed} or less"
        )
    })
}

/// The configured limit, or what the descriptor limit leaves when every connection has a request at a server, too.
fn connections_max(config: &Config) -> usize {
    let descriptors = limits::descriptors();
    // Each worker has a poller and a waker.
    let own = RESERVED_DESCRIPTORS + 2 * config.threadpool.bounds.max;
    let left = descriptors.saturating_sub(own) / 2;
    // A very low limit still serves a few: better slow than not at all.
    config.limits.connections.unwrap_or(usize::MAX).min(left.max(descriptors / 4)).max(1)
}
