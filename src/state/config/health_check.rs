//! `servers.health_check`: how servers are probed. Four kinds of probes, and which keys belong to which.

mod values;

use super::reader::{Reader, Section};
use super::rules;
use super::{Config, Servers, units};
use crate::base::ids::PoolId;
use crate::policy::health;
use crate::policy::route::Pattern;
use crate::state::address::Address;
use rustix::fs::{Access, access};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
pub(super) use values::bytes;
use values::{argument, body, expected, header, method, service};

/// The most bytes of a response in which `expect_body` and `expect` are looked for. A page that tells of the health of a
/// server is far smaller, and a probe holds a buffer of this size at the most.
pub const EXPECT_BYTES_MAX: usize = 64 * 1024;
/// The most headers of a probe: what is expected of a server's health page needs a few.
const HEADERS_MAX: usize = 50;
/// A server that flaps is asked for at most so many passed probes: half a minute at the usual interval, longer than most
/// restarts take.
const RISE_MAX: u32 = 60;
/// The most arguments of a command.
const ARGUMENTS_MAX: usize = 100;
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
    /// A call of `grpc.health.v1.Health/Check` over HTTP/2.
    Grpc(GrpcProbe),
    /// A command.
    Exec(ExecProbe),
}

/// A request, and the response of a healthy server.
#[derive(Clone, Debug, PartialEq)]
pub struct HttpProbe {
    /// A token; never CONNECT or TRACE.
    pub method: String,
    /// The origin-form target of a probe; begins with `/`.
    pub path: String,
    /// The file says what to ask for, or what is expected: then only the expected statuses pass; else any response is a
    /// sign of life.
    pub is_strict: bool,
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

/// Whose health is asked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GrpcProbe {
    /// The name of a service, at most 255 characters; empty is the whole server.
    pub service: String,
}

/// What is run for each probe; the exit code 0 is a pass.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ExecProbe {
    /// The file that is executed.
    pub command: PathBuf,
    /// Its arguments; `{server}`, `{pool}`, `{address}`, `{host}` and `{port}` in them stand for those of the server.
    pub arguments: Vec<String>,
}

impl ExecProbe {
    /// Why the file cannot be executed, as a sentence; `None` where it can.
    pub fn obstacle(&self) -> Option<String> {
        let file = self.command.display();
        match self.command.metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Some(format!("there is no file {file}; write the path of a program or a script"))
            }
            Err(error) => Some(format!("{file} cannot be looked at: {error}")),
            Ok(found) if !found.is_file() => {
                Some(format!("{file} is not a file; write the path of a program"))
            }
            Ok(_) => {
                let can = access(&self.command, Access::EXEC_OK);
                can.err().map(|_| format!("{file} is not executable by this user; chmod +x {file}"))
            }
        }
    }
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
    Grpc,
    Exec,
}

impl Kind {
    const ALL: [(&'static str, Kind); 4] =
        [("http", Kind::Http), ("tcp", Kind::Tcp), ("grpc", Kind::Grpc), ("exec", Kind::Exec)];

    fn name(self) -> &'static str {
        Kind::ALL.into_iter().find(|(_, kind)| *kind == self).map_or("", |(name, _)| name)
    }
}

/// Keys that not all kinds have, and those that have them.
const OF_KINDS: [(&str, &[Kind]); 12] = [
    ("method", &[Kind::Http]),
    ("path", &[Kind::Http]),
    ("headers", &[Kind::Http]),
    ("body", &[Kind::Http]),
    ("expect_status", &[Kind::Http]),
    ("expect_body", &[Kind::Http]),
    ("send", &[Kind::Tcp]),
    ("expect", &[Kind::Tcp]),
    ("service", &[Kind::Grpc]),
    ("command", &[Kind::Exec]),
    ("host", &[Kind::Http, Kind::Grpc]),
    ("tls", &[Kind::Http, Kind::Tcp, Kind::Grpc]),
];

impl Probe {
    /// As in the file: `http` …
    pub fn name(&self) -> &'static str {
        self.kind().name()
    }

    /// Whether a process is started for it.
    pub fn is_command(&self) -> bool {
        self.kind() == Kind::Exec
    }

    fn kind(&self) -> Kind {
        match self {
            Probe::Http(_) => Kind::Http,
            Probe::Tcp(_) => Kind::Tcp,
            Probe::Grpc(_) => Kind::Grpc,
            Probe::Exec(_) => Kind::Exec,
        }
    }
}

