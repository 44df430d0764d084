//! What is read: pages, the status, decisions, the last minutes, the dashboard, the metrics.

use super::*;

#[test]
fn the_plain_pages_response() {
    let fixture = Fixture::new();
    let index = fixture.get("/");
    assert!(index.status == 200 && index.body.contains("/api/v1/servers/{name}"), "{index:?}");
    assert_eq!(index.fields["server"], "evenkeel");
    assert_eq!(fixture.get("/live?verbose").body, "live\n");
    assert_eq!(fixture.get("/ready").status, 200);
    fixture.proxy.draining.store(true, Ordering::SeqCst);
    assert_eq!((fixture.get("/ready").status, fixture.get("/live").status), (503, 200));
    let head = fixture.call("HEAD /metrics", &[], "");
    assert!(head.status == 200 && head.fields["content-length"].parse::<usize>().unwrap() > 1000);
}

#[test]
fn each_route_has_its_counts() {
    let fixture = Fixture::of(
        r#"{"routes":[{"name":"api","path":"/api/*"},{"name":"old","path":"/old","redirect":{"target":"/new"}},
            {"name":"try","path":"/try","split":{"pools":{"default":90,"beta":10}}},{"name":"ok","path":"/ok","respond":{}}],
            "pools":{"beta":{}}}"#,
    );
    let live = fixture.table.live();
    let api = &live.routes.list()[0].traffic;
    api.begins(0);
    api.begins(0);
    api.ends(0, &Ended { status: Some(503), reason: Some(Reason::NoServer), sent: 7, ..Ended::default() });
    let routes = fixture.get("/api/v1/routes").json()["routes"].clone();
    let shown = |at: usize| json!(["name", "action", "pools"].map(|key| routes[at][key].clone()));
    assert_eq!(shown(0), json!(["api", "pool", ["default"]]));
    assert_eq!(shown(1), json!(["old", "redirect", []]));
    assert_eq!(shown(2), json!(["try", "split", ["default", "beta"]]));
    assert_eq!(shown(3), json!(["ok", "respond", []]));
    let counted = ["requests", "in_flight", "rejections", "bytes"].map(|key| routes[0][key].clone());
    assert_eq!(json!(counted), json!([2, 1, {"no_server": 1}, {"in": 0, "out": 7}]));
    assert_eq!(routes[0]["responses"]["5xx"], 1);
}

#[test]
fn the_status_tells_everything() {
    let fixture = Fixture::new();
    let a = fixture.table.find("a").unwrap();
    a.lease(time::now()).unwrap().responded(true, Duration::from_millis(5), time::now());
    a.reports(4.0, time::now());
    a.checked(Check {
        kind: "http",
        unix_seconds: 1_700_000_000,
        took: Duration::from_micros(1500),
        outcome: "200".into(),
        passed: true,
    });
    fixture.proxy.gauges.count_in();
    let shard = fixture.stats.shard(0);
    shard.count(Counter::Requests);
    shard.count(Counter::Responses5xx);
    shard.reject(Reason::NoServer);
    shard.duration.record(Duration::from_millis(10));
    let status = fixture.get("/api/v1/status").json();
    let mut keys: Vec<_> = status.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    assert_eq!(
        keys,
        [
            "algorithm",
            "config",
            "draining",
            "instance",
            "listeners",
            "names",
            "pools",
            "servers",
            "threadpool",
            "totals",
            "uptime_s",
            "version"
        ]
    );
    let pool = serde_json::json!({ "min": 1, "max": 50, "workers": 1, "in_flight": 1, "queued": 3,
        "queue_capacity": 100, "waiting": 4, "started": 1, "stopped": 0 });
    assert_eq!(status["threadpool"], pool);
    let server = &status["servers"][0];
    assert!((4.0..=5.0).contains(&server["ewma_ms"].as_f64().unwrap()), "{server}");
    assert_eq!(server["reported_queue"], 4.0);
    let check = serde_json::json!({ "type": "http", "at": "2023-11-14T22:13:20Z", "took_ms": 1.5, "outcome": "200", "passed": true });
    assert_eq!(server["last_check"], check);
    assert_eq!((&server["last_failed_check"], &server["checks"]["passed"]), (&Value::Null, &Value::from(1)));
    assert_eq!(status["servers"][1]["last_check"], Value::Null);
    let totals = &status["totals"];
    assert_eq!((&totals["requests"], &totals["responses"]["5xx"]), (&1.into(), &1.into()));
    assert_eq!(totals["rejections"], serde_json::json!({ "no_server": 1 }));
    assert_eq!((&totals["connections"]["open"], &totals["connections"]["tunnels"]), (&7.into(), &2.into()));
    assert!((10.0..12.0).contains(&totals["request_ms"]["p99"].as_f64().unwrap()), "{totals}");
}

