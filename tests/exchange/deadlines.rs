//! Deadlines of requests: `timeouts.request` and `X-Request-Deadline`, what servers are told of them, and what happens when they
//! pass.

use crate::support::balancer::{ADMIN, list, with};
use crate::support::{Broken, Client, Evenkeel, Gate, Origin, Seen, becomes, until};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::fs;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

const HEADER: &str = "X-Request-Deadline";

fn settings(over: Value) -> Value {
    let base = json!({
        "load_balancer": { "load_balancer_port": 0, "bind": "127.0.0.1" },
        "admin": { "socket": ADMIN, "bind": null },
        "log": { "access": "access.log", "access_format": "json" },
        "servers": { "health_check": { "enabled": false }, "load_report": { "enabled": false } },
    });
    with(base, over)
}

fn before(origins: &[&Origin], over: Value) -> Evenkeel {
    Evenkeel::start(settings(with(json!({ "servers": { "list": list(origins) } }), over)))
}

fn get(path: &str, headers: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: h\r\n{headers}\r\n")
}

/// A GET that is worthless after so many milliseconds.
fn within(path: &str, ms: u32) -> String {
    get(path, &format!("{HEADER}: {ms}\r\n"))
}

/// What the server was told, in milliseconds.
fn told(seen: &Seen) -> Option<u32> {
    seen.fields.has(HEADER).then(|| seen.fields.one(HEADER).parse().unwrap())
}

#[track_caller]
fn check(client: &mut Client, request: &str, status: u16, reason: &str) {
    let response = client.send(request).response();
    assert_eq!((response.status, response.reason().as_str()), (status, reason));
}

