//! What the agents of servers say, in the status.

use super::status::unix_rfc3339;
use crate::state::server::{AgentWord, Mode, Server};
use serde::Serialize;

/// What the agent of a server says.
#[derive(Debug, Serialize)]
pub(super) struct AgentStatus {
    /// `ready`, `drain`, `maint` or `down`.
    state: &'static str,
    /// The part of its weight that it wants.
    weight_percent: u16,
    /// Null where the configured limit counts.
    max_in_flight: Option<u32>,
    /// Its last line; null before the first.
    line: Option<String>,
    /// When that came: RFC 3339, in UTC.
    at: Option<String>,
    /// Why the last question got none; null where it did.
    error: Option<String>,
}

/// What the agent of a server says.
pub(super) fn status(word: AgentWord) -> AgentStatus {
    let is_heard = !word.line.is_empty();
    AgentStatus {
        state: word.advice.state(),
        weight_percent: word.advice.weight_percent,
        max_in_flight: word.advice.max_in_flight,
        at: is_heard.then(|| unix_rfc3339(word.at_unix_seconds)),
        line: is_heard.then_some(word.line),
        error: word.error,
    }
}

/// Why a server is out by its agent.
pub(super) fn said(word: &AgentWord) -> String {
    format!("its agent said {}", word.line)
}

/// Whether its agent takes the server out, and not the operator.
pub(super) fn takes_out(server: &Server) -> bool {
    server.mode() == Mode::Ready && (server.mode_now() != Mode::Ready || server.is_down_by_agent())
}