/// A decision for this request of the default pool, which went to the server.
fn decision(request_id: &str, server: &str) -> Decision {
    let seen = Candidate {
        cost: 12_100.0,
        latency: Some(Reading { typical_us: 11_000.0, load: 2.0, samples: 15.0 }),
        ..Candidate::new(Slot(0), Weight(1), 0)
    };
    let picked = Picked { server: server.into(), why: Why::Least, among: 1, is_reserve: false };
    let ejected = Exclusion::Ejected { left: Duration::from_secs(12), detail: Some("5xx".into()) };
    Decision {
        number: 0,
        unix_ms: 1_700_000_000_000,
        request_id: request_id.into(),
        request: "GET /".into(),
        pool: "default".into(),
        route: None,
        attempt: 1,
        after_status: None,
        waited: Duration::ZERO,
        is_asked: request_id == "asked",
        outcome: decisions::Outcome::Sent,
        note: Note {
            candidates: vec![Considered { id: ServerId(0), server: server.into(), seen }],
            excluded: vec![Excluded { server: "c".into(), why: ejected }],
            picked: Some(picked),
            ..Note::of(Algorithm::Dynamic)
        },
    }
}

#[test]
fn decisions_are_found_by_pool_server_and_request() {
    let fixture = Fixture::new();
    for (id, server) in [("x", "a"), ("y", "b"), ("asked", "a")] {
        fixture.stats.decisions.keep(decision(id, server));
    }
    let check = |query: &str, expected: &[&str]| {
        let found = fixture.get(&format!("/api/v1/decisions{query}")).json();
        let ids =
            found["decisions"].as_array().unwrap().iter().map(|one| one["request_id"].as_str().unwrap());
        assert_eq!(ids.collect::<Vec<_>>(), expected, "{query}");
        assert_eq!(found["next"], 3);
    };
    check("", &["x", "y", "asked"]);
    check("?server=a", &["x", "asked"]);
    check("?request_id=%78", &["x"]);
    check("?pool=default&request_id=none", &[]);
    check("?limit=1", &["asked"]);
    check("?since=1&server=b", &["y"]);
    check("?asked=true", &["asked"]);
    fixture.get("/api/v1/decisions?limit=x").check(400, "whole number");
    fixture.get("/api/v1/decisions?pool=%zz").check(400, "percent-encoded");
    fixture
        .get("/api/v1/decisions?pool=nope")
        .check(404, "There is no pool named \"nope\". These are there: default.");
    fixture.get("/api/v1/decisions?server=nope").check(404, "There is no server named");
    let found = fixture.get("/api/v1/decisions?limit=1").json();
    let one = &found["decisions"][0];
    assert_eq!(
        (&one["server"], &one["why"], &one["candidates"][0]["cost_ms"]),
        (&"a".into(), &"least".into(), &12.1.into())
    );
    assert_eq!(one["candidates"][0]["latency_ms"], 11.0);
    let excluded =
        json!({ "server": "c", "why": "ejected", "detail": "5xx", "for_s": 12.0, "in_flight": null });
    assert_eq!(one["excluded"][0], excluded);
}

