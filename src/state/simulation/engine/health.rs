//! What the health threads of the balancers do: probes, load reports, ejections, and servers that join.

use super::super::arrivals::nanos;
use super::super::balancer::is_ejected;
use super::super::{Behaviour, LoadReport};
use super::{What, World};
use crate::base::ids::PoolId;
use crate::base::time::Moment;
use crate::policy::health::{Event, Health};

impl World<'_> {
    pub(super) fn plan_first_probes(&mut self) {
        for balancer in 0..self.balancers.len() {
            for server in 0..self.servers.len() {
                self.plan_probe(balancer, server);
            }
        }
    }

    /// A probe at the time that the balancer has in mind.
    fn plan_probe(&mut self, balancer: usize, server: usize) {
        let Some(watched) = &self.balancers[balancer].servers[server] else { return };
        if watched.probe_at != Moment::NEVER {
            let at_ns = watched.probe_at.as_nanos();
            self.event(at_ns, What::Probes { balancer: balancer as u32, server: server as u32 });
        }
    }

    pub(super) fn joins(&mut self, server: usize) {
        self.servers[server].cold_ns = self.now_ns;
        let now = self.now();
        for balancer in 0..self.balancers.len() {
            self.balancers[balancer].add(self.description, server, now);
            self.plan_probe(balancer, server);
        }
    }

    pub(super) fn probes(&mut self, balancer: usize, server: usize) {
        let now = self.now();
        let watched = self.balancers[balancer].servers[server].as_ref();
        if watched.is_none_or(|watched| watched.probe_at != now) {
            return;
        }
        let is_page_well = self.description.servers[server].is_page_well;
        let passes = match self.servers[server].behaviour {
            Some(Behaviour::Refuses) => false,
            Some(Behaviour::Fails { .. } | Behaviour::Hangs) => is_page_well,
            _ => true,
        };
        self.learns(balancer, server, if passes { Event::ProbePassed } else { Event::ProbeFailed });
        if self.balancers[balancer].plan_probe(&self.description.config, server, false, now).is_some() {
            self.plan_probe(balancer, server);
        }
    }

    pub(super) fn reports(&mut self, pool: PoolId) {
        let now = self.now();
        for (server, model) in self.description.servers.iter().enumerate() {
            let load = match model.report {
                _ if model.pool != pool => continue,
                LoadReport::None => continue,
                LoadReport::True => self.servers[server].busy as usize + self.servers[server].queue.len(),
                LoadReport::Constant(load) => load as usize,
                LoadReport::Random(most) => self.random.below(most as usize + 1),
            };
            for balancer in &self.balancers {
                if let Some(watched) = &balancer.servers[server] {
                    watched.server.reports(load as f32, now);
                }
            }
        }
        let interval = self.description.config.pool(pool).load_report.interval;
        self.event(self.now_ns + nanos(interval), What::Reports(pool));
    }

    /// What the health thread of a balancer does; returns when it looks again.
    pub(super) fn looks(&mut self, balancer: usize) -> Moment {
        let now = self.now();
        let (found, next) = self.balancers[balancer].outliers(now);
        found.into_iter().for_each(|(server, event)| self.learns(balancer, server, event));
        for server in 0..self.servers.len() {
            let watched = self.balancers[balancer].servers[server].as_ref();
            if watched.is_some_and(|watched| is_ejected(&watched.record)) {
                self.learns(balancer, server, Event::Tick);
            }
        }
        next
    }

    /// Looks whether servers are overloaded.
    pub(super) fn look_at_load(&mut self, balancer: usize) {
        let now = self.now();
        let description = self.description;
        for (at, watched) in self.balancers[balancer].servers.iter().enumerate() {
            let Some(change) = watched.as_ref().and_then(|watched| watched.server.look_at_load(now)) else {
                continue;
            };
            let (ms, name) = (self.now_ns / 1_000_000, description.server_name(at));
            self.report.logs(|| format!("{ms} ms, server {name}: {change}"));
        }
        for pool in description.config.pool_ids() {
            if !self.balancers[balancer].pools[pool].waiting.is_empty() {
                self.serve_waiting(balancer, pool);
            }
        }
    }

    pub(super) fn learns(&mut self, balancer: usize, server: usize, event: Event) {
        let (now, ms) = (self.now(), self.now_ns / 1_000_000);
        let description = self.description;
        let change = self.balancers[balancer].learns(&description.config, server, event, now);
        if let Some(change) = change.filter(|change| change.from != Health::Starting) {
            self.report.ejections += u64::from(matches!(change.to, Health::Ejected { .. }));
            self.report
                .logs(|| format!("{ms} ms, server {}: {}", description.server_name(server), change.why));
        }
        let is_sooner = event == Event::RequestFailed
            && self.balancers[balancer].plan_probe(&description.config, server, true, now).is_some();
        if is_sooner {
            self.plan_probe(balancer, server);
        }
    }
}
