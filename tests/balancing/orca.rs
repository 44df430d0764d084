//! What servers say of their load in the header `endpoint-load-metrics` of their responses, on real sockets.

use crate::support::balancer::{ADMIN, list, with};
use crate::support::{Client, Evenkeel, Origin, becomes};
use serde_json::{Value, json};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::sync::{Arc, Mutex};

/// A server whose responses have this header line, to be changed while it runs.
fn telling(line: &Arc<Mutex<String>>) -> Origin {
    let line = Arc::clone(line);
    Origin::replies(move |visit| {
        let line = line.lock().unwrap().clone();
        visit.send(format!("HTTP/1.1 200 OK\r\n{line}Content-Length: 2\r\n\r\nok"));
    })
}

fn settings(origin: &Origin, orca: Value) -> Value {
    let servers = json!({
        "list": list(&[origin]), "load_report": {"enabled": false, "orca": orca}, "health_check": {"enabled": false},
    });
    let base = json!({
        "load_balancer": {"load_balancer_port": 0, "bind": "127.0.0.1"},
        "admin": {"socket": ADMIN, "bind": null}, "log": {"level": "debug"},
    });
    with(base, json!({"servers": servers}))
}

/// How much of the server is in use, as the status has it.
fn utilization(balancer: &Evenkeel) -> Value {
    let mut stream = UnixStream::connect(balancer.folder().join(ADMIN)).unwrap();
    stream
        .write_all(b"GET /api/v1/servers/a HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    let server: Value = serde_json::from_str(response.split_once("\r\n\r\n").unwrap().1).unwrap();
    server["reported_utilization"].clone()
}

/// A request, and what is known then: only some responses are read, and a value fades, so each look has its request.
#[track_caller]
fn becomes_known(balancer: &Evenkeel, expected: Value) {
    becomes("the utilization", &expected, || {
        let response = Client::to(balancer).get("/");
        assert!(
            !response.fields.has("Endpoint-Load-Metrics")
                && !response.fields.has("Endpoint-Load-Metrics-Bin")
        );
        utilization(balancer)
    });
}

#[test]
fn each_form_is_read_and_hidden_from_clients() {
    let line = Arc::new(Mutex::new(String::new()));
    let says = |text: &str| *line.lock().unwrap() = format!("{text}\r\n");
    says("Endpoint-Load-Metrics: TEXT cpu_utilization=0.25, mem_utilization=0.8, rps_fractional=12.5");
    let origin = telling(&line);
    let balancer = Evenkeel::start(settings(&origin, json!(true)));
    becomes_known(&balancer, json!(0.25));
    says(r#"endpoint-load-metrics: JSON {"cpu_utilization": 0.25, "application_utilization": 0.5}"#);
    becomes_known(&balancer, json!(0.5));
    // A message with the field 1 (cpu_utilization), a double of 0.75, in base64: whole, and in its own header.
    says("endpoint-load-metrics: BIN CQAAAAAAAOg/");
    becomes_known(&balancer, json!(0.75));
    says("endpoint-load-metrics: TEXT cpu_utilization=0.125");
    becomes_known(&balancer, json!(0.125));
    says("Endpoint-Load-Metrics-Bin: CQAAAAAAAOg/");
    becomes_known(&balancer, json!(0.75));
    // It fades after a second of silence, so each look has its request.
    becomes("the metric", &true, || {
        Client::to(&balancer).get("/");
        let lines = balancer.metric_lines("evenkeel_server_reported_utilization");
        lines.iter().any(|line| line.ends_with("server=\"a\"} 0.75"))
    });
    // What is broken is told once, hidden all the same, and the server serves on.
    says("endpoint-load-metrics: JSON {\"cpu_utilization\": \"much\"}");
    becomes("the log", &1, || {
        assert_eq!(Client::to(&balancer).get("/").status, 200);
        balancer
            .log_lines()
            .iter()
            .filter(|line| line.contains("its endpoint-load-metrics is not understood"))
            .count()
    });
    // Without a word for 4 s it is not known any more; a value that comes again is known at once.
    says("Endpoint-Load-Metrics: TEXT cpu_utilization=0.5");
    becomes_known(&balancer, json!(0.5));
}

#[test]
fn off_it_is_a_header_as_any_other_and_a_reload_switches() {
    let line = Arc::new(Mutex::new(
        "Endpoint-Load-Metrics: TEXT named_metrics.kv=0.5, cpu_utilization=0.1\r\n".to_owned(),
    ));
    let origin = telling(&line);
    let balancer = Evenkeel::start(settings(&origin, json!(false)));
    let response = Client::to(&balancer).get("/");
    assert_eq!(
        response.fields.one("Endpoint-Load-Metrics"),
        "TEXT named_metrics.kv=0.5, cpu_utilization=0.1"
    );
    assert_eq!(utilization(&balancer), Value::Null);
    let changed = settings(&origin, json!("named_metrics.kv"));
    fs::write(balancer.folder().join("config.json"), changed.to_string()).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_evenkeel"));
    let output = command.arg("reload").current_dir(balancer.folder()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    becomes_known(&balancer, json!(0.5));
}
