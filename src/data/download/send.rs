//! The client's side of a response: what is sent, and what it has not taken yet.

use super::Download;
use crate::data::client::Client;
use crate::data::failure::Failure;
use crate::data::socket::Then;
use crate::data::splice::Pipes;
use crate::data::transport::Moved;
use crate::http1::reason::Reason;

impl Download {
    /// Sends an interim response of our own.
    pub fn send_interim(&mut self, client: &mut Client, head: &[u8]) -> Result<(), Failure> {
        self.send_reply(client, &mut head.to_vec(), Then::Open)
    }

    /// Sends what is here and was not sent. `then` follows when that is all. How many bytes moved; an error is the
    /// client's.
    pub fn flush(&mut self, client: &mut Client, then: Then, pipes: &mut Pipes) -> Result<usize, Failure> {
        let gone = |_| Failure::last(Reason::ClientGone);
        let mut moved = 0;
        if let Some(unsent) = self.out.get(self.sent..).filter(|unsent| !unsent.is_empty()) {
            moved = client.stream.send_some(unsent, then).map_err(gone)?;
            self.sent += moved;
        }
        if self.sent == self.out.len() {
            self.out.clear();
            self.sent = 0;
        }
        while let Some(mut pipe) = self.pipe.take_if(|_| self.sent == self.out.len()) {
            match client.stream.splice_from(&mut pipe).map_err(gone)? {
                Moved::Bytes(count) => moved += count,
                _ => {
                    self.pipe = Some(pipe);
                    break;
                }
            }
            match pipe.held() {
                0 => pipes.give(pipe),
                _ => self.pipe = Some(pipe),
            }
        }
        self.bytes += moved as u64;
        Ok(moved)
    }

    /// Sends a short message, and keeps what the client does not take now.
    pub(super) fn send_reply(
        &mut self,
        client: &mut Client,
        reply: &mut Vec<u8>,
        then: Then,
    ) -> Result<(), Failure> {
        let sent = match self.has_unsent() {
            true => 0,
            false => client.stream.send_some(reply, then).map_err(|_| Failure::last(Reason::ClientGone))?,
        };
        self.bytes += sent as u64;
        self.out.extend_from_slice(&reply[sent..]);
        reply.clear();
        Ok(())
    }
}
