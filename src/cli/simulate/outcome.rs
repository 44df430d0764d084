//! What a simulation found out, as it is printed.

use super::{Arguments, Scenario, Trace};
use crate::base::text;
use crate::state::simulation::{Description, Report, Second};
use clap::ValueEnum;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// What every result leaves out.
const NOT_SIMULATED: [&str; 5] = [
    "the network and the balancer's own time",
    "workers and connections",
    "guards, and responses of routes without a server",
    "retries after a request was sent",
    "the time that a probe takes",
];

/// Events of a result that are kept.
const EVENTS_MAX: usize = 100;

/// A whole run.
#[derive(Debug, Serialize)]
pub(super) struct Run {
    /// The scenarios, or the file of the trace.
    pub(super) source: String,
    pub(super) seed: u64,
    pub(super) servers: Vec<Place>,
    /// The ideal, then each configuration.
    pub(super) results: Vec<Outcome>,
    pub(super) notes: Vec<String>,
    pub(super) not_simulated: [&'static str; 5],
}

/// A server of the world.
#[derive(Debug, Serialize)]
pub(super) struct Place {
    pub(super) name: String,
    pub(super) speed: f64,
    pub(super) slots: u32,
}

/// What came of one configuration. Quantiles are of good responses.
#[derive(Debug, Serialize)]
pub(super) struct Outcome {
    pub(super) name: &'static str,
    pub(super) algorithm: Option<&'static str>,
    pub(super) requests: u64,
    pub(super) good: u64,
    pub(super) failed: u64,
    pub(super) rejected: u64,
    pub(super) rejections: BTreeMap<&'static str, u64>,
    pub(super) timed_out: u64,
    pub(super) ejections: u64,
    pub(super) mean_ms: f64,
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
    pub(super) p99_9_ms: f64,
    /// In percent of the requests that went to servers.
    pub(super) shares: Vec<Share>,
    pub(super) seconds: Vec<Moment>,
    pub(super) events: Vec<String>,
}

/// What a server got.
#[derive(Debug, Serialize)]
pub(super) struct Share {
    pub(super) server: String,
    pub(super) percent: f64,
}

/// The requests that came in one second.
#[derive(Debug, Serialize)]
pub(super) struct Moment {
    pub(super) good: u64,
    pub(super) failed: u64,
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
}

impl Run {
    pub(super) fn of(arguments: &Arguments, trace: Option<&Trace>) -> Self {
        let mut notes = Vec::new();
        if let Some(trace) = trace {
            notes.push(
                "Speeds and slots of the servers are estimates from the trace; time in a server's own queue counts as work."
                    .to_owned(),
            );
            if let (1.., Some(first)) = (trace.unread, &trace.first_fault) {
                let unread = text::counted(trace.unread, "line of the trace was", "lines of the trace were");
                notes.push(format!("{unread} not read; {first}"));
            }
        }
        Run {
            source: source(arguments),
            seed: arguments.seed,
            servers: Vec::new(),
            results: Vec::new(),
            notes,
            not_simulated: NOT_SIMULATED,
        }
    }

    /// Notes the servers.
    pub(super) fn describe(&mut self, world: &Description) {
        let place = |(at, server): (usize, &crate::state::simulation::Server)| Place {
            name: world.server_name(at),
            speed: rounded(server.speed),
            slots: server.slots,
        };
        self.servers = world.servers.iter().enumerate().map(place).collect();
    }
}

impl Outcome {
    /// Of a report; the balancer would respond to `own` requests itself.
    pub(super) fn of(name: &'static str, report: &Report, world: &Description, own: usize) -> Self {
        let percent = report.percent(0..report.shares.len());
        let share =
            |(server, percent)| Share { server: world.server_name(server), percent: rounded(percent) };
        let mut events: Vec<_> = report.log.iter().take(EVENTS_MAX).cloned().collect();
        if own > 0 {
            let own =
                text::counted(own, "request of the trace has a route", "requests of the trace have routes");
            events.push(format!("{own} without a server"));
        }
        Outcome {
            name,
            algorithm: (name != "ideal").then(|| world.config.pool(world.pool).algorithm.name()),
            requests: report.requests,
            good: report.good,
            failed: report.bad,
            rejected: report.rejected,
            rejections: report.reasons.clone(),
            timed_out: report.timed_out,
            ejections: report.ejections,
            mean_ms: ms(report.mean()),
            p50_ms: ms(report.quantile(0.5)),
            p99_ms: ms(report.quantile(0.99)),
            p99_9_ms: ms(report.quantile(0.999)),
            shares: percent.into_iter().enumerate().map(share).collect(),
            seconds: report.seconds.iter().map(Moment::of).collect(),
            events,
        }
    }
}

impl Moment {
    fn of(second: &Second) -> Self {
        let Second { good, failed, p50, p99 } = *second;
        Moment { good, failed, p50_ms: ms(p50), p99_ms: ms(p99) }
    }
}

fn source(arguments: &Arguments) -> String {
    if let Some(file) = &arguments.trace {
        return file.display().to_string();
    }
    let name = |scenario: &Scenario| scenario.to_possible_value().map(|value| value.get_name().to_owned());
    arguments.scenario.iter().filter_map(name).collect::<Vec<_>>().join(",")
}

fn ms(time: Duration) -> f64 {
    time.as_micros() as f64 / 1e3
}

fn rounded(value: f64) -> f64 {
    (value * 1e3).round() / 1e3
}