impl HealthCheck {
    /// Whether the key, one of `health_check`, has a meaning with this kind of probe.
    pub(super) fn has_key(&self, key: &str) -> bool {
        OF_KINDS.iter().all(|(known, kinds)| *known != key || kinds.contains(&self.probe.kind()))
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
pub(super) fn read(s: &mut Section<'_, '_>, folder: &Path) -> HealthCheck {
    let kind = s.get("type", Kind::Http, |node| rules::word(node, &Kind::ALL));
    let interval = s.get("interval", 2 * rules::SECOND, rules::duration(rules::INTERVAL));
    let between = || rules::duration(rules::INTERVAL);
    let rise = s.get("rise", 2, rules::whole(1..=100));
    let (http, host) = http(s);
    let tcp = tcp(s);
    let grpc = GrpcProbe { service: s.maybe("service", None, service).unwrap_or_default() };
    let command = s.values_or_null("command", argument);
    for (key, kinds) in OF_KINDS {
        if s.is_given(key) && !kinds.contains(&kind) {
            s.contradiction(key, misplaced(key, kind, kinds[0]));
        }
    }
    let exec = if kind == Kind::Exec { exec(s, command, folder) } else { ExecProbe::default() };
    HealthCheck {
        rules: health::Rules {
            enabled: s.get("enabled", true, rules::flag),
            interval,
            fast_interval: s.maybe("fast_interval", None, between()),
            down_interval: s.maybe("down_interval", None, between()),
            rise,
            rise_max: s.get("rise_max", rise.max(RISE_MAX), rules::whole(1..=1000)),
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
            Kind::Grpc => Probe::Grpc(grpc),
            Kind::Exec => Probe::Exec(exec),
        },
    }
}

/// What is said of a key that the kind of probe does not have.
fn misplaced(key: &str, kind: Kind, owner: Kind) -> String {
    let instead = match (kind, key) {
        (Kind::Tcp, "body") => "; what a tcp probe sends is \"send\"",
        (Kind::Tcp, "expect_body" | "expect_status") => "; what a tcp probe waits for is \"expect\"",
        (Kind::Http, "send") => "; what an http probe sends is \"path\", \"headers\" and \"body\"",
        (Kind::Http, "expect") => "; what an http probe waits for is \"expect_status\" and \"expect_body\"",
        (Kind::Grpc, "path" | "method") => "; what a grpc probe asks for is \"service\"",
        (Kind::Exec, _) => "; what a command is to do are its arguments",
        _ => "",
    };
    format!(
        "has no meaning with \"type\": \"{}\"; leave it out, or write \"type\": \"{}\"{instead}",
        kind.name(),
        owner.name()
    )
}

fn http(s: &mut Section<'_, '_>) -> (HttpProbe, Option<String>) {
    let is_strict = ["path", "expect_status", "expect_body"].iter().any(|key| s.is_given(key));
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
        is_strict,
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

fn exec(s: &mut Section<'_, '_>, command: Option<Vec<String>>, folder: &Path) -> ExecProbe {
    let advice =
        "write the path of a program and its arguments, such as [\"/usr/lib/check\", \"{host}\", \"{port}\"]";
    let mut words = command.into_iter().flatten();
    let file = words.next().filter(|file| !file.is_empty());
    let arguments: Vec<String> = words.collect();
    match &file {
        None => s.contradiction("command", format!("is missing; {advice}")),
        Some(file) if arguments.is_empty() && file.trim().contains(' ') => {
            s.contradiction("command", format!("no shell takes {file:?} apart; {advice}"));
        }
        Some(_) if arguments.len() > ARGUMENTS_MAX => {
            s.contradiction("command", format!("has more than {ARGUMENTS_MAX} arguments"));
        }
        Some(_) => {}
    }
    if let Some(unknown) = arguments.iter().find_map(|argument| unknown_stand_in(argument)) {
        let advice = format!(
            "{unknown} stands for nothing and is passed as it is; {{server}}, {{pool}}, {{address}}, {{host}} and {{port}} are known"
        );
        s.warn("command", advice);
    }
    ExecProbe { command: folder.join(file.unwrap_or_default()), arguments }
}

/// A word in braces alone, which nothing is put in the place of.
fn unknown_stand_in(argument: &str) -> Option<&str> {
    let word = argument.strip_prefix('{')?.strip_suffix('}')?;
    let is_word =
        !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.".contains(&byte));
    let is_known = matches!(word, "server" | "pool" | "address" | "host" | "port");
    (is_word && !is_known).then_some(argument)
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
    if check.port.is_some() {
        no_port_of_unix(&key, &key_of("port"), servers, reader);
    }
}

/// The pool with this key has a port of its own under `key_of_port`: its servers must have ports.
pub(super) fn no_port_of_unix(key: &str, key_of_port: &str, servers: &Servers, reader: &mut Reader) {
    let unix = servers.list.iter().position(|server| matches!(server.address, Address::Unix(_)));
    if let Some(at) = unix {
        let advice = format!("{key}.list[{at}] is a Unix socket, which has no ports; leave it out");
        reader.contradiction(&[key_of_port], advice);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Fault, parse};
    use super::*;

    fn read(keys: &str) -> Result<(HealthCheck, Vec<Fault>), Vec<Fault>> {
        let text =
            format!(r#"{{"servers": {{"health_check": {{{keys}}}, "list": [{{"address": "a:1"}}]}}}}"#);
        parse(&text, Path::new("")).map(|config| (config.servers.health_check, config.warnings))
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
        check(r#""type": "ping""#, "write one of \"http\", \"tcp\", \"grpc\", \"exec\"");
        check(r#""type": "grpc", "path": "/x""#, "what a grpc probe asks for is \"service\"");
        check(r#""service": "a.B""#, "or write \"type\": \"grpc\"");
        check(r#""command": ["/bin/true"]"#, "or write \"type\": \"exec\"");
        check(
            r#""type": "exec", "command": ["/bin/true"], "tls": false"#,
            "health_check.tls: has no meaning",
        );
        assert!(read(r#""type": "tcp", "body": null, "host": null, "expect_body": null"#).is_ok());
    }

    #[test]
    fn what_a_probe_cannot_do_is_a_fault() {
        check(r#""method": "get""#, "write \"GET\"");
        check(r#""method": "CONNECT""#, "not a method for a health check");
        check(r#""method": "A B""#, "is not a method");
        check(r#""method": "HEAD", "expect_body": "ok""#, "a response to HEAD has no body");
        check(r#""body": "x""#, "a GET usually has no body");
        check(r#""headers": {"Content-Length": "3"}"#, "is written by the probe itself");
        check(r#""headers": {"A B": "3"}"#, "is not the name of a header");
        check(r#""headers": {"X": "a\nb"}"#, "is not a valid value");
        check(r#""headers": {"X": 1}"#, "expected a string");
        check(r#""host": "a", "headers": {"Host": "b"}"#, "health_check.host: is also among the headers");
        check(r#""expect_body": """#, "is empty");
        check(r#""expect_body": "~(""#, "is not a regular expression");
        check(r#""type": "tcp", "send": "hex:0""#, "hexadecimal");
        check(r#""type": "tcp", "expect": "hex:xy""#, "hexadecimal");
        check(r#""port": 0"#, "too small");
        check(r#""type": "exec""#, "health_check.command: is missing; write the path");
        check(r#""type": "exec", "command": []"#, "is missing");
        check(r#""type": "exec", "command": ["check -a b"]"#, "no shell takes");
        check(r#""type": "exec", "command": "/bin/true""#, "expected a list");
        check(r#""type": "grpc", "service": "a b""#, "is not the name of a service");
        check(r#""tls": true"#, "write servers.tls");
        check(r#""fast_interval": "3s""#, "is longer than the interval");
        let unix = r#"{"servers": {"health_check": {"port": 81}, "list": [{"address": "unix:/a"}]}}"#;
        let faults = parse(unix, Path::new("")).unwrap_err();
        assert!(faults[0].advice.contains("servers.list[0] is a Unix socket"), "{}", faults[0]);
    }

    #[test]
    fn a_command_that_cannot_be_executed_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let obstacle = |name: &str| {
            ExecProbe { command: folder.path().join(name), arguments: Vec::new() }
                .obstacle()
                .unwrap_or_default()
        };
        std::fs::write(folder.path().join("plain"), "#!/bin/sh\n").unwrap();
        std::fs::create_dir(folder.path().join("folder")).unwrap();
        assert!(obstacle("none").contains("there is no file"));
        assert!(obstacle("plain").contains("is not executable"));
        assert!(obstacle("folder").contains("is not a file"));
        let all = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(folder.path().join("plain"), all).unwrap();
        assert_eq!(obstacle("plain"), "");
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
