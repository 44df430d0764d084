//! The last minutes: one sample of traffic, latency and load per second, for the dashboard and `GET /api/v1/history`, and
//! each server's rate of requests over the last seconds. A thread of the control plane takes the samples; it only
//! compares counters that exist anyway, so requests pay nothing for it.

use super::histogram::Counts;
use super::stats::{Counter, Stats};
use super::table::Table;
use super::workers::Workers;
use crate::base::ids::ServerId;
use crate::base::time::Moment;
use crate::http1::reason::Reason;
use parking_lot::Mutex;
use std::collections::{HashMap, VecDeque};
use std::time::Duration;

/// Samples that are kept: five minutes at one a second, some 60 KB.
const SAMPLES: usize = 300;
/// A server's rate is that of the last ten samples: a few seconds smooth out single bursts, and a change shows soon.
const RATE_SAMPLES: usize = 10;

/// What happened between two moments, about a second apart, and the load at the second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sample {
    /// Grows by one with each sample of this process, from 1.
    pub number: u64,
    /// When it was taken, in milliseconds since 1970.
    pub unix_ms: u64,
    /// How long it covers.
    pub span: Duration,
    /// Finished requests by the class of their response, in the order of [`Sample::CLASSES`].
    pub classes: [u64; Sample::CLASSES.len()],
    /// Requests that were rejected, failed or given up, for any [`Reason`].
    pub reasons: u64,
    /// Requests that were sent again.
    pub retries: u64,
    /// Body bytes from clients.
    pub bytes_in: u64,
    /// Bytes to clients.
    pub bytes_out: u64,
    /// The durations that 50, 90 and 99 % of the requests stayed below, in microseconds; `None` without requests.
    pub quantiles_us: Option<[u64; 3]>,
    /// The load when it was taken.
    pub load: Load,
}

impl Sample {
    /// The classes of responses; `none`: the client left before there was one.
    pub const CLASSES: [(&'static str, Counter); 6] = [
        ("1xx", Counter::Responses1xx),
        ("2xx", Counter::Responses2xx),
        ("3xx", Counter::Responses3xx),
        ("4xx", Counter::Responses4xx),
        ("5xx", Counter::Responses5xx),
        ("none", Counter::ResponsesNone),
    ];
}

/// The load of the data plane at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Workers.
    pub workers: usize,
    /// Exchanges and tunnels.
    pub in_flight: usize,
    /// Connections that wait for a worker.
    pub queued: usize,
    /// Requests that wait for a server.
    pub waiting: usize,
    /// Open client connections.
    pub connections: usize,
}

impl Load {
    /// That of this data plane now.
    pub fn of(workers: &dyn Workers) -> Self {
        Load {
            workers: workers.gauges().workers(),
            in_flight: workers.in_flight(),
            queued: workers.queued(),
            waiting: workers.waiting(),
            connections: workers.connections(),
        }
    }
}

/// Requests per second of a server, over the last seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rate {
    /// Requests that were sent to it.
    pub requests: f64,
    /// Responses of 5xx, and requests that failed with it.
    pub errors: f64,
}

/// The samples of the last minutes. One thread adds to it; all others read.
#[derive(Debug, Default)]
pub struct History {
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    last: Option<Totals>,
    samples: VecDeque<Sample>,
    servers: VecDeque<(Moment, HashMap<ServerId, [u64; 2]>)>,
}

/// All counters at one moment.
#[derive(Debug)]
struct Totals {
    number: u64,
    at: Moment,
    classes: [u64; Sample::CLASSES.len()],
    reasons: u64,
    retries: u64,
    bytes_in: u64,
    bytes_out: u64,
    durations: Counts,
}

impl Totals {
    fn read(stats: &Stats, number: u64, at: Moment) -> Self {
        Totals {
            number,
            at,
            classes: Sample::CLASSES.map(|(_, counter)| stats.total(counter)),
            reasons: Reason::ALL.iter().map(|reason| stats.rejected(*reason)).sum(),
            retries: stats.total(Counter::Retries),
            bytes_in: stats.total(Counter::BytesIn),
            bytes_out: stats.total(Counter::BytesOut),
            durations: stats.durations(),
        }
    }

    fn since(&self, before: &Totals, unix_ms: u64, load: Load) -> Sample {
        let durations = self.durations.since(&before.durations);
        let quantiles = || [0.5, 0.9, 0.99].map(|share| durations.quantile_us(share));
        Sample {
            number: self.number,
            unix_ms,
            span: self.at.since(before.at),
            classes: std::array::from_fn(|class| self.classes[class].saturating_sub(before.classes[class])),
            reasons: self.reasons.saturating_sub(before.reasons),
            retries: self.retries.saturating_sub(before.retries),
            bytes_in: self.bytes_in.saturating_sub(before.bytes_in),
            bytes_out: self.bytes_out.saturating_sub(before.bytes_out),
            quantiles_us: (durations.count() > 0).then(quantiles),
            load,
        }
    }
}

