//! Weights that differ are shares: each server gets its part of the requests, whatever its speed, as long as it keeps up.

use super::{Candidate, Draw, Slot, least_connections, weighted};

/// A server keeps up while it has at most so many times its part of the requests in flight …
const LOAD_FACTOR: f32 = 2.0;
/// … and this many more: at rest each may have one, and the next one may come before its response.
const LOAD_EXTRA: f32 = 2.0;

/// The server whose turn it is, if it keeps up; else another one that does, at random by weight; else the one with the
/// fewest in flight for its weight.
pub(super) fn pick(candidates: &[Candidate], draw: Draw<'_>) -> Option<Slot> {
    weighted::turn_or_random(candidates, draw, keeps_up(candidates))
        .or_else(|| least_connections::pick(candidates, draw))
}

/// Whether the weights of the candidates differ.
pub(super) fn are_wanted(candidates: &[Candidate]) -> bool {
    let mut weights = candidates.iter().map(|candidate| candidate.weight.0).filter(|weight| *weight > 0);
    let first = weights.next();
    weights.any(|weight| Some(weight) != first)
}

/// Whether a candidate is not behind with its part.
pub(super) fn keeps_up(candidates: &[Candidate]) -> impl Fn(&Candidate) -> bool + use<> {
    let (mut in_flight, mut weights) = (0.0, 0.0);
    for candidate in candidates.iter().filter(|candidate| candidate.weight.0 > 0 && !candidate.is_avoided) {
        in_flight += candidate.in_flight as f32;
        weights += f32::from(candidate.weight.0);
    }
    move |candidate| {
        let part = in_flight * f32::from(candidate.weight.0) / weights;
        !candidate.is_avoided && candidate.in_flight as f32 <= LOAD_FACTOR * part + LOAD_EXTRA
    }
}
