//! The health thread: a heap of what is due, threads that query the servers, and the only writer of a server's health
//! (invariant 7). Results of live traffic arrive as verdicts, results of look-ups through [`Names`].

use super::names::{Names, Resolver};
use super::probe::agent::Heard;
use super::probe::http::Response;
use super::probe::{Commands, Reply, Silence};
use super::threads::Threads;
use crate::base::ids::{ByPool, ServerId};
use crate::base::random::Random;
use crate::base::time::{self, Moment};
use crate::policy::health::{self, Event, Health, Others, Record};
use crate::state::address::Address;
use crate::state::config::{AgentCheck, HealthCheck};
use crate::state::events::Events;
use crate::state::live::Live;
use crate::state::server::Server;
use crate::state::table::Table;
use crate::state::verdict::{Verdict, Verdicts};
use crossbeam_channel::{Receiver, Sender, bounded, select_biased, unbounded};
use publish::{Transition, told};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use watched::{Pool, Watched};

/// Concurrent probes of servers that responded promptly to their last one, and the same number for all others. Those
/// may not respond, and then each takes the whole timeout, but they never delay the prompt ones. The threads are
/// started as needed.
const PROBERS: usize = 256;
/// The same for commands, which take a process each.
const COMMANDS: usize = 16;
/// The same for questions to agents.
const AGENTS: usize = 64;
/// Concurrent queries for load reports; they delay no probe.
const REPORTERS: usize = 64;
/// A server whose probe took less than this, and less than half of the timeout, counts as prompt.
const PROMPT: Duration = Duration::from_millis(500);
/// Results and verdicts processed in one round, before due work is started again.
const BATCH: usize = 1024;

/// Wakes and stops the health thread.
#[derive(Clone, Debug)]
pub struct Handle(Sender<Call>);

#[derive(Clone, Copy, Debug)]
enum Call {
    Look,
    Stop,
}

impl Handle {
    /// The table changed: check it now instead of at the next deadline.
    pub fn look(&self) {
        let _ = self.0.try_send(Call::Look);
    }

    /// Ends the thread.
    pub fn stop(&self) {
        let _ = self.0.send(Call::Stop);
    }
}

/// The state of the health thread.
#[derive(Debug)]
pub struct Agent {
    table: Arc<Table>,
    live: Arc<Live>,
    pools: ByPool<Pool>,
    verdicts: Receiver<Verdict>,
    calls: Receiver<Call>,
    found: (Sender<Finding>, Receiver<Finding>),
    names: Names,
    probers: Lanes,
    commands: Lanes,
    agents: Lanes,
    unadvised: agents::Unadvised,
    /// Commands that run now.
    running: Commands,
    reporters: Threads,
    close_idle: CloseIdle,
    watched: HashMap<ServerId, Watched>,
    watched_names: HashMap<ServerId, members::WatchedName>,
    due: BinaryHeap<Reverse<(Moment, ServerId, Kind)>>,
    random: Random,
    members: Option<u64>,
    /// The table when it was last looked at for pools without a server.
    version: Option<u64>,
    /// Servers that have never been up.
    newcomers: usize,
    /// Not in the table yet.
    transitions: Vec<Transition>,
    /// Servers that are found to be, or not to be, among the last known good; not in the table yet.
    known_good: Vec<(Arc<Server>, bool)>,
    publish_at: Moment,
    /// When it looks next whether servers are overloaded.
    load_at: Moment,
    fail_open: fail_open::Watch,
    events: Arc<Events>,
}

/// Threads for probes of servers that responded promptly to their last one, and for all others.
#[derive(Debug)]
struct Lanes {
    prompt: Threads,
    slow: Threads,
}

impl Lanes {
    fn new([prompt, slow]: [&'static str; 2], max: usize) -> Self {
        Lanes { prompt: Threads::new(prompt, max), slow: Threads::new(slow, max) }
    }
}

/// Closes the idle connections to a server.
struct CloseIdle(Box<dyn Fn(ServerId) + Send>);

impl fmt::Debug for CloseIdle {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("CloseIdle")
    }
}

/// What can be due for a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Probe,
    /// A load report.
    Report,
    /// A question to its agent.
    Agent,
    /// An ejection ends.
    Tick,
}

/// The result of querying a server.
#[derive(Debug)]
struct Finding {
    id: ServerId,
    /// The address that was connected to.
    at: Option<SocketAddr>,
    took: Duration,
    found: Found,
}

/// What a query found.
#[derive(Debug)]
enum Found {
    /// A probe: how the server was to be probed, and the address that was.
    Probe { check: Arc<HealthCheck>, address: Address, is_secure: bool, reply: Result<Reply, Silence> },
    /// A question for a load report.
    Report(Result<Response, Silence>),
    /// A question to an agent, and how it was asked.
    Agent(Arc<AgentCheck>, u16, Result<Heard, Silence>),
}

