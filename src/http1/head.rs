//! The heads of requests and responses (RFC 9112 sections 2 to 5): the scanner finds the lines, this module interprets
//! them and rejects what is not valid.

use super::body::Body;
use super::connection::Options;
use super::fields::{Claim, decimal, list};
use super::framing::{self, Claims, Framing, Method};
use super::names::Name;
use super::page::Form;
use super::reason::Reason;
use super::trace_context::TraceParent;
use super::{encoding, scan, target, trace};
use memchr::{memchr_iter, memchr2, memmem};

pub use super::fields::{FIELDS_MAX, Field, Fields, Slots};

/// Limits of a head; bytes and counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The whole head, its empty line included: 431 beyond.
    pub head: usize,
    /// Field lines: 431 beyond. [`FIELDS_MAX`] at most.
    pub headers: usize,
    /// The request target: 414 beyond.
    pub uri: usize,
    /// TRACE is accepted; otherwise rejected with 405.
    pub trace: bool,
}

/// The size of a response head: this many bytes, or as many as a request if that limit is higher. Applications set many
/// cookies and long security policies; other proxies forward 60 to 64 KiB.
const RESPONSE_HEAD: usize = 64 * 1024;

impl Limits {
    /// The limits of a response head, derived from those of a request head.
    pub fn of_responses(self) -> Self {
        Limits { head: self.head.max(RESPONSE_HEAD), headers: FIELDS_MAX, ..self }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Limits { head: 16 * 1024, headers: 100, uri: 8 * 1024, trace: false }
    }
}

/// HTTP/1.0 or HTTP/1.1 (1.x with x > 1 is served as 1.1; RFC 9110 section 2.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1 and later minors.
    Http11,
}

impl Version {
    fn of(minor: u8) -> Self {
        if minor == 0 { Version::Http10 } else { Version::Http11 }
    }
}

/// The result of a parse that may need more bytes.
#[derive(Debug)]
pub enum Parsed<T> {
    /// The whole head is available.
    Complete(T),
    /// Valid so far. Ask [`may_be_complete`] before the next attempt.
    Partial,
}

/// A valid request head.
#[derive(Debug)]
pub struct RequestHead<'s, 'b> {
    /// Any token, in its original case.
    pub method: &'b [u8],
    /// The target for the request line to the server: origin form, or `*` for OPTIONS; derived from an absolute form
    /// (whose path may be empty, then `/` precedes `target`: `slash_first`).
    pub target: &'b [u8],
    /// The target was in absolute form without a path: write a `/` before it.
    pub slash_first: bool,
    /// The authority: of the absolute form, else of `Host`, else empty (1.0 without Host).
    pub host: &'b [u8],
    /// `host` came from an absolute form and replaces the Host field.
    pub host_from_target: bool,
    /// The target was in absolute form with the scheme `https`.
    pub secure: bool,
    /// The client's version.
    pub version: Version,
    /// Where the body ends.
    pub framing: Framing,
    /// The client wants to keep the connection (RFC 9112 section 9.3).
    pub keep_alive: bool,
    /// `Expect: 100-continue`, the client is 1.1 and a body follows; otherwise the field has no meaning and is not
    /// forwarded (RFC 9110 section 10.1.1).
    pub expects_continue: bool,
    /// `Upgrade` with `Connection: upgrade`, in 1.1. Never for h2c: a tunnel of HTTP/2 would hide requests from us
    /// (obsoleted by RFC 9113 section 3.1).
    pub upgrade: bool,
    /// The form in which `Accept` asks for the balancer's own responses: JSON where it names application/json or +json,
    /// HTML where it names text/html.
    pub form: Form,
    /// `Authorization` has a scheme that authenticates the connection (NTLM, Negotiate), and not the request alone.
    pub authenticates_connection: bool,
    /// `TE: trailers`, in 1.1: the client accepts trailers of the response.
    pub te_trailers: bool,
    /// Max-Forwards of OPTIONS and TRACE. At `Some(0)` the balancer responds itself
    /// ([`reply::last_hop`](super::reply::last_hop); RFC 9110 section 7.6.2); otherwise it is decremented and
    /// forwarded.
    pub max_forwards: Option<u64>,
    /// The client's own X-Request-Id, if there is a valid one.
    pub request_id: Option<&'b [u8]>,
    /// After so many milliseconds its response is worthless (`X-Request-Deadline`).
    pub deadline_ms: Option<u32>,
    /// The client's `traceparent`, if there is exactly one and it is valid.
    pub trace_parent: Option<TraceParent>,
    /// Length of the head including its empty line (and an empty line before it), in bytes.
    pub len: usize,
    /// All fields, in order.
    pub fields: Fields<'s, 'b>,
    /// Connection names fields that must not be forwarded.
    pub(super) nominates: bool,
}

