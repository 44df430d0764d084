//! Whether the data plane drains, until when, and what that means for connections.

use super::Shared;
use crate::base::time::{self, Moment};
use crate::policy::drain;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

/// When draining begins, idle connections stay open for this long: a client that was promised a connection that stays
/// may have its next request on the way, and half a second is longer than a round trip.
const LAST_REQUESTS_WAIT: Duration = Duration::from_millis(500);

/// While draining, the end of an event of a stream is waited for so long, and a WebSocket's response to a close frame: many
/// streams send a comment or an event each few seconds, and a slow network takes a few round trips.
pub const STREAM_END_WAIT: Duration = Duration::from_secs(2);

impl Shared {
    /// It drains soon: from now on it says that it is not ready, and goes on to serve.
    pub fn announce_drain(&self) {
        self.leaving.store(true, Relaxed);
    }

    /// Another process has its listening sockets, too: those on Unix sockets leave their files to it.
    pub fn hand_over(&self) {
        self.handed_over.store(true, Relaxed);
    }

    /// Whether another process has its listening sockets.
    pub fn is_handed_over(&self) -> bool {
        self.handed_over.load(Relaxed)
    }

    /// Whether it is not to get new clients: it drains, or does so soon.
    pub fn is_leaving(&self) -> bool {
        self.leaving.load(Relaxed) || self.is_draining()
    }

    /// Takes no new connections from now on, and none at all from the deadline on. A later call can only bring the
    /// deadline nearer. Threads that sleep have to be woken.
    pub fn drain(&self, deadline: Moment) {
        self.draining.get_or_init(time::now);
        self.stop_by.fetch_min(deadline.as_nanos(), Relaxed);
    }

    /// Whether it takes no new connections.
    pub fn is_draining(&self) -> bool {
        self.draining.get().is_some()
    }

    /// When draining ends.
    pub fn drain_deadline(&self) -> Moment {
        Moment::from_nanos(self.stop_by.load(Relaxed))
    }

    /// While draining: when a long-lived stream that drew `fraction`, from 0 to 1, is told that it ends.
    pub fn notice_at(&self, fraction: f64) -> Moment {
        let begun = self.draining.get().copied().unwrap_or(Moment::NEVER);
        drain::notice_at(begun, self.drain_deadline(), fraction)
    }

    /// From when on idle connections are closed: it drains, and clients have had time for requests on their way.
    pub fn idle_end(&self) -> Moment {
        self.draining.get().map_or(Moment::NEVER, |begun| {
            begun.after(LAST_REQUESTS_WAIT.min(self.drain_deadline().since(*begun) / 2))
        })
    }
}
