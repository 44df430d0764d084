//! When a server is probed next.

use super::{Health, Record, Rules};
use crate::base::time::Moment;
use std::time::Duration;

/// A server that has never been up is probed this often at first: it may be about to listen, and users notice a start
/// that takes longer than a second.
const NEW_INTERVAL: Duration = Duration::from_millis(200);
/// After this many failed probes (30 s, in which most servers have started) the time between two probes doubles with
/// each, up to the interval.
const NEW_PROBES: u32 = 150;
/// All servers that have never been up are probed at most this many times a second together, unless the interval asks
/// for more: thousands of absent servers must not take a whole processor.
const NEW_PER_SECOND: u32 = 200;

/// When to probe next: the interval with up to 10 % of jitter either way, from `fraction` (0 to 1, random);
/// `fast_interval` while a change is being confirmed, else `down_interval` while the server is down, and sooner for one of
/// the `newcomers`, the servers that have never been up; [`Moment::NEVER`] when probes are disabled.
pub fn next_probe(record: &Record, rules: &Rules, newcomers: usize, fraction: f64, now: Moment) -> Moment {
    if !rules.enabled {
        return Moment::NEVER;
    }
    let confirming = match record.health {
        Health::Starting | Health::Ejected { .. } => true,
        Health::Up => record.failed > 0 || record.live_failed > 0,
        Health::Down => record.passed > 0,
    };
    let interval = match record.health {
        _ if !record.was_up => interval_of_new(record.failed, newcomers).min(rules.down(Duration::MAX)),
        _ if confirming => rules.fast(),
        Health::Down => rules.down(now.since(record.since)),
        _ => rules.interval,
    };
    now.after(interval.mul_f64(0.9 + 0.2 * fraction.clamp(0.0, 1.0)))
}

/// Between two probes of a server that has never been up, before the limit by the interval.
fn interval_of_new(failed: u32, newcomers: usize) -> Duration {
    // 2^16 times 200 ms is more than any interval.
    let doubled = NEW_INTERVAL * (1 << failed.saturating_sub(NEW_PROBES).min(16));
    let fair = Duration::from_secs(1) / NEW_PER_SECOND;
    doubled.max(fair.saturating_mul(u32::try_from(newcomers).unwrap_or(u32::MAX)))
}
