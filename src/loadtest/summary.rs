//! The result of a run, in numbers.

use super::Options;
use super::spread::Spread;
use super::tally::{Bad, Failure, Tally};
use crate::base::text;
use hdrhistogram::Histogram;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// The most distinct error reasons in a summary.
const REASONS_MAX: usize = 5;

/// A body is shown up to this length, in characters.
const BODY_SHOWN: usize = 300;

/// The result of a run.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// The URL loaded; the first one if there are several.
    pub url: String,
    /// Connections used at the same time.
    pub connections: usize,
    /// The rate changes during the run.
    pub is_ramp: bool,
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
    /// TLS handshakes, also before and after the measured time.
    pub handshakes: u64,
    /// Those of them that resumed an earlier session.
    pub resumed: u64,
    /// Responses within the measured time, per second.
    pub requests_per_s: f64,
    /// Those of them that were 2xx or 3xx, per second.
    pub good_per_s: f64,
    /// Responses that were 2xx or 3xx.
    pub good: u64,
    /// Complete responses with another status.
    pub rejected: u64,
    /// Bytes received within the measured time, heads included, per second.
    pub received_per_s: f64,
    /// Bytes sent within the measured time, heads included, per second.
    pub sent_per_s: f64,
    /// Responses by status.
    pub statuses: BTreeMap<u16, u64>,
    /// Of the responses, those that Evenkeel gave itself, by its reason, such as `queue_full`.
    pub own_reasons: BTreeMap<String, u64>,
    /// The commonest of the responses with 4xx and 5xx.
    pub commonest_error: Option<BadResponse>,
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
    /// At a fixed rate: how much later than due the generator sent, though a connection was free. It is part of the
    /// latencies. When it is not small, the generator is too slow for the rate.
    pub lateness_us: Latency,
    /// The distribution of the latencies, shortest first.
    pub latency_chart: Vec<Bar>,
    /// The length of a slice of `over_time`, in seconds.
    pub slice_s: f64,
    /// Requests by when they were sent, or due at a fixed rate.
    pub over_time: Vec<Slice>,
    /// Requests by URL, when there are several.
    pub urls: Vec<UrlCounts>,
    /// Responses by server, if responses name theirs.
    pub servers: BTreeMap<String, u64>,
}

/// Responses of one kind, with an example.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BadResponse {
    /// The status.
    pub status: u16,
    /// The reason, if Evenkeel gave the response itself.
    pub reason: Option<String>,
    /// How many.
    pub count: u64,
    /// The beginning of the body of one of them, with control characters escaped.
    pub body: String,
}

/// The requests of a slice of time.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[allow(missing_docs, reason = "as in the summary")]
pub struct Slice {
    /// Its start, in seconds from the start of the measured time.
    pub from_s: f64,
    pub good: u64,
    pub rejected: u64,
    pub failed: u64,
    /// Of good responses, within 1/32, like p99.
    pub p50_us: f64,
    pub p99_us: f64,
}

/// The requests to one URL.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[allow(missing_docs, reason = "as in the summary")]
pub struct UrlCounts {
    /// The method and the URL.
    pub request: String,
    pub good: u64,
    pub rejected: u64,
    pub failed: u64,
    /// Of good responses, within 1/32, like p95 and p99.
    pub p50_us: f64,
    pub p95_us: f64,
    pub p99_us: f64,
}

/// Requests without a complete response.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Errors {
    /// The connection could not be made.
    pub connect: u64,
    /// The TLS handshake failed.
    pub tls: u64,
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
    pub p95: f64,
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
    pub fn by_kind(&self) -> [(&'static str, u64); 6] {
        [
            ("connect", self.connect),
            ("tls", self.tls),
            ("reset", self.reset),
            ("closed early", self.closed_early),
            ("timeout", self.timeout),
            ("bad response", self.bad_response),
        ]
    }
}

fn neither(bad: u64) -> String {
    format!("{} neither 2xx nor 3xx", text::counted(bad, "response was", "responses were"))
}