fn lines(balancer: &Evenkeel) -> Vec<Value> {
    let text = fs::read_to_string(balancer.folder().join("access.log")).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

#[test]
fn a_server_is_told_how_much_time_is_left() {
    let origin = Origin::responds("x");
    let routes = json!([
        { "path": "/limited", "timeouts": { "request": "30s" } },
        { "path": "/free", "timeouts": { "request": null } },
    ]);
    let balancer = before(&[&origin], json!({ "routes": routes, "timeouts": { "request": "40s" } }));
    let mut client = Client::to(&balancer);
    let mut check = |path: &str, headers: &str, most: Option<u32>| {
        assert_eq!(client.send(get(path, headers)).response().status, 200);
        let told = told(origin.requests().last().unwrap());
        let is_expected = match (told, most) {
            (Some(told), Some(most)) => told <= most && told > most / 4,
            (told, most) => told == most,
        };
        assert!(is_expected, "{path} {headers:?}: {told:?}, not up to {most:?}");
    };
    // The sooner one counts: a client can ask for less than its route allows, not for more.
    check("/limited", "", Some(30_000));
    check("/limited", "X-Request-Deadline: 20000\r\n", Some(20_000));
    check("/limited", "X-Request-Deadline: 99999999\r\n", Some(30_000));
    check("/other", "", Some(40_000));
    check("/free", "", None);
    check("/free", "x-request-deadline: 50000\r\n", Some(50_000));
    check("/free", "X-Request-Deadline: 99999999\r\n", Some(99_999_999));
    // What is no number of milliseconds says nothing, to us and to the server.
    for nothing in ["soon", "1.5", "-1", "+5", "100000000", "1, 2", "5s", ""] {
        check("/free", &format!("X-Request-Deadline: {nothing}\r\n"), None);
    }
    check("/free", "X-Request-Deadline: 1\r\nX-Request-Deadline: 1\r\n", None);
}

#[test]
fn each_attempt_is_told_what_is_left_then() {
    let origin = || {
        Origin::start(|visit| {
            while let Some(seen) = visit.request() {
                // So that less is left for the next attempt.
                thread::park_timeout(Duration::from_millis(30));
                match seen.target() {
                    "/breaks" => return,
                    _ => visit.response("x"),
                }
            }
        })
    };
    let (a, b) = (origin(), origin());
    let balancer = before(&[&a, &b], json!({ "retries": { "attempts": 1, "budget_percent": 100 } }));
    let response = Client::to(&balancer).send(within("/breaks", 60_000)).response();
    assert_eq!((response.status, response.reason().as_str()), (502, "server_reset"));
    let all = || [a.requests(), b.requests()].concat();
    until("both were tried", || all().len() == 2);
    let mut told: Vec<_> = all().iter().map(|seen| told(seen).unwrap()).collect();
    told.sort_unstable();
    assert!(told[0] < told[1] && told[1] <= 60_000, "{told:?}");
}

#[test]
fn what_a_client_gives_up_on_is_504_and_no_failure_of_the_server() {
    let gate = Gate::default();
    let origin = Origin::waits_for(&gate, "late");
    let balancer = before(&[&origin], json!({}));
    let mut client = Client::to(&balancer);
    check(&mut client, &within("/never", 0), 504, "deadline_exceeded");
    let mut asked = 1;
    // A balancer that is not run for so long does not send it at all.
    while origin.count() == 0 {
        check(&mut client, &within("/", 100), 504, "deadline_exceeded");
        asked += 1;
    }
    gate.open();
    assert_eq!(client.get("/").text(), "late", "the connection of the client goes on");
    assert!(origin.requests().iter().all(|seen| seen.target() == "/"), "what has no time is not sent");
    balancer.metric_is("evenkeel_rejections_total{reason=\"deadline_exceeded\"}", f64::from(asked));
    balancer.metric_is("evenkeel_server_failures_total", 0.0);
    balancer.metric_is("evenkeel_server_in_flight", 0.0);
    until("all lines are there", || lines(&balancer).len() == asked as usize + 1);
    let logged: Vec<_> = lines(&balancer).into_iter().map(|line| line["deadline_ms"].clone()).collect();
    assert_eq!((&logged[..2], logged.last()), (&[json!(0.0), json!(100.0)][..], Some(&Value::Null)));
}

#[test]
fn a_server_that_takes_all_the_time_of_a_route_has_failed() {
    let gate = Gate::default();
    let origin = Origin::waits_for(&gate, "late");
    let routes = json!([{ "path": "/slow", "timeouts": { "request": "100ms" } }]);
    let balancer = before(&[&origin], json!({ "routes": routes }));
    let mut client = Client::to(&balancer);
    // A balancer that is not run for so long sends it too late for the server to be at fault.
    until("the server has failed", || {
        check(&mut client, &get("/slow", ""), 504, "deadline_exceeded");
        balancer.metric("evenkeel_server_failures_total") >= 1.0
    });
    gate.open();
    assert_eq!(Client::to(&balancer).get("/").text(), "late");
}

#[test]
fn a_response_that_has_begun_is_cut_at_the_deadline() {
    let gate = Gate::default();
    let opens = gate.clone();
    let origin = Origin::start(move |visit| {
        while visit.request().is_some() {
            visit.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf");
            gate.wait();
        }
    });
    let balancer = before(&[&origin], json!({}));
    let mut client = Client::to(&balancer);
    // On a slow machine it may be over before the head is there.
    let (head, status) = loop {
        let (head, status) = client.send(within("/", 1_000)).head();
        match status {
            504 => _ = client.body_of("GET", head, status).unwrap(),
            _ => break (head, status),
        }
    };
    assert_eq!(status, 200);
    assert!(matches!(client.body_of("GET", head, status), Err(Broken::Cut(_) | Broken::Reset(_))));
    until("the line is there", || lines(&balancer).iter().any(|line| line["reason"] == "deadline_exceeded"));
    opens.open();
}

#[test]
fn what_waits_for_a_server_until_its_deadline_is_503_and_was_sent_nowhere() {
    let gate = Gate::default();
    let origin = Origin::waits_for(&gate, "x");
    let balancer = before(&[&origin], json!({ "servers": { "max_in_flight": 1 } }));
    let mut first = Client::to(&balancer);
    first.send(get("/first", ""));
    origin.until("the first is there", |seen| seen.requests.len() == 1);
    let mut second = Client::to(&balancer);
    let response = second.send(within("/second", 400)).response();
    assert_eq!((response.status, response.reason().as_str()), (503, "queue_deadline"));
    assert!(response.fields.has("Retry-After"));
    balancer.metric_is("evenkeel_requests_waiting", 0.0);
    gate.open();
    assert_eq!(first.response().text(), "x");
    assert_eq!(second.get("/again").text(), "x", "the connection of the client goes on");
    let targets: Vec<_> = origin.requests().iter().map(|seen| seen.target().to_owned()).collect();
    assert_eq!(targets, ["/first", "/again"]);
}

/// A second attempt beside the first gets no more time, and both end with the request.
#[test]
fn both_of_two_attempts_at_once_end_at_the_deadline() {
    let gate = Gate::default();
    let (a, b) = (Origin::waits_for(&gate, "a"), Origin::waits_for(&gate, "b"));
    let hedge = json!({ "servers": { "hedge": { "after": "1ms", "budget": "100%" } } });
    let balancer = before(&[&a, &b], hedge);
    let mut client = Client::to(&balancer);
    until("there was a second attempt", || {
        check(&mut client, &within("/", 500), 504, "deadline_exceeded");
        balancer.metric("evenkeel_hedges_total") >= 1.0
    });
    balancer.metric_is("evenkeel_server_in_flight", 0.0);
    let told: Vec<_> = [a.requests(), b.requests()].concat().iter().map(|seen| told(seen).unwrap()).collect();
    assert!(told.iter().all(|told| (1..=500).contains(told)), "{told:?}");
    gate.open();
}

/// The time that a body takes counts, too.
#[test]
fn an_upload_that_takes_too_long_is_504() {
    let origin = Origin::responds("x");
    let balancer = before(&[&origin], json!({ "timeouts": { "request": "100ms" } }));
    let mut client = Client::to(&balancer);
    let request = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nhalf";
    check(&mut client, request, 504, "deadline_exceeded");
    client.sees_the_end();
}

/// A pool has times of its own, before those of all, and a route before those of its pool.
#[test]
fn a_pool_has_times_of_its_own() {
    let silent = Origin::stalls();
    let pool = |timeouts: Value| json!({ "list": list(&[&silent]), "timeouts": timeouts });
    let (short, long) = (json!({ "response": "100ms" }), json!({ "response": "5m", "request": null }));
    let routed =
        |path: &str, pool: &str, timeouts: Value| json!({ "path": path, "pool": pool, "timeouts": timeouts });
    let config = json!({
        "timeouts": { "response": "5m", "request": "5m" },
        "pools": {
            "short": pool(short.clone()), "long": pool(long.clone()), "whole": pool(json!({ "request": "100ms" })),
        },
        "routes": [
            routed("/pool", "short", json!({})),
            routed("/route", "long", short),
            routed("/whole", "whole", json!({})),
            routed("/own", "short", long),
            routed("/long", "long", json!({})),
        ],
    });
    let balancer = Evenkeel::start(with(settings(json!({})), config.clone()));
    check(&mut Client::to(&balancer), &get("/pool", ""), 504, "server_timeout");
    check(&mut Client::to(&balancer), &get("/route", ""), 504, "server_timeout");
    check(&mut Client::to(&balancer), &get("/whole", ""), 504, "deadline_exceeded");
    // The route's time is not over while those of the others are.
    let mut patient = Client::to(&balancer);
    patient.send(get("/own", ""));
    check(&mut Client::to(&balancer), &get("/pool", ""), 504, "server_timeout");
    assert!(patient.is_quiet());
    let reloaded = with(config, json!({ "pools": { "long": { "timeouts": { "request": "100ms" } } } }));
    fs::write(balancer.folder().join("config.json"), with(settings(json!({})), reloaded).to_string())
        .unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_evenkeel"));
    let said = command.arg("reload").current_dir(balancer.folder()).output().unwrap();
    let said = String::from_utf8_lossy(&said.stdout);
    assert!(said.contains("pools.long.timeouts.request: null -> 100ms"), "{said}");
    check(&mut Client::to(&balancer), &get("/long", ""), 504, "deadline_exceeded");
}

#[test]
fn a_reload_takes_the_time_over() {
    let gate = Gate::default();
    let origin = Origin::waits_for(&gate, "x");
    let servers = json!({ "servers": { "list": list(&[&origin]) } });
    let balancer = Evenkeel::start(settings(servers.clone()));
    let limited = settings(with(servers, json!({ "timeouts": { "request": "100ms" } })));
    fs::write(balancer.folder().join("config.json"), limited.to_string()).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_evenkeel"))
        .arg("reload")
        .current_dir(balancer.folder())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("timeouts.request: default -> 100ms"), "{text}");
    check(&mut Client::to(&balancer), &get("/", ""), 504, "deadline_exceeded");
    becomes("in flight", &0.0, || balancer.metric("evenkeel_server_in_flight"));
    gate.open();
}

