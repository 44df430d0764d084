//! The front of the sample server: takes requests from tiny_http and hands each to who serves it.

use super::answer::{self, Echo, Health, Refused, Status};
use super::nudge::{self, Nudge};
use super::queue::Queue;
use super::{reachable, spawn};
use crate::base::time;
use crossbeam_channel::{Receiver, Sender, bounded};
use std::convert::Infallible;
use std::io::ErrorKind;
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tiny_http::{Method, Request, Server};

/// A larger declared body is refused with 413; see [`answer::refuse_unread`] for why one has to be.
const BODY_LIMIT: usize = 1 << 30;
/// Up to this length tiny_http has the body in memory before it hands the request out.
const BODY_IN_HAND: usize = 1024;
/// Bodies that may be read at the same time; more requests with a body are answered 503.
const READERS: usize = 256;
/// Threads that answer everything but `POST /requests`.
const ANSWERERS: usize = 4;
/// Requests that may wait for an answerer; then the dispatcher waits too.
const UNANSWERED: usize = 1024;
/// A stopping server that received nothing for this long has received all.
const QUIET: Duration = Duration::from_millis(100);
/// Longest wait for a request before the dispatcher looks whether to stop.
const GLANCE: Duration = Duration::from_millis(500);
/// Longest time a stopping server goes on taking requests.
const CLOSING: Duration = Duration::from_secs(10);

/// The listening side.
#[derive(Debug)]
pub(super) struct Front {
    listener: TcpListener,
    queue: Queue,
}

impl Front {
    /// Stops listening. The dispatcher goes on until no request came for a moment, then ends.
    pub(super) fn close(self) {
        self.queue.shared.closing.store(true, Ordering::SeqCst);
        // This ends tiny_http's accept, which wakes the dispatcher, and refuses new connections at once.
        if let Err(error) = rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Both) {
            log::debug!("the listener closes with its last handle: {error}");
        }
    }
}

/// Starts the dispatcher and the answerers. A reason sent to `failed` means that no connection is
/// accepted any more.
pub(super) fn start(
    listener: TcpListener,
    queue: Queue,
    alive: &Sender<Infallible>,
    failed: Sender<String>,
) -> Result<Front, String> {
    let cannot = |error: String| format!("cannot serve: {error}");
    let twin = listener.try_clone().map_err(|error| cannot(error.to_string()))?;
    let server = Server::from_listener(twin, None).map_err(|error| cannot(error.to_string()))?;
    let address = listener.local_addr().map_err(|error| cannot(error.to_string()))?;
    let nudge = nudge::start(reachable(address))?;
    let (quick, unanswered) = bounded(UNANSWERED);
    for number in 0..ANSWERERS {
        let (queue, unanswered, alive) = (queue.clone(), unanswered.clone(), alive.clone());
        spawn(&format!("answer-{number}"), move || answer_all(&queue, &unanswered, alive))?;
    }
    let dispatcher =
        Dispatcher { queue: queue.clone(), quick, nudge, readers: Arc::new(AtomicUsize::new(0)) };
    let alive = alive.clone();
    spawn("dispatch", move || dispatcher.run(&server, failed, alive))?;
    Ok(Front { listener, queue })
}

/// A request with the length of its body, which has been read, and what is wrong, if anything.
struct Arrived {
    request: Request,
    body_length: u64,
    wrong: Option<Wrong>,
}

#[derive(Clone, Copy)]
enum Wrong {
    QueueFull,
    TooManyBodies,
    BodyCut,
}

#[derive(Clone)]
struct Dispatcher {
    queue: Queue,
    quick: Sender<Arrived>,
    nudge: Nudge,
    readers: Arc<AtomicUsize>,
}

impl Dispatcher {
    fn run(self, server: &Server, failed: Sender<String>, _alive: Sender<Infallible>) {
        while !self.is_closing() {
            match server.recv_timeout(GLANCE) {
                Ok(Some(request)) => self.take(request),
                Ok(None) => {}
                Err(_) if self.is_closing() => {}
                Err(error) => {
                    // A reason that waits to be read says the same.
                    let _ = failed.try_send(refusal_to_accept(&error));
                }
            }
        }
        self.take_the_last(server);
    }

    /// Connections that are kept alive may still bring requests: they are served, and closed thereby.
    fn take_the_last(&self, server: &Server) {
        let until = time::now().after(CLOSING);
        while time::now() < until {
            match server.recv_timeout(QUIET) {
                Ok(Some(request)) => self.take(request),
                Ok(None) if self.queue.is_at_rest() => return,
                Ok(None) | Err(_) => {}
            }
        }
    }

    fn is_closing(&self) -> bool {
        self.queue.shared.closing.load(Ordering::SeqCst)
    }

    /// Hands a request on; never works on it, never reads from its connection.
    fn take(&self, request: Request) {
        self.nudge.traffic();
        if request.body_length().is_some_and(|length| length > BODY_LIMIT) {
            let name = &self.queue.shared.name;
            let refused =
                Refused { server: name, error: "the body is larger than 1 GiB", queue_capacity: None };
            answer::refuse_unread(request, 413, &refused);
        } else if is_in_hand(&request) {
            let body_length = request.body_length().unwrap_or(0) as u64;
            self.route(Arrived { request, body_length, wrong: None });
        } else {
            self.read_apart(request);
        }
    }

