//! What is usual at the servers that requests from a queue get, and so which wait is fine.

use crate::base::time::Moment;
use crate::policy::admit::{Admit, Rules};
use crate::policy::latency::Reading;
use std::time::Duration;

/// First in, first out up to a wait of so many times what a request takes, if that is more than `queue_max_wait`, as long as clients
/// are patient: slow servers alone are no reason to reject anything. With 4 half a percent more is rejected where one request in
/// ten takes ten times as long; with 11 it is the same.
const TIMES_LATENCY: u32 = 8;

/// That wait is at most such a part of `queue_timeout`: where an overload lasts, all that is served has waited so long.
const PART_OF_DEADLINE: u32 = 4;

/// While clients leave, a request may wait for so many times what it takes in a queue that stands.
const TIMES_LATENCY_IMPATIENT: u32 = 4;

/// And the queue stands from a wait of such a part of what a request takes on, or of so many times that, up to the interval of CoDel.
/// With 1.5 none of those that wait for a second gets a response in time at twice the capacity.
const FINE_TIMES_IMPATIENT: f32 = 0.5;

/// Clients count as impatient for so long after one left that had waited. With 2 s 35 % of twice the capacity are served to clients that
/// leave after 1 s, in place of 42: each time the queue grows until the next one leaves.
const IMPATIENT_FOR: Duration = Duration::from_secs(10);

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

    /// The wait that is fine for a request that comes now, and expires then. One that expires is as impatient as a client that leaves.
    pub fn target(self, rules: &Rules, expires: Moment, now: Moment) -> Duration {
        let is_patient = self.is_patient(now) && expires == Moment::NEVER;
        self.rules(rules, is_patient).target.min(expires.since(now) / 2)
    }

    /// Whether a request that has waited since then is still worth serving, in a queue that `stands` or not.
    pub fn admit(self, rules: &Rules, since: Moment, stands: bool, now: Moment) -> Admit {
        self.rules(rules, self.is_patient(now)).admit(now.since(since), stands)
    }

    fn is_patient(self, now: Moment) -> bool {
        now >= self.impatient_until
    }

    /// The rules for a queue of servers that usually take so long.
    fn rules(self, rules: &Rules, is_patient: bool) -> Rules {
        if is_patient {
            let fine = (self.takes * TIMES_LATENCY).min(rules.deadline / PART_OF_DEADLINE);
            let max_wait = rules.max_wait.max(fine);
            return Rules { target: rules.target.max(max_wait), max_wait, ..*rules };
        }
        let allowed = self.takes * TIMES_LATENCY_IMPATIENT;
        let fine = self.takes.mul_f32(FINE_TIMES_IMPATIENT).max(allowed.min(rules.interval));
        Rules { target: rules.target.max(fine), max_wait: rules.max_wait.max(allowed), ..*rules }
    }
}
