//! What a simulation found out.

use super::Description;
use super::arrivals::nanos;
use std::collections::BTreeMap;
use std::time::Duration;

/// Lines of the log that are kept; further ones are only counted where they are ejections.
const LOG_MAX: usize = 1_000;

/// The result, of requests that came after the warm-up unless said otherwise.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Requests that came.
    pub requests: u64,
    /// Good responses.
    pub good: u64,
    /// Bad responses of servers, and responses that came too late for the balancer.
    pub bad: u64,
    /// Requests that got no server: see `reasons`.
    pub rejected: u64,
    /// Those by reason, by the name that the balancer has for it.
    pub reasons: BTreeMap<&'static str, u64>,
    /// Requests whose client waited for too long.
    pub timed_out: u64,
    /// How often live traffic took a server out, of all balancers and of all the time.
    pub ejections: u64,
    /// Requests that each server got, in each second from the start: `[second][server]`.
    pub shares: Vec<Vec<u64>>,
    /// What took a server out or put it back, as the log would tell it; the first thousand lines.
    pub log: Vec<String>,
    /// The requests by the second in which they came, from the start.
    pub seconds: Vec<Second>,
    /// The times from arrival to good response in microseconds, ascending.
    latencies_us: Vec<u32>,
    /// The same by the second of arrival, until the end.
    by_second_us: Vec<Vec<u32>>,
}

/// Requests that came in one second.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Second {
    /// Good responses.
    pub good: u64,
    /// Bad ones, rejections, and clients that waited for too long.
    pub failed: u64,
    /// p50 of the good ones.
    pub p50: Duration,
    /// p99 of the good ones.
    pub p99: Duration,
}

impl Report {
    pub(super) fn of(description: &Description) -> Self {
        let seconds = description.length.as_secs() as usize + 1;
        Report {
            shares: vec![vec![0; description.servers.len()]; seconds],
            seconds: vec![Second::default(); seconds],
            by_second_us: vec![Vec::new(); seconds],
            ..Report::default()
        }
    }

    /// The time that this share of the good responses took at most (0.99: p99); zero where there were none.
    pub fn quantile(&self, share: f64) -> Duration {
        quantile(&self.latencies_us, share)
    }

    /// The mean of the good responses.
    pub fn mean(&self) -> Duration {
        let sum: u64 = self.latencies_us.iter().map(|us| u64::from(*us)).sum();
        Duration::from_micros(sum / (self.latencies_us.len() as u64).max(1))
    }

    /// Which part of the requests in these seconds each server got, in percent.
    pub fn percent(&self, seconds: std::ops::Range<usize>) -> Vec<f64> {
        let servers = self.shares.first().map_or(0, Vec::len);
        let rows = || self.shares.iter().skip(seconds.start).take(seconds.len());
        let total: u64 = rows().flatten().sum();
        let of = |server: usize| rows().map(|row| row[server]).sum::<u64>();
        (0..servers).map(|server| of(server) as f64 * 100.0 / total.max(1) as f64).collect()
    }

    pub(super) fn sent(&mut self, now_ns: u64, server: usize) {
        if let Some(row) = self.shares.get_mut(second(now_ns)) {
            row[server] += 1;
        }
    }

    pub(super) fn responded(&mut self, came_ns: u64, took_ns: u64) {
        self.good += 1;
        let took_us = u32::try_from(took_ns / 1_000).unwrap_or(u32::MAX);
        if let Some(row) = self.by_second_us.get_mut(second(came_ns)) {
            row.push(took_us);
        }
    }

    pub(super) fn fails(&mut self, came_ns: u64) {
        if let Some(second) = self.seconds.get_mut(second(came_ns)) {
            second.failed += 1;
        }
    }

    pub(super) fn rejects(&mut self, reason: &'static str, came_ns: u64, is_counted: bool) {
        if is_counted {
            self.rejected += 1;
            *self.reasons.entry(reason).or_default() += 1;
            self.fails(came_ns);
        }
    }

    pub(super) fn logs(&mut self, line: impl FnOnce() -> String) {
        if self.log.len() < LOG_MAX {
            self.log.push(line());
        }
    }

    pub(super) fn finish(&mut self) {
        for (mut row, second) in std::mem::take(&mut self.by_second_us).into_iter().zip(&mut self.seconds) {
            row.sort_unstable();
            second.good = row.len() as u64;
            (second.p50, second.p99) = (quantile(&row, 0.5), quantile(&row, 0.99));
            self.latencies_us.append(&mut row);
        }
        self.latencies_us.sort_unstable();
        // The last second is a part of one, or nothing.
        let is_empty = |second: &Second| second.good + second.failed == 0;
        if self.seconds.len() > 1 && self.seconds.last().is_some_and(is_empty) {
            self.seconds.pop();
        }
    }
}

fn quantile(ascending_us: &[u32], share: f64) -> Duration {
    let wanted = (ascending_us.len() as f64 * share).ceil() as usize;
    let us = ascending_us.get(wanted.saturating_sub(1)).copied().unwrap_or(0);
    Duration::from_micros(u64::from(us))
}

fn second(at_ns: u64) -> usize {
    (at_ns / nanos(Duration::from_secs(1))) as usize
}
