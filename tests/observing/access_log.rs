//! The access log: what gets a line, what is in it, and how the file is rotated.

use crate::support::{Client, Evenkeel, Origin, until};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

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
fn every_request_gets_a_line_and_a_signal_opens_the_file_again() {
    let origin = Origin::responds("fine");
    let mut balancer = Evenkeel::before(&[&origin], json!({ "log": { "access": "access.log" } }));
    let path = balancer.folder().join("access.log");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o137, 0, "it is not for everybody");

    assert_eq!(Client::to(&balancer).send(GET).response().status, 200);
    check(&lines(&path, 1)[0], "GET /a?b=c HTTP/1.1", 200, "a", "-");
    // A quote cannot forge a line.
    let response = Client::to(&balancer).send("GET /\"x HTTP/1.0\r\nHost: h\r\n\r\n").response();
    let found = lines(&path, 2);
    assert_eq!(parts(&found[1]).1, response.status);
    let bad = Client::to(&balancer).send("GET / HTTP/1.1\r\nHost: h\r\nHost: h\r\n\r\n").response();
    assert_eq!(bad.status, 400);
    check(&lines(&path, 3)[2], "GET / HTTP/1.1", 400, "-", "bad_host");

    let old = path.with_extension("old");
    fs::rename(&path, &old).unwrap();
    balancer.signal(Signal::USR1);
    until("the file is there again", || path.exists());
    assert_eq!(Client::to(&balancer).send(GET).response().status, 200);
    check(&lines(&path, 1)[0], "GET /a?b=c HTTP/1.1", 200, "a", "-");
    assert_eq!(lines(&old, 3)[..2], found, "the old file stays as it was");

    balancer.signal(Signal::TERM);
    assert_eq!(balancer.wait().code(), Some(0), "the signal to rotate stops nothing, this one does");
}

#[test]
fn a_request_without_a_server_has_its_reason_and_its_id() {
    let mut balancer = Evenkeel::start(json!({ "log": { "access": "access.log" } }));
    let response = Client::to(&balancer).send(GET).response();
    assert_eq!(response.status, 503);
    // The last lines are written before the end.
    balancer.signal(Signal::TERM);
    assert_eq!(balancer.wait().code(), Some(0));
    let line = &lines(&balancer.folder().join("access.log"), 1)[0];
    check(line, "GET /a?b=c HTTP/1.1", 503, "-", "no_server");
    let id = line.split_whitespace().rev().nth(1).unwrap().to_owned();
    assert!(response.text().contains(&id), "{id} is not in {}", response.text());
}

/// The id of a line.
fn id(line: &str) -> &str {
    line.split_whitespace().rev().nth(1).unwrap()
}

