//! The last decisions about which server gets a request, for `GET /api/v1/decisions` and `evenkeel explain`: bounded in
//! memory, and bounded in how many are made a second. A request that is not recorded pays for one comparison
//! ([`Decisions::is_due`]).

pub mod told;

use super::choose::Note;
use crate::base::ids::PoolId;
use crate::base::time::Moment;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// The most decisions that are kept; the oldest go first. With three servers one takes some 500 bytes, with the most that are
/// listed 4 KB.
pub const KEPT_MAX: usize = 1000;

/// Samples may be taken so long before they are due: a second's worth at once, so that the requests of somebody who tries
/// things out are recorded, though several come together.
const BURST: Duration = Duration::from_secs(1);

/// While no samples are wanted, the setting is looked at again after this.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// The most questions for requests to come that wait at a time.
const ASKS_MAX: usize = 16;

/// A question whose client is gone must not cost for ever.
const ASK_TIME: Duration = Duration::from_secs(600);

/// One decision.
#[derive(Clone, Debug)]
pub struct Decision {
    /// Grows by one with each, from 1. Set by [`Decisions::keep`].
    pub number: u64,
    /// Milliseconds since 1970.
    pub unix_ms: u64,
    /// What the request is called in logs and responses.
    pub request_id: String,
    /// Method and target as they go to the server, as far as they are kept.
    pub request: String,
    /// The name of the pool.
    pub pool: Arc<str>,
    /// The name of its route, if one matched.
    pub route: Option<String>,
    /// 1 for the first server that the request goes to.
    pub attempt: u32,
    /// It is another attempt because the last server responded with this status.
    pub after_status: Option<u16>,
    /// How long it waited for a server with room.
    pub waited: Duration,
    /// Somebody asked for it; else it is a sample.
    pub is_asked: bool,
    /// What came of it.
    pub outcome: Outcome,
    /// What the choice went by.
    pub note: Note,
}

/// What came of a choice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The request goes to the server.
    Sent,
    /// All that qualify are full, or others wait already: it waits.
    Queued,
    /// There is no server for it.
    None,
}

impl Outcome {
    /// The word in the admin API.
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Sent => "sent",
            Outcome::Queued => "queued",
            Outcome::None => "no_server",
        }
    }
}

/// Which requests to come somebody asks for; `None` is any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Of this pool.
    pub pool: Option<PoolId>,
    /// With this `X-Request-Id` from the client.
    pub request_id: Option<String>,
    /// With this header, in lower case, and this value.
    pub header: Option<(String, String)>,
}

/// A request, as far as it matters for whether it is recorded.
pub struct Coming<'a> {
    /// The pool that it goes to.
    pub pool: PoolId,
    /// The `X-Request-Id` of the client.
    pub request_id: Option<&'a [u8]>,
    /// Whether it has a header of this name with this value.
    pub has_header: &'a dyn Fn(&str, &str) -> bool,
}

/// Why a request is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recorded {
    /// By chance of its time.
    Sampled,
    /// Somebody asked for it.
    Asked,
}

/// The last decisions, and which are recorded next.
#[derive(Debug, Default)]
pub struct Decisions {
    /// From when on the next request is looked at, in nanoseconds.
    due: AtomicU64,
    gate: Mutex<Gate>,
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Gate {
    /// When the next sample is due, were they evenly spread; [`BURST`] earlier it may be taken.
    next_sample: Moment,
    asks: Vec<Ask>,
}

#[derive(Debug)]
struct Ask {
    wanted: Wanted,
    left: u64,
    until: Moment,
}

#[derive(Debug, Default)]
struct Kept {
    last: u64,
    decisions: VecDeque<Decision>,
}

impl Decisions {
    /// Whether a request that comes now is to be looked at: one comparison.
    pub fn is_due(&self, now: Moment) -> bool {
        now.as_nanos() >= self.due.load(Relaxed)
    }

    /// Whether a request is recorded, and why, where up to `per_second` samples are taken.
    pub fn records(&self, coming: &Coming<'_>, per_second: u32, now: Moment) -> Option<Recorded> {
        let mut gate = self.gate.lock();
        let recorded = gate.records(coming, per_second, now);
        let due = if gate.asks.is_empty() { gate.next_sample.as_nanos() } else { 0 };
        self.due.store(due.saturating_sub(BURST.as_nanos() as u64), Relaxed);
        recorded
    }

