//! Certificates of clients, where hosts of one listener differ, and where time passes.

use crate::support::balancer::{ADMIN, with};
use crate::support::tls::{Authority, TlsClient, port_of, provider};
use crate::support::{Evenkeel, Origin, until};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, HandshakeKind, SupportedProtocolVersion};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use std::cell::Cell;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

fn start(origin: &Origin, tls: Value) -> (Evenkeel, SocketAddr) {
    start_with(origin, tls, ADMIN)
}

fn start_with(origin: &Origin, tls: Value, socket: &str) -> (Evenkeel, SocketAddr) {
    let proxied = json!({"name": "proxied", "port": 0, "tls": tls, "proxy_protocol": ["127.0.0.1"]});
    let listeners = json!([{"name": "https", "port": 0, "tls": tls}, proxied]);
    let config = json!({"load_balancer": {"listeners": listeners}, "admin": {"socket": socket}});
    let balancer = Evenkeel::before(&[origin], config);
    let port = port_of(&balancer, "https");
    (balancer, port)
}

/// The status that a client gets who connects for one name and asks for another; an error where it cannot come in.
fn ask(port: SocketAddr, config: &Arc<ClientConfig>, name: &str, host: &str) -> io::Result<String> {
    let mut client = TlsClient::connect_shared(port, config, name)?;
    let request = format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    client.stream.write_all(request.as_bytes())?;
    let response = String::from_utf8(client.rest()?).unwrap();
    Ok(response.split(' ').nth(1).unwrap_or_default().to_owned())
}

/// The hosts of one listener: one is for the clients of an authority, one for those of another one, one for all.
#[test]
fn each_certificate_may_have_a_client_auth_of_its_own() {
    let (authority, partners, origin) =
        (Authority::new("ca"), Authority::new("partners"), Origin::responds("ok"));
    let certificate = |name: &str, auth: Value| {
        let names = [name, &format!("www.{name}"), "127.0.0.1"];
        let count = if name == "open.test" { 3 } else { 2 };
        with(authority.issue(name, &names[..count]).json(), auth)
    };
    let own = |auth: Value| json!({"client_auth": auth});
    let tls = json!({
        "certificates": [
            certificate("open.test", own(json!(null))),
            certificate("staff.test", json!({})),
            certificate("partners.test", own(json!({"ca": partners.file()}))),
            certificate("maybe.test", own(json!({"ca": partners.file(), "mode": "request"}))),
        ],
        "client_auth": {"ca": authority.file()},
    });
    let (balancer, port) = start_with(&origin, tls, "a.sock");
    let [anyone, staff] = [authority.client(), authority.client_with(&authority.issue("alice", &["alice"]))];
    let partner = authority.client_with(&partners.issue("bob", &["bob"]));
    let [anyone, staff, partner] = [anyone, staff, partner].map(Arc::new);
    for (who, name, host, expected) in [
        (&anyone, "open.test", "open.test", Some("200")),
        (&anyone, "open.test", "www.open.test", Some("200")),
        (&staff, "open.test", "open.test", Some("200")),
        (&anyone, "staff.test", "staff.test", None),
        (&partner, "staff.test", "staff.test", None),
        (&staff, "staff.test", "STAFF.test.:443", Some("200")),
        (&staff, "www.staff.test", "www.staff.test", Some("200")),
        (&staff, "partners.test", "partners.test", None),
        (&partner, "partners.test", "partners.test", Some("200")),
        (&anyone, "maybe.test", "maybe.test", Some("200")),
        (&staff, "maybe.test", "maybe.test", None),
        // What the handshake was not made for.
        (&anyone, "open.test", "staff.test", Some("421")),
        (&anyone, "open.test", "maybe.test", Some("421")),
        (&staff, "staff.test", "open.test", Some("421")),
        (&staff, "staff.test", "partners.test", Some("421")),
        (&partner, "partners.test", "www.partners.test", Some("421")),
        // Without a name in the handshake it is for the first certificate, and so are hosts that none is for.
        (&anyone, "127.0.0.1", "127.0.0.1", Some("200")),
        (&anyone, "127.0.0.1", "open.test", Some("200")),
        (&anyone, "127.0.0.1", "staff.test", Some("421")),
    ] {
        let status = ask(port, who, name, host);
        assert_eq!(status.as_ref().ok().map(String::as_str), expected, "{name}, {host}: {status:?}");
    }
    let status = balancer.api_page("GET /api/v1/status", "").unwrap();
    let tls = &status["listeners"].as_array().unwrap().iter().find(|l| l["name"] == "https").unwrap()["tls"];
    let auths: Vec<_> =
        tls["certificates"].as_array().unwrap().iter().map(|one| &one["client_auth"]).collect();
    assert_eq!(auths, ["none", "require", "require", "request"]);
}

