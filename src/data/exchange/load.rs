//! What servers say of their load in the headers of their responses.

use crate::base::ids::PoolId;
use crate::base::time::Moment;
use crate::policy::orca::{Metric, Reported};
use crate::state::live::Live;
use crate::state::server::Server;

/// Which metric of the responses of this server counts, and whether one is read now.
pub(super) fn metric<'l>(
    live: &'l Live,
    pool: PoolId,
    server: &Server,
    now: Moment,
) -> Option<(&'l Metric, bool)> {
    live.orca(pool).map(|metric| (metric, server.is_utilization_due(now)))
}

/// What was read in a response, if it was. What is not understood is told once for each server.
pub(super) fn note(server: &Server, reported: Option<Reported>, now: Moment) {
    match reported {
        None => {}
        Some(Ok(value)) => server.reports_utilization(value, now),
        Some(Err(why)) if server.misreports(now) => {
            log::warn!("server {}: its endpoint-load-metrics is not understood: {why}", server.label);
        }
        Some(Err(_)) => {}
    }
}
