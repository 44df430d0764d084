//! Weighted turns and weighted random choice among candidates, shared by the algorithms.

use super::{Candidate, Draw, Slot};

/// One of the candidates that fit: the one whose turn it is in the schedule, so that equal servers take turns in exact
/// proportion. If that one is missing or does not fit, the choice is random. Taking the next one in the schedule would
/// give a missing server's whole share to its neighbour.
pub(super) fn turn_or_random(
    candidates: &[Candidate],
    draw: Draw<'_>,
    fits: impl Fn(&Candidate) -> bool,
) -> Option<Slot> {
    let fits = |candidate: &Candidate| candidate.weight.0 > 0 && fits(candidate);
    let next = whose_turn(candidates, draw).filter(|candidate| fits(candidate));
    next.or_else(|| weighted_random(candidates, draw, draw.random as u32, fits))
        .map(|candidate| candidate.slot)
}

/// One of the candidates that fit, with probability proportional to its weight; all with the same where they are a sample.
/// `chance` is 32 uniformly random bits.
pub(super) fn weighted_random<'c>(
    candidates: &'c [Candidate],
    draw: Draw<'_>,
    chance: u32,
    fits: impl Fn(&Candidate) -> bool,
) -> Option<&'c Candidate> {
    let weight = |candidate: &Candidate| if draw.is_sample { 1 } else { u64::from(candidate.weight.0) };
    let fitting = || candidates.iter().filter(|candidate| fits(candidate));
    let total: u64 = fitting().map(weight).sum();
    let mut point = (u64::from(chance) * total) >> 32;
    fitting().find(|candidate| match point.checked_sub(weight(candidate)) {
        None => true,
        Some(rest) => {
            point = rest;
            false
        }
    })
}

/// The candidate whose turn it is in the schedule.
pub(super) fn whose_turn<'a>(candidates: &'a [Candidate], draw: Draw<'_>) -> Option<&'a Candidate> {
    let at = draw.turn.checked_rem(draw.schedule.len() as u64)?;
    find(candidates, *draw.schedule.get(at as usize)?)
}

/// Candidates are usually in the order of the table; a sample may not be.
fn find(candidates: &[Candidate], slot: Slot) -> Option<&Candidate> {
    match candidates.binary_search_by_key(&slot, |candidate| candidate.slot) {
        Ok(at) => candidates.get(at),
        Err(_) => candidates.iter().find(|candidate| candidate.slot == slot),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::candidate;
    use super::*;

    fn check(weights: &[u16], chance: u32, expected: Option<u32>) {
        let candidates: Vec<_> =
            (0..).zip(weights).map(|(slot, &weight)| candidate(slot, weight, 0)).collect();
        let draw = Draw { random: 0, turn: 0, key: 0, schedule: &[], is_long_lived: false, is_sample: false };
        let got = weighted_random(&candidates, draw, chance, |_| true).map(|c| c.slot.0);
        assert_eq!(got, expected, "{weights:?} {chance}");
    }

    #[test]
    fn a_weighted_choice_covers_exactly_the_weights() {
        check(&[], 0, None);
        check(&[0, 0], u32::MAX, None);
        check(&[3, 1], 0, Some(0));
        check(&[3, 1], u32::MAX / 4 * 3 - 1, Some(0));
        check(&[3, 1], u32::MAX / 4 * 3 + 4, Some(1));
        check(&[0, 1, 0], u32::MAX, Some(1));
        check(&[u16::MAX; 5], u32::MAX, Some(4));
    }
}
