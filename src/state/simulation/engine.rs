//! The events of a simulation, in the order of their time.

mod ends;
mod health;
mod queue;

use super::arrivals::{Arrival, Source, nanos};
use super::balancer::Balancer;
use super::service::ends_ns;
use super::{Arrivals, Behaviour, Description, Report};
use crate::base::ids::PoolId;
use crate::base::random::Random;
use crate::base::time::Moment;
use crate::http1::reason::Reason;
use crate::policy::overload;
use crate::state::choose::{Chosen, Tried};
use crate::state::server::Lease;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

/// What a connection that is refused takes.
const REFUSED_NS: u64 = 300_000;

/// Runs it.
pub fn run(description: &Description) -> Report {
    let mut world = World::new(description);
    while let Some(Reverse((at_ns, _, what))) = world.events.pop() {
        if at_ns > world.ends_ns {
            break;
        }
        world.now_ns = at_ns;
        world.happens(what);
    }
    world.report.finish();
    world.report
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    /// The next request of the open loop.
    Arrives,
    /// A server has responded, or refuses.
    Ends {
        request: u32,
        turn: u32,
    },
    /// The client or the balancer waits no more.
    GivesUp {
        request: u32,
        turn: u32,
    },
    Changes(u32),
    Joins(u32),
    Probes {
        balancer: u32,
        server: u32,
    },
    Reports(PoolId),
    /// What health threads do.
    Looks,
    LooksAtQueue,
}

struct World<'a> {
    description: &'a Description,
    now_ns: u64,
    ends_ns: u64,
    events: BinaryHeap<Reverse<(u64, u64, What)>>,
    sequence: u64,
    source: Source<'a>,
    next: Option<Arrival>,
    random: Random,
    balancers: Vec<Balancer>,
    servers: Vec<Server>,
    requests: Vec<Request>,
    free: Vec<u32>,
    report: Report,
}

#[derive(Default)]
struct Server {
    busy: u32,
    queue: VecDeque<u32>,
    /// Requests that it will not respond to.
    hung: Vec<u32>,
    behaviour: Option<Behaviour>,
    /// Since when it is cold.
    cold_ns: u64,
}

struct Request {
    arrival: Arrival,
    /// Grows with each use of the entry, so that an event of an earlier one means nothing.
    turn: u32,
    balancer: u32,
    server: u32,
    /// `None` before it has a server, and once nothing waits for the response any more.
    lease: Option<Lease>,
    /// When it took its place in the queue, if it did.
    waits_since: Moment,
    /// When it was sent to its server.
    asked_ns: u64,
    /// It holds a slot of its server.
    works: bool,
    is_bad: bool,
    /// Its server takes no connection.
    is_refused: bool,
    connects_failed: u32,
    tried: Tried,
}

impl<'a> World<'a> {
    fn new(description: &'a Description) -> Self {
        let server = |model: &super::Server| Server { behaviour: Some(model.behaviour), ..Server::default() };
        let mut world = World {
            description,
            now_ns: 0,
            ends_ns: nanos(description.length + description.client_timeout),
            events: BinaryHeap::new(),
            sequence: 0,
            source: Source::new(description),
            next: None,
            random: Random::seeded(description.seed ^ 0x5eed),
            balancers: (0..description.balancers.max(1)).map(|at| Balancer::new(description, at)).collect(),
            servers: description.servers.iter().map(server).collect(),
            requests: Vec::new(),
            free: Vec::new(),
            report: Report::of(description),
        };
        world.plan();
        world
    }

    fn plan(&mut self) {
        for (at, change) in (0..).zip(&self.description.changes) {
            self.event(nanos(change.at), What::Changes(at));
        }
        for (at, server) in (0..).zip(&self.description.servers) {
            if !server.joins.is_zero() {
                self.event(nanos(server.joins), What::Joins(at));
            }
        }
        for pool in self.description.config.pool_ids() {
            let settings = &self.description.config.pool(pool).load_report;
            if settings.enabled != Some(false) {
                self.event(nanos(settings.interval), What::Reports(pool));
            }
        }
        self.plan_first_probes();
        self.event(0, What::Looks);
        self.event(0, What::LooksAtQueue);
        if let Arrivals::Clients(clients) = self.description.arrivals {
            for _ in 0..clients {
                let arrival = self.source.of_client(0);
                self.arrives(arrival);
            }
        }
        self.plan_arrival();
    }

    fn event(&mut self, at_ns: u64, what: What) {
        self.sequence += 1;
        self.events.push(Reverse((at_ns, self.sequence, what)));
    }

    fn plan_arrival(&mut self) {
        self.next = self.source.next();
        if let Some(arrival) = self.next {
            self.event(arrival.at_ns, What::Arrives);
        }
    }

    fn now(&self) -> Moment {
        Moment::from_nanos(self.now_ns)
    }

    fn happens(&mut self, what: What) {
        match what {
            What::Arrives => {
                if let Some(arrival) = self.next.take() {
                    self.arrives(arrival);
                }
                self.plan_arrival();
            }
            What::Ends { request, turn } if self.is_same(request, turn) => self.ends(request),
            What::GivesUp { request, turn } if self.is_same(request, turn) => self.gives_up(request),
            What::Ends { .. } | What::GivesUp { .. } => {}
            What::Changes(at) => self.changes(at as usize),
            What::Joins(at) => self.joins(at as usize),
            What::Probes { balancer, server } => self.probes(balancer as usize, server as usize),
            What::Reports(pool) => self.reports(pool),
            What::Looks => {
                let next = (0..self.balancers.len()).map(|balancer| self.looks(balancer)).min();
                let next_ns = next.map_or(0, Moment::as_nanos).max(self.now_ns + 1_000_000);
                self.event(next_ns, What::Looks);
            }
            What::LooksAtQueue => {
                for balancer in 0..self.balancers.len() {
                    self.look_at_load(balancer);
                    self.look_at_queues(balancer);
                }
                self.event(self.now_ns + nanos(overload::LOOK_EVERY), What::LooksAtQueue);
            }
        }
    }

