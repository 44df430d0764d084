//! Upgrades of the running binary: no request fails, no WebSocket is cut, and a new process that does not start changes
//! nothing. Sockets that systemd opened. What the Debian package does with the service.

use crate::support::balancer::list;
use crate::support::port::Port;
use crate::support::{Client, DEADLINE, Evenkeel, Gate, Origin, until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread;
use std::time::{Duration, Instant};

const UPGRADE: &str = "GET /ws HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
const SWITCH: &str = "HTTP/1.1 101 S\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
/// A masked frame with the text "hi", and what the server makes of it.
const HI: (&[u8], &[u8]) = (&[0x81, 0x82, 0, 0, 0, 0, b'h', b'i'], &[0x81, 2, b'h', b'i']);

/// Responds to requests, and repeats the frames of WebSockets without their masks of 0.
fn origin() -> Origin {
    Origin::start(|visit| {
        while let Some(seen) = visit.request() {
            if seen.target() != "/ws" {
                visit.response("ok");
                continue;
            }
            visit.send(SWITCH);
            while let frame = visit.take(HI.0.len())
                && frame == HI.0
            {
                visit.send(HI.1);
            }
            return;
        }
    })
}

/// A process that took over; it ends with the test.
struct Successor(u32);

impl Drop for Successor {
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_raw(self.0 as i32).unwrap(), Signal::KILL);
    }
}

fn evenkeel(balancer: &Evenkeel, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_evenkeel"));
    command.args(arguments).current_dir(balancer.folder()).output().unwrap()
}

