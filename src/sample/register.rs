//! Registers a sample server with the balancer, keeps it registered, and removes it at the end.

use super::{AdminApi, Unmet, spawn};
use crate::base::time;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Intervals of attempts and checks.
const PACE: Pace = Pace { retry: Duration::from_secs(1), check: Duration::from_secs(5) };
/// How long a stop waits for the balancer to remove the server.
const LEAVE: Duration = Duration::from_secs(5);

/// The path of the servers in the admin API.
const SERVERS: &str = "/api/v1/servers";

/// A server that is kept registered.
#[derive(Debug)]
pub(super) struct Registration {
    stop: Sender<Infallible>,
    ended: Receiver<Infallible>,
}

impl Registration {
    /// Removes the server and waits until the balancer has done so, 5 seconds at most.
    pub(super) fn end(self) {
        drop(self.stop);
        let _ = self.ended.recv_deadline(time::instant(time::now().after(LEAVE)));
    }
}

/// Starts the thread that registers `name` at `address`; it keeps trying until it is stopped.
pub(super) fn start(
    api: Arc<dyn AdminApi>,
    name: String,
    address: SocketAddr,
) -> Result<Registration, String> {
    start_at_pace(PACE, api, name, address)
}

fn start_at_pace(
    pace: Pace,
    api: Arc<dyn AdminApi>,
    name: String,
    address: SocketAddr,
) -> Result<Registration, String> {
    let (stop, stopped) = bounded(0);
    let (alive, ended) = bounded(0);
    let mut registrar = Registrar { api, name, address, pace, standing: Standing::New };
    spawn("register", move || {
        registrar.keep_registered(&stopped);
        drop(alive);
    })?;
    Ok(Registration { stop, ended })
}

#[derive(Clone, Copy, Debug)]
struct Pace {
    /// Between two attempts while the balancer is absent or rejects the server.
    retry: Duration,
    /// Between two checks whether the balancer still has the server: it forgets it when it is restarted.
    check: Duration,
}

/// The state of the registration. Each change is logged once.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Standing {
    New,
    Registered,
    /// Nothing responds there, for this reason.
    Absent(String),
    /// It rejects the server, or is another balancer.
    Rejected(String),
}

struct Registrar {
    api: Arc<dyn AdminApi>,
    name: String,
    address: SocketAddr,
    pace: Pace,
    standing: Standing,
}

impl Registrar {
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
        match self.api.call("POST", SERVERS, body.to_string()) {
            Err(Unmet::Absent(why)) => Standing::Absent(why),
            Err(Unmet::Other(why)) => Standing::Rejected(why),
            Ok((200 | 201, _)) => Standing::Registered,
            Ok((409, _)) => Standing::Rejected(format!(
                "the name {} is taken by a server at another address: choose another with --name",
                self.name
            )),
            Ok((401 | 403, _)) => Standing::Rejected("it requires another admin token".to_string()),
            Ok((status, text)) => Standing::Rejected(format!("it responded {status}: {}", text.trim())),
        }
    }

    /// Whether the balancer has this name with this address. A response without an address counts as yes.
    fn is_known(&self) -> bool {
        let Ok((200, text)) = self.api.call("GET", &self.path(), String::new()) else { return false };
        let response: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        let address = response.get("address").and_then(serde_json::Value::as_str);
        address.is_none_or(|address| address == self.address.to_string())
    }

    fn change_to(&mut self, standing: Standing) {
        if standing == self.standing {
            return;
        }
        let name = &self.name;
        match (&standing, &self.standing) {
            (Standing::New, _) => {}
            (Standing::Registered, _) => log::info!("{name} is registered with the balancer"),
            // The reason may change while a balancer starts.
            (Standing::Absent(_), Standing::Absent(_)) => {}
            (Standing::Absent(why), _) => log::warn!("{name} is not registered yet, it tries again: {why}"),
            (Standing::Rejected(why), _) => log::error!("{name} is not registered, it tries again: {why}"),
        }
        self.standing = standing;
    }

    fn leave(&self) {
        match self.api.call("DELETE", &self.path(), String::new()) {
            Ok((200..300 | 404, _)) => log::info!("{} is removed from the balancer", self.name),
            Ok((status, _)) => log::warn!("the balancer did not remove {}: {status}", self.name),
            Err(why) => {
                log::warn!("{} could not be removed from the balancer: {why}", self.name);
            }
        }
    }

    /// The path of this server in the API.
    fn path(&self) -> String {
        format!("{SERVERS}/{}", in_path(&self.name))
    }
}

/// A name for a path: every byte that is not unreserved is written as `%XX`.
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

    /// A balancer that responds to each call by a script and reports the calls.
    #[derive(Debug)]
    struct Scripted {
        script: parking_lot::Mutex<std::vec::IntoIter<Result<(u16, &'static str), Unmet>>>,
        report: Sender<String>,
    }

    impl AdminApi for Scripted {
        fn call(&self, method: &str, path: &str, _: String) -> Result<(u16, String), Unmet> {
            let next = self.script.lock().next().unwrap_or(Ok((200, "{}")));
            let _ = self.report.send(format!("{method} {path}"));
            next.map(|(status, text)| (status, text.to_owned()))
        }
    }

    #[test]
    fn it_goes_on_trying_and_registers_again_when_it_was_forgotten() {
        let script = vec![
            Err(Unmet::Absent("nothing listens".to_owned())),
            Err(Unmet::Other("another balancer".to_owned())),
            Ok((503, "")),
            Ok((409, "")),
            Ok((200, "")),
            Ok((200, r#"{"address":"127.0.0.1:9001"}"#)),
            Ok((404, "")),
            Ok((201, "")),
            Ok((200, r#"{"address":"127.0.0.1:1"}"#)),
            Ok((201, "")),
        ];
        let (report, calls) = bounded(100);
        let steps = script.len();
        let api = Arc::new(Scripted { script: parking_lot::Mutex::new(script.into_iter()), report });
        let pace = Pace { retry: Duration::from_millis(1), check: Duration::from_millis(1) };
        let address = "127.0.0.1:9001".parse().unwrap();
        let registration = start_at_pace(pace, api, "a b".to_string(), address).unwrap();
        let asked: Vec<_> = calls.iter().take(steps).collect();
        let (post, get) = ("POST /api/v1/servers", "GET /api/v1/servers/a%20b");
        assert_eq!(asked, [post, post, post, post, post, get, get, post, get, post]);
        registration.end();
        assert!(calls.try_iter().any(|call| call == "DELETE /api/v1/servers/a%20b"));
    }
}
