//! Servers named by their fault, and a few that are well.

use super::origin::{Origin, Visit};
use super::{Gate, chunked};

/// A response with a length, as text.
pub fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// When a server closes.
#[derive(Clone, Copy, Debug)]
pub enum Early {
    /// It has read the request and says nothing.
    BeforeTheResponse,
    /// Its head is half sent.
    InTheHead,
    /// Its body is half sent.
    InTheBody,
}

impl Origin {
    /// Responds to every request with this body.
    pub fn responds(body: &'static str) -> Self {
        Origin::says(ok(body))
    }

    /// Responds to every request with these bytes, and goes on.
    pub fn says(bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = bytes.into();
        Origin::replies(move |visit| visit.send(&bytes))
    }

    /// Responds to every request by this, and goes on.
    pub fn replies(reply: impl Fn(&mut Visit) + Send + Sync + 'static) -> Self {
        Origin::start(move |visit| {
            while visit.request().is_some() {
                reply(visit);
            }
        })
    }

    /// Responds to one request with these bytes and closes.
    pub fn says_and_closes(bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = bytes.into();
        Origin::start(move |visit| {
            if visit.request().is_some() {
                visit.send(&bytes);
            }
        })
    }

    /// Responses with the body that it got.
    pub fn echoes() -> Self {
        Origin::start(|visit| {
            while let Some(seen) = visit.request() {
                visit.response(&seen.body);
            }
        })
    }

    /// Responses once the gate is open.
    pub fn waits_for(gate: &Gate, body: &'static str) -> Self {
        let gate = gate.clone();
        Origin::replies(move |visit| {
            gate.wait();
            visit.send(ok(body));
        })
    }

    /// No program listens there.
    pub fn refuses() -> Self {
        let mut origin = Origin::start(|_| {});
        origin.stop();
        origin
    }

    /// Reads and never responds.
    pub fn stalls() -> Self {
        Origin::start(|visit| drop(visit.to_the_end()))
    }

    /// Closes too soon, on every connection.
    pub fn closes_early(when: Early) -> Self {
        Origin::says_and_closes(match when {
            Early::BeforeTheResponse => "",
            Early::InTheHead => "HTTP/1.1 200 OK\r\nContent-Le",
            Early::InTheBody => "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf!",
        })
    }

    /// Resets as soon as it has read a request.
    pub fn resets() -> Self {
        Origin::start(|visit| {
            if visit.request().is_some() {
                visit.reset_on_close();
            }
        })
    }

    /// Sends its response in pieces of one byte.
    pub fn one_byte_at_a_time(bytes: impl Into<Vec<u8>>) -> Self {
        let bytes = bytes.into();
        Origin::replies(move |visit| bytes.chunks(1).for_each(|byte| visit.send(byte)))
    }

    /// Announces more than it sends, and closes.
    pub fn claims_too_much() -> Self {
        Origin::says_and_closes("HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nshort")
    }

    /// Sends more than it announced, at once.
    pub fn claims_too_little() -> Self {
        Origin::says(
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nshortHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nPOISON",
        )
    }

    /// Sends half a head and then nothing.
    pub fn slow_head() -> Self {
        Origin::start(|visit| {
            if visit.request().is_some() {
                visit.send("HTTP/1.1 200 OK\r\nContent-");
                visit.to_the_end();
            }
        })
    }

    /// Is no HTTP server.
    pub fn garbage() -> Self {
        Origin::says_and_closes("\x16\x03\x01 220 smtp ready\r\n\r\n")
    }

    /// Says 413 before it has read the body, and reads on.
    pub fn responds_early() -> Self {
        Origin::start(|visit| {
            if visit.head().is_some() {
                visit.send("HTTP/1.1 413 Too Large\r\nContent-Length: 5\r\n\r\nlarge");
                visit.to_the_end();
            }
        })
    }

    /// Sends these interim responses, then 200.
    pub fn sends_interim(statuses: &'static [u16]) -> Self {
        Origin::replies(move |visit| {
            for status in statuses {
                visit.send(format!("HTTP/1.1 {status} Soon\r\nX-Interim: {status}\r\n\r\n"));
            }
            visit.send(ok("final"));
        })
    }

    /// Tells the end of its response by closing.
    pub fn until_close(body: &'static str) -> Self {
        Origin::says_and_closes(format!("HTTP/1.1 200 OK\r\n\r\n{body}"))
    }

    /// Responses in chunks, with a trailer field.
    pub fn chunked_with_trailers(pieces: &'static [&'static str]) -> Self {
        let pieces: Vec<&[u8]> = pieces.iter().map(|piece| piece.as_bytes()).collect();
        let mut bytes = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n".to_vec();
        bytes.extend(chunked(&pieces));
        bytes.truncate(bytes.len() - 2);
        bytes.extend_from_slice(b"X-Sum: 42\r\n\r\n");
        Origin::says(bytes)
    }

    /// Responds, and closes its connection when the gate opens, in order or by a reset.
    pub fn closes_idle(gate: &Gate, by_reset: bool) -> Self {
        let gate = gate.clone();
        Origin::start(move |visit| {
            if visit.request().is_none() {
                return;
            }
            visit.send(ok("kept"));
            match visit.number {
                0 => gate.wait(),
                _ => {
                    while visit.request().is_some() {
                        visit.send(ok("kept"));
                    }
                }
            }
            if by_reset {
                visit.reset_on_close();
            }
        })
    }
}
