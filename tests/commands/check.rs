//! The binary as an operator meets it: output and exit codes of `check`, `--help`, `--version` and of lines
//! that are wrong.

use crate::support::unused_port;
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};

const SEED: &str = r#"{"load_balancer": {"load_balancer_port": "8000"}, "servers": {"queue_capacity": 1000}, "threadpool": {"min_workers": 1, "max_workers": 50, "queue_capacity": 100}}"#;

fn evenkeel(folder: &Path, line: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_evenkeel"));
    command.args(line.split(' ').filter(|part| !part.is_empty())).current_dir(folder).env_remove("RUST_LOG");
    command.output().unwrap()
}

/// Runs a line in a folder with the file; the exit code, and what both outputs must say.
fn check(file: Option<&str>, line: &str, code: i32, out: &[&str], err: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    if let Some(file) = file {
        fs::write(folder.path().join("config.json"), file).unwrap();
    }
    let output = evenkeel(folder.path(), line);
    let said = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let (stdout, stderr) = (said(&output.stdout), said(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{line}\n{stdout}\n{stderr}");
    for (name, text, parts) in [("stdout", &stdout, out), ("stderr", &stderr, err)] {
        for part in parts {
            assert!(text.contains(part), "{line}: {name} does not say {part:?}:\n{text}");
        }
        assert!(parts.is_empty() == text.is_empty(), "{line}: {name} says\n{text}");
        assert!(!text.contains("panicked") && !text.contains("backtrace"), "{line}: {text}");
    }
}

#[test]
fn a_good_file_is_valid() {
    let summary = ["config.json is valid", "0.0.0.0:8000", "127.0.0.1:9301", "1 to 50"];
    check(Some(SEED), "check --file-only", 0, &summary, &[]);
    check(Some(SEED), "check --file-only config.json", 0, &summary, &[]);
    check(Some(SEED), "-c config.json check --file-only", 0, &summary, &[]);
    check(None, "check --file-only", 0, &["there is no config.json here; the defaults are valid"], &[]);
    let two = r#"{"servers":{"list":[{"name":"a","address":"127.0.0.1:1"},{"address":"b:2"}]},"limits":{"uri":"32KiB"}}"#;
    check(
        Some(two),
        "check --file-only",
        0,
        &["2 (dynamic): a 127.0.0.1:1, b:2", "warning: config.json:1:", "limits.uri"],
        &[],
    );
    let pools = r#"{"routes":[{"path":"/v1/*","pool":"api"}],"pools":{"api":{"algorithm":"round_robin","list":[{"address":"a:1"}]}}}"#;
    check(
        Some(pools),
        "check --file-only",
        0,
        &["  pools       api (round_robin, 1 server)\n", "  routes      1\n"],
        &[],
    );
}

/// The standard input is a configuration like any other, with its includes and variables.
#[test]
fn the_standard_input_can_be_checked() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("more.json"), r#"{ "servers": { "list": [ { "address": "more:1" } ] } }"#)
        .unwrap();
    let check = |text: &str, line: &str, code: i32, says: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_evenkeel"));
        command.args(line.split(' ')).current_dir(folder.path()).env("PORT", "8123");
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        std::io::Write::write_all(&mut child.stdin.take().unwrap(), text.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(code), "{said}");
        says.iter().for_each(|part| assert!(said.contains(part), "{part:?}: {said}"));
    };
    let good = "{ \"include\": \"more.json\", // more\n \"load_balancer\": { \"load_balancer_port\": \"${PORT}\" }, }";
    check(good, "check --file-only -c -", 0, &["the standard input is valid", ":8123", "more:1"]);
    check(good, "check --file-only -", 0, &["the standard input is valid"]);
    let bad = "{ \"include\": \"more.json\",\n \"servers\": { \"lst\": [] } }";
    check(bad, "check -c -", 3, &["standard input:2:15: servers.lst: unknown key", "is not valid: 1 fault"]);
}

const FAULTY: &str = r#"{
  "servers": {
    "list": [ { "address": "a:1", "weight": 1001 } ]
  },
  "treadpool": {}
}"#;
const FAULTS: [&str; 4] = [
    "config.json:3:45: servers.list[0].weight: 1001 is too large; write 0 to 1000\n    3 |     \"list\": [ { \"address\"",
    "^\n\nconfig.json:5:3: treadpool: unknown key; did you mean \"threadpool\"?",
    "    5 |   \"treadpool\": {}\n      |   ^",
    "config.json is not valid: 2 faults",
];

