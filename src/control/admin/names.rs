//! What the status tells of names whose addresses are all servers.

use super::View;
use super::server_status::{NameLookup, name_lookup, origin};
use crate::base::ids::PoolId;
use crate::base::time::Moment;
use crate::state::server::{Role, Server};
use serde::Serialize;

/// One name, also `GET /api/v1/servers/{name}`.
#[derive(Debug, Serialize)]
pub(super) struct NameStatus {
    name: String,
    pool: String,
    address: String,
    /// `all`.
    resolve: &'static str,
    /// `file`, or `api` for one that was registered.
    origin: &'static str,
    /// What the operator set for all members: `ready`, `drain` or `maint`.
    mode: &'static str,
    /// That of each member.
    weight: u16,
    backup: bool,
    /// The names of the servers at its addresses.
    members: Vec<String>,
    name_lookup: NameLookup,
}

/// The names of a pool, or of all pools, in the order in which they were added.
pub(super) fn names(view: &View, pool: Option<PoolId>, now: Moment) -> Vec<NameStatus> {
    let snapshot = view.table.snapshot();
    let wanted = snapshot.names.iter().filter(|name| pool.is_none_or(|pool| name.pool == pool));
    wanted.map(|known| name(view, known, now)).collect()
}

/// The current state of one.
pub(super) fn name(view: &View, name: &Server, now: Moment) -> NameStatus {
    let mut members: Vec<_> = view.table.snapshot().members(name).map(|member| member.name.clone()).collect();
    members.sort();
    NameStatus {
        name: name.name.clone(),
        pool: view.live().config.pool_name(name.pool).to_owned(),
        address: name.address.to_string(),
        resolve: "all",
        origin: origin(view, name),
        mode: name.mode().name(),
        weight: name.weight().0,
        backup: name.is_backup(),
        members,
        name_lookup: name_lookup(name, now),
    }
}

/// The name that a server is one of the addresses of.
pub(super) fn of(server: &Server) -> Option<String> {
    match server.role() {
        Role::Member { of, .. } => Some(of.clone()),
        Role::Single | Role::Name => None,
    }
}