#[test]
fn requests_to_come_are_asked_for() {
    let fixture = Fixture::new();
    fixture.stats.decisions.keep(decision("x", "a"));
    let records = |id: &[u8]| {
        let has_header = &|name: &str, value: &str| (name, value) == ("x-debug", "1");
        let coming = decisions::Coming { pool: PoolId(0), request_id: Some(id), has_header };
        fixture.stats.decisions.records(&coming, 0, time::now()).is_some()
    };
    let asked = fixture.change("POST /api/v1/decisions/next?count=2", "{}");
    assert_eq!((asked.status, asked.json()), (202, json!({ "since": 1, "count": 2 })));
    assert_eq!([records(b"1"), records(b"2"), records(b"3")], [true, true, false]);
    let asked =
        fixture.change("POST /api/v1/decisions/next?request_id=me&header=X-Debug:%201&pool=default", "");
    assert_eq!(asked.status, 202, "{asked:?}");
    assert_eq!([records(b"1"), records(b"me"), records(b"me")], [false, true, false]);
    fixture.change("POST /api/v1/decisions/next?pool=none", "").check(404, "no pool named");
    fixture.change("POST /api/v1/decisions/next?count=0", "").check(400, "1 to 1000");
    fixture.change("POST /api/v1/decisions/next?header=x", "").check(400, "name:value");
    fixture.call("POST /api/v1/decisions/next", &[], "").check(415, "Content-Type");
    assert_eq!(fixture.get("/api/v1/decisions/next").status, 405);
    (0..16).for_each(|_| _ = fixture.change("POST /api/v1/decisions/next?request_id=never", ""));
    fixture.change("POST /api/v1/decisions/next", "").check(429, "Too many");
}

#[test]
fn the_last_minutes_are_told_from_a_number_on() {
    let fixture = Fixture::new();
    let a = fixture.table.find("a").unwrap();
    let sample = |ms: u64| {
        let at = Moment::from_millis(ms);
        fixture.history.sample(&fixture.stats, &fixture.table, Load::of(&*fixture.proxy), at, ms);
    };
    sample(1_000);
    fixture.stats.shard(0).ends(Outcome { status: Some(200), bytes: 7, reason: None });
    a.lease(time::now()).unwrap().responded(true, Duration::from_millis(5), time::now());
    sample(2_000);
    sample(3_000);
    let history = fixture.get("/api/v1/history").json();
    assert_eq!((&history["next"], history["samples"].as_array().unwrap().len()), (&2.into(), 2));
    let second = &history["samples"][0];
    assert_eq!((&second["requests"], &second["responses"]["2xx"]), (&1.into(), &1.into()), "{second}");
    assert_eq!((&second["at_ms"], &second["waiting"]), (&2000.into(), &4.into()), "{second}");
    assert_eq!(fixture.get("/api/v1/history?since=2").json()["samples"], json!([]));
    fixture.get("/api/v1/history?since=x").check(400, "since");
    let server = fixture.get("/api/v1/servers/a").json();
    assert_eq!((&server["rate"], &server["share"]), (&0.5.into(), &1.0.into()), "{server}");
    fixture.change("PATCH /api/v1/servers/a", r#"{"state":"drain","weight":5}"#);
    let events = fixture.get("/api/v1/events").json();
    let texts: Vec<_> = events["events"].as_array().unwrap().iter().map(|event| &event["text"]).collect();
    assert_eq!(texts, ["admin: server a was set to drain", "admin: server a was given weight 5"]);
    assert_eq!(events["events"][0]["topic"], "change");
    assert_eq!(fixture.get("/api/v1/events?since=1").json()["events"].as_array().unwrap().len(), 1);
    assert_eq!(fixture.events.after(1).len(), 1);
}

#[test]
fn the_dashboard_needs_no_token_and_its_data_do() {
    let fixture = Fixture::of(r#"{"admin":{"token":"0123456789abcdef"}}"#);
    let page = fixture.call("GET /", &["Accept: text/html,*/*;q=0.8"], "");
    assert_eq!((page.status, page.fields["content-type"].as_str()), (200, "text/html; charset=utf-8"));
    assert!(page.fields["content-security-policy"].starts_with("default-src 'none'"), "{page:?}");
    for path in ["/dashboard", "/dashboard.js", "/dashboard.css", "/dashboard.svg"] {
        assert_eq!(fixture.get(path).status, 200, "{path}");
    }
    for path in ["/api/v1/history", "/api/v1/events"] {
        assert_eq!(fixture.get(path).status, 401, "{path}");
    }
}

/// Reads a page as a collector does; gives the families' types and the samples.
fn scraped(page: &str) -> (HashMap<String, String>, Vec<(String, f64)>) {
    let (mut helped, mut types, mut samples) = (HashSet::new(), HashMap::new(), Vec::new());
    assert!(page.ends_with('\n'));
    for line in page.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            assert!(helped.insert(help.split_once(' ').unwrap().0.to_owned()), "twice: {line}");
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').unwrap();
            assert!(
                helped.contains(name) && types.insert(name.to_owned(), kind.to_owned()).is_none(),
                "{line}"
            );
        } else {
            let (name, value) = line.rsplit_once(' ').unwrap();
            assert!(samples.iter().all(|(other, _)| other != name), "twice: {line}");
            samples.push((name.to_owned(), value.parse().unwrap()));
        }
    }
    (types, samples)
}

