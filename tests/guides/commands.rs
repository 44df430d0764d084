//! The commands of the documents run: in the order in which they stand there, in a folder as their reader has it, with
//! ports from the kernel in the place of theirs and with short times in the place of long ones.

use crate::support::port::Port;
use crate::support::tls::Authority;
use crate::support::{Client, DEADLINE, until};
use flate2::Compression;
use flate2::write::GzEncoder;
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};
use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The numbers in the documents that are ports.
const PORTS: &[&str] = &["80", "443", "8000", "8080", "8443", "9001", "9002", "9003", "9301"];

/// What is written otherwise before a command runs: other times, other places.
const REPLACED: &[(&str, &str)] = &[
    ("cargo run --release -- ", "evenkeel "),
    ("--duration 30s", "--duration 200ms"),
    ("-z 10s", "-z 200ms"),
    ("--connections 100", "--connections 10"),
    ("loadtest -c 100", "loadtest -c 10"),
    ("--requests 10000", "--requests 200"),
    ("--ramp 100..1000:30s,1000:10s", "--ramp 100..200:100ms,200:100ms"),
    ("--watch=5s", "--watch=100ms"),
    ("--listen :", "--listen 127.0.0.1:"),
    ("/etc/evenkeel/config.json", "config.json"),
];

/// The beginnings of commands that are not run, and why.
const NOT_RUN: &[(&str, &str)] = &[
    ("cargo ", "it builds what is tested here, or runs this very test"),
    ("export PATH=", "the path is set"),
    ("apt-get ", "it changes the machine"),
    ("install ", "it changes the machine"),
    ("groupadd ", "it changes the machine"),
    ("chgrp ", "it needs that group"),
    ("chmod ", "it is for a file in /etc"),
    ("systemctl ", "it needs systemd, and changes the machine"),
    ("docker ", "it needs docker and a network"),
    ("evenkeel top", "it needs a terminal: tests/observing/terminal.rs has one"),
];

/// The request id that operations.md asks for.
const REQUEST_ID: &str = "4bf92f3577b34da6";

#[test]
fn the_commands_of_the_readme() {
    let mut desk = Desk::new();
    desk.write("config.json", &desk.config(json!({"servers": {"queue_capacity": 1000}})));
    assert!(desk.read_aloud("README.md") >= 20);
}

#[test]
fn the_commands_of_the_guide_for_operators() {
    let mut desk = Desk::new();
    let authority = Authority::new("authority");
    let site = authority.issue("site", &["localhost"]);
    fs::write(desk.path("ca.pem"), &authority.pem).unwrap();
    let config = json!({
        "load_balancer": {
            "trusted_proxies": ["127.0.0.1"],
            "listeners": [{"name": "https", "bind": "127.0.0.1", "port": 8443, "tls": {"certificates": [site.json()]}}],
        },
        "servers": {"list": [{"name": "a", "address": "127.0.0.1:9001"}, {"name": "b", "address": "127.0.0.1:9002"}]},
        "decisions": {"per_second": 1000},
    });
    desk.write("config.json", &desk.config(config.clone()));
    let other =
        crate::support::balancer::with(config, json!({"servers": {"algorithm": "least_connections"}}));
    desk.write("other.json", &desk.config(other));
    desk.write("requests.txt", "GET /requests weight=9\nPOST /requests\n");
    fs::write(desk.path("access.jsonl.gz"), zipped(&access_log())).unwrap();
    desk.serve("evenkeel server 9001 --name a");
    desk.serve("evenkeel server 9002 --name b");
    desk.serve("evenkeel run");
    desk.becomes_up("a");
    desk.becomes_up("b");
    assert!(desk.read_aloud("docs/operations.md") + desk.read_aloud("docs/admin-api.md") >= 25);
}

