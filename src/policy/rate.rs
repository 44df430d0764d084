//! Rate limits: whether a request may pass now, by the generic cell rate algorithm (GCRA), which is a token bucket in one
//! word for each key.
//!
//! The word is the *theoretical arrival time*: when the bucket will be full again. A request moves it on by the time
//! that one token takes to come back. A request that would move it further than the whole bucket beyond now is rejected
//! and moves nothing. In any window of length t at most `burst + t × requests / per` requests pass.
//!
//! Keys are in shards, each behind a short mutex, so the state of a key changes in one step and counts are exact. Each
//! shard has a fixed number of places. A key whose bucket is full again is the same as one never seen, and its place is
//! taken first; otherwise the key that was used least recently goes.

use super::key::Key;
use super::recent::Recent;
use crate::base::time::Moment;
use crossbeam_utils::CachePadded;
use parking_lot::Mutex;
use std::time::Duration;

/// Locks are held for some 50 ns: with these two threads seldom meet at one.
const SHARDS: usize = 64;

/// How many requests of one key pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Requests in each `per`, 1 to 1,000,000.
    pub requests: u32,
    /// The time in which that many pass, 1 ms to 24 h. A request takes at least a microsecond of it.
    pub per: Duration,
    /// Requests that have a token when none came for a while, 1 to 1,000,000.
    pub burst: u32,
    /// So many of them pass at once, 1 to `burst`; the others wait, so that they pass evenly, `per / requests` apart.
    pub at_once: u32,
    /// How long one may wait.
    pub longest_wait: Duration,
}

/// What becomes of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It passes.
    Allowed {
        /// Tokens that are left: requests that would pass now.
        remaining: u32,
        /// When all tokens are there again, if no more requests come.
        reset: Duration,
    },
    /// It passes after this. It has its token already.
    Wait(Duration),
    /// It does not pass.
    Rejected {
        /// When a request would pass.
        retry_after: Duration,
    },
}

impl Rate {
    /// Until one token has come back, in nanoseconds; rounded up, so that no more than `requests` come in `per`.
    fn token(&self) -> u64 {
        nanos(self.per).div_ceil(u64::from(self.requests.max(1))).max(1)
    }

    /// Until an empty bucket is full.
    fn bucket(&self) -> u64 {
        self.token().saturating_mul(u64::from(self.burst.max(1)))
    }

    /// The verdict for a request of a key whose bucket is full again at `full_at`, and when it will be then.
    fn judge(&self, full_at: u64, now: u64) -> (Verdict, u64) {
        let (token, bucket) = (self.token(), self.bucket());
        let missing = full_at.saturating_sub(now);
        // So much may be missing without a wait.
        let free = token.saturating_mul(u64::from(self.at_once.max(1) - 1));
        let most = (bucket - token).min(free.saturating_add(nanos(self.longest_wait)));
        if missing > most {
            let retry_after = Duration::from_nanos(missing - most);
            return (Verdict::Rejected { retry_after }, full_at);
        }
        let after = missing.saturating_add(token);
        let verdict = match missing.saturating_sub(free) {
            0 => Verdict::Allowed {
                remaining: (bucket.saturating_sub(after) / token) as u32,
                reset: Duration::from_nanos(after),
            },
            wait => Verdict::Wait(Duration::from_nanos(wait)),
        };
        (verdict, now.saturating_add(after))
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX / 4)
}

/// The buckets of one limit.
#[derive(Debug)]
pub struct Limiter {
    rate: Rate,
    shards: Box<[CachePadded<Mutex<FullAt>>]>,
}

/// When the bucket of each key is full again, in nanoseconds.
type FullAt = Recent<u64>;

impl Limiter {
    /// A limiter that remembers about so many keys, in some 80 bytes each.
    pub fn new(rate: Rate, keys: usize) -> Self {
        let shard = || CachePadded::new(Mutex::new(Recent::new(keys.div_ceil(SHARDS))));
        Limiter { rate, shards: (0..SHARDS).map(|_| shard()).collect() }
    }

    /// A request of this key has come.
    pub fn ask(&self, key: Key, now: Moment) -> Verdict {
        let shard = &self.shards[key.shard(SHARDS)];
        self.rate.ask(&mut shard.lock(), key, now.as_nanos())
    }

    /// Its rate.
    pub fn rate(&self) -> &Rate {
        &self.rate
    }

    /// Keys that are remembered.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }

