//! Whether a failed attempt may be made again, and where (invariant 8).
//!
//! | failure | may it be made again? | bound |
//! |---|---|---|
//! | connecting (refused or timed out) | any method, another server, at last one that is down or ejected | [`CONNECTS_MORE`] beyond `attempts`, free |
//! | pooled connection, nothing sent | any method, same server, new connection | [`UNSENT_MOST`], free |
//! | pooled connection, sent | idempotent with body still buffered: same server, new connection | once, free; then as a reset |
//! | reset before the head | idempotent with body still buffered: another server | `attempts`, paid from the budget |
//! | a response whose status is one of `on_status` | as a reset, if no byte went to the client; else it is the client's | `attempts`, paid from the budget |
//! | probes find the server down while it has not responded | as after a reset, if another one has room | `attempts`, paid from the budget |
//! | no server can be connected to, or none is up | any method, all servers again every 250 ms | `wait_for_server` from the first failure on, free |
//! | timeout (504) | no: a stalled server would cost the client twice the time | |
//! | the response had begun | no | |
//!
//! Failed connects are free because they cost the servers nothing. Retries of requests that a server may have started
//! to process are paid for; otherwise retries would double the load exactly when servers fail under it (Google's SRE
//! book, chapter 22; Finagle's `RetryBudget`).

use super::statuses::Statuses;
use crate::base::time::Moment;
use crossbeam_utils::CachePadded;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// The configuration's `retries`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// How many more servers a request may be sent to; 0 disables retries (except for a pooled connection that was
    /// closed before a byte was sent on it, which is not the server's failure).
    pub attempts: u32,
    /// Retries earned by the requests of the last 5 to 10 s, in percent of them.
    pub budget_percent: u32,
    /// Retries that are free in that time, however few requests there were.
    pub budget_min: u32,
    /// Statuses of a response after which another server gets the request; `None`: a response is the client's.
    pub on_status: Option<Statuses>,
    /// How long a request waits while no server can be connected to; `None`: not at all.
    pub wait_for_server: Option<Duration>,
}

impl Default for Rules {
    fn default() -> Self {
        Rules { attempts: 1, budget_percent: 20, budget_min: 3, on_status: None, wait_for_server: None }
    }
}

/// Where an attempt failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Connecting failed; no byte was sent.
    Connect,
    /// A pooled connection failed before the first byte of the response: the race of reuse.
    Reuse,
    /// The request was sent, and no byte of the response head was received.
    Response,
    /// The response has begun.
    Late,
}

/// What is known of the request.
#[derive(Clone, Copy, Debug)]
pub struct Attempt {
    /// Where this attempt failed.
    pub phase: Phase,
    /// [`is_idempotent`].
    pub idempotent: bool,
    /// No byte of the request body was sent, or the whole body is still buffered (or there is none).
    pub body_buffered: bool,
    /// Bytes of the request (head or body) may have reached the server.
    pub sent: bool,
    /// Attempts that failed so far in [`Phase::Connect`] (this one counted).
    pub connects_failed: u32,
    /// Attempts that failed so far in [`Phase::Reuse`] (this one counted).
    pub reuses_failed: u32,
    /// Attempts that failed so far in [`Phase::Response`] (this one counted).
    pub others_failed: u32,
    /// It failed because time ran out.
    pub timed_out: bool,
}

/// The decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// Once more to the same server, on a new connection (never a pooled one).
    SameServer,
    /// To a server that was not tried yet.
    OtherServer,
    /// The client gets an error.
    No,
}

/// Failed connects that are retried, beyond `attempts`.
pub const CONNECTS_MORE: u32 = 3;
/// Pooled connections found closed before a byte was sent that are retried.
pub const UNSENT_MOST: u32 = 3;

