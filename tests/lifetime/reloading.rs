//! Reloads of a running balancer: what changes, what stays, and that no client notices.

use crate::support::balancer::{ADMIN, list, unobtrusive, with};
use crate::support::{Client, Evenkeel, Gate, Origin, until};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

const UPGRADE: &str = "GET /a HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";

/// A server that responds with its name, and upgrades who asks for that.
fn named(name: &'static str) -> Origin {
    Origin::start(move |visit| {
        while let Some(seen) = visit.request() {
            if String::from_utf8_lossy(&seen.head).contains("pgrade") {
                visit.send("HTTP/1.1 101 S\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
                while let Some(byte) = visit.take(1).first() {
                    visit.send([*byte]);
                }
                return;
            }
            visit.response(name);
        }
    })
}

fn settings(over: Value) -> Value {
    with(with(unobtrusive(), json!({ "admin": { "socket": ADMIN } })), over)
}

/// Writes the file and reloads by the command: its exit code, and what it printed.
fn reload(balancer: &Evenkeel, file: &str) -> (i32, String) {
    fs::write(balancer.folder().join("config.json"), file).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_evenkeel"))
        .arg("reload")
        .current_dir(balancer.folder())
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(text).unwrap())
}

#[track_caller]
fn check(balancer: &Evenkeel, over: Value, code: i32, expected: &[&str]) {
    let (got, text) = reload(balancer, &settings(over).to_string());
    assert_eq!(got, code, "{text}");
    expected.iter().for_each(|part| assert!(text.contains(part), "{part} in {text}"));
}

fn pool(origin: &Origin) -> Value {
    json!({ "health_check": { "enabled": false }, "load_report": { "enabled": false }, "list": list(&[origin]) })
}

