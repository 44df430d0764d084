//! Requests as seen by the endpoints, and responses as sent by tiny_http.

use crate::base::time;
use crate::front::Response;
use crate::http1::framing::Framing;
use crate::http1::head::RequestHead;
use std::io::{Cursor, Read};
use tiny_http::{Header, Method, Request, StatusCode};

/// The longest body of a request, in bytes. The data plane on the TCP port has this limit, too.
pub const BODY_MAX: u64 = 64 * 1024;

/// A request. While it is being checked it has its headers and no body yet; when it is served it has its body, and its
/// headers have been checked.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) method: Method,
    /// The target up to its `?`, unchanged.
    pub(super) path: String,
    /// What follows the first `?` of the target; empty without one.
    query: String,
    /// The request announces a body.
    pub(super) has_body: bool,
    /// It came through the TCP port.
    pub(super) published: bool,
    pub(super) body: String,
    fields: Vec<(String, String)>,
}

impl Call {
    /// A request that is to be checked. `None` for a method that tiny_http cannot express.
    pub(super) fn judged(head: &RequestHead<'_, '_>, published: bool) -> Option<Self> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let target = text(head.target);
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        Some(Call {
            method: text(head.method).parse().ok()?,
            path: if head.slash_first { format!("/{path}") } else { path.to_owned() },
            query: query.to_owned(),
            has_body: !matches!(head.framing, Framing::None | Framing::Length(0)),
            published,
            body: String::new(),
            fields: head.fields.iter().map(|field| (text(field.name), text(field.value))).collect(),
        })
    }

    /// A request that was accepted.
    pub(super) fn served(request: &mut Request) -> Result<Self, Response> {
        let (path, query) = request.url().split_once('?').unwrap_or((request.url(), ""));
        let (path, query) = (path.to_owned(), query.to_owned());
        let mut body = Vec::new();
        // Complete and within the limit: the front ensures that.
        let read = request.as_reader().take(BODY_MAX).read_to_end(&mut body);
        let method = request.method().clone();
        let has_body = !body.is_empty();
        match read.ok().and_then(|_| String::from_utf8(body).ok()) {
            Some(body) => {
                Ok(Call { method, path, query, has_body, published: false, body, fields: Vec::new() })
            }
            None => Err(Response::rejection(&path, 400, "The body is not UTF-8 text.")),
        }
    }

    /// The number that the query gives for this name, zero without one. The error is a sentence.
    pub(super) fn number(&self, name: &str) -> Result<u64, String> {
        let Some(value) = self.raw(name) else { return Ok(0) };
        value.parse().map_err(|_| format!("{name} in the query is not a whole number."))
    }

    /// The text that the query gives for this name. The error is a sentence.
    pub(super) fn text(&self, name: &str) -> Result<Option<String>, String> {
        let Some(value) = self.raw(name) else { return Ok(None) };
        let text =
            decoded(value).ok_or_else(|| format!("{name} in the query is not percent-encoded UTF-8."))?;
        Ok(Some(text))
    }

    /// Whether the query has something of this name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.raw(name).is_some()
    }

    fn raw(&self, name: &str) -> Option<&str> {
        let mut pairs = self.query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
    }

    /// The value of a header.
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        self.values(name).next()
    }

    /// The values of all headers of this name.
    pub(super) fn values(&self, name: &str) -> impl Iterator<Item = &str> {
        let named = self.fields.iter().filter(move |field| field.0.eq_ignore_ascii_case(name));
        named.map(|field| field.1.as_str())
    }

    /// A rejection in the format of the path.
    pub(super) fn reject(&self, status: u16, sentence: impl AsRef<str>) -> Response {
        Response::rejection(&self.path, status, sentence)
    }

    #[cfg(test)]
    pub(super) fn of(method: Method, path: &str, fields: &[(&str, &str)]) -> Self {
        let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let (path, query, body) = (path.to_owned(), String::new(), String::new());
        Call { method, path, query, has_body: false, published: false, body, fields }
    }
}

/// The text that a part of a target stands for; `None` where its percent-encoding is not valid.
pub(super) fn decoded(text: &str) -> Option<String> {
    let (mut bytes, mut rest) = (Vec::new(), text.as_bytes());
    while let [byte, after @ ..] = rest {
        let (byte, after) = match (byte, after) {
            (b'%', [high, low, after @ ..]) => (digit(*high)? << 4 | digit(*low)?, after),
            (b'%', _) => return None,
            _ => (*byte, after),
        };
        bytes.push(byte);
        rest = after;
    }
    String::from_utf8(bytes).ok()
}

fn digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).map(|digit| digit as u8)
}

/// Sends the response.
pub(super) fn respond(request: Request, response: Response) {
    let length = response.body.len();
    let headers = headers(&response);
    let body = Cursor::new(response.body.into_bytes());
    let response = tiny_http::Response::new(StatusCode(response.status), headers, body, Some(length), None);
    // The front always reads it. Without the threshold tiny_http would send long ones chunked.
    let _ = request.respond(response.with_chunked_threshold(usize::MAX));
}

fn headers(response: &Response) -> Vec<Header> {
    // tiny_http's own date panics when the clock is beyond the year 9999.
    let date = time::http_date();
    let fixed = [
        ("Date", date.as_str()),
        ("Server", "evenkeel"),
        ("Content-Type", response.kind),
        ("Cache-Control", "no-store"),
        ("X-Content-Type-Options", "nosniff"),
    ];
    let further = response.fields.iter().map(|(name, value)| (*name, value.as_str()));
    // Non-ASCII values do not reach this point; they would be left out.
    fixed
        .into_iter()
        .chain(further)
        .filter_map(|(name, value)| Header::from_bytes(name, value).ok())
        .collect()
}
