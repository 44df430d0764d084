//! Agents beside the servers, on real sockets: what their lines make of the traffic, that the operator comes first, and what is
//! kept over a reload, an upgrade, and the end of an agent.

use crate::support::balancer::with;
use crate::support::faults::ok;
use crate::support::{Client, Evenkeel, Gate, Origin, becomes};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;

/// An agent: it says its current line to whoever connects.
struct Agent {
    origin: Origin,
    line: Arc<Mutex<String>>,
}

impl Agent {
    fn start(line: &str) -> Self {
        let line = Arc::new(Mutex::new(line.to_owned()));
        let says = Arc::clone(&line);
        let origin = Origin::start(move |visit| {
            let line = says.lock().unwrap().clone();
            visit.send(line);
        });
        Agent { origin, line }
    }

    fn says(&self, line: &str) {
        *self.line.lock().unwrap() = line.to_owned();
    }

    fn port(&self) -> u16 {
        self.origin.address().port()
    }
}

/// A server, and an agent that says nothing against it, at other addresses of this machine than those of the rest: agents of a
/// pool have the same port. Both live as long as the test.
fn elsewhere(a: &Origin, agent: &Agent) -> SocketAddr {
    let (port, agent_port) = (a.address().port(), agent.port());
    let serve = |listener: TcpListener, reply: String| {
        thread::spawn(move || {
            for mut stream in listener.incoming().map_while(Result::ok) {
                let reply = reply.clone();
                thread::spawn(move || {
                    let mut reader = BufReader::new(stream.try_clone().unwrap());
                    loop {
                        if reply.starts_with("HTTP") {
                            let mut lines = 0;
                            for line in reader
                                .by_ref()
                                .lines()
                                .map_while(Result::ok)
                                .take_while(|line| !line.is_empty())
                            {
                                lines += line.len();
                            }
                            if lines == 0 {
                                return;
                            }
                        }
                        if stream.write_all(reply.as_bytes()).is_err() || !reply.starts_with("HTTP") {
                            return;
                        }
                    }
                });
            }
        });
    };
    // Ports that are ours at 127.0.0.1 are free here.
    let listener = TcpListener::bind(("127.0.0.2", port)).unwrap();
    let address = listener.local_addr().unwrap();
    serve(listener, ok("b"));
    serve(TcpListener::bind(("127.0.0.2", agent_port)).unwrap(), "up\n".to_owned());
    address
}

fn settings(a: SocketAddr, others: &[SocketAddr], agent: Value) -> Value {
    let names = ["b", "c"];
    let mut list = vec![json!({"name": "a", "address": a.to_string()})];
    list.extend(
        others.iter().zip(names).map(|(address, name)| json!({"name": name, "address": address.to_string()})),
    );
    json!({
        "load_balancer": {"load_balancer_port": 0, "bind": "127.0.0.1"},
        "admin": {"socket": "a.sock", "bind": null}, "log": {"level": "debug"},
        "servers": {
            "algorithm": "round_robin", "list": list, "agent_check": agent,
            "health_check": {"enabled": false}, "load_report": {"enabled": false},
        },
    })
}

fn asked_at(agent: &Agent) -> Value {
    json!({"port": agent.port(), "interval": "20ms", "timeout": "20s"})
}

/// The state of server a, the part of its weight, and its limit, as the API shows them.
fn shown(balancer: &Evenkeel) -> (String, Value, Value) {
    let server = balancer.api_page("GET /api/v1/servers/a", "").unwrap_or_default();
    let state = server["state"].as_str().unwrap_or_default().to_owned();
    (state, server["agent"]["weight_percent"].clone(), server["max_in_flight"].clone())
}

#[track_caller]
fn becomes_shown(balancer: &Evenkeel, state: &str, percent: Value, most: Value) {
    becomes("server a", &(state.to_owned(), percent, most), || shown(balancer));
}

/// How many of so many requests, one after the other, server a gets.
fn share_of_a(balancer: &Evenkeel, requests: usize) -> usize {
    let mut client = Client::to(balancer);
    (0..requests).filter(|_| client.get("/").text() == "a").count()
}

