//! What live traffic tells the health thread: workers send, one thread reads and decides (invariant 7).

use crate::base::ids::ServerId;
use crossbeam_channel::{Receiver, Sender, bounded};

/// Verdicts that may wait; when the health thread is behind, more of the same add nothing.
const CAPACITY: usize = 1024;

/// The outcome of a live request with a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The server.
    pub server: ServerId,
    /// `None`: it got a response. Else a short text for the log: `refused`, `reset`, `timeout`, `broken response`.
    pub failure: Option<&'static str>,
    /// It could not be connected to.
    pub is_unreachable: bool,
}

/// The channel, bounded; both ends are cheap to clone.
#[derive(Clone, Debug)]
pub struct Verdicts(Sender<Verdict>, Receiver<Verdict>);

impl Default for Verdicts {
    fn default() -> Self {
        let (sender, receiver) = bounded(CAPACITY);
        Verdicts(sender, receiver)
    }
}

impl Verdicts {
    /// Tells the health thread; never waits.
    pub fn tell(&self, verdict: Verdict) {
        let _ = self.0.try_send(verdict);
    }

    /// The receiver, for the health thread.
    pub fn receiver(&self) -> &Receiver<Verdict> {
        &self.1
    }
}
