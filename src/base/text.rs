//! Text for display. In untrusted text nothing may end a line, control a terminal, hide or reorder text.

use std::fmt::{self, Write};

/// A number and what it counts, in the form that goes with the number: `counted(1, "line is", "lines are")`.
pub fn counted<N: fmt::Display + PartialEq + From<u8>>(number: N, one: &str, many: &str) -> String {
    let what = if number == N::from(1) { one } else { many };
    format!("{number} {what}")
}

/// Whether a character displays as itself: no control character, no invisible one, none that changes the writing
/// direction or ends a line or a paragraph.
pub fn is_plain(char: char) -> bool {
    let is_hidden = matches!(char,
        '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
        | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
        | '\u{e0000}'..='\u{e0fff}');
    !char.is_control() && !is_hidden
}

/// A text with each character that is not plain escaped, such as `\n` or `\u{202e}`.
pub fn escape(text: &str) -> impl fmt::Display + '_ {
    Escaped(text)
}

struct Escaped<'t>(&'t str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|char| match is_plain(char) {
            true => out.write_char(char),
            false => write!(out, "{}", char.escape_default()),
        })
    }
}

/// A number with a comma between each three digits: `1,234,567`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_and_many_have_their_words() {
        let told = [0, 1, 2].map(|lines| counted(lines, "line is", "lines are"));
        assert_eq!(told, ["0 lines are", "1 line is", "2 lines are"]);
    }

    #[test]
    fn thousands_are_set_apart() {
        for (number, shown) in [(0, "0"), (999, "999"), (1_000, "1,000"), (12_345_678, "12,345,678")] {
            assert_eq!(grouped(number), shown);
        }
    }

    #[test]
    fn what_forges_hides_or_reorders_is_escaped_and_nothing_else() {
        for plain in ["", "a b", "/run/größe.sock", "日本", "\\ \" '", "naïve \u{1f600}"] {
            assert_eq!(escape(plain).to_string(), plain);
        }
        for (text, shown) in [
            ("a\nb", "a\\nb"),
            ("\x1b[31m\x07", "\\u{1b}[31m\\u{7}"),
            ("\0\r\t\x7f\u{9b}", "\\u{0}\\r\\t\\u{7f}\\u{9b}"),
            ("a\u{202e}b\u{2066}", "a\\u{202e}b\\u{2066}"),
            ("a\u{200b}\u{feff}\u{2028}", "a\\u{200b}\\u{feff}\\u{2028}"),
        ] {
            assert_eq!(escape(text).to_string(), shown);
        }
    }
}
