//! The saved corpus: small inputs that proxies and servers have disagreed about, or that a fuzzer found. The name
//! of a file tells its verdict, `kind.verdict.what-it-is`: `ok` (and nothing is left over), `rest` (what comes
//! after belongs to the next message), `partial`, or the name of the reason.

use crate::checks::{self, Verdict};
use std::fs;
use std::path::Path;

/// Reads a folder of the corpus; `check` gets the kind and the bytes, and says the verdict.
fn replay(folder: &str, check: impl Fn(&str, &[u8]) -> Verdict) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(folder);
    let mut count = 0;
    for entry in fs::read_dir(&folder).expect("the folder is there") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        let bytes = fs::read(&path).expect("a file");
        let mut parts = name.split('.');
        let (kind, verdict) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""));
        let found = match check(kind, &bytes) {
            Err(reason) => reason.name(),
            Ok(None) => "partial",
            Ok(Some(len)) if len == bytes.len() => "ok",
            Ok(Some(_)) => "rest",
        };
        assert_eq!(found, verdict, "{name}");
        count += 1;
    }
    assert!(count > 10, "{} is nearly empty", folder.display());
}

#[test]
fn heads() {
    replay("head", |kind, bytes| {
        checks::request(bytes);
        checks::response(bytes);
        checks::request_message(bytes);
        checks::response_message(bytes);
        match kind {
            "request" => checks::request_verdict(bytes),
            "response" => checks::response_verdict(bytes, evenkeel::http1::framing::Method::Other),
            other => panic!("{other}: request or response"),
        }
    });
}

#[test]
fn chunked_bodies() {
    replay("chunked", |_, bytes| {
        checks::chunked(bytes);
        checks::chunked_verdict(bytes)
    });
}

#[test]
fn preambles() {
    replay("proxy", |_, bytes| {
        checks::preamble(bytes);
        checks::preamble_verdict(bytes)
    });
}
