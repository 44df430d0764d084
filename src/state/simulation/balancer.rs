//! A balancer of a simulation: the real table and the real choice, and what its health thread keeps.

use super::Description;
use crate::base::ids::{ByPool, PoolId};
use crate::base::random::Random;
use crate::base::time::Moment;
use crate::policy::backlog::Backlog;
use crate::policy::health::{self, Change, Ejection, Event, Health, Others, Record};
use crate::policy::outlier::Outliers;
use crate::policy::pick::Candidate;
use crate::policy::retry::Budget;
use crate::policy::slow::SlowServers;
use crate::state::choose::{Asked, Chooser, Chosen, Tried};
use crate::state::config::{Config, ServerSpec, Servers};
use crate::state::live::Live;
use crate::state::queue::Usual;
use crate::state::server::Server;
use crate::state::table::{Cached, Table};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// A balancer.
pub(super) struct Balancer {
    table: Table,
    cached: Cached,
    random: Random,
    /// For the times of probes, so that they do not change which servers are chosen.
    probe_random: Random,
    candidates: Vec<Candidate>,
    pub(super) pools: ByPool<Pool>,
    /// By its index in the description; `None` until it joins.
    pub(super) servers: Vec<Option<Watched>>,
    /// The index of each server of the table, by its number.
    of_id: Vec<usize>,
    /// Servers that have never been up.
    newcomers: usize,
}

/// A pool of a balancer.
pub(super) struct Pool {
    turn: AtomicU64,
    /// Requests that wait for a server with room.
    pub(super) waiting: Backlog<u32>,
    /// What is usual at the servers of requests that waited.
    pub(super) usual: Usual,
    /// The first that waits could have a server, and waits for a faster one.
    pub(super) chooses_later: bool,
    pub(super) budget: Budget,
    outliers: Outliers,
    slow: SlowServers,
    ejection: Ejection,
    servers: usize,
    ejected: usize,
}

/// A server as a balancer knows it.
pub(super) struct Watched {
    pub(super) server: Arc<Server>,
    pub(super) record: Record,
    /// When it is probed next.
    pub(super) probe_at: Moment,
}

impl Balancer {
    pub(super) fn new(description: &Description, at: usize) -> Self {
        let pools = description.config.pool_ids().map(|pool| (pool, Pool::of(description.config.pool(pool))));
        let there = |server: &usize| description.servers[*server].joins.is_zero();
        let list: Vec<_> = (0..description.servers.len()).filter(there).collect();
        let table = Table::of(Live::plain(with_servers(description, &list)));
        let mut balancer = Balancer {
            cached: table.cached(),
            table,
            random: Random::seeded(description.seed ^ (at as u64 + 1) << 32),
            probe_random: Random::seeded(description.seed ^ (at as u64 + 1) << 16),
            candidates: Vec::new(),
            pools: pools.collect(),
            servers: (0..description.servers.len()).map(|_| None).collect(),
            of_id: Vec::new(),
            newcomers: 0,
        };
        for pool in description.config.pool_ids() {
            let entries = balancer.table.snapshot();
            let entries = entries.servers.iter().filter(|entry| entry.pool == pool);
            let own = list.iter().filter(|server| description.servers[**server].pool == pool);
            own.zip(entries)
                .for_each(|(server, entry)| balancer.watch(description, *server, entry, Moment::START));
        }
        balancer
    }

    /// Gets to know a server that joins.
    pub(super) fn add(&mut self, description: &Description, server: usize, now: Moment) {
        // A name is added once, to a pool that is there.
        if let Ok(entry) = self.table.add(description.servers[server].pool, &spec(description, server)) {
            self.watch(description, server, &entry, now);
        }
    }

    fn watch(&mut self, description: &Description, server: usize, entry: &Arc<Server>, now: Moment) {
        let rules = &description.config.pool(entry.pool).health_check.rules;
        let (health, probe_at) = (entry.health(), if rules.enabled { now } else { Moment::NEVER });
        let was_up = health == Health::Up;
        let record = Record { health, was_up, ..Record::new(rules, now) };
        let id = entry.id.0 as usize;
        self.newcomers += usize::from(!was_up);
        self.pools[entry.pool].servers += 1;
        self.of_id.resize(self.of_id.len().max(id + 1), 0);
        self.of_id[id] = server;
        self.servers[server] = Some(Watched { server: Arc::clone(entry), record, probe_at });
    }

    /// The index of a server of the table.
    pub(super) fn index(&self, server: &Server) -> usize {
        self.of_id[server.id.0 as usize]
    }

    /// A server of the pool for a request with this hash key, that was tried there, and with so many that wait behind it.
    pub(super) fn choose(
        &mut self,
        pool: PoolId,
        key: u64,
        behind: usize,
        tried: &Tried,
        now: Moment,
    ) -> Chosen {
        let Balancer { table, cached, random, candidates, pools, .. } = self;
        let view = cached.look(table);
        let mut chooser = Chooser { turn: &pools[pool].turn, random, candidates, now, note: None };
        chooser.choose(view.pool(pool), Asked { key, behind, ..Asked::default() }, tried)
    }

