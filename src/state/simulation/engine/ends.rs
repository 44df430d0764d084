//! How the requests of a simulation end: by a response, by a refused connection, or because somebody waits no more.

use super::World;
use crate::base::time::Moment;
use crate::http1::reason::Reason;
use crate::policy::health::Event;
use crate::policy::retry::{self, Attempt, Phase, Retry};
use crate::state::server::Lease;
use crate::state::simulation::Arrivals;
use crate::state::simulation::arrivals::nanos;
use crate::state::traffic::Ended;
use std::time::Duration;

impl World<'_> {
    /// A response has come, or none will.
    pub(super) fn ends(&mut self, at: u32) {
        let (now, now_ns) = (self.now(), self.now_ns);
        let request = &mut self.requests[at as usize];
        let (server, balancer, pool) =
            (request.server as usize, request.balancer as usize, request.arrival.pool);
        let (works, is_bad, arrival) = (request.works, request.is_bad, request.arrival);
        let is_refused = request.is_refused;
        let lease = request.lease.take();
        let took = Duration::from_nanos(now_ns - request.asked_ns);
        match lease {
            Some(lease) if is_refused => return self.is_refused(at, lease),
            Some(lease) => {
                lease.responded(!is_bad, took, now);
                // What fails without work is a 503.
                if is_bad && !works {
                    lease.rejected(now);
                }
                lease.server().traffic.ends(0, &Ended { took: Some(took), ..Ended::default() });
                let recovers = lease.server().recovers();
                drop(lease);
                if recovers {
                    self.learns(balancer, server, Event::RequestPassed);
                }
                if self.counts(arrival) {
                    match is_bad {
                        true => {
                            self.report.bad += 1;
                            self.report.fails(arrival.at_ns);
                        }
                        false => self.report.responded(arrival.at_ns, now_ns - arrival.at_ns),
                    }
                }
                self.is_over(at);
            }
            // Nothing waited for it any more.
            None => self.frees(at),
        }
        if works {
            self.servers[server].busy -= 1;
            if let Some(next) = self.servers[server].queue.pop_front() {
                self.work(next, server);
            }
        }
        self.serve_waiting(balancer, pool);
    }

    /// The server took no connection: another one may have the request.
    fn is_refused(&mut self, at: u32, lease: Lease) {
        let now = self.now();
        lease.server().fails(now);
        let request = &mut self.requests[at as usize];
        request.tried.add(lease.server().id);
        request.connects_failed += 1;
        let (server, balancer, pool) =
            (request.server as usize, request.balancer as usize, request.arrival.pool);
        let attempt = Attempt {
            phase: Phase::Connect,
            idempotent: true,
            body_buffered: true,
            sent: false,
            connects_failed: request.connects_failed,
            reuses_failed: 0,
            others_failed: 0,
            timed_out: false,
        };
        drop(lease);
        self.learns(balancer, server, Event::RequestFailed);
        let budget = &self.balancers[balancer].pools[pool].budget;
        match retry::may(&self.description.config.retries, &attempt, budget, now) {
            Retry::No => self.reject(at, Reason::ConnectFailed),
            Retry::SameServer | Retry::OtherServer => self.choose(at),
        }
    }

    /// Its client has gone, or the balancer has responded for the server. A server that works on it goes on.
    pub(super) fn gives_up(&mut self, at: u32) {
        let request = &mut self.requests[at as usize];
        let Some(lease) = request.lease.take() else { return };
        let (server, balancer, arrival) =
            (request.server as usize, request.balancer as usize, request.arrival);
        let (came_ns, has_waited) = (arrival.at_ns, request.waits_since > Moment::START);
        let is_clients = self.now_ns >= came_ns.saturating_add(nanos(self.description.client_timeout));
        let waited = Duration::from_nanos(self.now_ns - self.requests[at as usize].asked_ns);
        lease.gave_up(waited);
        if !is_clients {
            lease.server().fails(self.now());
        }
        drop(lease);
        if is_clients && has_waited {
            let own = &mut self.balancers[balancer].pools[arrival.pool];
            own.usual = own.usual.after_leaving(Moment::from_nanos(self.now_ns));
        }
        if self.counts(arrival) {
            let count = if is_clients { &mut self.report.timed_out } else { &mut self.report.bad };
            *count += 1;
            self.report.fails(came_ns);
        }
        let hung = &mut self.servers[server].hung;
        let before = hung.len();
        hung.retain(|other| *other != at);
        if hung.len() < before {
            self.frees(at);
        }
        if !is_clients {
            self.learns(balancer, server, Event::RequestFailed);
        }
        self.client_goes_on();
        self.serve_waiting(balancer, arrival.pool);
    }

    pub(super) fn is_over(&mut self, at: u32) {
        self.frees(at);
        self.client_goes_on();
    }

    pub(super) fn frees(&mut self, at: u32) {
        self.requests[at as usize].turn += 1;
        self.free.push(at);
    }

    /// The client of a closed loop sends its next request.
    fn client_goes_on(&mut self) {
        let is_closed = matches!(self.description.arrivals, Arrivals::Clients(_));
        if is_closed && self.now_ns < nanos(self.description.length) {
            let arrival = self.source.of_client(self.now_ns);
            self.arrives(arrival);
        }
    }
}
