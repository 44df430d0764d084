//! The result of a run, in numbers.

use super::Options;
use super::tally::{Failure, Tally};
use hdrhistogram::Histogram;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// The most distinct error reasons in a summary.
const REASONS_MAX: usize = 5;

/// The result of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// The URL loaded.
    pub url: String,
    /// Connections used at the same time.
    pub connections: usize,
    /// Threads of the load generator.
    pub threads: usize,
    /// The measured time in seconds: the duration asked for, or until the last response.
    pub elapsed_s: f64,
    /// It was ended early by a signal.
    pub interrupted: bool,
    /// Requests started.
    pub started: u64,
    /// Requests with a complete response, whatever the status. `started` minus this and the errors were abandoned when
    /// the run was interrupted.
    pub responses: u64,
    /// Requests that were due by the rate and not started before the end: every connection was busy.
    pub unsent: u64,
    /// Bytes received, heads included, also after the measured time.
    pub received: u64,
    /// Bytes sent, heads included, also after the measured time.
    pub sent: u64,
    /// Responses before the measured time, which count nowhere else.
    pub warm_up_responses: u64,
    /// Bytes in both directions before the measured time.
    pub warm_up_bytes: u64,
    /// Responses within the measured time, per second.
    pub requests_per_s: f64,
    /// Those of them that were 2xx or 3xx, per second.
    pub good_per_s: f64,
    /// Bytes received within the measured time, heads included, per second.
    pub received_per_s: f64,
    /// Bytes sent within the measured time, heads included, per second.
    pub sent_per_s: f64,
    /// Responses by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Requests without a complete response, by kind.
    pub errors: Errors,
    /// The first few distinct error reasons, as text.
    pub reasons: Vec<String>,
    /// Latency of complete responses in microseconds: from the send in the closed loop (from the connect with a
    /// connection per request), from the intended send at a fixed rate.
    pub latency_us: Latency,
    /// The same for the responses that were 2xx or 3xx.
    pub good_latency_us: Latency,
    /// The same for the others: how long a client waits for its rejection.
    pub rejection_latency_us: Latency,
    /// The distribution of the latencies, shortest first.
    pub latency_chart: Vec<Bar>,
    /// Responses by server, if responses name theirs.
    pub servers: BTreeMap<String, u64>,
}

/// Requests without a complete response.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Errors {
    /// The connection could not be made.
    pub connect: u64,
    /// The connection was reset or broke.
    pub reset: u64,
    /// The server closed before its response was complete.
    pub closed_early: u64,
    /// The response was not complete in time.
    pub timeout: u64,
    /// The response was not valid HTTP.
    pub bad_response: u64,
}

/// Quantiles of the latency, in microseconds; zero when there was no response.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[allow(missing_docs, reason = "named by what they are")]
pub struct Latency {
    pub min: f64,
    pub mean: f64,
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub p99_9: f64,
    pub max: f64,
}

/// The responses with a latency in a range.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Bar {
    /// From here on, in microseconds.
    pub from_us: f64,
    /// Up to here, in microseconds.
    pub below_us: f64,
    /// How many.
    pub count: u64,
}

impl Errors {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.by_kind().iter().map(|(_, count)| count).sum()
    }

    /// Each kind as text, with its count.
    pub fn by_kind(&self) -> [(&'static str, u64); 5] {
        [
            ("connect", self.connect),
            ("reset", self.reset),
            ("closed early", self.closed_early),
            ("timeout", self.timeout),
            ("bad response", self.bad_response),
        ]
    }
}

impl Summary {
    /// Why the run was not successful: errors, and responses other than 2xx and 3xx. `None` when it was.
    pub fn complaint(&self) -> Option<String> {
        let bad: u64 =
            self.statuses.iter().filter(|(status, _)| !(200..400).contains(*status)).map(|(_, n)| n).sum();
        let errors = self.errors.total();
        match (errors, bad) {
            (0, 0) if self.responses == 0 => Some("there was no response".to_string()),
            (0, 0) => None,
            (errors, 0) => Some(format!("{errors} requests got no complete response")),
            (0, bad) => Some(format!("{bad} responses were neither 2xx nor 3xx")),
            (errors, bad) => Some(format!(
                "{errors} requests got no complete response, {bad} responses were neither 2xx nor 3xx"
            )),
        }
    }

