//! How long an exchange may stand still in `Relay`, and why it fails then; what another state waits for has its time in the file
//! of that state.

use super::Exchange;
use crate::base::time::Moment;
use crate::data::context::Context;
use crate::data::finish;
use crate::data::timers::REQUEST_REST_TIME;
use crate::http1::reason::Reason;
use crate::state::addresses;
use crate::state::server::Lease;
use std::time::Duration;

/// From the first byte of a response's head to its last, and from the first interim response to the final one: a server that
/// sends a head byte by byte is bounded, and so is one that puts its response off.
const RESPONSE_HEAD_TIME: Duration = Duration::from_secs(60);

/// The time limits of an exchange.
#[derive(Clone, Copy)]
pub(super) struct Times {
    pub(super) connect: Duration,
    pub(super) response: Duration,
    pub(super) client_body: Duration,
}

impl Exchange {
    /// Takes what its client says of its deadline, and what the configuration does; the sooner one counts.
    pub(super) fn set_deadline(&mut self, of_client_ms: Option<u32>) {
        let of_client = of_client_ms.map(|ms| Duration::from_millis(u64::from(ms)));
        let time = of_client.into_iter().chain(self.request_time()).min();
        self.expires = time.map_or(Moment::NEVER, |time| self.meta.started.after(time));
    }

    /// How long it may take as its route, its pool or the configuration says.
    fn request_time(&self) -> Option<Duration> {
        let own = self.matched.as_ref().and_then(|matched| matched.route.timeouts.request);
        own.unwrap_or(self.view.live.timeouts(self.pool).request)
    }

    /// When its response is worthless; `None` where that is not known.
    pub fn expires(&self) -> Option<Moment> {
        Some(self.expires).filter(|at| *at != Moment::NEVER)
    }

    /// The deadline came while the server had it. A server that had most of the time that the configuration allows is at
    /// fault, as with `timeouts.response`; how soon a client gives up says nothing but that a response takes longer.
    pub(super) fn note_expired(&self, lease: &Lease, cx: &Context) {
        let Some(asked_at) = self.attempt.asked_at.filter(|_| !self.download.has_begun()) else { return };
        let waited = cx.now.since(asked_at);
        let allowed = self.request_time().filter(|time| self.meta.started.after(*time) <= self.expires);
        match allowed.is_some_and(|time| waited >= time / 2) {
            true => finish::record_failure(lease, Reason::ServerTimeout, cx),
            false => lease.cancelled(waited, cx.now),
        }
    }

    /// Its time limits: those of its route, of its pool, or of the configuration.
    pub(super) fn times(&self) -> Times {
        let (own, all) =
            (self.matched.as_ref().map(|matched| matched.route.timeouts), self.view.live.timeouts(self.pool));
        let own = own.unwrap_or_default();
        Times {
            connect: own.connect.unwrap_or(all.connect),
            response: own.response.unwrap_or(all.response),
            client_body: own.client_body.unwrap_or(all.client_body),
        }
    }

    /// Until when the address that is tried may take. A silent one leaves time for those behind it.
    pub(super) fn connect_deadline(&self) -> Moment {
        let all = self.attempt.began.after(self.times().connect).min(self.question_until());
        match &self.attempt.connecting {
            Some(connecting) => {
                connecting.since.after(addresses::share(all.since(connecting.since), connecting.left))
            }
            None => all,
        }
    }

    /// Waits that began at `since` or later begin now.
    pub fn restart_waits(&mut self, since: Moment, now: Moment) {
        let restart = |began: &mut Moment| *began = if *began >= since { now } else { *began };
        restart(&mut self.upload.progress.moved_at);
        restart(&mut self.download.incoming.moved_at);
        self.attempt.asked_at.iter_mut().for_each(restart);
        // Of two attempts at once it tells which one is the first.
        if self.other_attempt.is_none() {
            restart(&mut self.attempt.began);
            self.attempt.connecting.iter_mut().for_each(|connecting| restart(&mut connecting.since));
        }
    }

    /// Until when the exchange may stand still as it does, and why it fails then. Each of what it waits for has a time
    /// of its own; bytes that move begin it again.
    pub(super) fn deadline(&self) -> (Moment, Reason) {
        let times = self.times();
        if self.attempt.connection.is_some() && !self.upload.has_begun() {
            let connect = (self.connect_deadline(), Reason::ConnectFailed);
            return if self.expires < connect.0 { (self.expires, Reason::DeadlineExceeded) } else { connect };
        }
        let begun = self.download.has_begun();
        let (up, down) = (self.upload.progress.moved_at, self.download.incoming.moved_at);
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
            sooner(up.after(REQUEST_REST_TIME), Reason::BodyTimeout);
        } else if self.upload.is_done() || self.upload.is_broken() || self.upload.has_unsent() {
            sooner(latest.after(times.response), server_late);
        } else if begun {
            sooner(latest.after(times.client_body.max(times.response)), Reason::BodyTimeout);
        } else {
            sooner(up.after(times.client_body), Reason::BodyTimeout);
        }
        if !self.download.is_received() {
            sooner(self.expires, Reason::DeadlineExceeded);
        }
        if !begun {
            sooner(self.question_until(), Reason::ServerTimeout);
            let head_time = RESPONSE_HEAD_TIME.max(times.response);
            sooner(self.download.interim_since().after(head_time), Reason::ServerTimeout);
        }
        if let Some(since) = self.download.head_since() {
            sooner(since.after(RESPONSE_HEAD_TIME), Reason::ServerTimeout);
        }
        soonest
    }
}