/// A valid response head.
#[derive(Debug)]
pub struct ResponseHead<'s, 'b> {
    /// The server's version.
    pub version: Version,
    /// 100 to 999; servers invent statuses, and a proxy treats them all the same.
    pub status: u16,
    /// The original bytes, possibly empty, possibly not UTF-8.
    pub phrase: &'b [u8],
    /// Where the body ends.
    pub framing: Framing,
    /// For responses to HEAD and for 304: the Content-Length the body would have had; forwarded.
    pub declared_length: Option<u64>,
    /// The server keeps the connection. False when only its close ends the body, after 101, and after a 204 that
    /// announces a body: if that is sent, it must not be taken for the next response.
    pub keep_alive: bool,
    /// Length of the head with its empty line, in bytes.
    pub len: usize,
    /// All fields, in order.
    pub fields: Fields<'s, 'b>,
    /// Connection names fields that must not be forwarded.
    pub(super) nominates: bool,
}

impl<'s, 'b> RequestHead<'s, 'b> {
    /// The head of a request for another path that has the headers of this one and no body: GET, or HEAD where this is
    /// HEAD, so that its response can be the response to this one.
    pub fn as_question(&self, path: &'b [u8]) -> RequestHead<'s, 'b> {
        RequestHead {
            method: if self.method == b"HEAD" { b"HEAD" } else { b"GET" },
            target: path,
            slash_first: false,
            framing: Framing::None,
            expects_continue: false,
            upgrade: false,
            te_trailers: false,
            max_forwards: None,
            deadline_ms: None,
            ..*self
        }
    }
}

impl RequestHead<'_, '_> {
    /// The following body, at its first byte; trailers that Connection nominates here are dropped.
    pub fn body(&self) -> Body {
        body(self.framing, self.nominates, &self.fields)
    }
}

impl ResponseHead<'_, '_> {
    /// The following body, at its first byte; trailers that Connection nominates here are dropped. Padded chunk sizes
    /// are accepted.
    pub fn body(&self) -> Body {
        let mut body = body(self.framing, self.nominates, &self.fields);
        body.allow_padding();
        body
    }
}

fn body(framing: Framing, nominates: bool, fields: &Fields<'_, '_>) -> Body {
    let mut body = Body::new(framing);
    if nominates {
        body.forbid(fields);
    }
    body
}

/// Parses a request head from the start of `bytes`. An invalid head is rejected as soon as the first invalid byte is
/// available.
pub fn request<'s, 'b>(
    bytes: &'b [u8],
    limits: &Limits,
    slots: &'s mut Slots,
) -> Result<Parsed<RequestHead<'s, 'b>>, Reason> {
    let window = window(bytes, limits);
    let Some(line) = scan::request_line(window, limits.uri)? else {
        return partial(window, limits, line_too_large(window));
    };
    let target = match line.method {
        b"CONNECT" => return Err(Reason::ConnectRejected),
        b"TRACE" if !limits.trace => return Err(Reason::TraceRejected),
        method => target::read(method, line.target)?,
    };
    let rules = scan::Rules { fields_max: limits.headers.min(FIELDS_MAX), space_before_colon: false };
    let Some(len) = scan::fields(window, line.end, rules, &mut slots.spans)? else {
        return partial(window, limits, Reason::HeadTooLarge);
    };
    let head = bytes.get(..len).unwrap_or_default();
    let fields = Fields { head, first: line.end, spans: &slots.spans };
    understand(&line, target, fields).map(Parsed::Complete)
}

