//! Step 8, towards the server: the request's body, streamed in constant memory. What has been sent is kept
//! while that may serve to send it again (law 8).

use super::Plane;
use super::dial::Link;
use super::hands::{Failure, Hands, Request};
use super::socket::{Then, Want};
use super::splice::{self, Pipe};
use super::stream::Stream;
use crate::base::time;
use crate::http1::body::{Body, CHUNK_HEAD_MAX, chunk_head};
use crate::http1::framing::Framing;
use crate::http1::head::RequestHead;
use crate::http1::reason::Reason;
use crate::state::stats::Counter;
use std::io::{self, IoSlice};

/// The most that is kept of a body to send it again.
pub const REPLAY_MAX: usize = 64 * 1024;

/// After so many bytes without a wait the server is listened to: it may have answered, and want no more.
const HEAR_AFTER: usize = 1 << 20;

/// A request's body on its way.
#[derive(Debug)]
pub struct Upload {
    body: Body,
    chunked: bool,
    limit: Option<u64>,
    passed: u64,
    /// Bytes that came in with the head, and belong to the body.
    early_used: usize,
    /// All that was sent of the request is still in `Hands::out`.
    in_hand: bool,
    /// A piece was cut short: the server cannot get the rest any more.
    broken: bool,
}

/// What one go at the client's bytes brought.
enum Got {
    /// So many, and they were passed on.
    Bytes(usize),
    Nothing,
    /// The server says something, or takes no more.
    Answer,
}

/// Why pumping stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pumped {
    /// The whole body has been sent.
    Done,
    /// The server says something, or has closed.
    Answering,
}

impl Upload {
    /// A body of which nothing was read yet.
    pub fn new(head: &RequestHead<'_, '_>, limit: Option<u64>) -> Self {
        let chunked = head.framing == Framing::Chunked;
        Upload { body: head.body(), chunked, limit, passed: 0, early_used: 0, in_hand: true, broken: false }
    }

    /// Appends to the head in `out` what came in with it of the body. `BodyTooLarge` before a byte is sent when
    /// the length says so already.
    pub fn start(&mut self, early: &[u8], hands: &mut Hands) -> Result<(), Reason> {
        if let (Some(limit), Some(length)) = (self.limit, self.body.remaining()) {
            if length > limit {
                return Err(Reason::BodyTooLarge);
            }
        }
        hands.relay.clear();
        while self.early_used < early.len() && !self.body.is_done() {
            let step = self.body.step(&early[self.early_used..])?;
            self.early_used += step.consumed;
            hands.relay.extend_from_slice(step.data);
            if step.consumed == 0 {
                break;
            }
        }
        self.count(hands.relay.len())?;
        let mut room = [0; CHUNK_HEAD_MAX];
        let Hands { relay, out, .. } = hands;
        for part in self.framed(relay, &mut room) {
            out.extend_from_slice(part);
        }
        Ok(())
    }

    /// Bytes behind the head that the body took.
    pub fn early_used(&self) -> usize {
        self.early_used
    }

    /// The client has sent all of it, and all of it was passed on.
    pub fn is_done(&self) -> bool {
        self.body.is_done() && !self.broken
    }

    /// Nothing more will be sent: it is done, or the server does not take the rest.
    pub fn is_over(&self) -> bool {
        self.body.is_done() || self.broken
    }

    /// Nothing of the body is lost to a second attempt: what was passed on is kept, even where the server did not
    /// take it.
    pub fn is_in_hand(&self) -> bool {
        self.in_hand
    }

    /// A new attempt: this server has refused nothing yet.
    pub fn begins_again(&mut self) {
        self.broken = false;
    }

    /// Payload bytes so far.
    pub fn passed(&self) -> u64 {
        self.passed
    }

    /// What came in behind the head went another way (a tunnel took it).
    pub fn takes_all_early(&mut self, early: usize) {
        self.early_used = early;
    }

    /// The server did not take the rest.
    pub fn breaks(&mut self) {
        self.broken = true;
    }

