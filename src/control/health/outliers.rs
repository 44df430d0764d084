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

    /// Compares those of the first tier that gets requests by their response times: another zone may be far away.
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
                if deviations > 0 { servers.ready.iter().map(times).collect() } else { Vec::new() };
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::pick::Algorithm;
    use crate::state::config::ServerSpec;
    use crate::state::table::Table;
    use crate::state::traffic::Ended;
    use crate::state::verdict::Verdicts;
    use std::time::Duration;

    /// Name, priority, mode, and how long its responses take, in ms.
    type Row = (&'static str, u8, Mode, u64);

    /// Which of these servers are ejected after 30 seconds.
    fn check(rows: &[Row], expected: &[&str]) {
        let spec = |(name, priority, ..): &Row| ServerSpec {
            priority: *priority,
            ..ServerSpec::new(*name, format!("{name}.test:9001").parse().unwrap())
        };
        let list: Vec<_> = rows.iter().map(spec).collect();
        let table = Arc::new(Table::new(Algorithm::RoundRobin, false, None, &list));
        rows.iter()
            .for_each(|(name, _, mode, _)| table.adjust(&table.find(name).unwrap(), Some(*mode), None));
        let (mut agent, _handle) = Agent::new(Arc::clone(&table), &Verdicts::default());
        agent.sync(Moment::START);
        for look in 0..15 {
            for (name, _, _, ms) in rows {
                let took = Some(Duration::from_millis(*ms));
                let ended =
                    Ended { status: Some(200), received: 0, sent: 0, took, waited: None, reason: None };
                let server = table.find(name).unwrap();
                (0..50).for_each(|_| server.traffic.ends(0, &ended));
            }
            agent.eject_slow(Moment::from_millis(look * 2_000));
        }
        let is_ejected = |name: &&str| {
            let id = table.find(name).unwrap().id;
            matches!(agent.watched[&id].record.health, Health::Ejected { .. })
        };
        let ejected: Vec<_> = rows.iter().map(|(name, ..)| *name).filter(is_ejected).collect();
        assert_eq!(ejected, expected, "{rows:?}");
    }

    #[test]
    fn a_server_of_the_same_priority_is_ejected_and_one_of_another_may_be_far_away() {
        let [ready, drain] = [Mode::Ready, Mode::Drain];
        let near =
            |last_ms| [("a", 0, ready, 5), ("b", 0, ready, 5), ("c", 0, ready, 5), ("d", 0, ready, last_ms)];
        check(&near(5), &[]);
        check(&near(300), &["d"]);
        // Half of the first priority is gone: the second one gets requests, too.
        let gone = [("e", 0, drain, 5), ("f", 0, drain, 5), ("g", 0, drain, 5), ("h", 0, drain, 5)];
        let far = [("i", 1, ready, 300), ("j", 1, ready, 300), ("k", 1, ready, 300)];
        check(&[&near(5)[..], &gone, &far[..1]].concat(), &[]);
        check(&[&near(5)[..], &gone, &far].concat(), &[]);
    }
}
