//! The counts of one driver, without an allocation per request.

use super::response::{Fault, Response, reason_in};
use super::spread::{End, Slices, Spread};
use crate::base::time::Moment;
use hdrhistogram::Histogram;
use std::collections::BTreeMap;

/// Latencies are kept in nanoseconds, with three digits, up to ten minutes.
const LATENCY_MAX: u64 = 600 * 1_000_000_000;
/// The most server names that are distinguished; responses of further ones are not counted by server.
const NAMES_MAX: usize = 1000;

/// The most kinds of bad responses that are told apart.
const KINDS_MAX: usize = 100;

/// Why a request got no response.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Failure {
    Connect(std::io::ErrorKind),
    /// The handshake failed, with the reason.
    Tls(String),
    Reset(std::io::ErrorKind),
    ClosedEarly,
    Timeout,
    BadResponse(Fault),
}

/// Responses of one status and, if they are Evenkeel's own, of one reason.
#[derive(Clone, Debug)]
pub(super) struct Bad {
    pub(super) status: u16,
    pub(super) reason: Option<Box<[u8]>>,
    pub(super) count: u64,
    /// The beginning of the first body.
    pub(super) body: Box<[u8]>,
}

/// A request that ended: which of the mix, and when it began.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) entry: usize,
    /// From here its latency counts.
    pub(super) begun: Moment,
    pub(super) now: Moment,
    /// It ends within the measured time.
    pub(super) in_time: bool,
}

/// The counts of one driver.
pub(super) struct Tally {
    pub(super) latencies: Histogram<u64>,
    /// Of responses that were neither 2xx nor 3xx; they are in `latencies`, too.
    pub(super) rejections: Histogram<u64>,
    /// Of the others.
    pub(super) good: Histogram<u64>,
    statuses: [u64; 600],
    pub(super) failures: BTreeMap<Failure, u64>,
    /// Responses of 4xx and 5xx.
    pub(super) bad: Vec<Bad>,
    pub(super) names: Names,
    /// By entry of the mix.
    pub(super) entries: Vec<Spread>,
    pub(super) slices: Slices,
    /// How much later than due the generator sent, though a connection was free.
    pub(super) lateness: Histogram<u64>,
    pub(super) started: u64,
    pub(super) responses: u64,
    /// Responses before the end of the measured time.
    pub(super) in_time: u64,
    /// Those of them that were 2xx or 3xx.
    pub(super) good_in_time: u64,
    pub(super) received: u64,
    pub(super) sent: u64,
    /// The part of them transferred before the end of the measured time.
    pub(super) received_in_time: u64,
    pub(super) sent_in_time: u64,
    /// Responses, and bytes in both directions, of the warm-up.
    pub(super) warm_up: (u64, u64),
    /// Requests that were due and found no free connection before the end.
    pub(super) unsent: u64,
    pub(super) last_response: Moment,
}

impl Tally {
    /// Nothing counted yet, for a mix of so many entries that is measured from `start` on.
    pub(super) fn new(entries: usize, start: Moment) -> Result<Self, String> {
        let histogram = || {
            let made = Histogram::new_with_bounds(1, LATENCY_MAX, 3);
            made.map_err(|error| format!("no histogram: {error}"))
        };
        Ok(Tally {
            latencies: histogram()?,
            rejections: histogram()?,
            good: histogram()?,
            statuses: [0; 600],
            failures: BTreeMap::new(),
            bad: Vec::new(),
            names: Names::default(),
            entries: vec![Spread::default(); entries],
            slices: Slices::new(start),
            lateness: histogram()?,
            started: 0,
            responses: 0,
            in_time: 0,
            good_in_time: 0,
            received: 0,
            sent: 0,
            received_in_time: 0,
            sent_in_time: 0,
            warm_up: (0, 0),
            unsent: 0,
            last_response: Moment::START,
        })
    }

    /// Counts a complete response.
    pub(super) fn response(&mut self, response: &Response, asked: Asked) {
        let status = response.status();
        let is_good = (200..400).contains(&status);
        let took = asked.now.since(asked.begun);
        self.responses += 1;
        self.in_time += u64::from(asked.in_time);
        self.good_in_time += u64::from(asked.in_time && is_good);
        self.statuses[usize::from(status).min(599)] += 1;
        let nanos = (took.as_nanos() as u64).max(1);
        self.latencies.saturating_record(nanos);
        if is_good { &mut self.good } else { &mut self.rejections }.saturating_record(nanos);
        self.last_response = asked.now;
        if let Some(server) = response.server() {
            self.names.0[server].1 += 1;
        }
        if status >= 400 {
            self.bad(status, response.excerpt(), 1);
        }
        self.end(asked, if is_good { End::Good } else { End::Rejected });
    }

