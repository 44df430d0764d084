//! `Finish`: what is left of the response goes to the client, and the exchange is counted.

use super::{Disposition, End, Exchange, Flow};
use crate::base::time::Moment;
use crate::data::client::Client;
use crate::data::context::Context;
use crate::data::failure::Failure;
use crate::data::finish;
use crate::data::socket::Then;
use crate::http1::reason::Reason;
use crate::state::access::{LinePhases, RequestText};
use crate::state::stats::Counter;
use crate::state::traffic::Ended;

impl Exchange {
    pub(super) fn send_rest(&mut self, client: &mut Client, cx: &mut Context) -> Result<Flow, Failure> {
        let moved = self.download.flush(client, self.then(), &mut cx.scratch.pipes)?;
        if moved > 0 {
            self.download.incoming.moved_at = cx.now;
        }
        if !self.download.has_unsent() {
            // It may still read, but hardly any client closes its side and waits.
            self.note_leaving(client.stream.has_ended(), cx);
            return Ok(Flow::Done);
        }
        let deadline = self.download.incoming.moved_at.after(self.times().client_body);
        if cx.now >= deadline { Err(Failure::last(Reason::ClientStalled)) } else { Ok(Flow::Wait(deadline)) }
    }

    /// What follows the response on the client's connection.
    pub(super) fn then(&self) -> Then {
        if self.download.client_keeps() || !self.is_request_received() { Then::Open } else { Then::End }
    }

    /// Counted and logged; the buffers go back.
    pub(super) fn done(&mut self, cx: &mut Context) -> Disposition {
        debug_assert!(
            self.attempt.connection.is_none()
                && self.choice.queue_token.is_none()
                && self.other_attempt.is_none()
        );
        self.count(cx);
        match self.ending.end {
            End::Abort => Disposition::Abort,
            End::Linger => Disposition::Linger,
            End::AsAnnounced if self.download.client_keeps() => Disposition::Keep,
            // A client that did not ask for the close may have its next request on the way, and that would be a reset.
            End::AsAnnounced if self.is_request_received() && !self.meta.keep_alive => Disposition::Close,
            End::AsAnnounced => Disposition::Linger,
        }
    }

    /// Counts it, once, and writes its line into the access log.
    pub(super) fn count(&mut self, cx: &Context) {
        self.ending.is_counted = true;
        self.count_at_server(cx);
        match &self.mirror.permit {
            Some(_) => cx.shard().count(Counter::Mirrored),
            None => {
                let text = std::mem::take(&mut self.meta.text);
                finish::count(self.outcome(text), cx);
            }
        }
    }

    /// Counts the response of a server, once, where there was one.
    pub(super) fn count_at_server(&mut self, cx: &Context) {
        let (Some(server), Some(first_byte_at)) = (&self.attempt.server, self.attempt.first_byte_at) else {
            return;
        };
        let ended = Ended {
            status: Some(self.download.status()),
            received: self.upload.passed(),
            sent: self.download.bytes(),
            took: Some(self.attempt.served_at.min(cx.now).max(first_byte_at).since(self.attempt.began)),
            waited: self.choice.queued,
            reason: None,
        };
        server.traffic.ends(cx.number(), &ended);
    }

    fn outcome(&self, text: RequestText) -> finish::Outcome<'_> {
        finish::Outcome {
            meta: &self.meta,
            status: self.download.status(),
            received: self.upload.passed(),
            sent: self.download.bytes(),
            server: self.attempt.server.as_ref(),
            reason: self.ending.reason,
            matched: self.matched.as_deref(),
            pool: self.in_pool.then_some(self.pool),
            phases: self.phases(),
            body_bytes: self.download.body_bytes(),
            text,
            live: &self.view.live,
        }
    }

    /// When it did what, for the access log and traces.
    fn phases(&self) -> LinePhases {
        let since_started = |at: Moment| at.since(self.meta.started);
        LinePhases {
            queue: self.choice.queued,
            deadline: self.expires().map(since_started),
            connect: self.attempt.connected,
            first_byte: self.attempt.first_byte_at.map(since_started),
            tries: self.tries.begun,
            hedged: self.tries.is_hedged,
        }
    }

    /// Gives its buffers back; after [`Step::Done`].
    pub fn recycle(mut self: Box<Self>, cx: &mut Context) {
        cx.buffers.give(self.upload.take_buffer());
        if let Some(mut held) = self.guards.held.take() {
            cx.buffers.give(held.upload.take_buffer());
        }
        cx.buffers.give(self.download.take_buffer());
    }

    /// Its connection ends in another way than by a step: nothing of it stays in the worker.
    pub fn abandon(mut self: Box<Self>, reason: Reason, cx: &mut Context) {
        let _ = self.fail(Failure::last(reason), cx);
        if !self.ending.is_counted {
            // What it was to tell its client does not go out any more.
            if self.download.bytes() == 0 {
                self.download.forget();
            }
            self.count(cx);
        }
    }
}
