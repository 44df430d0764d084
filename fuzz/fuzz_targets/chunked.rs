//! Any bytes as a chunked body, whole, in single bytes and in pieces.
#![no_main]

#[path = "../../tests/codec/checks.rs"]
mod checks;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| checks::chunked(bytes));
