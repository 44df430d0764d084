//! `servers.health_check`: how servers are probed. Four kinds of probes, and which keys belong to which.

use super::reader::{Reader, Section};
use super::routes::is_token;
use super::rules;
use super::tree::Node;
use super::{Config, Servers, units};
use crate::base::ids::PoolId;
use crate::policy::health;
use crate::policy::route::Pattern;
use crate::state::address::Address;
use std::time::Duration;

/// The most bytes of a response in which `expect_body` and `expect` are looked for. A page that tells of the health of a
/// server is far smaller, and a probe holds a buffer of this size at the most.
pub const EXPECT_BYTES_MAX: usize = 64 * 1024;
/// The most bytes that a probe sends as `body` or `send`.
const SEND_BYTES_MAX: usize = 64 * 1024;
/// The most headers of a probe: what is expected of a server's health page needs a few.
const HEADERS_MAX: usize = 50;
/// The longest text of one argument, of a header's value and of what is expected, in bytes.
const TEXT_MAX: usize = 4096;

/// `servers.health_check`.
#[derive(Clone, Debug, PartialEq)]
pub struct HealthCheck {
    /// Whether, how often, and how many passes or failures change the state.
    pub rules: health::Rules,
    /// From connecting to the whole response, 1 ms to 10 min.
    pub timeout: Duration,
    /// The port of the servers that is probed; `None` is that of the requests.
    pub port: Option<u16>,
    /// False: probes are in clear text though requests are not; else they are as requests are.
    pub tls: Option<bool>,
    /// The `Host` of a probe and of a question for a load report; `None` is the server's address.
    pub host: Option<String>,
    /// What a probe does.
    pub probe: Probe,
}

/// What a probe does.
#[derive(Clone, Debug, PartialEq)]
pub enum Probe {
    /// An HTTP/1.1 request.
    Http(HttpProbe),
    /// A connection, with TLS where the servers speak TLS.
    Tcp(TcpProbe),
}

/// A request, and the response of a healthy server.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpProbe {
    /// A token; never CONNECT or TRACE.
    pub method: String,
    /// The origin-form target of a probe; begins with `/`.
    pub path: String,
    /// The file sets the path: then only the expected statuses pass; else any response is a sign of life.
    pub path_given: bool,
    /// Names and values that are sent beside `Host`.
    pub headers: Vec<(String, String)>,
    /// What is sent with it, at most 64 KiB.
    pub body: Option<String>,
    /// Inclusive ranges of statuses.
    pub expect_status: Vec<(u16, u16)>,
    /// What the first [`EXPECT_BYTES_MAX`] of the response's body have in them.
    pub expect_body: Option<Expected>,
}

/// Bytes to send over a connection, and what is expected then.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TcpProbe {
    /// At most 64 KiB; empty sends nothing.
    pub send: Vec<u8>,
    /// What the first [`EXPECT_BYTES_MAX`] that come have in them; `None` waits for nothing.
    pub expect: Option<Expected>,
}

/// What received bytes must have in them.
#[derive(Clone, Debug, PartialEq)]
pub enum Expected {
    /// These bytes; never empty.
    Bytes(Vec<u8>),
    /// A match of this expression.
    Pattern(Pattern),
}

impl Expected {
    /// Whether the bytes are as expected.
    pub fn is_in(&self, bytes: &[u8]) -> bool {
        match self {
            Expected::Bytes(wanted) => memchr::memmem::find(bytes, wanted).is_some(),
            Expected::Pattern(pattern) => pattern.is_match(bytes),
        }
    }
}

/// The kinds, by their names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Http,
    Tcp,
}

impl Kind {
    const ALL: [(&'static str, Kind); 2] = [("http", Kind::Http), ("tcp", Kind::Tcp)];

    /// The keys that only this kind has.
    fn keys(self) -> &'static [&'static str] {
        match self {
            Kind::Http => &["method", "path", "headers", "body", "expect_status", "expect_body"],
            Kind::Tcp => &["send", "expect"],
        }
    }

    /// The same, and those that it shares with some of the others.
    fn has(self, key: &str) -> bool {
        match key {
            "host" => self == Kind::Http,
            _ => self.keys().contains(&key),
        }
    }
}

/// Keys that not all kinds have.
const OF_KINDS: [&str; 9] =
    ["method", "path", "headers", "body", "expect_status", "expect_body", "host", "send", "expect"];

impl Probe {
    /// As in the file: `http` …
    pub fn name(&self) -> &'static str {
        match self {
            Probe::Http(_) => "http",
            Probe::Tcp(_) => "tcp",
        }
    }

    fn kind(&self) -> Kind {
        match self {
            Probe::Http(_) => Kind::Http,
            Probe::Tcp(_) => Kind::Tcp,
        }
    }
}

