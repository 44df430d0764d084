//! `tls`, `source`, `send_proxy` and `pool` of `servers` and of each pool: connections to servers.

use super::reader::{Reader, Section};
use super::tree::Node;
use super::{Certificate, Config, Pool, refine, rules};
use crate::base::ids::PoolId;
use crate::http1::proxy_protocol::Version;
use crate::state::address::Address;
use crate::state::stamp::Stamped;
use rustls_pki_types::ServerName;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

/// The most idle connections to a server.
const IDLE_MAX: u64 = 10_000;

/// TLS towards the servers of a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsToServers {
    /// The name that a server's certificate must be for, and that is asked for; `None` is the host of its address.
    pub server_name: Option<String>,
    /// Whether certificates of servers are verified.
    pub verify: bool,
    /// Authorities whose certificates are accepted; `None` are those of the system.
    pub ca: Option<PathBuf>,
    /// Lists of revoked certificates (CRL) of these authorities.
    pub crl: Option<PathBuf>,
    /// What is shown to a server that asks for a certificate.
    pub certificate: Option<Certificate>,
}

/// How connections to the servers of a pool begin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ToServers {
    /// The address of this machine that those of its family come from; `None` is the system's choice.
    pub source: Option<IpAddr>,
    /// They begin with a PROXY header, and none carries the requests of two clients.
    pub send_proxy: Option<Version>,
}

/// Reads the keys `source` and `send_proxy` of a pool.
pub(super) fn connecting(s: &mut Section<'_, '_>) -> ToServers {
    ToServers {
        source: s.maybe("source", None, source),
        send_proxy: s.maybe("send_proxy", None, |node| rules::word(node, &Version::WORDS)),
    }
}

/// Reads the key `pool` of a pool. With `send_proxy` no connection is kept: the next request may be another client's.
pub(super) fn pool(s: &mut Section<'_, '_>, connecting: ToServers) -> Pool {
    let may_keep = connecting.send_proxy.is_none();
    let idle = s.get("idle", IDLE_MAX as usize, rules::whole(0..=IDLE_MAX));
    if !may_keep && s.has("idle") && idle > 0 {
        let advice = "with \"send_proxy\" each connection is for one request; leave it out, or write 0";
        s.fault("idle", advice.to_owned());
    }
    Pool {
        idle: if may_keep { idle } else { 0 },
        idle_time: s.get("idle_time", 30 * rules::SECOND, rules::duration(refine::WAIT)),
    }
}

/// Reads the key `tls` of a pool: `true`, or an object.
pub(super) fn tls(s: &mut Section<'_, '_>, folder: &Path) -> Option<TlsToServers> {
    s.optional_or_true("tls", |s| {
        let server_name = s.maybe("server_name", None, server_name);
        let verify = s.get("verify", true, rules::flag);
        let ca = s.maybe("ca", None, rules::path(folder));
        let crl = s.maybe("crl", None, rules::path(folder));
        let certificate = s.maybe("certificate", None, rules::path(folder));
        let key = s.maybe("key", None, rules::path(folder));
        s.has_contents([&ca, &crl, &certificate, &key].into_iter().flatten().map(Stamped::now));
        if key.is_some() && certificate.is_none() {
            s.fault("key", "there is no certificate for it; write \"certificate\": ... too".to_owned());
        }
        if crl.is_some() && ca.is_none() && verify {
            let advice =
                "its lists are those of the authorities of \"ca\"; write the file of these authorities there";
            s.fault("crl", advice.to_owned());
        }
        // One file may have both.
        let certificate = certificate
            .map(|certificate| Certificate { key: key.unwrap_or_else(|| certificate.clone()), certificate });
        TlsToServers { server_name, verify, ca, crl, certificate }
    })
}

fn source(node: &Node) -> Result<IpAddr, String> {
    let advice = "write an address of this machine, such as \"10.0.0.5\", without a port";
    let address: IpAddr =
        rules::text(node, advice)?.parse().map_err(|_| format!("{node} is not an IP address; {advice}"))?;
    match address.is_unspecified() || address.is_multicast() || address == IpAddr::V4(Ipv4Addr::BROADCAST) {
        true => Err(format!("{node} is not the address of one machine; {advice}")),
        false => Ok(address),
    }
}

