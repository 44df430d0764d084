//! PROXY headers to servers: a second balancer reads them, as the one before it that has `send_proxy` writes them.

use crate::support::balancer::with;
use crate::support::tls::{Authority, port_of};
use crate::support::{Client, Evenkeel, Origin};
use serde_json::{Value, json};
use std::net::SocketAddr;

/// The server sees each request as of its client, whoever came before it, and probes are none of theirs. `inner` is before
/// the server, and listens there.
#[track_caller]
fn check(version: &str, origin: &Origin, listens_at: SocketAddr, tls: Value) {
    let probes = json!({"enabled": true, "interval": "50ms", "timeout": "30s", "expect_status": 200});
    let list = json!([{"address": listens_at.to_string()}]);
    let servers = json!({"send_proxy": version, "list": list, "health_check": probes, "tls": tls});
    let outer = Evenkeel::start(with(requiring(), json!({"servers": servers})));
    outer.logs("is up: a probe passed (200)");
    let mut expected = Vec::new();
    for client in ["203.0.113.7", "203.0.113.8", "2001:db8::7"] {
        let (family, us) = if client.contains(':') { ("TCP6", "::1") } else { ("TCP4", "192.0.2.1") };
        let mut connection = Client::to(&outer);
        connection.send(format!("PROXY {family} {client} {us} 1234 80\r\n"));
        for _ in 0..2 {
            connection.send("POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi");
            assert_eq!(connection.response().status, 200, "{version}");
            expected.push(client.to_owned());
        }
    }
    let requests = origin.requests();
    let of = |path: &str| {
        let of_path = requests.iter().filter(|seen| seen.target() == path);
        of_path.map(|seen| seen.fields.one("X-Forwarded-For")).collect::<Vec<_>>()
    };
    assert_eq!(of("/x"), expected, "{version}");
    assert!(!of("/health").is_empty() && of("/health").iter().all(|client| client == "127.0.0.1"));
}

/// Every connection has to begin with a header.
fn requiring() -> Value {
    json!({"load_balancer": {"proxy_protocol": ["127.0.0.1"]}})
}

#[test]
fn servers_are_told_the_client_by_a_header_in_front_of_its_request() {
    for version in ["v1", "v2"] {
        let origin = Origin::responds("ok");
        let inner = Evenkeel::before(&[&origin], requiring());
        check(version, &origin, inner.address(), Value::Null);
    }
}

#[test]
fn the_header_is_in_front_of_tls() {
    let (authority, origin) = (Authority::new("ca"), Origin::responds("ok"));
    let tls = json!({"certificates": [authority.issue("s", &["s.test"]).json()]});
    let listener = json!({"load_balancer": {"listeners": [{"name": "https", "port": 0, "tls": tls}]}});
    let inner = Evenkeel::before(&[&origin], with(requiring(), listener));
    let to_servers = json!({"ca": authority.file(), "server_name": "s.test"});
    check("v2", &origin, port_of(&inner, "https"), to_servers);
}
