//! Overload: an open load of 1, 2, 4 and 8 times the capacity of the servers.
//!
//! The servers have a known capacity ([`super::slots`]): 20 slots of 20 ms, and a queue of 100 that rejects all further
//! requests. Requests are sent on a schedule, independent of responses, over as many connections as requests in 1.2
//! seconds, so that no client has to wait for a connection; a latency counts from the moment a request was due. Each
//! proxy may have 25 requests in flight with the servers, a quarter more than there are slots: Evenkeel by
//! `max_workers`, HAProxy by `maxconn` with `timeout queue`, nginx by `max_conns`, behind which its open source version
//! has no queue.

use super::arguments::Arguments;
use super::origin::Origin;
use super::process;
use super::proxy::{Kind, Proxy};
use super::result::{Overload, OverloadSample, Report};
use super::settings::Setup;
use super::{slots, steady, table};
use evenkeel::loadtest::{Options, Summary, measure};
use std::time::Duration;

/// The name of the workload.
pub const NAME: &str = "overload";
/// Evenkeel's goodput at each factor is at least this share of its peak.
pub const FLAT: f64 = 0.95;
/// 99 of 100 rejections arrive within this time.
pub const REJECTED_WITHIN_US: f64 = 50_000.0;
/// So do good responses: Evenkeel's `threadpool.queue_timeout`.
pub const RESPONSE_WITHIN_US: f64 = 5_000_000.0;

const FACTORS: [f64; 4] = [1.0, 2.0, 4.0, 8.0];
/// Evenkeel's queue per slot: four times its workers.
const QUEUE: usize = 5;
/// A process cannot have more connections than descriptors.
const CONNECTIONS_MAX: f64 = 9600.0;
/// One connection for each request in this time, in seconds: longer than any response takes.
const CONNECTIONS_FOR_S: f64 = 1.2;
const LAST_MOMENT_S: f64 = 0.002;
const WARM_UP: Duration = Duration::from_secs(2);
/// Queues take some time to fill and to settle, so a round is longer than that of a steady load.
const LONGER: f64 = 2.0;
/// More rounds add little information here.
const ROUNDS_MAX: usize = 3;

/// Measures all proxies at all factors, and prints the results.
pub fn run(arguments: &Arguments, kinds: &[Kind], report: &mut Report) -> Result<(), String> {
    let origin = Origin::with_slots(1, arguments.slots)?;
    let capacity = slots::capacity(arguments.slots);
    let queue_capacity = arguments.queue.unwrap_or(QUEUE * arguments.slots);
    let limit = Some(arguments.slots + arguments.slots / 4);
    let setup = Setup { limit, queue_capacity, ..Setup::default() };
    let proxies = steady::start_all(kinds, &origin, setup, report);
    let duration = Duration::from_secs_f64(arguments.seconds * LONGER);
    for factor in FACTORS {
        let row = |proxy: &Proxy| Overload {
            proxy: proxy.kind.name().to_string(),
            factor,
            offered_per_s: factor * capacity,
            samples: Vec::new(),
        };
        let mut rows: Vec<Overload> = proxies.iter().map(row).collect();
        for round in 0..arguments.rounds.min(ROUNDS_MAX) {
            for turn in 0..proxies.len() {
                let number = (round + turn) % proxies.len();
                rows[number].samples.push(offer(&proxies[number], factor * capacity, duration)?);
            }
        }
        report.overload.extend(rows);
    }
    table::print_overload(report);
    Ok(())
}

fn offer(proxy: &Proxy, rate: f64, duration: Duration) -> Result<OverloadSample, String> {
    process::reset_peak(&proxy.pids());
    let before = process::usage(&proxy.pids());
    let summary = measure(&Options {
        rate: Some(rate),
        connections: (rate * CONNECTIONS_FOR_S).min(CONNECTIONS_MAX) as usize,
        duration: Some(duration),
        warm_up: WARM_UP,
        timeout: Duration::from_secs(10),
        ..Options::new(&format!("http://{}/work", proxy.address))
    })?;
    let cpu_s = process::usage(&proxy.pids()).cpu_s - before.cpu_s;
    let rejected = rejected(&summary);
    Ok(OverloadSample {
        good_per_s: summary.good_per_s,
        good_p50_us: summary.good_latency_us.p50,
        good_p99_us: summary.good_latency_us.p99,
        rejected_share: rejected as f64 / summary.responses.max(1) as f64,
        rejected_p50_us: summary.rejection_latency_us.p50,
        rejected_p99_us: summary.rejection_latency_us.p99,
        // Requests that were due just before the end were not started, which is not a fault.
        lost: summary.errors.total() + summary.unsent.saturating_sub((rate * LAST_MOMENT_S) as u64),
        statuses: statuses(&summary),
        cpu_us_per_request: cpu_s * 1e6 / (summary.responses + summary.warm_up_responses).max(1) as f64,
        memory: process::memory(&proxy.pids()),
    })
}

fn rejected(summary: &Summary) -> u64 {
    let bad = summary.statuses.iter().filter(|(status, _)| !(200..400).contains(*status));
    bad.map(|(_, count)| count).sum()
}

/// Responses by status, and requests without a response.
fn statuses(summary: &Summary) -> String {
    let responses = summary.statuses.iter().map(|(status, count)| format!("{status}: {count}"));
    let errors = summary.errors.by_kind().into_iter().filter(|(_, count)| *count > 0);
    let errors = errors.map(|(kind, count)| format!("{kind}: {count}"));
    let unsent = (summary.unsent > 0).then(|| format!("not sent: {}", summary.unsent));
    responses.chain(errors).chain(unsent).collect::<Vec<_>>().join(", ")
}

/// The guarantees that Evenkeel violated.
pub fn broken_promises(report: &Report) -> Vec<String> {
    let ours = || report.overload.iter().filter(|row| row.proxy == "evenkeel");
    let goodput = |row: &Overload| row.median(|sample| sample.good_per_s);
    let peak = ours().map(goodput).fold(0.0, f64::max);
    let mut broken = Vec::new();
    for row in ours() {
        let factor = row.factor;
        let mut say = |is_broken: bool, what: String| {
            if is_broken {
                broken.push(format!("evenkeel at {factor} times the capacity: {what}"));
            }
        };
        let (good, responses) = (goodput(row), row.median(|sample| sample.good_p99_us));
        let rejected = row.median(|sample| sample.rejected_p99_us);
        let lost: u64 = row.samples.iter().map(|sample| sample.lost).sum();
        say(good < FLAT * peak, format!("goodput is {:.0} % of its peak", good / peak * 100.0));
        say(responses > RESPONSE_WITHIN_US, format!("p99 of the good responses is {:.1} s", responses / 1e6));
        say(rejected > REJECTED_WITHIN_US, format!("p99 of the time to a 503 is {:.0} ms", rejected / 1e3));
        say(lost > 0, format!("{lost} requests got no response"));
    }
    broken
}