#[test]
fn every_fault_is_reported_and_the_exit_code_is_3() {
    check(Some(FAULTY), "check", 3, &FAULTS, &[]);
    for line in ["", "run", "-c config.json", "run -c config.json", "server 1", "loadtest", "status"] {
        check(Some(FAULTY), line, 3, &[], &FAULTS);
    }
    check(Some("{,}"), "check", 3, &["config.json:1:2: not JSON"], &[]);
    check(None, "check -c absent.json", 3, &["absent.json: there is no such file"], &[]);
    // It was not read, so it is not said to be invalid.
    let folder = tempfile::tempdir().unwrap();
    for (file, said) in [
        ("absent.json", "absent.json: there is no such file; look at the path, or leave it out\n"),
        (".", ".: this is a folder; name a file in it\n"),
    ] {
        let output = evenkeel(folder.path(), &format!("check {file}"));
        assert_eq!(String::from_utf8_lossy(&output.stdout), said);
    }
    check(None, "run -c absent.json", 3, &[], &["absent.json: there is no such file"]);
}

#[test]
fn help_teaches_the_product() {
    let commands =
        ["run", "demo", "server", "loadtest", "check", "status", "config.json", "Exit codes", "RUST_LOG"];
    check(None, "--help", 0, &commands, &[]);
    check(None, "-h", 0, &["Usage: evenkeel", "Exit codes"], &[]);
    check(None, "server --help", 0, &["<PORT>", "--queue-capacity", "--no-register", "POST /requests"], &[]);
    check(None, "loadtest --help", 0, &["--connections", "--rate", "closed loop"], &[]);
    check(None, "check --help", 0, &["Exits with 3"], &[]);
    check(None, "status --help", 0, &["--json", "admin.token"], &[]);
    check(None, "--version", 0, &[concat!("evenkeel ", env!("CARGO_PKG_VERSION"))], &[]);
}

