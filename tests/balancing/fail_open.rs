//! Pools of which too few servers are up: the last known good ones go on to get requests, and it is told.

use crate::support::balancer::{ADMIN, list, with};
use crate::support::faults::ok;
use crate::support::{Client, Evenkeel, Origin, becomes, until};
use serde_json::{Value, json};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A server whose health page may break, and nothing else of it.
struct Server {
    origin: Origin,
    is_page_broken: Arc<AtomicBool>,
}

impl Server {
    fn start() -> Self {
        let is_page_broken = Arc::new(AtomicBool::new(false));
        let is_broken = Arc::clone(&is_page_broken);
        let origin = Origin::start(move |visit| {
            while let Some(seen) = visit.request() {
                let is_sick = seen.target() == "/health" && is_broken.load(Ordering::SeqCst);
                visit.send(if is_sick { ok("").replace("200 OK", "500 Sick") } else { ok("ok") });
            }
        });
        Server { origin, is_page_broken }
    }

    fn breaks_page(&self, is_broken: bool) {
        self.is_page_broken.store(is_broken, Ordering::SeqCst);
    }
}

fn settings(servers: &[Server], over: Value) -> Value {
    let origins: Vec<_> = servers.iter().map(|server| &server.origin).collect();
    let base = json!({
        "load_balancer": { "load_balancer_port": 0, "bind": "127.0.0.1", "served_by_header": true },
        "servers": {
            "algorithm": "round_robin",
            "list": list(&origins),
            "health_check": { "enabled": true, "path": "/health", "interval": "50ms", "timeout": "30s" },
            "load_report": { "enabled": false },
        },
        "admin": { "socket": ADMIN, "bind": null },
        "log": { "level": "debug" },
    });
    with(base, json!({ "servers": over }))
}

/// Three servers that have all been up, and their balancer.
fn three(over: Value) -> ([Server; 3], Evenkeel) {
    let servers = [(); 3].map(|()| Server::start());
    let balancer = Evenkeel::try_start_text(&settings(&servers, over).to_string()).unwrap();
    becomes("servers that are up", &3.0, || {
        balancer.metric("evenkeel_server_state{pool=\"default\",server=\"a\",state=\"up\"}")
            + balancer.metric("evenkeel_server_state{pool=\"default\",server=\"b\",state=\"up\"}")
            + balancer.metric("evenkeel_server_state{pool=\"default\",server=\"c\",state=\"up\"}")
    });
    (servers, balancer)
}

