//! The status of a balancer as `status` and `top` show it: what they need of the admin API's JSON, and numbers for people.

use serde::Deserialize;
use std::collections::BTreeMap;
use std::time::Duration;

use crate::base::{text, time};
use crate::state::instance::Instance;

/// `GET /api/v1/status`. What an older balancer does not tell is empty.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Status {
    pub(super) version: String,
    pub(super) instance: Instance,
    pub(super) uptime_s: u64,
    pub(super) draining: bool,
    pub(super) config: Configuration,
    pub(super) threadpool: Threadpool,
    pub(super) pools: Vec<Pool>,
    pub(super) servers: Vec<Server>,
    pub(super) totals: Totals,
}

/// The configuration in use.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Configuration {
    pub(super) last_reload: Option<Reload>,
}

/// How the last reload ended.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Reload {
    /// RFC 3339, in UTC.
    pub(super) at: String,
    pub(super) result: String,
    pub(super) message: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Threadpool {
    pub(super) max: usize,
    pub(super) workers: usize,
    pub(super) in_flight: usize,
    pub(super) queued: usize,
    pub(super) queue_capacity: usize,
    pub(super) waiting: usize,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Pool {
    pub(super) name: String,
    pub(super) algorithm: String,
    pub(super) servers: usize,
    pub(super) ready: usize,
    pub(super) in_flight: u32,
    pub(super) waiting: usize,
    pub(super) queue_capacity: usize,
    pub(super) shadow: Option<Shadow>,
    pub(super) fail_open: Option<FailOpen>,
    pub(super) tiers: Vec<Tier>,
}

/// One of several tiers of a pool: servers of one priority, in the own zone or in others.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Tier {
    pub(super) name: String,
    pub(super) servers: usize,
    pub(super) ready: usize,
    pub(super) share: f64,
}

