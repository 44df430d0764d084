//! TLS to clients, on real sockets with real certificates.

use crate::support::balancer::{ADMIN, with};
use crate::support::tls::{Authority, Files, Kind, TlsClient, port_of, provider};
use crate::support::{Client, Evenkeel, Origin, noise, until};
use rustls::{ClientConfig, HandshakeKind};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// One listener with TLS, named https, beside the one in clear text.
pub(super) fn config(certificates: &[&Files], tls: Value) -> Value {
    let certificates: Vec<Value> = certificates.iter().map(|files| files.json()).collect();
    let tls = with(json!({"certificates": certificates}), tls);
    json!({
        "load_balancer": {"listeners": [{"name": "https", "port": 0, "tls": tls}]},
        "admin": {"socket": ADMIN},
    })
}

pub(super) fn start(origin: &Origin, certificates: &[&Files], tls: Value) -> (Evenkeel, SocketAddr) {
    let balancer = Evenkeel::before(&[origin], config(certificates, tls));
    let port = port_of(&balancer, "https");
    (balancer, port)
}

/// The common name that the server's certificate has.
pub(super) fn served(port: SocketAddr, config: ClientConfig, name: &str) -> String {
    let client = TlsClient::connect(port, config, name).unwrap();
    let chain = client.stream.conn.peer_certificates().unwrap();
    let (_, certificate) = x509_parser::parse_x509_certificate(&chain[0]).unwrap();
    certificate.subject().iter_common_name().next().unwrap().as_str().unwrap().to_owned()
}

pub(super) fn failures(balancer: &Evenkeel, reason: &str) -> f64 {
    balancer.metric(&format!("evenkeel_tls_handshake_failures_total{{reason=\"{reason}\"}}"))
}

/// It is counted once the alert is out, which may be a moment after the client has read that.
#[track_caller]
pub(super) fn until_failures(balancer: &Evenkeel, reason: &str, count: f64) {
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
fn close_notify_behind_a_request_or_the_last_frame_is_an_end_though_the_client_does_not_close() {
    let authority = Authority::new("ca");
    let origin = Origin::start(|visit| {
        while let Some(seen) = visit.request() {
            if seen.target() == "/" {
                visit.response("ok");
            } else {
                visit.send("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n");
                let frames = visit.to_the_end();
                visit.send(frames);
                return;
            }
        }
    });
    let files = authority.issue("a", &["a.test"]);
    let (_balancer, port) = start(&origin, &[&files], json!({}));
    let upgrade = "Connection: upgrade\r\nUpgrade: x\r\n\r\nlast frame";
    for (request, end) in [
        ("GET / HTTP/1.1\r\nHost: h\r\n\r\n", "ok"),
        (&format!("GET /x HTTP/1.1\r\nHost: h\r\n{upgrade}"), "last frame"),
    ] {
        let mut client = TlsClient::connect(port, authority.client(), "a.test").unwrap();
        let all = client.send_last(request).rest().expect("close_notify comes back");
        assert!(all.ends_with(end.as_bytes()), "{:?}", String::from_utf8_lossy(&all));
    }
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
