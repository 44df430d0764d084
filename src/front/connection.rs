//! One client connection: its input, its output, and what comes next. Never blocks.

use super::response::{self, Response};
use super::transfer::{Behind, Incoming};
use super::{Limits, Service, forward};
use crate::base::time::Moment;
use crate::http1::framing::Framing;
use crate::http1::head::{self, Parsed, RequestHead, Slots};
use crate::http1::reason::Reason;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown};
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

/// How long a client may take to read its last response and to close.
const LINGER: Duration = Duration::from_secs(1);
/// Bytes that one run reads from a client, and requests that it serves, before the others get their turn.
const RUN_BYTES: usize = 256 * 1024;
/// See [`RUN_BYTES`].
const RUN_REQUESTS: usize = 16;
/// The response to an expectation (RFC 9110 section 10.1.1).
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// The parts of the front that a connection needs.
pub(super) struct Front<'f> {
    pub(super) service: &'f dyn Service,
    pub(super) limits: &'f Limits,
    pub(super) is_stopping: bool,
    pub(super) now: Moment,
}

/// What the front does next with a connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Waits for an event or the deadline.
    Wait,
    /// Runs it again after the others.
    Again,
    /// Its request is complete: it is passed to tiny_http.
    HandOver,
    /// Closes it.
    Close,
}

/// A connection.
#[derive(Debug)]
pub(super) struct Connection {
    client: OwnedFd,
    /// The index of its listener.
    pub(super) door: usize,
    stage: Stage,
    /// When it entered this stage.
    pub(super) since: Moment,
    /// When this stage must be over.
    pub(super) deadline: Moment,
    /// Bytes that were read and not used yet.
    input: Vec<u8>,
    /// How many of them were parsed without completing a head.
    seen: usize,
    /// The client wants to keep the connection after this request.
    keeps: bool,
    /// Requests begun on it.
    requests: u64,
}

#[derive(Debug)]
enum Stage {
    /// Reads a head, or waits for one.
    Head,
    /// Reads a body.
    Body(Box<Incoming>),
    /// The request is complete and waits for tiny_http.
    Ready(Vec<u8>),
    /// tiny_http has the request.
    Behind(Behind),
    /// The response is being sent to the client.
    Write { bytes: Vec<u8>, written: usize },
    /// The client may read its last response: further input is dropped.
    Linger { dropped: usize },
}

/// The outcome of one read.
enum Read {
    Some,
    Later,
    End,
}

impl Connection {
    /// A connection that was just accepted.
    pub(super) fn new(client: OwnedFd, door: usize, deadline: Moment, now: Moment) -> Self {
        let (input, stage) = (Vec::new(), Stage::Head);
        Connection { client, door, stage, since: now, deadline, input, seen: 0, keeps: false, requests: 0 }
    }

    /// Eviction order when connections run short: the lowest rank first, and within a rank the oldest. `None` while
    /// tiny_http has its request.
    pub(super) fn rank(&self) -> Option<u8> {
        match self.stage {
            Stage::Linger { .. } => Some(0),
            Stage::Head => Some(1),
            Stage::Body(_) => Some(2),
            Stage::Write { .. } => Some(3),
            Stage::Ready(_) => Some(4),
            Stage::Behind(_) => None,
        }
    }

    /// A body is being read.
    pub(super) fn is_reading_body(&self) -> bool {
        matches!(self.stage, Stage::Body(_))
    }

    /// tiny_http has its request.
    pub(super) fn is_in_flight(&self) -> bool {
        matches!(self.stage, Stage::Behind(_))
    }

    /// Bytes of its response that the client has not read.
    pub(super) fn unread(&self) -> usize {
        match &self.stage {
            Stage::Write { bytes, written } => bytes.len() - written,
            _ => 0,
        }
    }

    /// No byte of a request has arrived, and the client had some time for one that was on its way.
    pub(super) fn is_idle(&self, now: Moment) -> bool {
        const ON_ITS_WAY: Duration = Duration::from_millis(100);
        matches!(self.stage, Stage::Head) && self.input.is_empty() && now.since(self.since) >= ON_ITS_WAY
    }

    /// Passes the request to tiny_http on this connection.
    pub(super) fn hand_over(&mut self, socket: OwnedFd, deadline: Moment, now: Moment) {
        if let Stage::Ready(request) = std::mem::replace(&mut self.stage, Stage::Head) {
            let behind = Behind { socket, request, sent: 0, response: Vec::new() };
            self.enter(Stage::Behind(behind), deadline, now);
        }
    }

