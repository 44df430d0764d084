//! Client certificates: required or asked for, revoked, by host, and what routes make of them.

use super::tls_clients::{failures, start, until_failures};
use crate::support::balancer::{ADMIN, with};
use crate::support::tls::{Authority, Files, TlsClient, port_of};
use crate::support::{Evenkeel, Origin};
use rustls::{ClientConfig, HandshakeKind};
use serde_json::{Value, json};
use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;

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
