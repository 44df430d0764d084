//! How long an exchange may stand still, and why it fails then: the one place that says so.

use super::Exchange;
use crate::base::time::Moment;
use crate::http1::reason::Reason;
use crate::state::addresses;
use std::time::Duration;

/// From the first byte of a response's head to its last: a server that sends it byte by byte is bounded.
const RESPONSE_HEAD_TIME: Duration = Duration::from_secs(60);

/// A server that has sent its whole response may take the rest of the request; if it takes none for this long, the rest
/// is not sent.
const REST_OF_REQUEST: Duration = Duration::from_secs(5);

/// The time limits of an exchange.
#[derive(Clone, Copy)]
pub(super) struct Times {
    pub(super) connect: Duration,
    pub(super) response: Duration,
    pub(super) client_body: Duration,
}

impl Exchange {
    /// Its time limits: those of its route, or of the configuration.
    pub(super) fn times(&self) -> Times {
        let (own, all) = (self.way.as_ref().map(|way| way.route.timeouts), &self.view.live.config.timeouts);
        let own = own.unwrap_or_default();
        Times {
            connect: own.connect.unwrap_or(all.connect),
            response: own.response.unwrap_or(all.response),
            client_body: own.client_body.unwrap_or(all.client_body),
        }
    }

    /// Until when the address that is tried may take. A silent one leaves time for those behind it.
    pub(super) fn connect_deadline(&self) -> Moment {
        let all = self.attempt_at.after(self.times().connect);
        match &self.connecting {
            Some(connecting) => {
                connecting.since.after(addresses::share(all.since(connecting.since), connecting.left))
            }
            None => all,
        }
    }

    /// Until when the exchange may stand still as it does, and why it fails then. Each of what it waits for has a time
    /// of its own; bytes that move begin it again.
    pub(super) fn deadline(&self) -> (Moment, Reason) {
        let times = self.times();
        if self.connection.is_some() && !self.upload.has_begun() {
            return (self.connect_deadline(), Reason::ConnectFailed);
        }
        let begun = self.download.has_begun();
        let (up, down) = (self.upload.moved_at, self.download.moved_at);
        let latest = up.max(down);
        let server_late = if begun { Reason::ResponseTruncated } else { Reason::ServerTimeout };
        let mut soonest = (Moment::NEVER, Reason::Internal);
        let mut sooner = |at: Moment, reason| {
            if at < soonest.0 {
                soonest = (at, reason);
            }
        };
        if self.download.has_unsent() {
            sooner(down.after(times.client_body), Reason::ClientStalled);
        } else if self.download.is_received() {
            sooner(up.after(REST_OF_REQUEST), Reason::BodyTimeout);
        } else if self.upload.is_done() || self.upload.is_broken() || self.upload.has_unsent() {
            sooner(latest.after(times.response), server_late);
        } else if begun {
            sooner(latest.after(times.client_body.max(times.response)), Reason::BodyTimeout);
        } else {
            sooner(up.after(times.client_body), Reason::BodyTimeout);
        }
        if let Some(since) = self.download.head_since() {
            sooner(since.after(RESPONSE_HEAD_TIME), Reason::ServerTimeout);
        }
        soonest
    }
}
