//! `Relay`: request and response on their way, both in the same step.

use super::load;
use super::session::learned_cookie;
use super::{Exchange, Flow, State};
use crate::base::time::Moment;
use crate::data::buffers::TURN_BYTES;
use crate::data::client::Client;
use crate::data::context::Context;
use crate::data::download::{Downloaded, ResponseContext};
use crate::data::failure::Failure;
use crate::data::server_pool::ServerConnection;
use crate::http1::forward::Edits;
use crate::http1::reason::Reason;
use crate::policy::retry::Phase;
use std::ops::ControlFlow;

/// What came of moving both directions once.
enum Relayed {
    Bytes(usize),
    /// Only the server can bring it on, and has said nothing new: another look would find nothing.
    Waits,
    /// The client has all of the response, and the server is done with.
    Whole,
    Upgraded,
    /// The pool that was asked lets the request pass.
    Authorized,
    /// The address cannot be reached.
    NotConnected,
    /// The server responded with an error, and the other one of two attempts goes on.
    PassedOver,
    /// Another server has taken the request, and it goes on there.
    Elsewhere(State),
}

impl Exchange {
    pub(super) fn relay(&mut self, client: &mut Client, cx: &mut Context) -> Result<Flow, Failure> {
        let mut left = TURN_BYTES;
        loop {
            let relayed = self.relay_once(client, cx)?;
            self.make_copy(cx);
            match relayed {
                Relayed::Authorized => return Ok(Flow::To(self.go_on_authorized(cx))),
                Relayed::Upgraded => return self.open_tunnel(client, cx),
                Relayed::NotConnected => return self.try_next_address(cx),
                Relayed::PassedOver => return Ok(Flow::Again),
                Relayed::Elsewhere(state) => return Ok(Flow::To(state)),
                Relayed::Whole => return Ok(Flow::To(State::Finish)),
                Relayed::Bytes(0) | Relayed::Waits => return self.wait_in_relay(cx),
                Relayed::Bytes(moved) if moved >= left => return Ok(Flow::Yield),
                Relayed::Bytes(moved) => left -= moved,
            }
        }
    }

    /// Nothing moves: it waits, unless it has waited for too long or its server has gone down.
    fn wait_in_relay(&mut self, cx: &mut Context) -> Result<Flow, Failure> {
        let (deadline, reason) = self.deadline();
        if cx.now < deadline {
            if let Some(state) = self.leave_down(cx) {
                return Ok(Flow::To(state));
            }
            if self.attempt.asked_at.is_none() {
                self.note_upload();
            }
            let look = self.down_look(cx.now).min(self.next_stream_end(cx.now));
            return Ok(Flow::Wait(deadline.min(look)));
        }
        if self.download.is_done() {
            // What is missing is the rest of the request, and it is not needed any more.
            self.upload.give_up();
            return Ok(Flow::Again);
        }
        match reason {
            Reason::ConnectFailed => self.try_next_address(cx),
            reason => Err(Failure::last(reason)),
        }
    }

    /// The server does not have all of the request: whether that waits for the client. One that waits for the server's 100 has
    /// sent nothing yet.
    fn note_upload(&self) {
        let waits_for_100 = self.meta.expects_continue
            && self.upload.passed() == 0
            && self.download.interim_since() == Moment::NEVER;
        let waits_for_server =
            !self.upload.has_begun() || self.upload.has_unsent() || self.upload.is_broken();
        self.wait_for_client(!waits_for_100 && !waits_for_server);
    }