    /// Counts a request without a response.
    pub(super) fn failure(&mut self, failure: Failure, asked: Asked) {
        self.stray(failure);
        self.end(asked, End::Failed);
    }

    /// Counts a failure of a connection without a request.
    pub(super) fn stray(&mut self, failure: Failure) {
        *self.failures.entry(failure).or_default() += 1;
    }

    fn end(&mut self, asked: Asked, end: End) {
        let took = asked.now.since(asked.begun);
        // One URL has the counts of all.
        if self.entries.len() > 1 {
            self.entries[asked.entry].count(end, took);
        }
        self.slices.count(asked.begun, end, took);
    }

    fn bad(&mut self, status: u16, body: &[u8], count: u64) {
        let reason = reason_in(body);
        let known = |bad: &&mut Bad| bad.status == status && bad.reason.as_deref() == reason;
        if let Some(bad) = self.bad.iter_mut().find(known) {
            bad.count += count;
        } else if self.bad.len() < KINDS_MAX {
            self.bad.push(Bad { status, reason: reason.map(Box::from), count, body: body.into() });
        }
    }

    /// Resets all counts. The names keep their numbers, because responses being received refer to them.
    pub(super) fn forget(&mut self) {
        self.warm_up = (self.responses, self.received + self.sent);
        for histogram in [&mut self.latencies, &mut self.rejections, &mut self.good, &mut self.lateness] {
            histogram.reset();
        }
        self.bad.clear();
        self.entries.fill(Spread::default());
        self.slices.slices.clear();
        self.statuses = [0; 600];
        self.failures.clear();
        self.names.0.iter_mut().for_each(|(_, count)| *count = 0);
        for count in [&mut self.started, &mut self.responses, &mut self.in_time, &mut self.good_in_time] {
            *count = 0;
        }
        (self.received, self.sent, self.received_in_time, self.sent_in_time) = (0, 0, 0, 0);
    }

    /// The statuses that occurred.
    pub(super) fn statuses(&self) -> BTreeMap<u16, u64> {
        let counted = |(status, count): (usize, &u64)| (*count > 0).then_some((status as u16, *count));
        self.statuses.iter().enumerate().filter_map(counted).collect()
    }

    /// Adds the counts of another driver.
    pub(super) fn add(&mut self, other: &Tally) -> Result<(), String> {
        for (mine, theirs) in [
            (&mut self.latencies, &other.latencies),
            (&mut self.rejections, &other.rejections),
            (&mut self.good, &other.good),
            (&mut self.lateness, &other.lateness),
        ] {
            mine.add(theirs).map_err(|error| format!("histograms differ: {error}"))?;
        }
        for bad in &other.bad {
            self.bad(bad.status, &bad.body, bad.count);
        }
        for (mine, theirs) in self.entries.iter_mut().zip(&other.entries) {
            mine.add(theirs);
        }
        self.slices.add(&other.slices);
        for (mine, theirs) in self.statuses.iter_mut().zip(other.statuses) {
            *mine += theirs;
        }
        for (failure, count) in &other.failures {
            *self.failures.entry(failure.clone()).or_default() += count;
        }
        for (name, count) in &other.names.0 {
            if let Some(number) = self.names.number(name) {
                self.names.0[number].1 += count;
            }
        }
        self.started += other.started;
        self.responses += other.responses;
        self.in_time += other.in_time;
        self.good_in_time += other.good_in_time;
        self.received += other.received;
        self.sent += other.sent;
        self.received_in_time += other.received_in_time;
        self.sent_in_time += other.sent_in_time;
        self.warm_up = (self.warm_up.0 + other.warm_up.0, self.warm_up.1 + other.warm_up.1);
        self.unsent += other.unsent;
        self.last_response = self.last_response.max(other.last_response);
        Ok(())
    }
}

/// The names of the servers seen, numbered in order of appearance, with their responses.
#[derive(Debug, Default)]
pub(super) struct Names(Vec<(Box<[u8]>, u64)>);

impl Names {
    /// The number of a name. For a handful of servers a linear search is faster than hashing.
    pub(super) fn number(&mut self, name: &[u8]) -> Option<usize> {
        let known = self.0.iter().position(|(known, _)| **known == *name);
        if known.is_none() && self.0.len() < NAMES_MAX {
            self.0.push((name.into(), 0));
            return Some(self.0.len() - 1);
        }
        known
    }

