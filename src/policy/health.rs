//! Rise and fall by probes, ejection and return by live traffic.
//!
//! ```text
//!            1 probe passed                        fall probes failed, live failures in a row counted in
//! Starting ─────────────────▶ Up ─────────────────────────────────────────────────────────────────▶ Down
//!    │                        ▲ │ ▲                                                                  ▲ │
//!    │ 1 probe failed         │ │ └────────────────────── rise probes passed ────────────────────────┼─┘
//!    └────────────────────────┼─┼──────────────────────────────────────────────────────────────────▶ │
//!                             │ │ consecutive_failures live requests failed                          │
//!   time is over, or rise × n │ ▼                                                                    │
//!   probes passed in a row    Ejected ───── a probe failed (by the same count), or was the last ─────┘
//! ```
//!
//! - **Starting** is short: one probe decides, either way. A server that is not up yet at start costs no request. Until
//!   a server has been up once, it is probed often, and one passed probe suffices: balancer and servers are often
//!   started together.
//! - **Fall** adds live failures to failed probes, once a probe has failed: probes that agree with what clients see
//!   need no more proof. A server that is killed is taken out after one probe.
//! - **Flaps.** A server that comes back and soon goes down again needs twice as many passed probes each time, up to
//!   `rise_max`: probes that fail now and then must not move traffic back and forth. Staying up makes that be forgotten.
//! - **Ejection** (Envoy's outlier detection; HAProxy's `observe`) is for what probes do not see, and for the time
//!   until they do. It lasts `base_time × n` up to `max_time`; each `base_time`, or ten seconds, that the server has been up
//!   since then takes one off `n`. At most `max_percent` of the servers are ejected at once, and never the only one that can take
//!   requests. A server may be ejected for failures in a row, or as an outlier ([`crate::policy::outlier`]): its share
//!   of 5xx and failures, or its response times ([`crate::policy::slow`]), are far above those of the others.
//! - **After an ejection** a server is on probation: one more failure ejects it again, one response clears it. It
//!   returns early after `rise × n` passed probes, so that a server that was killed and restarted serves within
//!   seconds; for a server whose probes pass while its requests fail, each return needs more probes. A server that was
//!   ejected as an outlier returns by time alone, because its probes passed while it failed.

mod next_probe;
#[cfg(test)]
mod tests;
mod why;

pub use next_probe::next_probe;
pub use why::Why;

use super::outlier::{Limits, Outlier};
use super::slow::Slow;
use crate::base::time::Moment;
use std::time::Duration;

/// A server that goes down within so many intervals (20 s) after it came back flaps; each such time that it
/// stays up makes one flap be forgotten. What stays up for longer is a server that went down again for a
/// reason of its own.
const FLAP_INTERVALS: u32 = 10;

/// A server that is up for less since its ejection may not have shown yet that it fails again: a slow one
/// takes eight seconds.
const EJECTION_FORGOTTEN: Duration = Duration::from_secs(10);

/// The configuration's `servers.health_check`, without what only the prober needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// False: a server is up, unless it is ejected.
    pub enabled: bool,
    /// Time between two probes (2 s).
    pub interval: Duration,
    /// The same while a change is being confirmed; `None` is a quarter of the interval.
    pub fast_interval: Option<Duration>,
    /// The same while the server is down; `None` is the interval.
    pub down_interval: Option<Duration>,
    /// Passed probes in a row that bring a server up (2).
    pub rise: u32,
    /// The most that are asked for from a server that flaps (60: half a minute at a quarter of the interval).
    pub rise_max: u32,
    /// Failed probes in a row that take it down (3).
    pub fall: u32,
}

impl Default for Rules {
    fn default() -> Self {
        let interval = Duration::from_secs(2);
        Rules {
            enabled: true,
            interval,
            fast_interval: None,
            down_interval: None,
            rise: 2,
            rise_max: 60,
            fall: 3,
        }
    }
}

