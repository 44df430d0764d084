//! Layer 1: a stream of bytes to a peer, whatever carries it, and what is known of its readiness.
//!
//! [`Transport`] is the one type that knows what carries the bytes: a socket, or in tests a simulated network.
//! [`Stream`] adds what the poller reported, so that a call that cannot succeed is not made.

use super::poller::{Poller, Ready, Token};
use super::socket::{Socket, Then};
use super::splice::Pipe;
use std::io::{self, IoSlice};

#[cfg(test)]
pub use super::simulation::Wire;

/// What carries the bytes.
#[derive(Debug)]
pub enum Transport {
    /// A socket, in clear text.
    Plain(Socket),
    /// One end of a simulated connection.
    #[cfg(test)]
    Simulated(Wire),
}

impl Transport {
    /// The socket, where it is one that carries the bytes as they are.
    fn plain(&self) -> Option<&Socket> {
        match self {
            Transport::Plain(socket) => Some(socket),
            #[cfg(test)]
            Transport::Simulated(_) => None,
        }
    }

    fn recv(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Transport::Plain(socket) => socket.recv(into),
            #[cfg(test)]
            Transport::Simulated(wire) => wire.recv(into),
        }
    }

    fn send(&mut self, parts: &[IoSlice<'_>], then: Then) -> io::Result<usize> {
        match self {
            Transport::Plain(socket) => socket.send(parts, then),
            #[cfg(test)]
            Transport::Simulated(wire) => wire.send(parts),
        }
    }

    fn finish_writing(&mut self) {
        match self {
            Transport::Plain(socket) => socket.finish_writing(),
            #[cfg(test)]
            Transport::Simulated(wire) => wire.finish_writing(),
        }
    }

    fn reset_on_close(&mut self) {
        match self {
            Transport::Plain(socket) => socket.reset_on_close(),
            #[cfg(test)]
            Transport::Simulated(wire) => wire.reset_on_close(),
        }
    }
}

/// What a receive or a send came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moved {
    /// So many bytes; never 0.
    Bytes(usize),
    /// None for now: an event will tell.
    Blocked,
    /// The peer has ended its stream; for receives only.
    End,
}

/// A connection to a peer, with its readiness. Edges of the poller set it, calls that fall short clear it.
#[derive(Debug)]
pub struct Stream {
    transport: Transport,
    token: Token,
    watched: Watched,
    readable: bool,
    writable: bool,
    /// The peer has ended its stream: there will be no further edge for reading.
    ended: bool,
    reset: bool,
}

/// What the poller watches it for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Watched {
    Nothing,
    Bytes,
    BytesAndRoom,
}

impl Stream {
    /// A connection that no poller knows of yet, and of which nothing is known.
    pub fn new(transport: Transport, token: Token) -> Self {
        let watched = Watched::Nothing;
        Stream { transport, token, watched, readable: true, writable: true, ended: false, reset: false }
    }

    /// Takes in what an event said.
    pub fn notify(&mut self, ready: Ready) {
        self.readable |= ready.readable;
        self.writable |= ready.writable;
        self.ended |= ready.ended;
        self.reset |= ready.reset;
    }

    /// The peer has reset the connection: nothing more can be sent to it.
    pub fn is_reset(&self) -> bool {
        self.reset
    }

    /// Whether a receive may bring something.
    pub fn may_read(&self) -> bool {
        self.readable
    }

    /// The poller's name for it.
    pub fn token(&self) -> Token {
        self.token
    }

    /// Receives what is there.
    pub fn recv(&mut self, into: &mut [u8]) -> io::Result<Moved> {
        if !self.readable {
            return Ok(Moved::Blocked);
        }
        match self.transport.recv(into) {
            Ok(0) => Ok(Moved::End),
            Ok(count) => {
                // Less than was asked for: that was all there was, and an edge tells of more (epoll(7)). Only of an
                // end that came together with the last bytes there is no further edge.
                self.readable = count == into.len() || self.ended || self.reset;
                Ok(Moved::Bytes(count))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.readable = false;
                Ok(Moved::Blocked)
            }
            Err(error) => Err(error),
        }
    }

