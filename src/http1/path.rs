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
    /// Other paths that a server may take it for: with its `..` left in place, without its parameters (`/a;x/b`), with its
    /// encoded slashes decoded. A request of which they lead to another route is rejected.
    pub others: Vec<Vec<u8>>,
    /// It had a `..`.
    pub has_dot_dot: bool,
}

/// What is done with `%2F`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EncodedSlash {
    /// It is rejected.
    #[default]
    Refuse,
    /// It is a character of its segment, if the path leads to the same route with slashes in its place.
    Keep,
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
pub fn normalise(path: &[u8], slash: EncodedSlash) -> Result<Normalised<'_>, Unsafe> {
    if !needs_work(path) {
        return Ok(Normalised { path: Cow::Borrowed(path), others: Vec::new(), has_dot_dot: false });
    }
    let decoded = decode(path, slash)?;
    let merged = merge_slashes(&decoded);
    let (resolved, has_dot_dot) = resolve_dots(&merged)?;
    let mut others = Vec::new();
    if let Some(split) = with_slashes(&merged) {
        let (resolved, has_dot_dot) = resolve_dots(&split)?;
        others.extend(without_parameters(&resolved));
        others.push(resolved);
        others.extend(has_dot_dot.then_some(split));
    }
    others.extend(without_parameters(&resolved));
    others.extend(has_dot_dot.then_some(merged));
    let unchanged = resolved == path;
    let path = if unchanged { Cow::Borrowed(path) } else { Cow::Owned(resolved) };
    Ok(Normalised { path, others, has_dot_dot })
}

/// Whether there may be something to decode, to merge, to resolve or to reject.
fn needs_work(path: &[u8]) -> bool {
    let mut before = 0;
    path.iter().any(|&byte| {
        let found =
            matches!(byte, b'%' | b'\\' | b';' | 0) || (before == b'/' && matches!(byte, b'/' | b'.'));
        before = byte;
        found
    })
}