/// Upgrades; the new process.
#[track_caller]
fn upgrade(balancer: &Evenkeel) -> Successor {
    let output = evenkeel(balancer, &["upgrade"]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(0), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let pid = said.strip_prefix("process ").unwrap().split(' ').next().unwrap();
    Successor(pid.parse().unwrap())
}

fn pid_of(balancer: &Evenkeel) -> Option<u64> {
    balancer.api_page("GET /api/v1/status", "")?["instance"]["pid"].as_u64()
}

/// Sends requests until it is told to stop, on connections that stay or on new ones; how many were served. Each has to be.
fn load(address: SocketAddr, keeps: bool, stop: &AtomicBool, served: &AtomicUsize) {
    let mut client: Option<Client> = None;
    let mut now = Instant::now();
    while !stop.load(SeqCst) {
        let before = std::mem::replace(&mut now, Instant::now());
        let is_kept = client.is_some();
        let mut current = client.take().unwrap_or_else(|| Client::connect(address).unwrap());
        let sent = current.try_send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        let response = match current.try_response() {
            Ok(response) => response,
            // An idle connection stays for half a second once the drain begins: this process stood still for longer.
            Err(_) if is_kept && before.elapsed() > Duration::from_millis(400) => continue,
            Err(broken) => panic!("no whole response: {broken:?}, {sent:?}"),
        };
        assert_eq!((response.status, &*response.text()), (200, "ok"));
        served.fetch_add(1, SeqCst);
        let closes = response.fields.all("Connection").contains(&"close".to_owned());
        client = Some(current).filter(|_| keeps && !closes);
    }
}

#[test]
fn upgrades_under_load_lose_no_request_and_web_sockets_stay() {
    let origin = origin();
    let admin = Port::reserve();
    let config = json!({
        "admin": {"socket": "a.sock", "bind": admin.address().to_string()},
        "servers": {"health_check": {"enabled": true}},
        // WebSockets are told of the drain late.
        "timeouts": {"drain": "10m"},
    });
    let mut first = Evenkeel::before(&[&origin], config);
    let mut sockets: Vec<Client> = (0..5).map(|_| Client::to(&first)).collect();
    sockets.iter_mut().for_each(|client| assert_eq!(client.send(UPGRADE).response().status, 101));
    let (stop, served) = (AtomicBool::new(false), AtomicUsize::new(0));
    let successors = thread::scope(|scope| {
        let clients: Vec<_> = [true, true, false]
            .map(|keeps| {
                let (address, stop, served) = (first.address(), &stop, &served);
                scope.spawn(move || load(address, keeps, stop, served))
            })
            .into_iter()
            .collect();
        let more = || {
            let before = served.load(SeqCst);
            until("more was served", || {
                served.load(SeqCst) > before + 50 || clients.iter().any(|client| client.is_finished())
            });
        };
        more();
        let successors: Vec<_> = (0..2)
            .map(|_| {
                let successor = upgrade(&first);
                assert_eq!(pid_of(&first), Some(u64::from(successor.0)));
                let mut published = Client::connect(admin.address()).unwrap();
                assert!(published.get("/metrics").text().contains("evenkeel_"));
                more();
                successor
            })
            .collect();
        stop.store(true, SeqCst);
        clients.into_iter().for_each(|client| client.join().unwrap());
        successors
    });
    for client in &mut sockets {
        assert_eq!(client.send(HI.0).bytes(HI.1.len()), HI.1, "the old process still has it");
        assert!(client.is_quiet());
    }
    assert!(first.runs());
    drop(sockets);
    assert_eq!(first.wait().code(), Some(0));
    first.logs(&format!("process {} has taken over", successors[0].0));
    assert_eq!(Client::to(&first).get("/").text(), "ok", "by the last one");
}

/// How many WebSockets stay open.
const SOCKETS: usize = 20;
/// A masked close frame with the status 1001.
const GOING_AWAY: [u8; 8] = [0x88, 0x82, 0, 0, 0, 0, 3, 0xe9];

/// WebSockets with frames all the time, each opened again when it was told of its end; how many were. None may end otherwise.
fn web_sockets(address: SocketAddr, stop: &AtomicBool, told: &AtomicUsize) {
    let open = || {
        let mut client = Client::connect(address).unwrap();
        assert_eq!(client.send(UPGRADE).response().status, 101);
        client
    };
    let mut clients: Vec<Client> = (0..SOCKETS).map(|_| open()).collect();
    while !stop.load(SeqCst) {
        for client in &mut clients {
            // It may be told already, and closed.
            let _ = client.try_send(HI.0);
            match client.bytes(2)[..] {
                [0x81, 2] => assert_eq!(client.bytes(2), b"hi"),
                [0x88, 2] => {
                    assert_eq!(client.bytes(2), [3, 0xe9]);
                    let _ = client.try_send(GOING_AWAY);
                    *client = open();
                    told.fetch_add(1, SeqCst);
                }
                ref other => panic!("no frame: {other:?}"),
            }
        }
    }
}

/// How many requests each of the processes that have stopped counted, as their last lines say.
fn counted(balancer: &Evenkeel) -> Vec<usize> {
    let lines = balancer.log_lines();
    let counts = lines.iter().filter_map(|line| line.split_once("requests finished since its start: "));
    let number = |text: &str| text.split(';').next().unwrap().replace(',', "").parse().unwrap();
    counts.map(|(_, rest)| number(rest)).collect()
}

/// A hundred reloads and ten upgrades at 5,000 requests/s, made by hand, are in `docs/operations.md`.
#[test]
fn reloads_and_upgrades_under_load_fail_no_request_and_cut_no_web_socket() {
    let origin = origin();
    let log = json!({ "access": "access.log" });
    let config = json!({ "admin": {"socket": "a.sock"}, "timeouts": {"drain": "2s"}, "log": log });
    let first = Evenkeel::before(&[&origin], config);
    let file = first.folder().join("config.json");
    let mut config: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    let mut reload = |round: usize| {
        config["timeouts"]["response"] = json!(format!("{}s", 40 + round));
        config["routes"] = json!([{ "path": format!("/{round}"), "respond": { "status": 204 } }]);
        fs::write(&file, config.to_string()).unwrap();
        let output = evenkeel(&first, &["reload"]);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.code(), Some(0), "{said}{}", String::from_utf8_lossy(&output.stderr));
        assert!(said.contains(&format!("-> {}s", 40 + round)), "{said}");
        let mut client = Client::connect(first.address()).unwrap();
        assert_eq!(client.get(&format!("/{round}")).status, 204, "it is in use when the command ends");
    };
    let (stop, served, told) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    let successors = thread::scope(|scope| {
        let address = first.address();
        let (stop, served, told) = (&stop, &served, &told);
        let mut clients: Vec<_> =
            [true, false].map(|keeps| scope.spawn(move || load(address, keeps, stop, served))).into();
        clients.push(scope.spawn(move || web_sockets(address, stop, told)));
        let is_broken = || clients.iter().any(|client| client.is_finished());
        (0..20).for_each(&mut reload);
        // Each stays until its WebSockets were told.
        let mut successors = Vec::new();
        for round in 1..3 {
            successors.push(upgrade(&first));
            until("the WebSockets of the old process were told", || {
                told.load(SeqCst) >= round * SOCKETS || is_broken()
            });
            reload(20 + round);
        }
        stop.store(true, SeqCst);
        clients.into_iter().for_each(|client| client.join().unwrap());
        successors
    });
    assert!(served.load(SeqCst) > 100);
    // Each request is counted once, by the process that served it.
    kill_process(Pid::from_raw(successors[1].0 as i32).unwrap(), Signal::TERM).unwrap();
    until("all three have stopped", || counted(&first).len() == 3);
    let (reloads, sockets) = (22, SOCKETS + told.load(SeqCst));
    let sent = served.load(SeqCst) + reloads + sockets;
    assert_eq!(counted(&first).iter().sum::<usize>(), sent, "{:?}", counted(&first));
    assert_eq!(fs::read_to_string(first.folder().join("access.log")).unwrap().lines().count(), sent);
}

