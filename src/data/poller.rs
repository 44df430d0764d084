//! Layer 0: readiness. Edge-triggered: a socket is registered once, and an event says that something changed since the
//! last call that said `WouldBlock`, or that read less than it asked for (epoll(7)).

use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Waker};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

/// Events taken in one wait: a bound for the length of a worker's turn.
const EVENTS_PER_WAIT: usize = 512;

/// The side that a registered socket is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// A client, or a listener.
    Client,
    /// A server.
    Server,
}

/// Names a registered socket: its key in the owner's slab, and the generation of that key. Keys are reused and generations are
/// not, so a late event names nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    /// The side.
    pub side: Side,
    /// The key in the owner's slab.
    pub key: u32,
    /// Counts up with each use of a key; 31 bits.
    pub generation: u32,
}

impl Token {
    /// A token of that side.
    pub fn new(side: Side, key: usize, generation: u32) -> Self {
        Token { side, key: key as u32, generation: generation & (u32::MAX >> 1) }
    }

    fn encode(self) -> mio::Token {
        let side = u64::from(self.side == Side::Server);
        mio::Token((u64::from(self.generation) << 33 | u64::from(self.key) << 1 | side) as usize)
    }

    fn decode(token: mio::Token) -> Self {
        let number = token.0 as u64;
        let side = if number & 1 == 1 { Side::Server } else { Side::Client };
        Token { side, key: (number >> 1) as u32, generation: (number >> 33) as u32 }
    }
}

/// No socket has this: the generation is one that is never given.
const WAKER: mio::Token = mio::Token(usize::MAX);

/// What an event says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ready {
    /// Bytes, an end or an error can be received.
    pub readable: bool,
    /// There is room, or an error that a send will tell.
    pub writable: bool,
    /// The peer has ended its stream: what it sent before can still be received.
    pub ended: bool,
    /// The connection is reset: nothing can be sent any more.
    pub reset: bool,
}

/// A poller, and a way to wake the thread that waits in it.
#[derive(Debug)]
pub struct Poller {
    poll: Poll,
    events: Events,
    waker: Arc<Waker>,
}

impl Poller {
    /// A poller that knows of nothing yet. The error is the operating system's: no descriptors are left.
    pub fn new() -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        Ok(Poller { poll, events: Events::with_capacity(EVENTS_PER_WAIT), waker })
    }

    /// The descriptor's number.
    pub fn raw(&self) -> RawFd {
        self.poll.as_raw_fd()
    }

    /// Wakes the thread that waits in this poller; for other threads.
    pub fn waker(&self) -> Arc<Waker> {
        Arc::clone(&self.waker)
    }

    /// Watches a socket for bytes and ends, and for room as well where `room` asks for it. It is watched until it is
    /// closed or [`Poller::remove`]d.
    pub fn add(&self, fd: RawFd, token: Token, room: bool) -> io::Result<()> {
        self.poll.registry().register(&mut SourceFd(&fd), token.encode(), interest(room))
    }

    /// Watches a socket that is watched already for room, too. An event follows at once where there is some.
    pub fn add_room(&self, fd: RawFd, token: Token) -> io::Result<()> {
        self.poll.registry().reregister(&mut SourceFd(&fd), token.encode(), interest(true))
    }

    /// Watches a socket no more.
    pub fn remove(&self, fd: RawFd) {
        // The worst that can come of a failure is an event whose token names nothing.
        let _ = self.poll.registry().deregister(&mut SourceFd(&fd));
    }

    /// Waits for events, for so long at the most; a signal ends it early. Then [`Poller::ready`] has them.
    pub fn wait(&mut self, limit: Option<Duration>) -> io::Result<()> {
        match self.poll.poll(&mut self.events, limit) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                self.events.clear();
                Ok(())
            }
            done => done,
        }
    }

    /// What the last wait brought.
    pub fn ready(&self) -> impl Iterator<Item = (Token, Ready)> + '_ {
        let sockets = self.events.iter().filter(|event| event.token() != WAKER);
        sockets.map(|event| {
            let reset = event.is_error();
            let ended = event.is_read_closed();
            let ready = Ready {
                readable: event.is_readable() || ended || reset,
                writable: event.is_writable() || reset,
                ended,
                reset,
            };
            (Token::decode(event.token()), ready)
        })
    }
}

fn interest(room: bool) -> Interest {
    if room { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;

    #[test]
    fn a_token_is_what_it_was() {
        for (side, key, generation) in
            [(Side::Client, 0, 0), (Side::Server, 7, 3), (Side::Server, 0xffff_ffff, 1)]
        {
            let token = Token::new(side, key, generation);
            assert_eq!(Token::decode(token.encode()), token);
            assert_ne!(token.encode(), WAKER);
        }
    }

    #[test]
    fn an_edge_is_reported_once_and_an_end_with_it() {
        let (near, mut far) = UnixStream::pair().unwrap();
        let mut poller = Poller::new().unwrap();
        let token = Token::new(Side::Client, 5, 9);
        poller.add(near.as_raw_fd(), token, false).unwrap();
        let told = |poller: &mut Poller| {
            poller.wait(Some(Duration::ZERO)).unwrap();
            poller.ready().collect::<Vec<_>>()
        };
        assert_eq!(told(&mut poller), []);
        far.write_all(b"x").unwrap();
        let bytes = Ready { readable: true, ..Ready::default() };
        assert_eq!(told(&mut poller), [(token, bytes)]);
        assert_eq!(told(&mut poller), [], "nothing changed");
        drop(far);
        let events = told(&mut poller);
        assert!(matches!(events[..], [(same, Ready { ended: true, .. })] if same == token), "{events:?}");
    }

    #[test]
    fn a_waiting_thread_can_be_woken() {
        let mut poller = Poller::new().unwrap();
        poller.waker().wake().unwrap();
        poller.wait(None).unwrap();
        assert_eq!(poller.ready().count(), 0);
    }
}
