//! Any bytes as a chunked body, cut into pieces of the lengths in the first bytes.
#![no_main]

#[path = "../../tests/codec/checks.rs"]
mod checks;

use evenkeel::http1::framing::Framing;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let (cuts, bytes) = bytes.split_at(bytes.len().min(8));
    let cuts: Vec<usize> = cuts.iter().map(|cut| usize::from(*cut)).collect();
    checks::body(Framing::Chunked, bytes, &cuts);
    checks::round_trip(bytes, &cuts);
});
