//! The thread that logs rejected and failed requests: for each reason a line now and then, with a count. It also takes
//! the samples of the last minutes. It compares counters that exist anyway, so it costs nothing per request.

use crate::base::ids::ServerId;
use crate::base::text::grouped;
use crate::base::time::{self, Moment};
use crate::http1::reason::Reason;
use crate::state::events::{Events, Topic};
use crate::state::history::{History, Load};
use crate::state::stats::{Counter, Stats};
use crate::state::table::Table;
use crate::state::tls::failure::HandshakeFailure;
use crate::state::traffic::Traffic;
use crate::state::workers::Workers;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use log::Level;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// The name of the thread.
pub const THREAD: &str = "report";
/// The check interval: the first line about a reason is at most this late.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// Interval of the log lines while a reason persists.
const LOG_INTERVAL: Duration = Duration::from_secs(10);
/// The most servers that a line names.
const NAMED: usize = 5;

/// The state of the thread.
#[derive(Debug)]
pub struct Reporter {
    proxies: Vec<Proxy>,
    sampled: Option<Sampled>,
    events: Arc<Events>,
    stop: Receiver<()>,
}

/// The data plane whose traffic is sampled.
struct Sampled {
    stats: Arc<Stats>,
    table: Arc<Table>,
    workers: Arc<dyn Workers>,
    history: Arc<History>,
}

impl Sampled {
    fn take(&self) {
        let load = Load::of(&*self.workers);
        self.history.sample(&self.stats, &self.table, load, time::now(), time::unix_millis());
    }
}

impl fmt::Debug for Sampled {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Sampled")
    }
}

/// Stops the thread when it is dropped.
#[derive(Debug)]
pub struct Handle {
    _stop: Sender<()>,
}

impl Reporter {
    /// A reporter that watches nothing yet.
    pub fn new() -> (Self, Handle) {
        let (stop, stopped) = bounded(0);
        let reporter = Reporter { proxies: Vec::new(), sampled: None, events: Arc::default(), stop: stopped };
        (reporter, Handle { _stop: stop })
    }

    /// Takes a sample of this data plane at each check.
    pub fn sample(
        &mut self,
        stats: &Arc<Stats>,
        table: &Arc<Table>,
        workers: Arc<dyn Workers>,
        history: Arc<History>,
    ) {
        self.sampled = Some(Sampled { stats: Arc::clone(stats), table: Arc::clone(table), workers, history });
    }

    /// Keeps what is logged as events there, too.
    pub fn tell(&mut self, events: Arc<Events>) {
        self.events = events;
    }

    /// Watches a data plane. The prefix of its lines distinguishes it from others.
    pub fn watch(&mut self, prefix: &'static str, stats: &Arc<Stats>, table: &Arc<Table>) {
        let tally = Tally::new(time::now());
        self.proxies.push(Proxy {
            prefix,
            stats: Arc::clone(stats),
            table: Arc::clone(table),
            tally,
            shares: Shares::default(),
        });
    }

    /// Checks once a second until the handle is dropped, and once more then.
    pub fn run(mut self) {
        self.sampled.iter().for_each(Sampled::take);
        while self.stop.recv_timeout(CHECK_INTERVAL) == Err(RecvTimeoutError::Timeout) {
            self.sampled.iter().for_each(Sampled::take);
            self.proxies.iter_mut().for_each(|proxy| proxy.report(false, &self.events));
        }
        self.proxies.iter_mut().for_each(|proxy| proxy.report(true, &self.events));
    }
}

#[derive(Debug)]
struct Proxy {
    prefix: &'static str,
    stats: Arc<Stats>,
    table: Arc<Table>,
    tally: Tally,
    shares: Shares,
}

impl Proxy {
    fn report(&mut self, is_last: bool, events: &Events) {
        let counts: Vec<_> = Kind::all().map(|kind| (kind, kind.count(&self.stats))).collect();
        let servers = &self.table.snapshot().servers;
        let failures: Vec<_> =
            servers.iter().map(|server| (server.id, server.name.as_str(), server.failures())).collect();
        let pools = self.stats.traffic.each_pool();
        for due in self.tally.look(&counts, &failures, is_last, time::now()) {
            let of_pools = self.shares.since(due.kind, &pools);
            let example = match due.kind {
                Kind::Ended(reason) => self.stats.malformed.take(reason),
                _ => None,
            };
            let example = example.map_or_else(String::new, |example| format!("; one of them: {example}"));
            let line = format!("{}{}{example}", self.prefix, due.line(&of_pools));
            // A client that leaves is no event.
            match due.kind.level() {
                Level::Debug => log::debug!("{line}"),
                level => events.log(Topic::Traffic, level, line),
            }
        }
    }
}

