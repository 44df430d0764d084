//! Regular expressions of routes: linear in time (the `regex` crate), bounded in size, over bytes.

use regex::bytes::{Captures, Regex, RegexBuilder};
use regex_syntax::hir::{Hir, HirKind, Look};
use std::fmt;
use std::ops::Range;

/// The longest text of an expression, in bytes.
pub const TEXT_MAX: usize = 1024;
/// The most memory of a compiled expression, and of its cache in each thread, in bytes.
const COMPILED_MAX: usize = 256 * 1024;

/// A regular expression. It matches anywhere in a text unless it has anchors; `\d`, `\w` and `(?i)` mean ASCII.
#[derive(Clone)]
pub struct Pattern(Regex);

impl Pattern {
    /// Compiles a text; the error is a sentence.
    pub fn new(text: &str) -> Result<Self, String> {
        if text.len() > TEXT_MAX {
            return Err(format!("a regular expression has at most {TEXT_MAX} characters"));
        }
        if let Some(rest) = text.strip_prefix('*') {
            let rest = rest.trim_start().replace('\\', "\\\\");
            return Err(format!("ignores the case in nginx; write \"~(?i){rest}\""));
        }
        let mut builder = RegexBuilder::new(text);
        builder.unicode(false).size_limit(COMPILED_MAX).dfa_size_limit(COMPILED_MAX);
        builder.build().map(Pattern).map_err(|error| explain(&error))
    }

    /// The text it was made of.
    pub fn text(&self) -> &str {
        self.0.as_str()
    }

    /// Whether it matches. A thread's first call allocates its cache.
    pub fn is_match(&self, bytes: &[u8]) -> bool {
        self.0.is_match(bytes)
    }

    /// The number of its groups, the whole match left out.
    pub fn groups(&self) -> usize {
        self.0.captures_len().saturating_sub(1)
    }

    /// The groups of the first match. Allocates.
    pub fn captures<'t>(&self, bytes: &'t [u8]) -> Option<Captures<'t>> {
        self.0.captures(bytes)
    }

    /// Calls `each` with the place of each match, from left to right, and its groups by number: empty for one that took no
    /// part. Allocates.
    pub fn each_match<'t>(
        &self,
        bytes: &'t [u8],
        mut each: impl FnMut(Range<usize>, &dyn Fn(u8) -> &'t [u8]),
    ) {
        for captures in self.0.captures_iter(bytes) {
            let Some(whole) = captures.get(0) else { continue };
            let group =
                |number: u8| captures.get(usize::from(number)).map_or(&b""[..], |group| group.as_bytes());
            each(whole.range(), &group);
        }
    }

    /// What every text that matches begins with; empty when that is not known.
    pub(super) fn literal_start(&self) -> Vec<u8> {
        let parser = regex_syntax::ParserBuilder::new().unicode(false).utf8(false).build().parse(self.text());
        parser.map(|hir| start_of(&hir)).unwrap_or_default()
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text() == other.text()
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "~{}", self.text())
    }
}

/// The literal right behind the start of the text.
fn start_of(hir: &Hir) -> Vec<u8> {
    let HirKind::Concat(parts) = hir.kind() else { return Vec::new() };
    match parts.as_slice() {
        [first, second, ..] if *first.kind() == HirKind::Look(Look::Start) => match second.kind() {
            HirKind::Literal(literal) => literal.0.to_vec(),
            _ => Vec::new(),
        },
        _ => Vec::new(),
    }
}

/// The crate's error in one line. Its own has an excerpt with a caret; the last line says what is wrong.
fn explain(error: &regex::Error) -> String {
    match error {
        regex::Error::CompiledTooBig(_) => {
            "is too large as a regular expression; write smaller repetitions".to_owned()
        }
        other => {
            let said = other.to_string();
            let said = said.lines().last().unwrap_or_default();
            let said = said.strip_prefix("error: ").unwrap_or(said);
            let advice = match said {
                _ if said.starts_with("look-around") => "; give what is to be left out a route of its own",
                _ if said.starts_with("backreferences") => {
                    "; write one without, for a match takes linear time here"
                }
                _ => "",
            };
            format!("is not a regular expression: {said}{advice}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_literal_start_holds_for_all_that_matches() {
        let check = |text: &str, expected: &str| {
            let start = Pattern::new(text).unwrap().literal_start();
            assert_eq!(String::from_utf8_lossy(&start), expected, "{text}");
        };
        check("^/x/[0-9]+", "/x/");
        check("^/a/b$", "/a/b");
        check("^/a/b?", "/a/");
        check("^/a|/b", "");
        check("^(/a|/b)/c", "");
        check("/a/b", "");
        check("(?i)^/a/b", "/");
        check("(?m)^/a/b", "");
        check("^/a[(|]b", "/a");
        check(r"^/a\.b/", "/a.b/");
        check("", "");
    }

    #[test]
    fn faults_are_one_sentence() {
        let check = |text: &str, says: &str| {
            let fault = Pattern::new(text).unwrap_err();
            assert!(fault.contains(says) && !fault.contains('\n'), "{text}: {fault}");
        };
        check("(", "unclosed group");
        check("(?=a)", "look-around");
        check("a{1000}{1000}", "too large");
        check(&"a".repeat(TEXT_MAX + 1), "at most 1024");
    }

    #[test]
    fn bytes_that_are_no_text_are_matched() {
        let pattern = Pattern::new(r"^/\w+$").unwrap();
        assert!(pattern.is_match(b"/abc") && !pattern.is_match(b"/\xff"));
        assert!(Pattern::new("^/.$").unwrap().is_match(b"/\xff"));
    }
}
