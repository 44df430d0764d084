//! Names whose addresses are all servers: what a look-up found becomes the members of the name.

use super::Agent;
use crate::base::ids::ServerId;
use crate::base::time::Moment;
use crate::control::names;
use crate::policy::members::{MEMBERS_MAX, Members};
use crate::state::address::Address;
use crate::state::events::Topic;
use crate::state::server::Server;
use crate::state::table::Membership;
use std::net::SocketAddr;
use std::sync::Arc;

/// A name as seen by the health thread.
#[derive(Debug)]
pub(super) struct WatchedName {
    /// What stands for it in the table.
    server: Arc<Server>,
    members: Members,
    /// The log has said that it has too many addresses.
    has_too_many: bool,
}

impl Agent {
    /// Names that were added or removed.
    pub(super) fn sync_names(&mut self, now: Moment) {
        let snapshot = self.table.snapshot();
        let is_there = |id: &ServerId| snapshot.names.iter().any(|name| name.id == *id);
        let gone: Vec<ServerId> = self.watched_names.keys().filter(|id| !is_there(id)).copied().collect();
        for id in gone {
            let name = self.watched_names.remove(&id).map(|name| name.server);
            if let Some(host) = name.as_ref().and_then(|name| name.name_to_look_up()) {
                self.names.remove(host, id);
            }
        }
        for name in &snapshot.names {
            let Some(host) = name.name_to_look_up().filter(|_| !self.watched_names.contains_key(&name.id))
            else {
                continue;
            };
            self.names.add(host, name.id, now);
            let known = snapshot.members(name).filter_map(|member| member.role().address());
            let members = Members::of(known);
            let watched = WatchedName { server: Arc::clone(name), members, has_too_many: false };
            self.watched_names.insert(name.id, watched);
        }
    }

    /// The addresses of a name were looked up. False: this is no such name.
    pub(super) fn learn_members(&mut self, id: ServerId, found: &names::Found, now: Moment) -> bool {
        let Some(name) = self.watched_names.get_mut(&id) else { return false };
        let (server, Address::Tcp { port, .. }) = (&name.server, &name.server.address) else { return true };
        let list = match &found.outcome {
            Ok(list) => list,
            Err(words) => {
                server.addresses().record_loss(words, now);
                return true;
            }
        };
        let answer: Vec<_> = list.iter().map(|address| at_port(*address, *port)).collect();
        let taken = name.members.take(&answer);
        server.addresses().replace(taken.members.clone());
        let (label, left_out) = (&server.label, taken.left_out);
        if left_out > 0 && !std::mem::replace(&mut name.has_too_many, true) {
            log::warn!(
                "name {label} ({}): {left_out} of its addresses are left out, for more than {MEMBERS_MAX} are not used",
                server.address
            );
        }
        name.has_too_many &= left_out > 0;
        let changed = self.table.set_members(server, &taken.members);
        self.tell_members(&changed);
        if taken.is_incomplete {
            self.names.request(&found.name, now);
        }
        true
    }

    fn tell_members(&self, changed: &Membership) {
        let log = |what: &str, server: &Server| {
            let text = format!("server {} at {} {what}", server.label, server.shown_address());
            self.events.log(Topic::Change, log::Level::Info, text);
        };
        for server in &changed.removed {
            log("leaves: its name no longer has the address", server);
            (self.close_idle.0)(server.id);
        }
        changed.added.iter().for_each(|server| log("joins: its name has the address", server));
    }
}

fn at_port(mut address: SocketAddr, port: u16) -> SocketAddr {
    address.set_port(port);
    address
}
