//! What the sample server does with a whole request: queue it, or respond at once.

use super::queue::Queue;
use super::response::{self, Echo, Health, Rejected, Status};
use crate::base::limits;
use crate::front::{BODY_LENGTH, Limits, PREFIX, Response, Service};
use crate::http1::head::RequestHead;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tiny_http::{Header, Method, Request};

/// The most connections; fewer when descriptors are scarce. Each waiting request has a thread and two more descriptors.
const CONNECTIONS: usize = 4096;
/// The share of all descriptors that connections may use.
const DESCRIPTORS_SHARE: usize = 4;

/// The limits of a sample server.
pub(super) fn bounds() -> Limits {
    let connections = CONNECTIONS.min(limits::descriptors() / DESCRIPTORS_SHARE).max(8);
    Limits {
        connections,
        head: Duration::from_secs(10),
        // Longer than a balancer keeps idle connections by default.
        idle: Duration::from_secs(120),
        // A body of the largest size at 4 MB/s.
        body: Duration::from_secs(300),
        body_max: 1 << 30,
        bodies: 256,
        keeps_bodies: false,
        // The queue limits how many may wait, and everything else gets its response at once.
        in_flight: connections,
        response: Duration::MAX,
        write: Duration::from_secs(30),
        helpers: 1,
    }
}

/// A sample server behind its front. The one helper thread takes requests in their order.
pub(super) struct Sample {
    pub(super) queue: Queue,
}

impl Service for Sample {
    fn judge(&self, _: &RequestHead<'_, '_>, _: usize) -> Option<Response> {
        None
    }

    fn serve(&self, request: Request) {
        if *request.method() != Method::Post || path(&request) != "/requests" {
            return self.respond(request);
        }
        if let Some(request) = self.queue.push(request) {
            let shared = &self.queue.shared;
            let queue_capacity = Some(shared.capacity);
            let rejected = Rejected { server: &shared.name, error: "the queue is full", queue_capacity };
            response::send(request, 503, &rejected);
        }
    }

    fn rejection(&self, _: &str, status: u16, sentence: &str) -> Response {
        let rejected = Rejected { server: &self.queue.shared.name, error: sentence, queue_capacity: None };
        let body = serde_json::to_string(&rejected).unwrap_or_default() + "\n";
        Response { status, kind: "application/json", body, fields: Vec::new() }
    }
}

impl Sample {
    fn respond(&self, request: Request) {
        let shared = &self.queue.shared;
        match (request.method(), path(&request)) {
            (Method::Get | Method::Head | Method::Post, "/queue/status") => {
                let status = Status {
                    server: &shared.name,
                    queue_length: self.queue.length(),
                    queue_capacity: shared.capacity,
                    in_progress: shared.in_progress.load(Ordering::SeqCst),
                    processed: shared.processed.load(Ordering::SeqCst),
                };
                response::send(request, 200, &status);
            }
            (Method::Get | Method::Head, "/health") => {
                response::send(request, 200, &Health { server: &shared.name, status: "up" });
            }
            _ => {
                let echo = echo(&request, &shared.name);
                response::send(request, 200, &echo);
            }
        }
    }
}

/// The request as the client sent it.
fn echo<'a>(request: &Request, server: &'a str) -> Echo<'a> {
    let body_length = request.headers().iter().find(|header| header.field.equiv(BODY_LENGTH));
    let body_length = body_length.and_then(|header| header.value.as_str().parse().ok()).unwrap_or(0);
    Echo {
        server,
        method: request.method().to_string(),
        path: request.url().to_string(),
        headers: request.headers().iter().filter_map(sent).collect(),
        body_length,
    }
}

/// A header under the name that the client gave it; `None` for those added by the front.
fn sent(header: &Header) -> Option<(String, String)> {
    let of_the_front = ["Connection", "Content-Length", BODY_LENGTH];
    if of_the_front.iter().any(|name| header.field.as_str().as_str().eq_ignore_ascii_case(name)) {
        return None;
    }
    let name = header.field.as_str().as_str();
    Some((name.strip_prefix(PREFIX).unwrap_or(name).to_string(), header.value.to_string()))
}

/// The path without its query.
fn path(request: &Request) -> &str {
    request.url().split('?').next().unwrap_or_default()
}