impl Rules {
    fn fast(&self) -> Duration {
        self.fast_interval.unwrap_or(self.interval / 4)
    }

    /// Of a server that has been down for so long. Where nothing is set, it is back within a quarter of that:
    /// most restarts take seconds, and a server that is down for minutes need not be asked twice a second.
    fn down(&self, down_for: Duration) -> Duration {
        let of_time = (down_for / 4).clamp(self.fast().min(self.interval), self.interval);
        self.down_interval.unwrap_or(of_time)
    }

    /// Passed probes in a row that bring a server up that was up before, after so many flaps.
    pub fn rise_after(&self, flaps: u32) -> u32 {
        let doubled = self.rise.saturating_mul(1 << flaps.min(16));
        doubled.min(self.rise_max).max(self.rise)
    }

    fn flap_time(&self) -> Duration {
        self.interval.saturating_mul(FLAP_INTERVALS)
    }
}

/// The configuration's `servers.ejection`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ejection {
    /// Failed requests in a row (5); 0 disables ejection.
    pub consecutive_failures: u32,
    /// How long the first ejection lasts (2 s).
    pub base_time: Duration,
    /// The maximum duration of an ejection (120 s).
    pub max_time: Duration,
    /// The maximum share of the servers that may be ejected at once (50); rounded down, but one of several is
    /// always allowed.
    pub max_percent: u32,
    /// By how many percentage points a server's share of errors must exceed that of the others (30); 0
    /// disables this check.
    pub error_margin_percent: u32,
    /// By how many deviations a server's response times must exceed those of the others ([`super::slow`])
    /// (6); 0 disables this check.
    pub latency_deviations: u32,
}

impl Default for Ejection {
    fn default() -> Self {
        let (base_time, max_time) = (Duration::from_secs(2), Duration::from_secs(120));
        Ejection {
            consecutive_failures: 5,
            base_time,
            max_time,
            max_percent: 50,
            error_margin_percent: 30,
            latency_deviations: 6,
        }
    }
}

impl Ejection {
    /// When a server is an outlier.
    pub fn outlier_limits(&self) -> Limits {
        Limits { margin_percent: self.error_margin_percent, in_row: self.consecutive_failures }
    }
}

/// The state of a server as the balancer sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// No probe has finished yet.
    Starting,
    /// It gets requests.
    Up,
    /// Probes fail.
    Down,
    /// Taken out by live traffic.
    Ejected {
        /// Until then at the latest; an [`Event::Tick`] at or after that moment brings it back.
        until: Moment,
    },
}

/// One event in the life of a server.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Event {
    /// A probe got the expected response.
    ProbePassed,
    /// A probe did not: refused, timed out, another status.
    ProbeFailed,
    /// A live request got a response.
    RequestPassed,
    /// A live request failed (connect, reset, timeout, broken response). The caller should move the next
    /// probe forward to what [`next_probe`] then returns, if that is sooner.
    RequestFailed,
    /// It fails far more requests than the other servers.
    FailsMore(Outlier),
    /// It responds far slower than the other servers.
    IsSlow(Slow),
    /// Time passed.
    Tick,
}

/// The whole health record of a server. Written by the health thread alone.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Record {
    /// The current state.
    pub health: Health,
    /// Probes passed in a row.
    pub passed: u32,
    /// Probes failed in a row.
    pub failed: u32,
    /// Live requests failed in a row.
    pub live_failed: u32,
    /// Recent ejections.
    pub ejections: u32,
    /// It came back from being down: if it soon goes down again, it flaps.
    pub is_back: bool,
    /// How often it has flapped lately.
    pub flaps: u32,
    /// It was last ejected as an outlier, so passed probes do not bring it back.
    pub is_outlier: bool,
    /// When `health` last changed.
    pub since: Moment,
    /// It has been up before.
    pub was_up: bool,
}