    /// Passes on what the client sends until the body is done or the server says something.
    pub fn pump(
        &mut self,
        plane: &Plane,
        hands: &mut Hands,
        request: &Request<'_>,
        link: &Link,
    ) -> Result<Pumped, Failure> {
        hands.stream.begin(plane, time::now());
        let pumped = self.pump_on(plane, hands, request, link);
        hands.stream.pause();
        pumped
    }

    fn pump_on(
        &mut self,
        plane: &Plane,
        hands: &mut Hands,
        request: &Request<'_>,
        link: &Link,
    ) -> Result<Pumped, Failure> {
        let mut unheard = 0;
        while !self.body.is_done() {
            hands.stream.look(plane);
            // A client that never makes us wait leaves no time to hear the server but this.
            if unheard >= HEAR_AFTER && !link.socket.is_quiet() {
                return Ok(Pumped::Answering);
            }
            unheard = if unheard >= HEAR_AFTER { 0 } else { unheard };
            let is_long = !self.chunked && self.body.remaining().is_some_and(|left| left >= splice::LONG);
            let pipe = if is_long && !self.broken { hands.pipe() } else { None };
            let got = match pipe {
                Some(pipe) => self.splice(plane, hands, request, link, pipe)?,
                None => self.copy(plane, hands, request, link)?,
            };
            match got {
                Got::Bytes(count) => unheard += count,
                Got::Nothing if self.await_client(plane, hands, request, link)? => {
                    return Ok(Pumped::Answering);
                }
                Got::Nothing => unheard = 0,
                Got::Answer => return Ok(Pumped::Answering),
            }
        }
        Ok(Pumped::Done)
    }