    /// The name with this number.
    #[cfg(test)]
    pub(super) fn name(&self, number: usize) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.0[number].0)
    }

    /// The number of responses of each server.
    pub(super) fn counts(&self) -> BTreeMap<String, u64> {
        self.0.iter().map(|(name, count)| (String::from_utf8_lossy(name).into_owned(), *count)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const SENT: Moment = Moment::from_millis(1);

    fn asked(in_time: bool) -> Asked {
        Asked { entry: 0, begun: SENT, now: SENT.after(Duration::from_micros(5)), in_time }
    }

    /// Counts a whole response.
    fn respond(tally: &mut Tally, status: u16, server: &str, body: &str, in_time: bool) {
        let mut response = Response::new();
        let text = format!(
            "HTTP/1.1 {status} X\r\nX-Served-By: {server}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        assert_eq!(response.feed(text.as_bytes(), &mut tally.names), Ok(true));
        tally.response(&response, asked(in_time));
    }

    #[test]
    fn tallies_add_up_whatever_order_names_came_in() {
        let tally = |names: &[&str]| {
            let mut tally = Tally::new(2, SENT).unwrap();
            names.iter().for_each(|name| respond(&mut tally, 200, name, "", true));
            tally.failure(Failure::Timeout, asked(true));
            tally
        };
        let mut sum = tally(&["a", "b", "b"]);
        sum.add(&tally(&["b", "c"])).unwrap();
        let wanted = [("a", 1), ("b", 3), ("c", 1)].map(|(name, count)| (name.to_string(), count));
        assert_eq!(sum.names.counts(), BTreeMap::from(wanted));
        assert_eq!((sum.responses, sum.latencies.len()), (5, 5));
        assert_eq!(sum.statuses(), BTreeMap::from([(200, 5)]));
        assert_eq!(sum.failures, BTreeMap::from([(Failure::Timeout, 2)]));
        assert_eq!((sum.entries[0].good, sum.entries[0].failed, sum.entries[1].total()), (5, 2, 0));
        assert_eq!((sum.slices.slices.len(), sum.slices.slices[0].total()), (1, 7));
    }

    #[test]
    fn good_responses_and_rejections_are_told_apart_and_a_warm_up_is_forgotten() {
        let mut tally = Tally::new(1, SENT).unwrap();
        for (status, in_time) in [(200, true), (304, false), (503, true), (404, true)] {
            let has_body = status != 304;
            respond(&mut tally, status, "a", if has_body { "no" } else { "" }, in_time);
        }
        assert_eq!((tally.good.len(), tally.rejections.len(), tally.latencies.len()), (2, 2, 4));
        assert_eq!((tally.in_time, tally.good_in_time), (3, 1));
        tally.forget();
        assert_eq!((tally.responses, tally.in_time, tally.good_in_time, tally.latencies.len()), (0, 0, 0, 0));
        assert_eq!((tally.bad.len(), tally.slices.slices.len()), (0, 0));
        assert_eq!(tally.names.counts(), BTreeMap::from([("a".to_string(), 0)]));
    }

    #[test]
    fn bad_responses_are_told_apart_by_status_and_reason() {
        let tally = || {
            let mut tally = Tally::new(1, SENT).unwrap();
            let own =
                |reason: &str| format!("503 Service Unavailable: Why.\nreason: {reason}, request id: 1\n");
            for reason in ["queue_full", "no_server", "queue_full"] {
                respond(&mut tally, 503, "", &own(reason), true);
            }
            respond(&mut tally, 503, "a", "down", true);
            tally
        };
        let mut sum = tally();
        sum.add(&tally()).unwrap();
        let told: Vec<_> = sum.bad.iter().map(|bad| (bad.status, bad.reason.as_deref(), bad.count)).collect();
        let wanted = [(Some(&b"queue_full"[..]), 4), (Some(b"no_server"), 2), (None, 2)];
        assert_eq!(told, wanted.map(|(reason, count)| (503, reason, count)));
        assert_eq!(*sum.bad[2].body, *b"down");
    }

    #[test]
    fn names_without_end_are_not_kept() {
        let mut names = Names::default();
        assert!((0..NAMES_MAX).all(|name| names.number(name.to_string().as_bytes()) == Some(name)));
        assert_eq!(names.number(b"one more"), None);
        assert_eq!(names.number(b"7"), Some(7));
    }
}
