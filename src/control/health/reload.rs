//! What a reload changes for the health thread: pools come and go, and their servers are probed and judged otherwise.

use super::{Agent, Kind, Pool};
use crate::base::ids::{PoolId, ServerId};
use crate::base::time::Moment;
use crate::policy::health::Health;
use crate::state::live::Live;
use std::cmp::Reverse;
use std::sync::Arc;

impl Agent {
    /// Pools that are new: before their servers are watched.
    pub(super) fn add_pools(&mut self, live: &Live) {
        for pool in live.config.pool_ids() {
            if self.pools.get(pool).is_none() {
                self.pools.insert(pool, Pool::of(&live.config, pool));
            }
        }
    }

    /// Takes over the settings of all pools, and forgets those that are gone, whose servers are watched no more. Health and
    /// counts stay; servers of a pool whose probes or reports have changed are asked again now.
    pub(super) fn take_settings(&mut self, live: &Arc<Live>, now: Moment) {
        let config = &live.config;
        self.live = Arc::clone(live);
        self.pools.retain(|pool| config.pool_ids().any(|known| known == pool));
        let (mut changed, mut of_agents) = (Vec::new(), Vec::new());
        for (id, pool) in self.pools.iter_mut() {
            let new = Pool::of(config, id);
            if (&pool.check, &pool.report) != (&new.check, &new.report) {
                changed.push(id);
            }
            let new = match pool.agent == new.agent {
                // Questions on their way know their settings by where they are.
                true => Pool { agent: pool.agent.take(), ..new },
                false => {
                    of_agents.push(id);
                    new
                }
            };
            let (outliers, slow) = (std::mem::take(&mut pool.outliers), std::mem::take(&mut pool.slow));
            let (servers, ejected, serves) = (pool.servers, pool.ejected, pool.serves);
            let fail_open = pool.fail_open.take();
            *pool = Pool { outliers, slow, servers, ejected, serves, fail_open, ..new };
        }
        changed.into_iter().for_each(|pool| self.ask_again(pool, now));
        of_agents.into_iter().for_each(|pool| self.ask_agents_again(pool, now));
    }

    fn ask_again(&mut self, pool: PoolId, now: Moment) {
        let (is_probed, reports) = (self.pools[pool].check.rules.enabled, self.pools[pool].report.enabled);
        let of_pool = |(id, watched): (&ServerId, &super::Watched)| {
            (watched.server.pool == pool).then_some((*id, watched.probing, watched.reporting))
        };
        let servers: Vec<_> = self.watched.iter().filter_map(of_pool).collect();
        for (id, probing, reporting) in servers {
            match is_probed {
                true if probing => {}
                true => self.schedule_probe(id, now),
                false => self.trust_unprobed(id),
            }
            if let Some(watched) = self.watched.get_mut(&id).filter(|_| !reporting) {
                // Where only those are asked that say so, the next probe tells.
                watched.reports = reports == Some(true);
                watched.report_at = if watched.reports { now } else { Moment::NEVER };
                self.due.push(Reverse((watched.report_at, id, Kind::Report)));
            }
        }
    }

    /// Without probes a server counts as up until live traffic says something else, as at the start.
    fn trust_unprobed(&mut self, id: ServerId) {
        let Some(watched) = self.watched.get_mut(&id) else { return };
        watched.probe_at = Moment::NEVER;
        if matches!(watched.record.health, Health::Starting | Health::Down) {
            self.newcomers -= usize::from(!watched.record.was_up);
            (watched.record.health, watched.record.was_up) = (Health::Up, true);
            let server = Arc::clone(&watched.server);
            log::info!("server {} is up: it is not probed any more", server.label);
            self.table.set_health(&server, Health::Up);
        }
    }
}
