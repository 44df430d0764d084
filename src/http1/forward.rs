//! Heads as they are forwarded: hop-by-hop fields removed, ours added, the rest unchanged (RFC 9110 section 7.6).
//!
//! Forwarded lines are copied unchanged, in runs, with their case, order, duplicates and odd bytes. Our own lines
//! follow them: framing is always ours, never the sender's.

pub use super::edits::{Change, Edits, Rewritten};

mod lines;

use lines::{ConnectionLine, Runs};

use super::connection::Nominations;
use super::edits::{append_replaced, change_of};
use super::encoding::{self, Coding};
use super::fields::{Field, Fields, Span, list};
use super::framing::Framing;
use super::head::{RequestHead, ResponseHead, Version, has_space_before_colon};
use super::names::Name;
use super::origin::{Known, origin};
use super::reason::Reason;
use super::trace_context::TraceParent;
use super::write::{self, decimal};
use crate::base::ids::RequestId;
use std::net::IpAddr;

/// What is added to a request at this hop.
pub struct Hop<'a> {
    /// The peer's address; None on a Unix socket.
    pub peer: Option<IpAddr>,
    /// The peer is a proxy whose X-Forwarded-* and Forwarded are trusted and extended; otherwise they are replaced.
    pub peer_trusted: bool,
    /// "http" or "https".
    pub proto: &'a str,
    /// Subject and fingerprint of the client's certificate, verified by us: they replace what anyone else says of it.
    pub client_certificate: Option<(&'a str, &'a str)>,
    /// Our name in Via; no spaces. One per instance: a chain of two balancers is not a loop. Empty: there is no Via.
    pub pseudonym: &'a str,
    /// Written as X-Request-Id in the place of the client's; `None`: the client's is forwarded.
    pub request_id: Option<RequestId>,
    /// Written as `traceparent` in the place of what the client sent, if anything.
    pub trace_parent: Option<TraceParent>,
    /// Also write RFC 7239 Forwarded.
    pub forwarded: bool,
    /// Written as Host when the client, an HTTP/1.0 one, sent none: the server's own name or address.
    pub authority: &'a str,
    /// What takes the place of the client's target.
    pub rewritten: Rewritten<'a>,
    /// Changes of the other headers.
    pub edits: Option<&'a dyn Edits>,
}

/// How a response is sent to the client.
pub struct ResponseHop<'a> {
    /// The client's version.
    pub client: Version,
    /// The framing towards the client; always ours, never the server's. For HEAD and 304 `None`: the server's
    /// Content-Length is then forwarded unchanged (`ResponseHead::declared_length`).
    pub framing: Framing,
    /// The connection to the client is kept.
    pub keep_alive: bool,
    /// Our name in Via.
    pub pseudonym: &'a str,
    /// X-Served-By.
    pub served_by: Option<&'a str>,
    /// What the server says of its load is for us alone.
    pub hides_load_metrics: bool,
    /// X-Request-Id, in the place of the server's.
    pub request_id: Option<&'a [u8]>,
    /// The body is sent in this coding, which the server has not applied.
    pub coding: Option<Coding>,
    /// It says that a response which was sent in a coding is still good.
    pub weakens_tag: bool,
    /// The type of the page that takes the place of the server's body; what describes that body is left out.
    pub page: Option<&'static str>,
    /// Caches are told that the coding depends on what the client accepts.
    pub varies: bool,
    /// An IMF-fixdate for a response without Date (RFC 9110 section 6.6.1); empty: none is written.
    pub date: &'a str,
    /// Further header lines for a final response, each with its line end.
    pub lines: &'a [u8],
    /// The `Set-Cookie` line of a session, for a final response or a 101.
    pub session: &'a [u8],
    /// Changes of the other headers; none of them is made to interim responses.
    pub edits: Option<&'a dyn Edits>,
}

