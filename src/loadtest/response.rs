//! Parses responses: the codec of the load generator, without IO and without an allocation per response.
//!
//! It shares no code with the codec of the balancer on purpose: a tool that measures and checks must not have the same
//! faults.

use super::chunked::Chunked;
use super::tally::Names;
use std::mem::MaybeUninit;

const FIELDS_MAX: usize = 100;
const HEAD_MAX: usize = 64 << 10;
/// As much of the body of a response that is not good is kept, in bytes.
const EXCERPT_MAX: usize = 1024;
/// A JSON body up to this length is searched for the name of the server.
const NAMED_BODY_MAX: u64 = 1024;

/// What is wrong with a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fault {
    Head,
    HeadTooLarge,
    Length,
    Coding,
    Chunk,
    Excess,
}

impl Fault {
    /// A description of the fault.
    pub(super) fn text(self) -> &'static str {
        match self {
            Fault::Head => "the headers of a response could not be parsed",
            Fault::HeadTooLarge => "the headers of a response are larger than 64 KiB",
            Fault::Length => "a response's Content-Length is not one number",
            Fault::Coding => "a response's Transfer-Encoding is not chunked alone",
            Fault::Chunk => "a chunk of a response is malformed",
            Fault::Excess => "unsolicited data followed a response",
        }
    }
}

/// One response as it is received. Reused for the next response after [`Response::expect`].
#[derive(Debug)]
pub(super) struct Response {
    state: State,
    /// The beginning of an incomplete head; usually empty.
    stash: Vec<u8>,
    to_head: bool,
    status: u16,
    closes: bool,
    server: Option<usize>,
    /// The beginning of the body, if the status is 4xx or 5xx.
    excerpt: Vec<u8>,
}

#[derive(Debug)]
enum State {
    Head,
    Length(u64),
    Chunked(Chunked),
    UntilClose,
}

/// How far a head was read.
enum Taken {
    /// Everything before this offset is processed; more bytes are needed from there.
    NeedsMore(usize),
    /// The head is complete; whether the body is complete, too.
    Head(bool),
}

impl Response {
    /// Nothing is expected yet.
    pub(super) fn new() -> Self {
        Response {
            state: State::Head,
            stash: Vec::new(),
            to_head: false,
            status: 0,
            closes: false,
            server: None,
            excerpt: Vec::new(),
        }
    }

    /// Expects the next response; `to_head` when the request was a HEAD, whose responses have no body.
    pub(super) fn expect(&mut self, to_head: bool) {
        self.state = State::Head;
        self.stash.clear();
        self.to_head = to_head;
        self.server = None;
        self.excerpt.clear();
    }

    /// The first bytes of the body, if the status is 4xx or 5xx.
    pub(super) fn excerpt(&self) -> &[u8] {
        &self.excerpt
    }

    /// The status, once the response is complete.
    pub(super) fn status(&self) -> u16 {
        self.status
    }

    /// Whether the connection ends with this response.
    pub(super) fn closes(&self) -> bool {
        self.closes
    }

    /// The server that responded, as numbered by the [`Names`] given to `feed`.
    pub(super) fn server(&self) -> Option<usize> {
        self.server
    }

    /// Takes bytes; returns true when they complete the response.
    pub(super) fn feed(&mut self, bytes: &[u8], names: &mut Names) -> Result<bool, Fault> {
        match &mut self.state {
            State::Head => self.feed_head(bytes, names),
            _ => self.feed_body(bytes),
        }
    }

    /// The connection was closed: returns true when that completes the response.
    pub(super) fn feed_end(&self) -> bool {
        matches!(self.state, State::UntilClose)
    }

    fn feed_head(&mut self, bytes: &[u8], names: &mut Names) -> Result<bool, Fault> {
        if self.stash.is_empty() {
            return match self.take_head(bytes, names)? {
                Taken::Head(complete) => Ok(complete),
                Taken::NeedsMore(from) => self.put_by(&bytes[from..]),
            };
        }
        let mut stash = std::mem::take(&mut self.stash);
        stash.extend_from_slice(bytes);
        let taken = self.take_head(&stash, names)?;
        let (done, complete) = match taken {
            Taken::Head(complete) => (stash.len(), complete),
            Taken::NeedsMore(from) => (from, false),
        };
        stash.drain(..done);
        self.stash = stash;
        if self.stash.len() > HEAD_MAX { Err(Fault::HeadTooLarge) } else { Ok(complete) }
    }

