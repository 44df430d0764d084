//! What happens when the log, or what stands in for it, cannot be written: everything but the log goes on.

use crate::support::balancer::{list, with};
use crate::support::port::Port;
use crate::support::{Client, Evenkeel, Origin, until, unused_port};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

const GET: &str = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";
/// A request that leaves a line in the log at `debug`.
const BAD: &str = "GET / HTTP/1.1\r\nHost: a b\r\n\r\n";
/// Lines that may wait for the log's reader, and some.
const MORE_THAN_WAIT: usize = 1500;

/// Both ends of a pipe that is full: a thread that writes into it waits until it is read.
fn full_pipe() -> (File, OwnedFd) {
    let (read, write) = rustix::pipe::pipe().unwrap();
    let flags = fcntl_getfl(&write).unwrap();
    fcntl_setfl(&write, flags | OFlags::NONBLOCK).unwrap();
    let mut filler = File::from(write.try_clone().unwrap());
    for size in [4096, 1] {
        while filler.write(&vec![b'\n'; size]).is_ok() {}
    }
    fcntl_setfl(&write, flags).unwrap();
    (File::from(read), write)
}

/// The built binary with outputs of the test's choice.
struct Program {
    child: Child,
    port: Port,
    folder: TempDir,
}

impl Program {
    /// Runs the balancer.
    fn balancer(config: Value, stdout: Stdio, stderr: Stdio) -> Self {
        Self::start(Command::new(env!("CARGO_BIN_EXE_evenkeel")), config, stdout, stderr)
    }

    fn start(mut command: Command, config: Value, stdout: Stdio, stderr: Stdio) -> Self {
        let (port, folder) = (Port::reserve(), tempfile::tempdir().unwrap());
        let base = json!({
            "load_balancer": { "load_balancer_port": port.address().port(), "bind": "127.0.0.1" },
            "servers": { "health_check": { "enabled": false }, "load_report": { "enabled": false } },
            "admin": { "socket": "admin.sock", "bind": null },
            "log": { "level": "debug" },
        });
        fs::write(folder.path().join("config.json"), with(base, config).to_string()).unwrap();
        command.current_dir(folder.path()).env_remove("RUST_LOG").stdin(Stdio::null());
        let child = command.stdout(stdout).stderr(stderr).spawn().unwrap();
        Program { child, port, folder }
    }

    fn client(&self) -> Client {
        let mut client = None;
        until("it listens", || {
            client = Client::connect(self.port.address()).ok();
            client.is_some()
        });
        client.unwrap()
    }

    /// What a request to its admin API brings.
    fn admin(&self, path: &str) -> String {
        let mut stream = UnixStream::connect(self.folder.path().join("admin.sock")).unwrap();
        stream.set_read_timeout(Some(crate::support::DEADLINE)).unwrap();
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        let mut page = String::new();
        stream.read_to_string(&mut page).unwrap();
        page
    }