/// Parses a response head from the start of `bytes`. Errors are [`Reason::ResponseHeadTooLarge`],
/// [`Reason::ResponseTooManyHeaders`] or [`Reason::BadResponse`].
pub fn response<'s, 'b>(
    bytes: &'b [u8],
    method: Method,
    limits: &Limits,
    slots: &'s mut Slots,
) -> Result<Parsed<ResponseHead<'s, 'b>>, Reason> {
    let window = window(bytes, limits);
    let Some(line) = scan::status_line(window)? else {
        return partial(window, limits, Reason::ResponseHeadTooLarge);
    };
    let rules = scan::Rules { fields_max: limits.headers.min(FIELDS_MAX), space_before_colon: true };
    let fields = scan::fields(window, line.end, rules, &mut slots.spans).map_err(|reason| match reason {
        Reason::TooManyHeaders => Reason::ResponseTooManyHeaders,
        _ => Reason::BadResponse,
    })?;
    let Some(len) = fields else {
        return partial(window, limits, Reason::ResponseHeadTooLarge);
    };
    let head = bytes.get(..len).unwrap_or_default();
    let fields = Fields { head, first: line.end, spans: &slots.spans };
    understand_response(&line, method, fields).map(Parsed::Complete)
}

/// Whether another parse is worth its cost: `seen` bytes have been parsed without completing a head, more may have
/// arrived. True when the new bytes may end the head (with correct or wrong line ends), and every 4 KiB, so that limits
/// are enforced; a sender of single bytes does not cause a parse per byte. Pass 0 as `seen` when nothing has been
/// parsed, and parse regardless of the result when no more bytes would fit.
pub fn may_be_complete(bytes: &[u8], seen: usize) -> bool {
    const STRIDE: usize = 4096;
    if seen == 0 || seen / STRIDE != bytes.len() / STRIDE {
        return true;
    }
    let new = bytes.get(seen.saturating_sub(3)..).unwrap_or_default();
    memchr_iter(b'\n', new).any(|at| matches!(new.get(at + 1..), Some([b'\n', ..] | [b'\r', b'\n', ..])))
}

/// No more than this is parsed: a head that is not complete within it is too large.
fn window<'b>(bytes: &'b [u8], limits: &Limits) -> &'b [u8] {
    bytes.get(..limits.head.min(u32::MAX as usize)).unwrap_or(bytes)
}

fn partial<T>(window: &[u8], limits: &Limits, too_large: Reason) -> Result<Parsed<T>, Reason> {
    if window.len() < limits.head { Ok(Parsed::Partial) } else { Err(too_large) }
}

/// A request line that fills the whole head: the target is too long if one has begun and not ended.
fn line_too_large(window: &[u8]) -> Reason {
    if memchr_iter(b' ', window).count() == 1 { Reason::UriTooLong } else { Reason::HeadTooLarge }
}

/// The content of a request's fields, collected in one pass.
#[derive(Default)]
struct Said<'b> {
    claims: Claims<'b>,
    host: Claim<'b>,
    max_forwards: Claim<'b>,
    request_id: Claim<'b>,
    deadline: Claim<'b>,
    trace_parent: Claim<'b>,
    options: Options,
    upgrade: bool,
    h2c: bool,
    te_trailers: bool,
    form: Form,
    authenticates_connection: bool,
    expects_continue: bool,
    expects_other: bool,
    lookalike: bool,
}

impl<'b> Said<'b> {
    fn note(&mut self, kind: Name, value: &'b [u8]) {
        match kind {
            Name::ContentLength | Name::TransferEncoding => self.claims.note(kind, value),
            Name::Host => self.host.note(value),
            Name::MaxForwards => self.max_forwards.note(value),
            Name::XRequestId => self.request_id.note(value),
            Name::XRequestDeadline => self.deadline.note(value),
            Name::TraceParent => self.trace_parent.note(value),
            Name::Connection => self.options.note(value),
            Name::Accept if self.form != Form::Json => self.form = form_of(value, self.form),
            Name::Authorization => self.authenticates_connection |= is_of_connections(value),
            Name::Te => {
                self.te_trailers |= list(value).any(|coding| coding.eq_ignore_ascii_case(b"trailers"))
            }
            Name::Upgrade => {
                self.upgrade |= list(value).next().is_some();
                self.h2c |= list(value).any(is_h2c);
            }
            Name::FramingLookalike => self.lookalike = true,
            Name::Expect => {
                let continues = |expected: &[u8]| expected.eq_ignore_ascii_case(b"100-continue");
                self.expects_continue |= list(value).any(continues);
                self.expects_other |= !list(value).all(continues);
            }
            _ => {}
        }
    }
}

