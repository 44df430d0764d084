//! Look-ups of servers' names: started when they are due; new addresses and losses reach the servers.

use super::Agent;
use crate::base::time::{self, Moment};
use crate::control::names;
use crate::state::address::Address;
use crate::state::addresses::Replaced;
use crate::state::server::Server;
use std::net::SocketAddr;

impl Agent {
    pub(super) fn start_lookups(&mut self, now: Moment) {
        for late in self.names.start_due(now) {
            self.learn_name(&late, now);
        }
    }

    /// A look-up has finished.
    pub(super) fn learn_lookup(&mut self, mut found: names::Found) {
        let now = time::now();
        self.names.finish(&mut found, now);
        self.learn_name(&found, now);
    }

    fn learn_name(&mut self, found: &names::Found, now: Moment) {
        for id in self.names.learn(found, now) {
            if self.learn_members(id, found, now) {
                continue;
            }
            let Some(watched) = self.watched.get(&id) else { continue };
            let probe = match &found.outcome {
                Ok(list) => self.moves(&watched.server, list),
                Err(words) => {
                    watched.server.addresses().record_loss(words, now);
                    // Its first probe waits for an address.
                    watched.probe_at == Moment::NEVER
                }
            };
            let enabled = self.pools[watched.server.pool].check.rules.enabled;
            if probe && enabled && !watched.probing {
                self.schedule_probe(id, now);
            }
        }
    }

    /// The server's name has these addresses. Returns true when they justify a probe.
    fn moves(&self, server: &Server, list: &[SocketAddr]) -> bool {
        let Address::Tcp { port, .. } = server.address else { return false };
        let mut list = list.to_vec();
        list.iter_mut().for_each(|address| address.set_port(port));
        match server.addresses().replace(list) {
            Replaced::Kept => false,
            Replaced::First => true,
            Replaced::Moved { from, to } => {
                log::info!("server {} ({}) moved from {from} to {to}", server.label, server.address);
                (self.close_idle.0)(server.id);
                true
            }
        }
    }
}
