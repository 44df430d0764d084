//! The sessions of pools in the status and in the metrics.

use super::metrics::page::{Kind, Page};
use super::status::PoolStatus;
use crate::base::ids::PoolId;
use crate::state::live::Live;
use crate::state::session::Affinity;
use serde::Serialize;
use std::collections::BTreeMap;

/// The sessions of a pool.
#[derive(Debug, Serialize)]
pub(super) struct StickyStatus {
    /// The name of the cookie.
    cookie: String,
    /// Requests without a session, with theirs kept, and with theirs moved to another server, since the start.
    requests: BTreeMap<&'static str, u64>,
    /// Learned sessions that are remembered; null where the cookie is the balancer's own.
    learned: Option<usize>,
}

/// That of a pool; `None` where it keeps no sessions.
pub(super) fn status(live: &Live, pool: PoolId) -> Option<StickyStatus> {
    let (sticky, sessions) = (live.sticky(pool)?, &live.pool(pool).sessions);
    let count = |affinity: Affinity| (affinity.name(), sessions.counted(affinity));
    Some(StickyStatus {
        cookie: sticky.settings().cookie.name().to_owned(),
        requests: Affinity::ALL.map(count).into_iter().collect(),
        learned: sticky.learns().map(|_| sessions.learned()),
    })
}

/// The counts of all pools that keep sessions.
pub(super) fn metrics(page: &mut Page, pools: &[PoolStatus]) {
    let sticky: Vec<_> =
        pools.iter().filter_map(|pool| Some((pool.name.as_str(), pool.sticky.as_ref()?))).collect();
    if sticky.is_empty() {
        return;
    }
    let help =
        "Requests to a pool with sessions: without one (new), to its server (kept), to another one (moved).";
    page.family("pool_session_requests_total", Kind::Counter, help);
    for (pool, sticky) in &sticky {
        for (affinity, count) in &sticky.requests {
            page.sample(&[("pool", pool), ("session", affinity)], *count);
        }
    }
    page.family("pool_learned_sessions", Kind::Gauge, "Sessions that were learned from cookies of servers.");
    for (pool, sticky) in &sticky {
        sticky.learned.into_iter().for_each(|learned| page.sample(&[("pool", pool)], learned));
    }
}
