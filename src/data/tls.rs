//! Layer 1: a TLS session over another transport, towards a client or a server. rustls does the work without sockets; this
//! moves its records and keeps to the rules of a non-blocking stream: what is told as sent has left this process, and a
//! call that says `WouldBlock` is made again with the same bytes.

mod slices;

use super::buffers::BODY_BYTES;
use super::carrier::Carrier;
use super::socket::Then;
use crate::state::tls::servers;
use rustls::{Connection, Error};
use slices::Slices;
use std::cell::RefCell;
use std::io::{self, IoSlice, Read, Write};

/// Bytes of records received at once, however few are wanted: two records of the largest size. rustls itself would read
/// 4 KiB.
const RECEIVED_BYTES: usize = 32 * 1024;

/// Plaintext of a record that fits one packet of any network together with its overhead: at the beginning of a connection a
/// larger one would keep its reader waiting for the packets behind the first. After [`BODY_BYTES`] the network's window has
/// grown, and records are as large as TLS allows, which the session sees to.
const SMALL_RECORD_BYTES: usize = 1300;

thread_local! {
    static RECEIVED: RefCell<Vec<u8>> = RefCell::new(vec![0; RECEIVED_BYTES]);
}

/// A session, and what carries it.
#[derive(Debug)]
pub struct Tls<C: Carrier> {
    carrier: C,
    session: Connection,
    /// Records that were received and that the session had no room for.
    inbox: Vec<u8>,
    /// Plaintext that waits in the session.
    plaintext: usize,
    /// Bytes whose records are made and not all sent. They are told as sent when they are.
    owed: usize,
    sent: u64,
    /// Records were sent.
    has_sent: bool,
    /// The last receive took all that was there: an edge tells of more.
    dry: bool,
    ended: bool,
    /// The peer has sent close_notify. Its connection may stay open, and no event tells of this end.
    closed: bool,
    /// Records wait for room.
    blocked: bool,
    /// Our side is closed, or is to be when the last records are out.
    closing: Closing,
    /// What the session ended with.
    failure: Option<Error>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Closing {
    No,
    /// close_notify is among the records.
    Told,
    /// The carrier is to end behind them.
    EndsCarrier,
    /// A close without a word.
    Aborted,
}

impl<C: Carrier> Tls<C> {
    /// A session whose first records are `early`, followed by what comes.
    pub fn new(carrier: C, session: Connection, early: &[u8]) -> Self {
        Tls {
            carrier,
            session,
            inbox: early.to_vec(),
            plaintext: 0,
            owed: 0,
            sent: 0,
            has_sent: false,
            dry: false,
            ended: false,
            closed: false,
            blocked: false,
            closing: Closing::No,
            failure: None,
        }
    }

    /// What carries it.
    pub fn carrier(&self) -> &C {
        &self.carrier
    }

    /// The session, for what it knows of its peer.
    pub fn session(&self) -> &Connection {
        &self.session
    }

    /// What the session ended with, if it did.
    pub fn failure(&self) -> Option<&Error> {
        self.failure.as_ref()
    }

    /// What is wrong, for people, where the session or its handshake has failed.
    pub fn trouble(&self) -> Option<String> {
        match &self.failure {
            Some(error) => Some(servers::words(error)),
            // Nothing was sent where the connection itself was not made.
            None if self.has_sent && self.session.is_handshaking() => {
                Some("the server closed the connection in the TLS handshake".to_owned())
            }
            None => None,
        }
    }

    /// Whether the handshake is not complete.
    pub fn is_handshaking(&self) -> bool {
        self.session.is_handshaking()
    }

    /// Whether a receive may bring something without an event.
    pub fn has_more(&self) -> bool {
        !self.dry || self.ended || self.closed || self.plaintext > 0 || !self.inbox.is_empty()
    }

    /// Whether records wait for room.
    pub fn is_blocked(&self) -> bool {
        self.blocked
    }

