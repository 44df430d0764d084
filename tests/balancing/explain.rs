//! Why requests went where they went: what a running balancer has recorded of its choices, and `evenkeel explain`.

use crate::support::balancer::{ADMIN, list, with};
use crate::support::{Client, Evenkeel, Origin, unused_port};
use serde_json::{Value, json};
use std::process::{Command, Stdio};

fn admin() -> Value {
    json!({ "admin": { "socket": ADMIN }, "retries": { "attempts": 2 } })
}

fn command(balancer: &Evenkeel, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_evenkeel"));
    command.arg("explain").args(arguments).current_dir(balancer.folder());
    command
}

/// Its exit code, and what it printed.
fn explain(balancer: &Evenkeel, arguments: &[&str]) -> (i32, String) {
    let output = command(balancer, arguments).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(text).unwrap())
}

fn decisions(balancer: &Evenkeel, arguments: &[&str]) -> Vec<Value> {
    let (code, text) = explain(balancer, &[arguments, &["--json"]].concat());
    assert_eq!(code, 0, "{text}");
    let text: Value = serde_json::from_str(&text).unwrap();
    text["decisions"].as_array().unwrap().clone()
}

fn ask(balancer: &Evenkeel, headers: &str) {
    let response =
        Client::to(balancer).send(format!("GET /a HTTP/1.1\r\nHost: h\r\n{headers}\r\n")).response();
    assert_eq!(response.status, 200, "{}", response.text());
}

