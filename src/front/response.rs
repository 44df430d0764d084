//! Responses that the front writes itself, and what it adds to those of tiny_http.

use crate::base::time;
use tiny_http::StatusCode;

/// A response.
#[derive(Clone, Debug, PartialEq)]
pub struct Response {
    /// The status.
    pub status: u16,
    /// The value of Content-Type.
    pub kind: &'static str,
    /// The body.
    pub body: String,
    /// Further headers; values are ASCII without line ends.
    pub fields: Vec<(&'static str, String)>,
}

impl Response {
    /// The whole response as bytes; without the body for HEAD.
    pub(super) fn encode(&self, head_only: bool, closes: bool) -> Vec<u8> {
        let mut text = format!(
            "HTTP/1.1 {status} {phrase}\r\nServer: evenkeel\r\nDate: {date}\r\nContent-Type: {kind}\r\n\
             Content-Length: {length}\r\nCache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n",
            status = self.status,
            phrase = StatusCode(self.status).default_reason_phrase(),
            date = time::http_date(),
            kind = self.kind,
            length = self.body.len(),
        );
        self.fields.iter().for_each(|(name, value)| text.push_str(&format!("{name}: {value}\r\n")));
        text.push_str(if closes { "Connection: close\r\n\r\n" } else { "\r\n" });
        if !head_only {
            text.push_str(&self.body);
        }
        text.into_bytes()
    }
}

/// A response of tiny_http for the client: with `Connection: close` if the connection ends. `None` when it is not a
/// response.
pub(super) fn completed(mut response: Vec<u8>, closes: bool) -> Option<Vec<u8>> {
    let head = memchr::memmem::find(&response, b"\r\n\r\n")?;
    let line = memchr::memmem::find(&response, b"\r\n").filter(|line| *line <= head)? + 2;
    if !response.starts_with(b"HTTP/1.1 ") {
        return None;
    }
    if closes {
        response.splice(line..line, *b"Connection: close\r\n");
    }
    Some(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_the_connection_is_reported_in_the_head() {
        let check = |response: &str, closes, expected: Option<&str>| {
            let found = completed(response.into(), closes).map(|bytes| String::from_utf8(bytes).unwrap());
            assert_eq!(found.as_deref(), expected, "{response:?}");
        };
        let response = "HTTP/1.1 200 OK\r\nA: b\r\n\r\nbody";
        check(response, false, Some(response));
        check(response, true, Some("HTTP/1.1 200 OK\r\nConnection: close\r\nA: b\r\n\r\nbody"));
        check("HTTP/1.1 204 X\r\n\r\n", true, Some("HTTP/1.1 204 X\r\nConnection: close\r\n\r\n"));
        check("HTTP/1.1 200 OK\r\nA: b\r\n", true, None);
        check("", false, None);
        check("garbage\r\n\r\n", false, None);
    }
}
