//! The path of a target as routes see it: dot segments and percent-encoding of plain characters resolved, repeated slashes
//! merged (RFC 3986 sections 6.2.2 and 6.2.3). Only for matching: what is forwarded stays as it came.
//!
//! A server may read a path in another way than a proxy in front of it. Where the two readings could lead to different
//! places the path is rejected: see [`Unsafe`], and the table in `docs/http.md`.

use memchr::memchr;
use std::borrow::Cow;

/// A path for matching.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Normalised<'p> {
    /// Begins with `/`, except for the `*` of OPTIONS. Borrowed when the path was in this form already.
    pub path: Cow<'p, [u8]>,
    /// The same with its `..` left in place, when it had any. A request whose two forms match different routes is
    /// rejected: its `..` escapes the prefix that a server might see.
    pub unresolved: Option<Vec<u8>>,
}

/// Why a path is rejected with 400 `unsafe_path`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsafe {
    /// `%2F`: some servers take it for a slash.
    EncodedSlash,
    /// `\` or `%5C`: some servers take it for a slash.
    Backslash,
    /// `%00`: some servers end the path there.
    Nul,
    /// A `%` without two hexadecimal digits.
    BadEncoding,
    /// An ASCII character in two bytes of UTF-8, such as `%C0%AF` for a slash.
    Overlong,
    /// `..` at the root.
    AboveRoot,
    /// `.` or `..` with a parameter, as in `/a/..;x/b`: Java servers leave the parameter out.
    DotsWithParameter,
}

/// The path and the query (without its `?`) of a target in origin form.
pub fn split(target: &[u8]) -> (&[u8], Option<&[u8]>) {
    match memchr(b'?', target) {
        Some(at) => (&target[..at], Some(&target[at + 1..])),
        None => (target, None),
    }
}

/// The path for matching. `path` has no query; bytes that a target cannot have were rejected before.
pub fn normalise(path: &[u8]) -> Result<Normalised<'_>, Unsafe> {
    if !needs_work(path) {
        return Ok(Normalised { path: Cow::Borrowed(path), unresolved: None });
    }
    let decoded = decode(path)?;
    let merged = merge_slashes(&decoded);
    let (resolved, has_dot_dot) = resolve_dots(&merged)?;
    let unchanged = resolved == path;
    Ok(Normalised {
        path: if unchanged { Cow::Borrowed(path) } else { Cow::Owned(resolved) },
        unresolved: has_dot_dot.then_some(merged),
    })
}

/// Whether there may be something to decode, to merge, to resolve or to reject.
fn needs_work(path: &[u8]) -> bool {
    let mut before = 0;
    path.iter().any(|&byte| {
        let found = matches!(byte, b'%' | b'\\' | 0) || (before == b'/' && matches!(byte, b'/' | b'.'));
        before = byte;
        found
    })
}

/// Decodes unreserved characters (RFC 3986 section 2.3), writes the digits of the others in upper case, and rejects
/// what servers read in different ways.
fn decode(path: &[u8]) -> Result<Vec<u8>, Unsafe> {
    let (mut out, mut rest) = (Vec::with_capacity(path.len()), path);
    loop {
        rest = match rest {
            [] => return Ok(out),
            [b'\\', ..] => return Err(Unsafe::Backslash),
            [0, ..] => return Err(Unsafe::Nul),
            [b'%', rest @ ..] => {
                let (byte, after) = encoded_byte(rest).ok_or(Unsafe::BadEncoding)?;
                check_encoded(byte, after)?;
                match is_unreserved(byte) {
                    true => out.push(byte),
                    false => out.extend([b'%', rest[0].to_ascii_uppercase(), rest[1].to_ascii_uppercase()]),
                }
                after
            }
            [byte, rest @ ..] => {
                out.push(*byte);
                rest
            }
        };
    }
}

/// The value of two hexadecimal digits, and what follows them.
fn encoded_byte(digits: &[u8]) -> Option<(u8, &[u8])> {
    let hex = |digit: u8| char::from(digit).to_digit(16);
    match digits {
        [high, low, rest @ ..] => Some(((hex(*high)? * 16 + hex(*low)?) as u8, rest)),
        _ => None,
    }
}