    /// From now on the next `count` requests that are wanted are recorded, for ten minutes at most. False: too many questions
    /// wait already.
    pub fn ask(&self, wanted: Wanted, count: u64, now: Moment) -> bool {
        let mut gate = self.gate.lock();
        gate.asks.retain(|ask| ask.until > now);
        if gate.asks.len() >= ASKS_MAX {
            return false;
        }
        gate.asks.push(Ask { wanted, left: count, until: now.after(ASK_TIME) });
        self.due.store(0, Relaxed);
        true
    }

    /// Keeps a decision.
    pub fn keep(&self, mut decision: Decision) {
        let mut kept = self.kept.lock();
        kept.last += 1;
        decision.number = kept.last;
        if kept.decisions.len() == KEPT_MAX {
            kept.decisions.pop_front();
        }
        kept.decisions.push_back(decision);
    }

    /// The number of the last decision.
    pub fn last(&self) -> u64 {
        self.kept.lock().last
    }

    /// The last `limit` decisions with a number above `since` that are wanted, the oldest first.
    pub fn find(&self, since: u64, limit: usize, is_wanted: impl Fn(&Decision) -> bool) -> Vec<Decision> {
        let kept = self.kept.lock();
        let newest_first = kept.decisions.iter().rev().take_while(|decision| decision.number > since);
        let mut found: Vec<_> = newest_first.filter(|found| is_wanted(found)).take(limit).cloned().collect();
        found.reverse();
        found
    }
}

impl Gate {
    fn records(&mut self, coming: &Coming<'_>, per_second: u32, now: Moment) -> Option<Recorded> {
        self.asks.retain(|ask| ask.until > now);
        let asked = self.asks.iter_mut().find(|ask| ask.wanted.is(coming));
        let is_asked = asked.map(|ask| ask.left -= 1).is_some();
        self.asks.retain(|ask| ask.left > 0);
        let is_sampled = self.next_sample <= now.after(BURST) && per_second > 0;
        if is_sampled {
            self.next_sample = self.next_sample.max(now).after(Duration::from_secs(1) / per_second);
        } else if per_second == 0 {
            self.next_sample = now.after(BURST).after(LOOK_AGAIN);
        }
        match (is_asked, is_sampled) {
            (true, _) => Some(Recorded::Asked),
            (false, true) => Some(Recorded::Sampled),
            (false, false) => None,
        }
    }
}

impl Wanted {
    fn is(&self, coming: &Coming<'_>) -> bool {
        let id = self.request_id.as_ref().is_none_or(|id| coming.request_id == Some(id.as_bytes()));
        let header = self.header.as_ref().is_none_or(|(name, value)| (coming.has_header)(name, value));
        self.pool.is_none_or(|pool| pool == coming.pool) && id && header
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn coming(pool: u32, id: &[u8]) -> Coming<'_> {
        let has_header = &|name: &str, value: &str| (name, value) == ("x-debug", "1");
        Coming { pool: PoolId(pool), request_id: Some(id), has_header }
    }

    fn decision(server: &str) -> Decision {
        Decision {
            number: 0,
            unix_ms: 0,
            request_id: server.to_owned(),
            request: String::new(),
            pool: "default".into(),
            route: None,
            attempt: 1,
            after_status: None,
            waited: Duration::ZERO,
            is_asked: false,
            outcome: Outcome::Sent,
            note: Note::default(),
        }
    }

    /// Of so many requests, evenly over so many seconds, those that are recorded.
    fn recorded(decisions: &Decisions, per_second: u32, requests: u64, seconds: u64) -> usize {
        let begin = 100_000_000_000;
        let at = |n: u64| Moment::from_nanos(begin + n * seconds * 1_000_000_000 / requests);
        let is = |now: &Moment| {
            decisions.is_due(*now) && decisions.records(&coming(0, b"x"), per_second, *now).is_some()
        };
        (0..requests).map(at).filter(is).count()
    }

