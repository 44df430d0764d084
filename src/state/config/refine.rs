//! The schema: every key of the file appears here once, with its default and its bounds.

use super::reader::{Reader, Section};
use super::rules::{MS, SECOND};
use super::tree::Node;
use super::{
    Admin, Change, Config, DEFAULT_POOL, Decisions, Guards, Limits, Listen, NamedPool, Resolve, ServerSpec,
    Servers, Threadpool, Timeouts, Via, agent_check, elsewhere, expect, guards, hash, health_check, hedge,
    listeners, load_report, logs, networks, retries, routes, rules, sticky, to_servers, tracing,
};
use crate::base::ids::PoolId;
use crate::base::network::Network;
use crate::http1::head;
use crate::http1::path::EncodedSlash;
use crate::policy::limit::MaxInFlight;
use crate::policy::networks::Networks;
use crate::policy::pick::{Algorithm, Weight};
use crate::policy::{admit, health, retry, slow_start};
use crate::state::address::Address;
use siphasher::sip::SipHasher;
use std::hash::{Hash, Hasher};
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
const KIB: u64 = 1024;

/// Any wait on a socket: never 0, which the operating system reads as "forever".
pub(super) const WAIT: RangeInclusive<Duration> = MS..=DAY;
/// An upgraded connection may be silent for days.
pub(super) const TUNNEL: RangeInclusive<Duration> = MS..=Duration::from_secs(30 * 24 * 3600);
/// Longer than an hour no cache takes to become warm.
const SLOW_START_MAX: Duration = HOUR;
/// With 10 a server gets half of its share after a thousandth of the time, and with 0.1 after 93 % of it: beyond that a slow start is
/// none, or a wait.
const AGGRESSION: RangeInclusive<f64> = 0.1..=10.0;
/// Keys of other programs for the address of a server, or parts of it.
const PLACES: [&str; 11] =
    ["host", "hostname", "ip", "addr", "port", "server", "url", "uri", "target", "endpoint", "upstream"];
/// The most pools beside the default one.
const POOLS_MAX: usize = 10_000;
/// Recorded choices a second: each takes some 5 us, so this is 0.01 % of a processor.
const DECISIONS_PER_SECOND: u32 = 20;
/// A server's share of the traffic; 0 means no new requests.
const WEIGHTS: RangeInclusive<u64> = 0..=1000;
/// Where less than this share of a pool is up, the last known good servers are used as well. With so few left each gets more than
/// four times its load, which no reserve is for; and in a pool of up to four servers only where none is left, so that two of three
/// may be taken out by their own health pages, as at a deployment, and stay out.
const PANIC_PERCENT: u32 = 25;
/// What the admin API cannot change of a server.
const FIXED: [&str; 10] = [
    "name",
    "address",
    "backup",
    "priority",
    "zone",
    "resolve",
    "max_in_flight",
    "slow_start",
    "slow_start_aggression",
    "agent_port",
];
/// Keys that other programs have for the state of a server.
const OTHER_STATES: [&str; 9] =
    ["mode", "status", "enabled", "disabled", "drain", "maint", "maintenance", "up", "down"];
/// The last priority of servers: more levels than any deployment has regions to fall back to.
const PRIORITY_MAX: u64 = 9;
/// The longest path of a Unix socket: `sun_path` holds 108 bytes with the closing NUL.
pub(super) const SOCKET_PATH_MAX: usize = 107;

/// Reads a whole file. Faults are collected in the reader.
pub(super) fn config(reader: &mut Reader, node: &Node, folder: &Path) -> Config {
    reader.top(node, |top| {
        of_file(top);
        elsewhere::top(top);
        let listen = top.section("load_balancer", |section| listen(section, folder));
        let threadpool = top.section("threadpool", threadpool);
        let retries = top.section("retries", |section| retries::read(section, retry::Rules::default()));
        let pools = pools(top, folder);
        let names: Vec<&str> =
            [DEFAULT_POOL].into_iter().chain(pools.iter().map(|pool| pool.name.as_str())).collect();
        let guards = guards::read(top, folder, &names, &Guards::default());
        let listeners: Vec<&str> = listen.listeners.iter().map(|listener| listener.name.as_str()).collect();
        let around =
            routes::Around { pools: &names, listeners: &listeners, folder, retries, guards: &guards };
        Config {
            routes: routes::routes(top, &around),
            servers: top.section("servers", |section| servers(section, folder)),
            pools,
            threadpool,
            guards,
            timeouts: top.section("timeouts", timeouts),
            limits: top.section("limits", |section| limits(section, listen.trace)),
            retries,
            admin: top.section("admin", |section| admin(section, folder)),
            log: top.section("log", |section| logs::read(section, folder)),
            decisions: top.section("decisions", |s| Decisions {
                per_second: s.get("per_second", DECISIONS_PER_SECOND, rules::whole(0..=1000)),
            }),
            tracing: top.optional("tracing", tracing::read),
            watch: top.get("watch", false, rules::flag),
            file: None,
            files: Vec::new(),
            contents: Vec::new(),
            secrets: Vec::new(),
            warnings: Vec::new(),
            listen,
        }
    })
}

