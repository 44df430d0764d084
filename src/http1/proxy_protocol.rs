//! The PROXY protocol, versions 1 and 2, without IO: the preamble in which a proxy before us names the client
//! of a connection (HAProxy's `proxy-protocol.txt`, sections 2.1 and 2.2).
//!
//! To be read only where it is configured and from the addresses that may send it: whoever may send it may
//! claim any address. It comes once, before the first request, and is never guessed at: a connection without
//! it is refused. What is wrong closes the connection without an answer, because the other side is no HTTP
//! client; the reason is counted and logged.

mod v1;
mod v2;

use super::head::Parsed;
use super::reason::Reason;
use std::net::SocketAddr;

/// The longest preamble that is accepted: those of version 1 end by byte 107, those of version 2 may carry
/// TLVs (certificates' names above all).
pub const PREAMBLE_MAX: usize = 4096;

/// What a preamble says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preamble {
    /// The client. None when the proxy speaks for itself (its health checks) or knows no address: the
    /// connection's own address counts then.
    pub source: Option<SocketAddr>,
    /// Where the client connected to; there whenever `source` is.
    pub destination: Option<SocketAddr>,
    /// Length of the preamble in bytes: the first request starts there.
    pub len: usize,
}

/// Reads a preamble from the start of `bytes`. [`Reason::ProxyHeaderMissing`] as soon as the bytes can be the
/// start of neither version, [`Reason::BadProxyHeader`] when one was begun and does not hold together.
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
