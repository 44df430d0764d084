//! Layer 5: connections that wait for a request, or for the rest of a head, with the accept thread.

use crate::base::time::Moment;
use crate::data::h1::Connection;
use crate::data::poller::{Side, Token};
use crate::data::timers::Timers;
use slab::Slab;
use std::collections::VecDeque;

/// Parked connections: by the poller's token, by their deadlines, and in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Parked {
    connections: Slab<(u32, Box<Connection>)>,
    /// Keys and generations; what it says of connections that have left is out of date.
    order: VecDeque<(usize, u32)>,
    timers: Timers,
    generation: u32,
}

impl Parked {
    /// The token of the connection that is parked next. Its generation is never 0.
    pub(super) fn next_token(&mut self) -> Token {
        self.generation = (self.generation.wrapping_add(1) & (u32::MAX >> 1)).max(1);
        Token::new(Side::Client, self.connections.vacant_key(), self.generation)
    }

    /// Parks a connection that is watched by the last [`Parked::next_token`].
    pub(super) fn insert(&mut self, connection: Box<Connection>, token: Token, deadline: Moment) {
        let key = self.connections.insert((token.generation, connection));
        self.order.push_back((key, token.generation));
        self.timers.look_by(token, Moment::NEVER, deadline);
        // Much of the order is out of date: it is made new from those that are there. For that to come again, as many have to be
        // parked as there is room for.
        if self.order.len() > 2 * self.connections.capacity() {
            let here = &self.connections;
            self.order.retain(|(key, generation)| here.get(*key).is_some_and(|(here, _)| here == generation));
        }
    }

    /// The connection of a token, unless it has left.
    pub(super) fn take(&mut self, token: Token) -> Option<Box<Connection>> {
        self.take_of(token.key as usize, token.generation)
    }

    fn take_of(&mut self, key: usize, generation: u32) -> Option<Box<Connection>> {
        self.connections.get(key).filter(|(here, _)| *here == generation)?;
        Some(self.connections.remove(key).1)
    }

    /// The one that has been parked for longest.
    pub(super) fn take_oldest(&mut self) -> Option<Box<Connection>> {
        loop {
            let (key, generation) = self.order.pop_front()?;
            if let Some(connection) = self.take_of(key, generation) {
                return Some(connection);
            }
        }
    }

    /// One whose deadline is over.
    pub(super) fn take_due(&mut self, now: Moment) -> Option<Box<Connection>> {
        loop {
            let (_, key, generation) = self.timers.pop_due(now)?;
            if let Some(connection) = self.take_of(key as usize, generation) {
                return Some(connection);
            }
        }
    }

    /// When the next deadline may be over.
    pub(super) fn next_deadline(&self) -> Moment {
        self.timers.next()
    }

    /// How many there are.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.connections.len()
    }
}
