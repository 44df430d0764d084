//! `grpc.health.v1.Health/Check` over HTTP/2: one call on a connection of its own, by frames that are made here.
//!
//! The client's part of RFC 9113 that one unary call needs, and no more: the preface, SETTINGS that switch the dynamic table
//! and pushes off, one HEADERS and one DATA frame; then frames are read until the stream ends. [`Call`] has no sockets.

use super::connection::{self, Channel};
use super::hpack::{self, Fields};
use super::{Passed, Silence, Target, host_of, shortened};
use crate::base::time::{self, Moment};
use crate::state::config::GrpcProbe;
use std::net::SocketAddr;
use std::time::Duration;

/// The first bytes of a client.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The path of the call.
const PATH: &str = "/grpc.health.v1.Health/Check";
/// The largest frame that a server may send, as we set no other (RFC 9113 section 4.2).
const FRAME_MAX: usize = 16_384;
/// The most bytes that are read in all; a response is less than 1 KiB, and the window of the connection is as large.
const READ_MAX: usize = 64 * 1024;
/// The most bytes of a header block: what `max_response_header_size` is for the other requests.
const BLOCK_MAX: usize = 16 * 1024;
/// The most bytes of the message: it has one number.
const MESSAGE_MAX: usize = 1024;
/// The stream of the call.
const STREAM: u32 = 1;

/// Makes the call within this time. Also returns the address that was connected to.
pub(super) fn ask(
    target: &Target,
    probe: &GrpcProbe,
    host: Option<&str>,
    timeout: Duration,
) -> (Result<Passed, Silence>, Option<SocketAddr>) {
    let deadline = time::now().after(timeout);
    match connection::open(target, deadline) {
        Err(error) => (Err(Silence::of_io(&error, timeout)), None),
        Ok((stream, address)) => {
            let session = target.tls.as_ref().map(|tls| tls.http2_session(&target.address)).transpose();
            let called = session.map_err(Silence::from).and_then(|session| {
                let mut channel = Channel::new(stream, session);
                let authority = host.map_or_else(|| host_of(&target.address), str::to_owned);
                let call = Call::new(&probe.service, &authority, target.tls.is_some(), timeout);
                talk(&mut channel, call, deadline, timeout)
            });
            (called, address)
        }
    }
}

fn talk(
    channel: &mut Channel,
    mut call: Call,
    deadline: Moment,
    timeout: Duration,
) -> Result<Passed, Silence> {
    let of_io = |error| Silence::of_io(&error, timeout);
    channel.complete_handshake(deadline).map_err(of_io)?;
    let mut piece = [0; 4096];
    loop {
        if let Some(passed) = call.result() {
            return Ok(passed);
        }
        let sent = std::mem::take(&mut call.to_send);
        let written = channel.write_all(&sent, Some(deadline));
        // A server that closes has usually said why: that is read before the failure is told.
        let read = channel.read(&mut piece, Some(deadline));
        match (read, written) {
            (Ok(0), _) => {
                return match call.end() {
                    Some(passed) => Ok(passed),
                    None => Err("closed without a response".to_owned().into()),
                };
            }
            (Ok(count), _) => call.receive(&piece[..count]),
            (Err(error), Ok(())) | (Err(_), Err(error)) => return Err(of_io(error)),
        }
    }
}

/// One call: bytes in, bytes out.
#[derive(Debug)]
struct Call {
    service: String,
    /// What is to be sent next.
    to_send: Vec<u8>,
    /// What has come and is not a whole frame yet.
    received: Vec<u8>,
    /// All bytes that have come.
    count: usize,
    /// A header block that goes on in the next frame, and whether it is the last of the stream.
    block: Option<(Vec<u8>, bool)>,
    fields: Fields,
    message: Vec<u8>,
    result: Option<Passed>,
}

