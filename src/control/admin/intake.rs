//! Requests in and answers out: the one room that knows what tiny_http must not be given.
//!
//! - Dropping a request whose `Content-Length` was not read to its end allocates all that remains, and aborts the
//!   process when there is no such memory. So bodies are read whole, and a request that declares too much is never
//!   dropped: it costs a thread and a socket for good ([`forget`]). In front of the TCP side stands a data plane
//!   with [`BODY_MAX`] as its limit, so that only the same user can do that, who could as well kill the process.
//! - Dropping a chunked body leaves the rest of it on the connection, where it is read as the next request. One that
//!   is too long is forgotten too.
//! - There is no way to ask for `Connection: close` ([`server_field`]).

use super::answer::Answer;
use crate::base::time;
use std::io::{self, Cursor, Read, Write};
use tiny_http::{Header, Method, Request, Response, StatusCode};

/// The longest body of a request, in bytes. The data plane in front has to have this limit, or a lower one.
pub const BODY_MAX: u64 = 64 * 1024;

/// Fields that decide something: with two of one kind it would depend on who reads them.
const ONCE: [&str; 7] = [
    "Host",
    "Content-Length",
    "Transfer-Encoding",
    "Content-Type",
    "Authorization",
    "Origin",
    "Sec-Fetch-Site",
];

/// A request, whole.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) method: Method,
    /// The target up to its `?`, as it came.
    pub(super) path: String,
    pub(super) body: String,
    fields: Vec<(String, String)>,
}

impl Call {
    /// The value of a field.
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|field| field.0.eq_ignore_ascii_case(name)).map(|field| field.1.as_str())
    }

    /// A refusal in the form that the path speaks.
    pub(super) fn refuse(&self, status: u16, sentence: impl AsRef<str>) -> Answer {
        Answer::refusal(&self.path, status, sentence)
    }

    #[cfg(test)]
    pub(super) fn of(method: Method, path: &str, fields: &[(&str, &str)]) -> Self {
        let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Call { method, path: path.to_owned(), body: String::new(), fields }
    }
}

/// Reads a request with its body, or says what is wrong with it.
pub(super) fn read(request: &mut Request) -> Result<Call, Answer> {
    let path = request.url().split('?').next().unwrap_or_default().to_owned();
    let fields = request.headers().iter();
    let fields: Vec<_> =
        fields.map(|field| (field.field.to_string(), field.value.as_str().to_owned())).collect();
    let mut call = Call { method: request.method().clone(), path, body: String::new(), fields };
    let framing = framing(&call).map_err(Answer::closing)?;
    let body = body(request, framing).map_err(|fault| fault.answer(&call.path).closing())?;
    call.body = String::from_utf8(body).map_err(|_| call.refuse(400, "The body is not UTF-8 text."))?;
    Ok(call)
}

/// Sends the answer.
pub(super) fn answer(request: Request, answer: Answer) {
    if declares_too_much(&request) || answer.status == 413 {
        return forget(request, &answer);
    }
    let length = answer.body.len();
    let headers = headers(&answer, None);
    let body = Cursor::new(answer.body.into_bytes());
    let response = Response::new(StatusCode(answer.status), headers, body, Some(length), None);
    // A client that went away needs no answer. Without the threshold long ones would be chunked.
    let _ = request.respond(response.with_chunked_threshold(usize::MAX));
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    Length(u64),
    Chunked,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    TooLong,
    Broken,
}

impl Fault {
    fn answer(self, path: &str) -> Answer {
        match self {
            Fault::TooLong => {
                Answer::refusal(path, 413, format!("The body is longer than {BODY_MAX} bytes."))
            }
            Fault::Broken => {
                let sentence =
                    "The body is broken, or has trailer fields. Send it whole, with a Content-Length.";
                Answer::refusal(path, 400, sentence)
            }
        }
    }
}

/// Where the body ends. tiny_http takes the first of two lengths, reads what is no number as no body, and any
/// Transfer-Encoding as chunked.
fn framing(call: &Call) -> Result<Framing, Answer> {
    let twice =
        |name: &&&str| call.fields.iter().filter(|field| field.0.eq_ignore_ascii_case(name)).count() > 1;
    if let Some(name) = ONCE.iter().find(twice) {
        return Err(call.refuse(400, format!("{name} is there twice. Send it once.")));
    }
    if call.field("Connection").is_some_and(|value| value.to_ascii_lowercase().contains("upgrade")) {
        return Err(call.refuse(400, "There is nothing to upgrade to. Leave Connection: upgrade out."));
    }
    match (call.field("Transfer-Encoding"), call.field("Content-Length")) {
        (None, None) => Ok(Framing::Length(0)),
        (None, Some(length)) => digits(length)
            .map(Framing::Length)
            .ok_or_else(|| call.refuse(400, "Content-Length is no number of bytes.")),
        (Some(coding), None) if coding.eq_ignore_ascii_case("chunked") => Ok(Framing::Chunked),
        (Some(_), None) => Err(call.refuse(501, "The transfer coding is not known. Send a Content-Length.")),
        (Some(_), Some(_)) => {
            Err(call.refuse(400, "Content-Length and Transfer-Encoding exclude each other. Send one."))
        }
    }
}

