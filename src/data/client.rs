//! Layer 2: an exchange's client. It is a concrete type because there is one protocol; HTTP/2 would need an interface here.

use super::transport::{Moved, Stream};
use std::io;

/// The client's side of an exchange: its connection, and what it sent that was received and not used yet.
#[derive(Debug)]
pub struct Client {
    /// The connection.
    pub stream: Stream,
    /// Bytes that were received and not used: a part of a head, or pipelined requests.
    pub input: Vec<u8>,
}

impl Client {
    /// Receives bytes of a body: those that are here first.
    pub fn recv(&mut self, into: &mut [u8]) -> io::Result<Moved> {
        if self.input.is_empty() {
            return self.stream.recv(into);
        }
        let count = self.input.len().min(into.len());
        into[..count].copy_from_slice(&self.input[..count]);
        self.input.drain(..count);
        Ok(Moved::Bytes(count))
    }
}
