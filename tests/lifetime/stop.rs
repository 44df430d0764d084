//! How the balancer starts and stops: signals, drains, ports that are taken, the seed's file.

use crate::support::balancer::list;
use crate::support::port::Port;
use crate::support::{Broken, Client, Evenkeel, Gate, Origin, until};
use rustix::process::Signal;
use serde_json::json;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const SEED: &str = r#"{"load_balancer": {"load_balancer_port": "8000"}, "servers": {"queue_capacity": 1000}, "threadpool": {"min_workers": 1, "max_workers": 50, "queue_capacity": 100}}"#;
const GET: &str = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";

#[track_caller]
fn until_it_rejects(balancer: &Evenkeel) {
    until("new connections are refused", || Client::connect(balancer.address()).is_err());
}

#[test]
fn a_signal_drains_what_is_in_flight_is_finished_and_the_exit_code_is_0() {
    for signal in [Signal::TERM, Signal::INT, Signal::QUIT] {
        let gate = Gate::default();
        let origin = Origin::waits_for(&gate, "finished");
        let mut balancer = Evenkeel::before(&[&origin], json!({}));
        let mut client = Client::to(&balancer);
        let mut idle = Client::to(&balancer);
        client.send(GET);
        origin.until("the request came", |seen| seen.requests.len() == 1);
        balancer.signal(signal);
        until_it_rejects(&balancer);
        idle.sees_the_end();
        assert!(balancer.runs(), "it waits for the request in flight");
        gate.open();
        let response = client.response();
        assert_eq!(
            (response.text().as_str(), response.fields.one("Connection").as_str()),
            ("finished", "close")
        );
        client.sees_the_end();
        assert_eq!(balancer.wait().code(), Some(0));
    }
}

#[test]
fn a_drain_finishes_a_head_and_an_upload_that_have_begun() {
    let origin = Origin::echoes();
    let mut balancer = Evenkeel::before(&[&origin], json!({}));
    let (mut head, mut upload) = (Client::to(&balancer), Client::to(&balancer));
    // The head is parked by a worker once it has answered the request before it.
    head.send(format!("{GET}POST / HTTP/1.1\r\nHost: h\r\n"));
    assert_eq!(head.response().status, 200);
    upload.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 6\r\n\r\nup");
    origin.until("the upload's head came", |seen| seen.heads == 2);
    balancer.signal(Signal::TERM);
    until_it_rejects(&balancer);
    assert_eq!(head.send("Content-Length: 2\r\n\r\nok").response().text(), "ok");
    assert_eq!(upload.send("load").response().text(), "upload");
    assert_eq!(balancer.wait().code(), Some(0));
}

#[test]
fn a_drain_with_nothing_in_flight_is_over_at_once() {
    let origin = Origin::responds("ok");
    let mut balancer = Evenkeel::before(&[&origin], json!({}));
    let mut idle: Vec<_> = (0..10).map(|_| Client::to(&balancer)).collect();
    idle.iter_mut().for_each(|client| assert_eq!(client.get("/").status, 200));
    balancer.signal(Signal::TERM);
    assert_eq!(balancer.wait().code(), Some(0));
    idle.iter_mut().for_each(Client::sees_the_end);
    balancer_says(&balancer, "stopped");
}

fn balancer_says(balancer: &Evenkeel, what: &str) {
    balancer.logs(what);
}

#[test]
fn a_drain_ends_at_its_deadline() {
    let origin = Origin::stalls();
    let mut balancer = Evenkeel::before(&[&origin], json!({"timeouts": {"drain": "200ms"}}));
    let mut client = Client::to(&balancer);
    client.send(GET);
    until("the request came", || origin.connections() == 1);
    balancer.signal(Signal::TERM);
    assert_eq!(balancer.wait().code(), Some(0));
    assert!(
        matches!(client.try_response(), Err(Broken::End | Broken::Reset(_))),
        "no response, and no half of one"
    );
    balancer_says(&balancer, "the time for draining is over");
}

