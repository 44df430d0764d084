//! Any bytes as a whole message, head and body: what is accepted and framed again, httparse reads as the same message,
//! with nothing left over.
#![no_main]

#[path = "../../tests/codec/checks.rs"]
mod checks;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    checks::request_message(bytes);
    checks::response_message(bytes);
});