/// A hello that comes in parts says for whom it is with its last one.
#[test]
fn a_hello_in_parts_is_waited_for_where_hosts_differ() {
    let (authority, origin) = (Authority::new("ca"), Origin::responds("ok"));
    let mut staff = authority.issue("staff.test", &["staff.test"]).json();
    staff["client_auth"] = json!({"ca": authority.file()});
    let tls = json!({"certificates": [authority.issue("open.test", &["open.test"]).json(), staff]});
    let (balancer, port) = start(&origin, tls);
    let name = "open.test".try_into().unwrap();
    let mut session = rustls::ClientConnection::new(Arc::new(authority.client()), name).unwrap();
    let mut hello = Vec::new();
    session.write_tls(&mut hello).unwrap();
    let (proxied, mut open) = (port_of(&balancer, "proxied"), Vec::new());
    let preamble = b"PROXY TCP4 192.0.2.7 192.0.2.8 1111 443\r\n";
    for (port, bytes) in [(port, hello.clone()), (proxied, [&preamble[..], &hello].concat())] {
        let mut socket = TcpStream::connect(port).unwrap();
        socket.set_nodelay(true).unwrap();
        for part in bytes.chunks(7) {
            socket.write_all(part).unwrap();
        }
        let mut first = [0; 1];
        socket.read_exact(&mut first).unwrap();
        assert_eq!(first, [0x16], "a ServerHello");
        open.push(socket);
    }
    // One that ends in the middle, and one that has no end.
    TcpStream::connect(port).unwrap().write_all(&hello[..50]).unwrap();
    let failed = |reason: &str, count: f64| {
        let name = format!("evenkeel_tls_handshake_failures_total{{reason=\"{reason}\"}}");
        until("the failure is counted", || balancer.metric(&name) == count);
    };
    failed("client_gone", 1.0);
    let endless = [&[0x16, 3, 1, 0x40, 0, 1, 0, 0xff, 0xf0][..], &[b'a'; 17_000]].concat();
    TcpStream::connect(port).unwrap().write_all(&endless).unwrap();
    failed("malformed", 1.0);
}

#[test]
fn a_session_is_not_resumed_with_a_certificate_that_has_expired_meanwhile() {
    let (authority, origin) = (Authority::new("ca"), Origin::responds("ok"));
    let tls = json!({
        "certificates": [authority.issue("a", &["a.test"]).json()],
        "client_auth": {"ca": authority.file()},
    });
    let (balancer, port) = start(&origin, tls);
    let bob = authority.issue("bob", &["bob"]);
    let bob = Arc::new(authority.client_with(&bob));
    let failed = Cell::new(0);
    let kind = |config: &Arc<ClientConfig>| {
        let mut client = TlsClient::connect_shared(port, config, "a.test").ok()?;
        client.stream.write_all(b"GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n").ok()?;
        let has_response = !client.rest().ok()?.is_empty();
        has_response.then(|| client.stream.conn.handshake_kind().unwrap())
    };
    let kinds = |config: &Arc<ClientConfig>| {
        let kinds = [(); 2].map(|()| kind(config));
        failed.set(failed.get() + kinds.iter().filter(|kind| kind.is_none()).count());
        kinds
    };
    let as_usual = [Some(HandshakeKind::Full), Some(HandshakeKind::Resumed)];
    // With more time where the machine stood still for so long that it was over before.
    let alice = [2, 5, 20].into_iter().find_map(|seconds| {
        let soon = |params: &mut rcgen::CertificateParams| {
            params.not_after = (SystemTime::now() + Duration::from_secs(seconds)).into();
        };
        let files = authority.issue_as("alice", &["alice"], crate::support::tls::Kind::Ecdsa, soon);
        let alice = Arc::new(authority.client_with(&files));
        let is_resumed = kinds(&alice) == as_usual;
        is_resumed.then_some(alice)
    });
    let alice = alice.expect("a session is resumed while the certificate is valid");
    assert_eq!(kinds(&bob), as_usual);
    until("her certificate has expired", || kinds(&alice) == [None, None]);
    let failures = "evenkeel_tls_handshake_failures_total{reason=\"client_certificate_invalid\"}";
    until("that is counted", || balancer.metric(failures) == failed.get() as f64);
    // No session from before is resumed, and each client shows what it has.
    assert_eq!(kinds(&bob), as_usual);
}

