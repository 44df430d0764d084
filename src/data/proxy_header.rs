//! Layer 1: a new connection to a server that begins with a PROXY header, whatever follows.

use super::carrier::Carrier;
use super::socket::Then;
use std::io::{self, IoSlice};

/// A transport, and what is left of the header that goes before everything else.
#[derive(Debug)]
pub struct WithProxyHeader<C: Carrier> {
    carrier: C,
    header: Vec<u8>,
}

impl<C: Carrier> WithProxyHeader<C> {
    /// Of a connection on which nothing was sent.
    pub fn new(carrier: C, header: Vec<u8>) -> Self {
        WithProxyHeader { carrier, header }
    }

    /// What carries it.
    pub fn carrier(&self) -> &C {
        &self.carrier
    }
}

impl<C: Carrier> Carrier for WithProxyHeader<C> {
    fn recv(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.carrier.recv(into)
    }

    /// Only what follows the header counts as sent: an attempt of which the header alone has gone may be made again.
    fn send(&mut self, parts: &[IoSlice<'_>], then: Then) -> io::Result<usize> {
        if self.header.is_empty() {
            return self.carrier.send(parts, then);
        }
        let mut all = vec![IoSlice::new(&self.header)];
        all.extend(parts.iter().map(|part| IoSlice::new(part)));
        let sent = self.carrier.send(&all, then)?;
        let of_header = sent.min(self.header.len());
        self.header.drain(..of_header);
        match sent - of_header {
            // It took the header, and has no room for more.
            0 => Err(io::ErrorKind::WouldBlock.into()),
            rest => Ok(rest),
        }
    }

    fn finish_writing(&mut self) {
        self.carrier.finish_writing();
    }

    fn reset_on_close(&mut self) {
        self.carrier.reset_on_close();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes so many bytes, and has no room then.
    struct Narrow {
        room: usize,
        sent: Vec<u8>,
    }

    impl Carrier for Narrow {
        fn recv(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Ok(0)
        }

        fn send(&mut self, parts: &[IoSlice<'_>], _: Then) -> io::Result<usize> {
            let all: Vec<u8> = parts.iter().flat_map(|part| part.to_vec()).collect();
            let taken = all.len().min(std::mem::take(&mut self.room));
            self.sent.extend(&all[..taken]);
            if taken == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(taken) }
        }

        fn finish_writing(&mut self) {}

        fn reset_on_close(&mut self) {}
    }

    #[test]
    fn the_header_goes_first_whatever_room_there_is() {
        for room in 1..=12 {
            let mut stream = WithProxyHeader::new(Narrow { room, sent: Vec::new() }, b"PROXY ".to_vec());
            let mut count = 0;
            while count < 5 {
                let rest = &b"GET /"[count..];
                match stream.send(&[IoSlice::new(rest)], Then::Open) {
                    Ok(sent) => count += sent,
                    Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
                }
                stream.carrier.room = room;
            }
            assert_eq!(stream.carrier.sent, b"PROXY GET /", "{room}");
        }
    }
}
