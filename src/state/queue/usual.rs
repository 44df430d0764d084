//! What is usual at the servers that requests from a queue get, and so which wait is fine.

use crate::base::time::Moment;
use crate::policy::admit::{Admit, Rules};
use crate::policy::latency::Reading;
use std::time::Duration;

/// A wait of so many times what a request takes at its server is fine, up to the interval of CoDel, and in a standing queue a request may
/// wait for so long in any case: slow servers alone are no reason to reject anything.
const TIMES_LATENCY: u32 = 4;

/// The same where limits are measured: at 95 % of the capacity of twelve slots one request in a thousand waits for eleven times of what
/// one takes.
const TIMES_LATENCY_MEASURED: u32 = 11;

/// A wait of this part of what a request takes at its server is fine even if that is longer than the interval of CoDel: first in, first out
/// serves all of them sooner than last in, first out, which leaves some behind until they are rejected. With 1 and more nothing is in time at twice the
/// capacity for clients that leave after 1 s, with 0 more is rejected where servers come back cold (docs/experiments.md).
const FINE_PART: f32 = 0.5;

/// What a request takes is the mean of about so many that waited. That of the last one alone is another one with each server, where these
/// are of unlike speed.
const USUAL_OF: u32 = 8;

/// What is usual; all zero while that is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usual {
    /// What requests that waited take at their servers.
    pub takes: Duration,
    /// After which time the server that the last one got responds to one more.
    pub each: Duration,
}

impl Usual {
    /// After one more that waited has got a server. One of which nothing is known, as a backup that takes over, changes nothing: else all
    /// that has waited for the others would count as late.
    #[must_use]
    pub fn after(self, server: Option<Reading>) -> Usual {
        let Some(server) = server else { return self };
        let us = |us: f32| Duration::from_micros(us as u64);
        let takes = match self.takes.is_zero() {
            true => us(server.typical_us),
            false => (self.takes * (USUAL_OF - 1) + us(server.typical_us)) / USUAL_OF,
        };
        Usual { takes, each: us(server.predicted_us(0)) }
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
        self.rules(rules).target.min(expires.since(now) / 2)
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
                let target = rules.target.max(fine.min(rules.interval)).max(self.takes.mul_f32(FINE_PART));
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
