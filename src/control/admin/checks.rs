//! The probes of servers, in the status and in the metrics.

use super::View;
use super::metrics::labels;
use super::metrics::page::{Kind, Page};
use super::status::{rounded, unix_rfc3339};
use crate::state::config::Config;
use crate::state::server::{Check, Server};
use serde::Serialize;
use std::sync::Arc;

/// Probes so far.
#[derive(Debug, Serialize)]
pub(super) struct Checks {
    passed: u64,
    failed: u64,
}

/// One probe.
#[derive(Debug, Serialize)]
pub(super) struct LastCheck {
    #[serde(rename = "type")]
    kind: &'static str,
    /// RFC 3339, in UTC.
    at: String,
    took_ms: f64,
    outcome: String,
    passed: bool,
}

/// What kind of probe a server gets.
pub(super) fn kind(view: &View, server: &Server) -> Option<&'static str> {
    let live = view.live();
    let check = &live.config.pool(server.pool).health_check;
    check.rules.enabled.then(|| check.probe.name())
}

/// One probe.
pub(super) fn last(check: Check) -> LastCheck {
    LastCheck {
        kind: check.kind,
        at: unix_rfc3339(check.unix_seconds),
        took_ms: rounded(check.took.as_secs_f64() * 1000.0),
        outcome: check.outcome,
        passed: check.passed,
    }
}

/// All probes so far.
pub(super) fn counts(server: &Server) -> Checks {
    let counts = server.checks();
    Checks { passed: counts.passed, failed: counts.failed }
}

/// What kind of probes servers get, and how many passed and failed.
pub(super) fn metrics(page: &mut Page, view: &View, config: &Config, servers: &[Arc<Server>]) {
    page.family("server_check_info", Kind::Gauge, "Always 1; the label has the type of the server's probes.");
    for server in servers {
        if let Some(kind) = kind(view, server) {
            page.sample(&[&labels(config, server)[..], &[("type", kind)]].concat(), 1);
        }
    }
    page.family("server_checks_total", Kind::Counter, "Probes of the server, by result.");
    for server in servers {
        let (counts, labels) = (server.checks(), labels(config, server));
        page.sample(&[&labels[..], &[("result", "passed")]].concat(), counts.passed);
        page.sample(&[&labels[..], &[("result", "failed")]].concat(), counts.failed);
    }
}