#[test]
fn a_stop_of_all_processes_after_an_upgrade_finishes_the_requests_of_the_old_one() {
    let (arrived, gate) = (Gate::default(), Gate::default());
    let (comes, opened) = (arrived.clone(), gate.clone());
    let origin = Origin::start(move |visit| {
        while visit.request().is_some() {
            comes.open();
            opened.wait();
            visit.response("late");
        }
    });
    let config = json!({"admin": {"socket": "a.sock"}, "timeouts": {"drain": "10m"}});
    let mut first = Evenkeel::before(&[&origin], config);
    let mut client = Client::to(&first);
    client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    arrived.wait();
    let _successor = upgrade(&first);
    first.logs("has taken over");
    first.signal(Signal::TERM);
    first.logs("SIGTERM: this process drains already");
    gate.open();
    assert_eq!(client.response().text(), "late");
    assert_eq!(first.wait().code(), Some(0));
}

#[test]
fn a_new_process_that_does_not_start_changes_nothing() {
    let origin = origin();
    let folder = tempfile::tempdir().unwrap();
    let binary = folder.path().join("evenkeel");
    let put = |content: &Path| {
        // Its text is busy: a new file takes its place, as installers do it.
        let beside = folder.path().join("new");
        assert!(Command::new("cp").arg(content).arg(&beside).status().unwrap().success());
        fs::set_permissions(&beside, fs::Permissions::from_mode(0o755)).unwrap();
        fs::rename(&beside, &binary).unwrap();
    };
    put(Path::new(env!("CARGO_BIN_EXE_evenkeel")));
    let config = json!({"admin": {"socket": "a.sock"}, "servers": {"list": list(&[&origin])}});
    let mut balancer = Evenkeel::start_as(Command::new(&binary), config);
    let file = balancer.folder().join("config.json");
    let valid = fs::read_to_string(&file).unwrap();
    let broken = folder.path().join("broken");
    fs::write(&broken, "#!/bin/sh\nexit 7\n").unwrap();

    let fails = |balancer: &mut Evenkeel, why: &str| {
        let output = evenkeel(balancer, &["upgrade"]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(why) && said.contains("goes on"), "{said}");
        assert_eq!(Client::to(balancer).get("/").text(), "ok");
        assert_eq!(pid_of(balancer), Some(u64::from(balancer.pid())));
        assert!(balancer.runs());
    };
    // Kept for a way back, and the new version is not there yet.
    fs::rename(&binary, folder.path().join("evenkeel.old")).unwrap();
    fails(&mut balancer, "evenkeel cannot be started: it is not there");
    put(&broken);
    fails(&mut balancer, "ended before it was ready (exit status: 7)");
    put(Path::new(env!("CARGO_BIN_EXE_evenkeel")));
    let mut config: Value = serde_json::from_str(&valid).unwrap();
    config["log"]["access"] = json!("not-there/access.log");
    fs::write(&file, config.to_string()).unwrap();
    fails(&mut balancer, "could not start: log.access");
    fs::write(&file, "{").unwrap();
    balancer.signal(Signal::USR2);
    balancer.logs("upgrade: the new process could not start: the configuration is not valid");
    fs::write(&file, valid).unwrap();
    let successor = upgrade(&balancer);
    assert_eq!(balancer.wait().code(), Some(0));
    assert_eq!(Client::to(&balancer).get("/").text(), "ok");
    assert_eq!(pid_of(&balancer), Some(u64::from(successor.0)));
}

