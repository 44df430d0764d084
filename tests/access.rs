//! The access log: what gets a line, what is in it, and how the file is rotated.

#![allow(clippy::unwrap_used, reason = "a test may panic, and so may its helpers")]

mod support;

use rustix::process::Signal;
use serde_json::json;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use support::{Client, Evenkeel, Origin, until};

const GET: &str = "GET /a?b=c HTTP/1.1\r\nHost: h\r\n\r\n";

/// The lines of a file, once there are so many.
#[track_caller]
fn lines(path: &Path, count: usize) -> Vec<String> {
    let read = || fs::read_to_string(path).unwrap_or_default();
    until(&format!("{} has {count} lines", path.display()), || read().matches('\n').count() >= count);
    let lines: Vec<String> = read().lines().map(str::to_owned).collect();
    assert_eq!(lines.len(), count, "{lines:?}");
    lines
}

/// Request, status, server and reason of a line.
#[track_caller]
fn parts(line: &str) -> (String, u16, String, String) {
    let [client, request, rest] = line.split('"').collect::<Vec<_>>()[..] else { panic!("{line}") };
    assert!(client.starts_with("127.0.0.1 - - [") && client.ends_with(" +0000] "), "{line}");
    let [status, bytes, took, server, id, reason] = rest.split_whitespace().collect::<Vec<_>>()[..] else {
        panic!("{line}")
    };
    assert!(bytes.parse::<u64>().unwrap() > 0 && took.parse::<f64>().is_ok() && id.len() == 32, "{line}");
    (request.to_owned(), status.parse().unwrap(), server.to_owned(), reason.to_owned())
}

#[track_caller]
fn check(line: &str, request: &str, status: u16, server: &str, reason: &str) {
    let found = parts(line);
    assert_eq!((&*found.0, found.1, &*found.2, &*found.3), (request, status, server, reason), "{line}");
}

#[test]
fn every_request_gets_a_line_and_a_signal_opens_the_file_anew() {
    let origin = Origin::answers("fine");
    let mut balancer = Evenkeel::before(&[&origin], json!({ "log": { "access": "access.log" } }));
    let path = balancer.folder().join("access.log");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o137, 0, "it is not for everybody");

    assert_eq!(Client::to(&balancer).send(GET).answer().status, 200);
    check(&lines(&path, 1)[0], "GET /a?b=c HTTP/1.1", 200, "a", "-");
    // Nobody forges a line with a quote.
    let answer = Client::to(&balancer).send("GET /\"x HTTP/1.0\r\nHost: h\r\n\r\n").answer();
    let found = lines(&path, 2);
    assert_eq!(parts(&found[1]).1, answer.status);
    let bad = Client::to(&balancer).send("GET / HTTP/1.1\r\nHost: h\r\nHost: h\r\n\r\n").answer();
    assert_eq!(bad.status, 400);
    check(&lines(&path, 3)[2], "-", 400, "-", "bad_host");

    let old = path.with_extension("old");
    fs::rename(&path, &old).unwrap();
    balancer.signal(Signal::USR1);
    until("the file is there again", || path.exists());
    assert_eq!(Client::to(&balancer).send(GET).answer().status, 200);
    check(&lines(&path, 1)[0], "GET /a?b=c HTTP/1.1", 200, "a", "-");
    assert_eq!(lines(&old, 3)[..2], found, "the old file stays as it was");

    balancer.signal(Signal::TERM);
    assert_eq!(balancer.wait().code(), Some(0), "the signal to rotate stops nothing, this one does");
}

#[test]
fn a_request_without_a_server_has_its_reason_and_its_id() {
    let mut balancer = Evenkeel::start(json!({ "log": { "access": "access.log" } }));
    let answer = Client::to(&balancer).send(GET).answer();
    assert_eq!(answer.status, 503);
    // The last lines are written before the end.
    balancer.signal(Signal::TERM);
    assert_eq!(balancer.wait().code(), Some(0));
    let line = &lines(&balancer.folder().join("access.log"), 1)[0];
    check(line, "GET /a?b=c HTTP/1.1", 503, "-", "no_server");
    let id = line.split_whitespace().rev().nth(1).unwrap().to_owned();
    assert!(answer.text().contains(&id), "{id} is not in {}", answer.text());
}

#[test]
fn a_file_that_cannot_be_had_is_told_at_the_start() {
    let started = Evenkeel::try_start(json!({ "log": { "access": "no/such/folder/access.log" } }));
    let Err((status, said)) = started else { panic!("it starts") };
    assert_eq!(status.code(), Some(1));
    assert!(said.contains("log.access") && said.contains("no/such/folder"), "{said}");
}

#[test]
fn the_signal_to_rotate_is_harmless_without_an_access_log() {
    let origin = Origin::answers("fine");
    let balancer = Evenkeel::before(&[&origin], json!({}));
    balancer.signal(Signal::USR1);
    assert_eq!(Client::to(&balancer).send(GET).answer().status, 200);
}