impl Agent {
    /// An agent for this table, with the system's resolver.
    pub fn new(table: Arc<Table>, verdicts: &Verdicts) -> (Self, Handle) {
        let (sender, calls) = bounded(16);
        let live = table.live();
        let agent = Agent {
            table,
            pools: live.config.pool_ids().map(|pool| (pool, Pool::of(&live.config, pool))).collect(),
            live,
            verdicts: verdicts.receiver().clone(),
            calls,
            // At most one query of each kind is running for a server, so the table bounds it.
            found: unbounded(),
            names: Names::new(Resolver::of_system()),
            probers: Lanes::new(["prober", "slow-prober"], PROBERS),
            commands: Lanes::new(["command", "slow-command"], COMMANDS),
            running: Commands::default(),
            agents: Lanes::new(["agent", "slow-agent"], AGENTS),
            unadvised: agents::Unadvised::default(),
            reporters: Threads::new("reporter", REPORTERS),
            close_idle: CloseIdle(Box::new(|_| {})),
            watched: HashMap::new(),
            watched_names: HashMap::new(),
            due: BinaryHeap::new(),
            random: Random::fresh(),
            members: None,
            version: None,
            newcomers: 0,
            transitions: Vec::new(),
            known_good: Vec::new(),
            fail_open: fail_open::Watch::default(),
            publish_at: Moment::START,
            load_at: Moment::START,
            events: Arc::default(),
        };
        (agent, Handle(sender))
    }

    /// The same; transitions are kept as events there.
    pub fn with_events(self, events: Arc<Events>) -> Self {
        Agent { events, ..self }
    }

    /// The same, with another resolver.
    pub fn with_resolver(self, resolver: Resolver) -> Self {
        Agent { names: Names::new(resolver), ..self }
    }

    /// The same; `close` is called when the idle connections to a server are to be closed now. It must not wait.
    pub fn on_close_idle(self, close: impl Fn(ServerId) + Send + 'static) -> Self {
        Agent { close_idle: CloseIdle(Box::new(close)), ..self }
    }

    /// Runs until the handle stops it.
    pub fn run(mut self) {
        loop {
            let now = time::now();
            self.sync(now);
            self.start_lookups(now);
            self.start_due(now);
            self.eject_outliers(now);
            self.eject_slow(now);
            self.look_at_load(now);
            self.publish(now);
            self.advise(now);
            self.say_if_all_down();
            self.tell_fail_open(now);
            let next = time::instant(self.next());
            let (calls, found, verdicts) = (self.calls.clone(), self.found.1.clone(), self.verdicts.clone());
            let resolved = self.names.found().clone();
            select_biased! {
                recv(calls) -> call => if matches!(call, Ok(Call::Stop) | Err(_)) { return self.running.end() },
                recv(resolved) -> found => found.into_iter().for_each(|found| self.learn_lookup(found)),
                recv(found) -> finding => finding.into_iter().for_each(|finding| self.learn(finding)),
                recv(verdicts) -> verdict => verdict.into_iter().for_each(|verdict| self.learn_verdict(verdict)),
                recv(crossbeam_channel::at(next)) -> _ => {}
            }
            // Results that arrived meanwhile go into the same write of the table.
            resolved.try_iter().take(BATCH).for_each(|found| self.learn_lookup(found));
            found.try_iter().take(BATCH).for_each(|finding| self.learn(finding));
            verdicts.try_iter().take(BATCH).for_each(|verdict| self.learn_verdict(verdict));
        }
    }

    fn next(&self) -> Moment {
        let due = self.due.peek().map_or(Moment::NEVER, |Reverse((at, ..))| *at);
        let is_published = self.transitions.is_empty() && self.known_good.is_empty();
        let publish = if is_published { Moment::NEVER } else { self.publish_at };
        let tell = self.fail_open.next();
        let compared = self.next_outliers().min(self.load_at);
        due.min(self.names.next()).min(publish).min(compared).min(tell).min(self.unadvised.next())
    }

    /// Servers that were added or removed.
    fn sync(&mut self, now: Moment) {
        // The number first: a change in between is then noticed at the next check.
        let members = self.table.members();
        if self.members.replace(members) == Some(members) {
            return;
        }
        let snapshot = self.table.snapshot();
        let is_reloaded = !Arc::ptr_eq(&snapshot.live, &self.live);
        if is_reloaded {
            self.add_pools(&snapshot.live);
        }
        let ids: HashSet<ServerId> = snapshot.servers.iter().map(|server| server.id).collect();
        let gone: Vec<ServerId> = self.watched.keys().filter(|id| !ids.contains(id)).copied().collect();
        gone.into_iter().for_each(|id| self.unwatch(id));
        for server in &snapshot.servers {
            if !self.watched.contains_key(&server.id) {
                self.watch(server, now);
            }
        }
        self.sync_names(now);
        if is_reloaded {
            self.take_settings(&snapshot.live, now);
        }
    }

