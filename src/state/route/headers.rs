//! Changes to the headers of requests and responses.

use crate::base::template::{Piece, Template, Values};
use crate::http1::edits::Change;
use crate::http1::names::name_of;
use crate::policy::route::Pattern;
use std::fmt;
use std::ops::Range;

/// The most bytes of a value of which parts are replaced, those that were there and those that are inserted: a client could
/// otherwise have its target inserted for each of thousands of matches in its header. As much as a whole head of a response
/// may have, so that no header of a server is too long.
const VALUE_MAX: usize = 64 * 1024;

/// What a route sets, adds and removes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HeaderEdits {
    /// Replace all headers of the name.
    pub set: Vec<(HeaderName, Template)>,
    /// Are written beside others of the name.
    pub add: Vec<(HeaderName, Template)>,
    /// Are left out, unless they are set or added here as well.
    pub remove: Vec<HeaderName>,
    /// Change parts of values.
    pub replace: Vec<Replacement>,
}

/// A change of the parts of a header's value that an expression matches.
#[derive(Clone, Debug, PartialEq)]
pub struct Replacement {
    /// In each header of this name.
    pub name: HeaderName,
    /// What is replaced, wherever it matches the value as it came. Where several for one name match the same part, the
    /// first counts.
    pub pattern: Pattern,
    /// What stands there then; the captures in it are those of `pattern`.
    pub with: Template,
}

/// A header's name as it is written, or the start of names when it ends with `*` (in `remove` only). Compared without
/// case, with `_` as `-`: servers that turn names into variables do not distinguish them.
#[derive(Clone, PartialEq, Eq)]
pub struct HeaderName(Box<str>);

/// The security headers of responses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Security {
    /// What harms no usual site.
    Usual,
    /// What a site must be made for: no frames, no content of other origins.
    Strict,
}

impl HeaderEdits {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.set.is_empty() && self.add.is_empty() && self.remove.is_empty() && self.replace.is_empty()
    }

    /// What becomes of the message's own headers of this name.
    pub fn change(&self, name: &[u8]) -> Change {
        if self.sets(name) || self.remove.iter().any(|known| known.matches(name)) {
            Change::Drop
        } else if self.replace.iter().any(|replacement| replacement.name.matches(name)) {
            Change::Replace
        } else {
            Change::Keep
        }
    }

    /// Whether headers of this name are replaced, if only by none.
    pub fn sets(&self, name: &[u8]) -> bool {
        self.set.iter().any(|(known, _)| known.matches(name))
    }

    /// What the replacements insert for a request, in their order.
    pub fn inserted(&self, values: &(impl Values + ?Sized)) -> Vec<Vec<Piece>> {
        self.replace.iter().map(|replacement| replacement.with.pieces(values)).collect()
    }

    /// Appends the value of a header, of which parts are replaced with what [`HeaderEdits::inserted`] gave; nothing where it
    /// would become longer than [`VALUE_MAX`].
    pub fn append_replaced(&self, inserted: &[Vec<Piece>], name: &[u8], value: &[u8], out: &mut Vec<u8>) {
        let own = self.replace.iter().zip(inserted).filter(|(own, _)| own.name.matches(name));
        let mut parts: Vec<(Range<usize>, Vec<u8>)> = Vec::new();
        let mut len = value.len();
        for (replacement, pieces) in own {
            let taken = parts.len();
            replacement.pattern.each_match(value, |span, group| {
                if len <= VALUE_MAX && !is_taken(&parts[..taken], &span) {
                    let mut text = Vec::new();
                    insert(pieces, group, &mut text);
                    len += text.len();
                    parts.push((span, text));
                }
            });
            parts.sort_by_key(|(span, _)| (span.start, span.end));
        }
        if len > VALUE_MAX {
            return;
        }
        let mut end = 0;
        for (span, text) in parts {
            out.extend_from_slice(value.get(end..span.start).unwrap_or_default());
            out.extend_from_slice(&text);
            end = span.end;
        }
        out.extend_from_slice(value.get(end..).unwrap_or_default());
    }

    /// Appends the lines of what is set and added.
    pub fn append(&self, values: &(impl Values + ?Sized), out: &mut Vec<u8>) {
        append_headers(&self.set, values, out);
        append_headers(&self.add, values, out);
    }

    /// Appends the lines of what is set to say where a request came from.
    pub fn append_origin(&self, values: &(impl Values + ?Sized), out: &mut Vec<u8>) {
        let of_origin = |name: &HeaderName| name_of(name.as_str().as_bytes()).is_of_proxies();
        for header in self.set.iter().filter(|(name, _)| of_origin(name)) {
            append_headers(std::slice::from_ref(header), values, out);
        }
    }

    /// Every template whose captures are those of the route's path.
    pub fn templates(&self) -> impl Iterator<Item = &Template> {
        self.set.iter().chain(&self.add).map(|(_, template)| template)
    }
}

