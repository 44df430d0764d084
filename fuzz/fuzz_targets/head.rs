//! Any bytes as a request head and as a response head: the same result for any split, no panic, and what is accepted is
//! forwarded as the same message.
#![no_main]

#[path = "../../tests/codec/checks.rs"]
mod checks;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    checks::request(bytes);
    checks::response(bytes);
});