    /// Receives, though nothing was reported to be there: for a system call it is known for certain.
    pub fn recv_now(&mut self, into: &mut [u8]) -> io::Result<Moved> {
        self.readable = true;
        self.recv(into)
    }

    /// Whether nothing is there to be received: what must be so for a server connection between two requests. For a
    /// system call more than [`Stream::may_read`] it also knows of what came since the last events.
    pub fn is_quiet(&mut self) -> bool {
        if self.ended || self.reset {
            return false;
        }
        matches!(self.recv_now(&mut [0]), Ok(Moved::Blocked))
    }

    /// Sends from several places in one call.
    pub fn send(&mut self, parts: &[IoSlice<'_>], then: Then) -> io::Result<Moved> {
        if !self.writable {
            return Ok(Moved::Blocked);
        }
        match self.transport.send(parts, then) {
            Ok(count) => Ok(Moved::Bytes(count)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.writable = false;
                Ok(Moved::Blocked)
            }
            Err(error) => Err(error),
        }
    }

    /// Sends all of `bytes` that there is room for; how many that were.
    pub fn send_some(&mut self, bytes: &[u8], then: Then) -> io::Result<usize> {
        let mut sent = 0;
        while let Some(rest) = bytes.get(sent..).filter(|rest| !rest.is_empty()) {
            match self.send(&[IoSlice::new(rest)], then)? {
                Moved::Bytes(count) => sent += count,
                _ => break,
            }
        }
        Ok(sent)
    }

    /// Whether bytes can be spliced from and to it.
    pub fn can_splice(&self) -> bool {
        self.transport.plain().is_some()
    }

    /// Fills the empty pipe with at most `most` bytes that came in.
    pub fn splice_into(&mut self, pipe: &mut Pipe, most: u64) -> io::Result<Moved> {
        let Some(socket) = self.transport.plain() else { return Ok(Moved::Blocked) };
        if !self.readable {
            return Ok(Moved::Blocked);
        }
        match pipe.fill(socket, most) {
            Ok(0) => Ok(Moved::End),
            Ok(count) => Ok(Moved::Bytes(count)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.readable = self.ended || self.reset;
                Ok(Moved::Blocked)
            }
            Err(error) => Err(error),
        }
    }

    /// Sends what the pipe holds.
    pub fn splice_from(&mut self, pipe: &mut Pipe) -> io::Result<Moved> {
        let Some(socket) = self.transport.plain() else { return Ok(Moved::Blocked) };
        if !self.writable {
            return Ok(Moved::Blocked);
        }
        match pipe.empty(socket) {
            Ok(count) => Ok(Moved::Bytes(count)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.writable = false;
                Ok(Moved::Blocked)
            }
            Err(error) => Err(error),
        }
    }

    /// No more bytes will come from us.
    pub fn finish_writing(&mut self) {
        self.transport.finish_writing();
    }

    /// Makes the close of this connection a reset.
    pub fn reset_on_close(&mut self) {
        self.transport.reset_on_close();
    }

    /// Has the poller watch it: for bytes, and for room once a send has found none. Before every wait; costs a system
    /// call only where something changes.
    pub fn watch(&mut self, poller: &Poller) -> io::Result<()> {
        let wanted = if self.writable { Watched::Bytes } else { Watched::BytesAndRoom };
        #[cfg(test)]
        if let Transport::Simulated(wire) = &self.transport {
            wire.watch(self.token);
        }
        let Some(socket) = self.transport.plain() else { return Ok(()) };
        match (self.watched, wanted) {
            (Watched::Nothing, _) => poller.add(socket.raw(), self.token, wanted == Watched::BytesAndRoom)?,
            (Watched::Bytes, Watched::BytesAndRoom) => poller.add_room(socket.raw(), self.token)?,
            _ => return Ok(()),
        }
        self.watched = wanted;
        Ok(())
    }

    /// Takes it out of the poller, for another one; nothing is known of it then, so everything is tried.
    pub fn unwatch(&mut self, poller: &Poller, token: Token) {
        if let Some(socket) = self.transport.plain().filter(|_| self.watched != Watched::Nothing) {
            poller.remove(socket.raw());
        }
        (self.watched, self.token) = (Watched::Nothing, token);
        (self.readable, self.writable) = (true, true);
    }
}
