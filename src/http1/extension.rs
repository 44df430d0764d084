//! The extensions of a chunk's size line, a byte at a time (RFC 9112 section 7.1.1): they are ignored, but a malformed
//! extension is rejected, because another parser could see a line end or a size in it.

use super::scan::is_token;

/// The position of the last byte in `*( BWS ";" BWS name [ BWS "=" BWS value ] )`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extension {
    /// White space; only a `;` may follow it.
    Blank,
    /// A `;`, or white space after it.
    Semicolon,
    Name,
    /// White space after a name.
    NameBlank,
    /// A `=`, or white space after it.
    Equals,
    Token,
    Quoted,
    /// A `\` in a quoted value.
    Escape,
    /// The quote that ends a value.
    Quote,
}

impl Extension {
    /// The position after one more byte; `None` if that byte is not allowed there.
    pub(super) fn next(self, byte: u8) -> Option<Extension> {
        use Extension::*;
        Some(match (self, byte) {
            (Quoted, b'"') => Quote,
            (Quoted, b'\\') => Escape,
            (Quoted | Escape, _) if is_text(byte) => Quoted,
            (Quoted | Escape, _) => return None,
            (Semicolon | Equals, b' ' | b'\t') => self,
            (Equals, b'"') => Quoted,
            (Semicolon | Name, _) if is_token(&[byte]) => Name,
            (Equals | Token, _) if is_token(&[byte]) => Token,
            (Name | NameBlank, b' ' | b'\t') => NameBlank,
            (Name | NameBlank, b'=') => Equals,
            (Token | Quote | Blank, b' ' | b'\t') => Blank,
            (Name | NameBlank | Token | Quote | Blank, b';') => Semicolon,
            _ => return None,
        })
    }

    /// The line may end here.
    pub(super) fn may_end(self) -> bool {
        matches!(self, Extension::Name | Extension::Token | Extension::Quote)
    }
}

/// Allowed in a quoted value, escaped or not.
fn is_text(byte: u8) -> bool {
    matches!(byte, b'\t' | b' '..=b'~' | 0x80..)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The text after a size, up to its CR.
    #[track_caller]
    fn check(text: &str, good: bool) {
        let first = if text.starts_with(';') { Extension::Semicolon } else { Extension::Blank };
        let end = text.bytes().skip(1).try_fold(first, Extension::next);
        assert_eq!(end.is_some_and(Extension::may_end), good, "{text:?}");
    }

    #[test]
    fn extensions() {
        for good in [
            ";a", "; a", " ;a", "\t ; a", ";a=b", ";a = b", ";a\t=\tb", ";a;b", ";a ; b", ";a=b;c=d",
            ";!#$=~|",
        ] {
            check(good, true);
        }
        for good in
            [";a=\"\"", ";a=\"b;c\"", ";a=\"\\\"\"", ";a=\"\\\\\";b", ";a=\"b\" ;c", ";a=\"\t \u{e9}\""]
        {
            check(good, true);
        }
        for bad in [
            " ", ";", "; ", ";;", ";;a", ";=", ";=b", ";a=", ";a= ", ";a ", ";a=b ", ";a b", ";a=b c",
            ";a=b=c",
        ] {
            check(bad, false);
        }
        for bad in [
            ";[",
            ";a[=b",
            ";a=b]",
            ";a=\"",
            ";a=\"b",
            ";a=\"\\",
            ";a=\"b\"c",
            ";a=\"\\\u{1}\"",
            ";a=\"\u{7f}\"",
            ";\u{e9}",
        ] {
            check(bad, false);
        }
    }
}
