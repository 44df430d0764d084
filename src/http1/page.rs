//! Pages of the balancer's own responses: the form that a client wants, a built-in page for browsers, and pages from
//! files with a few placeholders.

use super::reason::phrase;
use super::write::decimal;

/// In which form a client wants the balancer's own responses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Form {
    /// Plain text.
    #[default]
    Text,
    /// JSON: `Accept` names it.
    Json,
    /// HTML: `Accept` names it, as browsers do.
    Html,
}

/// A page with placeholders: `{status}`, `{phrase}`, `{message}`, `{reason}` and `{request_id}`. All else is what it is, other
/// braces too, since style sheets are full of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    content_type: &'static str,
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(Box<str>),
    Value(Value),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Value {
    Status,
    Phrase,
    Message,
    Reason,
    RequestId,
}

const VALUES: [(&str, Value); 5] = [
    ("{status}", Value::Status),
    ("{phrase}", Value::Phrase),
    ("{message}", Value::Message),
    ("{reason}", Value::Reason),
    ("{request_id}", Value::RequestId),
];

/// The page for browsers where there is no other: no file, no script, nothing from elsewhere.
const BUILT_IN: &str = "<!doctype html>
<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">
<title>{status} {phrase}</title>
<style>body{font:1.1em/1.5 system-ui,sans-serif;max-width:34em;margin:15vh auto 0;padding:0 1em;color:#222;background:#fff}
h1{font-size:1.5em}small{color:#666}@media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}small{color:#999}}</style>
</head><body><h1>{status} {phrase}</h1><p>{message}</p><p><small>Request id: {request_id}</small></p></body></html>
";

/// The reason of a page in the place of what a server had to say.
pub const OF_SERVER: &str = "server_response";

/// What a page tells.
#[derive(Clone, Copy, Debug)]
pub struct Told<'a> {
    /// The status of the response.
    pub status: u16,
    /// The name of the reason, as in the log: why there is no response of a server; or [`OF_SERVER`].
    pub reason: &'static str,
    /// The sentence for people.
    pub message: &'a str,
    /// A valid id (`trace::is_valid_id`).
    pub request_id: &'a [u8],
}

impl Told<'_> {
    /// Of a server's response with this status, whose own words are not for the client.
    pub fn of_server(status: u16, request_id: &[u8]) -> Told<'_> {
        let message = match status {
            401 => "Log in first.",
            403 => "Access is not allowed.",
            404 | 410 => "There is nothing at this address.",
            429 => "There are too many requests. Try again later.",
            400..=499 => "The request was not accepted.",
            502..=504 => "The service is not available. Try again shortly.",
            _ => "Something went wrong. Try again; if it happens again, name the request id.",
        };
        Told { status, reason: OF_SERVER, message, request_id }
    }
}

impl Page {
    /// A page of this text; `extension` of its file's name tells its type: `html`, `htm`, `json`, `txt`, or `None`.
    pub fn parse(text: &str, extension: &str) -> Option<Page> {
        let content_type = match extension {
            "html" | "htm" => "text/html; charset=utf-8",
            "json" => "application/json",
            "txt" => "text/plain; charset=utf-8",
            _ => return None,
        };
        let (mut parts, mut rest) = (Vec::new(), text);
        while let Some((at, token, value)) = first_value(rest) {
            if at > 0 {
                parts.push(Part::Text(rest[..at].into()));
            }
            parts.push(Part::Value(value));
            rest = &rest[at + token.len()..];
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.into()));
        }
        Some(Page { content_type, parts })
    }

    /// The built-in page for browsers.
    pub fn built_in() -> &'static Page {
        static PAGE: std::sync::OnceLock<Page> = std::sync::OnceLock::new();
        PAGE.get_or_init(|| {
            let none = Page { content_type: "text/html; charset=utf-8", parts: Vec::new() };
            Page::parse(BUILT_IN, "html").unwrap_or(none)
        })
    }

    /// The `Content-Type`.
    pub fn content_type(&self) -> &'static str {
        self.content_type
    }

    /// Appends the page.
    pub fn write(&self, told: &Told<'_>, out: &mut Vec<u8>) {
        for part in &self.parts {
            match part {
                Part::Text(text) => out.extend_from_slice(text.as_bytes()),
                Part::Value(Value::Status) => decimal(out, u64::from(told.status)),
                Part::Value(Value::Phrase) => out.extend_from_slice(phrase(told.status).as_bytes()),
                Part::Value(Value::Message) => out.extend_from_slice(told.message.as_bytes()),
                Part::Value(Value::Reason) => out.extend_from_slice(told.reason.as_bytes()),
                Part::Value(Value::RequestId) => escape(told.request_id, out),
            }
        }
    }
}

/// The first placeholder of a text: where it is, how it is written, and which it is.
fn first_value(text: &str) -> Option<(usize, &'static str, Value)> {
    let found = VALUES.iter().filter_map(|(token, value)| Some((text.find(token)?, *token, *value)));
    found.min_by_key(|(at, ..)| *at)
}

/// An id of a client may have angle brackets. It has no quotes, so it is safe in attributes and in JSON as well.
fn escape(id: &[u8], out: &mut Vec<u8>) {
    for byte in id {
        match byte {
            b'<' => out.extend_from_slice(b"&lt;"),
            b'>' => out.extend_from_slice(b"&gt;"),
            b'&' => out.extend_from_slice(b"&amp;"),
            b'\'' => out.extend_from_slice(b"&#39;"),
            other => out.push(*other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &str) {
        let told = Told { status: 503, reason: "no_server", message: "Later.", request_id: b"a<b>&'c" };
        let mut out = Vec::new();
        Page::parse(text, "html").unwrap().write(&told, &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn placeholders_are_filled_in_and_other_braces_stay() {
        check("", "");
        check("plain", "plain");
        check("{status} {phrase}: {message}", "503 Service Unavailable: Later.");
        check("{reason}{request_id}", "no_servera&lt;b&gt;&amp;&#39;c");
        check("p{color:red} {stat} {{status}} é{", "p{color:red} {stat} {503} é{");
    }

    #[test]
    fn the_type_is_that_of_the_file() {
        for (extension, expected) in [
            ("html", Some("text/html; charset=utf-8")),
            ("json", Some("application/json")),
            ("txt", Some("text/plain; charset=utf-8")),
            ("php", None),
            ("", None),
        ] {
            assert_eq!(Page::parse("", extension).map(|page| page.content_type()), expected, "{extension}");
        }
    }

    #[test]
    fn the_built_in_page_tells_no_inner_detail() {
        let mut out = Vec::new();
        let message = "Try again shortly.";
        let told = Told { status: 503, reason: "connect_failed", message, request_id: b"id-1" };
        Page::built_in().write(&told, &mut out);
        let text = String::from_utf8(out).unwrap();
        assert!(
            text.contains("<h1>503 Service Unavailable</h1><p>Try again shortly.</p>")
                && text.contains("id-1")
        );
        assert!(!text.contains("connect_failed") && !text.contains('{') || text.contains("body{font"));
    }
}