/// Decodes unreserved characters (RFC 3986 section 2.3), writes the digits of the others in upper case, and rejects
/// what servers read in different ways.
fn decode(path: &[u8], slash: EncodedSlash) -> Result<Vec<u8>, Unsafe> {
    let (mut out, mut rest) = (Vec::with_capacity(path.len()), path);
    loop {
        rest = match rest {
            [] => return Ok(out),
            [b'\\', ..] => return Err(Unsafe::Backslash),
            [0, ..] => return Err(Unsafe::Nul),
            [b'%', rest @ ..] => {
                let (byte, after) = encoded_byte(rest).ok_or(Unsafe::BadEncoding)?;
                check_encoded(byte, after, slash)?;
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

fn check_encoded(byte: u8, after: &[u8], slash: EncodedSlash) -> Result<(), Unsafe> {
    match byte {
        b'/' if slash == EncodedSlash::Refuse => Err(Unsafe::EncodedSlash),
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

/// The path with slashes in the place of encoded ones; `None` where it has none of these. Digits are in upper case here.
fn with_slashes(path: &[u8]) -> Option<Vec<u8>> {
    const ENCODED: &[u8] = b"%2F";
    memchr::memmem::find(path, ENCODED)?;
    let (mut out, mut from) = (Vec::with_capacity(path.len()), 0);
    for at in memchr::memmem::find_iter(path, ENCODED) {
        out.extend_from_slice(&path[from..at]);
        out.push(b'/');
        from = at + ENCODED.len();
    }
    out.extend_from_slice(&path[from..]);
    Some(merge_slashes(&out))
}

/// The path as Java servers read it, without what follows a `;` in its segments; `None` where there is none.
fn without_parameters(path: &[u8]) -> Option<Vec<u8>> {
    memchr(b';', path)?;
    let mut out = Vec::with_capacity(path.len());
    for (at, segment) in path.split(|byte| *byte == b'/').enumerate() {
        out.extend_from_slice(if at == 0 { b"" } else { b"/" });
        out.extend_from_slice(segment.split(|byte| *byte == b';').next().unwrap_or_default());
    }
    Some(merge_slashes(&out))
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
            let told = match normalise(path.as_bytes(), EncodedSlash::Refuse) {
                Ok(normalised) => format!("`{}`", String::from_utf8_lossy(&normalised.path)),
                Err(_) => "400 `unsafe_path`".to_owned(),
            };
            assert_eq!(told, expected, "{path}");
        }
    }

    #[test]
    fn what_is_rejected_has_its_own_cause() {
        let check =
            |path: &[u8], cause| assert_eq!(normalise(path, EncodedSlash::Refuse), Err(cause), "{path:?}");
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
            let normalised = normalise(path.as_bytes(), EncodedSlash::Refuse).unwrap();
            assert!(matches!(normalised.path, Cow::Borrowed(_)), "{path}");
            assert_eq!(normalised.path, path.as_bytes());
            assert_eq!((normalised.others.is_empty(), normalised.has_dot_dot), (path != "/a;b=c/d", false));
        }
    }

    #[test]
    fn the_form_with_its_dots_is_kept() {
        let check = |path: &str, resolved: &str, other: Option<&str>| {
            let normalised = normalise(path.as_bytes(), EncodedSlash::Refuse).unwrap();
            assert_eq!(normalised.path, resolved.as_bytes(), "{path}");
            assert_eq!(normalised.others.first().map(Vec::as_slice), other.map(str::as_bytes), "{path}");
        };
        check("/a/../b", "/b", Some("/a/../b"));
        check("//a/%2e%2e//b", "/b", Some("/a/../b"));
        check("/a/./b", "/a/b", None);
        check("/a/..", "/", Some("/a/.."));
        check("/a/b/..", "/a/", Some("/a/b/.."));
    }

    /// The path with its encoded slashes kept, and what else a server may read.
    #[track_caller]
    fn check_kept(path: &str, expected: &str, others: &[&str]) {
        let text = |path: &[u8]| String::from_utf8_lossy(path).into_owned();
        let normalised = normalise(path.as_bytes(), EncodedSlash::Keep).unwrap();
        assert_eq!(text(&normalised.path), expected, "{path}");
        assert_eq!(normalised.others.iter().map(|other| text(other)).collect::<Vec<_>>(), others, "{path}");
    }

    #[test]
    fn what_else_a_server_may_read_is_known() {
        check_kept("/a%2fb", "/a%2Fb", &["/a/b"]);
        check_kept("/p/a%2Fb%2fc/d", "/p/a%2Fb%2Fc/d", &["/p/a/b/c/d"]);
        check_kept("/p/%2F/a", "/p/%2F/a", &["/p/a"]);
        check_kept("/p/..%2Fadmin", "/p/..%2Fadmin", &["/admin", "/p/../admin"]);
        check_kept("/p%2f..%2fadmin", "/p%2F..%2Fadmin", &["/admin", "/p/../admin"]);
        check_kept("/a%252Fb", "/a%252Fb", &[]);
        check_kept("/admin;x/y", "/admin;x/y", &["/admin/y"]);
        check_kept("/a/;b/c;d=e;f", "/a/;b/c;d=e;f", &["/a/c"]);
        check_kept("/a;x%2Fb", "/a;x%2Fb", &["/a/b", "/a;x/b", "/a"]);
        check_kept("/a/../b;x", "/b;x", &["/b", "/a/../b;x"]);
        check_kept("/a%3Bb", "/a%3Bb", &[]);
        let unsafe_one = |path: &str| normalise(path.as_bytes(), EncodedSlash::Keep).unwrap_err();
        assert_eq!(unsafe_one("/..%2f..%2fa"), Unsafe::AboveRoot);
        assert_eq!(unsafe_one("/a%2f..;x%2fb"), Unsafe::DotsWithParameter);
        assert_eq!(unsafe_one("/a%2fb%5c"), Unsafe::Backslash);
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
            if let Ok(normalised) = normalise(path.as_bytes(), EncodedSlash::Refuse) {
                let again = normalise(&normalised.path, EncodedSlash::Refuse).unwrap();
                prop_assert_eq!(&again.path, &normalised.path);
                prop_assert!(!again.has_dot_dot);
                prop_assert!(normalised.path.starts_with(b"/"));
                let text = String::from_utf8_lossy(&normalised.path).into_owned();
                prop_assert!(!text.contains("//") && !text.contains("/../") && !text.ends_with("/.."));
            }
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(path in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = normalise(&path, EncodedSlash::Refuse);
        }
    }
}
