//! A connected socket and its waits. Sockets block, but never for longer than a slice that the kernel keeps
//! (`SO_RCVTIMEO`, set once): the usual receive is one system call, and only one that waits longer than
//! the slice goes on with `poll` and a deadline. Sends never block; one that finds no room polls.
//!
//! A signal may interrupt any of them even under `SA_RESTART`: every wait goes on with what is left of its
//! time (law 3).

use crate::base::time::{self, Moment};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{self, RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown, sockopt};
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::Duration;

/// A connected stream socket, TCP or Unix, in blocking mode. Closed when dropped.
#[derive(Debug)]
pub struct Socket(OwnedFd);

impl From<OwnedFd> for Socket {
    fn from(fd: OwnedFd) -> Self {
        Socket(fd)
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Socket {
    /// The descriptor's number, for the poller.
    pub fn raw(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    /// Receives what is there. `WouldBlock` when nothing is; 0 when the peer closed.
    pub fn recv_now(&self, into: &mut [u8]) -> io::Result<usize> {
        self.recv(into, RecvFlags::DONTWAIT)
    }

    /// Receives, waiting for at most the slice. `WouldBlock` when nothing came.
    pub fn recv_slice(&self, into: &mut [u8]) -> io::Result<usize> {
        match net::recv(&self.0, into, RecvFlags::empty()) {
            Ok((count, _)) => Ok(count),
            Err(Errno::INTR) => Err(io::ErrorKind::WouldBlock.into()),
            Err(errno) => Err(errno.into()),
        }
    }

    /// What a byte look-ahead says of a pooled connection: `Some` while it is open and silent, as it must be.
    pub fn is_quiet(&self) -> bool {
        let mut byte = [0];
        let seen = self.recv(&mut byte, RecvFlags::DONTWAIT | RecvFlags::PEEK);
        matches!(seen, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Nothing is left to read, and nothing will come.
    pub fn is_at_end(&self) -> bool {
        let mut byte = [0];
        let seen = self.recv(&mut byte, RecvFlags::DONTWAIT | RecvFlags::PEEK);
        !matches!(seen, Ok(1..)) && !matches!(seen, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Sends what the socket has room for. `WouldBlock` when it has none.
    pub fn send_now(&self, bytes: &[u8], then: Then) -> io::Result<usize> {
        loop {
            match net::send(&self.0, bytes, then.flags()) {
                Err(Errno::INTR) => {}
                sent => return Ok(sent?),
            }
        }
    }

    /// Sends what the socket has room for, from several places in one call.
    pub fn send_parts_now(&self, parts: &[IoSlice<'_>], then: Then) -> io::Result<usize> {
        if let [only] = parts {
            return self.send_now(only, then);
        }
        loop {
            let mut no_control = SendAncillaryBuffer::default();
            match net::sendmsg(&self.0, parts, &mut no_control, then.flags()) {
                Err(Errno::INTR) => {}
                sent => return Ok(sent?),
            }
        }
    }

    /// No more bytes will come from us; the peer reads an end after what was sent.
    pub fn finish_writing(&self) {
        // A socket that the peer has reset has nothing to shut down.
        let _ = net::shutdown(&self.0, Shutdown::Write);
    }

    /// Makes the close of this socket a reset, so that the peer cannot take a cut answer for a whole one.
    pub fn reset_on_close(&self) {
        let _ = sockopt::set_socket_linger(&self.0, Some(Duration::ZERO));
    }

    /// Sets the slice of [`Socket::recv_slice`]. Accepted sockets inherit it from their listener.
    pub fn set_slice(&self, slice: Duration) -> io::Result<()> {
        Ok(sockopt::set_socket_timeout(&self.0, sockopt::Timeout::Recv, Some(slice))?)
    }

    fn recv(&self, into: &mut [u8], flags: RecvFlags) -> io::Result<usize> {
        loop {
            match net::recv(&self.0, &mut *into, flags) {
                Err(Errno::INTR) => {}
                got => return Ok(got?.0),
            }
        }
    }
}

/// What follows the bytes that are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// Nobody knows: they go out at once.
    Open,
    /// The end, right away ([`Socket::finish_writing`], or a close). The kernel keeps the last of them back and
    /// sends it together with the end: one segment less to send, to receive and to acknowledge.
    End,
}

impl Then {
    /// Behind the last bytes of an answer on a connection that is kept, or is not.
    pub fn after(keeps: bool) -> Self {
        if keeps { Then::Open } else { Then::End }
    }

    fn flags(self) -> SendFlags {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        match self {
            Then::Open => flags,
            Then::End => flags | MORE,
        }
    }
}

/// Elsewhere no system call says so, and the end goes alone.
#[cfg(target_os = "linux")]
const MORE: SendFlags = SendFlags::MORE;
#[cfg(not(target_os = "linux"))]
const MORE: SendFlags = SendFlags::empty();

/// What to wait for on a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Want {
    /// Bytes, or an end.
    Read,
    /// Room.
    Write,
    /// Bytes, an end, or room.
    Either,
    /// The peer is going: it closed its side, or reset.
    Gone,
    /// Nothing: this socket is left out, but for a reset.
    Nothing,
}

/// What a wait found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Bytes, an end or an error can be read.
    pub read: bool,
    /// There is room, or an error that a send will tell.
    pub write: bool,
    /// The peer closed its side, or reset.
    pub gone: bool,
}

impl Found {
    fn of(flags: PollFlags) -> Self {
        let broken = flags.intersects(PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL);
        Found {
            read: broken || flags.contains(PollFlags::IN),
            write: broken || flags.contains(PollFlags::OUT),
            gone: broken || flags.contains(GONE),
        }
    }
}

/// Linux tells that the peer closed its side without reading; elsewhere only a reset is seen.
#[cfg(target_os = "linux")]
const GONE: PollFlags = PollFlags::RDHUP;
#[cfg(not(target_os = "linux"))]
const GONE: PollFlags = PollFlags::HUP;

/// Waits for one socket until the deadline: `TimedOut` when nothing happened.
pub fn wait(socket: &Socket, want: Want, deadline: Moment) -> io::Result<Found> {
    let mut slots = [slot(socket, want)];
    wait_slots(&mut slots, deadline)?;
    Ok(Found::of(slots[0].revents()))
}

/// Waits for two sockets until the deadline: `TimedOut` when nothing happened on either.
pub fn wait_both(one: (&Socket, Want), two: (&Socket, Want), deadline: Moment) -> io::Result<[Found; 2]> {
    let mut slots = [slot(one.0, one.1), slot(two.0, two.1)];
    wait_slots(&mut slots, deadline)?;
    Ok(slots.map(|slot| Found::of(slot.revents())))
}

/// As many as [`wait_any`] can wait for: more than one worker ever has to.
pub const ANY_MOST: usize = 256;

/// Which of several sockets have something to read, by their places.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Readable([u64; ANY_MOST / 64]);

impl Readable {
    fn add(&mut self, at: usize) {
        self.0[at / 64] |= 1 << (at % 64);
    }

    /// Whether the socket in this place is one of them.
    pub fn has(&self, at: usize) -> bool {
        self.0.get(at / 64).is_some_and(|bits| bits >> (at % 64) & 1 == 1)
    }
}

/// Waits until one of up to [`ANY_MOST`] sockets has something to read: which have. `TimedOut` when none had.
pub fn wait_any<'s>(sockets: impl Iterator<Item = &'s Socket>, deadline: Moment) -> io::Result<Readable> {
    let mut sockets = sockets.take(ANY_MOST);
    let Some(first) = sockets.next() else { return Err(io::ErrorKind::InvalidInput.into()) };
    let mut count = 1;
    // What stands in the places that are left over is never looked at.
    let mut slots: [PollFd<'_>; ANY_MOST] = std::array::from_fn(|at| match at {
        0 => slot(first, Want::Read),
        _ => sockets.next().map_or(slot(first, Want::Nothing), |socket| {
            count += 1;
            slot(socket, Want::Read)
        }),
    });
    let slots = &mut slots[..count];
    wait_slots(slots, deadline)?;
    let mut found = Readable::default();
    let readable = slots.iter().enumerate().filter(|(_, slot)| Found::of(slot.revents()).read);
    readable.for_each(|(at, _)| found.add(at));
    Ok(found)
}

fn slot(socket: &Socket, want: Want) -> PollFd<'_> {
    let flags = match want {
        Want::Read => PollFlags::IN,
        Want::Write => PollFlags::OUT,
        Want::Either => PollFlags::IN | PollFlags::OUT,
        Want::Gone => GONE,
        Want::Nothing => PollFlags::empty(),
    };
    PollFd::from_borrowed_fd(socket.as_fd(), flags)
}

fn wait_slots(slots: &mut [PollFd<'_>], deadline: Moment) -> io::Result<()> {
    loop {
        let left = deadline.since(time::now()).min(Duration::from_secs(3600));
        let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
        match poll(slots, Some(&timeout)) {
            Ok(0) if time::now() < deadline => {}
            Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Receives, waiting for at most the slice and then `limit`: `TimedOut` when nothing came.
pub fn recv_within(socket: &Socket, into: &mut [u8], limit: Duration) -> io::Result<usize> {
    match socket.recv_slice(into) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
        got => return got,
    }
    let deadline = time::now().after(limit);
    loop {
        wait(socket, Want::Read, deadline)?;
        match socket.recv_now(into) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            got => return got,
        }
    }
}

/// Sends everything; `room` waits until the socket has some, and hears how much was sent since it was last asked.
pub fn send_all_with(
    socket: &Socket,
    mut parts: &mut [IoSlice<'_>],
    then: Then,
    room: &mut impl FnMut(usize) -> io::Result<()>,
) -> io::Result<()> {
    let mut since = 0;
    IoSlice::advance_slices(&mut parts, 0);
    while !parts.is_empty() {
        match socket.send_parts_now(parts, then) {
            Ok(sent) => {
                IoSlice::advance_slices(&mut parts, sent);
                since += sent;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => room(std::mem::take(&mut since))?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    fn pair(slice: Duration) -> (Socket, Socket) {
        let (one, two) = UnixStream::pair().unwrap();
        let (one, two) = (Socket(one.into()), Socket(two.into()));
        one.set_slice(slice).unwrap();
        (one, two)
    }

    #[test]
    fn a_receive_has_three_ways_to_wait() {
        let (near, far) = pair(Duration::from_millis(1));
        let mut buffer = [0; 8];
        let kind = |got: io::Result<usize>| got.map_err(|error| error.kind());
        assert_eq!(kind(near.recv_now(&mut buffer)), Err(io::ErrorKind::WouldBlock));
        assert_eq!(kind(near.recv_slice(&mut buffer)), Err(io::ErrorKind::WouldBlock));
        assert_eq!(
            kind(recv_within(&near, &mut buffer, Duration::from_millis(5))),
            Err(io::ErrorKind::TimedOut)
        );
        assert!(near.is_quiet());
        assert_eq!(far.send_now(b"abc", Then::Open).unwrap(), 3);
        assert!(!near.is_quiet() && !near.is_at_end());
        assert_eq!(recv_within(&near, &mut buffer, Duration::from_millis(5)).unwrap(), 3);
        drop(far);
        assert!(!near.is_quiet() && near.is_at_end());
        assert_eq!(near.recv_now(&mut buffer).unwrap(), 0);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_the_end_follows_goes_out_with_it() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let far = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (far, near) = (Socket(far.into()), Socket(listener.accept().unwrap().0.into()));
        let seen = |limit| wait_both((&far, Want::Read), (&far, Want::Gone), time::now().after(limit));
        assert_eq!(near.send_now(b"last", Then::End).unwrap(), 4);
        let early = seen(Duration::from_millis(20)).map_err(|error| error.kind());
        assert_eq!(early, Err(io::ErrorKind::TimedOut), "it is kept back");
        near.finish_writing();
        let [bytes, end] = seen(Duration::from_secs(5)).unwrap();
        assert!(bytes.read && end.gone);
        assert_eq!(far.recv_now(&mut [0; 8]).unwrap(), 4);
    }

    #[test]
    fn a_send_waits_for_room_and_gives_up_when_nothing_is_taken() {
        let (near, far) = pair(Duration::from_secs(5));
        let megabyte = vec![7; 1 << 20];
        let reader = std::thread::spawn(move || {
            let mut seen = 0;
            let mut buffer = [0; 4096];
            while seen < 2 << 20 {
                seen += recv_within(&far, &mut buffer, Duration::from_secs(5)).unwrap();
            }
            far
        });
        let send_all = |parts: &mut [IoSlice<'_>], limit| {
            let mut room = |_| wait(&near, Want::Write, time::now().after(limit)).map(drop);
            send_all_with(&near, parts, Then::Open, &mut room)
        };
        let mut parts = [IoSlice::new(&megabyte), IoSlice::new(&[]), IoSlice::new(&megabyte)];
        send_all(&mut parts, Duration::from_secs(5)).unwrap();
        let _stalled = reader.join().unwrap();
        let error = send_all(&mut [IoSlice::new(&megabyte)], Duration::from_millis(5)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn a_wait_tells_the_two_sides_apart() {
        let (near, _far) = pair(Duration::from_secs(1));
        let (other, peer) = pair(Duration::from_secs(1));
        let deadline = time::now().after(Duration::from_secs(5));
        drop(peer);
        let [first, second] = wait_both((&near, Want::Read), (&other, Want::Gone), deadline).unwrap();
        assert!(!first.read && second.gone);
        assert!(wait(&near, Want::Write, deadline).unwrap().write);
    }
}