    pub(super) fn of(
        tally: &Tally,
        options: &Options,
        threads: usize,
        elapsed: Duration,
        interrupted: bool,
    ) -> Self {
        let seconds = elapsed.as_secs_f64().max(1e-9);
        Summary {
            url: options.url.clone(),
            connections: options.connections,
            threads,
            elapsed_s: elapsed.as_secs_f64(),
            interrupted,
            started: tally.started,
            responses: tally.responses,
            unsent: tally.unsent,
            requests_per_s: tally.in_time as f64 / seconds,
            warm_up_responses: tally.warm_up.0,
            warm_up_bytes: tally.warm_up.1,
            good_per_s: tally.good_in_time as f64 / seconds,
            received: tally.received,
            sent: tally.sent,
            received_per_s: tally.received_in_time as f64 / seconds,
            sent_per_s: tally.sent_in_time as f64 / seconds,
            statuses: tally.statuses(),
            errors: errors(&tally.failures),
            reasons: tally.failures.keys().take(REASONS_MAX).map(|failure| reason(*failure)).collect(),
            latency_us: latency(&tally.latencies),
            good_latency_us: latency(&tally.good),
            rejection_latency_us: latency(&tally.rejections),
            latency_chart: chart(&tally.latencies),
            servers: tally.names.counts(),
        }
    }
}

fn errors(failures: &BTreeMap<Failure, u64>) -> Errors {
    let mut errors = Errors::default();
    for (failure, count) in failures {
        *match failure {
            Failure::Connect(_) => &mut errors.connect,
            Failure::Reset(_) => &mut errors.reset,
            Failure::ClosedEarly => &mut errors.closed_early,
            Failure::Timeout => &mut errors.timeout,
            Failure::BadResponse(_) => &mut errors.bad_response,
        } += count;
    }
    errors
}

fn reason(failure: Failure) -> String {
    match failure {
        Failure::Connect(kind) => format!("connect: {kind}"),
        Failure::Reset(kind) => format!("reset: {kind}"),
        Failure::ClosedEarly => {
            "closed early: the server closed before its response was complete".to_string()
        }
        Failure::Timeout => "timeout: the response was not complete in time".to_string(),
        Failure::BadResponse(fault) => format!("bad response: {}", fault.text()),
    }
}

fn latency(latencies: &Histogram<u64>) -> Latency {
    if latencies.is_empty() {
        return Latency::default();
    }
    let quantile = |quantile| latencies.value_at_quantile(quantile) as f64 / 1000.0;
    Latency {
        min: latencies.min() as f64 / 1000.0,
        mean: latencies.mean() / 1000.0,
        p50: quantile(0.5),
        p90: quantile(0.9),
        p99: quantile(0.99),
        p99_9: quantile(0.999),
        max: latencies.max() as f64 / 1000.0,
    }
}

/// Sorts the latencies into ranges of 1, 2 and 5 times powers of ten microseconds.
fn chart(latencies: &Histogram<u64>) -> Vec<Bar> {
    let mut bars: Vec<Bar> = Vec::new();
    for step in latencies.iter_recorded() {
        let value = step.value_iterated_to() as f64 / 1000.0;
        while bars.last().is_none_or(|bar| value >= bar.below_us) {
            let (from_us, below_us) = bars.last().map_or(span_of(value), |bar| span_of(bar.below_us));
            bars.push(Bar { from_us, below_us, count: 0 });
        }
        if let Some(bar) = bars.last_mut() {
            bar.count += step.count_since_last_iteration();
        }
    }
    bars
}

fn span_of(value: f64) -> (f64, f64) {
    let mut edge = 1.0;
    loop {
        for (from, below) in [(1.0, 2.0), (2.0, 5.0), (5.0, 10.0)] {
            if value < below * edge {
                return (
                    if value < 1.0 { 0.0 } else { from * edge },
                    if value < 1.0 { 1.0 } else { below * edge },
                );
            }
        }
        edge *= 10.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_follow_each_other() {
        let check = |value, span| assert_eq!(span_of(value), span);
        check(0.3, (0.0, 1.0));
        check(1.0, (1.0, 2.0));
        check(4.9, (2.0, 5.0));
        check(5.0, (5.0, 10.0));
        check(10.0, (10.0, 20.0));
        check(123_456.0, (100_000.0, 200_000.0));
    }

    #[test]
    fn the_chart_has_every_latency_and_no_gap() {
        let mut latencies = Histogram::new(3).unwrap();
        for micros in [3_u64, 40, 41, 900] {
            latencies.record(micros * 1000).unwrap();
        }
        let bars = chart(&latencies);
        assert_eq!(bars.iter().map(|bar| bar.count).sum::<u64>(), 4);
        assert!(bars.windows(2).all(|pair| pair[0].below_us == pair[1].from_us));
        assert_eq!((bars[0].from_us, bars[bars.len() - 1].below_us), (2.0, 1000.0));
    }
}
