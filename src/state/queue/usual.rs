//! What is usual at the servers that requests from a queue get, and so which wait is fine.

use crate::base::time::Moment;
use crate::policy::admit::{Admit, Rules};
use crate::policy::backlog::Fine;
use crate::policy::latency::Reading;
use std::time::Duration;

/// As long as clients are patient, the queue is first in, first out, and where it stands a request may wait for such a part of
/// `queue_timeout`, or for `queue_max_wait` if that is more. With a half, clients that leave after 3 s get fewer good responses
/// (44 in place of 51 % at twice the capacity); with a quarter, twice as many are rejected in the mixed world of the bench.
const PART_OF_DEADLINE: u32 = 3;

/// While clients leave, a request may wait for so many times what it takes in a queue that stands.
const TIMES_LATENCY_IMPATIENT: u32 = 4;

/// And the queue stands from a wait of such a part of what a request takes on, or of so many times that, up to the interval of CoDel.
/// With 1.5 none of those that wait for a second gets a response in time at twice the capacity.
const FINE_TIMES_IMPATIENT: f32 = 0.5;

/// Clients count as impatient for so long after one left while more than [`IMPATIENT_PART`] did. With 2 s 35 % of twice the capacity are served to clients that
/// leave after 1 s, in place of 42: each time the queue grows until the next one leaves.
const IMPATIENT_FOR: Duration = Duration::from_secs(10);

/// Clients are impatient where more than such a part of those that waited has left: a few always do, for reasons of their own.
/// From the first one on, 51.7 % are not good in place of 48.3 with two balancers at twice the capacity and clients of 3 s.
const IMPATIENT_PART: f32 = 1.0 / 16.0;

/// That part is of about so many that waited, so that five in a row are enough. Not swept.
const LEAVING_OF: f32 = 64.0;

/// What a request takes is the mean of about so many that waited: servers may be of unlike speed.
const USUAL_OF: u32 = 8;

/// What is usual; all zero while that is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usual {
    /// What requests that waited take at their servers.
    pub takes: Duration,
    /// The time between two responses of the server that the last one got. No mean: a backup that takes over counts at once.
    pub pace_of_last: Duration,
    /// Which part of the clients that waited left before their response; recent ones count more.
    pub leaving: f32,
    /// Until then clients count as impatient.
    pub impatient_until: Moment,
}

impl Usual {
    /// After one more that waited has got a server. One of which nothing is known, as a backup that takes over, changes
    /// nothing: else all that has waited for the others would count as late.
    #[must_use]
    pub fn after(self, server: Option<Reading>) -> Usual {
        let stayed = Usual { leaving: self.leaving * (1.0 - 1.0 / LEAVING_OF), ..self };
        let Some(server) = server else { return stayed };
        let us = |us: f32| Duration::from_micros(us as u64);
        let takes = match self.takes.is_zero() {
            true => us(server.typical_us),
            false => (self.takes * (USUAL_OF - 1) + us(server.typical_us)) / USUAL_OF,
        };
        Usual { takes, pace_of_last: us(server.predicted_us(0)), ..stayed }
    }

    /// After a client has left that had waited.
    #[must_use]
    pub fn after_leaving(self, now: Moment) -> Usual {
        let leaving = self.leaving + (1.0 - self.leaving) / LEAVING_OF;
        match leaving > IMPATIENT_PART {
            true => Usual { leaving, impatient_until: now.after(IMPATIENT_FOR), ..self },
            false => Usual { leaving, ..self },
        }
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
    pub fn fine(self, rules: &Rules, expires: Moment, now: Moment) -> Fine {
        let may_expire = expires != Moment::NEVER;
        let target = self.rules(rules, self.is_patient(now) && !may_expire).target;
        Fine { target: target.min(expires.since(now) / 2), expires: may_expire }
    }

    /// Whether a request that has waited since then is still worth serving, in a queue that `stands` or not.
    pub fn admit(self, rules: &Rules, since: Moment, stands: bool, now: Moment) -> Admit {
        self.rules(rules, self.is_patient(now)).admit(now.since(since), stands)
    }

    /// Whether hardly a client leaves.
    pub fn is_patient(self, now: Moment) -> bool {
        now >= self.impatient_until
    }

    /// The rules for a queue of servers that usually take so long.
    fn rules(self, rules: &Rules, is_patient: bool) -> Rules {
        if is_patient {
            let max_wait = rules.max_wait.max(rules.deadline / PART_OF_DEADLINE);
            return Rules { target: rules.target.max(max_wait), max_wait, ..*rules };
        }
        let allowed = self.takes * TIMES_LATENCY_IMPATIENT;
        let fine = self.takes.mul_f32(FINE_TIMES_IMPATIENT).max(allowed.min(rules.interval));
        Rules { target: rules.target.max(fine), max_wait: rules.max_wait.max(allowed), ..*rules }
    }
}
