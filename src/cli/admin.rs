//! The admin API as used by the commands: through the socket of their configuration first, and never that of another
//! balancer unless told to.

use super::{Failure, failed, processes, reachable};
use crate::base::program;
use crate::control::probe::connection::{self, Channel, Stream};
use crate::control::probe::over_ureq;
use crate::sample::{AdminApi, Unmet};
use crate::state::config::{self, Config};
use crate::state::instance::Instance;
use clap::Args;
use serde::Deserialize;
use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;
use ureq::{Agent, Error};

/// Time for one whole call: a balancer whose machine is very busy still responds within it.
const CALL: Duration = Duration::from_secs(10);
/// The same where the port may be that of any program, which may never respond.
const GLANCE: Duration = Duration::from_secs(1);
/// The largest response, in bytes.
const RESPONSE_MAX: u64 = 16 * 1024 * 1024;
/// Buffers of a connection, in bytes.
const BUFFER: usize = 16 * 1024;
/// Why a socket cannot be used without the right to.
const FOREIGN: &str = "it belongs to another user";
/// The request that identifies the balancer.
const STATUS: &str = "/api/v1/status";

/// Where an admin API listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A Unix socket.
    Socket(PathBuf),
    /// A TCP port.
    Tcp(SocketAddr),
}

/// Which running balancer a command is for.
#[derive(Clone, Debug, Args)]
pub struct Which {
    /// Ask the balancer at this address, whatever its configuration [default: that of the configuration]
    #[arg(long, value_name = "ADDRESS|unix:PATH")]
    pub(super) admin: Option<Place>,
}

/// Reaches the admin API of one balancer.
#[derive(Clone, Debug)]
pub struct Client {
    /// In the order in which they are tried; at least one.
    places: Vec<Place>,
    token: Option<String>,
    /// The expected balancer; `None`: whichever listens at the place.
    wanted: Option<Instance>,
    /// Time for one whole call.
    limit: Duration,
}

/// The part of a status that identifies the balancer.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Told {
    instance: Instance,
}

impl Client {
    /// The balancer of this configuration; or whichever listens at the place that the operator gave.
    pub(super) fn of(config: &Config, named: Option<&Place>) -> Result<Self, Failure> {
        let token = config.admin.token.clone();
        if let Some(place) = named {
            return Ok(Client::at(place.clone(), token));
        }
        let file = config.origin();
        let sockets = config.admin.socket.iter().cloned().chain(socket_beside_target(config));
        let mut places: Vec<Place> = sockets.map(Place::Socket).collect();
        places.dedup();
        places.extend(config.admin.bind.map(|bind| Place::Tcp(reachable(bind))));
        if places.is_empty() {
            return Err(failed(format!(
                "{} has no admin API: admin.socket and admin.bind are null; write one of them, or name a balancer with \
                 --admin (a sample server can do without: --no-register)",
                file.display()
            )));
        }
        Ok(Client { places, token, wanted: Some(Instance::of(file)), limit: CALL })
    }

    /// The balancer that runs with this file, or whichever is at the place that the operator gave, although the file is not
    /// valid now: it goes on with what it read before. `None` if it is not found.
    pub(super) fn despite_faults(file: &Path, named: Option<&Place>) -> Option<Self> {
        let client = match named {
            Some(place) => Client::at(place.clone(), None),
            None => {
                let (wanted, folder) = (Instance::of(file), file.parent().unwrap_or(Path::new("")));
                // Where they are by default, then what the process has.
                let defaults = config::parse("{}", folder).unwrap_or_default().admin;
                let sockets = defaults.socket.into_iter().chain(processes::unix_sockets_of(&wanted));
                let ports = defaults.bind.map(|bind| Place::Tcp(reachable(bind)));
                let places = sockets.map(Place::Socket).chain(ports).collect();
                Client { places, token: None, wanted: Some(wanted), limit: CALL }
            }
        };
        match client.find() {
            Ok(_) => Some(client),
            Err(_) => client.guarded().map(|place| Client::at(place.clone(), None)),
        }
    }