/// What is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Ended(Reason),
    Handshake(HandshakeFailure),
    AccessLinesLost,
    MirrorBodiesTooLong,
    MirrorsDropped,
    ConnectionsEvicted,
}

impl Kind {
    fn all() -> impl Iterator<Item = Kind> {
        let handshakes = HandshakeFailure::ALL.iter().map(|failure| Kind::Handshake(*failure));
        Reason::ALL.iter().map(|reason| Kind::Ended(*reason)).chain(handshakes).chain([
            Kind::AccessLinesLost,
            Kind::MirrorBodiesTooLong,
            Kind::MirrorsDropped,
            Kind::ConnectionsEvicted,
        ])
    }

    fn count(self, stats: &Stats) -> u64 {
        match self {
            Kind::Ended(reason) => stats.rejected(reason),
            Kind::Handshake(failure) => stats.failed_handshakes(failure),
            Kind::AccessLinesLost => stats.total(Counter::AccessLinesDropped),
            Kind::MirrorBodiesTooLong => stats.total(Counter::MirrorBodiesTooLong),
            Kind::MirrorsDropped => stats.total(Counter::MirrorsDropped),
            Kind::ConnectionsEvicted => stats.total(Counter::Evicted),
        }
    }

    /// A client that leaves, or is too slow, requires no action; a rejected one may.
    fn level(self) -> Level {
        match self {
            Kind::Ended(reason) if reason.status() == 499 => Level::Debug,
            Kind::Ended(reason) if reason.status() < 500 => Level::Info,
            Kind::Handshake(_) | Kind::MirrorBodiesTooLong | Kind::MirrorsDropped => Level::Info,
            _ => Level::Warn,
        }
    }

    /// `of_pools` says which pools they were for, where there are several.
    fn line(self, number: u64, period: Duration, failures: &str, of_pools: &str) -> String {
        let (s, seconds) = (if number == 1 { "" } else { "s" }, period.as_secs_f64().round().max(1.0));
        let count = grouped(number);
        let when = format!("in the last {seconds} s");
        if let Kind::Handshake(failure) = self {
            return format!(
                "{count} TLS handshake{s} failed {when}: {}: {}",
                failure.name(),
                failure.sentence()
            );
        }
        let were = if number == 1 { "was" } else { "were" };
        let reason = match self {
            Kind::Ended(reason) => reason,
            Kind::MirrorBodiesTooLong => {
                return format!(
                    "{count} request{s} {were} not mirrored {when}: the body is longer than mirror.body"
                );
            }
            Kind::MirrorsDropped => {
                return format!(
                    "{count} request{s} {were} not mirrored {when}: too many copies are on their way"
                );
            }
            Kind::ConnectionsEvicted => {
                return format!(
                    "{count} idle connection{s} {were} closed {when}, to make room for new ones: see limits.connections and \
                     the limit of open files"
                );
            }
            _ => return format!("{count} line{s} of the access log {were} lost {when}"),
        };
        let (name, status, sentence) = (reason.name(), reason.status(), reason.sentence());
        match status {
            499 => format!("{count} request{s} given up {when}: {name} ({status}{of_pools})"),
            _ if reason.is_of_servers() => {
                format!("{count} request{s} failed {when}: {name} ({status}{of_pools}): {sentence}{failures}")
            }
            _ => format!("{count} request{s} rejected {when}: {name} ({status}{of_pools})"),
        }
    }
}

/// A line that is due.
#[derive(Debug)]
struct Due {
    kind: Kind,
    count: u64,
    period: Duration,
    failures: String,
}

impl Due {
    fn line(&self, of_pools: &str) -> String {
        self.kind.line(self.count, self.period, &self.failures, of_pools)
    }
}

/// Which pool had how many, as far as it was told.
#[derive(Debug, Default)]
struct Shares(HashMap<(String, Kind), u64>);

