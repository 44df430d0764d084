//! Tests of the printed status.

use super::super::view::{FailOpen, Server, Tier};
use super::*;

fn status() -> Status {
    serde_json::from_value(serde_json::json!({
        "version": "0.1.0", "uptime_s": 3700, "draining": false,
        "instance": { "pid": 12, "config": "/etc/evenkeel/config.json", "listeners": ["0.0.0.0:8000"] },
        "threadpool": { "max": 50, "workers": 3, "in_flight": 2, "queue_capacity": 100 },
        "pools": [{ "name": "default", "algorithm": "dynamic", "servers": 3, "ready": 1, "in_flight": 2 },
                  { "name": "api", "algorithm": "round_robin" }],
        "servers": [
            { "name": "a", "pool": "default", "address": "127.0.0.1:9001", "state": "up", "mode": "ready",
              "weight": 5, "rate": 12.0, "share": 0.75, "in_flight": 2, "ewma_ms": 1.234,
              "last_check": { "type": "tcp", "at": "2026-07-01T08:00:09Z", "outcome": "connected", "took_ms": 0.25 },
              "last_failed_check": { "type": "tcp", "at": "2026-07-01T08:00:00Z", "outcome": "connection refused" } },
            { "name": "a-name-that-is-too-long", "pool": "default", "address": "backend.example.internal:8080",
              "state": "down", "mode": "ready", "weight": 1, "rate": 0.0,
              "reason": "3 probes failed in a row (connection refused) at http://backend.example.internal:8080/health" },
            { "name": "c\u{1b}[2J", "pool": "default", "address": "10.0.0.3:80", "state": "drain",
              "mode": "drain", "weight": 1, "backup": true, "rate": 4.0, "share": 0.25 }
        ],
        "totals": { "requests": 1234567, "responses": { "2xx": 1234000, "5xx": 567, "none": 0 },
                    "rejections": { "no_server": 7 }, "connections": { "open": 9 },
                    "request_ms": { "p50": 1.0, "p90": 8.5, "p99": 120.0 } }
    }))
    .unwrap()
}

