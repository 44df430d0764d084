//! The text of a file and the positions in it.

use super::fault::Fault;

/// The most characters of a source line that an excerpt shows.
const WIDTH: usize = 100;

/// A text, with the name of its file if it has one.
pub(super) struct Source<'t> {
    file: Option<String>,
    text: &'t str,
    /// The offset at which each line begins.
    lines: Vec<usize>,
}

impl<'t> Source<'t> {
    /// A byte-order mark, which some editors write, is skipped.
    pub(super) fn new(file: Option<String>, text: &'t str) -> Self {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let after_ends = memchr::memchr_iter(b'\n', text.as_bytes()).map(|end| end + 1);
        Source { file, text, lines: std::iter::once(0).chain(after_ends).collect() }
    }

    pub(super) fn text(&self) -> &'t str {
        self.text
    }

    /// The offset of a line and a byte column, both from 1; clamped to the text.
    pub(super) fn offset(&self, line: usize, column: usize) -> usize {
        let start = self.lines.get(line.saturating_sub(1)).copied().unwrap_or(self.text.len());
        let mut offset = (start + column.saturating_sub(1)).min(self.text.len());
        while !self.text.is_char_boundary(offset) {
            offset -= 1;
        }
        offset
    }

    /// A fault at an offset of the text, which must be a character's first byte, or at no known position.
    pub(super) fn fault(&self, path: String, advice: String, at: Option<usize>) -> Fault {
        let file = self.file.clone();
        let Some(at) = at else {
            return Fault { path, advice, file, line: None, column: None, excerpt: None };
        };
        let line = self.lines.partition_point(|start| *start <= at);
        let start = self.lines.get(line - 1).copied().unwrap_or(0);
        let column = self.text.get(start..at).map_or(1, |before| before.chars().count() + 1);
        let rest = self.text.get(start..).unwrap_or("");
        let excerpt = Some(excerpt(rest.lines().next().unwrap_or(""), line, column));
        Fault { path, advice, file, line: Some(line), column: Some(column), excerpt }
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
    fn offsets_stay_inside_the_text() {
        let source = Source::new(None, "ab\nüx");
        for (line, column, offset) in
            [(1, 1, 0), (1, 2, 1), (2, 1, 3), (2, 2, 3), (2, 3, 5), (9, 9, 6), (0, 0, 0), (2, 99, 6)]
        {
            assert_eq!(source.offset(line, column), offset, "{line}:{column}");
        }
    }
}
