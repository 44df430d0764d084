//! Where a server listens.

use crate::base::text;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::str::FromStr;

/// `host:port` (the host a name, an IPv4 or a bracketed IPv6 address) or `unix:/path`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// A TCP port; the host is resolved by the control plane when it is a name.
    Tcp {
        /// A name or an address, without brackets.
        host: String,
        /// 1 to 65535.
        port: u16,
    },
    /// A Unix stream socket.
    Unix(PathBuf),
}

impl Address {
    /// The name to look up, if the host is one.
    pub fn name(&self) -> Option<&str> {
        match self {
            Address::Tcp { host, .. } if host.parse::<IpAddr>().is_err() => Some(host),
            _ => None,
        }
    }
}

impl FromStr for Address {
    type Err = String;

    /// The error is a sentence that says what to write instead.
    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            return unix(path);
        }
        if let Some((scheme, rest)) = text.split_once("://") {
            return Err(without_scheme(text, scheme, rest));
        }
        if text.starts_with(['/', '.']) {
            return Err(format!("{text:?} is not a valid address: a Unix socket is written \"unix:{text}\""));
        }
        if let Some((bare, _)) = text.split_once('/').filter(|(bare, _)| bare.contains(':')) {
            return Err(format!("{text:?} is not a valid address: it has a path; write {bare:?}"));
        }
        let is_port = |text: &str| text.parse::<u16>().is_ok_and(|port| port != 0);
        if let Some(port) = Some(text.strip_prefix(':').unwrap_or(text)).filter(|port| is_port(port)) {
            return Err(format!(
                "{text:?} is not a valid address: it has no host; write \"127.0.0.1:{port}\""
            ));
        }
        if text.contains(',') {
            return Err(format!(
                "{text:?} is not a valid address: it has several; write each as an entry of its own"
            ));
        }
        if let Some((_, bare)) = text.rsplit_once('@') {
            return Err(format!("{text:?} is not a valid address: it has a user; write {bare:?}"));
        }
        let (host, port) = text.rsplit_once(':').ok_or_else(|| advice(text, "it has no port"))?;
        let port = port.parse().ok().filter(|port| *port != 0);
        let port = port.ok_or_else(|| advice(text, "its port is not a number from 1 to 65535"))?;
        let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let host = bare.unwrap_or(host);
        if bare.is_some_and(|bare| bare.parse::<std::net::Ipv6Addr>().is_err()) {
            return Err(advice(text, "what is in brackets is not an IPv6 address"));
        }
        if bare.is_none() && host.contains(':') {
            return Err(advice(text, "an IPv6 address needs brackets, as in \"[::1]:9001\""));
        }
        if bare.is_none() && !is_name(host) {
            return Err(advice(text, "its host is empty or has a character that is not allowed there"));
        }
        if bare.is_none() && ends_in_number(host) && host.parse::<Ipv4Addr>().is_err() {
            return Err(advice(text, "its host is neither an IPv4 address nor a name"));
        }
        if host.parse().is_ok_and(is_of_many) {
            return Err(format!(
                "{text:?} is not a valid address: it is that of a group; write the address of one server"
            ));
        }
        Ok(Address::Tcp { host: host.to_owned(), port })
    }
}

/// Multicast and broadcast addresses: no connection can be made to them.
fn is_of_many(address: IpAddr) -> bool {
    address.is_multicast() || address == IpAddr::V4(Ipv4Addr::BROADCAST)
}

/// Letters, digits and the punctuation of names: nothing that a log line or a URL would have to escape. Names in other
/// scripts have an ASCII form (`xn--…`).
fn is_name(host: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    (1..=253).contains(&host.len()) && host.bytes().all(is_plain)
}

