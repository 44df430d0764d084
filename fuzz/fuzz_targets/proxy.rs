//! Any bytes as a preamble of the PROXY protocol: as they are, and behind the signature of version 2.
#![no_main]

#[path = "../../tests/codec/checks.rs"]
mod checks;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    checks::preamble(bytes);
    checks::preamble(&[b"\r\n\r\n\0\r\nQUIT\n", bytes].concat());
});
