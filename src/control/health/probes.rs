//! Probes: started when they are due, judged when they have finished, and counted.

use super::{Agent, Finding, Found, Kind, PROMPT};
use crate::base::ids::ServerId;
use crate::base::time::{self, Moment};
use crate::control::judge::{Judged, Probed, judge};
use crate::control::probe::{self, Reply, Silence, Target};
use crate::policy::fail_open::Got;
use crate::policy::health::{Event, Health};
use crate::state::address::Address;
use crate::state::config::HealthCheck;
use crate::state::events::Topic;
use crate::state::server::{Check, Mode};
use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

/// The least time between two lines of the log about one server that stays down.
const SAY_AGAIN: Duration = Duration::from_secs(10);

/// What the log has said last of why a server is down, and when.
#[derive(Debug, Default)]
pub(super) struct Said(Option<(String, Moment)>);

impl Said {
    /// Whether a failed probe says something else of a server that was down before. That it goes down has a line of its own.
    fn is_news(&mut self, outcome: &str, was_down: bool, now: Moment) -> bool {
        let is_due = |(said, at): &(String, Moment)| said != outcome && now.since(*at) >= SAY_AGAIN;
        let is_news = was_down && self.0.as_ref().is_some_and(is_due);
        if is_news || !was_down || self.0.is_none() {
            self.0 = Some((outcome.to_owned(), now));
        }
        is_news
    }
}

impl Agent {
    pub(super) fn start_probe(&mut self, id: ServerId, at: Moment, now: Moment) {
        let Some(watched) = self.watched.get_mut(&id).filter(|watched| watched.probe_at == at) else {
            return;
        };
        if watched.probing || watched.server.mode_now() == Mode::Maint {
            let interval = self.pools[watched.server.pool].check.rules.interval;
            return self.schedule_probe(id, now.after(interval));
        }
        let name = watched.server.address.name();
        match name.filter(|_| watched.server.addresses().all().is_empty()) {
            None => self.probe(id, now),
            // The first look-up is running; its result triggers the probe.
            Some(name) => match self.names.failure(name).map(Judged::unresolved) {
                None => watched.probe_at = Moment::NEVER,
                Some(judged) => self.conclude_probe(id, &judged, Got::Nothing, Duration::ZERO, now),
            },
        }
    }

    /// Probes the server.
    fn probe(&mut self, id: ServerId, now: Moment) {
        let Some(watched) = self.watched.get_mut(&id) else { return };
        let check = Arc::clone(&self.pools[watched.server.pool].check);
        let interval = check.rules.interval;
        let target =
            Target::of_probe(&watched.server, &self.pools[watched.server.pool].name, &check, watched.failed);
        let lanes = if check.probe.is_command() { &mut self.commands } else { &mut self.probers };
        let threads = if watched.is_prompt { &mut lanes.prompt } else { &mut lanes.slow };
        let (found, commands) = (self.found.0.clone(), self.running.clone());
        watched.probing = threads.run(move || {
            let begun = time::now();
            let (reply, at) = probe::probe(&target, &check, &commands);
            let (address, is_secure) = (target.address, target.tls.is_some());
            let found_out = Found::Probe { check, address, is_secure, reply };
            let _ = found.send(Finding { id, at, took: time::now().since(begun), found: found_out });
        });
        if !watched.probing {
            self.schedule_probe(id, now.after(interval));
        }
    }

    pub(super) fn learn_probe(
        &mut self,
        finding: &Finding,
        check: &HealthCheck,
        address: &Address,
        is_secure: bool,
        reply: &Result<Reply, Silence>,
        now: Moment,
    ) {
        let Some(watched) = self.watched.get_mut(&finding.id) else { return };
        watched.probing = false;
        let pool = &self.pools[watched.server.pool];
        if reply.as_ref().is_err_and(|silence| silence.is_ours) {
            log::warn!("server {}: could not be probed, for lack of local resources", watched.server.label);
            let interval = pool.check.rules.interval;
            self.end_repeat(finding.id);
            return self.schedule_probe(finding.id, now.after(interval));
        }
        let (at, has_page) = (finding.at, watched.has_page);
        let judged = judge(&Probed { pool: &pool.key, check, is_secure, address, at, has_page }, reply);
        watched.has_page |= judged.passed && !judged.has_no_page;
        let has_reports = matches!(reply, Ok(Reply::Http(response)) if response.has_reports);
        if has_reports && pool.report.enabled.is_none() && !std::mem::replace(&mut watched.reports, true) {
            watched.report_at = now.after(pool.report.interval);
            self.due.push(Reverse((watched.report_at, finding.id, Kind::Report)));
        }
        watched.is_prompt = finding.took < PROMPT.min(pool.check.timeout / 2);
        watched.failed = if judged.passed { 0 } else { watched.failed.wrapping_add(1) };
        if let Some(mut at) = finding.at.filter(|_| judged.passed) {
            if let Address::Tcp { port, .. } = watched.server.address {
                at.set_port(port);
            }
            watched.server.addresses().record_connect_ok(at);
        }
        // A command has reasons of its own to fail.
        let may_repeat = !judged.passed && !check.probe.is_command();
        if may_repeat && self.is_repeated(finding.id, reply.is_err()) {
            return self.probe(finding.id, now);
        }
        self.end_repeat(finding.id);
        let got = match reply {
            Ok(_) => Got::Response,
            Err(_) if check.port.is_some() || check.probe.is_command() => Got::NothingElsewhere,
            Err(_) => Got::Nothing,
        };
        self.conclude_probe(finding.id, &judged, got, finding.took, now);
    }

