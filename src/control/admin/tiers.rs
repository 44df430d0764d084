//! What the status and the metrics tell of the tiers of a pool.

use super::metrics::page::{Kind, Page};
use super::status::{PoolStatus, rounded};
use crate::state::table::TierShare;
use serde::Serialize;

/// A tier of a pool: its servers of one priority, in the own zone or in others.
#[derive(Debug, Serialize)]
pub(super) struct TierStatus {
    /// `priority 0`, `priority 0, own zone`, `priority 0, other zones`, `backup` …
    name: String,
    servers: usize,
    /// Those that can take requests.
    ready: usize,
    /// The part of the requests of the pool that it gets now, 0 to 1.
    share: f64,
}

impl TierStatus {
    pub(super) fn of(tier: &TierShare) -> Self {
        TierStatus {
            name: tier.tier.to_string(),
            servers: tier.servers,
            ready: tier.ready,
            share: rounded(tier.share),
        }
    }
}

/// The metrics of all pools with several tiers.
pub(super) fn metrics(page: &mut Page, pools: &[PoolStatus]) {
    let tiers = || pools.iter().flat_map(|pool| pool.tiers.iter().map(move |tier| (pool, tier)));
    let help =
        "The part of the requests of the pool that its tier gets now; only where there are several tiers.";
    page.family("pool_tier_share", Kind::Gauge, help);
    for (pool, tier) in tiers() {
        page.sample(&[("pool", &pool.name), ("tier", &tier.name)], tier.share);
    }
    page.family("pool_tier_servers_ready", Kind::Gauge, "Servers of the tier that can take requests.");
    for (pool, tier) in tiers() {
        page.sample(&[("pool", &pool.name), ("tier", &tier.name)], tier.ready);
    }
}
