//! A balancer of a simulation: the real table and the real choice, and what its health thread keeps.

use super::Description;
use crate::base::ids::PoolId;
use crate::base::random::Random;
use crate::base::time::Moment;
use crate::policy::admit::Codel;
use crate::policy::health::{Record, Rules};
use crate::policy::outlier::Outliers;
use crate::policy::pick::Candidate;
use crate::state::choose::{Asked, Chooser, Chosen, Tried};
use crate::state::config::ServerSpec;
use crate::state::table::Table;
use std::collections::VecDeque;
use std::sync::atomic::AtomicU64;

/// A balancer.
pub(super) struct Balancer {
    pub(super) table: Table,
    pub(super) turn: AtomicU64,
    pub(super) random: Random,
    pub(super) waiting: VecDeque<u32>,
    pub(super) codel: Codel,
    pub(super) outliers: Outliers,
    pub(super) records: Vec<Record>,
}

impl Balancer {
    pub(super) fn new(description: &Description, at: usize) -> Self {
        let servers = 0..description.servers.len();
        let there = servers.clone().filter(|server| description.servers[*server].joins.is_zero());
        let list: Vec<_> = there.map(|server| spec(description, server)).collect();
        let policy = &description.policy;
        let rules = Rules { enabled: false, ..Rules::default() };
        Balancer {
            table: Table::new(policy.algorithm, false, policy.max_in_flight, &list),
            turn: AtomicU64::new(0),
            random: Random::seeded(description.seed ^ (at as u64 + 1) << 32),
            waiting: VecDeque::new(),
            codel: Codel::new(),
            outliers: Outliers::default(),
            records: servers.map(|_| Record::new(&rules, Moment::START)).collect(),
        }
    }

    /// A server for a request with this hash key, that was tried there.
    pub(super) fn choose(&mut self, key: u64, tried: &Tried, now: Moment) -> Chosen {
        let mut candidates = CANDIDATES.take();
        let Balancer { table, turn, random, .. } = self;
        let snapshot = table.snapshot();
        let mut chooser = Chooser { turn, random, candidates: &mut candidates, now, note: None };
        let asked = Asked { key, ..Asked::default() };
        let chosen = chooser.choose(snapshot.pool(PoolId(0)), asked, tried);
        CANDIDATES.set(candidates);
        chosen
    }
}

thread_local! {
    /// Room for candidates, as each worker has it.
    static CANDIDATES: std::cell::Cell<Vec<Candidate>> = const { std::cell::Cell::new(Vec::new()) };
}

/// A server as the configuration would have it; its name is its index.
pub(super) fn spec(description: &Description, server: usize) -> ServerSpec {
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], server as u16 + 1)).to_string();
    ServerSpec {
        name: server.to_string(),
        address: address.parse().unwrap_or_else(|_| unreachable!("an IP address and a port")),
        weight: description.servers[server].weight,
        backup: false,
        max_in_flight: None,
    }
}
