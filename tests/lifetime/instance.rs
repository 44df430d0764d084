//! Commands meet the balancer of their configuration, and no other without being told to.

use crate::support::port::Port;
use crate::support::{Client, Evenkeel, Origin, until};
use rustix::process::Signal;
use serde_json::json;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// The balancer of `config.json` in its folder, with a server a.
fn first(origin: &Origin) -> Evenkeel {
    Evenkeel::before(&[origin], json!({"admin": {"socket": "a.sock"}}))
}

/// Runs a line in a folder; the exit code and all that it says.
#[allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
fn evenkeel(folder: &Path, line: &str) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_evenkeel"));
    let output = command.args(line.split(' ')).current_dir(folder).output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&said).into_owned())
}

#[test]
fn status_finds_the_balancer_of_its_file_by_any_name_of_that() {
    let origin = Origin::responds("ok");
    let balancer = first(&origin);
    let folder = balancer.folder();
    let elsewhere = tempfile::tempdir().expect("a folder");
    symlink(folder.join("config.json"), elsewhere.path().join("link.json")).expect("a link");
    let whole = folder.join("config.json").display().to_string();
    for (folder, line) in [
        (folder, "status".to_owned()),
        (folder, "status -c ./config.json".to_owned()),
        (folder, "status config.json".to_owned()),
        (elsewhere.path(), format!("status -c {whole}")),
        (elsewhere.path(), "status -c link.json".to_owned()),
        (elsewhere.path(), format!("status --admin unix:{}", folder.join("a.sock").display())),
    ] {
        let (code, said) = evenkeel(folder, &line);
        assert_eq!(code, Some(0), "{line}: {said}");
        assert!(said.contains(&origin.address().to_string()), "{line}: {said}");
        assert!(said.contains(&format!("pid {}", balancer.pid())), "{line}: {said}");
    }
}

/// The balancer goes on with what it read before, and so must what asks it: a container is not ended for its file.
#[test]
#[allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
fn a_file_that_is_not_valid_any_more_hides_no_running_balancer() {
    let origin = Origin::responds("ok");
    let balancer = first(&origin);
    let folder = balancer.folder();
    let check = |line: &str, code: i32, part: &str| {
        let (found, said) = evenkeel(folder, line);
        assert_eq!(found, Some(code), "{line}: {said}");
        assert!(said.contains(part), "{line}: {said}");
    };
    let pid = format!("pid {}", balancer.pid());
    for broken in ["{", r#"{"admin": {"socket": "b.sock"}, "no_such_key": 1}"#] {
        fs::write(folder.join("config.json"), broken).unwrap();
        check("healthcheck", 0, "");
        check("healthcheck --live -c ./config.json", 0, "");
        check("status", 0, &pid);
        check("reload", 1, "nothing was changed");
        check("upgrade", 3, "is not valid");
    }
    check("status --admin unix:a.sock", 0, &pid);
    check("check", 3, "is not valid");
    drop(balancer);
    let place = json!({"admin": {"socket": "a.sock", "token": "0123456789abcdef"}});
    let guarded = Evenkeel::before(&[&origin], place);
    fs::write(guarded.folder().join("config.json"), "{").unwrap();
    assert_eq!(evenkeel(guarded.folder(), "healthcheck"), (Some(0), "ready\n".to_owned()));
}

#[test]
fn check_finds_the_running_balancer_of_the_file_without_its_admin_api() {
    let port = Port::reserve();
    let balancer = Evenkeel::start(json!({"load_balancer": {"load_balancer_port": port.address().port()}}));
    let (code, said) = evenkeel(balancer.folder(), "check -c ./config.json");
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains(&format!("pid {}", balancer.pid())), "{said}");
}

