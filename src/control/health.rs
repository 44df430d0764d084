//! The health thread: a heap of what is due, a few probers that ask, and the only hand that writes a server's
//! health (law 7). What live traffic learns comes in as verdicts.

use super::probe::{self, Answer, Question, Silence};
use crate::base::dice::Dice;
use crate::base::ids::ServerId;
use crate::base::limits;
use crate::base::time::{self, Moment};
use crate::policy::health::{self, Event, Health, Others, Record};
use crate::state::address::Address;
use crate::state::config::{self, Config, HealthCheck};
use crate::state::server::{Check, Mode, Server};
use crate::state::table::Table;
use crate::state::verdict::{Verdict, Verdicts};
use crossbeam_channel::{Receiver, Sender, bounded, select_biased, unbounded};
use serde::Deserialize;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// Probers: one for every few servers, so that some that stall do not make the others wait.
const PROBERS: std::ops::RangeInclusive<usize> = 2..=16;
/// Servers for each prober.
const SERVERS_PER_PROBER: usize = 4;
/// A server that offers no load report is asked again after this.
const REPORT_ABSENT: Duration = Duration::from_secs(30);
/// Names of servers that are not probed are looked up this often.
const RESOLVE_EVERY: Duration = Duration::from_secs(30);
/// Stack of a prober: ureq and the system's resolver want some room.
const PROBER_STACK: usize = 512 * 1024;

/// Wakes and ends the health thread.
#[derive(Clone, Debug)]
pub struct Handle(Sender<Call>);

#[derive(Clone, Copy, Debug)]
enum Call {
    Look,
    Stop,
}

impl Handle {
    /// The table changed: look at it now rather than at the next deadline.
    pub fn look(&self) {
        let _ = self.0.try_send(Call::Look);
    }

    /// Ends the thread.
    pub fn stop(&self) {
        let _ = self.0.send(Call::Stop);
    }
}

/// The health thread's own things.
#[derive(Debug)]
pub struct Agent {
    table: Arc<Table>,
    check: HealthCheck,
    report: config::LoadReport,
    ejection: health::Ejection,
    verdicts: Receiver<Verdict>,
    calls: Receiver<Call>,
    asked: (Sender<Task>, Receiver<Task>),
    found: (Sender<Finding>, Receiver<Finding>),
    probers: usize,
    watched: HashMap<ServerId, Watched>,
    due: BinaryHeap<Reverse<(Moment, ServerId, Kind)>>,
    dice: Dice,
    version: Option<u64>,
    someone_up: bool,
}

/// What can be due for a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// A probe, or a look-up of the name where servers are not probed.
    Probe,
    /// A load report.
    Report,
    /// An ejection ends.
    Tick,
}

/// A server as the health thread knows it.
#[derive(Debug)]
struct Watched {
    server: Arc<Server>,
    record: Record,
    /// When each kind is due; what the heap says besides is out of date.
    probe_at: Moment,
    report_at: Moment,
    /// A prober is at it.
    probing: bool,
    reporting: bool,
    report_method: &'static str,
    /// It was told that this server has no health page.
    pageless: bool,
}

/// Work for a prober.
#[derive(Debug)]
struct Task {
    id: ServerId,
    kind: Kind,
    address: Address,
    /// `None`: the name is looked up, and nothing is asked.
    question: Option<Question>,
}

/// What a prober found.
#[derive(Debug)]
struct Finding {
    id: ServerId,
    kind: Kind,
    resolved: Option<SocketAddr>,
    took: Duration,
    answer: Result<Option<Answer>, Silence>,
}

impl Agent {
    /// An agent for this table.
    pub fn new(config: &Config, table: Arc<Table>, verdicts: &Verdicts) -> (Self, Handle) {
        let (sender, calls) = bounded(16);
        let agent = Agent {
            table,
            check: config.servers.health_check.clone(),
            report: config.servers.load_report.clone(),
            ejection: config.servers.ejection,
            verdicts: verdicts.heard().clone(),
            calls,
            // At most one task of each kind is under way for a server: the table bounds both.
            asked: unbounded(),
            found: unbounded(),
            probers: 0,
            watched: HashMap::new(),
            due: BinaryHeap::new(),
            dice: Dice::fresh(),
            version: None,
            someone_up: true,
        };
        (agent, Handle(sender))
    }