#[test]
fn a_request_that_is_not_whole_when_the_time_for_draining_is_over_gets_a_reason() {
    let origin = Origin::responds("ok");
    let mut balancer = Evenkeel::before(&[&origin], json!({"timeouts": {"drain": "500ms"}}));
    let mut client = Client::to(&balancer);
    // The rest is parked by a worker once it has answered the request before it.
    client.send(format!("{GET}POST / HTTP/1.1\r\nHost: h\r\n"));
    assert_eq!(client.response().status, 200);
    balancer.signal(Signal::TERM);
    let response = client.response();
    assert_eq!((response.status, response.reason().as_str()), (503, "draining"));
    assert_eq!(response.fields.all("Connection"), ["close"]);
    client.sees_the_end();
    assert_eq!(balancer.wait().code(), Some(0));
}

#[test]
fn a_second_signal_a_second_later_stops_at_once_and_leaves_no_socket() {
    let origin = Origin::stalls();
    let mut balancer = Evenkeel::before(&[&origin], json!({"admin": {"socket": "a.sock"}}));
    let mut client = Client::to(&balancer);
    client.send(GET);
    until("the request came", || origin.connections() == 1);
    let begun = Instant::now();
    // Those of the first second are the same request; one of the later ones is a second.
    until("it ends", || {
        balancer.signal(Signal::TERM);
        !balancer.runs()
    });
    assert!(begun.elapsed() >= Duration::from_secs(1), "{:?}", begun.elapsed());
    // Long before the drain's 30 s, and not by a crash: it has an exit code.
    assert_eq!(balancer.wait().code(), Some(1));
    assert!(client.try_response().is_err());
    assert_eq!(names(balancer.folder()), ["config.json"]);
}

#[test]
fn a_stop_signal_that_is_repeated_at_once_is_one_request() {
    for signals in [&[Signal::TERM, Signal::TERM][..], &[Signal::INT, Signal::TERM, Signal::QUIT]] {
        let gate = Gate::default();
        let origin = Origin::waits_for(&gate, "finished");
        let mut balancer = Evenkeel::before(&[&origin], json!({}));
        let mut client = Client::to(&balancer);
        client.send(GET);
        origin.until("the request came", |seen| seen.requests.len() == 1);
        for signal in signals {
            balancer.signal(*signal);
            until_it_rejects(&balancer);
        }
        gate.open();
        assert_eq!(client.response().text(), "finished", "{signals:?}");
        assert_eq!(balancer.wait().code(), Some(0), "{signals:?}");
    }
}

#[test]
fn signals_that_do_not_stop_are_answered_in_the_log() {
    let origin = Origin::responds("ok");
    let mut balancer = Evenkeel::before(&[&origin], json!({}));
    // SIGPIPE is ignored; the others follow, so that it has been delivered before the last line.
    balancer.signal(Signal::PIPE);
    for (signal, line) in
        [(Signal::USR1, "SIGUSR1: there is no access log"), (Signal::HUP, "reload: nothing has changed")]
    {
        balancer.signal(signal);
        balancer.logs(line);
    }
    assert_eq!(Client::to(&balancer).get("/").status, 200);
    balancer.signal(Signal::TERM);
    balancer.logs("SIGTERM: the ports are closed");
    balancer.signal(Signal::HUP);
    assert_eq!(balancer.wait().code(), Some(0));
}

