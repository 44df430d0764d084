//! The target of the load, and the bytes of a request, built once.

use super::Options;
use std::net::{SocketAddr, ToSocketAddrs};

/// Bodies up to this size are stored after their head in one piece; longer ones repeat it.
const BODY_PIECE: usize = 64 << 10;

/// A parsed `http://` URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// As in the Host header: the name or address, with the port unless it is 80.
    pub(super) authority: String,
    /// Name or address without brackets.
    host: String,
    port: u16,
    /// Path and query, at least `/`.
    path: String,
}

impl Target {
    /// Parses a URL; a missing scheme means `http://`. Fails with a sentence.
    pub(super) fn parse(url: &str) -> Result<Target, String> {
        let wrong = |why: &str| format!("{url} is not a URL to load: {why}");
        let rest = match url.split_once("://") {
            None => url,
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => rest,
            Some((scheme, _)) if scheme.eq_ignore_ascii_case("https") => {
                return Err(wrong("TLS is not supported; write http:// and the plain port"));
            }
            Some(_) => return Err(wrong("only http:// is supported")),
        };
        let rest = rest.split('#').next().unwrap_or_default();
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if authority.contains('@') {
            return Err(wrong("it must not have a user name"));
        }
        if !url.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(wrong("spaces and characters beyond ASCII are written %XX"));
        }
        let (host, port) = split_authority(authority).ok_or_else(|| wrong("host:port cannot be read"))?;
        let path = if path.starts_with('/') { path.to_string() } else { format!("/{path}") };
        Ok(Target { authority: authority.to_string(), host: host.to_string(), port, path })
    }

    /// Resolves the host; IPv4 is preferred, because most servers listen on it.
    pub(super) fn resolve(&self) -> Result<SocketAddr, String> {
        let found = (self.host.as_str(), self.port).to_socket_addrs();
        let found: Vec<_> =
            found.map_err(|error| format!("{} cannot be resolved: {error}", self.host))?.collect();
        let preferred = found.iter().find(|address| address.is_ipv4()).or(found.first());
        preferred.copied().ok_or_else(|| format!("{} has no address", self.host))
    }
}

/// Host without brackets, and port; `None` when they are not valid.
fn split_authority(authority: &str) -> Option<(&str, u16)> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    let port = match port {
        "" => 80,
        port => port.strip_prefix(':')?.parse().ok()?,
    };
    (!host.is_empty() && port != 0).then_some((host, port))
}

/// One request, as it is sent each time.
#[derive(Debug)]
pub(super) struct Request {
    bytes: Vec<u8>,
    head: usize,
    total: u64,
    to_head: bool,
}

impl Request {
    /// Builds the request; fails with a sentence when the method or a header is not valid.
    pub(super) fn build(target: &Target, options: &Options) -> Result<Request, String> {
        if !is_token(&options.method) {
            return Err(format!("{:?} is not a method", options.method));
        }
        let mut head = format!("{} {} HTTP/1.1\r\n", options.method, target.path);
        let mut field = |name: &str, value: &str| head.push_str(&format!("{name}: {value}\r\n"));
        let given = |name: &str| options.headers.iter().any(|(given, _)| given.eq_ignore_ascii_case(name));
        if !given("host") {
            field("Host", &target.authority);
        }
        if options.body_size > 0 || matches!(options.method.as_str(), "POST" | "PUT" | "PATCH") {
            field("Content-Length", &options.body_size.to_string());
        }
        if !options.keep_alive {
            field("Connection", "close");
        }
        for (name, value) in &options.headers {
            check_header(name, value)?;
            field(name, value);
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        let head = bytes.len();
        bytes.resize(head + options.body_size.min(BODY_PIECE), b'x');
        let total = head as u64 + options.body_size as u64;
        Ok(Request { bytes, head, total, to_head: options.method == "HEAD" })
    }

    /// Whether its responses have no body.
    pub(super) fn is_head(&self) -> bool {
        self.to_head
    }

    /// The total number of bytes.
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// What to write after `sent` bytes; empty when all are sent.
    pub(super) fn piece_after(&self, sent: u64) -> &[u8] {
        if sent < self.bytes.len() as u64 {
            return &self.bytes[sent as usize..];
        }
        let body = &self.bytes[self.head..];
        &body[..(self.total - sent).min(body.len() as u64) as usize]
    }
}

fn check_header(name: &str, value: &str) -> Result<(), String> {
    if !is_token(name) || value.bytes().any(|byte| byte.is_ascii_control() && byte != b'\t') {
        return Err(format!("the header {name:?}: {value:?} cannot be sent"));
    }
    let framing = ["content-length", "transfer-encoding", "connection"];
    if framing.iter().any(|own| name.eq_ignore_ascii_case(own)) {
        return Err(format!("the header {name} is set by the load generator itself"));
    }
    Ok(())
}

fn is_token(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        let check = |url: &str, authority: &str, host: &str, port: u16, path: &str| {
            let target = Target::parse(url).unwrap();
            let parts = (target.authority.as_str(), target.host.as_str(), target.port, target.path.as_str());
            assert_eq!(parts, (authority, host, port, path), "{url}");
        };
        check("http://localhost:8000/requests", "localhost:8000", "localhost", 8000, "/requests");
        check("HTTP://example.test", "example.test", "example.test", 80, "/");
        check("127.0.0.1:8000/a?b=/c#d", "127.0.0.1:8000", "127.0.0.1", 8000, "/a?b=/c");
        check("http://[::1]:8000/x", "[::1]:8000", "::1", 8000, "/x");
        check("http://a?q", "a", "a", 80, "/?q");
    }

    #[test]
    fn what_cannot_be_loaded_is_rejected_with_a_reason() {
        let check = |url: &str, word: &str| {
            let rejection = Target::parse(url).unwrap_err();
            assert!(rejection.contains(word), "{rejection}");
        };
        check("https://a/", "TLS");
        check("ftp://a/", "http://");
        check("http://", "host:port");
        check("http://:80/", "host:port");
        check("http://a:0/", "host:port");
        check("http://a:99999/", "host:port");
        check("http://[::1/", "host:port");
        check("http://u:p@a/", "user name");
        check("http://a/b c", "%XX");
    }

    #[test]
    fn a_request_is_built_once_and_its_pieces_add_up() {
        for body_size in [0, 1, BODY_PIECE, BODY_PIECE + 1, 3 * BODY_PIECE + 17] {
            let options = Options { method: "POST".into(), body_size, ..Options::new("http://a/p") };
            let request = Request::build(&Target::parse("http://a/p").unwrap(), &options).unwrap();
            let mut whole = Vec::new();
            while (whole.len() as u64) < request.total() {
                whole.extend_from_slice(request.piece_after(whole.len() as u64));
            }
            assert!(request.piece_after(request.total()).is_empty());
            let head = format!("POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: {body_size}\r\n\r\n");
            assert!(whole.starts_with(head.as_bytes()));
            assert_eq!(whole.len(), head.len() + body_size);
        }
    }

    #[test]
    fn headers_that_break_the_framing_are_rejected() {
        let check = |name: &str, value: &str| {
            let headers = vec![(name.to_string(), value.to_string())];
            let options = Options { headers, ..Options::new("http://a/") };
            assert!(Request::build(&Target::parse("http://a/").unwrap(), &options).is_err(), "{name}");
        };
        check("Content-Length", "1");
        check("A", "b\r\nC: d");
        check("A b", "c");
    }
}