    /// A socket where a token is needed, which the file would tell: enough for `/live` and `/ready`.
    fn guarded(&self) -> Option<&Place> {
        let sockets = self.places.iter().filter(|place| matches!(place, Place::Socket(_)));
        let asks = |place: &Place| {
            self.call_at(place, None, "GET", STATUS, String::new()).is_ok_and(|(status, _)| status == 401)
        };
        sockets.into_iter().find(|place| asks(place))
    }

    /// Whichever balancer is at this place.
    pub fn at(place: Place, token: Option<String>) -> Self {
        Client { places: vec![place], token, wanted: None, limit: CALL }
    }

    /// The same, for a look at whether the balancer runs at all.
    pub(super) fn at_a_glance(self) -> Self {
        Client { limit: GLANCE, ..self }
    }

    /// The status of the balancer, as JSON.
    #[cfg(test)]
    fn status(&self) -> Result<String, Unmet> {
        self.find().map(|(_, status)| status)
    }

    /// The same, and where it was found, as words.
    pub(super) fn status_and_place(&self) -> Result<(String, String), Unmet> {
        self.find().map(|(place, status)| (place.to_string(), status))
    }

    /// The identity of the expected balancer, as it reports it.
    pub(super) fn instance(&self) -> Result<Instance, Unmet> {
        self.find().map(|(_, status)| told(&status).instance)
    }

    /// The first place where the balancer is found, and its status.
    fn find(&self) -> Result<(&Place, String), Unmet> {
        let (mut absent, mut other, mut foreign) = (Vec::new(), None, None);
        for place in &self.places {
            match self.call_at(place, self.token.as_deref(), "GET", STATUS, String::new()) {
                Err(why) => {
                    foreign = foreign.or((why == FOREIGN).then_some(place));
                    absent.push(format!("{place}: {why}"));
                }
                Ok((200, status)) if serde_json::from_str::<Told>(&status).is_err() => {
                    let why =
                        format!("{place} is not the admin API of a balancer; another program responds there");
                    other = other.or(Some(why));
                }
                Ok((200, status)) => match &self.wanted {
                    Some(wanted) if !told(&status).instance.has_same_file(wanted) => {
                        other = other.or(Some(another(place, &told(&status).instance, wanted)));
                    }
                    _ => return Ok((place, status)),
                },
                Ok((status, _)) => other = other.or(Some(rejected(place, status, self.token.is_some()))),
            }
        }
        Err(match (other, foreign) {
            (Some(why), _) => Unmet::Other(why),
            (None, Some(place)) => Unmet::Other(format!(
                "{place} belongs to another user; run this command as that user or as root, or set admin.bind"
            )),
            (None, None) => Unmet::Absent(format!("{} ({})", self.start_advice(), absent.join("; "))),
        })
    }

    /// One request; the status and the body, or a short text on why there is no response.
    fn call_at(
        &self,
        place: &Place,
        token: Option<&str>,
        method: &str,
        path: &str,
        body: String,
    ) -> Result<(u16, String), String> {
        // No proxy: one from the environment would redirect the call.
        let config = Agent::config_builder()
            .proxy(None)
            .http_status_as_error(false)
            .max_redirects(0)
            .max_idle_connections(0)
            .timeout_global(Some(self.limit))
            .input_buffer_size(BUFFER)
            .output_buffer_size(BUFFER)
            .build();
        let (channel, address) = open(place, self.limit).map_err(|error| words(&Error::Io(error)))?;
        let agent = over_ureq::agent(config, channel, address);
        let host = match place {
            Place::Socket(_) => "localhost".to_owned(),
            Place::Tcp(address) => address.to_string(),
        };
        let request = ureq::http::Request::builder().method(method).uri(format!("http://{host}{path}"));
        let request = request.header("Content-Type", "application/json").header("Connection", "close");
        let request = match token {
            Some(token) => request.header("Authorization", format!("Bearer {token}")),
            None => request,
        };
        let sent = match body.is_empty() {
            true => request.body(()).map_err(Error::from).and_then(|request| agent.run(request)),
            false => request.body(body).map_err(Error::from).and_then(|request| agent.run(request)),
        };
        let mut response = sent.map_err(|error| words(&error))?;
        let text = response.body_mut().with_config().limit(RESPONSE_MAX).read_to_string();
        Ok((response.status().as_u16(), text.map_err(|error| words(&error))?))
    }

