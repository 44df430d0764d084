//! Reloads without a command: the configuration is watched, and files that it names are read again when they change. And what
//! a reload would do, before it is done.

use crate::support::balancer::{ADMIN, list, unobtrusive, with};
use crate::support::{Client, DEADLINE, Evenkeel, Origin, until};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::process::Command;

fn settings(origin: &Origin, over: Value) -> Value {
    let base = json!({ "servers": { "list": list(&[origin]) }, "admin": { "socket": ADMIN } });
    with(with(unobtrusive(), base), over)
}

fn write(balancer: &Evenkeel, name: &str, text: &str) {
    fs::write(balancer.folder().join(name), text).unwrap();
}

fn evenkeel(balancer: &Evenkeel, line: &str) -> (i32, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_evenkeel"));
    let output = command.args(line.split(' ')).current_dir(balancer.folder()).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(text).unwrap())
}

fn status_of(balancer: &Evenkeel, path: &str) -> u16 {
    Client::to(balancer).get(path).status
}

fn gone(path: &str, status: u16) -> Value {
    json!({ "routes": [{ "path": path, "respond": { "status": status } }] })
}

#[test]
fn a_watched_file_and_what_it_includes_are_taken_up_and_a_half_written_file_changes_nothing() {
    let origin = Origin::responds("ok");
    let more = |over: Value| {
        settings(&origin, with(over, json!({ "watch": true, "include": "conf.d" }))).to_string()
    };
    let mut balancer = Evenkeel::start(with(settings(&origin, json!({})), json!({ "watch": true })));
    fs::create_dir(balancer.folder().join("conf.d")).unwrap();
    write(&balancer, "config.json", &more(json!({})));
    until("the folder is read", || {
        balancer.log_lines().iter().any(|line| line.contains("include: default -> conf.d"))
    });
    write(&balancer, "conf.d/a.json", &gone("/a", 410).to_string());
    until("an added file is in use", || status_of(&balancer, "/a") == 410);
    write(&balancer, "conf.d/a.json", &gone("/a", 404).to_string());
    until("a changed file is in use", || status_of(&balancer, "/a") == 404);
    // Another file, which is written in two halves.
    let whole = gone("/b", 410).to_string();
    write(&balancer, "conf.d/b.json", &whole[..20]);
    until("it was looked at", || balancer.metric("evenkeel_config_last_reload_successful") == 0.0);
    assert_eq!((status_of(&balancer, "/a"), status_of(&balancer, "/b")), (404, 200));
    write(&balancer, "conf.d/b.json", &whole);
    until("it is in use once it is whole", || status_of(&balancer, "/b") == 410);
    until("it is counted", || balancer.metric("evenkeel_config_last_reload_successful") == 1.0);
    // The main file is replaced by a rename, as editors do.
    write(&balancer, "new", &more(gone("/c", 410)));
    fs::rename(balancer.folder().join("new"), balancer.folder().join("config.json")).unwrap();
    until("a renamed file is in use", || status_of(&balancer, "/c") == 410);
    assert!(balancer.runs());
}

#[test]
fn files_that_the_configuration_names_are_read_again_when_only_they_change() {
    let origin = Origin::responds("ok");
    let route = json!({ "routes": [
        { "path": "/page", "respond": { "file": "page.html" } },
        { "path": "/fail", "pool": "none" },
        { "path": "/private", "basic_auth": { "file": "users" } },
        { "path": "/far", "client": ["192.0.2.1"], "respond": { "body": "far" } },
        { "path": "/far", "respond": { "body": "near" } },
    ], "pools": { "none": {} } });
    let config = with(
        settings(&origin, route),
        json!({
            "load_balancer": { "trusted_proxies": ["file:trusted.txt"] }, "deny": ["file:deny.txt"], "error_pages": { "maintenance": "maintenance.html" },
        }),
    );
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let users = |password: &str| format!("ann:{}", bcrypt::hash(password, 4).unwrap());
    fs::write(path("page.html"), "one").unwrap();
    fs::write(path("maintenance.html"), "<p>back soon</p>").unwrap();
    fs::write(path("deny.txt"), "10.0.0.0/8\n").unwrap();
    fs::write(path("trusted.txt"), "# none yet\n").unwrap();
    fs::write(path("users"), users("open")).unwrap();
    let mut text = config.to_string();
    for name in ["page.html", "maintenance.html", "deny.txt", "trusted.txt", "users"] {
        text = text.replace(name, &path(name).display().to_string());
    }
    let balancer = Evenkeel::try_start_text(&text).unwrap_or_else(|(_, lines)| panic!("{lines}"));
    // What is in the file now is not in use, and must not be taken up along with the others.
    write(&balancer, "config.json", "{");
    let body = |path: &str| Client::to(&balancer).get(path).text();
    let private = |password: &str| {
        let token = base64(&format!("ann:{password}"));
        let mut client = Client::to(&balancer);
        client.send(format!("GET /private HTTP/1.1\r\nHost: h\r\nAuthorization: Basic {token}\r\n\r\n"));
        client.response().status
    };
    assert_eq!((body("/page").as_str(), private("open"), private("new")), ("one", 200, 401));
    fs::write(path("page.html"), "two").unwrap();
    until("the page is the new one", || body("/page") == "two");
    fs::write(path("maintenance.html"), "<p>in an hour</p>").unwrap();
    until("the page of errors, too", || body("/fail").contains("in an hour"));
    fs::write(path("users"), users("new")).unwrap();
    until("the password, too", || (private("open"), private("new")) == (401, 200));
    let far = || {
        let mut client = Client::to(&balancer);
        client.send("GET /far HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 192.0.2.1\r\n\r\n").response().text()
    };
    assert_eq!(far(), "near");
    fs::write(path("trusted.txt"), "127.0.0.0/8\n").unwrap();
    until("a proxy that is added is trusted", || far() == "far");
    // A file at fault changes nothing, and is read again once it is good.
    fs::write(path("deny.txt"), "127.0.0.0/80\n").unwrap();
    until("the fault is told", || balancer.metric("evenkeel_config_last_reload_successful") == 0.0);
    assert_eq!(status_of(&balancer, "/page"), 200);
    fs::write(path("deny.txt"), "127.0.0.0/8\n").unwrap();
    until("the client is denied", || status_of(&balancer, "/page") == 403);
    until("it is counted", || balancer.metric("evenkeel_config_last_reload_successful") == 1.0);
}

