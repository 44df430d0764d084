//! Layer 1: a stream of bytes to a peer, whatever carries it, and what is known of its readiness.
//!
//! [`Transport`] is the one type that knows what carries the bytes: a socket, TLS over one, or in tests a simulated network.
//! [`Stream`] adds what the poller reported, so that a call that cannot succeed is not made.

use super::carrier::Carrier;
use super::poller::{Poller, Ready, Token};
use super::proxy_header::WithProxyHeader;
use super::socket::{Socket, Then};
use super::splice::{Pipe, Pipes};
use super::tls::Tls;
use rustls::Connection;
use std::io::{self, IoSlice};
use std::os::fd::RawFd;

#[cfg(test)]
pub use super::simulation::Wire;

/// What carries the bytes.
#[derive(Debug)]
pub enum Transport {
    /// A socket, in clear text.
    Plain(Socket),
    /// TLS over another one.
    Tls(Box<Tls<Transport>>),
    /// A new connection to a server that begins with a PROXY header.
    WithProxyHeader(Box<WithProxyHeader<Transport>>),
    /// None: it is being changed for another one.
    Closed,
    /// Nothing comes from it, and what is sent to it is dropped: the client of a copied request.
    Discard,
    /// One end of a simulated connection.
    #[cfg(test)]
    Simulated(Wire),
}

impl Transport {
    /// The socket, where it is one that carries the bytes as they are.
    fn plain(&self) -> Option<&Socket> {
        match self {
            Transport::Plain(socket) => Some(socket),
            Transport::WithProxyHeader(inner) => inner.carrier().plain(),
            Transport::Tls(_) | Transport::Closed | Transport::Discard => None,
            #[cfg(test)]
            Transport::Simulated(_) => None,
        }
    }

    /// What the poller watches.
    fn descriptor(&self) -> Option<RawFd> {
        match self {
            Transport::Tls(tls) => tls.carrier().descriptor(),
            other => other.plain().map(Socket::raw),
        }
    }

    #[cfg(test)]
    fn wire(&self) -> Option<&Wire> {
        match self {
            Transport::Simulated(wire) => Some(wire),
            Transport::Tls(tls) => tls.carrier().wire(),
            Transport::WithProxyHeader(inner) => inner.carrier().wire(),
            _ => None,
        }
    }

    fn tls(&self) -> Option<&Tls<Transport>> {
        match self {
            Transport::Tls(tls) => Some(tls),
            _ => None,
        }
    }

    /// Whether a receive may bring more, after one that brought so many bytes of those asked for.
    fn has_more(&self, count: usize, asked: usize) -> bool {
        match self {
            Transport::Tls(tls) => tls.has_more(),
            // Less than was asked for: that was all there was, and an edge tells of more (epoll(7)).
            _ => count == asked,
        }
    }

    /// Whether a send that found no room waits for room: it may also wait for what the peer sends in a handshake.
    fn waits_for_room(&self) -> bool {
        self.tls().is_none_or(Tls::is_blocked)
    }
}

impl Carrier for Transport {
    fn recv(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self {
            Transport::Plain(socket) => socket.recv(into),
            Transport::Tls(tls) => tls.recv(into),
            Transport::WithProxyHeader(inner) => inner.recv(into),
            Transport::Closed => Err(io::ErrorKind::NotConnected.into()),
            Transport::Discard => Ok(0),
            #[cfg(test)]
            Transport::Simulated(wire) => wire.recv(into),
        }
    }

