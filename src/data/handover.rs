//! The hand-over of a connection between the accept thread and a worker: one atomic word, no re-arming of
//! the poller, no lost wake-up. Checked by loom.
//!
//! The poller is edge-triggered: it tells once that bytes arrived. Whoever holds the connection must then
//! not give it up before it has read them. A worker gives it up only after a read took all there was (it
//! said "would block", or gave less than it was asked for, which epoll(7) counts as the same), and only if
//! no edge was told since before that read.

#[cfg(loom)]
use loom::sync::atomic::{AtomicU8, Ordering};
#[cfg(not(loom))]
use std::sync::atomic::{AtomicU8, Ordering};

/// Nobody holds it; the next edge queues it.
const PARKED: u8 = 0;
/// It is in the queue, or a worker has it.
const ACTIVE: u8 = 1;
/// As active, and bytes arrived meanwhile.
const STIRRED: u8 = 2;
/// Refused: the accept thread drains it until the client has read the answer.
const CLOSING: u8 = 3;
/// Out of the lot: events that are still under way mean nothing.
const GONE: u8 = 4;

/// Who has the connection.
#[derive(Debug)]
pub struct Handover(AtomicU8);

/// What an edge from the poller means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edge {
    /// It was parked and is the caller's now, to be queued.
    Queue,
    /// It is closing: the caller drains it.
    Drain,
    /// Somebody else has it and has been told.
    Noted,
}

impl Handover {
    /// A new connection, which its acceptor holds.
    pub fn active() -> Self {
        Handover(AtomicU8::new(ACTIVE))
    }

    /// The poller told that bytes, or an end, arrived. Called by whoever waits there: the accept thread, or workers on watch.
    pub fn edge(&self) -> Edge {
        let next = |state| match state {
            PARKED => Some(ACTIVE),
            ACTIVE => Some(STIRRED),
            _ => None,
        };
        match self.0.fetch_update(Ordering::AcqRel, Ordering::Acquire, next) {
            Ok(PARKED) => Edge::Queue,
            Err(CLOSING) => Edge::Drain,
            _ => Edge::Noted,
        }
    }

    /// The holder is about to read: an edge told before now is covered by the read.
    pub fn reads(&self) {
        if self.0.load(Ordering::Acquire) == STIRRED {
            self.0.store(ACTIVE, Ordering::Release);
        }
    }

    /// The holder parks it, after a read that took all there was. False: bytes arrived since, and it is still
    /// the holder's, who reads on. After true the holder must not touch it.
    pub fn park(&self) -> bool {
        self.leave(ACTIVE, PARKED)
    }

    /// The holder hands it to the accept thread to be drained and closed. False as for [`Handover::park`].
    pub fn close_slowly(&self) -> bool {
        self.leave(ACTIVE, CLOSING)
    }

    /// The accept thread takes a parked connection whose deadline has passed.
    pub fn reclaim(&self) -> bool {
        self.leave(PARKED, ACTIVE)
    }

    /// Whether the accept thread is draining it.
    pub fn is_closing(&self) -> bool {
        self.0.load(Ordering::Acquire) == CLOSING
    }

    /// Whether it is parked at this moment.
    pub fn is_parked(&self) -> bool {
        self.0.load(Ordering::Acquire) == PARKED
    }

    /// Whether an edge was told that no read has covered.
    pub fn is_stirred(&self) -> bool {
        self.0.load(Ordering::Acquire) == STIRRED
    }

    /// It is out of the lot.
    pub fn gone(&self) {
        self.0.store(GONE, Ordering::Release);
    }

    fn leave(&self, from: u8, to: u8) -> bool {
        let left = self.0.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).is_ok();
        if !left {
            self.reads();
        }
        left
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn an_edge_on_a_parked_connection_queues_it_once() {
        let handover = Handover::active();
        assert!(handover.park());
        assert_eq!(handover.edge(), Edge::Queue);
        assert_eq!(handover.edge(), Edge::Noted);
        assert!(!handover.park(), "bytes came since the last read");
        assert!(handover.park(), "and were read");
    }

    #[test]
    fn an_edge_that_a_read_covers_does_not_hinder_parking() {
        let handover = Handover::active();
        assert_eq!(handover.edge(), Edge::Noted);
        handover.reads();
        assert!(handover.park() && handover.is_parked());
    }

    #[test]
    fn a_closing_connection_is_drained_and_one_that_is_gone_is_left_alone() {
        let handover = Handover::active();
        assert!(handover.close_slowly() && handover.is_closing());
        assert_eq!(handover.edge(), Edge::Drain);
        handover.gone();
        assert_eq!(handover.edge(), Edge::Noted);
        assert!(!handover.reclaim());
    }
}

/// `RUSTFLAGS="--cfg loom" cargo test --release --lib handover`, which takes some minutes.
#[cfg(all(test, loom))]
mod model {
    use super::*;
    use loom::sync::Arc;
    use loom::sync::atomic::{AtomicUsize, Ordering};
    use loom::thread;

    /// A socket receive buffer that counts messages, two threads that each hear of one that came, as workers on watch
    /// may, and a worker that reads and parks: in every interleaving all messages are read, or the connection was queued
    /// again for whoever reads the rest.
    #[test]
    fn no_wake_up_is_lost() {
        loom::model(|| {
            let handover = Arc::new(Handover::active());
            let buffer = Arc::new(AtomicUsize::new(0));
            let spawn = |act: fn(&Handover, &AtomicUsize)| {
                let (handover, buffer) = (Arc::clone(&handover), Arc::clone(&buffer));
                thread::spawn(move || act(&handover, &buffer))
            };
            let threads = [spawn(serve), spawn(hears)];
            hears(&handover, &buffer);
            threads.into_iter().for_each(|thread| thread.join().unwrap());
            assert_eq!(buffer.load(Ordering::Acquire), 0, "bytes lie in a parked connection");
            assert!(handover.is_parked());
        });
    }

    fn hears(handover: &Handover, buffer: &AtomicUsize) {
        buffer.fetch_add(1, Ordering::AcqRel);
        if handover.edge() == Edge::Queue {
            // The queue's next worker takes it, as the first has let go.
            serve(handover, buffer);
        }
    }

    fn serve(handover: &Handover, buffer: &AtomicUsize) {
        loop {
            handover.reads();
            buffer.swap(0, Ordering::AcqRel);
            if handover.park() {
                return;
            }
        }
    }
}
