//! The server with the fewest requests in flight relative to its weight.

use super::{Candidate, Draw, Slot, weighted};

/// The lowest `in_flight / weight`. Equal servers (often all of them, when idle) take turns by weight, as in nginx's
/// `least_conn`: always taking the first would send every request to one server under light load.
pub(super) fn pick(candidates: &[Candidate], draw: Draw<'_>) -> Option<Slot> {
    weighted::turn_or_random(candidates, draw, is_least(candidates))
}

/// Whether a candidate has as few requests in flight, relative to its weight, as any.
pub(super) fn is_least(candidates: &[Candidate]) -> impl Fn(&Candidate) -> bool {
    let usable = candidates.iter().filter(|candidate| candidate.weight.0 > 0);
    let least = usable.reduce(|least, candidate| if is_less(candidate, least) { candidate } else { least });
    move |candidate| least.is_some_and(|least| !is_less(least, candidate))
}

/// Whether `a` has fewer requests in flight than `b`, relative to weight: fractions compared by cross-multiplication.
/// Both have a weight above 0. A server that fails or hangs sorts after all others.
pub(super) fn is_less(a: &Candidate, b: &Candidate) -> bool {
    match (a.is_avoided, b.is_avoided) {
        (true, false) => false,
        (false, true) => true,
        _ => u64::from(a.in_flight) * u64::from(b.weight.0) < u64::from(b.in_flight) * u64::from(a.weight.0),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;

    /// Servers as (weight, in flight) and those that may be picked, all of them.
    fn check(servers: &[(u16, u32)], expected: &[u32]) {
        let all: Vec<_> = (0..).zip(servers).map(|(slot, &(w, busy))| candidate(slot, w, busy)).collect();
        let counts =
            shares(super::super::Algorithm::LeastConnections, &all, &scheduled(&all), 500, servers.len());
        let picked: Vec<_> = (0..).zip(counts).filter(|&(_, n)| n > 0).map(|(slot, _)| slot).collect();
        assert_eq!(picked, expected, "{servers:?}");
    }

    #[test]
    fn the_least_loaded_for_its_weight() {
        check(&[(1, 3), (1, 2), (1, 4)], &[1]);
        check(&[(1, 3), (2, 4), (1, 4)], &[1]);
        check(&[(1, 2), (2, 4), (1, 9)], &[0, 1]);
        check(&[(1, 0), (0, 0), (9, 0)], &[0, 2]);
        check(&[(1000, u32::MAX), (1, u32::MAX)], &[0]);
    }
}
