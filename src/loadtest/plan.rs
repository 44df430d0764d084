//! What all drivers of a run share: where to connect, what to send, and when.

use super::pace::Pace;
use super::secure::Client;
use super::target::Request;
use crate::base::time::Moment;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

/// Shared by all drivers of a run.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) origins: Vec<Origin>,
    pub(super) mix: Mix,
    pub(super) keep_alive: bool,
    pub(super) timeout: Duration,
    /// When the first request is sent.
    pub(super) begun: Moment,
    /// When counting starts; later than `begun` by the warm-up.
    pub(super) start: Moment,
    /// No request is started from here on; [`Moment::NEVER`] when only the number of requests ends the run.
    pub(super) end: Moment,
    /// Set to end early.
    pub(super) stop: Arc<AtomicBool>,
    /// Responses so far, for the progress bar.
    pub(super) progress: Arc<AtomicU64>,
}

impl Plan {
    /// TLS handshakes so far, and how many of them resumed a session; those of connections that have ended.
    pub(super) fn handshakes(&self) -> (u64, u64) {
        let counts = self.origins.iter().filter_map(|origin| origin.tls.as_ref()).map(Client::handshakes);
        counts.fold((0, 0), |(all, resumed), one| (all + one.0, resumed + one.1))
    }
}

/// Where connections lead.
#[derive(Debug)]
pub(super) struct Origin {
    pub(super) address: SocketAddr,
    /// For `https://`.
    pub(super) tls: Option<Client>,
}

/// The part of the run for one driver.
#[derive(Debug)]
pub(super) struct Share {
    /// The number of the driver.
    pub(super) number: usize,
    pub(super) connections: usize,
    /// Requests to start, if their number is limited.
    pub(super) requests: Option<u64>,
    pub(super) pace: Pace,
}

/// The requests, by weight.
#[derive(Debug)]
pub(super) struct Mix {
    pub(super) entries: Vec<Entry>,
    /// For each entry the share of it and of all before it.
    until: Vec<f64>,
}

/// One request of the mix, and the number of the origin that gets it.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) request: Request,
    pub(super) origin: usize,
}

impl Mix {
    /// At least one entry, each with a weight of at least 1.
    pub(super) fn new(entries: Vec<(Entry, u32)>) -> Mix {
        let all: f64 = entries.iter().map(|(_, weight)| f64::from(*weight)).sum();
        let mut sum = 0.0;
        let (entries, until) = entries
            .into_iter()
            .map(|(entry, weight)| {
                sum += f64::from(weight) / all;
                (entry, sum)
            })
            .unzip();
        Mix { entries, until }
    }

    /// The entry of a driver's request number `number`. Multiples of the golden ratio are spread evenly over 0 to 1, so
    /// every few requests already have the weights, without a pattern that repeats.
    pub(super) fn entry(&self, number: u64) -> usize {
        const GOLDEN: f64 = 0.618_033_988_749_894_9;
        if self.entries.len() == 1 {
            return 0;
        }
        let at = (number as f64 * GOLDEN).fract();
        self.until.partition_point(|until| *until <= at).min(self.entries.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Options;
    use super::super::target::Target;
    use super::*;

    #[test]
    fn entries_come_by_weight_and_soon() {
        let check = |weights: &[u32], requests: u64| {
            let entry = || {
                let request =
                    Request::build(&Target::parse("http://a/").unwrap(), &Options::new("http://a/"));
                Entry { request: request.unwrap(), origin: 0 }
            };
            let mix = Mix::new(weights.iter().map(|weight| (entry(), *weight)).collect());
            let mut counts = vec![0.0; weights.len()];
            (0..requests).for_each(|number| counts[mix.entry(number)] += 1.0);
            let all: u32 = weights.iter().sum();
            for (count, weight) in counts.iter().zip(weights) {
                let due = requests as f64 * f64::from(*weight) / f64::from(all);
                assert!((count - due).abs() <= 3.0, "{counts:?} for {weights:?}");
            }
        };
        check(&[1], 7);
        check(&[1, 1], 100);
        check(&[8, 1, 1], 1_000);
        check(&[1, 99, 900], 1_000);
    }
}
