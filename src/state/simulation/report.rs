//! What a simulation found out.

use std::time::Duration;

/// The result, of requests that came after the warm-up unless said otherwise.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Requests that came.
    pub requests: u64,
    /// Good responses.
    pub good: u64,
    /// Bad responses of servers.
    pub bad: u64,
    /// Requests that were rejected: the queue was full, they waited for too long, or there was no server.
    pub rejected: u64,
    /// Requests whose client waited for too long.
    pub timed_out: u64,
    /// Requests that each server got, in each second from the start: `[second][server]`.
    pub shares: Vec<Vec<u64>>,
    /// What took a server out or put it back, as the log would tell it.
    pub log: Vec<String>,
    /// The times from arrival to good response in microseconds, ascending.
    latencies_us: Vec<u32>,
}

impl Report {
    /// The time that this share of the good responses took at most (0.99: p99); zero where there were none.
    pub fn quantile(&self, share: f64) -> Duration {
        let wanted = (self.latencies_us.len() as f64 * share).ceil() as usize;
        let us = self.latencies_us.get(wanted.saturating_sub(1)).copied().unwrap_or(0);
        Duration::from_micros(u64::from(us))
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

    pub(super) fn responded(&mut self, took_ns: u64) {
        self.good += 1;
        self.latencies_us.push(u32::try_from(took_ns / 1_000).unwrap_or(u32::MAX));
    }

    pub(super) fn finish(&mut self) {
        self.latencies_us.sort_unstable();
    }
}
