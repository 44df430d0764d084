//! Where a rejected head stops being one: for people who look for the fault.

use super::head::{self, Limits, Slots};
use super::reason::Reason;
use memchr::memchr_iter;

/// The line, counted from 1, with which these bytes become a head that is rejected for this reason; `None` where no line
/// is at fault, such as a header that is missing. It parses again and again: a few times, not once for each line.
pub fn line(bytes: &[u8], reason: Reason, limits: &Limits) -> Option<u32> {
    let mut slots = Slots::new();
    let mut fails =
        |bytes: &[u8]| matches!(head::request(bytes, limits, &mut slots), Err(found) if found == reason);
    if !fails(bytes) {
        return None;
    }
    if reason == Reason::BadHost {
        // Without Host every beginning fails.
        return host_line(bytes);
    }
    let ends: Vec<usize> = memchr_iter(b'\n', bytes).map(|at| at + 1).collect();
    let begin = |lines: usize| [&bytes[..ends[lines - 1]], b"Host: h\r\n\r\n"].concat();
    let (mut whole, mut broken) = (0, ends.len() + 1);
    while broken - whole > 1 {
        let middle = (whole + broken) / 2;
        if fails(&begin(middle)) { broken = middle } else { whole = middle }
    }
    u32::try_from(broken).ok()
}

fn host_line(bytes: &[u8]) -> Option<u32> {
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let is_host = |line: &[u8]| line.get(..5).is_some_and(|name| name.eq_ignore_ascii_case(b"host:"));
    lines.position(is_host).and_then(|at| u32::try_from(at + 1).ok())
}

#[cfg(test)]
mod tests {
    use super::super::head::Parsed;
    use super::*;

    #[track_caller]
    fn check(head: &str, expected: Option<u32>) {
        let limits = Limits::default();
        let reason = match head::request(head.as_bytes(), &limits, &mut Slots::new()) {
            Err(reason) => reason,
            Ok(Parsed::Partial | Parsed::Complete(_)) => Reason::HeadTimeout,
        };
        assert_eq!(line(head.as_bytes(), reason, &limits), expected, "{head:?} is {}", reason.name());
    }

    #[test]
    fn the_line_at_fault_is_found() {
        check("GET / HTTP/1.1\r\nHost: h\r\nA: b\r\nBad header: x\r\nC: d\r\n\r\n", Some(4));
        check("GET / HTTP/1.1\r\nHost: h\r\nContent-Length: x\r\nC: d\r\n\r\n", Some(3));
        check("GET /\u{1} HTTP/1.1\r\nHost: h\r\nC: d\r\n\r\n", Some(1));
        check("no request\r\n\r\n", Some(1));
        check("GET / HTTP/1.1\r\nA: b\r\nHost: a b\r\n\r\n", Some(3));
        check("GET / HTTP/1.1\r\nA: b\r\n\r\n", None);
        check("GET / HTTP/1.1\r\nHost: h\r\n\r\n", None);
        check("GET / HT", None);
    }
}
