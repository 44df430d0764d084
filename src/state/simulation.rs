//! A simulation: balancers, servers and clients under virtual time, from a seed. The table, the servers' statistics, the
//! choice and the health rules are the real ones; sockets, threads and the clock are replaced.
//!
//! [`Description`] says what there is: the configuration, the servers (speed, slots, behaviour), the arrivals, and what changes at
//! which time. [`run`] gives a [`Report`]; the same description gives the same report, byte for byte. [`ideal`] runs the
//! same requests on one queue in front of all slots, the bound that no balancer can pass.
//!
//! A request has a *work*: the time that it takes on a server of speed 1 which has nothing else to do. It is drawn with its
//! arrival and not by the server, so that two policies get the same requests. A server has slots, and a queue in front of
//! them (first in, first out): it is a G/G/k queue.
//!
//! What it leaves out: the network, the time of the balancer itself, workers and connections, and retries after a request
//! was sent. A probe takes no time.

mod arrivals;
mod balancer;
mod engine;
#[cfg(test)]
mod evenness;
mod ideal;
#[cfg(test)]
mod late_binding;
mod report;
mod service;
#[cfg(test)]
mod tests;

pub use arrivals::requests;
pub use balancer::plain_spec;
pub use engine::run;
pub use ideal::ideal;
pub use report::{Report, Second};

use crate::base::ids::PoolId;
use crate::state::config::{Config, ServerSpec};
use std::time::Duration;

/// What is simulated.
#[derive(Clone, Debug, PartialEq)]
pub struct Description {
    /// The source of all chance.
    pub seed: u64,
    /// Balancers that do not know of each other, 1 or more; each request goes to one at random.
    pub balancers: usize,
    /// How they choose, queue, probe and eject. In the place of the servers of its pools there are those below.
    pub config: Config,
    /// What they choose from.
    pub servers: Vec<Server>,
    /// The pool that requests go to, unless they are listed.
    pub pool: PoolId,
    /// When requests come.
    pub arrivals: Arrivals,
    /// What each request takes.
    pub work: Work,
    /// No request comes after this time.
    pub length: Duration,
    /// Requests that come before this time are not in the report.
    pub warm_up: Duration,
    /// How long a client waits for its response.
    pub client_timeout: Duration,
    /// What changes, and when, in any order.
    pub changes: Vec<Change>,
}

/// A server.
#[derive(Clone, Debug, PartialEq)]
pub struct Server {
    /// Its pool.
    pub pool: PoolId,
    /// As configured; `None` is one of weight 1 whose name is its index.
    pub spec: Option<ServerSpec>,
    /// The work that one slot does in a second, in seconds of work.
    pub speed: f64,
    /// Requests that it works on at once.
    pub slots: u32,
    /// What it does with requests at the start.
    pub behaviour: Behaviour,
    /// Probes pass unless it refuses connections. False: they fail, too, while it fails or hangs.
    pub is_page_well: bool,
    /// It stands still for so long, once in so long: garbage collection.
    pub pause: Option<Pause>,
    /// What it says of its load.
    pub report: LoadReport,
    /// When the balancers get to know it; zero is the start.
    pub joins: Duration,
    /// For so long after it joins, and after each change of its behaviour, it is slower by a factor that falls to 1: cold
    /// caches.
    pub cold: Option<(Duration, f64)>,
}

impl Default for Server {
    fn default() -> Self {
        Server {
            pool: PoolId::default(),
            spec: None,
            speed: 1.0,
            slots: 4,
            behaviour: Behaviour::Works,
            is_page_well: true,
            pause: None,
            report: LoadReport::None,
            joins: Duration::ZERO,
            cold: None,
        }
    }
}

/// Pauses of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pause {
    /// Between the beginnings of two pauses.
    pub every: Duration,
    /// How long one lasts.
    pub lasts: Duration,
    /// When the first one begins.
    pub first: Duration,
}

/// What a server does with requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behaviour {
    /// It responds when the work is done.
    Works,
    /// It responds with 503 after this time, without work.
    Fails {
        /// After a request came.
        after: Duration,
    },
    /// This share of the responses, in percent, is bad, after the whole work.
    FailsSome(u8),
    /// It never responds.
    Hangs,
    /// It accepts no connection.
    Refuses,
}

/// What a server says of its load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoadReport {
    /// Nothing: it has no load reports.
    None,
    /// Requests queued and in progress.
    True,
    /// Always the same number.
    Constant(u32),
    /// Any number up to this one.
    Random(u32),
}

/// When requests come.
#[derive(Clone, Debug, PartialEq)]
pub enum Arrivals {
    /// So many a second, independent of the responses and of each other (Poisson).
    PerSecond(f64),
    /// Like that, but in each `every` the `first` part has `factor` times as many as the rest.
    Bursts {
        /// On average.
        per_second: f64,
        /// Between the beginnings of two bursts.
        every: Duration,
        /// How long a burst lasts.
        first: Duration,
        /// How many times the requests of the time between bursts.
        factor: f64,
    },
    /// So many clients, each with one request at a time.
    Clients(usize),
    /// As recorded, in the order of their times. [`Description::work`] is not used.
    Listed(Vec<Listed>),
}

/// A recorded request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listed {
    /// When it comes.
    pub at: Duration,
    /// What it takes on a server of speed 1.
    pub work: Duration,
    /// Where it goes.
    pub pool: PoolId,
}

/// What a request takes on a server of speed 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Work {
    /// Each the same.
    Fixed(Duration),
    /// Exponentially distributed, with this mean.
    Exponential(Duration),
    /// Log-normally distributed, with this mean; the larger sigma, the longer the tail.
    LogNormal {
        /// Of all.
        mean: Duration,
        /// The standard deviation of the logarithm, above 0.
        sigma: f64,
    },
    /// `long` for one in `one_in`, `short` for the others, each exponentially distributed.
    Two {
        /// The mean of most.
        short: Duration,
        /// The mean of the others.
        long: Duration,
        /// How rare these are.
        one_in: u32,
    },
}

/// Something that changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// When.
    pub at: Duration,
    /// Which server, by its index.
    pub server: usize,
    /// What it does from then on. One that hung responds to all that wait.
    pub behaviour: Behaviour,
}

impl Work {
    /// The mean, in seconds.
    pub fn mean_s(&self) -> f64 {
        match *self {
            Work::Fixed(mean) | Work::Exponential(mean) | Work::LogNormal { mean, .. } => mean.as_secs_f64(),
            Work::Two { short, long, one_in } => {
                let rare = 1.0 / f64::from(one_in.max(1));
                short.as_secs_f64() * (1.0 - rare) + long.as_secs_f64() * rare
            }
        }
    }
}

impl Description {
    /// Requests a second that the servers of the pool can take together at most, all of them working.
    pub fn capacity(&self) -> f64 {
        let servers = self.servers.iter().filter(|server| server.pool == self.pool);
        let slots: f64 = servers.map(|server| server.speed * f64::from(server.slots)).sum();
        slots / self.work.mean_s()
    }

    /// The name of a server, behind that of its pool where it is not the default one.
    pub fn server_name(&self, server: usize) -> String {
        let Some(model) = self.servers.get(server) else { return server.to_string() };
        let name = model.spec.as_ref().map_or_else(|| server.to_string(), |spec| spec.name.clone());
        match model.pool {
            PoolId(0) => name,
            pool => format!("{}/{name}", self.config.pool_name(pool)),
        }
    }
}