    fn metric(&self, name: &str) -> u64 {
        let page = self.admin("/metrics");
        let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in\n{page}")).parse().unwrap()
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.child.id() as i32).unwrap(), signal).unwrap();
    }

    /// Its exit code, once it has ended. A thread that waits for a reader that is stuck would never end.
    #[track_caller]
    fn ends(&mut self) -> Option<i32> {
        let mut status = None;
        until("it ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap().code()
    }

    #[track_caller]
    fn stops(&mut self) {
        self.signal(Signal::TERM);
        assert_eq!(self.ends(), Some(0));
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whoever does it: the operator who drains the last server is told as well.
#[test]
fn a_pool_that_the_operator_leaves_without_a_server_is_logged() {
    let origin = Origin::responds("fine");
    let balancer = Evenkeel::before(&[&origin], json!({ "admin": { "socket": "a.sock" } }));
    for (state, line) in
        [("drain", "no server can take requests: 1 of 1"), ("ready", "requests are served again")]
    {
        balancer.api_page("PATCH /api/v1/servers/a", &json!({ "state": state }).to_string()).unwrap();
        balancer.logs(line);
    }
}

/// A server that has just been added is not known yet, and a pool without servers serves no requests.
#[test]
fn requests_are_said_to_be_served_again_only_when_a_server_is_up() {
    let [mut absent, mut second, other] = [(); 3].map(|()| Origin::responds("fine"));
    [&mut absent, &mut second].into_iter().for_each(Origin::stop);
    let check = json!({ "enabled": true, "interval": "100ms", "rise": 1, "fall": 1 });
    let config = json!({ "admin": { "socket": "a.sock" },
                         "servers": { "list": list(&[&absent]), "health_check": check } });
    let balancer = Evenkeel::start(config);
    balancer.logs("no server can take requests: 1 of 1");
    let add = |name: &str, address: String| {
        let server = json!({ "name": name, "address": address }).to_string();
        balancer.api_page("POST /api/v1/servers", &server).unwrap();
    };
    add("b", second.address().to_string());
    balancer.logs("server b (");
    balancer.api_page("DELETE /api/v1/servers/b", "").unwrap();
    balancer.api_page("DELETE /api/v1/servers/a", "").unwrap();
    add("c", other.address().to_string());
    balancer.logs("server c (");
    balancer.logs("requests are served again");
    let told = balancer.log_lines().iter().filter(|line| line.contains("requests are served again")).count();
    assert_eq!(told, 1);
}

#[test]
fn with_a_reader_that_is_stuck_it_serves_checks_and_stops() {
    let (mut origin, (_read, write)) = (Origin::responds("fine"), full_pipe());
    let config = json!({ "servers": {
        "list": list(&[&origin]),
        "health_check": { "enabled": true, "interval": "100ms", "timeout": "30s" },
    } });
    let mut balancer = Program::balancer(config, Stdio::null(), write.into());
    assert_eq!(balancer.client().send(GET).response().status, 200);
    let is = |state: &str| balancer.admin("/api/v1/servers/a").contains(&format!("\"state\": \"{state}\""));
    until("the server is up", || is("up"));
    origin.stop();
    until("the server is down", || is("down"));
    origin.start_again();
    until("the server is up again", || is("up"));
    balancer.stops();
}

#[test]
fn lines_that_find_no_room_are_counted_and_reported_once_there_is_some() {
    let (read, write) = full_pipe();
    let mut balancer = Program::balancer(json!({}), Stdio::null(), write.into());
    for _ in 0..MORE_THAN_WAIT {
        assert_eq!(balancer.client().send(BAD).response().status, 400);
    }
    let lost = balancer.metric("evenkeel_log_lines_dropped_total");
    assert!(lost > 0);
    let mut lines = BufReader::new(read).lines();
    let told = lines.find(|line| line.as_ref().unwrap().contains("log lines were lost")).unwrap().unwrap();
    let told: u64 = told.split_whitespace().find_map(|word| word.parse().ok()).unwrap();
    assert!(told >= lost, "{told} are told, {lost} were counted");
    balancer.signal(Signal::TERM);
    assert!(lines.any(|line| line.unwrap().contains("stopped; ")), "the last line comes out");
    assert_eq!(balancer.ends(), Some(0));
}

#[test]
fn without_a_place_for_the_log_it_serves_and_stops() {
    let origin = Origin::responds("fine");
    let closed = || {
        let (read, write) = rustix::pipe::pipe().unwrap();
        drop(read);
        Stdio::from(write)
    };
    let full = File::options().write(true).open("/dev/full").unwrap();
    for stderr in [closed(), full.into()] {
        let mut balancer =
            Program::balancer(json!({ "servers": { "list": list(&[&origin]) } }), Stdio::null(), stderr);
        assert_eq!(balancer.client().send(GET).response().status, 200);
        until("lines are lost", || balancer.metric("evenkeel_log_lines_dropped_total") > 0);
        balancer.stops();
    }
}

#[test]
fn a_start_that_fails_ends_though_its_reason_cannot_be_written() {
    let (_read, write) = full_pipe();
    let config = json!({ "log": { "access": "no/such/folder/access.log" } });
    assert_eq!(Program::balancer(config, Stdio::null(), write.into()).ends(), Some(1));
    let (_read, write) = full_pipe();
    let config = json!({ "servers": { "weight": "?" } });
    assert_eq!(Program::balancer(config, Stdio::null(), write.into()).ends(), Some(3));
}

#[test]
fn a_sample_server_serves_and_stops_whatever_its_outputs_do() {
    let ((_out, stdout), (_error, stderr)) = (full_pipe(), full_pipe());
    let mut command = Command::new(env!("CARGO_BIN_EXE_evenkeel"));
    let port = unused_port();
    let number = port.address().port().to_string();
    command.args(["server", &number, "--bind", "127.0.0.1", "--no-register"]);
    let mut server = Program::start(command, json!({}), stdout.into(), stderr.into());
    server.port = port;
    assert_eq!(
        server
            .client()
            .send("POST /requests HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n")
            .response()
            .status,
        200
    );
    server.stops();
}

#[test]
fn an_access_log_whose_reader_is_stuck_holds_up_nothing() {
    let (origin, (_read, write)) = (Origin::responds("fine"), full_pipe());
    let config = json!({ "servers": { "list": list(&[&origin]) }, "log": { "access": "stdout" } });
    let mut balancer = Program::balancer(config, write.into(), Stdio::null());
    let mut client = balancer.client();
    for _ in 0..3 {
        assert_eq!(client.send(GET).response().status, 200);
        balancer.signal(Signal::USR1);
    }
    assert_eq!(client.send(GET).response().status, 200);
    drop(client);
    balancer.stops();
}

#[test]
fn a_file_that_may_not_grow_ends_nothing_and_cuts_no_second_line() {
    let origin = Origin::responds("fine");
    let mut shell = Command::new("sh");
    // Blocks of 512 bytes, and a soft limit that can be raised again. A shell leaves the signal as it found it.
    let line = "ulimit -S -f 8; exec \"$0\" \"$@\"";
    shell.args(["-c", line, env!("CARGO_BIN_EXE_evenkeel")]);
    let config = json!({ "servers": { "list": list(&[&origin]) }, "log": { "access": "access.log" } });
    let elsewhere = tempfile::tempdir().unwrap();
    let log = elsewhere.path().join("log");
    let mut balancer = Program::start(shell, config, Stdio::null(), File::create(&log).unwrap().into());
    let (mut client, path) = (balancer.client(), balancer.folder.path().join("access.log"));
    for _ in 0..100 {
        assert_eq!(client.send(GET).response().status, 200);
    }
    until("lines are lost", || balancer.metric("evenkeel_access_lines_dropped_total") > 0);
    // One was cut, unless the limit is behind one by chance.
    assert_eq!(fs::metadata(&path).unwrap().len() % 512, 0);
    let mut raise = Command::new("prlimit");
    raise.args(["--fsize=unlimited:", &format!("--pid={}", balancer.child.id())]);
    assert!(raise.status().expect("prlimit, of util-linux").success());
    assert_eq!(client.send(GET).response().status, 200);
    let says = |part: &str| fs::read_to_string(&log).unwrap().contains(part);
    until("the log says that it is over", || says("access log: lines are written again; "));
    assert!(says("access log: lines cannot be written: "));
    drop(client);
    balancer.stops();
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.lines().all(|line| line.matches("127.0.0.1").count() <= 1), "{text}");
    assert!(text.ends_with('\n') && text.lines().last().unwrap().starts_with("127.0.0.1 - - ["));
}

#[test]
fn a_fifo_without_a_reader_and_a_folder_are_no_access_log() {
    for (make, says) in [("mkfifo", "without a reader"), ("mkdir", "is a folder")] {
        let elsewhere = tempfile::tempdir().unwrap();
        let path = elsewhere.path().join("access.log");
        assert!(Command::new(make).arg(&path).status().unwrap().success());
        let Err((status, said)) = Evenkeel::try_start(json!({ "log": { "access": path } })) else {
            panic!("{make}: it starts")
        };
        assert!(status.code() == Some(1) && said.contains("log.access") && said.contains(says), "{said}");
    }
}

#[test]
fn a_fifo_in_the_place_of_the_old_file_leaves_the_old_file_open() {
    let origin = Origin::responds("fine");
    let balancer = Evenkeel::before(&[&origin], json!({ "log": { "access": "access.log" } }));
    let path = balancer.folder().join("access.log");
    let old = path.with_extension("old");
    fs::rename(&path, &old).unwrap();
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    balancer.signal(Signal::USR1);
    balancer.logs("the old file goes on");
    assert_eq!(Client::to(&balancer).send(GET).response().status, 200);
    until("the line is in the old file", || fs::read_to_string(&old).unwrap().lines().count() == 1);
}

#[test]
fn rejections_and_failures_are_reported_with_their_counts() {
    let origin = Origin::start(|visit| {
        while let Some(seen) = visit.request() {
            match seen.target() {
                "/garbage" => return visit.send("garbage\r\n\r\n"),
                "/large" => visit.send(format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "y".repeat(70_000))),
                _ => return,
            }
        }
    });
    let config = json!({
        "log": { "level": "info" },
        "servers": { "list": list(&[&origin]) },
    });
    let mut balancer = Evenkeel::start(config);
    let ask = |target: &str, host: &str| {
        Client::to(&balancer)
            .send(format!("POST {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"))
            .response()
            .status
    };
    for _ in 0..3 {
        assert_eq!(ask("/garbage", "h"), 502);
    }
    assert_eq!((ask("/large", "h"), ask("/closes", "h"), ask("/", "a b")), (502, 502, 400));
    // The end tells what is left: so all are counted, in one line or in two.
    balancer.signal(Signal::TERM);
    assert_eq!(balancer.wait().code(), Some(0));
    let lines = balancer.log_lines();
    // Where the machine was slow, they are those of more than the last second.
    let told = |words: [&str; 2]| {
        let has =
            |line: &&String| line.contains(" in the last ") && words.iter().all(|word| line.contains(word));
        let lines = lines.iter().filter(has);
        let counts = lines.map(|line| line.split_whitespace().nth(2).unwrap().parse::<u64>().unwrap());
        counts.sum::<u64>()
    };
    for (words, count) in [
        (["failed in the last ", " s: bad_response (502)"], 3),
        (["response_head_too_large (502): ", "Send less, or raise limits.head."], 1),
        (["failed in the last ", " s: server_reset (502)"], 1),
        (["rejected in the last ", " s: bad_host (400)"], 1),
    ] {
        assert_eq!(told(words), count, "{words:?}: {lines:#?}");
    }
    assert!(lines.iter().any(|line| line.contains("Failures by server: a ")), "{lines:#?}");
}