#[test]
fn its_words_change_what_a_server_gets() {
    let (server, agent) = (Origin::responds("a"), Agent::start("up 75% maxconn:30\n"));
    let b = elsewhere(&server, &agent);
    let balancer = Evenkeel::start(settings(server.address(), &[b], asked_at(&agent)));
    becomes_shown(&balancer, "up", json!(75), json!(30));
    assert_eq!(share_of_a(&balancer, 70), 30, "three parts of seven");
    agent.says("drain, 50%");
    becomes_shown(&balancer, "drain", json!(50), json!(30));
    assert_eq!(share_of_a(&balancer, 10), 0);
    balancer.logs(
        "server a: its agent said \"drain, 50%\": state drain, 50 % of its weight, at most 30 requests",
    );
    agent.says("ready 100% maxconn:0\r\nthis is beyond the line");
    becomes_shown(&balancer, "up", json!(100), Value::Null);
    assert_eq!(share_of_a(&balancer, 10), 5);
    agent.says("down # the disk is full\n");
    becomes_shown(&balancer, "down", json!(100), Value::Null);
    assert_eq!(share_of_a(&balancer, 10), 0);
    let reason = balancer.api_page("GET /api/v1/servers/a", "").unwrap()["reason"].clone();
    assert_eq!(reason, json!("its agent said \"down # the disk is full\""));
    // `ready` is no word about health, and an unknown word leaves the others to count.
    agent.says("ready later:7 10%\n");
    becomes_shown(&balancer, "down", json!(10), Value::Null);
    balancer.logs("\"later:7\" is not one of its words");
    agent.says("up 0%");
    becomes_shown(&balancer, "up", json!(0), Value::Null);
    assert_eq!(share_of_a(&balancer, 10), 0, "a part of nothing");
    agent.says("100% maint");
    becomes_shown(&balancer, "maint", json!(100), Value::Null);
    agent.says("ready");
    becomes_shown(&balancer, "up", json!(100), Value::Null);
    assert_eq!(share_of_a(&balancer, 10), 5);
    balancer.metric_lines_of("evenkeel_server_agent_heard{pool=\"default\",server=\"a\"} 1");
}

/// What the page of metrics has.
trait MetricLines {
    fn metric_lines_of(&self, line: &str);
}

impl MetricLines for Evenkeel {
    #[track_caller]
    fn metric_lines_of(&self, line: &str) {
        let mut stream = UnixStream::connect(self.folder().join("a.sock")).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").unwrap();
        let mut page = String::new();
        stream.read_to_string(&mut page).unwrap();
        assert!(page.lines().any(|found| found == line), "{line}");
    }
}

#[test]
fn a_limit_of_the_agent_lets_requests_wait() {
    let gate = Gate::default();
    let (server, agent) = (Origin::waits_for(&gate, "a"), Agent::start("maxconn:1"));
    let balancer = Evenkeel::start(settings(server.address(), &[], asked_at(&agent)));
    becomes_shown(&balancer, "up", json!(100), json!(1));
    let mut clients = [Client::to(&balancer), Client::to(&balancer)];
    for client in &mut clients {
        client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    }
    let waiting =
        || balancer.api_page("GET /api/v1/pools", "").map(|pools| pools["pools"][0]["waiting"].clone());
    becomes("requests that wait", &Some(json!(1)), waiting);
    gate.open();
    for client in &mut clients {
        assert_eq!(client.response().status, 200);
    }
}

