//! Spans of requests, as a collector of the test's own receives them.

use crate::support::balancer::{ADMIN, with};
use crate::support::{Client, Evenkeel, Origin, until};
use rustix::process::Signal;
use serde_json::{Value, json};

const CALLER: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7";

/// Takes whatever is exported.
fn collector() -> Origin {
    Origin::start(|visit| {
        while visit.request().is_some() {
            visit.send("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}");
        }
    })
}

fn start(origin: &Origin, collector: &Origin, more: Value) -> Evenkeel {
    let config = json!({
        "tracing": { "endpoint": format!("http://{}", collector.address()), "headers": { "X-Token": "secret" } },
        "routes": [
            { "name": "api", "path": "/api/*", "pool": "default" },
            { "name": "gone", "path": "/gone", "respond": { "status": 410 } },
        ],
        "admin": { "socket": ADMIN },
    });
    Evenkeel::before(&[origin], with(config, more))
}

/// The spans so far.
fn spans(collector: &Origin) -> Vec<Value> {
    let requests = collector.requests();
    let exports = requests.iter().map(|seen| serde_json::from_slice::<Value>(&seen.body).expect("JSON"));
    exports
        .flat_map(|export| export["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().unwrap().clone())
        .collect()
}

/// The spans, once there are so many.
#[track_caller]
fn wait_for(collector: &Origin, count: usize) -> Vec<Value> {
    until(&format!("{count} spans are there"), || spans(collector).len() >= count);
    let found = spans(collector);
    assert_eq!(found.len(), count, "{found:#?}");
    found
}

/// An attribute, as the value of its type.
fn attribute(span: &Value, key: &str) -> Value {
    let all = span["attributes"].as_array().unwrap();
    let found = all.iter().find(|attribute| attribute["key"] == key).map(|attribute| &attribute["value"]);
    let value = |value: &Value| match value.as_object().unwrap().iter().next().unwrap() {
        (kind, value) if kind == "intValue" => json!(value.as_str().unwrap().parse::<u64>().unwrap()),
        (_, value) => value.clone(),
    };
    found.map_or(Value::Null, value)
}

#[test]
fn a_request_is_a_span_with_its_phases_and_the_server_is_its_child() {
    let (origin, collector) = (Origin::responds("fine"), collector());
    let balancer = start(&origin, &collector, json!({}));
    let mut client = Client::to(&balancer);
    client.send(format!("POST /api/x?q=1 HTTP/1.1\r\nHost: h.test:81\r\nUser-Agent: me\r\nContent-Length: 5\r\ntraceparent: {CALLER}-01\r\ntracestate: a=b\r\n\r\nhello"));
    assert_eq!(client.response().status, 200);
    let span = &wait_for(&collector, 1)[0];
    assert_eq!((&span["traceId"], &span["parentSpanId"]), (&json!(CALLER[3..35]), &json!(CALLER[36..])));
    assert_eq!(
        (&span["kind"], &span["name"], &span["status"]),
        (&json!(2), &json!("POST api"), &Value::Null)
    );
    for (key, expected) in [
        ("http.request.method", json!("POST")),
        ("url.path", json!("/api/x")),
        ("url.query", json!("q=1")),
        ("url.scheme", json!("http")),
        ("http.response.status_code", json!(200)),
        ("server.address", json!("h.test")),
        ("server.port", json!(81)),
        ("network.peer.address", json!("127.0.0.1")),
        ("client.address", json!("127.0.0.1")),
        ("network.protocol.version", json!("1.1")),
        ("user_agent.original", json!("me")),
        ("http.request.body.size", json!(5)),
        ("http.response.body.size", json!(4)),
        ("evenkeel.route", json!("api")),
        ("evenkeel.pool", json!("default")),
        ("evenkeel.server", json!("a")),
        ("evenkeel.listener", json!("default")),
        ("evenkeel.tries", json!(1)),
        ("error.type", Value::Null),
    ] {
        assert_eq!(attribute(span, key), expected, "{key} of {span:#}");
    }
    let nanos = |at: &Value| at.as_str().unwrap().parse::<u64>().unwrap();
    let (start, end) = (nanos(&span["startTimeUnixNano"]), nanos(&span["endTimeUnixNano"]));
    let events: Vec<_> =
        span["events"].as_array().unwrap().iter().map(|event| nanos(&event["timeUnixNano"])).collect();
    assert!(
        events.len() == 2 && start <= events[0] && events[0] <= events[1] && events[1] <= end,
        "{span:#}"
    );
    // The server's parent is our span, and the rest of the context goes on.
    let seen = &origin.requests()[0].fields;
    let expected = format!("{}-{}-01", &CALLER[..35], span["spanId"].as_str().unwrap());
    assert_eq!((seen.one("traceparent"), seen.one("tracestate")), (expected, "a=b".to_owned()));
    // How it was exported.
    let export = &collector.requests()[0];
    assert_eq!((export.target(), export.fields.one("X-Token").as_str()), ("/v1/traces", "secret"));
    assert_eq!(export.fields.one("Content-Type"), "application/json");
    let body: Value = serde_json::from_slice(&export.body).unwrap();
    assert_eq!(body["resourceSpans"][0]["resource"]["attributes"][0]["value"]["stringValue"], "evenkeel");
    until("it is counted", || balancer.metric("evenkeel_spans_exported_total") == 1.0);
}

#[test]
fn failures_and_responses_of_our_own_are_spans_and_unsampled_requests_are_none() {
    let (origin, collector) = (Origin::start(|visit| _ = visit.request()), collector());
    let balancer = start(&origin, &collector, json!({ "retries": { "attempts": 0 } }));
    let ask = |path: &str, more: &str| {
        let mut client = Client::to(&balancer);
        client.send(format!("POST {path} HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n{more}\r\n"));
        client.response().status
    };
    assert_eq!(ask("/gone", &format!("traceparent: {CALLER}-00\r\n")), 410);
    assert_eq!((ask("/gone", ""), ask("/api/x", "")), (410, 502));
    let mut found = wait_for(&collector, 2);
    found.sort_by_key(|span| attribute(span, "http.response.status_code").as_u64());
    assert_eq!(attribute(&found[0], "evenkeel.route"), "gone");
    assert_eq!((&found[0]["parentSpanId"], &found[0]["status"]), (&Value::Null, &Value::Null));
    assert_eq!(
        (attribute(&found[1], "error.type"), &found[1]["status"]["code"]),
        (json!("server_reset"), &json!(2))
    );
    assert_ne!(found[0]["traceId"], found[1]["traceId"]);
    // What is not recorded says so to the server.
    let sent = origin.requests()[0].fields.one("traceparent");
    assert!(sent.contains(found[1]["traceId"].as_str().unwrap()) && sent.ends_with("-01"), "{sent}");
}

#[test]
fn without_a_share_nothing_is_recorded_and_the_context_says_so() {
    let (origin, collector) = (Origin::responds("fine"), collector());
    let balancer = start(&origin, &collector, json!({ "tracing": { "sample": 0 } }));
    assert_eq!(Client::to(&balancer).get("/").status, 200);
    assert!(origin.requests()[0].fields.one("traceparent").ends_with("-00"));
    // The next one is recorded because its client says so; it is the only one.
    let mut client = Client::to(&balancer);
    client.send(format!("GET / HTTP/1.1\r\nHost: h\r\ntraceparent: {CALLER}-01\r\n\r\n"));
    assert_eq!(client.response().status, 200);
    wait_for(&collector, 1);
}

#[test]
fn a_collector_that_rejects_costs_spans_and_nothing_else() {
    let (origin, rejects) =
        (Origin::responds("fine"), "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
    let collector = Origin::start(move |visit| while visit.request().is_some() && visit.try_send(rejects) {});
    let mut balancer = start(&origin, &collector, json!({}));
    assert_eq!(Client::to(&balancer).get("/").status, 200);
    until("it is lost", || balancer.metric("evenkeel_spans_dropped_total") == 1.0);
    balancer.logs("takes no spans");
    balancer.signal(Signal::TERM);
    assert_eq!(balancer.wait().code(), Some(0));
}

#[test]
fn a_collector_that_restarts_costs_no_spans() {
    let (origin, mut collector) = (Origin::responds("fine"), collector());
    let balancer = start(&origin, &collector, json!({}));
    collector.stop();
    assert_eq!(Client::to(&balancer).get("/").status, 200);
    collector.start_again();
    wait_for(&collector, 1);
    assert_eq!(balancer.metric("evenkeel_spans_dropped_total"), 0.0);
}

#[test]
fn a_collector_that_is_busy_is_asked_again() {
    let origin = Origin::responds("fine");
    let collector = Origin::start(|visit| {
        while visit.request().is_some() {
            visit.send("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n");
        }
    });
    let balancer = start(&origin, &collector, json!({}));
    assert_eq!(Client::to(&balancer).get("/").status, 200);
    until("it is sent again", || collector.count() >= 2);
    let exports = collector.requests();
    assert_eq!(exports[0].body, exports[1].body);
}

#[test]
fn a_stop_exports_the_rest() {
    let origin = Origin::responds("fine");
    // A stop waits for 2 s for the last spans, for which a busy machine may take longer: then again.
    until("all spans are exported", || {
        let collector = collector();
        let mut balancer = start(&origin, &collector, json!({}));
        let mut client = Client::to(&balancer);
        (0..1500).for_each(|_| assert_eq!(client.get("/").status, 200));
        drop(client);
        balancer.signal(Signal::TERM);
        assert_eq!(balancer.wait().code(), Some(0));
        let count = spans(&collector).len();
        assert!(count <= 1500, "{count}");
        count == 1500
    });
}

#[test]
fn a_reload_moves_spans_to_another_collector_and_ends_them() {
    let (origin, first, second) = (Origin::responds("fine"), collector(), collector());
    let balancer = start(&origin, &first, json!({}));
    let mut client = Client::to(&balancer);
    assert_eq!(client.get("/first").status, 200);
    let file = balancer.folder().join("config.json");
    let before = std::fs::read_to_string(&file).unwrap();
    let reload = |text: &str| {
        std::fs::write(&file, text).unwrap();
        let count = balancer.metric("evenkeel_config_reloads_total");
        balancer.signal(Signal::HUP);
        until("it is reloaded", || balancer.metric("evenkeel_config_reloads_total") > count);
    };
    reload(&before.replace(&first.address().to_string(), &second.address().to_string()));
    assert_eq!(client.get("/second").status, 200);
    let path = |span: &Value| attribute(span, "url.path");
    assert_eq!(wait_for(&second, 1).iter().map(path).collect::<Vec<_>>(), [json!("/second")]);
    assert_eq!(wait_for(&first, 1).iter().map(path).collect::<Vec<_>>(), [json!("/first")]);
    until("the thread of before has ended", || balancer.threads_named("traces") == 1);
    let mut none: Value = serde_json::from_str(&before).unwrap();
    none["tracing"] = Value::Null;
    reload(&none.to_string());
    assert_eq!(client.get("/third").status, 200);
    until("no thread exports", || balancer.threads_named("traces") == 0);
    assert_eq!((spans(&first).len(), spans(&second).len()), (1, 1));
}