    fn start_advice(&self) -> String {
        match self.wanted.as_ref().and_then(|wanted| wanted.config.as_deref()) {
            Some(file) => format!(
                "no balancer responds for {file}; start it with `{} run -c {}`, or name the file of another with -c",
                program::name(),
                program::quoted(file)
            ),
            None => "no balancer responds there".to_owned(),
        }
    }
}

impl AdminApi for Client {
    fn call(&self, method: &str, path: &str, body: String) -> Result<(u16, String), Unmet> {
        // Checked before each call: another balancer may have taken the place since.
        let (place, _) = match self.wanted {
            Some(_) => self.find()?,
            None => (&self.places[0], String::new()),
        };
        match self.call_at(place, self.token.as_deref(), method, path, body) {
            Ok((401, _)) => Err(Unmet::Other(rejected(place, 401, self.token.is_some()))),
            Ok(response) => Ok(response),
            Err(why) => Err(Unmet::Absent(format!("no balancer responds at {place} ({why})"))),
        }
    }
}

/// The default socket is beside the file; if that is a link, the balancer may have been started by the file's real
/// name.
fn socket_beside_target(config: &Config) -> Option<PathBuf> {
    let file = config.file.as_ref()?;
    let target = file.canonicalize().ok().filter(|_| file.is_symlink())?;
    config::load(&target).ok()?.admin.socket
}

fn told(status: &str) -> Told {
    serde_json::from_str(status).unwrap_or_default()
}

fn another(place: &Place, met: &Instance, wanted: &Instance) -> String {
    let (with, file) = (met.file(), wanted.file());
    let pid = if met.pid == 0 { String::new() } else { format!(" (pid {})", met.pid) };
    format!(
        "the balancer at {place} is another one: it runs with {with}{pid}, not with {file}. \
         Start the one of {file}, or select this one with --admin {}",
        place.as_argument()
    )
}

fn rejected(place: &Place, status: u16, has_token: bool) -> String {
    match (status, has_token) {
        (401, false) => format!(
            "{place} responded 401: it has an admin.token, and this configuration has none, or is not valid (`{} check` shows \
             its faults)",
            program::name()
        ),
        (401 | 403, _) => format!(
            "{place} responded {status}: its admin.token is not the one of this configuration; if that is a new one, send the \
             balancer SIGHUP to have it read the file"
        ),
        _ => format!("{place} responded {status}: this is not a working admin API of a balancer"),
    }
}

impl Place {
    fn as_argument(&self) -> String {
        match self {
            Place::Socket(path) => format!("unix:{}", path.display()),
            Place::Tcp(address) => address.to_string(),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Socket(path) => write!(out, "the socket {}", path.display()),
            Place::Tcp(address) => write!(out, "{address}"),
        }
    }
}

impl FromStr for Place {
    type Err = String;

    /// `unix:PATH`, a path with a slash, or `host:port`; the last may start with `http://`.
    fn from_str(text: &str) -> Result<Self, String> {
        let advice = "write one such as 127.0.0.1:9301 or unix:/run/evenkeel/admin.sock";
        let bare = text.strip_prefix("http://").unwrap_or(text).trim_end_matches('/');
        match text.strip_prefix("unix:") {
            Some("") => Err(format!("the path is missing; {advice}")),
            Some(path) => Ok(Place::Socket(path.into())),
            None if bare.contains('/') => Ok(Place::Socket(text.into())),
            None => {
                let found = bare.to_socket_addrs().ok().and_then(|mut found| found.next());
                found.map(Place::Tcp).ok_or_else(|| format!("this is not an address with a port; {advice}"))
            }
        }
    }
}