/// Appends the head for the server, always as HTTP/1.1. [`Reason::LoopDetected`] when Via already names us;
/// then nothing is appended.
pub fn request(head: &RequestHead<'_, '_>, hop: &Hop<'_>, out: &mut Vec<u8>) -> Result<(), Reason> {
    let start = out.len();
    out.reserve(head.len + 512);
    request_line(head, hop, out);
    let known = copy_request_fields(head, hop, out).inspect_err(|_| out.truncate(start))?;
    let protocol = if head.version == Version::Http10 { "1.0 " } else { "1.1 " };
    via(protocol, hop.pseudonym, out);
    origin(head, hop, known, out);
    if let Some(id) = hop.request_id {
        write::field(out, "X-Request-Id", &id.digits());
    }
    if let Some(parent) = hop.trace_parent {
        write::field(out, "traceparent", &parent.digits());
    }
    if let Some(left) = head.max_forwards {
        out.extend_from_slice(b"Max-Forwards: ");
        decimal(out, left.saturating_sub(1));
        out.extend_from_slice(b"\r\n");
    }
    framing(head.framing, out);
    hop.edits.into_iter().for_each(|edits| edits.append(&head.fields, out));
    // A field for the next hop alone is named in Connection (RFC 9110 sections 7.8 and 10.1.4).
    let mut options = ConnectionLine::default();
    if head.upgrade {
        options.add("upgrade", out);
    }
    if head.te_trailers {
        options.add("TE", out);
    }
    options.end(out);
    out.extend_from_slice(if head.te_trailers { b"TE: trailers\r\n\r\n" } else { b"\r\n" });
    Ok(())
}

/// Appends the head for the client, always as HTTP/1.1: the version is the sender's own, even to 1.0 clients (RFC 9110
/// section 2.5); what they do not support is not sent to them.
pub fn response(head: &ResponseHead<'_, '_>, hop: &ResponseHop<'_>, out: &mut Vec<u8>) {
    out.reserve(head.len + 256);
    out.extend_from_slice(b"HTTP/1.1 ");
    decimal(out, u64::from(head.status));
    out.push(b' ');
    out.extend_from_slice(head.phrase);
    out.extend_from_slice(b"\r\n");
    let dated = copy_response_fields(head, hop, out);
    let interim = head.status < 200;
    if !dated && !interim && !hop.date.is_empty() {
        write::field(out, "Date", hop.date.as_bytes());
    }
    via(if head.version == Version::Http10 { "1.0 " } else { "1.1 " }, hop.pseudonym, out);
    if let (false, Some(server)) = (interim, hop.served_by) {
        write::field(out, "X-Served-By", server.as_bytes());
    }
    if let Some(coding) = hop.coding {
        write::field(out, "Content-Encoding", coding.name().as_bytes());
    }
    if hop.varies {
        write::field(out, "Vary", b"Accept-Encoding");
    }
    if let Some(content_type) = hop.page {
        write::field(out, "Content-Type", content_type.as_bytes());
        // A client that accepts JSON gets that.
        write::field(out, "Vary", b"Accept");
    }
    if let (false, Some(id)) = (interim, hop.request_id) {
        write::field(out, "X-Request-Id", id);
    }
    if !interim || head.status == 101 {
        out.extend_from_slice(hop.session);
        out.extend_from_slice(hop.lines);
    }
    if !interim {
        hop.edits.into_iter().for_each(|edits| edits.append(&head.fields, out));
        framing(hop.framing, out);
    }
    if let (Some(length), Framing::None) = (head.declared_length, hop.framing) {
        framing(Framing::Length(length), out);
    }
    connection_of_response(head, hop, out);
    out.extend_from_slice(b"\r\n");
}

/// Appends the lines of a response that are copied to a request: those of these names, which are in lower case.
pub fn copied(fields: &Fields<'_, '_>, names: &[String], out: &mut Vec<u8>) {
    let is_named = |name: &[u8]| names.iter().any(|lower| name.eq_ignore_ascii_case(lower.as_bytes()));
    for field in fields.iter().filter(|field| is_named(field.name)) {
        out.extend_from_slice(field.name);
        out.extend_from_slice(b": ");
        out.extend_from_slice(field.value);
        out.extend_from_slice(b"\r\n");
    }
}

/// The request line, and Host first if it is not the client's own line.
fn request_line(head: &RequestHead<'_, '_>, hop: &Hop<'_>, out: &mut Vec<u8>) {
    out.extend_from_slice(head.method);
    match hop.rewritten.target {
        Some(target) => {
            out.push(b' ');
            out.extend_from_slice(target);
        }
        None => {
            out.extend_from_slice(if head.slash_first { b" /" } else { b" " });
            out.extend_from_slice(head.target);
        }
    }
    out.extend_from_slice(b" HTTP/1.1\r\n");
    if let Some(host) = hop.rewritten.host {
        write::field(out, "Host", host);
    } else if head.host_from_target {
        write::field(out, "Host", head.host);
    } else if head.host.is_empty() {
        write::field(out, "Host", hop.authority.as_bytes());
    }
}

