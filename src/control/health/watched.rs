//! Servers and pools as the health thread sees them.

use super::agents::Asking;
use super::fail_open::Told;
use super::probes::Said;
use super::{Agent, Kind, is_ejected, outliers};
use crate::base::ids::{PoolId, ServerId};
use crate::base::time::Moment;
use crate::policy::fail_open::Evidence;
use crate::policy::health::{self, Health, Record};
use crate::policy::outlier::Outliers;
use crate::policy::slow::SlowServers;
use crate::state::config::{self, AgentCheck, Config, HealthCheck};
use crate::state::server::Server;
use std::cmp::Reverse;
use std::sync::Arc;

/// A pool of servers as seen by the health thread.
#[derive(Debug)]
pub(super) struct Pool {
    pub(super) name: String,
    /// Its key in the configuration.
    pub(super) key: String,
    pub(super) check: Arc<HealthCheck>,
    pub(super) report: config::LoadReport,
    /// How its agents are asked.
    pub(super) agent: Option<Arc<AgentCheck>>,
    pub(super) ejection: health::Ejection,
    pub(super) outliers: Outliers,
    pub(super) slow: SlowServers,
    /// Its servers.
    pub(super) servers: usize,
    /// Those of them that are ejected now.
    pub(super) ejected: usize,
    /// One of its servers can take requests.
    pub(super) serves: bool,
    /// What the log has said last of servers that are used although they are out.
    pub(super) fail_open: Option<Told>,
}

impl Pool {
    /// As the configuration describes it.
    pub(super) fn of(config: &Config, pool: PoolId) -> Self {
        let servers = config.pool(pool);
        Pool {
            name: config.pool_name(pool).to_owned(),
            key: config.pool_key(pool),
            check: Arc::new(servers.health_check.clone()),
            report: servers.load_report.clone(),
            agent: servers.agent_check.clone().map(Arc::new),
            ejection: outliers::ejection(servers),
            outliers: Outliers::default(),
            slow: SlowServers::default(),
            servers: 0,
            ejected: 0,
            serves: true,
            fail_open: None,
        }
    }
}

/// A server as seen by the health thread.
#[derive(Debug)]
pub(super) struct Watched {
    pub(super) server: Arc<Server>,
    pub(super) record: Record,
    /// What speaks for it and against it beside its health.
    pub(super) evidence: Evidence,
    /// What the table is told of that.
    pub(super) is_known_good: bool,
    /// When each kind is due; other entries of the heap are out of date.
    pub(super) probe_at: Moment,
    pub(super) report_at: Moment,
    /// A query is running.
    pub(super) probing: bool,
    pub(super) reporting: bool,
    /// The running probe repeats one that failed. Meanwhile no connection is kept idle.
    pub(super) repeating: bool,
    /// Its last probe finished promptly.
    pub(super) is_prompt: bool,
    /// Probes failed in a row, including repeated ones: each begins with another address.
    pub(super) failed: usize,
    pub(super) report_method: &'static str,
    /// The log has said that this server has no health page.
    pub(super) pageless: bool,
    /// What the log has said of its probes while it is down.
    pub(super) said: Said,
    /// A probe got an expected status: the server has a health page.
    pub(super) has_page: bool,
    /// Its load reports are asked for.
    pub(super) reports: bool,
    /// Its agent.
    pub(super) asking: Asking,
}

impl Agent {
    pub(super) fn watch(&mut self, server: &Arc<Server>, now: Moment) {
        let pool = &mut self.pools[server.pool];
        pool.servers += 1;
        let health = server.health();
        let was_up = health == Health::Up;
        let record = Record { health, was_up, ..Record::new(&pool.check.rules, now) };
        let probe_at = if pool.check.rules.enabled { now } else { Moment::NEVER };
        // The first report waits until the first probe has shown that the server responds.
        let reports = pool.report.enabled == Some(true);
        let report_at = if reports { now.after(pool.report.interval) } else { Moment::NEVER };
        let watched = Watched {
            server: Arc::clone(server),
            record,
            evidence: Evidence::default(),
            is_known_good: server.is_last_known_good(),
            probe_at,
            report_at,
            probing: false,
            reporting: false,
            repeating: false,
            is_prompt: false,
            failed: 0,
            report_method: "GET",
            pageless: false,
            said: Said::default(),
            has_page: false,
            reports,
            asking: Asking::default(),
        };
        self.newcomers += usize::from(!was_up);
        self.watched.insert(server.id, watched);
        // What is never due would stay there for good when the server is gone.
        let due = [(probe_at, Kind::Probe), (report_at, Kind::Report)];
        let due = due.into_iter().filter(|(at, _)| *at < Moment::NEVER);
        self.due.extend(due.map(|(at, kind)| Reverse((at, server.id, kind))));
        self.begin_asking(server.id, now);
        if let Some(name) = server.name_to_look_up() {
            self.names.add(name, server.id, now);
        }
    }

    pub(super) fn unwatch(&mut self, id: ServerId) {
        let Some(watched) = self.watched.remove(&id) else { return };
        self.newcomers -= usize::from(!watched.record.was_up);
        let pool = &mut self.pools[watched.server.pool];
        pool.servers -= 1;
        pool.ejected -= usize::from(is_ejected(&watched.record));
        if let Some(name) = watched.server.name_to_look_up() {
            self.names.remove(name, id);
        }
    }
}
