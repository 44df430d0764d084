//! Layer 2, towards the server: a request, head and body, streamed in constant memory. What has been sent is kept while it
//! may serve to send it again (invariant 8).

mod collect;
mod server_name;
mod time_left;

pub use server_name::{NameSlot, Named};

use super::buffers::{BODY_BYTES, KEPT_BYTES, TURN_BYTES, keep_unsent};
use super::client::Client;
use super::context::Scratch;
use super::failure::Failure;
use super::socket::Then;
use super::splice::{Pipe, Pipes};
use super::transport::{Moved, Stream};
use crate::base::time::Moment;
use crate::http1::body::{Body, CHUNK_HEAD_MAX};
use crate::http1::reason::Reason;
use std::io::IoSlice;

/// How far the request came in one attempt.
#[derive(Debug)]
pub struct Progress {
    /// Bytes that are here of the request and were sent.
    sent: usize,
    /// Bytes were sent.
    begun: bool,
    /// The server takes no more of it.
    broken: bool,
    /// When bytes moved last, from the client or to the server.
    pub moved_at: Moment,
}

impl Progress {
    /// This server has taken nothing yet.
    pub fn none(now: Moment) -> Self {
        Progress { sent: 0, begun: false, broken: false, moved_at: now }
    }
}

/// A request on its way.
#[derive(Debug)]
pub struct Upload {
    /// The body as it comes from the client.
    body: Body,
    /// It goes to the server in chunks.
    chunked: bool,
    /// The most bytes of payload, where they are limited.
    limit: Option<u64>,
    /// Bytes of payload that have come.
    passed: u64,
    /// The request as it was passed on so far; once that is too much to keep, what the server has not taken yet.
    out: Vec<u8>,
    /// Of which so many are the head, as long as it is there.
    head_len: usize,
    /// Where in it the server is told how much time is left; 0 where it is not.
    deadline_at: usize,
    /// Where in it the name of the server belongs.
    name_slots: Vec<NameSlot>,
    /// `out` is the whole request so far.
    buffered: bool,
    /// Bytes of a long body that the server has not taken yet.
    pipe: Option<Pipe>,
    /// How far it came in this attempt.
    pub progress: Progress,
}

impl Upload {
    /// A request whose head is in `out`, and whose body is to come: in chunks or not, with at most `limit` bytes of payload.
    pub fn new(out: Vec<u8>, body: Body, chunked: bool, limit: Option<u64>, now: Moment) -> Self {
        Upload {
            body,
            chunked,
            limit,
            passed: 0,
            head_len: out.len(),
            deadline_at: 0,
            name_slots: Vec::new(),
            out,
            buffered: true,
            pipe: None,
            progress: Progress::none(now),
        }
    }

    /// Appends header lines to the head, before anything of it was sent.
    pub fn insert(&mut self, lines: &[u8]) {
        let end = self.head_len.saturating_sub(2);
        self.out.splice(end..end, lines.iter().copied());
        self.head_len += lines.len();
    }

    /// Takes what came in with the head; how many bytes of it belong to the body. [`Reason::BodyTooLarge`] before a byte
    /// is sent when the length says so already.
    pub fn take_early(&mut self, early: &mut [u8]) -> Result<usize, Reason> {
        if let (Some(limit), Some(length)) = (self.limit, self.body.remaining()) {
            if length > limit {
                return Err(Reason::BodyTooLarge);
            }
        }
        let (consumed, payload) = self.body.compact(early)?;
        self.count(payload)?;
        if consumed > 0 {
            self.keep(&early[..payload], 0);
        }
        Ok(consumed)
    }

    /// The client has sent all of it, and the server has taken all of it.
    pub fn is_done(&self) -> bool {
        self.body.is_done() && !self.progress.broken && !self.has_unsent()
    }

    /// The client has sent all of it.
    pub fn is_received(&self) -> bool {
        self.body.is_done()
    }

    /// The server takes no more of it.
    pub fn is_broken(&self) -> bool {
        self.progress.broken
    }

