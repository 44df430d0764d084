//! Changes of the servers' health, written into the table and then to the log.

use super::Agent;
use crate::base::ids::PoolId;
use crate::base::time::{self, Moment};
use crate::policy::health::{Change, Health, Rules};
use crate::state::events::Topic;
use crate::state::server::{Server, Turn};
use std::sync::Arc;
use std::time::Duration;

/// The table is written at most this often, with all transitions since: each write takes time for every server. A
/// single transition is written at once.
const PUBLISH_EVERY: Duration = Duration::from_millis(20);

/// A change of a server's health, for the table and then for the log.
#[derive(Debug)]
pub(super) struct Transition {
    pub(super) server: Arc<Server>,
    pub(super) to: Health,
    pub(super) told: Told,
}

/// What is said of a transition.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) level: log::Level,
    /// The line of the log.
    pub(super) line: String,
    /// The reason alone, for the status.
    pub(super) why: String,
    /// How often the server has flapped lately.
    pub(super) flaps: u32,
}

impl Agent {
    /// Writes the transitions into the table and then to the log, so that the log is never ahead of the table.
    pub(super) fn publish(&mut self, now: Moment) {
        if self.transitions.is_empty() && self.known_good.is_empty() || now < self.publish_at {
            return;
        }
        self.publish_at = now.after(PUBLISH_EVERY);
        let transitions = std::mem::take(&mut self.transitions);
        let changes: Vec<_> = transitions.iter().map(|change| (&*change.server, change.to)).collect();
        let known_good = std::mem::take(&mut self.known_good);
        let known_good: Vec<_> = known_good.iter().map(|(server, is_good)| (&**server, *is_good)).collect();
        self.table.judge(&changes, &known_good);
        for Transition { server, told, .. } in transitions {
            server.turns(Turn { unix_seconds: time::unix_seconds(), why: told.why, flaps: told.flaps });
            self.events.log(Topic::Health, told.level, told.line);
        }
    }

    /// One clear line when no server of a pool is left, and one when one is back: by its health, its agent or the operator. A
    /// server that has just been added, or a pool that has none left, is no reason for the second one.
    pub(super) fn say_if_all_down(&mut self) {
        let version = self.table.version();
        if self.version.replace(version) == Some(version) {
            return;
        }
        let snapshot = self.table.snapshot();
        for (pool, known) in self.pools.iter_mut() {
            let Some(servers) = snapshot.find_pool(pool) else { continue };
            let is_known = |server: &Arc<Server>| server.health() != Health::Starting;
            let up = match known.serves {
                true => !servers.ready.is_empty() || servers.count == 0,
                false => servers.ready.iter().any(is_known),
            };
            let of_pool = match pool {
                PoolId(0) => String::new(),
                _ => format!("pool {}: ", known.name),
            };
            match (std::mem::replace(&mut known.serves, up), up) {
                (true, false) => {
                    let line = format!(
                        "{of_pool}no server can take requests: {count} of {count} are down or out of service; requests get a 503",
                        count = servers.count
                    );
                    self.events.log(Topic::Health, log::Level::Error, line);
                }
                (false, true) => {
                    let line = format!("{of_pool}requests are served again");
                    self.events.log(Topic::Health, log::Level::Info, line);
                }
                _ => {}
            }
        }
    }
}

/// What is said of a transition. The detail is the outcome in parentheses, and more.
pub(super) fn told(server: &Server, change: &Change, rules: &Rules, detail: &str, now: Moment) -> Told {
    let detail = if detail.is_empty() { String::new() } else { format!(" {detail}") };
    let flaps = flaps(change, rules);
    let (name, address, why) = (&server.label, &server.address, format!("{}{detail}{flaps}", change.why));
    let (level, line) = match change.to {
        Health::Up => (log::Level::Info, format!("server {name} ({address}) is up: {why}")),
        Health::Ejected { until } => {
            let time = humantime::format_duration(Duration::from_millis(until.since(now).as_millis() as u64));
            (log::Level::Warn, format!("server {name} is ejected for {time}: {why}"))
        }
        _ => (log::Level::Warn, format!("server {name} ({address}) is down: {why}")),
    };
    Told { level, line, why, flaps: change.flaps }
}

/// Why a server that is down needs more passed probes than others.
fn flaps(change: &Change, rules: &Rules) -> String {
    match (change.to, change.flaps) {
        (_, 0) | (Health::Up | Health::Starting | Health::Ejected { .. }, _) => String::new(),
        (Health::Down, flaps) => {
            let times = if flaps == 1 { "once".to_owned() } else { format!("{flaps} times") };
            let rise = rules.rise_after(flaps);
            format!(
                "; {rise} passed probes are asked for, because it went down {times} soon after it had come up"
            )
        }
    }
}
