//! A server and its sessions: one that gets no new requests may keep them, for a while.

use super::{Lease, Mode, Rejected, Server, millis};
use crate::base::time::Moment;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

impl Server {
    /// Takes a lease for a request whose session belongs to it, as [`Server::lease`]: a server that takes no new requests may
    /// keep its sessions.
    pub fn lease_for_session(self: &Arc<Self>, now: Moment) -> Result<Lease, Rejected> {
        match millis(now) < self.sessions_until_ms.load(Relaxed) {
            true => {
                let lease = self.lease_up_to(self.most_of_session(), now)?;
                self.fail_open_requests.fetch_add(u64::from(self.is_fail_open()), Relaxed);
                Ok(lease)
            }
            false => Err(Rejected::Closed),
        }
    }

    /// Whether it takes requests of its sessions, and for how long while it drains; `None` is without a limit.
    pub(in crate::state) fn set_keeps_sessions(&self, keeps: bool, drain: Option<Duration>) {
        let until = match (keeps, self.mode_now(), drain) {
            (false, _, _) => 0,
            (true, Mode::Drain, Some(drain)) => {
                let since = self.drains_since_ms.load(Relaxed);
                since.saturating_add(u64::try_from(drain.as_millis()).unwrap_or(u64::MAX))
            }
            (true, _, _) => u64::MAX,
        };
        self.sessions_until_ms.store(until, Relaxed);
    }
}
