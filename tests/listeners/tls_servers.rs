//! TLS to servers, on real sockets with real certificates: requests, probes and load reports, and what is said when it fails.

use crate::support::balancer::{ADMIN, one_worker, with};
use crate::support::tls::{Authority, Kind, TlsOrigin};
use crate::support::{Broken, Client, Evenkeel, Origin, until};
use rustls::HandshakeKind;
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecure";

fn config(servers: &[SocketAddr], tls: Value, over: Value) -> Value {
    let list: Vec<Value> = servers.iter().map(|address| json!({"address": address.to_string()})).collect();
    let servers = json!({"list": list, "tls": tls, "health_check": {"enabled": false}, "load_report": {"enabled": false}});
    with(json!({"servers": servers, "admin": {"socket": ADMIN}}), over)
}

fn probing() -> Value {
    let check = json!({"enabled": true, "interval": "50ms", "timeout": "30s"});
    json!({"servers": {"health_check": check, "load_report": {"enabled": true, "interval": "50ms"}}})
}

/// The state of the only server, and its last check.
fn server(balancer: &Evenkeel) -> (String, String) {
    let mut admin = UnixStream::connect(balancer.folder().join(ADMIN)).unwrap();
    admin.write_all(b"GET /api/v1/status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut page = String::new();
    admin.read_to_string(&mut page).unwrap();
    let status: Value = serde_json::from_str(page.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    let server = &status["servers"][0];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    (text(&server["state"]), text(&server["last_check"]["outcome"]))
}

#[test]
fn requests_probes_and_reports_go_over_tls_and_connections_are_kept() {
    let authority = Authority::new("ca");
    let origin = TlsOrigin::start(&authority.issue("s", &["s.test"]), None, OK);
    let tls = json!({"ca": authority.file(), "server_name": "s.test"});
    let balancer = Evenkeel::start(config(&[origin.address], tls, one_worker(probing())));
    until("it is up", || server(&balancer).0 == "up");
    let mut client = Client::to(&balancer);
    for _ in 0..10 {
        let response = client.get("/x");
        assert_eq!((response.status, response.text().as_str()), (200, "secure"));
    }
    until("reports were asked for", || origin.count("/queue/status") > 0);
    until("a probe resumes a session", || origin.seen().handshakes.contains(&HandshakeKind::Resumed));
    let seen = origin.seen();
    assert_eq!(origin.count("/x"), 10);
    assert!(origin.count("/health") > 0);
    assert!(seen.names.iter().all(|name| name.as_deref() == Some("s.test")), "{:?}", seen.names);
    assert!(balancer.metric("evenkeel_server_connects_total") <= 2.0, "connections are used again");
}

#[test]
fn long_bodies_pass_in_both_directions() {
    let authority = Authority::new("ca");
    let origin = TlsOrigin::start(&authority.issue("s", &["127.0.0.1"]), None, OK);
    let balancer = Evenkeel::start(config(&[origin.address], json!({"ca": authority.file()}), json!({})));
    let body = crate::support::noise(3 << 20);
    let mut client = Client::to(&balancer);
    client.send(format!("POST /up HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n", body.len()));
    let response = client.send(&body).response();
    assert_eq!((response.status, response.text().as_str()), (200, "secure"));
}

#[test]
fn a_response_reaches_the_client_though_the_server_resets_behind_it() {
    const NO: &str = "HTTP/1.1 401 Unauthorized\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno";
    let authority = Authority::new("ca");
    let origin = TlsOrigin::start(&authority.issue("s", &["127.0.0.1"]), None, NO);
    let config = config(&[origin.address], json!({"ca": authority.file()}), one_worker(json!({})));
    let balancer = Evenkeel::start(with(config, json!({"servers": {"ejection": {"max_percent": 0}}})));
    let body = vec![b'x'; 1 << 20];
    for upload in 0..20 {
        let mut client = Client::to(&balancer);
        client.send(format!("POST /early HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n", body.len()));
        // Its connection may be closed behind the response.
        let _ = client.try_send(&body);
        let response = client.response();
        assert_eq!((response.status, response.text().as_str()), (401, "no"), "{upload}");
    }
}

/// The probe, the log and the client hear which check failed.
#[track_caller]
fn check(server_at: SocketAddr, tls: Value, words: &str) {
    let balancer = Evenkeel::start(config(&[server_at], tls.clone(), probing()));
    until(words, || server(&balancer).1.contains(words));
    assert_ne!(server(&balancer).0, "up");
    // Without probes a request finds out.
    let balancer = Evenkeel::start(config(&[server_at], tls, json!({})));
    let response = Client::to(&balancer).get("/");
    assert_eq!((response.status, response.reason().as_str()), (502, "tls_failed"), "{words}");
    let line = balancer.logs("TLS: ");
    assert!(line.contains(words), "{line}");
}

/// One line a second for each, so that none hides behind another.
#[test]
fn each_server_whose_tls_fails_is_in_the_log() {
    let (authority, other) = (Authority::new("ca"), Authority::new("other"));
    let start = |authority: &Authority, name: &str| {
        TlsOrigin::start(&authority.issue("s", &[name]), None, OK).address
    };
    let servers = [start(&other, "s.test"), start(&authority, "a.test")];
    let tls = json!({"ca": authority.file(), "server_name": "s.test"});
    let balancer = Evenkeel::start(config(&servers, tls, one_worker(json!({}))));
    assert_eq!(Client::to(&balancer).get("/").status, 502);
    for (server, words) in servers.iter().zip(["unknown issuer", "name mismatch"]) {
        let line = balancer.logs(&format!("server {server} ({server}): TLS: "));
        assert!(line.contains(words), "{line}");
    }
}

#[test]
fn the_check_that_failed_is_named() {
    let (authority, other) = (Authority::new("ca"), Authority::new("other"));
    let trusted = || json!({"ca": authority.file(), "server_name": "s.test"});
    let start = |authority: &Authority, names: &[&str], change: fn(&mut rcgen::CertificateParams)| {
        TlsOrigin::start(&authority.issue_as("s", names, Kind::Ecdsa, change), None, OK).address
    };
    let none: fn(&mut rcgen::CertificateParams) = |_| ();
    check(start(&other, &["s.test"], none), trusted(), "unknown issuer");
    check(
        start(&authority, &["a.test", "b.test"], none),
        trusted(),
        "name mismatch: wanted s.test, certificate is for a.test, b.test",
    );
    check(
        start(&authority, &["s.test"], Authority::expired),
        trusted(),
        "certificate expired: it was valid until 1999-12-31",
    );
    check(start(&authority, &["s.test"], Authority::not_yet_valid), trusted(), "certificate not valid yet");
    let clear = Origin::start(|visit| visit.send("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"));
    check(clear.address(), trusted(), "does not speak TLS");
}

/// A self-signed certificate that calls itself an authority is trusted where the file has that very certificate.
#[test]
fn a_self_signed_certificate_is_trusted_when_it_is_named_itself() {
    let ((own, files), (other, _)) = (Authority::self_signed("s.test"), Authority::self_signed("s.test"));
    let origin = TlsOrigin::start(&files, None, OK);
    let tls = |authority: &Authority, name: &str| json!({"ca": authority.file(), "server_name": name});
    let balancer = Evenkeel::start(config(&[origin.address], tls(&own, "s.test"), probing()));
    until("probes pass, too", || server(&balancer).0 == "up");
    assert_eq!(Client::to(&balancer).get("/").status, 200);
    check(origin.address, tls(&own, "t.test"), "name mismatch: wanted t.test, certificate is for s.test");
    check(origin.address, tls(&other, "s.test"), "set tls.ca to a file that has this very certificate");
}

/// The file is replaced as an operator does it; the pool finds out by itself.
#[test]
fn a_server_whose_certificate_is_revoked_is_down_until_the_list_says_otherwise() {
    let (authority, other) = (Authority::new("ca"), Authority::new("other"));
    let intermediate = authority.intermediate("below");
    let direct = TlsOrigin::start(&authority.issue_numbered("s.test", 5, &[]), None, OK);
    let below = intermediate.issue_numbered("s.test", 6, &[&intermediate]);
    let below = TlsOrigin::start(&below, None, OK);
    const HOUR: i64 = 3600;
    let list = |serials: &[u64]| authority.revocations(serials, -HOUR, 24 * HOUR);
    let crl = authority.write("a.crl", &list(&[5]));
    let tls = json!({"ca": authority.file(), "server_name": "s.test", "crl": crl});
    check(direct.address, tls.clone(), "certificate revoked");
    check(below.address, tls.clone(), "no list of revoked certificates (crl)");
    let balancer = Evenkeel::start(config(&[direct.address], tls.clone(), probing()));
    until("it is down", || server(&balancer).1.contains("certificate revoked"));
    assert!(balancer.metric("evenkeel_crl_expiry_seconds{pool=\"default\",name=\"CN=ca\"") > 23.0 * 3600.0);
    authority.write("a.crl", &list(&[9]));
    until("it is up again", || server(&balancer).0 == "up");
    assert_eq!(Client::to(&balancer).get("/").status, 200);
    authority.write("a.crl", &other.revocations(&[], -HOUR, HOUR));
    until("the log tells of the faulty list", || {
        balancer.log_lines().iter().any(|line| line.contains("servers.tls.crl: "))
    });
    assert_eq!(Client::to(&balancer).get("/").status, 200, "the earlier list stays in use");
    let both = intermediate.revocations(&[], -HOUR, HOUR) + &list(&[7]);
    authority.write("a.crl", &both);
    check(below.address, tls.clone(), "certificate revoked");
    authority.write("a.crl", &(intermediate.revocations(&[], -HOUR, HOUR) + &list(&[])));
    let balancer = Evenkeel::start(config(&[below.address], tls, probing()));
    until("no authority of its chain is revoked", || server(&balancer).0 == "up");
}

#[test]
fn without_verification_any_certificate_will_do() {
    let other = Authority::new("other");
    let origin = TlsOrigin::start(&other.issue_as("s", &["x.test"], Kind::Rsa, Authority::expired), None, OK);
    let balancer = Evenkeel::start(config(&[origin.address], json!({"verify": false}), json!({})));
    assert_eq!(Client::to(&balancer).get("/").status, 200);
}

#[test]
fn a_server_whose_certificate_is_not_accepted_costs_no_request() {
    let (authority, other) = (Authority::new("ca"), Authority::new("other"));
    let good = TlsOrigin::start(&authority.issue("s", &["s.test"]), None, OK);
    let bad = TlsOrigin::start(&other.issue("s", &["s.test"]), None, OK);
    let tls = json!({"ca": authority.file(), "server_name": "s.test"});
    let over = json!({"servers": {"algorithm": "round_robin"}});
    let balancer = Evenkeel::start(config(&[bad.address, good.address], tls, over));
    let mut client = Client::to(&balancer);
    for _ in 0..10 {
        client.send("POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi");
        assert_eq!(client.response().status, 200);
    }
    assert_eq!((good.count("/x"), bad.count("/x")), (10, 0));
}

#[test]
fn a_client_certificate_is_shown_to_servers_that_ask_for_one() {
    let authority = Authority::new("ca");
    let files = authority.issue("s", &["s.test"]);
    let origin = TlsOrigin::start(&files, Some(&authority), OK);
    let ours = authority.issue("balancer", &["balancer"]);
    let mut tls = json!({"ca": authority.file(), "server_name": "s.test"});
    let without = Evenkeel::start(config(&[origin.address], tls.clone(), json!({})));
    assert_eq!(Client::to(&without).get("/").status, 502);
    without.logs("set tls.certificate");
    (tls["certificate"], tls["key"]) = (json!(ours.certificate), json!(ours.key));
    let balancer = Evenkeel::start(config(&[origin.address], tls, probing()));
    until("it is up", || server(&balancer).0 == "up");
    assert_eq!(Client::to(&balancer).get("/").status, 200);
}

#[test]
fn a_body_that_only_a_close_ends_needs_close_notify() {
    let authority = Authority::new("ca");
    let origin =
        TlsOrigin::start(&authority.issue("s", &["s.test"]), None, "HTTP/1.1 200 OK\r\n\r\nperhaps cut");
    let tls = json!({"ca": authority.file(), "server_name": "s.test"});
    let balancer = Evenkeel::start(config(&[origin.address], tls, json!({})));
    let mut client = Client::to(&balancer);
    client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    assert!(
        matches!(client.try_response(), Err(Broken::Cut(_) | Broken::Reset(_))),
        "it cannot be told from a truncated one"
    );
}

#[test]
fn close_notify_ends_a_response_and_its_connection_though_the_server_does_not_close() {
    let authority = Authority::new("ca");
    let files = authority.issue("s", &["s.test"]);
    let tls = json!({"ca": authority.file(), "server_name": "s.test"});
    for response in [OK, "HTTP/1.1 200 OK\r\n\r\nsecure"] {
        let origin = TlsOrigin::start(&files, None, response);
        let balancer = Evenkeel::start(config(&[origin.address], tls.clone(), one_worker(json!({}))));
        let mut client = Client::to(&balancer);
        // What has a length ends with it; the second request would be lost on the connection of the first.
        for _ in 0..2 {
            let response = client.get("/notify");
            assert_eq!((response.status, response.text().as_str()), (200, "secure"));
        }
        assert_eq!(origin.seen().handshakes.len(), 2);
    }
}