/// The names of a folder, in order.
fn names(folder: &std::path::Path) -> Vec<String> {
    let found = fs::read_dir(folder).unwrap().flatten();
    let mut names: Vec<_> = found.map(|entry| entry.file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// One response of the admin API on the Unix socket.
fn ready(balancer: &Evenkeel) -> String {
    let mut stream = UnixStream::connect(balancer.folder().join("a.sock")).unwrap();
    stream.write_all(b"GET /ready HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    response
}

#[test]
fn a_successor_starts_and_serves_while_a_web_socket_and_a_stream_are_open() {
    const UPGRADE: &str = "GET /ws HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    let gate = Gate::default();
    let shut = gate.clone();
    let origin = Origin::start(move |visit| {
        while let Some(seen) = visit.request() {
            match seen.target() {
                "/ws" => {
                    visit.send("HTTP/1.1 101 S\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
                    let all = visit.to_the_end();
                    return visit.send(all);
                }
                "/events" => {
                    visit.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n");
                    shut.wait();
                    visit.send("3\r\ntwo\r\n0\r\n\r\n");
                }
                _ => visit.response("new"),
            }
        }
    });
    let (port, admin) = (Port::reserve(), Port::reserve());
    let config = json!({
        "load_balancer": {"load_balancer_port": port.address().port()},
        "admin": {"socket": "a.sock", "bind": admin.address().to_string()},
        // Long streams are told of the drain late.
        "timeouts": {"drain": "1h"},
    });
    let mut old = Evenkeel::before(&[&origin], config);
    let (mut tunnel, mut events) = (Client::to(&old), Client::to(&old));
    assert_eq!(tunnel.send(UPGRADE).response().status, 101);
    let (head, status) = events.send("GET /events HTTP/1.1\r\nHost: h\r\n\r\n").head();
    old.signal(Signal::TERM);
    until_it_rejects(&old);
    let mut successor = old.start_successor().expect("it has the port, the admin port and the socket");
    assert_eq!(Client::to(&successor).get("/").text(), "new");
    assert!(ready(&successor).starts_with("HTTP/1.1 200"));
    assert!(TcpStream::connect(admin.address()).is_ok());
    assert!(old.runs(), "it still has the two");
    tunnel.send("bye").finish_writing();
    assert_eq!(tunnel.rest().0, b"bye");
    gate.open();
    assert_eq!(events.body_of("GET", head, status).unwrap().text(), "onetwo");
    assert_eq!(old.wait().code(), Some(0));
    assert!(ready(&successor).starts_with("HTTP/1.1 200"), "the socket is the successor's");
    successor.signal(Signal::TERM);
    assert_eq!(successor.wait().code(), Some(0));
    assert_eq!(names(successor.folder()), ["config.json"]);
}

#[test]
fn connections_that_the_kernel_took_before_the_stop_are_served() {
    let origin = Origin::responds("ok");
    let mut balancer = Evenkeel::before(&[&origin], json!({}));
    balancer.signal(Signal::STOP);
    let mut clients: Vec<_> = (0..50).map(|_| Client::to(&balancer)).collect();
    clients.iter_mut().for_each(|client| _ = client.send(GET));
    balancer.signal(Signal::TERM);
    balancer.signal(Signal::CONT);
    for client in &mut clients {
        assert_eq!(client.response().status, 200);
    }
    assert_eq!(balancer.wait().code(), Some(0));
}

#[test]
fn a_start_that_fails_leaves_nothing_behind() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap();
    for config in [
        json!({"admin": {"socket": "a.sock", "bind": taken.to_string()}, "log": {"access": "access.log"}}),
        json!({"admin": {"socket": "a.sock"}, "log": {"access": "not-there/access.log"}}),
        json!({"admin": {"socket": "not-there/a.sock"}, "log": {"access": "access.log"}}),
        json!({"load_balancer": {"load_balancer_port": taken.port()}, "log": {"access": "access.log"}}),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let mut config = config;
        config["load_balancer"]["bind"] = json!("127.0.0.1");
        if config["load_balancer"]["load_balancer_port"].is_null() {
            config["load_balancer"]["load_balancer_port"] = json!(0);
        }
        if config["admin"].is_null() {
            config["admin"] = json!({"socket": "a.sock", "bind": null});
        } else if config["admin"]["bind"].is_null() {
            config["admin"]["bind"] = json!(null);
        }
        fs::write(folder.path().join("c.json"), config.to_string()).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_evenkeel"));
        let output = command.args(["-c", "c.json"]).current_dir(folder.path()).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{config}\n{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(names(folder.path()), ["c.json"], "{config}");
    }
}

/// A sample server as a process; its address. One that is busy for longer than a machine stands still.
fn sample_server() -> (std::process::Child, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_evenkeel"));
    command.args(["server", "0", "--no-register", "--delay", "5s", "--jitter", "0s"]);
    let pipes = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = pipes.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    (child, line.trim().rsplit("http://").next().unwrap().to_owned())
}

#[test]
fn a_sample_server_takes_repeated_signals_for_one_and_no_other_signal_ends_it() {
    let (mut server, address) = sample_server();
    let mut client = Client::connect(address.parse().unwrap()).unwrap();
    client.send("POST /requests HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n");
    let mut asks = Client::connect(address.parse().unwrap()).unwrap();
    until("the request is in progress", || {
        asks.get("/queue/status").text().replace(' ', "").contains("\"in_progress\":1")
    });
    let pid = rustix::process::Pid::from_child(&server);
    for signal in [Signal::HUP, Signal::USR1, Signal::USR2, Signal::INT, Signal::TERM, Signal::QUIT] {
        rustix::process::kill_process(pid, signal).unwrap();
    }
    assert_eq!(client.response().status, 200);
    assert_eq!(server.wait().unwrap().code(), Some(0));
}

#[test]
fn a_port_that_is_taken_is_a_sentence_and_exit_code_1() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let started = Evenkeel::try_start(json!({"load_balancer": {"load_balancer_port": port}}));
    let (status, said) = started.expect_err("two cannot have one port");
    assert_eq!(status.code(), Some(1));
    assert!(
        said.contains(&format!("port {port} of 127.0.0.1 is taken")) && said.contains("ss -ltnp"),
        "{said}"
    );
    let started =
        Evenkeel::try_start(json!({"admin": {"socket": "a.sock", "bind": format!("127.0.0.1:{port}")}}));
    let (status, said) = started.expect_err("an admin port that is named is wanted");
    assert_eq!(status.code(), Some(1));
    assert!(said.contains("admin.bind") && said.contains("is taken"), "{said}");
}

#[test]
fn an_address_that_is_not_ours_is_a_sentence_and_exit_code_1() {
    let started = Evenkeel::try_start(json!({"load_balancer": {"bind": "192.0.2.1"}}));
    let (status, said) = started.expect_err("no machine has a documentation address");
    assert_eq!(status.code(), Some(1));
    assert!(said.contains("is not an address of this machine"), "{said}");
}

/// Word for word, on its own port: where that is taken on this machine, the balancer must say so.
#[test]
fn the_seeds_configuration_starts() {
    match Evenkeel::try_start_text(SEED) {
        Ok(mut balancer) => {
            assert_eq!(balancer.address().port(), 8000);
            let mut client = Client::to(&balancer);
            let response =
                client.send("POST /requests HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n").response();
            assert_eq!((response.status, response.reason().as_str()), (503, "no_server"));
            drop(client);
            balancer.signal(Signal::INT);
            assert_eq!(balancer.wait().code(), Some(0));
        }
        Err((status, said)) => {
            assert_eq!(status.code(), Some(1), "{said}");
            assert!(said.contains("port 8000 of 0.0.0.0 is taken"), "{said}");
        }
    }
}

/// The seed's file but for its ports, which other programs of this machine may have.
#[test]
fn the_seeds_flow_works_with_the_seeds_configuration_on_a_port_of_our_own() {
    let seed: serde_json::Value = serde_json::from_str(SEED).unwrap();
    let mut config = seed;
    config["load_balancer"]["load_balancer_port"] = json!("0");
    config["admin"] = json!({"bind": null, "socket": null});
    let origin = Origin::responds("queued");
    config["servers"]["list"] = list(&[&origin]);
    let balancer = Evenkeel::try_start_text(&config.to_string()).expect("it starts");
    let mut client = Client::to(&balancer);
    for path in ["/requests", "/queue/status"] {
        client.send(format!("POST {path} HTTP/1.1\r\nHost: localhost:8000\r\nAccept: */*\r\n\r\n"));
        assert_eq!(client.response().text(), "queued");
    }
}