/// Keys about the file itself: what it includes was added before, and the schema is for editors.
fn of_file(top: &mut Section<'_, '_>) {
    top.get("$schema", (), |node| rules::text(node, "write the path or the URL of the schema").map(|_| ()));
    let advice = "write the path of a file or a folder, such as \"conf.d\", or a list of them";
    let path = |node: &Node| match rules::text(node, advice)? {
        "" => Err(format!("is empty; {advice}")),
        _ => Ok(()),
    };
    match top.is_list("include") {
        true => drop(top.values("include", path)),
        false => top.get("include", (), path),
    }
}

fn listen(s: &mut Section<'_, '_>, folder: &Path) -> Listen {
    elsewhere::load_balancer(s);
    Listen {
        listeners: listeners::listeners(s, folder),
        zone: s.maybe("zone", None, zone),
        served_by_header: s.get("served_by_header", false, rules::flag),
        trusted_proxies: {
            let list = networks::list(s, "trusted_proxies", folder).unwrap_or_default();
            Networks::new(list.iter().map(Network::parts))
        },
        forwarded: s.get("forwarded", false, rules::flag),
        via: s.get("via", Via::Instance, rules::via),
        request_id_header: s.get("request_id_header", false, rules::flag),
        trace_context: s.get("trace_context", false, rules::flag),
        trace: s.get("trace", false, rules::flag),
        encoded_slash: s.get("encoded_slash", EncodedSlash::Refuse, |node| {
            rules::word(node, &[("refuse", EncodedSlash::Refuse), ("keep", EncodedSlash::Keep)])
        }),
    }
}

/// The pools beside the default one.
fn pools(top: &mut Section<'_, '_>, folder: &Path) -> Vec<NamedPool> {
    let mut pools = top.named("pools", "servers", |name, s| {
        if name == DEFAULT_POOL {
            s.fault("", "the default pool is described by `servers`; write its keys there".to_owned());
        } else if let Err(fault) = rules::check_name(name) {
            s.fault("", format!("the name {name:?} {fault}"));
        }
        NamedPool { id: PoolId::default(), name: name.to_owned(), servers: servers(s, folder) }
    });
    pools.iter_mut().zip(1..).for_each(|(pool, number)| pool.id = PoolId(number));
    if pools.len() > POOLS_MAX {
        top.fault("pools", format!("are {}; write at most {POOLS_MAX}", pools.len()));
    }
    pools
}

fn servers(s: &mut Section<'_, '_>, folder: &Path) -> Servers {
    elsewhere::pool(s);
    let resolve = s.get("resolve", Resolve::First, resolve);
    let connecting = to_servers::connecting(s);
    Servers {
        resolve,
        queue_capacity: s.get("queue_capacity", 1000, rules::whole(1..=1_000_000)),
        max_in_flight: s.maybe("max_in_flight", Some(MaxInFlight::Auto), rules::max_in_flight),
        algorithm: s.get("algorithm", Algorithm::default(), rules::algorithm),
        shadow: s.maybe("shadow", None, rules::algorithm),
        expect: expect::expect(s),
        panic_percent: s.get("panic_percent", PANIC_PERCENT, rules::whole(0..=100)),
        slow_start: slow_start::Settings {
            time: s.maybe("slow_start", None, rules::duration(MS..=SLOW_START_MAX)),
            aggression: Some(s.get("slow_start_aggression", 1.0, aggression)),
        },
        list: s.objects("list", |s| server(s, resolve)),
        health_check: s.section("health_check", |section| health_check::read(section, folder)),
        agent_check: agent_check::read(s),
        load_report: s.section("load_report", load_report::read),
        ejection: s.section("ejection", ejection),
        pool: s.section("pool", |s| to_servers::pool(s, connecting)),
        timeouts: s.section("timeouts", |s| {
            elsewhere::timeouts(s);
            routes::timeouts(s)
        }),
        hedge: hedge::hedge(s),
        tls: to_servers::tls(s, folder),
        connecting,
        hash: hash::hash(s),
        sticky: sticky::sticky(s),
    }
}

