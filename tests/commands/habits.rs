//! Configurations as users of nginx, HAProxy, Caddy and Traefik write their first one: what `check` accepts, `run` starts with;
//! what `run` refuses, `check` refuses with the same sentence.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread;

/// What becomes of a set-up.
enum Expected {
    Starts,
    /// The exit code, and what both commands say.
    Refused(i32, &'static [&'static str]),
}
use Expected::{Refused, Starts};

/// The place of the port that another program has.
const TAKEN: &str = "TAKEN";

/// Name, file, and what becomes of it. `{QUIET}` keeps the admin API in the folder of the test.
const SETUPS: &[(&str, &str, Expected)] = &[
    ("the smallest", r#"{ {QUIET}, "load_balancer": { "load_balancer_port": 0 } }"#, Starts),
    (
        "nginx: a proxy before two servers",
        r#"{ {QUIET}, "load_balancer": { "load_balancer_port": "0" },
            "servers": { "algorithm": "least_connections", "list": [ { "address": "127.0.0.1:9001" }, { "address": "127.0.0.1:9002", "weight": 3 } ] } }"#,
        Starts,
    ),
    (
        "HAProxy: use_backend by path and host",
        r#"{ {QUIET}, "load_balancer": { "load_balancer_port": 0 }, "pools": { "api": { "list": [ { "address": "127.0.0.1:9001" } ] } },
            "routes": [ { "host": "*.example.com", "path": "/api/*", "pool": "api" }, { "path": "/old/*", "redirect": { "status": 301, "target": "/new" } } ] }"#,
        Starts,
    ),
    (
        "Caddy: TLS, and a redirect to it",
        r#"{ {QUIET}, "load_balancer": { "bind": "127.0.0.1", "listeners": [ { "name": "http", "port": "unix:web.sock", "redirect_to_https": true },
            { "name": "https", "port": 0, "tls": { "certificates": [ { "certificate": "site.pem", "key": "site.key" } ] } } ] } }"#,
        Starts,
    ),
    (
        "Traefik: headers, limits and a login",
        r#"{ {QUIET}, "load_balancer": { "load_balancer_port": 0 }, "rate_limit": { "requests": 100, "per": "1s" },
            "routes": [ { "path": "/admin/*", "basic_auth": { "file": "users" }, "request_headers": { "set": { "X-Env": "a" } } } ] }"#,
        Starts,
    ),
    (
        "an access log and JSON",
        r#"{ {QUIET}, "load_balancer": { "load_balancer_port": 0 }, "log": { "access": "access.log", "format": "json" } }"#,
        Starts,
    ),
    (
        "variables and comments",
        r#"{ {QUIET}, /* the port */ "load_balancer": { "load_balancer_port": "${NO_PORT:-0}" }, }"#,
        Starts,
    ),
    (
        "an empty pool for later",
        r#"{ {QUIET}, "load_balancer": { "load_balancer_port": 0 }, "pools": { "later": {} } }"#,
        Starts,
    ),
    (
        "nginx: upstream and server",
        r#"{ "upstream": { "app": [ "127.0.0.1:9001" ] }, "server": { "listen": 80 } }"#,
        Refused(3, &["groups of servers are pools", "\"pools\": { \"api\"", "servers stand in \"servers\""]),
    ),
    (
        "nginx: location with proxy_pass",
        r#"{ "location": { "/": { "proxy_pass": "http://127.0.0.1:9001" } } }"#,
        Refused(3, &["what goes where stands in \"routes\"", "\"routes\": [ { \"host\""]),
    ),
    (
        "nginx: proxy_pass in a route",
        r#"{ "routes": [ { "path": "/", "proxy_pass": "http://127.0.0.1:9001" } ] }"#,
        Refused(3, &["routes[0].proxy_pass: unknown key; write \"pool\""]),
    ),
    (
        "nginx: listen at the top",
        r#"{ "listen": 8080 }"#,
        Refused(3, &["where clients connect stands in \"load_balancer\"", "\"load_balancer_port\": 8080"]),
    ),
    (
        "nginx: listen in load_balancer",
        r#"{ "load_balancer": { "listen": 8080 } }"#,
        Refused(3, &["\"load_balancer_port\": 8080"]),
    ),
    (
        "nginx: worker_processes",
        r#"{ "worker_processes": "auto" }"#,
        Refused(3, &["workers stand in \"threadpool\""]),
    ),
    (
        "nginx: client_max_body_size",
        r#"{ "client_max_body_size": "10m" }"#,
        Refused(3, &["\"limits\": { \"body\": \"10MiB\""]),
    ),
    ("nginx: gzip on", r#"{ "gzip": true }"#, Refused(3, &["\"compression\": {"])),
    (
        "nginx: least_conn",
        r#"{ "servers": { "algorithm": "least_conn", "list": [ { "address": "a:1" } ] } }"#,
        Refused(3, &["did you mean \"least_connections\"?"]),
    ),
    (
        "HAProxy: frontend and backend",
        r#"{ "frontend": { "bind": "*:80", "default_backend": "app" }, "backend": { "app": {} } }"#,
        Refused(3, &["places to connect to are listeners", "groups of servers are pools"]),
    ),
    (
        "HAProxy: balance and option in servers",
        r#"{ "servers": { "balance": "roundrobin", "option": "httpchk", "list": [] } }"#,
        Refused(
            3,
            &[
                "servers.balance: unknown key; write",
                "\"algorithm\": \"least_connections\"",
                "\"health_check\": { \"path\"",
            ],
        ),
    ),
    (
        "HAProxy: check and maxconn at a server",
        r#"{ "servers": { "list": [ { "address": "a:1", "check": true, "maxconn": 100 } ] } }"#,
        Refused(3, &["servers.list[0].check", "\"max_in_flight\": 100"]),
    ),
    (
        "HAProxy: timeouts",
        r#"{ "timeouts": { "client": "30s", "server": "30s" } }"#,
        Refused(3, &["timeouts.client: unknown key", "\"response\": \"30s\""]),
    ),
    (
        "HAProxy: global maxconn",
        r#"{ "global": { "maxconn": 4096 } }"#,
        Refused(3, &["there is no such section"]),
    ),
    (
        "Caddy: reverse_proxy to",
        r#"{ "reverse_proxy": { "to": [ "127.0.0.1:9001" ] } }"#,
        Refused(3, &["what goes where stands in \"routes\""]),
    ),
    (
        "Caddy: apps",
        r#"{ "apps": { "http": { "servers": {} } } }"#,
        Refused(3, &["what goes where stands in \"routes\""]),
    ),
    (
        "Caddy: upstreams in a pool",
        r#"{ "pools": { "a": { "upstreams": [ { "dial": "a:1" } ] } } }"#,
        Refused(3, &["the servers of a pool stand in its \"list\""]),
    ),
    (
        "Traefik: entryPoints and services",
        r#"{ "entryPoints": { "web": { "address": ":80" } }, "http": { "services": {} } }"#,
        Refused(3, &["places to connect to are listeners", "there is no such section"]),
    ),
    (
        "Traefik: loadBalancer.servers.url",
        r#"{ "pools": { "a": { "loadBalancer": { "servers": [ { "url": "http://a:1" } ] } } } }"#,
        Refused(3, &["the servers of a pool stand in its \"list\""]),
    ),
    (
        "Traefik: a rule",
        r#"{ "routes": [ { "rule": "Host(`a.example`)", "service": "a" } ] }"#,
        Refused(3, &["write the conditions as keys of the route"]),
    ),
    (
        "servers as a list of URLs",
        r#"{ "servers": [ "http://127.0.0.1:9001" ] }"#,
        Refused(3, &["expected an object, found a list; write { \"list\": [ ... ] }"]),
    ),
    (
        "an address with a scheme",
        r#"{ "servers": { "list": [ { "address": "http://127.0.0.1:9001" } ] } }"#,
        Refused(3, &["servers.list[0].address"]),
    ),
    (
        "tls at the top",
        r#"{ "tls": { "cert": "site.pem" } }"#,
        Refused(3, &["TLS belongs to a listener", "\"certificates\": [ {"]),
    ),
    (
        "a port that another program has",
        r#"{ {QUIET}, "load_balancer": { "bind": "127.0.0.1", "load_balancer_port": TAKEN } }"#,
        Refused(1, &["is taken by another program; stop that program"]),
    ),
    (
        "an address of another machine",
        r#"{ {QUIET}, "load_balancer": { "bind": "192.0.2.1" } }"#,
        Refused(1, &["192.0.2.1 is not an address of this machine"]),
    ),
    (
        "a certificate that is not there",
        r#"{ {QUIET}, "load_balancer": { "listeners": [ { "port": 0, "tls": { "certificates": [ { "certificate": "none.pem", "key": "site.key" } ] } } ] } }"#,
        Refused(1, &["load_balancer.listeners[0].tls.certificates[0].certificate", "none.pem"]),
    ),
    (
        "a key of another certificate",
        r#"{ {QUIET}, "load_balancer": { "listeners": [ { "port": 0, "tls": { "certificates": [ { "certificate": "site.pem", "key": "other.key" } ] } } ] } }"#,
        Refused(1, &["load_balancer.listeners[0].tls.certificates[0].key", "other.key"]),
    ),
    (
        "no file of users",
        r#"{ {QUIET}, "basic_auth": { "file": "none" } }"#,
        Refused(3, &["there is no file none"]),
    ),
    (
        "no page for a response",
        r#"{ {QUIET}, "load_balancer": { "load_balancer_port": 0 }, "routes": [ { "respond": { "file": "none.html" } } ] }"#,
        Refused(1, &["routes[0].respond.file: there is no file none.html"]),
    ),
    (
        "no folder for the access log",
        r#"{ {QUIET}, "load_balancer": { "load_balancer_port": 0 }, "log": { "access": "none/a.log" } }"#,
        Refused(1, &["log.access: "]),
    ),
    (
        "no folder for the admin socket",
        r#"{ "admin": { "socket": "none/a.sock", "bind": null }, "load_balancer": { "load_balancer_port": 0 } }"#,
        Refused(1, &["the folder none does not exist; create it"]),
    ),
];