/// Resolvers read such a host as an IPv4 address in a short or numeric form: `127.1`, `0x7f.1`, `2130706433`.
fn ends_in_number(host: &str) -> bool {
    let last = host.trim_end_matches('.').rsplit('.').next().unwrap_or_default();
    let hex = last.strip_prefix("0x").or_else(|| last.strip_prefix("0X"));
    last.bytes().all(|byte| byte.is_ascii_digit())
        || hex.is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

fn unix(path: &str) -> Result<Address, String> {
    // nginx has a URI behind the path.
    if let Some((socket, _)) = path.split_once(":/").or_else(|| path.strip_suffix(':').map(|path| (path, "")))
    {
        return Err(format!(
            "\"unix:{path}\" is not a valid address: it has something behind the path; write \"unix:{socket}\""
        ));
    }
    // sun_path holds 108 bytes with the closing NUL.
    match path.len() {
        0 => Err(advice("unix:", "the path is missing")),
        1..=107 if path.chars().all(text::is_plain) => Ok(Address::Unix(PathBuf::from(path))),
        1..=107 => Err(advice(path, "the path has a control character, or one that does not show")),
        _ => Err(advice(path, "the path of a Unix socket has at most 107 bytes")),
    }
}

/// What to write instead of a URL: a server is a host and a port, reached without TLS.
fn without_scheme(text: &str, scheme: &str, rest: &str) -> String {
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let authority = authority.rsplit('@').next().unwrap_or_default();
    let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let write = match (rest.strip_prefix("unix:"), has_port) {
        (Some(path), _) => format!("unix:{}", path.trim_end_matches(':')),
        (None, true) => authority.to_owned(),
        (None, false) => format!("{authority}:80"),
    };
    match scheme.to_ascii_lowercase().as_str() {
        "https" | "wss" | "tls" | "ssl" => format!(
            "{text:?} is not a valid address: write {:?}, and \"tls\": true beside the list of servers",
            if has_port || rest.starts_with("unix:") { write } else { format!("{authority}:443") }
        ),
        "h2c" | "h2" | "grpc" | "grpcs" => {
            format!(
                "{text:?} is not a valid address: servers are asked by HTTP/1.1; write {write:?} if this one speaks it"
            )
        }
        _ => {
            let path = rest.find('/').and_then(|at| rest.get(at..)).filter(|path| path.len() > 1);
            let path = path.map_or(String::new(), |path| {
                format!(
                    ", and \"rewrite\": {{ \"path\": {:?} }} in a route",
                    path.trim_end_matches('/').to_owned() + "{path}"
                )
            });
            format!("{text:?} is not a valid address: it begins with \"{scheme}://\"; write {write:?}{path}")
        }
    }
}

fn advice(text: &str, fault: &str) -> String {
    format!("{text:?} is not a valid address: {fault}; write \"host:port\" or \"unix:/path\"")
}

impl fmt::Display for Address {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp { host, port } if host.contains(':') => write!(out, "[{host}]:{port}"),
            Address::Tcp { host, port } => write!(out, "{host}:{port}"),
            Address::Unix(path) => write!(out, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        for text in ["127.0.0.1:9001", "localhost:80", "[::1]:9001", "unix:/run/b.sock", "unix:relative.sock"]
        {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn names_are_told_from_addresses() {
        for (text, name) in
            [("a.test:80", Some("a.test")), ("127.0.0.1:80", None), ("[::1]:80", None), ("unix:/s", None)]
        {
            assert_eq!(text.parse::<Address>().unwrap().name(), name, "{text}");
        }
    }

    #[test]
    fn faults_are_named() {
        for (text, fault) in [
            ("localhost", "no port"),
            ("localhost:0", "1 to 65535"),
            ("localhost:65536", "1 to 65535"),
            ("::1:80", "brackets"),
            ("[localhost]:80", "IPv6"),
            (":", "1 to 65535"),
            ("a b:80", "not allowed"),
            ("unix:", "missing"),
            ("unix:/x\nFORGED", "control character"),
            ("unix:/y\x1b[31m", "control character"),
            ("unix:/\u{202e}kcos", "control character"),
            ("a\n:80", "not allowed"),
            ("a\x1b:80", "not allowed"),
            ("a\u{200b}:80", "not allowed"),
            ("a\0:80", "not allowed"),
            ("127.1:80", "neither"),
            ("127.0.0.1.:80", "neither"),
            ("0x7f.1:80", "neither"),
            ("2130706433:80", "neither"),
            ("0177.0.0.1:80", "neither"),
        ] {
            let error = text.parse::<Address>().unwrap_err();
            assert!(error.contains(fault), "{text}: {error}");
        }
        for (text, write) in [
            ("http://a:80", "write \"a:80\""),
            ("HTTP://a:80/path?x", "write \"a:80\""),
            ("http://user@a:80", "write \"a:80\""),
            ("http://a", "write \"a:80\""),
            ("http://[::1]:9001/", "write \"[::1]:9001\""),
            ("tcp://a:80", "write \"a:80\""),
            ("http://unix:/run/a.sock:", "write \"unix:/run/a.sock\""),
            ("https://a:443", "\"tls\": true"),
            ("a:80/path", "write \"a:80\""),
            (":80", "write \"127.0.0.1:80\""),
            ("80", "write \"127.0.0.1:80\""),
            ("/run/a.sock", "\"unix:/run/a.sock\""),
        ] {
            let error = text.parse::<Address>().unwrap_err();
            assert!(error.contains(write) && !error.contains("brackets"), "{text}: {error}");
        }
        assert!(format!("unix:{}", "x".repeat(108)).parse::<Address>().is_err());
    }
}