impl Record {
    /// The record of a new server.
    pub fn new(rules: &Rules, now: Moment) -> Self {
        let health = if rules.enabled { Health::Starting } else { Health::Up };
        let was_up = health == Health::Up;
        Record {
            health,
            passed: 0,
            failed: 0,
            live_failed: 0,
            ejections: 0,
            is_back: false,
            flaps: 0,
            is_outlier: false,
            since: now,
            was_up,
        }
    }
}

/// The rest of the table, for the limit on ejections.
#[derive(Clone, Copy, Debug)]
pub struct Others {
    /// All servers, this one included.
    pub servers: usize,
    /// Servers that are ejected now, without this one.
    pub ejected: usize,
    /// Another server can take requests now.
    pub is_another_ready: bool,
}

/// A transition, for the table and for one line in the log.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Change {
    /// The state before.
    pub from: Health,
    /// The state now.
    pub to: Health,
    /// The reason.
    pub why: Why,
    /// How often the server has flapped lately, this change included.
    pub flaps: u32,
}

/// The record after the event, and the transition, if `health` changed.
pub fn after(
    record: Record,
    event: Event,
    rules: &Rules,
    ejection: &Ejection,
    others: Others,
    now: Moment,
) -> (Record, Option<Change>) {
    let record = counted(record, event);
    match verdict(&record, event, rules, ejection, others, now) {
        Some((to, why)) => {
            let next = entered(record, to, why, (rules, ejection), now);
            (next, Some(Change { from: record.health, to, why, flaps: next.flaps }))
        }
        None => (record, None),
    }
}

/// The record with the event counted. A passed probe does not clear live failures: ejection is for what
/// probes do not see.
fn counted(record: Record, event: Event) -> Record {
    match event {
        Event::ProbePassed => Record { passed: record.passed.saturating_add(1), failed: 0, ..record },
        Event::ProbeFailed => Record { passed: 0, failed: record.failed.saturating_add(1), ..record },
        Event::RequestPassed => Record { live_failed: 0, ..record },
        Event::RequestFailed => Record { live_failed: record.live_failed.saturating_add(1), ..record },
        Event::FailsMore(_) | Event::IsSlow(_) | Event::Tick => record,
    }
}

/// The next state and the reason, if the state changes.
fn verdict(
    record: &Record,
    event: Event,
    rules: &Rules,
    ejection: &Ejection,
    others: Others,
    now: Moment,
) -> Option<(Health, Why)> {
    match (record.health, event) {
        (Health::Starting | Health::Down, _) if !rules.enabled => Some((Health::Up, Why::ProbesOff)),
        (Health::Starting, Event::ProbePassed) => Some((Health::Up, Why::ProbesPassed(1))),
        (Health::Starting, Event::ProbeFailed) => Some((Health::Down, Why::ProbesFailed(1))),
        (Health::Down, Event::ProbePassed) => {
            rises(record, if record.was_up { rules.rise_after(record.flaps) } else { 1 })
        }
        (Health::Up | Health::Ejected { .. }, Event::ProbeFailed) if rules.enabled => falls(record, rules),
        (Health::Up, Event::RequestFailed) if fails_in_a_row(record, ejection) => {
            ejected(record, ejection, others, now).map(|to| (to, Why::RequestsFailed(record.live_failed)))
        }
        (Health::Up, Event::FailsMore(outlier)) => {
            ejected(record, ejection, others, now).map(|to| (to, Why::FailsMore(outlier)))
        }
        (Health::Up, Event::IsSlow(slow)) => {
            ejected(record, ejection, others, now).map(|to| (to, Why::IsSlow(slow)))
        }
        (Health::Ejected { until }, Event::Tick) if now >= until => Some(returns(record, rules)),
        (Health::Ejected { .. }, Event::ProbePassed) if !record.is_outlier => {
            rises(record, rules.rise.saturating_mul(record.ejections.max(1)))
        }
        _ => None,
    }
}