    /// Whether no key is remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Rate {
    /// A request of this key has come.
    fn ask(&self, full: &mut FullAt, key: Key, now: u64) -> Verdict {
        let known = full.get(key);
        let (verdict, full_at) = self.judge(known.as_deref().copied().unwrap_or(0), now);
        match known {
            Some(known) => *known = full_at,
            None => full.set(key, full_at, |full_at| *full_at <= now),
        }
        verdict
    }
}

#[cfg(test)]
mod tests {
    use super::super::key::Keys;
    use super::*;
    use proptest::prelude::*;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    const MS: Duration = Duration::from_millis(1);
    const SECOND: Duration = Duration::from_secs(1);

    fn rate(requests: u32, per: Duration, burst: u32) -> Rate {
        Rate { requests, per, burst, at_once: burst, longest_wait: Duration::ZERO }
    }

    fn allowed(remaining: u32, reset_ms: u64) -> Verdict {
        Verdict::Allowed { remaining, reset: MS * reset_ms as u32 }
    }

    fn rejected(ms: u64) -> Verdict {
        Verdict::Rejected { retry_after: MS * ms as u32 }
    }

    /// Requests of one key at these milliseconds, and the expected verdicts.
    #[track_caller]
    fn check(rate: Rate, requests: &[(u64, Verdict)]) {
        let (limiter, key) = (Limiter::new(rate, 100), Keys::default().of(&[b"a"]));
        for (ms, expected) in requests {
            // Far from the start, so that no bucket is emptier than it should be.
            let now = Moment::from_millis(1_000_000 + ms);
            assert_eq!(limiter.ask(key, now), *expected, "at {ms} ms");
        }
    }

    #[test]
    fn a_burst_passes_and_then_one_for_each_token() {
        check(
            rate(10, SECOND, 3),
            &[
                (0, allowed(2, 100)),
                (0, allowed(1, 200)),
                (0, allowed(0, 300)),
                (0, rejected(100)),
                (99, rejected(1)),
                (100, allowed(0, 300)),
                (100, rejected(100)),
                (450, allowed(2, 100)),
            ],
        );
        check(rate(1, SECOND, 1), &[(0, allowed(0, 1000)), (999, rejected(1)), (1000, allowed(0, 1000))]);
    }

    #[test]
    fn what_is_rejected_costs_nothing() {
        let hammered =
            [(0, allowed(0, 1000)), (10, rejected(990)), (990, rejected(10)), (1000, allowed(0, 1000))];
        check(rate(1, SECOND, 1), &hammered);
    }

    #[test]
    fn with_a_wait_requests_pass_evenly() {
        let even = Rate { at_once: 1, longest_wait: SECOND, ..rate(10, SECOND, 3) };
        check(
            even,
            &[
                (0, allowed(2, 100)),
                (0, Verdict::Wait(MS * 100)),
                (0, Verdict::Wait(MS * 200)),
                (0, rejected(100)),
                (100, Verdict::Wait(MS * 200)),
                (1000, allowed(2, 100)),
            ],
        );
        // The wait is bounded whatever the burst is.
        let short = Rate { at_once: 1, longest_wait: MS * 150, ..rate(10, SECOND, 100) };
        check(short, &[(0, allowed(99, 100)), (0, Verdict::Wait(MS * 100)), (0, rejected(50))]);
    }

    #[test]
    fn the_first_ones_of_a_burst_can_pass_at_once_and_the_others_evenly() {
        let delayed = Rate { at_once: 3, longest_wait: SECOND, ..rate(10, SECOND, 5) };
        check(
            delayed,
            &[
                (0, allowed(4, 100)),
                (0, allowed(3, 200)),
                (0, allowed(2, 300)),
                (0, Verdict::Wait(MS * 100)),
                (0, Verdict::Wait(MS * 200)),
                (0, rejected(100)),
                (200, Verdict::Wait(MS * 100)),
                (1000, allowed(4, 100)),
            ],
        );
    }

    #[test]
    fn keys_do_not_share_a_bucket() {
        let (limiter, keys) = (Limiter::new(rate(1, SECOND, 1), 100), Keys::default());
        let now = Moment::from_millis(5_000);
        for name in [b"a", b"b", b"c"] {
            assert_eq!(limiter.ask(keys.of(&[name]), now), allowed(0, 1000));
            assert_eq!(limiter.ask(keys.of(&[name]), now), rejected(1000));
        }
    }