    /// The servers that fail far more than the others or are far slower, and when to look again.
    pub(super) fn outliers(&mut self, now: Moment) -> (Vec<(usize, Event)>, Moment) {
        let Balancer { table, pools, of_id, .. } = self;
        let snapshot = table.snapshot();
        let (mut found, mut next) = (Vec::new(), Moment::NEVER);
        for (pool, servers) in snapshot.pools() {
            let own = &mut pools[pool];
            let totals: Vec<_> = servers.active().map(|server| (server.id, server.totals())).collect();
            let worse = own.outliers.look(&totals, own.ejection.outlier_limits(), now);
            found.extend(worse.into_iter().map(|(id, why)| (of_id[id.0 as usize], Event::FailsMore(why))));
            if now >= own.slow.next_look() {
                let times = |server: &Arc<Server>| (server.id, server.times());
                let times: Vec<_> = servers.ready.iter().map(times).collect();
                let slower = own.slow.look(&times, f64::from(own.ejection.latency_deviations), now);
                found.extend(slower.into_iter().map(|(id, why)| (of_id[id.0 as usize], Event::IsSlow(why))));
            }
            next = next.min(own.outliers.next_look()).min(own.slow.next_look());
        }
        (found, next)
    }

    /// What the health thread does with news of a server; a change of its health, if there is one.
    pub(super) fn learns(
        &mut self,
        config: &Config,
        server: usize,
        event: Event,
        now: Moment,
    ) -> Option<Change> {
        let (pool, others) = self.others(server)?;
        let watched = self.servers[server].as_mut()?;
        let (before, rules) = (watched.record, &config.pool(pool).health_check.rules);
        let own = &mut self.pools[pool];
        let (record, change) = health::after(before, event, rules, &own.ejection, others, now);
        watched.record = record;
        own.ejected = others.ejected + usize::from(is_ejected(&record));
        self.newcomers -= usize::from(record.was_up && !before.was_up);
        if let Some(change) = change {
            self.table.set_health(&watched.server, change.to);
        }
        change
    }

    fn others(&self, server: usize) -> Option<(PoolId, Others)> {
        let watched = self.servers[server].as_ref()?;
        let pool = watched.server.pool;
        let ejected = self.pools[pool].ejected - usize::from(is_ejected(&watched.record));
        let is_ready = |other: &Watched| {
            let is_healthy = matches!(other.record.health, Health::Up | Health::Starting);
            other.server.id != watched.server.id && other.server.pool == pool && is_healthy
        };
        let is_another_ready = self.servers.iter().flatten().any(is_ready);
        Some((pool, Others { servers: self.pools[pool].servers, ejected, is_another_ready }))
    }

    /// Plans the next probe of a server; after a failed request only if it is sooner then. Returns when that is.
    pub(super) fn plan_probe(
        &mut self,
        config: &Config,
        server: usize,
        only_sooner: bool,
        now: Moment,
    ) -> Option<u64> {
        let fraction = self.probe_random.fraction();
        let watched = self.servers[server].as_mut()?;
        let rules = &config.pool(watched.server.pool).health_check.rules;
        let next = health::next_probe(&watched.record, rules, self.newcomers, fraction, now);
        let is_planned = next != Moment::NEVER && (!only_sooner || next < watched.probe_at);
        is_planned.then(|| {
            watched.probe_at = next;
            next.as_nanos()
        })
    }
}

impl Pool {
    fn of(settings: &Servers) -> Self {
        // As the health thread does: with a hash the errors of a server may be those of its clients.
        let ejection = match settings.algorithm {
            algorithm if algorithm.hashes() => {
                Ejection { error_margin_percent: 0, latency_deviations: 0, ..settings.ejection }
            }
            _ => settings.ejection,
        };
        Pool {
            turn: AtomicU64::new(0),
            waiting: Backlog::default(),
            usual: Usual::default(),
            chooses_later: false,
            budget: Budget::new(),
            outliers: Outliers::default(),
            slow: SlowServers::default(),
            ejection,
            servers: 0,
            ejected: 0,
        }
    }
}

pub(super) fn is_ejected(record: &Record) -> bool {
    matches!(record.health, Health::Ejected { .. })
}

/// The configuration with these servers in the place of its own.
fn with_servers(description: &Description, list: &[usize]) -> Config {
    let mut config = description.config.clone();
    let of = |pool: PoolId| {
        let own = list.iter().filter(|server| description.servers[**server].pool == pool);
        own.map(|server| spec(description, *server)).collect()
    };
    config.servers.list = of(PoolId::default());
    config.pools.iter_mut().for_each(|pool| pool.servers.list = of(pool.id));
    config
}

/// A server as the configuration has it; its name is its index where there is none.
fn spec(description: &Description, server: usize) -> ServerSpec {
    let known = description.servers[server].spec.clone();
    known.unwrap_or_else(|| plain_spec(&server.to_string(), server))
}

/// A server of weight 1 with this name; its address, which nothing connects to, is made of the number.
pub fn plain_spec(name: &str, number: usize) -> ServerSpec {
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], number as u16 + 1)).to_string();
    ServerSpec::new(name, address.parse().unwrap_or_else(|_| unreachable!("an IP address and a port")))
}
