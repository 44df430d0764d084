//! Load reports: how many requests a server has queued and in progress.

use super::{Agent, Finding, Kind, ask};
use crate::base::ids::ServerId;
use crate::base::time::Moment;
use crate::control::probe::{Question, Response, Target};
use crate::policy::health::Health;
use crate::state::server::Mode;
use serde::Deserialize;
use std::cmp::Reverse;
use std::time::Duration;

/// A server without load reports is asked again after this.
const REPORT_ABSENT: Duration = Duration::from_secs(30);

impl Agent {
    /// Asks for a report, if one is due and the server is up.
    pub(super) fn start_report(&mut self, id: ServerId, at: Moment, now: Moment) {
        let Some(watched) = self.watched.get_mut(&id).filter(|watched| watched.report_at == at) else {
            return;
        };
        let rules = &self.pools[watched.server.pool];
        let asks = watched.server.health() == Health::Up && watched.server.mode() != Mode::Maint;
        let question = Question {
            method: watched.report_method,
            path: rules.report.path.clone(),
            host: rules.check.host.clone(),
            timeout: rules.check.timeout,
        };
        let candidates = watched.server.addresses().candidates();
        let target =
            Target { address: watched.server.address.clone(), candidates, tls: watched.server.tls() };
        watched.reporting = watched.reporting
            || asks && ask(&mut self.reporters, (id, Kind::Report), target, question, self.found.0.clone());
        if !watched.reporting {
            watched.report_at = now.after(rules.report.interval);
            self.due.push(Reverse((watched.report_at, id, Kind::Report)));
        }
    }

    /// A query for a report has finished.
    pub(super) fn learn_report(&mut self, finding: Finding, now: Moment) {
        let Some(watched) = self.watched.get_mut(&finding.id) else { return };
        watched.reporting = false;
        let rules = &self.pools[watched.server.pool];
        let again = match &finding.response {
            Ok(Response { status: 200..=299, body, .. }) => match load_in(body) {
                Some(load) => {
                    watched.server.reports(load, now);
                    rules.report.interval
                }
                None => REPORT_ABSENT,
            },
            // The seed's servers support POST only.
            Ok(Response { status: 405, .. }) if watched.report_method == "GET" => {
                watched.report_method = "POST";
                Duration::ZERO
            }
            Ok(_) => REPORT_ABSENT,
            Err(_) => rules.check.rules.interval,
        };
        watched.report_at = now.after(again);
        self.due.push(Reverse((watched.report_at, finding.id, Kind::Report)));
    }
}

/// The server's load in a report: requests that wait, and those in progress.
fn load_in(body: &str) -> Option<f32> {
    #[derive(Deserialize)]
    struct Report {
        queue_length: u32,
        #[serde(default)]
        in_progress: u32,
    }
    let report: Report = serde_json::from_str(body).ok()?;
    Some(report.queue_length as f32 + report.in_progress as f32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_are_read_and_other_things_are_not() {
        for (body, expected) in [
            (
                r#"{"server":"a","queue_length":3,"queue_capacity":9,"in_progress":2,"processed":1}"#,
                Some(5.0),
            ),
            (r#"{"queue_length":7}"#, Some(7.0)),
            (r#"{"queue_length":-1}"#, None),
            ("<html>", None),
            ("{}", None),
        ] {
            assert_eq!(load_in(body), expected, "{body}");
        }
    }
}
