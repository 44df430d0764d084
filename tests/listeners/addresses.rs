//! Any number of places to connect to, TCP and Unix, each with what comes before a request there.

use crate::support::balancer::ADMIN;
use crate::support::tls::port_of;
use crate::support::{Client, Evenkeel, Origin, until};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;

const GET: &[u8] = b"GET /p?q=1 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";

fn start(origin: &Origin, listeners: Value) -> Evenkeel {
    let config = json!({"load_balancer": {"listeners": listeners}, "admin": {"socket": ADMIN}});
    Evenkeel::before(&[origin], config)
}

fn status(balancer: &Evenkeel) -> Value {
    let mut admin = UnixStream::connect(balancer.folder().join(ADMIN)).unwrap();
    admin.write_all(b"GET /api/v1/status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut page = String::new();
    admin.read_to_string(&mut page).unwrap();
    serde_json::from_str(page.split("\r\n\r\n").nth(1).unwrap()).unwrap()
}

#[test]
fn each_listener_serves_and_is_listed() {
    let origin = Origin::responds("ok");
    let balancer =
        start(&origin, json!([{"name": "second", "port": 0}, {"name": "local", "port": "unix:web.sock"}]));
    assert_eq!(Client::to(&balancer).get("/").status, 200);
    assert_eq!(Client::connect(port_of(&balancer, "second")).unwrap().get("/").status, 200);
    let path = balancer.folder().join("web.sock");
    let mut local = UnixStream::connect(&path).unwrap();
    local.write_all(GET).unwrap();
    let mut response = String::new();
    local.read_to_string(&mut response).unwrap();
    assert!(response.starts_with("HTTP/1.1 200"), "{response}");
    assert_eq!(origin.count(), 3);
    let seen = &origin.requests()[2];
    assert!(seen.fields.all("X-Forwarded-For").is_empty(), "a Unix socket has no address");
    let status = status(&balancer);
    let names: Vec<_> =
        status["listeners"].as_array().unwrap().iter().map(|listener| &listener["name"]).collect();
    assert_eq!(names, ["default", "second", "local"]);
    assert_eq!(status["listeners"][0]["address"], json!(balancer.address().to_string()));
    assert_eq!(status["listeners"][2]["address"], json!("unix:web.sock"));
    balancer.logs("ready on unix:");
}

#[test]
fn a_stop_closes_all_of_them_and_removes_the_socket() {
    let origin = Origin::responds("ok");
    let mut balancer =
        start(&origin, json!([{"name": "second", "port": 0}, {"name": "local", "port": "unix:web.sock"}]));
    let (second, path) = (port_of(&balancer, "second"), balancer.folder().join("web.sock"));
    let first = balancer.address();
    let mut open = Client::connect(second).unwrap();
    open.get("/");
    balancer.signal(Signal::TERM);
    until("every port is closed", || {
        let closed = |port: SocketAddr| TcpStream::connect(port).is_err();
        closed(first) && closed(second) && !path.exists()
    });
    assert!(balancer.wait().success());
}

#[test]
fn a_socket_whose_file_is_gone_gets_it_again_and_a_successor_takes_it_over() {
    let origin = Origin::responds("ok");
    let mut balancer = start(&origin, json!([{"name": "local", "port": "unix:web.sock"}]));
    let path = balancer.folder().join("web.sock");
    std::fs::remove_file(&path).unwrap();
    let serves = || {
        let Ok(mut local) = UnixStream::connect(&path) else { return false };
        let mut response = String::new();
        local.write_all(GET).is_ok()
            && local.read_to_string(&mut response).is_ok()
            && response.starts_with("HTTP/1.1 200")
    };
    until("the file is there again", serves);
    balancer.signal(Signal::TERM);
    // It tries for the socket of the old one for half a second, which a busy machine may not leave within that.
    let mut successor = None;
    until("the successor has the socket", || {
        successor = balancer.start_successor().ok();
        successor.is_some()
    });
    until("the successor serves", serves);
    balancer.wait();
}

#[test]
fn the_unspecified_address_of_ipv6_takes_both() {
    if TcpStream::connect("[::1]:1")
        .is_err_and(|error| error.raw_os_error() == Some(97 /* EAFNOSUPPORT */))
    {
        return;
    }
    let origin = Origin::responds("ok");
    let balancer = start(&origin, json!([{"name": "both", "port": 0, "bind": "::"}]));
    let port = port_of(&balancer, "both").port();
    for address in ["127.0.0.1", "::1"] {
        let address = SocketAddr::new(address.parse().unwrap(), port);
        if let Ok(mut client) = Client::connect(address) {
            assert_eq!(client.get("/").status, 200, "{address}");
        }
    }
    let clients: Vec<_> =
        origin.requests().iter().map(|seen| seen.fields.all("X-Forwarded-For").join(",")).collect();
    assert!(clients.contains(&"127.0.0.1".to_owned()), "in its own form: {clients:?}");
}

#[test]
fn a_proxy_header_is_due_where_the_listener_says_so() {
    let origin = Origin::responds("ok");
    let balancer = start(
        &origin,
        json!([
            {"name": "behind", "port": 0, "proxy_protocol": ["127.0.0.1"]},
            {"name": "local", "port": "unix:web.sock", "proxy_protocol": []},
        ]),
    );
    assert_eq!(Client::to(&balancer).get("/").status, 200);
    let preamble = b"PROXY TCP4 203.0.113.7 192.0.2.1 1234 80\r\n";
    let behind = port_of(&balancer, "behind");
    assert_eq!(Client::connect(behind).unwrap().send(preamble).get("/").status, 200);
    let mut without = Client::connect(behind).unwrap();
    without.send(GET);
    assert!(without.try_response().is_err());
    let mut local = UnixStream::connect(balancer.folder().join("web.sock")).unwrap();
    local.write_all(&[preamble, GET].concat()).unwrap();
    let mut response = String::new();
    local.read_to_string(&mut response).unwrap();
    assert!(response.starts_with("HTTP/1.1 200"), "{response}");
    let told: Vec<_> =
        origin.requests().iter().map(|seen| seen.fields.all("X-Forwarded-For").join(",")).collect();
    assert_eq!(told, ["127.0.0.1", "203.0.113.7", "203.0.113.7"]);
}

#[test]
fn redirects_lead_to_https_and_keep_method_and_target() {
    let origin = Origin::responds("ok");
    let balancer = start(
        &origin,
        json!([
            {"name": "plain", "port": 0, "redirect_to_https": true},
            {"name": "other", "port": 0, "redirect_to_https": 8443},
        ]),
    );
    let check = |listener: &str, request: &str, status: u16, location: &str| {
        let mut client = Client::connect(port_of(&balancer, listener)).unwrap();
        let method = request.split(' ').next().unwrap();
        client.send(request);
        let response = client.try_response_to(method).unwrap();
        assert_eq!(response.status, status, "{request}");
        assert_eq!(response.fields.all("Location").concat(), location, "{request}");
    };
    check("plain", "GET /a?b=1 HTTP/1.1\r\nHost: a.test:8080\r\n\r\n", 301, "https://a.test/a?b=1");
    check("other", "HEAD / HTTP/1.1\r\nHost: a.test\r\n\r\n", 301, "https://a.test:8443/");
    check(
        "plain",
        "POST /x HTTP/1.1\r\nHost: [::1]:80\r\nContent-Length: 2\r\n\r\nhi",
        308,
        "https://[::1]/x",
    );
    check("other", "OPTIONS * HTTP/1.1\r\nHost: a.test\r\n\r\n", 308, "https://a.test:8443");
    check("plain", "GET http://b.test?c HTTP/1.1\r\nHost: a.test\r\n\r\n", 301, "https://b.test/?c");
    check("plain", "GET / HTTP/1.0\r\n\r\n", 400, "");
    assert_eq!(origin.count(), 0);
    assert_eq!(Client::to(&balancer).get("/").status, 200, "the other listener serves");
}

#[test]
fn a_server_must_not_be_one_of_our_own_listeners() {
    let config = json!({
        "load_balancer": {"listeners": [{"name": "a", "port": "unix:/tmp/evenkeel-own.sock"}, {"name": "b", "port": 8999}]},
        "servers": {"list": [{"address": "unix:/tmp/evenkeel-own.sock"}, {"address": "127.0.0.1:8999"}]},
    });
    let (status, lines) = Evenkeel::try_start(config).expect_err("no start");
    assert_eq!(status.code(), Some(3));
    assert_eq!(lines.matches("is the balancer itself").count(), 2, "{lines}");
}

#[test]
fn a_redirect_to_https_comes_before_the_guards() {
    let origin = Origin::responds("ok");
    let config = json!({
        "load_balancer": {"listeners": [{"name": "plain", "port": 0, "redirect_to_https": true}]},
        "deny": ["127.0.0.0/8"]
    });
    let balancer = Evenkeel::before(&[&origin], config);
    let redirected = Client::connect(port_of(&balancer, "plain")).unwrap().get("/a");
    assert_eq!((redirected.status, redirected.fields.one("Location")), (301, "https://test/a".to_owned()));
    assert_eq!(Client::to(&balancer).get("/a").status, 403);
}