#[test]
fn check_passes_the_ports_that_the_running_balancer_of_the_file_has() {
    let origin = Origin::responds("ok");
    let (port, admin) = (Port::reserve(), Port::reserve());
    let config = json!({
        "load_balancer": {"load_balancer_port": port.address().port()},
        "admin": {"socket": "a.sock", "bind": admin.address().to_string()},
    });
    let balancer = Evenkeel::before(&[&origin], config);
    let folder = balancer.folder();
    let (code, said) = evenkeel(folder, "check");
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains(&format!("pid {}", balancer.pid())), "{said}");
    let copied = fs::copy(folder.join("config.json"), folder.join("copy.json"));
    assert!(copied.is_ok());
    let (code, said) = evenkeel(folder, "check copy.json");
    assert_eq!(code, Some(1), "another file would not get them: {said}");
    for key in ["load_balancer.load_balancer_port", "admin.socket", "admin.bind"] {
        assert!(said.contains(key), "{said}");
    }
}

/// What was tried was a second start: that one runs already is the answer, and its own ports are no other program's.
#[test]
fn a_second_start_with_the_same_file_is_told_that_one_runs_already() {
    let port = Port::reserve();
    let balancer = Evenkeel::start(json!({
        "load_balancer": {"load_balancer_port": port.address().port()},
        "admin": {"socket": "a.sock"},
    }));
    let (code, said) = evenkeel(balancer.folder(), "run");
    assert_eq!(code, Some(1), "{said}");
    let runs = format!("A balancer runs with this file already (pid {})", balancer.pid());
    let first = said.lines().find(|line| !line.contains(" WARN ") && !line.contains(" INFO "));
    assert!(first.is_some_and(|line| line.contains(&runs)), "{said}");
    assert!(!said.contains("another program"), "{said}");
}

#[test]
#[allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
fn check_does_not_say_that_the_running_balancer_has_ports_that_it_has_not() {
    let (port, other) = (Port::reserve(), Port::reserve());
    let balancer = Evenkeel::start(json!({
        "load_balancer": {"load_balancer_port": port.address().port()},
        "admin": {"socket": "a.sock"},
    }));
    let check = |port: u16, says: bool| {
        let file = json!({
            "load_balancer": {"load_balancer_port": port},
            "admin": {"socket": "a.sock", "bind": null},
        });
        fs::write(balancer.folder().join("new.json"), file.to_string()).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_evenkeel"));
        command.args(["check", "-c", "-"]).current_dir(balancer.folder());
        let input = fs::File::open(balancer.folder().join("new.json")).unwrap();
        let output = command.stdin(input).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(0), "{said}");
        assert!(said.contains(&format!("pid {}", balancer.pid())), "{said}");
        assert_eq!(said.contains("which has these ports"), says, "{said}");
        assert!(said.contains(&format!(":{}", balancer.address().port())), "{said}");
    };
    check(balancer.address().port(), true);
    check(other.address().port(), false);
}

#[test]
#[allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
fn another_balancer_at_the_same_place_is_neither_shown_nor_steered() {
    let origin = Origin::responds("ok");
    let balancer = first(&origin);
    let folder = balancer.folder();
    fs::write(folder.join("second.json"), r#"{"admin": {"socket": "a.sock", "bind": null}}"#).unwrap();
    let (code, said) = evenkeel(folder, "status -c second.json");
    assert_eq!(code, Some(1), "{said}");
    for part in ["is another one", "config.json (pid ", "second.json", "--admin unix:a.sock"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let mut sample = sample(folder, "server 0 --name stranger -c second.json");
    until("the sample server says why it is not registered", || {
        fs::read_to_string(folder.join("said")).unwrap().contains("is another one")
    });
    let shown = || evenkeel(folder, "status").1;
    assert!(!shown().contains("stranger"), "{}", shown());
    stop(&mut sample);
    // The operator's word counts.
    let mut sample = self::sample(folder, "server 0 --name wanted --admin unix:a.sock -c second.json");
    until("it is registered", || shown().contains("wanted"));
    stop(&mut sample);
    until("it has taken itself out", || !shown().contains("wanted"));
    assert_eq!(Client::to(&balancer).get("/").status, 200);
}

#[allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
fn sample(folder: &Path, line: &str) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_evenkeel"));
    command.args(line.split(' ')).current_dir(folder).stdin(Stdio::null()).stdout(Stdio::null());
    command.stderr(fs::File::create(folder.join("said")).unwrap()).spawn().unwrap()
}

#[allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
fn stop(child: &mut Child) {
    rustix::process::kill_process(rustix::process::Pid::from_child(child), Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
