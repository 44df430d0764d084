//! The world of a simulation: from the arguments, a configuration and a trace.

use super::server::Described;
use super::trace::{Seen, Trace, Way};
use super::{Arguments, Scenario};
use crate::base::ids::PoolId;
use crate::cli::Failure;
use crate::state::config::{Config, DEFAULT_POOL, ServerSpec};
use crate::state::simulation::{Arrivals, Change, Description, Listed, Server, plain_spec};
use std::time::Duration;

/// The most requests of a simulation: each keeps its latency, 4 bytes, and its arrival.
const REQUESTS_MAX: f64 = 20_000_000.0;
/// Servers of a described world.
const SERVERS: usize = 3;

/// Builds it. Requests that routes respond to themselves are counted.
pub(super) fn build(
    arguments: &Arguments,
    config: &Config,
    trace: Option<&Trace>,
) -> Result<(Description, usize), Failure> {
    let pool = pool(arguments, config)?;
    let mut world = Description {
        seed: arguments.seed,
        balancers: arguments.balancers as usize,
        servers: servers(config, pool, trace),
        config: config.clone(),
        pool,
        arrivals: Arrivals::PerSecond(1.0),
        work: arguments.work,
        length: arguments.duration,
        warm_up: Duration::ZERO,
        client_timeout: arguments.client_timeout,
        changes: Vec::new(),
    };
    let own = match trace {
        Some(trace) => list(&mut world, trace, arguments.times),
        None => 0,
    };
    let mut scenarios = arguments.scenario.clone();
    // It has servers of its own; the others change some.
    scenarios.sort_by_key(|scenario| *scenario != Scenario::Hundred);
    let is_whole = |scenario: &&Scenario| trace.is_none() || !scenario.is_of_requests();
    if let Some(other) = scenarios.iter().find(|scenario| !is_whole(scenario)) {
        let advice =
            format!("the scenario {other:?} is about requests, which come from the trace; leave one out");
        return Err(Failure::Usage(advice));
    }
    describe(&mut world, &arguments.servers)?;
    scenarios.iter().for_each(|scenario| scenario.shape(&mut world));
    if trace.is_none() {
        let per_second = arguments.rate.unwrap_or(world.capacity() * arguments.load / 100.0);
        world.arrivals = Scenario::arrivals(&scenarios, per_second);
        if per_second * world.length.as_secs_f64() > REQUESTS_MAX {
            return Err(Failure::Usage("these are over 20 million requests; shorten --duration".to_owned()));
        }
    }
    Ok((world, own))
}

/// The pool that requests go to: the one that is named, or the default one, or the first with servers.
fn pool(arguments: &Arguments, config: &Config) -> Result<PoolId, Failure> {
    let Some(name) = &arguments.pool else {
        let has_servers = |pool: &PoolId| !config.pool(*pool).list.is_empty();
        return Ok(config.pool_ids().find(has_servers).unwrap_or_default());
    };
    config.pool_named(name).ok_or_else(|| {
        let names: Vec<_> = config.pool_ids().map(|pool| config.pool_name(pool)).collect();
        Failure::Usage(format!(
            "{} has no pool {name}; it has {}",
            config.origin().display(),
            names.join(", ")
        ))
    })
}

/// The servers before the arguments change them: those of the configuration, of the trace, or three equal ones.
fn servers(config: &Config, pool: PoolId, trace: Option<&Trace>) -> Vec<Server> {
    let mut servers: Vec<_> = config.pool_ids().flat_map(|pool| of_pool(config, pool, trace)).collect();
    if trace.is_none() {
        servers.retain(|server| server.pool == pool);
    }
    if let Some(trace) = trace.filter(|_| servers.is_empty()) {
        servers =
            (0..).zip(&trace.servers).map(|(number, (place, seen))| of_trace(number, place, *seen)).collect();
    }
    if servers.is_empty() {
        servers = vec![Server { pool, ..Server::default() }; SERVERS];
    }
    servers
}

