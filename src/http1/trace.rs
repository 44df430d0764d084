//! The identification of a request in responses and logs: its id, and its request line. Both are also available for a
//! rejected head, as far as it was received.

use super::fields::trim;
use memchr::memchr;

/// The longest client id that is used: tracing systems send shorter ones.
const ID_MAX: usize = 128;
/// The most bytes of a rejected request line in the access log: a path and the beginning of its query.
const LINE_MAX: usize = 1024;

/// A rejected request head, as far as it helps to identify the request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Glimpse<'b> {
    /// The request line as far as it was received, without its line end; at most 1,024 bytes, any of them.
    pub line: &'b [u8],
    /// The client's X-Request-Id, if there is exactly one and it is valid.
    pub request_id: Option<&'b [u8]>,
}

impl<'b> Glimpse<'b> {
    /// Reads the available bytes, which need not be HTTP.
    pub fn of(bytes: &'b [u8]) -> Self {
        let mut lines =
            bytes.split_inclusive(|byte| *byte == b'\n').skip_while(|line| content(line).is_empty());
        let line = content(lines.next().unwrap_or_default());
        // An incomplete line: its value may be truncated.
        let fields =
            lines.filter(|line| line.ends_with(b"\n")).map(content).take_while(|line| !line.is_empty());
        let ids = fields.filter_map(id_of).take(2).collect::<Vec<_>>();
        let request_id = if let [id] = ids[..] { Some(id).filter(|id| is_valid_id(id)) } else { None };
        Glimpse { line: line.get(..LINE_MAX).unwrap_or(line), request_id }
    }
}

/// An id is used in logs and responses: 1 to 128 visible ASCII bytes, no quotes or separators.
pub fn is_valid_id(id: &[u8]) -> bool {
    let is_plain = |byte: &u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\' | b',');
    (1..=ID_MAX).contains(&id.len()) && id.iter().all(is_plain)
}

/// The value of a line that is an X-Request-Id.
fn id_of(line: &[u8]) -> Option<&[u8]> {
    let (name, value) = line.split_at(memchr(b':', line)?);
    name.eq_ignore_ascii_case(b"x-request-id").then(|| trim(&value[1..]))
}

/// A line without its end.
fn content(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(came: &[u8], line: &str, id: Option<&str>) {
        let found = Glimpse::of(came);
        let id_found = found.request_id.map(|id| String::from_utf8_lossy(id).into_owned());
        assert_eq!((&*String::from_utf8_lossy(found.line), id_found.as_deref()), (line, id));
    }

    #[test]
    fn of_a_rejected_head_line_and_id_are_found() {
        check(b"", "", None);
        check(b"GET /long", "GET /long", None);
        check(
            b"GET / HTTP/1.1\r\nHost: a b\r\nX-Request-ID:\t me-1 \r\n\r\n",
            "GET / HTTP/1.1",
            Some("me-1"),
        );
        check(b"\r\nGET / HTTP/1.1\nx-request-id:a\n\n", "GET / HTTP/1.1", Some("a"));
        check(b"GET / HTTP/1.1\r\nX-Request-Id: cut", "GET / HTTP/1.1", None);
        check(b"GET / HTTP/1.1\r\nX-Request-Id: a\r\nX-Request-Id: a\r\n", "GET / HTTP/1.1", None);
        check(b"GET / HTTP/1.1\r\nX-Request-Id: a b\r\n", "GET / HTTP/1.1", None);
        check(b"GET / HTTP/1.1\r\nX-Request-Id : a\r\n", "GET / HTTP/1.1", None);
        check(b"GET / HTTP/1.1\r\n\r\nX-Request-Id: body\r\n", "GET / HTTP/1.1", None);
        check(b"\x16\x03\x01\n", "\x16\x03\x01", None);
        check(&[b'x'; 3000], &"x".repeat(1024), None);
    }

    #[test]
    fn ids_are_bounded_and_plain() {
        for (id, valid) in [
            ("a", true),
            ("0123-abc_DEF.~:/+=;", true),
            (&"x".repeat(128), true),
            (&"x".repeat(129), false),
            ("", false),
            ("a b", false),
            ("a\"b", false),
            ("a\\b", false),
            ("a,b", false),
            ("é", false),
            ("a\nb", false),
        ] {
            assert_eq!(is_valid_id(id.as_bytes()), valid, "{id:?}");
        }
    }
}