#[test]
fn a_drain_keeps_sessions_and_the_operator_comes_first() {
    let (server, agent) = (Origin::responds("a"), Agent::start("up"));
    let b = elsewhere(&server, &agent);
    let sticky = json!({"servers": {"sticky": {"cookie": "node"}}});
    let balancer = Evenkeel::start(with(settings(server.address(), &[b], asked_at(&agent)), sticky));
    becomes_shown(&balancer, "up", json!(100), Value::Null);
    // Two requests without a session: one of them is server a's.
    let mut client = Client::to(&balancer);
    let first = [client.get("/"), client.get("/")];
    let of_a = first.iter().find(|response| response.text() == "a").expect("by turn");
    let cookie = of_a.fields.one("Set-Cookie").split(';').next().unwrap().to_owned();
    let mut with_session = || {
        let request = format!("GET / HTTP/1.1\r\nHost: h\r\nCookie: {cookie}\r\n\r\n");
        client.send(request).response().text()
    };
    agent.says("drain");
    becomes_shown(&balancer, "drain", json!(100), Value::Null);
    assert_eq!((with_session(), share_of_a(&balancer, 10)), ("a".to_owned(), 0));
    agent.says("maint");
    becomes_shown(&balancer, "maint", json!(100), Value::Null);
    assert_eq!(with_session(), "b");
    agent.says("ready");
    becomes_shown(&balancer, "up", json!(100), Value::Null);
    balancer.api_page("PATCH /api/v1/servers/a", r#"{"state": "drain"}"#).unwrap();
    // The agent has said since that it is ready, and says more.
    agent.says("ready 40%");
    becomes_shown(&balancer, "drain", json!(40), Value::Null);
    assert_eq!(share_of_a(&balancer, 10), 0);
    balancer.api_page("PATCH /api/v1/servers/a", r#"{"state": "ready"}"#).unwrap();
    becomes_shown(&balancer, "up", json!(40), Value::Null);
}

#[test]
fn a_server_may_have_an_agent_of_its_own() {
    let servers = ["a", "b", "c"].map(Origin::responds);
    let (common, own) = (Agent::start("ready"), Agent::start("drain"));
    let address = |at: usize| servers[at].address().to_string();
    let list = |port: Value| json!([{"name": "a", "address": address(0)}, {"name": "b", "address": address(1), "agent_port": port}]);
    let config = |port: Value| {
        with(settings(servers[0].address(), &[], asked_at(&common)), json!({"servers": {"list": list(port)}}))
    };
    let balancer = Evenkeel::start(config(json!(own.port())));
    let state = |name: &str, key: &str| {
        let server = balancer.api_page(&format!("GET /api/v1/servers/{name}"), "");
        server.map_or(Value::Null, |server| server[key].clone())
    };
    becomes("b drains", &json!("drain"), || state("b", "state"));
    becomes("a is up", &json!("up"), || state("a", "state"));
    assert_eq!(
        [state("a", "agent_port"), state("b", "agent_port")],
        [json!(common.port()), json!(own.port())]
    );
    let c = json!({"name": "c", "address": address(2), "agent_port": own.port(), "slow_start": "10s"});
    balancer.api_page("POST /api/v1/servers", &c.to_string()).unwrap();
    becomes("c drains", &json!("drain"), || state("c", "state"));
    fs::write(balancer.folder().join("config.json"), config(Value::Null).to_string()).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_evenkeel"));
    assert!(command.arg("reload").current_dir(balancer.folder()).status().unwrap().success());
    becomes("b is as the common agent says", &json!("up"), || state("b", "state"));
    own.says("ready 50%");
    becomes("c is asked at its own", &json!(50), || state("c", "agent")["weight_percent"].clone());
    assert_eq!(state("b", "agent")["weight_percent"], json!(100));
}

#[test]
fn what_an_agent_said_stays_without_it_and_goes_with_its_key() {
    let (server, mut agent) = (Origin::responds("a"), Agent::start("drain"));
    let b = elsewhere(&server, &agent);
    let config = settings(server.address(), &[b], asked_at(&agent));
    let balancer = Evenkeel::start(config.clone());
    becomes_shown(&balancer, "drain", json!(100), Value::Null);
    agent.origin.stop();
    let error =
        || balancer.api_page("GET /api/v1/servers/a", "").map(|server| server["agent"]["error"].clone());
    becomes("the error", &Some(json!("connection refused")), error);
    balancer.logs("connection refused; \"drain\" stays");
    assert_eq!(share_of_a(&balancer, 10), 0);
    // A reload that leaves the key as it is changes nothing; one without it undoes what the agent said.
    let reload = |config: &Value| {
        fs::write(balancer.folder().join("config.json"), config.to_string()).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_evenkeel"));
        let output = command.arg("reload").current_dir(balancer.folder()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    reload(&with(config.clone(), json!({"servers": {"queue_capacity": 7}})));
    assert_eq!(shown(&balancer).0, "drain");
    reload(&with(config.clone(), json!({"servers": {"agent_check": null}})));
    becomes_shown(&balancer, "up", Value::Null, Value::Null);
    agent.says("50%");
    agent.origin.start_again();
    reload(&config);
    becomes_shown(&balancer, "up", json!(50), Value::Null);
}

#[test]
fn an_upgrade_takes_over_what_agents_said() {
    let (server, mut agent) = (Origin::responds("a"), Agent::start("drain 30%"));
    let b = elsewhere(&server, &agent);
    let mut balancer = Evenkeel::start(settings(server.address(), &[b], asked_at(&agent)));
    becomes_shown(&balancer, "drain", json!(30), Value::Null);
    agent.origin.stop();
    let pid = |balancer: &Evenkeel| {
        balancer.api_page("GET /api/v1/status", "").and_then(|told| told["instance"]["pid"].as_u64())
    };
    balancer.signal(Signal::USR2);
    let old = u64::from(balancer.pid());
    becomes("another process answers", &true, || pid(&balancer).is_some_and(|pid| pid != old));
    let successor = Successor(pid(&balancer).unwrap() as i32);
    assert_eq!(shown(&balancer), ("drain".to_owned(), json!(30), Value::Null));
    assert_eq!(balancer.wait().code(), Some(0));
    assert_eq!(share_of_a(&balancer, 10), 0);
    drop(successor);
}

/// A process that took over; it ends with the test.
struct Successor(i32);

impl Drop for Successor {
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_raw(self.0).unwrap(), Signal::KILL);
    }
}

#[test]
fn an_agent_that_hangs_delays_no_other() {
    let servers: Vec<Origin> = (0..3).map(|_| Origin::responds("s")).collect();
    let (silent, agent) = (Origin::stalls(), Agent::start("up 40%"));
    let pool = |servers: &[Origin], port: u16| {
        let list: Vec<Value> =
            servers.iter().map(|one| json!({"address": one.address().to_string()})).collect();
        let asked = json!({"port": port, "interval": "10ms", "timeout": "10m"});
        json!({"list": list, "agent_check": asked, "health_check": {"enabled": false}})
    };
    let pools = json!({
        "hanging": pool(&servers, silent.address().port()),
        "good": pool(&servers[..1], agent.port()),
    });
    let routes = json!([{"path": "/h", "pool": "hanging"}, {"path": "/g", "pool": "good"}]);
    let balancer = Evenkeel::start(json!({"pools": pools, "routes": routes}));
    agent.origin.until("30 questions came", |record| record.bytes.len() >= 30);
    assert_eq!(silent.connections(), 3, "each question is still out");
    // Without a word a server is as configured.
    assert_eq!(Client::to(&balancer).get("/h").status, 200);
}