impl History {
    /// Takes a sample. The first call only remembers where the counters stand.
    pub fn sample(&self, stats: &Stats, table: &Table, load: Load, now: Moment, unix_ms: u64) {
        let mut kept = self.kept.lock();
        let number = kept.last.as_ref().map_or(0, |last| last.number + 1);
        let totals = Totals::read(stats, number, now);
        if let Some(before) = kept.last.replace(totals) {
            let sample = kept.last.as_ref().map(|totals| totals.since(&before, unix_ms, load));
            kept.samples.extend(sample);
        }
        let servers = &table.snapshot().servers;
        let counts = servers.iter().map(|server| (server.id, [server.requests(), server.totals().errors]));
        kept.servers.push_back((now, counts.collect()));
        let (excess, older) =
            (kept.samples.len().saturating_sub(SAMPLES), kept.servers.len().saturating_sub(RATE_SAMPLES + 1));
        kept.samples.drain(..excess);
        kept.servers.drain(..older);
    }

    /// The samples with a number above this one, the oldest first.
    pub fn after(&self, number: u64) -> Vec<Sample> {
        let kept = self.kept.lock();
        let begin = kept.samples.partition_point(|sample| sample.number <= number);
        kept.samples.range(begin..).copied().collect()
    }

    /// The rate of each server that was there at the last sample.
    pub fn rates(&self) -> HashMap<ServerId, Rate> {
        let kept = self.kept.lock();
        let Some((at, last)) = kept.servers.back() else { return HashMap::new() };
        let rate = |(id, counts): (&ServerId, &[u64; 2])| {
            // A server that is new since counts from when it was first seen.
            let first = kept.servers.iter().find_map(|(at, counts)| Some((*at, *counts.get(id)?)));
            let (since, before) = first.unwrap_or((*at, *counts));
            let seconds = at.since(since).as_secs_f64();
            let per_second = |which: usize| match seconds > 0.0 {
                true => counts[which].saturating_sub(before[which]) as f64 / seconds,
                false => 0.0,
            };
            (*id, Rate { requests: per_second(0), errors: per_second(1) })
        };
        last.iter().map(rate).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::PoolId;
    use crate::policy::pick::Algorithm;
    use crate::state::config::ServerSpec;
    use crate::state::stats::Outcome;

    fn table() -> Table {
        Table::new(Algorithm::RoundRobin, false, None, &[spec("a", 1)])
    }

    fn spec(name: &str, port: u16) -> ServerSpec {
        ServerSpec::new(name, format!("127.0.0.1:{port}").parse().unwrap())
    }

    fn at(seconds: u64) -> Moment {
        Moment::from_millis(seconds * 1000)
    }

    fn ends(stats: &Stats, count: u64, status: u16, ms: u64) {
        for _ in 0..count {
            stats.shard(1).ends(Outcome { status: Some(status), bytes: 10, reason: None });
            stats.shard(1).duration.record(Duration::from_millis(ms));
        }
    }

    #[test]
    fn a_sample_is_what_came_since_the_one_before() {
        let (history, stats, table) = (History::default(), Stats::default(), table());
        ends(&stats, 100, 200, 900);
        history.sample(&stats, &table, Load::default(), at(1), 1_000);
        assert_eq!(history.after(0), [], "what came before the first look has no time");
        ends(&stats, 9, 200, 1);
        ends(&stats, 1, 503, 100);
        let load = Load { workers: 3, ..Load::default() };
        history.sample(&stats, &table, load, at(2), 2_000);
        history.sample(&stats, &table, load, at(3), 3_000);
        let samples = history.after(0);
        let [busy, idle] = samples[..] else { panic!("{samples:?}") };
        assert_eq!((busy.number, busy.unix_ms, busy.span), (1, 2_000, Duration::from_secs(1)));
        assert_eq!((busy.classes, busy.bytes_out, busy.load.workers), ([0, 9, 0, 0, 1, 0], 100, 3));
        let [p50, p90, p99] = busy.quantiles_us.unwrap();
        assert!(p50 < 2_000 && p90 < 2_000 && (100_000..125_000).contains(&p99), "{p50} {p90} {p99}");
        assert_eq!((idle.classes, idle.quantiles_us), ([0; 6], None));
        assert_eq!(history.after(1), [idle]);
    }

    #[test]
    fn five_minutes_are_kept_however_long_it_runs() {
        let (history, stats, table) = (History::default(), Stats::default(), table());
        (0..1_000).for_each(|second| {
            history.sample(&stats, &table, Load::default(), at(second), second * 1_000);
        });
        let samples = history.after(0);
        assert_eq!((samples.len(), samples[0].number, samples[SAMPLES - 1].number), (SAMPLES, 700, 999));
    }

    #[test]
    fn a_server_s_rate_is_that_of_the_last_seconds() {
        let (history, stats, table) = (History::default(), Stats::default(), table());
        let look = |second: u64| history.sample(&stats, &table, Load::default(), at(second), 0);
        let send = |name: &str, count: u64| {
            let server = table.find(name).unwrap();
            (0..count).for_each(|_| {
                server.lease(at(0)).unwrap().responded(false, Duration::ZERO, at(0));
            });
        };
        let rate = |name: &str| history.rates().get(&table.find(name).unwrap().id).copied();
        assert_eq!(rate("a"), None);
        look(0);
        assert_eq!(rate("a"), Some(Rate::default()));
        send("a", 20);
        look(2);
        assert_eq!(rate("a"), Some(Rate { requests: 10.0, errors: 10.0 }));
        table.add(PoolId::default(), &spec("b", 2)).unwrap();
        look(3);
        send("b", 7);
        look(4);
        assert_eq!((rate("a").unwrap().requests, rate("b").unwrap().requests), (5.0, 7.0));
        (5..20).for_each(look);
        assert_eq!(rate("a"), Some(Rate::default()), "that is long past");
    }
}