    /// The time of this stage is over. Returns true if there is a response to send.
    pub(super) fn overdue(&mut self, service: &dyn Service, deadline: Moment, now: Moment) -> bool {
        let (path, head_only, status, sentence) = match &self.stage {
            Stage::Head if self.input.is_empty() => return false,
            Stage::Head => ("", false, 408, Reason::HeadTimeout.sentence()),
            Stage::Body(incoming) => {
                (&*incoming.path, incoming.head_only, 408, Reason::BodyTimeout.sentence())
            }
            Stage::Ready(_) | Stage::Behind(_) => {
                ("", false, 503, "There was no response in time. Try again.")
            }
            Stage::Write { .. } | Stage::Linger { .. } => return false,
        };
        let response = service.rejection(path, status, sentence);
        self.reject(&response, head_only, deadline, now);
        true
    }

    /// Continues until it would have to wait.
    pub(super) fn advance(&mut self, front: &Front<'_>, scratch: &mut [u8]) -> Next {
        let (mut taken, mut requests) = (0, self.requests);
        requests += RUN_REQUESTS as u64;
        loop {
            if taken > RUN_BYTES || self.requests > requests {
                return Next::Again;
            }
            let next = match self.stage {
                Stage::Ready(_) => return Next::Wait,
                Stage::Behind(_) => self.relay(front, scratch),
                Stage::Write { .. } => self.write(front),
                Stage::Linger { .. } => self.linger(scratch),
                Stage::Head | Stage::Body(_) => self.receive(front, scratch, &mut taken),
            };
            if let Some(next) = next {
                return next;
            }
        }
    }

    /// Continues with a head or a body from the input, or from one more read. A complete request leaves this loop.
    fn receive(&mut self, front: &Front<'_>, scratch: &mut [u8], taken: &mut usize) -> Option<Next> {
        let goes_on = match self.stage {
            Stage::Head => self.parse(front),
            _ => self.collect(front),
        };
        if goes_on {
            return matches!(self.stage, Stage::Ready(_)).then_some(Next::HandOver);
        }
        match self.read(scratch, taken, front) {
            Read::Some => None,
            Read::Later => Some(Next::Wait),
            Read::End => Some(Next::Close),
        }
    }

    fn enter(&mut self, stage: Stage, deadline: Moment, now: Moment) {
        (self.stage, self.since, self.deadline) = (stage, now, deadline);
    }

    fn read(&mut self, scratch: &mut [u8], taken: &mut usize, front: &Front<'_>) -> Read {
        match recv(&self.client, &mut *scratch, RecvFlags::DONTWAIT) {
            Ok((0, _)) => Read::End,
            Ok((count, _)) => {
                if matches!(self.stage, Stage::Head) && self.input.is_empty() {
                    self.deadline = front.now.after(front.limits.head);
                }
                *taken += count;
                self.input.extend_from_slice(&scratch[..count]);
                Read::Some
            }
            Err(Errno::AGAIN) => Read::Later,
            Err(Errno::INTR) => Read::Some,
            Err(_) => Read::End,
        }
    }

    /// Parses a head from the input. Returns true if the stage changed.
    fn parse(&mut self, front: &Front<'_>) -> bool {
        let limits = head::Limits::default();
        let is_full = self.input.len() >= limits.head;
        if self.input.is_empty() || !(is_full || head::may_be_complete(&self.input, self.seen)) {
            return false;
        }
        let input = std::mem::take(&mut self.input);
        let mut slots = Slots::new();
        match head::request(&input, &limits, &mut slots) {
            Ok(Parsed::Partial) => {
                (self.seen, self.input) = (input.len(), input);
                return false;
            }
            Ok(Parsed::Complete(head)) => {
                self.requests += 1;
                self.seen = 0;
                self.input = input[head.len..].to_vec();
                self.judge(&head, front);
            }
            Err(reason) => {
                let response = front.service.rejection("", reason.status(), reason.sentence());
                self.reject(&response, false, front.now.after(front.limits.write), front.now);
            }
        }
        true
    }

    /// Decides what to do with a request, from its head alone.
    fn judge(&mut self, head: &RequestHead<'_, '_>, front: &Front<'_>) {
        let head_only = head.method == b"HEAD";
        let has_body = !matches!(head.framing, Framing::None | Framing::Length(0));
        self.keeps = head.keep_alive && head.version == head::Version::Http11 && !front.is_stopping;
        let path = || path_of(head);
        let deadline = front.now.after(front.limits.write);
        let judged = catch_unwind(AssertUnwindSafe(|| front.service.judge(head, self.door)));
        let judged = judged.unwrap_or_else(|_| Some(front.service.rejection(&path(), 500, FAILED)));
        if let Some(response) = judged {
            // The body of a rejected request is not read, so the next request could not be found after it.
            return match has_body {
                true => self.reject(&response, head_only, deadline, front.now),
                false => self.respond(response.encode(head_only, !self.keeps), deadline, front.now),
            };
        }
        if matches!(head.framing, Framing::Length(length) if length > front.limits.body_max) {
            let response = front.service.rejection(&path(), 413, &too_long(front.limits));
            return self.reject(&response, head_only, deadline, front.now);
        }
        if head.expects_continue && self.input.is_empty() {
            // A client that does not read even this much gets the body timeout.
            let _ = send(&self.client, CONTINUE, SendFlags::DONTWAIT | SendFlags::NOSIGNAL);
        }
        let (head, body, path) = (forward::begin(head), head.body(), path());
        let incoming = Incoming { path, head_only, head, body, kept: Vec::new(), length: 0 };
        self.enter(Stage::Body(Box::new(incoming)), front.now.after(front.limits.body), front.now);
        self.collect(front);
    }