/// Nothing of a quiet balancer is missed: the choices for each request, retries among them, with every server of its pool.
#[test]
fn requests_of_a_quiet_balancer_are_told_with_all_servers() {
    let (a, closed) = (Origin::responds("a"), unused_port());
    let mut servers = list(&[&a, &a]);
    servers[1]["address"] = json!(closed.address().to_string());
    servers.as_array_mut().unwrap().push(json!({ "name": "c", "address": "127.0.0.1:1", "weight": 0 }));
    let config = with(admin(), json!({ "servers": { "algorithm": "round_robin", "list": servers } }));
    let trusted = json!({ "load_balancer": { "trusted_proxies": ["127.0.0.0/8"] } });
    let balancer = Evenkeel::start(with(config, trusted));
    assert_eq!(explain(&balancer, &[]).0, 1, "there is none yet");
    ask(&balancer, "X-Request-Id: first\r\n");
    ask(&balancer, "X-Request-Id: second\r\n");
    let all = decisions(&balancer, &[]);
    let of = |id: &str| all.iter().filter(|one| one["request_id"] == id).collect::<Vec<_>>();
    assert_eq!(
        of("first").len() + of("second").len(),
        3,
        "one of them was sent to b, and to a then: {all:#?}"
    );
    let retried = [of("first"), of("second")].into_iter().find(|of| of.len() == 2).unwrap();
    assert_eq!((&retried[0]["server"], &retried[1]["server"]), (&json!("b"), &json!("a")));
    assert_eq!((&retried[1]["attempt"], &retried[1]["why"]), (&json!(2), &json!("only_one")));
    let excluded: Vec<_> =
        retried[1]["excluded"].as_array().unwrap().iter().map(|one| (&one["server"], &one["why"])).collect();
    assert_eq!(excluded, [(&json!("b"), &json!("tried")), (&json!("c"), &json!("weight_zero"))]);
    let (code, text) = explain(&balancer, &["--request-id", "second", "-n", "1"]);
    assert_eq!(code, 0, "{text}");
    for part in ["GET /a -> a", "pool default, round_robin", "request second", "c  excluded: weight 0"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    assert!(decisions(&balancer, &["--server", "b"]).iter().all(|one| one["server"] == "b"));
    let (code, text) = explain(&balancer, &["--request-id", "other"]);
    assert!(code == 1 && text.contains("--next"), "{text}");
}

/// The status of a response because of which a request goes to another server is part of what is told.
#[test]
fn a_second_server_after_an_error_is_told_with_the_status() {
    let busy = Origin::says("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n");
    let config = json!({ "servers": { "algorithm": "round_robin" }, "retries": { "on_status": 503 } });
    let good = Origin::responds("b");
    let balancer = Evenkeel::before(&[&busy, &good], with(admin(), config));
    (0..2).for_each(|_| ask(&balancer, ""));
    let all = decisions(&balancer, &["--server", "b"]);
    let second = all.iter().find(|one| one["attempt"] == 2).unwrap();
    assert_eq!((&second["after_status"], &second["server"]), (&json!(503), &json!("b")));
    assert_eq!(decisions(&balancer, &["--server", "a"])[0]["after_status"], Value::Null);
    let (_, text) = explain(&balancer, &["--server", "b"]);
    assert!(text.contains("attempt 2 after 503"), "{text}");
}

/// Without samples only what somebody asks for is recorded, by header among others, while a command waits for it.
#[test]
fn the_next_request_with_a_header_is_waited_for() {
    let origin = Origin::responds("a");
    let config = with(admin(), json!({ "decisions": { "per_second": 0 } }));
    let balancer = Evenkeel::before(&[&origin], config);
    ask(&balancer, "");
    let waits = command(&balancer, &["--next", "--header", "X-Debug: 1", "--json"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // The command's question has come when a request with the header is recorded.
    let mut asked = 0;
    crate::support::until("the question is there", || {
        asked += 1;
        ask(&balancer, "");
        ask(&balancer, &format!("X-Debug: 1\r\nX-Number: {asked}\r\n"));
        explain(&balancer, &["-n", "1"]).0 == 0
    });
    let output = waits.wait_with_output().unwrap();
    let text: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert_eq!(text["decisions"].as_array().unwrap().len(), 1, "{text}");
    assert_eq!(
        (&text["decisions"][0]["asked"], &text["decisions"][0]["server"]),
        (&json!(true), &json!("a"))
    );
    let (code, text) = explain(&balancer, &["--next", "--wait", "1ms"]);
    assert!(code == 1 && text.contains("came within"), "{text}");
    assert_eq!(explain(&balancer, &["--header", "x:1"]).0, 2);
}

/// A shadow counts what it would do, and a reload brings it and takes it away.
#[test]
fn a_shadow_counts_where_it_would_differ() {
    let origins = [Origin::responds("a"), Origin::responds("b")];
    let config = with(admin(), json!({ "servers": { "algorithm": "round_robin", "shadow": "ip_hash" } }));
    let balancer = Evenkeel::before(&[&origins[0], &origins[1]], config);
    (0..20).for_each(|_| ask(&balancer, ""));
    let count = |result: &str| {
        balancer
            .metric(&format!("evenkeel_pool_shadow_choices_total{{pool=\"default\",result=\"{result}\"}}"))
    };
    // Turns go to both, and the hash of one client to one of them.
    assert_eq!((count("same"), count("different")), (10.0, 10.0));
    let shadows: Vec<_> = decisions(&balancer, &[]).into_iter().map(|one| one["shadow"].clone()).collect();
    assert!(shadows.iter().all(|one| *one == shadows[0] && one["algorithm"] == "ip_hash"), "{shadows:?}");
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_evenkeel"));
        let output = command.args(arguments).current_dir(balancer.folder()).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let status = run(&["status"]);
    assert!(status.contains("shadow ip_hash  would choose another server for 50.0 % of 20"), "{status}");
    let file = balancer.folder().join("config.json");
    let text = std::fs::read_to_string(&file).unwrap().replace("\"ip_hash\"", "null");
    std::fs::write(&file, text).unwrap();
    assert!(run(&["reload"]).contains("servers.shadow"));
    ask(&balancer, "");
    assert_eq!(decisions(&balancer, &["-n", "1"])[0]["shadow"], Value::Null);
    assert!(balancer.metric_lines("evenkeel_pool_shadow_choices_total").is_empty());
}