/// The types of frames.
mod kind {
    pub(super) const DATA: u8 = 0;
    pub(super) const HEADERS: u8 = 1;
    pub(super) const RST_STREAM: u8 = 3;
    pub(super) const SETTINGS: u8 = 4;
    pub(super) const PING: u8 = 6;
    pub(super) const GOAWAY: u8 = 7;
    pub(super) const CONTINUATION: u8 = 9;
}

/// Flags of frames.
mod flag {
    /// Of SETTINGS and PING.
    pub(super) const ACK: u8 = 0x1;
    pub(super) const END_STREAM: u8 = 0x1;
    pub(super) const END_HEADERS: u8 = 0x4;
    pub(super) const PADDED: u8 = 0x8;
    pub(super) const PRIORITY: u8 = 0x20;
}

impl Call {
    fn new(service: &str, authority: &str, is_secure: bool, timeout: Duration) -> Self {
        let mut to_send = PREFACE.to_vec();
        // SETTINGS_HEADER_TABLE_SIZE 0 and SETTINGS_ENABLE_PUSH 0.
        frame(&mut to_send, kind::SETTINGS, 0, 0, &[0, 1, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0]);
        let mut block = Vec::new();
        hpack::indexed(&mut block, hpack::METHOD_POST);
        hpack::indexed(&mut block, if is_secure { hpack::SCHEME_HTTPS } else { hpack::SCHEME_HTTP });
        hpack::with_static_name(&mut block, hpack::PATH, PATH);
        hpack::with_static_name(&mut block, hpack::AUTHORITY, authority);
        hpack::literal(&mut block, "te", "trailers");
        hpack::literal(&mut block, "grpc-timeout", &format!("{}m", timeout.as_millis().max(1)));
        hpack::with_static_name(&mut block, hpack::CONTENT_TYPE, "application/grpc");
        hpack::with_static_name(&mut block, hpack::USER_AGENT, super::http::USER_AGENT);
        frame(&mut to_send, kind::HEADERS, flag::END_HEADERS, STREAM, &block);
        frame(&mut to_send, kind::DATA, flag::END_STREAM, STREAM, &message::request(service));
        Call {
            service: service.to_owned(),
            to_send,
            received: Vec::new(),
            count: 0,
            block: None,
            fields: Fields::default(),
            message: Vec::new(),
            result: None,
        }
    }

    /// The result, once there is one.
    fn result(&self) -> Option<Passed> {
        self.result.clone()
    }

    /// The connection has ended.
    fn end(&self) -> Option<Passed> {
        let is_silent = self.received.is_empty() && self.fields == Fields::default();
        (!is_silent).then(|| Passed::no("closed before the end of the response"))
    }

