//! What was observed: at the client while the proxy lives, at the servers once it has gone.

use super::rule::show;
use super::strict;
use crate::support::Client;
use crate::support::message::{Broken, Head, Response, Seen};
use std::time::Duration;

/// How the proxy ended the client's connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// It closed, and nothing came before that.
    InOrder,
    /// It reset the connection.
    Reset,
    /// It did not close in time.
    Open,
    /// It sent this instead.
    Said(String),
}

/// The client's side.
pub struct AtClient {
    /// Interim responses, in order.
    pub interims: Vec<Response>,
    /// Whole final responses, in order.
    pub responses: Vec<Response>,
    /// Why there was not another, with the head if that had come.
    pub broken: Option<(Option<Head>, Broken)>,
    /// What was read as bytes.
    pub read: Vec<u8>,
    /// Rules of HTTP that what came breaks, whatever the case.
    pub faults: Vec<String>,
    client: Option<Client>,
    end: Option<End>,
    max_wait: Duration,
}

impl AtClient {
    /// Nothing yet.
    pub fn new(client: Client, max_wait: Duration) -> Self {
        AtClient {
            interims: Vec::new(),
            responses: Vec::new(),
            broken: None,
            read: Vec::new(),
            faults: Vec::new(),
            client: Some(client),
            end: None,
            max_wait,
        }
    }

    /// The connection, while there is one.
    pub fn client(&mut self) -> Option<&mut Client> {
        self.client.as_mut()
    }

    /// The client closes with a reset.
    pub fn reset(&mut self) {
        self.client.take().map(Client::reset).unwrap_or_default();
    }

    /// Reads interim responses and the final one behind them.
    pub fn read_response(&mut self, method: &str) {
        while self.broken.is_none() {
            match self.read_one(method) {
                Some(response) if (100..200).contains(&response.status) && response.status != 101 => {
                    self.interims.push(response);
                }
                Some(response) => return self.responses.push(response),
                None => {}
            }
        }
    }

    /// Reads one interim response; a final one counts as such.
    pub fn read_interim(&mut self) {
        match self.read_one("GET") {
            Some(response) if response.status < 200 => self.interims.push(response),
            Some(response) => self.responses.push(response),
            None => {}
        }
    }

    /// Reads so many bytes, or to the end.
    pub fn read_bytes(&mut self, count: usize) {
        let Some(client) = self.client.as_mut().filter(|_| self.broken.is_none()) else { return };
        match client.try_bytes(count) {
            Ok(bytes) => self.read.extend(bytes),
            Err((bytes, broken)) => {
                self.read.extend(bytes);
                self.broken = Some((None, broken));
            }
        }
    }

    fn read_one(&mut self, method: &str) -> Option<Response> {
        let client = self.client.as_mut().filter(|_| self.broken.is_none())?;
        client.max_wait(self.max_wait);
        let head = match client.next_head() {
            Ok(head) => head,
            Err(broken) => {
                self.note(None, broken);
                return None;
            }
        };
        self.faults.extend(strict::faults_of_response(&head));
        let Some(status) = strict::status(&head.line) else {
            self.note(Some(head), Broken::Malformed("the status line".into()));
            return None;
        };
        match client.body_of(method, head.clone(), status) {
            Ok(response) => Some(response),
            Err(broken) => {
                self.note(Some(head), broken);
                None
            }
        }
    }

    fn note(&mut self, head: Option<Head>, broken: Broken) {
        if let Broken::Malformed(what) = &broken {
            self.faults.push(format!("what the client got is no HTTP: {what}"));
        }
        self.broken = Some((head, broken));
    }

    /// Why there is no further response.
    pub fn how_it_broke(&self) -> String {
        match &self.broken {
            None => "it was not read".into(),
            Some((head, broken)) => {
                let head = head.as_ref().map(|head| head.line.as_str()).unwrap_or("no head");
                format!("{head}, {broken:?}")
            }
        }
    }

    /// Waits for the end of the connection.
    pub fn end(&mut self) -> End {
        if self.end.is_none() {
            self.end = Some(self.wait_for_end());
        }
        self.end.clone().unwrap_or(End::Open)
    }

    fn wait_for_end(&mut self) -> End {
        match self.broken.as_ref().map(|(_, broken)| broken) {
            Some(Broken::End | Broken::Cut(_)) => return End::InOrder,
            Some(Broken::Reset(_)) => return End::Reset,
            Some(Broken::Late) => return End::Open,
            _ => {}
        }
        let Some(client) = self.client.as_mut() else { return End::Reset };
        client.max_wait(self.max_wait);
        match client.rest() {
            (bytes, Ok(())) if bytes.is_empty() => End::InOrder,
            (bytes, Err(Broken::Reset(_))) if bytes.is_empty() => End::Reset,
            (bytes, _) if bytes.is_empty() => End::Open,
            (bytes, _) => End::Said(show(&bytes)),
        }
    }

    /// Another request on this connection is answered.
    pub fn stays(&mut self) -> Result<(), String> {
        let max_wait = self.max_wait;
        let Some(client) = self.client.as_mut() else { return Err("the client has gone".into()) };
        client.max_wait(max_wait);
        let sent = client.try_send("GET /next HTTP/1.1\r\nHost: h\r\n\r\n");
        sent.map_err(|error| format!("the next request could not be sent: {error}"))?;
        loop {
            match client.try_response() {
                Ok(response) if (100..200).contains(&response.status) => {}
                // Whatever the server says, as long as it is a response of its own.
                Ok(response) if response.status != 400 => return Ok(()),
                other => return Err(format!("the next request got {other:?}")),
            }
        }
    }
}

/// The servers' side.
#[derive(Debug, Default)]
pub struct AtServers {
    /// Requests that came whole, connection by connection.
    pub requests: Vec<Seen>,
    /// Requests that were cut.
    pub cut: usize,
    /// Every byte, connection by connection.
    pub raw: Vec<Vec<u8>>,
    /// What no proxy may send, whatever the case.
    pub faults: Vec<String>,
}

impl AtServers {
    /// Reads what came, strictly.
    pub fn of(raw: Vec<Vec<u8>>, tunnels: bool) -> Self {
        let mut seen = AtServers::default();
        for (connection, bytes) in raw.iter().enumerate() {
            let stream = strict::requests(connection, bytes);
            seen.cut += usize::from(stream.cut);
            // What goes through a tunnel is not judged.
            let tunnelled = tunnels && !stream.requests.is_empty();
            seen.faults.extend(stream.fault.filter(|_| !tunnelled));
            seen.requests.extend(stream.requests);
        }
        seen.raw = raw;
        seen
    }

    /// Connections that brought a whole request.
    pub fn used(&self) -> usize {
        let mut used: Vec<_> = self.requests.iter().map(|seen| seen.connection).collect();
        used.dedup();
        used.len()
    }
}
