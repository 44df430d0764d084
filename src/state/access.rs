//! The access log as seen by workers: a bounded channel of lines. Sending never waits; a line that finds no room is
//! lost, and the sender counts it.

use super::server::Server;
use crate::base::ids::TraceId;
use crate::http1::reason::Reason;
use crossbeam_channel::{Receiver, Sender, bounded};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// Lines that may wait for the thread that writes them.
const CAPACITY: usize = 8192;

/// A finished request, as far as its line needs it.
#[derive(Clone, Debug)]
pub struct Line {
    /// The client, or the one that a trusted proxy names.
    pub client: Option<IpAddr>,
    /// Seconds since 1970 at its end.
    pub at_unix: u64,
    /// Method, target and version with spaces between, as received; of a rejected head its first line as far as it was
    /// received.
    pub request: Box<[u8]>,
    /// The status of the response.
    pub status: u16,
    /// Bytes sent to the client, heads included.
    pub bytes: u64,
    /// From the complete head to the end of the request.
    pub took: Duration,
    /// Its id.
    pub id: TraceId,
    /// The id of its trace, where traces are switched on.
    pub trace: Option<u128>,
    /// The server that it was sent to last.
    pub server: Option<Arc<Server>>,
    /// Why it was rejected or failed.
    pub reason: Option<Reason>,
}

/// Where workers put their lines; cheap to clone.
#[derive(Clone, Debug)]
pub struct AccessSink(Sender<Line>);

impl AccessSink {
    /// A sink, and the receiver of its lines.
    pub fn open() -> (Self, Receiver<Line>) {
        Self::with_capacity(CAPACITY)
    }

    fn with_capacity(capacity: usize) -> (Self, Receiver<Line>) {
        let (sender, receiver) = bounded(capacity);
        (AccessSink(sender), receiver)
    }

    /// Puts a line into the log; never waits. False: there is no room, and the line is lost.
    #[must_use]
    pub fn tell(&self, line: Line) -> bool {
        self.0.try_send(line).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::RequestId;

    fn line(status: u16) -> Line {
        Line {
            client: None,
            at_unix: 0,
            request: Box::default(),
            status,
            bytes: 0,
            took: Duration::ZERO,
            id: TraceId::new(None, RequestId::new(1, 2)),
            trace: None,
            server: None,
            reason: None,
        }
    }

    #[test]
    fn a_full_channel_loses_the_line_and_says_so() {
        let (sink, lines) = AccessSink::with_capacity(2);
        assert_eq!([200, 201, 202].map(|status| sink.tell(line(status))), [true, true, false]);
        assert_eq!(lines.recv().map(|line| line.status), Ok(200));
        assert!(sink.tell(line(203)), "there is room again");
        assert_eq!(lines.try_iter().map(|line| line.status).collect::<Vec<_>>(), [201, 203]);
    }

    #[test]
    fn without_a_receiver_lines_are_lost() {
        let (sink, lines) = AccessSink::open();
        drop(lines);
        assert!(!sink.tell(line(200)));
    }
}
