//! The responses of the sample server: the JSON bodies, and how they are passed to tiny_http.

use crate::base::time;
use serde::Serialize;
use std::io::Cursor;
use std::time::Duration;
use tiny_http::{Header, Request, Response, StatusCode};

/// The response to `POST /requests`, processed or failed on purpose.
#[derive(Serialize)]
pub(super) struct Served<'a> {
    pub(super) server: &'a str,
    pub(super) id: u64,
    pub(super) waited_ms: f64,
    pub(super) served_ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<&'a str>,
}

/// A rejection.
#[derive(Serialize)]
pub(super) struct Rejected<'a> {
    pub(super) server: &'a str,
    pub(super) error: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) queue_capacity: Option<usize>,
}

/// The response to `/queue/status`: the load report that the balancer reads.
#[derive(Serialize)]
pub(super) struct Status<'a> {
    pub(super) server: &'a str,
    pub(super) queue_length: usize,
    pub(super) queue_capacity: usize,
    pub(super) in_progress: usize,
    pub(super) processed: u64,
}

/// The response to `/health`.
#[derive(Serialize)]
pub(super) struct Health<'a> {
    pub(super) server: &'a str,
    pub(super) status: &'a str,
}

/// What was received, to show what the balancer forwarded.
#[derive(Serialize)]
pub(super) struct Echo<'a> {
    pub(super) server: &'a str,
    pub(super) method: String,
    pub(super) path: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body_length: u64,
}

/// Milliseconds with a precision of a microsecond.
pub(super) fn millis(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1000.0
}

/// Responds to a request. The front always reads the response.
pub(super) fn send(request: Request, status: u16, body: &impl Serialize) {
    let body = encode(body);
    // tiny_http's own date panics when the clock is beyond the year 9999.
    // The balancer asks for load reports where a server says that it has them.
    let fields = [
        ("Content-Type", "application/json"),
        ("Date", &time::http_date()),
        ("X-Load-Report", "/queue/status"),
    ];
    let headers =
        fields.into_iter().filter_map(|(name, value)| Header::from_bytes(name, value).ok()).collect();
    let length = Some(body.len());
    let response = Response::new(StatusCode(status), headers, Cursor::new(body), length, None);
    // Without the threshold tiny_http would send long ones chunked.
    if let Err(error) = request.respond(response.with_chunked_threshold(usize::MAX)) {
        log::debug!("the client has gone: {error}");
    }
}

fn encode(body: &impl Serialize) -> Vec<u8> {
    let mut bytes = serde_json::to_vec(body).unwrap_or_else(|_| b"{}".to_vec());
    bytes.push(b'\n');
    bytes
}