fn copy_request_fields(
    head: &RequestHead<'_, '_>,
    hop: &Hop<'_>,
    out: &mut Vec<u8>,
) -> Result<Known, Reason> {
    let mut runs = Runs::new(&head.fields);
    let mut known = Known::default();
    let nominations = head.nominates.then(|| Nominations::of(&head.fields));
    for span in head.fields.spans {
        match span.kind {
            Name::Other => {}
            Name::Via
                if !hop.pseudonym.is_empty() && names_us(head.fields.field(span).value, hop.pseudonym) =>
            {
                return Err(Reason::LoopDetected);
            }
            Name::XForwardedFor => known.addresses = hop.peer_trusted,
            Name::XForwardedProto => known.proto = hop.peer_trusted,
            Name::XForwardedHost => known.host = hop.peer_trusted,
            _ => {}
        }
        let is_left_out =
            !goes_to_server(head, hop, span.kind) || is_nominated(&nominations, &head.fields, span);
        let change = if is_left_out { Change::Drop } else { change_of(hop.edits, &head.fields, span) };
        if change != Change::Keep {
            runs.leave_out(span, out);
        }
        if change == Change::Replace {
            append_replaced(hop.edits, &head.fields, span, out);
        }
    }
    runs.end(out);
    Ok(known)
}

fn goes_to_server(head: &RequestHead<'_, '_>, hop: &Hop<'_>, kind: Name) -> bool {
    match kind {
        Name::ContentLength | Name::TransferEncoding | Name::Connection | Name::KeepAlive => false,
        Name::ProxyConnection | Name::Te | Name::Http2Settings | Name::XForwardedFor => false,
        // With `close`, Connection names it.
        Name::Close => head.keep_alive,
        Name::Host => !head.host_from_target && hop.rewritten.host.is_none(),
        Name::Trailer => head.framing == Framing::Chunked,
        Name::Upgrade => head.upgrade,
        Name::Expect => head.expects_continue,
        Name::MaxForwards => head.max_forwards.is_none(),
        Name::Forwarded | Name::XForwardedProto | Name::XForwardedHost | Name::XForwardedOther => {
            hop.peer_trusted
        }
        Name::XClientCert => hop.peer_trusted && hop.client_certificate.is_none(),
        Name::XRealIp => hop.peer_trusted,
        Name::XRequestId => hop.request_id.is_none(),
        Name::TraceParent => hop.trace_parent.is_none(),
        // It belongs to the trace, and stays where that goes on.
        Name::TraceState => hop
            .trace_parent
            .is_none_or(|ours| head.trace_parent.is_some_and(|theirs| theirs.trace == ours.trace)),
        Name::FramingLookalike | Name::XRequestDeadline => false,
        Name::Other | Name::Via | Name::XServedBy | Name::Accept | Name::Date | Name::ContentType => true,
        Name::Authorization | Name::LoadMetrics => true,
    }
}

/// Copies the forwarded part of a response; returns whether there was a Date.
fn copy_response_fields(head: &ResponseHead<'_, '_>, hop: &ResponseHop<'_>, out: &mut Vec<u8>) -> bool {
    let mut runs = Runs::new(&head.fields);
    let mut dated = false;
    let nominations = head.nominates.then(|| Nominations::of(&head.fields));
    for span in head.fields.spans {
        let is_left_out =
            !goes_to_client(head, hop, span.kind) || is_nominated(&nominations, &head.fields, span);
        let change = match is_left_out {
            true => Change::Drop,
            false if head.status < 200 => Change::Keep,
            false => change_of(hop.edits, &head.fields, span),
        };
        if change != Change::Keep {
            runs.leave_out(span, out);
            if change == Change::Replace {
                append_replaced(hop.edits, &head.fields, span, out);
            }
            continue;
        }
        if hop.page.is_some() && describes_content(&head.fields.field(span)) {
            runs.leave_out(span, out);
            continue;
        }
        dated |= span.kind == Name::Date;
        if (hop.coding.is_some() || hop.weakens_tag)
            && span.kind == Name::Other
            && recoded(head, span, &mut runs, out)
        {
            continue;
        }
        if has_space_before_colon(&head.fields, span.name_end) {
            // A proxy removes white space between name and colon (RFC 9112 section 5.1).
            runs.leave_out(span, out);
            let Field { name, value, .. } = head.fields.field(span);
            out.extend_from_slice(name);
            write::field(out, "", value);
        }
    }
    runs.end(out);
    dated
}

