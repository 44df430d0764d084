//! `GET /api/v1/history` and `GET /api/v1/events`: the last minutes. Both take `?since=N` with the `next` of the response
//! before, and then return only what is new.

use super::View;
use super::status::{rounded, unix_rfc3339};
use crate::state::events::Event;
use crate::state::history::Sample;
use serde::Serialize;
use std::collections::BTreeMap;

/// `GET /api/v1/history`.
#[derive(Debug, Serialize)]
pub(super) struct History {
    /// For the next `?since=`.
    next: u64,
    /// The oldest first, one a second.
    samples: Vec<Second>,
}

#[derive(Debug, Serialize)]
struct Second {
    at_ms: u64,
    span_ms: u64,
    requests: u64,
    responses: BTreeMap<&'static str, u64>,
    rejections: u64,
    retries: u64,
    bytes_in: u64,
    bytes_out: u64,
    /// Null in a second without requests.
    request_ms: Option<Quantiles>,
    workers: usize,
    in_flight: usize,
    queued: usize,
    waiting: usize,
    connections: usize,
}

#[derive(Debug, Serialize)]
struct Quantiles {
    p50: f64,
    p90: f64,
    p99: f64,
}

/// `GET /api/v1/events`.
#[derive(Debug, Serialize)]
pub(super) struct Events {
    /// For the next `?since=`.
    next: u64,
    /// The oldest first.
    events: Vec<Happened>,
}

#[derive(Debug, Serialize)]
struct Happened {
    number: u64,
    /// RFC 3339, in UTC.
    at: String,
    at_ms: u64,
    /// `health`, `change`, `reload`, `traffic` or `balancer`.
    topic: &'static str,
    /// `error`, `warn` or `info`.
    level: String,
    text: String,
}

/// The samples after the one with this number.
pub(super) fn history(view: &View, since: u64) -> History {
    let samples = view.history.after(since);
    let next = samples.last().map_or(since, |sample| sample.number);
    History { next, samples: samples.iter().map(second).collect() }
}

fn second(sample: &Sample) -> Second {
    let ms = |us: u64| rounded(us as f64 / 1000.0);
    Second {
        at_ms: sample.unix_ms,
        span_ms: sample.span.as_millis() as u64,
        requests: sample.classes.iter().sum(),
        responses: Sample::CLASSES.iter().map(|(name, _)| *name).zip(sample.classes).collect(),
        rejections: sample.reasons,
        retries: sample.retries,
        bytes_in: sample.bytes_in,
        bytes_out: sample.bytes_out,
        request_ms: sample.quantiles_us.map(|[p50, p90, p99]| Quantiles {
            p50: ms(p50),
            p90: ms(p90),
            p99: ms(p99),
        }),
        workers: sample.load.workers,
        in_flight: sample.load.in_flight,
        queued: sample.load.queued,
        waiting: sample.load.waiting,
        connections: sample.load.connections,
    }
}

/// The events after the one with this number.
pub(super) fn events(view: &View, since: u64) -> Events {
    let events = view.events.after(since);
    let next = events.last().map_or(since, |event| event.number);
    Events { next, events: events.into_iter().map(happened).collect() }
}

fn happened(event: Event) -> Happened {
    Happened {
        number: event.number,
        at: unix_rfc3339(event.unix_ms / 1000),
        at_ms: event.unix_ms,
        topic: event.topic.name(),
        level: event.level.as_str().to_ascii_lowercase(),
        text: event.line,
    }
}
