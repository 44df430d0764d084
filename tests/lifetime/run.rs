//! The balancer from the command line alone.

use crate::support::{Client, Origin, until};
use std::collections::HashSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

fn evenkeel(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_evenkeel"));
    command.args(arguments).stdin(Stdio::null()).env_remove("RUST_LOG");
    command
}

/// A child that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn servers_on_the_command_line_need_no_file() {
    let (one, other) = (Origin::responds("one"), Origin::responds("other"));
    let folder = tempfile::tempdir().unwrap();
    let addresses = [one.address().to_string(), format!("http://{}", other.address())];
    let arguments = ["run", "--listen", "127.0.0.1:0", "--to", &addresses[0], "--to", &addresses[1]];
    let mut command = evenkeel(&arguments);
    let child =
        command.current_dir(folder.path()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut running = Running(child);
    let mut lines = BufReader::new(running.0.stderr.take().unwrap()).lines();
    let ready = lines.by_ref().map_while(Result::ok).find(|line| line.contains("ready on http://"));
    let address = ready.unwrap().rsplit("http://").next().unwrap().trim().parse().unwrap();
    let (mut client, mut seen) = (Client::connect(address).unwrap(), HashSet::new());
    until("both servers respond", || {
        let response = client.get("/");
        assert_eq!(response.status, 200);
        seen.insert(response.text());
        seen.len() == 2
    });
}

#[test]
fn the_printed_file_is_accepted() {
    let printed =
        evenkeel(&["run", "--listen", ":8081", "--to", "127.0.0.1:9001", "--print-config"]).output().unwrap();
    assert!(printed.status.success(), "{printed:?}");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.json");
    fs::write(&file, printed.stdout).unwrap();
    let checked = evenkeel(&["check", "--file-only", "-c", file.to_str().unwrap()]).output().unwrap();
    assert!(checked.status.success(), "{checked:?}");
}

/// What is wrong with a command line, and what is said of it.
#[test]
fn mistakes_on_the_command_line_are_explained() {
    for (arguments, code, says) in [
        (&["run", "--listen", ":8080"][..], 2, "--to"),
        (&["run", "--listen", "example.com", "--to", "a:1"], 2, "is not a valid port"),
        (&["run", "--to", "a:1", "--tls-cert", "a.pem"], 2, "--tls-key"),
        (&["run", "--to", "a:1", "--listen", "https://:8443"], 2, "write --tls-cert FILE --tls-key FILE"),
        (&["run", "--to", "a:1", "--listen", ":1", "--listen", ":1"], 2, "is there twice"),
        (&["run", "--to", "a:1", "-c", "config.json"], 2, "exclude each other"),
        (&["run", "--to", "a"], 2, "--to a: "),
        (&["run", "--to", "127.0.0.1:8000"], 3, "is the balancer itself"),
    ] {
        let output = evenkeel(arguments).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(said.contains(says), "{arguments:?}: {said}");
    }
}
