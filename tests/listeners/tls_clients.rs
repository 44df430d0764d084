//! TLS to clients, on real sockets with real certificates.

use crate::support::balancer::{ADMIN, with};
use crate::support::tls::{Authority, Files, Kind, TlsClient, port_of, provider};
use crate::support::{Client, Evenkeel, Origin, noise, until};
use rustls::{ClientConfig, HandshakeKind};
use serde_json::{Value, json};
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

/// One listener with TLS, named https, beside the one in clear text.
fn config(certificates: &[&Files], tls: Value) -> Value {
    let certificates: Vec<Value> = certificates.iter().map(|files| files.json()).collect();
    let tls = with(json!({"certificates": certificates}), tls);
    json!({
        "load_balancer": {"listeners": [{"name": "https", "port": 0, "tls": tls}]},
        "admin": {"socket": ADMIN},
    })
}

fn start(origin: &Origin, certificates: &[&Files], tls: Value) -> (Evenkeel, SocketAddr) {
    let balancer = Evenkeel::before(&[origin], config(certificates, tls));
    let port = port_of(&balancer, "https");
    (balancer, port)
}

/// The common name that the server's certificate has.
fn served(port: SocketAddr, config: ClientConfig, name: &str) -> String {
    let client = TlsClient::connect(port, config, name).unwrap();
    let chain = client.stream.conn.peer_certificates().unwrap();
    let (_, certificate) = x509_parser::parse_x509_certificate(&chain[0]).unwrap();
    certificate.subject().iter_common_name().next().unwrap().as_str().unwrap().to_owned()
}

fn failures(balancer: &Evenkeel, reason: &str) -> f64 {
    balancer.metric(&format!("evenkeel_tls_handshake_failures_total{{reason=\"{reason}\"}}"))
}

/// It is counted once the alert is out, which may be a moment after the client has read that.
#[track_caller]
fn until_failures(balancer: &Evenkeel, reason: &str, count: f64) {
    until("the failure is counted", || failures(balancer, reason) == count);
}

#[test]
fn requests_come_over_tls_1_3_and_1_2_and_the_server_hears_so() {
    let (authority, origin) = (Authority::new("ca"), Origin::responds("ok"));
    let files = authority.issue("a", &["a.test"]);
    let (balancer, port) = start(&origin, &[&files], json!({}));
    for (at, version) in [&rustls::version::TLS13, &rustls::version::TLS12].into_iter().enumerate() {
        let config = authority.client_of(provider(), &[version]);
        let mut client = TlsClient::connect(port, config, "a.test").unwrap();
        assert_eq!(client.stream.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
        for _ in 0..2 {
            let response = client.get("/");
            assert!(response.starts_with("HTTP/1.1 200") && response.ends_with("ok"), "{response}");
        }
        client.send("GET https://a.test/absolute HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n");
        let last = client.rest().expect("close_notify");
        assert!(last.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&last));
        until("all requests are seen", || origin.count() == 3 * (at + 1));
    }
    for seen in origin.requests() {
        assert_eq!(seen.fields.all("X-Forwarded-Proto"), ["https"]);
    }
    balancer.metric_is("evenkeel_tls_handshakes_total", 2.0);
    let mut clear = Client::to(&balancer);
    clear.get("/");
    assert_eq!(origin.requests().last().unwrap().fields.all("X-Forwarded-Proto"), ["http"]);
}

#[test]
fn the_certificate_is_chosen_by_name_and_by_the_clients_kinds_of_keys() {
    let (authority, origin) = (Authority::new("ca"), Origin::responds("ok"));
    let default = authority.issue("default", &["default.test"]);
    let exact = authority.issue("exact", &["www.example.test"]);
    let wildcard = authority.issue("wildcard", &["*.example.test", "example.test"]);
    let rsa = authority.issue_as("rsa", &["rsa.test"], Kind::Rsa, |_| ());
    let ecdsa = authority.issue("ecdsa", &["ecdsa.test", "rsa.test"]);
    let (_balancer, port) = start(&origin, &[&default, &exact, &wildcard, &rsa, &ecdsa], json!({}));
    let check =
        |name: &str, expected: &str| assert_eq!(served(port, authority.client(), name), expected, "{name}");
    check("default.test", "default.test");
    check("www.example.test", "www.example.test");
    check("WWW.example.TEST", "www.example.test");
    check("api.example.test", "*.example.test");
    check("example.test", "*.example.test");
    check("rsa.test", "ecdsa.test");
    let mut rsa_only = provider();
    let is_rsa = |suite: &rustls::SupportedCipherSuite| format!("{:?}", suite.suite()).contains("RSA");
    rsa_only.cipher_suites.retain(is_rsa);
    let config = authority.client_of(rsa_only, &[&rustls::version::TLS12]);
    assert_eq!(served(port, config, "rsa.test"), "rsa.test");
    // A name that no certificate is for gets the default, and a name with two labels is not one for a wildcard.
    for name in ["other.test", "a.b.example.test"] {
        let error = TlsClient::connect(port, authority.client(), name).err().unwrap().to_string();
        assert!(error.contains("default.test"), "{name}: {error}");
    }
}

/// A listener may have no certificate for other names, and none for clients that name no host.
#[test]
fn a_name_that_no_certificate_is_for_can_be_refused() {
    let (authority, origin) = (Authority::new("ca"), Origin::responds("ok"));
    let files = [authority.issue("a", &["a.test"]), authority.issue("wild", &["*.b.test"])];
    let (balancer, port) = start(&origin, &[&files[0], &files[1]], json!({ "unknown_name": "refuse" }));
    for (name, expected) in
        [("a.test", true), ("A.test", true), ("x.b.test", true), ("b.test", false), ("127.0.0.1", false)]
    {
        let client = TlsClient::connect(port, authority.client(), name);
        assert_eq!(client.is_ok(), expected, "{name}");
    }
    until_failures(&balancer, "unknown_name", 2.0);
    balancer.logs("unknown_name");
    // A certificate in the same file is for another name.
    authority.issue("a", &["new.test"]);
    balancer.signal(rustix::process::Signal::HUP);
    until("the new name is known", || TlsClient::connect(port, authority.client(), "new.test").is_ok());
    assert!(TlsClient::connect(port, authority.client(), "a.test").is_err());
}

