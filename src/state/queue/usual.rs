//! What is usual at the servers that requests from a queue get, and so which wait is fine.

use crate::base::time::Moment;
use crate::policy::admit::{Admit, Rules};
use crate::policy::latency::Reading;
use std::time::Duration;

/// A wait of so many times what a request takes is fine, up to the interval of CoDel, and allowed in a standing queue: slow
/// servers alone are no reason to reject anything.
const TIMES_LATENCY: u32 = 4;

/// The same where limits are measured: at 95 % of twelve slots one request in a thousand waits for so long.
const TIMES_LATENCY_MEASURED: u32 = 11;

/// First in, first out up to a wait of so many times what a request takes, even beyond the interval of CoDel: last in, first
/// out leaves some behind until they are rejected. With 0.5 twice as many are where one of three servers comes back cold; with 2
/// p99 is 4 % higher in overloads.
const FINE_TIMES: f32 = 1.5;

/// The same while clients leave: with 1.5 none of those that wait for a second gets a response in time at twice the capacity.
const FINE_TIMES_IMPATIENT: f32 = 0.5;

/// Clients count as impatient for so long after one left that had waited.
const IMPATIENT_FOR: Duration = Duration::from_secs(2);

/// What a request takes is the mean of about so many that waited: servers may be of unlike speed.
const USUAL_OF: u32 = 8;

/// What is usual; all zero while that is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usual {
    /// What requests that waited take at their servers.
    pub takes: Duration,
    /// The time between two responses of the server that the last one got. No mean: a backup that takes over counts at once.
    pub pace_of_last: Duration,
    /// Until then clients count as impatient.
    pub impatient_until: Moment,
}

impl Usual {
    /// After one more that waited has got a server. One of which nothing is known, as a backup that takes over, changes
    /// nothing: else all that has waited for the others would count as late.
    #[must_use]
    pub fn after(self, server: Option<Reading>) -> Usual {
        let Some(server) = server else { return self };
        let us = |us: f32| Duration::from_micros(us as u64);
        let takes = match self.takes.is_zero() {
            true => us(server.typical_us),
            false => (self.takes * (USUAL_OF - 1) + us(server.typical_us)) / USUAL_OF,
        };
        Usual { takes, pace_of_last: us(server.predicted_us(0)), ..self }
    }

    /// After a client has left that had waited.
    #[must_use]
    pub fn after_leaving(self, now: Moment) -> Usual {
        Usual { impatient_until: now.after(IMPATIENT_FOR), ..self }
    }

    /// Until when a request that expires then may wait: its server needs time, too. Half of its time may pass in
    /// the queue, however slow the servers seem: what is known of them may be old.
    pub fn last_moment(self, since: Moment, expires: Moment) -> Moment {
        if expires == Moment::NEVER {
            return expires;
        }
        let time = expires.since(since);
        since.after(time.saturating_sub(self.takes).max(time / 2))
    }

    /// The wait that is fine for a request that comes now, and expires then.
    pub fn target(self, rules: &Rules, expires: Moment, now: Moment) -> Duration {
        let times = if now < self.impatient_until { FINE_TIMES_IMPATIENT } else { FINE_TIMES };
        let fine = if rules.is_measured { Duration::ZERO } else { self.takes.mul_f32(times) };
        self.rules(rules).target.max(fine).min(expires.since(now) / 2)
    }

    /// Whether a request that has waited for so long is still worth serving, in a queue that `stands` or not.
    pub fn admit(self, rules: &Rules, waited: Duration, stands: bool) -> Admit {
        self.rules(rules).admit(waited, stands)
    }

    /// The rules for a queue of servers that usually take so long: a wait of a few times that is no sign of an overload.
    fn rules(self, rules: &Rules) -> Rules {
        match rules.is_measured {
            false => {
                let fine = self.takes * TIMES_LATENCY;
                let target = rules.target.max(fine.min(rules.interval));
                Rules { target, max_wait: rules.max_wait.max(fine), ..*rules }
            }
            true => {
                let fine =
                    (self.takes * TIMES_LATENCY_MEASURED).clamp(rules.deadline / 10, rules.deadline / 4);
                Rules { target: rules.target.max(fine), max_wait: rules.max_wait.max(fine), ..*rules }
            }
        }
    }
}
