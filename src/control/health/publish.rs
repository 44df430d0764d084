//! Changes of the servers' health, written into the table and then to the log.

use super::Agent;
use crate::base::ids::PoolId;
use crate::base::time::Moment;
use crate::policy::health::{Change, Health};
use crate::state::server::Server;
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
    pub(super) level: log::Level,
    pub(super) line: String,
}

impl Agent {
    /// Writes the transitions into the table and then to the log, so that the log is never ahead of the table.
    pub(super) fn publish(&mut self, now: Moment) {
        if self.transitions.is_empty() || now < self.publish_at {
            return;
        }
        self.publish_at = now.after(PUBLISH_EVERY);
        let transitions = std::mem::take(&mut self.transitions);
        let changes: Vec<_> = transitions.iter().map(|change| (&*change.server, change.to)).collect();
        self.table.set_healths(&changes);
        transitions.iter().for_each(|change| log::log!(change.level, "{}", change.line));
        self.say_if_all_down();
    }

    /// One clear line when no server of a pool is left, and one when one is back.
    pub(super) fn say_if_all_down(&mut self) {
        let snapshot = self.table.snapshot();
        for (pool, known) in self.pools.iter_mut() {
            let Some(servers) = snapshot.find_pool(pool) else { continue };
            let up = !servers.ready.is_empty() || servers.count == 0;
            let of_pool = match pool {
                PoolId(0) => String::new(),
                _ => format!("pool {}: ", known.name),
            };
            match (std::mem::replace(&mut known.serves, up), up) {
                (true, false) => log::error!(
                    "{of_pool}no server can take requests: all {} are down or out of service; every request is \
                     answered 503",
                    servers.count
                ),
                (false, true) => log::info!("{of_pool}requests are served again"),
                _ => {}
            }
        }
    }
}

/// The log line for a transition. The detail is the outcome in parentheses, and more.
pub(super) fn told(server: &Server, change: &Change, detail: &str, now: Moment) -> (log::Level, String) {
    let detail = if detail.is_empty() { String::new() } else { format!(" {detail}") };
    let (name, address, why) = (&server.label, &server.address, change.why);
    match change.to {
        Health::Up => (log::Level::Info, format!("server {name} ({address}) is up: {why}{detail}")),
        Health::Ejected { until } => {
            let time = humantime::format_duration(Duration::from_millis(until.since(now).as_millis() as u64));
            (log::Level::Warn, format!("server {name} is ejected for {time}: {why}{detail}"))
        }
        _ => (log::Level::Warn, format!("server {name} ({address}) is down: {why}{detail}")),
    }
}