#[test]
fn a_thousand_pipelined_requests_get_their_responses_over_tls() {
    let (authority, origin) = (Authority::new("ca"), Origin::responds("ok"));
    let files = authority.issue("a", &["a.test"]);
    let (_balancer, port) = start(&origin, &[&files], json!({}));
    let mut client = TlsClient::connect(port, authority.client(), "a.test").unwrap();
    for _ in 0..10 {
        client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n".repeat(100));
        for _ in 0..100 {
            assert!(client.response().starts_with(b"HTTP/1.1 200"));
        }
    }
    assert_eq!(origin.count(), 1000);
}

#[test]
fn sessions_are_resumed_at_any_worker_and_after_a_change_of_certificates() {
    let (authority, origin) = (Authority::new("ca"), Origin::responds("ok"));
    let files = authority.issue("a", &["a.test"]);
    let over = with(config(&[&files], json!({})), json!({"threadpool": {"min_workers": 4}}));
    let balancer = Evenkeel::before(&[&origin], over);
    let port = port_of(&balancer, "https");
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let config = Arc::new(authority.client_of(provider(), &[version]));
        for at in 0..8 {
            let mut client = TlsClient::connect_shared(port, &config, "a.test").unwrap();
            client.get("/");
            let kind = client.stream.conn.handshake_kind().unwrap();
            assert_eq!(kind == HandshakeKind::Resumed, at > 0, "{version:?}: {at}");
            if at == 5 {
                let before = balancer.log_lines().len();
                authority.issue("a", &["a.test"]);
                until("the certificates are read again", || {
                    balancer.log_lines()[before..].iter().any(|line| line.contains("read again"))
                });
            }
        }
    }
    balancer.metric_is("evenkeel_tls_handshakes_resumed_total", 14.0);
}

#[test]
fn min_version_rejects_older_clients_and_counts_them() {
    let (authority, origin) = (Authority::new("ca"), Origin::responds("ok"));
    let files = authority.issue("a", &["a.test"]);
    let (balancer, port) = start(&origin, &[&files], json!({"min_version": "1.3"}));
    let old = authority.client_of(provider(), &[&rustls::version::TLS12]);
    assert!(TlsClient::connect(port, old, "a.test").is_err());
    let mut client = TlsClient::connect(port, authority.client(), "a.test").unwrap();
    assert!(client.get("/").starts_with("HTTP/1.1 200"));
    until_failures(&balancer, "version", 1.0);
    let mut other = authority.client();
    other.alpn_protocols = vec![b"h2".to_vec()];
    assert!(TlsClient::connect(port, other, "a.test").is_err());
    until_failures(&balancer, "protocol", 1.0);
    let stranger = Authority::new("another");
    assert!(TlsClient::connect(port, stranger.client(), "a.test").is_err());
    until_failures(&balancer, "rejected_by_client", 1.0);
    balancer.logs("TLS handshake failed");
}

#[test]
fn client_certificates_are_verified_and_reported_to_the_server() {
    let (authority, origin) = (Authority::new("ca"), Origin::responds("ok"));
    let (files, alice) = (authority.issue("a", &["a.test"]), authority.issue("alice", &["alice"]));
    let another = Authority::new("another");
    let stranger = another.issue("eve", &["eve"]);
    let auth = |mode: &str| json!({"client_auth": {"ca": authority.file(), "mode": mode}});
    let forged = "GET / HTTP/1.1\r\nHost: a.test\r\nX-Client-Cert-Subject: CN=root\r\nX_Client_Cert_Fingerprint: 1\r\n\r\n";
    let (balancer, port) = start(&origin, &[&files], auth("require"));
    let mut client = TlsClient::connect(port, authority.client_with(&alice), "a.test").unwrap();
    client.send(forged).response();
    let seen = origin.only_request();
    assert_eq!(seen.fields.all("X-Client-Cert-Subject"), ["CN=alice"]);
    let fingerprint = seen.fields.all("X-Client-Cert-Fingerprint");
    assert!(fingerprint.len() == 1 && fingerprint[0].len() == 64, "{fingerprint:?}");
    for (config, reason) in [
        (authority.client(), "client_certificate_missing"),
        (authority.client_with(&stranger), "client_certificate_invalid"),
    ] {
        // With TLS 1.3 the client learns of it after its own side of the handshake.
        let over = TlsClient::connect(port, config, "a.test").and_then(|mut client| {
            client.stream.write_all(forged.as_bytes())?;
            client.rest()
        });
        assert!(over.is_err(), "{reason}");
        until_failures(&balancer, reason, 1.0);
    }
    let origin = Origin::responds("ok");
    let (_balancer, port) = start(&origin, &[&files], auth("request"));
    TlsClient::connect(port, authority.client(), "a.test").unwrap().send(forged).response();
    let seen = origin.only_request();
    assert!(
        seen.fields.all("X-Client-Cert-Subject").is_empty()
            && seen.fields.all("X_Client_Cert_Fingerprint").is_empty()
    );
}

/// Whether a client with this configuration is turned away, in the handshake or right after it.
fn is_rejected(port: SocketAddr, config: &Arc<ClientConfig>) -> bool {
    let over = TlsClient::connect_shared(port, config, "a.test").and_then(|mut client| {
        client.stream.write_all(b"GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n")?;
        client.rest()
    });
    over.is_err()
}

