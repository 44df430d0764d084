//! Load reports: how many requests a server has queued and in progress.

use super::{Agent, Finding, Found, Kind};
use crate::base::ids::ServerId;
use crate::base::time;
use crate::base::time::Moment;
use crate::control::probe::http::{self, Request, Response};
use crate::control::probe::{Silence, Target};
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
        let asks = watched.server.health() == Health::Up && watched.server.mode_now() != Mode::Maint;
        if asks && !watched.reporting {
            let (method, path) = (watched.report_method, rules.report.path.clone());
            let (host, timeout) = (rules.check.host.clone(), rules.check.timeout);
            let (target, found) = (Target::of(&watched.server, &rules.name), self.found.0.clone());
            watched.reporting = self.reporters.run(move || {
                let host = host.as_deref();
                let request =
                    Request { method, path: &path, host, headers: &[], body: None, read_max: http::BODY_MAX };
                let begun = time::now();
                let (response, at) = http::ask(&target, &request, timeout);
                let found_out = Found::Report(response);
                let _ = found.send(Finding { id, at, took: time::now().since(begun), found: found_out });
            });
        }
        if !watched.reporting {
            watched.report_at = now.after(rules.report.interval);
            self.due.push(Reverse((watched.report_at, id, Kind::Report)));
        }
    }

    /// A query for a report has finished.
    pub(super) fn learn_report(
        &mut self,
        id: ServerId,
        response: &Result<Response, Silence>,
        took: Duration,
        now: Moment,
    ) {
        let Some(watched) = self.watched.get_mut(&id) else { return };
        watched.reporting = false;
        let rules = &self.pools[watched.server.pool];
        let again = match response {
            Ok(Response { status: 200..=299, body, .. }) => match load_in(body) {
                Some(load) => {
                    // It may be as old as the question: a server that is slow to say it has other work by now.
                    let asked_at = Moment::from_nanos(now.since(Moment::START.after(took)).as_nanos() as u64);
                    watched.server.reports(load, asked_at);
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
        self.due.push(Reverse((watched.report_at, id, Kind::Report)));
    }
}

/// The server's load in a report: requests that wait, and those in progress.
fn load_in(body: &[u8]) -> Option<f32> {
    #[derive(Deserialize)]
    struct Report {
        queue_length: u32,
        #[serde(default)]
        in_progress: u32,
    }
    let report: Report = serde_json::from_slice(body).ok()?;
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
            assert_eq!(load_in(body.as_bytes()), expected, "{body}");
        }
    }
}
