//! The access log as seen by workers: which requests get a line, and a bounded channel of lines. Sending never waits; a
//! line that finds no room is lost, and the sender counts it.

mod format;
mod request;

pub use format::{Field, Format, Part, Template};
pub use request::RequestText;

use super::route::Route;
use super::server::Server;
use crate::base::ids::{RequestId, TraceId};
use crate::http1::reason::Reason;
use crossbeam_channel::{Receiver, Sender, bounded};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// Lines that may wait for the thread that writes them.
const CAPACITY: usize = 8192;

/// A finished request, as far as its line needs it.
#[derive(Clone, Debug)]
pub struct Line {
    /// The client, or the one that a trusted proxy names.
    pub client: Option<IpAddr>,
    /// The other end of the connection, or the one that a PROXY header names; `None` on a Unix socket.
    pub peer: Option<SocketAddr>,
    /// Milliseconds since 1970 at its end.
    pub at_unix_ms: u64,
    /// The request as the client sent it; of a rejected head its first line as far as it was received.
    pub request: RequestText,
    /// The status of the response.
    pub status: u16,
    /// Body bytes from the client.
    pub received: u64,
    /// Bytes sent to the client, heads included.
    pub bytes: u64,
    /// Those of them that were body, as it was framed.
    pub body_bytes: u64,
    /// From the complete head to the end of the request.
    pub took: Duration,
    /// How long it took to which point.
    pub phases: LinePhases,
    /// Its id.
    pub id: TraceId,
    /// The id of its trace, where traces are switched on.
    pub trace: Option<u128>,
    /// The server that it was sent to last.
    pub server: Option<Arc<Server>>,
    /// Why it was rejected or failed.
    pub reason: Option<Reason>,
    /// For formats that have them.
    pub names: Option<Box<Names>>,
}

/// How long a request took to get where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinePhases {
    /// In the queue of its pool; `None`: it did not wait.
    pub queue: Option<Duration>,
    /// How much time it had until its response was worthless; `None`: that is not known.
    pub deadline: Option<Duration>,
    /// For the new connection to its server; `None`: there was one, or none came about.
    pub connect: Option<Duration>,
    /// From the complete head to the head of the server's response.
    pub first_byte: Option<Duration>,
    /// How often it was sent to a server.
    pub tries: u32,
    /// A second attempt was made beside the first.
    pub hedged: bool,
}

/// What a request had to do with.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// Its listener.
    pub listener: Option<Arc<str>>,
    /// Its route.
    pub route: Option<Arc<Route>>,
    /// Its pool.
    pub pool: Option<Arc<str>>,
    /// Version and cipher suite of the client's TLS.
    pub tls: Option<(&'static str, Box<str>)>,
    /// Where a malformed head stops to be one: a line, counted from 1.
    pub malformed_line: Option<u32>,
}

/// Which requests get a line. An error is a status of 400 or more, or a bad end.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Filter {
    /// Only errors, and what is slow where that is asked for.
    pub errors_only: bool,
    /// Only what takes longer, and errors where that is asked for.
    pub slower_than: Option<Duration>,
    /// The share of the others than errors that get a line, 0 to 1.
    pub sample: f64,
}

impl Default for Filter {
    fn default() -> Self {
        Filter { errors_only: false, slower_than: None, sample: 1.0 }
    }
}

impl Filter {
    /// Whether a request gets a line. The id decides by chance, and the same way for all who ask.
    pub fn takes(&self, status: u16, reason: Option<Reason>, took: Duration, id: RequestId) -> bool {
        let is_error = status >= 400 || reason.is_some();
        let is_slow = self.slower_than.is_some_and(|limit| took > limit);
        let is_wanted = match (self.errors_only, self.slower_than) {
            (false, None) => true,
            (errors_only, _) => errors_only && is_error || is_slow,
        };
        is_wanted && (is_error || id.is_sampled(self.sample))
    }
}

/// Where workers put their lines; cheap to clone.
#[derive(Clone, Debug)]
pub struct AccessSink {
    lines: Sender<Line>,
    filter: Filter,
    wants_headers: bool,
    wants_names: bool,
}