#[test]
fn the_metrics_are_well_formed_and_complete() {
    let fixture = Fixture::new();
    let shard = fixture.stats.shard(3);
    (0..100).for_each(|ms| shard.duration.record(Duration::from_millis(ms)));
    shard.reject(Reason::QueueFull);
    let page = fixture.get("/metrics");
    assert_eq!(page.fields["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    let (types, samples) = scraped(&page.body);
    for (sample, _) in &samples {
        let name = sample.split('{').next().unwrap();
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
        let kind = types.get(name).or_else(|| base.and_then(|base| types.get(base)));
        let kind = kind.unwrap_or_else(|| panic!("{name} has no TYPE"));
        assert!(
            (name.starts_with("evenkeel_") || name.starts_with("process_"))
                && (kind == "counter") == name.ends_with("_total"),
            "{name} {kind}"
        );
    }
    let value = |name: &str| samples.iter().find(|sample| sample.0 == name).map(|sample| sample.1);
    for reason in Reason::ALL {
        let expected = f64::from(u8::from(*reason == Reason::QueueFull));
        assert_eq!(
            value(&format!("evenkeel_rejections_total{{reason=\"{}\"}}", reason.name())),
            Some(expected)
        );
    }
    for (name, expected) in [
        ("evenkeel_connections", 7.0),
        ("evenkeel_tunnels", 2.0),
        ("evenkeel_queue_length", 3.0),
        ("evenkeel_queue_capacity", 100.0),
        ("evenkeel_server_weight{pool=\"default\",server=\"a\"}", 2.0),
        ("evenkeel_server_state{pool=\"default\",server=\"a\",state=\"starting\"}", 1.0),
        ("evenkeel_server_state{pool=\"default\",server=\"a\",state=\"up\"}", 0.0),
        (
            "evenkeel_server_info{pool=\"default\",server=\"b\",address=\"unix:/run/b.sock\",backup=\"true\"}",
            1.0,
        ),
        ("evenkeel_request_duration_seconds_count", 100.0),
        ("evenkeel_request_duration_seconds_sum", 4.95),
        ("evenkeel_queue_wait_seconds_count", 0.0),
    ] {
        assert_eq!(value(name), Some(expected), "{name}");
    }
    let buckets = samples.iter().filter_map(|(name, count)| {
        let bound =
            name.strip_prefix("evenkeel_request_duration_seconds_bucket{le=\"")?.strip_suffix("\"}")?;
        Some((bound.replace('+', "").parse::<f64>().unwrap(), *count))
    });
    let buckets: Vec<_> = buckets.collect();
    assert!(buckets.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1), "{buckets:?}");
    assert_eq!(buckets.last(), Some(&(f64::INFINITY, 100.0)));
}
