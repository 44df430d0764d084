//! A connection as others see it.

use super::{Connection, Phase};
use crate::base::time::Moment;
use crate::data::exchange::Exchange;
use crate::data::tunnel::Tunnel;
use crate::policy::backlog::Priority;
use crate::state::workers::RequestInfo;

/// How a connection stands, for lists and gauges.
#[derive(Debug)]
pub enum Doing<'c> {
    /// It waits for a request.
    Nothing,
    /// It has an exchange.
    Exchange(&'c Exchange),
    /// It is a tunnel.
    Tunnel(&'c Tunnel),
    /// It is closing.
    Closing,
}

impl Connection {
    /// What it is at.
    pub fn doing(&self) -> Doing<'_> {
        match &self.phase {
            Phase::Greeting | Phase::Handshake | Phase::Head | Phase::Reject(_) => Doing::Nothing,
            Phase::Exchange(exchange) => Doing::Exchange(exchange),
            Phase::Tunnel(tunnel) => Doing::Tunnel(tunnel),
            Phase::Linger { .. } => Doing::Closing,
        }
    }

    /// Its exchange or tunnel, for people.
    pub fn info(&self, now: Moment) -> Option<RequestInfo> {
        let peer = self.peer().map(|peer| peer.ip());
        match &self.phase {
            Phase::Exchange(exchange) => Some(RequestInfo {
                id: exchange.meta.trace.to_string(),
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