#[test]
fn what_people_try_first_works() {
    let version = [concat!("evenkeel ", env!("CARGO_PKG_VERSION"))];
    for line in ["version", "-V", "-v", "--version"] {
        check(None, line, 0, &version, &[]);
    }
    check(None, "help", 0, &["Usage: evenkeel", "Exit codes"], &[]);
    check(None, "help check", 0, &["--file-only", "--print"], &[]);
    let file = r#"{"load_balancer": {"load_balancer_port": 0}, "admin": {"bind": null}}"#;
    for line in [
        "check config.json",
        "validate config.json",
        "validate",
        "-t",
        "-t config.json",
        "-t -c config.json",
        "--test",
    ] {
        check(Some(file), line, 0, &["config.json is valid"], &[]);
        check(Some(FAULTY), line, 3, &FAULTS, &[]);
    }
    for (shell, part) in
        [("bash", "complete -F"), ("zsh", "#compdef evenkeel"), ("fish", "complete -c evenkeel")]
    {
        check(None, &format!("completions {shell}"), 0, &[part, "loadtest", "healthcheck"], &[]);
    }
    check(None, "man", 0, &[".TH", "evenkeel", "Exit codes"], &[]);
    let folder = tempfile::tempdir().unwrap();
    assert!(evenkeel(folder.path(), "man --folder pages").status.success());
    for page in ["evenkeel.1", "evenkeel-check.1", "evenkeel-loadtest.1"] {
        let text = fs::read_to_string(folder.path().join("pages").join(page)).unwrap();
        let name = page.trim_end_matches(".1");
        let title = format!(".TH {name} 1 \" \" \"evenkeel {}\" Evenkeel\n", env!("CARGO_PKG_VERSION"));
        assert!(text.contains(&title), "{text}");
    }
    check(None, "schema", 0, &["https://json-schema.org/draft/2020-12/schema"], &[]);
    let printed = [r#""max_workers": 50"#, r#""threadpool.max_workers": "default""#, "config.json:1:64"];
    check(Some(file), "check --print", 0, &printed, &[]);
    check(Some(FAULTY), "check --print", 3, &FAULTS, &[]);
    let absent = r#"{"admin": {"bind": null, "socket": "none.sock"}}"#;
    check(Some(absent), "healthcheck", 1, &[], &["no balancer responds"]);
    check(Some(FAULTY), "healthcheck", 1, &[], &["is not valid"]);
    check(None, "healthcheck --admin unix:none.sock", 1, &[], &["none.sock"]);
}

#[test]
fn a_wrong_line_is_reported_with_exit_code_2() {
    check(None, "nonsense", 2, &[], &["unrecognized subcommand 'nonsense'"]);
    check(None, "--colour", 2, &[], &["unexpected argument '--colour'"]);
    check(None, "server", 2, &[], &["<PORT>"]);
    check(None, "server x", 2, &[], &["invalid value 'x'"]);
    check(None, "loadtest --duration 5", 2, &[], &["10s"]);
    check(None, "loadtest -c 0", 2, &[], &["1 to 100000"]);
    check(None, "run -c a.json b.json", 2, &[], &["two configuration files"]);
    check(None, "run -p 80", 2, &[], &["--listen :80", "--to HOST:PORT"]);
    check(None, "run --port=:8080 --to a:1", 2, &[], &["--listen :8080"]);
    check(None, "a.json", 2, &[], &["unrecognized subcommand", "evenkeel run -c a.json"]);
    check(None, "demo -c config.json", 2, &[], &["the demo brings its own configuration"]);
}

#[test]
fn what_cannot_be_done_is_a_sentence_with_exit_code_1() {
    let unused = unused_port();
    let port = unused.address().port();
    let absent_admin = format!(r#"{{"admin":{{"bind":"127.0.0.1:{port}"}}}}"#);
    let url = format!("loadtest http://127.0.0.1:{port}/");
    check(None, &url, 1, &[], &["nothing listens on 127.0.0.1:", "start the balancer"]);
    let absent = ["no balancer responds for", "config.json", "evenkeel.sock: there is no such socket", "-c"];
    check(Some(&absent_admin), "status", 1, &[], &absent);
    check(Some(&absent_admin), "status", 1, &[], &["127.0.0.1:", "nothing listens there"]);
    check(Some(r#"{"admin":{"bind":null}}"#), "status", 1, &[], &absent);
    let off = r#"{"admin":{"bind":null,"socket":null}}"#;
    check(Some(off), "status", 1, &[], &["config.json has no admin API"]);
    check(Some(off), "server 0", 1, &[], &["has no admin API", "--no-register"]);
}

/// What a start would meet here is reported at the place of its key, with the exit code that the start would have.
#[test]
fn what_is_in_the_way_on_this_machine_is_reported_with_exit_code_1() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let file = format!(
        r#"{{
  "load_balancer": {{ "load_balancer_port": {port}, "bind": "127.0.0.1" }},
  "admin": {{ "bind": null }},
  "log": {{ "access": "not-there/access.log" }},
  "routes": [ {{ "path": "/", "respond": {{ "file": "page.html" }} }} ]
}}"#
    );
    let told = [
        "config.json:2:44: load_balancer.load_balancer_port: port ",
        "is taken by another program",
        "config.json:4:22: log.access: the folder not-there does not exist; create it",
        "config.json:5:51: routes[0].respond.file: there is no file page.html",
        "config.json is valid, but a balancer cannot start with it on this machine: 3 obstacles",
    ];
    check(Some(&file), "check", 1, &told, &[]);
    check(Some(&file), "check --file-only", 0, &["config.json is valid"], &[]);
}

/// Whoever mends one fault does not want to meet the next one at the next try.
#[test]
fn all_faults_are_told_at_once_those_of_the_file_and_those_of_this_machine() {
    let tls = r#""load_balancer": { "listeners": [ { "port": 0, "tls": {
  "certificates": [ { "certificate": "a.pem", "key": "a.key" }, { "certificate": "both.pem" } ],
  "client_auth": { "ca": "ca.pem", "crl": "ca.crl" } } } ] },
  "admin": { "bind": null, "state_file": "not-there/state.json" },
  "servers": { "tls": { "ca": "ca.pem", "crl": "x.crl", "certificate": "x.pem", "key": "x.key" }, "list": [ { "address": "127.0.0.1:1" } ] }"#;
    let absent = |key: &str, file: &str| format!(": {key}: there is no file {file} in ");
    let listener = "load_balancer.listeners[0].tls";
    let missing = [
        absent(&format!("{listener}.certificates[0].certificate"), "a.pem"),
        absent(&format!("{listener}.certificates[0].key"), "a.key"),
        absent(&format!("{listener}.certificates[1].certificate"), "both.pem"),
        absent(&format!("{listener}.client_auth.ca"), "ca.pem"),
        absent(&format!("{listener}.client_auth.crl"), "ca.crl"),
        absent("servers.tls.ca", "ca.pem"),
        absent("servers.tls.crl", "x.crl"),
        absent("servers.tls.certificate", "x.pem"),
        absent("servers.tls.key", "x.key"),
    ];
    let missing: Vec<&str> = missing.iter().map(String::as_str).collect();
    let state = "warning: config.json:4:42: admin.state_file: the folder not-there does not exist";
    let valid = "is valid, but a balancer cannot start with it on this machine: 9 obstacles";
    check(Some(&format!("{{ {tls} }}")), "check", 1, &[&missing[..], &[state, valid]].concat(), &[]);
    // With faults in the file as well; what stands in a list with a fault has no certain place.
    let routes = r#""routes": [ { "path": "x" }, { "path": "/", "respond": { "file": "page.html" } } ], "log": { "levl": 1 }"#;
    let both = format!("{{ {tls},\n{routes} }}");
    let told =
        ["routes[0].path", "log.levl", "not valid: 2 faults; and 9 obstacles to a start on this machine"];
    check(Some(&both), "check", 3, &[&missing[..], &told].concat(), &[]);
    check(Some(&both), "check --file-only", 3, &["not valid: 2 faults\n"], &[]);
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("config.json"), &both).unwrap();
    let text = String::from_utf8(evenkeel(folder.path(), "check").stdout).unwrap();
    assert_eq!(text.matches("there is no file").count(), 9, "{text}");
}