#[test]
fn a_request_has_one_id_at_the_server_in_the_log_and_in_a_rejection() {
    let origin = Origin::responds("fine");
    let config = json!({
        "log": { "access": "access.log" },
        "load_balancer": { "trusted_proxies": ["127.0.0.1"], "via": "edge" }
    });
    let balancer = Evenkeel::before(&[&origin], config);
    let path = balancer.folder().join("access.log");
    let ask = |fields: &str| Client::to(&balancer).send(format!("GET / HTTP/1.1\r\n{fields}\r\n")).response();
    let sent = |at: usize| origin.requests()[at].fields.one("X-Request-Id");

    assert_eq!(ask("Host: h\r\nX-Request-Id: me-1\r\n").status, 200);
    assert_eq!((id(&lines(&path, 1)[0]), sent(0).as_str()), ("me-1", "me-1"));
    assert_eq!(ask("Host: h\r\nX-Request-Id: not \"one\"\r\n").status, 200);
    assert_eq!(id(&lines(&path, 2)[1]), sent(1));
    assert_eq!(sent(1).len(), 32, "one that is not valid is replaced");
    assert_eq!(ask("Host: h\r\n").status, 200);
    assert_eq!(id(&lines(&path, 3)[2]), sent(2));
    assert_ne!(sent(1), sent(2));

    // A head that is rejected, and one that is understood: a loop.
    for (at, fields) in [(3, "Host: a b\r\nX-Request-Id: me-2\r\n"), (4, "Host: a b\r\n")] {
        let response = ask(fields);
        let line = &lines(&path, at + 1)[at];
        assert_eq!((response.status, response.fields.one("X-Request-Id").as_str()), (400, id(line)));
        assert!(response.text().contains(id(line)) && (at == 4 || id(line) == "me-2"), "{}", response.text());
    }
    let looped = "GET / HTTP/1.1\r\nHost: h\r\nVia: 1.1 edge\r\nX-Request-Id: me-3\r\nAccept: application/json\r\n\r\n";
    let response = Client::to(&balancer).send(looped).response();
    assert_eq!((response.status, response.fields.one("X-Request-Id").as_str()), (508, "me-3"));
    assert!(response.text().contains(r#""request_id":"me-3""#), "{}", response.text());
    assert_eq!(id(&lines(&path, 6)[5]), "me-3");
}

#[test]
fn a_rejected_request_is_logged_as_far_as_it_was_read() {
    let balancer = Evenkeel::start(json!({ "log": { "access": "access.log" } }));
    let path = balancer.folder().join("access.log");
    let fields: String = (0..150).map(|at| format!("X-{at}: y\r\n")).collect();
    let long = "x".repeat(9000);
    for (at, (request, line)) in [
        (format!("GET /cookies HTTP/1.1\r\nHost: h\r\n{fields}\r\n"), "GET /cookies HTTP/1.1"),
        (format!("GET /{long} HTTP/1.1\r\nHost: h\r\n\r\n"), &format!("GET /{}", &long[..1019])),
        ("GET /bad-host HTTP/1.1\r\nHost: a b\r\n\r\n".to_owned(), "GET /bad-host HTTP/1.1"),
        ("GET /\"forged\" 200 HTTP/1.1\r\n\r\n".to_owned(), r"GET /\x22forged\x22 200 HTTP/1.1"),
        ("\x15\x03\x01\x02\r\n\r\n".to_owned(), r"\x15\x03\x01\x02"),
    ]
    .iter()
    .enumerate()
    {
        let response = Client::to(&balancer).send(request).response();
        assert!(response.status >= 400 && response.status < 500, "{}", response.line);
        let found = lines(&path, at + 1);
        assert_eq!(found[at].split('"').nth(1), Some(*line), "{}", found[at]);
        assert_eq!(id(&found[at]), response.fields.one("X-Request-Id"));
    }
}

/// One whose head never comes to its end is rejected by another thread.
#[test]
fn a_head_without_an_end_is_logged_as_far_as_it_was_read() {
    let balancer =
        Evenkeel::start(json!({ "log": { "access": "access.log" }, "timeouts": { "client_head": "500ms" } }));
    let path = balancer.folder().join("access.log");
    // Again where the machine stood still between the connection and what was sent on it.
    until("a line says what was read", || {
        let mut client = Client::to(&balancer);
        let sent = client.try_send("GET /slow HTTP/1.1\r\nHost").is_ok();
        let Ok(response) = client.try_response() else { return false };
        assert_eq!((response.status, sent), (408, true));
        let id_of_it = response.fields.one("X-Request-Id");
        let mut line = None;
        until("it has a line", || {
            let text = fs::read_to_string(&path).unwrap_or_default();
            line = text
                .split_inclusive('\n')
                .find(|line| line.ends_with('\n') && id(line) == id_of_it)
                .map(str::to_owned);
            line.is_some()
        });
        line.unwrap().split('"').nth(1) == Some("GET /slow HTTP/1.1")
    });
}

#[test]
fn a_file_that_cannot_be_had_is_reported_at_the_start() {
    let started = Evenkeel::try_start(json!({ "log": { "access": "no/such/folder/access.log" } }));
    let Err((status, said)) = started else { panic!("it starts") };
    assert_eq!(status.code(), Some(1));
    assert!(said.contains("log.access") && said.contains("no/such/folder"), "{said}");
}

#[test]
fn the_signal_to_rotate_is_harmless_without_an_access_log() {
    let origin = Origin::responds("fine");
    let balancer = Evenkeel::before(&[&origin], json!({}));
    balancer.signal(Signal::USR1);
    assert_eq!(Client::to(&balancer).send(GET).response().status, 200);
}

/// The lines of a file in the form `json`.
#[track_caller]
fn objects(path: &Path, count: usize) -> Vec<Value> {
    lines(path, count).iter().map(|line| serde_json::from_str(line).expect(line)).collect()
}

#[test]
fn json_lines_have_types_phases_and_names() {
    let origin = Origin::responds("fine");
    let balancer = Evenkeel::before(
        &[&origin],
        json!({
            "log": { "access": "access.log", "access_format": "json" },
            "routes": [{ "name": "api", "path": "/api", "pool": "default" }],
            "load_balancer": { "trace_context": true },
        }),
    );
    let path = balancer.folder().join("access.log");
    let mut client = Client::to(&balancer);
    client.send("POST /api?q=\"1\" HTTP/1.1\r\nHost: h\r\nReferer: http://r/\r\nUser-Agent: me\r\nContent-Length: 5\r\n\r\nhello");
    assert_eq!(client.response().status, 200);
    let line = &objects(&path, 1)[0];
    for (key, expected) in [
        ("listener", json!("default")),
        ("method", json!("POST")),
        ("target", json!("/api?q=\"1\"")),
        ("host", json!("h")),
        ("protocol", json!("HTTP/1.1")),
        ("status", json!(200)),
        ("received_bytes", json!(5)),
        ("sent_bytes", json!(4)),
        ("route", json!("api")),
        ("pool", json!("default")),
        ("server", json!("a")),
        ("tries", json!(1)),
        ("reason", Value::Null),
        ("referer", json!("http://r/")),
        ("user_agent", json!("me")),
        ("queue_ms", Value::Null),
        ("tls_version", Value::Null),
        ("client", json!("127.0.0.1")),
    ] {
        assert_eq!(line[key], expected, "{key} of {line}");
    }
    let ms = |key: &str| line[key].as_f64().unwrap_or_else(|| panic!("{key} of {line}"));
    assert!(ms("connect_ms") <= ms("first_byte_ms") && ms("first_byte_ms") <= ms("total_ms"), "{line}");
    assert!(line["peer"].as_str().unwrap().starts_with("127.0.0.1:"), "{line}");
    let trace = line["trace_id"].as_str().unwrap();
    assert!(origin.requests()[0].fields.one("traceparent").contains(trace), "{line}");

    // A malformed head: what it was to be, and where it is at fault.
    let mut client = Client::to(&balancer);
    client.send("GET /bad HTTP/1.1\r\nHost: h\r\nBad header: x\r\n\r\n");
    let status = client.response().status;
    let line = &objects(&path, 2)[1];
    let found = ["method", "target", "reason"].map(|key| line[key].as_str().unwrap());
    assert_eq!((found, &line["status"]), (["GET", "/bad", "bad_header"], &json!(status)));
    assert_eq!(
        (&line["malformed_line"], &line["tries"], &line["server"]),
        (&json!(3), &json!(0), &Value::Null)
    );
}

#[test]
fn combined_lines_are_as_other_programs_write_them() {
    let origin = Origin::responds("fine");
    let config = json!({ "log": { "access": "access.log", "access_format": "combined" } });
    let balancer = Evenkeel::before(&[&origin], config);
    let mut client = Client::to(&balancer);
    client.send("GET /x HTTP/1.1\r\nHost: h\r\nReferer: http://r/\"\r\nUser-Agent: a\\b\r\n\r\n");
    assert_eq!(client.response().status, 200);
    let found = lines(&balancer.folder().join("access.log"), 1);
    let (begin, rest) = found[0].split_once("] ").unwrap();
    assert!(begin.starts_with("127.0.0.1 - - ["), "{begin}");
    // The body alone is counted, as there.
    assert_eq!(rest, r#""GET /x HTTP/1.1" 200 4 "http://r/\x22" "a\x5Cb""#);
}

#[test]
fn only_what_was_asked_for_has_a_line() {
    let origin = Origin::start(|visit| {
        while let Some(seen) = visit.request() {
            match seen.target() {
                "/missing" => visit.send("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"),
                _ => visit.response("fine"),
            }
        }
    });
    let template = json!({ "access": "access.log", "access_format": "{method} {target} {status}" });
    for (more, expected) in [
        (json!({ "access_sample": 0 }), vec!["GET /missing 404"]),
        (json!({ "access_errors_only": true }), vec!["GET /missing 404"]),
        (json!({ "access_slower_than": "1h" }), vec![]),
        (json!({}), vec!["GET /ok 200", "GET /missing 404"]),
    ] {
        let log = crate::support::balancer::with(template.clone(), more);
        let mut balancer = Evenkeel::before(&[&origin], json!({ "log": log }));
        let mut client = Client::to(&balancer);
        assert_eq!((client.get("/ok").status, client.get("/missing").status), (200, 404));
        drop(client);
        balancer.signal(Signal::TERM);
        assert_eq!(balancer.wait().code(), Some(0));
        assert_eq!(lines(&balancer.folder().join("access.log"), expected.len()), expected);
    }
}

#[test]
fn lines_go_to_syslog() {
    let (origin, folder) = (Origin::responds("fine"), tempfile::tempdir().unwrap());
    let socket = folder.path().join("log");
    let daemon = UnixDatagram::bind(&socket).unwrap();
    daemon.set_read_timeout(Some(crate::support::DEADLINE)).unwrap();
    let config = json!({ "log": { "access": format!("syslog:{}", socket.display()) } });
    let balancer = Evenkeel::before(&[&origin], config);
    assert_eq!(Client::to(&balancer).send(GET).response().status, 200);
    let mut bytes = [0; 2000];
    let count = daemon.recv(&mut bytes).unwrap();
    let message = String::from_utf8_lossy(&bytes[..count]).into_owned();
    let (head, line) = message.split_once(": ").unwrap();
    assert!(head.starts_with("<134>evenkeel[") && head.ends_with(']'), "{message}");
    check(line, "GET /a?b=c HTTP/1.1", 200, "a", "-");
}
