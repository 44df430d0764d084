//! A small strict reader of HTTP/1.1 messages, of its own: the tests do not judge the codec by the codec.

use std::fmt;
use std::io::{self, Read};

/// Why a message could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Broken {
    /// The peer closed between messages.
    End,
    /// The peer closed in the middle of a message, after this much of the body.
    Cut(Vec<u8>),
    /// The peer reset the connection, after this much of the body.
    Reset(Vec<u8>),
    /// Nothing came in time.
    Late,
    /// What came is not HTTP, or not strictly.
    Malformed(String),
}

/// The fields of a head, in order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fields(pub Vec<(Vec<u8>, Vec<u8>)>);

impl Fields {
    /// The values of this name, in order.
    pub fn all(&self, name: &str) -> Vec<String> {
        let here = self.0.iter().filter(|(other, _)| other.eq_ignore_ascii_case(name.as_bytes()));
        here.map(|(_, value)| String::from_utf8_lossy(value).into_owned()).collect()
    }

    /// The one value of this name.
    #[track_caller]
    pub fn one(&self, name: &str) -> String {
        let all = self.all(name);
        assert!(all.len() == 1, "{name} is there {} times in {self}", all.len());
        all.into_iter().next().unwrap()
    }

    /// Whether the name is there.
    pub fn has(&self, name: &str) -> bool {
        !self.all(name).is_empty()
    }
}

impl fmt::Display for Fields {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(name, value)| {
            write!(out, "\n  {}: {}", String::from_utf8_lossy(name), String::from_utf8_lossy(value))
        })
    }
}

/// How a message says where its body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// It has none.
    None,
    /// `Content-Length`.
    Length(usize),
    /// `Transfer-Encoding: chunked`.
    Chunked,
    /// The peer closes.
    Close,
}

/// A body and what came with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Body {
    /// The payload.
    pub bytes: Vec<u8>,
    /// Trailer fields.
    pub trailers: Fields,
}

/// A request as a server saw it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// On which connection, from 0.
    pub connection: usize,
    /// `GET /a HTTP/1.1`.
    pub line: String,
    /// In order.
    pub fields: Fields,
    /// The head, byte by byte.
    pub head: Vec<u8>,
    /// How the body's end was given.
    pub framing: Framing,
    /// The payload.
    pub body: Vec<u8>,
    /// Behind a chunked body.
    pub trailers: Fields,
}

impl Seen {
    /// The second word of the request line.
    pub fn target(&self) -> &str {
        self.line.split(' ').nth(1).unwrap_or_default()
    }

    /// The first word of the request line.
    pub fn method(&self) -> &str {
        self.line.split(' ').next().unwrap_or_default()
    }
}

/// A response as a client saw it.
#[derive(Clone, Debug)]
pub struct Response {
    /// The three digits.
    pub status: u16,
    /// `HTTP/1.1 200 OK`.
    pub line: String,
    /// In order.
    pub fields: Fields,
    /// How the body's end was given.
    pub framing: Framing,
    /// The payload.
    pub body: Vec<u8>,
    /// Behind a chunked body.
    pub trailers: Fields,
}

impl Response {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The reason that the balancer gives for a response of its own.
    pub fn reason(&self) -> String {
        let text = self.text();
        let reason = text.split("reason: ").nth(1).and_then(|rest| rest.split(',').next());
        reason.unwrap_or("").to_owned()
    }
}

/// A head: its first line, its fields, its bytes.
#[derive(Clone, Debug)]
pub struct Head {
    /// Without its CRLF.
    pub line: String,
    /// In order.
    pub fields: Fields,
    /// With the empty line.
    pub bytes: Vec<u8>,
}

impl Head {
    /// The framing that its fields tell.
    pub fn framing(&self) -> Result<Framing, Broken> {
        let (lengths, codings) = (self.fields.all("Content-Length"), self.fields.all("Transfer-Encoding"));
        match (&lengths[..], &codings[..]) {
            ([], []) => Ok(Framing::None),
            ([length], []) if length.bytes().all(|byte| byte.is_ascii_digit()) => {
                length.parse().map(Framing::Length).map_err(|_| malformed("the length is no number"))
            }
            ([], [coding]) if coding.eq_ignore_ascii_case("chunked") => Ok(Framing::Chunked),
            _ => Err(malformed(&format!("the framing is ambiguous: {}", self.fields))),
        }
    }
}

/// Reads messages from a stream, and keeps what comes behind them.
#[derive(Debug)]
pub struct Reader<R> {
    stream: R,
    buffer: Vec<u8>,
    /// All that was ever read.
    pub seen: Vec<u8>,
    keeps: bool,
}

impl<R: Read> Reader<R> {
    /// A reader that also keeps all that it read in `seen`, if asked.
    pub fn new(stream: R, keeps: bool) -> Self {
        Reader { stream, buffer: Vec::new(), seen: Vec::new(), keeps }
    }

