//! A listener as the workers see it, and what is counted of its requests.

use super::Shared;
use crate::state::config::Place;
use crate::state::stats::Outcome;
use crate::state::tls::listener::ListenerTls;
use crate::state::traffic::{Ended, Registry, Traffic};
use std::sync::Arc;
use std::time::Duration;

/// A listener as it was opened.
#[derive(Clone, Debug)]
pub struct Inlet {
    /// Where it is, with the port that the kernel chose.
    pub place: Place,
    /// Its TLS.
    pub tls: Option<Arc<ListenerTls>>,
    /// Its name.
    pub name: Arc<str>,
    /// What is counted of its requests.
    pub traffic: Arc<Traffic>,
}

impl Inlet {
    /// The same listener, which counts where one of its name has counted before.
    pub(super) fn counted_by(mut self, registry: &Registry) -> Self {
        self.traffic = registry.listener(&self.name);
        self
    }
}

impl Shared {
    /// What is counted of the requests of the listener with this index.
    pub fn listener_traffic(&self, listener: usize) -> Option<&Arc<Traffic>> {
        self.inlets.get(listener).map(|inlet| &inlet.traffic)
    }

    /// Counts how long a connection of this listener waited for a worker.
    pub fn count_wait(&self, listener: usize, worker: usize, waited: Duration) {
        self.stats.shard(worker).wait.record(waited);
        self.listener_traffic(listener).into_iter().for_each(|traffic| traffic.waits(worker, waited));
    }

    /// Counts a request that was never read, or never as a whole.
    pub fn count_unread(&self, listener: usize, worker: usize, outcome: Outcome) {
        self.stats.shard(worker).ends(outcome);
        if let Some(traffic) = self.listener_traffic(listener) {
            traffic.begins(worker);
            traffic.ends(worker, &Ended { status: outcome.status, sent: outcome.bytes, ..Ended::default() });
        }
    }
}
