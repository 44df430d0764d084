//! Servers that fail or hang while others do not, and how their recovery is noticed.

use super::{Candidate, Draw, Slot, shares};
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

/// The candidate that has been without a request for longest, if it is time for a trial. Without one, servers that are avoided would
/// never be seen to recover, and neither would slow ones be where speed decides (`is_by_speed`); all others get requests by turn. With
/// weights that differ, a trial is not more than the share of the server.
pub(super) fn trial(candidates: &[Candidate], draw: Draw<'_>, is_by_speed: bool) -> Option<Slot> {
    const BITS: u32 = TRIAL_ONE_IN.trailing_zeros();
    // The highest random bits decide whether it is time, those below whether the share is large enough; the lowest ones choose the
    // server.
    if draw.random >> (u64::BITS - BITS) != 0 || draw.is_long_lived {
        return None;
    }
    let is_by_speed = is_by_speed && !shares::are_wanted(candidates);
    let is_due = |candidate: &&Candidate| {
        let after = if candidate.is_silent { TRIAL_OF_SILENT_AFTER_MS } else { TRIAL_AFTER_MS };
        let is_wanted = candidate.weight.0 > 0 && (is_by_speed || candidate.is_avoided);
        is_wanted && candidate.unasked_ms >= after
    };
    let longest = candidates.iter().filter(is_due).max_by_key(|candidate| candidate.unasked_ms)?;
    let weights: u64 = candidates.iter().map(|candidate| u64::from(candidate.weight.0)).sum();
    let chance = (draw.random << BITS) >> 32;
    let of_share = (u64::from(longest.weight.0) * TRIAL_ONE_IN) << 32;
    (chance * weights < of_share).then_some(longest.slot)
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
        assert_eq!(trial(&all, draw(0), true), Some(Slot(1)));
        assert_eq!(trial(&all, draw(u64::MAX), true), None);
        assert_eq!(trial(&all[..1], draw(0), true), None);
        let of_64 = (0..64_u64).filter(|n| trial(&all, draw(n << 58), true).is_some()).count();
        assert_eq!(of_64, 1);
        assert_eq!(trial(&all, draw(0), false), None, "each gets its turn");
        let avoided = all.map(|one| Candidate { is_avoided: one.slot.0 == 3, ..one });
        assert_eq!(trial(&avoided, draw(0), false), Some(Slot(3)));
    }

    /// A server of this weight beside one of 99, both without a request for long: trials in 64,000 draws.
    fn trials(weight: u16, is_avoided: bool) -> usize {
        let rare = Candidate { unasked_ms: 20_000, is_avoided, ..candidate(0, weight, 0) };
        let all = [rare, Candidate { unasked_ms: 30_000, ..candidate(1, 99, 0) }];
        let mut random = crate::base::random::Random::seeded(3);
        let mut draw = || Draw {
            random: random.number(),
            turn: 0,
            key: 0,
            schedule: &[],
            is_long_lived: false,
            is_sample: false,
        };
        (0..64_000).filter(|_| trial(&all, draw(), true) == Some(Slot(0))).count()
    }

    #[test]
    fn a_trial_is_not_more_than_a_share() {
        assert_eq!(trials(1, false), 0, "it gets its share by turn");
        let (one, fifty) = (trials(1, true), trials(50, true));
        assert!((560..720).contains(&one), "a hundredth, not a 64th: {one}");
        assert!((900..1_100).contains(&fifty), "{fifty}");
    }
}
