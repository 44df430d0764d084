//! Weighted rendezvous hashing: every candidate of a key gets a score from the key's hash and its own, and the highest wins
//! (Thaler and Ravishankar, "Using name-based mappings to increase hit rates", 1998). When a candidate leaves, only its own
//! keys move.

/// Both hashes in one uniformly distributed number (the finalizer of SplitMix64).
pub fn mix(key: u64, hash: u64) -> u64 {
    let mut mixed = key.wrapping_add(hash.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// The score of a mixed hash: `-weight / ln(fraction)`, where `fraction` is the hash as a fraction of 1, so that a candidate
/// wins in proportion to its weight (Schindelhauer and Schomaker, "Weighted distributed hash tables", 2005).
pub fn score(mixed: u64, weight: u32) -> f64 {
    let fraction = ((mixed >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
    -f64::from(weight) / fraction.ln()
}
