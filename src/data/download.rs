//! Layer 2, towards the client: a response, interim and final heads and body, streamed in constant memory as it comes.

mod asking;

pub use asking::{Asking, Downloaded, Scratch, StreamEnd};

use super::buffers::SMALL_BODY_BYTES;
use super::client::{Client, Failure};
use super::socket::Then;
use super::splice::{PIPE_BYTES, Pipe, Pipes};
use super::transport::{Moved, Stream};
use crate::base::time::Moment;
use crate::http1::body::{Body, CHUNK_HEAD_MAX};
use crate::http1::encoding::{self, Encoder};
use crate::http1::event_stream::{self, Events};
use crate::http1::forward::{self, ResponseHop};
use crate::http1::framing::{Asked, Framing};
use crate::http1::head::{self, Parsed, ResponseHead, Version};
use crate::http1::names::Name;
use crate::http1::reason::Reason;
use crate::http1::reply;
use crate::policy::key::Key;
use crate::policy::orca::{self, Reported};
use std::io::IoSlice;

/// Interim responses that are passed on while the request does not move: some for each of its phases, and no stream of
/// them (golang/go#65035 has what a bound by number did to resumable uploads).
const INTERIM_BYTES: usize = 64 * 1024;

/// A response on its way.
#[derive(Debug)]
pub struct Download {
    /// A head, as far as it has come.
    head: Vec<u8>,
    /// When its first byte came.
    head_since: Option<Moment>,
    interim_bytes: usize,
    status: u16,
    /// The server responds as HTTP/1.0.
    http10: bool,
    /// The body as it comes from the server; none before the final head.
    body: Option<Body>,
    /// The head that is here as a whole is the client's, though its status is one to be tried elsewhere.
    is_final_try: bool,
    /// The final head is out, or kept for a client that takes it later.
    begun: bool,
    to_client: Framing,
    server_keeps: bool,
    client_keeps: bool,
    /// For a body that is encoded on its way.
    encoder: Option<Box<Encoder>>,
    /// For an event stream.
    events: Option<Events>,
    /// The server switched to WebSocket.
    websocket: bool,
    /// For the request that may pass.
    copied: Copied,
    /// The session that the server began.
    learned: Option<Key>,
    /// What the server said of its load; in a box, because few pools read that.
    reported: Option<Box<Reported>>,
    /// What the client has not taken yet.
    out: Vec<u8>,
    sent: usize,
    pipe: Option<Pipe>,
    bytes: u64,
    /// Those of them, sent or to be sent, that are heads.
    head_bytes: u64,
    /// When bytes moved last, from the server or to the client.
    pub moved_at: Moment,
}

/// What of a response has come in an attempt that waits beside another one, before its final head.
#[derive(Debug)]
pub struct Incoming {
    head: Vec<u8>,
    head_since: Option<Moment>,
    moved_at: Moment,
}

impl Incoming {
    /// Nothing, in an attempt that begins now.
    pub fn at(now: Moment) -> Self {
        Incoming { head: Vec::new(), head_since: None, moved_at: now }
    }
}

impl Download {
    /// Nothing has come yet. `out` is an empty buffer.
    pub fn new(out: Vec<u8>, now: Moment) -> Self {
        Download {
            head: Vec::new(),
            head_since: None,
            interim_bytes: 0,
            status: 0,
            http10: false,
            body: None,
            is_final_try: false,
            begun: false,
            to_client: Framing::None,
            server_keeps: false,
            client_keeps: false,
            encoder: None,
            events: None,
            websocket: false,
            copied: Copied::default(),
            learned: None,
            reported: None,
            out,
            sent: 0,
            pipe: None,
            bytes: 0,
            head_bytes: 0,
            moved_at: now,
        }
    }

    /// A new attempt: nothing of this server's response has come.
    pub fn begin_attempt(&mut self, now: Moment) {
        self.head.clear();
        self.is_final_try = false;
        (self.head_since, self.body, self.status, self.moved_at) = (None, None, 0, now);
        (self.encoder, self.events) = (None, None);
    }

    /// Changes places with another attempt, in which no final head has come either.
    pub fn swap_attempt(&mut self, other: &mut Incoming) {
        std::mem::swap(&mut self.head, &mut other.head);
        std::mem::swap(&mut self.head_since, &mut other.head_since);
        std::mem::swap(&mut self.moved_at, &mut other.moved_at);
    }