    fn relay_once(&mut self, client: &mut Client, cx: &mut Context) -> Result<Relayed, Failure> {
        let Some(key) = self.attempt.connection else { return self.relay_rest(client, cx) };
        let begun = self.download.has_begun();
        let sent = match self.send_request(key, client, cx)? {
            ControlFlow::Continue(sent) => sent,
            ControlFlow::Break(relayed) => return Ok(relayed),
        };
        let downloaded = match self.may_receive(key, cx) {
            true => self.receive_response(key, client, cx)?,
            false => Downloaded::Moved(0),
        };
        let received = match downloaded {
            Downloaded::Moved(received) => received,
            Downloaded::Upgraded => return Ok(Relayed::Upgraded),
            Downloaded::Authorized => return Ok(Relayed::Authorized),
            Downloaded::Error => {
                self.pass_error_over(key, cx);
                return Ok(Relayed::PassedOver);
            }
            Downloaded::Retriable => return Ok(self.try_elsewhere(key, cx)),
        };
        if self.download.has_begun() && !begun {
            self.settle_hedge(cx);
            self.note_response(key, cx);
        }
        if self.attempt.is_unjudged {
            self.judge_body(cx);
        }
        if self.download.is_received() {
            self.after_response(cx);
        }
        if self.download.is_done() && self.attempt.connection.is_none() {
            return Ok(Relayed::Whole);
        }
        let has_nothing = |connection: &mut ServerConnection| !connection.stream.may_read();
        let is_server_silent =
            self.attempt.connection.and_then(|key| cx.servers.get_mut(key)).is_some_and(has_nothing);
        let waits = is_server_silent && self.upload.is_done() && !self.download.has_unsent();
        Ok(if waits { Relayed::Waits } else { Relayed::Bytes(sent + received) })
    }

    /// A response with a status of `retries.on_status`: another server, or it is the client's after all.
    fn try_elsewhere(&mut self, key: usize, cx: &mut Context) -> Relayed {
        match self.leave_status(key, cx) {
            Some(state) => Relayed::Elsewhere(state),
            None => {
                self.download.accept();
                Relayed::Bytes(1)
            }
        }
    }

    /// What there is of the request goes to the server: so many bytes, or how the step ends while there is no connection.
    fn send_request(
        &mut self,
        key: usize,
        client: &mut Client,
        cx: &mut Context,
    ) -> Result<ControlFlow<Relayed, usize>, Failure> {
        let Context { servers, scratch, now, .. } = cx;
        let Some(connection) = servers.get_mut(key) else { return Err(Failure::RESET) };
        let begun = self.download.has_begun();
        let sent = self.upload.advance(client, &mut connection.stream, scratch, begun, *now)?;
        if !self.upload.has_begun() {
            return match (self.upload.is_broken(), connection.reused) {
                (true, true) => Err(Failure::UNSENT),
                (true, false) if connection.stream.tls_trouble().is_some() => {
                    connection.log_tls_trouble(*now);
                    Err(Failure::TLS)
                }
                (true, false) => Ok(ControlFlow::Break(Relayed::NotConnected)),
                (false, _) => Ok(ControlFlow::Break(Relayed::Bytes(0))),
            };
        }
        if let Some(connecting) = self.attempt.connecting.take() {
            connection.addresses_generation = connecting.succeeded(&connection.server);
            self.attempt.connected = Some(now.since(self.attempt.began));
        }
        if sent > 0 {
            self.download.request_moved();
        }
        if self.upload.is_done() && self.attempt.asked_at.is_none() {
            self.attempt.asked_at = Some(*now);
            self.wait_for_client(false);
        }
        Ok(ControlFlow::Continue(sent))
    }

    /// Whether a step of the response can bring anything: before the server has responded there is none, and a request mostly
    /// waits once for that.
    fn may_receive(&self, key: usize, cx: &mut Context) -> bool {
        let may_read = cx.servers.get_mut(key).is_none_or(|connection| connection.stream.may_read());
        may_read || self.download.has_incoming() || self.download.has_unsent()
    }

