//! The queues in front of the servers, in the status and in the metrics.

use super::metrics::page::{Kind, Page};
use super::status::PoolStatus;
use crate::policy::backlog::Priority;
use crate::state::queue::ServerQueue;
use serde::Serialize;

/// The requests of one priority that wait for a server of a pool.
#[derive(Debug, Serialize)]
pub(super) struct QueueStatus {
    pub(super) priority: &'static str,
    pub(super) waiting: usize,
    /// They have waited for too long (a standing queue), so the last one is served first.
    pub(super) stands: bool,
}

/// The priorities of a queue, from the highest.
pub(super) fn status(queue: &ServerQueue) -> Vec<QueueStatus> {
    let of = queue.by_priority().into_iter().zip(Priority::ALL).rev();
    of.map(|((waiting, stands), priority)| QueueStatus { priority: priority.name(), waiting, stands })
        .collect()
}

/// The queues of all pools.
pub(super) fn metrics(page: &mut Page, pools: &[PoolStatus]) {
    let all = || pools.iter().flat_map(|pool| pool.queue.iter().map(|queue| (pool.name.as_str(), queue)));
    let help = "Requests of a priority waiting for a server of the pool.";
    page.family("pool_queue_requests", Kind::Gauge, help);
    for (pool, queue) in all() {
        page.sample(&[("pool", pool), ("priority", queue.priority)], queue.waiting);
    }
    let help =
        "1 while requests of a priority have waited for too long, so that the last one is served first.";
    page.family("pool_queue_standing", Kind::Gauge, help);
    for (pool, queue) in all() {
        page.sample(&[("pool", pool), ("priority", queue.priority)], u64::from(queue.stands));
    }
}
