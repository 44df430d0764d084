//! The texts of the files that make up a configuration, and the positions in them.
//!
//! A position is one number: the texts count as if they stood one behind the other, in the order in which they were read.

use super::fault::Fault;

/// The most characters of a source line that an excerpt shows.
const WIDTH: usize = 100;

/// The texts, each with the name of its file if it has one. Never empty.
pub(super) struct Source {
    texts: Vec<Text>,
}

struct Text {
    file: Option<String>,
    text: String,
    /// The position of its first byte.
    start: usize,
    /// The offset at which each line begins.
    lines: Vec<usize>,
}

impl Source {
    /// A source of one text.
    pub(super) fn new(file: Option<String>, text: &str) -> Self {
        let mut source = Source { texts: Vec::new() };
        source.add(file, text);
        source
    }

    /// Adds a text and returns the position of its first byte. A byte-order mark, which some editors write, is skipped.
    pub(super) fn add(&mut self, file: Option<String>, text: &str) -> usize {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text).to_owned();
        let after_ends = memchr::memchr_iter(b'\n', text.as_bytes()).map(|end| end + 1);
        let lines = std::iter::once(0).chain(after_ends).collect();
        // The end of a text is a position of its own.
        let start = self.texts.last().map_or(0, |last| last.start + last.text.len() + 1);
        self.texts.push(Text { file, text, start, lines });
        start
    }

    /// The text that begins at this position.
    pub(super) fn text(&self, start: usize) -> &str {
        self.texts.iter().find(|text| text.start == start).map_or("", |text| &text.text)
    }

    /// A fault at a position, which must be a character's first byte, or at none that is known.
    pub(super) fn fault(&self, path: String, advice: String, at: Option<usize>) -> Fault {
        let Some((text, line, column)) = at.and_then(|at| self.find(at)) else {
            let file = self.texts.first().and_then(|text| text.file.clone());
            return Fault { path, advice, file, line: None, column: None, excerpt: None };
        };
        let file = text.file.clone();
        let start = text.lines.get(line - 1).copied().unwrap_or(0);
        let rest = text.text.get(start..).unwrap_or("");
        let excerpt = Some(excerpt(rest.lines().next().unwrap_or(""), line, column));
        Fault { path, advice, file, line: Some(line), column: Some(column), excerpt }
    }

    /// The file that a position is in, if it is in one.
    pub(super) fn file(&self, at: usize) -> Option<&str> {
        self.find(at)?.0.file.as_deref()
    }

    /// A position as `config.json:3:5`.
    pub(super) fn shown(&self, at: usize) -> String {
        let Some((text, line, column)) = self.find(at) else { return String::new() };
        let file = text.file.as_ref().map_or(String::new(), |file| format!("{file}:"));
        format!("{file}{line}:{column}")
    }

    /// The text, the line and the column in characters, both from 1, of a position.
    fn find(&self, at: usize) -> Option<(&Text, usize, usize)> {
        let before = self.texts.partition_point(|text| text.start <= at);
        let text = self.texts.get(before.checked_sub(1)?)?;
        let at = at - text.start;
        let line = text.lines.partition_point(|start| *start <= at);
        let start = text.lines.get(line - 1).copied().unwrap_or(0);
        let column = text.text.get(start..at).map_or(1, |before| before.chars().count() + 1);
        Some((text, line, column))
    }
}

/// The line and a caret under the column. A long line is truncated around the caret.
fn excerpt(line: &str, number: usize, column: usize) -> String {
    let is_long = line.chars().nth(WIDTH).is_some();
    let skip = if is_long { column.saturating_sub(WIDTH * 3 / 4) } else { 0 };
    let shown: String = line.chars().skip(skip).take(WIDTH).map(plain).collect();
    format!("{number:>5} | {}\n      | {:>indent$}", shown.trim_end(), "^", indent = column - skip)
}

/// Tabs would move the caret, and control characters could change the terminal.
fn plain(character: char) -> char {
    match character {
        '\t' => ' ',
        _ if character.is_control() => '\u{fffd}',
        _ => character,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, at: usize, line: usize, column: usize, under: char) {
        let fault = Source::new(None, text).fault(String::new(), String::new(), Some(at));
        assert_eq!((fault.line, fault.column), (Some(line), Some(column)), "{text:?} at {at}");
        let excerpt = fault.excerpt.unwrap();
        let (above, caret) = excerpt.split_once('\n').unwrap();
        let place = caret.chars().position(|character| character == '^').unwrap();
        assert_eq!(above.chars().nth(place).unwrap_or(' '), under, "{excerpt}");
    }

    #[test]
    fn the_caret_stands_under_the_place() {
        check("abc", 0, 1, 1, 'a');
        check("abc\ndef", 5, 2, 2, 'e');
        check("\tüb\r\nx", 3, 1, 3, 'b');
        check("abc\n", 4, 2, 1, ' ');
        check("\u{feff}abc", 1, 1, 2, 'b');
        check(&format!("{}z{}", "x".repeat(500), "y".repeat(500)), 500, 1, 501, 'z');
        check(&format!("{}z", "x".repeat(500)), 500, 1, 501, 'z');
    }

    #[test]
    fn each_text_has_its_own_lines() {
        let mut source = Source::new(Some("a".to_owned()), "x\ny");
        let second = source.add(Some("b".to_owned()), "\u{feff}p\n q");
        assert_eq!((source.text(0), source.text(second)), ("x\ny", "p\n q"));
        for (at, place) in
            [(0, "a:1:1"), (2, "a:2:1"), (3, "a:2:2"), (second, "b:1:1"), (second + 3, "b:2:2")]
        {
            assert_eq!(source.shown(at), place);
        }
        let fault = source.fault(String::new(), String::new(), Some(second + 3));
        assert_eq!((fault.file.as_deref(), fault.line), (Some("b"), Some(2)));
        assert_eq!(source.fault(String::new(), String::new(), None).file.as_deref(), Some("a"));
    }
}