impl HealthCheck {
    /// Whether the key, one of `health_check`, has a meaning with this kind of probe.
    pub(super) fn has_key(&self, key: &str) -> bool {
        !OF_KINDS.contains(&key) || self.probe.kind().has(key)
    }

    #[cfg(test)]
    pub(crate) fn http_mut(&mut self) -> &mut HttpProbe {
        match &mut self.probe {
            Probe::Http(http) => http,
            other => panic!("{other:?}"),
        }
    }
}

/// Reads the key `health_check` of a pool.
pub(super) fn read(s: &mut Section<'_, '_>) -> HealthCheck {
    let kind = s.get("type", Kind::Http, |node| rules::word(node, &Kind::ALL));
    let interval = s.get("interval", 2 * rules::SECOND, rules::duration(rules::INTERVAL));
    let between = || rules::duration(rules::INTERVAL);
    let (http, host) = http(s);
    let tcp = tcp(s);
    for key in OF_KINDS {
        if kind.has(key) || !s.is_given(key) {
            continue;
        }
        let (_, owner) = Kind::ALL.into_iter().find(|(_, other)| other.has(key)).unwrap_or(Kind::ALL[0]);
        s.contradiction(key, misplaced(key, kind, owner));
    }
    HealthCheck {
        rules: health::Rules {
            enabled: s.get("enabled", true, rules::flag),
            interval,
            fast_interval: s.maybe("fast_interval", None, between()),
            down_interval: s.maybe("down_interval", None, between()),
            rise: s.get("rise", 2, rules::whole(1..=100)),
            fall: s.get("fall", 3, rules::whole(1..=100)),
        },
        timeout: s.get(
            "timeout",
            rules::SECOND.min(interval),
            rules::duration(rules::MS..=600 * rules::SECOND),
        ),
        port: s.maybe("port", None, rules::whole(1..=65535)),
        tls: s.maybe("tls", None, rules::flag),
        host,
        probe: match kind {
            Kind::Http => Probe::Http(http),
            Kind::Tcp => Probe::Tcp(tcp),
        },
    }
}

/// What is said of a key that the kind of probe does not have.
fn misplaced(key: &str, kind: Kind, owner: Kind) -> String {
    let name = |kind| Kind::ALL.into_iter().find(|(_, other)| *other == kind).map_or("", |(name, _)| name);
    let instead = match (kind, key) {
        (Kind::Tcp, "body") => "; what a tcp probe sends is \"send\"",
        (Kind::Tcp, "expect_body" | "expect_status") => "; what a tcp probe waits for is \"expect\"",
        (Kind::Http, "send") => "; what an http probe sends is \"path\", \"headers\" and \"body\"",
        (Kind::Http, "expect") => "; what an http probe waits for is \"expect_status\" and \"expect_body\"",
        _ => "",
    };
    format!(
        "has no meaning with \"type\": \"{}\"; leave it out, or write \"type\": \"{}\"{instead}",
        name(kind),
        name(owner)
    )
}

