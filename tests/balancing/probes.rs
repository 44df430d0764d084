//! Probes of each kind on real sockets: what takes a server out and puts it back, how often it is asked, and that nothing
//! that hangs delays the probes of another server.

use crate::support::balancer::{list, with};
use crate::support::faults::ok;
use crate::support::origin::Visit;
use crate::support::{Client, Evenkeel, Gate, Origin, until};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

/// The first bytes of a client that speaks HTTP/2.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A pool with these servers that is probed so, every 20 ms.
fn pool(servers: Value, check: Value) -> Value {
    let quick = json!({"enabled": true, "interval": "20ms", "timeout": "20s", "fall": 2, "rise": 2});
    json!({"list": servers, "panic_percent": 0, "health_check": with(quick, check), "load_report": {"enabled": false}})
}

/// Pools, each with a route that has its name.
fn pools(pools: &[(&str, Value)]) -> Value {
    let routes: Vec<Value> =
        pools.iter().map(|(name, _)| json!({"path": format!("/{name}/*"), "pool": name})).collect();
    let by_name: serde_json::Map<_, _> =
        pools.iter().map(|(name, pool)| ((*name).to_owned(), pool.clone())).collect();
    json!({"pools": by_name, "routes": routes})
}

fn status_of(balancer: &Evenkeel, path: &str) -> u16 {
    Client::to(balancer).get(path).status
}

fn lines_with(balancer: &Evenkeel, part: &str) -> usize {
    balancer.log_lines().iter().filter(|line| line.contains(part)).count()
}

/// A frame of HTTP/2.
fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags, 0, 0, 0, stream], payload].concat()
}

/// Reads what a client of one gRPC call sends: the preface, then SETTINGS, HEADERS and DATA. The payloads of the frames;
/// `None` when the client went away.
fn call_of(visit: &mut Visit) -> Option<Vec<Vec<u8>>> {
    if visit.take(PREFACE.len()) != PREFACE {
        return None;
    }
    let mut next = || {
        let head = visit.take(9);
        let length = head.get(..3).map(|length| u32::from_be_bytes([0, length[0], length[1], length[2]]))?;
        Some(visit.take(length as usize))
    };
    Some(vec![next()?, next()?, next()?])
}

/// SETTINGS, `:status: 200`, a message with this health status, and `grpc-status: 0` in trailers.
fn health_response(status: u8) -> Vec<u8> {
    let trailers = [&[0, 11][..], b"grpc-status", &[1], b"0"].concat();
    [
        frame(4, 0, 0, &[]),
        frame(1, 4, 1, &[0x88]),
        frame(0, 0, 1, &[0, 0, 0, 0, 2, 8, status]),
        frame(1, 5, 1, &trailers),
    ]
    .concat()
}

/// What all servers of a test say of their health.
#[derive(Clone)]
struct Health(Arc<AtomicBool>);

impl Health {
    fn good() -> Self {
        Health(Arc::new(AtomicBool::new(true)))
    }

    fn is_good(&self) -> bool {
        self.0.load(SeqCst)
    }

    fn set(&self, is_good: bool) {
        self.0.store(is_good, SeqCst);
    }
}

/// A health page, which looks at how it is asked for.
fn http_peer(health: &Health) -> Origin {
    let health = health.clone();
    Origin::start(move |visit| {
        let Some(seen) = visit.request() else { return };
        let is_as_configured = (seen.method(), seen.target()) == ("PUT", "/check?deep=1")
            && seen.fields.one("X-Token") == "t 1"
            && seen.fields.one("Host") == "app.example"
            && seen.body == b"ask";
        let word = if is_as_configured && health.is_good() { "well" } else { "ill" };
        visit.send(ok(word));
    })
}

/// A server of `PING` and `+PONG`.
fn tcp_peer(health: &Health) -> Origin {
    let health = health.clone();
    Origin::start(move |visit| {
        if visit.take(6) == b"PING\r\n" {
            visit.send(if health.is_good() { "+PONG\r\n" } else { "-LOADING\r\n" });
        }
    })
}

/// A server of `grpc.health.v1.Health` that knows the service `shop.Cart`.
fn grpc_peer(health: &Health) -> Origin {
    let health = health.clone();
    Origin::start(move |visit| {
        let Some(frames) = call_of(visit) else { return };
        let is_known = frames[2].ends_with(b"shop.Cart");
        visit.send(health_response(if is_known && health.is_good() { 1 } else { 2 }));
        visit.to_the_end();
    })
}

/// The address of the same host at another port than that which takes requests.
fn port(origin: &Origin) -> u16 {
    origin.address().port()
}

