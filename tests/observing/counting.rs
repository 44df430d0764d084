//! The counters against what clients counted: requests, classes, reasons and bytes, each exactly; and what documents say
//! of them.

use crate::support::balancer::{list, unhurried, with};
use crate::support::faults::ok;
use crate::support::{Client, Evenkeel, Gate, Origin, becomes, until};
use evenkeel::loadtest::{Options, measure};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::thread;

/// What clients counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Count {
    /// Final responses by class, and requests without one.
    classes: BTreeMap<String, u64>,
    /// The balancer's own responses by reason.
    reasons: BTreeMap<String, u64>,
    bytes: u64,
}

impl Count {
    /// What one connection brought: responses whose bodies have no line of their own that looks like one.
    fn of(bytes: &[u8]) -> Self {
        let (text, mut count) = (String::from_utf8_lossy(bytes), Count::default());
        let starts = text.match_indices("HTTP/1.1 ").map(|(at, start)| &text[at + start.len()..]);
        for class in starts.filter(|rest| !rest.starts_with("103")).map(|rest| format!("{}xx", &rest[..1])) {
            *count.classes.entry(class).or_default() += 1;
        }
        for (at, before) in text.match_indices("\nreason: ") {
            let name = text[at + before.len()..].split(',').next().unwrap();
            *count.reasons.entry(name.to_owned()).or_default() += 1;
        }
        count.bytes = bytes.len() as u64;
        count
    }

    fn add(&mut self, other: Count) {
        other.classes.into_iter().for_each(|(class, count)| *self.classes.entry(class).or_default() += count);
        other.reasons.into_iter().for_each(|(name, count)| *self.reasons.entry(name).or_default() += count);
        self.bytes += other.bytes;
    }

    fn requests(&self) -> u64 {
        self.classes.values().sum()
    }

    /// What the balancer counted.
    fn by(balancer: &Evenkeel) -> Self {
        let labelled = |metric: &str| {
            let lines = balancer.metric_lines(&format!("{metric}{{"));
            let parts = lines.iter().map(|line| {
                let (name, count) = line.split_once(' ').unwrap();
                (name.split('"').nth(1).unwrap().to_owned(), count.parse::<u64>().unwrap())
            });
            parts.filter(|(_, count)| *count > 0).collect()
        };
        Count {
            classes: labelled("evenkeel_responses_total"),
            reasons: labelled("evenkeel_rejections_total"),
            bytes: balancer.metric("evenkeel_sent_bytes_total") as u64,
        }
    }
}

/// Sends all of it and reads to the end of the connection.
fn exchange(balancer: &Evenkeel, requests: impl AsRef<[u8]>) -> Count {
    let (bytes, end) = Client::to(balancer).send(requests).rest();
    assert!(end.is_ok(), "{}", String::from_utf8_lossy(&bytes));
    Count::of(&bytes)
}

fn get(target: &str, more: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: h\r\n{more}\r\n")
}

/// Responses as the target says; `/gate` waits.
fn origin(gate: &Gate) -> Origin {
    let gate = gate.clone();
    Origin::start(move |visit| {
        while let Some(seen) = visit.request() {
            match seen.target() {
                "/gate" => {
                    gate.wait();
                    visit.response("waited");
                }
                "/garbage" => return visit.send("garbage\r\n\r\n"),
                "/closes" => return,
                "/missing" => visit.send("HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\ngone"),
                "/moved" => visit.send("HTTP/1.1 301 Moved\r\nLocation: /\r\nContent-Length: 0\r\n\r\n"),
                "/hint" => {
                    visit.send(format!("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n{}", ok("hinted")))
                }
                "/chunked" => {
                    visit.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
                }
                "/long" => visit.response(vec![b'x'; 700_000]),
                "/head" => visit.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"),
                _ => visit.response("fine"),
            }
        }
    })
}