    /// Runs until the handle stops it.
    pub fn run(mut self) {
        loop {
            let now = time::now();
            self.sync(now);
            self.start_due(now);
            let next = self.due.peek().map_or(Moment::NEVER, |Reverse((at, ..))| *at);
            let (calls, found, verdicts) = (self.calls.clone(), self.found.1.clone(), self.verdicts.clone());
            select_biased! {
                recv(calls) -> call => if matches!(call, Ok(Call::Stop) | Err(_)) { return },
                recv(found) -> finding => finding.into_iter().for_each(|finding| self.learn(finding)),
                recv(verdicts) -> verdict => verdict.into_iter().for_each(|verdict| self.hear(verdict)),
                recv(crossbeam_channel::at(time::instant(next))) -> _ => {}
            }
        }
    }

    /// Servers that came, went, or have another mode.
    fn sync(&mut self, now: Moment) {
        // The version first: a change in between is then seen at the next look.
        let version = self.table.version();
        if self.version.replace(version) == Some(version) {
            return;
        }
        let snapshot = self.table.snapshot();
        self.watched.retain(|id, _| snapshot.servers.iter().any(|server| server.id == *id));
        for server in &snapshot.servers {
            if !self.watched.contains_key(&server.id) {
                self.watch(server, now);
            }
        }
        self.hire_probers(snapshot.servers.len());
        self.say_if_all_down();
    }

    fn watch(&mut self, server: &Arc<Server>, now: Moment) {
        let record = Record { health: server.health(), ..Record::new(&self.check.rules, now) };
        // The first report waits until the first probe said that there is somebody.
        let report_at = if self.report.enabled { now.after(self.report.interval) } else { Moment::NEVER };
        let watched = Watched {
            server: Arc::clone(server),
            record,
            probe_at: now,
            report_at,
            probing: false,
            reporting: false,
            report_method: "GET",
            pageless: false,
        };
        self.watched.insert(server.id, watched);
        self.due.push(Reverse((now, server.id, Kind::Probe)));
        self.due.push(Reverse((report_at, server.id, Kind::Report)));
    }

    fn start_due(&mut self, now: Moment) {
        while let Some(Reverse((at, id, kind))) =
            self.due.peek().copied().filter(|Reverse((at, ..))| *at <= now)
        {
            self.due.pop();
            match kind {
                Kind::Probe => self.start_probe(id, at, now),
                Kind::Report => self.start_report(id, at, now),
                Kind::Tick => self.apply(id, Event::Tick, "", now),
            }
        }
    }

    fn start_probe(&mut self, id: ServerId, at: Moment, now: Moment) {
        let Some(watched) = self.watched.get_mut(&id).filter(|watched| watched.probe_at == at) else {
            return;
        };
        if watched.probing || watched.server.mode() == Mode::Maint {
            watched.probe_at = now.after(self.check.rules.interval);
            return self.due.push(Reverse((watched.probe_at, id, Kind::Probe)));
        }
        watched.probing = true;
        let question = self.check.rules.enabled.then(|| Question {
            method: "GET",
            path: self.check.path.clone(),
            host: self.check.host.clone(),
            timeout: self.check.timeout,
        });
        let _ = self.asked.0.send(Task {
            id,
            kind: Kind::Probe,
            address: watched.server.address.clone(),
            question,
        });
    }

    fn start_report(&mut self, id: ServerId, at: Moment, now: Moment) {
        let Some(watched) = self.watched.get_mut(&id).filter(|watched| watched.report_at == at) else {
            return;
        };
        let asks = watched.server.health() == Health::Up && watched.server.mode() != Mode::Maint;
        if watched.reporting || !asks {
            watched.report_at = now.after(self.report.interval);
            return self.due.push(Reverse((watched.report_at, id, Kind::Report)));
        }
        watched.reporting = true;
        let question = Question {
            method: watched.report_method,
            path: self.report.path.clone(),
            host: self.check.host.clone(),
            timeout: self.check.timeout,
        };
        let address = watched.server.address.clone();
        let _ = self.asked.0.send(Task { id, kind: Kind::Report, address, question: Some(question) });
    }

    /// A prober is back.
    fn learn(&mut self, finding: Finding) {
        let now = time::now();
        let Some(watched) = self.watched.get_mut(&finding.id) else { return };
        if let Some(resolved) = finding.resolved {
            watched.server.resolve(resolved);
        }
        match finding.kind {
            Kind::Probe if finding.answer.as_ref().is_err_and(|silence| silence.is_ours) => {
                watched.probing = false;
                log::warn!("server {}: could not be probed; that is not its fault", watched.server.name);
                self.schedule_probe(finding.id, now.after(self.check.rules.interval));
            }
            Kind::Report => self.learn_report(finding, now),
            _ if self.check.rules.enabled => self.learn_probe(finding, now),
            _ => {
                watched.probing = false;
                if let Err(error) = &finding.answer {
                    log::warn!("server {}: its name does not resolve: {}", watched.server.name, error.words);
                }
                let every = if finding.answer.is_ok() { RESOLVE_EVERY } else { self.check.rules.interval };
                self.schedule_probe(finding.id, now.after(every));
            }
        }
    }