/// The name of a zone: as that of a server.
fn zone(node: &Node) -> Result<String, String> {
    let name = rules::text(node, "write the name of a zone, such as \"eu-west-1a\"")?;
    rules::check_name(name).map_err(|fault| format!("{node} {fault}"))?;
    Ok(name.to_owned())
}

fn aggression(node: &Node) -> Result<f32, String> {
    rules::decimal(AGGRESSION)(node).map(|number| number as f32)
}

fn resolve(node: &Node) -> Result<Resolve, String> {
    rules::word(node, &Resolve::WORDS)
}

/// One server; None when it has no valid address. `of_pool` is how the names of its pool are resolved.
pub(super) fn server(s: &mut Section<'_, '_>, of_pool: Resolve) -> Option<ServerSpec> {
    let name = s.maybe("name", None, rules::server_name);
    elsewhere::server(s);
    let is_elsewhere = s.foreign(&PLACES, |value| {
        let host = ["host", "hostname", "ip", "addr"].iter().find_map(|key| value(key));
        let whole =
            ["server", "url", "uri", "target", "endpoint", "upstream"].iter().find_map(|key| value(key));
        let joined = host.zip(value("port")).map(|(host, port)| format!("{host}:{port}"));
        let whole = whole.map(|url| {
            let rest = url.split_once("://").map_or(url.as_str(), |(_, rest)| rest);
            rest.split('/').next().unwrap_or_default().to_owned()
        });
        let example = joined.or(whole).unwrap_or("host:port".to_owned());
        format!("host and port are one string; write \"address\": {example:?}")
    });
    let address = match is_elsewhere && !s.has("address") {
        true => None,
        false => s.required("address", rules::address),
    };
    let weight = Weight(s.get("weight", 1, rules::whole(WEIGHTS)));
    let backup = s.get("backup", false, rules::flag);
    let priority = s.get("priority", 0, rules::whole(0..=PRIORITY_MAX));
    if backup && priority > 0 {
        let advice = "a backup comes after all priorities; leave one of the two out";
        s.fault("priority", advice.to_owned());
    }
    let zone = s.maybe("zone", None, zone);
    let max_in_flight = s.maybe("max_in_flight", None, rules::max_in_flight);
    let own_resolve = s.maybe("resolve", None, resolve);
    let slow_start = slow_start::Settings {
        time: s.maybe("slow_start", None, rules::duration(Duration::ZERO..=SLOW_START_MAX)),
        aggression: s.maybe("slow_start_aggression", None, aggression),
    };
    let agent_port = s.maybe("agent_port", None, rules::whole(1..=65535));
    let address = address?;
    if let Some(port) = agent_port {
        agent_check::own_port(s, &address, port);
    }
    if own_resolve == Some(Resolve::All) && address.name().is_none() {
        let advice = format!(
            "{address} is not a name, so there is nothing to resolve; write a host name, or leave this out"
        );
        s.fault("resolve", advice);
    }
    let resolve = own_resolve.unwrap_or(of_pool);
    let name = name.unwrap_or_else(|| name_of(&address));
    if let Err(fault) = rules::check_name(&name) {
        s.fault(
            "name",
            format!("a server without a name has its address as its name, and \"{address}\" {fault}"),
        );
    }
    Some(ServerSpec {
        name,
        address,
        weight,
        backup,
        priority,
        zone,
        max_in_flight,
        resolve,
        slow_start,
        agent_port,
    })
}

/// A change of a server; missing keys change nothing.
pub(super) fn change(s: &mut Section<'_, '_>) -> Change {
    let is_empty = s.is_empty();
    let change = Change {
        mode: s.get("state", None, |node| rules::mode(node).map(Some)),
        weight: s.get("weight", None, |node| rules::whole(WEIGHTS)(node).map(|weight| Some(Weight(weight)))),
    };
    s.rejects(&FIXED, "cannot be changed; DELETE the server and POST it as it should be");
    s.foreign(&OTHER_STATES, |_| "write \"state\": \"ready\", \"drain\" or \"maint\"".to_owned());
    if is_empty {
        s.fault("", "nothing to change; write \"weight\" or \"state\"".to_owned());
    }
    change
}

/// The name of a server without one: its address, in which a slash would break the URLs of the admin API.
fn name_of(address: &Address) -> String {
    address.to_string().replace("unix:/", "unix:").replace('/', "-")
}