/// A number of digits alone; one that is too large for a u64 is as good as the largest.
fn digits(text: &str) -> Option<u64> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| text.parse().unwrap_or(u64::MAX))
}

/// The whole body. Never reads past a length: at an end that comes too early, tiny_http drops its reader and
/// allocates what is missing, which [`BODY_MAX`] bounds.
fn body(request: &mut Request, framing: Framing) -> Result<Vec<u8>, Fault> {
    let declared = match framing {
        Framing::Length(length) if length > BODY_MAX => return Err(Fault::TooLong),
        Framing::Length(0) => return Ok(Vec::new()),
        Framing::Length(length) => Some(length),
        Framing::Chunked => None,
    };
    let mut body = Vec::new();
    let room = declared.unwrap_or(BODY_MAX + 1);
    let read = request.as_reader().take(room).read_to_end(&mut body).map_err(|_| Fault::Broken)? as u64;
    match declared {
        Some(declared) if read < declared => Err(Fault::Broken),
        None if read > BODY_MAX => Err(Fault::TooLong),
        _ => Ok(body),
    }
}

/// As tiny_http itself understood the request.
fn declares_too_much(request: &Request) -> bool {
    request.body_length().is_some_and(|length| length as u64 > BODY_MAX)
}

/// Answers a request that must not be dropped. All of tiny_http's ways to answer drop the body's reader, but for an
/// upgrade, which hands it over: that is forgotten, and with it the thread that waits for the body's end.
fn forget(request: Request, answer: &Answer) {
    let head_only = request.method() == &Method::Head;
    log::warn!("the admin API gives up the connection of a request with a body over {BODY_MAX} bytes");
    let headers = headers(answer, Some(answer.body.len()));
    let response = Response::new(StatusCode(answer.status), headers, io::empty(), Some(0), None);
    let mut stream = request.upgrade("HTTP/1.1", response);
    if !head_only {
        let _ = stream.write_all(answer.body.as_bytes()).and_then(|()| stream.flush());
    }
    std::mem::forget(stream);
}

fn headers(answer: &Answer, length: Option<usize>) -> Vec<Header> {
    let server = server_field(answer.closes, length);
    // tiny_http's own date panics when the clock stands beyond the year 9999.
    let date = time::http_date();
    let fixed = [
        ("Date", date.as_str()),
        ("Server", server.as_str()),
        ("Content-Type", answer.kind),
        ("Cache-Control", "no-store"),
        ("X-Content-Type-Options", "nosniff"),
    ];
    let further = answer.fields.iter().map(|(name, value)| (*name, value.as_str()));
    // What is not ASCII does not come this far; it would be left out.
    fixed
        .into_iter()
        .chain(further)
        .filter_map(|(name, value)| Header::from_bytes(name, value).ok())
        .collect()
}

/// The value of `Server`, with what tiny_http does not let through as fields of their own: `Connection` always, and
/// `Content-Length` with an upgrade.
fn server_field(closes: bool, length: Option<usize>) -> String {
    let mut lines = "evenkeel".to_owned();
    if let Some(length) = length {
        lines.push_str(&format!("\r\nContent-Length: {length}"));
    }
    if closes {
        lines.push_str("\r\nConnection: close");
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn framing_is_read_strictly() {
        let check = |fields: &[(&str, &str)], expected: Result<Framing, u16>| {
            let found = framing(&Call::of(Method::Post, "/", fields)).map_err(|answer| answer.status);
            assert_eq!(found, expected, "{fields:?}");
        };
        check(&[], Ok(Framing::Length(0)));
        check(&[("content-length", "12")], Ok(Framing::Length(12)));
        check(&[("Content-Length", "99999999999999999999999")], Ok(Framing::Length(u64::MAX)));
        check(&[("Transfer-Encoding", "Chunked")], Ok(Framing::Chunked));
        for length in ["", "+5", "-1", "5, 5", "0x5", "5 "] {
            check(&[("Content-Length", length)], Err(400));
        }
        check(&[("Content-Length", "5"), ("content-length", "5")], Err(400));
        check(&[("Content-Length", "5"), ("Transfer-Encoding", "chunked")], Err(400));
        check(&[("Transfer-Encoding", "gzip, chunked")], Err(501));
        check(&[("Host", "a"), ("Host", "b")], Err(400));
        check(&[("Connection", "keep-alive, Upgrade")], Err(400));
    }
}
