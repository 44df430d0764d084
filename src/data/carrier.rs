//! Layer 0: what can carry bytes for the layers of a transport, which are put one over the other.

use super::socket::Then;
use std::io::{self, IoSlice};

/// A stream of bytes that never blocks: what a TLS session or a PROXY header is put over, and what comes of that.
pub trait Carrier {
    /// Receives what is there. `WouldBlock` when nothing is; 0 when the peer has ended its stream.
    fn recv(&mut self, into: &mut [u8]) -> io::Result<usize>;
    /// Sends what there is room for. `WouldBlock` when there is none.
    fn send(&mut self, parts: &[IoSlice<'_>], then: Then) -> io::Result<usize>;
    /// No more bytes will come from us.
    fn finish_writing(&mut self);
    /// Makes the close a reset.
    fn reset_on_close(&mut self);
}