    /// Waits for more of the body; true when the server says something instead.
    fn await_client(
        &self,
        plane: &Plane,
        hands: &mut Hands,
        request: &Request<'_>,
        link: &Link,
    ) -> Result<bool, Failure> {
        let (client, server) = ((&request.connection.socket, Want::Read), (&link.socket, Want::Read));
        match hands.stream.wait_for_client(plane, client, server, plane.config.timeouts.client_body) {
            Ok([_, server]) => Ok(server.read),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                Err(Failure::client(Reason::BodyTimeout))
            }
            Err(_) => Err(Failure::client(Reason::Internal)),
        }
    }

    /// One piece, read, decoded, framed anew and sent.
    fn copy(
        &mut self,
        plane: &Plane,
        hands: &mut Hands,
        request: &Request<'_>,
        link: &Link,
    ) -> Result<Got, Failure> {
        let count = self.receive(plane, hands, request)?;
        match count {
            0 => Ok(Got::Nothing),
            _ if self.send(plane, hands, link)? == Pumped::Answering => Ok(Got::Answer),
            count => Ok(Got::Bytes(count)),
        }
    }

    /// One pipe full of a long body, which nobody looks at. The pipe is kept when it is empty again.
    fn splice(
        &mut self,
        plane: &Plane,
        hands: &mut Hands,
        request: &Request<'_>,
        link: &Link,
        mut pipe: Pipe,
    ) -> Result<Got, Failure> {
        hands.read_client = true;
        self.in_hand = false;
        request.connection.handover.reads();
        let count = match pipe.fill(&request.connection.socket, self.body.remaining().unwrap_or(0)) {
            Ok(0) => return Err(Failure::client(Reason::ClientGone)),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                hands.pipe = Some(pipe);
                return Ok(Got::Nothing);
            }
            Err(_) => return Err(Failure::client(Reason::ClientGone)),
        };
        self.body.skip(count as u64);
        hands.stream.moves(count);
        self.count(count).map_err(Failure::client)?;
        while pipe.held() > 0 {
            match pipe.empty(&link.socket) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if answers_instead(plane, &mut hands.stream, link)? {
                        self.broken = true;
                        return Ok(Got::Answer);
                    }
                }
                Err(_) => {
                    self.broken = true;
                    return Ok(Got::Answer);
                }
            }
        }
        hands.pipe = Some(pipe);
        Ok(Got::Bytes(count))
    }

    /// One read from the client into `relay`, decoded; how many bytes that were, 0 when there was nothing to read.
    fn receive(&mut self, plane: &Plane, hands: &mut Hands, request: &Request<'_>) -> Result<usize, Failure> {
        // A chunked body may end before the read does, and then the rest is the next request's: read no more
        // at once than fits where that goes.
        let room = if self.chunked { plane.config.limits.head.head } else { hands.relay.capacity() };
        let room = self.body.remaining().map_or(room, |left| room.min(usize::try_from(left).unwrap_or(room)));
        hands.read_client = true;
        hands.relay.resize(room, 0);
        request.connection.handover.reads();
        let count = match request.connection.socket.recv_now(&mut hands.relay) {
            Ok(0) => return Err(Failure::client(Reason::ClientGone)),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(0),
            Err(_) => return Err(Failure::client(Reason::ClientGone)),
        };
        let (consumed, payload) = self.body.compact(&mut hands.relay[..count]).map_err(Failure::client)?;
        hands.spill.extend_from_slice(&hands.relay[consumed..count]);
        hands.relay.truncate(payload);
        hands.stream.moves(payload);
        self.count(payload).map_err(Failure::client)?;
        Ok(count)
    }

    /// Sends what is in `relay`, framed. A server that answers instead of reading is heard.
    fn send(&mut self, plane: &Plane, hands: &mut Hands, link: &Link) -> Result<Pumped, Failure> {
        let mut room = [0; CHUNK_HEAD_MAX];
        let Hands { relay, out, stream, .. } = hands;
        self.in_hand &= out.len() + relay.len() <= REPLAY_MAX;
        let parts = self.framed(relay, &mut room);
        if self.in_hand {
            parts.iter().for_each(|part| out.extend_from_slice(part));
        }
        let mut slices = parts.map(IoSlice::new);
        let mut left = &mut slices[..];
        IoSlice::advance_slices(&mut left, 0);
        while !left.is_empty() {
            match link.socket.send_parts_now(left, Then::Open) {
                Ok(sent) => IoSlice::advance_slices(&mut left, sent),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if answers_instead(plane, stream, link)? {
                        self.broken = true;
                        return Ok(Pumped::Answering);
                    }
                }
                // It closed its side; what it said before that may still be read.
                Err(_) => {
                    self.broken = true;
                    return Ok(Pumped::Answering);
                }
            }
        }
        Ok(Pumped::Done)
    }

    /// The payload in the framing that the server gets, with the end of the body when this is it.
    fn framed<'a>(&'a self, payload: &'a [u8], room: &'a mut [u8; CHUNK_HEAD_MAX]) -> [&'a [u8]; 6] {
        if !self.chunked {
            return [payload, b"", b"", b"", b"", b""];
        }
        let [head, tail]: [&[u8]; 2] = if payload.is_empty() {
            [b"", b""]
        } else {
            let from = chunk_head(payload.len(), room);
            [&room[from..], b"\r\n"]
        };
        let [last, trailers, end]: [&[u8]; 3] =
            if self.body.is_done() { [b"0\r\n", self.body.trailers(), b"\r\n"] } else { [b"", b"", b""] };
        [head, payload, tail, last, trailers, end]
    }

    fn count(&mut self, payload: usize) -> Result<(), Reason> {
        self.passed += payload as u64;
        if self.limit.is_some_and(|limit| self.passed > limit) { Err(Reason::BodyTooLarge) } else { Ok(()) }
    }
}

/// Waits until the server takes more; true when it answers instead.
fn answers_instead(plane: &Plane, stream: &mut Stream, link: &Link) -> Result<bool, Failure> {
    let (server, limit) = (&link.socket, plane.config.timeouts.response);
    let [found, _] = stream
        .wait(plane, (server, Want::Either), (server, Want::Nothing), limit)
        .map_err(|_| Failure::late(Reason::ServerTimeout))?;
    Ok(found.read && !found.write)
}

/// Counts the bytes of a body that went to a server.
pub fn count(plane: &Plane, hands: &Hands, upload: &Upload) {
    if upload.passed > 0 {
        hands.shard(plane).add(Counter::BytesIn, upload.passed);
    }
}
