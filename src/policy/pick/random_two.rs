//! The less loaded of two random servers (Mitzenmacher, "The power of two choices", 2001; nginx's `random two`).

use super::{Candidate, Draw, Slot, least_connections, weighted};

/// Two different candidates are chosen at random by weight; the second is taken only if it has fewer requests in flight
/// relative to its weight. So idle servers share by weight, and requests do not all go to the one server that looks
/// best. Servers that fail or hang are chosen only if all do: with two of four hanging, every sixth pair would be these
/// two.
pub(super) fn pick(candidates: &[Candidate], draw: Draw<'_>) -> Option<Slot> {
    let drawn = |candidate: &Candidate| candidate.weight.0 > 0 && !candidate.is_avoided;
    let some_respond = candidates.iter().any(drawn);
    let fits = |candidate: &Candidate| !some_respond || drawn(candidate);
    let first = weighted::weighted_random(candidates, draw, draw.random as u32, fits)?;
    let second = weighted::weighted_random(candidates, draw, (draw.random >> 32) as u32, |other| {
        other.slot != first.slot && fits(other)
    });
    let better = second.filter(|second| least_connections::is_less(second, first));
    Some(better.unwrap_or(first).slot)
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;

    /// Servers as (weight, in flight) and what each gets of 9,000 requests, within 300.
    fn check(servers: &[(u16, u32)], expected: &[u64]) {
        let all: Vec<_> = (0..).zip(servers).map(|(slot, &(w, busy))| candidate(slot, w, busy)).collect();
        let got = shares(super::super::Algorithm::RandomTwo, &all, &[], 9_000, servers.len());
        assert!(got.iter().zip(expected).all(|(&a, &b)| a.abs_diff(b) <= 300), "{servers:?}: {got:?}");
    }

    #[test]
    fn the_less_loaded_of_two() {
        check(&[(1, 9)], &[9_000]);
        check(&[(1, 9), (1, 0)], &[0, 9_000]);
        check(&[(1, 2), (1, 1), (1, 0)], &[0, 3_000, 6_000]);
        check(&[(1, 1), (1, 1), (1, 1)], &[3_000, 3_000, 3_000]);
        check(&[(8, 8), (1, 1), (0, 0)], &[8_000, 1_000, 0]);
    }
}