impl AccessSink {
    /// A sink for lines of this form, and the receiver of its lines.
    pub fn open(format: &Format, filter: Filter) -> (Self, Receiver<Line>) {
        Self::with_capacity(CAPACITY, format, filter)
    }

    fn with_capacity(capacity: usize, format: &Format, filter: Filter) -> (Self, Receiver<Line>) {
        let (sender, receiver) = bounded(capacity);
        let (wants_headers, wants_names) = (format.has_headers(), format.has_names());
        (AccessSink { lines: sender, filter, wants_headers, wants_names }, receiver)
    }

    /// Whether a request gets a line; see [`Filter::takes`].
    pub fn takes(&self, status: u16, reason: Option<Reason>, took: Duration, id: RequestId) -> bool {
        self.filter.takes(status, reason, took, id)
    }

    /// Whether its lines have headers of requests.
    pub fn wants_headers(&self) -> bool {
        self.wants_headers
    }

    /// Whether its lines have what is in [`Names`].
    pub fn wants_names(&self) -> bool {
        self.wants_names
    }

    /// Puts a line into the log; never waits. False: there is no room, and the line is lost.
    #[must_use]
    pub fn tell(&self, line: Line) -> bool {
        self.lines.try_send(line).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(status: u16) -> Line {
        Line {
            client: None,
            peer: None,
            at_unix_ms: 0,
            request: RequestText::default(),
            status,
            received: 0,
            bytes: 0,
            body_bytes: 0,
            took: Duration::ZERO,
            phases: LinePhases::default(),
            id: TraceId::new(None, RequestId::new(1, 2)),
            trace: None,
            server: None,
            reason: None,
            names: None,
        }
    }

    #[test]
    fn a_full_channel_loses_the_line_and_says_so() {
        let (sink, lines) = AccessSink::with_capacity(2, &Format::Default, Filter::default());
        assert_eq!([200, 201, 202].map(|status| sink.tell(line(status))), [true, true, false]);
        assert_eq!(lines.recv().map(|line| line.status), Ok(200));
        assert!(sink.tell(line(203)), "there is room again");
        assert_eq!(lines.try_iter().map(|line| line.status).collect::<Vec<_>>(), [201, 203]);
    }

    #[test]
    fn without_a_receiver_lines_are_lost() {
        let (sink, lines) = AccessSink::open(&Format::Default, Filter::default());
        drop(lines);
        assert!(!sink.tell(line(200)));
    }

    /// Which of: good and fast, good and slow, 404 and fast, a failure and slow.
    #[track_caller]
    fn check(filter: Filter, expected: [bool; 4]) {
        let (fast, slow) = (Duration::from_millis(3), Duration::from_secs(3));
        let cases = [
            (200, None, fast),
            (200, None, slow),
            (404, None, fast),
            (200, Some(Reason::ResponseTruncated), slow),
        ];
        let found =
            cases.map(|(status, reason, took)| filter.takes(status, reason, took, RequestId::new(1, 2)));
        assert_eq!(found, expected, "{filter:?}");
    }

    #[test]
    fn filters_take_what_they_say() {
        let all = Filter::default();
        let slower_than = Some(Duration::from_secs(1));
        check(all, [true, true, true, true]);
        check(Filter { errors_only: true, ..all }, [false, false, true, true]);
        check(Filter { slower_than, ..all }, [false, true, false, true]);
        check(Filter { errors_only: true, slower_than, ..all }, [false, true, true, true]);
        check(Filter { sample: 0.0, ..all }, [false, false, true, true]);
    }

    #[test]
    fn a_sample_is_the_share_that_was_asked_for() {
        let filter = Filter { sample: 0.01, ..Filter::default() };
        let taken =
            (0..100_000).filter(|number| filter.takes(200, None, Duration::ZERO, RequestId::new(7, *number)));
        let taken = taken.count();
        assert!((850..=1150).contains(&taken), "{taken} of 100,000");
    }
}
