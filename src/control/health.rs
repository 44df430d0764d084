//! The health thread: a heap of what is due, threads that query the servers, and the only writer of a server's health
//! (invariant 7). Results of live traffic arrive as verdicts, results of look-ups through [`Names`].

use super::names::{self, Names, Resolver};
use super::probe::agent::Heard;
use super::probe::http::Response;
use super::probe::{Commands, Reply, Silence};
use super::threads::Threads;
use crate::base::ids::{ByPool, PoolId, ServerId};
use crate::base::random::Random;
use crate::base::time::{self, Moment};
use crate::policy::fail_open::Evidence;
use crate::policy::health::{self, Event, Health, Others, Record};
use crate::policy::outlier::Outliers;
use crate::policy::slow::SlowServers;
use crate::state::address::Address;
use crate::state::addresses::Replaced;
use crate::state::config::{self, AgentCheck, Config, HealthCheck};
use crate::state::events::Events;
use crate::state::live::Live;
use crate::state::server::Server;
use crate::state::table::Table;
use crate::state::verdict::{Verdict, Verdicts};
use agents::Asking;
use crossbeam_channel::{Receiver, Sender, bounded, select_biased, unbounded};
use publish::{Transition, told};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

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

/// A pool of servers as seen by the health thread.
#[derive(Debug)]
struct Pool {
    name: String,
    /// Its key in the configuration.
    key: String,
    check: Arc<HealthCheck>,
    report: config::LoadReport,
    /// How its agents are asked.
    agent: Option<Arc<AgentCheck>>,
    ejection: health::Ejection,
    outliers: Outliers,
    slow: SlowServers,
    /// Its servers.
    servers: usize,
    /// Those of them that are ejected now.
    ejected: usize,
    /// One of its servers can take requests.
    serves: bool,
    /// What the log has said last of servers that are used although they are out.
    fail_open: Option<fail_open::Told>,
}

impl Pool {
    fn of(config: &Config, pool: PoolId) -> Self {
        let servers = config.pool(pool);
        Pool {
            name: config.pool_name(pool).to_owned(),
            key: config.pool_key(pool),
            check: Arc::new(servers.health_check.clone()),
            report: servers.load_report.clone(),
            agent: servers.agent_check.clone().map(Arc::new),
            ejection: outliers::ejection(servers),
            outliers: Outliers::default(),
            slow: SlowServers::default(),
            servers: 0,
            ejected: 0,
            serves: true,
            fail_open: None,
        }
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

/// A server as seen by the health thread.
#[derive(Debug)]
struct Watched {
    server: Arc<Server>,
    record: Record,
    /// What speaks for it and against it beside its health.
    evidence: Evidence,
    /// What the table is told of that.
    is_known_good: bool,
    /// When each kind is due; other entries of the heap are out of date.
    probe_at: Moment,
    report_at: Moment,
    /// A query is running.
    probing: bool,
    reporting: bool,
    /// The running probe repeats one that failed. Meanwhile no connection is kept idle.
    repeating: bool,
    /// Its last probe finished promptly.
    is_prompt: bool,
    /// Probes failed in a row, including repeated ones: each begins with another address.
    failed: usize,
    report_method: &'static str,
    /// The log has said that this server has no health page.
    pageless: bool,
    /// A probe got an expected status: the server has a health page.
    has_page: bool,
    /// Its load reports are asked for.
    reports: bool,
    /// Its agent.
    asking: Asking,
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
        self.say_if_all_down();
    }

    fn watch(&mut self, server: &Arc<Server>, now: Moment) {
        let pool = &mut self.pools[server.pool];
        pool.servers += 1;
        let health = server.health();
        let was_up = health == Health::Up;
        let record = Record { health, was_up, ..Record::new(&pool.check.rules, now) };
        let probe_at = if pool.check.rules.enabled { now } else { Moment::NEVER };
        // The first report waits until the first probe has shown that the server responds.
        let reports = pool.report.enabled == Some(true);
        let report_at = if reports { now.after(pool.report.interval) } else { Moment::NEVER };
        let watched = Watched {
            server: Arc::clone(server),
            record,
            evidence: Evidence::default(),
            is_known_good: server.is_last_known_good(),
            probe_at,
            report_at,
            probing: false,
            reporting: false,
            repeating: false,
            is_prompt: false,
            failed: 0,
            report_method: "GET",
            pageless: false,
            has_page: false,
            reports,
            asking: Asking::default(),
        };
        self.newcomers += usize::from(!was_up);
        self.watched.insert(server.id, watched);
        // What is never due would stay there for good when the server is gone.
        let due = [(probe_at, Kind::Probe), (report_at, Kind::Report)];
        let due = due.into_iter().filter(|(at, _)| *at < Moment::NEVER);
        self.due.extend(due.map(|(at, kind)| Reverse((at, server.id, kind))));
        self.begin_asking(server.id, now);
        if let Some(name) = server.name_to_look_up() {
            self.names.add(name, server.id, now);
        }
    }

    fn unwatch(&mut self, id: ServerId) {
        let Some(watched) = self.watched.remove(&id) else { return };
        self.newcomers -= usize::from(!watched.record.was_up);
        let pool = &mut self.pools[watched.server.pool];
        pool.servers -= 1;
        pool.ejected -= usize::from(is_ejected(&watched.record));
        if let Some(name) = watched.server.name_to_look_up() {
            self.names.remove(name, id);
        }
    }

    fn start_lookups(&mut self, now: Moment) {
        for late in self.names.start_due(now) {
            self.learn_name(&late, now);
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

    /// A look-up has finished.
    fn learn_lookup(&mut self, mut found: names::Found) {
        let now = time::now();
        self.names.finish(&mut found, now);
        self.learn_name(&found, now);
    }

    fn learn_name(&mut self, found: &names::Found, now: Moment) {
        for id in self.names.learn(found, now) {
            if self.learn_members(id, found, now) {
                continue;
            }
            let Some(watched) = self.watched.get(&id) else { continue };
            let probe = match &found.outcome {
                Ok(list) => self.moves(&watched.server, list),
                Err(words) => {
                    watched.server.addresses().record_loss(words, now);
                    // Its first probe waits for an address.
                    watched.probe_at == Moment::NEVER
                }
            };
            let enabled = self.pools[watched.server.pool].check.rules.enabled;
            if probe && enabled && !watched.probing {
                self.schedule_probe(id, now);
            }
        }
    }

    /// The server's name has these addresses. Returns true when they justify a probe.
    fn moves(&self, server: &Server, list: &[SocketAddr]) -> bool {
        let Address::Tcp { port, .. } = server.address else { return false };
        let mut list = list.to_vec();
        list.iter_mut().for_each(|address| address.set_port(port));
        match server.addresses().replace(list) {
            Replaced::Kept => false,
            Replaced::First => true,
            Replaced::Moved { from, to } => {
                log::info!("server {} ({}) moved from {from} to {to}", server.label, server.address);
                (self.close_idle.0)(server.id);
                true
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
mod members;
mod outliers;
mod probes;
mod publish;
mod reload;
mod report;
#[cfg(test)]
mod tests;