    /// Takes the available part of a body. Returns true if the stage changed.
    fn collect(&mut self, front: &Front<'_>) -> bool {
        let Stage::Body(incoming) = &mut self.stage else { return true };
        let fault = match incoming.take(&mut self.input, front.limits) {
            Ok(false) => return false,
            Ok(true) => {
                let mut request = std::mem::take(&mut incoming.head);
                forward::finish(&mut request, incoming.length, &incoming.kept);
                self.enter(Stage::Ready(request), front.now.after(front.limits.response), front.now);
                return true;
            }
            Err(fault) => fault,
        };
        let (status, sentence) = match fault {
            Reason::BodyTooLarge => (413, too_long(front.limits)),
            fault => (fault.status(), fault.sentence().to_owned()),
        };
        let (response, head_only) =
            (front.service.rejection(&incoming.path, status, &sentence), incoming.head_only);
        self.reject(&response, head_only, front.now.after(front.limits.write), front.now);
        true
    }

    /// Sends the request to tiny_http and reads its response to the end.
    fn relay(&mut self, front: &Front<'_>, scratch: &mut [u8]) -> Option<Next> {
        let Stage::Behind(behind) = &mut self.stage else { return None };
        let response = match behind.relay(scratch) {
            Ok(false) => return Some(Next::Wait),
            Ok(true) => std::mem::take(&mut behind.response),
            Err(_) => Vec::new(),
        };
        self.keeps &= !front.is_stopping;
        let deadline = front.now.after(front.limits.write);
        match response::completed(response, !self.keeps) {
            Some(response) => self.respond(response, deadline, front.now),
            None => self.reject(&front.service.rejection("", 500, FAILED), false, deadline, front.now),
        }
        None
    }

    fn respond(&mut self, bytes: Vec<u8>, deadline: Moment, now: Moment) {
        self.enter(Stage::Write { bytes, written: 0 }, deadline, now);
    }

    /// A response after which the connection ends.
    fn reject(&mut self, response: &Response, head_only: bool, deadline: Moment, now: Moment) {
        self.keeps = false;
        self.input.clear();
        self.respond(response.encode(head_only, true), deadline, now);
    }

    fn write(&mut self, front: &Front<'_>) -> Option<Next> {
        let Stage::Write { bytes, written } = &mut self.stage else { return None };
        if *written < bytes.len() {
            let rest = &bytes[*written..];
            match send(&self.client, rest, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(count) => {
                    *written += count;
                    self.deadline = front.now.after(front.limits.write);
                }
                Err(Errno::AGAIN) => return Some(Next::Wait),
                Err(Errno::INTR) => {}
                Err(_) => return Some(Next::Close),
            }
            return None;
        }
        if self.keeps {
            self.enter(Stage::Head, front.now.after(front.limits.idle), front.now);
            return None;
        }
        if shutdown(&self.client, Shutdown::Write).is_err() {
            return Some(Next::Close);
        }
        self.enter(Stage::Linger { dropped: 0 }, front.now.after(LINGER), front.now);
        None
    }

    /// Closing with unread input would send a reset, which can destroy the response before the client reads it (RFC
    /// 9112 section 9.6).
    fn linger(&mut self, scratch: &mut [u8]) -> Option<Next> {
        let Stage::Linger { dropped } = &mut self.stage else { return None };
        match recv(&self.client, &mut *scratch, RecvFlags::DONTWAIT) {
            Ok((count, _)) if count > 0 && *dropped <= RUN_BYTES => {
                *dropped += count;
                None
            }
            Err(Errno::INTR) => None,
            Err(Errno::AGAIN) => Some(Next::Wait),
            Ok(_) | Err(_) => Some(Next::Close),
        }
    }
}

/// The response when the service failed.
const FAILED: &str = "The request failed. The log has the details.";

fn too_long(limits: &Limits) -> String {
    format!("The body is longer than {} bytes.", limits.body_max)
}

/// The path of a target, without its query.
pub(super) fn path_of(head: &RequestHead<'_, '_>) -> String {
    let target = String::from_utf8_lossy(head.target);
    let path = target.split('?').next().unwrap_or_default();
    if head.slash_first { format!("/{path}") } else { path.to_owned() }
}