/// Whether a match shares a byte, or its place, with one of these, which are in order and share none. There may be thousands of
/// both in one header: only the neighbours are compared.
fn is_taken(parts: &[(Range<usize>, Vec<u8>)], span: &Range<usize>) -> bool {
    let near = parts.partition_point(|(part, _)| part.end < span.start);
    let near = parts.iter().skip(near).take_while(|(part, _)| part.start <= span.end);
    near.into_iter().any(|(part, _)| overlap(part, span))
}

/// Whether two matches share a byte, or are the same place between two.
fn overlap(one: &Range<usize>, other: &Range<usize>) -> bool {
    one == other || (one.start < other.end && other.start < one.end)
}

/// Appends the pieces, with the groups of a match.
fn insert<'v>(pieces: &[Piece], group: &dyn Fn(u8) -> &'v [u8], out: &mut Vec<u8>) {
    for piece in pieces {
        match piece {
            Piece::Text(text) => out.extend_from_slice(text),
            Piece::Capture(number) => out.extend_from_slice(group(*number)),
        }
    }
}

/// Appends a line for each header. A value that renders as empty writes no line.
pub fn append_headers(
    headers: &[(HeaderName, Template)],
    values: &(impl Values + ?Sized),
    out: &mut Vec<u8>,
) {
    for (name, value) in headers {
        let line = out.len();
        out.extend_from_slice(name.0.as_bytes());
        out.extend_from_slice(b": ");
        let start = out.len();
        value.render(values, out);
        match out.len() == start {
            true => out.truncate(line),
            false => out.extend_from_slice(b"\r\n"),
        }
    }
}

impl HeaderName {
    /// A name that was checked before: a token, with a `*` at its end at most.
    pub fn new(name: &str) -> Self {
        HeaderName(name.into())
    }

    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it stands for this name.
    pub fn matches(&self, name: &[u8]) -> bool {
        let same =
            |one: &[u8], other: &[u8]| one.iter().zip(other).all(|(one, other)| fold(*one) == fold(*other));
        let own = self.0.as_bytes();
        match own.strip_suffix(b"*") {
            Some(start) => name.len() >= start.len() && same(start, name),
            None => own.len() == name.len() && same(own, name),
        }
    }
}

impl fmt::Debug for HeaderName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, out)
    }
}

impl Security {
    /// The headers. `Strict-Transport-Security` only goes over TLS (RFC 6797 section 7.2).
    pub fn headers(self, is_tls: bool) -> impl Iterator<Item = (&'static str, &'static str)> {
        let all: &[_] = match self {
            Security::Usual => &[
                ("Strict-Transport-Security", "max-age=31536000"),
                ("X-Content-Type-Options", "nosniff"),
                ("X-Frame-Options", "SAMEORIGIN"),
                ("Referrer-Policy", "strict-origin-when-cross-origin"),
            ],
            Security::Strict => &[
                ("Strict-Transport-Security", "max-age=63072000; includeSubDomains"),
                ("X-Content-Type-Options", "nosniff"),
                ("X-Frame-Options", "DENY"),
                ("Referrer-Policy", "no-referrer"),
                ("Permissions-Policy", "camera=(), geolocation=(), microphone=()"),
                ("Cross-Origin-Opener-Policy", "same-origin"),
                (
                    "Content-Security-Policy",
                    "default-src 'self'; base-uri 'self'; object-src 'none'; frame-ancestors 'none'",
                ),
            ],
        };
        all.iter().copied().skip(usize::from(!is_tls))
    }