#[test]
fn the_commands_of_the_reference_and_of_the_guides() {
    let mut count = 0;
    for document in ["docs/configuration.md", "docs/guides/tls.md", "docs/guides/two-servers.md"] {
        let mut desk = Desk::new();
        desk.write("config.json", &desk.config(json!({})));
        let authority = Authority::new("authority");
        let site = authority.issue("site", &["localhost"]);
        fs::copy(site.certificate, desk.path("site.pem")).unwrap();
        fs::copy(site.key, desk.path("site.key")).unwrap();
        count += desk.read_aloud(document);
    }
    for document in ["docs/guides/drain-and-deploy.md", "docs/guides/kubernetes.md"] {
        let mut desk = Desk::new();
        let servers = json!([{"name": "app-1", "address": "127.0.0.1:9001"}]);
        desk.write("config.json", &desk.config(json!({"servers": {"list": servers}})));
        desk.serve("evenkeel run");
        count += desk.read_aloud(document);
    }
    assert!(count >= 12, "only {count} commands were run");
}

/// A document with commands that no test above reads would not be noticed.
#[test]
fn every_document_with_commands_is_read() {
    let source = fs::read_to_string(root().join("tests/guides/commands.rs")).unwrap();
    for folder in ["", "docs", "docs/guides"] {
        for entry in fs::read_dir(root().join(folder)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "md") {
                continue;
            }
            let items = items(&fs::read_to_string(&path).unwrap());
            let runs = |item: &Item| matches!(item, Item::Command(line) if reason_to_skip(line).is_none());
            let name = path.strip_prefix(root()).unwrap().display().to_string();
            assert!(!items.iter().any(runs) || source.contains(&format!("\"{name}\"")), "{name}");
        }
    }
}

/// The folder of a reader, their ports, and what they have running.
struct Desk {
    folder: TempDir,
    ports: Vec<(&'static str, Port)>,
    /// The demo takes the port of the documents, or another one if that is taken.
    demo: Option<u16>,
    running: Vec<Service>,
    /// How many commands were started that go on.
    served: usize,
}

/// A command that goes on until it is ended, in a process group of its own: an upgrade leaves another process.
struct Service {
    child: Child,
    is_balancer: bool,
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        let _ = self.child.wait();
    }
}