#[test]
fn requests_classes_reasons_and_bytes_are_what_clients_counted() {
    let gate = Gate::default();
    let origin = origin(&gate);
    let config = json!({
        "servers": { "list": list(&[&origin]), "max_in_flight": 1, "queue_capacity": 1 },
        "limits": { "body": "1KiB" },
        "log": { "access": "access.log" },
    });
    let balancer = Evenkeel::start(unhurried(1, config));
    let mut count = Count::default();
    let close = "Connection: close\r\n";
    let kept: String = ["/ok", "/missing", "/moved", "/hint", "/chunked", "/garbage", "/closes", "/long"]
        .map(|target| get(target, ""))
        .concat();
    let head = "HEAD /head HTTP/1.1\r\nHost: h\r\n\r\n";
    let big = "POST /ok HTTP/1.1\r\nHost: h\r\nContent-Length: 5000\r\n\r\n".to_owned();
    let many: String = (0..150).map(|at| format!("X-{at}: y\r\n")).collect();
    for requests in [
        kept + head + &get("/ok", close),
        get("/ok", close),
        get("/chunked", close),
        get("/long", close),
        "GET /ok HTTP/1.0\r\n\r\n".to_owned(),
        "OPTIONS * HTTP/1.1\r\nHost: h\r\nMax-Forwards: 0\r\nConnection: close\r\n\r\n".to_owned(),
        get("/ok", "Host: twice\r\n"),
        "no request\r\n\r\n".to_owned(),
        "HEAD / HTTP/1.1\r\nHost: a b\r\n\r\n".to_owned(),
        big,
        get("/ok", &many),
        get(&format!("/{}", "x".repeat(9000)), ""),
        "TRACE / HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(),
    ] {
        count.add(exchange(&balancer, requests));
    }
    let rejected =
        [("bad_request_line", 1), ("body_too_large", 1), ("too_many_headers", 1), ("uri_too_long", 1)];
    assert!(rejected.iter().all(|(name, times)| count.reasons.get(*name) == Some(times)), "{count:?}");
    // HEAD brought its reason without a body.
    *count.reasons.get_mut("bad_host").unwrap() += 1;

    // One is served, one waits in the queue, the others find no room.
    let waits = thread::scope(|scope| {
        let ask = || scope.spawn(|| exchange(&balancer, get("/gate", close)));
        let mut waits = vec![ask()];
        origin.until("the first is there", |record| {
            record.requests.iter().any(|seen| seen.target() == "/gate")
        });
        waits.extend((0..20).map(|_| ask()));
        let rejected = || balancer.metric("evenkeel_rejections_total{reason=\"queue_full\"}");
        until("the others are rejected", || rejected() >= 19.0);
        gate.open();
        waits.into_iter().map(|wait| wait.join().unwrap()).collect::<Vec<_>>()
    });
    waits.into_iter().for_each(|one| count.add(one));
    assert!(count.reasons["queue_full"] == 19 && count.classes["2xx"] > 10, "{count:?}");

    // One that leaves before its head is whole.
    Client::to(&balancer).send("GET / HT");
    count.classes.insert("none".to_owned(), 1);
    count.reasons.insert("client_gone".to_owned(), 1);

    balancer.metric_is("evenkeel_requests_total", count.requests() as f64);
    becomes("the count", &count, || Count::by(&balancer));
    logged(&balancer.folder().join("access.log"), &count);
}

/// The access log has a line for each response, with its bytes.
fn logged(path: &Path, count: &Count) {
    let responses = count.requests() - count.classes["none"];
    let read = || fs::read_to_string(path).unwrap();
    until("all lines are there", || read().matches('\n').count() as u64 >= responses);
    let (mut classes, mut bytes) = (BTreeMap::new(), 0);
    for line in read().lines() {
        let rest: Vec<_> = line.rsplit('"').next().unwrap().split_whitespace().collect();
        *classes.entry(format!("{}xx", &rest[0][..1])).or_default() += 1;
        bytes += rest[1].parse::<u64>().unwrap();
    }
    classes.insert("none".to_owned(), count.classes["none"]);
    assert_eq!((classes, bytes), (count.classes.clone(), count.bytes));
}