#[test]
fn thirty_reloads_under_load_fail_no_request_and_mix_no_versions() {
    let (a, b, fallback) = (named("from a"), named("from b"), named("from default"));
    let routes = |swapped: bool| {
        let mut routes = vec![json!({ "path": "/a", "pool": "a" }), json!({ "path": "/b", "pool": "b" })];
        // Pools change their places, and one comes and goes.
        let mut pools = json!({ "a": pool(&a), "b": pool(&b) });
        if swapped {
            routes.reverse();
            routes.insert(0, json!({ "path": "/z", "pool": "z" }));
            pools = json!({ "z": pool(&fallback), "b": pool(&b), "a": pool(&a) });
        }
        json!({ "servers": { "list": list(&[&fallback]) }, "pools": pools, "routes": routes })
    };
    let balancer = Evenkeel::start(settings(routes(false)));
    let (over, served) = (AtomicBool::new(false), AtomicUsize::new(0));
    let mut tunnel = Client::to(&balancer);
    assert_eq!(tunnel.send(UPGRADE).response().status, 101);
    thread::scope(|scope| {
        for path in ["/a", "/b"] {
            let (over, served, balancer) = (&over, &served, &balancer);
            scope.spawn(move || {
                // One connection for all of them: a close would fail the next request.
                let mut client = Client::to(balancer);
                while !over.load(Ordering::Relaxed) {
                    let response = client.get(path);
                    assert_eq!((response.status, response.text()), (200, format!("from {}", &path[1..])));
                    served.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for round in 0..30 {
            let before = served.load(Ordering::Relaxed);
            check(&balancer, routes(round % 2 == 0), 0, &["routes: has another order"]);
            until("requests are served", || served.load(Ordering::Relaxed) > before + 10);
        }
        over.store(true, Ordering::Relaxed);
    });
    assert_eq!(tunnel.send("x").bytes(1), b"x", "the tunnel is open");
    balancer.metric_is("evenkeel_config_reloads_total{result=\"applied\"}", 30.0);
    // One for requests, one for the tunnel: they stay over reloads. A client that pauses for a second, on a busy machine, may
    // get another worker, which connects again.
    assert!(a.connections() <= 15, "{} connections", a.connections());
}

/// Keys of the health checks and of ejection; those of other tests: `slow_start`, `panic_percent`, `load_report.orca`,
/// `agent_check`, `priority` and `timeouts.request` in the files of their names.
#[test]
fn what_is_expected_of_servers_is_changed_by_a_reload() {
    let a = Origin::start(|visit| {
        while visit.request().is_some() {
            visit.send("HTTP/1.1 404 No\r\nContent-Length: 2\r\n\r\nno");
        }
    });
    let servers = |over: Value| json!({ "servers": with(json!({ "list": list(&[&a]) }), over) });
    let balancer = Evenkeel::start(settings(servers(json!({}))));
    let mut client = Client::to(&balancer);
    let unexpected = "evenkeel_server_unexpected_responses_total";
    assert_eq!(client.get("/").status, 404);
    balancer.metric_is("evenkeel_server_requests_total", 1.0);
    assert_eq!(balancer.metric(unexpected), 0.0);
    let stricter = json!({
        "expect": { "status": "200-399" },
        "health_check": { "rise_max": 9 },
        "ejection": { "latency_deviations": 4 },
    });
    let told = ["servers.expect", "rise_max: default -> 9", "latency_deviations: default -> 4"];
    check(&balancer, servers(stricter), 0, &told);
    assert_eq!(client.get("/").status, 404);
    balancer.metric_is(unexpected, 1.0);
    check(&balancer, servers(json!({})), 0, &["servers.expect", "rise_max: 9 -> default"]);
    assert_eq!(client.get("/").status, 404);
    balancer.metric_is("evenkeel_server_requests_total", 3.0);
    assert_eq!(balancer.metric(unexpected), 1.0);
}

#[test]
fn a_file_that_is_not_valid_changes_nothing_and_says_so() {
    let a = named("a");
    let config = json!({ "servers": { "list": list(&[&a]) } });
    let balancer = Evenkeel::start(settings(config.clone()));
    let (code, text) = reload(&balancer, "{\"timeouts\": {\"respons\": \"1s\"}}");
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("respons"), "{text}");
    assert_eq!(Client::to(&balancer).get("/").status, 200);
    check(&balancer, config.clone(), 0, &["nothing has changed"]);
    balancer.metric_is("evenkeel_config_last_reload_successful", 1.0);
    fs::write(balancer.folder().join("config.json"), "{").unwrap();
    balancer.signal(Signal::HUP);
    balancer.logs("nothing was changed");
    until("it is counted", || balancer.metric("evenkeel_config_last_reload_successful") == 0.0);
    assert_eq!(Client::to(&balancer).get("/").text(), "a");
    check(
        &balancer,
        with(config, json!({ "admin": { "socket": "other.sock" } })),
        1,
        &["no balancer responds"],
    );
}

#[test]
fn listeners_are_added_and_closed_and_one_that_cannot_be_bound_changes_nothing() {
    let a = named("a");
    let (taken, free) =
        (std::net::TcpListener::bind("127.0.0.1:0").unwrap(), crate::support::port::Port::reserve());
    let listening = |port: u16| {
        json!({
            "load_balancer": { "listeners": [{ "name": "more", "bind": "127.0.0.1", "port": port }] },
            "servers": { "list": list(&[&a]) }, "timeouts": { "response": "7s" },
        })
    };
    let balancer = Evenkeel::start(settings(json!({ "servers": { "list": list(&[&a]) } })));
    let busy = taken.local_addr().unwrap().port();
    check(&balancer, listening(busy), 1, &["taken by another program"]);
    let port = free.address().port();
    check(&balancer, listening(port), 0, &["listeners: added more", "timeouts.response: 60s -> 7s"]);
    let there = SocketAddr::from(([127, 0, 0, 1], port));
    let mut stays = Client::connect(there).unwrap();
    assert_eq!(stays.get("/").status, 200);
    check(&balancer, json!({ "servers": { "list": list(&[&a]) } }), 0, &["listeners: removed more"]);
    until("new connections are refused", || Client::connect(there).is_err());
    let last = stays.get("/");
    assert_eq!((last.status, last.fields.has("connection")), (200, true));
    stays.sees_the_end();
}

#[test]
fn a_removed_server_finishes_its_requests_and_what_waits_goes_to_its_successor() {
    let (gate, next) = (Gate::default(), named("next"));
    let slow = Origin::start({
        let gate = gate.clone();
        move |visit| {
            while visit.request().is_some() {
                gate.wait();
                visit.response("slow");
            }
        }
    });
    let limited = |origin: &Origin| json!({ "servers": { "max_in_flight": 1, "list": list(&[origin]) } });
    let balancer = Evenkeel::start(settings(limited(&slow)));
    let (mut first, mut second) = (Client::to(&balancer), Client::to(&balancer));
    first.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    slow.until("it has a request", |record| record.heads > 0);
    second.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    until("one waits", || balancer.metric("evenkeel_requests_waiting") == 1.0);
    check(&balancer, limited(&next), 0, &["servers.list[a].address"]);
    assert_eq!(second.response().text(), "next");
    gate.open();
    assert_eq!(first.response().text(), "slow");
}

#[test]
fn a_limit_begins_and_ends_with_a_reload_and_is_seen() {
    let a = named("a");
    let limited = |most: Value| json!({ "servers": { "max_in_flight": most, "list": list(&[&a]) } });
    let balancer = Evenkeel::start(settings(limited(json!(null))));
    let mut client = Client::to(&balancer);
    assert_eq!(client.get("/").status, 200);
    let limits = || balancer.metric_lines("evenkeel_server_max_in_flight").len();
    assert_eq!(limits(), 0);
    check(&balancer, limited(json!(3)), 0, &["servers.max_in_flight"]);
    assert_eq!(client.get("/").status, 200);
    until("the limit is that of the file", || {
        limits() == 1 && balancer.metric("evenkeel_server_max_in_flight") == 3.0
    });
    // One request at a time shows no limit.
    check(&balancer, limited(json!("auto")), 0, &["servers.max_in_flight"]);
    assert_eq!(client.get("/").status, 200);
    until("there is no limit", || limits() == 0);
}

#[test]
fn the_access_log_moves_and_what_needs_a_restart_is_named() {
    let a = named("a");
    let logging = |file: &str| json!({ "servers": { "list": list(&[&a]) }, "log": { "access": file } });
    let balancer = Evenkeel::start(settings(logging("one.log")));
    let mut client = Client::to(&balancer);
    assert_eq!(client.get("/first").status, 200);
    let has = |file: &str, line: &str| {
        fs::read_to_string(balancer.folder().join(file)).is_ok_and(|text| text.contains(line))
    };
    until("the first line is there", || has("one.log", "/first"));
    let moved =
        with(logging("two.log"), json!({ "threadpool": { "max_workers": 3, "queue_capacity": 5000 } }));
    let restart = "threadpool.queue_capacity needs a restart; still 100";
    check(
        &balancer,
        moved,
        0,
        &["log.access: one.log -> two.log", restart, "threadpool.max_workers: default -> 3"],
    );
    assert_eq!(client.get("/second").status, 200);
    until("the line is there", || has("two.log", "/second"));
    assert!(!has("one.log", "/second"));
    balancer.metric_is("evenkeel_workers_max", 3.0);
}

#[test]
fn what_only_a_start_reads_stays_and_is_named_by_each_reload() {
    let a = named("a");
    let mut balancer = Evenkeel::start(settings(json!({ "servers": { "list": list(&[&a]) } })));
    let others = json!({
        "servers": { "list": list(&[&a]) },
        "admin": { "bind": "127.0.0.1:9", "state_file": "state.json" },
    });
    let named = ["admin.bind needs a restart; still ", "admin.state_file needs a restart; still null"];
    for _ in 0..2 {
        check(&balancer, others.clone(), 0, &named);
    }
    assert_eq!(Client::to(&balancer).get("/").status, 200);
    assert!(balancer.runs() && !balancer.folder().join("state.json").exists());
}

#[test]
fn connections_to_servers_come_from_the_source_that_is_set() {
    let seen = Arc::new(Mutex::new(BTreeSet::new()));
    let of_origin = Arc::clone(&seen);
    let origin = Origin::start(move |visit| {
        let from = visit.stream().peer_addr().unwrap().ip().to_string();
        while let Some(request) = visit.request() {
            of_origin.lock().unwrap().insert((request.target().to_owned(), from.clone()));
            visit.response(&from);
        }
    });
    let from = |source: Value| {
        let probes = json!({ "enabled": true, "interval": "50ms", "timeout": "1s", "path": "/probe" });
        json!({ "servers": { "source": source, "list": list(&[&origin]), "health_check": probes } })
    };
    let balancer = Evenkeel::start(settings(from(json!("127.0.0.2"))));
    let body = || Client::to(&balancer).get("/").text();
    let probed_from =
        |address: &str| seen.lock().unwrap().contains(&("/probe".to_owned(), address.to_owned()));
    assert_eq!((body(), body()), ("127.0.0.2".to_owned(), "127.0.0.2".to_owned()));
    until("probes come from there, too", || probed_from("127.0.0.2"));
    // Idle connections came from the old source, and are not used again. One of the other family has no effect.
    for (source, expected) in [("127.0.0.3", "127.0.0.3"), ("::1", "127.0.0.1")] {
        check(&balancer, from(json!(source)), 0, &["servers.source: "]);
        assert_eq!(body(), expected);
        until("probes come from there, too", || probed_from(expected));
    }
    // From the block for documentation, which no machine has.
    check(&balancer, from(json!("192.0.2.1")), 0, &["servers.source: "]);
    until("the server is down, and its probes say why", || {
        balancer
            .log_lines()
            .iter()
            .any(|line| line.contains("the source 192.0.2.1 is not an address of this machine"))
    });
}