    fn learn_probe(&mut self, finding: Finding, now: Moment) {
        let Some(watched) = self.watched.get_mut(&finding.id) else { return };
        watched.probing = false;
        let (passed, outcome) = judge(&self.check, &finding.answer);
        let status =
            finding.answer.as_ref().ok().and_then(|answer| answer.as_ref()).map(|answer| answer.status);
        if passed && status.is_some_and(|status| !is_expected(&self.check, status)) && !watched.pageless {
            watched.pageless = true;
            let (name, path) = (&watched.server.name, &self.check.path);
            log::info!("server {name}: answers {outcome} at {path}; it is alive and has no such page");
        }
        let check = Check {
            unix_seconds: time::unix_seconds(),
            took: finding.took,
            outcome: outcome.clone(),
            passed,
        };
        watched.server.checked(check);
        let event = if passed { Event::ProbePassed } else { Event::ProbeFailed };
        self.apply(finding.id, event, &outcome, now);
        if let Some(watched) = self.watched.get(&finding.id) {
            let next = health::next_probe(&watched.record, &self.check.rules, self.dice.fraction(), now);
            self.schedule_probe(finding.id, next);
        }
    }

    fn learn_report(&mut self, finding: Finding, now: Moment) {
        let Some(watched) = self.watched.get_mut(&finding.id) else { return };
        watched.reporting = false;
        let again = match &finding.answer {
            Ok(Some(Answer { status: 200..=299, body })) => match load_in(body) {
                Some(load) => {
                    watched.server.reports(load, now);
                    self.report.interval
                }
                None => REPORT_ABSENT,
            },
            // The seed's servers know it as POST only.
            Ok(Some(Answer { status: 405, .. })) if watched.report_method == "GET" => {
                watched.report_method = "POST";
                Duration::ZERO
            }
            Ok(_) => REPORT_ABSENT,
            Err(_) => self.check.rules.interval,
        };
        watched.report_at = now.after(again);
        self.due.push(Reverse((watched.report_at, finding.id, Kind::Report)));
    }

    /// Live traffic says something.
    fn hear(&mut self, verdict: Verdict) {
        let now = time::now();
        match verdict.failure {
            None => self.apply(verdict.server, Event::RequestPassed, "", now),
            Some(what) => {
                self.apply(verdict.server, Event::RequestFailed, what, now);
                let Some(watched) = self.watched.get(&verdict.server) else { return };
                let sooner =
                    health::next_probe(&watched.record, &self.check.rules, self.dice.fraction(), now);
                if self.check.rules.enabled && !watched.probing && sooner < watched.probe_at {
                    self.schedule_probe(verdict.server, sooner);
                }
            }
        }
    }

    /// The policy decides; the table is written and the log told when something changed.
    fn apply(&mut self, id: ServerId, event: Event, detail: &str, now: Moment) {
        let ejected = |watched: &Watched| matches!(watched.record.health, Health::Ejected { .. });
        let ejected =
            self.watched.iter().filter(|(other, watched)| **other != id && ejected(watched)).count();
        let others = Others { servers: self.watched.len(), ejected };
        let Some(watched) = self.watched.get_mut(&id) else { return };
        let (record, change) =
            health::after(watched.record, event, &self.check.rules, &self.ejection, others, now);
        watched.record = record;
        let Some(change) = change else { return };
        // Before the log line: who reads it may count on it.
        self.table.set_health(&watched.server, change.to);
        let detail = if detail.is_empty() { String::new() } else { format!(" ({detail})") };
        let name = &watched.server.name;
        match change.to {
            Health::Up => {
                log::info!("server {name} ({}) is up: {}{detail}", watched.server.address, change.why)
            }
            Health::Ejected { until } => {
                let time =
                    humantime::format_duration(Duration::from_millis(until.since(now).as_millis() as u64));
                log::warn!("server {name} is ejected for {time}: {}{detail}", change.why);
                self.due.push(Reverse((until, id, Kind::Tick)));
            }
            _ => log::warn!("server {name} ({}) is down: {}{detail}", watched.server.address, change.why),
        }
        self.say_if_all_down();
    }

    /// One clear line when nobody is left, and one when somebody is back.
    fn say_if_all_down(&mut self) {
        let snapshot = self.table.snapshot();
        let up = snapshot.servers.is_empty() || !snapshot.ready.is_empty();
        match (std::mem::replace(&mut self.someone_up, up), up) {
            (true, false) => log::error!(
                "no server can take requests: all {} are down or out of service; every request is answered 503",
                snapshot.servers.len()
            ),
            (false, true) => log::info!("requests are served again"),
            _ => {}
        }
    }

