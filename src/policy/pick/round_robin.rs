//! In turn, by weight: the schedule holds the order, the request counter selects the entry.

use super::{Candidate, Draw, Slot, weighted};

/// The server whose turn it is. Exact when all servers of the schedule are candidates; the share of a missing one goes
/// to the others at random, in proportion to their weights.
pub(super) fn pick(candidates: &[Candidate], draw: Draw<'_>) -> Option<Slot> {
    weighted::turn_or_random(candidates, draw, |_| true)
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;

    /// The servers in use of those with the weights 5, 1, 1 and what each gets of this many requests.
    fn check(in_use: &[u32], requests: u64, least: [u64; 3], most: [u64; 3]) {
        let all = [candidate(0, 5, 0), candidate(1, 1, 0), candidate(2, 1, 0)];
        let some: Vec<_> = all.into_iter().filter(|c| in_use.contains(&c.slot.0)).collect();
        let got = shares(super::super::Algorithm::RoundRobin, &some, &scheduled(&all), requests, 3);
        let fits = got.iter().zip(least).zip(most).all(|((&n, least), most)| n >= least && n <= most);
        assert!(fits, "{in_use:?}: {got:?}");
    }

    #[test]
    fn exact_when_all_are_there_and_fair_when_not() {
        check(&[0, 1, 2], 7_000, [5_000, 1_000, 1_000], [5_000, 1_000, 1_000]);
        check(&[1, 2], 7_000, [0, 3_300, 3_300], [0, 3_700, 3_700]);
        check(&[0, 2], 6_000, [4_900, 0, 900], [5_100, 0, 1_100]);
    }

    #[test]
    fn the_order_is_that_of_the_schedule() {
        let all = [candidate(0, 5, 0), candidate(1, 1, 0), candidate(2, 1, 0)];
        let schedule = scheduled(&all);
        let picks = (0..14).filter_map(|turn| {
            pick(
                &all,
                Draw { random: 1, turn, key: 1, schedule: &schedule, is_long_lived: false, is_sample: false },
            )
        });
        assert_eq!(picks.map(|slot| slot.0).collect::<Vec<_>>(), [0, 0, 1, 0, 2, 0, 0, 0, 0, 1, 0, 2, 0, 0]);
    }
}
