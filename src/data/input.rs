//! What a client sent and nobody has served yet: one buffer, filled by reads and emptied by requests.

use super::park::Connection;
use std::io;

/// Bytes of the client that are not served yet.
#[derive(Debug)]
pub struct Input {
    pub(super) buffer: Vec<u8>,
    pub(super) start: usize,
    pub(super) end: usize,
    /// Up to where a partial head has been looked at.
    pub(super) seen: usize,
    /// The last read took all there was.
    pub(super) drained: bool,
}

/// What a read brought.
pub(super) enum Read {
    Bytes,
    Nothing,
    End,
}

impl Input {
    pub(super) fn new(room: usize) -> Self {
        Input { buffer: vec![0; room], start: 0, end: 0, seen: 0, drained: false }
    }

    pub(super) fn begin(&mut self, carried: &[u8], seen: usize) {
        self.buffer[..carried.len()].copy_from_slice(carried);
        (self.start, self.end, self.seen, self.drained) = (0, carried.len(), seen, false);
    }

    /// The bytes.
    pub(super) fn rest(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    pub(super) fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// What is here was looked at and is no whole head.
    pub(super) fn wants_more(&self) -> bool {
        self.seen == self.end - self.start
    }

    pub(super) fn read_now(&mut self, connection: &Connection) -> Read {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        connection.handover.reads();
        let end = self.end;
        let got = connection.socket.recv_now(&mut self.buffer[end..]);
        self.took(end, got)
    }

    pub(super) fn took(&mut self, at: usize, got: io::Result<usize>) -> Read {
        match got {
            Ok(0) => Read::End,
            Ok(count) => {
                (self.start, self.end) = (if at == 0 { 0 } else { self.start }, at + count);
                self.drained = self.end < self.buffer.len();
                Read::Bytes
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.drained = true;
                Read::Nothing
            }
            Err(_) => Read::End,
        }
    }

    /// The first `used` bytes are served; `spill` holds what was read beyond the request by other means.
    pub(super) fn consume(&mut self, used: usize, spill: &mut Vec<u8>) {
        self.start += used;
        self.seen = 0;
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
        if !spill.is_empty() {
            // Bodies are read by other means only once all that was here is used up, and in reads no longer than
            // this buffer: a spill always fits.
            debug_assert!(self.start == self.end && spill.len() <= self.buffer.len());
            let fits = spill.len().min(self.buffer.len());
            self.buffer[..fits].copy_from_slice(&spill[..fits]);
            (self.start, self.end) = (0, fits);
            spill.clear();
        }
    }
}