    fn schedule_probe(&mut self, id: ServerId, at: Moment) {
        if let Some(watched) = self.watched.get_mut(&id) {
            watched.probe_at = at;
            self.due.push(Reverse((at, id, Kind::Probe)));
        }
    }

    /// Probers live as long as the agent: they end when its channel does.
    fn hire_probers(&mut self, servers: usize) {
        let wanted = servers.div_ceil(SERVERS_PER_PROBER).clamp(*PROBERS.start(), *PROBERS.end());
        while self.probers < wanted {
            let (tasks, findings) = (self.asked.1.clone(), self.found.0.clone());
            let builder =
                thread::Builder::new().name(format!("prober-{}", self.probers)).stack_size(PROBER_STACK);
            if let Err(error) = builder.spawn(move || work(&tasks, &findings)) {
                log::warn!("no thread to be had for a prober ({error}); {} are at work", self.probers);
                return;
            }
            self.probers += 1;
        }
    }
}

/// A prober's life.
fn work(tasks: &Receiver<Task>, findings: &Sender<Finding>) {
    for task in tasks {
        let begun = time::now();
        let resolved = probe::resolve(&task.address);
        let answer = match (&resolved, &task.question) {
            (Err(error), _) => Err(Silence {
                words: format!("{} does not resolve: {error}", task.address),
                is_ours: limits::is_exhausted(error),
            }),
            (Ok(_), None) => Ok(None),
            (Ok(resolved), Some(question)) => probe::ask(&task.address, *resolved, question).map(Some),
        };
        let resolved = resolved.ok().flatten();
        let finding =
            Finding { id: task.id, kind: task.kind, resolved, took: time::now().since(begun), answer };
        if findings.send(finding).is_err() {
            return;
        }
    }
}

/// Whether an answer counts as a pass, and a word for it.
fn judge(check: &HealthCheck, answer: &Result<Option<Answer>, Silence>) -> (bool, String) {
    match answer {
        Err(silence) => (false, silence.words.clone()),
        Ok(None) => (true, "resolved".to_owned()),
        Ok(Some(Answer { status, .. })) => {
            let no_such_page = !check.path_given && matches!(status, 404 | 405 | 501);
            (is_expected(check, *status) || no_such_page, status.to_string())
        }
    }
}

fn is_expected(check: &HealthCheck, status: u16) -> bool {
    check.expect_status.iter().any(|(from, to)| (*from..=*to).contains(&status))
}

/// What a report says of a server's load: requests that wait, and those being worked on.
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

    fn check(given: bool, answer: Result<u16, &str>, expected: bool) {
        let mut rules = Config::default().servers.health_check;
        rules.path_given = given;
        let answer = answer
            .map(|status| Some(Answer { status, body: String::new() }))
            .map_err(|words| Silence::from(words.to_owned()));
        assert_eq!(judge(&rules, &answer).0, expected, "{answer:?} with the path given: {given}");
    }

    #[test]
    fn a_page_that_is_not_there_is_a_sign_of_life_unless_the_file_names_it() {
        for status in [200, 204, 302, 399] {
            check(false, Ok(status), true);
            check(true, Ok(status), true);
        }
        for status in [404, 405, 501] {
            check(false, Ok(status), true);
            check(true, Ok(status), false);
        }
        for status in [400, 500, 503] {
            check(false, Ok(status), false);
        }
        check(false, Err("connection refused"), false);
    }

    #[test]
    fn a_probe_that_could_not_be_made_says_nothing_of_the_server() {
        for (is_ours, expected) in [(false, Health::Down), (true, Health::Starting)] {
            let spec = config::ServerSpec {
                name: "a".into(),
                address: "127.0.0.1:9001".parse().unwrap(),
                weight: crate::policy::pick::Weight(1),
                backup: false,
            };
            let config = Config::default();
            let table = Arc::new(Table::new(config.servers.algorithm, true, &[spec]));
            let (mut agent, _handle) = Agent::new(&config, Arc::clone(&table), &Verdicts::default());
            let server = table.find("a").unwrap();
            agent.watch(&server, Moment::START);
            agent.learn(Finding {
                id: server.id,
                kind: Kind::Probe,
                resolved: None,
                took: Duration::ZERO,
                answer: Err(Silence { words: "no descriptors".into(), is_ours }),
            });
            assert_eq!(server.health(), expected, "ours: {is_ours}");
            let watched = &agent.watched[&server.id];
            assert!(!watched.probing && watched.probe_at > Moment::START, "it is probed again");
        }
    }

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