/// A balancer whose TLS listeners have these names and these settings beside the certificate.
fn start_all(origin: &Origin, certificate: &Files, listeners: Value, more: Value) -> Evenkeel {
    let listeners: Vec<Value> = listeners
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, tls)| {
            let tls = with(json!({"certificates": [certificate.json()]}), tls.clone());
            json!({"name": name, "port": 0, "tls": tls})
        })
        .collect();
    let config = json!({"load_balancer": {"listeners": listeners}, "admin": {"socket": ADMIN}});
    Evenkeel::before(&[origin], with(config, more))
}

#[test]
fn a_revoked_client_is_rejected_as_soon_as_the_list_says_so_and_its_session_is_not_resumed() {
    let (authority, origin) = (Authority::new("ca"), Origin::responds("ok"));
    let files = authority.issue("a", &["a.test"]);
    let (alice, bob) = (authority.issue_numbered("alice", 10, &[]), authority.issue_numbered("bob", 11, &[]));
    let [alice, bob] = [alice, bob].map(|files| Arc::new(authority.client_with(&files)));
    // The older one, which no longer holds, is behind the newer one.
    let lists = authority.revocations(&[11], -60, 3600) + &authority.revocations(&[10], -7200, -3600);
    let crl = authority.write("clients.crl", &lists);
    let auth = json!({"client_auth": {"ca": authority.file(), "crl": crl}});
    let (balancer, port) = start(&origin, &[&files], auth);
    let kind = || {
        let mut client = TlsClient::connect_shared(port, &alice, "a.test").unwrap();
        client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n").response();
        client.stream.conn.handshake_kind().unwrap()
    };
    assert_eq!((kind(), kind()), (HandshakeKind::Full, HandshakeKind::Resumed));
    assert!(is_rejected(port, &bob));
    until_failures(&balancer, "client_certificate_revoked", 1.0);
    let left = balancer.metric("evenkeel_crl_expiry_seconds{listener=\"https\",name=\"CN=ca\"");
    assert!((0.0..=3600.0).contains(&left), "{left}");
    authority.write("clients.crl", &authority.revocations(&[10], -60, 3600));
    balancer.logs("read again");
    assert!(is_rejected(port, &alice), "its session began before");
    until_failures(&balancer, "client_certificate_revoked", 2.0);
    assert!(!is_rejected(port, &bob), "it is on the list no more");
    // One that is over changes nothing.
    authority.write("clients.crl", &authority.revocations(&[], -7200, -3600));
    balancer.logs("stay in use");
    balancer.logs("client_auth.crl");
    assert!(is_rejected(port, &alice) && !is_rejected(port, &bob));
}

#[test]
fn every_authority_in_a_chain_of_intermediate_ones_needs_a_list() {
    let (root, origin) = (Authority::new("root"), Origin::responds("ok"));
    let first = root.intermediate("first");
    let second = first.intermediate("second");
    let files = root.issue("a", &["a.test"]);
    let leaf = second.issue_numbered("leaf", 10, &[&second, &first]);
    let alone = second.issue_numbered("alone", 12, &[]);
    let [leaf, alone] = [leaf, alone].map(|files| Arc::new(root.client_with(&files)));
    let list = |authority: &Authority, serials: &[u64]| authority.revocations(serials, -60, 3600);
    let all = [list(&root, &[]), list(&first, &[]), list(&second, &[])];
    let auth = |name: &str, lists: &[String]| json!({"client_auth": {"ca": root.file(), "crl": root.write(name, &lists.concat())}});
    let listeners = json!({
        "unlisted": {"client_auth": {"ca": root.file()}},
        "second": {"client_auth": {"ca": second.file()}},
        "all": auth("all.crl", &all),
        "missing": auth("missing.crl", &all[..2]),
        "of-root": auth("root.crl", &[list(&root, &[7]), all[1].clone(), all[2].clone()]),
        "of-second": auth("second.crl", &[all[0].clone(), all[1].clone(), list(&second, &[10])]),
    });
    let balancer = start_all(&origin, &files, listeners, json!({}));
    let check = |listener: &str, config, expected: Option<&str>| {
        let before = expected.map_or(0.0, |reason| failures(&balancer, reason));
        assert_eq!(is_rejected(port_of(&balancer, listener), config), expected.is_some(), "{listener}");
        expected.inspect(|reason| until_failures(&balancer, reason, before + 1.0));
    };
    check("unlisted", &leaf, None);
    check("unlisted", &alone, Some("client_certificate_invalid"));
    check("second", &alone, None);
    check("all", &leaf, None);
    check("missing", &leaf, Some("revocation_unknown"));
    check("of-root", &leaf, Some("client_certificate_revoked"));
    check("of-second", &leaf, Some("client_certificate_revoked"));
}

