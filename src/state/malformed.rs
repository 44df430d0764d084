//! One malformed request for each reason, for the log: what its sender has to be asked about.

use crate::http1::reason::Reason;
use parking_lot::Mutex;
use std::fmt;
use std::net::SocketAddr;

/// The most bytes of a request line that the log shows.
const LINE_MAX: usize = 120;

/// The first one of each reason since the log was written last.
#[derive(Debug, Default)]
pub struct Malformed(Mutex<Vec<(Reason, Example)>>);

/// A malformed request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Example {
    peer: Option<SocketAddr>,
    request: Vec<u8>,
    line: Option<u32>,
}

impl Malformed {
    /// Keeps this one, if there is none of its reason. `line` says which line is at fault; it is asked only then.
    pub fn note(
        &self,
        reason: Reason,
        peer: Option<SocketAddr>,
        request: &[u8],
        line: impl FnOnce() -> Option<u32>,
    ) {
        let mut kept = self.0.lock();
        if kept.iter().all(|(known, _)| *known != reason) {
            let request = request.get(..LINE_MAX).unwrap_or(request).to_vec();
            kept.push((reason, Example { peer, request, line: line() }));
        }
    }

    /// Takes the one of this reason.
    pub fn take(&self, reason: Reason) -> Option<Example> {
        let mut kept = self.0.lock();
        let at = kept.iter().position(|(known, _)| *known == reason)?;
        Some(kept.swap_remove(at).1)
    }
}

impl fmt::Display for Example {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.peer {
            Some(peer) => write!(out, "{peer}")?,
            None => out.write_str("a Unix socket")?,
        }
        // Of a connection over the limit nothing is read.
        if !self.request.is_empty() {
            write!(out, " sent \"{}\"", self.request.escape_ascii())?;
        }
        self.line.map_or(Ok(()), |line| write!(out, ", at fault is line {line}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_each_reason_is_kept_and_shown_on_one_line() {
        let malformed = Malformed::default();
        let peer = "10.0.0.1:4711".parse().ok();
        malformed.note(Reason::BadHeader, peer, b"GET /\"x\r\n\xff HTTP/1.1", || Some(3));
        malformed.note(Reason::BadHeader, peer, b"another", || panic!("the bytes are not asked for"));
        malformed.note(Reason::BadHost, None, &[b'x'; 1000], || None);
        let shown = malformed.take(Reason::BadHeader).unwrap().to_string();
        assert_eq!(shown, r#"10.0.0.1:4711 sent "GET /\"x\r\n\xff HTTP/1.1", at fault is line 3"#);
        assert_eq!(malformed.take(Reason::BadHeader), None);
        let shown = malformed.take(Reason::BadHost).unwrap().to_string();
        malformed.note(Reason::ConnectionLimit, peer, b"", || None);
        assert_eq!(malformed.take(Reason::ConnectionLimit).unwrap().to_string(), "10.0.0.1:4711");
        assert_eq!(shown, format!("a Unix socket sent \"{}\"", "x".repeat(LINE_MAX)));
    }
}