    /// A body that is still on its way gets a thread, so that a slow sender holds nobody else up.
    fn read_apart(&self, request: Request) {
        if self.readers.fetch_add(1, Ordering::SeqCst) >= READERS {
            self.readers.fetch_sub(1, Ordering::SeqCst);
            let wrong = Some(Wrong::TooManyBodies);
            return self.answer(Arrived { request, body_length: 0, wrong });
        }
        let dispatcher = self.clone();
        let read = move || {
            let arrived = read_body(request);
            dispatcher.readers.fetch_sub(1, Ordering::SeqCst);
            dispatcher.route(arrived);
        };
        if let Err(error) = spawn("body", read) {
            // The request went with the closure: tiny_http answered it with 500.
            self.readers.fetch_sub(1, Ordering::SeqCst);
            log::warn!("{error}");
        }
    }

    fn route(&self, arrived: Arrived) {
        let queued = arrived.wrong.is_none()
            && *arrived.request.method() == Method::Post
            && path(&arrived.request) == "/requests";
        if !queued {
            return self.answer(arrived);
        }
        if let Some(request) = self.queue.push(arrived.request) {
            self.answer(Arrived { request, wrong: Some(Wrong::QueueFull), ..arrived });
        }
    }

    fn answer(&self, arrived: Arrived) {
        // Fails only when every answerer has gone; dropping the request then answers 500.
        let _ = self.quick.send(arrived);
    }
}

fn refusal_to_accept(error: &std::io::Error) -> String {
    format!("the sample server can accept no more connections ({error}): start it again")
}

/// Whether the body, if any, can be read without waiting for the client.
fn is_in_hand(request: &Request) -> bool {
    let waits =
        |header: &tiny_http::Header| header.field.equiv("Transfer-Encoding") || header.field.equiv("Expect");
    is_upgrade(request)
        || (request.body_length().unwrap_or(0) <= BODY_IN_HAND && !request.headers().iter().any(waits))
}

/// tiny_http gives such a request the rest of the connection as its body, which ends only with it.
fn is_upgrade(request: &Request) -> bool {
    let first = request.headers().iter().find(|header| header.field.equiv("Connection"));
    first.is_some_and(|header| header.value.as_str().to_ascii_lowercase().contains("upgrade"))
}

/// Reads a body to its end and counts it.
fn read_body(mut request: Request) -> Arrived {
    let mut buffer = vec![0; 64 << 10];
    let mut body_length = 0;
    let declared = request.body_length().map(|length| length as u64);
    let reader = request.as_reader();
    let ended = loop {
        match reader.read(&mut buffer) {
            Ok(0) => break true,
            Ok(count) => body_length += count as u64,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => break false,
        }
    };
    let whole = ended && declared.is_none_or(|declared| declared == body_length);
    Arrived { request, body_length, wrong: (!whole).then_some(Wrong::BodyCut) }
}

fn answer_all(queue: &Queue, unanswered: &Receiver<Arrived>, _alive: Sender<Infallible>) {
    while let Ok(arrived) = unanswered.recv() {
        match arrived.wrong {
            Some(wrong) => refuse(arrived.request, wrong, queue),
            None => answer_one(arrived, queue),
        }
    }
}

fn refuse(request: Request, wrong: Wrong, queue: &Queue) {
    let shared = &queue.shared;
    let (status, error, queue_capacity) = match wrong {
        Wrong::QueueFull => (503, "the queue is full", Some(shared.capacity)),
        Wrong::TooManyBodies => (503, "too many bodies are being received", None),
        Wrong::BodyCut => (400, "the body ended early or could not be read", None),
    };
    answer::send(request, status, &Refused { server: &shared.name, error, queue_capacity }, shared);
}

fn answer_one(arrived: Arrived, queue: &Queue) {
    let shared = &queue.shared;
    let request = arrived.request;
    match (request.method(), path(&request)) {
        (Method::Get | Method::Head | Method::Post, "/queue/status") => {
            let status = Status {
                server: &shared.name,
                queue_length: queue.length(),
                queue_capacity: shared.capacity,
                in_progress: shared.in_progress.load(Ordering::SeqCst),
                processed: shared.processed.load(Ordering::SeqCst),
            };
            answer::send(request, 200, &status, shared);
        }
        (Method::Get | Method::Head, "/health") => {
            answer::send(request, 200, &Health { server: &shared.name, status: "up" }, shared);
        }
        _ => {
            let echo = echo(&request, arrived.body_length, &shared.name);
            answer::send(request, 200, &echo, shared);
        }
    }
}

fn echo<'a>(request: &Request, body_length: u64, server: &'a str) -> Echo<'a> {
    let header = |header: &tiny_http::Header| (header.field.to_string(), header.value.to_string());
    Echo {
        server,
        method: request.method().to_string(),
        path: request.url().to_string(),
        headers: request.headers().iter().map(header).collect(),
        body_length,
    }
}

/// The path without its query.
fn path(request: &Request) -> &str {
    request.url().split('?').next().unwrap_or_default()
}