    /// What there is of the response goes to the client.
    fn receive_response(
        &mut self,
        key: usize,
        client: &mut Client,
        cx: &mut Context,
    ) -> Result<Downloaded, Failure> {
        cx.refresh_date();
        // Whether the client's connection stays is not said before it is known where its request ends.
        let is_end_known = self.guards.held.is_none() || self.is_request_received();
        let may_keep = self.meta.keep_alive && is_end_known && cx.keeps_connections(self.meta.listener);
        let (stream_end, retries_on) = (self.stream_end(cx), self.retries_on());
        let Context { servers, scratch, now, date, .. } = cx;
        let Some(connection) = servers.get_mut(key) else { return Err(Failure::RESET) };
        let (live, server) = (&self.view.live, connection.server.name.as_str());
        let guard = live.guard(self.matched.as_ref().map(|matched| matched.index));
        // The response to a question whether the request may pass is none of the route's: nothing is changed in it.
        let asks = self.guards.held.is_some();
        let pages = guard.error_pages().filter(|pages| pages.intercept.is_some() && !asks);
        let mut digits = [0; 32];
        let is_id_told = live.config.listen.request_id_header || pages.is_some();
        let id = if is_id_told { self.meta.shown_id.bytes(&mut digits) } else { b"" };
        let matched = self.matched.as_deref().filter(|matched| matched.edits_responses() && !asks);
        let edits = matched.map(|matched| matched.response_edits(server));
        let session = self.choice.session.as_ref().filter(|_| !asks);
        let context = ResponseContext {
            method: self.meta.method,
            version: self.meta.version,
            upgrade: self.tunnel.as_ref().map(|asked| &asked.offer).filter(|_| !asks),
            request_done: self.upload.is_done(),
            copies: guard.forward_auth().filter(|_| asks),
            may_keep,
            pseudonym: &live.pseudonym,
            edits: edits.as_ref().map(|edits| edits as &dyn Edits),
            served_by: live.config.listen.served_by_header.then_some(server),
            date: date.1.as_str(),
            request_id: live.config.listen.request_id_header.then_some(id),
            pages: pages.map(|pages| (pages, self.meta.form, id)),
            lines: self.guards.guarded.as_ref().map_or(b"", |guarded| &guarded.lines),
            session: session.map_or(b"", |session| &session.line),
            learns: learned_cookie(live, self.pool).filter(|_| session.is_some()),
            load_metric: load::metric(live, self.pool, &connection.server, *now).filter(|_| !asks),
            compression: guard
                .compression()
                .filter(|_| !asks)
                .map(|compression| (compression, self.accepts.coding)),
            has_weak_tag: self.accepts.weak_tag,
            passes_errors_over: self.other_attempt.is_some(),
            retries_on: retries_on.as_ref(),
            stream_end,
            limits: &live.config.limits.head.of_responses(),
            reused: connection.reused,
        };
        let downloaded = self.download.advance(client, &mut connection.stream, scratch, &context, *now);
        downloaded.map_err(|failure| explained(failure, connection, *now))
    }

    /// The server is done with; what is left of its response goes to the client.
    fn relay_rest(&mut self, client: &mut Client, cx: &mut Context) -> Result<Relayed, Failure> {
        let moved = self.download.flush(client, self.then(), &mut cx.scratch.pipes)?;
        if moved > 0 {
            self.download.incoming.moved_at = cx.now;
        }
        Ok(if self.download.is_done() { Relayed::Whole } else { Relayed::Bytes(moved) })
    }

    /// The response is here as a whole. The server is let go of when it has all of the request, or takes no more.
    fn after_response(&mut self, cx: &mut Context) {
        let waits_for_100 =
            self.meta.expects_continue && self.upload.passed() == 0 && self.guards.held.is_none();
        if !self.upload.is_done() && !self.upload.is_broken() && !waits_for_100 {
            // A server that has said all before it had all may not read the rest, and close at any time.
            self.download.give_server_up();
            return;
        }
        self.let_go_of_server(self.upload.is_done(), cx);
    }
}

/// What a connection that ended before the response says of its server.
fn explained(failure: Failure, connection: &ServerConnection, now: Moment) -> Failure {
    match failure {
        // A pooled connection that died before a byte of the response: the race of reuse, not the server's fault.
        Failure::RESET if connection.reused => Failure { phase: Phase::Reuse, ..failure },
        // With TLS 1.3 a server rejects our certificate only after our side of the handshake.
        Failure::RESET if connection.stream.tls_trouble().is_some() => {
            connection.log_tls_trouble(now);
            Failure { reason: Reason::TlsFailed, ..failure }
        }
        failure => failure,
    }
}