    #[test]
    fn samples_are_bounded_by_time_and_a_quiet_balancer_records_all() {
        assert_eq!(recorded(&Decisions::default(), 10, 30, 10), 30);
        let busy = recorded(&Decisions::default(), 10, 100_000, 10);
        assert!((100..=112).contains(&busy), "{busy}");
        let burst = recorded(&Decisions::default(), 10, 1_000, 0);
        assert_eq!(burst, 11, "a second's worth at once");
        assert_eq!(recorded(&Decisions::default(), 0, 1_000, 10), 0);
    }

    #[test]
    fn without_samples_a_request_in_a_second_looks_whether_that_is_still_so() {
        let decisions = Decisions::default();
        let at = |ms: u64| Moment::from_millis(5_000 + ms);
        assert_eq!(decisions.records(&coming(0, b"x"), 0, at(0)), None);
        assert!(!decisions.is_due(at(999)));
        assert!(decisions.is_due(at(1_000)));
        assert_eq!(decisions.records(&coming(0, b"x"), 5, at(1_000)), Some(Recorded::Sampled));
    }

    #[test]
    fn what_somebody_asks_for_is_recorded_whatever_the_samples() {
        let decisions = Decisions::default();
        let now = Moment::from_millis(5_000);
        decisions.records(&coming(0, b"x"), 0, now);
        let check = |wanted: Wanted, pool, id: &[u8], expected| {
            assert!(decisions.ask(wanted.clone(), 2, now) && decisions.is_due(now), "{wanted:?}");
            let is = |pool, id| decisions.records(&coming(pool, id), 0, now) == Some(Recorded::Asked);
            assert_eq!(is(pool, id), expected, "{wanted:?}");
            // What is left of the question goes.
            decisions.gate.lock().asks.clear();
            decisions.records(&coming(0, b"x"), 0, now);
        };
        let any = Wanted::default();
        check(any.clone(), 3, b"x", true);
        check(Wanted { pool: Some(PoolId(3)), ..any.clone() }, 3, b"x", true);
        check(Wanted { pool: Some(PoolId(3)), ..any.clone() }, 1, b"x", false);
        check(Wanted { request_id: Some("me".into()), ..any.clone() }, 1, b"me", true);
        check(Wanted { request_id: Some("me".into()), ..any.clone() }, 1, b"x", false);
        check(Wanted { header: Some(("x-debug".into(), "1".into())), ..any.clone() }, 1, b"x", true);
        check(Wanted { header: Some(("x-debug".into(), "2".into())), ..any.clone() }, 1, b"x", false);
        assert!(!decisions.is_due(now));
    }

    #[test]
    fn a_question_ends_by_number_and_by_time_and_there_are_few_at_once() {
        let decisions = Decisions::default();
        let now = Moment::from_millis(5_000);
        assert!(decisions.ask(Wanted::default(), 2, now));
        let got: Vec<_> = (0..4).map(|_| decisions.records(&coming(0, b"x"), 0, now)).collect();
        assert_eq!(got, [Some(Recorded::Asked), Some(Recorded::Asked), None, None]);
        let rare = || Wanted { pool: Some(PoolId(9)), ..Wanted::default() };
        assert!((0..ASKS_MAX).all(|_| decisions.ask(rare(), 1, now)) && !decisions.ask(rare(), 1, now));
        let later = now.after(ASK_TIME);
        assert_eq!(decisions.records(&coming(9, b"x"), 0, later), None);
        assert!(decisions.ask(rare(), 1, later));
    }

    #[test]
    fn the_last_ones_are_kept_and_found() {
        let decisions = Decisions::default();
        (0..KEPT_MAX + 10).for_each(|at| decisions.keep(decision(if at % 2 == 0 { "even" } else { "odd" })));
        let numbers = |since, limit, id: &str| -> Vec<u64> {
            decisions.find(since, limit, |one| one.request_id == id).iter().map(|one| one.number).collect()
        };
        let last = KEPT_MAX as u64 + 10;
        assert_eq!((decisions.last(), numbers(0, 2, "odd")), (last, vec![last - 2, last]));
        assert_eq!(numbers(last - 1, 9, "odd"), [last]);
        assert_eq!(decisions.find(0, usize::MAX, |_| true)[0].number, 11, "the oldest are gone");
    }
}