fn rises(record: &Record, rise: u32) -> Option<(Health, Why)> {
    (record.passed >= rise).then_some((Health::Up, Why::ProbesPassed(record.passed)))
}

fn falls(record: &Record, rules: &Rules) -> Option<(Health, Why)> {
    let why = match record.failed >= rules.fall {
        true => Why::ProbesFailed(record.failed),
        false => Why::ProbesAndRequestsFailed(record.failed, record.live_failed),
    };
    (record.failed.saturating_add(record.live_failed) >= rules.fall).then_some((Health::Down, why))
}

fn fails_in_a_row(record: &Record, ejection: &Ejection) -> bool {
    ejection.consecutive_failures > 0 && record.live_failed >= ejection.consecutive_failures
}

/// None when too many servers are ejected, or no other server can take requests: each further failure then
/// tries again.
fn ejected(record: &Record, ejection: &Ejection, others: Others, now: Moment) -> Option<Health> {
    let share = others.servers.saturating_mul(ejection.max_percent as usize) / 100;
    let most = if ejection.max_percent > 0 { share.max(1) } else { 0 };
    let allowed = others.is_another_ready && others.ejected < most;
    let time = ejection.base_time.saturating_mul(remembered(record, ejection, now).saturating_add(1));
    allowed.then(|| Health::Ejected { until: now.after(time.min(ejection.max_time)) })
}

/// A server whose last probe failed does not return by time alone.
fn returns(record: &Record, rules: &Rules) -> (Health, Why) {
    match rules.enabled && record.failed > 0 {
        true => (Health::Down, Why::ProbesFailed(record.failed)),
        false => (Health::Up, Why::TimeServed),
    }
}

/// The ejections that still count: each `base_time` of being up since the last one takes one off, or each
/// [`EJECTION_FORGOTTEN`].
fn remembered(record: &Record, ejection: &Ejection, now: Moment) -> u32 {
    let forgotten = match record.health {
        Health::Up => {
            now.since(record.since).as_nanos() / ejection.base_time.max(EJECTION_FORGOTTEN).as_nanos()
        }
        _ => 0,
    };
    record.ejections.saturating_sub(u32::try_from(forgotten).unwrap_or(u32::MAX))
}

/// The flaps that still count when a server leaves its state: one more if it soon goes down after it came back.
fn flaps(record: &Record, to: Health, rules: &Rules, now: Moment) -> u32 {
    if record.health != Health::Up {
        return record.flaps;
    }
    let up = now.since(record.since).as_nanos();
    let forgotten = u32::try_from(up / rules.flap_time().as_nanos().max(1)).unwrap_or(u32::MAX);
    let is_flap = to == Health::Down && record.is_back && forgotten == 0;
    record.flaps.saturating_sub(forgotten).saturating_add(u32::from(is_flap))
}

/// The record in its new state. Counts are reset, except live failures: an ejected server keeps them, so that
/// they count together with its probes, and a server that returns only because its time is over has one left.
fn entered(
    record: Record,
    to: Health,
    why: Why,
    (rules, ejection): (&Rules, &Ejection),
    now: Moment,
) -> Record {
    let remembered = remembered(&record, ejection, now);
    let from_ejection = matches!(record.health, Health::Ejected { .. });
    let (live_failed, ejections) = match to {
        Health::Ejected { .. } => (record.live_failed, remembered.saturating_add(1)),
        Health::Up if record.is_outlier => (0, remembered),
        Health::Up if from_ejection => (ejection.consecutive_failures.saturating_sub(1), remembered),
        _ => (0, remembered),
    };
    let was_up = record.was_up || to == Health::Up;
    Record {
        health: to,
        passed: 0,
        failed: 0,
        live_failed,
        ejections,
        is_back: to == Health::Up && record.health == Health::Down && record.was_up,
        flaps: flaps(&record, to, rules, now),
        is_outlier: matches!(why, Why::FailsMore(_) | Why::IsSlow(_)) && record.failed == 0,
        since: now,
        was_up,
    }
}