fn of_pool<'c>(
    config: &'c Config,
    pool: PoolId,
    trace: Option<&'c Trace>,
) -> impl Iterator<Item = Server> + 'c {
    config.pool(pool).list.iter().map(move |spec| {
        let model = Server { pool, spec: Some(spec.clone()), ..Server::default() };
        let seen = trace.and_then(|trace| seen(trace, config.pool_name(pool), spec));
        match (seen, trace) {
            (Some(seen), _) => of_seen(seen, model),
            // It is new: as usual, and with as many slots as the others have at the most.
            (None, Some(trace)) => {
                let slots = trace.servers.values().map(|seen| seen.slots).max().unwrap_or(model.slots);
                Server { slots, ..model }
            }
            (None, None) => model,
        }
    })
}

/// A server that only the trace knows.
fn of_trace(number: usize, (pool, name): &(String, String), seen: Seen) -> Server {
    let label = if pool == DEFAULT_POOL { name.clone() } else { format!("{pool}/{name}") };
    of_seen(seen, Server { spec: Some(plain_spec(&label, number)), ..Server::default() })
}

fn of_seen(seen: Seen, model: Server) -> Server {
    Server { speed: seen.speed, slots: seen.slots, ..model }
}

/// What a trace tells of a server of a configuration; it may have been in another pool then.
fn seen(trace: &Trace, pool: &str, spec: &ServerSpec) -> Option<Seen> {
    let same = trace.servers.get(&(pool.to_owned(), spec.name.clone()));
    let elsewhere = || trace.servers.iter().find(|((_, name), _)| *name == spec.name).map(|(_, seen)| seen);
    same.or_else(elsewhere).copied()
}

/// The requests of a trace, in their pools. Returns how many the balancer responds to itself.
fn list(world: &mut Description, trace: &Trace, times: f64) -> usize {
    let config = world.config.clone();
    let mut way = Way::of(&config);
    let mut listed = Vec::with_capacity(trace.requests.len());
    for recorded in &trace.requests {
        if let Some(pool) = way.pool(recorded) {
            listed.push(Listed { at: recorded.at.div_f64(times), work: recorded.work, pool });
        }
    }
    world.length = listed.last().map_or(Duration::ZERO, |last| last.at) + Duration::from_millis(1);
    let own = trace.requests.len() - listed.len();
    world.arrivals = Arrivals::Listed(listed);
    own
}

/// The servers of the command line: they change those of their names or places, or, in another number, replace all.
fn describe(world: &mut Description, described: &[Described]) -> Result<(), Failure> {
    let of_pool = world.servers.iter().filter(|server| server.pool == world.pool).count();
    let is_named = described.iter().any(|one| one.name.is_some());
    if !is_named && !described.is_empty() && described.len() != of_pool {
        let pool = world.pool;
        world.servers.retain(|server| server.pool != pool);
        world.servers.extend(described.iter().map(|_| Server { pool, ..Server::default() }));
    }
    let mut unnamed: Vec<_> = places(world).collect();
    unnamed.reverse();
    for one in described {
        let at = match &one.name {
            Some(name) => (0..world.servers.len()).find(|at| world.server_name(*at) == *name),
            None => unnamed.pop(),
        };
        let at = at.ok_or_else(|| unknown(world, one))?;
        let Server { pool, spec, .. } = world.servers[at].clone();
        world.servers[at] = Server { pool, spec, ..one.model.clone() };
        let change = |&(at_time, behaviour)| Change { at: at_time, server: at, behaviour };
        world.changes.extend(one.changes.iter().map(change));
    }
    Ok(())
}

fn places(world: &Description) -> impl Iterator<Item = usize> + '_ {
    (0..world.servers.len()).filter(|at| world.servers[*at].pool == world.pool)
}

fn unknown(world: &Description, described: &Described) -> Failure {
    let names: Vec<_> = (0..world.servers.len()).map(|server| world.server_name(server)).collect();
    let pool = match world.pool {
        PoolId(0) => DEFAULT_POOL,
        pool => world.config.pool_name(pool),
    };
    let name = described.name.as_deref().unwrap_or("without a name");
    Failure::Usage(format!("there is no server {name} (pool {pool}); the servers are {}", names.join(", ")))
}
