//! A close that lets the client read its last response: our side is shut down, and what comes is dropped until the client
//! closes, too (RFC 9112 section 9.6).

use super::{Advance, Connection, Phase};
use crate::data::buffers::{BODY_BYTES, TURN_BYTES};
use crate::data::context::Context;
use crate::data::shared::ConnectionPermit;
use crate::data::timers::REQUEST_REST_TIME;
use crate::data::transport::Moved;
use std::time::Duration;

/// A lingering close ends after so much silence of the client as [`REQUEST_REST_TIME`], and after this in any case (the time of
/// nginx's `lingering_time`).
const LINGER_TIME: Duration = Duration::from_secs(30);
/// What it gets of that where connections run short, it is beyond the limit itself, or the balancer is to stop.
const LINGER_NEAR_LIMIT: Duration = Duration::from_secs(1);

impl Connection {
    /// Closes behind a response of which `sent` bytes went out, at once where that cannot cost the client a part of it.
    pub(super) fn close_behind(&mut self, sent: u64, cx: &mut Context) -> Option<Advance> {
        // A close over unread bytes is a reset, which can discard the response before the client reads it.
        let mut byte = [0];
        let unread = !self.client.input.is_empty()
            || matches!(self.client.stream.recv_now(&mut byte), Ok(Moved::Bytes(_)));
        // A part of a long response may still be on its way; bytes that the client sends then would make the kernel drop it.
        match unread || sent > BODY_BYTES as u64 {
            true => self.linger(cx),
            false => Some(Advance::Closed),
        }
    }

    /// No more from us; what the client still sends is dropped.
    pub(super) fn linger(&mut self, cx: &mut Context) -> Option<Advance> {
        self.client.stream.finish_writing();
        self.client.input = Vec::new();
        let short = self.permit.as_ref().is_some_and(ConnectionPermit::is_rejected)
            || cx.is_near_limit()
            || cx.shared.is_draining();
        let time = if short { LINGER_NEAR_LIMIT } else { LINGER_TIME };
        let until = cx.now.after(time);
        self.phase = Phase::Linger { silent_until: cx.now.after(REQUEST_REST_TIME).min(until), until };
        None
    }

    pub(super) fn drop_input(&mut self, cx: &mut Context) -> Option<Advance> {
        let Phase::Linger { silent_until, until } = &mut self.phase else { return None };
        let mut dropped = 0;
        loop {
            match self.client.stream.recv(&mut cx.scratch.body) {
                Ok(Moved::Bytes(count)) => {
                    dropped += count;
                    *silent_until = cx.now.after(REQUEST_REST_TIME).min(*until);
                    if dropped >= TURN_BYTES {
                        return Some(Advance::Yield);
                    }
                }
                Ok(Moved::Blocked) if cx.now < *silent_until => return Some(Advance::Wait(*silent_until)),
                _ => return Some(Advance::Closed),
            }
        }
    }
}
