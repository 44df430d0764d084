//! A simulation: balancers, servers and clients under virtual time, from a seed. The table, the servers' statistics, the
//! choice and the health rules are the real ones; sockets, threads and the clock are replaced.
//!
//! [`Description`] says what there is: the policy, the servers (speed, slots, behaviour), the arrivals, and what changes at
//! which time. [`run`] gives a [`Report`]; the same description gives the same report, byte for byte. [`ideal`] runs the
//! same requests on one queue in front of all slots, the bound that no balancer can pass.
//!
//! A request has a *work*: the time that it takes on a server of speed 1 which has nothing else to do. It is drawn with its
//! arrival and not by the server, so that two policies get the same requests. A server has slots, and a queue in front of
//! them (first in, first out): it is a G/G/k queue.
//!
//! What it leaves out: the network, the time of the balancer itself, workers and connections, probes by HTTP (a probe
//! passes, unless the server refuses connections), retries after a response.

mod arrivals;
mod balancer;
mod engine;
mod ideal;
mod pause;
mod report;
#[cfg(test)]
mod tests;

pub use engine::run;
pub use ideal::ideal;
pub use report::Report;

use crate::policy::admit;
use crate::policy::health::Ejection;
use crate::policy::pick::{Algorithm, Weight};
use std::time::Duration;

/// What is simulated.
#[derive(Clone, Debug, PartialEq)]
pub struct Description {
    /// The source of all chance.
    pub seed: u64,
    /// Balancers that do not know of each other, 1 or more; each request goes to one at random.
    pub balancers: usize,
    /// How they choose, queue and eject.
    pub policy: Policy,
    /// What they choose from.
    pub servers: Vec<Server>,
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

/// How balancers choose, queue and eject.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// How a server is chosen.
    pub algorithm: Algorithm,
    /// The most requests at once with each server; `None` is unlimited.
    pub max_in_flight: Option<u32>,
    /// Requests that may wait while all servers are at that limit.
    pub queue_capacity: usize,
    /// How long they may wait.
    pub queue: admit::Rules,
    /// When live traffic takes a server out.
    pub ejection: Ejection,
    /// Whether load reports are asked for, twice a second.
    pub reports: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Policy {
            algorithm: Algorithm::Dynamic,
            max_in_flight: None,
            queue_capacity: 1_000,
            queue: admit::Rules::default(),
            ejection: Ejection::default(),
            reports: false,
        }
    }
}

/// A server.
#[derive(Clone, Debug, PartialEq)]
pub struct Server {
    /// Its share of the traffic.
    pub weight: Weight,
    /// The work that one slot does in a second, in seconds of work.
    pub speed: f64,
    /// Requests that it works on at once.
    pub slots: u32,
    /// What it does with requests at the start.
    pub behaviour: Behaviour,
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
            weight: Weight(1),
            speed: 1.0,
            slots: 4,
            behaviour: Behaviour::Works,
            pause: None,
            report: LoadReport::True,
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
    /// It responds after this time, without work, and the response is bad (a 5xx).
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
    /// As recorded: the time of each, in ascending order, and its work. [`Description::work`] is not used.
    Listed(Vec<(Duration, Duration)>),
}

/// What a request takes on a server of speed 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Work {
    /// Each the same.
    Fixed(Duration),
    /// Exponentially distributed, with this mean.
    Exponential(Duration),
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
            Work::Fixed(mean) | Work::Exponential(mean) => mean.as_secs_f64(),
            Work::Two { short, long, one_in } => {
                let rare = 1.0 / f64::from(one_in.max(1));
                short.as_secs_f64() * (1.0 - rare) + long.as_secs_f64() * rare
            }
        }
    }
}

impl Description {
    /// Requests a second that all servers together can take at most, all of them working.
    pub fn capacity(&self) -> f64 {
        let slots: f64 = self.servers.iter().map(|server| server.speed * f64::from(server.slots)).sum();
        slots / self.work.mean_s()
    }
}
