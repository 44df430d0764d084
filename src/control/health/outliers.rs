//! Servers that fail far more than the others or are far slower, and whether the others can take over.

use super::Agent;
use crate::base::ids::{PoolId, ServerId};
use crate::base::time::Moment;
use crate::policy::health::{self, Event, Health};
use crate::state::config::Servers;
use crate::state::server::{Mode, Server};
use std::sync::Arc;

impl Agent {
    /// Compares the servers that take requests by their shares of errors.
    pub(super) fn eject_outliers(&mut self, now: Moment) {
        if self.pools.iter().all(|(_, pool)| now < pool.outliers.next_look()) {
            return;
        }
        let snapshot = self.table.snapshot();
        for (pool, servers) in snapshot.pools() {
            let totals: Vec<_> = servers.active().map(|server| (server.id, server.totals())).collect();
            let Some(agent) = self.pools.get_mut(pool) else { continue };
            for (id, outlier) in agent.outliers.look(&totals, agent.ejection.outlier_limits(), now) {
                self.apply(id, Event::FailsMore(outlier), "", now);
            }
        }
    }

    /// Compares them by their response times.
    pub(super) fn eject_slow(&mut self, now: Moment) {
        if self.pools.iter().all(|(_, pool)| now < pool.slow.next_look()) {
            return;
        }
        let snapshot = self.table.snapshot();
        for (pool, servers) in snapshot.pools() {
            let Some(agent) = self.pools.get_mut(pool).filter(|pool| now >= pool.slow.next_look()) else {
                continue;
            };
            let deviations = agent.ejection.latency_deviations;
            let times = |server: &Arc<Server>| (server.id, server.times());
            let times: Vec<_> =
                if deviations > 0 { servers.active().map(times).collect() } else { Vec::new() };
            for (id, slow) in agent.slow.look(&times, f64::from(deviations), now) {
                self.apply(id, Event::IsSlow(slow), "", now);
            }
        }
    }

    /// When servers are compared again.
    pub(super) fn next_outliers(&self) -> Moment {
        let next = |pool: &super::Pool| pool.outliers.next_look().min(pool.slow.next_look());
        self.pools.iter().map(|(_, pool)| next(pool)).min().unwrap_or(Moment::NEVER)
    }

    /// Whether another server of its pool can take requests. Computed only if an ejection may follow: with many servers down this
    /// looks at all of them.
    pub(super) fn is_another_ready(&self, pool: PoolId, id: ServerId, event: Event) -> bool {
        let may_eject = matches!(event, Event::RequestFailed | Event::FailsMore(_) | Event::IsSlow(_));
        may_eject
            && self.watched.iter().any(|(other, watched)| {
                let server = &watched.server;
                let is_healthy = matches!(watched.record.health, Health::Up | Health::Starting);
                *other != id
                    && server.pool == pool
                    && is_healthy
                    && server.mode_now() == Mode::Ready
                    && !server.is_down_by_agent()
                    && server.weight_now().0 > 0
            })
    }
}

/// The rules for ejection. With `ip_hash` a server has clients of its own: their errors may be their own fault, and one
/// client with bad requests could have server after server ejected.
pub(super) fn ejection(servers: &Servers) -> health::Ejection {
    match servers.algorithm {
        algorithm if algorithm.hashes() => {
            health::Ejection { error_margin_percent: 0, latency_deviations: 0, ..servers.ejection }
        }
        _ => servers.ejection,
    }
}