fn server_name(node: &Node) -> Result<String, String> {
    let name = rules::host(node)?;
    match ServerName::try_from(name.as_str()) {
        Ok(_) => Ok(name),
        Err(_) => {
            Err(format!("{node} is not a host name; write one such as \"api.example.com\", without a port"))
        }
    }
}

/// What cannot be verified, and what has no effect.
pub(super) fn contradictions(config: &Config, pool: PoolId, reader: &mut Reader) {
    let (key, servers) = (config.pool_key(pool), config.pool(pool));
    let Some(tls) = &servers.tls else { return };
    let key_of = |name: &str| format!("{key}.tls.{name}");
    if !tls.verify {
        let advice = "servers are not verified: whoever is between can read and change what goes to them";
        reader.warning(&[&key_of("verify")], advice.to_owned());
        let unused = [("ca", tls.ca.is_some()), ("crl", tls.crl.is_some())];
        for (name, _) in unused.into_iter().filter(|(_, is_set)| *is_set) {
            let advice = "has no effect while verify is false; leave one of them out";
            reader.warning(&[&key_of(name)], advice.to_owned());
        }
    }
    for (at, server) in servers.list.iter().enumerate() {
        if tls.server_name.is_none() && matches!(server.address, Address::Unix(_)) {
            let advice = format!("a Unix socket has no name for TLS; write {}", key_of("server_name"));
            reader.contradiction(&[&format!("{key}.list[{at}].address")], advice);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::state::config::parse;
    use serde_json::{Value, json};
    use std::path::Path;

    fn check(servers: Value, path: &str, advice: &str) {
        let faults = parse(&json!({"servers": servers}).to_string(), Path::new("/e")).unwrap_err();
        let found = faults.iter().any(|fault| fault.path == path && fault.advice.contains(advice));
        assert!(found, "{faults:?}");
    }

    #[test]
    fn tls_to_servers_is_a_word_or_an_object() {
        let read = |tls: Value| {
            let config = parse(&json!({"servers": {"tls": tls}}).to_string(), Path::new("/e")).unwrap();
            (config.servers.tls, config.warnings.len())
        };
        assert_eq!(read(json!(null)), (None, 0));
        assert_eq!(read(json!(false)), (None, 0));
        let on = read(json!(true)).0.unwrap();
        assert!(on.verify && on.server_name.is_none() && on.ca.is_none());
        assert_eq!(read(json!({})).0.unwrap(), on);
        let (all, _) = read(json!({"server_name": "a.test", "ca": "ca.pem", "certificate": "c.pem"}));
        let all = all.unwrap();
        assert_eq!(all.ca.as_deref(), Some(Path::new("/e/ca.pem")));
        assert_eq!(all.certificate.unwrap().key, Path::new("/e/c.pem"));
        assert_eq!(read(json!({"verify": false, "ca": "ca.pem"})).1, 2);
        assert_eq!(read(json!({"verify": false, "ca": "ca.pem", "crl": "ca.crl"})).1, 3);
        let listed = read(json!({"ca": "ca.pem", "crl": "ca.crl"})).0.unwrap();
        assert_eq!(listed.crl.as_deref(), Some(Path::new("/e/ca.crl")));
    }

    #[test]
    fn what_cannot_be_verified_is_a_fault() {
        check(json!({"tls": "yes"}), "servers.tls", "write true");
        check(json!({"tls": {"crl": "c"}}), "servers.tls.crl", "authorities of \"ca\"");
        check(json!({"tls": {"key": "k"}}), "servers.tls.key", "no certificate");
        check(json!({"tls": {"server_name": "a:1"}}), "servers.tls.server_name", "without a port");
        check(json!({"tls": {"ca_file": "x"}}), "servers.tls.ca_file", "unknown key");
        check(
            json!({"tls": true, "list": [{"address": "unix:/a"}]}),
            "servers.list[0].address",
            "server_name",
        );
        check(json!({"list": [{"address": "https://a:443"}]}), "servers.list[0].address", "\"tls\": true");
    }
}