impl Summary {
    /// Why the run was not successful: errors, and responses other than 2xx and 3xx. `None` when it was.
    pub fn complaint(&self) -> Option<String> {
        let errors = self.errors.total();
        match (errors, self.rejected) {
            (0, 0) if self.responses == 0 => Some("there was no response".to_string()),
            (0, 0) => None,
            (_, 0) => {
                Some(format!("{} no complete response", text::counted(errors, "request got", "requests got")))
            }
            (0, bad) => Some(neither(bad)),
            (errors, bad) => {
                let errors = text::counted(errors, "request got", "requests got");
                Some(format!("{errors} no complete response, {}", neither(bad)))
            }
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
        let names = options.entries.iter().map(|entry| format!("{} {}", entry.method, entry.url));
        Summary {
            url: options.url.clone(),
            connections: options.connections,
            is_ramp: !options.ramp.is_empty(),
            threads,
            elapsed_s: elapsed.as_secs_f64(),
            interrupted,
            started: tally.started,
            responses: tally.responses,
            unsent: tally.unsent,
            requests_per_s: tally.in_time as f64 / seconds,
            warm_up_responses: tally.warm_up.0,
            warm_up_bytes: tally.warm_up.1,
            handshakes: 0,
            resumed: 0,
            good_per_s: tally.good_in_time as f64 / seconds,
            good: tally.good.len(),
            rejected: tally.rejections.len(),
            received: tally.received,
            sent: tally.sent,
            received_per_s: tally.received_in_time as f64 / seconds,
            sent_per_s: tally.sent_in_time as f64 / seconds,
            statuses: tally.statuses(),
            own_reasons: own_reasons(&tally.bad),
            commonest_error: tally.bad.iter().max_by_key(|bad| bad.count).map(shown),
            errors: errors(&tally.failures),
            reasons: tally.failures.keys().take(REASONS_MAX).map(reason).collect(),
            latency_us: latency(&tally.latencies),
            good_latency_us: latency(&tally.good),
            rejection_latency_us: latency(&tally.rejections),
            lateness_us: latency(&tally.lateness),
            latency_chart: chart(&tally.latencies),
            slice_s: tally.slices.length.as_secs_f64(),
            over_time: over_time(tally),
            urls: names.zip(&tally.entries).map(|(name, spread)| url_counts(name, spread)).collect(),
            servers: tally.names.counts(),
        }
    }
}

fn own_reasons(bad: &[Bad]) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for bad in bad {
        if let Some(reason) = &bad.reason {
            *counts.entry(String::from_utf8_lossy(reason).into_owned()).or_default() += bad.count;
        }
    }
    counts
}

/// The body as text that can be shown anywhere.
fn shown(bad: &Bad) -> BadResponse {
    let text = String::from_utf8_lossy(&bad.body);
    let text = text.trim_end();
    let mut body: String = text.chars().take(BODY_SHOWN).collect();
    if body.len() < text.len() {
        body.push('…');
    }
    BadResponse {
        status: bad.status,
        reason: bad.reason.as_ref().map(|reason| String::from_utf8_lossy(reason).into_owned()),
        count: bad.count,
        body: text::escape(&body).to_string(),
    }
}

fn over_time(tally: &Tally) -> Vec<Slice> {
    let slices = tally.slices.slices.iter().enumerate();
    let slice = |(at, spread): (usize, &Spread)| Slice {
        from_s: at as f64 * tally.slices.length.as_secs_f64(),
        good: spread.good,
        rejected: spread.rejected,
        failed: spread.failed,
        p50_us: spread.quantile_us(0.5),
        p99_us: spread.quantile_us(0.99),
    };
    slices.map(slice).collect()
}

fn url_counts(request: String, spread: &Spread) -> UrlCounts {
    UrlCounts {
        request,
        good: spread.good,
        rejected: spread.rejected,
        failed: spread.failed,
        p50_us: spread.quantile_us(0.5),
        p95_us: spread.quantile_us(0.95),
        p99_us: spread.quantile_us(0.99),
    }
}

fn errors(failures: &BTreeMap<Failure, u64>) -> Errors {
    let mut errors = Errors::default();
    for (failure, count) in failures {
        *match failure {
            Failure::Connect(_) => &mut errors.connect,
            Failure::Tls(_) => &mut errors.tls,
            Failure::Reset(_) => &mut errors.reset,
            Failure::ClosedEarly => &mut errors.closed_early,
            Failure::Timeout => &mut errors.timeout,
            Failure::BadResponse(_) => &mut errors.bad_response,
        } += count;
    }
    errors
}

fn reason(failure: &Failure) -> String {
    match failure {
        Failure::Tls(why) => format!("tls: {why}"),
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
        p95: quantile(0.95),
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
    fn a_body_is_truncated_and_cannot_control_a_terminal() {
        let check = |body: &[u8], wanted: &str| {
            let bad = Bad { status: 500, reason: None, count: 1, body: body.into() };
            assert_eq!(shown(&bad).body, wanted);
        };
        check(b"down\n", "down");
        check(b"a\x1b[31m\nb", "a\\u{1b}[31m\\nb");
        check(b"\xff\xfe", "\u{fffd}\u{fffd}");
        check(&[b'x'; 1024], &format!("{}…", "x".repeat(BODY_SHOWN)));
    }

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
