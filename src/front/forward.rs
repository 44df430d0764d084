//! A request in the form for tiny_http: complete, with a length, in ASCII, and the last one of its connection.

use crate::http1::head::RequestHead;

/// Prefix of headers that describe the client's own connection; the client cannot send headers with this prefix.
pub const PREFIX: &str = "Front-";
/// The header with the length of the client's body in bytes, even if the body is not passed on.
pub const BODY_LENGTH: &str = "Front-Body-Length";

/// Headers that would make tiny_http wait for a body, end a connection or leave HTTP.
const OF_THE_CONNECTION: [&str; 6] =
    ["Connection", "Content-Length", "Transfer-Encoding", "Expect", "Upgrade", "Keep-Alive"];

/// The request line and the headers, as far as the head determines them; [`finish`] completes it.
pub(super) fn begin(head: &RequestHead<'_, '_>) -> Vec<u8> {
    let mut out = Vec::with_capacity(head.len + 256);
    out.extend_from_slice(head.method);
    out.extend_from_slice(if head.slash_first { b" /" } else { b" " });
    push_ascii(&mut out, head.target);
    out.extend_from_slice(b" HTTP/1.1\r\n");
    for field in head.fields.iter() {
        let begins = |prefix: &str| {
            field.name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix.as_bytes()))
        };
        if begins(PREFIX) {
            continue;
        }
        if OF_THE_CONNECTION.iter().any(|name| field.name.eq_ignore_ascii_case(name.as_bytes())) {
            out.extend_from_slice(PREFIX.as_bytes());
        }
        push_ascii(&mut out, field.name);
        out.extend_from_slice(b": ");
        push_ascii(&mut out, field.value);
        out.extend_from_slice(b"\r\n");
    }
    out
}

/// The rest of the head, and the body that is passed on. `length` is that of the client's body.
pub(super) fn finish(out: &mut Vec<u8>, length: u64, body: &[u8]) {
    let end =
        format!("{BODY_LENGTH}: {length}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
    out.extend_from_slice(end.as_bytes());
    out.extend_from_slice(body);
}

/// tiny_http drops the connection at other bytes, which are valid in a value (RFC 9110 section 5.5).
fn push_ascii(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend(bytes.iter().map(|byte| if byte.is_ascii() { *byte } else { b'?' }));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::head::{self, Limits, Parsed, Slots};

    #[test]
    fn a_request_is_whole_and_says_nothing_of_the_client_s_connection() {
        let bytes = b"POST http://h?q HTTP/1.1\r\nHost: h\r\nX-Note: caf\xe9\r\nfront-body-length: 9\r\n\
            Connection: keep-alive, x\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n";
        let mut slots = Slots::new();
        let Ok(Parsed::Complete(head)) = head::request(bytes, &Limits::default(), &mut slots) else {
            panic!()
        };
        let mut out = begin(&head);
        finish(&mut out, 5, b"hello");
        let expected = "POST /?q HTTP/1.1\r\nHost: h\r\nX-Note: caf?\r\nFront-Connection: keep-alive, x\r\n\
            Front-Transfer-Encoding: chunked\r\nFront-Expect: 100-continue\r\n\
            Front-Body-Length: 5\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}