    fn put_by(&mut self, bytes: &[u8]) -> Result<bool, Fault> {
        if bytes.len() > HEAD_MAX {
            return Err(Fault::HeadTooLarge);
        }
        self.stash.extend_from_slice(bytes);
        Ok(false)
    }

    /// Parses the head, after interim ones, and the available part of the body.
    fn take_head(&mut self, bytes: &[u8], names: &mut Names) -> Result<Taken, Fault> {
        let mut from = 0;
        loop {
            let rest = &bytes[from..];
            let Some(head) = Head::read(rest)? else { return Ok(Taken::NeedsMore(from)) };
            if (100..200).contains(&head.status) && head.status != 101 {
                from += head.length;
                continue;
            }
            let state = head.framing(self.to_head)?;
            let body = &rest[head.length..];
            match (head.served_by, &state) {
                (Some(name), _) => self.server = names.number(name),
                (None, State::Length(length)) if head.json && *length <= NAMED_BODY_MAX => {
                    let Some(body) = body.get(..*length as usize) else {
                        return Ok(Taken::NeedsMore(from));
                    };
                    self.server = server_in(body).and_then(|name| names.number(name));
                }
                _ => {}
            }
            self.status = head.status;
            self.closes = head.closes || matches!(state, State::UntilClose) || head.status == 101;
            self.state = state;
            return self.feed_body(body).map(Taken::Head);
        }
    }

    fn feed_body(&mut self, bytes: &[u8]) -> Result<bool, Fault> {
        let (excerpt, keeps) = (&mut self.excerpt, self.status >= 400);
        let mut keep = |bytes: &[u8]| {
            let room = if keeps { EXCERPT_MAX - excerpt.len() } else { 0 };
            excerpt.extend_from_slice(&bytes[..bytes.len().min(room)]);
        };
        match &mut self.state {
            State::Length(left) => {
                *left = left.checked_sub(bytes.len() as u64).ok_or(Fault::Excess)?;
                keep(bytes);
                Ok(*left == 0)
            }
            State::Chunked(chunked) => match chunked.feed(bytes, keep)? {
                None => Ok(false),
                Some(used) if used == bytes.len() => Ok(true),
                Some(_) => Err(Fault::Excess),
            },
            State::UntilClose => {
                keep(bytes);
                Ok(false)
            }
            State::Head => Ok(false),
        }
    }
}

/// The relevant parts of a head.
struct Head<'b> {
    length: usize,
    status: u16,
    closes: bool,
    json: bool,
    content_length: Option<u64>,
    chunked: bool,
    served_by: Option<&'b [u8]>,
}

impl<'b> Head<'b> {
    /// Parses a head from the start of `bytes`; `None` when it is incomplete.
    fn read(bytes: &'b [u8]) -> Result<Option<Head<'b>>, Fault> {
        let mut fields = [const { MaybeUninit::uninit() }; FIELDS_MAX];
        let mut raw = httparse::Response::new(&mut []);
        let config = httparse::ParserConfig::default();
        let parsed = config.parse_response_with_uninit_headers(&mut raw, bytes, &mut fields);
        let length = match parsed {
            Ok(httparse::Status::Complete(length)) => length,
            Ok(httparse::Status::Partial) => return Ok(None),
            Err(_) => return Err(Fault::Head),
        };
        let mut head = Head {
            length,
            status: raw.code.filter(|code| (100..600).contains(code)).ok_or(Fault::Head)?,
            closes: raw.version == Some(0),
            json: false,
            content_length: None,
            chunked: false,
            served_by: None,
        };
        for field in raw.headers.iter() {
            head.take(field.name.as_bytes(), field.value)?;
        }
        Ok(Some(head))
    }

    /// Names are distinguished by their length first: most headers are skipped with one comparison.
    fn take(&mut self, name: &[u8], value: &'b [u8]) -> Result<(), Fault> {
        match name.len() {
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                let length = number(value).ok_or(Fault::Length)?;
                if self.content_length.is_some_and(|before| before != length) {
                    return Err(Fault::Length);
                }
                self.content_length = Some(length);
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding") => {
                if self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(Fault::Coding);
                }
                self.chunked = true;
            }
            10 if name.eq_ignore_ascii_case(b"connection") => {
                if value.eq_ignore_ascii_case(b"close") {
                    self.closes = true;
                } else if value.eq_ignore_ascii_case(b"keep-alive") {
                    self.closes = false;
                }
            }
            11 if name.eq_ignore_ascii_case(b"x-served-by") => self.served_by = Some(value),
            12 if name.eq_ignore_ascii_case(b"content-type") => {
                self.json = value.starts_with(b"application/json");
            }
            _ => {}
        }
        Ok(())
    }

    /// How the body is delimited (RFC 9112 section 6.3). Both ways at once is a fault.
    fn framing(&self, to_head: bool) -> Result<State, Fault> {
        if self.chunked && self.content_length.is_some() {
            return Err(Fault::Coding);
        }
        if to_head || matches!(self.status, 101 | 204 | 304) {
            return Ok(State::Length(0));
        }
        Ok(match (self.chunked, self.content_length) {
            (true, _) => State::Chunked(Chunked::new()),
            (false, Some(length)) => State::Length(length),
            (false, None) => State::UntilClose,
        })
    }
}