fn evenkeel(folder: &Path, command: &str) -> Command {
    let mut started = Command::new(env!("CARGO_BIN_EXE_evenkeel"));
    started.arg(command).current_dir(folder).env_remove("RUST_LOG").stdin(Stdio::null());
    started
}

fn said(output: &Output) -> String {
    String::from_utf8([&output.stdout[..], &output.stderr].concat()).unwrap()
}

/// Ends it if the test fails.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs until it is ready or ends: the exit code, and what it said.
fn run(folder: &Path) -> (Option<i32>, String) {
    let mut child =
        Running(evenkeel(folder, "run").stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap());
    let mut text = String::new();
    for line in BufReader::new(child.0.stderr.take().unwrap()).lines() {
        let line = line.unwrap();
        text.push_str(&line);
        text.push('\n');
        if line.contains("ready on ") {
            return (None, text);
        }
    }
    (child.0.wait().unwrap().code(), text)
}

fn check((name, file, expected): &(&str, &str, Expected), taken: u16) {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let certificate = |path: &str, key: &str| {
        let made = rcgen::generate_simple_self_signed(vec!["a.example".to_owned()]).unwrap();
        fs::write(folder.join(path), made.cert.pem()).unwrap();
        fs::write(folder.join(key), made.signing_key.serialize_pem()).unwrap();
    };
    certificate("other.pem", "other.key");
    certificate("site.pem", "site.key");
    fs::write(folder.join("users"), format!("ann:{}", bcrypt::hash("open", 4).unwrap())).unwrap();
    let file = file.replace("{QUIET}", r#""admin": { "socket": "a.sock", "bind": null }"#);
    fs::write(folder.join("config.json"), file.replace(TAKEN, &taken.to_string())).unwrap();
    let checked = evenkeel(folder, "check").output().unwrap();
    let (code, text) = (checked.status.code().unwrap(), said(&checked));
    let (ended, told) = run(folder);
    match expected {
        Starts => assert_eq!((code, ended), (0, None), "{name}: {text}{told}"),
        Refused(expected, parts) => {
            assert_eq!((code, ended.unwrap_or(0)), (*expected, *expected), "{name}: {text}{told}");
            for part in *parts {
                assert!(text.contains(part), "{name}: check does not say {part:?}:\n{text}");
                assert!(told.contains(part), "{name}: run does not say {part:?}:\n{told}");
            }
        }
    }
}

#[test]
fn what_check_accepts_run_starts_with_and_what_run_refuses_check_refuses() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    assert!(SETUPS.len() >= 30);
    // A few at a time: each starts processes.
    for setups in SETUPS.chunks(4) {
        thread::scope(|scope| {
            for setup in setups {
                scope.spawn(move || check(setup, port));
            }
        });
    }
}

/// A file with a part of a result must not pass for a whole one.
#[test]
fn a_result_that_cannot_be_written_is_a_failure_and_a_reader_that_has_gone_is_none() {
    let folder = tempfile::tempdir().unwrap();
    for line in ["schema", "check --file-only", "check --print", "completions bash", "man", "version"] {
        let ends = |output: Stdio| {
            let mut command = evenkeel(folder.path(), line.split(' ').next().unwrap());
            let output = command.args(line.split(' ').skip(1)).stdout(output).output().unwrap();
            (output.status.code(), String::from_utf8(output.stderr).unwrap())
        };
        let (code, said) = ends(fs::File::create("/dev/full").unwrap().into());
        let why = "evenkeel: the standard output cannot be written: No space left on device (os error 28)\n";
        assert_eq!((code, &*said), (Some(1), why), "{line}");
        let (reader, writer) = rustix::pipe::pipe().unwrap();
        drop(reader);
        assert_eq!(ends(writer.into()), (Some(0), String::new()), "{line}");
    }
}
