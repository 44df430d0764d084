//! The JSON of `/api/v1/routes`: what each route does, and what was counted of its requests.

use super::View;
use super::status::{Bytes, Quantiles, quantiles};
use crate::base::ids::PoolId;
use crate::state::route::{Action, Route};
use crate::state::traffic::TrafficCounts;
use serde::Serialize;
use std::collections::BTreeMap;

/// One route.
#[derive(Debug, Serialize)]
pub(super) struct RouteStatus {
    name: String,
    /// `pool`, `split`, `redirect` or `respond`.
    action: &'static str,
    /// Where its requests go; empty where the balancer responds.
    pools: Vec<String>,
    requests: u64,
    in_flight: u64,
    /// By class; `none`: the client has left.
    responses: BTreeMap<&'static str, u64>,
    /// Rejections and bad ends, by reason; only those that occurred.
    rejections: BTreeMap<&'static str, u64>,
    bytes: Bytes,
    request_ms: Quantiles,
}

/// All routes, in the order of the file.
pub(super) fn routes(view: &View) -> Vec<RouteStatus> {
    let live = view.live();
    live.routes
        .list()
        .iter()
        .map(|route| status(route, |pool| live.config.pool_name(pool).to_owned()))
        .collect()
}

fn status(route: &Route, name: impl Fn(PoolId) -> String) -> RouteStatus {
    let counts = route.traffic.read();
    let (action, pools) = match &route.action {
        Action::Pool(pool) => ("pool", vec![name(*pool)]),
        Action::Split(split) => ("split", split.pools().map(|(pool, _)| name(pool)).collect()),
        Action::Redirect(_) => ("redirect", Vec::new()),
        Action::Respond(_) => ("respond", Vec::new()),
    };
    RouteStatus {
        name: route.name.clone(),
        action,
        pools,
        requests: counts.begun,
        in_flight: counts.in_flight(),
        responses: TrafficCounts::CLASSES.into_iter().zip(counts.classes()).collect(),
        rejections: counts.reasons.iter().map(|(reason, count)| (reason.name(), *count)).collect(),
        bytes: Bytes { received: counts.received, sent: counts.sent },
        request_ms: quantiles(&counts.durations),
    }
}