/// `openssl req -x509` makes a certificate that calls itself an authority.
#[test]
fn a_self_signed_certificate_that_is_named_itself_lets_its_client_in() {
    let (authority, origin) = (Authority::new("ca"), Origin::responds("ok"));
    let (own, files) = Authority::self_signed("alice");
    let (_other, stranger) = Authority::self_signed("alice");
    let tls = json!({
        "certificates": [authority.issue("a", &["a.test"]).json()],
        "client_auth": {"ca": own.file()},
    });
    let (_balancer, port) = start(&origin, tls);
    let of = |files| Arc::new(authority.client_with(files));
    assert_eq!(ask(port, &of(&files), "a.test", "a.test").unwrap(), "200");
    assert!(ask(port, &of(&stranger), "a.test", "a.test").is_err());
}

/// What a reload demands holds for connections that are open, too.
#[test]
fn a_connection_without_a_certificate_ends_once_one_is_required() {
    let (authority, origin) = (Authority::new("ca"), Origin::responds("ok"));
    let tls = json!({"certificates": [authority.issue("s", &["a.test"]).json()]});
    let (balancer, port) = start(&origin, tls);
    let connect = || TlsClient::connect(port, authority.client(), "a.test").unwrap();
    let (mut asked, mut required) = (connect(), connect());
    let count = |mode: &str| if mode == "request" { 1.0 } else { 2.0 };
    let status = |client: &mut TlsClient| {
        client.send("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n");
        let response = String::from_utf8(client.response()).unwrap();
        response.split(' ').nth(1).unwrap().to_owned() + response.split("\r\n\r\n").nth(1).unwrap()
    };
    assert_eq!([status(&mut asked), status(&mut required)], ["200ok", "200ok"]);
    let reload = |mode: &str| {
        let path = balancer.folder().join("config.json");
        let mut config: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        config["load_balancer"]["listeners"][0]["tls"]["client_auth"] =
            json!({"ca": authority.file(), "mode": mode});
        std::fs::write(&path, config.to_string()).unwrap();
        balancer.signal(rustix::process::Signal::HUP);
        let applied = "evenkeel_config_reloads_total{result=\"applied\"}";
        until(mode, || balancer.metric(applied) == count(mode));
    };
    reload("request");
    assert_eq!(status(&mut asked), "200ok", "routes decide");
    reload("require");
    assert!(status(&mut required).starts_with("421"), "the client connects again");
    assert!(required.rest().unwrap().is_empty());
}

/// Files that `openssl x509 -req` has made without `-extfile`; rcgen makes none of version 1.
pub(super) fn version_1(file: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests/corpus/certificates/version-1", file].iter().collect()
}

/// A client that shows this chain and has this key, whether or not they belong together.
fn showing(
    authority: &Authority,
    chain: &str,
    key: &str,
    version: &'static SupportedProtocolVersion,
) -> Arc<ClientConfig> {
    let chain = CertificateDer::pem_file_iter(version_1(chain)).unwrap().map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(version_1(key)).unwrap();
    let key = provider().key_provider.load_private_key(key).unwrap();
    let mut config = authority.client_of(provider(), std::slice::from_ref(&version));
    config.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(CertifiedKey::new(chain, key)));
    Arc::new(config)
}

#[test]
fn a_certificate_of_version_1_comes_in_if_an_authority_has_issued_it_itself() {
    let (authority, origin) = (Authority::new("ca"), Origin::responds("ok"));
    let site = authority.issue("a.test", &["a.test"]);
    let start = |auth: Value| start(&origin, json!({"certificates": [site.json()], "client_auth": auth}));
    let (_plain, plain) = start(json!({"ca": version_1("ca.pem")}));
    let (_listed, listed) = start(json!({"ca": version_1("ca.pem"), "crl": version_1("ca.crl")}));
    for version in rustls::ALL_VERSIONS {
        let check = |port: SocketAddr, chain: &str, key: &str, expected: Option<&str>| {
            let status = ask(port, &showing(&authority, chain, key, version), "a.test", "a.test");
            assert_eq!(status.ok().as_deref(), expected, "{chain} {key} {version:?}");
        };
        check(plain, "client.pem", "client.key", Some("200"));
        // Of the same names by another key; with another key of its own; by a certificate that is none of an authority.
        check(plain, "forged.pem", "client.key", None);
        check(plain, "client.pem", "below.key", None);
        check(plain, "below.pem", "below.key", None);
        // A list of revoked ones is looked at by the verifier that reads no certificate of version 1.
        check(listed, "client.pem", "client.key", None);
    }
    assert!(origin.requests().iter().all(|seen| seen.fields.one("X-Client-Cert-Subject") == "CN=alice"));
}
