//! The admin API over its real socket: every endpoint, every rejection, and what would kill a tiny_http without care.

use super::*;
use crate::base::ids::PoolId;
use crate::base::ids::ServerId;
use crate::http1::reason::Reason;
use crate::policy::health::Health;
use crate::policy::latency::Reading;
use crate::policy::pick::{Algorithm, Candidate, Slot, Weight, Why};
use crate::policy::pool::Bounds;
use crate::state::choose::{Considered, Excluded, Exclusion, Note, Picked};
use crate::state::config::{self, Config};
use crate::state::decisions::{self, Decision};
use crate::state::history::Load;
use crate::state::reload::{Reload, Reloaded};
use crate::state::server::Check;
use crate::state::stats::{Counter, Outcome};
use crate::state::workers::{Gauges, RequestInfo, Workers};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use tempfile::TempDir;

/// A call that takes longer fails the test.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// A data plane controlled by the test.
#[derive(Default)]
struct Proxy {
    gauges: Gauges,
    draining: AtomicBool,
    panicking: AtomicBool,
}

impl Workers for Proxy {
    fn gauges(&self) -> &Gauges {
        assert!(!self.panicking.load(Ordering::SeqCst), "as the test asked for");
        &self.gauges
    }
    fn bounds(&self) -> Bounds {
        Bounds { min: 1, max: 50 }
    }
    fn queued(&self) -> usize {
        3
    }
    fn waiting(&self) -> usize {
        4
    }
    fn waiting_in(&self, _: PoolId) -> usize {
        0
    }

    fn in_flight(&self) -> usize {
        1
    }
    fn held(&self) -> usize {
        5
    }
    fn slept(&self) -> Duration {
        Duration::ZERO
    }
    fn moves(&self) -> u64 {
        0
    }
    fn start_worker(&self) -> io::Result<()> {
        Ok(())
    }
    fn alive(&self) -> usize {
        0
    }
    fn stop_worker(&self) -> bool {
        false
    }
    fn set_share(&self, _connections: Option<usize>) {}
    fn is_draining(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }
    fn is_leaving(&self) -> bool {
        self.draining.load(Ordering::SeqCst)
    }
    fn is_stopped(&self) -> bool {
        false
    }
    fn connections(&self) -> usize {
        7
    }
    fn tunnels(&self) -> usize {
        2
    }
    fn requests(&self) -> Vec<RequestInfo> {
        Vec::new()
    }
}

/// A running admin API, stopped when it is dropped.
struct Fixture {
    socket: PathBuf,
    proxy: Arc<Proxy>,
    table: Arc<Table>,
    stats: Arc<Stats>,
    events: Arc<Events>,
    history: Arc<History>,
    registered: Arc<Mutex<Vec<String>>>,
    forgotten: Arc<Mutex<Vec<ServerId>>>,
    published: PathBuf,
    stopper: Stopper,
    thread: Option<JoinHandle<()>>,
    folder: TempDir,
}

