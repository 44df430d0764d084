//! The events of a simulation, in the order of their time.

use super::arrivals::{Arrival, Source, nanos};
use super::balancer::{Balancer, spec};
use super::pause::paused;
use super::{Arrivals, Behaviour, Description, LoadReport, Report};
use crate::base::ids::PoolId;
use crate::base::random::Random;
use crate::base::time::Moment;
use crate::policy::admit::{self, Admit};
use crate::policy::health::{self, Event, Health, Others, Record, Rules};
use crate::state::choose::{Chosen, Tried};
use crate::state::server::Lease;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

/// What a connection that is refused takes.
const REFUSED_NS: u64 = 300_000;
/// Between two load reports of a server, as by default.
const REPORT_NS: u64 = 500_000_000;
/// Between two looks at whether requests in the queue are too late.
const QUEUE_LOOK_NS: u64 = 100_000_000;
/// In a standing queue a request may wait for so many times what one takes at its server, as in the data plane.
const TIMES_LATENCY: u32 = 4;

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
    /// A server has responded, or its client waits no more.
    Ends {
        request: u32,
        turn: u32,
    },
    Changes(u32),
    Joins(u32),
    Reports,
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
    lease: Option<Lease>,
    /// When it was sent to its server.
    asked_ns: u64,
    /// It holds a slot of its server.
    works: bool,
    is_bad: bool,
    tried: Tried,
}

impl<'a> World<'a> {
    fn new(description: &'a Description) -> Self {
        let seconds = description.length.as_secs() as usize + 1;
        let mut report = Report::default();
        report.shares = vec![vec![0; description.servers.len()]; seconds];
        let server = |model: &super::Server| Server { behaviour: Some(model.behaviour), ..Server::default() };
        let mut world = World {
            description,
            now_ns: 0,
            ends_ns: nanos(description.length + description.client_timeout),
            events: BinaryHeap::new(),
            sequence: 0,
            source: Source::new(description),
            next: None,
            random: Random::seeded(description.seed ^ 0x5e1f),
            balancers: (0..description.balancers.max(1)).map(|at| Balancer::new(description, at)).collect(),
            servers: description.servers.iter().map(server).collect(),
            requests: Vec::new(),
            free: Vec::new(),
            report,
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
        if self.description.policy.reports {
            self.event(REPORT_NS, What::Reports);
        }
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
            What::Ends { request, turn } => {
                if self.requests[request as usize].turn == turn {
                    self.ends(request);
                }
            }
            What::Changes(at) => self.changes(at as usize),
            What::Joins(at) => self.joins(at as usize),
            What::Reports => {
                self.reports();
                self.event(self.now_ns + REPORT_NS, What::Reports);
            }
            What::Looks => {
                let next = (0..self.balancers.len()).map(|balancer| self.looks(balancer)).min();
                let next_ns = next.map_or(0, Moment::as_nanos).max(self.now_ns + 1_000_000);
                self.event(next_ns, What::Looks);
            }
            What::LooksAtQueue => {
                (0..self.balancers.len()).for_each(|balancer| self.serve_waiting(balancer));
                self.event(self.now_ns + QUEUE_LOOK_NS, What::LooksAtQueue);
            }
        }
    }

