//! Exchanges in flight: what each is waiting for, and its age.

use super::View;
use crate::base::text;
use crate::state::workers::RequestInfo;
use serde::Serialize;
use std::cmp::Reverse;

/// The most that are listed, the oldest first.
const LISTED_MAX: usize = 1000;

/// `GET /api/v1/requests`.
#[derive(Debug, Serialize)]
pub(super) struct Requests {
    /// All exchanges in flight, including those that are not listed.
    total: usize,
    requests: Vec<Request>,
}

#[derive(Debug, Serialize)]
struct Request {
    /// Null for a tunnel.
    id: Option<String>,
    client: Option<String>,
    /// Method and target; null once they are no longer kept.
    request: Option<String>,
    server: Option<String>,
    waits_for: &'static str,
    /// Of its route.
    priority: &'static str,
    /// Until its response is worthless; null where that is not known.
    deadline_left_ms: Option<u64>,
    age_ms: u64,
    /// Payload bytes from the client.
    received_bytes: u64,
    /// Bytes to the client.
    sent_bytes: u64,
    /// Null before the response has begun.
    status: Option<u16>,
}

/// Asks the workers, each of which reports its own.
pub(super) fn requests(view: &View) -> Requests {
    let mut all = view.workers.requests();
    all.sort_by_key(|request| Reverse(request.age));
    let total = all.len();
    all.truncate(LISTED_MAX);
    Requests { total, requests: all.into_iter().map(shown).collect() }
}

fn shown(info: RequestInfo) -> Request {
    let some = |text: String| (!text.is_empty()).then_some(text);
    let line = info.request.strip_suffix(" HTTP/1.1").unwrap_or(&info.request);
    Request {
        id: some(info.id),
        client: info.client.map(|client| client.to_string()),
        request: some(text::escape(line).to_string()),
        server: info.server,
        waits_for: info.waits_for,
        priority: info.priority,
        deadline_left_ms: info.left.map(|left| left.as_millis() as u64),
        age_ms: info.age.as_millis() as u64,
        received_bytes: info.received_bytes,
        sent_bytes: info.sent_bytes,
        status: (info.status != 0).then_some(info.status),
    }
}