    /// Appends the lines of the headers that the response does not have.
    pub fn append(self, is_tls: bool, has: impl Fn(&str) -> bool, out: &mut Vec<u8>) {
        for (name, value) in self.headers(is_tls).filter(|(name, _)| !has(name)) {
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b": ");
            out.extend_from_slice(value.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
    }
}

fn fold(byte: u8) -> u8 {
    if byte == b'_' { b'-' } else { byte.to_ascii_lowercase() }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Sample;
    use super::*;

    fn pair(name: &str, value: &str) -> (HeaderName, Template) {
        (HeaderName::new(name), Template::parse(value).unwrap())
    }

    /// The headers of a message after the edits, as the data plane makes them.
    fn applied(edits: &HeaderEdits, message: &[(&str, &str)]) -> String {
        let mut out = Vec::new();
        for (name, value) in message {
            match edits.change(name.as_bytes()) {
                Change::Drop => {}
                Change::Keep => out.extend_from_slice(format!("{name}: {value}\r\n").as_bytes()),
                Change::Replace => {
                    let inserted = edits.inserted(&Sample::default());
                    out.extend_from_slice(format!("{name}: ").as_bytes());
                    edits.append_replaced(&inserted, name.as_bytes(), value.as_bytes(), &mut out);
                    out.extend_from_slice(b"\r\n");
                }
            }
        }
        edits.append(&Sample::default(), &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn headers_are_set_added_and_removed() {
        let edits = HeaderEdits {
            set: vec![pair("X-Real-IP", "{client_ip}"), pair("X-Empty", "{tls_version}")],
            add: vec![pair("Vary", "X-Env")],
            remove: vec![HeaderName::new("Server"), HeaderName::new("X-Internal-*")],
            replace: Vec::new(),
        };
        let message = [
            ("x-real-ip", "6.6.6.6"),
            ("X_Real_IP", "6.6.6.6"),
            ("X-Empty", "1"),
            ("Vary", "Accept"),
            ("SERVER", "x"),
            ("x-internal-id", "1"),
            ("X-Internal", "kept"),
            ("Accept", "*/*"),
        ];
        assert_eq!(
            applied(&edits, &message),
            "Vary: Accept\r\nX-Internal: kept\r\nAccept: */*\r\nX-Real-IP: 10.1.2.3\r\nVary: X-Env\r\n"
        );
        assert!(HeaderEdits::default().is_empty() && !edits.is_empty());
    }

    #[test]
    fn thousands_of_matches_are_replaced_and_too_long_a_value_is_left_out() {
        let replacement = |pattern: &str, with: &str| Replacement {
            name: HeaderName::new("X"),
            pattern: Pattern::new(pattern).unwrap(),
            with: Template::parse(with).unwrap(),
        };
        let replace = vec![replacement("a", "1"), replacement("ab|b", "2"), replacement("c", "{host}{host}")];
        let edits = HeaderEdits { replace, ..HeaderEdits::default() };
        let value = |text: &str| {
            let mut out = Vec::new();
            edits.append_replaced(&edits.inserted(&Sample::default()), b"x", text.as_bytes(), &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(value(&"axb".repeat(8000)), "1x2".repeat(8000));
        assert_eq!(value("ab-b-ba"), "1b-2-21");
        assert_eq!(value(&"c".repeat(16 * 1024)), "");
    }

    #[test]
    fn parts_of_values_are_replaced() {
        let replacement = |name: &str, pattern: &str, with: &str| Replacement {
            name: HeaderName::new(name),
            pattern: Pattern::new(pattern).unwrap(),
            with: Template::parse(with).unwrap(),
        };
        let edits = HeaderEdits {
            replace: vec![
                replacement("Location", "^http://app:8080/(.*)", "https://{host}/app/{1}"),
                replacement("Location", "^/", "/app/"),
                replacement("Set-Cookie", "(?i)(; *path=)/", "{1}/app/"),
                replacement("Set-Cookie", "(?i)(; *path=)/app/", "{1}/never/"),
                replacement("Set-Cookie", "(?i)(; *domain=)www\\.example\\.org", "{1}example.com"),
                replacement("Set-Cookie", "$", "; HttpOnly"),
                replacement("X-List", "a(.)", "<{1}>"),
                replacement("X-Gone", ".*", ""),
            ],
            ..HeaderEdits::default()
        };
        let check = |line: (&str, &str), expected: &str| {
            assert_eq!(applied(&edits, &[line]), format!("{}: {expected}\r\n", line.0));
        };
        check(("Location", "http://app:8080/a?b"), "https://www.example.com/app/a?b");
        check(("location", "/a"), "/app/a");
        check(("Location", "https://other.example/"), "https://other.example/");
        check(("Set-Cookie", "a=b; Path=/; Secure"), "a=b; Path=/app/; Secure; HttpOnly");
        check(("Set-Cookie", "a=b; Path=/app/x"), "a=b; Path=/app/app/x; HttpOnly");
        check(
            ("Set-Cookie", "a=b; Domain=www.example.org; path=/x"),
            "a=b; Domain=example.com; path=/app/x; HttpOnly",
        );
        check(("X-List", "a1, a2, b"), "<1>, <2>, b");
        check(("X-Gone", "a"), "");
        check(("X-Other", "a1"), "a1");
    }

    #[test]
    fn security_headers_leave_those_of_the_server() {
        let written = |security: Security, is_tls| {
            let mut out = Vec::new();
            security.append(is_tls, |name| name == "X-Frame-Options", &mut out);
            String::from_utf8(out).unwrap()
        };
        let usual = written(Security::Usual, true);
        assert!(usual.starts_with(
            "Strict-Transport-Security: max-age=31536000\r\nX-Content-Type-Options: nosniff\r\n"
        ));
        assert!(!usual.contains("X-Frame-Options"));
        assert!(!written(Security::Strict, false).contains("Transport"), "never over clear text");
        assert!(written(Security::Strict, true).contains("includeSubDomains"));
    }
}
