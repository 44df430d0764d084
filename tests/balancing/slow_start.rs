//! A server that comes back gets less than its share at first, over real sockets. How it grows is tested under virtual time.

use crate::support::balancer::{ADMIN, list};
use crate::support::{Client, Evenkeel, Origin, becomes};
use serde_json::{Value, json};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::Command;

fn settings(origins: &[Origin], slow_start: Value) -> Value {
    let origins: Vec<_> = origins.iter().collect();
    json!({
        "load_balancer": { "load_balancer_port": 0, "bind": "127.0.0.1", "served_by_header": true },
        "servers": { "algorithm": "least_connections", "slow_start": slow_start, "list": list(&origins) },
        "admin": { "socket": ADMIN, "bind": null },
    })
}

fn admin(balancer: &Evenkeel, request: &str, body: &str) -> Value {
    let mut stream = UnixStream::connect(balancer.folder().join(ADMIN)).unwrap();
    let head = format!("{request} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n");
    let rest = format!("Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    stream.write_all(format!("{head}{rest}").as_bytes()).unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    assert!(response.starts_with("HTTP/1.1 200"), "{response}");
    serde_json::from_str(response.split_once("\r\n\r\n").unwrap().1).unwrap()
}

fn part(balancer: &Evenkeel, server: &str) -> Value {
    admin(balancer, &format!("GET /api/v1/servers/{server}"), "")["slow_start"].clone()
}

/// How many of so many requests the server gets.
fn of(server: &str, balancer: &Evenkeel, requests: usize) -> usize {
    let mut client = Client::to(balancer);
    let served_by = |_: &usize| client.get("/").fields.one("X-Served-By") == server;
    (0..requests).filter(served_by).count()
}

#[test]
fn a_server_that_was_in_maintenance_gets_little_until_a_reload_ends_its_slow_start() {
    let origins = [(); 2].map(|()| Origin::responds("ok"));
    let balancer = Evenkeel::start(settings(&origins, json!("1h")));
    becomes("they are up", &2, || {
        ["a", "b"]
            .iter()
            .filter(|name| admin(&balancer, &format!("GET /api/v1/servers/{name}"), "")["state"] == "up")
            .count()
    });
    assert_eq!(part(&balancer, "a"), Value::Null, "the balancer has started");
    assert_eq!(of("b", &balancer, 20), 10);
    for state in ["maint", "ready"] {
        admin(&balancer, "PATCH /api/v1/servers/b", &json!({ "state": state }).to_string());
    }
    assert_eq!((part(&balancer, "a"), part(&balancer, "b")), (Value::Null, json!(0.1)));
    // A tenth of its half is 20 of 400; by requests in flight it would get 200.
    let few = of("b", &balancer, 400);
    assert!((1..80).contains(&few), "{few} of 400");
    balancer.metric_is("evenkeel_server_slow_start_ratio{pool=\"default\",server=\"b\"}", 0.1);
    fs::write(balancer.folder().join("config.json"), settings(&origins, json!(null)).to_string()).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_evenkeel"));
    assert!(command.arg("reload").current_dir(balancer.folder()).status().unwrap().success());
    becomes("it has its share", &Value::Null, || part(&balancer, "b"));
    assert_eq!(of("b", &balancer, 20), 10);
}