    /// After [`Downloaded::Retriable`]: no other server is tried, and the response is the client's.
    pub fn accept(&mut self) {
        self.is_final_try = true;
    }

    /// Bytes went to the client, or are to go.
    pub fn has_sent(&self) -> bool {
        self.bytes > 0 || self.has_unsent()
    }

    /// Something of a server's response is for the client, be it an interim one.
    fn has_passed_on(&self) -> bool {
        self.head_bytes > 0
    }

    /// Something of a response has come, or interim ones went to the client.
    pub fn has_incoming(&self) -> bool {
        self.begun || self.head_since.is_some() || self.has_passed_on()
    }

    /// The final response has begun: its head is on its way to the client.
    pub fn has_begun(&self) -> bool {
        self.begun
    }

    /// Its status; 0 before it has begun.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The server responds as HTTP/1.0.
    pub fn is_http10(&self) -> bool {
        self.http10
    }

    /// Since when a head is coming that is not complete.
    pub fn head_since(&self) -> Option<Moment> {
        self.head_since
    }

    /// The server has sent all of it.
    pub fn is_received(&self) -> bool {
        self.body.as_ref().is_some_and(Body::is_done)
    }

    /// No byte of a body has come, and none is announced.
    pub fn is_empty(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_empty)
    }

    /// The server has sent all of it, and the client has taken all of it.
    pub fn is_done(&self) -> bool {
        self.is_received() && !self.has_unsent()
    }

    /// Something was received that the client has not taken yet.
    pub fn has_unsent(&self) -> bool {
        self.sent < self.out.len() || self.pipe.is_some()
    }

    /// Bytes that were sent to the client.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The client's connection stays, as its head says.
    pub fn client_keeps(&self) -> bool {
        self.client_keeps
    }

    /// The server's connection may carry another request when both bodies are done.
    pub fn server_keeps(&self) -> bool {
        self.server_keeps
    }

    /// Only the close tells the client where the body ends.
    pub fn is_until_close(&self) -> bool {
        self.to_client == Framing::UntilClose
    }

    /// The request moved: further interim responses may follow.
    pub fn request_moved(&mut self) {
        self.interim_bytes = 0;
    }

    /// After [`Downloaded::Authorized`]: what is copied of that response.
    pub fn take_copied(&mut self) -> Copied {
        std::mem::take(&mut self.copied)
    }

    /// Takes a response of our own, in place of a server's. The connection to the client stays if `keeps`.
    pub fn replace(&mut self, status: u16, keeps: bool, write: impl FnOnce(&mut Vec<u8>)) {
        self.pipe = None;
        let start = self.out.len();
        write(&mut self.out);
        let end = memchr::memmem::find(&self.out[start..], b"\r\n\r\n");
        self.head_bytes += end.map_or(0, |end| end as u64 + 4);
        (self.status, self.client_keeps, self.server_keeps) = (status, keeps, false);
        (self.to_client, self.body, self.begun) = (Framing::None, Some(Body::new(Framing::None)), true);
    }

    /// A response of our own does not go out after all.
    pub fn forget(&mut self) {
        self.status = 0;
    }

    /// Bytes to the client that were no heads, so far.
    pub fn body_bytes(&self) -> u64 {
        self.bytes.saturating_sub(self.head_bytes)
    }

    /// Sends an interim response of our own.
    pub fn send_interim(&mut self, client: &mut Client, head: &[u8]) -> Result<(), Failure> {
        self.send_reply(client, &mut head.to_vec(), Then::Open)
    }

    /// The session that the server began with its response.
    pub fn take_learned(&mut self) -> Option<Key> {
        self.learned.take()
    }

    /// What the server said of its load.
    pub fn take_reported(&mut self) -> Option<Reported> {
        self.reported.take().map(|reported| *reported)
    }

    /// Gives its buffer back; what is in it stays unsent.
    pub fn take_buffer(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }

    /// After [`Downloaded::Upgraded`]: what the client has not taken of the head, and what the server sent behind it, with
    /// the position of the latter.
    pub fn take_rest(&mut self) -> (Vec<u8>, usize) {
        let mut rest = self.out.split_off(self.sent);
        let from = rest.len();
        rest.append(&mut self.head);
        (rest, from)
    }

    /// After [`Downloaded::Upgraded`]: the other protocol is WebSocket.
    pub fn is_websocket(&self) -> bool {
        self.websocket
    }

    /// Its body is an event stream, which may end wherever an event does.
    pub fn is_event_stream(&self) -> bool {
        self.events.is_some()
    }

    /// Sends what is here and was not sent. `then` follows when that is all. How many bytes moved; an error is the
    /// client's.
    pub fn flush(&mut self, client: &mut Client, then: Then, pipes: &mut Pipes) -> Result<usize, Failure> {
        let gone = |_| Failure::last(Reason::ClientGone);
        let mut moved = 0;
        if let Some(unsent) = self.out.get(self.sent..).filter(|unsent| !unsent.is_empty()) {
            moved = client.stream.send_some(unsent, then).map_err(gone)?;
            self.sent += moved;
        }
        if self.sent == self.out.len() {
            self.out.clear();
            self.sent = 0;
        }
        while let Some(mut pipe) = self.pipe.take_if(|_| self.sent == self.out.len()) {
            match client.stream.splice_from(&mut pipe).map_err(gone)? {
                Moved::Bytes(count) => moved += count,
                _ => {
                    self.pipe = Some(pipe);
                    break;
                }
            }
            match pipe.held() {
                0 => pipes.give(pipe),
                _ => self.pipe = Some(pipe),
            }
        }
        self.bytes += moved as u64;
        Ok(moved)
    }

    /// Moves what can be moved: what is here to the client, then what the server has sent.
    pub fn advance(
        &mut self,
        client: &mut Client,
        server: &mut Stream,
        scratch: &mut Scratch<'_>,
        asking: &Asking<'_>,
        now: Moment,
    ) -> Result<Downloaded, Failure> {
        // A step that failed may have left bytes of another exchange there (invariant 12).
        scratch.reply.clear();
        let mut moved = self.flush(client, self.then(asking), scratch.pipes)?;
        if !self.has_unsent() && !self.is_received() {
            let step = match &self.body {
                None => self.receive_head(client, server, scratch, asking, now)?,
                Some(_) if self.may_end(asking) => {
                    self.pass_on(client, scratch, asking, 0..0)?;
                    Downloaded::Moved(1)
                }
                Some(body) if self.splices(body, client, server) => {
                    Downloaded::Moved(self.splice(client, server, scratch.pipes)?)
                }
                Some(_) => Downloaded::Moved(self.receive_body(client, server, scratch, asking)?),
            };
            match step {
                Downloaded::Moved(count) => moved += count,
                Downloaded::Upgraded | Downloaded::Authorized | Downloaded::Error | Downloaded::Retriable => {
                    self.moved_at = now;
                    return Ok(step);
                }
            }
        }
        if moved > 0 {
            self.moved_at = now;
        }
        Ok(Downloaded::Moved(moved))
    }

    /// What follows the last bytes of the response.
    fn then(&self, asking: &Asking<'_>) -> Then {
        let is_end = self.is_received() && !self.client_keeps && asking.request_done;
        if is_end { Then::End } else { Then::Open }
    }

    /// More of a head; interim responses are passed on. The bytes that moved are those received.
    fn receive_head(
        &mut self,
        client: &mut Client,
        server: &mut Stream,
        scratch: &mut Scratch<'_>,
        asking: &Asking<'_>,
        now: Moment,
    ) -> Result<Downloaded, Failure> {
        let here = self.head.len();
        scratch.body[..here].copy_from_slice(&self.head);
        let count = match self.is_final_try {
            true => 0,
            false => match server.recv(&mut scratch.body[here..]) {
                Ok(Moved::Bytes(count)) => count,
                Ok(Moved::Blocked) => return Ok(Downloaded::Moved(0)),
                Ok(Moved::End) | Err(_) if here == 0 => return Err(Failure::RESET),
                Ok(Moved::End) | Err(_) => return Err(Failure::CUT),
            },
        };
        self.head.clear();
        self.head_since.get_or_insert(now);
        let (mut start, end) = (0, here + count);
        while start < end {
            match self.parse(scratch, start..end, asking)? {
                Found::Part => {
                    if end - start == scratch.body.len() {
                        return Err(Failure::last(Reason::ResponseHeadTooLarge));
                    }
                    self.head.extend_from_slice(&scratch.body[start..end]);
                    break;
                }
                Found::Nothing(len) => start += len,
                Found::Interim(len) => {
                    start += len;
                    self.head_since = None;
                    self.interim_bytes += len;
                    if self.interim_bytes > INTERIM_BYTES {
                        return Err(Failure::last(Reason::BadResponse));
                    }
                    self.head_bytes += scratch.reply.len() as u64;
                    self.send_reply(client, scratch.reply, Then::Open)?;
                }
                Found::Authorized(len) => {
                    let rest = &mut scratch.body[start + len..end];
                    let whole = rest.len();
                    let consumed = self.body.as_mut().and_then(|body| Some(body.compact(rest).ok()?.0));
                    let is_done = self.body.as_ref().is_some_and(Body::is_done);
                    // What comes later of its body, or behind it, is not waited for.
                    self.server_keeps &= is_done && consumed == Some(whole);
                    return Ok(Downloaded::Authorized);
                }
                Found::Error => return Ok(Downloaded::Error),
                Found::Retriable(len) => {
                    self.drop_body(&scratch.body[start + len..end], asking);
                    self.head.extend_from_slice(&scratch.body[start..end]);
                    return Ok(Downloaded::Retriable);
                }
                Found::Final(len) if self.status == 101 => {
                    self.head.extend_from_slice(&scratch.body[start + len..end]);
                    self.send_reply(client, scratch.reply, Then::Open)?;
                    return Ok(Downloaded::Upgraded);
                }
                Found::Page { len, page } => {
                    self.drop_body(&scratch.body[start + len..end], asking);
                    (self.head_since, self.body) = (None, Some(Body::new(Framing::None)));
                    self.head_bytes += (scratch.reply.len() - page) as u64;
                    self.pass_on(client, scratch, asking, 0..0)?;
                    break;
                }
                Found::Final(len) => {
                    self.head_since = None;
                    self.head_bytes += scratch.reply.len() as u64;
                    self.begin_body(client, server, scratch, asking, start + len..end)?;
                    break;
                }
            }
        }
        Ok(Downloaded::Moved(count))
    }

    /// The body of this response goes to no client. Its connection may be kept if all of it is here.
    fn drop_body(&mut self, here: &[u8], asking: &Asking<'_>) {
        let mut here = here.to_vec();
        let consumed = self.body.take().and_then(|mut body| {
            let consumed = body.compact(&mut here).ok()?.0;
            body.is_done().then_some(consumed)
        });
        self.server_keeps &= consumed == Some(here.len()) && asking.request_done;
    }

    /// The head is complete: it goes out with what is here of the body.
    fn begin_body(
        &mut self,
        client: &mut Client,
        server: &mut Stream,
        scratch: &mut Scratch<'_>,
        asking: &Asking<'_>,
        mut span: std::ops::Range<usize>,
    ) -> Result<(), Failure> {
        let awaits_body = self.body.as_ref().and_then(Body::remaining).is_some_and(|left| left > 0);
        if span.is_empty() && awaits_body && server.may_read() {
            // Head and body often come in two segments: if the second is here already, they go on as one.
            if let Ok(Moved::Bytes(count)) = server.recv(scratch.body) {
                span = 0..count;
            }
        }
        self.pass_on(client, scratch, asking, span)
    }

    /// Whether its event stream is to end here.
    fn may_end(&self, asking: &Asking<'_>) -> bool {
        match (asking.stream_end, &self.events) {
            (Some(StreamEnd::AfterEvent), Some(events)) => events.is_between(),
            (Some(StreamEnd::Now), Some(_)) => true,
            _ => false,
        }
    }

    /// How many of these bytes of an event stream the client gets: where it is to end, that is its end.
    fn follow_events(&mut self, payload: &[u8], asking: &Asking<'_>) -> usize {
        let Some(events) = &mut self.events else { return payload.len() };
        let end = match asking.stream_end {
            None => None,
            Some(StreamEnd::AfterEvent) => events.whole(payload),
            Some(StreamEnd::Now) => Some(payload.len()),
        };
        let len = end.unwrap_or(payload.len());
        events.follow(&payload[..len]);
        if end.is_some() && self.body.as_ref().is_some_and(|body| !body.is_done()) {
            // What the server says from here on belongs to nothing.
            (self.body, self.server_keeps) = (Some(Body::new(Framing::None)), false);
        }
        len
    }

    fn receive_body(
        &mut self,
        client: &mut Client,
        server: &mut Stream,
        scratch: &mut Scratch<'_>,
        asking: &Asking<'_>,
    ) -> Result<usize, Failure> {
        match server.recv(scratch.body) {
            Ok(Moved::Bytes(count)) => self.pass_on(client, scratch, asking, 0..count).map(|()| count),
            Ok(Moved::Blocked) => Ok(0),
            Ok(Moved::End) if self.body.as_mut().is_some_and(Body::close) => {
                // The server closed, and that was the end: say so in the client's framing.
                self.pass_on(client, scratch, asking, 0..0).map(|()| 1)
            }
            Ok(Moved::End) | Err(_) => Err(Failure::last(Reason::ResponseTruncated)),
        }
    }

    /// Decodes a piece of the body, frames it again, and sends it with the head in front of it if that has not gone yet,
    /// and with the end behind it if this is it.
    fn pass_on(
        &mut self,
        client: &mut Client,
        scratch: &mut Scratch<'_>,
        asking: &Asking<'_>,
        span: std::ops::Range<usize>,
    ) -> Result<(), Failure> {
        let Some(body) = self.body.as_mut() else { return Ok(()) };
        // As long as nothing went out, the client gets a response of our own at a fault.
        let fault = if self.begun { Reason::ResponseTruncated } else { Reason::BadResponse };
        let received = &mut scratch.body[span];
        let (consumed, payload) = body.compact(received).map_err(|_| Failure::last(fault))?;
        // What the server sent beyond its response belongs to nothing.
        self.server_keeps &= consumed == received.len();
        self.begun = true;
        let payload = self.follow_events(&received[..payload], asking);
        let then = self.then(asking);
        let Some(body) = self.body.as_ref() else { return Ok(()) };
        let mut room = [0; CHUNK_HEAD_MAX];
        let mut encoder = self.encoder.take();
        let payload = match &mut encoder {
            None => &received[..payload],
            Some(encoder) => {
                let encoded = encoder.encode(&received[..payload], body.is_done());
                encoded.map_err(|_| Failure::last(Reason::ResponseTruncated))?
            }
        };
        let parts = framed(body, self.to_client, payload, &mut room);
        if payload.len() <= SMALL_BODY_BYTES {
            parts.iter().for_each(|part| scratch.reply.extend_from_slice(part));
            self.encoder = encoder;
            return self.send_reply(client, scratch.reply, then);
        }
        let [head, payload, tail, zero, trailers, end] = parts;
        let all = [&scratch.reply[..], head, payload, tail, zero, trailers, end];
        let sent = send_parts(&mut client.stream, all, then)?;
        self.bytes += sent as u64;
        let mut skipped = sent;
        for part in all {
            let skip = skipped.min(part.len());
            self.out.extend_from_slice(&part[skip..]);
            skipped -= skip;
        }
        self.encoder = encoder;
        scratch.reply.clear();
        Ok(())
    }

    /// Sends a short message, and keeps what the client does not take now.
    fn send_reply(&mut self, client: &mut Client, reply: &mut Vec<u8>, then: Then) -> Result<(), Failure> {
        let sent = match self.has_unsent() {
            true => 0,
            false => client.stream.send_some(reply, then).map_err(|_| Failure::last(Reason::ClientGone))?,
        };
        self.bytes += sent as u64;
        self.out.extend_from_slice(&reply[sent..]);
        reply.clear();
        Ok(())
    }

    fn splices(&self, body: &Body, client: &Client, server: &Stream) -> bool {
        let is_long = body.remaining().is_some_and(|left| left >= PIPE_BYTES as u64);
        is_long && self.to_client != Framing::Chunked && client.stream.can_splice() && server.can_splice()
    }

    /// One pipe full of a long body, which is not looked at.
    fn splice(
        &mut self,
        client: &mut Client,
        server: &mut Stream,
        pipes: &mut Pipes,
    ) -> Result<usize, Failure> {
        let Some(body) = self.body.as_mut() else { return Ok(0) };
        let taken = server.take_pipeful(pipes, body.remaining().unwrap_or(0));
        let taken = taken.map_err(|_| Failure::last(Reason::ResponseTruncated))?;
        let Some(pipe) = taken else { return Ok(0) };
        let count = pipe.held();
        body.skip(count as u64);
        self.pipe = Some(pipe);
        self.flush(client, Then::Open, pipes)?;
        Ok(count)
    }

    fn parse(
        &mut self,
        scratch: &mut Scratch<'_>,
        span: std::ops::Range<usize>,
        asking: &Asking<'_>,
    ) -> Result<Found, Failure> {
        let bytes = &scratch.body[span];
        if asking.reused && bytes.starts_with(b"\r\n") {
            return Ok(Found::Nothing(2));
        }
        let parsed = head::response(bytes, asking.asked, asking.limits, scratch.slots);
        let head = match parsed.map_err(Failure::last)? {
            Parsed::Partial => return Ok(Found::Part),
            Parsed::Complete(head) => head,
        };
        scratch.reply.clear();
        let upgraded = head.status == 101;
        // Another protocol begins behind the request, and only where it was asked for (RFC 9110 sections 7.8, 15.2.2).
        if upgraded && !(asking.upgrade && asking.request_done) {
            return Err(Failure::last(Reason::BadResponse));
        }
        let page =
            asking.pages.and_then(|(pages, form, id)| Some((pages.instead_of(head.status)?, form, id)));
        let page = page.filter(|_| asking.copies.is_none());
        let mut body = Vec::new();
        let page = page.map(|(page, form, id)| reply::instead(head.status, form, page, id, &mut body));
        let suits = head.status >= 200
            && page.is_none()
            && asking.compression.is_some_and(|(compression, _)| compression.suits(&head, asking.asked));
        let renews = asking.compression.is_some_and(|(compression, _)| compression.renews(&head));
        let taken = asking.compression.and_then(|(_, coding)| coding);
        let coding = taken.filter(|_| encoding::may_encode(suits, asking.asked, asking.version));
        // Without memory for it the body is sent as it is.
        self.encoder = coding.and_then(|coding| Encoder::new(coding).ok().map(Box::new));
        let is_encoded = self.encoder.is_some();
        let to_client = match page {
            Some(_) => Framing::Length(body.len() as u64),
            None if is_encoded => Framing::Chunked,
            None => framing_for(asking.version, &head),
        };
        let client_keeps = asking.may_keep && asking.request_done && to_client != Framing::UntilClose;
        let hop = ResponseHop {
            client: asking.version,
            framing: to_client,
            keep_alive: client_keeps,
            pseudonym: asking.pseudonym,
            served_by: asking.served_by,
            hides_load_metrics: asking.load_metric.is_some(),
            date: asking.date,
            request_id: asking.request_id,
            coding: coding.filter(|_| is_encoded),
            page,
            weakens_tag: renews && asking.has_weak_tag && taken.is_some(),
            varies: (suits || renews) && !encoding::is_varied(&head.fields),
            lines: asking.lines,
            session: asking.session,
            edits: asking.edits,
        };
        if head.status < 200 && !upgraded {
            // An HTTP/1.0 client knows no interim responses (RFC 9110 section 15.2).
            if asking.version == Version::Http11 && asking.copies.is_none() {
                forward::response(&head, &hop, scratch.reply);
            }
            return Ok(Found::Interim(head.len));
        }
        let is_retriable = asking.retries_on.is_some_and(|statuses| statuses.has(head.status));
        if asking.passes_errors_over && (head.status >= 500 || is_retriable) {
            (self.status, self.http10) = (head.status, head.version == Version::Http10);
            return Ok(Found::Error);
        }
        if is_retriable && !self.is_final_try && !self.has_passed_on() {
            (self.status, self.http10) = (head.status, head.version == Version::Http10);
            (self.body, self.server_keeps, self.encoder) = (Some(head.body()), head.keep_alive, None);
            return Ok(Found::Retriable(head.len));
        }
        if let Some(auth) = asking.copies.filter(|_| (200..300).contains(&head.status)) {
            forward::copied(&head.fields, &auth.copy_headers, &mut self.copied.to_server);
            forward::copied(&head.fields, &auth.copy_to_response, &mut self.copied.to_client);
            (self.status, self.server_keeps, self.http10) =
                (head.status, head.keep_alive, head.version == Version::Http10);
            (self.body, self.encoder) = (Some(head.body()), None);
            return Ok(Found::Authorized(head.len));
        }
        self.learned = asking.learns.and_then(|(name, sessions)| {
            let lines = head.fields.iter().filter(|field| field.name.eq_ignore_ascii_case(b"set-cookie"));
            lines.filter_map(|field| sessions.key_of(field.value, name)).last()
        });
        if let Some((metric, true)) = asking.load_metric {
            let value = head.fields.values(Name::LoadMetrics).next();
            self.reported = Some(Box::new(orca::read_if_any(value, metric)));
        }
        forward::response(&head, &hop, scratch.reply);
        (self.status, self.to_client, self.client_keeps) = (head.status, to_client, client_keeps);
        (self.server_keeps, self.http10) = (head.keep_alive, head.version == Version::Http10);
        self.body = Some(head.body());
        if page.is_some() {
            self.events = None;
            let written = if asking.asked == Asked::Head { &[] } else { &body[..] };
            scratch.reply.extend_from_slice(written);
            return Ok(Found::Page { len: head.len, page: written.len() });
        }
        let is_endless = matches!(head.framing, Framing::Chunked | Framing::UntilClose);
        let is_stream = is_endless && event_stream::is_event_stream(&head.fields);
        self.events = is_stream.then(Events::default);
        self.websocket = upgraded
            && head.fields.values(Name::Upgrade).any(|value| value.eq_ignore_ascii_case(b"websocket"));
        Ok(Found::Final(head.len))
    }
}