    /// Something was received that the server has not taken yet.
    pub fn has_unsent(&self) -> bool {
        self.progress.sent < self.out.len() || self.pipe.is_some()
    }

    /// All of the request so far is here, and can be sent again.
    pub fn is_buffered(&self) -> bool {
        self.buffered
    }

    /// The whole request as it goes to a server; `None` when it is not here as a whole.
    pub fn whole(&self) -> Option<&[u8]> {
        (self.buffered && self.is_received()).then_some(&self.out)
    }

    /// Bytes of it went out in this attempt.
    pub fn has_begun(&self) -> bool {
        self.progress.begun
    }

    /// Payload bytes so far.
    pub fn passed(&self) -> u64 {
        self.passed
    }

    /// A new attempt: this server has taken nothing yet.
    pub fn begin_attempt(&mut self, now: Moment) {
        self.progress = Progress::none(now);
    }

    /// Changes places with another attempt; the whole request is here.
    pub fn swap_attempt(&mut self, other: &mut Progress) {
        std::mem::swap(&mut self.progress, other);
    }

    /// The request line as it goes out, for logs and lists; empty once it is not kept any more.
    pub fn request_line(&self) -> &[u8] {
        let line = if self.buffered { &self.out[..] } else { &[] };
        line.split(|byte| *byte == b'\r').next().unwrap_or_default()
    }

    /// Whether it goes to the server in chunks.
    pub fn is_chunked(&self) -> bool {
        self.chunked
    }

    /// Gives its buffer back.
    pub fn take_buffer(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }

    /// Moves what can be moved: what is here to the server, then what the client has sent. `discards`: what the server
    /// does not take is dropped, for a response has begun. How many bytes moved.
    pub fn advance(
        &mut self,
        client: &mut Client,
        server: &mut Stream,
        scratch: &mut Scratch,
        discards: bool,
        now: Moment,
    ) -> Result<usize, Failure> {
        let mut moved = self.flush(server, &mut scratch.pipes);
        if !self.body.is_done() && !self.has_unsent() && (!self.progress.broken || discards) {
            moved += match self.splices(client, server) && scratch.pipes.has_one() {
                true => self.splice(client, server, &mut scratch.pipes)?,
                false => self.receive(client, Some(server), &mut scratch.body)?,
            };
        }
        if moved > 0 {
            self.progress.moved_at = now;
        }
        Ok(moved)
    }

    /// Sends what is here and was not sent.
    fn flush(&mut self, server: &mut Stream, pipes: &mut Pipes) -> usize {
        if self.progress.broken {
            return 0;
        }
        let mut moved = 0;
        if let Some(unsent) = self.out.get(self.progress.sent..).filter(|unsent| !unsent.is_empty()) {
            match server.send_some(unsent, Then::Open) {
                Ok(count) => {
                    self.progress.sent += count;
                    self.progress.begun |= count > 0;
                    moved += count;
                }
                // It has closed: what it said before that can still be received.
                Err(_) => self.breaks(),
            }
        }
        if !self.buffered && self.progress.sent == self.out.len() {
            self.out.clear();
            self.progress.sent = 0;
        }
        while let Some(mut pipe) = self.pipe.take() {
            match server.splice_from(&mut pipe) {
                Ok(Moved::Bytes(count)) => moved += count,
                Ok(_) => {
                    self.pipe = Some(pipe);
                    break;
                }
                Err(_) => self.breaks(),
            }
            if pipe.held() == 0 {
                pipes.give(pipe);
            } else if !self.progress.broken {
                self.pipe = Some(pipe);
            }
        }
        moved
    }

    /// The server takes no more.
    fn breaks(&mut self) {
        self.progress.broken = true;
        self.pipe = None;
        if !self.buffered {
            self.out.clear();
            self.progress.sent = 0;
        }
    }

    /// The server is given no more, though it might take it: its response is whole.
    pub fn give_up(&mut self) {
        self.breaks();
    }