impl Fixture {
    fn new() -> Self {
        Fixture::of(
            r#"{"servers":{"list":[{"name":"a","address":"127.0.0.1:9001","weight":2},
                  {"name":"b","address":"unix:/run/b.sock","backup":true}]}}"#,
        )
    }

    fn of(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Fixture::with(config::parse(text, folder.path()).unwrap(), folder)
    }

    fn with(config: Config, folder: TempDir) -> Self {
        let socket = config.admin.socket.clone().unwrap();
        let (proxy, stats) = (Arc::new(Proxy::default()), Arc::new(Stats::default()));
        let table = Arc::new(Table::of(Live::plain(config)));
        let (events, history): (Arc<Events>, Arc<History>) = Default::default();
        let (registered, forgotten) = (Arc::default(), Arc::default());
        let (told, gone): (Arc<Mutex<Vec<_>>>, Arc<Mutex<Vec<_>>>) =
            (Arc::clone(&registered), Arc::clone(&forgotten));
        let view = View {
            published: Arc::default(),
            table: Arc::clone(&table),
            stats: Arc::clone(&stats),
            events: Arc::clone(&events),
            history: Arc::clone(&history),
            workers: Arc::clone(&proxy) as Arc<dyn Workers>,
            instance: Instance::default(),
            started: time::now(),
            registered: Arc::new(move |server| told.lock().push(server.name.clone())),
            forgotten: Arc::new(move |id| gone.lock().push(id)),
            changed: Arc::new(|| ()),
            reload: Reload::new(|| Ok(Reloaded::default()), || Ok(Reloaded::default())),
            reloads: Arc::default(),
            upgrading: Arc::new(Upgrading::new(None)),
            takes_over: false,
        };
        let admin = open(view).unwrap();
        let (stopper, published) = (admin.stopper(), admin.published_at());
        let thread = Some(thread::spawn(move || admin.run()));
        Fixture {
            socket,
            proxy,
            table,
            stats,
            events,
            history,
            registered,
            forgotten,
            published,
            stopper,
            thread,
            folder,
        }
    }

    fn connect(&self) -> BufReader<UnixStream> {
        Fixture::connect_at(&self.socket)
    }

    fn connect_at(path: &Path) -> BufReader<UnixStream> {
        let stream = UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(LONGEST_WAIT)).unwrap();
        BufReader::new(stream)
    }

    /// One request on a connection of its own. `Host`, and `Content-Length` with a body, are added.
    fn call(&self, line: &str, fields: &[&str], body: &str) -> Reply {
        Fixture::call_on(self.connect(), line, fields, body)
    }

    fn call_on(mut connection: BufReader<UnixStream>, line: &str, fields: &[&str], body: &str) -> Reply {
        let has = |name: &str| fields.iter().any(|field| field.to_ascii_lowercase().starts_with(name));
        let mut head = format!("{line} HTTP/1.1\r\n");
        if !has("host:") {
            head.push_str("Host: localhost\r\n");
        }
        fields.iter().for_each(|field| head.push_str(&format!("{field}\r\n")));
        if !body.is_empty() && !has("content-length:") {
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        connection.get_mut().write_all(format!("{head}\r\n{body}").as_bytes()).unwrap();
        reply(&mut connection, line.starts_with("HEAD"))
    }

    fn get(&self, path: &str) -> Reply {
        self.call(&format!("GET {path}"), &[], "")
    }

    /// A change, as sent by a well-behaved client.
    fn change(&self, line: &str, body: &str) -> Reply {
        self.call(line, &["Content-Type: application/json"], body)
    }

    fn stop(&mut self) {
        self.stopper.stop();
        self.thread.take().into_iter().for_each(|thread| thread.join().unwrap());
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.stop();
    }
}

#[derive(Debug)]
struct Reply {
    status: u16,
    fields: HashMap<String, String>,
    body: String,
}

impl Reply {
    fn json(&self) -> Value {
        assert_eq!(self.fields["content-type"], "application/json", "{self:?}");
        serde_json::from_str(&self.body).unwrap()
    }

    /// A rejection under `/api`: its status, and a part of its sentence.
    fn check(&self, status: u16, sentence: &str) {
        let said = self.json();
        let error = said["error"].as_str().unwrap();
        assert!(self.status == status && error.contains(sentence), "not {status} {sentence:?}: {self:?}");
    }
}

fn reply(connection: &mut BufReader<UnixStream>, head_only: bool) -> Reply {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        assert!(connection.read_line(&mut line).unwrap() > 0, "closed after {lines:?}");
        match line.trim_end() {
            "" => break,
            line => lines.push(line.to_owned()),
        }
    }
    let status = lines[0].split(' ').nth(1).unwrap().parse().unwrap();
    let fields = lines[1..].iter().map(|line| line.split_once(": ").unwrap());
    let fields: HashMap<_, _> =
        fields.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect();
    let length: usize = fields["content-length"].parse().unwrap();
    let mut body = vec![0; if head_only { 0 } else { length }];
    connection.read_exact(&mut body).unwrap();
    Reply { status, fields, body: String::from_utf8(body).unwrap() }
}

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
    check("?pool=api", &[]);
    check("?limit=1", &["asked"]);
    check("?since=1&server=b", &["y"]);
    check("?asked=true", &["asked"]);
    fixture.get("/api/v1/decisions?limit=x").check(400, "whole number");
    fixture.get("/api/v1/decisions?pool=%zz").check(400, "percent-encoded");
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

