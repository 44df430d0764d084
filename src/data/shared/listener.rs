//! What is counted of a listener's connections before there is a request.

use super::Shared;
use crate::state::listener::OpenListener;
use crate::state::stats::Outcome;
use crate::state::traffic::Ended;
use std::time::Duration;

impl Shared {
    /// Counts how long a connection of this listener waited for a worker.
    pub fn count_wait(&self, listener: Option<&OpenListener>, worker: usize, waited: Duration) {
        self.stats.shard(worker).wait.record(waited);
        listener.into_iter().for_each(|listener| listener.traffic.waits(worker, waited));
    }

    /// Counts a request that was never read, or never as a whole.
    pub fn count_unread(&self, listener: Option<&OpenListener>, worker: usize, outcome: Outcome) {
        self.stats.shard(worker).ends(outcome);
        if let Some(OpenListener { traffic, .. }) = listener {
            traffic.begins(worker);
            traffic.ends(
                worker,
                &Ended {
                    status: outcome.status,
                    sent: outcome.bytes,
                    reason: outcome.reason,
                    ..Ended::default()
                },
            );
        }
    }
}
