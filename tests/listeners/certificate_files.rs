//! Files of certificates: changed under load, about to expire, at fault.

use super::client_certificates::version_1;
use super::tls_clients::{served, start};
use crate::support::balancer::with;
use crate::support::tls::{Authority, Files, Kind, TlsClient};
use crate::support::{Client, Evenkeel, Origin, until};
use serde_json::{Value, json};
use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

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

/// A list as `openssl ca -gencrl` makes it without `crlnumber` in its configuration.
const VERSION_1: &str = "\
-----BEGIN X509 CRL-----\n\
MIGUMDswCgYIKoZIzj0EAwIwDTELMAkGA1UEAwwCY2EXDTI2MTEyODAwNDYyNFoY\n\
DzIxMjYxMTA0MDA0NjI0WjAKBggqhkjOPQQDAgNJADBGAiEAhmMyFUkH9z4fCBBa\n\
sbUpBFVbGmiDtsfcAl/fx50Va5sCIQCZxFhGbvJBD3JK2BFzedK9njwJm2uEIzk8\n\
O1Je3qTYaw==\n\
-----END X509 CRL-----\n";

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
    let pkcs12 = [0x30, 0x82, 1, 2, 2, 1, 3, 0x30];
    check(pair(&write("a.p12", &pkcs12), &one.key), of_certificate, "openssl pkcs12 -nodes -in");
    check(pair(&one.certificate, &write("a.pfx", &pkcs12)), of_key, "openssl pkcs12 -nodes -in");
    check(pair(&one.certificate, &write("der.key", &[0x30, 0x81, 1, 2])), of_key, "openssl pkey -inform der");
    check(pair(&one.certificate, &write("short.key", &[0x30, 2, 5, 0])), of_key, "openssl pkey -inform der");
    check(pair(&version_1("client.pem"), &one.key), of_key, "one.key is not the key of");
    let pem = |kind: &str| format!("-----BEGIN {kind}-----\nMII=\n-----END {kind}-----\n").into_bytes();
    check(pair(&write("a.p7b", &pem("PKCS7")), &one.key), of_certificate, "openssl pkcs7 -print_certs");
    check(pair(&one.certificate, &write("pub.key", &pem("PUBLIC KEY"))), of_key, "has a public key");
    check(pair(&one.certificate, &write("ssh.key", &pem("OPENSSH PRIVATE KEY"))), of_key, "a key of OpenSSH");
    let trusted = pair(&write("trusted.pem", &pem("TRUSTED CERTIFICATE")), &one.key);
    check(trusted, of_certificate, "convert it with `openssl x509 -in");
    let text = |path| fs::read_to_string(path).unwrap();
    let indented = text(&one.certificate).lines().map(|line| format!("  {line}\n")).collect::<String>();
    check(
        pair(&write("indented.pem", indented.as_bytes()), &one.key),
        of_certificate,
        "has white space in front of",
    );
    let marked = format!("\u{feff}{}", text(&one.certificate));
    check(pair(&write("bom.pem", marked.as_bytes()), &one.key), of_certificate, "byte order mark");
    let wide: Vec<u8> = "\u{feff}-----BEGIN".encode_utf16().flat_map(u16::to_le_bytes).collect();
    check(pair(&write("wide.pem", &wide), &one.key), of_certificate, "is in UTF-16");
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
        (write("v1.crl", VERSION_1.as_bytes()), "set \"crlnumber\" in the configuration"),
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

#[test]
fn certificates_that_clients_reject_are_warned_of() {
    let authority = Authority::new("ca");
    let five_days = Duration::from_secs(5 * 24 * 3600 + 3600);
    let soon = authority.issue_as("soon", &["a.test"], Kind::Ecdsa, |params| {
        params.not_after = (std::time::SystemTime::now() + five_days).into();
    });
    let of_clients = authority.issue_as("clients", &["b.test"], Kind::Ecdsa, |params| {
        params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    });
    let pair = |files: &Files| json!({ "certificate": files.certificate, "key": files.key });
    let listener =
        json!({ "port": 0, "name": "h", "tls": { "certificates": [pair(&soon), pair(&of_clients)] } });
    let config = json!({
        "load_balancer": { "load_balancer_port": 0, "bind": "127.0.0.1", "listeners": [listener] },
        "admin": { "socket": null, "bind": null },
    });
    let file = authority.path("config.json");
    fs::write(&file, config.to_string()).unwrap();
    let output =
        Command::new(env!("CARGO_BIN_EXE_evenkeel")).arg("check").arg("-c").arg(&file).output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(0), "{told}");
    for part in [
        "certificates[0].certificate: ".to_owned(),
        format!("{} expires in 5 days; renew it", soon.certificate.display()),
        "certificates[1].certificate: ".to_owned(),
        format!("{} is not for servers", of_clients.certificate.display()),
    ] {
        assert!(told.contains(&part), "{part}: {told}");
    }
    let balancer =
        Evenkeel::try_start_text(&config.to_string()).unwrap_or_else(|(_, lines)| panic!("{lines}"));
    balancer.logs("is not for servers");
}

/// As `openssl x509 -req` makes it without `-extfile`. Clients that name their authority and not hosts take it, as from nginx.
#[test]
fn a_certificate_of_version_1_is_shown_with_a_warning() {
    let origin = Origin::responds("ok");
    let files = Files { certificate: version_1("client.pem"), key: version_1("client.key") };
    let (balancer, port) = start(&origin, &[&files], json!({}));
    balancer.logs("is of version 1, without extensions");
    // Servers may show one where they are not verified.
    let servers = json!({"list": [{"address": port.to_string()}], "health_check": {"enabled": false}});
    let to = |tls: Value| Evenkeel::start(json!({"servers": with(servers.clone(), json!({"tls": tls}))}));
    assert_eq!(Client::to(&to(json!({"verify": false}))).get("/").status, 200);
    let verifies = to(json!({"ca": version_1("ca.pem"), "server_name": "alice"}));
    assert_eq!(Client::to(&verifies).get("/").status, 502);
    verifies.logs("certificate of an old version, without extensions");
}
