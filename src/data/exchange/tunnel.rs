//! How an exchange becomes a tunnel.

use super::{Exchange, Flow};
use crate::data::client::Client;
use crate::data::context::Context;
use crate::data::failure::Failure;
use crate::data::finish;
use crate::data::shared::{Shared, TunnelPermit};
use crate::data::tunnel::{Ends, Tunnel};
use crate::http1::head::RequestHead;
use crate::http1::reason::Reason;
use crate::http1::upgrade::Offer;
use std::sync::Arc;

/// What a request that may become a tunnel has.
#[derive(Debug)]
pub(super) struct AskedTunnel {
    permit: TunnelPermit,
    /// The protocols that its client offers.
    pub(super) offer: Offer,
}

impl AskedTunnel {
    /// That of a request which asks for an upgrade, if there may be one more tunnel.
    pub(super) fn of(head: &RequestHead<'_, '_>, shared: &Arc<Shared>, most: usize) -> Option<Box<Self>> {
        let permit = TunnelPermit::take(shared, most)?;
        Some(Box::new(AskedTunnel { permit, offer: Offer::of(&head.fields) }))
    }
}

impl Exchange {
    /// The server has switched protocols: the connections of both sides become a tunnel.
    pub(super) fn open_tunnel(&mut self, client: &mut Client, cx: &mut Context) -> Result<Flow, Failure> {
        let (Some(connection), Some(lease), Some(asked)) =
            (self.attempt.connection.take(), self.attempt.lease.take(), self.tunnel.take())
        else {
            return Err(Failure::last(Reason::Internal));
        };
        finish::record_success(&lease, cx);
        lease.becomes_tunnel();
        self.note_session(cx.now);
        let early = std::mem::take(&mut client.input);
        let (rest, from) = self.download.take_rest();
        let counted = self.guards.guarded.take().and_then(|guarded| guarded.into_permit());
        let traffic = finish::counted(
            self.meta.listener,
            self.matched.as_deref(),
            self.in_pool.then_some(self.pool),
            &self.view.live,
        );
        let live = &self.view.live;
        let tunnel = Tunnel::open(Ends { connection, lease, early, rest }, asked.permit, counted, live, cx);
        let mut tunnel = tunnel
            .counted_by(traffic.into_iter().flatten().map(Arc::clone))
            .idle_for(self.matched.as_ref().and_then(|matched| matched.route.timeouts.tunnel));
        if self.download.is_websocket() {
            tunnel.follow_frames(from);
        }
        Ok(Flow::Tunnel(Box::new(tunnel)))
    }
}