    /// What is read and not used.
    pub fn rest(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.buffer)
    }

    /// The next head.
    pub fn head(&mut self) -> Result<Head, Broken> {
        let end = loop {
            if let Some(at) = find(&self.buffer, b"\r\n\r\n") {
                break at + 4;
            }
            if self.buffer.len() > 1 << 20 {
                return Err(malformed("a head without end"));
            }
            if self.more()? == 0 {
                return Err(if self.buffer.is_empty() { Broken::End } else { Broken::Cut(Vec::new()) });
            }
        };
        let bytes: Vec<u8> = self.buffer.drain(..end).collect();
        head(bytes)
    }

    /// A body of this framing.
    pub fn body(&mut self, framing: Framing) -> Result<Body, Broken> {
        let mut body = Body::default();
        let read = match framing {
            Framing::None => Ok(()),
            Framing::Length(length) => self.take(length, &mut body.bytes),
            Framing::Chunked => self.chunks(&mut body),
            Framing::Close => self.to_the_end(&mut body.bytes),
        };
        match read {
            Ok(()) => Ok(body),
            Err(Broken::End | Broken::Cut(_)) => Err(Broken::Cut(body.bytes)),
            Err(Broken::Reset(_)) => Err(Broken::Reset(body.bytes)),
            Err(other) => Err(other),
        }
    }

    /// All until the peer closes.
    pub fn to_the_end(&mut self, into: &mut Vec<u8>) -> Result<(), Broken> {
        loop {
            into.append(&mut self.buffer);
            if self.more()? == 0 {
                return Ok(());
            }
        }
    }

    /// So many bytes.
    pub fn take(&mut self, mut left: usize, into: &mut Vec<u8>) -> Result<(), Broken> {
        loop {
            let now = left.min(self.buffer.len());
            into.extend(self.buffer.drain(..now));
            left -= now;
            if left == 0 {
                return Ok(());
            }
            if self.more()? == 0 {
                return Err(Broken::End);
            }
        }
    }

    fn chunks(&mut self, body: &mut Body) -> Result<(), Broken> {
        loop {
            let size = self.line()?;
            if size.is_empty() || !size.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                return Err(malformed(&format!("the chunk size {size:?}")));
            }
            let size =
                usize::from_str_radix(&size, 16).map_err(|_| malformed("a chunk size that overflows"))?;
            if size == 0 {
                return self.trailers(&mut body.trailers);
            }
            self.take(size, &mut body.bytes)?;
            if !self.line()?.is_empty() {
                return Err(malformed("no CRLF behind a chunk"));
            }
        }
    }

    fn trailers(&mut self, into: &mut Fields) -> Result<(), Broken> {
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok(());
            }
            into.0.push(field(line.as_bytes())?);
        }
    }

    fn line(&mut self) -> Result<String, Broken> {
        loop {
            if let Some(at) = find(&self.buffer, b"\r\n") {
                let line: Vec<u8> = self.buffer.drain(..at + 2).collect();
                return Ok(String::from_utf8_lossy(&line[..at]).into_owned());
            }
            if self.more()? == 0 {
                return Err(Broken::End);
            }
        }
    }

    /// One read; 0 at the end.
    fn more(&mut self) -> Result<usize, Broken> {
        let mut piece = [0; 64 * 1024];
        loop {
            match self.stream.read(&mut piece) {
                Ok(count) => {
                    self.buffer.extend_from_slice(&piece[..count]);
                    if self.keeps {
                        self.seen.extend_from_slice(&piece[..count]);
                    }
                    return Ok(count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                    return Err(Broken::Late);
                }
                Err(_) => return Err(Broken::Reset(Vec::new())),
            }
        }
    }
}

fn head(bytes: Vec<u8>) -> Result<Head, Broken> {
    let text = &bytes[..bytes.len() - 4];
    let mut lines = Vec::new();
    let mut rest = text;
    while let Some(at) = find(rest, b"\r\n") {
        lines.push(&rest[..at]);
        rest = &rest[at + 2..];
    }
    lines.push(rest);
    if lines.iter().any(|line| line.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0))) {
        return Err(malformed(&format!("a bare control byte in {}", String::from_utf8_lossy(text))));
    }
    let line = String::from_utf8_lossy(lines[0]).into_owned();
    let fields = lines[1..].iter().map(|line| field(line)).collect::<Result<_, _>>()?;
    Ok(Head { line, fields: Fields(fields), bytes })
}

fn field(line: &[u8]) -> Result<(Vec<u8>, Vec<u8>), Broken> {
    let wrong = || malformed(&format!("the field line {:?}", String::from_utf8_lossy(line)));
    let colon = line.iter().position(|byte| *byte == b':').ok_or_else(wrong)?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    if name.is_empty() || !name.iter().all(is_token) {
        return Err(wrong());
    }
    Ok((name.to_vec(), trim(value).to_vec()))
}

fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

fn malformed(what: &str) -> Broken {
    Broken::Malformed(what.to_owned())
}
