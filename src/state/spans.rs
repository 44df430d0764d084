//! Spans of requests on their way to the thread that exports them: a bounded channel. Sending never waits; a span that
//! finds no room is lost, and the sender counts it.

use super::access::Line;
use crossbeam_channel::{Receiver, Sender, bounded};

/// Spans that may wait: the default of OpenTelemetry's own exporters.
const CAPACITY: usize = 2048;

/// A finished request, as its trace has it.
#[derive(Clone, Debug)]
pub struct Span {
    /// The trace.
    pub trace: u128,
    /// The span; the server got it as its parent.
    pub id: u64,
    /// The span of the caller, if it sent one.
    pub parent: Option<u64>,
    /// Nanoseconds since 1970 at its end.
    pub ended_unix_ns: u64,
    /// What is known of it.
    pub line: Line,
}

/// Where workers put their spans; cheap to clone.
#[derive(Clone, Debug)]
pub struct SpanSink {
    spans: Sender<Span>,
    sample: f64,
}

impl SpanSink {
    /// A sink that records this share (0 to 1) of the traces that begin here, and the receiver of its spans.
    pub fn open(sample: f64) -> (Self, Receiver<Span>) {
        let (spans, receiver) = bounded(CAPACITY);
        (SpanSink { spans, sample }, receiver)
    }

    /// Whether a trace that begins here is recorded, by a random number.
    pub fn records(&self, random: u64) -> bool {
        // 53 bits are all that the fraction has room for.
        ((random >> 11) as f64) < self.sample * (1_u64 << 53) as f64
    }

    /// Puts a span into the queue; never waits. False: there is no room, and the span is lost.
    #[must_use]
    pub fn tell(&self, span: Span) -> bool {
        self.spans.try_send(span).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_is_the_share_of_random_numbers() {
        for (sample, random, expected) in [
            (0.0, 0, false),
            (1.0, u64::MAX, true),
            (0.5, u64::MAX / 2 - (1 << 12), true),
            (0.5, u64::MAX / 2 + (1 << 12), false),
        ] {
            assert_eq!(SpanSink::open(sample).0.records(random), expected, "{sample} of {random}");
        }
    }
}