/// It would serve after all when it comes up, and until then keep the port without serving it.
#[test]
fn a_stop_during_an_upgrade_ends_the_new_process_too() {
    let origin = origin();
    let folder = tempfile::tempdir().unwrap();
    let (binary, hangs) = (folder.path().join("evenkeel"), folder.path().join("hangs"));
    assert!(Command::new("cp").arg(env!("CARGO_BIN_EXE_evenkeel")).arg(&binary).status().unwrap().success());
    fs::write(&hangs, "#!/bin/sh\nexec sleep 1000\n").unwrap();
    fs::set_permissions(&hangs, fs::Permissions::from_mode(0o755)).unwrap();
    let mut balancer = Evenkeel::start_as(
        Command::new(&binary),
        json!({"admin": {"socket": "a.sock"}, "servers": {"list": list(&[&origin])}}),
    );
    fs::rename(&hangs, &binary).unwrap();
    balancer.signal(Signal::USR2);
    balancer.logs("upgrade: started");
    let reload = evenkeel(&balancer, &["reload"]);
    let said = String::from_utf8_lossy(&reload.stderr);
    assert!(said.contains("Try again when it is over, which takes 30 s at most"), "{said}");
    balancer.signal(Signal::TERM);
    assert_eq!(balancer.wait().code(), Some(0));
    balancer.logs("was not ready yet, and was ended, as this one stops");
    assert!(!balancer.log_lines().iter().any(|line| line.contains("this process goes on")));
    drop(TcpListener::bind(balancer.address()).expect("the port is free"));
}

