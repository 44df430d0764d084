//! Changes of servers by the admin API: they register, get other modes and weights, and are taken out.

use super::View;
use super::api::{path_of, reject_faults, shown, unknown};
use super::intake::Call;
use crate::base::ids::PoolId;
use crate::front::Response;
use crate::state::config::{self, ServerSpec};
use crate::state::events::Topic;
use crate::state::server::Server;
use crate::state::table::Taken;
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// A server registers, for the first time or again.
pub(super) fn add(view: &View, call: &Call, pool: PoolId) -> Response {
    let spec = match config::parse_server(&call.body, view.live().config.pool(pool).resolve) {
        Ok(spec) => spec,
        Err(faults) => return reject_faults(call, "server", &faults),
    };
    if let Some(part) = view.own().part(&spec.address) {
        let advice = format!("\"{}\" {}", spec.address, part.fault());
        let fault = json!({ "path": "address", "advice": advice });
        return Response::faults(&call.path, 400, "The server has a fault.", vec![fault]);
    }
    let location = path_of(view, pool, &spec.name);
    match view.table.add(pool, &spec) {
        Ok(server) => {
            told(view, format!("server {} at {} was added", server.label, server.address));
            (view.changed)();
            (view.registered)(&server);
            shown(201, view, &server).with("Location", location)
        }
        Err(Taken::Name) => match view.table.find_in(pool, &spec.name) {
            Some(server) => again(view, call, &spec, &server).with("Location", location),
            None => call.reject(409, format!("The server {} is just being removed. Try again.", spec.name)),
        },
        Err(Taken::NoPool) => call.reject(404, "A reload has just taken the pool out."),
        Err(Taken::Address(other)) => {
            let sentence = format!("The address {} is taken by the server {other}.", spec.address);
            call.reject(409, format!("{sentence} DELETE that one first, or register with its name."))
        }
    }
}

/// A known server registers again, as every restarted server does. Settings that it does not send stay as the operator
/// left them.
fn again(view: &View, call: &Call, spec: &ServerSpec, server: &Arc<Server>) -> Response {
    let (name, address) = (&server.name, &server.address);
    if *address != spec.address {
        let sentence = format!("The name {name} is taken by the server at {address}.");
        return call.reject(409, format!("{sentence} Choose another name, or DELETE that one first."));
    }
    let named: Map<String, Value> = serde_json::from_str(&call.body).unwrap_or_default();
    if named.contains_key("backup") && spec.backup != server.is_backup() {
        let sentence = format!("The server {name} exists with backup: {}.", server.is_backup());
        return call.reject(409, format!("{sentence} DELETE it first to change that."));
    }
    if named.contains_key("weight") && spec.weight != server.weight() {
        told(view, format!("server {} registered again, with weight {}", server.label, spec.weight.0));
        view.table.adjust(server, None, Some(spec.weight));
        (view.changed)();
    }
    (view.registered)(server);
    shown(200, view, server)
}

/// A change of a server by the operator.
pub(super) fn change(view: &View, call: &Call, pool: PoolId, name: &str) -> Response {
    let (mode, weight) = match config::parse_change(&call.body) {
        Ok(change) => (change.mode, change.weight),
        Err(faults) => return reject_faults(call, "change", &faults),
    };
    let Some(server) = view.table.find_in(pool, name) else { return unknown(call, name) };
    view.table.adjust(&server, mode, weight);
    (view.changed)();
    if let Some(mode) = mode {
        told(view, format!("server {} was set to {}", server.label, mode.name()));
        (view.registered)(&server);
    }
    weight
        .into_iter()
        .for_each(|weight| told(view, format!("server {} was given weight {}", server.label, weight.0)));
    shown(200, view, &server)
}

/// A server, or a name with its members, is taken out.
pub(super) fn remove(view: &View, call: &Call, pool: PoolId, name: &str) -> Response {
    let snapshot = view.table.snapshot();
    let Some(server) = view.table.find_in(pool, name) else { return unknown(call, name) };
    if let Some(name) = snapshot.name_of(&server) {
        let sentence = format!("The server {} is one of the addresses of {}.", server.name, name.name);
        return call.reject(409, format!("{sentence} DELETE {}, or set this one to drain.", name.name));
    }
    // As it was with its members.
    let response = shown(200, view, &server);
    let gone = view.table.remove(pool, name);
    told(view, format!("server {} at {} was removed", server.label, server.address));
    gone.iter().for_each(|server| (view.forgotten)(server.id));
    (view.changed)();
    response
}

/// A change was made: for the log and as an event.
fn told(view: &View, change: String) {
    view.events.log(Topic::Change, log::Level::Info, format!("admin: {change}"));
}