fn http(s: &mut Section<'_, '_>) -> (HttpProbe, Option<String>) {
    let path_given = s.has("path");
    let host = s.maybe("host", None, rules::host);
    let mut headers = s.pairs("headers", r#"{ "Host": "app.example" }"#, header);
    let of_headers = headers.iter().position(|(name, _)| name.eq_ignore_ascii_case("host"));
    let of_headers = of_headers.map(|at| headers.remove(at).1);
    if headers.len() > HEADERS_MAX {
        s.contradiction("headers", format!("are {}; write at most {HEADERS_MAX}", headers.len()));
    }
    if host.is_some() && of_headers.is_some() {
        s.contradiction("host", "is also among the headers; keep one of them".to_owned());
    }
    let probe = HttpProbe {
        method: s.get("method", "GET".to_owned(), method),
        path: s.get("path", "/health".to_owned(), rules::target),
        path_given,
        headers,
        body: s.maybe("body", None, body),
        expect_status: s.get("expect_status", vec![(200, 399)], rules::statuses),
        expect_body: s.maybe("expect_body", None, |node| expected(node, false)),
    };
    if probe.method == "HEAD" && probe.expect_body.is_some() {
        s.contradiction(
            "expect_body",
            "a response to HEAD has no body; write \"method\": \"GET\"".to_owned(),
        );
    }
    if probe.body.is_some() && matches!(probe.method.as_str(), "GET" | "HEAD") {
        let advice = format!("a {} usually has no body; \"method\": \"POST\" has one", probe.method);
        s.warn("body", advice);
    }
    (probe, host.or(of_headers))
}

fn tcp(s: &mut Section<'_, '_>) -> TcpProbe {
    TcpProbe {
        send: s.maybe("send", None, bytes).unwrap_or_default(),
        expect: s.maybe("expect", None, |node| expected(node, true)),
    }
}

fn method(node: &Node) -> Result<String, String> {
    let advice = "write a method such as \"GET\"";
    let text = rules::text(node, advice)?;
    let upper = text.to_ascii_uppercase();
    match upper.as_str() {
        "CONNECT" | "TRACE" => {
            Err(format!("{node} is no question that a server's health page takes; {advice}"))
        }
        _ if !is_token(text) => Err(format!("{node} is not a method; {advice}")),
        _ if upper != text => Err(format!("methods have a case; write {upper:?}")),
        _ => Ok(upper),
    }
}

/// Headers that say how the request itself is framed and what becomes of its connection.
const OWN: [&str; 8] =
    ["connection", "content-length", "expect", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"];

fn header(name: &str, node: &Node) -> Result<(String, String), String> {
    let lower = name.to_ascii_lowercase();
    if !is_token(name) {
        return Err("is not the name of a header; write one such as \"Host\"".to_owned());
    }
    if OWN.contains(&lower.as_str()) {
        return Err("is written by the probe itself; leave it out".to_owned());
    }
    if lower == "host" {
        return Ok((name.to_owned(), rules::host(node)?));
    }
    let advice = "write its value as text";
    let text = rules::text(node, advice)?;
    let is_plain = |byte: u8| byte == b' ' || byte == b'\t' || byte.is_ascii_graphic();
    match text.len() <= TEXT_MAX && text.bytes().all(is_plain) {
        true => Ok((name.to_owned(), text.trim().to_owned())),
        false => Err(format!("is not a valid value; write at most {TEXT_MAX} ASCII characters of one line")),
    }
}

fn body(node: &Node) -> Result<String, String> {
    let text = rules::text(node, "write the body as text")?;
    within(text.as_bytes()).map(|()| text.to_owned())
}

fn within(bytes: &[u8]) -> Result<(), String> {
    match bytes.len() {
        0..=SEND_BYTES_MAX => Ok(()),
        more => Err(format!("has {more} bytes; write at most {SEND_BYTES_MAX}")),
    }
}

/// A text, or `hex:` and the bytes.
fn bytes(node: &Node) -> Result<Vec<u8>, String> {
    let advice = "write text such as \"PING\\r\\n\", or bytes such as \"hex:0d0a\"";
    let text = rules::text(node, advice)?;
    let bytes = match text.strip_prefix("hex:") {
        Some(digits) => {
            hex(digits).ok_or_else(|| format!("{node} are not pairs of hexadecimal digits; {advice}"))?
        }
        None => text.as_bytes().to_vec(),
    };
    within(&bytes).map(|()| bytes)
}

fn hex(digits: &str) -> Option<Vec<u8>> {
    let digits: Vec<u32> =
        digits.chars().filter(|char| *char != ' ').map(|char| char.to_digit(16)).collect::<Option<_>>()?;
    let pairs = digits.chunks_exact(2);
    pairs.remainder().is_empty().then(|| pairs.map(|pair| (pair[0] * 16 + pair[1]) as u8).collect())
}

/// A text, `~` and an expression, or `hex:` and bytes where that is taken.
fn expected(node: &Node, takes_hex: bool) -> Result<Expected, String> {
    let text = rules::text(node, "write a part of it such as \"ok\", or \"~expression\"")?;
    if let Some(expression) = text.strip_prefix('~') {
        return Pattern::new(expression).map(Expected::Pattern).map_err(|fault| format!("{node} {fault}"));
    }
    let wanted = if takes_hex { bytes(node)? } else { text.as_bytes().to_vec() };
    match wanted.len() {
        0 => Err("is empty, which is in everything; leave it out".to_owned()),
        1..=TEXT_MAX => Ok(Expected::Bytes(wanted)),
        _ => Err(format!("is too long; write at most {TEXT_MAX} bytes")),
    }
}

/// What does not fit the pool, and what looks like a mistake.
pub(super) fn contradictions(config: &Config, pool: PoolId, reader: &mut Reader) {
    let (key, servers) = (config.pool_key(pool), config.pool(pool));
    let check = &servers.health_check;
    let key_of = |name: &str| format!("{key}.health_check.{name}");
    if check.timeout > check.rules.interval {
        let advice = format!(
            "{} is longer than the interval ({}): a server that stalls is found late",
            units::show_duration(check.timeout),
            units::show_duration(check.rules.interval)
        );
        reader.warning(&[&key_of("timeout"), &key_of("interval")], advice);
    }
    if check.rules.fast_interval.is_some_and(|fast| fast > check.rules.interval) {
        let advice = "is longer than the interval: a change takes longer to be confirmed than to be noticed";
        reader.warning(&[&key_of("fast_interval"), &key_of("interval")], advice.to_owned());
    }
    if check.tls == Some(true) && servers.tls.is_none() {
        let advice = format!("probes speak TLS as requests do; write {key}.tls, or leave this out");
        reader.contradiction(&[&key_of("tls")], advice);
    }
    port(&key, servers, reader);
}

fn port(key: &str, servers: &Servers, reader: &mut Reader) {
    if servers.health_check.port.is_none() {
        return;
    }
    let unix = servers.list.iter().position(|server| matches!(server.address, Address::Unix(_)));
    if let Some(at) = unix {
        let advice = format!("{key}.list[{at}] is a Unix socket, which has no ports; leave it out");
        reader.contradiction(&[&format!("{key}.health_check.port")], advice);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Fault, parse};
    use super::*;

    fn read(keys: &str) -> Result<(HealthCheck, Vec<Fault>), Vec<Fault>> {
        let text =
            format!(r#"{{"servers": {{"health_check": {{{keys}}}, "list": [{{"address": "a:1"}}]}}}}"#);
        parse(&text, std::path::Path::new("")).map(|config| (config.servers.health_check, config.warnings))
    }

    /// The only fault, or the only warning.
    fn check(keys: &str, expected: &str) {
        let told = match read(keys) {
            Ok((_, warnings)) => warnings,
            Err(faults) => faults,
        };
        let told: Vec<String> =
            told.iter().map(|fault| format!("{}: {}", fault.path, fault.advice)).collect();
        assert!(told.len() == 1 && told[0].contains(expected), "{keys}: {told:#?}");
    }

    #[test]
    fn keys_of_another_kind_are_faults_with_advice() {
        check(
            r#""type": "tcp", "path": "/x""#,
            "health_check.path: has no meaning with \"type\": \"tcp\"; leave it out, or write \"type\": \"http\"",
        );
        check(r#""type": "tcp", "expect_body": "ok""#, "what a tcp probe waits for is \"expect\"");
        check(r#""type": "tcp", "expect_status": 200"#, "health_check.expect_status: has no meaning");
        check(r#""type": "tcp", "host": "a.b""#, "health_check.host: has no meaning");
        check(r#""type": "tcp", "headers": {"X": "y"}"#, "health_check.headers: has no meaning");
        check(r#""send": "x""#, "health_check.send: has no meaning with \"type\": \"http\"");
        check(r#""expect": "x""#, "\"expect_status\" and \"expect_body\"");
        check(r#""type": "ping""#, "write one of \"http\", \"tcp\"");
        assert!(read(r#""type": "tcp", "body": null, "host": null, "expect_body": null"#).is_ok());
    }

    #[test]
    fn what_a_probe_cannot_do_is_a_fault() {
        check(r#""method": "get""#, "write \"GET\"");
        check(r#""method": "CONNECT""#, "no question");
        check(r#""method": "A B""#, "is not a method");
        check(r#""method": "HEAD", "expect_body": "ok""#, "a response to HEAD has no body");
        check(r#""body": "x""#, "a GET usually has no body");
        check(r#""headers": {"Content-Length": "3"}"#, "is written by the probe itself");
        check(r#""headers": {"A B": "3"}"#, "is not the name of a header");
        check(r#""headers": {"X": "a\nb"}"#, "is not a valid value");
        check(r#""headers": {"X": 1}"#, "expected text");
        check(r#""host": "a", "headers": {"Host": "b"}"#, "health_check.host: is also among the headers");
        check(r#""expect_body": """#, "is empty");
        check(r#""expect_body": "~(""#, "is not a regular expression");
        check(r#""type": "tcp", "send": "hex:0""#, "hexadecimal");
        check(r#""type": "tcp", "expect": "hex:xy""#, "hexadecimal");
        check(r#""port": 0"#, "too small");
        check(r#""tls": true"#, "write servers.tls");
        check(r#""fast_interval": "3s""#, "is longer than the interval");
        let unix = r#"{"servers": {"health_check": {"port": 81}, "list": [{"address": "unix:/a"}]}}"#;
        let faults = parse(unix, std::path::Path::new("")).unwrap_err();
        assert!(faults[0].advice.contains("servers.list[0] is a Unix socket"), "{}", faults[0]);
    }

    #[test]
    fn the_host_may_stand_among_the_headers() {
        let (check, _) = read(r#""headers": {"host": "app.example", "X-A": " b "}"#).unwrap();
        assert_eq!(check.host.as_deref(), Some("app.example"));
        let Probe::Http(http) = check.probe else { panic!("not the default") };
        assert_eq!(http.headers, [("X-A".to_owned(), "b".to_owned())]);
        let (check, _) = read(r#""type": "tcp", "send": "hex:00 fF", "expect": "hex:0A""#).unwrap();
        let expect = Some(Expected::Bytes(vec![10]));
        assert_eq!(check.probe, Probe::Tcp(TcpProbe { send: vec![0, 255], expect }));
    }
}
