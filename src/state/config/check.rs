//! Keys that are valid by themselves but contradict each other.

use super::reader::Reader;
use super::refine::SOCKET_PATH_MAX;
use super::{
    Config, ServerSpec, Servers, agent_check, hash, health_check, listeners, placeholder, routes, sticky,
    to_servers, units,
};
use crate::state::address::Address;
use crate::state::own::{Own, overlap};
use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;

/// Shorter tokens can be guessed.
const TOKEN_SHORT: usize = 16;

/// Adds a fault to the reader for each contradiction, and a warning for what looks like a mistake.
pub(super) fn contradictions(config: &Config, reader: &mut Reader) {
    workers(config, reader);
    waits(config, reader);
    sizes(config, reader);
    listeners::contradictions(config, reader);
    let own = Own::of(config);
    for pool in config.pool_ids() {
        let (key, servers) = (config.pool_key(pool), config.pool(pool));
        times(&key, servers, reader);
        health_check::contradictions(config, pool, reader);
        agent_check::contradictions(config, pool, reader);
        list(&key, &servers.list, &own, reader);
        odd_addresses(&key, servers, reader);
        to_servers::contradictions(config, pool, reader);
        hash::contradictions(config, pool, reader);
        sticky::contradictions(config, pool, reader);
    }
    admin(config, reader);
    let pools: Vec<&str> = config.pool_ids().map(|pool| config.pool_name(pool)).collect();
    routes::check(&config.routes, &pools, &config.guards, reader);
}

fn workers(config: &Config, reader: &mut Reader) {
    let (min, max) = (config.threadpool.bounds.min, config.threadpool.bounds.max);
    if min > max {
        let advice = format!(
            "{min} is more than threadpool.max_workers ({max}); write 1 to {max} here, or {min} or more there"
        );
        reader.contradiction(&["threadpool.min_workers", "threadpool.max_workers"], advice);
    }
}

fn times(pool: &str, servers: &Servers, reader: &mut Reader) {
    let rules = &servers.health_check.rules;
    if rules.rise_max < rules.rise {
        let advice = format!("{} is less than rise; write {} or more", rules.rise_max, rules.rise);
        let keys = ["rise_max", "rise"].map(|key| format!("{pool}.health_check.{key}"));
        reader.contradiction(&keys.each_ref().map(String::as_str), advice);
    }
    let ejection = &servers.ejection;
    if ejection.base_time > ejection.max_time {
        let base = units::show_duration(ejection.base_time);
        let max = units::show_duration(ejection.max_time);
        let advice = format!("{max} is shorter than base_time ({base}); write \"{base}\" or more");
        let keys = ["max_time", "base_time"].map(|key| format!("{pool}.ejection.{key}"));
        reader.contradiction(&keys.each_ref().map(String::as_str), advice);
    }
}

fn waits(config: &Config, reader: &mut Reader) {
    let admit = &config.threadpool.admit;
    if admit.target > admit.deadline {
        let deadline = units::show_duration(admit.deadline);
        let target = units::show_duration(admit.target);
        let advice =
            format!("{target} is longer than queue_timeout ({deadline}); write \"{deadline}\" or less");
        reader.contradiction(&["threadpool.queue_target", "threadpool.queue_timeout"], advice);
    }
}

fn sizes(config: &Config, reader: &mut Reader) {
    let head = &config.limits.head;
    if head.uri > head.head {
        let advice = format!(
            "has no effect: all headers together have at most {}",
            units::show_size(head.head as u64)
        );
        reader.warning(&["limits.uri", "limits.head"], advice);
    }
    let (all, one) = (config.limits.connections, config.limits.connections_per_address);
    if let (Some(all), Some(one)) = (all, one) {
        if one > all {
            let advice = format!("has no effect: all addresses together have at most {all}");
            reader.warning(&["limits.connections_per_address", "limits.connections"], advice);
        }
    }
}

fn list(pool: &str, list: &[ServerSpec], own: &Own, reader: &mut Reader) {
    repeated(
        list,
        |server| &server.name,
        |first, second| {
            let item = format!("{pool}.list[{second}]");
            let path = format!("{item}.name");
            if !reader.is_given(&path) && list[first].address == list[second].address {
                return; // The name is the address, which is reported below.
            }
            let name = &list[second].name;
            let advice = format!("{name:?} is the name of {pool}.list[{first}] too; write another name");
            reader.contradiction(&[&path, &item], advice);
        },
    );
    repeated(
        list,
        |server| &server.address,
        |first, second| {
            let path = format!("{pool}.list[{second}].address");
            let advice = format!(
                "\"{}\" is the address of {pool}.list[{first}] too; keep one and raise its weight",
                list[second].address
            );
            reader.contradiction(&[&path], advice);
        },
    );
    for (at, server) in list.iter().enumerate() {
        if let Some(part) = own.part(&server.address) {
            let path = format!("{pool}.list[{at}].address");
            let keys: Vec<&str> = [&*path].into_iter().chain(part.keys().iter().copied()).collect();
            reader.contradiction(&keys, format!("\"{}\" {}", server.address, part.fault()));
        }
    }
}