/// Too few servers of a pool are up, so that others get requests all the same.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct FailOpen {
    pub(super) used: usize,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Shadow {
    pub(super) algorithm: String,
    pub(super) same: u64,
    pub(super) different: u64,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Server {
    pub(super) name: String,
    pub(super) pool: String,
    pub(super) address: String,
    pub(super) member_of: Option<String>,
    pub(super) state: String,
    pub(super) fail_open: bool,
    pub(super) mode: String,
    pub(super) reason: Option<String>,
    pub(super) weight: u16,
    pub(super) slow_start: Option<f64>,
    pub(super) backup: bool,
    pub(super) priority: u8,
    pub(super) zone: Option<String>,
    pub(super) in_flight: u32,
    pub(super) rate: f64,
    pub(super) share: Option<f64>,
    pub(super) ewma_ms: Option<f64>,
    pub(super) last_check: Option<Check>,
    pub(super) last_failed_check: Option<Check>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Check {
    #[serde(rename = "type")]
    pub(super) kind: String,
    /// RFC 3339, in UTC.
    pub(super) at: String,
    pub(super) outcome: String,
    pub(super) took_ms: f64,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Totals {
    pub(super) requests: u64,
    pub(super) responses: BTreeMap<String, u64>,
    pub(super) rejections: BTreeMap<String, u64>,
    pub(super) connections: Connections,
    pub(super) request_ms: Quantiles,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Connections {
    pub(super) open: usize,
    pub(super) tunnels: usize,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Quantiles {
    pub(super) p50: f64,
    pub(super) p90: f64,
    pub(super) p99: f64,
}

/// How a server is doing, for its mark and its colour; what needs the operator most comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Mood {
    Bad,
    Warning,
    Pending,
    Off,
    Good,
}

impl Server {
    /// Why it is in its state: what the operator set, or the reason of its last change.
    pub(super) fn why(&self) -> String {
        // What an agent says is its reason, too; the mode is the operator's.
        match (self.mode.as_str(), &self.reason) {
            ("drain", _) => "drained by the operator".to_owned(),
            ("maint", _) => "taken out by the operator".to_owned(),
            (_, Some(reason)) => plain(reason),
            (_, None) => String::new(),
        }
    }

    /// Where it belongs, in few words each: the name that it is an address of, and what decides on its tier.
    pub(super) fn place(&self) -> Vec<String> {
        let member = self.member_of.as_ref().map(|name| format!("member of {}", plain(name)));
        let backup = self.backup.then(|| "backup".to_owned());
        let priority = (self.priority > 0).then(|| format!("priority {}", self.priority));
        let zone = self.zone.as_ref().map(|zone| format!("zone {}", plain(zone)));
        [member, backup, priority, zone].into_iter().flatten().collect()
    }

    /// How much of its share it gets in its slow start; `None` when it gets all.
    pub(super) fn slow_start_told(&self) -> Option<String> {
        self.slow_start.map(|part| format!("slow start, {:.0} % of its share", part * 100.0))
    }

    /// Its last probe, and the last one that failed, if that is another one; empty before the first.
    pub(super) fn probes(&self) -> String {
        let Some(last) = &self.last_check else { return String::new() };
        let kind = if last.kind.is_empty() { String::new() } else { format!("{} ", plain(&last.kind)) };
        let told = format!("{kind}probe: {} in {}", plain(&last.outcome), millis(last.took_ms));
        match self.last_failed_check.as_ref().filter(|failed| failed.at != last.at) {
            Some(failed) => format!("{told}; failed {}: {}", plain(&failed.at), plain(&failed.outcome)),
            None => told,
        }
    }

    /// How it is doing.
    pub(super) fn mood(&self) -> Mood {
        match self.state.as_str() {
            "up" => Mood::Good,
            "starting" => Mood::Pending,
            "ejected" | "drain" => Mood::Warning,
            "maint" => Mood::Off,
            _ => Mood::Bad,
        }
    }

    /// The mark of its state, which tells it without colours.
    pub(super) fn mark(&self) -> &'static str {
        match self.state.as_str() {
            "up" => "●",
            "starting" => "◌",
            "ejected" => "▲",
            "drain" => "◐",
            "maint" => "■",
            _ => "✕",
        }
    }

    /// Its share of the requests of its pool.
    pub(super) fn share(&self) -> String {
        self.share.map_or_else(|| "-".to_owned(), |share| format!("{:.0} %", share * 100.0))
    }

    /// The estimate of its latency.
    pub(super) fn latency(&self) -> String {
        self.ewma_ms.map_or_else(|| "-".to_owned(), millis)
    }
}

impl Pool {
    /// How many of its servers take requests.
    pub(super) fn ready_told(&self) -> String {
        let used = self.fail_open.as_ref();
        let used = used.map_or_else(String::new, |open| format!(", {} of them not up", open.used));
        format!("{} of {} take requests{used}", self.ready, self.servers)
    }

    /// How many requests wait in its queue, and how many may; `None` when none does.
    pub(super) fn waiting_told(&self) -> Option<String> {
        let (waiting, capacity) = (count(self.waiting as u64), count(self.queue_capacity as u64));
        (self.waiting > 0).then(|| format!("waiting {waiting} of {capacity}"))
    }
}

impl Status {
    /// Whether every pool with servers has one that takes requests.
    pub(super) fn serves(&self) -> bool {
        !self.draining && self.pools.iter().all(|pool| pool.servers == 0 || pool.ready > 0)
    }

    /// The last reload, if it was rejected.
    pub(super) fn failed_reload(&self) -> Option<&Reload> {
        self.config.last_reload.as_ref().filter(|reload| reload.result == "failed")
    }

    /// Version, process, age: which balancer this is.
    pub(super) fn title(&self) -> String {
        let up = time::rounded(Duration::from_secs(self.uptime_s));
        let drains = if self.draining { ", draining" } else { "" };
        let reload = if self.failed_reload().is_some() { ", last reload rejected" } else { "" };
        format!("evenkeel {}, pid {}, up {up}{drains}{reload}", plain(&self.version), self.instance.pid)
    }
}

/// Text of a balancer or of its servers, safe for a terminal.
pub(super) fn plain(text: &str) -> String {
    text::escape(text).to_string()
}

/// A text that is cut to so many characters.
pub(super) fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

/// The same, cut in the middle: names differ at their ends, and an address ends with its port.
pub(super) fn cut_in_the_middle(text: &str, width: usize) -> String {
    let length = text.chars().count();
    if length <= width {
        return text.to_owned();
    }
    let after = width.saturating_sub(1) / 2;
    let before = width.saturating_sub(1 + after);
    text.chars().take(before).chain(['…']).chain(text.chars().skip(length - after)).collect()
}

/// `1,234,567`.
pub(super) fn count(number: impl TryInto<u64>) -> String {
    text::grouped(number.try_into().unwrap_or(0))
}

/// A rate per second: one decimal below ten.
pub(super) fn rate(per_second: f64) -> String {
    match per_second {
        none if none <= 0.0 => "0".to_owned(),
        few if few < 10.0 => format!("{few:.1}"),
        many => count(many.round() as u64),
    }
}

/// A duration in three digits.
pub(super) fn millis(ms: f64) -> String {
    match ms {
        // No response took no time: there was none.
        0.0 => "-".to_owned(),
        ms if ms >= 1000.0 => format!("{:.2} s", ms / 1000.0),
        ms if ms >= 100.0 => format!("{ms:.0} ms"),
        ms if ms >= 10.0 => format!("{ms:.1} ms"),
        ms => format!("{ms:.2} ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_grouped() {
        for (number, text) in [(0u64, "0"), (999, "999"), (1000, "1,000"), (1234567, "1,234,567")] {
            assert_eq!(count(number), text);
        }
        for (number, text) in [(0.0, "0"), (0.25, "0.2"), (9.96, "10.0"), (10.0, "10"), (1234.5, "1,235")] {
            assert_eq!(rate(number), text);
        }
        for (ms, text) in [(0.061, "0.06 ms"), (12.34, "12.3 ms"), (250.4, "250 ms"), (1500.0, "1.50 s")] {
            assert_eq!(millis(ms), text);
        }
    }

    #[test]
    fn what_a_terminal_would_obey_is_escaped_and_long_text_is_cut() {
        assert_eq!(plain("a\u{1b}[31m"), "a\\u{1b}[31m");
        assert_eq!((cut("abc", 3), cut("abcd", 3)), ("abc".to_owned(), "ab…".to_owned()));
        for (text, width, expected) in
            [("abcde", 5, "abcde"), ("abcdef", 5, "ab…ef"), ("abcdef", 4, "ab…f"), ("ab", 1, "…")]
        {
            assert_eq!(cut_in_the_middle(text, width), expected);
        }
    }

    #[test]
    fn a_pool_without_a_server_that_takes_requests_does_not_serve() {
        let pool = |servers, ready| Pool { servers, ready, ..Pool::default() };
        let status = |pools, draining| Status { pools, draining, ..Status::default() };
        assert!(status(vec![pool(0, 0), pool(3, 1)], false).serves());
        assert!(!status(vec![pool(1, 1), pool(3, 0)], false).serves());
        assert!(!status(vec![pool(1, 1)], true).serves());
    }
}
