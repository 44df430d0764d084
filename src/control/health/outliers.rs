//! Servers that fail far more than the others, and whether the others can take over.

use super::Agent;
use crate::base::ids::ServerId;
use crate::base::time::Moment;
use crate::policy::health::{self, Event, Health};
use crate::policy::pick::Algorithm;
use crate::state::config::Config;
use crate::state::server::Mode;

impl Agent {
    /// Compares the servers that take requests by their shares of errors.
    pub(super) fn eject_outliers(&mut self, now: Moment) {
        if now < self.outliers.next_look() {
            return;
        }
        let snapshot = self.table.snapshot();
        let totals: Vec<_> = snapshot.ready.iter().map(|server| (server.id, server.totals())).collect();
        for (id, outlier) in self.outliers.look(&totals, self.ejection.error_margin_percent, now) {
            self.apply(id, Event::FailsMore(outlier), "", now);
        }
    }

    /// Whether another server can take requests. Computed only if an ejection may follow: with many servers down this
    /// looks at all of them.
    pub(super) fn is_another_ready(&self, id: ServerId, event: Event) -> bool {
        let may_eject = matches!(event, Event::RequestFailed | Event::FailsMore(_));
        may_eject
            && self.watched.iter().any(|(other, watched)| {
                let server = &watched.server;
                let is_healthy = matches!(watched.record.health, Health::Up | Health::Starting);
                *other != id && is_healthy && server.mode() == Mode::Ready && server.weight().0 > 0
            })
    }
}

/// The rules for ejection. With `ip_hash` a server has clients of its own: their errors may be their own fault, and one
/// client with bad requests could have server after server ejected.
pub(super) fn ejection(config: &Config) -> health::Ejection {
    match config.servers.algorithm {
        Algorithm::IpHash => health::Ejection { error_margin_percent: 0, ..config.servers.ejection },
        _ => config.servers.ejection,
    }
}