/// The pools of all four kinds in front of one server; each probe goes to a port of its own. The command passes while the
/// file is there.
fn of_each_kind(live: &Origin, peers: [&Origin; 3], file: &Path) -> Value {
    let [http, tcp, grpc] = peers;
    let servers = || list(&[live]);
    let http = json!({
        "method": "PUT", "path": "/check?deep=1", "headers": {"X-Token": "t 1"}, "host": "app.example",
        "body": "ask", "expect_status": 200, "expect_body": "~^well$", "port": port(http),
    });
    let tcp = json!({"type": "tcp", "send": "PING\r\n", "expect": "+PONG", "port": port(tcp)});
    let grpc = json!({"type": "grpc", "service": "shop.Cart", "port": port(grpc)});
    let exec = json!({"type": "exec", "command": ["/bin/sh", "-c", "test -e \"$1\"", "sh", file]});
    pools(&[
        ("http", pool(servers(), http)),
        ("tcp", pool(servers(), tcp)),
        ("grpc", pool(servers(), grpc)),
        ("exec", pool(servers(), exec)),
    ])
}

/// A stopped process keeps its connections, and says nothing. What may not be sent twice stays with it.
#[test]
fn requests_that_wait_at_a_server_that_goes_down_are_sent_to_another_one() {
    let (is_stopped, stopped) = (Arc::new(AtomicBool::new(false)), Gate::default());
    let (stops, waits) = (Arc::clone(&is_stopped), stopped.clone());
    let stopping = Origin::start(move |visit| {
        while let Some(seen) = visit.request() {
            let is_probe = seen.target() == "/health";
            if is_probe && stops.load(SeqCst) {
                return;
            }
            if !is_probe {
                stops.store(true, SeqCst);
                waits.wait();
            }
            visit.send(ok("stopped"));
        }
    });
    let posts = Arc::new(AtomicUsize::new(0));
    let counts = Arc::clone(&posts);
    let other = Origin::start(move |visit| {
        while let Some(seen) = visit.request() {
            counts.fetch_add(usize::from(seen.method() == "POST"), SeqCst);
            visit.send(ok("other"));
        }
    });
    let list = json!([
        {"name": "a", "address": stopping.address().to_string()},
        {"name": "b", "address": other.address().to_string(), "priority": 1},
    ]);
    let balancer = Evenkeel::start(json!({"servers": pool(list, json!({"path": "/health"}))}));
    let [mut post, mut get] = [(); 2].map(|()| Client::to(&balancer));
    balancer.logs("server a (");
    post.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n");
    get.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(get.response().text(), "other");
    balancer.logs("is down");
    stopped.open();
    assert_eq!(post.response().text(), "stopped");
    assert_eq!(posts.load(SeqCst), 0);
}

#[test]
fn each_kind_of_probe_takes_a_server_out_and_puts_it_back() {
    let (live, health) = (Origin::responds("live"), Health::good());
    let (http, tcp, grpc) = (http_peer(&health), tcp_peer(&health), grpc_peer(&health));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("well");
    fs::write(&file, "").unwrap();
    let balancer = Evenkeel::start(of_each_kind(&live, [&http, &tcp, &grpc], &file));
    let outcomes = [
        ("http", "and its body is not what expect_body says: \"ill\""),
        ("tcp", "it sent \"-LOADING\\r\\n\""),
        ("grpc", "NOT_SERVING"),
        ("exec", "exit code 1"),
    ];
    for (kind, _) in outcomes {
        balancer.logs(&format!("server {kind}/a ({}) is up: a probe passed", live.address()));
        assert_eq!(status_of(&balancer, &format!("/{kind}/x")), 200);
    }
    health.set(false);
    fs::remove_file(&file).unwrap();
    for (kind, outcome) in outcomes {
        let line = balancer.logs(&format!("server {kind}/a ({}) is down", live.address()));
        assert!(line.contains("2 probes failed in a row") && line.contains(outcome), "{line}");
        assert_eq!(status_of(&balancer, &format!("/{kind}/x")), 503);
    }
    health.set(true);
    fs::write(&file, "").unwrap();
    for (kind, _) in outcomes {
        balancer.logs(&format!("server {kind}/a ({}) is up: 2 probes passed in a row", live.address()));
        assert_eq!(status_of(&balancer, &format!("/{kind}/x")), 200);
    }
    assert!(
        live.requests().iter().all(|seen| seen.target().ends_with("/x")),
        "no probe went to the requests' port"
    );
}