#[test]
fn a_client_that_leaves_during_its_request_is_counted_once() {
    let gate = Gate::default();
    let origin = origin(&gate);
    let balancer = Evenkeel::start(unhurried(2, json!({ "servers": { "list": list(&[&origin]) } })));
    let mut client = Client::to(&balancer);
    client.send(get("/gate", ""));
    origin.until("it is there", |record| record.requests.len() == 1);
    client.reset();
    until("it is counted", || balancer.metric("evenkeel_requests_total") > 0.0);
    gate.open();
    let expected = Count {
        classes: BTreeMap::from([("none".to_owned(), 1)]),
        reasons: BTreeMap::from([("client_gone".to_owned(), 1)]),
        bytes: 0,
    };
    becomes("the count", &expected, || Count::by(&balancer));
}

/// Every metric that the documents and the rules name is one that the balancer has.
#[test]
fn every_metric_that_is_documented_exists() {
    let origin = Origin::responds("fine");
    let config = json!({ "admin": { "socket": crate::support::balancer::ADMIN } });
    // With what some metrics are there for.
    let servers =
        json!({ "list": list(&[&origin]), "sticky": { "learn": "SESSION" }, "shadow": "random_two" });
    let balancer = Evenkeel::start(with(config, json!({ "servers": servers })));
    let page = balancer.metric_lines("");
    let families: Vec<&str> =
        page.iter().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut named = 0;
    let grafana: Value =
        serde_json::from_str(&fs::read_to_string(root.join("deploy/grafana.json")).unwrap()).unwrap();
    let queries = grafana["panels"].as_array().unwrap().iter().filter(|panel| panel["type"] != "row");
    assert!(
        queries.clone().count() > 20 && queries.clone().all(|panel| panel["targets"][0]["expr"].is_string())
    );
    for file in [
        "docs/operations.md",
        "docs/metrics.md",
        "deploy/alerts.yml",
        "deploy/alerts.test.yml",
        "deploy/grafana.json",
        "README.md",
    ] {
        let text = fs::read_to_string(root.join(file)).unwrap();
        for (at, _) in text.match_indices("evenkeel_") {
            let rest = &text[at..];
            let end =
                rest.find(|char: char| !char.is_ascii_alphanumeric() && char != '_').unwrap_or(rest.len());
            let name =
                rest[..end].trim_end_matches("_bucket").trim_end_matches("_count").trim_end_matches("_sum");
            assert!(families.contains(&name), "{file} names {name}, which there is not");
            named += 1;
        }
    }
    assert!(named > 40, "only {named} were found");
    let documents = fs::read_to_string(root.join("docs/metrics.md")).unwrap();
    let missing: Vec<_> = families.iter().filter(|name| !documents.contains(&format!("`{name}"))).collect();
    assert!(missing.is_empty(), "docs/metrics.md does not name {missing:?}");
}

/// The sum of the samples whose names begin so and whose labels have this; 0 where there are none.
fn sum(balancer: &Evenkeel, name: &str, label: &str) -> u64 {
    let lines = balancer.metric_lines(&format!("{name}{{"));
    let wanted = lines.iter().filter(|line| line.contains(label));
    wanted.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap() as u64).sum()
}

