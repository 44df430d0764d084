//! What the sample server answers: the JSON bodies, and how they get on the wire.
//!
//! Heads are written here, not by tiny_http, for one reason: tiny_http cannot send `Connection: close`,
//! and a server that stops has to.

use super::queue::Shared;
use crate::base::time;
use serde::Serialize;
use std::io::Write;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tiny_http::{HTTPVersion, Method, Request, Response, StatusCode};

/// The answer to `POST /requests`, worked off or failed on purpose.
#[derive(Serialize)]
pub(super) struct Served<'a> {
    pub(super) server: &'a str,
    pub(super) id: u64,
    pub(super) waited_ms: f64,
    pub(super) served_ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<&'a str>,
}

/// A refusal.
#[derive(Serialize)]
pub(super) struct Refused<'a> {
    pub(super) server: &'a str,
    pub(super) error: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) queue_capacity: Option<usize>,
}

/// The answer to `/queue/status`: the load report the balancer reads.
#[derive(Serialize)]
pub(super) struct Status<'a> {
    pub(super) server: &'a str,
    pub(super) queue_length: usize,
    pub(super) queue_capacity: usize,
    pub(super) in_progress: usize,
    pub(super) processed: u64,
}

/// The answer to `/health`.
#[derive(Serialize)]
pub(super) struct Health<'a> {
    pub(super) server: &'a str,
    pub(super) status: &'a str,
}

/// What was received, for a person to see what the balancer forwarded.
#[derive(Serialize)]
pub(super) struct Echo<'a> {
    pub(super) server: &'a str,
    pub(super) method: String,
    pub(super) path: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body_length: u64,
}

/// Milliseconds to the microsecond.
pub(super) fn millis(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1000.0
}

/// Answers a request whose body has been read.
pub(super) fn send(request: Request, status: u16, body: &impl Serialize, shared: &Shared) {
    let body = encode(body);
    let head = Head {
        status,
        length: body.len(),
        close: shared.closing.load(Ordering::SeqCst),
        old_keep_alive: asks_old_keep_alive(&request),
    };
    let mut bytes = head.encode();
    if *request.method() != Method::Head {
        bytes.extend_from_slice(&body);
    }
    let mut writer = request.into_writer();
    if let Err(error) = writer.write_all(&bytes).and_then(|()| writer.flush()) {
        log::debug!("the client has gone: {error}");
    }
}

/// Refuses a request whose declared body is not going to be read.
///
/// Dropping such a request would make tiny_http allocate everything that was declared, which ends the
/// process. So its reader is taken out by `upgrade`, which writes a head of its own (a harmless interim
/// `100`), the real answer follows on the raw stream, and the stream is never dropped: that costs its
/// connection thread.
pub(super) fn refuse_unread(request: Request, status: u16, body: &impl Serialize) {
    let body = encode(body);
    let head = Head { status, length: body.len(), close: true, old_keep_alive: false };
    let mut bytes = head.encode();
    bytes.extend_from_slice(&body);
    let mut stream = request.upgrade("none", Response::empty(StatusCode(100)));
    if let Err(error) = stream.write_all(&bytes).and_then(|()| stream.flush()) {
        log::debug!("the client has gone: {error}");
    }
    std::mem::forget(stream);
}

struct Head {
    status: u16,
    length: usize,
    close: bool,
    old_keep_alive: bool,
}

impl Head {
    fn encode(&self) -> Vec<u8> {
        let connection = match (self.close, self.old_keep_alive) {
            (true, _) => "Connection: close\r\n",
            (false, true) => "Connection: keep-alive\r\n",
            (false, false) => "",
        };
        format!(
            "HTTP/1.1 {status} {reason}\r\nDate: {date}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n{connection}\r\n",
            status = self.status,
            reason = StatusCode(self.status).default_reason_phrase(),
            date = time::http_date(),
            length = self.length,
        )
        .into_bytes()
    }
}

/// HTTP/1.0 clients keep a connection only when told so.
fn asks_old_keep_alive(request: &Request) -> bool {
    let asks = |header: &tiny_http::Header| {
        header.field.equiv("Connection") && header.value.as_str().eq_ignore_ascii_case("keep-alive")
    };
    *request.http_version() == HTTPVersion(1, 0) && request.headers().iter().any(asks)
}

fn encode(body: &impl Serialize) -> Vec<u8> {
    let mut bytes = serde_json::to_vec(body).unwrap_or_else(|_| b"{}".to_vec());
    bytes.push(b'\n');
    bytes
}