    /// Goes on with the handshake; true when it is complete. An end in the middle is `UnexpectedEof`.
    pub fn handshake(&mut self) -> io::Result<bool> {
        loop {
            self.flush()?;
            if !self.session.is_handshaking() {
                return Ok(true);
            }
            if self.ended {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if !self.receive()? {
                return Ok(false);
            }
        }
    }

    /// Receives plaintext; 0 at the end. An end without close_notify is one for what clients send, because what they
    /// send says itself where it ends; of a server it is an error (RFC 9112 section 9.8).
    pub fn recv(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.failure.is_some() {
            return self.drop_input(into);
        }
        loop {
            match self.session.reader().read(into) {
                Ok(count) => {
                    self.plaintext = self.plaintext.saturating_sub(count);
                    return Ok(count);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof && self.is_of_client() => {
                    return Ok(0);
                }
                Err(error) => return Err(error),
            }
            if !self.receive()? {
                return Err(io::ErrorKind::WouldBlock.into());
            }
        }
    }

    /// Sends plaintext. `WouldBlock`: the same bytes are to be sent again later.
    pub fn send(&mut self, parts: &[IoSlice<'_>], then: Then) -> io::Result<usize> {
        if self.failure.is_some() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        if self.session.is_handshaking() && !self.handshake()? {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.flush_or_block()?;
        if self.owed == 0 {
            self.owed = self.encrypt(parts)?;
            let total: usize = parts.iter().map(|part| part.len()).sum();
            if then == Then::End && self.owed == total {
                self.tell_end();
            }
            self.flush_or_block()?;
        }
        Ok(std::mem::take(&mut self.owed))
    }

    /// Sends what waits, after room was told of.
    pub fn flush_waiting(&mut self) {
        if self.blocked {
            // An error is met again by the next call.
            let _ = self.flush();
        }
    }

    /// close_notify, then the end of the carrier.
    pub fn finish_writing(&mut self) {
        self.tell_end();
        self.closing = Closing::EndsCarrier;
        if !matches!(self.flush(), Ok(false)) {
            self.carrier.finish_writing();
        }
    }

    /// No close_notify: the peer is to see that something is missing.
    pub fn reset_on_close(&mut self) {
        self.closing = Closing::Aborted;
        self.carrier.reset_on_close();
    }

    fn is_of_client(&self) -> bool {
        matches!(self.session, Connection::Server(_))
    }

    fn tell_end(&mut self) {
        if self.closing == Closing::No && self.failure.is_none() && !self.session.is_handshaking() {
            self.session.send_close_notify();
            self.closing = Closing::Told;
        }
    }

    fn encrypt(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut done = 0;
        let mut rest = Slices::of(parts);
        while done < BODY_BYTES {
            let most = if self.sent < BODY_BYTES as u64 { SMALL_RECORD_BYTES } else { BODY_BYTES };
            let some = rest.take(most);
            if some.is_empty() {
                break;
            }
            let count = self.session.writer().write_vectored(some)?;
            done += count;
            self.sent += count as u64;
            if !rest.advance(count) {
                break;
            }
        }
        Ok(done)
    }

    fn flush_or_block(&mut self) -> io::Result<()> {
        if self.flush()? { Ok(()) } else { Err(io::ErrorKind::WouldBlock.into()) }
    }

    /// Sends the records there are; false when some have to wait for room.
    fn flush(&mut self) -> io::Result<bool> {
        self.blocked = false;
        while self.session.wants_write() {
            match self.session.write_tls(&mut Records(&mut self.carrier)) {
                Ok(_) => self.has_sent = true,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.blocked = true;
                    return Ok(false);
                }
                Err(error) => return Err(error),
            }
        }
        if self.closing == Closing::EndsCarrier {
            self.carrier.finish_writing();
        }
        Ok(true)
    }

    /// Receives records, and takes them in. False: none are there.
    fn receive(&mut self) -> io::Result<bool> {
        if !self.inbox.is_empty() {
            let waiting = std::mem::take(&mut self.inbox);
            self.take_in(&waiting)?;
            return Ok(true);
        }
        if self.ended {
            // What is left of a record will not become whole.
            return Ok(false);
        }
        let is_there = RECEIVED.with_borrow_mut(|received| match self.carrier.recv(received) {
            Ok(count) => {
                (self.dry, self.ended) = (count < received.len(), count == 0);
                self.take_in(&received[..count]).map(|()| true)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.dry = true;
                Ok(false)
            }
            Err(error) => Err(error),
        })?;
        Ok(is_there)
    }

    fn take_in(&mut self, mut records: &[u8]) -> io::Result<()> {
        loop {
            match self.session.read_tls(&mut records) {
                // The peer has closed; what comes behind that is nothing.
                Ok(0) => records = &[],
                Ok(_) => {}
                // The session has plaintext enough.
                Err(_) if self.plaintext > 0 => {
                    self.inbox = records.to_vec();
                    break;
                }
                // A record or a message that is longer than any may be.
                Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
            }
            match self.session.process_new_packets() {
                Ok(state) => {
                    (self.plaintext, self.closed) =
                        (state.plaintext_bytes_to_read(), state.peer_has_closed());
                }
                Err(error) => return Err(self.fail(error)),
            }
            if records.is_empty() {
                break;
            }
        }
        // An error is met again by the next send: what was received is not lost by it.
        let _ = self.flush();
        Ok(())
    }

    /// The session is over; its alert goes out, if there is room.
    fn fail(&mut self, error: Error) -> io::Error {
        let _ = self.flush();
        self.failure = Some(error.clone());
        io::Error::new(io::ErrorKind::InvalidData, error)
    }

    /// After a failure: bytes are dropped, so that the close does not take the alert away.
    fn drop_input(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.closing != Closing::EndsCarrier {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let count = self.carrier.recv(into)?;
        (self.dry, self.ended) = (count < into.len(), count == 0);
        Ok(count)
    }
}

impl<C: Carrier> Drop for Tls<C> {
    /// An orderly close says so.
    fn drop(&mut self) {
        if self.closing == Closing::No {
            self.tell_end();
            let _ = self.flush();
        }
    }
}

/// Where records go.
struct Records<'t, C>(&'t mut C);

impl<C: Carrier> Write for Records<'_, C> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.send(&[IoSlice::new(bytes)], Then::Open)
    }

    fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.send(parts, Then::Open)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