/// Interprets a complete head.
fn understand<'s, 'b>(
    line: &scan::RequestLine<'b>,
    target: target::Target<'b>,
    fields: Fields<'s, 'b>,
) -> Result<RequestHead<'s, 'b>, Reason> {
    let version = Version::of(line.minor);
    let modern = version == Version::Http11;
    let mut said = Said::default();
    for span in fields.spans.iter().filter(|span| span.kind != Name::Other) {
        said.note(span.kind, fields.slice(span.value, span.value_end));
    }
    let framing = framing::request(version, &said.claims)?;
    let has_body = !matches!(framing, Framing::None | Framing::Length(0));
    let host = host(version, said.host)?;
    if said.options.is_excessive() || said.lookalike {
        return Err(Reason::BadHeader);
    }
    if modern && said.expects_other {
        return Err(Reason::ExpectationUnknown);
    }
    // A client must not send a body with TRACE (RFC 9110 section 9.3.8).
    if has_body && line.method == b"TRACE" {
        return Err(Reason::TraceRejected);
    }
    Ok(RequestHead {
        method: line.method,
        target: target.path,
        slash_first: target.slash_first,
        host: target.authority.unwrap_or(host),
        host_from_target: target.authority.is_some(),
        secure: target.secure,
        version,
        framing,
        keep_alive: said.options.persists(version),
        expects_continue: modern && has_body && said.expects_continue,
        upgrade: modern && said.upgrade && said.options.upgrade && !said.h2c,
        form: said.form,
        authenticates_connection: said.authenticates_connection,
        te_trailers: modern && said.te_trailers,
        max_forwards: max_forwards(line.method, said.max_forwards)?,
        request_id: request_id(said.request_id),
        deadline_ms: deadline_ms(said.deadline),
        trace_parent: said.trace_parent.one().and_then(TraceParent::parse),
        len: fields.head.len(),
        fields,
        nominates: said.options.nominates(),
    })
}

fn understand_response<'s, 'b>(
    line: &scan::StatusLine<'b>,
    method: Method,
    fields: Fields<'s, 'b>,
) -> Result<ResponseHead<'s, 'b>, Reason> {
    let version = Version::of(line.minor);
    let (mut claims, mut options) = (Claims::default(), Options::default());
    for span in fields.spans {
        let value = fields.slice(span.value, span.value_end);
        match span.kind {
            Name::Connection => options.note(value),
            Name::ContentLength | Name::TransferEncoding
                if has_space_before_colon(&fields, span.name_end) =>
            {
                return Err(Reason::BadResponse);
            }
            kind => claims.note(kind, value),
        }
    }
    if options.is_excessive() {
        return Err(Reason::BadResponse);
    }
    let framing = framing::response(method, line.status, version, &claims)?;
    let bodiless = line.status == 304 || method == Method::Head && line.status >= 200 && line.status != 204;
    // Where there can be no body, contradictions are ignored; but such a connection is not reused.
    let is_sound = framing::request(version, &claims).is_ok();
    Ok(ResponseHead {
        version,
        status: line.status,
        phrase: line.phrase,
        framing,
        declared_length: if bodiless && is_sound { claims.length() } else { None },
        keep_alive: options.persists(version)
            && is_sound
            && framing != Framing::UntilClose
            && line.status != 101
            && !(line.status == 204 && claims.promise_a_body()),
        len: fields.head.len(),
        fields,
        nominates: options.nominates(),
    })
}

/// White space there is removed when forwarding; on a field that frames the message it is rejected.
pub(super) fn has_space_before_colon(fields: &Fields<'_, '_>, name_end: u32) -> bool {
    fields.head.get(name_end as usize) != Some(&b':')
}

