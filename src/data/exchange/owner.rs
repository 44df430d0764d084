//! An exchange and the worker that has it: its connections there, and whether it may go to another worker.

use super::Exchange;
use crate::base::ids::ConnectionKey;

impl Exchange {
    /// The connection to its server, in its worker's pool.
    pub fn connection(&self) -> Option<usize> {
        self.attempt.connection
    }

    /// The connection of the second one of two attempts at once.
    pub fn other_connection(&self) -> Option<usize> {
        self.other_attempt.as_ref().and_then(|other| other.attempt.connection)
    }

    /// Has come to another worker, where its client's connection has this key and generation and its server's that key.
    pub fn attach(&mut self, owner: ConnectionKey, connection: Option<usize>) {
        (self.owner, self.attempt.connection) = (owner, connection);
    }

    /// Whether it stays with its worker: another thread is to call it there, to a server with room or with its password
    /// verified, or it has two connections to servers.
    pub fn is_bound(&self) -> bool {
        self.choice.queue_token.is_some()
            || self.other_attempt.is_some()
            || self.guards.guarded.as_ref().is_some_and(|guarded| guarded.is_called())
    }
}
