//! Registers a sample server with the balancer, keeps it registered, and takes it out at the end.

use super::{Registrar, spawn};
use crate::base::time;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};
use ureq::{Agent, Body, http};

/// How often to try and to check.
const PACE: Pace = Pace { retry: Duration::from_secs(1), check: Duration::from_secs(5) };
/// For one call of the admin API, whole.
const CALL: Duration = Duration::from_secs(2);
/// A stop waits this long for the balancer to let go.
const LEAVE: Duration = Duration::from_secs(5);

/// A server that is being kept registered.
#[derive(Debug)]
pub(super) struct Registration {
    stop: Sender<Infallible>,
    ended: Receiver<Infallible>,
}

impl Registration {
    /// Takes the server out and waits until the balancer has let go, 5 seconds at most.
    pub(super) fn end(self) {
        drop(self.stop);
        let _ = self.ended.recv_deadline(time::instant(time::now().after(LEAVE)));
    }
}

/// Starts the thread that registers `name` at `address`; it goes on trying until it is stopped.
pub(super) fn start(registrar: Registrar, name: String, address: SocketAddr) -> Result<Registration, String> {
    start_at_pace(PACE, registrar, name, address)
}

fn start_at_pace(
    pace: Pace,
    registrar: Registrar,
    name: String,
    address: SocketAddr,
) -> Result<Registration, String> {
    let (stop, stopped) = bounded(0);
    let (alive, ended) = bounded(0);
    let mut clerk = Clerk { api: Api::new(registrar), name, address, pace, standing: Standing::New };
    spawn("register", move || {
        clerk.keep_registered(&stopped);
        drop(alive);
    })?;
    Ok(Registration { stop, ended })
}

#[derive(Clone, Copy, Debug)]
struct Pace {
    /// Between two tries while the balancer is not there, or does not want us.
    retry: Duration,
    /// Between two looks whether the balancer still knows us: it forgets when it is restarted.
    check: Duration,
}

/// How the balancer stands to us. Each change is logged once.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Standing {
    New,
    Registered,
    /// Nobody answers there.
    Away,
    /// It answered that it does not want us.
    Refused(String),
}

struct Clerk {
    api: Api,
    name: String,
    address: SocketAddr,
    pace: Pace,
    standing: Standing,
}

impl Clerk {
    fn keep_registered(&mut self, stopped: &Receiver<Infallible>) {
        loop {
            let standing = self.look();
            self.change_to(standing);
            let wait = if self.standing == Standing::Registered { self.pace.check } else { self.pace.retry };
            let next = time::instant(time::now().after(wait));
            if stopped.recv_deadline(next) == Err(RecvTimeoutError::Disconnected) {
                break;
            }
        }
        if self.standing == Standing::Registered {
            self.leave();
        }
    }

    fn look(&self) -> Standing {
        if self.standing == Standing::Registered && self.is_known() {
            return Standing::Registered;
        }
        let body = serde_json::json!({ "name": self.name, "address": self.address.to_string() });
        match self.api.call("POST", "", body.to_string()) {
            Err(_) => Standing::Away,
            Ok((200 | 201, _)) => Standing::Registered,
            Ok((409, _)) => Standing::Refused(format!(
                "the name {} is taken by a server at another address: choose another with --name",
                self.name
            )),
            Ok((401 | 403, _)) => Standing::Refused("it asks for another admin token".to_string()),
            Ok((status, text)) => Standing::Refused(format!("it answered {status}: {}", text.trim())),
        }
    }

    /// Whether the balancer has this name with this address. An answer without an address is believed.
    fn is_known(&self) -> bool {
        let Ok((200, text)) = self.api.call("GET", &self.name, String::new()) else { return false };
        let answer: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        let address = answer.get("address").and_then(serde_json::Value::as_str);
        address.is_none_or(|address| address == self.address.to_string())
    }

    fn change_to(&mut self, standing: Standing) {
        if standing == self.standing {
            return;
        }
        let (name, admin) = (&self.name, self.api.registrar.admin);
        match &standing {
            Standing::New => {}
            Standing::Registered => log::info!("{name} is registered with the balancer at {admin}"),
            Standing::Away => log::warn!("no balancer answers at {admin} yet; {name} goes on trying"),
            Standing::Refused(why) => log::error!("the balancer at {admin} does not take {name}: {why}"),
        }
        self.standing = standing;
    }

    fn leave(&self) {
        match self.api.call("DELETE", &self.name, String::new()) {
            Ok((200..300 | 404, _)) => log::info!("{} is taken out of the balancer", self.name),
            Ok((status, _)) => log::warn!("the balancer did not let {} go: {status}", self.name),
            Err(error) => log::warn!("the balancer could not be told that {} leaves: {error}", self.name),
        }
    }
}

