//! The trailer section of a chunked body (RFC 9112 section 7.1.2): bounded, checked line by line, and only fields that
//! are allowed after a body are kept (RFC 9110 section 6.5.1).

use super::connection::Nominations;
use super::fields::Fields;
use super::names::{Name, name_of};
use super::reason::Reason;
use super::scan::{is_text, is_token};

/// The limit of all trailer lines together, kept or not.
const TRAILERS_MAX: usize = 8 * 1024;

/// Collects trailer lines a byte at a time; they are few and short.
#[derive(Debug, Default)]
pub(super) struct Trailers {
    /// Kept lines with their ends, then the line that is being read.
    bytes: Vec<u8>,
    /// Where the line that is being read starts.
    line: usize,
    /// All bytes of the section so far.
    seen: usize,
    /// The names that Connection nominated; few, and bounded by the size of their head.
    nominated: Vec<Box<[u8]>>,
    /// None is kept.
    drops_all: bool,
}

impl Trailers {
    /// Drops the trailers that Connection nominates in these fields; `None` where it nominates none.
    pub(super) fn forbidding(head: &Fields<'_, '_>) -> Option<Self> {
        let nominated: Vec<_> = Nominations::of(head).names().iter().map(|name| Box::from(*name)).collect();
        (!nominated.is_empty()).then(|| Trailers { nominated, ..Trailers::default() })
    }

    /// Drops all trailers.
    pub(super) fn none() -> Self {
        Trailers { drops_all: true, ..Trailers::default() }
    }

    /// Takes the next byte; returns true when it ends the section.
    pub(super) fn push(&mut self, byte: u8) -> Result<bool, Reason> {
        self.seen += 1;
        if self.seen > TRAILERS_MAX {
            return Err(Reason::TrailersTooLarge);
        }
        let after_cr = self.current().last() == Some(&b'\r');
        // A CR must be followed by LF, an LF preceded by CR.
        if after_cr != (byte == b'\n') {
            return Err(Reason::BadChunk);
        }
        self.bytes.push(byte);
        if byte == b'\n' { self.end_line() } else { Ok(false) }
    }

    /// The kept lines, each with its CRLF.
    pub(super) fn lines(&self) -> &[u8] {
        self.bytes.get(..self.line).unwrap_or_default()
    }

    fn current(&self) -> &[u8] {
        self.bytes.get(self.line..).unwrap_or_default()
    }

    fn end_line(&mut self) -> Result<bool, Reason> {
        let line = self.current();
        if line == b"\r\n" {
            self.bytes.truncate(self.line);
            return Ok(true);
        }
        if may_be_kept(line, &self.nominated)? && !self.drops_all {
            self.line = self.bytes.len();
        } else {
            self.bytes.truncate(self.line);
        }
        Ok(false)
    }
}

/// The line is a field line, and its field is allowed as a trailer and may be forwarded.
fn may_be_kept(line: &[u8], nominated: &[Box<[u8]>]) -> Result<bool, Reason> {
    let text = line.strip_suffix(b"\r\n").unwrap_or(line);
    let colon = text.iter().position(|byte| *byte == b':').ok_or(Reason::BadChunk)?;
    let (name, value) = text.split_at(colon);
    if !is_token(name) || !is_text(value) {
        return Err(Reason::BadChunk);
    }
    let is_name = |other: &[u8]| name.eq_ignore_ascii_case(other);
    Ok(name_of(name) == Name::Other
        && !FORBIDDEN.iter().any(|field| is_name(field))
        && !nominated.iter().any(|field| is_name(field)))
}

/// Fields that are only meaningful before the body, besides those of [`Name`]: authentication, request modifiers,
/// response control, and content handling.
const FORBIDDEN: &[&[u8]] = &[
    b"Authorization",
    b"Proxy-Authorization",
    b"Proxy-Authenticate",
    b"WWW-Authenticate",
    b"Authentication-Info",
    b"Proxy-Authentication-Info",
    b"Cookie",
    b"Set-Cookie",
    b"Cache-Control",
    b"Pragma",
    b"Range",
    b"If-Match",
    b"If-None-Match",
    b"If-Modified-Since",
    b"If-Unmodified-Since",
    b"If-Range",
    b"Age",
    b"Expires",
    b"Location",
    b"Retry-After",
    b"Vary",
    b"Warning",
    b"Content-Encoding",
    b"Content-Range",
    b"Content-Location",
    b"Content-Language",
    b"Origin",
    b"Referer",
    b"User-Agent",
    b"X-Real-Ip",
    b"X-HTTP-Method-Override",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn read(section: &[u8]) -> Result<Option<Vec<u8>>, Reason> {
        let mut trailers = Trailers::default();
        for byte in section {
            if trailers.push(*byte)? {
                return Ok(Some(trailers.lines().to_vec()));
            }
        }
        Ok(None)
    }

    #[track_caller]
    fn check(section: &str, expected: Result<Option<&str>, Reason>) {
        let expected = expected.map(|kept| kept.map(|kept| kept.as_bytes().to_vec()));
        assert_eq!(read(section.as_bytes()), expected, "{section:?}");
    }

    #[test]
    fn what_may_come_after_a_body_is_kept() {
        check("\r\n", Ok(Some("")));
        check("X-Sum: 1\r\n\r\n", Ok(Some("X-Sum: 1\r\n")));
        check("A:1\r\nA: 2 \r\ngrpc-status:\t0\r\n\r\n", Ok(Some("A:1\r\nA: 2 \r\ngrpc-status:\t0\r\n")));
        check("X-Sum: \u{e9}\r\n\r\n", Ok(Some("X-Sum: \u{e9}\r\n")));
        check("A: 1\r\nHost: evil\r\nB: 2\r\n\r\n", Ok(Some("A: 1\r\nB: 2\r\n")));
        check("A: 1\r\n", Ok(None));
        check("A: 1\r\n\r", Ok(None));
    }

    #[test]
    fn what_may_not_is_dropped() {
        for name in
            ["Content-Length", "transfer-encoding", "HOST", "Connection", "Trailer", "TE", "X-Forwarded-For"]
        {
            check(&format!("{name}: 1\r\n\r\n"), Ok(Some("")));
        }
        for name in ["Content_Length", "Transfer_Encoding", "X_Forwarded_For", "Via", "Expect", "Upgrade"] {
            check(&format!("{name}: 1\r\n\r\n"), Ok(Some("")));
        }
        for name in FORBIDDEN {
            check(&format!("{}: 1\r\n\r\n", String::from_utf8_lossy(name)), Ok(Some("")));
        }
    }

    #[test]
    fn what_is_no_field_line_is_rejected() {
        for bad in [
            "A\r\n",
            " A: 1\r\n",
            "A : 1\r\n",
            ": 1\r\n",
            "A: 1\n",
            "\n",
            "A: 1\r1\r\n",
            "A: \0\r\n",
            "\r\r\n",
            "A: 1\r\n b\r\n",
        ] {
            check(bad, Err(Reason::BadChunk));
        }
        let long = format!("A: {}\r\n\r\n", "a".repeat(TRAILERS_MAX));
        check(&long, Err(Reason::TrailersTooLarge));
        let many = "a:\r\n".repeat(TRAILERS_MAX / 4);
        check(&format!("{many}\r\n"), Err(Reason::TrailersTooLarge));
    }
}
