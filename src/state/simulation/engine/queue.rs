//! The queues of the balancers: requests that wait for a server with room, and those that get none.

use super::{Request, World};
use crate::base::ids::PoolId;
use crate::base::time::Moment;
use crate::http1::reason::Reason;
use crate::policy::admit::Admit;
use crate::policy::backlog::{Full, Place, Priority};
use crate::state::choose::Chosen;
use crate::state::server::Lease;

impl World<'_> {
    pub(super) fn wait(&mut self, at: u32) {
        let now = self.now();
        let request = &mut self.requests[at as usize];
        request.waits_since = now;
        let (balancer, pool) = (request.balancer as usize, request.arrival.pool);
        let capacity = self.description.config.pool(pool).queue_capacity;
        let expires = self.expires(at);
        let own = &mut self.balancers[balancer].pools[pool];
        let fine = own.usual.fine(&self.description.config.threadpool.admit, expires, now);
        let waiting = &mut own.waiting;
        match waiting.enter(at, Priority::Normal, fine, capacity, now) {
            Ok((_, pushed_out)) => {
                pushed_out.into_iter().for_each(|at| self.reject(at, Reason::QueueFull));
                // With more behind it, the first may not wait for a faster server any more.
                if self.balancers[balancer].pools[pool].chooses_later {
                    self.serve_waiting(balancer, pool);
                }
            }
            Err(Full) => self.reject(at, Reason::QueueFull),
        }
    }

    pub(super) fn reject(&mut self, at: u32, reason: Reason) {
        let arrival = self.requests[at as usize].arrival;
        let is_counted = self.counts(arrival);
        self.report.rejects(reason.name(), arrival.at_ns, is_counted);
        self.is_over(at);
    }

    /// As each exchange does from time to time: it looks whether it has waited for too long.
    pub(super) fn look_at_queues(&mut self, balancer: usize) {
        for pool in self.description.config.pool_ids() {
            let waiting = &self.balancers[balancer].pools[pool].waiting;
            let late: Vec<_> = waiting
                .entries()
                .filter_map(|(place, at, stands)| Some((place, *at, self.too_late(*at, stands)?)))
                .collect();
            for (place, at, reason) in late {
                self.balancers[balancer].pools[pool].waiting.leave(place);
                self.reject(at, reason);
            }
            self.serve_waiting(balancer, pool);
        }
    }

    /// Why a request is not worth serving any more, in a queue that `stands` or not.
    fn too_late(&self, at: u32, stands: bool) -> Option<Reason> {
        let Request { arrival, balancer, waits_since, .. } = &self.requests[at as usize];
        let usual = self.balancers[*balancer as usize].pools[arrival.pool].usual;
        let rules = &self.description.config.threadpool.admit;
        match usual.admit(rules, *waits_since, stands, self.now()) {
            Admit::Serve if self.now() > usual.last_moment(*waits_since, self.expires(at)) => {
                Some(Reason::QueueDeadline)
            }
            Admit::Serve => None,
            Admit::TooLate => Some(Reason::QueueTimeout),
            Admit::Standing => Some(Reason::Overloaded),
        }
    }

    /// When the balancer knows that the response is worthless.
    fn expires(&self, at: u32) -> Moment {
        let came = Moment::from_nanos(self.requests[at as usize].arrival.at_ns);
        self.description.config.timeouts.request.map_or(Moment::NEVER, |time| came.after(time))
    }

    /// A server may have room: the first in the queue gets it, if it is still worth it.
    pub(super) fn serve_waiting(&mut self, balancer: usize, pool: PoolId) {
        while let Some((place, at)) =
            self.balancers[balancer].pools[pool].waiting.first().map(|(place, at)| (place, *at))
        {
            let now = self.now();
            let request = &self.requests[at as usize];
            let own = &mut self.balancers[balancer];
            let behind = own.pools[pool].waiting.len() - 1;
            let chosen = own.choose(pool, request.arrival.dice, behind, &request.tried, now);
            own.pools[pool].chooses_later = matches!(chosen, Chosen::Later);
            match chosen {
                Chosen::Server(lease) => self.serve(at, place, lease),
                Chosen::Full | Chosen::Later => return,
                Chosen::None => {
                    self.balancers[balancer].pools[pool].waiting.leave(place);
                    self.reject(at, Reason::NoServer);
                }
            }
        }
    }

    fn serve(&mut self, at: u32, place: Place, lease: Lease) {
        let (now, interval) = (self.now(), self.description.config.threadpool.admit.interval);
        let Request { arrival, balancer, .. } = &self.requests[at as usize];
        let own = &mut self.balancers[*balancer as usize].pools[arrival.pool];
        own.usual = own.usual.after(lease.server().latency(now));
        let (each, is_patient) = (own.usual.pace_of_last, own.usual.is_patient(now));
        let stands = own.waiting.serve(place, interval, each, is_patient, now).unwrap_or(false);
        match self.too_late(at, stands) {
            None => self.send(at, lease),
            Some(reason) => {
                drop(lease);
                self.reject(at, reason);
            }
        }
    }
}