/// Header lines of the response that lets a request pass, each with its line end.
#[derive(Debug, Default)]
pub struct Copied {
    /// For the request.
    pub to_server: Vec<u8>,
    /// For the response to it.
    pub to_client: Vec<u8>,
}

/// What a look at the server's bytes found.
enum Found {
    Part,
    /// So many bytes that mean nothing.
    Nothing(usize),
    /// An interim response of this length; the head for the client is in `reply`, which may be empty.
    Interim(usize),
    /// The final head, of this length.
    Final(usize),
    /// The same, of a response of which a page takes the place of the body: it is in `reply` behind the head, so long.
    Page {
        len: usize,
        page: usize,
    },
    /// The same, of a response that lets the request pass.
    Authorized(usize),
    /// An error that is not passed on.
    Error,
    /// The head, of this length, of an error that is not passed on if another server can be tried.
    Retriable(usize),
}

/// A length that the server declared is passed on; a body that ends by chunks or by closing becomes chunks, or a close
/// for HTTP/1.0.
fn framing_for(client: Version, head: &ResponseHead<'_, '_>) -> Framing {
    match (head.framing, client) {
        (Framing::Chunked | Framing::UntilClose, Version::Http11) => Framing::Chunked,
        (Framing::Chunked | Framing::UntilClose, Version::Http10) => Framing::UntilClose,
        (known, _) => known,
    }
}

