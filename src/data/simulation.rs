//! A network without sockets, for tests: connections that deliver bytes in pieces of any size, at any time, and end or break
//! at any byte. The exchange, its transports and the worker's server pool run on it as they are; time is a value, and the
//! same seed gives the same run.

use super::context::Target;
use super::poller::{Ready, Token};
use super::transport::Transport;
use crate::base::random::Random;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::io::{self, IoSlice, Read};
use std::sync::Arc;

mod interim;
mod peers;
mod tls;
mod world;

/// One end of a connection.
#[derive(Debug)]
pub struct Wire {
    shared: Arc<Mutex<Duplex>>,
    /// 0 is the balancer's.
    side: usize,
    reset_on_close: bool,
}

/// Both directions of a connection.
#[derive(Debug, Default)]
pub struct Duplex {
    /// `halves[n]` is what side n sends.
    halves: [Half; 2],
    closed: [bool; 2],
    /// The reset has been reported to the side.
    reset: [bool; 2],
    token: Option<Token>,
    /// What the balancer's poller has to tell.
    edge: Ready,
    wants_room: bool,
}

/// One direction.
#[derive(Debug, Default)]
struct Half {
    /// On its way.
    transit: VecDeque<u8>,
    /// To be received.
    arrived: VecDeque<u8>,
    capacity: usize,
    ended: bool,
    end_arrived: bool,
}

impl Half {
    fn room(&self) -> usize {
        self.capacity.saturating_sub(self.transit.len() + self.arrived.len())
    }
}

impl Wire {
    /// Both ends of a connection whose directions hold so many bytes.
    pub fn pair(capacity: usize) -> (Wire, Wire) {
        let mut duplex = Duplex::default();
        duplex.halves.iter_mut().for_each(|half| half.capacity = capacity);
        let shared = Arc::new(Mutex::new(duplex));
        let end = |side| Wire { shared: Arc::clone(&shared), side, reset_on_close: false };
        (end(0), end(1))
    }

    /// Receives, as a socket does.
    pub fn recv(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let mut duplex = self.shared.lock();
        let reset = duplex.reset[self.side];
        let half = &mut duplex.halves[1 - self.side];
        if !half.arrived.is_empty() {
            // One read takes from one of the two pieces of a ring at the most; a socket gives what there is.
            let count = half.arrived.read(into)?;
            return Ok(count + half.arrived.read(&mut into[count..])?);
        }
        match (reset, half.end_arrived) {
            (true, _) => Err(io::ErrorKind::ConnectionReset.into()),
            (false, true) => Ok(0),
            (false, false) => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    /// Sends, as a socket does.
    pub fn send(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut duplex = self.shared.lock();
        if duplex.reset[self.side] {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let half = &mut duplex.halves[self.side];
        let mut sent = 0;
        for part in parts {
            let count = half.room().min(part.len());
            half.transit.extend(&part[..count]);
            sent += count;
        }
        if sent == 0 {
            duplex.wants_room |= self.side == 0;
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(sent)
    }

    /// No more bytes come from this end.
    pub fn finish_writing(&mut self) {
        self.shared.lock().halves[self.side].ended = true;
    }

    /// The close is to be a reset.
    pub fn reset_on_close(&mut self) {
        self.reset_on_close = true;
    }

    /// The balancer's poller watches it: what is there is reported at once.
    pub fn watch(&self, token: Token) {
        let mut duplex = self.shared.lock();
        if duplex.token == Some(token) {
            return;
        }
        duplex.token = Some(token);
        let half = &duplex.halves[1];
        let readable = !half.arrived.is_empty() || half.end_arrived || duplex.reset[0];
        duplex.edge = Ready {
            readable,
            writable: duplex.halves[0].room() > 0,
            ended: half.end_arrived,
            reset: duplex.reset[0],
        };
    }

    /// The same connection, for the network that moves its bytes.
    pub fn shared(&self) -> Arc<Mutex<Duplex>> {
        Arc::clone(&self.shared)
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        let mut duplex = self.shared.lock();
        let unread = !duplex.halves[1 - self.side].arrived.is_empty();
        duplex.closed[self.side] = true;
        duplex.halves[self.side].ended = true;
        if unread || self.reset_on_close {
            duplex.break_for(1 - self.side);
        }
    }
}

impl Duplex {
    /// A reset reaches this side: what has not arrived is lost.
    fn break_for(&mut self, side: usize) {
        self.halves[1 - side].transit.clear();
        self.halves[side].transit.clear();
        self.reset[side] = true;
        if side == 0 {
            self.edge = Ready { readable: true, writable: true, ended: true, reset: true };
        }
    }

    /// Whether something is on its way from this side.
    pub fn has_transit(&self, side: usize) -> bool {
        let half = &self.halves[side];
        !half.transit.is_empty() || half.ended && !half.end_arrived
    }

    /// Moves some of what this side has sent to the other.
    pub fn deliver(&mut self, side: usize, most: usize) {
        let to = 1 - side;
        if self.closed[to] && !self.halves[side].transit.is_empty() {
            // Bytes for a closed connection are answered with a reset.
            return self.break_for(side);
        }
        let half = &mut self.halves[side];
        let count = half.transit.len().min(most.max(1));
        let Half { transit, arrived, .. } = half;
        let (first, second) = transit.as_slices();
        let from_first = count.min(first.len());
        arrived.extend(&first[..from_first]);
        arrived.extend(&second[..count - from_first]);
        transit.drain(..count);
        let ends = half.transit.is_empty() && half.ended && !half.end_arrived;
        half.end_arrived |= ends;
        if to == 0 {
            self.edge.readable |= count > 0 || ends;
            self.edge.ended |= ends;
        }
    }

    /// What the balancer's poller has to tell of this connection, once.
    pub fn take_edge(&mut self) -> Option<(Token, Ready)> {
        let token = self.token?;
        if self.wants_room && self.halves[0].room() > 0 {
            self.wants_room = false;
            self.edge.writable = true;
        }
        let edge = std::mem::take(&mut self.edge);
        (edge != Ready::default()).then_some((token, edge))
    }

    /// Both ends have let go.
    pub fn is_over(&self) -> bool {
        self.closed == [true, true]
    }
}

/// Where simulated servers are connected to.
#[derive(Debug)]
pub struct Net {
    random: Random,
    /// Of 100 connects so many are refused.
    refused_percent: usize,
    /// Connections that servers have to take.
    pub accepted: VecDeque<(u16, Wire)>,
}

impl Net {
    /// A network in which so many of 100 connects are refused.
    pub fn new(seed: u64, refused_percent: usize) -> Self {
        Net { random: Random::seeded(seed), refused_percent, accepted: VecDeque::new() }
    }

    /// Connects to the server of this port.
    pub fn connect(&mut self, to: Target<'_>) -> io::Result<Transport> {
        let Target::Tcp(address, _) = to else { return Err(io::ErrorKind::NotFound.into()) };
        if self.random.below(100) < self.refused_percent {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let capacity = [100, 600, 5000, 100_000][self.random.below(4)];
        let (near, far) = Wire::pair(capacity);
        self.accepted.push_back((address.port(), far));
        Ok(Transport::Simulated(near))
    }
}