    /// A server that serves one connection at a time may have been blocked by an idle one of ours. So the idle ones are
    /// closed when there was no response, and the first failed probe in a row is repeated at once before it counts. The
    /// repeated probe also begins with another address, if there are several.
    fn is_repeated(&mut self, id: ServerId, is_silent: bool) -> bool {
        let Some(watched) = self.watched.get_mut(&id) else { return false };
        let addresses = watched.server.addresses();
        let is_first = watched.record.failed == 0 && !watched.repeating;
        let is_used = matches!(watched.record.health, Health::Up | Health::Ejected { .. });
        let may_help = is_silent || addresses.candidates().are_several();
        let repeats = is_first && is_used && may_help;
        match (repeats, is_silent) {
            (true, _) => addresses.pause_idle(),
            (false, true) => addresses.close_idle(),
            (false, false) => return false,
        }
        (self.close_idle.0)(id);
        watched.repeating |= repeats;
        repeats
    }

    fn end_repeat(&mut self, id: ServerId) {
        if let Some(watched) = self.watched.get_mut(&id).filter(|watched| watched.repeating) {
            watched.repeating = false;
            watched.server.addresses().resume_idle();
        }
    }

    /// A server that was down when nothing listened may respond now, and still not as expected: its operator has to do something
    /// else then. What a command prints may differ each time.
    fn say_if_down_for_another_reason(&mut self, id: ServerId, judged: &Judged, now: Moment) {
        let Some(watched) = self.watched.get_mut(&id).filter(|_| !judged.passed) else { return };
        let was_down = watched.record.health == Health::Down;
        let is_command = self.pools[watched.server.pool].check.probe.is_command();
        if watched.said.is_news(&judged.outcome, was_down, now) && !is_command {
            let (name, address) = (&watched.server.label, &watched.server.address);
            let line = format!("server {name} ({address}) is still down: a probe failed {}", judged.detail);
            self.events.log(Topic::Health, log::Level::Warn, line);
        }
    }

    /// Counts the probe.
    fn conclude_probe(&mut self, id: ServerId, judged: &Judged, got: Got, took: Duration, now: Moment) {
        let Some(watched) = self.watched.get_mut(&id) else { return };
        if judged.has_no_page && !std::mem::replace(&mut watched.pageless, true) {
            let (name, outcome, detail) = (&watched.server.label, &judged.outcome, &judged.detail);
            let key = &self.pools[watched.server.pool].key;
            let what =
                if outcome == "404" { "has no page for probes" } else { "does not serve the probe's page" };
            log::info!("server {name} is alive and {what}: {detail}; {key}.health_check.path is not set");
        }
        self.say_if_down_for_another_reason(id, judged, now);
        let Some(watched) = self.watched.get_mut(&id) else { return };
        let (outcome, passed) = (judged.outcome.clone(), judged.passed);
        let kind = self.pools[watched.server.pool].check.probe.name();
        watched.server.checked(Check { kind, unix_seconds: time::unix_seconds(), took, outcome, passed });
        let event = if passed { Event::ProbePassed } else { Event::ProbeFailed };
        self.note_probe(id, if passed { None } else { Some(got) }, now);
        self.apply(id, event, &judged.detail, now);
        self.schedule_next_probe(id, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_stays_down_for_another_reason_is_told_again() {
        let (mut said, start) = (Said::default(), time::now());
        for (seconds, outcome, was_down, expected) in [
            (0, "connection refused", false, false),
            (2, "connection refused", true, false),
            (4, "401", true, false),
            (10, "401", true, true),
            (30, "401", true, false),
            (31, "503", true, true),
            (32, "401", true, false),
            (50, "timeout", false, false),
            (60, "timeout", true, false),
        ] {
            let is_news = said.is_news(outcome, was_down, start.after(Duration::from_secs(seconds)));
            assert_eq!(is_news, expected, "{outcome} after {seconds} s");
        }
    }
}