fn status(balancer: &Evenkeel) -> Value {
    let mut admin = UnixStream::connect(balancer.folder().join(ADMIN)).unwrap();
    admin.write_all(b"GET /api/v1/status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    admin.read_to_string(&mut text).unwrap();
    serde_json::from_str(text.split_once("\r\n\r\n").unwrap().1).unwrap()
}

/// The servers that are used although they are out.
fn used(balancer: &Evenkeel) -> String {
    let status = status(balancer);
    let servers = status["servers"].as_array().unwrap();
    let used = servers.iter().filter(|server| server["fail_open"] == true);
    used.map(|server| server["name"].as_str().unwrap()).collect()
}

#[track_caller]
fn succeeds(client: &mut Client) -> String {
    let response = client.get("/");
    assert_eq!(response.status, 200, "{}", response.text());
    response.fields.one("X-Served-By")
}

#[test]
fn requests_go_on_where_the_health_pages_of_all_servers_break() {
    let (servers, balancer) = three(json!({}));
    let mut client = Client::to(&balancer);
    servers.iter().for_each(|server| server.breaks_page(true));
    until("all are used although they are down", || {
        succeeds(&mut client);
        used(&balancer) == "abc"
    });
    let line = balancer.logs("no server is up: requests also go to");
    assert!(line.contains("ERROR") && line.contains("servers.panic_percent"), "{line}");
    assert!(status(&balancer)["pools"][0]["fail_open"]["left"] == 0);
    for server in ["a", "b", "c"] {
        until(server, || succeeds(&mut client) == server);
    }
    balancer.metric_is("evenkeel_pool_fail_open", 1.0);
    balancer.metric_is("evenkeel_server_state{pool=\"default\",server=\"a\",state=\"down\"}", 1.0);
    until("they are counted", || balancer.metric("evenkeel_server_fail_open_requests_total") >= 3.0);
    servers.iter().for_each(|server| server.breaks_page(false));
    until("all are up", || {
        succeeds(&mut client);
        used(&balancer).is_empty()
    });
    balancer.logs("enough servers are up again");
    balancer.metric_is("evenkeel_pool_fail_open", 0.0);
    assert!(!balancer.log_lines().iter().any(|line| line.contains("no server can take requests")));
}

#[test]
fn a_pool_whose_servers_are_gone_is_503_at_once() {
    let (mut servers, balancer) = three(json!({}));
    servers.iter_mut().for_each(|server| server.origin.stop());
    balancer.logs("no server can take requests");
    becomes("the response", &(503, "no_server".to_owned()), || {
        let response = Client::to(&balancer).get("/");
        (response.status, response.reason())
    });
    balancer.metric_is("evenkeel_pool_fail_open", 0.0);
    assert!(!balancer.log_lines().iter().any(|line| line.contains("requests also go to")));
}

#[test]
fn a_server_that_goes_away_while_its_pool_fails_open_is_not_used_any_more() {
    let (mut servers, balancer) = three(json!({}));
    let mut client = Client::to(&balancer);
    servers.iter().for_each(|server| server.breaks_page(true));
    until("all are used although they are down", || used(&balancer) == "abc");
    servers[1].origin.stop();
    until("it is not used any more", || {
        succeeds(&mut client);
        used(&balancer) == "ac"
    });
    servers[0].origin.stop();
    servers[2].origin.stop();
    until("there is none", || Client::to(&balancer).get("/").reason() == "no_server");
    balancer.logs("no server can take requests");
}

#[test]
fn the_share_is_changed_by_a_reload() {
    let (servers, balancer) = three(json!({ "panic_percent": 0 }));
    let reload = |percent: u32| {
        let file = settings(&servers, json!({ "panic_percent": percent })).to_string();
        fs::write(balancer.folder().join("config.json"), file).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_evenkeel"));
        assert!(command.arg("reload").current_dir(balancer.folder()).status().unwrap().success());
    };
    let mut client = Client::to(&balancer);
    servers[..2].iter().for_each(|server| server.breaks_page(true));
    until("two are down", || {
        succeeds(&mut client);
        status(&balancer)["pools"][0]["ready"] == 1
    });
    reload(50);
    until("two are used although they are down", || used(&balancer) == "ab");
    balancer.logs("only 1 of 3 servers is up: requests also go to a, b");
    servers[2].breaks_page(true);
    until("all are used although they are down", || used(&balancer) == "abc");
    reload(0);
    until("there is none", || Client::to(&balancer).get("/").reason() == "no_server");
    balancer.logs("no server can take requests");
}

#[test]
fn a_session_stays_with_a_server_that_is_used_although_it_is_down() {
    let (servers, balancer) =
        three(json!({ "sticky": { "cookie": "srv", "secret": "only for this test 1" } }));
    let mut client = Client::to(&balancer);
    let first = client.get("/");
    let cookie = first.fields.one("Set-Cookie").split(';').next().unwrap().to_owned();
    let home = first.fields.one("X-Served-By");
    servers.iter().for_each(|server| server.breaks_page(true));
    until("all are used although they are down", || used(&balancer) == "abc");
    for _ in 0..6 {
        client.send(format!("GET / HTTP/1.1\r\nHost: h\r\nCookie: {cookie}\r\n\r\n"));
        let response = client.response();
        assert_eq!((response.status, response.fields.one("X-Served-By")), (200, home.clone()));
    }
}

#[test]
fn a_request_that_no_server_takes_goes_to_one_that_is_out_as_a_last_resort() {
    let (mut stops, sick) = (Origin::responds("never"), Server::start());
    sick.breaks_page(true);
    // What the first probes find holds for the whole test.
    let check = json!({ "enabled": true, "path": "/health", "interval": "1h", "timeout": "30s" });
    let servers = json!({ "list": list(&[&stops, &sick.origin]), "health_check": check, "panic_percent": 0 });
    let settings = settings(&[], servers);
    let balancer = Evenkeel::try_start_text(&settings.to_string()).unwrap();
    balancer.metric_is("evenkeel_server_state{pool=\"default\",server=\"a\",state=\"up\"}", 1.0);
    balancer.metric_is("evenkeel_server_state{pool=\"default\",server=\"b\",state=\"down\"}", 1.0);
    stops.stop();
    let mut client = Client::to(&balancer);
    for request in
        ["GET / HTTP/1.1\r\nHost: h\r\n\r\n", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx"]
    {
        let response = client.send(request).response();
        assert_eq!((response.status, response.fields.one("X-Served-By").as_str()), (200, "b"));
    }
    balancer.metric_is("evenkeel_server_fail_open_requests_total{pool=\"default\",server=\"b\"}", 2.0);
}
