//! A server and what its agent says of it. What the operator says comes first.

use super::{Mode, Server, millis};
use crate::base::time;
use crate::policy::agent::{Advice, Wish};
use crate::policy::health::Health;
use crate::policy::pick::Weight;
use serde::{Deserialize, Serialize};
use std::sync::atomic::Ordering::Relaxed;

/// What the agent of a server says, for the choice and for display.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentWord {
    /// What all of its lines together mean.
    pub advice: Advice,
    /// Its last line that was understood, escaped and in quotes; empty before the first.
    pub line: String,
    /// When that came, in seconds since 1970; 0 before the first.
    pub at_unix_seconds: u64,
    /// Why the last question got no line; `None` where it did.
    pub error: Option<String>,
}

impl Server {
    /// What its agent says; `None` where it has none, or has not been asked.
    pub fn agent(&self) -> Option<AgentWord> {
        self.agent.lock().clone()
    }

    /// Whether it takes new requests: what the operator set, or where that is `ready`, what its agent wishes.
    pub fn mode_now(&self) -> Mode {
        match (self.mode(), self.advice().wish) {
            (Mode::Ready, Wish::Ready) => Mode::Ready,
            (Mode::Ready, Wish::Drain) => Mode::Drain,
            (Mode::Ready, Wish::Maint) => Mode::Maint,
            (mode, _) => mode,
        }
    }

    /// Whether its agent says that it is down.
    pub fn is_down_by_agent(&self) -> bool {
        self.advice().is_down
    }

    /// The port of its own agent, where it has another than its pool.
    pub fn own_agent_port(&self) -> Option<u16> {
        Some(self.agent_port.load(Relaxed)).filter(|port| *port != 0)
    }

    pub(in crate::state) fn set_agent_port(&self, port: Option<u16>) {
        self.agent_port.store(port.unwrap_or(0), Relaxed);
    }

    /// The part of its configured weight that its agent wants, in percent.
    pub fn agent_percent(&self) -> u16 {
        self.advice().weight_percent
    }

    /// The weight that counts among the servers of its pool. It has another scale than [`Server::weight`] while an agent of
    /// the pool wants another part than the whole.
    pub fn weight_now(&self) -> Weight {
        Weight(self.weight_now.load(Relaxed))
    }

    /// Records what is displayed of its agent where its advice stays the same; called by the health thread.
    pub fn hears_agent(&self, word: AgentWord) {
        *self.agent.lock() = Some(word);
    }

    /// What its agent says from now on; the table has to be made again.
    pub(in crate::state) fn set_agent(&self, word: Option<AgentWord>) {
        let (before, was_out) = (self.mode_now(), self.is_taken_out());
        let most = word.as_ref().and_then(|word| word.advice.max_in_flight);
        self.agent_max_in_flight.store(most.unwrap_or(0), Relaxed);
        *self.agent.lock() = word;
        self.note_drain(before);
        self.note_return(was_out);
    }

    pub(in crate::state) fn set_weight_now(&self, weight: Weight) {
        self.weight_now.store(weight.0, Relaxed);
    }

    /// When a drain begins, sessions know for how long they may stay.
    pub(super) fn note_drain(&self, before: Mode) {
        if before != Mode::Drain && self.mode_now() == Mode::Drain {
            self.drains_since_ms.store(millis(time::now()), Relaxed);
        }
    }

    /// Whether the operator or its agent has taken it out. One that drains is not: it serves until it is done.
    pub(super) fn is_taken_out(&self) -> bool {
        self.mode_now() == Mode::Maint || self.is_down_by_agent()
    }

    /// One that was taken out, and is not any more, begins slowly. A server that drained has served until a moment ago.
    pub(super) fn note_return(&self, was_out: bool) {
        if was_out
            && self.mode_now() == Mode::Ready
            && !self.is_taken_out()
            && self.health() != Health::Starting
        {
            self.slow_start_is_due();
        }
    }

    fn advice(&self) -> Advice {
        self.agent.lock().as_ref().map(|word| word.advice).unwrap_or_default()
    }
}