/// Whether a failed attempt may be made again. Spends from the budget only when it returns [`Retry::OtherServer`] for a
/// request that was sent.
pub fn may(rules: &Rules, attempt: &Attempt, budget: &Budget, now: Moment) -> Retry {
    let safe = attempt.body_buffered && (attempt.idempotent || !attempt.sent);
    let stalled = attempt.timed_out && attempt.phase != Phase::Connect;
    match attempt.phase {
        Phase::Late => Retry::No,
        _ if !safe || stalled => Retry::No,
        Phase::Reuse if !attempt.sent && attempt.reuses_failed <= UNSENT_MOST => Retry::SameServer,
        _ if rules.attempts == 0 => Retry::No,
        Phase::Connect if attempt.connects_failed <= rules.attempts.saturating_add(CONNECTS_MORE) => {
            Retry::OtherServer
        }
        Phase::Connect => Retry::No,
        Phase::Reuse if attempt.reuses_failed <= 1 => Retry::SameServer,
        Phase::Reuse | Phase::Response => paid(rules, attempt, budget, now),
    }
}

/// Retry on another server, if `attempts` and the budget allow it. The first failed reuse was free.
fn paid(rules: &Rules, attempt: &Attempt, budget: &Budget, now: Moment) -> Retry {
    let counted = attempt.others_failed.saturating_add(attempt.reuses_failed.saturating_sub(1));
    match counted <= rules.attempts && budget.spend(rules, now) {
        true => Retry::OtherServer,
        false => Retry::No,
    }
}

/// RFC 9110 section 9.2.2: GET, HEAD, OPTIONS, TRACE, PUT, DELETE. Case matters.
pub fn is_idempotent(method: &[u8]) -> bool {
    matches!(method, b"GET" | b"HEAD" | b"OPTIONS" | b"TRACE" | b"PUT" | b"DELETE")
}

/// The budget that retries are paid from. Shared by all workers: atomics, no lock. Requests and retries are counted
/// over the current half of the window and the one before it, so over the last 5 to 10 s.
#[derive(Debug, Default)]
pub struct Budget {
    requests: CachePadded<Window>,
    retries: CachePadded<Window>,
    hedges: CachePadded<Window>,
}

impl Budget {
    /// Nothing earned, nothing spent.
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts a request (it earns `budget_percent` of a retry). One relaxed addition.
    pub fn earn(&self, now: Moment) {
        self.requests.count(half_of(now));
    }

    /// Takes one retry if there is one.
    pub fn spend(&self, rules: &Rules, now: Moment) -> bool {
        let half = half_of(now);
        let earned = self.requests.sum(half) * u64::from(rules.budget_percent) / 100;
        let granted = self.retries.count(half) <= earned.max(u64::from(rules.budget_min));
        if !granted {
            self.retries.uncount(half);
        }
        granted
    }

    /// Gives back what was taken and not used.
    pub fn refund(&self, now: Moment) {
        self.retries.uncount(half_of(now));
    }

    /// Takes one second attempt beside a first one if there is one: so many percent of the requests, and one however few
    /// there were.
    pub fn spend_hedge(&self, percent: u32, now: Moment) -> bool {
        let half = half_of(now);
        let earned = self.requests.sum(half) * u64::from(percent) / 100;
        let granted = self.hedges.count(half) <= earned.max(1);
        if !granted {
            self.hedges.uncount(half);
        }
        granted
    }

    /// Gives back what was taken for a second attempt and not used.
    pub fn refund_hedge(&self, now: Moment) {
        self.hedges.uncount(half_of(now));
    }
}

/// Half of the window of the budget.
const HALF_NANOS: u64 = 5_000_000_000;
/// A half's number is stored above its count in one word.
const COUNT_BITS: u32 = 32;
const COUNT_MASK: u64 = (1 << COUNT_BITS) - 1;

/// Halves are numbered from 1: the word 0 belongs to none of them.
fn half_of(now: Moment) -> u64 {
    now.as_nanos() / HALF_NANOS + 1
}

/// Counts of two halves, the even and the odd one. The first to count in a new half replaces the one before last;
/// additions by others at that very moment may be lost, a few in a thousand.
#[derive(Debug, Default)]
struct Window([AtomicU64; 2]);

impl Window {
    /// Counts one in this half; returns the count of the window.
    fn count(&self, half: u64) -> u64 {
        let word = self.word(half);
        if word.fetch_add(1, Relaxed) >> COUNT_BITS < half {
            self.begin(half);
        }
        self.sum(half)
    }