/// A decimal number and nothing else.
fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || digits.len() > 19 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(digits.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0')))
}

/// The reason in a response of Evenkeel itself: in JSON, or in text after `reason: `. Both have a request id, too, so
/// that what a server calls a reason is not taken for one.
pub(super) fn reason_in(body: &[u8]) -> Option<&[u8]> {
    let json: (&[u8], &[u8]) = (b"\"reason\":\"", b"\"request_id\":\"");
    let text: (&[u8], &[u8]) = (b"\nreason: ", b", request id: ");
    for (before, proof) in [json, text] {
        let Some(at) = memchr::memmem::find(body, before) else { continue };
        let name = &body[at + before.len()..];
        let end =
            name.iter().position(|byte| !(byte.is_ascii_lowercase() || matches!(byte, b'_' | b'0'..=b'9')));
        let ends = |end: &usize| *end > 0 && matches!(name[*end], b'"' | b',');
        return end
            .filter(ends)
            .filter(|_| memchr::memmem::find(name, proof).is_some())
            .map(|end| &name[..end]);
    }
    None
}

/// The value of the member `server` in a small JSON body, found without parsing the rest.
fn server_in(body: &[u8]) -> Option<&[u8]> {
    let after = memchr::memmem::find(body, b"\"server\"")? + b"\"server\"".len();
    let value =
        body[after..].trim_ascii_start().strip_prefix(b":")?.trim_ascii_start().strip_prefix(b"\"")?;
    Some(&value[..memchr::memchr(b'"', value)?])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Feeds `bytes` in pieces that end at `cuts`; returns the status, whether the connection closes, and the server's
    /// name.
    fn feed(bytes: &[u8], cuts: &[usize]) -> Result<Option<(u16, bool, Option<String>)>, Fault> {
        let (mut response, mut names) = (Response::new(), Names::default());
        let mut complete = false;
        let mut start = 0;
        for end in cuts.iter().copied().chain([bytes.len()]) {
            if complete && start < end {
                return Err(Fault::Excess);
            }
            if start < end {
                complete = response.feed(&bytes[start..end], &mut names)?;
            }
            start = start.max(end);
        }
        let name = response.server().map(|number| names.name(number).to_string());
        Ok((complete || response.feed_end()).then_some((response.status(), response.closes(), name)))
    }

    const GOOD: &[(&str, u16, bool, Option<&str>)] = &[
        ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", 200, false, None),
        ("HTTP/1.1 200 OK\r\ncontent-length: 0\r\nConnection: close\r\n\r\n", 200, true, None),
        ("HTTP/1.1 204 No Content\r\n\r\n", 204, false, None),
        ("HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", 304, false, None),
        ("HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\nx", 200, true, None),
        ("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 1\r\n\r\nx", 200, false, None),
        ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx", 200, false, None),
        ("HTTP/1.1 200 OK\r\n\r\nuntil the end", 200, true, None),
        (
            "HTTP/1.1 503 No\r\nTransfer-Encoding: chunked\r\nX-Served-By: b\r\n\r\n3;e=1\r\nabc\r\n0\r\nT: 1\r\n\r\n",
            503,
            false,
            Some("b"),
        ),
        (
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 14\r\n\r\n{\"server\": \"a\"",
            200,
            false,
            Some("a"),
        ),
    ];

    #[test]
    fn responses_are_read_whole_and_cut_anywhere() {
        for (text, status, closes, name) in GOOD {
            let wanted = Ok(Some((*status, *closes, name.map(str::to_string))));
            assert_eq!(feed(text.as_bytes(), &[]), wanted, "{text}");
            let every: Vec<_> = (1..text.len()).collect();
            assert_eq!(feed(text.as_bytes(), &every), wanted, "byte by byte: {text}");
            for cut in every {
                assert_eq!(feed(text.as_bytes(), &[cut]), wanted, "cut at {cut}: {text}");
            }
        }
    }

    #[test]
    fn bad_responses_are_reported() {
        let check = |text: &str, fault| assert_eq!(feed(text.as_bytes(), &[]), Err(fault), "{text}");
        check("SSH-2.0-x\r\n\r\n", Fault::Head);
        check("HTTP/1.1 999 X\r\n\r\n", Fault::Head);
        check("HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\nx", Fault::Length);
        check("HTTP/1.1 200 OK\r\nContent-Length: \r\n\r\nx", Fault::Length);
        check("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx", Fault::Length);
        check("HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nx", Fault::Length);
        check("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nx", Fault::Coding);
        check("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\nx", Fault::Coding);
        check("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n+5\r\nhello\r\n0\r\n\r\n", Fault::Chunk);
        check("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nxy", Fault::Excess);
    }

    #[test]
    fn our_own_reasons_are_found_and_others_are_not() {
        let check = |body: &str, reason: Option<&str>| {
            let found = reason_in(body.as_bytes());
            assert_eq!(found, reason.map(str::as_bytes), "{body}");
        };
        let text = "503 Service Unavailable: All busy.\nreason: queue_full, request id: 12\n";
        check(text, Some("queue_full"));
        check(r#"{"error":"E","status":503,"reason":"no_server","request_id":"1"}"#, Some("no_server"));
        check(r#"{"reason":"database down","request_id":"1"}"#, None);
        check(r#"{"reason":"database"}"#, None);
        check("\nreason: , request id: 1", None);
        check("", None);
    }

    #[test]
    fn the_beginning_of_a_bad_body_is_kept() {
        let check = |text: &str, body: &[u8]| {
            let mut response = Response::new();
            for byte in text.as_bytes() {
                response.feed(&[*byte], &mut Names::default()).unwrap();
            }
            assert_eq!(response.excerpt(), body, "{text}");
        };
        check("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", b"");
        check("HTTP/1.1 500 E\r\nContent-Length: 2\r\n\r\nno", b"no");
        check("HTTP/1.1 500 E\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nn\r\n1\r\no\r\n0\r\n\r\n", b"no");
        check("HTTP/1.1 404 E\r\n\r\nnothing here", b"nothing here");
        let long = format!("HTTP/1.1 500 E\r\nContent-Length: 9999\r\n\r\n{}", "x".repeat(9999));
        check(&long, &[b'x'; EXCERPT_MAX]);
    }

    #[test]
    fn a_response_to_a_head_has_no_body() {
        let mut response = Response::new();
        response.expect(true);
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
        assert_eq!(response.feed(head, &mut Names::default()), Ok(true));
    }

    #[test]
    fn a_head_without_end_is_rejected() {
        let mut response = Response::new();
        let mut names = Names::default();
        assert_eq!(response.feed(b"HTTP/1.1 200 OK\r\nX: ", &mut names), Ok(false));
        let rejected = (0..100).find_map(|_| response.feed(&[b'x'; 1024], &mut names).err());
        assert_eq!(rejected, Some(Fault::HeadTooLarge));
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same(which in 0..GOOD.len(), mut cuts in prop::collection::vec(0usize..120, 0..6)) {
            let bytes = GOOD[which].0.as_bytes();
            cuts.iter_mut().for_each(|cut| *cut = (*cut).min(bytes.len()));
            cuts.sort_unstable();
            prop_assert_eq!(feed(bytes, &cuts), feed(bytes, &[]));
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let mut whole = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
            whole.extend_from_slice(&bytes);
            let _ = feed(&whole, &[]);
            let _ = feed(&bytes, &[]);
        }
    }
}