/// Whether a header holds for the body that it came with alone (RFC 9110 sections 8 and 14.3, RFC 9530, RFC 6266).
fn describes_content(field: &Field<'_>) -> bool {
    const OF_CONTENT: [&str; 8] = [
        "content-encoding",
        "content-language",
        "content-location",
        "content-range",
        "content-disposition",
        "etag",
        "last-modified",
        "trailer",
    ];
    field.kind == Name::ContentType
        || encoding::is_void(field.name)
        || OF_CONTENT.iter().any(|name| field.name.eq_ignore_ascii_case(name.as_bytes()))
}

/// What becomes of a line whose content is encoded by us; false: it is forwarded as it is.
fn recoded(head: &ResponseHead<'_, '_>, span: &Span, runs: &mut Runs<'_>, out: &mut Vec<u8>) -> bool {
    let Field { name, value, .. } = head.fields.field(span);
    let is_tag = name.eq_ignore_ascii_case(b"etag");
    if !is_tag && !encoding::is_void(name) {
        return false;
    }
    runs.leave_out(span, out);
    if is_tag {
        out.extend_from_slice(b"ETag: ");
        encoding::weak_tag(value, out);
        out.extend_from_slice(b"\r\n");
    }
    true
}

fn goes_to_client(head: &ResponseHead<'_, '_>, hop: &ResponseHop<'_>, kind: Name) -> bool {
    match kind {
        Name::ContentLength | Name::TransferEncoding | Name::Connection | Name::KeepAlive => false,
        Name::ProxyConnection | Name::Te | Name::Http2Settings => false,
        Name::Close => head.keep_alive,
        Name::Trailer => hop.framing == Framing::Chunked,
        Name::Upgrade => tells_upgrade(head),
        Name::XServedBy => hop.served_by.is_none(),
        Name::XRequestId => hop.request_id.is_none(),
        Name::LoadMetrics => !hop.hides_load_metrics,
        _ => true,
    }
}

/// 101 switches protocols, 426 names the required one (RFC 9110 sections 15.2.2 and 15.5.22); with other statuses
/// Upgrade is the server's offer to us.
fn tells_upgrade(head: &ResponseHead<'_, '_>) -> bool {
    matches!(head.status, 101 | 426) && head.fields.values(Name::Upgrade).next().is_some()
}

fn connection_of_response(head: &ResponseHead<'_, '_>, hop: &ResponseHop<'_>, out: &mut Vec<u8>) {
    let mut options = ConnectionLine::default();
    if tells_upgrade(head) {
        options.add("upgrade", out);
    }
    if head.status >= 200 {
        match (hop.keep_alive, hop.client) {
            (false, _) => options.add("close", out),
            (true, Version::Http10) => options.add("keep-alive", out),
            (true, Version::Http11) => {}
        }
    }
    options.end(out);
}

/// Connection limits the field to one hop. It cannot do so for fields that route, frame or trace the message: those
/// have their own rules, and a client must not be able to remove them.
fn is_nominated(nominations: &Option<Nominations<'_>>, fields: &Fields<'_, '_>, span: &Span) -> bool {
    let Some(nominations) = nominations else { return false };
    let unread = matches!(
        span.kind,
        Name::Other
            | Name::Accept
            | Name::Authorization
            | Name::ContentType
            | Name::FramingLookalike
            | Name::LoadMetrics
    );
    let open = unread || matches!(span.kind, Name::Trailer | Name::Date | Name::XServedBy);
    open && nominations.has(fields.slice(span.start, span.name_end))
}

/// Via contains our pseudonym: `protocol SP received-by [ SP comment ]`, in a list.
fn names_us(value: &[u8], pseudonym: &str) -> bool {
    list(value).any(|element| {
        let mut words = element.split(|byte| matches!(byte, b' ' | b'\t')).filter(|word| !word.is_empty());
        words.nth(1).is_some_and(|by| by.eq_ignore_ascii_case(pseudonym.as_bytes()))
    })
}

fn via(protocol: &str, pseudonym: &str, out: &mut Vec<u8>) {
    if pseudonym.is_empty() {
        return;
    }
    out.extend_from_slice(b"Via: ");
    out.extend_from_slice(protocol.as_bytes());
    out.extend_from_slice(pseudonym.as_bytes());
    out.extend_from_slice(b"\r\n");
}

fn framing(framing: Framing, out: &mut Vec<u8>) {
    match framing {
        Framing::None | Framing::UntilClose => {}
        Framing::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
        Framing::Length(length) => {
            out.extend_from_slice(b"Content-Length: ");
            decimal(out, length);
            out.extend_from_slice(b"\r\n");
        }
    }
}

#[cfg(test)]
mod tests;