    fn receive(&mut self, bytes: &[u8]) {
        self.count += bytes.len();
        self.received.extend_from_slice(bytes);
        if self.received.starts_with(b"HTTP/") {
            return self.fails("it responds in HTTP/1, not HTTP/2".to_owned());
        }
        while self.result.is_none() {
            let Some(head) = self.received.first_chunk::<9>() else { break };
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            if length > FRAME_MAX {
                let beginning = shortened(&self.received);
                return self.fails(format!("it does not speak HTTP/2: it sent {beginning}"));
            }
            if self.received.len() < 9 + length {
                break;
            }
            let (kind, flags) = (head[3], head[4]);
            let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]) & 0x7fff_ffff;
            let payload: Vec<u8> = self.received.drain(..9 + length).skip(9).collect();
            self.frame(kind, flags, stream, &payload);
        }
        if self.count > READ_MAX {
            self.fails(format!("it sent {READ_MAX} bytes without an end of its response"));
        }
    }

    fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        if self.block.is_some() && (kind != kind::CONTINUATION || stream != STREAM) {
            return self.fails("its headers are interrupted by another frame".to_owned());
        }
        match kind {
            kind::SETTINGS if flags & flag::ACK == 0 => {
                frame(&mut self.to_send, kind::SETTINGS, flag::ACK, 0, &[]);
            }
            kind::PING if flags & flag::ACK == 0 && payload.len() == 8 => {
                frame(&mut self.to_send, kind::PING, flag::ACK, 0, payload);
            }
            kind::HEADERS if stream == STREAM => match unpadded(payload, flags, true) {
                Some(block) => self.headers(block, flags & flag::END_STREAM != 0, flags),
                None => self.fails("a frame of its response is padded beyond its end".to_owned()),
            },
            kind::CONTINUATION if stream == STREAM => match self.block.take() {
                Some((mut block, is_last)) => {
                    block.extend_from_slice(payload);
                    self.headers(&block, is_last, flags);
                }
                None => self.fails("a CONTINUATION frame continues nothing".to_owned()),
            },
            kind::DATA if stream == STREAM => match unpadded(payload, flags, false) {
                Some(data) => self.data(data, flags & flag::END_STREAM != 0),
                None => self.fails("a frame of its response is padded beyond its end".to_owned()),
            },
            kind::RST_STREAM if stream == STREAM => {
                self.fails(format!("it reset the stream ({})", error_code(payload)));
            }
            kind::GOAWAY => self.goes_away(payload),
            // What concerns other streams, priorities and windows.
            _ => {}
        }
    }

    fn headers(&mut self, block: &[u8], is_last: bool, flags: u8) {
        if block.len() > BLOCK_MAX {
            return self.fails(format!("its headers have more than {BLOCK_MAX} bytes"));
        }
        if flags & flag::END_HEADERS == 0 {
            self.block = Some((block.to_vec(), is_last));
            return;
        }
        match hpack::read(block, &mut self.fields) {
            Err(fault) => self.fails(fault.to_owned()),
            Ok(()) if is_last => self.finish(),
            Ok(()) => {}
        }
    }

    fn data(&mut self, data: &[u8], is_last: bool) {
        if self.message.len() + data.len() > MESSAGE_MAX {
            return self.fails(match self.fields.status {
                Some(status) if status != 200 => format!("HTTP status {status}"),
                _ => format!("its message has more than {MESSAGE_MAX} bytes"),
            });
        }
        self.message.extend_from_slice(data);
        if is_last {
            self.finish();
        }
    }

    fn goes_away(&mut self, payload: &[u8]) {
        let last = payload.first_chunk::<4>().map_or(0, |last| u32::from_be_bytes(*last) & 0x7fff_ffff);
        // A server that shuts down gracefully still responds to what it has taken.
        if last < STREAM || payload.get(4..8) != Some(&[0; 4]) {
            let code = payload.get(4..).unwrap_or_default();
            self.fails(format!("it ended the connection ({})", error_code(code)));
        }
    }

    /// The stream has ended.
    fn finish(&mut self) {
        let Fields { status, grpc_status, grpc_message } = &self.fields;
        let status = status.unwrap_or(0);
        let passed = match grpc_status {
            None if status != 200 => Passed::no(format!("HTTP status {status}, and no gRPC status")),
            None => Passed::no("its response has no gRPC status"),
            Some(0) => message::health(&self.message),
            Some(12) => Passed::no("UNIMPLEMENTED: it has no service grpc.health.v1.Health"),
            Some(5) => Passed::no(format!("NOT_FOUND: it does not know the service {:?}", self.service)),
            Some(code) => {
                let name = message::CODES.get(*code as usize).copied().unwrap_or("an unknown status");
                let message = grpc_message.as_deref().unwrap_or_default();
                Passed::no(format!("{name} ({code}): {}", shortened(message)))
            }
        };
        self.result = Some(passed);
    }

    fn fails(&mut self, words: String) {
        self.result = self.result.take().or(Some(Passed::no(words)));
    }
}

fn frame(to: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    to.extend_from_slice(&(payload.len() as u32).to_be_bytes()[1..]);
    to.extend_from_slice(&[kind, flags]);
    to.extend_from_slice(&stream.to_be_bytes());
    to.extend_from_slice(payload);
}