    fn is_same(&self, request: u32, turn: u32) -> bool {
        self.requests[request as usize].turn == turn
    }

    /// A request comes to one of the balancers.
    fn arrives(&mut self, arrival: Arrival) {
        if self.counts(arrival) {
            self.report.requests += 1;
        }
        let balancer = self.random.below(self.balancers.len());
        let request = Request {
            arrival,
            turn: 0,
            balancer: balancer as u32,
            server: 0,
            lease: None,
            waits_since: Moment::START,
            asked_ns: 0,
            works: false,
            is_bad: false,
            is_refused: false,
            connects_failed: 0,
            tried: Tried::default(),
        };
        let at = match self.free.pop() {
            Some(at) => {
                let entry = &mut self.requests[at as usize];
                *entry = Request { turn: entry.turn, ..request };
                at
            }
            None => {
                self.requests.push(request);
                self.requests.len() as u32 - 1
            }
        };
        match self.balancers[balancer].pools[arrival.pool].waiting.is_empty() {
            true => self.choose(at),
            false => self.wait(at),
        }
    }

    fn counts(&self, arrival: Arrival) -> bool {
        arrival.at_ns >= nanos(self.description.warm_up)
    }

    /// It goes to a server, or waits.
    fn choose(&mut self, at: u32) {
        let request = &self.requests[at as usize];
        let (arrival, now) = (request.arrival, self.now());
        let balancer = &mut self.balancers[request.balancer as usize];
        match balancer.choose(arrival.pool, arrival.dice, 0, &request.tried, now) {
            Chosen::Server(lease) => self.send(at, lease),
            Chosen::Full | Chosen::Later => self.wait(at),
            Chosen::None => self.reject(at, Reason::NoServer),
        }
    }

    fn send(&mut self, at: u32, lease: Lease) {
        let request = &mut self.requests[at as usize];
        let server = self.balancers[request.balancer as usize].index(lease.server());
        self.report.sent(self.now_ns, server);
        request.asked_ns = self.now_ns;
        request.server = server as u32;
        request.lease = Some(lease);
        request.works = false;
        request.is_refused = false;
        match self.servers[server].behaviour.unwrap_or(Behaviour::Works) {
            Behaviour::Works | Behaviour::FailsSome(_) => {
                let ends_ns = self.queue(at, server);
                if ends_ns.is_none_or(|ends_ns| ends_ns > self.deadline_ns(at)) {
                    self.plan_giving_up(at);
                }
            }
            Behaviour::Fails { after } => {
                request.is_bad = true;
                self.end_at(at, self.now_ns + nanos(after));
            }
            Behaviour::Refuses => {
                request.is_refused = true;
                self.end_at(at, self.now_ns + REFUSED_NS);
            }
            Behaviour::Hangs => {
                self.servers[server].hung.push(at);
                self.plan_giving_up(at);
            }
        }
    }

    /// When the client or the balancer stops waiting.
    fn deadline_ns(&self, at: u32) -> u64 {
        let Request { arrival, asked_ns, .. } = &self.requests[at as usize];
        let of_client_ns = arrival.at_ns.saturating_add(nanos(self.description.client_timeout));
        let of_client_ns = match self.description.config.timeouts.request {
            Some(time) => of_client_ns.min(arrival.at_ns.saturating_add(nanos(time))),
            None => of_client_ns,
        };
        of_client_ns.min(asked_ns + nanos(self.description.config.timeouts.response)).max(self.now_ns)
    }

    fn plan_giving_up(&mut self, at: u32) {
        let (at_ns, turn) = (self.deadline_ns(at), self.requests[at as usize].turn);
        self.event(at_ns, What::GivesUp { request: at, turn });
    }

    fn end_at(&mut self, at: u32, at_ns: u64) {
        let turn = self.requests[at as usize].turn;
        self.event(at_ns.max(self.now_ns), What::Ends { request: at, turn });
    }

    /// It waits for a slot of its server, or takes one; then returns when it ends.
    fn queue(&mut self, at: u32, server: usize) -> Option<u64> {
        let slots = self.description.servers[server].slots;
        if self.servers[server].busy < slots {
            return Some(self.work(at, server));
        }
        self.servers[server].queue.push_back(at);
        None
    }

    fn work(&mut self, at: u32, server: usize) -> u64 {
        self.servers[server].busy += 1;
        let request = &mut self.requests[at as usize];
        let Arrival { work_ns, dice, .. } = request.arrival;
        request.works = true;
        request.is_bad = match self.servers[server].behaviour {
            Some(Behaviour::FailsSome(percent)) => dice % 100 < u64::from(percent),
            _ => false,
        };
        let cold_ns = self.servers[server].cold_ns;
        let ends_ns = ends_ns(&self.description.servers[server], cold_ns, self.now_ns, work_ns);
        self.end_at(at, ends_ns);
        ends_ns
    }

    fn changes(&mut self, at: usize) {
        let change = self.description.changes[at];
        let Some(server) = self.servers.get_mut(change.server) else { return };
        server.behaviour = Some(change.behaviour);
        server.cold_ns = self.now_ns;
        if change.behaviour != Behaviour::Hangs {
            for at in std::mem::take(&mut server.hung) {
                self.queue(at, change.server);
            }
        }
    }
}
