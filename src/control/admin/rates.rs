//! The servers' rates of requests and their shares of the traffic of their pools, over the last seconds.

use super::View;
use crate::base::ids::{PoolId, ServerId};
use crate::state::history::Rate;
use crate::state::server::Server;
use std::collections::HashMap;

/// Requests per second, by server and by pool.
pub(super) struct Rates {
    servers: HashMap<ServerId, Rate>,
    pools: HashMap<PoolId, f64>,
}

impl Rates {
    /// Those of now.
    pub(super) fn of(view: &View) -> Self {
        let (servers, mut pools) = (view.history.rates(), HashMap::new());
        for server in &view.table.snapshot().servers {
            *pools.entry(server.pool).or_default() +=
                servers.get(&server.id).map_or(0.0, |rate| rate.requests);
        }
        Rates { servers, pools }
    }

    /// Requests per second.
    pub(super) fn rate(&self, server: &Server) -> f64 {
        self.servers.get(&server.id).map_or(0.0, |rate| rate.requests)
    }

    /// The part of its pool's requests, 0 to 1; `None` without any.
    pub(super) fn share(&self, server: &Server) -> Option<f64> {
        let all = self.pools.get(&server.pool).copied().filter(|all| *all > 0.0)?;
        Some(self.rate(server) / all)
    }
}
