//! The smooth weighted order, computed once per snapshot of the table, so that a pick costs one index lookup.

use super::{Slot, Weight};

/// The most entries of a schedule, unless there are more servers than that.
const LONGEST: u64 = 10_000;
/// The most steps (entries times servers) spent on nginx's order, about 1 ms; larger tables use [`spread`].
const MOST_STEPS: u64 = 1_000_000;

/// The smooth weighted round-robin order (nginx's, of commit 52327e0) over one full turn: each slot appears
/// in proportion to its weight. Weights are divided by their gcd, and scaled down, never below 1, so that a
/// turn stays within 10,000 entries (or one per server, when there are more). Servers of weight 0 are left
/// out.
pub fn schedule(servers: &[(Slot, Weight)]) -> Vec<Slot> {
    let servers = reduced(servers);
    let entries: u64 = servers.iter().map(|&(_, weight)| weight).sum();
    match entries.saturating_mul(servers.len() as u64) {
        0..=MOST_STEPS => smooth(&servers, entries),
        _ => spread(&servers),
    }
}

/// At each step every server gains its weight; the one with the highest total is taken and pays the sum: a a b a c a a
/// for 5, 1, 1.
fn smooth(servers: &[(Slot, u64)], entries: u64) -> Vec<Slot> {
    let mut wealth = vec![0_i64; servers.len()];
    (0..entries)
        .filter_map(|_| {
            let mut richest = 0;
            for (at, &(_, weight)) in servers.iter().enumerate() {
                wealth[at] += weight as i64;
                if wealth[at] > wealth[richest] {
                    richest = at;
                }
            }
            *wealth.get_mut(richest)? -= entries as i64;
            servers.get(richest).map(|&(slot, _)| slot)
        })
        .collect()
}

/// For large tables: each server's entries are spread evenly over the turn, each in the middle of its interval.
fn spread(servers: &[(Slot, u64)]) -> Vec<Slot> {
    let places = |&(slot, weight): &(Slot, u64)| {
        (0..weight).map(move |nth| ((2 * nth + 1) * u64::from(u32::MAX) / (2 * weight), slot))
    };
    let mut order: Vec<_> = servers.iter().flat_map(places).collect();
    order.sort_unstable();
    order.into_iter().map(|(_, slot)| slot).collect()
}

/// The servers with a weight above 0, with reduced weights.
fn reduced(servers: &[(Slot, Weight)]) -> Vec<(Slot, u64)> {
    let used = || servers.iter().filter(|(_, weight)| weight.0 > 0).map(|&(slot, w)| (slot, u64::from(w.0)));
    let divisor = used().fold(0, |divisor, (_, weight)| gcd(divisor, weight)).max(1);
    let (count, total) =
        used().fold((0, 0), |(count, total), (_, weight)| (count + 1, total + weight / divisor));
    let scaled = |weight: u64| match total <= LONGEST {
        true => weight / divisor,
        false => (weight / divisor * LONGEST.saturating_sub(count) / total).max(1),
    };
    used().map(|(slot, weight)| (slot, scaled(weight))).collect()
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weighted(weights: &[u16]) -> Vec<(Slot, Weight)> {
        (0..).zip(weights).map(|(slot, &weight)| (Slot(slot), Weight(weight))).collect()
    }

    fn check(weights: &[u16], expected: &str) {
        let letters = schedule(&weighted(weights)).into_iter().map(|slot| (b'a' + slot.0 as u8) as char);
        assert_eq!(letters.collect::<String>(), expected, "{weights:?}");
    }

    #[test]
    fn small_turns_are_those_of_nginx() {
        check(&[], "");
        check(&[0, 0], "");
        check(&[7], "a");
        check(&[1, 1, 1], "abc");
        check(&[100, 100], "ab");
        check(&[5, 1, 1], "aabacaa");
        check(&[50, 10, 10], "aabacaa");
        check(&[0, 4, 2], "bcb");
        check(&[4, 3, 2, 1], "abcabdacba");
    }

    fn check_large(weights: &[u16], longest: usize) {
        let order = schedule(&weighted(weights));
        assert!(order.len() <= longest, "{} entries", order.len());
        let mut counts = vec![0_u64; weights.len()];
        order.iter().for_each(|slot| counts[slot.0 as usize] += 1);
        let total: u64 = weights.iter().map(|&w| u64::from(w)).sum();
        for (&count, &weight) in counts.iter().zip(weights) {
            let ideal = u64::from(weight) as f64 * order.len() as f64 / total as f64;
            assert!(count > 0 && (count as f64 - ideal).abs() <= ideal * 0.5 + 1.0, "{count} for {ideal}");
        }
    }

    #[test]
    fn large_turns_stay_in_bounds_and_in_proportion() {
        check_large(&[1000, 999, 1], 10_000);
        check_large(&[u16::MAX, u16::MAX - 1, u16::MAX - 3], 10_000);
        check_large(&vec![1; 3_000], 3_000);
        check_large(&[&[u16::MAX][..], &[1; 2_000]].concat(), 10_000);
        check_large(&(0..3_000).map(|n| 500 + n % 500).collect::<Vec<_>>(), 10_000);
        check_large(&(0..12_000).map(|n| 1 + n % 2).collect::<Vec<_>>(), 12_000);
        check_large(&(0..2_000).map(|n| 1 + n % 3).collect::<Vec<_>>(), 10_000);
    }
}