/// The payload in the client's framing, with the end of the body when this is it.
fn framed<'a>(
    body: &'a Body,
    to_client: Framing,
    payload: &'a [u8],
    room: &'a mut [u8; CHUNK_HEAD_MAX],
) -> [&'a [u8]; 6] {
    match to_client {
        Framing::Chunked => body.chunked(payload, room),
        _ => [payload, b"", b"", b"", b"", b""],
    }
}

/// Sends all that there is room for; how many bytes that were.
fn send_parts(client: &mut Stream, parts: [&[u8]; 7], then: Then) -> Result<usize, Failure> {
    let mut slices = parts.map(IoSlice::new);
    let mut left = &mut slices[..];
    IoSlice::advance_slices(&mut left, 0);
    let mut sent = 0;
    while !left.is_empty() {
        match client.send(left, then).map_err(|_| Failure::last(Reason::ClientGone))? {
            Moved::Bytes(count) => {
                sent += count;
                IoSlice::advance_slices(&mut left, count);
            }
            _ => break,
        }
    }
    Ok(sent)
}

#[cfg(test)]
mod tests {
    use super::super::poller::{Side, Token};
    use super::super::simulation::Wire;
    use super::super::transport::Transport;
    use super::*;
    use crate::http1::head::{Limits, Slots};