    fn send(&mut self, parts: &[IoSlice<'_>], then: Then) -> io::Result<usize> {
        match self {
            Transport::Plain(socket) => socket.send(parts, then),
            Transport::Tls(tls) => tls.send(parts, then),
            Transport::WithProxyHeader(inner) => inner.send(parts, then),
            Transport::Closed => Err(io::ErrorKind::NotConnected.into()),
            Transport::Discard => Ok(parts.iter().map(|part| part.len()).sum()),
            #[cfg(test)]
            Transport::Simulated(wire) => wire.send(parts),
        }
    }

    fn finish_writing(&mut self) {
        match self {
            Transport::Plain(socket) => socket.finish_writing(),
            Transport::Tls(tls) => tls.finish_writing(),
            Transport::WithProxyHeader(inner) => inner.finish_writing(),
            Transport::Closed | Transport::Discard => {}
            #[cfg(test)]
            Transport::Simulated(wire) => wire.finish_writing(),
        }
    }

    fn reset_on_close(&mut self) {
        match self {
            Transport::Plain(socket) => socket.reset_on_close(),
            Transport::Tls(tls) => tls.reset_on_close(),
            Transport::WithProxyHeader(inner) => inner.reset_on_close(),
            Transport::Closed | Transport::Discard => {}
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
        if let (true, Transport::Tls(tls)) = (ready.writable, &mut self.transport) {
            tls.flush_waiting();
            self.writable = !tls.is_blocked();
        }
    }

    /// Goes on in TLS: `early` are bytes of it that were received already.
    pub fn secure(&mut self, session: Connection, early: &[u8]) {
        let carrier = std::mem::replace(&mut self.transport, Transport::Closed);
        self.transport = Transport::Tls(Box::new(Tls::new(carrier, session, early)));
        // What is here of it is no event.
        self.readable = true;
    }

    /// The TLS session, if there is one.
    pub fn tls(&self) -> Option<&Tls<Transport>> {
        self.transport.tls()
    }

    /// What is wrong with its TLS session, for people; `None` where nothing is, or it has none.
    pub fn tls_trouble(&self) -> Option<String> {
        self.transport.tls().and_then(Tls::trouble)
    }

    /// Goes on with the handshake, if one is to be made; true when it is complete.
    pub fn handshake(&mut self) -> io::Result<bool> {
        let Transport::Tls(tls) = &mut self.transport else { return Ok(true) };
        if !self.readable && tls.is_handshaking() {
            return Ok(false);
        }
        let done = tls.handshake();
        self.settle(0, 1);
        done
    }

    /// What is known of the readiness after a call.
    fn settle(&mut self, count: usize, asked: usize) {
        // Only of an end that came together with the last bytes there is no further edge.
        self.readable = self.transport.has_more(count, asked) || self.ended || self.reset;
        if let Some(tls) = self.transport.tls() {
            self.writable = !tls.is_blocked();
        }
    }

    /// The peer has reset the connection: nothing more can be sent to it.
    pub fn is_reset(&self) -> bool {
        self.reset
    }

    /// The peer has ended its stream, as far as is known.
    pub fn has_ended(&self) -> bool {
        self.ended
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
                self.settle(count, into.len());
                Ok(Moved::Bytes(count))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.readable = false;
                self.writable &= self.transport.tls().is_none_or(|tls| !tls.is_blocked());
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
        let sent = self.transport.send(parts, then);
        // A handshake receives, too.
        self.readable |= self.transport.tls().is_some_and(Tls::has_more);
        match sent {
            Ok(count) => Ok(Moved::Bytes(count)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.writable = !self.transport.waits_for_room();
                Ok(Moved::Blocked)
            }
            Err(error) => Err(error),
        }
    }

    /// Sends all of these bytes that there is room for; how many that were.
    pub fn send_some(&mut self, bytes: &[u8], then: Then) -> io::Result<usize> {
        self.send_parts(&mut [IoSlice::new(bytes)], then)
    }

    /// The same from several places.
    pub fn send_parts(&mut self, mut parts: &mut [IoSlice<'_>], then: Then) -> io::Result<usize> {
        let mut sent = 0;
        // Empty ones are passed over.
        IoSlice::advance_slices(&mut parts, 0);
        while !parts.is_empty() {
            let Moved::Bytes(count) = self.send(parts, then)? else { break };
            sent += count;
            IoSlice::advance_slices(&mut parts, count);
        }
        Ok(sent)
    }

    /// Whether bytes can be spliced from and to it.
    pub fn can_splice(&self) -> bool {
        self.transport.plain().is_some()
    }

    /// A pipe with at most `most` bytes that came in. `None`: there are none for now, or no pipe; an end is `UnexpectedEof`.
    pub fn take_pipeful(&mut self, pipes: &mut Pipes, most: u64) -> io::Result<Option<Pipe>> {
        let Some(mut pipe) = pipes.take() else { return Ok(None) };
        match self.splice_into(&mut pipe, most)? {
            Moved::Bytes(_) => Ok(Some(pipe)),
            Moved::Blocked => {
                pipes.give(pipe);
                Ok(None)
            }
            Moved::End => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    fn splice_into(&mut self, pipe: &mut Pipe, most: u64) -> io::Result<Moved> {
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
        if let Some(wire) = self.transport.wire() {
            wire.watch(self.token);
        }
        let Some(descriptor) = self.transport.descriptor() else { return Ok(()) };
        match (self.watched, wanted) {
            (Watched::Nothing, _) => poller.add(descriptor, self.token, wanted == Watched::BytesAndRoom)?,
            (Watched::Bytes, Watched::BytesAndRoom) => poller.add_room(descriptor, self.token)?,
            _ => return Ok(()),
        }
        self.watched = wanted;
        Ok(())
    }

    /// Takes it out of the poller, for another one; nothing is known of it then, so everything is tried.
    pub fn unwatch(&mut self, poller: &Poller, token: Token) {
        if let Some(descriptor) = self.transport.descriptor().filter(|_| self.watched != Watched::Nothing) {
            poller.remove(descriptor);
        }
        (self.watched, self.token) = (Watched::Nothing, token);
        (self.readable, self.writable) = (true, true);
    }
}
