//! An exchange as others see it: what it waits for, and how far it came.

use super::{Exchange, State};
use crate::state::server::Server;
use std::sync::Arc;

/// What an exchange waits for; for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Waiting {
    /// Its turn in a rate limit, or its password's.
    Guard,
    /// A server with room.
    ServerRoom,
    /// A server that can be connected to.
    ServerUp,
    /// The connection to the server.
    Connect,
    /// More of the request's body, from the client.
    RequestBody,
    /// The server, to take the request.
    ServerTakes,
    /// The response, from the server.
    Response,
    /// The client, to take the response.
    ClientTakes,
}

impl Waiting {
    /// The word in the admin API.
    pub fn name(self) -> &'static str {
        match self {
            Waiting::Guard => "guard",
            Waiting::ServerRoom => "server_room",
            Waiting::ServerUp => "server_up",
            Waiting::Connect => "connect",
            Waiting::RequestBody => "request_body",
            Waiting::ServerTakes => "server_takes_request",
            Waiting::Response => "response",
            Waiting::ClientTakes => "client_takes_response",
        }
    }
}

impl Exchange {
    /// What it waits for.
    pub fn waiting(&self) -> Waiting {
        match self.state {
            State::Guard => Waiting::Guard,
            State::Choose | State::Queue => Waiting::ServerRoom,
            State::AwaitServer => Waiting::ServerUp,
            State::Collect => Waiting::RequestBody,
            State::Connect => Waiting::Connect,
            State::Relay if self.attempt.connection.is_some() && !self.upload.has_begun() => Waiting::Connect,
            _ if self.download.has_unsent() => Waiting::ClientTakes,
            State::Relay if self.upload.has_unsent() => Waiting::ServerTakes,
            State::Relay if !self.upload.is_received() && !self.upload.is_broken() => Waiting::RequestBody,
            State::Relay => Waiting::Response,
            State::Finish => Waiting::ClientTakes,
        }
    }

    /// The server that it was sent to last.
    pub fn server(&self) -> Option<&Arc<Server>> {
        self.attempt.server.as_ref()
    }

    /// Payload bytes from the client so far, and bytes to it.
    pub fn bytes(&self) -> (u64, u64) {
        (self.upload.passed(), self.download.bytes())
    }

    /// The request line as it goes out; empty once it is not kept.
    pub fn request_line(&self) -> &[u8] {
        self.upload.request_line()
    }

    /// The status of the response that has begun; 0 before.
    pub fn status(&self) -> u16 {
        self.download.status()
    }
}
