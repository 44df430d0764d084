//! `Collect`: the body of a chunked request for a server that knows no chunks. The server is asked when it is whole.

use super::{Exchange, Flow, State};
use crate::data::client::Client;
use crate::data::context::Context;
use crate::data::failure::Failure;
use crate::data::socket::Then;
use crate::http1::reason::Reason;

impl Exchange {
    pub(super) fn collect(&mut self, client: &mut Client, cx: &mut Context) -> Result<Flow, Failure> {
        if self.meta.expects_continue && self.upload.passed() == 0 && self.download.bytes() == 0 {
            // The server is not asked before the body is here, so the client would wait for nothing.
            self.download.send_interim(client, b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        self.download.flush(client, Then::Open, &mut cx.scratch.pipes)?;
        while self.upload.is_chunked() {
            if self.upload.collect(client, &mut cx.scratch.body, cx.now)? == 0 && self.upload.is_chunked() {
                return self.wait_for_body(cx);
            }
        }
        self.wait_for_client(false);
        self.attempt.began = cx.now;
        Ok(Flow::To(State::Connect))
    }

    fn wait_for_body(&self, cx: &Context) -> Result<Flow, Failure> {
        let deadline = self.upload.progress.moved_at.after(self.times().client_body);
        match cx.now {
            now if now >= self.expires => Err(Failure::last(Reason::DeadlineExceeded)),
            now if now >= deadline => Err(Failure::last(Reason::BodyTimeout)),
            _ => {
                self.wait_for_client(true);
                Ok(Flow::Wait(deadline.min(self.expires)))
            }
        }
    }
}
