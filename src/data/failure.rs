//! Layer 2: the ways in which an exchange can fail.

use crate::http1::reason::Reason;
use crate::policy::retry::Phase;

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