impl Shares {
    /// The pools that had some since the last time, those with the most first: `, pool api`, or `, pools api 1,200, web 4`.
    /// Where there is one pool it goes without saying.
    fn since(&mut self, kind: Kind, pools: &[(String, Arc<Traffic>)]) -> String {
        let Kind::Ended(reason) = kind else { return String::new() };
        let mut since = Vec::new();
        for (name, traffic) in pools {
            let count = traffic.rejected(reason);
            let told = self.0.insert((name.clone(), kind), count).unwrap_or(0);
            since.push((count.saturating_sub(told), name.as_str()));
        }
        since.retain(|(count, _)| *count > 0);
        since.sort_by(|one, other| other.cmp(one));
        match &since[..] {
            [] => String::new(),
            _ if pools.len() == 1 => String::new(),
            [(_, name)] => format!(", pool {name}"),
            several => {
                let more = if several.len() > NAMED { ", …" } else { "" };
                let each =
                    several.iter().take(NAMED).map(|(count, name)| format!("{name} {}", grouped(*count)));
                format!(", pools {}{more}", each.collect::<Vec<_>>().join(", "))
            }
        }
    }
}

/// What was reported so far.
#[derive(Debug)]
struct Tally {
    told: HashMap<Kind, Told>,
    failures: HashMap<ServerId, u64>,
    begun: Moment,
}

#[derive(Clone, Copy, Debug)]
struct Told {
    count: u64,
    /// The time of the last line.
    at: Option<Moment>,
    /// Since when there is something to report, or nothing.
    since: Moment,
}

impl Tally {
    fn new(begun: Moment) -> Self {
        Tally { told: HashMap::new(), failures: HashMap::new(), begun }
    }

    /// The lines that are due with these counts. At the last check, all remaining ones.
    fn look(
        &mut self,
        counts: &[(Kind, u64)],
        failures: &[(ServerId, &str, u64)],
        is_last: bool,
        now: Moment,
    ) -> Vec<Due> {
        let begun = self.begun;
        let mut due = Vec::new();
        for (kind, count) in counts {
            let told = self.told.entry(*kind).or_insert(Told { count: 0, at: None, since: begun });
            if *count == told.count {
                told.since = now;
            } else if is_last || told.at.is_none_or(|at| now.since(at) >= LOG_INTERVAL) {
                due.push((*kind, count.saturating_sub(told.count), now.since(told.since)));
                *told = Told { count: *count, at: Some(now), since: now };
            }
        }
        let is_of_servers = |kind: &Kind| matches!(kind, Kind::Ended(reason) if reason.is_of_servers());
        let named = match due.iter().any(|(kind, ..)| is_of_servers(kind)) {
            true => self.name_failures(failures),
            false => String::new(),
        };
        let line = |(kind, count, period)| Due { kind, count, period, failures: named.clone() };
        due.into_iter().map(line).collect()
    }

