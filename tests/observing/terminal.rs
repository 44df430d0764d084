//! `evenkeel top` in a terminal of its own (script(1) of util-linux), and what `status` says to scripts.

use crate::support::balancer::ADMIN;
use crate::support::{DEADLINE, Evenkeel, Origin, Shared, until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::thread;

/// Leaves the alternate screen.
const RESTORED: &str = "\x1b[?1049l";

/// A command in a terminal of 80 by 24.
struct Terminal {
    child: Child,
    screen: Shared<String>,
}

impl Terminal {
    fn start(balancer: &Evenkeel, line: &str) -> Self {
        let inside = format!("stty cols 80 rows 24; exec {} {line}", env!("CARGO_BIN_EXE_evenkeel"));
        let mut command = Command::new("script");
        command.args(["-qec", &inside, "/dev/null"]).current_dir(balancer.folder()).process_group(0);
        command.env("TERM", "xterm-256color").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("script, of util-linux");
        let (mut output, screen) = (child.stdout.take().unwrap(), Shared::default());
        let written: Shared<String> = screen.clone();
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = output.read(&mut bytes) {
                written.change(|screen| screen.push_str(&String::from_utf8_lossy(&bytes[..count])));
            }
        });
        Terminal { child, screen }
    }

    /// Waits until this was written.
    #[track_caller]
    fn shows(&self, text: &str) {
        let found = self.screen.wait_for(DEADLINE, |screen| screen.contains(text).then_some(()));
        assert!(found.is_some(), "{text:?} is not in {:?}", self.screen.look(Clone::clone));
    }

    fn press(&mut self, keys: &str) {
        self.child.stdin.as_mut().unwrap().write_all(keys.as_bytes()).unwrap();
    }

    /// The process in the terminal.
    fn inside(&self) -> i32 {
        let script = self.child.id();
        let children = std::fs::read_to_string(format!("/proc/{script}/task/{script}/children")).unwrap();
        children.split_whitespace().next().unwrap().parse().unwrap()
    }

    fn wait(&mut self) -> Option<i32> {
        let mut status = None;
        until("the command ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap().code()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn balancer(origin: &Origin) -> Evenkeel {
    Evenkeel::before(&[origin], json!({ "admin": { "socket": ADMIN } }))
}

fn evenkeel(balancer: &Evenkeel, line: &str) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_evenkeel"));
    let output = command.args(line.split(' ')).current_dir(balancer.folder()).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8(said).unwrap())
}

fn state(balancer: &Evenkeel) -> Value {
    let status: Value = serde_json::from_str(&evenkeel(balancer, "status --json").1).unwrap();
    status["servers"][0]["state"].clone()
}

#[test]
fn top_shows_the_balancer_drains_a_server_and_restores_the_terminal() {
    let origin = Origin::responds("ok");
    let balancer = balancer(&origin);
    let mut top = Terminal::start(&balancer, "top");
    top.shows(&format!("pid {}", balancer.pid()));
    top.shows("requests/s");
    top.press("d");
    top.shows("y: yes");
    top.press("y");
    top.shows("was set to drain");
    assert_eq!(state(&balancer), "drain");
    top.press("r");
    until("it is ready again", || state(&balancer) == "up");
    top.press("q");
    assert_eq!(top.wait(), Some(0));
    top.shows(RESTORED);
}

/// The balancer stands still, and a call takes its whole time: the next key is heeded before that is over.
#[test]
fn keys_of_top_work_while_the_balancer_does_not_respond() {
    let origin = Origin::responds("ok");
    let balancer = balancer(&origin);
    let mut top = Terminal::start(&balancer, "top");
    top.shows("requests/s");
    balancer.signal(Signal::STOP);
    let count = |top: &Terminal, text: &str| top.screen.look(|screen| screen.matches(text).count());
    // Tried again on a machine that is too slow to see it the first time.
    until("a key is heeded during a call", || {
        let before = count(&top, "not changed");
        for keys in ["d", "yd"] {
            let prompts = count(&top, "y: yes");
            top.press(keys);
            until("it asks", || count(&top, "y: yes") > prompts);
        }
        let is_during = count(&top, "not changed") == before;
        top.press("n");
        is_during
    });
    top.press("q");
    assert_eq!(top.wait(), Some(0));
    top.shows(RESTORED);
    balancer.signal(Signal::CONT);
}

#[test]
fn a_signal_restores_the_terminal() {
    let origin = Origin::responds("ok");
    let balancer = balancer(&origin);
    let mut top = Terminal::start(&balancer, "top");
    top.shows("requests/s");
    kill_process(Pid::from_raw(top.inside()).unwrap(), Signal::TERM).unwrap();
    assert_eq!(top.wait(), Some(0));
    top.shows(RESTORED);
}

#[test]
fn top_ends_with_its_terminal() {
    let origin = Origin::responds("ok");
    let balancer = balancer(&origin);
    let top = Terminal::start(&balancer, "top");
    top.shows("requests/s");
    let pid = top.inside();
    drop(top);
    until("it ends", || !std::path::Path::new(&format!("/proc/{pid}")).exists());
}

#[test]
fn without_a_terminal_top_says_what_to_use() {
    let origin = Origin::responds("ok");
    let (code, said) = evenkeel(&balancer(&origin), "top");
    assert_eq!(code, Some(1));
    assert!(said.contains("needs a terminal") && said.contains("status --watch"), "{said}");
}

#[test]
fn status_tells_a_script_whether_requests_are_served() {
    let origin = Origin::responds("ok");
    let balancer = balancer(&origin);
    let (code, said) = evenkeel(&balancer, "status --check");
    assert_eq!(code, Some(0), "{said}");
    assert!(!said.contains('\x1b'), "no colours without a terminal: {said:?}");
    let mut top = Terminal::start(&balancer, "status");
    top.shows("\x1b[32m●");
    assert_eq!(top.wait(), Some(0));
    let plain = Terminal::start(&balancer, "status --watch=50ms");
    plain.shows("\x1b[H\x1b[2J");
    let mut top = Terminal::start(&balancer, "top");
    top.shows("requests/s");
    top.press("dy");
    until("it drains", || state(&balancer) == "drain");
    let (code, said) = evenkeel(&balancer, "status --check");
    assert_eq!(code, Some(4), "{said}");
    assert!(said.contains("drained by the operator"), "{said}");
}

#[test]
fn a_watch_ends_with_its_reader() {
    let origin = Origin::responds("ok");
    let balancer = balancer(&origin);
    let mut command = Command::new(env!("CARGO_BIN_EXE_evenkeel"));
    let command = command.args(["status", "--watch=10ms"]).current_dir(balancer.folder());
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut output = child.stdout.take().unwrap();
    output.read_exact(&mut [0; 8]).unwrap();
    drop(output);
    let mut status = None;
    until("it ends", || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    assert_eq!(status.unwrap().code(), Some(0));
}