/// A short text, for use in a sentence.
fn words(error: &Error) -> String {
    match error {
        Error::Io(error) => match error.kind() {
            io::ErrorKind::NotFound => "there is no such socket".to_owned(),
            io::ErrorKind::ConnectionRefused => "nothing listens there".to_owned(),
            io::ErrorKind::PermissionDenied => FOREIGN.to_owned(),
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => "no response in time".to_owned(),
            _ => error.to_string(),
        },
        Error::Timeout(_) => "no response in time".to_owned(),
        other => other.to_string(),
    }
}

/// A connection to the place.
fn open(place: &Place, limit: Duration) -> io::Result<(Channel, SocketAddr)> {
    let (stream, address) = match place {
        Place::Socket(path) => (Stream::Unix(connection::open_unix(path, limit)?), over_ureq::NO_ADDRESS),
        Place::Tcp(address) => (Stream::Tcp(TcpStream::connect_timeout(address, limit)?), *address),
    };
    Ok((Channel::new(stream, None), address))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::os::unix::net::UnixListener;

    fn served(mut stream: impl Read + Write, response: &str) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        stream.write_all(response.as_bytes()).unwrap();
        String::from_utf8(head).unwrap().to_ascii_lowercase()
    }

    fn response(status: u16, body: &str) -> String {
        format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
    }

    fn status_of(file: &Path) -> String {
        serde_json::json!({ "instance": Instance { pid: 7, ..Instance::of(file) } }).to_string()
    }

    /// A balancer on TCP that gives one response.
    fn at_port(response: String) -> (SocketAddr, std::thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        (address, std::thread::spawn(move || served(listener.accept().unwrap().0, &response)))
    }

    fn config(folder: &Path, bind: SocketAddr) -> Config {
        let file = folder.join("config.json");
        let text = format!(r#"{{"admin": {{"bind": "{bind}", "token": "0123456789abcdef"}}}}"#);
        std::fs::write(&file, text).unwrap();
        config::load(&file).unwrap()
    }

    /// A port below those that the kernel assigns: nothing listens there.
    fn unused_address() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 1))
    }

    #[test]
    fn the_socket_of_the_configuration_comes_first() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path(), unused_address());
        let listener = UnixListener::bind(folder.path().join("evenkeel.sock")).unwrap();
        let status = status_of(config.origin());
        let response = response(200, &status);
        let balancer = std::thread::spawn(move || served(listener.accept().unwrap().0, &response));
        assert_eq!(Client::of(&config, None).unwrap().status().unwrap(), status);
        let head = balancer.join().unwrap();
        assert!(head.starts_with("get /api/v1/status http/1.1\r\n"), "{head}");
        assert!(head.contains("authorization: bearer 0123456789abcdef\r\n"), "{head}");
    }

    /// The configuration's socket does not exist; its TCP port gives this response.
    fn check(response: String, named: bool, expected: Result<(), &[&str]>) {
        let folder = tempfile::tempdir().unwrap();
        let (address, balancer) = at_port(response.replace("FOLDER", folder.path().to_str().unwrap()));
        let config = config(folder.path(), address);
        // A socket file that a dead process left.
        drop(UnixListener::bind(folder.path().join("evenkeel.sock")).unwrap());
        let named = named.then_some(Place::Tcp(address));
        let met = Client::of(&config, named.as_ref()).unwrap().status();
        balancer.join().unwrap();
        match expected {
            Ok(()) => assert!(met.is_ok(), "{met:?}"),
            Err(parts) => {
                let Err(Unmet::Other(said)) = met else { panic!("{met:?}") };
                parts.iter().for_each(|part| assert!(said.contains(part), "{said}"));
            }
        }
    }

    #[test]
    fn over_tcp_only_the_balancer_of_the_file_is_met() {
        let ours = r#"{"instance": {"pid": 7, "config": "FOLDER/config.json"}}"#;
        check(response(200, ours).replace("content-length", "x-length"), false, Ok(()));
        let other = response(200, &status_of(Path::new("/etc/other.json")));
        check(
            other.clone(),
            false,
            Err(&["is another one", "/etc/other.json (pid 7)", "--admin 127.0.0.1:"]),
        );
        check(other, true, Ok(()));
        check(response(200, "{}"), false, Err(&["a configuration of its own"]));
        for named in [false, true] {
            check(
                response(200, "hello"),
                named,
                Err(&["is not the admin API of a balancer; another program"]),
            );
        }
        check(
            response(401, "{}"),
            false,
            Err(&["admin.token", "if that is a new one, send the balancer SIGHUP"]),
        );
        check(response(302, ""), false, Err(&["responded 302"]));
    }

    /// As of a file that is not valid now, so that its token is not known.
    #[test]
    fn a_command_without_the_token_is_told_where_it_is() {
        let (address, balancer) = at_port(response(401, r#"{"error": "Send the admin.token"}"#));
        let met = Client::at(Place::Tcp(address), None).call("POST", "/api/v1/reload", "{}".to_owned());
        balancer.join().unwrap();
        let Err(Unmet::Other(said)) = met else { panic!("{met:?}") };
        assert!(said.contains("this configuration has none, or is not valid"), "{said}");
    }

    #[test]
    fn a_port_whose_program_says_nothing_is_not_waited_for() {
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = Client::at(Place::Tcp(silent.local_addr().unwrap()), None).at_a_glance();
        let begun = crate::base::time::now();
        assert!(client.instance().is_err());
        assert!(crate::base::time::now().since(begun) < CALL / 2);
    }

    #[test]
    fn without_a_balancer_there_is_a_sentence_that_says_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path(), unused_address());
        let Err(Unmet::Absent(said)) = Client::of(&config, None).unwrap().status() else { panic!() };
        for part in
            ["no balancer responds for", "config.json", "-c", "there is no such socket", "nothing listens"]
        {
            assert!(said.contains(part), "{part}: {said}");
        }
    }

    #[test]
    fn a_link_to_the_file_leads_to_the_socket_beside_it() {
        let (real, links) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        config(real.path(), unused_address());
        let link = links.path().join("link.json");
        std::os::unix::fs::symlink(real.path().join("config.json"), &link).unwrap();
        let listener = UnixListener::bind(real.path().join("evenkeel.sock")).unwrap();
        let response = response(200, &status_of(&real.path().join("config.json")));
        let balancer = std::thread::spawn(move || served(listener.accept().unwrap().0, &response));
        assert!(Client::of(&config::load(&link).unwrap(), None).unwrap().status().is_ok());
        balancer.join().unwrap();
    }

    #[test]
    fn a_place_is_a_socket_or_an_address() {
        let check = |text: &str, place: Place| assert_eq!(text.parse(), Ok(place), "{text}");
        check("127.0.0.1:9301", Place::Tcp("127.0.0.1:9301".parse().unwrap()));
        check("http://127.0.0.1:9301/", Place::Tcp("127.0.0.1:9301".parse().unwrap()));
        check("[::1]:1", Place::Tcp("[::1]:1".parse().unwrap()));
        check("unix:a.sock", Place::Socket("a.sock".into()));
        check("/run/a.sock", Place::Socket("/run/a.sock".into()));
        for text in ["", "unix:", "127.0.0.1", "9301"] {
            assert!(text.parse::<Place>().unwrap_err().contains("write one such as"), "{text}");
        }
    }
}