    fn splices(&self, client: &Client, server: &Stream) -> bool {
        let is_long = self.body.remaining().is_some_and(|left| left >= TURN_BYTES as u64);
        let is_plain = client.input.is_empty() && client.stream.can_splice() && server.can_splice();
        is_long && is_plain && !self.chunked && !self.progress.broken
    }

    /// One pipe full of a long body, which is not looked at.
    fn splice(
        &mut self,
        client: &mut Client,
        server: &mut Stream,
        pipes: &mut Pipes,
    ) -> Result<usize, Failure> {
        let taken = client.stream.take_pipeful(pipes, self.body.remaining().unwrap_or(0));
        let Some(pipe) = taken.map_err(|_| Failure::last(Reason::ClientGone))? else { return Ok(0) };
        let count = pipe.held();
        self.buffered = false;
        self.body.skip(count as u64);
        self.count(count).map_err(Failure::last)?;
        self.pipe = Some(pipe);
        Ok(count + self.flush(server, pipes))
    }

    /// One piece: received, decoded, framed again and sent, or kept where there is no server yet.
    fn receive(
        &mut self,
        client: &mut Client,
        server: Option<&mut Stream>,
        scratch: &mut [u8],
    ) -> Result<usize, Failure> {
        // What lies behind the end of chunks belongs to the next request, and is kept until then.
        let room = if self.chunked { scratch.len().min(KEPT_BYTES) } else { scratch.len() };
        let room = self.body.remaining().map_or(room, |left| room.min(usize::try_from(left).unwrap_or(room)));
        let count = match client.recv(&mut scratch[..room]) {
            Ok(Moved::Bytes(count)) => count,
            Ok(Moved::Blocked) => return Ok(0),
            Ok(Moved::End) | Err(_) => return Err(Failure::last(Reason::ClientGone)),
        };
        let (consumed, payload) = self.body.compact(&mut scratch[..count]).map_err(Failure::last)?;
        self.count(payload).map_err(Failure::last)?;
        // What lies behind the body is the next request's, in front of what is here of it.
        client.input.splice(0..0, scratch[consumed..count].iter().copied());
        match server {
            Some(server) if !self.progress.broken => self.pass_on(&scratch[..payload], server),
            Some(_) => {}
            None => {
                self.buffered &= self.out.len() + payload <= BODY_BYTES;
                self.keep(&scratch[..payload], 0);
            }
        }
        Ok(count)
    }

    /// Sends a piece of the body, and keeps what has to be kept of it.
    fn pass_on(&mut self, payload: &[u8], server: &mut Stream) {
        self.buffered &= self.out.len() + payload.len() <= BODY_BYTES;
        let mut room = [0; CHUNK_HEAD_MAX];
        let parts = self.body.framed(self.chunked, payload, &mut room);
        let sent = server.send_parts(&mut parts.map(IoSlice::new), Then::Open);
        if sent.is_err() {
            self.breaks();
        }
        self.keep(payload, sent.unwrap_or(0));
    }

    /// Keeps a piece of which `sent` bytes are out: all of it while it may be sent again, otherwise what is not sent.
    fn keep(&mut self, payload: &[u8], sent: usize) {
        let mut out = std::mem::take(&mut self.out);
        if !self.buffered && self.progress.sent == out.len() {
            out.clear();
            self.progress.sent = 0;
        }
        if self.buffered || !self.progress.broken {
            let mut room = [0; CHUNK_HEAD_MAX];
            let parts = self.body.framed(self.chunked, payload, &mut room);
            keep_unsent(&parts, if self.buffered { 0 } else { sent }, &mut out);
        }
        if self.buffered {
            self.progress.sent += sent;
        }
        self.out = out;
    }

    fn count(&mut self, payload: usize) -> Result<(), Reason> {
        self.passed += payload as u64;
        if self.limit.is_some_and(|limit| self.passed > limit) { Err(Reason::BodyTooLarge) } else { Ok(()) }
    }
}