/// Missing, repeated or malformed is 400 (RFC 9112 section 3.2); only an HTTP/1.0 client may leave it out.
fn host(version: Version, host: Claim<'_>) -> Result<&[u8], Reason> {
    match host {
        Claim::One(value) if target::is_authority(value) => Ok(value),
        Claim::Absent if version == Version::Http10 => Ok(b""),
        _ => Err(Reason::BadHost),
    }
}

/// For the two methods that must obey it; others ignore the field (RFC 9110 section 7.6.2).
fn max_forwards(method: &[u8], claim: Claim<'_>) -> Result<Option<u64>, Reason> {
    match claim {
        _ if !matches!(method, b"OPTIONS" | b"TRACE") => Ok(None),
        Claim::Absent => Ok(None),
        // A larger value than we can represent is treated as the largest that we can (RFC 9110 section 7.6.2).
        Claim::One(value) if !value.is_empty() && value.iter().all(u8::is_ascii_digit) => {
            Ok(Some(decimal(value).unwrap_or(u64::MAX)))
        }
        Claim::One(_) | Claim::Several => Err(Reason::BadHeader),
    }
}

/// The client's id counts if there is exactly one and it is valid.
fn request_id(claim: Claim<'_>) -> Option<&[u8]> {
    claim.one().filter(|id| trace::is_valid_id(id))
}

/// The longest `X-Request-Deadline`, in digits: 28 hours.
pub const DEADLINE_DIGITS: usize = 8;

/// One whole number of so many digits, as gRPC has it in `grpc-timeout`. Anything else says nothing: a header that
/// strangers made up is no reason to reject a request.
fn deadline_ms(claim: Claim<'_>) -> Option<u32> {
    let value = claim.one().filter(|value| (1..=DEADLINE_DIGITS).contains(&value.len()))?;
    let is_number = value.iter().all(u8::is_ascii_digit);
    is_number.then(|| decimal(value).and_then(|ms| u32::try_from(ms).ok())).flatten()
}

/// HTTP/2 without TLS, with or without a version.
fn is_h2c(protocol: &[u8]) -> bool {
    let name = protocol.split(|byte| *byte == b'/').next().unwrap_or_default();
    name.eq_ignore_ascii_case(b"h2c")
}

/// Whether a server may take all that follows on the connection for the same user's (RFC 4559 section 6). Nego2 is a
/// Negotiate of Windows.
fn is_of_connections(credentials: &[u8]) -> bool {
    let is = |scheme: &[u8]| credentials.get(..4).is_some_and(|start| start.eq_ignore_ascii_case(scheme));
    is(b"ntlm") || is(b"nego")
}

/// JSON where `application/json` or a suffix `+json` is among the media ranges, HTML where `text/html` is, the one with the higher
/// weight where both are; as before where neither is. Most values of programs have neither a `j` nor an `h`, and are done with quickly.
fn form_of(accept: &[u8], before: Form) -> Form {
    let weight =
        |is: fn(&[u8]) -> bool| list(accept).find(|range| is(media(range))).map_or(0, encoding::weight);
    let json = if memchr2(b'j', b'J', accept).is_some() { weight(is_json) } else { 0 };
    let html = if memchr2(b'h', b'H', accept).is_some() { weight(is_html) } else { 0 };
    match json.max(html) {
        0 => before,
        most if json == most => Form::Json,
        _ => Form::Html,
    }
}

fn is_html(media: &[u8]) -> bool {
    media.eq_ignore_ascii_case(b"text/html")
}

/// A media range without its parameters.
fn media(range: &[u8]) -> &[u8] {
    let end = memmem::find(range, b";").unwrap_or(range.len());
    super::fields::trim(range.get(..end).unwrap_or_default())
}

fn is_json(media: &[u8]) -> bool {
    let suffix = media.len().checked_sub(5).and_then(|at| media.get(at..)).unwrap_or_default();
    media.eq_ignore_ascii_case(b"application/json") || suffix.eq_ignore_ascii_case(b"+json")
}

#[cfg(test)]
mod tests;