/// A payload without its padding, and without its priority if it may have one.
fn unpadded(payload: &[u8], flags: u8, has_priority: bool) -> Option<&[u8]> {
    let (padding, payload) = match flags & flag::PADDED {
        0 => (0, payload),
        _ => payload.split_first().map(|(padding, rest)| (usize::from(*padding), rest))?,
    };
    let payload = if has_priority && flags & flag::PRIORITY != 0 { payload.get(5..)? } else { payload };
    payload.get(..payload.len().checked_sub(padding)?)
}

/// The name of an error of HTTP/2 (RFC 9113 section 7).
fn error_code(payload: &[u8]) -> String {
    const NAMES: [&str; 14] = [
        "NO_ERROR",
        "PROTOCOL_ERROR",
        "INTERNAL_ERROR",
        "FLOW_CONTROL_ERROR",
        "SETTINGS_TIMEOUT",
        "STREAM_CLOSED",
        "FRAME_SIZE_ERROR",
        "REFUSED_STREAM",
        "CANCEL",
        "COMPRESSION_ERROR",
        "CONNECT_ERROR",
        "ENHANCE_YOUR_CALM",
        "INADEQUATE_SECURITY",
        "HTTP_1_1_REQUIRED",
    ];
    let code = payload.first_chunk::<4>().map_or(u32::MAX, |code| u32::from_be_bytes(*code));
    NAMES.get(code as usize).map_or_else(|| format!("error {code}"), |name| (*name).to_owned())
}

mod message;

#[cfg(test)]
mod tests {
    use super::*;

    fn call() -> Call {
        let mut call = Call::new("a.B", "h:1", false, Duration::from_secs(1));
        call.to_send.clear();
        call
    }

    /// A server's frames.
    #[derive(Default)]
    struct Server(Vec<u8>);

    impl Server {
        fn frame(mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Self {
            frame(&mut self.0, kind, flags, stream, payload);
            self
        }

        fn headers(self) -> Self {
            self.frame(kind::HEADERS, flag::END_HEADERS, STREAM, &[0x88])
        }

        fn message(self, message: &[u8]) -> Self {
            let mut framed = vec![0];
            framed.extend_from_slice(&(message.len() as u32).to_be_bytes());
            framed.extend_from_slice(message);
            self.frame(kind::DATA, 0, STREAM, &framed)
        }

        fn trailers(self, status: &str) -> Self {
            let mut block = Vec::new();
            hpack::literal(&mut block, "grpc-status", status);
            hpack::literal(&mut block, "grpc-message", "said\n so");
            self.frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, STREAM, &block)
        }
    }

    #[track_caller]
    fn check(server: Server, is_good: bool, words: &str) {
        let (mut whole, mut single) = (call(), call());
        whole.receive(&server.0);
        server.0.iter().for_each(|byte| single.receive(&[*byte]));
        for call in [whole, single] {
            let passed = call.result().unwrap_or_else(|| panic!("no result for {words}"));
            assert_eq!((passed.is_good, passed.words.as_str()), (is_good, words));
        }
    }

    #[test]
    fn the_status_decides() {
        let says =
            |message: &[u8]| Server::default().frame(kind::SETTINGS, 0, 0, &[]).headers().message(message);
        check(says(&[8, 1]).trailers("0"), true, "SERVING");
        check(says(&[8, 2]).trailers("0"), false, "NOT_SERVING");
        check(says(&[8, 3]).trailers("0"), false, "SERVICE_UNKNOWN");
        check(says(&[]).trailers("0"), false, "UNKNOWN (0)");
        check(says(&[0x12, 2, 9, 9, 8, 1, 0x1d, 0, 0, 0, 0]).trailers("0"), true, "SERVING");
        check(says(&[8]).trailers("0"), false, "its message is not a health status");
        check(says(&[8, 1]).trailers("14"), false, "UNAVAILABLE (14): \"said\\n so\"");
        check(says(&[8, 1]).trailers("99"), false, "an unknown status (99): \"said\\n so\"");
        let only = |status| Server::default().trailers(status);
        check(only("12"), false, "UNIMPLEMENTED: it has no service grpc.health.v1.Health");
        check(only("5"), false, "NOT_FOUND: it does not know the service \"a.B\"");
        let not_found =
            Server::default().frame(kind::HEADERS, flag::END_HEADERS | flag::END_STREAM, STREAM, &[0x8d]);
        check(not_found, false, "HTTP status 404, and no gRPC status");
    }