    /// Takes one count back.
    fn uncount(&self, half: u64) {
        let less = |word: u64| (word >> COUNT_BITS == half && word & COUNT_MASK > 0).then(|| word - 1);
        let _ = self.word(half).fetch_update(Relaxed, Relaxed, less);
    }

    fn begin(&self, half: u64) {
        let first = |word: u64| (word >> COUNT_BITS < half).then_some(half << COUNT_BITS | 1);
        if self.word(half).fetch_update(Relaxed, Relaxed, first).is_err() {
            self.word(half).fetch_add(1, Relaxed);
        }
    }

    fn sum(&self, half: u64) -> u64 {
        let counted = |half: u64| {
            let word = self.word(half).load(Relaxed);
            if word >> COUNT_BITS == half { word & COUNT_MASK } else { 0 }
        };
        counted(half) + counted(half - 1)
    }

    fn word(&self, half: u64) -> &AtomicU64 {
        &self.0[(half & 1) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GET: Attempt = Attempt {
        phase: Phase::Response,
        idempotent: true,
        body_buffered: true,
        sent: true,
        connects_failed: 0,
        reuses_failed: 0,
        others_failed: 0,
        timed_out: false,
    };
    const POST: Attempt = Attempt { idempotent: false, ..GET };

    fn check(attempts: u32, attempt: Attempt, expected: Retry) {
        let rules = Rules { attempts, ..Rules::default() };
        let got = may(&rules, &attempt, &Budget::new(), Moment::from_millis(1));
        assert_eq!(got, expected, "{attempts} {attempt:?}");
    }

    #[test]
    fn connects() {
        let failed =
            |connects_failed| Attempt { phase: Phase::Connect, sent: false, connects_failed, ..POST };
        check(1, failed(1), Retry::OtherServer);
        check(1, failed(4), Retry::OtherServer);
        check(1, failed(5), Retry::No);
        check(3, failed(6), Retry::OtherServer);
        check(0, failed(1), Retry::No);
        check(1, Attempt { timed_out: true, ..failed(1) }, Retry::OtherServer);
        check(1, Attempt { others_failed: 1, reuses_failed: 1, ..failed(1) }, Retry::OtherServer);
        check(u32::MAX, failed(9), Retry::OtherServer);
    }

    #[test]
    fn reuse() {
        let dead = |reuses_failed, of| Attempt { phase: Phase::Reuse, reuses_failed, ..of };
        check(1, dead(1, GET), Retry::SameServer);
        check(1, dead(2, GET), Retry::OtherServer);
        check(1, dead(3, GET), Retry::No);
        check(1, dead(1, POST), Retry::No);
        check(0, dead(1, GET), Retry::No);
        check(1, Attempt { body_buffered: false, ..dead(1, GET) }, Retry::No);
        check(1, Attempt { timed_out: true, ..dead(1, GET) }, Retry::No);
        check(0, Attempt { sent: false, ..dead(1, POST) }, Retry::SameServer);
        check(1, Attempt { sent: false, ..dead(3, POST) }, Retry::SameServer);
        check(1, Attempt { sent: false, ..dead(5, POST) }, Retry::No);
    }

    #[test]
    fn responses() {
        let failed = |others_failed, of| Attempt { others_failed, ..of };
        check(1, failed(1, GET), Retry::OtherServer);
        check(1, failed(2, GET), Retry::No);
        check(2, failed(2, GET), Retry::OtherServer);
        check(0, failed(1, GET), Retry::No);
        check(1, failed(1, POST), Retry::No);
        check(1, Attempt { sent: false, ..failed(1, POST) }, Retry::OtherServer);
        check(1, Attempt { reuses_failed: 1, ..failed(1, GET) }, Retry::OtherServer);
        check(1, Attempt { body_buffered: false, ..failed(1, GET) }, Retry::No);
        check(1, Attempt { timed_out: true, ..failed(1, GET) }, Retry::No);
        check(9, Attempt { phase: Phase::Late, ..failed(1, GET) }, Retry::No);
    }

    #[test]
    fn what_is_not_used_is_given_back() {
        let (budget, rules) = (Budget::new(), Rules { budget_min: 1, ..Rules::default() });
        let now = Moment::from_millis(1);
        assert!(budget.spend(&rules, now));
        budget.refund(now);
        assert!(budget.spend(&rules, now) && !budget.spend(&rules, now));
    }

    /// Requests as (when in ms, how many), then how many retries are granted at a given time.
    fn check_budget(rules: Rules, requests: &[(u64, u64)], at: u64, expected: u64) {
        let budget = Budget::new();
        for &(when, count) in requests {
            (0..count).for_each(|_| budget.earn(Moment::from_millis(when)));
        }
        let granted = (0..expected + 50).filter(|_| budget.spend(&rules, Moment::from_millis(at))).count();
        assert_eq!(granted as u64, expected, "{requests:?} at {at}");
    }

    #[test]
    fn the_budget_is_a_share_of_recent_requests() {
        let rules = Rules::default();
        check_budget(rules, &[], 0, 3);
        check_budget(rules, &[(0, 10)], 10, 3);
        check_budget(rules, &[(0, 1_000)], 10, 200);
        check_budget(rules, &[(0, 1_000)], 9_999, 200);
        check_budget(rules, &[(0, 1_000)], 10_000, 3);
        check_budget(rules, &[(0, 1_000)], 15_000, 3);
        check_budget(rules, &[(4_000, 1_000), (6_000, 1_000)], 7_000, 400);
        check_budget(rules, &[(4_000, 1_000), (14_000, 500)], 14_500, 100);
        check_budget(Rules { budget_min: 0, ..rules }, &[(0, 4)], 0, 0);
        check_budget(Rules { budget_percent: 0, ..rules }, &[(0, 1_000)], 0, 3);
    }

    #[test]
    fn what_was_spent_comes_back_with_time() {
        let (budget, rules) = (Budget::new(), Rules::default());
        let granted = |at| (0..9).filter(|_| budget.spend(&rules, Moment::from_millis(at))).count();
        assert_eq!([0, 4_000, 9_000, 10_000, 12_000, 20_000].map(granted), [3, 0, 0, 3, 0, 3]);
    }

    #[test]
    fn second_attempts_are_a_share_of_the_requests_and_one_is_free() {
        let budget = Budget::new();
        let now = Moment::from_millis(1_000);
        let granted = |percent, at| (0..100).filter(|_| budget.spend_hedge(percent, at)).count();
        assert_eq!(granted(5, now), 1);
        (0..200).for_each(|_| budget.earn(now));
        assert_eq!(granted(5, now), 9, "one was taken");
        budget.refund_hedge(now);
        assert_eq!((granted(5, now), granted(100, now)), (1, 100));
        assert_eq!(granted(5, Moment::from_millis(20_000)), 1, "what was earned is long ago");
    }

    #[test]
    fn an_empty_budget_rejects_what_must_be_paid() {
        let (budget, rules) = (Budget::new(), Rules { budget_min: 1, ..Rules::default() });
        let failed = Attempt { others_failed: 1, ..GET };
        let verdicts = [(); 2].map(|()| may(&rules, &failed, &budget, Moment::START));
        assert_eq!(verdicts, [Retry::OtherServer, Retry::No]);
        let free = Attempt { phase: Phase::Reuse, reuses_failed: 1, ..GET };
        assert_eq!(may(&rules, &free, &budget, Moment::START), Retry::SameServer);
    }

    #[test]
    fn threads_share_one_budget() {
        let budget = Budget::new();
        let now = Moment::from_millis(1);
        std::thread::scope(|scope| {
            (0..4).for_each(|_| drop(scope.spawn(|| (0..1_000).for_each(|_| budget.earn(now)))));
        });
        let granted = (0..2_000).filter(|_| budget.spend(&Rules::default(), now)).count();
        assert!((760..=800).contains(&granted), "{granted}");
    }

    #[test]
    fn idempotent_methods() {
        for method in ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"] {
            assert!(is_idempotent(method.as_bytes()), "{method}");
        }
        for method in ["POST", "PATCH", "CONNECT", "get", "", "GETS", "LOCK"] {
            assert!(!is_idempotent(method.as_bytes()), "{method}");
        }
    }
}
