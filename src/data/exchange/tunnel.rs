//! How an exchange becomes a tunnel.

use super::{Exchange, Flow};
use crate::data::client::{Client, Failure};
use crate::data::context::Context;
use crate::data::finish;
use crate::data::tunnel::{Ends, Tunnel};
use crate::http1::reason::Reason;
use std::sync::Arc;

impl Exchange {
    /// The server has switched protocols: the connections of both sides become a tunnel.
    pub(super) fn open_tunnel(&mut self, client: &mut Client, cx: &mut Context) -> Result<Flow, Failure> {
        let (Some(connection), Some(lease), Some(permit)) =
            (self.connection.take(), self.lease.take(), self.tunnel.take())
        else {
            return Err(Failure::last(Reason::Internal));
        };
        finish::record_success(&lease, cx);
        lease.becomes_tunnel();
        self.note_session(cx.now);
        let early = std::mem::take(&mut client.input);
        let (rest, from) = self.download.take_rest();
        let counted = self.gate.take().and_then(|gate| gate.into_permit());
        let traffic = finish::counted(
            self.meta.listener,
            self.way.as_deref(),
            self.in_pool.then_some(self.pool),
            &self.view.live,
        );
        let live = &self.view.live;
        let tunnel = Tunnel::open(Ends { connection, lease, early, rest }, permit, counted, live, cx);
        let mut tunnel = tunnel
            .counted_by(traffic.into_iter().flatten().map(Arc::clone))
            .idle_for(self.way.as_ref().and_then(|way| way.route.timeouts.tunnel));
        if self.download.is_websocket() {
            tunnel.follow_frames(from);
        }
        Ok(Flow::Tunnel(Box::new(tunnel)))
    }
}