fn check_encoded(byte: u8, after: &[u8]) -> Result<(), Unsafe> {
    match byte {
        b'/' => Err(Unsafe::EncodedSlash),
        b'\\' => Err(Unsafe::Backslash),
        0 => Err(Unsafe::Nul),
        0xc0 | 0xc1 if matches!(after, [b'%', b'8' | b'9' | b'a' | b'b' | b'A' | b'B', ..]) => {
            Err(Unsafe::Overlong)
        }
        _ => Ok(()),
    }
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

fn merge_slashes(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    for &byte in path {
        if byte != b'/' || out.last() != Some(&b'/') {
            out.push(byte);
        }
    }
    out
}

/// Removes dot segments (RFC 3986 section 5.2.4), but rejects `..` at the root instead of ignoring it. Also whether
/// there was a `..`.
fn resolve_dots(path: &[u8]) -> Result<(Vec<u8>, bool), Unsafe> {
    let mut out: Vec<u8> = Vec::with_capacity(path.len());
    let Some(inner) = path.strip_prefix(b"/") else { return Ok((path.to_vec(), false)) };
    let mut segments = inner.split(|byte| *byte == b'/').peekable();
    let mut has_dot_dot = false;
    while let Some(segment) = segments.next() {
        let is_last = segments.peek().is_none();
        match dots(segment)? {
            None => {
                out.push(b'/');
                out.extend_from_slice(segment);
                continue;
            }
            Some(1) => {}
            Some(_) => {
                has_dot_dot = true;
                let parent = out.iter().rposition(|byte| *byte == b'/').ok_or(Unsafe::AboveRoot)?;
                out.truncate(parent);
            }
        }
        if is_last {
            out.push(b'/');
        }
    }
    Ok((out, has_dot_dot))
}

/// 1 for `.` and 2 for `..`.
fn dots(segment: &[u8]) -> Result<Option<u8>, Unsafe> {
    match segment {
        b"." => Ok(Some(1)),
        b".." => Ok(Some(2)),
        [b'.', b';', ..] | [b'.', b'.', b';', ..] => Err(Unsafe::DotsWithParameter),
        _ => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DOCUMENT: &str = include_str!("../../docs/http.md");

    /// The rows of the table under "Paths and routes": a path, what routes see, or why it is rejected.
    fn rows() -> Vec<(&'static str, &'static str)> {
        let section = DOCUMENT.split("\n## Paths and routes\n").nth(1).expect("docs/http.md has the section");
        let table = section.split("\n## ").next().unwrap_or_default();
        let lines = table.lines().filter(|line| line.starts_with("| `/"));
        let row = |line: &'static str| {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            (cells[1].trim_matches('`'), cells[2])
        };
        lines.map(row).collect()
    }

    #[test]
    fn paths_are_matched_as_the_document_says() {
        let rows = rows();
        assert!(rows.len() >= 20, "only {} rows were found", rows.len());
        for (path, expected) in rows {
            let told = match normalise(path.as_bytes()) {
                Ok(normalised) => format!("`{}`", String::from_utf8_lossy(&normalised.path)),
                Err(_) => "400 `unsafe_path`".to_owned(),
            };
            assert_eq!(told, expected, "{path}");
        }
    }

    #[test]
    fn what_is_rejected_has_its_own_cause() {
        let check = |path: &[u8], cause| assert_eq!(normalise(path), Err(cause), "{path:?}");
        check(b"/a%2fb", Unsafe::EncodedSlash);
        check(b"/a%2Fb", Unsafe::EncodedSlash);
        check(b"/a%5cb", Unsafe::Backslash);
        check(b"/a\\b", Unsafe::Backslash);
        check(b"/%00", Unsafe::Nul);
        check(b"/\0", Unsafe::Nul);
        check(b"/%", Unsafe::BadEncoding);
        check(b"/%4", Unsafe::BadEncoding);
        check(b"/%g1", Unsafe::BadEncoding);
        check(b"/%+1", Unsafe::BadEncoding);
        check(b"/%c0%af", Unsafe::Overlong);
        check(b"/..", Unsafe::AboveRoot);
        check(b"/a/../..", Unsafe::AboveRoot);
        check(b"/a/%2e%2e/%2E%2e/b", Unsafe::AboveRoot);
        check(b"/a/..;/b", Unsafe::DotsWithParameter);
        check(b"/a/.;x/b", Unsafe::DotsWithParameter);
    }

    #[test]
    fn a_plain_path_is_borrowed() {
        for path in ["/", "/a", "/a/b/", "/.well-known/acme", "*", "", "/a;b=c/d", "/%C3%A4", "/..a/b.."] {
            let normalised = normalise(path.as_bytes()).unwrap();
            assert!(matches!(normalised.path, Cow::Borrowed(_)), "{path}");
            assert_eq!(normalised.path, path.as_bytes());
            assert_eq!(normalised.unresolved, None);
        }
    }

    #[test]
    fn the_form_with_its_dots_is_kept() {
        let check = |path: &str, resolved: &str, unresolved: Option<&str>| {
            let normalised = normalise(path.as_bytes()).unwrap();
            assert_eq!(normalised.path, resolved.as_bytes(), "{path}");
            assert_eq!(normalised.unresolved.as_deref(), unresolved.map(str::as_bytes), "{path}");
        };
        check("/a/../b", "/b", Some("/a/../b"));
        check("//a/%2e%2e//b", "/b", Some("/a/../b"));
        check("/a/./b", "/a/b", None);
        check("/a/..", "/", Some("/a/.."));
        check("/a/b/..", "/a/", Some("/a/b/.."));
    }

    #[test]
    fn targets_are_split_at_the_first_question_mark() {
        let check = |target: &str, path: &str, query: Option<&str>| {
            assert_eq!(split(target.as_bytes()), (path.as_bytes(), query.map(str::as_bytes)), "{target}");
        };
        check("/a", "/a", None);
        check("/a?", "/a", Some(""));
        check("/a?b?c", "/a", Some("b?c"));
    }

    proptest! {
        #[test]
        fn a_normalised_path_stays_as_it_is(path in "/([a.~;/]|%2e|%41|%2[0-9a-f]|%zz|\\\\){0,12}") {
            if let Ok(normalised) = normalise(path.as_bytes()) {
                let again = normalise(&normalised.path).unwrap();
                prop_assert_eq!(&again.path, &normalised.path);
                prop_assert_eq!(again.unresolved, None);
                prop_assert!(normalised.path.starts_with(b"/"));
                let text = String::from_utf8_lossy(&normalised.path).into_owned();
                prop_assert!(!text.contains("//") && !text.contains("/../") && !text.ends_with("/.."));
            }
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(path in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = normalise(&path);
        }
    }
}
