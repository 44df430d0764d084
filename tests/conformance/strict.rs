//! What a proxy itself may send, read strictly: requests by the servers, responses by the client.

use crate::support::message::{Broken, Head, Reader, Seen};

/// What came on one connection of a server.
#[derive(Debug, Default)]
pub struct Stream {
    /// Whole requests.
    pub requests: Vec<Seen>,
    /// The last one was cut.
    pub cut: bool,
    /// What makes it no HTTP.
    pub fault: Option<String>,
}

/// Reads all requests of a connection.
pub fn requests(connection: usize, bytes: &[u8]) -> Stream {
    let mut reader = Reader::new(bytes, false);
    let mut stream = Stream::default();
    loop {
        match request(connection, &mut reader) {
            Ok(seen) => stream.requests.push(seen),
            Err(Broken::End) => return stream,
            Err(Broken::Malformed(what)) => {
                stream.fault = Some(format!("what a server got is no HTTP: {what}"));
                return stream;
            }
            Err(_) => {
                stream.cut = true;
                return stream;
            }
        }
    }
}

fn request(connection: usize, reader: &mut Reader<&[u8]>) -> Result<Seen, Broken> {
    let head = reader.head()?;
    request_line(&head.line).map_err(|what| Broken::Malformed(format!("{what} in {:?}", head.line)))?;
    hosts(&head).map_err(Broken::Malformed)?;
    let framing = head.framing()?;
    let body = reader.body(framing).map_err(|broken| match broken {
        Broken::End => Broken::Cut(Vec::new()),
        other => other,
    })?;
    let Head { line, fields, bytes } = head;
    Ok(Seen { connection, line, fields, head: bytes, framing, body: body.bytes, trailers: body.trailers })
}

/// `method SP target SP HTTP/1.x`.
fn request_line(line: &str) -> Result<(), &'static str> {
    let parts: Vec<&str> = line.split(' ').collect();
    let [method, target, version] = parts[..] else { return Err("not three words") };
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if method.is_empty() || !method.bytes().all(is_token) {
        return Err("the method");
    }
    if target.is_empty() || !target.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("the target");
    }
    if !matches!(version, "HTTP/1.0" | "HTTP/1.1") {
        return Err("the version");
    }
    Ok(())
}

/// One Host, unless the request is 1.0.
fn hosts(head: &Head) -> Result<(), String> {
    let count = head.fields.all("Host").len();
    let least = usize::from(head.line.ends_with("HTTP/1.1"));
    if (least..=1).contains(&count) { Ok(()) } else { Err(format!("{count} Host fields in {:?}", head.line)) }
}

/// The status of `HTTP/1.x NNN …`.
pub fn status(line: &str) -> Option<u16> {
    let rest = line.strip_prefix("HTTP/1.1 ").or_else(|| line.strip_prefix("HTTP/1.0 "))?;
    let digits = rest.get(..3).filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))?;
    if !matches!(rest.as_bytes().get(3), None | Some(b' ')) {
        return None;
    }
    digits.parse().ok()
}

/// What no response may be, whatever the case (RFC 9110 section 8.6, RFC 9112 section 6.1).
pub fn faults_of_response(head: &Head) -> Vec<String> {
    let status = status(&head.line).unwrap_or(0);
    let mut faults = Vec::new();
    let interim = (100..200).contains(&status) || status == 204;
    for name in ["Content-Length", "Transfer-Encoding"] {
        if interim && head.fields.has(name) {
            faults.push(format!("{name} with {status}"));
        }
    }
    if head.framing().is_err() {
        faults.push(format!("ambiguous framing: {}", head.fields));
    }
    faults
}
