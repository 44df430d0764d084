//! What an exchange has of its server, a lease and a connection, and how it gives them back.

use super::Exchange;
use crate::data::context::Context;
use crate::data::failure::Failure;
use crate::data::finish;
use crate::http1::reason::Reason;
use crate::policy::retry::Retry;
use crate::state::server::{Lease, Rejected};

impl Exchange {
    /// Closes the connection to its server, if it has one.
    pub(super) fn close_connection(&mut self, cx: &mut Context) {
        if let Some(connection) = self.attempt.connection.take() {
            cx.servers.close(connection);
        }
    }

    /// Keeps the connection for another request if the response allows it, and closes it otherwise. Where the server may take the
    /// next request for that of the same user, it has to be one of the same client.
    pub(super) fn put_back_connection(&mut self, cx: &mut Context) {
        let Some(connection) = self.attempt.connection.take() else { return };
        // A server that rejects a long upload may have read little of it, and closes later without a word.
        let may_be_unread = self.download.status() >= 400 && !self.upload.is_buffered();
        if !self.download.server_keeps() || may_be_unread {
            cx.servers.close(connection);
        } else if !self.meta.authenticates_connection && !cx.servers.is_bound(connection) {
            cx.servers.put(connection, &cx.poller, &cx.table.view().live.config, cx.now);
        } else if self.may_bind() {
            cx.servers.bind(connection, self.owner.key, &cx.poller);
        } else {
            cx.servers.close(connection);
        }
    }

    /// Whether the client's connection is one user's, as far as is known: a trusted proxy may send those of several on it.
    fn may_bind(&self) -> bool {
        self.meta.keep_alive && !self.meta.peer_trusted && self.is_own()
    }

    /// It is the request of its client, and neither a question whether that may pass nor a copy.
    pub(super) fn is_own(&self) -> bool {
        self.guards.held.is_none() && !self.is_copy()
    }

    /// A lease on the server whose connection is bound to that of the client.
    pub(super) fn bound_lease(&self, cx: &mut Context) -> Option<Lease> {
        let server = cx.servers.bound_to(self.owner.key)?;
        if server.pool != self.pool || !self.is_own() || self.tries.servers.has(server.id) {
            return None;
        }
        match server.lease(cx.now) {
            Ok(lease) => Some(lease),
            Err(Rejected::Full) => None,
            Err(Rejected::Closed) => {
                cx.servers.close_bound(self.owner.key);
                None
            }
        }
    }

    /// The connection that is bound to that of the client, if it leads to the server of this attempt.
    pub(super) fn take_bound(&self, cx: &mut Context) -> Option<usize> {
        let server = self.attempt.server.as_ref().filter(|_| self.is_own())?;
        cx.servers.take_bound(self.owner.key, server.id)
    }

    /// Gives the lease back: the next request in the queue is called.
    pub(super) fn end_lease(&mut self) {
        if let Some(lease) = self.attempt.lease.take() {
            drop(lease);
            self.view.live.pool(self.pool).queue.call_next();
        }
    }

    /// The same, and the request does not come back to this server.
    pub(super) fn leave_lease(&mut self) {
        self.attempt.lease.iter().for_each(|lease| self.tries.servers.add(lease.server().id));
        self.end_lease();
    }

    /// Whether the client has yet to send what is left of the request. Until it has, a measured limit has room for another one.
    pub(super) fn wait_for_client(&self, waits: bool) {
        let has_changed = self.attempt.lease.as_ref().is_some_and(|lease| lease.waits_for_client(waits));
        if has_changed && waits {
            self.view.live.pool(self.pool).queue.call_next();
        }
    }

    /// The server has responded: it is done with.
    pub(super) fn let_go_of_server(&mut self, may_keep: bool, cx: &mut Context) {
        match may_keep {
            true => self.put_back_connection(cx),
            false => self.close_connection(cx),
        }
        self.attempt.served_at = cx.now;
        self.attempt.is_unjudged = false;
        if let Some(lease) = &self.attempt.lease {
            finish::record_success(lease, cx);
        }
        self.end_lease();
    }

    /// An attempt failed: what that says of its server. `retry`: what follows.
    pub(super) fn record_failure(&self, failure: &Failure, retry: Retry, cx: &Context) {
        let Some(lease) = &self.attempt.lease else { return };
        let is_late = matches!(failure.reason, Reason::ServerTimeout | Reason::DeadlineExceeded);
        if is_late || super::is_clients(failure.reason) {
            lease.gave_up(cx.now.since(self.attempt.asked_at.unwrap_or(cx.now)));
        }
        if failure.reason == Reason::DeadlineExceeded {
            self.note_expired(lease, cx);
        }
        // A pooled connection may die under a request without a fault of the server's; not so twice.
        if retry != Retry::SameServer {
            finish::record_failure(lease, failure.reason, cx);
        }
    }
}
