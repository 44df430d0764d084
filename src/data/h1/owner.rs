//! A connection and the thread that has it: how it comes and goes, and what is watched for it.

use super::{Connection, Phase};
use crate::base::ids::ConnectionKey;
use crate::data::context::Context;
use crate::data::poller::{Poller, Side, Token};
use std::io;

impl Connection {
    /// Comes to a worker, where it has this key and generation; nothing is known of its readiness.
    pub fn adopt(&mut self, key: usize, generation: u32, cx: &mut Context) {
        self.owner = ConnectionKey { key, generation };
        self.client.stream.unwatch(&cx.poller, Token::new(Side::Client, key, generation));
        let connection = self.moving.take().map(|connection| cx.servers.attach(connection, &cx.poller, key));
        match &mut self.phase {
            Phase::Exchange(exchange) => exchange.attach(self.owner, connection),
            Phase::Tunnel(tunnel) => tunnel.connection = connection.unwrap_or(usize::MAX),
            _ => connection.into_iter().for_each(|bound| cx.servers.bind(bound, key, &cx.poller)),
        }
    }

    /// Leaves a worker. False: it cannot now.
    pub fn leave(&mut self, cx: &mut Context) -> bool {
        let connection = match &self.phase {
            Phase::Exchange(exchange) if exchange.is_bound() => return false,
            Phase::Exchange(exchange) => exchange.connection(),
            Phase::Tunnel(tunnel) => Some(tunnel.connection),
            _ => None,
        };
        // One goes with it: that of its exchange, or else the one that is bound to it.
        let bound = cx.servers.detach_bound(self.owner.key, &cx.poller);
        self.moving = match connection {
            Some(connection) => cx.servers.detach(connection, &cx.poller),
            None => bound,
        };
        let token = self.client.stream.token();
        self.client.stream.unwatch(&cx.poller, token);
        true
    }

    /// Watches both sides; before every wait.
    pub fn watch(&mut self, cx: &mut Context) -> io::Result<()> {
        self.client.stream.watch(&cx.poller)?;
        let connections = match &self.phase {
            Phase::Exchange(exchange) => [exchange.connection(), exchange.other_connection()],
            Phase::Tunnel(tunnel) => [Some(tunnel.connection), None],
            _ => [None, None],
        };
        for connection in connections.into_iter().flatten() {
            if let Some(server) = cx.servers.get_mut(connection) {
                server.stream.watch(&cx.poller)?;
            }
        }
        Ok(())
    }

    /// Watches the client alone, in another poller than a worker's.
    pub fn watch_in(&mut self, poller: &Poller, token: Token) -> io::Result<()> {
        self.client.stream.unwatch(poller, token);
        self.client.stream.watch(poller)
    }

    /// Leaves that poller.
    pub fn unwatch_in(&mut self, poller: &Poller) {
        let token = self.client.stream.token();
        self.client.stream.unwatch(poller, token);
    }
}
