//! The queues of the balancers: requests that wait for a server with room, and those that get none.

use super::{Request, World};
use crate::base::ids::PoolId;
use crate::base::time::Moment;
use crate::http1::reason::Reason;
use crate::policy::admit::{self, Admit};
use crate::state::choose::Chosen;
use std::time::Duration;

/// In a standing queue a request may wait for so many times what one takes at its server, as in the data plane.
const TIMES_LATENCY: u32 = 4;

impl World<'_> {
    pub(super) fn wait(&mut self, at: u32) {
        let Request { arrival, balancer, .. } = &self.requests[at as usize];
        let waiting = &mut self.balancers[*balancer as usize].pools[arrival.pool].waiting;
        match waiting.len() < self.description.config.pool(arrival.pool).queue_capacity {
            true => waiting.push_back(at),
            false => self.reject(at, Reason::QueueFull),
        }
    }

    pub(super) fn reject(&mut self, at: u32, reason: Reason) {
        let arrival = self.requests[at as usize].arrival;
        let is_counted = self.counts(arrival);
        self.report.rejects(reason.name(), arrival.at_ns, is_counted);
        self.is_over(at);
    }

    pub(super) fn serve_all_waiting(&mut self, balancer: usize) {
        for pool in self.description.config.pool_ids() {
            self.serve_waiting(balancer, pool);
        }
    }

    /// A server may have room: the first in the queue gets it, if it is still worth it.
    pub(super) fn serve_waiting(&mut self, balancer: usize, pool: PoolId) {
        let rules = self.description.config.threadpool.admit;
        while let Some(at) = self.balancers[balancer].pools[pool].waiting.pop_front() {
            let request = &self.requests[at as usize];
            let (since, now) = (Moment::from_nanos(request.arrival.at_ns), self.now());
            if now.since(since) > rules.deadline {
                self.reject(at, Reason::QueueTimeout);
                continue;
            }
            match self.balancers[balancer].choose(pool, request.arrival.dice, &request.tried, now) {
                Chosen::Server(lease) => {
                    let took_us = lease.server().latency_us(now).unwrap_or(0.0);
                    let usual = Duration::from_micros(took_us as u64) * TIMES_LATENCY;
                    let rules = admit::Rules { max_wait: rules.max_wait.max(usual), ..rules };
                    match self.balancers[balancer].pools[pool].codel.judge(&rules, since, now) {
                        Admit::Serve => self.send(at, lease),
                        verdict => {
                            drop(lease);
                            let is_late = verdict == Admit::TooLate;
                            self.reject(at, if is_late { Reason::QueueTimeout } else { Reason::Overloaded });
                        }
                    }
                }
                Chosen::Full => return self.balancers[balancer].pools[pool].waiting.push_front(at),
                Chosen::None => self.reject(at, Reason::NoServer),
            }
        }
    }
}
