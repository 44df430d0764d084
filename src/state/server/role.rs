//! What a server of the table stands for: itself, or a name and its members.

use super::super::addresses::Addresses;
use super::super::config::{Config, ServerSpec};
use super::{Mode, Server};
use crate::base::ids::ServerId;
use crate::policy::health::Health;
use crate::policy::pick::Weight;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// What a server of the table stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// One server.
    Single,
    /// A name whose addresses are all servers. It gets no requests.
    Name,
    /// One of the addresses of a name.
    Member {
        /// The name that the configuration gives to all of them.
        of: String,
        /// Where it listens.
        at: SocketAddr,
    },
}

impl Role {
    pub(super) fn of(spec: &ServerSpec) -> Self {
        if spec.resolves_all() { Role::Name } else { Role::Single }
    }

    /// The address of a member.
    pub fn address(&self) -> Option<SocketAddr> {
        match self {
            Role::Member { at, .. } => Some(*at),
            Role::Single | Role::Name => None,
        }
    }
}

/// What the operator has said of one member alone, where that is not what is said of its name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SaidOfMember {
    /// Its mode.
    pub mode: Option<Mode>,
    /// Its weight.
    pub weight: Option<Weight>,
}

/// By the addresses of members. It is kept with the name: a member may not be found yet.
pub(super) type SaidOfMembers = Mutex<BTreeMap<SocketAddr, SaidOfMember>>;

impl Server {
    /// A member of a name: as the name says, at this address. It is called by both, as `web@10.0.0.1`.
    pub fn member(id: ServerId, name: &Server, pool_name: &str, at: SocketAddr, health: Health) -> Self {
        let full = format!("{}@{}", name.name, at.ip().to_canonical());
        let spec = ServerSpec::new(full, name.address.clone());
        let server = Server::new(id, name.pool, pool_name, &spec, health);
        let role = Role::Member { of: name.name.clone(), at };
        Server { role, addresses: Addresses::only(at), ..server }
    }

    /// What it stands for.
    pub fn role(&self) -> &Role {
        &self.role
    }

    /// Whether it is one of the addresses of a name.
    pub fn is_member(&self) -> bool {
        matches!(self.role, Role::Member { .. })
    }

    /// Whether it is one of the addresses of this name.
    pub fn is_member_of(&self, name: &Server) -> bool {
        let Role::Member { of, .. } = &self.role else { return false };
        name.role == Role::Name && *of == name.name && self.pool == name.pool && self.address == name.address
    }

    /// What the operator has said of single members of this name.
    pub fn said_of_members(&self) -> BTreeMap<SocketAddr, SaidOfMember> {
        self.said_of_members.lock().clone()
    }

    /// As a name: the operator says this of one member.
    pub(in crate::state) fn say_of_member(&self, at: SocketAddr, mode: Option<Mode>, weight: Option<Weight>) {
        let mut all = self.said_of_members.lock();
        let said = all.get(&at).copied().unwrap_or_default();
        let said = SaidOfMember {
            mode: mode.or(said.mode).filter(|mode| *mode != self.mode()),
            weight: weight.or(said.weight).filter(|weight| *weight != self.weight()),
        };
        match said == SaidOfMember::default() {
            true => all.remove(&at),
            false => all.insert(at, said),
        };
    }

    /// As a name: what is said of it holds for all members from now on.
    pub(in crate::state) fn say_of_all_members(&self, mode: Option<Mode>, weight: Option<Weight>) {
        self.said_of_members.lock().retain(|_, said| {
            said.mode = said.mode.filter(|_| mode.is_none());
            said.weight = said.weight.filter(|_| weight.is_none());
            *said != SaidOfMember::default()
        });
    }

    /// As a name: only these are its members now.
    pub(in crate::state) fn forget_members_beside(&self, addresses: &[SocketAddr]) {
        self.said_of_members.lock().retain(|at, _| addresses.contains(at));
    }

    /// Whether an entry of the file is this server, or stands for its members: another address is another server.
    pub fn is_of(&self, spec: &ServerSpec) -> bool {
        !self.is_member()
            && Role::of(spec) == self.role
            && spec.name == self.name
            && spec.address == self.address
    }

    /// The name to look up for its addresses. Those of a member are looked up for all members together.
    pub fn name_to_look_up(&self) -> Option<&str> {
        self.address.name().filter(|_| !self.is_member())
    }

    /// Where it listens, for display: the address of a member, and of others what is configured.
    pub fn shown_address(&self) -> String {
        match &self.role {
            Role::Member { at, .. } => at.to_string(),
            Role::Single | Role::Name => self.address.to_string(),
        }
    }

    /// As a member, takes over what the configuration says of its name beside mode and weight.
    pub(in crate::state) fn follow(&self, name: &Server, config: &Config) {
        self.set_place(name.is_backup(), name.priority(), name.zone().as_deref());
        let pool = config.pool(self.pool);
        self.set_max_in_flight(name.own_max_in_flight(), pool.limit_of_each());
        self.set_slow_start(name.own_slow_start(), pool.slow_start);
        self.set_agent_port(name.own_agent_port());
    }
}
