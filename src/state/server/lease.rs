//! The lease that counts a request in flight with a server.

use super::{Admits, Server, millis};
use crate::base::time::Moment;
use crate::policy::latency::Latency;
use crate::policy::silence::Awaiting;
use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::time::Duration;

/// Why a server takes no further request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejected {
    /// It was taken out.
    Closed,
    /// It has reached its limit of requests in flight.
    Full,
}

/// The right to have one request in flight with a server (invariant 6). The in-flight count is decremented when it is
/// dropped, whatever happened in between.
#[derive(Debug)]
pub struct Lease {
    server: Arc<Server>,
    /// Requests in flight when it was taken, this one among them, without tunnels.
    pub(super) load: u32,
    /// Of those the ones that waited for the server; 0 where no limit is measured.
    waiting: u32,
    responded: Cell<bool>,
    is_tunnel: Cell<bool>,
    /// It waits for the server.
    is_awaited: Cell<bool>,
}

impl Lease {
    /// The server.
    pub fn server(&self) -> &Arc<Server> {
        &self.server
    }

    /// A response has begun, and whether it is good is told later.
    pub fn responds(&self) {
        self.responded.set(true);
        self.server.awaiting.store(0, Relaxed);
        self.set_awaited(false);
    }

    /// The head of the final response arrived `took` after the request. `is_good`: it is one that the pool expects.
    pub fn responded(&self, is_good: bool, took: Duration, now: Moment) {
        self.responded.set(true);
        self.server.record_response(is_good, took, self.load, now);
        self.set_awaited(false);
        if !is_good || self.waiting == 0 {
            return;
        }
        if let Some(auto) = self.server.auto_limit() {
            auto.overload.responded(took);
            auto.measured.record(took, self.waiting, now);
        }
    }

    /// No response has come in the time that the request `waited`, and none is waited for any more.
    pub fn gave_up(&self, waited: Duration) {
        if self.waiting == 0 || self.responded.get() {
            return;
        }
        if let Some(auto) = self.server.auto_limit() {
            auto.overload.gave_up(waited);
        }
    }

    /// The server had no room for the request (503): it may have more than it takes.
    pub fn rejected(&self, now: Moment) {
        if let Some(auto) = self.server.auto_limit().filter(|_| self.waiting > 0) {
            auto.measured.rejected(self.waiting, now);
        }
    }

    /// Whether the client has yet to send what is left of the request; true: that has changed. Until it has come
    /// the server can do nothing, and is not waited for.
    pub fn waits_for_client(&self, waits: bool) -> bool {
        !self.responded.get() && self.set_awaited(!waits)
    }

    /// Whether it waits for the server; true: that has changed.
    fn set_awaited(&self, is_awaited: bool) -> bool {
        let changed = self.waiting > 0 && self.is_awaited.replace(is_awaited) != is_awaited;
        if changed {
            self.server.count_awaited(is_awaited);
        }
        changed
    }

    /// The request was taken back after it had waited so long, because another server was quicker. That is no failure, but
    /// a response takes at least so long here; and if that is long, the server has left one more without a response.
    pub fn cancelled(&self, waited: Duration, now: Moment) {
        let latency = Latency::unpack(self.server.latency.load(Relaxed));
        let usual_us = latency.reading(now).map_or(0.0, |latency| latency.predicted_us(self.load - 1));
        if waited.as_secs_f32() * 1e6 > usual_us {
            self.responded.set(true);
            self.server.latency.store(latency.with(waited, self.load, now).pack(), Relaxed);
        }
    }

    /// The request has become a tunnel: a response is not waited for any more.
    pub fn becomes_tunnel(&self) {
        self.responded.set(true);
        self.set_awaited(false);
        if !self.is_tunnel.replace(true) {
            self.server.awaiting.store(0, Relaxed);
            self.server.tunnels.fetch_add(1, Relaxed);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if !self.responded.get() {
            self.server.update_awaiting(Awaiting::ended);
        }
        if self.is_tunnel.get() {
            self.server.tunnels.fetch_sub(1, Relaxed);
        }
        self.set_awaited(true);
        self.server.in_flight.fetch_sub(1, SeqCst);
    }
}

impl Server {
    /// Takes a lease for a request that is sent now, unless the server was taken out since the snapshot was made, or
    /// has reached its limit.
    pub fn lease(self: &Arc<Self>, now: Moment) -> Result<Lease, Rejected> {
        match self.admits.load(Relaxed) {
            admits if admits == Admits::Requests as u8 => self.lease_anyway(now),
            admits if admits == Admits::FailOpen as u8 => {
                let lease = self.lease_anyway(now)?;
                self.fail_open_requests.fetch_add(1, Relaxed);
                Ok(lease)
            }
            _ => Err(Rejected::Closed),
        }
    }

    /// Takes a lease for a request that could not connect to any server which is up, though health has taken this one out.
    pub fn lease_as_last_resort(self: &Arc<Self>, now: Moment) -> Result<Lease, Rejected> {
        if !self.is_offered() || self.is_retired() {
            return Err(Rejected::Closed);
        }
        let lease = self.lease_anyway(now)?;
        self.fail_open_requests.fetch_add(1, Relaxed);
        Ok(lease)
    }

    pub(super) fn lease_anyway(self: &Arc<Self>, now: Moment) -> Result<Lease, Rejected> {
        self.lease_up_to(self.most_now(), now)
    }

    pub(super) fn lease_up_to(self: &Arc<Self>, most: Option<u32>, now: Moment) -> Result<Lease, Rejected> {
        let others = match most {
            None => self.in_flight.fetch_add(1, SeqCst),
            Some(most) => {
                let one_more = |count| (count < most).then_some(count + 1);
                let taken = self.in_flight.fetch_update(SeqCst, SeqCst, one_more);
                taken.map_err(|_| Rejected::Full)?
            }
        };
        let load = (others + 1).saturating_sub(self.tunnels.load(Relaxed)).max(1);
        let waiting = match self.has_own_measure() {
            true => (others + 1).saturating_sub(self.not_awaited()).max(1),
            false => 0,
        };
        self.requests.fetch_add(1, Relaxed);
        self.asked_at_ms.store(millis(now), Relaxed);
        self.update_awaiting(|awaiting| awaiting.sent(now));
        Ok(Lease {
            server: Arc::clone(self),
            load,
            waiting,
            responded: Cell::new(false),
            is_tunnel: Cell::new(false),
            is_awaited: Cell::new(true),
        })
    }
}
