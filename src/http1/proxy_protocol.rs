//! The PROXY protocol, versions 1 and 2, without IO: the preamble in which a proxy in front of us names the client of a
//! connection (HAProxy's `proxy-protocol.txt`, sections 2.1 and 2.2).
//!
//! It is read only where it is configured and from the addresses that may send it, because its sender may claim any
//! address. It appears once, before the first request, and is never guessed: a connection without it is rejected. A
//! fault closes the connection without a response, because the peer is not an HTTP client; the reason is counted and
//! logged.

mod v1;
mod v2;
mod written;

use super::head::Parsed;
use super::reason::Reason;
use std::net::SocketAddr;
pub use written::{Version, written};

/// The longest preamble that is accepted: those of version 1 end by byte 107, those of version 2 may contain TLVs
/// (mainly certificate names).
pub const PREAMBLE_MAX: usize = 4096;

/// The content of a preamble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preamble {
    /// The client. None when the connection is the proxy's own (its health checks) or it knows no address: the
    /// connection's own address is used then.
    pub source: Option<SocketAddr>,
    /// Where the client connected to; present whenever `source` is.
    pub destination: Option<SocketAddr>,
    /// Length of the preamble in bytes: the first request starts there.
    pub len: usize,
}

/// Parses a preamble from the start of `bytes`. [`Reason::ProxyHeaderMissing`] as soon as the bytes cannot be the start
/// of either version, [`Reason::BadProxyHeader`] for an invalid preamble.
pub fn parse(bytes: &[u8]) -> Result<Parsed<Preamble>, Reason> {
    let begins = |signature: &[u8]| bytes.iter().zip(signature).all(|(ours, theirs)| ours == theirs);
    let is_whole = |signature: &[u8]| bytes.len() >= signature.len();
    if begins(v2::SIGNATURE) {
        if is_whole(v2::SIGNATURE) { v2::parse(bytes) } else { Ok(Parsed::Partial) }
    } else if begins(v1::SIGNATURE) {
        if is_whole(v1::SIGNATURE) { v1::parse(bytes) } else { Ok(Parsed::Partial) }
    } else {
        Err(Reason::ProxyHeaderMissing)
    }
}

#[cfg(test)]
mod tests;
