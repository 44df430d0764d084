//! The balancer's own responses: short, readable, with the reason and the request id.

use super::head::RequestHead;
use super::page::{Form, Page, Told};
use super::reason::{Reason, phrase};
use super::write::{decimal, field};

/// The value of Allow with 405 (RFC 9110 section 10.2.1): other tokens are forwarded as well.
const ALLOW: &[u8] = b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS";

/// The parameters of a response.
#[derive(Debug)]
pub struct Reply<'a> {
    /// Why there is no response of a server; determines status, sentence and name.
    pub reason: Reason,
    /// The client's valid id, or ours; goes into the body and into X-Request-Id.
    pub request_id: &'a [u8],
    /// The form that the client asked for.
    pub form: Form,
    /// The page of this status, if there is one: in the place of text and HTML.
    pub page: Option<&'a Page>,
    /// The sentence may tell what is behind the balancer.
    pub details: bool,
    /// The request was HEAD: no body is sent.
    pub head_only: bool,
    /// Whether the connection is kept; the response says `Connection: close` when it is not.
    pub keep_alive: bool,
    /// An IMF-fixdate, already formatted (RFC 9110 section 5.6.7).
    pub date: &'a str,
    /// Seconds for Retry-After; only written with 503 and 429.
    pub retry_after: u32,
    /// Further header lines, each with its line end.
    pub lines: &'a [u8],
}

/// Appends the whole response.
pub fn write(reply: &Reply<'_>, out: &mut Vec<u8>) {
    let status = reply.reason.status();
    start(status, reply.date, reply.keep_alive, out);
    field(out, "X-Request-Id", reply.request_id);
    // The reason may be gone on the next attempt: no cache may store it, although 405, 414 and 501 are cacheable.
    out.extend_from_slice(b"Cache-Control: no-store\r\n");
    if status == 405 {
        field(out, "Allow", ALLOW);
    }
    if matches!(status, 429 | 503) {
        number(out, "Retry-After: ", u64::from(reply.retry_after));
    }
    out.extend_from_slice(reply.lines);
    match (reply.form, reply.page) {
        (Form::Json, _) => parts(reply, "application/json", json(&reply.told()), out),
        (_, Some(page)) => write_page(reply, page, out),
        (Form::Html, None) => write_page(reply, Page::built_in(), out),
        (Form::Text, None) => parts(reply, "text/plain; charset=utf-8", text(&reply.told()), out),
    }
}

fn parts(reply: &Reply<'_>, content_type: &str, parts: [Part<'_>; 10], out: &mut Vec<u8>) {
    // A status has three digits.
    let len: usize = parts.iter().map(Part::len).sum();
    content(content_type, len, out);
    if !reply.head_only {
        parts.iter().for_each(|part| part.write(out));
    }
}

fn write_page(reply: &Reply<'_>, page: &Page, out: &mut Vec<u8>) {
    let mut body = Vec::new();
    page.write(&reply.told(), &mut body);
    content(page.content_type(), body.len(), out);
    if !reply.head_only {
        out.extend_from_slice(&body);
    }
}

/// What is told of the content, and the end of the head.
fn content(content_type: &str, len: usize, out: &mut Vec<u8>) {
    field(out, "Content-Type", content_type.as_bytes());
    number(out, "Content-Length: ", len as u64);
    out.extend_from_slice(b"\r\n");
}

impl<'a> Reply<'a> {
    fn sentence(&self) -> &'a str {
        if self.details { self.reason.sentence() } else { self.reason.public_sentence() }
    }

    fn told(&self) -> Told<'a> {
        let (status, reason) = (self.reason.status(), self.reason.name());
        Told { status, reason, message: self.sentence(), request_id: self.request_id }
    }
}

/// What takes the place of the body of a server's response with this status: JSON for a client that accepts it, as with
/// [`write`], else the page. It is appended; its type comes back.
pub fn instead(status: u16, form: Form, page: &Page, request_id: &[u8], out: &mut Vec<u8>) -> &'static str {
    let told = Told::of_server(status, request_id);
    match form {
        Form::Json => {
            json(&told).iter().for_each(|part| part.write(out));
            "application/json"
        }
        Form::Text | Form::Html => {
            page.write(&told, out);
            page.content_type()
        }
    }
}