/// A signal ends a wait without events, and deadlines are over then: a container that was paused, a virtual machine that moved.
#[test]
fn what_came_while_the_process_was_stopped_is_served() {
    // Again where the machine stood still for so long that its times were over before the stop.
    until("it was stopped in time, and what came meanwhile is served", || {
        after_a_stop().is_some_and(|statuses| {
            assert_eq!(statuses, [200, 200]);
            true
        })
    });
}

/// What two clients get of which one sends a request while the process is stopped, and one a response is sent to; `None` where they
/// could have waited for too long before.
fn after_a_stop() -> Option<[u16; 2]> {
    let (gate, sent, limit) = (Gate::default(), Gate::default(), Duration::from_millis(200));
    let (gated, has_sent, times) =
        (gate.clone(), sent.clone(), json!({ "keep_alive": "200ms", "response": "200ms" }));
    let origin = Origin::start(move |visit| {
        while let Some(seen) = visit.request() {
            let is_gated = seen.target() == "/gated";
            if is_gated {
                gated.wait();
            }
            visit.response("ok");
            if is_gated {
                has_sent.open();
            }
        }
    });
    let balancer = before(&[&origin], json!({ "timeouts": times }));
    let (mut idle, mut waiting) = (Client::to(&balancer), Client::to(&balancer));
    let begun = Instant::now();
    if idle.get("/").status != 200 {
        return None;
    }
    waiting.send(get("/gated", ""));
    origin.until("both have come", |seen| seen.requests.len() == 2);
    balancer.signal(Signal::STOP);
    let threads = format!("/proc/{}/task", balancer.pid());
    until("all threads have stopped", || {
        fs::read_dir(&threads).unwrap().all(|thread| {
            let status = fs::read_to_string(thread.unwrap().path().join("stat"));
            status.is_ok_and(|status| status.contains(") T "))
        })
    });
    let is_in_time = begun.elapsed() < limit;
    let asked = idle.try_send(get("/", ""));
    gate.open();
    sent.wait();
    thread::sleep(limit * 2);
    balancer.signal(Signal::CONT);
    (is_in_time && asked.is_ok()).then(|| [waiting.response().status, idle.response().status])
}
