//! The values of `health_check` that no other section has: what they must be, and what to write if they are not.

use super::super::routes::is_token;
use super::super::rules;
use super::super::tree::Node;
use super::Expected;
use crate::policy::route::Pattern;

/// The most bytes that a probe sends as `body` or `send`.
const SEND_BYTES_MAX: usize = 64 * 1024;
/// The longest text of one argument, of a header's value and of what is expected, in bytes.
const TEXT_MAX: usize = 4096;

pub(super) fn service(node: &Node) -> Result<String, String> {
    let advice = "write the name of a service, such as \"shop.v1.Cart\"";
    let text = rules::text(node, advice)?;
    match text.len() <= 255 && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Ok(text.to_owned()),
        false => Err(format!("{node} is not the name of a service; {advice}")),
    }
}

pub(super) fn argument(node: &Node) -> Result<String, String> {
    let text = rules::text(node, "write each argument as a string")?;
    match text.len() <= TEXT_MAX && !text.contains('\0') {
        true => Ok(text.to_owned()),
        false => Err(format!("is not an argument of a command; write at most {TEXT_MAX} characters")),
    }
}

pub(super) fn method(node: &Node) -> Result<String, String> {
    let advice = "write a method such as \"GET\"";
    let text = rules::text(node, advice)?;
    let upper = text.to_ascii_uppercase();
    match upper.as_str() {
        "CONNECT" | "TRACE" => Err(format!("{node} is not a method for a health check; {advice}")),
        _ if !is_token(text) => Err(format!("{node} is not a method; {advice}")),
        _ if upper != text => Err(format!("methods have a case; write {upper:?}")),
        _ => Ok(upper),
    }
}

/// Headers that say how the request itself is framed and what becomes of its connection.
const OWN: [&str; 8] =
    ["connection", "content-length", "expect", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"];

pub(super) fn header(name: &str, node: &Node) -> Result<(String, String), String> {
    let lower = name.to_ascii_lowercase();
    if !is_token(name) {
        return Err("is not the name of a header; write one such as \"Host\"".to_owned());
    }
    if OWN.contains(&lower.as_str()) {
        return Err("is written by the probe itself; leave it out".to_owned());
    }
    if lower == "host" {
        return Ok((name.to_owned(), rules::host(node)?));
    }
    let advice = "write its value as a string";
    let text = rules::text(node, advice)?;
    let is_plain = |byte: u8| byte == b' ' || byte == b'\t' || byte.is_ascii_graphic();
    match text.len() <= TEXT_MAX && text.bytes().all(is_plain) {
        true => Ok((name.to_owned(), text.trim().to_owned())),
        false => Err(format!("is not a valid value; write at most {TEXT_MAX} ASCII characters of one line")),
    }
}

pub(super) fn body(node: &Node) -> Result<String, String> {
    let text = rules::text(node, "write the body as a string")?;
    within(text.as_bytes()).map(|()| text.to_owned())
}

fn within(bytes: &[u8]) -> Result<(), String> {
    match bytes.len() {
        0..=SEND_BYTES_MAX => Ok(()),
        more => Err(format!("has {more} bytes; write at most {SEND_BYTES_MAX}")),
    }
}

/// A text, or `hex:` and the bytes.
pub(in super::super) fn bytes(node: &Node) -> Result<Vec<u8>, String> {
    let advice = "write text such as \"PING\\r\\n\", or bytes such as \"hex:0d0a\"";
    let text = rules::text(node, advice)?;
    let bytes = match text.strip_prefix("hex:") {
        Some(digits) => {
            hex(digits).ok_or_else(|| format!("{node} are not pairs of hexadecimal digits; {advice}"))?
        }
        None => text.as_bytes().to_vec(),
    };
    within(&bytes).map(|()| bytes)
}

fn hex(digits: &str) -> Option<Vec<u8>> {
    let digits: Vec<u32> =
        digits.chars().filter(|char| *char != ' ').map(|char| char.to_digit(16)).collect::<Option<_>>()?;
    let pairs = digits.chunks_exact(2);
    pairs.remainder().is_empty().then(|| pairs.map(|pair| (pair[0] * 16 + pair[1]) as u8).collect())
}

/// A text, `~` and an expression, or `hex:` and bytes where that is taken.
pub(super) fn expected(node: &Node, takes_hex: bool) -> Result<Expected, String> {
    let text = rules::text(node, "write a part of it such as \"ok\", or \"~expression\"")?;
    if let Some(expression) = text.strip_prefix('~') {
        return Pattern::new(expression).map(Expected::Pattern).map_err(|fault| format!("{node} {fault}"));
    }
    let wanted = if takes_hex { bytes(node)? } else { text.as_bytes().to_vec() };
    match wanted.len() {
        0 => Err("is empty, which is in everything; leave it out".to_owned()),
        1..=TEXT_MAX => Ok(Expected::Bytes(wanted)),
        _ => Err(format!("is too long; write at most {TEXT_MAX} bytes")),
    }
}