/// The lines of a balancer with this log, on a file of its own; `JOURNAL_STREAM` says which file is the journal's.
fn lines_of(log: Value, is_journal: bool) -> Vec<String> {
    let (folder, mut command) = (tempfile::tempdir().unwrap(), Command::new(env!("CARGO_BIN_EXE_evenkeel")));
    let path = folder.path().join("stderr");
    let file = File::create(&path).unwrap();
    let stat = rustix::fs::fstat(&file).unwrap();
    let inode = if is_journal { stat.st_ino } else { stat.st_ino + 1 };
    command.env("JOURNAL_STREAM", format!("{}:{inode}", stat.st_dev));
    let mut balancer = Program::start(command, json!({ "log": log }), Stdio::null(), file.into());
    assert_eq!(balancer.client().send(BAD).response().status, 400);
    balancer.stops();
    fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn a_log_in_json_has_an_object_on_each_line() {
    let lines = lines_of(json!({ "format": "json" }), false);
    let read: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(read.iter().all(|line| line["time"].as_str().unwrap().ends_with('Z')));
    let find =
        |part: &str| read.iter().find(|line| line["message"].as_str().unwrap().contains(part)).unwrap();
    assert_eq!(
        (&find("ready on")["level"], &find("1 request rejected")["level"]),
        (&json!("info"), &json!("info"))
    );
    // Who sent it, and what.
    let told = find("1 request rejected")["message"].as_str().unwrap();
    assert!(
        told.contains("one of them: 127.0.0.1:")
            && told.contains("sent \"GET / HTTP/1.1\", at fault is line 2"),
        "{told}"
    );
}

#[test]
fn the_journal_gets_levels_and_no_second_clock() {
    let lines = lines_of(json!({}), true);
    assert!(lines.iter().any(|line| line.starts_with("<6>ready on http://")), "{lines:?}");
    assert!(lines.iter().all(|line| line.starts_with('<') && line[2..].starts_with('>')), "{lines:?}");
    assert!(lines.iter().any(|line| line.starts_with("<7>")), "{lines:?}");
    // The variable came from a parent whose output was the journal; ours is not.
    let lines = lines_of(json!({}), false);
    assert!(lines.iter().any(|line| line.contains("Z INFO  ready on")), "{lines:?}");
}