fn ejection(s: &mut Section<'_, '_>) -> health::Ejection {
    let base_time = s.get("base_time", 2 * SECOND, rules::duration(WAIT));
    health::Ejection {
        consecutive_failures: s.get("consecutive_failures", 5, rules::whole(1..=1000)),
        base_time,
        max_time: s.get("max_time", base_time.max(120 * SECOND), rules::duration(WAIT)),
        max_percent: s.get("max_percent", 50, rules::whole(0..=100)),
        error_margin_percent: s.get("error_margin_percent", 30, rules::whole(0..=100)),
        latency_deviations: s.get("latency_deviations", 6, rules::whole(0..=100)),
    }
}

/// Idle connections come and go with the requests in flight: it is worth keeping as many as were in use. With a bound
/// below that requests connect all the time: with 512, and 1,000 requests in flight to one server, a fifth of the
/// processor time went into connecting.
fn threadpool(s: &mut Section<'_, '_>) -> Threadpool {
    let bounds = crate::policy::pool::Bounds {
        min: s.get("min_workers", 1, rules::whole(1..=10_000)),
        max: s.get("max_workers", 50, rules::whole(1..=10_000)),
    };
    Threadpool {
        bounds,
        queue_capacity: s.get("queue_capacity", 100, rules::whole(1..=1_000_000)),
        admit: admit::Rules {
            deadline: s.get("queue_timeout", 5 * SECOND, rules::duration(WAIT)),
            target: s.get("queue_target", 5 * MS, rules::duration(WAIT)),
            interval: s.get("queue_interval", 100 * MS, rules::duration(WAIT)),
            max_wait: s.get("queue_max_wait", 500 * MS, rules::duration(WAIT)),
        },
    }
}

fn timeouts(s: &mut Section<'_, '_>) -> Timeouts {
    elsewhere::timeouts(s);
    Timeouts {
        connect: s.get("connect", 2 * SECOND, rules::duration(WAIT)),
        response: s.get("response", 30 * SECOND, rules::duration(WAIT)),
        request: s.maybe("request", None, rules::duration(WAIT)),
        client_head: s.get("client_head", 10 * SECOND, rules::duration(WAIT)),
        client_body: s.get("client_body", 30 * SECOND, rules::duration(WAIT)),
        keep_alive: s.get("keep_alive", 60 * SECOND, rules::duration(WAIT)),
        drain: s.get("drain", 30 * SECOND, rules::duration(Duration::ZERO..=DAY)),
        shutdown_delay: s.get("shutdown_delay", Duration::ZERO, rules::duration(Duration::ZERO..=DAY)),
        tunnel: s.get("tunnel", HOUR, rules::duration(TUNNEL)),
    }
}

fn limits(s: &mut Section<'_, '_>, trace: bool) -> Limits {
    let head: usize = s.get("head", 16 * 1024, rules::size(512..=1024 * KIB));
    let connections = || rules::whole(1..=10_000_000);
    Limits {
        head: head::Limits {
            head,
            headers: s.get("headers", 100, rules::whole(1..=head::FIELDS_MAX as u64)),
            uri: s.get("uri", head.min(8 * 1024), rules::size(16..=1024 * KIB)),
            trace,
        },
        body: s.maybe("body", None, rules::size(0..=u64::MAX)),
        connections: s.maybe("connections", None, connections()),
        connections_per_address: s.maybe("connections_per_address", None, connections()),
        tunnels: s.get("tunnels", 1000, rules::whole(0..=100_000)),
    }
}

fn admin(s: &mut Section<'_, '_>, folder: &Path) -> Admin {
    let bind = SocketAddr::from((Ipv4Addr::LOCALHOST, 9301));
    Admin {
        socket: s.maybe("socket", Some(default_socket(folder)), rules::path(folder)),
        bind: s.maybe("bind", Some(bind), rules::socket_address),
        token: s.maybe("token", None, rules::token),
        state_file: s.maybe("state_file", None, rules::path(folder)),
    }
}

/// Beside the configuration; in the folder for temporary files when that path is too long for a socket, because a
/// default should work without configuring it.
fn default_socket(folder: &Path) -> PathBuf {
    let beside = folder.join("evenkeel.sock");
    if beside.as_os_str().len() <= SOCKET_PATH_MAX {
        return beside;
    }
    let mut hash = SipHasher::new();
    folder.hash(&mut hash);
    std::env::temp_dir().join(format!("evenkeel-{:016x}.sock", hash.finish()))
}