/// A response that the configuration describes: of a route that redirects, or responds by itself.
#[derive(Debug)]
pub struct Fixed<'a> {
    /// 200 to 599.
    pub status: u16,
    /// Header lines, each with its CRLF.
    pub headers: &'a [u8],
    /// What follows, unless the request was HEAD; none for 204 and 304.
    pub body: &'a [u8],
    /// The request was HEAD: no body is sent.
    pub head_only: bool,
    /// The connection is kept.
    pub keep_alive: bool,
    /// An IMF-fixdate.
    pub date: &'a str,
}

/// Appends the whole response.
pub fn fixed(reply: &Fixed<'_>, out: &mut Vec<u8>) {
    start(reply.status, reply.date, reply.keep_alive, out);
    out.extend_from_slice(reply.headers);
    // Neither has a body; 204 has no length either (RFC 9110 sections 8.6, 15.3.5 and 15.4.5).
    let is_bodyless = matches!(reply.status, 204 | 304);
    if !is_bodyless {
        number(out, "Content-Length: ", reply.body.len() as u64);
    }
    out.extend_from_slice(b"\r\n");
    if !reply.head_only && !is_bodyless {
        out.extend_from_slice(reply.body);
    }
}

/// How to respond to OPTIONS and TRACE as the last hop.
#[derive(Debug)]
pub struct LastHop<'a> {
    /// The connection is kept.
    pub keep_alive: bool,
    /// An IMF-fixdate.
    pub date: &'a str,
}

/// Appends the response to a request whose Max-Forwards has run out (RFC 9110 section 7.6.2): our capabilities for
/// OPTIONS; for TRACE the head as we received it, without anything that identifies the client (section 9.3.8).
pub fn last_hop(head: &RequestHead<'_, '_>, how: &LastHop<'_>, out: &mut Vec<u8>) {
    start(200, how.date, how.keep_alive, out);
    if head.method != b"TRACE" {
        field(out, "Allow", ALLOW);
        out.extend_from_slice(b"Content-Length: 0\r\n\r\n");
        return;
    }
    let seen =
        || head.fields.spans.iter().filter(|span| !is_private(head.fields.slice(span.start, span.name_end)));
    let line = head.fields.head.get(..head.fields.first).unwrap_or_default();
    let line = line.strip_prefix(b"\r\n").unwrap_or(line);
    let len = line.len() + seen().map(|span| (span.end - span.start) as usize).sum::<usize>() + 2;
    field(out, "Content-Type", b"message/http");
    number(out, "Content-Length: ", len as u64);
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(line);
    seen().for_each(|span| out.extend_from_slice(head.fields.slice(span.start, span.end)));
    out.extend_from_slice(b"\r\n");
}

fn is_private(name: &[u8]) -> bool {
    let private: [&[u8]; 4] = [b"Authorization", b"Proxy-Authorization", b"Cookie", b"X-Api-Key"];
    private.iter().any(|private| name.eq_ignore_ascii_case(private))
}

/// The status line and what every response has.
fn start(status: u16, date: &str, keep_alive: bool, out: &mut Vec<u8>) {
    out.extend_from_slice(b"HTTP/1.1 ");
    decimal(out, u64::from(status));
    out.push(b' ');
    out.extend_from_slice(phrase(status).as_bytes());
    out.extend_from_slice(b"\r\n");
    field(out, "Date", date.as_bytes());
    field(out, "Connection", if keep_alive { b"keep-alive" } else { b"close" });
}

fn number(out: &mut Vec<u8>, name_and_colon: &str, value: u64) {
    out.extend_from_slice(name_and_colon.as_bytes());
    decimal(out, value);
    out.extend_from_slice(b"\r\n");
}

/// A piece of a body whose length must be known before it is written.
enum Part<'a> {
    Text(&'a str),
    Id(&'a [u8]),
    Status(u16),
}

impl Part<'_> {
    fn len(&self) -> usize {
        match self {
            Part::Text(text) => text.len(),
            Part::Id(id) => id.len(),
            Part::Status(_) => 3,
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Part::Text(text) => out.extend_from_slice(text.as_bytes()),
            Part::Id(id) => out.extend_from_slice(id),
            Part::Status(status) => decimal(out, u64::from(*status)),
        }
    }
}

/// `503 Service Unavailable: …` and a line with the reason and the id.
fn text<'a>(told: &Told<'a>) -> [Part<'a>; 10] {
    [
        Part::Status(told.status),
        Part::Text(" "),
        Part::Text(phrase(told.status)),
        Part::Text(": "),
        Part::Text(told.message),
        Part::Text("\nreason: "),
        Part::Text(told.reason),
        Part::Text(", request id: "),
        Part::Id(told.request_id),
        Part::Text("\n"),
    ]
}