#[test]
fn a_reload_changes_how_servers_are_probed() {
    let server = Origin::responds("live");
    let of = |check: Value| {
        let base = json!({
            "load_balancer": {"load_balancer_port": 0, "bind": "127.0.0.1"},
            "admin": {"socket": "a.sock", "bind": null}, "log": {"level": "debug"},
        });
        with(base, json!({"servers": pool(list(&[&server]), check)}))
    };
    let balancer = Evenkeel::start(of(json!({"path": "/health", "expect_body": "well"})));
    assert!(balancer.logs("is down").contains("is not what expect_body says"));
    let changed = of(json!({"type": "tcp"}));
    fs::write(balancer.folder().join("config.json"), changed.to_string()).unwrap();
    balancer.signal(Signal::HUP);
    assert!(balancer.logs("is up").contains("passed (connected) at tcp://"));
    assert_eq!(status_of(&balancer, "/"), 200);
}

/// A listener whose backlog is full, so that connecting to it takes for ever, and what fills it.
fn full() -> (SocketAddr, rustix::fd::OwnedFd, Vec<TcpStream>) {
    let silent = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
    bind(&silent, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    listen(&silent, 0).unwrap();
    let address: SocketAddr = rustix::net::getsockname(&silent).unwrap().try_into().unwrap();
    let filler = TcpStream::connect(address).unwrap();
    (address, silent, vec![filler])
}

/// The same for a Unix socket.
fn full_unix(path: &Path) -> (rustix::fd::OwnedFd, UnixStream) {
    let silent = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
    bind(&silent, &SocketAddrUnix::new(path).unwrap()).unwrap();
    listen(&silent, 0).unwrap();
    (silent, UnixStream::connect(path).unwrap())
}

/// Begins a response so, and goes on with this piece for as long as the balancer listens.
fn drips(begin: Vec<u8>, piece: Vec<u8>) -> Origin {
    Origin::start(move |visit| {
        visit.take(1);
        visit.send(&begin);
        while visit.try_send(&piece) {
            thread::park_timeout(Duration::from_millis(20));
        }
    })
}

/// Each server here keeps its probe for as long as the time limit is, ten minutes, and the test takes a few seconds: a
/// probe that waited for one of them would never come.
#[test]
fn what_hangs_delays_no_probe_of_another_server_and_ends_with_the_balancer() {
    let folder = tempfile::tempdir().unwrap();
    let (pids, runs) = (folder.path().join("pids"), folder.path().join("runs"));
    let ends_never = format!(
        "trap '' TERM; sleep 1000 & echo $! >> {0}; echo $$ >> {0}; wait; sleep 1000",
        pids.display()
    );
    let (unaccepted, _listener, _filler) = full();
    let unix = folder.path().join("full.sock");
    let _unix = full_unix(&unix);
    let silent: Vec<Origin> = (0..30).map(|_| Origin::stalls()).collect();
    let heads: Vec<Origin> =
        (0..10).map(|_| drips(b"HTTP/1.1 200 OK\r\nX: ".to_vec(), b"x".to_vec())).collect();
    let bodies: Vec<Origin> =
        (0..10).map(|_| drips(b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), b"x".to_vec())).collect();
    let banner = drips(b"220 ".to_vec(), b"x".to_vec());
    let pings = drips(frame(4, 0, 0, &[]), frame(6, 0, 0, &[7; 8]));
    let settings = drips(Vec::new(), frame(4, 0, 0, &[0, 3, 0, 0, 0, 100]));
    let bytes = drips(Vec::new(), vec![0]);
    let health = Health::good();
    let (http, tcp, grpc) = (Origin::responds("well"), tcp_peer(&health), grpc_peer(&health));
    let named = |begin: &str, origins: &[&Origin]| -> Vec<Value> {
        let one = |(at, origin): (usize, &&Origin)| json!({"name": format!("{begin}{at}"), "address": origin.address().to_string()});
        origins.iter().enumerate().map(one).collect()
    };
    let all: Vec<&Origin> = silent.iter().chain(&heads).chain(&bodies).collect();
    let mut of_http = named("s", &all);
    of_http.push(json!({"name": "unaccepted", "address": unaccepted.to_string()}));
    of_http.push(json!({"name": "unix", "address": format!("unix:{}", unix.display())}));
    of_http.push(json!({"name": "good", "address": http.address().to_string()}));
    let mut of_tcp = named("s", &[&banner, &silent[0]]);
    of_tcp.push(json!({"name": "good", "address": tcp.address().to_string()}));
    let mut of_grpc = named("s", &[&pings, &settings, &bytes, &silent[1]]);
    of_grpc.push(json!({"name": "good", "address": grpc.address().to_string()}));
    let of_exec =
        json!([{"name": "s0", "address": "127.0.0.1:1"}, {"name": "good", "address": "127.0.0.1:2"}]);
    let script =
        format!("if [ {{server}} = good ]; then echo run >> {}; else {ends_never}; fi", runs.display());
    let limit = json!({"timeout": "10m"});
    let check = |check: Value| with(limit.clone(), check);
    let balancer = Evenkeel::start(pools(&[
        ("http", pool(json!(of_http), check(json!({"path": "/h", "expect_body": "well"})))),
        ("tcp", pool(json!(of_tcp), check(json!({"type": "tcp", "send": "PING\r\n", "expect": "+PONG"})))),
        ("grpc", pool(json!(of_grpc), check(json!({"type": "grpc", "service": "shop.Cart"})))),
        ("exec", pool(of_exec, check(json!({"type": "exec", "command": ["/bin/sh", "-c", script]})))),
    ]));
    for good in [&http, &tcp, &grpc] {
        good.until("20 probes came", |record| record.bytes.len() >= 20);
    }
    let count = |path: &Path| fs::read_to_string(path).unwrap_or_default().lines().count();
    until("20 commands ran", || count(&runs) >= 20);
    for hanging in heads.iter().chain(&bodies).chain(&silent[2..]).chain([&banner, &pings, &settings, &bytes])
    {
        assert_eq!(hanging.connections(), 1, "its first probe is still out");
    }
    // A command that runs ends with the balancer, though it ignores that it is told to.
    until("the command has written its numbers", || count(&pids) == 2);
    let mut balancer = balancer;
    balancer.signal(Signal::TERM);
    assert_eq!(balancer.wait().code(), Some(0), "nothing that hangs holds up the end");
    for pid in fs::read_to_string(&pids).unwrap().lines() {
        until("the command has ended", || {
            let state = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            state.is_empty() || state.contains(") Z ") || state.contains(") X ")
        });
    }
}