#[test]
fn a_server_s_state_is_one_word_and_the_operator_s_comes_first() {
    let fixture = Fixture::new();
    let a = fixture.table.find("a").unwrap();
    let state = || fixture.get("/api/v1/servers/a").json()["state"].as_str().unwrap().to_owned();
    assert_eq!(state(), "starting");
    for (health, word) in
        [(Health::Up, "up"), (Health::Down, "down"), (Health::Ejected { until: Moment::NEVER }, "ejected")]
    {
        fixture.table.set_health(&a, health);
        assert_eq!(state(), word);
    }
    for (wish, word) in [("drain", "drain"), ("maint", "maint"), ("ready", "ejected")] {
        let changed = fixture.change("PATCH /api/v1/servers/a", &format!(r#"{{"state":"{wish}"}}"#));
        assert_eq!((changed.status, changed.json()["state"].as_str()), (200, Some(word)));
        assert_eq!(state(), word);
    }
    assert_eq!(*fixture.registered.lock(), ["a"; 3], "the health thread is told of each");
}

#[test]
fn servers_come_change_and_go() {
    let fixture = Fixture::new();
    let created = fixture.change("POST /api/v1/servers", r#"{"name":"c&d","address":"127.0.0.1:9003"}"#);
    assert_eq!((created.status, &*created.fields["location"]), (201, "/api/v1/servers/c%26d"));
    assert_eq!(created.json()["address"], "127.0.0.1:9003");
    let names = fixture.get("/api/v1/servers").json();
    let names: Vec<_> =
        names["servers"].as_array().unwrap().iter().map(|server| server["name"].clone()).collect();
    assert_eq!(names, ["a", "b", "c&d"]);
    let changed = fixture.change("PATCH /api/v1/servers/c%26d", r#"{"weight":0}"#);
    assert_eq!((changed.status, &changed.json()["weight"]), (200, &0.into()));
    let again = fixture.change("POST /api/v1/servers", r#"{"name":"c&d","address":"127.0.0.1:9003"}"#);
    assert_eq!((again.status, &again.json()["weight"]), (200, &0.into()), "the operator's weight stays");
    let again =
        fixture.change("POST /api/v1/servers", r#"{"name":"c&d","address":"127.0.0.1:9003","weight":9}"#);
    assert_eq!((again.status, &again.json()["weight"]), (200, &9.into()));
    assert_eq!(*fixture.registered.lock(), ["c&d"; 3]);
    let id = fixture.table.find("c&d").unwrap().id;
    let removed = fixture.change("DELETE /api/v1/servers/c%26d", "");
    assert_eq!((removed.status, &removed.json()["name"]), (200, &"c&d".into()));
    assert_eq!(*fixture.forgotten.lock(), [id]);
    for line in ["GET", "PATCH", "DELETE"] {
        let body = if line == "PATCH" { r#"{"weight":1}"# } else { "" };
        fixture.change(&format!("{line} /api/v1/servers/c%26d"), body).check(404, "no server named \"c&d\"");
    }
}

#[test]
fn each_pool_has_its_servers() {
    let fixture = Fixture::of(
        r#"{"servers":{"list":[{"name":"a","address":"127.0.0.1:9001"}]},
            "pools":{"api":{"algorithm":"round_robin","list":[{"name":"a","address":"127.0.0.1:9001"}]}}}"#,
    );
    let names = |path: &str| {
        let list = fixture.get(path).json();
        let name = |server: &Value| format!("{} {}", server["pool"], server["name"]).replace('"', "");
        list["servers"].as_array().unwrap().iter().map(name).collect::<Vec<_>>()
    };
    assert_eq!(names("/api/v1/servers"), ["default a", "api a"]);
    assert_eq!(names("/api/v1/pools/default/servers"), ["default a"]);
    let added =
        fixture.change("POST /api/v1/pools/api/servers", r#"{"name":"b","address":"127.0.0.1:9002"}"#);
    assert_eq!((added.status, &*added.fields["location"]), (201, "/api/v1/pools/api/servers/b"));
    assert_eq!(names("/api/v1/pools/api/servers"), ["api a", "api b"]);
    let changed = fixture.change("PATCH /api/v1/pools/api/servers/a", r#"{"weight":7}"#);
    assert_eq!((changed.status, &changed.json()["weight"]), (200, &7.into()));
    assert_eq!(fixture.get("/api/v1/servers/a").json()["weight"], 1, "the other one is another server");
    assert_eq!(fixture.change("DELETE /api/v1/pools/api/servers/a", "").status, 200);
    assert_eq!(names("/api/v1/servers"), ["default a", "api b"]);
    let pools = fixture.get("/api/v1/pools").json();
    let pool = |at: usize| json!(["name", "algorithm", "servers"].map(|key| pools["pools"][at][key].clone()));
    assert_eq!(pool(0), json!(["default", "dynamic", 1]));
    assert_eq!(pool(1), json!(["api", "round_robin", 1]));
    fixture.change("GET /api/v1/pools/nope/servers", "").check(404, "no pool named \"nope\"");
    fixture.change("GET /api/v1/pools/api/servers/a", "").check(404, "no server named \"a\"");
}

#[test]
fn what_the_file_rejects_the_api_rejects() {
    let fixture = Fixture::new();
    let socket = fixture.socket.display().to_string();
    for (address, says) in [
        ("127.0.0.1:8000", "balancer itself"),
        ("localhost:8000", "balancer itself"),
        ("127.0.0.1:9301", "admin port"),
        (&*format!("unix:{socket}"), "admin socket"),
        (&format!("unix:/{socket}"), "admin socket"),
        (&format!("unix:{}", fixture.published.display()), "descriptor"),
        ("unix:/x\\nFORGED", "control character"),
        ("unix:/x\\u202e", "control character"),
        ("a\\u0000:80", "not allowed"),
    ] {
        let rejected =
            fixture.change("POST /api/v1/servers", &format!(r#"{{"name":"x","address":"{address}"}}"#));
        assert!(rejected.status == 400 && rejected.body.contains(says), "{address}: {rejected:?}");
    }
    fixture.change("PATCH /api/v1/servers/a", r#"{"weight":5,"weight":7}"#).check(400, "a fault");
    let added = fixture.change("POST /api/v1/servers", r#"{"name":"z","address":"127.0.0.1:9","weight":0}"#);
    assert_eq!((added.status, &added.json()["weight"]), (201, &0.into()));
    assert_eq!(fixture.call("DELETE /api/v1/servers/z", &[], "").status, 200, "no body, no type");
}

#[test]
fn what_contradicts_the_table_is_a_conflict() {
    let fixture = Fixture::new();
    for (body, says) in [
        (r#"{"name":"a","address":"127.0.0.1:9009"}"#, "name a is taken by the server at 127.0.0.1:9001"),
        (r#"{"name":"z","address":"127.0.0.1:9001"}"#, "address 127.0.0.1:9001 is taken by the server a"),
        (r#"{"name":"a","address":"127.0.0.1:9001","backup":true}"#, "backup: false"),
    ] {
        fixture.change("POST /api/v1/servers", body).check(409, says);
    }
    assert!(fixture.registered.lock().is_empty());
}

#[test]
fn every_fault_of_a_body_is_reported() {
    let fixture = Fixture::new();
    let body = r#"{"name":"x y","adress":"127.0.0.1:9001","weight":1001}"#;
    let rejected = fixture.change("POST /api/v1/servers", body);
    rejected.check(400, "4 faults");
    let said = rejected.json();
    let paths: HashSet<_> =
        said["faults"].as_array().unwrap().iter().map(|fault| fault["path"].as_str().unwrap()).collect();
    assert_eq!(paths, HashSet::from(["name", "adress", "address", "weight"]));
    assert!(rejected.body.contains("did you mean \\\"address\\\""), "{rejected:?}");
    fixture.change("POST /api/v1/servers", "").check(400, "fault");
    fixture.change("PATCH /api/v1/servers/a", r#"{"state":"up"}"#).check(400, "a fault");
}

#[test]
fn what_is_not_there_is_404_and_what_cannot_be_done_405() {
    let fixture = Fixture::new();
    for path in ["/api/v1", "/api/v1/nothing", "/api/v1/servers/", "/api/v1/servers/a/b"] {
        fixture.get(path).check(404, "nothing at this path");
    }
    fixture.get("/api/v1/servers/%zz").check(400, "percent-encoded");
    let text = fixture.get("/nothing");
    assert!(text.status == 404 && text.fields["content-type"].starts_with("text/plain"));
    for (line, allow) in [
        ("POST /live", "GET, HEAD"),
        ("DELETE /api/v1/servers", "GET, HEAD, POST"),
        ("PUT /api/v1/servers/a", "GET, HEAD, PATCH, DELETE"),
        ("OPTIONS /api/v1/status", "GET, HEAD"),
        ("get /ready", "GET, HEAD"),
    ] {
        let rejected = fixture.call(line, &[], "");
        assert_eq!((rejected.status, &*rejected.fields["allow"]), (405, allow), "{line}");
    }
}

#[test]
fn changes_that_a_browser_was_led_to_are_rejected() {
    let fixture = Fixture::new();
    const JSON: &str = "Content-Type: application/json";
    let delete = |fields: &[&str]| fixture.call("DELETE /api/v1/servers/a", fields, "");
    fixture.call("POST /api/v1/servers", &[], "{}").check(415, "application/json");
    fixture.call("PATCH /api/v1/servers/a", &[], "{}").check(415, "application/json");
    fixture.call("DELETE /api/v1/servers/a", &[], "{}").check(415, "application/json");
    delete(&[JSON, JSON]).check(400, "Content-Type is there twice");
    delete(&[JSON, "Host: 127.0.0.1:9301", "Origin: http://127.0.0.1:3000"]).check(403, "other web sites");
    delete(&[JSON, "Origin: null"]).check(403, "other web sites");
    delete(&[JSON, "Sec-Fetch-Site: cross-site"]).check(403, "other web sites");
    delete(&[JSON, "Host: evil.example", "Origin: http://evil.example"]).check(403, "Host");
    assert_eq!(delete(&[JSON, "Host: a", "Host: b"]).status, 400);
    fixture.call("GET /api/v1/status", &["Host: evil.example"], "").check(403, "Host");
    for path in ["/live", "/ready", "/metrics"] {
        assert_eq!(fixture.call(&format!("GET {path}"), &["Host: lb.example"], "").status, 200);
    }
    assert!(fixture.table.find("a").is_some());
    let own = [
        "content-type: Application/JSON; charset=utf-8",
        "Host: 127.0.0.1:9301",
        "Origin: http://127.0.0.1:9301",
    ];
    assert_eq!(delete(&own).status, 200);
}

#[test]
fn a_token_is_asked_for_everywhere_but_at_the_probes() {
    let fixture = Fixture::of(r#"{"admin":{"token":"0123456789abcdef"}}"#);
    for path in ["/", "/metrics", "/api/v1/status", "/api/v1/servers/a", "/nothing"] {
        for fields in
            [&[][..], &["Authorization: Bearer 0123456789abcdeX"], &["Authorization: Basic 0123456789abcdef"]]
        {
            let rejected = fixture.call(&format!("GET {path}"), fields, "");
            assert_eq!(rejected.status, 401, "{path}");
            assert!(rejected.fields["www-authenticate"].starts_with("Bearer"));
        }
        assert_ne!(
            fixture.call(&format!("GET {path}"), &["authorization: bearer 0123456789abcdef"], "").status,
            401
        );
    }
    assert_eq!((fixture.get("/live").status, fixture.get("/ready").status), (200, 200));
    let fields = ["Authorization: Bearer 0123456789abcdef", "Host: lb.example"];
    assert_eq!(
        fixture.call("GET /api/v1/status", &fields, "").status,
        200,
        "any name is accepted with the token"
    );
}

#[test]
fn an_open_balancer_without_a_token_is_changed_from_the_socket_only() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config::parse("{}", folder.path()).unwrap();
    config.admin.bind = Some("0.0.0.0:9301".parse().unwrap());
    let fixture = Fixture::with(config, folder);
    let body = r#"{"address":"127.0.0.1:9001"}"#;
    let json = "Content-Type: application/json";
    let published =
        |line, body| Fixture::call_on(Fixture::connect_at(&fixture.published), line, &[json], body);
    published("POST /api/v1/servers", body).check(403, "admin.token");
    assert_eq!(published("GET /api/v1/status", "").status, 200);
    assert_eq!(fixture.call("POST /api/v1/servers", &[json], body).status, 201);
}

#[test]
fn bodies_that_would_kill_the_process_are_rejected_and_others_are_served() {
    let fixture = Fixture::new();
    let mut waiting = Vec::new();
    for (line, length) in [
        ("POST /api/v1/servers", "99999999999999"),
        ("GET /metrics", "18446744073709551615"),
        ("GET /", "65537"),
    ] {
        let mut connection = fixture.connect();
        let json = "Content-Type: application/json";
        let head =
            format!("{line} HTTP/1.1\r\nHost: localhost\r\n{json}\r\nContent-Length: {length}\r\n\r\n{{");
        connection.get_mut().write_all(head.as_bytes()).unwrap();
        let rejected = reply(&mut connection, false);
        assert!(rejected.status == 413 && rejected.body.contains("65536 bytes"), "{rejected:?}");
        assert_eq!(rejected.fields["connection"], "close");
        assert_eq!(fixture.get("/live").status, 200);
        waiting.push(connection);
    }
    // And the same when those clients disconnect, which ends the body too early.
    drop(waiting);
    assert_eq!(fixture.get("/api/v1/status").status, 200);
}

#[test]
fn what_tiny_http_reads_leniently_is_rejected() {
    let fixture = Fixture::new();
    for fields in [
        &["Content-Length: 5", "Content-Length: 5"][..],
        &["Content-Length: +5"],
        &["Content-Length: x"],
        &["Content-Length: 5", "Transfer-Encoding: chunked"],
    ] {
        let rejected = fixture.call("POST /api/v1/servers", fields, "12345");
        assert_eq!((rejected.status, &*rejected.fields["connection"]), (400, "close"), "{fields:?}");
    }
    assert_eq!(fixture.call("POST /api/v1/servers", &["Transfer-Encoding: gzip"], "").status, 400);
}

/// The response to what follows a chunked body shows that the connection is still in sync.
fn chunked(fixture: &Fixture, body: &str) -> (u16, BufReader<UnixStream>) {
    let mut connection = fixture.connect();
    let head = "POST /api/v1/servers HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
                Transfer-Encoding: chunked\r\n\r\n";
    connection.get_mut().write_all(format!("{head}{body}").as_bytes()).unwrap();
    (reply(&mut connection, false).status, connection)
}

#[test]
fn chunked_bodies_are_read_whole_and_never_as_the_next_request() {
    let fixture = Fixture::new();
    let smuggled =
        "DELETE /api/v1/servers/a HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\r\n";
    let get = b"GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let body = r#"{"address":"127.0.0.1:9007"}"#;
    let (status, mut connection) = chunked(&fixture, &format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len()));
    assert_eq!(status, 201);
    connection.get_mut().write_all(get).unwrap();
    assert_eq!(reply(&mut connection, false).body, "live\n");
    let (status, mut connection) =
        chunked(&fixture, &format!("{:x}\r\n{smuggled}\r\n0\r\n\r\n", smuggled.len()));
    assert_eq!(status, 400);
    connection.get_mut().write_all(get).unwrap();
    assert_eq!(reply(&mut connection, false).body, "live\n", "the next response is to the next request");
    let (status, _connection) = chunked(&fixture, "0\r\nDELETE: /api/v1/servers/a HTTP/1.1\r\n\r\n");
    assert_eq!(status, 400, "trailers");
    let long = smuggled.repeat(1000);
    let (status, _connection) = chunked(&fixture, &format!("{:x}\r\n{long}\r\n0\r\n\r\n", long.len()));
    assert_eq!(status, 413);
    assert!(fixture.table.find("a").is_some());
}

#[test]
fn large_bodies_within_the_limit_are_read() {
    let fixture = Fixture::new();
    let body = format!(r#"{{"address":"127.0.0.1:9007"{}}}"#, " ".repeat(60_000));
    assert_eq!(fixture.change("POST /api/v1/servers", &body).status, 201);
    let get = fixture.call("GET /live", &[], &"x".repeat(65_536));
    assert_eq!(get.status, 200);
}

/// Both ways to the admin API, and both probes there, get responses.
fn check_probes(fixture: &Fixture, beside: &str) {
    for path in [&fixture.socket, &fixture.published] {
        for line in ["GET /live", "HEAD /ready"] {
            let found = Fixture::call_on(Fixture::connect_at(path), line, &[], "");
            assert_eq!(found.status, 200, "{line} at {path:?} beside {beside}");
        }
    }
}

/// This many connections that have sent these bytes, on both ways to the admin API.
fn hold(fixture: &Fixture, count: usize, bytes: &[u8]) -> Vec<UnixStream> {
    let one = |number: usize| {
        let path = [&fixture.socket, &fixture.published][number % 2];
        let mut stream = UnixStream::connect(path).unwrap();
        // Earlier ones may have been closed for it, but not this one.
        stream.write_all(bytes).unwrap();
        stream
    };
    (0..count).map(one).collect()
}

#[test]
fn clients_that_stall_do_not_hold_the_others_up() {
    let fixture = Fixture::new();
    let body = "POST /api/v1/servers HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n";
    let count = 4 * bounds().connections;
    for (kind, bytes) in [
        ("slow heads", b"GET /live HTTP/1.1\r\nX: ".to_vec()),
        ("idle connections", Vec::new()),
        ("slow bodies", format!("{body}Content-Length: 60000\r\n\r\nx").into_bytes()),
        ("slow chunked bodies", format!("{body}Transfer-Encoding: chunked\r\n\r\n5\r\nx").into_bytes()),
        ("rejected bodies", b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 60000\r\n\r\nx".to_vec()),
        ("garbage", b"\x16\x03\x01garbage\r\n\r\n".to_vec()),
    ] {
        let held = hold(&fixture, count, &bytes);
        check_probes(&fixture, kind);
        assert_eq!(fixture.get("/metrics").status, 200, "beside {kind}");
        drop(held);
    }
}

#[test]
fn clients_that_do_not_read_hold_nothing_up() {
    let fixture = Fixture::new();
    // Responses of some 100 KB each: no socket takes many.
    for number in 0..100 {
        let body = format!(r#"{{"name":"s{number}","address":"127.0.0.1:{}"}}"#, 20_000 + number);
        assert_eq!(fixture.change("POST /api/v1/servers", &body).status, 201);
    }
    let _held =
        hold(&fixture, 100, b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(20).as_slice());
    check_probes(&fixture, "clients that do not read");
    // Their requests take its threads for a while, and more than a few may not wait for them.
    let deadline = time::now().after(LONGEST_WAIT);
    while fixture.get("/api/v1/status").status != 200 {
        assert!(time::now() < deadline, "others get no response");
    }
}

#[test]
fn a_slow_body_is_ended_and_reported() {
    let fixture = Fixture::new();
    let head = "POST /api/v1/servers HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
                Content-Length: 60000\r\n\r\nx";
    let mut held = Vec::new();
    for _ in 0..=bounds().bodies {
        let mut connection = fixture.connect();
        connection.get_mut().write_all(head.as_bytes()).unwrap();
        held.push(connection);
    }
    reply(&mut held[0], false).check(408, "did not arrive in time");
    reply(&mut held[1], false).check(408, "did not arrive in time");
}

#[test]
fn a_body_is_asked_for_only_where_it_is_wanted() {
    let fixture = Fixture::of(r#"{"admin":{"token":"0123456789abcdef"}}"#);
    let body = r#"{"address":"127.0.0.1:9007"}"#;
    let ask = |token: &str| {
        let mut connection = fixture.connect();
        let head = format!(
            "POST /api/v1/servers HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\nExpect: 100-continue\r\n\
             Authorization: Bearer {token}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        connection.get_mut().write_all(head.as_bytes()).unwrap();
        let mut line = String::new();
        connection.read_line(&mut line).unwrap();
        (line, connection)
    };
    assert_eq!(ask("wrong").0, "HTTP/1.1 401 Unauthorized\r\n");
    let (line, mut connection) = ask("0123456789abcdef");
    assert_eq!(line, "HTTP/1.1 100 Continue\r\n");
    connection.read_line(&mut String::new()).unwrap();
    connection.get_mut().write_all(body.as_bytes()).unwrap();
    assert_eq!(reply(&mut connection, false).status, 201);
}

#[test]
fn any_byte_may_stand_in_a_header() {
    let fixture = Fixture::new();
    for path in ["/live", "/metrics", "/api/v1/status"] {
        let mut connection = fixture.connect();
        let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nX-Note: caf");
        connection.get_mut().write_all(&[head.as_bytes(), b"\xe9\r\n\r\n"].concat()).unwrap();
        assert_eq!(reply(&mut connection, false).status, 200, "{path}");
    }
}

#[test]
fn both_ways_survive_the_loss_of_the_socket_s_file() {
    let fixture = Fixture::new();
    let mut old = fixture.connect();
    // What was connected goes on, and is never idle for so long that it is closed for that.
    let mut asks_old = || {
        old.get_mut().write_all(b"GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        assert_eq!(reply(&mut old, false).status, 200);
    };
    // A connection without a first request has less time than one between two requests.
    asks_old();
    std::fs::remove_file(&fixture.socket).unwrap();
    let published = Fixture::call_on(Fixture::connect_at(&fixture.published), "GET /api/v1/status", &[], "");
    assert_eq!(published.status, 200);
    let deadline = time::now().after(LONGEST_WAIT);
    while !fixture.socket.exists() {
        assert!(time::now() < deadline, "the file does not come back");
        asks_old();
        let _ = crossbeam_channel::after(Duration::from_millis(20)).recv();
    }
    assert_eq!(fixture.get("/live").status, 200);
    asks_old();
}

#[test]
fn a_panic_costs_one_request() {
    let fixture = Fixture::new();
    fixture.proxy.panicking.store(true, Ordering::SeqCst);
    for _ in 0..2 * bounds().helpers {
        fixture.get("/api/v1/status").check(500, "The log has the details");
    }
    fixture.proxy.panicking.store(false, Ordering::SeqCst);
    assert_eq!(fixture.get("/api/v1/status").status, 200);
}

#[test]
fn a_stop_removes_the_socket_and_another_start_finds_its_place() {
    let mut fixture = Fixture::new();
    let idle = fixture.connect();
    fixture.stop();
    assert_eq!(std::fs::read_dir(fixture.folder.path()).unwrap().count(), 0, "nothing is left");
    drop(idle);
    let config = config::parse("{}", fixture.folder.path()).unwrap();
    let next = Fixture::with(config, tempfile::tempdir().unwrap());
    assert_eq!(next.get("/live").status, 200);
}

#[test]
fn no_second_balancer_takes_a_living_one_s_socket() {
    let fixture = Fixture::new();
    let view = View {
        published: Arc::default(),
        table: Arc::clone(&fixture.table),
        events: Arc::default(),
        history: Arc::default(),
        stats: Arc::clone(&fixture.stats),
        workers: Arc::clone(&fixture.proxy) as Arc<dyn Workers>,
        instance: Instance::default(),
        started: time::now(),
        registered: Arc::new(|_| ()),
        forgotten: Arc::new(|_| ()),
        changed: Arc::new(|| ()),
        reload: Reload::new(|| Ok(Reloaded::default()), || Ok(Reloaded::default())),
        reloads: Arc::default(),
        upgrading: Arc::new(Upgrading::new(None)),
        takes_over: false,
    };
    assert!(open(view).err().unwrap().contains("another process listens"));
    assert_eq!(fixture.get("/live").status, 200);
}

#[test]
fn during_an_upgrade_nothing_else_is_changed() {
    let fixture = Fixture::new();
    assert_eq!(fixture.get("/api/v1/upgrade").json(), serde_json::json!({"state": "none"}));
    assert_eq!(fixture.change("POST /api/v1/upgrade", "{}").status, 202);
    assert_eq!(fixture.get("/api/v1/upgrade").json(), serde_json::json!({"state": "running"}));
    fixture.change("POST /api/v1/upgrade", "{}").check(409, "going on already");
    let server = r#"{"name": "late", "address": "127.0.0.1:1"}"#;
    fixture.change("POST /api/v1/servers", server).check(503, "An upgrade is going on");
    assert!(fixture.table.find("late").is_none());
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

#[test]
fn a_name_stands_for_its_members() {
    let fixture =
        Fixture::of(r#"{"servers":{"list":[{"name":"web","address":"web.test:80","resolve":"all"}]}}"#);
    let name = fixture.table.find("web").unwrap();
    let at = |last: u8| SocketAddr::from(([10, 0, 0, last], 80));
    fixture.table.set_members(&name, &[at(1), at(2)]);
    let status = fixture.get("/api/v1/status").json();
    let servers = status["servers"].as_array().unwrap();
    let shown: Vec<_> = servers
        .iter()
        .map(|one| (one["name"].as_str().unwrap(), one["address"].as_str().unwrap(), &one["member_of"]))
        .collect();
    assert_eq!(
        shown,
        [("web@10.0.0.1", "10.0.0.1:80", &json!("web")), ("web@10.0.0.2", "10.0.0.2:80", &json!("web"))]
    );
    assert_eq!(status["names"][0]["members"], json!(["web@10.0.0.1", "web@10.0.0.2"]));
    let metrics = fixture.get("/metrics").body;
    assert!(
        metrics.contains(
            "evenkeel_server_info{pool=\"default\",server=\"web@10.0.0.1\",address=\"10.0.0.1:80\""
        )
    );
    let reply = fixture.change("PATCH /api/v1/servers/web", r#"{"state": "drain", "weight": 7}"#);
    assert_eq!((reply.status, &reply.json()["mode"]), (200, &json!("drain")));
    fixture.table.set_members(&name, &[at(2), at(3)]);
    for member in ["web@10.0.0.2", "web@10.0.0.3"] {
        let one = fixture.get(&format!("/api/v1/servers/{member}")).json();
        assert_eq!(
            (&one["mode"], &one["weight"], &one["origin"]),
            (&json!("drain"), &json!(7), &json!("file"))
        );
    }
    let changes = fixture.get("/api/v1/changes").json();
    assert_eq!(
        changes["pools"]["default"].as_object().unwrap().len(),
        1,
        "one change of the name: {changes}"
    );
    assert_eq!(fixture.call("DELETE /api/v1/servers/web@10.0.0.2", &[], "").status, 409);
    assert_eq!(fixture.change("PATCH /api/v1/servers/web@10.0.0.2", r#"{"state": "ready"}"#).status, 200);
    assert_eq!(fixture.table.find("web@10.0.0.3").unwrap().mode().name(), "drain");
    assert_eq!(fixture.call("DELETE /api/v1/servers/web", &[], "").status, 200);
    assert_eq!(fixture.get("/api/v1/servers").json(), json!({ "servers": [], "names": [] }));
    let body = r#"{"name":"more","address":"more.test:80","resolve":"all"}"#;
    assert_eq!(fixture.change("POST /api/v1/servers", body).status, 201);
    assert_eq!(fixture.change("POST /api/v1/servers", body).status, 200, "again");
}