/// Addresses that are valid, and hardly what was meant.
fn odd_addresses(pool: &str, servers: &Servers, reader: &mut Reader) {
    let is_secure = servers.tls.is_some();
    for (at, server) in servers.list.iter().enumerate() {
        let Address::Tcp { host, port } = &server.address else { continue };
        let path = format!("{pool}.list[{at}].address");
        let address = &server.address;
        if host.parse().is_ok_and(|host: IpAddr| host.is_unspecified()) {
            let advice = format!(
                "\"{address}\" is what a server listens at, and leads to this machine; write \"127.0.0.1:{port}\", or the address of another"
            );
            reader.warning(&[&path], advice);
        }
        if *port == 443 && !is_secure {
            let advice = format!(
                "\"{address}\" has the port of https, and gets clear text; write {pool}.tls, as in \"tls\": true"
            );
            reader.warning(&[&path], advice);
        }
        if *port == 80 && is_secure {
            let advice = format!(
                "\"{address}\" has the port of http, and gets TLS, because {pool}.tls is set; write the port of https, such as 443"
            );
            reader.warning(&[&path], advice);
        }
    }
    if !servers.list.is_empty() && servers.list.iter().all(|server| server.weight.0 == 0) {
        let advice =
            "all servers have the weight 0, so that no requests go there; write another weight for one";
        reader.warning(&[&format!("{pool}.list")], advice.to_owned());
    }
}

/// Calls `found` with the indices of the first and each further server with the same key.
fn repeated<'l, K: Hash + Eq + 'l>(
    list: &'l [ServerSpec],
    key: fn(&'l ServerSpec) -> K,
    mut found: impl FnMut(usize, usize),
) {
    let mut seen = HashMap::new();
    for (at, server) in list.iter().enumerate() {
        let first = *seen.entry(key(server)).or_insert(at);
        if first != at {
            found(first, at);
        }
    }
}

fn admin(config: &Config, reader: &mut Reader) {
    let admin = &config.admin;
    if let Some(socket) = admin.socket.as_ref().filter(|path| path.as_os_str().len() > SOCKET_PATH_MAX) {
        let advice = format!(
            "{} has {} bytes; write a path of at most {SOCKET_PATH_MAX}, for a Unix socket holds no more",
            socket.display(),
            socket.as_os_str().len()
        );
        reader.contradiction(&["admin.socket"], advice);
    }
    match &admin.token {
        Some(token) if placeholder::is_stand_in(token) => {
            let advice = format!("looks like a placeholder; write {TOKEN_SHORT} random characters or more");
            reader.warning(&["admin.token"], advice);
        }
        Some(token) if token.len() < TOKEN_SHORT => {
            reader.warning(&["admin.token"], format!("is short; write {TOKEN_SHORT} characters or more"));
        }
        _ => {}
    }
    let Some(bind) = admin.bind else { return };
    if admin.socket.is_none() {
        let advice =
            "the TCP port is served through the socket; write a path, or write null for admin.bind too";
        reader.contradiction(&["admin.socket", "admin.bind"], advice.to_owned());
    }
    if admin.token.is_none() && !bind.ip().is_loopback() {
        let advice = format!("{bind} can be reached from outside; write an admin.token, or 127.0.0.1 here");
        reader.contradiction(&["admin.bind", "admin.token"], advice);
    }
    for listener in &config.listen.listeners {
        if !listener.place.address().is_some_and(|address| overlap(bind, address)) {
            continue;
        }
        let (key, bind_key) = (&*listener.port_key(), &*listener.bind_key());
        let other = "admin.bind";
        let (at, advice) = match reader.is_given(other) {
            true => (other, format!("{bind} is also the address of {key}; write another port")),
            false => (
                key,
                format!(
                    "{} is the port of the admin API ({other} is {bind} by default); write another port here, or another {other}",
                    bind.port()
                ),
            ),
        };
        let keys = [at, key, other, bind_key, "load_balancer.bind"];
        reader.contradiction(&keys, advice);
    }
}