    fn start_due(&mut self, now: Moment) {
        while let Some(Reverse((at, id, kind))) =
            self.due.peek().copied().filter(|Reverse((at, ..))| *at <= now)
        {
            self.due.pop();
            match kind {
                Kind::Probe => self.start_probe(id, at, now),
                Kind::Report => self.start_report(id, at, now),
                Kind::Agent => self.start_question(id, at, now),
                Kind::Tick => self.apply(id, Event::Tick, "", now),
            }
        }
    }

    /// A query has finished.
    fn learn(&mut self, finding: Finding) {
        let now = time::now();
        match &finding.found {
            Found::Report(response) => self.learn_report(finding.id, response, finding.took, now),
            Found::Agent(settings, port, heard) => {
                self.learn_agent(finding.id, finding.took, (settings, *port), heard, now);
            }
            Found::Probe { check, address, is_secure, reply } => {
                self.learn_probe(&finding, check, address, *is_secure, reply, now);
            }
        }
    }

    /// Processes a verdict of live traffic.
    fn learn_verdict(&mut self, verdict: Verdict) {
        let now = time::now();
        self.note_request(&verdict, now);
        let Some(what) = verdict.failure else {
            return self.apply(verdict.server, Event::RequestPassed, "", now);
        };
        self.apply(verdict.server, Event::RequestFailed, &format!("({what})"), now);
        let Some(watched) = self.watched.get(&verdict.server) else { return };
        if let Some(name) = watched.server.address.name() {
            self.names.request(name, now);
        }
        let (record, probing, probe_at) = (watched.record, watched.probing, watched.probe_at);
        let rules = self.pools[watched.server.pool].check.rules;
        let sooner = self.next_probe(&record, &rules, now);
        if rules.enabled && !probing && sooner < probe_at {
            self.schedule_probe(verdict.server, sooner);
        }
    }

    /// The policy decides; changes are published at the next occasion.
    fn apply(&mut self, id: ServerId, event: Event, detail: &str, now: Moment) {
        let Some(pool) = self.watched.get(&id).map(|watched| watched.server.pool) else { return };
        let is_another_ready = self.is_another_ready(pool, id, event);
        let (Some(watched), Some(pool)) = (self.watched.get_mut(&id), self.pools.get_mut(pool)) else {
            return;
        };
        let before = watched.record;
        let ejected = pool.ejected - usize::from(is_ejected(&before));
        let others = Others { servers: pool.servers, ejected, is_another_ready };
        let (record, change) = health::after(before, event, &pool.check.rules, &pool.ejection, others, now);
        watched.record = record;
        pool.ejected = others.ejected + usize::from(is_ejected(&record));
        self.newcomers -= usize::from(record.was_up && !before.was_up);
        if let Some(is_good) = watched.news_for_fail_open() {
            self.known_good.push((Arc::clone(&watched.server), is_good));
        }
        let Some(change) = change else { return };
        if let Health::Ejected { until } = change.to {
            self.due.push(Reverse((until, id, Kind::Tick)));
        }
        let told = told(&watched.server, &change, &pool.check.rules, detail, now);
        let server = Arc::clone(&watched.server);
        self.transitions.push(Transition { server, to: change.to, told });
    }

    fn next_probe(&mut self, record: &Record, rules: &health::Rules, now: Moment) -> Moment {
        health::next_probe(record, rules, self.newcomers, self.random.fraction(), now)
    }

    fn schedule_next_probe(&mut self, id: ServerId, now: Moment) {
        if let Some((record, pool)) = self.watched.get(&id).map(|w| (w.record, w.server.pool)) {
            let rules = self.pools[pool].check.rules;
            let next = self.next_probe(&record, &rules, now);
            self.schedule_probe(id, next);
        }
    }

    fn schedule_probe(&mut self, id: ServerId, at: Moment) {
        if let Some(watched) = self.watched.get_mut(&id) {
            watched.probe_at = at;
            self.due.push(Reverse((at, id, Kind::Probe)));
        }
    }
}

fn is_ejected(record: &Record) -> bool {
    matches!(record.health, Health::Ejected { .. })
}

mod agents;
mod fail_open;
mod load;
mod lookups;
mod members;
mod outliers;
mod probes;
mod publish;
mod reload;
mod report;
#[cfg(test)]
mod tests;
mod watched;
