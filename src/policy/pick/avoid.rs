//! Servers that fail or hang while others do not, and how their recovery is noticed.

use super::{Candidate, Draw, Slot};
use crate::policy::outcomes::AVOIDED_BELOW;

/// One request in so many is a trial where a server has been without any for [`TRIAL_AFTER_MS`]: 1.6 % at the most, and at
/// most one a second. A power of two.
const TRIAL_ONE_IN: u64 = 64;
/// A server without requests for so long is not known any more. Shorter than the time of an ejection.
const TRIAL_AFTER_MS: u32 = 1_000;
/// For one that hangs: a trial of it may cost a client the whole time that it waits.
const TRIAL_OF_SILENT_AFTER_MS: u32 = 10_000;

/// Marks the candidates that are avoided: those that hang, and those whose share of good responses is far below the best.
/// Where all are the same none is.
pub(super) fn mark(candidates: &mut [Candidate]) {
    let usable = || candidates.iter().filter(|candidate| candidate.weight.0 > 0);
    let all_silent = usable().all(|candidate| candidate.is_silent);
    let best = usable()
        .filter(|candidate| all_silent || !candidate.is_silent)
        .fold(0.0, |best: f32, candidate| best.max(candidate.good));
    for candidate in candidates {
        candidate.good = if best > 0.0 { (candidate.good / best).min(1.0) } else { 1.0 };
        candidate.is_avoided = !all_silent && candidate.is_silent || candidate.good < AVOIDED_BELOW;
    }
}

/// The candidate that has been without a request for longest, if it is time for a trial.
pub(super) fn trial(candidates: &[Candidate], draw: Draw<'_>) -> Option<Slot> {
    // The highest random bits decide; the lowest ones choose the server.
    let is_time = draw.random >> (u64::BITS - TRIAL_ONE_IN.trailing_zeros()) == 0;
    if !is_time || draw.is_long_lived {
        return None;
    }
    let is_due = |candidate: &&Candidate| {
        let after = if candidate.is_silent { TRIAL_OF_SILENT_AFTER_MS } else { TRIAL_AFTER_MS };
        candidate.weight.0 > 0 && candidate.unasked_ms >= after
    };
    candidates
        .iter()
        .filter(is_due)
        .max_by_key(|candidate| candidate.unasked_ms)
        .map(|candidate| candidate.slot)
}

#[cfg(test)]
mod tests {
    use super::super::testing::candidate;
    use super::*;

    /// Good shares in percent, below 0 for silent ones; those that are avoided.
    fn check(servers: &[i32], expected: &[u32]) {
        let full = |(slot, good): (u32, &i32)| Candidate {
            good: good.unsigned_abs() as f32 / 100.0,
            is_silent: *good < 0,
            ..candidate(slot, 1, 0)
        };
        let mut all: Vec<_> = (0..).zip(servers).map(full).collect();
        mark(&mut all);
        let avoided: Vec<_> = all.iter().filter(|c| c.is_avoided).map(|c| c.slot.0).collect();
        assert_eq!(avoided, expected, "{servers:?}");
    }

    #[test]
    fn those_that_fail_or_hang_while_others_do_not() {
        check(&[100, 100], &[]);
        check(&[100, 49, 51], &[1]);
        check(&[100, -100, 100], &[1]);
        check(&[-100, -100], &[]);
        check(&[2, 3, 3], &[]);
        check(&[0, 0], &[]);
        check(&[1, 90, 2, 1], &[0, 2, 3]);
        check(&[30, -100], &[1]);
    }

    #[test]
    fn a_trial_is_for_what_had_no_request_for_longest() {
        let unasked =
            |slot: u32, unasked_ms, is_silent| Candidate { unasked_ms, is_silent, ..candidate(slot, 1, 0) };
        let draw =
            |random| Draw { random, turn: 0, key: 0, schedule: &[], is_long_lived: false, is_sample: false };
        let all = [
            unasked(0, 900, false),
            unasked(1, 1_500, false),
            unasked(2, 9_000, true),
            unasked(3, 1_200, false),
        ];
        assert_eq!(trial(&all, draw(0)), Some(Slot(1)));
        assert_eq!(trial(&all, draw(u64::MAX)), None);
        assert_eq!(trial(&all[..1], draw(0)), None);
        let of_64 = (0..64_u64).filter(|n| trial(&all, draw(n << 58)).is_some()).count();
        assert_eq!(of_64, 1);
    }
}