/// SNI can have opened a door in front of the balancer that the host would not have.
#[test]
fn a_request_for_another_host_than_that_of_the_handshake_is_421_where_clients_have_certificates() {
    let (authority, origin) = (Authority::new("ca"), Origin::responds("ok"));
    let files = authority.issue("a", &["a.test", "b.test", "127.0.0.1"]);
    let alice = Arc::new(authority.client_with(&authority.issue("alice", &["alice"])));
    let auth = json!({"client_auth": {"ca": authority.file()}});
    let listeners = json!({"strict": auth, "open": {}});
    let balancer = start_all(&origin, &files, listeners.clone(), json!({}));
    let trusting = json!({"load_balancer": {"trusted_proxies": ["127.0.0.1"]}});
    let trusts = start_all(&origin, &files, listeners, trusting);
    let check = |balancer: &Evenkeel, listener: &str, name: &str, host: &str, expected: &str| {
        let mut client = TlsClient::connect_shared(port_of(balancer, listener), &alice, name).unwrap();
        client.send(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        let response = String::from_utf8(client.response()).unwrap();
        assert!(response.starts_with(&format!("HTTP/1.1 {expected}")), "{name}, {host}: {response}");
        assert_eq!(response.contains("sni_mismatch"), expected == "421", "{response}");
    };
    for (name, host, expected) in [
        ("a.test", "a.test", "200"),
        ("a.test", "A.test.:8443", "200"),
        ("a.test", "b.test", "421"),
        ("b.test", "a.test", "421"),
        ("127.0.0.1", "a.test", "200"),
    ] {
        check(&balancer, "strict", name, host, expected);
        check(&balancer, "open", name, host, "200");
        check(&trusts, "strict", name, host, "200");
    }
    let mut client = TlsClient::connect_shared(port_of(&balancer, "strict"), &alice, "a.test").unwrap();
    client.send("GET https://b.test/ HTTP/1.1\r\nHost: a.test\r\n\r\n");
    assert!(client.response().starts_with(b"HTTP/1.1 421"));
}

#[test]
fn a_route_can_require_a_client_certificate_and_a_forged_header_is_none() {
    let (authority, origin) = (Authority::new("ca"), Origin::responds("ok"));
    let files = authority.issue("a", &["a.test"]);
    let (alice, bob) = (authority.issue("alice", &["alice"]), authority.issue("bob", &["bob"]));
    let auth = json!({"client_auth": {"ca": authority.file(), "mode": "request"}});
    let by = "header:X-Client-Cert-Fingerprint";
    let more = json!({"routes": [
        {"path": "/api/*", "headers": {"X-Client-Cert-Subject": true}},
        {"path": "/admin/*", "headers": {"x_client_cert_subject": "CN=alice"},
         "request_headers": {"set": {"X-Who": "{header:X-Client-Cert-Subject}"}}},
        {"path": ["/api/*", "/admin/*"], "respond": {"status": 403}},
        {"path": "/once", "rate_limit": {"requests": 1, "per": "1h", "by": by}},
    ]});
    let balancer = start_all(&origin, &files, json!({"https": auth}), more);
    let port = port_of(&balancer, "https");
    let connect = |config| TlsClient::connect(port, config, "a.test").unwrap();
    let mut anonymous = connect(authority.client());
    let mut alice = connect(authority.client_with(&alice));
    let mut bob = connect(authority.client_with(&bob));
    let check = |client: &mut TlsClient, path: &str, expected: &str| {
        let forged = "X-Client-Cert-Subject: CN=alice\r\nX_Client_Cert_Subject: CN=alice\r\n\
                      X-Client-Cert-Fingerprint: 1\r\n";
        client.send(format!("GET {path} HTTP/1.1\r\nHost: a.test\r\n{forged}\r\n"));
        let response = String::from_utf8(client.response()).unwrap();
        assert!(response.starts_with(&format!("HTTP/1.1 {expected}")), "{path}: {response}");
    };
    for (path, of_anonymous, of_alice, of_bob) in [
        ("/api/x", "403", "200", "200"),
        ("/admin/x", "403", "200", "403"),
        ("/once", "200", "200", "200"),
        ("/once", "429", "429", "429"),
    ] {
        check(&mut anonymous, path, of_anonymous);
        check(&mut alice, path, of_alice);
        check(&mut bob, path, of_bob);
    }
    let admin = origin.requests().into_iter().find(|seen| seen.target() == "/admin/x").unwrap();
    assert_eq!(admin.fields.all("X-Who"), ["CN=alice"]);
    assert_eq!(admin.fields.all("X-Client-Cert-Subject"), ["CN=alice"]);
}

#[test]
fn clear_text_on_a_port_with_tls_gets_a_readable_400_and_garbage_an_end() {
    let (authority, origin) = (Authority::new("ca"), Origin::responds("ok"));
    let files = authority.issue("a", &["a.test"]);
    let (balancer, port) = start(&origin, &[&files], json!({}));
    let mut client = Client::connect(port).unwrap();
    let response = client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n").response();
    assert_eq!(response.status, 400);
    assert!(String::from_utf8_lossy(&response.body).contains("http_on_https_port"), "{response:?}");
    client.sees_the_end();
    let mut garbage = Client::connect(port).unwrap();
    garbage.send([0x80, 0x2e, 1, 0, 2]);
    garbage.sees_the_end();
    until_failures(&balancer, "not_tls", 1.0);
    let mut broken = Client::connect(port).unwrap();
    broken.send([0x16, 3, 1, 0, 5, 1, 0, 0, 1, 0xff]);
    let (alert, _) = broken.rest();
    assert_eq!((alert[0], alert.len()), (0x15, 7), "an alert tells why: {alert:?}");
    until_failures(&balancer, "malformed", 1.0);
    let mut gone = Client::connect(port).unwrap();
    gone.send([0x16, 3, 1, 0, 5]).finish_writing();
    gone.sees_the_end();
    until_failures(&balancer, "client_gone", 1.0);
    assert_eq!(origin.count(), 0);
}

/// The first flight of a client: its ClientHello in one record.
fn hello(config: ClientConfig) -> (rustls::ClientConnection, Vec<u8>) {
    let name = rustls_pki_types::ServerName::try_from("a.test").unwrap();
    let mut session = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let mut records = Vec::new();
    session.write_tls(&mut records).unwrap();
    (session, records)
}

/// What openssl and testssl send on purpose, and what becomes of it.
#[test]
fn what_is_no_valid_handshake_ends_with_its_reason_and_harms_no_other() {
    let (authority, origin) = (Authority::new("ca"), Origin::responds("ok"));
    let files = authority.issue("a", &["a.test"]);
    let (balancer, port) = start(&origin, &[&files], json!({}));
    let noise = noise(300);
    let (_, hello) = hello(authority.client());
    let mut long_message = vec![0x16, 3, 1, 0x40, 0, 1, 0xff, 0xff, 0xff];
    long_message.resize(5 + 0x4000, 0);
    let heartbeat = [&hello[..], &[0x18, 3, 2, 0, 3, 1, 0x40, 0]].concat();
    let mut counts = std::collections::BTreeMap::new();
    for (what, bytes, reason) in [
        ("noise", [&[0x80][..], &noise].concat(), "not_tls"),
        ("noise as a handshake", [&[0x16][..], &noise].concat(), "malformed"),
        (
            "a hello of SSL 2",
            [&[0x80, 0x2e, 1, 0, 2, 0, 0x15, 0, 0, 0, 0x10][..], &noise].concat(),
            "not_tls",
        ),
        ("an alert first", vec![0x15, 3, 1, 0, 2, 2, 40], "not_tls"),
        ("application data first", [&[0x17, 3, 3, 0, 16][..], &noise[..16]].concat(), "not_tls"),
        ("a record of 65,535 bytes", [&[0x16, 3, 1, 0xff, 0xff][..], &vec![1; 70_000]].concat(), "malformed"),
        (
            "a record with a byte too many",
            [&[0x16, 3, 1, 0x48, 1][..], &vec![1; 0x4801]].concat(),
            "malformed",
        ),
        ("records without contents", [0x16, 3, 1, 0, 0].repeat(50), "malformed"),
        ("a message of 16 MiB", long_message, "malformed"),
        ("a heartbeat that asks for more than it sends", heartbeat, "malformed"),
    ] {
        let mut client = Client::connect(port).unwrap();
        // It may be closed before all is sent.
        let _ = client.try_send(&bytes);
        drop(client.rest());
        let count = counts.entry(reason).or_insert(0.0);
        *count += 1.0;
        until(&format!("{what} is counted as {reason}"), || failures(&balancer, reason) == *count);
    }
    let mut client = TlsClient::connect(port, authority.client(), "a.test").unwrap();
    assert!(client.get("/").starts_with("HTTP/1.1 200"));
    // A record that was changed on its way ends its connection alone.
    let mut other = TlsClient::connect(port, authority.client(), "a.test").unwrap();
    other.stream.sock.write_all(&[&[0x17, 3, 3, 0, 32][..], &noise[..32]].concat()).unwrap();
    assert!(other.rest().is_err());
    assert!(client.get("/").starts_with("HTTP/1.1 200"));
    assert_eq!(origin.count(), 2);
}

#[test]
fn a_hello_in_records_of_one_byte_is_answered() {
    let (authority, origin) = (Authority::new("ca"), Origin::responds("ok"));
    let files = authority.issue("a", &["a.test"]);
    let (_balancer, port) = start(&origin, &[&files], json!({}));
    let (mut session, hello) = hello(authority.client());
    let records: Vec<u8> = hello[5..].iter().flat_map(|byte| [0x16, 3, 1, 0, 1, *byte]).collect();
    let mut socket = TcpStream::connect(port).unwrap();
    socket.write_all(&records).unwrap();
    while session.is_handshaking() {
        session.complete_io(&mut socket).unwrap();
    }
    session.writer().write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    let mut client = TlsClient { stream: rustls::StreamOwned::new(session, socket) };
    assert!(client.response().starts_with(b"HTTP/1.1 200"));
}

/// Early data could be sent again by anyone who has seen it (RFC 8470), so none is taken: a client that would send some
/// has a usual handshake.
#[test]
fn early_data_is_not_taken() {
    let (authority, origin) = (Authority::new("ca"), Origin::responds("ok"));
    let files = authority.issue("a", &["a.test"]);
    let (_balancer, port) = start(&origin, &[&files], json!({}));
    let mut config = authority.client();
    config.enable_early_data = true;
    let config = Arc::new(config);
    TlsClient::connect_shared(port, &config, "a.test").unwrap().get("/");
    let name = rustls_pki_types::ServerName::try_from("a.test").unwrap();
    let mut session = rustls::ClientConnection::new(Arc::clone(&config), name).unwrap();
    assert!(session.early_data().is_none(), "the ticket allows none");
    let mut client = TlsClient::connect_shared(port, &config, "a.test").unwrap();
    assert!(client.get("/").starts_with("HTTP/1.1 200"));
    assert_eq!(client.stream.conn.handshake_kind(), Some(HandshakeKind::Resumed));
    assert!(!client.stream.conn.is_early_data_accepted());
}

#[test]
fn a_client_that_offers_http_2_alone_is_told_so() {
    let (authority, origin) = (Authority::new("ca"), Origin::responds("ok"));
    let files = authority.issue("a", &["a.test"]);
    let (balancer, port) = start(&origin, &[&files], json!({}));
    for (offered, spoken) in [
        (&["h2"][..], Err("NoApplicationProtocol")),
        (&["h2", "http/1.1"], Ok(Some(&b"http/1.1"[..]))),
        (&[], Ok(None)),
    ] {
        let mut config = authority.client();
        config.alpn_protocols = offered.iter().map(|name| name.as_bytes().to_vec()).collect();
        let client = TlsClient::connect(port, config, "a.test");
        match spoken {
            Ok(name) => assert_eq!(client.unwrap().stream.conn.alpn_protocol(), name),
            Err(alert) => assert!(client.err().unwrap().to_string().contains(alert), "{offered:?}"),
        }
    }
    until_failures(&balancer, "protocol", 1.0);
}

/// The program openssl, for what no TLS library for this language does: versions that are over, and renegotiation.
#[test]
fn openssl_gets_neither_old_versions_nor_ciphers_nor_a_renegotiation() {
    if Command::new("openssl").arg("version").output().is_err() {
        eprintln!("openssl is not installed");
        return;
    }
    let (authority, origin) = (Authority::new("ca"), Origin::responds("ok"));
    let files = authority.issue("a", &["a.test"]);
    let (balancer, port) = start(&origin, &[&files], json!({}));
    // Its input stays open until it has ended; where that does not matter, it ends at once.
    let ask = |arguments: &[&str], input: &[u8]| {
        let mut child = Command::new("openssl")
            .args(["s_client", "-servername", "a.test", "-connect", &port.to_string()])
            .args(arguments)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // It may have ended before it reads.
        let _ = stdin.write_all(input);
        if !input.is_empty() {
            until("openssl ends", || child.try_wait().unwrap().is_some());
        }
        drop(stdin);
        let output = child.wait_with_output().unwrap();
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    };
    let is_made = |said: &str| said.contains("New, TLS") || said.contains("Reused, TLS");
    for (arguments, expected) in [
        (&["-tls1_2"][..], true),
        (&["-tls1_3"], true),
        (&["-tls1_2", "-cipher", "ECDHE-ECDSA-CHACHA20-POLY1305"], true),
        (&["-tls1", "-cipher", "ALL:@SECLEVEL=0"], false),
        (&["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"], false),
        (&["-tls1_2", "-cipher", "AES128-SHA:@SECLEVEL=0"], false),
        (&["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA:@SECLEVEL=0"], false),
        (&["-tls1_2", "-cipher", "aNULL:eNULL:@SECLEVEL=0"], false),
    ] {
        let said = ask(arguments, b"");
        assert_eq!(is_made(&said), expected, "{arguments:?}: {said}");
    }
    // "R" asks for a renegotiation; it is refused, and that client ends.
    let said = ask(&["-tls1_2"], b"R\n");
    assert!(said.contains("RENEGOTIATING"), "{said}");
    let mut client = TlsClient::connect(port, authority.client(), "a.test").unwrap();
    assert!(client.get("/").starts_with("HTTP/1.1 200"));
    drop(balancer);
}

#[test]
fn tls_on_a_port_in_clear_text_is_closed_and_counted() {
    let (authority, origin) = (Authority::new("ca"), Origin::responds("ok"));
    let balancer = Evenkeel::before(&[&origin], json!({"admin": {"socket": ADMIN}}));
    assert!(TlsClient::connect(balancer.address(), authority.client(), "a.test").is_err());
    balancer.metric_is("evenkeel_rejections_total{reason=\"tls_on_http_port\"}", 1.0);
    balancer.logs("tls_on_http_port (400)");
}

#[test]
fn handshakes_that_drip_hold_no_worker_and_end_at_their_deadline() {
    let (authority, origin) = (Authority::new("ca"), Origin::responds("ok"));
    let files = authority.issue("a", &["a.test"]);
    let mut over = with(config(&[&files], json!({})), json!({"threadpool": {"max_workers": 1}}));
    // The same worker serves both; a busy machine takes its time for a handshake that is none of the slow ones.
    let tls = json!({"certificates": [files.json()], "handshake_timeout": "3s"});
    over["load_balancer"]["listeners"]
        .as_array_mut()
        .unwrap()
        .push(json!({"name": "slow", "port": 0, "tls": tls}));
    let balancer = Evenkeel::before(&[&origin], over);
    let (port, slow_port) = (port_of(&balancer, "https"), port_of(&balancer, "slow"));
    let begun = |port| {
        let mut client = TcpStream::connect(port).unwrap();
        let _ = client.write_all(&[0x16]);
        client
    };
    let mut slow: Vec<TcpStream> = (0..200).map(|_| begun(slow_port)).collect();
    for byte in [3, 1, 0] {
        let mut client = TlsClient::connect(port, authority.client(), "a.test").unwrap();
        assert!(client.get("/").starts_with("HTTP/1.1 200"));
        slow.iter_mut().for_each(|client| _ = client.write_all(&[byte]));
    }
    until_failures(&balancer, "timeout", 200.0);
    for client in &mut slow {
        assert_eq!(client.read(&mut [0]).unwrap_or(0), 0);
    }
    until("no connection is left", || balancer.metric("evenkeel_connections ") == 0.0);
}

#[test]
fn bytes_one_by_one_make_a_handshake_and_a_request() {
    let (authority, origin) = (Authority::new("ca"), Origin::responds("ok"));
    let files = authority.issue("a", &["a.test"]);
    let (_balancer, port) = start(&origin, &[&files], json!({}));
    let mut socket = TcpStream::connect(port).unwrap();
    socket.set_nodelay(true).unwrap();
    let name = rustls_pki_types::ServerName::try_from("a.test").unwrap();
    let mut session = rustls::ClientConnection::new(Arc::new(authority.client()), name).unwrap();
    session.writer().write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    let mut seen = Vec::new();
    while !seen.ends_with(b"ok") {
        let mut records = Vec::new();
        while session.wants_write() {
            session.write_tls(&mut records).unwrap();
        }
        for byte in records {
            socket.write_all(&[byte]).unwrap();
        }
        session.read_tls(&mut socket).unwrap();
        session.process_new_packets().unwrap();
        let _ = session.reader().read_to_end(&mut seen);
    }
    assert!(seen.starts_with(b"HTTP/1.1 200"));
}

#[test]
fn long_bodies_arrive_whole_in_both_directions_however_slowly_they_are_read() {
    let (authority, body) = (Authority::new("ca"), Arc::new(noise(8 << 20)));
    let sent = Arc::clone(&body);
    let origin = Origin::start(move |visit| {
        while let Some(seen) = visit.request() {
            assert!(seen.body == *sent || seen.body.is_empty());
            visit.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", sent.len()));
            visit.send(&sent[..]);
        }
    });
    let files = authority.issue("a", &["a.test"]);
    let (_balancer, port) = start(&origin, &[&files], json!({}));
    let mut client = TlsClient::connect(port, authority.client(), "a.test").unwrap();
    client.send(format!("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n", body.len()));
    client.send(&body[..]);
    // The response waits until nothing more fits anywhere.
    thread::park_timeout(Duration::from_millis(300));
    let response = client.response();
    assert!(response.ends_with(&body[..]), "{} bytes", response.len());
    client.send("GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    let rest = client.rest().expect("close_notify");
    assert!(rest.ends_with(&body[..]), "{} bytes", rest.len());
}

/// The lengths of the records of application data that come.
fn records(port: SocketAddr, authority: &Authority) -> Vec<usize> {
    let mut client = TlsClient::connect(port, authority.client(), "a.test").unwrap();
    client.send("GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    let mut bytes = Vec::new();
    client.stream.sock.read_to_end(&mut bytes).unwrap();
    let (mut lengths, mut rest) = (Vec::new(), &bytes[..]);
    while let [kind, _, _, high, low, more @ ..] = rest {
        let length = usize::from(*high) << 8 | usize::from(*low);
        lengths.extend((*kind == 0x17).then_some(length));
        rest = &more[length..];
    }
    lengths
}

#[test]
fn records_are_small_at_first_and_large_later() {
    let authority = Authority::new("ca");
    let origin = Origin::start(|visit| {
        while visit.request().is_some() {
            visit.response(noise(1 << 20));
        }
    });
    let files = authority.issue("a", &["a.test"]);
    let (_balancer, port) = start(&origin, &[&files], json!({}));
    let lengths = records(port, &authority);
    assert!(lengths[2..20].iter().all(|length| *length < 1400), "{lengths:?}");
    assert!(
        lengths[lengths.len() - 20..lengths.len() - 4].iter().any(|length| *length > 16_000),
        "{lengths:?}"
    );
}

#[test]
fn a_client_that_closes_without_close_notify_is_no_error() {
    let (authority, origin) = (Authority::new("ca"), Origin::responds("ok"));
    let files = authority.issue("a", &["a.test"]);
    let (balancer, port) = start(&origin, &[&files], json!({}));
    let mut client = TlsClient::connect(port, authority.client(), "a.test").unwrap();
    client.get("/");
    client.stream.sock.shutdown(std::net::Shutdown::Write).unwrap();
    assert!(client.rest().is_ok(), "close_notify comes back");
    drop(client);
    until("it is gone", || balancer.metric("evenkeel_connections ") == 0.0);
    balancer.metric_is("evenkeel_rejections_total{reason=\"client_gone\"}", 0.0);
}

#[test]
fn web_sockets_pass_through_tls() {
    let authority = Authority::new("ca");
    let origin = Origin::start(|visit| {
        if visit.request().is_some() {
            visit.send(
                "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\nhello",
            );
            loop {
                let bytes = visit.take(50_000);
                if bytes.is_empty() || !visit.try_send(bytes) {
                    break;
                }
            }
        }
    });
    let files = authority.issue("a", &["a.test"]);
    let (_balancer, port) = start(&origin, &[&files], json!({}));
    let mut client = TlsClient::connect(port, authority.client(), "a.test").unwrap();
    client.send("GET / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n");
    let head = client.response();
    assert!(head.starts_with(b"HTTP/1.1 101"));
    let mut bytes = [0; 5];
    client.stream.read_exact(&mut bytes).unwrap();
    assert_eq!(&bytes, b"hello");
    let message = noise(300_000);
    let mut back = vec![0; message.len()];
    for piece in message.chunks(50_000).zip(back.chunks_mut(50_000)) {
        client.send(piece.0);
        client.stream.read_exact(piece.1).unwrap();
    }
    assert_eq!(back, message);
}

#[test]
fn a_proxy_header_comes_before_tls() {
    let (authority, origin) = (Authority::new("ca"), Origin::responds("ok"));
    let files = authority.issue("a", &["a.test"]);
    let over = with(config(&[&files], json!({})), json!({}));
    let mut over = over;
    over["load_balancer"]["listeners"][0]["proxy_protocol"] = json!(["127.0.0.1"]);
    let balancer = Evenkeel::before(&[&origin], over);
    let port = port_of(&balancer, "https");
    let mut socket = TcpStream::connect(port).unwrap();
    socket.write_all(b"PROXY TCP4 203.0.113.7 192.0.2.1 1234 443\r\n").unwrap();
    let mut client = TlsClient::over(socket, &Arc::new(authority.client()), "a.test").unwrap();
    assert!(client.get("/").starts_with("HTTP/1.1 200"));
    assert_eq!(origin.only_request().fields.all("X-Forwarded-For"), ["203.0.113.7"]);
    // The listener in clear text does not ask for one.
    assert_eq!(Client::to(&balancer).get("/").status, 200);
    assert!(TlsClient::connect(port, authority.client(), "a.test").is_err());
}

#[test]
fn certificates_change_under_load_without_an_error() {
    let (authority, origin) = (Authority::new("ca"), Origin::responds("ok"));
    let files = authority.issue("a", &["a.test"]);
    let (balancer, port) = start(&origin, &[&files], json!({}));
    let mut old = TlsClient::connect(port, authority.client(), "a.test").unwrap();
    old.get("/");
    let over = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (over, config) = (Arc::clone(&over), authority.client());
            thread::spawn(move || {
                let mut count = 0;
                while !over.load(Relaxed) {
                    let mut client = TlsClient::connect(port, config.clone(), "a.test").unwrap();
                    assert!(client.get("/").starts_with("HTTP/1.1 200"));
                    count += 1;
                }
                count
            })
        })
        .collect();
    authority.issue_as("a", &["a.test"], Kind::Ecdsa, |params| {
        params.distinguished_name.push(rcgen::DnType::CommonName, "renewed");
    });
    balancer.logs("the certificates were read again");
    until("new connections get the new one", || served(port, authority.client(), "a.test") == "renewed");
    // A faulty one changes nothing.
    fs::write(&files.certificate, "nonsense").unwrap();
    balancer.logs("the certificates that were read before stay in use");
    assert_eq!(served(port, authority.client(), "a.test"), "renewed");
    over.store(true, Relaxed);
    let served: usize = clients.into_iter().map(|client| client.join().unwrap()).sum();
    assert!(served > 0);
    assert!(old.get("/").starts_with("HTTP/1.1 200"), "what was open stays open");
}

#[test]
fn the_time_to_expiry_is_a_metric_and_the_last_two_weeks_a_warning() {
    let (authority, origin) = (Authority::new("ca"), Origin::responds("ok"));
    let soon = authority.issue_as("a", &["a.test"], Kind::Ecdsa, |params| {
        params.not_after = params.not_before;
        let now = std::time::SystemTime::now() + Duration::from_secs(5 * 24 * 3600 + 3600);
        params.not_after = now.into();
    });
    let (balancer, _) = start(&origin, &[&soon], json!({}));
    balancer.logs("expires in 5 days; renew it");
    let seconds = balancer.metric("evenkeel_certificate_expiry_seconds{listener=\"https\",name=\"a.test\"");
    assert!((5.0 * 86_400.0..6.0 * 86_400.0).contains(&seconds), "{seconds}");
}

/// Both a start and `check` name the file and say what to do.
#[track_caller]
fn check_fault(authority: &Authority, tls: Value, key: &str, advice: &str) {
    let config = json!({
        "load_balancer": {"load_balancer_port": 0, "bind": "127.0.0.1", "listeners": [{"port": 0, "name": "h", "tls": tls}]},
        "admin": {"socket": null, "bind": null},
    });
    let file = authority.path("config.json");
    fs::write(&file, config.to_string()).unwrap();
    let output =
        Command::new(env!("CARGO_BIN_EXE_evenkeel")).arg("check").arg("-c").arg(&file).output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert!(
        told.contains(&format!("load_balancer.listeners[0].tls.{key}:")) && told.contains(advice),
        "{told}"
    );
    let (_, lines) = Evenkeel::try_start_text(&config.to_string()).expect_err("no start");
    assert!(lines.contains(advice), "{lines}");
}

#[test]
fn every_fault_of_a_certificate_is_reported_by_path_with_what_to_do() {
    let authority = Authority::new("ca");
    let (one, two) = (authority.issue("one", &["a.test"]), authority.issue("two", &["a.test"]));
    let pair = |certificate: &std::path::Path, key: &std::path::Path| json!({"certificates": [{"certificate": certificate, "key": key}]});
    let write = |name: &str, text: &[u8]| {
        fs::write(authority.path(name), text).unwrap();
        authority.path(name)
    };
    let check = |tls: Value, key: &str, advice: &str| check_fault(&authority, tls, key, advice);
    let (of_certificate, of_key) = ("certificates[0].certificate", "certificates[0].key");
    check(pair(&one.certificate, &two.key), of_key, "two.key is not the key of");
    check(pair(&one.key, &one.key), of_certificate, "has a private key and no certificate");
    check(pair(&one.certificate, &one.certificate), of_certificate, "has a certificate and no private key");
    check(pair(&one.certificate, &two.certificate), of_key, "has a certificate and no private key");
    check(pair(&authority.path("none.pem"), &one.key), of_certificate, "there is no file");
    check(pair(&authority.path(""), &one.key), of_certificate, "is a folder");
    check(pair(&write("empty.pem", b""), &one.key), of_certificate, "has no certificate");
    check(pair(&one.certificate, &write("empty.key", b"")), of_key, "has no private key");
    let encrypted = b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nMII=\n-----END ENCRYPTED PRIVATE KEY-----\n";
    check(pair(&one.certificate, &write("secret.key", encrypted)), of_key, "openssl pkey -in");
    check(pair(&write("der.pem", &[0x30, 0x82, 1, 2]), &one.key), of_certificate, "openssl x509 -inform der");
    let text = |path| fs::read_to_string(path).unwrap();
    let wrong = [authority.pem.clone(), text(&one.certificate)].concat();
    check(pair(&write("order.pem", wrong.as_bytes()), &one.key), of_certificate, "wrong order");
    let foreign = [text(&one.certificate), text(&two.certificate)].concat();
    check(pair(&write("foreign.pem", foreign.as_bytes()), &one.key), of_certificate, "wrong order");
    let expired = authority.issue_as("expired", &["a.test"], Kind::Ecdsa, Authority::expired);
    check(pair(&expired.certificate, &expired.key), of_certificate, "was valid until 1999-12-31");
    let early = authority.issue_as("early", &["a.test"], Kind::Ecdsa, Authority::not_yet_valid);
    check(pair(&early.certificate, &early.key), of_certificate, "is valid from 2100-01-01");
    let mut tls = pair(&one.certificate, &one.key);
    tls["client_auth"] = json!({"ca": one.key});
    check(tls, "client_auth.ca", "has a private key and no certificate");
    let mut both = pair(&one.certificate, &one.key);
    let second =
        json!({"certificate": two.certificate, "key": two.key, "client_auth": {"ca": authority.file()}});
    both["certificates"].as_array_mut().unwrap().push(second);
    check(both.clone(), "certificates[1].client_auth", "a.test is a name of certificates[0], too");
    both["certificates"][1]["client_auth"]["ca"] = json!(one.key);
    check(both, "certificates[1].client_auth.ca", "has a private key and no certificate");
    let another = Authority::new("another");
    for (list, advice) in [
        (authority.path("none.crl"), "there is no file"),
        (authority.file(), "has a certificate and no list of revoked ones"),
        (write("empty.crl", b""), "has no list of revoked certificates"),
        (write("der.crl", &[0x30, 0x82, 1, 2]), "openssl crl -inform der"),
        (write("cut.crl", b"-----BEGIN X509 CRL-----\nMII=\n-----END X509 CRL-----\n"), "cannot be read"),
        (authority.write("old.crl", &authority.revocations(&[], -7200, -3600)), "\"CN=ca\" was valid until"),
        (
            authority.write("other.crl", &another.revocations(&[], -60, 3600)),
            "every certificate would be rejected",
        ),
    ] {
        let mut tls = pair(&one.certificate, &one.key);
        tls["client_auth"] = json!({"ca": authority.file(), "crl": list});
        check(tls, "client_auth.crl", advice);
    }
}
