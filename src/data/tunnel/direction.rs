//! One direction of a tunnel. Of a WebSocket it follows the frames, and puts a close frame of ours where one ends.

use crate::base::time::Moment;
use crate::data::socket::Then;
use crate::data::transport::{Moved, Stream};
use crate::http1::websocket::Frames;

/// One direction: bytes that were received and not sent yet.
#[derive(Debug)]
pub(super) struct Direction {
    /// What the sink has not taken yet.
    pub(super) unsent: Vec<u8>,
    /// Bytes that the sink has taken.
    pub(super) passed: u64,
    /// The source says no more.
    ended: bool,
    /// The sink takes no more.
    pub(super) broken: bool,
    /// The end has been passed to the sink.
    told: bool,
    /// Of a WebSocket: how far its source came.
    pub(super) frames: Option<Frames>,
    /// A close frame for the sink, from this moment on: where a frame ends, or at the end of the source.
    pub(super) close: Option<(Moment, Vec<u8>)>,
    /// When the sink got a close frame: ours, or its peer's.
    pub(super) closed_at: Option<Moment>,
    /// The sink got a close frame of ours: what the source still says is dropped.
    shut: bool,
}

impl Direction {
    pub(super) fn new(unsent: Vec<u8>) -> Self {
        Direction {
            unsent,
            passed: 0,
            ended: false,
            broken: false,
            told: false,
            frames: None,
            close: None,
            closed_at: None,
            shut: false,
        }
    }

    pub(super) fn follow_frames(&mut self, from: usize) {
        let mut frames = Frames::default();
        frames.follow(self.unsent.get(from..).unwrap_or_default());
        self.frames = Some(frames);
    }

    /// The source has sent its close frame, or its end.
    pub(super) fn says_no_more(&self) -> bool {
        self.ended || self.broken || self.frames.as_ref().is_some_and(Frames::is_closed)
    }

    pub(super) fn is_over(&self) -> bool {
        self.told || self.broken
    }

    /// How many bytes moved; an end that was passed on counts as one.
    pub(super) fn advance(
        &mut self,
        source: &mut Stream,
        sink: &mut Stream,
        scratch: &mut [u8],
        now: Moment,
    ) -> usize {
        if self.is_over() {
            return 0;
        }
        self.close_if_due(now);
        let mut moved = self.flush(sink);
        if self.unsent.is_empty() && !self.ended && !self.broken {
            match source.recv(scratch) {
                Ok(Moved::Bytes(count)) => {
                    moved += count;
                    self.pass(&scratch[..count], sink, now);
                }
                Ok(Moved::Blocked) => {}
                // What came before it has been received.
                Ok(Moved::End) | Err(_) => {
                    self.ended = true;
                    self.close_if_due(now);
                    moved += self.flush(sink);
                }
            }
        }
        if self.ended && self.unsent.is_empty() && !self.told {
            // The other direction may go on.
            sink.finish_writing();
            self.told = true;
            moved += 1;
        }
        moved
    }

    /// A close frame of ours goes behind what has come, if it is due and no frame would be cut.
    fn close_if_due(&mut self, now: Moment) {
        let Some(frames) = self.frames.as_ref().filter(|_| self.closed_at.is_none()) else { return };
        if frames.is_closed() {
            (self.closed_at, self.close) = (Some(now), None);
            return;
        }
        if !frames.is_between() {
            return;
        }
        if let Some((_, frame)) =
            self.close.take_if(|(at, _)| now >= *at || self.ended && *at < Moment::NEVER)
        {
            self.unsent.extend_from_slice(&frame);
            (self.closed_at, self.shut) = (Some(now), true);
        }
    }

    /// Bytes of the source: of a WebSocket up to the end of a frame, where a close frame of ours is due.
    fn pass(&mut self, bytes: &[u8], sink: &mut Stream, now: Moment) {
        let Some(frames) = &mut self.frames else {
            self.send(bytes, sink);
            return;
        };
        let is_due = self.close.as_ref().is_some_and(|(at, _)| now >= *at);
        let mut len = bytes.len();
        match is_due {
            true => len = frames.first_end(bytes),
            false => frames.follow(bytes),
        }
        let (bytes, dropped) = bytes.split_at(len);
        if !self.shut {
            self.send(bytes, sink);
            self.close_if_due(now);
            self.flush(sink);
        }
        if let Some(frames) = &mut self.frames {
            frames.follow(dropped);
        }
    }

    fn flush(&mut self, sink: &mut Stream) -> usize {
        if self.unsent.is_empty() {
            return 0;
        }
        let unsent = std::mem::take(&mut self.unsent);
        self.send(&unsent, sink)
    }

    /// Sends what there is room for, and keeps the rest.
    fn send(&mut self, bytes: &[u8], sink: &mut Stream) -> usize {
        match sink.send_some(bytes, Then::Open) {
            Ok(sent) => {
                self.passed += sent as u64;
                self.unsent.extend_from_slice(&bytes[sent..]);
                sent
            }
            Err(_) => {
                self.broken = true;
                0
            }
        }
    }
}