/// Nothing in it needs an escape: a test checks that for the sentences of the reasons, and a valid id has nothing to
/// escape.
fn json<'a>(told: &Told<'a>) -> [Part<'a>; 10] {
    [
        Part::Text("{\"error\":\""),
        Part::Text(told.message),
        Part::Text("\",\"status\":"),
        Part::Status(told.status),
        Part::Text(",\"reason\":\""),
        Part::Text(told.reason),
        Part::Text("\",\"request_id\":\""),
        Part::Id(told.request_id),
        Part::Text("\"}"),
        Part::Text("\n"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::framing::Method;
    use crate::http1::head::{Limits, Parsed, Slots, request, response};

    const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";

    fn reply(reason: Reason, form: Form, page: Option<&Page>, head_only: bool) -> (String, String) {
        let request_id = b"00000000000000010000000000000002";
        let lines = b"RateLimit: \"client\";r=0;t=7\r\n";
        let (details, keep_alive) = (false, false);
        let date = DATE;
        let retry_after = 7;
        let reply = Reply {
            reason,
            request_id,
            form,
            page,
            details,
            head_only,
            keep_alive,
            date,
            retry_after,
            lines,
        };
        let mut out = Vec::new();
        write(&reply, &mut out);
        let out = String::from_utf8(out).unwrap();
        let (head, body) = out.split_once("\r\n\r\n").unwrap();
        (format!("{head}\r\n"), body.to_string())
    }

    #[test]
    fn every_reply_is_a_good_response() {
        for reason in Reason::ALL {
            let page = Page::parse("{reason} {request_id}", "html").unwrap();
            let forms = [
                (Form::Text, None),
                (Form::Json, None),
                (Form::Html, Some(&page)),
                (Form::Text, Some(&page)),
            ];
            for (form, page) in forms {
                let (head, body) = reply(*reason, form, page, false);
                assert!(head.contains(&format!("\r\nContent-Length: {}\r\n", body.len())), "{head}");
                assert_eq!(head.contains("\r\nRetry-After: 7\r\n"), matches!(reason.status(), 429 | 503));
                assert_eq!(head.contains("\r\nAllow: "), reason.status() == 405);
                assert!(body.contains(reason.name()) && body.contains("00000000000000010000000000000002"));
                let (bare, nothing) = reply(*reason, form, page, true);
                assert_eq!((bare, nothing.as_str()), (head.clone(), ""));
                let bytes = format!("{head}\r\n");
                let mut slots = Slots::new();
                let parsed = response(bytes.as_bytes(), Method::Other, &Limits::default(), &mut slots);
                assert!(matches!(parsed, Ok(Parsed::Complete(head)) if head.status == reason.status()));
            }
        }
    }

    #[test]
    fn json_is_json() {
        let (_, body) = reply(Reason::NoServer, Form::Json, None, false);
        let value: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(value["status"], 503);
        assert_eq!(value["reason"], "no_server");
    }

    #[test]
    fn browsers_get_html_and_no_form_tells_what_is_behind_us() {
        let (head, body) = reply(Reason::ConnectFailed, Form::Html, None, false);
        assert!(head.contains("\r\nContent-Type: text/html; charset=utf-8\r\n") && body.contains("<h1>503"));
        for form in [Form::Text, Form::Json, Form::Html] {
            let (_, body) = reply(Reason::ConnectFailed, form, None, false);
            assert!(body.contains("The service is not available.") && !body.contains("running"), "{body}");
        }
    }

    #[track_caller]
    fn check(came: &str, ends: &str) {
        let limits = Limits { trace: true, ..Limits::default() };
        let mut slots = Slots::new();
        let Ok(Parsed::Complete(head)) = request(came.as_bytes(), &limits, &mut slots) else {
            panic!("{came}")
        };
        let mut out = Vec::new();
        last_hop(&head, &LastHop { keep_alive: true, date: DATE }, &mut out);
        let out = String::from_utf8(out).unwrap();
        assert!(out.starts_with("HTTP/1.1 200 OK\r\n") && out.ends_with(ends), "{out}");
    }

    #[test]
    fn the_last_hop_responds_itself() {
        check("OPTIONS * HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n", "\r\nContent-Length: 0\r\n\r\n");
        check(
            "\r\nTRACE /a HTTP/1.1\r\nHost: a\r\nCookie: s\r\nMax-Forwards: 0\r\n\r\n",
            "\r\nContent-Length: 47\r\n\r\nTRACE /a HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n",
        );
    }
}