    /// A request comes to one of the balancers.
    fn arrives(&mut self, arrival: Arrival) {
        if self.counts(arrival) {
            self.report.requests += 1;
        }
        let balancer = self.random.below(self.balancers.len()) as u32;
        let turn = 0;
        let request = Request {
            arrival,
            turn,
            balancer,
            server: 0,
            lease: None,
            asked_ns: 0,
            works: false,
            is_bad: false,
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
        match self.balancers[balancer as usize].waiting.is_empty() {
            true => self.choose(at, false),
            false => self.wait(at),
        }
    }

    fn counts(&self, arrival: Arrival) -> bool {
        arrival.at_ns >= nanos(self.description.warm_up)
    }

    /// It goes to a server, or waits. False: it waits.
    fn choose(&mut self, at: u32, waited: bool) {
        let request = &self.requests[at as usize];
        let (key, now) = (request.arrival.dice, Moment::from_nanos(self.now_ns));
        match self.balancers[request.balancer as usize].choose(key, &request.tried, now) {
            Chosen::Server(lease) => self.send(at, lease),
            Chosen::Full if waited => self.balancers[request.balancer as usize].waiting.push_front(at),
            Chosen::Full => self.wait(at),
            Chosen::None => self.reject(at),
        }
    }

    fn wait(&mut self, at: u32) {
        let waiting = &mut self.balancers[self.requests[at as usize].balancer as usize].waiting;
        match waiting.len() < self.description.policy.queue_capacity {
            true => waiting.push_back(at),
            false => self.reject(at),
        }
    }

    fn reject(&mut self, at: u32) {
        if self.counts(self.requests[at as usize].arrival) {
            self.report.rejected += 1;
        }
        self.is_over(at);
    }

    /// A server may have room: the first in the queue gets it, if it is still worth it.
    fn serve_waiting(&mut self, balancer: usize) {
        let rules = self.description.policy.queue;
        let deadline = rules.deadline;
        while let Some(at) = self.balancers[balancer].waiting.pop_front() {
            let since = Moment::from_nanos(self.requests[at as usize].arrival.at_ns);
            if self.now().since(since) > deadline {
                self.reject(at);
                continue;
            }
            let request = &self.requests[at as usize];
            let now = Moment::from_nanos(self.now_ns);
            match self.balancers[balancer].choose(request.arrival.dice, &request.tried, now) {
                Chosen::Server(lease) => {
                    let took_us = lease.server().latency_us(now).unwrap_or(0.0);
                    let usual = Duration::from_micros(took_us as u64) * TIMES_LATENCY;
                    let rules = admit::Rules { max_wait: rules.max_wait.max(usual), ..rules };
                    match self.balancers[balancer].codel.judge(&rules, since, now) {
                        Admit::Serve => self.send(at, lease),
                        Admit::TooLate | Admit::Standing => {
                            drop(lease);
                            self.reject(at);
                        }
                    }
                }
                Chosen::Full => return self.balancers[balancer].waiting.push_front(at),
                Chosen::None => self.reject(at),
            }
        }
    }

    fn send(&mut self, at: u32, lease: Lease) {
        let server = lease.server().name.parse::<usize>().unwrap_or(0);
        if let Some(row) = self.report.shares.get_mut((self.now_ns / 1_000_000_000) as usize) {
            row[server] += 1;
        }
        let request = &mut self.requests[at as usize];
        request.asked_ns = self.now_ns;
        request.server = server as u32;
        request.lease = Some(lease);
        request.works = false;
        match self.servers[server].behaviour.unwrap_or(Behaviour::Works) {
            Behaviour::Works | Behaviour::FailsSome(_) => self.queue(at, server),
            Behaviour::Fails { after } => {
                request.is_bad = true;
                self.end_at(at, self.now_ns + nanos(after));
            }
            Behaviour::Refuses => self.end_at(at, self.now_ns + REFUSED_NS),
            Behaviour::Hangs => {
                self.servers[server].hung.push(at);
                let arrived_ns = self.requests[at as usize].arrival.at_ns;
                self.end_at(at, arrived_ns + nanos(self.description.client_timeout));
            }
        }
    }

    fn end_at(&mut self, at: u32, at_ns: u64) {
        let turn = self.requests[at as usize].turn;
        self.event(at_ns.max(self.now_ns), What::Ends { request: at, turn });
    }

    /// It waits for a slot of its server, or takes one.
    fn queue(&mut self, at: u32, server: usize) {
        let slots = self.description.servers[server].slots;
        match self.servers[server].busy < slots {
            true => self.work(at, server),
            false => self.servers[server].queue.push_back(at),
        }
    }

    fn work(&mut self, at: u32, server: usize) {
        self.servers[server].busy += 1;
        let Arrival { work_ns, dice, .. } = self.requests[at as usize].arrival;
        let request = &mut self.requests[at as usize];
        request.works = true;
        request.is_bad = match self.servers[server].behaviour {
            Some(Behaviour::FailsSome(percent)) => dice % 100 < u64::from(percent),
            _ => false,
        };
        let model = &self.description.servers[server];
        let since_cold_ns = self.now_ns - self.servers[server].cold_ns;
        let cold = model.cold.map_or(1.0, |(time, factor)| {
            let left = 1.0 - since_cold_ns as f64 / nanos(time) as f64;
            1.0 + (factor - 1.0) * left.max(0.0)
        });
        let ends_ns = paused(model.pause, self.now_ns, (work_ns as f64 * cold / model.speed) as u64);
        self.end_at(at, ends_ns);
    }

    /// A response has come, or none will.
    fn ends(&mut self, at: u32) {
        let (now, now_ns) = (self.now(), self.now_ns);
        let request = &mut self.requests[at as usize];
        let Some(lease) = request.lease.take() else { return };
        let (server, balancer, works) = (request.server as usize, request.balancer as usize, request.works);
        let took = Duration::from_nanos(now_ns - request.asked_ns);
        let total_ns = now_ns - request.arrival.at_ns;
        let is_late = total_ns >= nanos(self.description.client_timeout);
        let (is_bad, arrival) = (request.is_bad, request.arrival);
        let behaviour = self.servers[server].behaviour.unwrap_or(Behaviour::Works);
        if !works && behaviour == Behaviour::Refuses {
            lease.server().fails(now);
            request.tried.add(lease.server().id);
            drop(lease);
            self.learns(balancer, server, Event::RequestFailed);
            return self.choose(at, false);
        }
        let hangs = !works && !is_bad;
        match hangs {
            true => self.servers[server].hung.retain(|other| *other != at),
            false => lease.responded(!is_bad, took, now),
        }
        let recovers = !hangs && lease.server().recovers();
        drop(lease);
        if recovers {
            self.learns(balancer, server, Event::RequestPassed);
        }
        if self.counts(arrival) {
            match (hangs || is_late, is_bad) {
                (true, _) => self.report.timed_out += 1,
                (false, true) => self.report.bad += 1,
                (false, false) => self.report.responded(total_ns),
            }
        }
        self.is_over(at);
        if works {
            self.servers[server].busy -= 1;
            if let Some(next) = self.servers[server].queue.pop_front() {
                self.work(next, server);
            }
        }
        self.serve_waiting(balancer);
    }

    /// The entry is free; the client of a closed loop sends its next request.
    fn is_over(&mut self, at: u32) {
        self.requests[at as usize].turn += 1;
        self.free.push(at);
        let is_closed = matches!(self.description.arrivals, Arrivals::Clients(_));
        if is_closed && self.now_ns < nanos(self.description.length) {
            let arrival = self.source.of_client(self.now_ns);
            self.arrives(arrival);
        }
    }

    fn changes(&mut self, at: usize) {
        let change = self.description.changes[at];
        let server = &mut self.servers[change.server];
        server.behaviour = Some(change.behaviour);
        server.cold_ns = self.now_ns;
        if change.behaviour != Behaviour::Hangs {
            for at in std::mem::take(&mut server.hung) {
                self.requests[at as usize].turn += 1;
                self.queue(at, change.server);
            }
        }
    }

    fn joins(&mut self, server: usize) {
        self.servers[server].cold_ns = self.now_ns;
        for balancer in &mut self.balancers {
            // A name is added once.
            let _ = balancer.table.add(PoolId(0), &spec(self.description, server));
        }
    }

    fn reports(&mut self) {
        for server in 0..self.servers.len() {
            let load = match self.description.servers[server].report {
                LoadReport::True => self.servers[server].busy as usize + self.servers[server].queue.len(),
                LoadReport::Constant(load) => load as usize,
                LoadReport::Random(most) => self.random.below(most as usize + 1),
            };
            for balancer in &self.balancers {
                if let Some(server) = balancer.table.find(&server.to_string()) {
                    server.reports(load as f32, Moment::from_nanos(self.now_ns));
                }
            }
        }
    }

    /// What the health thread of a balancer does; returns when it looks again.
    fn looks(&mut self, balancer: usize) -> Moment {
        let now = self.now();
        let Balancer { table, outliers, .. } = &mut self.balancers[balancer];
        let snapshot = table.snapshot();
        let ready = &snapshot.pool(PoolId(0)).ready;
        let totals: Vec<_> = ready.iter().map(|server| (server.id, server.totals())).collect();
        let limits = self.description.policy.ejection.outlier_limits();
        let found = outliers.look(&totals, limits, now);
        for (id, outlier) in found {
            let Some(server) = ready.iter().find(|server| server.id == id) else { continue };
            let server = server.name.parse().unwrap_or(0);
            self.learns(balancer, server, Event::FailsMore(outlier));
        }
        (0..self.servers.len()).for_each(|server| self.learns(balancer, server, Event::Tick));
        self.balancers[balancer].outliers.next_look()
    }

    fn learns(&mut self, balancer: usize, server: usize, event: Event) {
        let now = self.now();
        let Balancer { table, records, .. } = &mut self.balancers[balancer];
        let Some(entry) = table.find(&server.to_string()) else { return };
        let is_out = |record: &Record| matches!(record.health, Health::Ejected { .. });
        let ejected =
            records.iter().enumerate().filter(|(at, record)| *at != server && is_out(record)).count();
        let servers = records.len();
        let others = Others { servers, ejected, is_another_ready: ejected + 1 < servers };
        let rules = Rules { enabled: false, ..Rules::default() };
        let ejection = &self.description.policy.ejection;
        let (record, change) = health::after(records[server], event, &rules, ejection, others, now);
        records[server] = record;
        if let Some(change) = change {
            let ms = self.now_ns / 1_000_000;
            self.report.log.push(format!("{ms} ms, server {server}: {}", change.why));
            table.set_health(&entry, change.to);
        }
    }
}