fn base64(text: &str) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(text)
}

#[test]
fn check_tells_by_key_what_a_reload_would_do_and_does_nothing() {
    let origin = Origin::responds("ok");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let busy = taken.local_addr().unwrap().port();
    let mut balancer = Evenkeel::start(settings(&origin, json!({})));
    let all = settings(&origin, with(gone("/a", 410), json!({ "timeouts": { "response": "7s" } })));
    for (file, code, parts) in [
        (settings(&origin, json!({})).to_string(), 0, &["would change nothing"][..]),
        (all.to_string(), 4, &["timeouts.response: 60s -> 7s", "routes: added /a"]),
        (
            with(all.clone(), json!({ "admin": { "state_file": "state.json" } })).to_string(),
            5,
            &["timeouts.response: 60s -> 7s", "admin.state_file needs a restart; still null"],
        ),
        (
            with(all, json!({ "load_balancer": { "listeners": [{ "port": busy, "bind": "127.0.0.1" }] } }))
                .to_string(),
            1,
            &["load_balancer.listeners[0].port", "taken by another program"],
        ),
        ("{".to_owned(), 3, &["the text ends too early"]),
    ] {
        write(&balancer, "config.json", &file);
        let (got, said) = evenkeel(&balancer, "check --diff");
        assert_eq!(got, code, "{file}: {said}");
        parts.iter().for_each(|part| assert!(said.contains(part), "{part}: {said}"));
    }
    // Nothing of it is in use, and no reload was counted.
    assert_eq!(status_of(&balancer, "/a"), 200);
    balancer.metric_is("evenkeel_config_reloads_total", 0.0);
    write(&balancer, "config.json", &settings(&origin, json!({})).to_string());
    balancer.signal(Signal::TERM);
    balancer.wait();
    let (code, said) = evenkeel(&balancer, "check --diff");
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("no balancer responds"), "{said}");
}

#[test]
fn systemd_hears_of_the_beginning_and_of_the_end_of_each_reload() {
    let origin = Origin::responds("ok");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notify");
    let systemd = UnixDatagram::bind(&path).unwrap();
    systemd.set_read_timeout(Some(DEADLINE)).unwrap();
    let next = || {
        let mut bytes = [0; 256];
        let count = systemd.recv(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes[..count]).lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let mut command = Command::new(env!("CARGO_BIN_EXE_evenkeel"));
    command.env("NOTIFY_SOCKET", &path).env_remove("WATCHDOG_USEC");
    let balancer = Evenkeel::start_as(command, settings(&origin, json!({})));
    assert_eq!(next(), ["READY=1"]);
    // A file at fault ends a reload, too: systemd would wait for it else.
    for file in [settings(&origin, gone("/a", 410)).to_string(), "{".to_owned()] {
        write(&balancer, "config.json", &file);
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let before = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec / 1000);
        balancer.signal(Signal::HUP);
        let told = next();
        assert_eq!(told[0], "RELOADING=1");
        let at: i128 = told[1].strip_prefix("MONOTONIC_USEC=").unwrap().parse().unwrap();
        assert!(at >= before, "{at} {before}");
        assert_eq!(next(), ["READY=1"]);
    }
    assert_eq!(status_of(&balancer, "/a"), 410);
}

#[test]
fn an_export_keeps_variables_and_shows_no_secret() {
    let origin = Origin::responds("ok");
    let config = settings(&origin, json!({ "admin": { "token": "${file:token}" } }));
    let address = origin.address().to_string();
    let port = address.rsplit(':').next().unwrap();
    let text = config.to_string().replace(&address, &format!("${{NO_HOST:-127.0.0.1}}:{port}"));
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    fs::write(&token, "0123456789abcdef").unwrap();
    let text = text.replace("${file:token}", &format!("${{file:{}}}", token.display()));
    let balancer = Evenkeel::try_start_text(&text).unwrap_or_else(|(_, lines)| panic!("{lines}"));
    let mut admin = UnixStream::connect(balancer.folder().join(ADMIN)).unwrap();
    let head = "PATCH /api/v1/servers/a HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Type: application/json\r\n\
                Authorization: Bearer 0123456789abcdef\r\nContent-Length: 13\r\n\r\n{\"weight\": 7}";
    admin.write_all(head.as_bytes()).unwrap();
    let mut response = String::new();
    admin.read_to_string(&mut response).unwrap();
    assert!(response.starts_with("HTTP/1.1 200"), "{response}");
    let (code, said) = evenkeel(&balancer, "config export");
    assert_eq!(code, 0, "{said}");
    assert!(!said.contains("0123456789abcdef"), "{said}");
    let exported: Value = serde_json::from_str(&said).unwrap();
    let server = &exported["servers"]["list"][0];
    assert_eq!(
        (&server["weight"], &server["address"]),
        (&json!(7), &json!(format!("${{NO_HOST:-127.0.0.1}}:{port}")))
    );
    assert!(exported["admin"]["token"].as_str().unwrap().starts_with("${file:"));
}