#[test]
fn a_status_fits_into_80_columns_and_says_which_balancer_it_is() {
    let expected = "\
evenkeel 0.1.0, pid 12, up 1h 1m 40s
  configuration  /etc/evenkeel/config.json
  listens on     0.0.0.0:8000
  admin API      the socket /run/a.sock

requests  1,234,567  2xx 1,234,000  5xx 567  rejected or failed 7
now       16/s to servers
latency   p50 1.00 ms  p90 8.50 ms  p99 120 ms, since the start
workers   3 of 50  in flight 2  queue 0 of 100  waiting 0  connections 9

pool default  dynamic  1 of 3 take requests  in flight 2
    name            address               state      req/s share busy  latency
  ● a               127.0.0.1:9001        up            12  75 %    2  1.23 ms
    weight 5
    tcp probe: connected in 0.25 ms; failed 2026-07-01T08:00:00Z: connection re…
  ✕ a-name-…oo-long backend.ex…ernal:8080 down           0     -    0        -
    a-name-that-is-too-long
    backend.example.internal:8080
    3 probes failed in a row (connection refused) at http://backend.example.int…
  ◐ c\\u{1b}[2J      10.0.0.3:80           drain        4.0  25 %    0        -
    backup; drained by the operator

pool api  round_robin  0 of 0 take requests  in flight 0
  no servers";
    let text = report(&status(), "the socket /run/a.sock", false, Paint { has_colours: false });
    assert_eq!(text, expected);
    assert!(text.lines().all(|line| line.chars().count() <= WIDTH));
}

#[test]
fn long_names_and_many_listeners_stay_within_80_columns() {
    let mut status = status();
    status.instance.listeners = (0..9).map(|at| format!("[2001:db8::{at}]:65535")).collect();
    (status.pools[0].name, status.pools[0].waiting) = ("p".repeat(64), 12);
    status.pools[0].queue_capacity = 1000;
    status.servers.iter_mut().for_each(|server| server.pool = "p".repeat(64));
    status.servers[0].address = "[2001:db8:1234:5678:9abc:def0:1234:5678]:65535".to_owned();
    let text = report(&status, "x", false, Paint { has_colours: false });
    let pool = format!("pool {}", "p".repeat(64));
    for expected in [
        "  listens on     [2001:db8::0]:65535, [2001:db8::1]:65535, [2001:db8::2]:65535,",
        "                 [2001:db8::3]:65535, [2001:db8::4]:65535, [2001:db8::5]:65535,",
        pool.as_str(),
        "  dynamic  1 of 3 take requests  in flight 2  waiting 12 of 1,000",
        "  ● a               [2001:db8:…678]:65535 up            12  75 %    2  1.23 ms",
        "    [2001:db8:1234:5678:9abc:def0:1234:5678]:65535",
    ] {
        assert!(text.lines().any(|line| line == expected), "{expected}\n{text}");
    }
    assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
}

#[test]
fn a_rejected_reload_is_shown_with_its_fault() {
    let mut status = status();
    let message = "config.json:6:34: servers.queue_capacity: expected a number, found \"many\"";
    let reload = |result: &str| Reload {
        at: "2026-11-27T20:56:33Z".to_owned(),
        result: result.to_owned(),
        message: message.to_owned(),
    };
    let shown = |status: &Status| report(status, "x", false, Paint { has_colours: false });
    status.config.last_reload = Some(reload("applied"));
    assert!(!shown(&status).contains("reload"));
    status.config.last_reload = Some(reload("failed"));
    let text = shown(&status);
    for expected in [
        "evenkeel 0.1.0, pid 12, up 1h 1m 40s, last reload rejected",
        "                 the reload at 2026-11-27T20:56:33Z was rejected:",
        "                 config.json:6:34: servers.queue_capacity: expected a number, f…",
    ] {
        assert!(text.lines().any(|line| line == expected), "{expected}\n{text}");
    }
    assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
}

#[test]
fn a_pool_that_fails_open_and_its_servers_are_marked() {
    let mut status = status();
    status.pools[0].fail_open = Some(FailOpen { used: 1 });
    status.servers[1].fail_open = true;
    let text = report(&status, "x", false, Paint { has_colours: false });
    for expected in [
        "pool default  dynamic  1 of 3 take requests, 1 of them not up  in flight 2",
        "    gets requests all the same; 3 probes failed in a row (connection refused) a…",
    ] {
        assert!(text.lines().any(|line| line == expected), "{expected}\n{text}");
    }
}

#[test]
fn tiers_have_a_line_each_and_a_server_says_where_it_belongs() {
    let mut status = status();
    let tier = |name: &str, ready, share| Tier { name: name.to_owned(), servers: 12, ready, share };
    status.pools[0].tiers =
        vec![tier("priority 0, own zone", 3, 0.3125), tier("priority 0, other zones", 12, 0.6875)];
    status.servers[0].member_of = Some("web".to_owned());
    status.servers[0].zone = Some("eu-west-1a".to_owned());
    status.servers[0].priority = 2;
    let text = report(&status, "x", false, Paint { has_colours: false });
    for expected in [
        "  tier priority 0, own zone      3 of 12 can take requests, gets 31 %",
        "  tier priority 0, other zones   12 of 12 can take requests, gets 69 %",
        "    member of web; priority 2; zone eu-west-1a; weight 5",
    ] {
        assert!(text.lines().any(|line| line == expected), "{expected}\n{text}");
    }
    assert!(text.lines().all(|line| line.chars().count() <= WIDTH));
}

#[test]
fn a_balancer_without_a_file_names_none() {
    let with = Instance::of(Path::new("/etc/evenkeel/config.json"));
    assert_eq!(configuration(&with), "/etc/evenkeel/config.json");
    let without = Instance { without_file: true, ..with };
    assert_eq!(configuration(&without), "no file; started in /etc/evenkeel");
}

#[test]
fn colours_change_nothing_but_colours() {
    let coloured = report(&status(), "x", false, Paint { has_colours: true });
    assert!(coloured.contains("\x1b[1;31m✕\x1b[0m") && coloured.contains("\x1b[32mup      \x1b[0m"));
    let mut without = coloured.clone();
    for code in ["0", "1", "2", "32", "33", "34", "1;31"] {
        without = without.replace(&format!("\x1b[{code}m"), "");
    }
    assert_eq!(without, report(&status(), "x", false, Paint { has_colours: false }));
}

#[test]
fn many_servers_have_a_line_each_and_those_that_are_not_up_come_first() {
    let mut status = status();
    let one = serde_json::json!({
        "name": "web-eu-west-1a-017.example", "pool": "default", "address": "10.0.0.17:8080", "state": "up",
        "mode": "ready", "weight": 3, "rate": 1.0, "share": 0.01, "in_flight": 1, "ewma_ms": 1.0,
        "last_check": { "type": "tcp", "at": "2026-07-01T08:00:09Z", "outcome": "connected", "took_ms": 0.25 }
    });
    status.servers.extend((0..18).map(|_| serde_json::from_value::<Server>(one.clone()).unwrap()));
    let shown = |details| report(&status, "x", details, Paint { has_colours: false });
    let text = shown(false);
    let servers: Vec<&str> =
        text.split("req/s share busy  latency\n").nth(1).unwrap().lines().take(6).collect();
    let expected = [
        "  ✕ a-name-that-is-too-long               down           0     -    0        -",
        "    3 probes failed in a row (connection refused) at http://backend.example.int…",
        "  ◐ c\\u{1b}[2J      10.0.0.3:80           drain        4.0  25 %    0        -",
        "    drained by the operator",
        "  ● a               127.0.0.1:9001        up            12  75 %    2  1.23 ms",
        "  ● web-eu-west-1a-017.example            up           1.0   1 %    1  1.00 ms",
    ];
    assert_eq!(servers, expected);
    assert!(text.ends_with("\n\n--details has all about each server, in the order of the file"));
    assert_eq!(text.lines().filter(|line| line.starts_with("  ● web")).count(), 18);
    assert!(!text.contains("weight 3") && text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
    assert_eq!(shown(true).matches("    weight 3\n").count(), 18);
}
