//! `compression`: which responses are compressed, and how.

use super::super::reader::Section;
use super::super::rules;
use super::super::tree::{Node, Value};
use crate::http1::encoding::{Coding, Compression};

/// What is compressed when the file does not say: text, and no event streams, whose pieces are too small to gain by it.
const TYPES: [&str; 12] = [
    "text/html",
    "text/css",
    "text/plain",
    "text/javascript",
    "text/xml",
    "text/csv",
    "application/javascript",
    "application/json",
    "application/xml",
    "application/manifest+json",
    "application/wasm",
    "image/svg+xml",
];

/// Reads its keys.
pub(super) fn compression(s: &mut Section<'_, '_>) -> Compression {
    let types = || TYPES.map(str::to_owned).to_vec();
    let codings = || vec![Coding::Zstd, Coding::Gzip];
    for (key, instead) in [("codings", "[ \"zstd\", \"gzip\" ]"), ("types", "[ \"text/*\" ]")] {
        if s.is_empty_list(key) {
            let advice = format!(
                "is an empty list, so that nothing is compressed; write {instead}, or null for \"compression\""
            );
            s.fault(key, advice);
        }
    }
    Compression {
        codings: s.values("codings", coding).unwrap_or_else(codings),
        types: s.values("types", media_type).unwrap_or_else(types),
        min_bytes: s.get("min_size", 1024, rules::size(0..=1 << 30)),
    }
}

fn coding(node: &Node) -> Result<Coding, String> {
    match &node.value {
        Value::Text(text) if matches!(text.as_str(), "br" | "brotli" | "deflate") => Err(format!(
            "{node} is not made here; write \"zstd\" or \"gzip\", which its clients accept as well"
        )),
        _ => rules::word(node, &Coding::ALL),
    }
}

fn media_type(node: &Node) -> Result<String, String> {
    let advice = "write a media type such as \"text/html\", or \"text/*\"";
    let text = rules::text(node, advice)?;
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$&^_.+-".contains(&byte);
    let is_valid = text.split_once('/').is_some_and(|(kind, of_kind)| {
        let is_name = |name: &str| !name.is_empty() && name.bytes().all(is_plain);
        is_name(kind) && (of_kind == "*" || is_name(of_kind))
    });
    if is_valid {
        Ok(text.to_ascii_lowercase())
    } else {
        Err(format!("{node} is not a valid media type; {advice}"))
    }
}
