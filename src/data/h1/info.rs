//! A connection as others see it.

use super::{Connection, Phase};
use crate::base::time::Moment;
use crate::policy::backlog::Priority;
use crate::state::workers::RequestInfo;

impl Connection {
    /// Whether it has an exchange or is a tunnel. One that only waits for its client to close is as one between two requests.
    pub fn is_busy(&self) -> bool {
        matches!(self.phase, Phase::Exchange(_) | Phase::Tunnel(_))
    }

    /// Its exchange or tunnel, for people.
    pub fn info(&self, now: Moment) -> Option<RequestInfo> {
        let peer = self.peer().map(|peer| peer.ip());
        match &self.phase {
            Phase::Exchange(exchange) => Some(RequestInfo {
                id: exchange.meta.shown_id.to_string(),
                client: exchange.meta.client.or(peer),
                request: String::from_utf8_lossy(exchange.request_line()).into_owned(),
                server: exchange.server().map(|server| server.name.clone()),
                waits_for: exchange.waiting().name(),
                priority: exchange.priority().name(),
                left: exchange.expires().map(|at| at.since(now)),
                age: now.since(exchange.meta.started),
                received_bytes: exchange.bytes().0,
                sent_bytes: exchange.bytes().1,
                status: exchange.status(),
            }),
            Phase::Tunnel(tunnel) => Some(RequestInfo {
                id: String::new(),
                client: peer,
                request: String::new(),
                server: Some(tunnel.server().to_owned()),
                waits_for: "tunnel",
                priority: Priority::default().name(),
                left: None,
                age: now.since(self.since),
                received_bytes: tunnel.bytes().0,
                sent_bytes: tunnel.bytes().1,
                status: 101,
            }),
            _ => None,
        }
    }
}
