//! Layer 2: an exchange's client, and the ways in which an exchange can fail.

use super::transport::{Moved, Stream};
use crate::http1::reason::Reason;
use crate::policy::retry::Phase;
use std::io;

/// The client's side of an exchange: its connection, and what it sent that was received and not used yet.
#[derive(Debug)]
pub struct Client {
    /// The connection.
    pub stream: Stream,
    /// Bytes that were received and not used: a part of a head, or pipelined requests.
    pub input: Vec<u8>,
}

impl Client {
    /// Receives bytes of a body: those that are here first.
    pub fn recv(&mut self, into: &mut [u8]) -> io::Result<Moved> {
        if self.input.is_empty() {
            return self.stream.recv(into);
        }
        let count = self.input.len().min(into.len());
        into[..count].copy_from_slice(&self.input[..count]);
        self.input.drain(..count);
        Ok(Moved::Bytes(count))
    }
}

/// Why an attempt failed: whose fault (the reason says), in which phase, and so whether it may be retried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What to tell the client.
    pub reason: Reason,
    /// Where it failed.
    pub phase: Phase,
    /// Bytes of the request may have reached the server.
    pub sent: bool,
}

impl Failure {
    /// The client's own fault, or ours, or too late: no other server would do better.
    pub fn last(reason: Reason) -> Self {
        Failure { reason, phase: Phase::Late, sent: true }
    }

    /// The server could not be reached.
    pub const CONNECT: Failure =
        Failure { reason: Reason::ConnectFailed, phase: Phase::Connect, sent: false };

    /// The server was reached, and TLS with it failed before a byte of the request was sent.
    pub const TLS: Failure = Failure { reason: Reason::TlsFailed, phase: Phase::Connect, sent: false };

    /// A pooled connection was found closed before a byte was sent on it.
    pub const UNSENT: Failure = Failure { reason: Reason::ServerReset, phase: Phase::Reuse, sent: false };

    /// No byte of a response came, and none will.
    pub const RESET: Failure = Failure { reason: Reason::ServerReset, phase: Phase::Response, sent: true };

    /// A part of a head came, and no more will. The client has seen none of it: as good as nothing.
    pub const CUT: Failure = Failure { reason: Reason::BadResponse, phase: Phase::Response, sent: true };
}