    #[test]
    fn frames_of_all_forms_are_read() {
        let padded = [&[2, 0, 0, 0, 0, 9][..], &[0x88], &[0; 2]].concat();
        let server = Server::default()
            .frame(kind::SETTINGS, 0, 0, &[0, 3, 0, 0, 0, 100])
            .frame(kind::SETTINGS, flag::ACK, 0, &[])
            .frame(8, 0, 0, &[0, 0, 1, 0])
            .frame(kind::PING, 0, 0, b"12345678")
            .frame(kind::HEADERS, flag::PADDED | flag::PRIORITY, STREAM, &padded)
            .frame(kind::CONTINUATION, flag::END_HEADERS, STREAM, &[])
            .frame(kind::DATA, flag::PADDED, STREAM, &[1, 0, 0, 0, 0, 0])
            .frame(kind::DATA, 0, STREAM, &[2, 8, 1])
            .frame(kind::GOAWAY, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0]);
        let mut call = call();
        call.receive(&server.0);
        assert_eq!(call.result(), None);
        let mut acknowledged = Vec::new();
        frame(&mut acknowledged, kind::SETTINGS, flag::ACK, 0, &[]);
        frame(&mut acknowledged, kind::PING, flag::ACK, 0, b"12345678");
        assert_eq!(call.to_send, acknowledged);
        call.receive(&Server::default().trailers("0").0);
        assert_eq!(call.result(), Some(Passed::yes("SERVING")));
    }

    #[test]
    fn what_is_broken_or_too_much_ends_the_call() {
        check(
            Server(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()),
            false,
            "it responds in HTTP/1, not HTTP/2",
        );
        let frame = |kind, flags, payload: &[u8]| Server::default().frame(kind, flags, STREAM, payload);
        check(frame(kind::RST_STREAM, 0, &[0, 0, 0, 7]), false, "it reset the stream (REFUSED_STREAM)");
        check(
            frame(kind::HEADERS, flag::PADDED, &[9, 1]),
            false,
            "a frame of its response is padded beyond its end",
        );
        check(frame(kind::CONTINUATION, 0, &[]), false, "a CONTINUATION frame continues nothing");
        check(
            frame(kind::HEADERS, 0, &[0x88]).message(&[8, 1]),
            false,
            "its headers are interrupted by another frame",
        );
        check(frame(kind::DATA, 0, &[0; 2_000]), false, "its message has more than 1024 bytes");
        let goes = Server::default().frame(kind::GOAWAY, 0, 0, &[0, 0, 0, 0, 0, 0, 0, 11]);
        check(goes, false, "it ended the connection (ENHANCE_YOUR_CALM)");
        let endless = (0..9).fold(frame(kind::HEADERS, 0, &[0; 2_000]), |server, _| {
            server.frame(kind::CONTINUATION, 0, STREAM, &[0; 2_000])
        });
        check(endless, false, "its headers have more than 16384 bytes");
        let pings =
            (0..5_000).fold(Server::default(), |server, _| server.frame(kind::PING, flag::ACK, 0, &[0; 8]));
        check(pings, false, "it sent 65536 bytes without an end of its response");
        let large = [0, 0x40, 1, 0, 0, 0, 0, 0, 0];
        let mut call = call();
        call.receive(&large);
        assert!(call.result().is_some_and(|passed| passed.words.starts_with("it does not speak HTTP/2")));
    }
}
