//! The preamble that a server gets at the beginning of a connection, where its pool has `send_proxy`.

use super::{v1, v2};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The forms of a preamble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// A line of text.
    V1,
    /// A binary block.
    V2,
}

impl Version {
    /// All forms, as in the configuration.
    pub const WORDS: [(&'static str, Version); 2] = [("v1", Version::V1), ("v2", Version::V2)];
}

/// Version and command (section 2.2).
const LOCAL: u8 = 0x20;
const PROXY: u8 = 0x21;
const TCP_OVER_IPV4: u8 = 0x11;
const TCP_OVER_IPV6: u8 = 0x21;

/// A preamble for a connection that carries what this client sends to this port of ours; without a client one for a connection
/// of our own, such as that of a probe. The address that the client connected to stays open (all zeros), as with Caddy: behind
/// other proxies and networks it is nothing that a server could go by.
pub fn written(version: Version, client: Option<SocketAddr>, port: u16) -> Vec<u8> {
    let client = client.map(|client| SocketAddr::new(client.ip().to_canonical(), client.port()));
    match (version, client) {
        (Version::V1, None) => [v1::SIGNATURE, b"UNKNOWN\r\n"].concat(),
        (Version::V1, Some(client)) => line(client, port).into_bytes(),
        (Version::V2, None) => block(LOCAL, 0, &[], &[]),
        (Version::V2, Some(client)) => {
            let ports = [client.port().to_be_bytes(), port.to_be_bytes()].concat();
            match client.ip() {
                IpAddr::V4(ip) => block(PROXY, TCP_OVER_IPV4, &[ip.octets(), [0; 4]].concat(), &ports),
                IpAddr::V6(ip) => block(PROXY, TCP_OVER_IPV6, &[ip.octets(), [0; 16]].concat(), &ports),
            }
        }
    }
}

fn line(client: SocketAddr, port: u16) -> String {
    let (family, ours) = match client.ip() {
        IpAddr::V4(_) => ("TCP4", IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        IpAddr::V6(_) => ("TCP6", IpAddr::V6(Ipv6Addr::UNSPECIFIED)),
    };
    format!("PROXY {family} {} {ours} {} {port}\r\n", client.ip(), client.port())
}

fn block(command: u8, family: u8, addresses: &[u8], ports: &[u8]) -> Vec<u8> {
    let length = ((addresses.len() + ports.len()) as u16).to_be_bytes();
    [v2::SIGNATURE, &[command, family], &length, addresses, ports].concat()
}

#[cfg(test)]
mod tests {
    use super::super::{Preamble, parse};
    use super::*;
    use crate::http1::head::Parsed;

    #[test]
    fn what_is_written_is_read_as_what_it_says() {
        let check = |client: Option<&str>, read: Option<&str>, v1: &str| {
            let client = client.map(|client| client.parse().unwrap());
            assert_eq!(String::from_utf8(written(Version::V1, client, 443)).unwrap(), v1);
            for (_, version) in Version::WORDS {
                let bytes = written(version, client, 443);
                let Parsed::Complete(Preamble { source, destination, len }) = parse(&bytes).unwrap() else {
                    panic!("{version:?}: not whole");
                };
                assert_eq!(
                    (source, len),
                    (read.map(|read| read.parse().unwrap()), bytes.len()),
                    "{version:?}"
                );
                assert_eq!(destination.map(|at| at.port()), read.map(|_| 443));
            }
        };
        check(None, None, "PROXY UNKNOWN\r\n");
        let v4 = "203.0.113.7:1234";
        check(Some(v4), Some(v4), "PROXY TCP4 203.0.113.7 0.0.0.0 1234 443\r\n");
        check(Some("[::ffff:203.0.113.7]:1234"), Some(v4), "PROXY TCP4 203.0.113.7 0.0.0.0 1234 443\r\n");
        let v6 = "[2001:db8::7]:0";
        check(Some(v6), Some(v6), "PROXY TCP6 2001:db8::7 :: 0 443\r\n");
    }
}