/// With the interval of an hour, only the other two can bring the next probe within this test.
#[test]
fn a_change_is_confirmed_by_the_fast_interval_and_a_server_that_is_down_asked_by_its_own() {
    let (steady, mut server) = (Origin::responds("ok"), Origin::responds("ok"));
    let check = json!({"interval": "1h", "fast_interval": "10ms", "down_interval": "15ms", "path": "/h"});
    let balancer = Evenkeel::before(&[&steady, &server], json!({"servers": pool(Value::Null, check)}));
    let line = |word: &str| format!("server b ({}) is {word}", server.address());
    let (up, down) = (line("up"), line("down"));
    balancer.logs(&up);
    server.stop();
    // A request that fails brings the next probe forward; those that follow come by `fast_interval`.
    until("it is down", || {
        assert_eq!(status_of(&balancer, "/"), 200, "the other server gets it");
        lines_with(&balancer, &down) > 0
    });
    server.start_again();
    until("it is up again", || lines_with(&balancer, &up) == 2);
    assert_eq!(steady.requests().iter().filter(|seen| seen.target() == "/h").count(), 1, "by the interval");
}

#[test]
fn a_server_that_is_down_is_not_asked_before_its_interval() {
    let (fails, asked) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let server = {
        let (fails, asked) = (Arc::clone(&fails), Arc::clone(&asked));
        Origin::replies(move |visit| {
            asked.fetch_add(1, SeqCst);
            visit.send(if fails.load(SeqCst) { ok("").replace("200 OK", "500 No") } else { ok("") });
        })
    };
    let steady = Origin::responds("ok");
    let check = json!({"interval": "20ms", "down_interval": "1h", "path": "/h"});
    let balancer = Evenkeel::before(&[&steady, &server], json!({"servers": pool(Value::Null, check)}));
    until("it is probed as any other", || asked.load(SeqCst) >= 3);
    fails.store(true, SeqCst);
    balancer.logs(&format!("server b ({}) is down: 2 probes failed in a row", server.address()));
    let (at_b, at_a) = (asked.load(SeqCst), steady.count());
    steady.until("50 further probes came", |record| record.requests.len() >= at_a + 50);
    assert_eq!(asked.load(SeqCst), at_b);
}

#[test]
fn a_command_that_takes_too_long_is_a_failed_probe() {
    let script = "echo waiting for {host} port {port}; sleep 1000";
    let check = json!({"type": "exec", "command": ["/bin/sh", "-c", script], "timeout": "1s", "fall": 1});
    let servers = json!([{"name": "a", "address": "127.0.0.1:7"}]);
    let balancer = Evenkeel::start(json!({"servers": pool(servers, check)}));
    let line = balancer.logs("is down: a probe failed (no result in 1s");
    assert!(line.ends_with("at /bin/sh"), "{line}");
}