    /// The servers with failures since the last time, those with the most failures first.
    fn name_failures(&mut self, failures: &[(ServerId, &str, u64)]) -> String {
        let before = |id| self.failures.get(id).copied().unwrap_or(0);
        let mut since: Vec<_> =
            failures.iter().map(|(id, name, count)| (count.saturating_sub(before(id)), *name)).collect();
        self.failures = failures.iter().map(|(id, _, count)| (*id, *count)).collect();
        since.retain(|(count, _)| *count > 0);
        since.sort_by(|one, other| other.cmp(one));
        if since.is_empty() {
            return String::new();
        }
        let more = if since.len() > NAMED { ", …" } else { "" };
        let list: Vec<_> = since.iter().take(NAMED).map(|(count, name)| format!("{name} {count}")).collect();
        format!(" Failures by server: {}{more}", list.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::traffic::{Ended, Registry};

    const FULL: Kind = Kind::Ended(Reason::QueueFull);
    const BAD: Kind = Kind::Ended(Reason::BadResponse);

    fn lines(
        tally: &mut Tally,
        second: u64,
        counts: &[(Kind, u64)],
        failures: &[(ServerId, &str, u64)],
    ) -> String {
        let found = tally.look(counts, failures, false, Moment::from_millis(second * 1000));
        found.iter().map(|due| format!("{} {}\n", due.kind.level(), due.line(""))).collect()
    }

    #[test]
    fn a_reason_is_reported_at_once_and_then_every_ten_seconds_while_it_lasts() {
        let mut tally = Tally::new(Moment::START);
        for (second, count, expected) in [
            (1, 0, ""),
            (2, 3, "WARN 3 requests rejected in the last 1 s: queue_full (503)\n"),
            (3, 500, ""),
            (11, 1000, ""),
            (12, 1206, "WARN 1,203 requests rejected in the last 10 s: queue_full (503)\n"),
            (13, 1206, ""),
            (100, 1206, ""),
            (101, 1207, "WARN 1 request rejected in the last 1 s: queue_full (503)\n"),
            (105, 1208, ""),
        ] {
            assert_eq!(lines(&mut tally, second, &[(FULL, count)], &[]), expected, "at {second} s");
        }
        let rest = tally.look(&[(FULL, 1208)], &[], true, Moment::from_millis(105_500));
        assert_eq!(rest.len(), 1, "at the end the rest is reported");
    }

    #[test]
    fn failures_name_their_servers() {
        let (mut tally, id) = (Tally::new(Moment::START), ServerId);
        let failed = [(id(0), "a", 2), (id(1), "b", 40), (id(2), "c", 0)];
        let found = lines(&mut tally, 1, &[(BAD, 42), (FULL, 1)], &failed);
        let sentence = Reason::BadResponse.sentence();
        let expected = format!(
            "WARN 42 requests failed in the last 1 s: bad_response (502): {sentence} Failures by server: b 40, a 2\n\
             WARN 1 request rejected in the last 1 s: queue_full (503)\n"
        );
        assert_eq!(found, expected);
        // A server of the same name, with an id and a count of its own.
        let failed = [(id(0), "a", 2), (id(3), "b", 1)];
        let found = lines(&mut tally, 20, &[(BAD, 43)], &failed);
        assert!(found.ends_with("Failures by server: b 1\n"), "{found}");
    }

    #[test]
    fn each_reason_has_its_level_and_its_line() {
        for kind in Kind::all() {
            let (level, line) = (kind.level(), kind.line(2, CHECK_INTERVAL, "", ""));
            match kind {
                Kind::Handshake(failure) => assert!(line.contains(failure.name()), "{line}"),
                Kind::AccessLinesLost => {
                    assert_eq!(line, "2 lines of the access log were lost in the last 1 s")
                }
                Kind::MirrorBodiesTooLong | Kind::MirrorsDropped => {
                    assert!(line.starts_with("2 requests were not mirrored in the last 1 s: "), "{line}");
                }
                Kind::ConnectionsEvicted => {
                    assert!(
                        line.starts_with("2 idle connections were closed in the last 1 s, to make room"),
                        "{line}"
                    );
                    assert_eq!(level, Level::Warn);
                }
                Kind::Ended(reason) => {
                    assert!(line.contains(&format!("{} ({})", reason.name(), reason.status())), "{line}");
                    assert_eq!(level == Level::Warn, reason.status() >= 500, "{line}");
                }
            }
        }
        assert!(
            Kind::Ended(Reason::ResponseHeadTooLarge).line(1, CHECK_INTERVAL, "", "").contains("limits.head")
        );
    }

    #[test]
    fn lines_name_the_pools_where_there_are_several() {
        let (mut shares, registry) = (Shares::default(), Registry::default());
        let fails = |pool: &str, times: usize| {
            let ended = Ended { reason: Some(Reason::QueueFull), ..Ended::default() };
            (0..times).for_each(|_| registry.pool(pool).ends(0, &ended));
        };
        fails("default", 1);
        assert_eq!(shares.since(FULL, &registry.each_pool()), "");
        fails("api", 1_200);
        assert_eq!(shares.since(FULL, &registry.each_pool()), ", pool api");
        fails("api", 4);
        fails("default", 1_500);
        let of_pools = shares.since(FULL, &registry.each_pool());
        assert_eq!(of_pools, ", pools default 1,500, api 4");
        assert_eq!(shares.since(BAD, &registry.each_pool()), "");
        let line = FULL.line(1_204, LOG_INTERVAL, "", ", pool api");
        assert_eq!(line, "1,204 requests rejected in the last 10 s: queue_full (503, pool api)");
    }

    #[test]
    fn the_last_look_is_when_the_handle_is_dropped() {
        let (mut reporter, handle) = Reporter::new();
        let table = Arc::new(Table::new(crate::policy::pick::Algorithm::RoundRobin, false, None, &[]));
        reporter.watch("", &Arc::default(), &table);
        drop(handle);
        reporter.run();
    }
}
