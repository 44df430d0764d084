//! Handshakes that are none, come in pieces, drip, or ask for what is not spoken.

use super::tls_clients::{config, failures, start, until_failures};
use crate::support::balancer::{ADMIN, with};
use crate::support::tls::{Authority, TlsClient, port_of};
use crate::support::{Client, Evenkeel, Origin, noise, until};
use rustls::{ClientConfig, HandshakeKind};
use serde_json::json;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::sync::Arc;

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
        // As `curl --http1.0` does.
        (&["http/1.0"], Ok(Some(&b"http/1.0"[..]))),
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
