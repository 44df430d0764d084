//! What is known of servers beside their health, for pools of which too few are left ([`crate::policy::fail_open`]), and what the
//! log says of such pools.

use super::{Agent, Watched};
use crate::base::ids::{PoolId, ServerId};
use crate::base::text;
use crate::base::time::Moment;
use crate::policy::fail_open::{FailedProbe, Got, Limits};
use crate::policy::health::{Ejection, Health};
use crate::state::events::Topic;
use crate::state::table::{self, FailOpen};
use crate::state::verdict::Verdict;
use std::time::Duration;

/// The log has at most one line in this time for a pool.
const SAY_EVERY: Duration = Duration::from_secs(1);
/// While nothing changes it is said again after this: a pool may be in this state for hours.
const REMIND_EVERY: Duration = Duration::from_secs(60);
/// The most servers that a line names.
const NAMED_MAX: usize = 8;

/// When pools are looked at.
#[derive(Debug)]
pub(super) struct Watch {
    /// The version of the table at the last look.
    version: Option<u64>,
    /// The next look while the table stays the same.
    next: Moment,
}

impl Default for Watch {
    fn default() -> Self {
        Watch { version: None, next: Moment::NEVER }
    }
}

impl Watch {
    /// When there is something to say again.
    pub(super) fn next(&self) -> Moment {
        self.next
    }
}

/// What the log has said last of a pool.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// How many servers were left, and which others were used; `None`: enough were left.
    state: Option<(usize, Vec<String>)>,
    at: Moment,
    /// Requests that these servers had been sent when it began.
    requests_before: u64,
}

impl Watched {
    /// Whether the table is to be told that the server is, or is not any more, among the last known good.
    pub(super) fn news_for_fail_open(&mut self) -> Option<bool> {
        let is_good = match self.record.health {
            Health::Down => self.record.was_up && self.evidence.is_good(),
            Health::Ejected { .. } => self.evidence.is_reachable(),
            Health::Up | Health::Starting => return None,
        };
        (std::mem::replace(&mut self.is_known_good, is_good) != is_good).then_some(is_good)
    }
}

impl Agent {
    /// A probe has ended: `None` if it passed, else what it got.
    pub(super) fn note_probe(&mut self, id: ServerId, failed: Option<Got>, now: Moment) {
        let Some(watched) = self.watched.get_mut(&id) else { return };
        let limits = limits(&self.pools[watched.server.pool].ejection);
        watched.evidence = match failed {
            None => watched.evidence.passed(),
            Some(got) => {
                let totals = watched.server.totals();
                let good = totals.ended.saturating_sub(totals.errors);
                watched.evidence.failed(FailedProbe { got, good, bad_in_row: totals.in_row }, limits, now)
            }
        };
    }

    /// A live request has failed, or succeeded after one that did.
    pub(super) fn note_request(&mut self, verdict: &Verdict, now: Moment) {
        let Some(watched) = self.watched.get_mut(&verdict.server) else { return };
        let limits = limits(&self.pools[watched.server.pool].ejection);
        let in_row = watched.record.live_failed.saturating_add(1);
        watched.evidence = match verdict.failure {
            None => watched.evidence.request_passed(),
            Some(_) => watched.evidence.request_failed(verdict.is_unreachable, in_row, limits, now),
        };
    }

    /// Says which pools use servers that are out: at once, when that changes, and now and then.
    pub(super) fn tell_fail_open(&mut self, now: Moment) {
        let version = self.table.version();
        if self.fail_open.version == Some(version) && now < self.fail_open.next {
            return;
        }
        self.fail_open = Watch { version: Some(version), next: Moment::NEVER };
        let snapshot = self.table.snapshot();
        for (id, servers) in snapshot.pools() {
            let Some(pool) = self.pools.get_mut(id) else { continue };
            if servers.fail_open.is_none() && pool.fail_open.is_none() {
                continue;
            }
            let state = servers.fail_open.map(|told| (told.left, names(servers)));
            let told = pool.fail_open.get_or_insert_with(Told::default);
            let is_same = told.state == state;
            if is_same && state.is_none() {
                pool.fail_open = None;
                continue;
            }
            let at = told.at.after(if is_same { REMIND_EVERY } else { SAY_EVERY });
            if told.at != Moment::START && now < at {
                self.fail_open.next = self.fail_open.next.min(at);
                continue;
            }
            if told.state.is_none() {
                told.requests_before = requests(servers);
            }
            let requests = requests(servers).saturating_sub(told.requests_before);
            let line = match servers.fail_open {
                Some(fail_open) => Some((log::Level::Error, on(&fail_open, servers, &pool.key, requests))),
                // That none is left is said elsewhere.
                None if servers.ready.is_empty() => None,
                None => Some((log::Level::Info, off(requests))),
            };
            (told.state, told.at) = (state, now);
            let of_pool = if id == PoolId(0) { String::new() } else { format!("pool {}: ", pool.name) };
            if let Some((level, line)) = line {
                self.events.log(Topic::Health, level, format!("{of_pool}{line}"));
            }
            self.fail_open.next = self.fail_open.next.min(now.after(REMIND_EVERY));
        }
    }
}

fn limits(ejection: &Ejection) -> Limits {
    Limits { in_row: ejection.consecutive_failures, time: ejection.base_time }
}

/// The servers that are used although they are out.
fn names(servers: &table::Pool) -> Vec<String> {
    let used = servers.active().filter(|server| server.is_fail_open());
    used.map(|server| server.name.clone()).collect()
}

/// Requests that servers of the pool were sent while they were out.
fn requests(servers: &table::Pool) -> u64 {
    let all = servers.ready.iter().chain(&servers.beside).chain(&servers.reserve).chain(&servers.out);
    all.map(|server| server.fail_open_requests()).sum()
}

fn on(fail_open: &FailOpen, servers: &table::Pool, key: &str, requests: u64) -> String {
    let names = names(servers);
    let mut used = names[..names.len().min(NAMED_MAX)].join(", ");
    if let more @ 1.. = names.len().saturating_sub(NAMED_MAX) {
        used.push_str(&format!(" and {more} more"));
    }
    let left = match fail_open.left {
        0 => "no server is up".to_owned(),
        1 => format!("only 1 of {} servers is up", servers.count),
        left => format!("only {left} of {} servers are up", servers.count),
    };
    let so_far = if requests > 0 { format!(" ({requests} so far)") } else { String::new() };
    format!(
        "{left}: requests also go to {used}{so_far}, which were good last, although their health checks fail or they are \
         ejected; look at what the health checks ask for ({key}.panic_percent)"
    )
}

fn off(requests: u64) -> String {
    let requests = text::counted(requests, "request", "requests");
    format!("enough servers are up again; {requests} went to servers whose health checks failed")
}