#[test]
fn the_admin_apis_changes_the_health_of_servers_and_unix_sockets_go_on() {
    let origin = origin();
    // It responds to no probe of the new process, which has to know already that it is up.
    let is_probed = AtomicBool::new(false);
    let other = Origin::start(move |visit| {
        while let Some(seen) = visit.request() {
            if seen.target() != "/" && is_probed.swap(true, SeqCst) {
                visit.to_the_end();
                return;
            }
            visit.response("ok");
        }
    });
    let config = json!({
        "load_balancer": {"load_balancer_port": 0, "listeners": null},
        "admin": {"socket": "a.sock"},
        // Nothing is known of a server for long after a start.
        "servers": {"health_check": {"enabled": true, "interval": "1h"}},
    });
    let mut config = config;
    config["load_balancer"] = json!({"listeners": [
        {"name": "web", "port": 0, "bind": "127.0.0.1"}, {"name": "local", "port": "unix:web.sock"},
    ]});
    config["servers"]["list"] = list(&[&origin]);
    config["servers"]["health_check"]["timeout"] = json!("20s");
    let mut balancer = Evenkeel::start_as(without_port(), config);
    let added = json!({"name": "n", "address": other.address().to_string(), "weight": 9});
    balancer.api_page("POST /api/v1/servers", &added.to_string()).unwrap();
    balancer.api_page("PATCH /api/v1/servers/a", r#"{"state": "drain"}"#).unwrap();
    let shown = |balancer: &Evenkeel| {
        let servers = balancer.api_page("GET /api/v1/servers", "").unwrap();
        let word = |server: &Value, key: &str| server[key].to_string().replace('"', "");
        let line =
            |server: &Value| ["name", "weight", "state", "origin"].map(|key| word(server, key)).join(" ");
        servers["servers"].as_array().unwrap().iter().map(line).collect::<Vec<_>>()
    };
    until("the new server is up", || shown(&balancer) == ["a 1 drain file", "n 9 up api"]);
    balancer.signal(Signal::USR2);
    let old = u64::from(balancer.pid());
    until("another process answers", || pid_of(&balancer).is_some_and(|pid| pid != old));
    let _successor = Successor(pid_of(&balancer).unwrap() as u32);
    assert_eq!(shown(&balancer), ["a 1 drain file", "n 9 up api"]);
    assert_eq!(balancer.wait().code(), Some(0));
    assert_eq!(Client::to(&balancer).get("/").text(), "ok");
    let mut local = UnixStream::connect(balancer.folder().join("web.sock")).unwrap();
    local.write_all(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").unwrap();
    let mut response = String::new();
    local.read_to_string(&mut response).unwrap();
    assert!(response.starts_with("HTTP/1.1 200"), "{response}");
}

/// The balancer of a configuration that has its own listeners.
fn without_port() -> Command {
    Command::new(env!("CARGO_BIN_EXE_evenkeel"))
}

#[test]
fn it_serves_on_the_socket_of_a_socket_unit_which_stays_open() {
    let origin = origin();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    // As systemd does it: the third descriptor, named, for this process.
    let script = format!(
        "exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=web exec {}",
        env!("CARGO_BIN_EXE_evenkeel")
    );
    let start = || {
        let mut command = Command::new("sh");
        command.args(["-c", &script]);
        let config = json!({
            "load_balancer": {"load_balancer_port": address.port()},
            "admin": {"socket": "a.sock"},
            "servers": {"list": list(&[&origin])},
        });
        (command, Stdio::from(OwnedFd::from(listener.try_clone().unwrap())), config)
    };
    let (command, input, config) = start();
    let mut balancer = Evenkeel::start_with_input(command, input, config);
    assert_eq!(balancer.address(), address);
    assert_eq!(Client::to(&balancer).get("/").text(), "ok");
    let successor = upgrade(&balancer);
    assert_eq!(balancer.wait().code(), Some(0));
    assert_eq!(Client::to(&balancer).get("/").text(), "ok");
    drop(successor);
    // It was killed, as by a crash. No process serves, and the kernel accepts connections for the next one.
    let mut waiting = Client::connect(address).unwrap();
    waiting.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    let (command, input, config) = start();
    let _next = Evenkeel::start_with_input(command, input, config);
    assert_eq!(waiting.response().text(), "ok", "the next process serves who has waited");
}

#[test]
fn systemd_hears_of_the_start_of_an_upgrade_and_of_the_stop() {
    let origin = origin();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let systemd = UnixDatagram::bind(&path).unwrap();
    systemd.set_read_timeout(Some(DEADLINE)).unwrap();
    let until_told = |part: &str| loop {
        let mut bytes = [0; 256];
        let count = systemd.recv(&mut bytes).unwrap_or_else(|error| panic!("{part}: {error}"));
        if String::from_utf8_lossy(&bytes[..count]).lines().any(|line| line.starts_with(part)) {
            return String::from_utf8_lossy(&bytes[..count]).into_owned();
        }
    };
    let mut command = Command::new(env!("CARGO_BIN_EXE_evenkeel"));
    command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "200000").env_remove("WATCHDOG_PID");
    let config = json!({"admin": {"socket": "a.sock"}, "servers": {"list": list(&[&origin])}});
    let mut balancer = Evenkeel::start_as(command, config);
    until_told("READY=1");
    until_told("WATCHDOG=1");
    let successor = upgrade(&balancer);
    assert!(until_told("MAINPID").contains(&format!("MAINPID={}", successor.0)));
    assert_eq!(balancer.wait().code(), Some(0));
    kill_process(Pid::from_raw(successor.0 as i32).unwrap(), Signal::TERM).unwrap();
    until_told("STOPPING=1");
}

/// Runs the script that the Debian package runs after its files are in place, among programs that only write down how they
/// were called; `fails` is a call that exits with 1. Returns the calls and what the script says.
fn after_installation(begins: &str, version: &str, fails: &str) -> (Vec<String>, String) {
    let root = tempfile::tempdir().unwrap();
    let programs = root.path().join("bin");
    fs::create_dir_all(root.path().join("run/systemd/system")).unwrap();
    fs::create_dir(&programs).unwrap();
    for name in ["systemctl", "deb-systemd-invoke", "evenkeel"] {
        let text = format!(
            "#!/bin/sh\necho \"{name} $*\" >> \"$DPKG_ROOT/calls\"\ncase \"{name} $*\" in {fails}*) exit 1;; esac\n"
        );
        fs::write(programs.join(name), text).unwrap();
        fs::set_permissions(programs.join(name), fs::Permissions::from_mode(0o755)).unwrap();
    }
    let run = |script: &str, first: &str| {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/debian").join(script);
        let path = format!("{}:/usr/bin:/bin", programs.display());
        let mut command = Command::new("sh");
        command.arg(script).args([first, version]).env("DPKG_ROOT", root.path()).env("PATH", path);
        let output = command.output().unwrap();
        assert!(output.status.success(), "an installation does not fail for that: {output:?}");
        output
    };
    run("preinst", begins);
    let output = run("postinst", "configure");
    let calls = fs::read_to_string(root.path().join("calls")).unwrap();
    (calls.lines().map(str::to_owned).collect(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn a_new_package_has_the_running_service_upgraded_and_never_restarted() {
    let (reload, upgrade) =
        ("systemctl --system daemon-reload", "evenkeel upgrade -c /etc/evenkeel/config.json");
    let (active, check) = (
        "systemctl --quiet is-active evenkeel.service",
        "evenkeel check --file-only -c /etc/evenkeel/config.json",
    );
    let nothing = "nothing";
    let start = "deb-systemd-invoke start evenkeel.service";
    for (begins, version, fails, calls, said) in [
        ("install", "", nothing, &[reload, start, check][..], ""),
        // It was removed, and its configuration was left.
        ("install", "0.1.0", nothing, &[reload, start, check], ""),
        ("upgrade", "0.1.0", nothing, &[reload, active, upgrade, check], ""),
        ("upgrade", "0.1.0", "systemctl*is-active", &[reload, active, check], ""),
        (
            "upgrade",
            "0.1.0",
            "evenkeel*upgrade",
            &[reload, active, upgrade, check],
            "previous version is still running",
        ),
        ("upgrade", "0.1.0", "evenkeel*check", &[reload, active, upgrade, check], "is not valid"),
    ] {
        let (called, told) = after_installation(begins, version, fails);
        assert_eq!(called, calls, "{begins} {version}, {fails}");
        assert!(told.contains(said) && told.is_empty() == said.is_empty(), "{fails}: {told}");
    }
}

#[test]
fn the_package_names_its_own_program_in_every_command_of_the_unit() {
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy");
    let commands = |file: &str| -> Vec<(String, String)> {
        let text = fs::read_to_string(deploy.join(file)).unwrap();
        let lines = text.lines().filter(|line| line.starts_with("Exec"));
        lines
            .map(|line| line.split_once('=').unwrap())
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect()
    };
    let own: Vec<_> =
        commands("debian/10-package.conf").into_iter().filter(|(_, value)| !value.is_empty()).collect();
    let of_unit: Vec<_> = commands("evenkeel.service")
        .into_iter()
        .map(|(key, value)| (key, value.replace("/usr/local/bin/", "/usr/bin/")))
        .collect();
    assert_eq!(own, of_unit);
    assert!(own.iter().any(|(key, _)| key == "ExecReload"));
}
