//! Names and values that some readers take for framing and others do not. Whatever the proxy makes of them, no
//! server may get a line that another reader takes for framing, and nothing may be hidden from the proxy.

use super::case::{Area, Case, Level, SMUGGLED, Step, post};
use super::observe::AtServers;
use super::rule::{Rule::*, ensure};

const A: Area = Area::Obfuscated;

/// Lines beside a `Content-Length` that is right.
const LINES: &[(&str, &[u8])] = &[
    ("space-before-name", b" Transfer-Encoding: chunked"),
    ("tab-before-name", b"\tTransfer-Encoding: chunked"),
    ("tab-before-colon", b"Transfer-Encoding\t: chunked"),
    ("space-before-colon", b"Transfer-Encoding : chunked"),
    ("tabs-around-colon", b"Transfer-Encoding\t:\tchunked"),
    ("space-for-dash", b"Transfer Encoding: chunked"),
    ("underscore-for-dash", b"Transfer_Encoding: chunked"),
    ("no-dash", b"TransferEncoding: chunked"),
    ("dot-for-dash", b"Transfer.Encoding: chunked"),
    ("underscore-in-length", b"Content_Length: 41"),
    ("space-in-length", b"Content Length: 41"),
    ("vertical-tab-before-value", b"Transfer-Encoding:\x0bchunked"),
    ("form-feed-before-value", b"Transfer-Encoding:\x0cchunked"),
    ("vertical-tab-behind-value", b"Transfer-Encoding: chunked\x0b"),
    ("form-feed-behind-value", b"Transfer-Encoding: chunked\x0c"),
    ("nul-before-value", b"Transfer-Encoding:\0chunked"),
    ("nul-behind-value", b"Transfer-Encoding: chunked\0"),
    ("backspace-before-value", b"Transfer-Encoding:\x08chunked"),
    ("unit-separator-before-value", b"Transfer-Encoding:\x1fchunked"),
    ("delete-before-value", b"Transfer-Encoding:\x7fchunked"),
    ("no-break-space-before-value", b"Transfer-Encoding:\xa0chunked"),
    ("next-line-behind-value", b"Transfer-Encoding: chunked\x85"),
    ("obs-text-before-value", b"Transfer-Encoding:\xffchunked"),
    ("obs-text-in-value", b"Transfer-Encoding: ch\x96nked"),
    ("dotless-k-in-value", b"Transfer-Encoding: chun\xe2\x84\xaaed"),
    ("obs-text-in-name", b"Transf\x82r-Encoding: chunked"),
    ("nul-in-name", b"Transfer\0-Encoding: chunked"),
    ("vertical-tab-in-name", b"Transfer\x0b-Encoding: chunked"),
    ("vertical-tab-before-name", b"\x0bTransfer-Encoding: chunked"),
    ("nul-before-name", b"\0Transfer-Encoding: chunked"),
    ("no-break-space-before-name", b"\xa0Transfer-Encoding: chunked"),
    ("vertical-tab-before-colon", b"Transfer-Encoding\x0b: chunked"),
    ("nul-before-colon", b"Transfer-Encoding\0: chunked"),
    ("cr-in-name", b"Transfer\r-Encoding: chunked"),
    ("cr-before-colon", b"Transfer-Encoding\r: chunked"),
    ("cr-before-value", b"Transfer-Encoding:\rchunked"),
    ("cr-behind-value", b"Transfer-Encoding: chunked\r"),
    ("cr-makes-a-line", b"X: X\rTransfer-Encoding: chunked"),
    ("lf-makes-a-line", b"X: X\nTransfer-Encoding: chunked"),
    ("empty-value-cr-makes-a-line", b"X:\rTransfer-Encoding: chunked"),
    ("empty-value-lf-makes-a-line", b"X:\nTransfer-Encoding: chunked"),
    ("lf-cr-makes-a-line", b"X: X\n\rTransfer-Encoding: chunked"),
    ("lf-folds-value", b"Transfer-Encoding:\n chunked"),
    ("folds-value", b"Transfer-Encoding:\r\n chunked"),
    ("folds-value-with-tab", b"Transfer-Encoding:\r\n\tchunked"),
    ("folds-in-value", b"Transfer-Encoding: chun\r\n ked"),
    ("hides-behind-a-fold", b"X: y\r\n Transfer-Encoding: chunked"),
    ("hides-length-behind-a-fold", b"X: y\r\n Content-Length: 41"),
    ("colon-twice", b"Transfer-Encoding:: chunked"),
    ("colon-before-name", b":Transfer-Encoding: chunked"),
    ("quoted-name", b"\"Transfer-Encoding\": chunked"),
    ("long-s-in-name", b"Tran\xc5\xbffer-Encoding: chunked"),
    ("empty-coding", b"Transfer-Encoding:"),
    ("coding-of-commas", b"Transfer-Encoding: ,,"),
    ("null-coding", b"Transfer-Encoding: null"),
    ("coding-zero", b"Transfer-Encoding: 0"),
    ("chunked-in-comment", b"Transfer-Encoding: identity (chunked)"),
    ("content-encoding-chunked", b"Content-Encoding: chunked"),
    ("connection-names-length", b"Connection: Content-Length"),
    ("connection-names-coding", b"Connection: Transfer-Encoding"),
    ("connection-names-host", b"Connection: Host"),
    ("x-length", b"X-Content-Length: 41"),
];

/// The cases: the body is a request, and so long that a reader of chunks would see its end before it.
pub fn cases() -> Vec<Case> {
    let lines = LINES.iter().map(|&(id, line)| case(id, line));
    // Servers behind CGI take an underscore for a dash. HTTP does not: only careful proxies keep it from them.
    let names =
        [("Content_Length", "underscore-is-no-length"), ("Transfer_Encoding", "underscore-is-no-coding")];
    let underscores = names.map(|(name, id)| {
        let case = Case::new(A, id, Level::May, "9112 11.2")
            .sends(post(format!("{name}: 5\r\n"), ""))
            .response("GET");
        case.holds([Status(&[400, 200]), SeenAtMost(1), Unseen(name)])
    });
    lines.chain(underscores).collect()
}

fn case(id: &str, line: &[u8]) -> Case {
    let body = [b"0\r\n\r\n", SMUGGLED].concat();
    let fields = [format!("Content-Length: {}\r\n", body.len()).as_bytes(), line, b"\r\n"].concat();
    let case = Case::new(A, format!("obfuscated-{id}"), Level::Safe, "9112 11.2");
    let case = case.sends(post(fields, body)).response("GET");
    case.holds([Rejects(&[400, 501]), Seen(0)])
        // As a body of that length; or as chunks, and closed.
        .holds([Status(&[200]), Seen(1), ResponsesAtMost(1), Servers(has_the_body)])
        .holds([Status(&[200]), Seen(1), Has("Connection", "close"), SeenBody(Vec::new()), Ends])
}

fn has_the_body(seen: &AtServers) -> Result<(), String> {
    let body = &seen.requests[0].body;
    ensure(body.ends_with(SMUGGLED), || format!("the server's body has {} bytes", body.len()))
}