impl Desk {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("bin")).unwrap();
        symlink(env!("CARGO_BIN_EXE_evenkeel"), folder.path().join("bin/evenkeel")).unwrap();
        // A response that is an error fails the command.
        fs::write(folder.path().join(".curlrc"), "fail-with-body\nsilent\nshow-error\nmax-time = 60\n")
            .unwrap();
        let ports = PORTS.iter().map(|number| (*number, Port::reserve())).collect();
        Desk { folder, ports, demo: None, running: Vec::new(), served: 0 }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), self.with_ports(text)).unwrap();
    }

    /// A configuration on the ports that the documents suppose, on loopback alone.
    fn config(&self, more: Value) -> String {
        let base = json!({
            "load_balancer": {"bind": "127.0.0.1", "load_balancer_port": "8000"},
            "admin": {"bind": "127.0.0.1:9301"},
        });
        crate::support::balancer::with(base, more).to_string()
    }

    /// With our ports in the place of those in a text: numbers that are no part of another word.
    fn with_ports(&self, text: &str) -> String {
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '.';
        let words = text.split_inclusive(|c| !is_word(c));
        let ours = |word: &str| {
            let (number, end) = word.split_at(word.find(|c| !is_word(c)).unwrap_or(word.len()));
            self.port(number).map_or(word.to_owned(), |port| format!("{port}{end}"))
        };
        words.map(ours).collect()
    }

    /// The port that stands here for this one of the documents.
    fn port(&self, number: &str) -> Option<u16> {
        let reserved = self.ports.iter().find(|(port, _)| *port == number)?.1.address().port();
        Some(self.demo.filter(|_| number == "8000").unwrap_or(reserved))
    }

    /// Runs every command of a document, and writes its whole configurations where it says so. Returns how many ran.
    fn read_aloud(&mut self, document: &str) -> usize {
        let mut count = 0;
        for item in items(&fs::read_to_string(root().join(document)).unwrap()) {
            match item {
                Item::Configuration(text) if text.contains("\"servers\"") && document.contains("guides") => {
                    let config: Value = serde_json::from_str(&text).unwrap();
                    let local =
                        json!({"load_balancer": {"bind": "127.0.0.1"}, "admin": {"bind": "127.0.0.1:9301"}});
                    self.write("config.json", &crate::support::balancer::with(config, local).to_string());
                }
                Item::Configuration(_) => (),
                Item::Command(line) if reason_to_skip(&line).is_some() => (),
                Item::Command(line) => {
                    self.run(document, &line);
                    count += 1;
                }
            }
        }
        count
    }

    fn run(&mut self, document: &str, line: &str) {
        let line = line.split(" # ").next().unwrap().trim();
        if line.starts_with("curl") && !has_curl() {
            eprintln!("{document}: without curl this was not run: {line}");
        } else if is_service(line) {
            self.serve(line);
        } else if line.starts_with("evenkeel explain") {
            self.explain(document, line);
        } else if line.starts_with("evenkeel loadtest") {
            check(document, line, &again(|| self.output(line)));
        } else {
            check(document, line, &self.output(line));
        }
    }

    /// The last decisions are there a moment after their responses, and the next one needs a request.
    fn explain(&self, document: &str, line: &str) {
        let address = SocketAddr::from(([127, 0, 0, 1], self.port("8000").unwrap()));
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    let request = format!("GET / HTTP/1.1\r\nHost: a\r\nX-Request-Id: {REQUEST_ID}\r\n\r\n");
                    let client = Client::connect(address);
                    client.map(|mut client| client.send(request).try_response().map(|_| ())).ok();
                    thread::park_timeout(Duration::from_millis(20));
                }
            });
            let output = again(|| self.output(line));
            is_over.store(true, Ordering::Relaxed);
            check(document, line, &output);
        });
    }

    /// The line as it is run here.
    fn command(&self, line: &str) -> Command {
        self.command_as_it_stands(&self.with_ports(&shortened(line)))
    }

    fn command_as_it_stands(&self, line: &str) -> Command {
        let mut command = Command::new("sh");
        let path = format!("{}:{}", self.path("bin").display(), std::env::var("PATH").unwrap_or_default());
        command.args(["-c", line]).current_dir(self.folder.path());
        command
            .env("PATH", path)
            .env("CURL_HOME", self.folder.path())
            .env_remove("RUST_LOG")
            .stdin(Stdio::null());
        command
    }

    fn output(&self, line: &str) -> Output {
        self.command(line).output().unwrap()
    }

    /// Starts a command that goes on, and waits until it says that it is ready. One balancer takes the place of another, with
    /// all that was started before it.
    fn serve(&mut self, line: &str) {
        let is_balancer = !line.contains("server ") && !line.contains("--watch");
        if is_balancer && self.running.iter().any(|service| service.is_balancer) {
            self.running.clear();
            self.demo = None;
        }
        self.served += 1;
        // A file of its own: what was started before goes on writing to another one.
        let (said, name) = (self.path(&format!("said-{}.txt", self.served)), line.to_owned());
        let file = fs::File::create(&said).unwrap();
        let mut command = self.command(&format!("exec {line}"));
        command.stdout(file.try_clone().unwrap()).stderr(file).process_group(0);
        let child = command.spawn().unwrap();
        self.running.push(Service { child, is_balancer });
        let has_balancer = self.running.iter().any(|service| service.is_balancer);
        let ready = match line {
            _ if line.contains("--watch") => "pool default",
            _ if line.ends_with(" demo") => "ctrl-C stops it",
            _ if !is_balancer && has_balancer => "is registered with the balancer",
            _ if !is_balancer => "listens on",
            _ => "ready on http",
        };
        until(&format!("{name} says {ready}"), || fs::read_to_string(&said).unwrap().contains(ready));
        if line.ends_with(" demo") {
            self.demo(&fs::read_to_string(&said).unwrap());
        }
    }

    /// The demo prints commands for its own ports, which can be pasted as they stand.
    fn demo(&mut self, said: &str) {
        let port: String = said
            .split("http://localhost:")
            .nth(1)
            .unwrap()
            .chars()
            .take_while(char::is_ascii_digit)
            .collect();
        self.demo = Some(port.parse().unwrap());
        let lines: Vec<&str> = said
            .lines()
            .filter(|line| line.starts_with("  curl ") || line.starts_with("  evenkeel "))
            .collect();
        assert!(lines.len() >= 5, "{said}");
        for line in lines {
            let line = shortened(line.split(" # ").next().unwrap().trim());
            if !line.contains("curl") || has_curl() {
                check("the demo", &line, &again(|| self.command_as_it_stands(&line).output().unwrap()));
            }
        }
    }

    fn becomes_up(&self, server: &str) {
        let is_up = || {
            let output = self.output("evenkeel status --json");
            let status: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
            let mut servers = status["servers"].as_array().into_iter().flatten();
            servers.any(|one| one["name"] == server && one["state"] == "up")
        };
        until(&format!("{server} is up"), is_up);
    }
}