    #[test]
    fn a_key_whose_bucket_is_full_again_makes_room() {
        let (rate, keys, mut full) = (rate(1, SECOND, 1), Keys::default(), FullAt::new(1000));
        for second in 1..100u64 {
            rate.ask(&mut full, keys.of(&[&second.to_be_bytes()]), second * 1_000_000_000);
        }
        assert_eq!(full.len(), 1);
    }

    #[test]
    fn many_keys_take_no_more_than_their_places() {
        let (limiter, keys) = (Limiter::new(rate(1, SECOND, 1), 1000), Keys::default());
        for number in 0..200_000u64 {
            limiter.ask(keys.of(&[&number.to_be_bytes()]), Moment::from_millis(1_000));
        }
        assert!(limiter.len() <= 1000 + SHARDS, "{}", limiter.len());
    }

    #[test]
    fn counts_are_exact_under_many_threads() {
        let (limiter, keys) = (Limiter::new(rate(1, Duration::from_secs(3600), 500), 1000), Keys::default());
        let passed: [AtomicUsize; 4] = Default::default();
        std::thread::scope(|scope| {
            for thread in 0..16 {
                let (limiter, passed) = (&limiter, &passed);
                scope.spawn(move || {
                    for at in 0..1000 {
                        let which = (thread + at) % 4;
                        let key = keys.of(&[&[which as u8]]);
                        let verdict = limiter.ask(key, Moment::from_millis(1_000));
                        passed[which].fetch_add(matches!(verdict, Verdict::Allowed { .. }).into(), Relaxed);
                    }
                });
            }
        });
        assert_eq!(passed.map(|count| count.into_inner()), [500; 4]);
    }

    proptest! {
        /// In every window at most the burst and what the rate gives pass, whatever the times of the requests.
        #[test]
        fn no_window_has_too_many(
            requests in 1u32..50,
            per_ms in 1u32..2_000,
            burst in 1u32..40,
            gaps in prop::collection::vec(0u64..200_000_000, 1..300),
        ) {
            let rate = rate(requests, MS * per_ms, burst);
            let (limiter, key) = (Limiter::new(rate, 10), Keys::default().of(&[b"k"]));
            let mut now = 1_000_000_000u64;
            let mut passed = Vec::new();
            for gap in gaps {
                now += gap % (3 * u64::from(per_ms) * 1_000_000 / u64::from(requests) + 1);
                match limiter.ask(key, Moment::from_nanos(now)) {
                    Verdict::Allowed { remaining, .. } => {
                        prop_assert!(remaining < burst);
                        passed.push(now);
                    }
                    Verdict::Rejected { retry_after } => {
                        // It says the truth: then, and not before, one passes.
                        let then = now + retry_after.as_nanos() as u64;
                        let full_at = *limiter.shards[key.shard(SHARDS)].lock().get(key).unwrap();
                        let passes = |at| matches!(rate.judge(full_at, at).0, Verdict::Allowed { .. });
                        prop_assert!(passes(then) && !passes(then - 1));
                    }
                    Verdict::Wait(_) => prop_assert!(false, "nothing waits"),
                }
            }
            for (from, start) in passed.iter().enumerate() {
                for (to, end) in passed.iter().enumerate().skip(from) {
                    let tokens = (end - start) as f64 * f64::from(requests) / (f64::from(per_ms) * 1e6);
                    prop_assert!((to - from + 1) as f64 <= f64::from(burst) + tokens + 1e-6);
                }
            }
        }

        /// With a wait the requests leave at least a token's time apart, and none waits longer than allowed.
        #[test]
        fn what_waits_leaves_evenly(
            burst in 1u32..30,
            wait_ms in 1u32..3_000,
            gaps in prop::collection::vec(0u64..150, 1..200),
        ) {
            let rate = Rate { at_once: if wait_ms == 0 { burst } else { 1 }, longest_wait: MS * wait_ms, ..rate(10, SECOND, burst) };
            let (limiter, key) = (Limiter::new(rate, 10), Keys::default().of(&[b"k"]));
            let (mut now, mut last) = (Moment::from_millis(10_000), None::<Moment>);
            for gap in gaps {
                now = now.after(MS * gap as u32);
                let leaves = match limiter.ask(key, now) {
                    Verdict::Allowed { .. } => now,
                    Verdict::Wait(wait) => {
                        prop_assert!(wait <= rate.longest_wait);
                        now.after(wait)
                    }
                    Verdict::Rejected { .. } => continue,
                };
                if let Some(last) = last {
                    prop_assert!(leaves.since(last) >= MS * 100);
                }
                last = Some(leaves);
            }
        }
    }
}