    const ASKING: Asking<'_> = Asking {
        asked: Asked::Other,
        version: Version::Http11,
        upgrade: false,
        request_done: true,
        copies: None,
        passes_errors_over: false,
        retries_on: None,
        pages: None,
        may_keep: true,
        pseudonym: "p",
        edits: None,
        served_by: None,
        date: "d",
        request_id: None,
        lines: b"",
        session: b"",
        learns: None,
        load_metric: None,
        compression: None,
        has_weak_tag: false,
        stream_end: None,
        limits: &Limits { head: 4096, headers: 10, uri: 100, trace: false },
        reused: false,
    };

    /// A response on its way: the balancer's ends, the far ends of client and server.
    struct Way {
        download: Download,
        client: Client,
        server: Stream,
        far_client: Wire,
        far_server: Wire,
    }

    impl Way {
        fn new() -> Self {
            let ((near_client, far_client), (near_server, far_server)) = (Wire::pair(1000), Wire::pair(1000));
            let stream = |side, wire| Stream::new(Transport::Simulated(wire), Token::new(side, 1, 1));
            Way {
                download: Download::new(Vec::new(), Moment::START),
                client: Client { stream: stream(Side::Client, near_client), input: Vec::new() },
                server: stream(Side::Server, near_server),
                far_client,
                far_server,
            }
        }

        /// The server sends this, and one step is made with the worker's buffer.
        fn step(&mut self, bytes: &str, reply: &mut Vec<u8>) -> Result<Downloaded, Failure> {
            self.step_to(bytes, reply, None)
        }

        /// The same, where an event stream is to end.
        fn step_to(
            &mut self,
            bytes: &str,
            reply: &mut Vec<u8>,
            stream_end: Option<StreamEnd>,
        ) -> Result<Downloaded, Failure> {
            if !bytes.is_empty() {
                self.far_server.send(&[IoSlice::new(bytes.as_bytes())]).unwrap();
            }
            self.far_server.shared().lock().deliver(1, bytes.len());
            let mut body = vec![0; 8192];
            let (slots, pipes) = (&mut Slots::new(), &mut Pipes::default());
            let mut scratch = Scratch { body: &mut body, reply, slots, pipes };
            self.server.notify(super::super::poller::Ready { readable: true, ..Default::default() });
            let asking = Asking { stream_end, ..ASKING };
            self.download.advance(&mut self.client, &mut self.server, &mut scratch, &asking, Moment::START)
        }

        /// What has reached the client.
        fn received(&mut self) -> String {
            self.far_client.shared().lock().deliver(0, 1000);
            let mut bytes = vec![0; 1000];
            let count = self.far_client.recv(&mut bytes).unwrap_or(0);
            String::from_utf8_lossy(&bytes[..count]).into_owned()
        }
    }

    #[test]
    fn an_event_stream_ends_behind_an_event_or_behind_what_has_come() {
        const HEAD: &str =
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
        let check = |end, pieces: &[&str], expected: &str| {
            let (mut way, mut reply) = (Way::new(), Vec::new());
            way.step(&format!("{HEAD}3\r\na\n\n\r\n2\r\nb:\r\n"), &mut reply).unwrap();
            way.received();
            pieces.iter().for_each(|piece| _ = way.step_to(piece, &mut reply, Some(end)).unwrap());
            assert_eq!(way.received(), expected, "{end:?} {pieces:?}");
            assert_eq!(way.download.is_done(), expected.ends_with("0\r\n\r\n"));
            assert!(!way.download.server_keeps() || !way.download.is_done());
        };
        check(StreamEnd::Now, &[""], "0\r\n\r\n");
        check(StreamEnd::AfterEvent, &[""], "");
        check(StreamEnd::AfterEvent, &["1\r\n1\r\n"], "1\r\n1\r\n");
        check(StreamEnd::AfterEvent, &["5\r\n1\n\nc:\r\n"], "3\r\n1\n\n\r\n0\r\n\r\n");
        check(StreamEnd::AfterEvent, &["2\r\n1\n\r\n", "2\r\n\nc\r\n"], "2\r\n1\n\r\n1\r\n\n\r\n0\r\n\r\n");
    }

    #[test]
    fn what_a_client_that_left_did_not_take_goes_to_no_other() {
        let (mut gone, mut other, mut reply) = (Way::new(), Way::new(), Vec::new());
        for way in [&mut gone, &mut other] {
            way.step("HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n01234", &mut reply).unwrap();
        }
        other.received();
        // The client leaves, and no event has told of it when the next piece is sent.
        let Way { far_client, .. } = &mut gone;
        far_client.reset_on_close();
        drop(std::mem::replace(far_client, Wire::pair(0).0));
        let failure = gone.step("SECRET", &mut reply).unwrap_err();
        assert_eq!(failure.reason, Reason::ClientGone);
        other.step("56789", &mut reply).unwrap();
        assert_eq!(other.received(), "56789");
    }
}
