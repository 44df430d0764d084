//! Where the events of an event stream end (`text/event-stream`, WHATWG HTML section 9.2.6): each ends with an empty line.

use super::fields::Fields;
use super::names::Name;

/// The longest end of an event: two line ends of two bytes.
const END_MAX: usize = 4;

/// Follows an event stream: it keeps its last bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Events {
    tail: [u8; END_MAX],
    /// Bytes of `tail` that have come; fewer than all at the beginning only.
    have: usize,
}

impl Events {
    /// Follows these bytes.
    pub fn follow(&mut self, bytes: &[u8]) {
        let mut all = [0; 2 * END_MAX];
        let new = &bytes[bytes.len().saturating_sub(END_MAX)..];
        all[..self.have].copy_from_slice(&self.tail[..self.have]);
        all[self.have..self.have + new.len()].copy_from_slice(new);
        let len = self.have + new.len();
        let kept = len.min(END_MAX);
        self.tail[..kept].copy_from_slice(&all[len - kept..len]);
        self.have = kept;
    }

    /// Whether what has come ends with a whole event, or is nothing.
    pub fn is_between(&self) -> bool {
        self.have == 0 || ends_event(&self.tail[..self.have])
    }

    /// How many of these bytes, which come next, end with a whole event. `None`: within them none ends, and none has
    /// before.
    pub fn whole(&self, bytes: &[u8]) -> Option<usize> {
        let ends_at = |len: &usize| {
            let mut events = *self;
            events.follow(&bytes[..*len]);
            events.is_between()
        };
        (0..=bytes.len()).rev().find(ends_at)
    }
}

/// Whether these are the fields of a response that is an event stream.
pub fn is_event_stream(fields: &Fields<'_, '_>) -> bool {
    const TYPE: &[u8] = b"text/event-stream";
    fields.values(Name::ContentType).any(|value| {
        let media = value.split(|byte| *byte == b';').next().unwrap_or_default();
        media.trim_ascii().eq_ignore_ascii_case(TYPE)
    })
}

/// Whether these bytes end with an empty line.
fn ends_event(tail: &[u8]) -> bool {
    let without_line_end = |bytes: &mut &[u8]| {
        let rest = bytes.strip_suffix(b"\r\n").or(bytes.strip_suffix(b"\n")).or(bytes.strip_suffix(b"\r"));
        rest.map(|rest| *bytes = rest).is_some()
    };
    let mut rest = tail;
    without_line_end(&mut rest) && (rest.is_empty() && tail.len() < END_MAX || without_line_end(&mut rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(stream: &str, between: bool) {
        for size in [1, 2, 3, 5, usize::MAX] {
            let mut events = Events::default();
            stream.as_bytes().chunks(size).for_each(|piece| events.follow(piece));
            assert_eq!(events.is_between(), between, "{stream:?} in pieces of {size}");
        }
    }

    #[test]
    fn an_event_ends_with_an_empty_line() {
        for whole in
            ["", "\n", "data: 1\n\n", "data: 1\r\n\r\n", "data: 1\r\r", "data: 1\n\r\n", "d\n\ne\n\n"]
        {
            check(whole, true);
        }
        for part in ["d", "data: 1\n", "data: 1\r\n", "data: 1\r", "d\n\ne", "d\n\ne\r\n"] {
            check(part, false);
        }
    }

    #[test]
    fn the_whole_events_of_a_piece_end_with_its_last_empty_line() {
        let check = |before: &str, piece: &str, whole: Option<usize>| {
            let mut events = Events::default();
            events.follow(before.as_bytes());
            assert_eq!(events.whole(piece.as_bytes()), whole, "{before:?} {piece:?}");
        };
        check("", "data: 1\n\ndata: 2", Some(9));
        check("da", "ta: 1\n\n", Some(7));
        check("data: 1\n", "\ndata: 2\n", Some(1));
        check("data", ": 1", None);
        check("data: 1\n\n", "data", Some(0));
        check("data: 1\r\n\r", "\ndata", Some(1));
    }
}