/// Client requests of all kinds, through two listeners; what each kind is counted as, by listener, route, pool and server.
#[test]
fn sums_by_listener_route_pool_and_server_agree_with_each_other_and_with_clients() {
    let gate = Gate::default();
    let (main, auth, mirrored) = (origin(&gate), Origin::responds("yes"), Origin::responds("copy"));
    let dead = crate::support::unused_port();
    let pool = |list: Value| json!({ "list": list, "health_check": { "enabled": false }, "load_report": { "enabled": false } });
    let one =
        |name: &str, origin: &Origin| json!([{ "name": name, "address": origin.address().to_string() }]);
    let balancer = Evenkeel::start(unhurried(
        2,
        json!({
            "load_balancer": { "listeners": [
                { "name": "second", "port": 0 },
                { "name": "plain", "port": 0, "redirect_to_https": 443 },
            ] },
            "servers": pool(one("a", &main)),
            "pools": {
                "auth": pool(one("auth", &auth)),
                "copies": pool(one("copy", &mirrored)),
                // One of two takes no connection: some requests are tried again.
                "retried": with(pool(json!([
                    { "name": "dead", "address": dead.address().to_string() },
                    { "name": "alive", "address": main.address().to_string() },
                ])), json!({ "algorithm": "round_robin" })),
            },
            "routes": [
                { "name": "moved", "path": "/old", "redirect": { "target": "/new" } },
                { "name": "fixed", "path": "/fixed", "respond": { "status": 418 } },
                { "name": "closed", "path": "/closed", "pool": "default", "deny": ["127.0.0.0/8"] },
                { "name": "asked", "path": "/asked", "pool": "default", "forward_auth": { "pool": "auth", "path": "/ok" } },
                { "name": "copied", "path": "/copied", "pool": "default", "mirror": { "pool": "copies" } },
                { "name": "retried", "path": "/retried", "pool": "retried" },
            ],
        }),
    ));
    let second = crate::support::tls::port_of(&balancer, "second");
    let plain = crate::support::tls::port_of(&balancer, "plain");
    // The load generator, through the first listener.
    let load = |path: &str, requests: u64| {
        let options = Options::new(&format!("http://{}{path}", balancer.address()));
        let options =
            Options { requests: Some(requests), connections: 4, method: "GET".to_owned(), ..options };
        let summary = measure(&options).unwrap();
        assert_eq!((summary.responses, summary.errors.total()), (requests, 0), "{path}");
        summary.statuses
    };
    let mut codes: BTreeMap<u16, u64> = BTreeMap::new();
    for (path, requests) in [
        ("/ok", 200),
        ("/missing", 50),
        ("/old", 30),
        ("/fixed", 40),
        ("/closed", 20),
        ("/asked", 60),
        ("/copied", 40),
        ("/retried", 20),
        ("/garbage", 5),
    ] {
        load(path, requests).into_iter().for_each(|(code, count)| *codes.entry(code).or_default() += count);
    }
    let mut first: u64 = codes.values().sum();
    // By hand: no request, one that is given up, and one that is reset while its server waits.
    for bad in ["no request\r\n\r\n", "GET / HTTP/1.1\r\nHost: a b\r\n\r\n"] {
        assert_eq!(exchange(&balancer, bad).classes["4xx"], 1);
        *codes.entry(400).or_default() += 1;
        first += 1;
    }
    Client::to(&balancer).send("GET / HT");
    let mut client = Client::to(&balancer);
    client.send(get("/gate", ""));
    main.until("it is there", |record| record.requests.iter().any(|seen| seen.target() == "/gate"));
    let in_flight = |listener: &str| sum(&balancer, "evenkeel_listener_requests_in_flight", listener);
    becomes("what is in flight", &(1, 0), || (in_flight("\"default\""), in_flight("\"second\"")));
    client.reset();
    first += 2;
    for _ in 0..7 {
        assert_eq!(Client::connect(second).unwrap().get("/ok").status, 200);
        assert_eq!(Client::connect(plain).unwrap().get("/ok").status, 301);
    }
    *codes.entry(200).or_default() += 7;
    *codes.entry(301).or_default() += 7;
    let all = first + 14;
    until("all are counted", || balancer.metric("evenkeel_requests_total") as u64 == all);
    gate.open();
    mirrored.until("the copies are there", |record| record.requests.len() == 40);

    let listeners = "evenkeel_listener_requests_total";
    // One counter of a request follows the other, so each is waited for.
    let is = |name: &str, label: &str, count: u64| {
        becomes(&format!("{name} with {label:?}"), &count, || sum(&balancer, name, label));
    };
    is(listeners, "", all);
    for (listener, count) in [("default", first), ("second", 7), ("plain", 7)] {
        is(listeners, &format!("listener=\"{listener}\""), count);
    }
    for (code, count) in &codes {
        is("evenkeel_listener_response_codes_total", &format!("code=\"{code}\""), *count);
    }
    is("evenkeel_listener_response_codes_total", "", codes.values().sum());
    is(listeners, "class=\"none\"", 2);
    for class in ["none", "1xx", "2xx", "3xx", "4xx", "5xx"] {
        let label = format!("class=\"{class}\"");
        is(listeners, &label, sum(&balancer, "evenkeel_responses_total", &label));
    }
    for (name, count) in
        [("moved", 30), ("fixed", 40), ("closed", 20), ("asked", 60), ("copied", 40), ("retried", 20)]
    {
        is("evenkeel_route_requests_total", &format!("route=\"{name}\""), count);
    }
    // What guards, redirects and fixed responses end goes to no pool; questions and copies are no requests of clients.
    let default = 200 + 50 + 60 + 40 + 5 + 1 + 7;
    for (name, count) in [("default", default), ("retried", 20), ("auth", 0), ("copies", 0)] {
        is("evenkeel_pool_requests_total", &format!("pool=\"{name}\""), count);
    }
    balancer.metric_is("evenkeel_mirrored_requests_total", 40.0);
    // Servers count what they responded: not the five responses that were none, nor the one whose client had left.
    for (name, count) in [("a", default - 5 - 1), ("auth", 60), ("copy", 40), ("alive", 20), ("dead", 0)] {
        is("evenkeel_server_responses_total", &format!("server=\"{name}\""), count);
    }
    until("its failure is counted", || sum(&balancer, "evenkeel_server_failures_total", "dead") >= 1);
    // Histograms and bytes have the same sums. One was never whole.
    is("evenkeel_listener_request_duration_seconds_count", "", all - 1);
    balancer.metric_is("evenkeel_request_duration_seconds_count", (all - 1) as f64);
    is("evenkeel_route_request_duration_seconds_count", "retried", 20);
    until("the bytes that were sent have one sum", || {
        sum(&balancer, "evenkeel_listener_sent_bytes_total", "") as f64
            == balancer.metric("evenkeel_sent_bytes_total")
    });
    for kind in ["listener", "route", "pool"] {
        is(&format!("evenkeel_{kind}_requests_in_flight"), "", 0);
    }
}

/// Whatever clients ask for, no host, path or method of theirs becomes a label.
#[test]
fn clients_cannot_make_new_samples() {
    let origin = Origin::start(|visit| {
        while let Some(seen) = visit.request() {
            let status = seen.target()[1..].to_owned();
            visit.send(format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n"));
        }
    });
    let balancer = Evenkeel::start(unhurried(2, json!({ "servers": { "list": list(&[&origin]) } })));
    let mut client = Client::to(&balancer);
    let ask = |client: &mut Client, number: u32| {
        let (method, status) = (format!("M{number}"), 200 + number % 3);
        client.send(format!("{method} /{status} HTTP/1.1\r\nHost: host-{number}.example\r\n\r\n"));
        assert_eq!(client.response().status, status as u16);
    };
    (0..3).for_each(|number| ask(&mut client, number));
    let samples = || balancer.metric_lines("evenkeel_").len();
    until("all are counted", || balancer.metric("evenkeel_requests_total") == 3.0);
    let before = samples();
    (3..100).for_each(|number| ask(&mut client, number));
    until("all are counted", || balancer.metric("evenkeel_requests_total") == 100.0);
    assert_eq!(samples(), before);
}
