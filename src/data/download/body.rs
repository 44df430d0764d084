//! The body of a response on its way: decoded, framed again for the client, and encoded where that is wanted; long ones
//! are spliced.

use super::{Download, ResponseContext, StreamEnd};
use crate::data::buffers::{SMALL_BODY_BYTES, TURN_BYTES, keep_unsent};
use crate::data::client::Client;
use crate::data::context::Scratch;
use crate::data::failure::Failure;
use crate::data::socket::Then;
use crate::data::splice::Pipes;
use crate::data::transport::{Moved, Stream};
use crate::http1::body::{Body, CHUNK_HEAD_MAX};
use crate::http1::forward::{Change, Edits};
use crate::http1::framing::Framing;
use crate::http1::reason::Reason;
use std::io::IoSlice;
use std::ops::Range;

impl Download {
    /// The head is complete: it goes out with what is here of the body.
    pub(super) fn begin_body(
        &mut self,
        client: &mut Client,
        server: &mut Stream,
        scratch: &mut Scratch,
        context: &ResponseContext<'_>,
        mut span: Range<usize>,
    ) -> Result<(), Failure> {
        let awaits_body = self.incoming.body.as_ref().and_then(Body::remaining).is_some_and(|left| left > 0);
        if span.is_empty() && awaits_body && server.may_read() {
            // Head and body often come in two segments: if the second is here already, they go on as one.
            if let Ok(Moved::Bytes(count)) = server.recv(&mut scratch.body) {
                span = 0..count;
            }
        }
        self.pass_on(client, scratch, context, span)
    }

    /// More of the body: how many bytes of it came, or 1 for an end without any.
    pub(super) fn receive_body(
        &mut self,
        client: &mut Client,
        server: &mut Stream,
        scratch: &mut Scratch,
        context: &ResponseContext<'_>,
    ) -> Result<usize, Failure> {
        match server.recv(&mut scratch.body) {
            Ok(Moved::Bytes(count)) => self.pass_on(client, scratch, context, 0..count).map(|()| count),
            Ok(Moved::Blocked) => Ok(0),
            Ok(Moved::End) if self.incoming.body.as_mut().is_some_and(Body::close) => {
                // The server closed, and that was the end: say so in the client's framing.
                self.pass_on(client, scratch, context, 0..0).map(|()| 1)
            }
            Ok(Moved::End) | Err(_) => Err(Failure::last(Reason::ResponseTruncated)),
        }
    }

    /// Whether its event stream is to end here.
    pub(super) fn may_end(&self, context: &ResponseContext<'_>) -> bool {
        match (context.stream_end, &self.incoming.events) {
            (Some(StreamEnd::AfterEvent), Some(events)) => events.is_between(),
            (Some(StreamEnd::Now), Some(_)) => true,
            _ => false,
        }
    }

    /// How many of these bytes of an event stream the client gets: where it is to end, that is its end.
    fn follow_events(&mut self, payload: &[u8], context: &ResponseContext<'_>) -> usize {
        let Some(events) = &mut self.incoming.events else { return payload.len() };
        let end = match context.stream_end {
            None => None,
            Some(StreamEnd::AfterEvent) => events.whole(payload),
            Some(StreamEnd::Now) => Some(payload.len()),
        };
        let len = end.unwrap_or(payload.len());
        events.follow(&payload[..len]);
        if end.is_some() && self.incoming.body.as_ref().is_some_and(|body| !body.is_done()) {
            // What the server says from here on belongs to nothing.
            (self.incoming.body, self.server_keeps) = (Some(Body::new(Framing::None)), false);
        }
        len
    }

    /// Decodes a piece of the body, frames it again, and sends it with the head in front of it if that has not gone yet,
    /// and with the end behind it if this is it.
    pub(super) fn pass_on(
        &mut self,
        client: &mut Client,
        scratch: &mut Scratch,
        context: &ResponseContext<'_>,
        span: Range<usize>,
    ) -> Result<(), Failure> {
        let Some(body) = self.incoming.body.as_mut() else { return Ok(()) };
        // As long as nothing went out, the client gets a response of our own at a fault.
        let fault = if self.begun { Reason::ResponseTruncated } else { Reason::BadResponse };
        let received = &mut scratch.body[span];
        let (consumed, payload) = body.compact(received).map_err(|_| Failure::last(fault))?;
        // What the server sent beyond its response belongs to nothing.
        self.server_keeps &= consumed == received.len();
        self.begun = true;
        let payload = self.follow_events(&received[..payload], context);
        let then = self.then(context);
        let Some(body) = self.incoming.body.as_ref() else { return Ok(()) };
        let mut room = [0; CHUNK_HEAD_MAX];
        let mut encoder = self.incoming.encoder.take();
        let payload = match &mut encoder {
            None => &received[..payload],
            Some(encoder) => {
                let encoded = encoder.encode(&received[..payload], body.is_done());
                encoded.map_err(|_| Failure::last(Reason::ResponseTruncated))?
            }
        };
        let mut parts = body.framed(self.to_client == Framing::Chunked, payload, &mut room);
        let trailers = kept_trailers(parts[4], context.edits);
        parts[4] = trailers.as_deref().unwrap_or(parts[4]);
        if payload.len() <= SMALL_BODY_BYTES {
            parts.iter().for_each(|part| scratch.reply.extend_from_slice(part));
            self.incoming.encoder = encoder;
            return self.send_reply(client, &mut scratch.reply, then);
        }
        let [head, payload, tail, zero, trailers, end] = parts;
        let all = [&scratch.reply[..], head, payload, tail, zero, trailers, end];
        let sent = client.stream.send_parts(&mut all.map(IoSlice::new), then);
        let sent = sent.map_err(|_| Failure::last(Reason::ClientGone))?;
        self.bytes += sent as u64;
        keep_unsent(&all, sent, &mut self.out);
        self.incoming.encoder = encoder;
        scratch.reply.clear();
        Ok(())
    }

    /// Whether what is to come goes from socket to socket, without being looked at.
    pub(super) fn splices(&self, body: &Body, client: &Client, server: &Stream) -> bool {
        let is_long = body.remaining().is_some_and(|left| left >= TURN_BYTES as u64);
        is_long && self.to_client != Framing::Chunked && client.stream.can_splice() && server.can_splice()
    }

    /// One pipe full of a long body.
    pub(super) fn splice(
        &mut self,
        client: &mut Client,
        server: &mut Stream,
        pipes: &mut Pipes,
    ) -> Result<usize, Failure> {
        let Some(body) = self.incoming.body.as_mut() else { return Ok(0) };
        let taken = server.take_pipeful(pipes, body.remaining().unwrap_or(0));
        let taken = taken.map_err(|_| Failure::last(Reason::ResponseTruncated))?;
        let Some(pipe) = taken else { return Ok(0) };
        let count = pipe.held();
        body.skip(count as u64);
        self.pipe = Some(pipe);
        self.flush(client, Then::Open, pipes)?;
        Ok(count)
    }
}

/// Trailers that the route does not change as headers, where it changes some; it does not write new ones.
fn kept_trailers(lines: &[u8], edits: Option<&dyn Edits>) -> Option<Vec<u8>> {
    let edits = edits.filter(|_| !lines.is_empty())?;
    let name = |line: &[u8]| {
        line.split(|byte| *byte == b':').next().is_some_and(|name| edits.change(name) == Change::Keep)
    };
    let kept = lines.split_inclusive(|byte| *byte == b'\n').filter(|line| name(line));
    Some(kept.flatten().copied().collect())
}