/// The admin API of the balancer.
struct Api {
    registrar: Registrar,
    agent: Agent,
}

impl Api {
    fn new(registrar: Registrar) -> Self {
        // No proxy: one from the environment would take the calls elsewhere.
        let config = Agent::config_builder()
            .proxy(None)
            .http_status_as_error(false)
            .max_redirects(0)
            .max_idle_connections(0)
            .timeout_global(Some(CALL))
            .build();
        let agent = Agent::with_parts(config, DefaultConnector::new(), Pinned(registrar.admin));
        Api { registrar, agent }
    }

    /// Calls `/api/v1/servers` or `/api/v1/servers/{name}`; gives the status and the text.
    fn call(&self, method: &str, name: &str, body: String) -> Result<(u16, String), ureq::Error> {
        let slash = if name.is_empty() { "" } else { "/" };
        let url = format!("http://{}/api/v1/servers{slash}{}", self.registrar.admin, in_path(name));
        let mut request =
            http::Request::builder().method(method).uri(url).header("Content-Type", "application/json");
        if let Some(token) = &self.registrar.token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        let answer = match body.is_empty() {
            true => self.agent.run(request.body(())?)?,
            false => self.agent.run(request.body(body)?)?,
        };
        let status = answer.status().as_u16();
        Ok((status, text_of(answer.into_body())))
    }
}

/// The beginning of an answer's text; what cannot be read is left out.
fn text_of(body: Body) -> String {
    use std::io::Read;
    let mut text = Vec::new();
    let _ = body.into_reader().take(64 << 10).read_to_end(&mut text);
    String::from_utf8_lossy(&text).into_owned()
}

/// Resolves to one address without a look-up: the default resolver starts a thread for each call.
#[derive(Debug)]
struct Pinned(SocketAddr);

impl Resolver for Pinned {
    fn resolve(
        &self,
        _: &http::Uri,
        _: &ureq::config::Config,
        _: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let mut addresses = self.empty();
        addresses.push(self.0);
        Ok(addresses)
    }
}

/// A name as it stands in a path: every byte that is not unreserved is written `%XX`.
fn in_path(name: &str) -> String {
    name.bytes().fold(String::new(), |mut path, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                path.push(char::from(byte))
            }
            _ => path.push_str(&format!("%{byte:02X}")),
        }
        path
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_written_so_that_it_stays_one_segment() {
        let check = |name: &str, path: &str| assert_eq!(in_path(name), path);
        check("server-9001", "server-9001");
        check("a/b c", "a%2Fb%20c");
        check("ü?", "%C3%BC%3F");
    }

    /// A balancer that answers each call by the script and reports the method it was asked.
    fn balancer(script: &'static [(&'static str, u16)]) -> (SocketAddr, Receiver<String>) {
        use std::io::{BufRead, BufReader, Read, Write};
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (report, calls) = bounded(script.len());
        std::thread::spawn(move || {
            for (text, status) in script {
                let (mut stream, _) = listener.accept().unwrap();
                let mut first = String::new();
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                reader.read_line(&mut first).unwrap();
                let length = text.len();
                let head =
                    format!("HTTP/1.1 {status} X\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
                stream.write_all((head + text).as_bytes()).unwrap();
                // Closing over unread bytes would reset the connection before the answer is read.
                stream.shutdown(std::net::Shutdown::Write).unwrap();
                reader.read_to_end(&mut Vec::new()).unwrap();
                report.send(first.split(' ').next().unwrap().to_string()).unwrap();
            }
        });
        (address, calls)
    }

    #[test]
    fn it_goes_on_trying_and_registers_again_when_it_was_forgotten() {
        const SCRIPT: &[(&str, u16)] = &[
            ("", 503),
            ("", 409),
            ("", 200),
            (r#"{"address":"127.0.0.1:9001"}"#, 200),
            ("", 404),
            ("", 201),
            (r#"{"address":"127.0.0.1:1"}"#, 200),
            ("", 201),
        ];
        let (admin, calls) = balancer(SCRIPT);
        let pace = Pace { retry: Duration::from_millis(1), check: Duration::from_millis(1) };
        let registrar = Registrar { admin, token: None };
        let address = "127.0.0.1:9001".parse().unwrap();
        let registration = start_at_pace(pace, registrar, "a".to_string(), address).unwrap();
        let methods: Vec<_> = calls.iter().collect();
        assert_eq!(methods, ["POST", "POST", "POST", "GET", "GET", "POST", "GET", "POST"]);
        registration.end();
    }
}