/// The output once the command succeeds: a load of 200 ms has no response on a machine that stands still for that long.
fn again(run: impl Fn() -> Output) -> Output {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let output = run();
        if output.status.success() || Instant::now() > deadline {
            return output;
        }
    }
}

/// What a document has for its reader to do.
enum Item {
    Command(String),
    Configuration(String),
}

/// The lines of all blocks in `sh`, continued ones joined, and the blocks in `json`, in their order.
fn items(text: &str) -> Vec<Item> {
    let mut items = Vec::new();
    let mut lines = text.lines().map(str::trim);
    while let Some(line) = lines.next() {
        let inside = lines.by_ref();
        match line {
            "```sh" => {
                let block: Vec<&str> = inside.take_while(|line| *line != "```").collect();
                let joined = block.join("\n").replace("\\\n", " ");
                items.extend(joined.lines().map(|line| Item::Command(line.to_owned())));
            }
            "```json" => {
                let block: Vec<&str> = inside.take_while(|line| *line != "```").collect();
                items.push(Item::Configuration(block.join("\n")));
            }
            _ => (),
        }
    }
    items
}

/// With what is [`REPLACED`], and for a load that does not say so an end and few connections.
fn shortened(line: &str) -> String {
    let mut line = REPLACED.iter().fold(line.to_owned(), |line, (theirs, ours)| line.replace(theirs, ours));
    if line.starts_with("evenkeel loadtest") {
        let has = |keys: &[&str]| keys.iter().any(|key| line.contains(key));
        let has_end = has(&["-z ", "--duration", "--requests", "--ramp"]);
        let has_connections = has(&["-c ", "--connections"]);
        line.push_str(if has_end { "" } else { " -z 200ms" });
        line.push_str(if has_connections { "" } else { " -c 10" });
    }
    line
}

fn reason_to_skip(line: &str) -> Option<&'static str> {
    let line = line.replace("cargo run --release -- ", "evenkeel ");
    NOT_RUN.iter().find(|(start, _)| line.starts_with(start)).map(|(_, reason)| *reason)
}

/// Whether a command goes on until it is ended.
fn is_service(line: &str) -> bool {
    line == "evenkeel"
        || line.ends_with(" demo")
        || line.starts_with("evenkeel server ")
        || line.contains("--watch")
        || line.starts_with("evenkeel run") && !line.contains("--print-config")
}

#[track_caller]
fn check(document: &str, line: &str, output: &Output) {
    let (said, failed) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{document}: {line}\n{}\n{said}\n{failed}", output.status);
    assert!(!failed.contains("panicked"), "{document}: {line}\n{failed}");
    let is_silent = line.contains(" > ") || line.contains("--check");
    assert!(is_silent || !said.trim().is_empty(), "{document}: {line} said nothing");
}

fn has_curl() -> bool {
    Command::new("curl").arg("--version").output().is_ok_and(|output| output.status.success())
}

/// Lines as `access_format` `json` has them, of two servers, a request each 10 ms.
fn access_log() -> String {
    let line = |number: usize| {
        let time = format!("2026-11-27T12:00:{:02}.{:03}Z", number / 100, number % 100 * 10);
        let server = if number.is_multiple_of(2) { "a" } else { "b" };
        json!({
            "time": time, "client": "127.0.0.1", "listener": "default", "route": null, "pool": "default", "server": server,
            "method": "GET", "target": "/requests", "host": "localhost", "status": 200, "reason": null,
            "received_bytes": 0, "sent_bytes": 100, "total_ms": 5.0, "queue_ms": null, "connect_ms": null, "tries": 1,
        })
    };
    (0..500).map(|number| line(number).to_string() + "\n").collect()
}

fn zipped(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
