//! The target of the load, and the bytes of a request, built once.

use super::{Entry, Options};
use std::net::{SocketAddr, ToSocketAddrs};

/// Bodies up to this size are stored after their head in one piece; longer ones repeat it.
const BODY_PIECE: usize = 64 << 10;

/// A parsed `http://` or `https://` URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// Over TLS.
    pub(super) secure: bool,
    /// As in the Host header: the name or address, with the port unless it is the scheme's own.
    pub(super) authority: String,
    /// Name or address without brackets.
    pub(super) host: String,
    pub(super) port: u16,
    /// Path and query, at least `/`.
    path: String,
}

impl Target {
    /// Parses a URL; a missing scheme means `http://`. Fails with a sentence.
    pub(super) fn parse(url: &str) -> Result<Target, String> {
        let wrong = |why: &str| format!("{url} is not a URL to load: {why}");
        let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
        let secure = scheme.eq_ignore_ascii_case("https");
        if !secure && !scheme.eq_ignore_ascii_case("http") {
            return Err(wrong("only http:// and https:// are supported"));
        }
        let rest = rest.split('#').next().unwrap_or_default();
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if authority.contains('@') {
            return Err(wrong("it must not have a user name"));
        }
        if !url.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(wrong("spaces and characters beyond ASCII are written %XX"));
        }
        let (host, port) = split_authority(authority, if secure { 443 } else { 80 })
            .ok_or_else(|| wrong("host:port cannot be read"))?;
        let path = if path.starts_with('/') { path.to_string() } else { format!("/{path}") };
        Ok(Target { secure, authority: authority.to_string(), host: host.to_string(), port, path })
    }

    /// The addresses of the host, at least one; IPv4 first, because most servers listen on it.
    pub(super) fn resolve(&self) -> Result<Vec<SocketAddr>, String> {
        let found = (self.host.as_str(), self.port).to_socket_addrs();
        let mut found: Vec<_> =
            found.map_err(|error| format!("{} cannot be resolved: {error}", self.host))?.collect();
        found.sort_by_key(SocketAddr::is_ipv6);
        if found.is_empty() { Err(format!("{} has no address", self.host)) } else { Ok(found) }
    }
}

/// Host without brackets, and port; `None` when they are not valid.
fn split_authority(authority: &str, default_port: u16) -> Option<(&str, u16)> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    let port = match port {
        "" => default_port,
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
    /// Builds the request of the options; fails with a sentence when the method or a header is not valid.
    pub(super) fn build(target: &Target, options: &Options) -> Result<Request, String> {
        let headers: Vec<_> = options.headers.iter().collect();
        let size = if options.body.is_empty() { options.body_size } else { options.body.len() };
        let mut request = Request::head(target, &options.method, &headers, size, options.keep_alive)?;
        request.bytes.extend_from_slice(&options.body);
        request.bytes.resize(request.head + size.min(BODY_PIECE.max(options.body.len())), b'x');
        Ok(request)
    }

    /// Builds a request of a file of requests. It has the headers of the options, too, where it has none of the same
    /// name.
    pub(super) fn of_entry(target: &Target, entry: &Entry, options: &Options) -> Result<Request, String> {
        let own = |name: &str| entry.headers.iter().any(|(own, _)| own.eq_ignore_ascii_case(name));
        let others = options.headers.iter().filter(|(name, _)| !own(name));
        let headers: Vec<_> = entry.headers.iter().chain(others).collect();
        let size = entry.body.len();
        let mut request = Request::head(target, &entry.method, &headers, size, options.keep_alive)?;
        request.bytes.extend_from_slice(&entry.body);
        Ok(request)
    }

    /// The head, for a body of this size.
    fn head(
        target: &Target,
        method: &str,
        headers: &[&(String, String)],
        size: usize,
        keep_alive: bool,
    ) -> Result<Request, String> {
        if !is_token(method) {
            return Err(format!("{method:?} is not a method"));
        }
        let mut head = format!("{method} {} HTTP/1.1\r\n", target.path);
        let mut field = |name: &str, value: &str| head.push_str(&format!("{name}: {value}\r\n"));
        if !headers.iter().any(|(given, _)| given.eq_ignore_ascii_case("host")) {
            field("Host", &target.authority);
        }
        if size > 0 || matches!(method, "POST" | "PUT" | "PATCH") {
            field("Content-Length", &size.to_string());
        }
        if !keep_alive {
            field("Connection", "close");
        }
        for (name, value) in headers {
            check_header(name, value)?;
            field(name, value);
        }
        head.push_str("\r\n");
        let total = (head.len() + size) as u64;
        Ok(Request { head: head.len(), bytes: head.into_bytes(), total, to_head: method == "HEAD" })
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
        check("https://a/", "a", "a", 443, "/");
        assert!(Target::parse("HTTPS://a:1/").unwrap().secure && !Target::parse("a:1").unwrap().secure);
    }

    #[test]
    fn what_cannot_be_loaded_is_rejected_with_a_reason() {
        let check = |url: &str, word: &str| {
            let rejection = Target::parse(url).unwrap_err();
            assert!(rejection.contains(word), "{rejection}");
        };
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
    fn a_body_and_the_headers_of_an_entry_are_sent() {
        let target = Target::parse("http://a/p").unwrap();
        let all = vec![("A".to_string(), "1".to_string()), ("B".to_string(), "2".to_string())];
        let options = Options { body: b"hi".to_vec(), headers: all, ..Options::new("http://a/p") };
        let check = |request: Request, wanted: &str| {
            assert_eq!(String::from_utf8_lossy(request.piece_after(0)), wanted);
            assert_eq!(request.total(), wanted.len() as u64);
        };
        check(
            Request::build(&target, &options).unwrap(),
            "GET /p HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nA: 1\r\nB: 2\r\n\r\nhi",
        );
        let entry = Entry {
            method: "PUT".into(),
            headers: vec![("b".into(), "3".into())],
            body: b"{}".to_vec(),
            ..Entry::default()
        };
        check(
            Request::of_entry(&target, &entry, &options).unwrap(),
            "PUT /p HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nb: 3\r\nA: 1\r\n\r\n{}",
        );
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
