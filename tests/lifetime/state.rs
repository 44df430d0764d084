//! What the admin API changed survives a restart, and can be told from the file.

use crate::support::balancer::list;
use crate::support::{Client, Evenkeel, Origin, until};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Command, Output};

/// A call of the admin API on the Unix socket.
fn call(balancer: &Evenkeel, line: &str, body: &str) -> String {
    let mut stream = UnixStream::connect(balancer.folder().join("a.sock")).unwrap();
    let length = body.len();
    let head = format!(
        "{line} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    );
    stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    assert!(response.starts_with("HTTP/1.1 20"), "{line}: {response}");
    response.split_once("\r\n\r\n").unwrap().1.to_owned()
}

/// Name, weight, state and origin of each server.
fn servers(balancer: &Evenkeel) -> Vec<String> {
    let listed: Value = serde_json::from_str(&call(balancer, "GET /api/v1/servers", "")).unwrap();
    let word = |server: &Value, key: &str| server[key].to_string().replace('"', "");
    let line = |server: &Value| ["name", "weight", "state", "origin"].map(|key| word(server, key)).join(" ");
    listed["servers"].as_array().unwrap().iter().map(line).collect()
}

fn evenkeel(balancer: &Evenkeel, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_evenkeel"));
    command.args(arguments).current_dir(balancer.folder()).output().unwrap()
}

fn printed(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// A balancer with the servers a and b, of which the API has changed a, taken out b and added c.
fn changed(origins: [&Origin; 3]) -> Evenkeel {
    let [a, b, c] = origins;
    let config = json!({"admin": {"socket": "a.sock", "state_file": "state.json"}});
    let balancer = Evenkeel::before(&[a, b], config);
    call(&balancer, "PATCH /api/v1/servers/a", r#"{"weight": 5, "state": "drain"}"#);
    call(&balancer, "DELETE /api/v1/servers/b", "");
    call(
        &balancer,
        "POST /api/v1/servers",
        &json!({"name": "c", "address": c.address().to_string()}).to_string(),
    );
    until("the file has all of it", || {
        let text = fs::read_to_string(balancer.folder().join("state.json")).unwrap_or_default();
        ["\"removed\"", "\"drain\"", "\"added\""].iter().all(|part| text.contains(part))
    });
    balancer
}

fn restart(mut balancer: Evenkeel) -> Evenkeel {
    balancer.signal(Signal::TERM);
    assert_eq!(balancer.wait().code(), Some(0));
    balancer.start_successor().unwrap()
}

#[test]
fn what_the_api_changed_survives_a_restart_and_can_be_taken_back() {
    let origins = ["a", "b", "c"].map(Origin::responds);
    let [a, b, c] = &origins;
    let balancer = restart(changed([a, b, c]));
    assert_eq!(servers(&balancer), ["a 5 drain file", "c 1 up api"]);
    assert_eq!(Client::to(&balancer).get("/").text(), "c");
    balancer.logs("3 changes of the API were made again");

    let shown = printed(&evenkeel(&balancer, &["status", "--changes"]));
    for line in
        ["default/a  weight 5, 1 in the file; drain", "default/b  removed", "default/c  registered at"]
    {
        assert!(shown.contains(line), "{shown}");
    }
    let exported = evenkeel(&balancer, &["config", "export"]);
    assert!(String::from_utf8_lossy(&exported.stderr).contains("default/a (drain)"));
    fs::write(balancer.folder().join("merged.json"), printed(&exported)).unwrap();
    let merged: Value = serde_json::from_str(&printed(&exported)).unwrap();
    let names: Vec<_> =
        merged["servers"]["list"].as_array().unwrap().iter().map(|one| &one["name"]).collect();
    assert_eq!(names, ["a", "c"]);
    assert_eq!(merged["servers"]["list"][0]["weight"], 5);
    let checked = evenkeel(&balancer, &["check", "-c", "merged.json"]);
    assert!(!String::from_utf8_lossy(&checked.stderr).contains("merged.json:"), "{checked:?}");

    let cleared = printed(&evenkeel(&balancer, &["state", "clear"]));
    assert!(cleared.contains("default/c  registered"), "{cleared}");
    assert_eq!(servers(&balancer), ["a 1 up file", "b 1 up file"]);
    assert_eq!(
        printed(&evenkeel(&balancer, &["status", "--changes"])).trim(),
        "the servers are as the file says"
    );
    let balancer = restart(balancer);
    assert_eq!(servers(&balancer), ["a 1 up file", "b 1 up file"]);
}

#[test]
fn a_change_that_the_file_has_overtaken_is_left_out_and_told() {
    let origins = ["a", "b", "c"].map(Origin::responds);
    let [a, b, c] = &origins;
    let mut balancer = changed([a, b, c]);
    balancer.signal(Signal::TERM);
    balancer.wait();
    let path = balancer.folder().join("config.json");
    let mut config: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    config["servers"]["list"] = list(&[a]);
    config["servers"]["list"][0]["weight"] = json!(3);
    fs::write(&path, config.to_string()).unwrap();
    let balancer = balancer.start_successor().unwrap();
    assert_eq!(servers(&balancer), ["a 3 drain file", "c 1 up api"]);
    balancer.logs("left out the change of default/b: the file has no server b at");
}

#[test]
fn a_damaged_state_file_is_set_aside_and_prevents_no_start() {
    let origins = ["a", "b", "c"].map(Origin::responds);
    let [a, b, c] = &origins;
    let mut balancer = changed([a, b, c]);
    balancer.signal(Signal::TERM);
    balancer.wait();
    let path = balancer.folder().join("state.json");
    let half = fs::read_to_string(&path).unwrap();
    fs::write(&path, &half[..half.len() / 2]).unwrap();
    let balancer = balancer.start_successor().unwrap();
    balancer.logs("state.json cannot be used");
    assert_eq!(servers(&balancer), ["a 1 up file", "b 1 up file"]);
    assert!(!path.exists());
    let names = fs::read_dir(balancer.folder()).unwrap().flatten().map(|entry| entry.file_name());
    assert!(names.into_iter().any(|name| name.to_string_lossy().starts_with("state.json.damaged-")));
}

#[test]
fn a_state_file_that_cannot_be_written_is_told_at_the_start_and_once_it_can() {
    let origin = Origin::responds("a");
    let config = json!({"admin": {"socket": "a.sock", "state_file": "none/state.json"}});
    let balancer = Evenkeel::before(&[&origin], config);
    balancer.logs("until then a restart loses what the admin API changes");
    call(&balancer, "PATCH /api/v1/servers/a", r#"{"weight": 5}"#);
    balancer.logs("state.json cannot be written");
    fs::create_dir(balancer.folder().join("none")).unwrap();
    call(&balancer, "PATCH /api/v1/servers/a", r#"{"weight": 6}"#);
    balancer.logs("state.json is written again");
}

#[test]
fn without_a_balancer_the_file_is_removed() {
    let origins = ["a", "b", "c"].map(Origin::responds);
    let [a, b, c] = &origins;
    let mut balancer = changed([a, b, c]);
    balancer.signal(Signal::TERM);
    balancer.wait();
    assert!(printed(&evenkeel(&balancer, &["state", "clear"])).contains("was removed"));
    assert!(!balancer.folder().join("state.json").exists());
}
