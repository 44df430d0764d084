//! Layer 0: a connected stream socket, TCP or Unix, that never blocks. What cannot be done now says so, and the
//! caller's poller tells when it can.

use crate::base::local;
use rustix::fd::OwnedFd;
use rustix::io::Errno;
use rustix::net::{
    self, AddressFamily, RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown, SocketAddrUnix, SocketFlags,
    SocketType, ipproto, socket_with, sockopt,
};
use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::path::Path;
use std::time::Duration;

/// A connected stream socket in non-blocking mode. Closed when dropped.
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

/// What follows the bytes that are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// Not known: they go out at once.
    Open,
    /// The end of the stream, right away ([`Socket::finish_writing`], or a close). The kernel keeps the last of them
    /// back and sends it together with the end: one segment less to send, to receive and to acknowledge.
    End,
}

impl Then {
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

impl Socket {
    /// Begins to connect to a TCP address. The connection may not be made yet when this returns: a send then says
    /// `WouldBlock` until it is, or the error that connecting came to.
    #[cfg(test)]
    pub fn connect(address: &SocketAddr) -> io::Result<Self> {
        Socket::connect_from(None, address)
    }

    /// The same, from this address of the machine if it is of the family of the other.
    pub fn connect_from(source: Option<IpAddr>, address: &SocketAddr) -> io::Result<Self> {
        let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let fd = stream_socket(family, Some(ipproto::TCP))?;
        sockopt::set_tcp_nodelay(&fd, true)?;
        if let Some(source) = source {
            local::come_from(&fd, source, address)?;
        }
        match net::connect(&fd, address) {
            Ok(()) | Err(Errno::INPROGRESS | Errno::INTR) => Ok(Socket(fd)),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Connects to a Unix socket. `WouldBlock` when its backlog is full: no event tells when it is not, so the caller
    /// has to try again.
    pub fn connect_unix(path: &Path) -> io::Result<Self> {
        let fd = stream_socket(AddressFamily::UNIX, None)?;
        net::connect(&fd, &SocketAddrUnix::new(path)?)?;
        Ok(Socket(fd))
    }

    /// The descriptor's number, for the poller.
    pub fn raw(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    /// Receives what is there. `WouldBlock` when nothing is; 0 when the peer has ended its stream.
    pub fn recv(&self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            match net::recv(&self.0, &mut *into, RecvFlags::DONTWAIT) {
                Err(Errno::INTR) => {}
                got => return Ok(got?.0),
            }
        }
    }

    /// Sends what the socket has room for, from several places in one call. `WouldBlock` when it has none.
    pub fn send(&self, parts: &[IoSlice<'_>], then: Then) -> io::Result<usize> {
        loop {
            let sent = match parts {
                [only] => net::send(&self.0, only, then.flags()),
                _ => {
                    let mut no_control = SendAncillaryBuffer::default();
                    net::sendmsg(&self.0, parts, &mut no_control, then.flags())
                }
            };
            match sent {
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

    /// Makes the close of this socket a reset, so that the peer cannot take a truncated message for a whole one.
    pub fn reset_on_close(&self) {
        let _ = sockopt::set_socket_linger(&self.0, Some(Duration::ZERO));
    }
}

fn stream_socket(family: AddressFamily, protocol: Option<net::Protocol>) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(socket_with(family, SocketType::STREAM, flags, protocol)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::net::TcpListener;
    use std::os::unix::net::UnixListener;

    fn pair() -> (Socket, std::net::TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let near = Socket::connect(&listener.local_addr().unwrap()).unwrap();
        (near, listener.accept().unwrap().0)
    }

    #[test]
    fn nothing_blocks_and_an_end_is_an_end() {
        let (near, mut far) = pair();
        let mut buffer = [0; 8];
        assert_eq!(near.recv(&mut buffer).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert_eq!(near.send(&[IoSlice::new(b"ab"), IoSlice::new(b"c")], Then::Open).unwrap(), 3);
        far.read_exact(&mut buffer[..3]).unwrap();
        assert_eq!(&buffer[..3], b"abc");
        let megabyte = vec![0; 1 << 20];
        let full = loop {
            if let Err(error) = near.send(&[IoSlice::new(&megabyte)], Then::Open) {
                break error.kind();
            }
        };
        assert_eq!(full, io::ErrorKind::WouldBlock);
        drop(far);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_the_end_follows_goes_out_with_it() {
        // The kernel keeps it back for 200 ms, which a busy machine may let pass.
        let is_kept_back = |_| {
            let (near, mut far) = pair();
            near.send(&[IoSlice::new(b"last")], Then::End).unwrap();
            far.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
            let is_kept_back = far.peek(&mut [0; 8]).is_err();
            near.finish_writing();
            far.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
            let mut all = Vec::new();
            far.read_to_end(&mut all).unwrap();
            assert_eq!(all, b"last");
            is_kept_back
        };
        assert!((0..50).any(is_kept_back));
    }

    #[test]
    fn a_full_backlog_of_a_unix_socket_does_not_block() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let _listener = UnixListener::bind(&path).unwrap();
        let mut held = Vec::new();
        let rejected = loop {
            match Socket::connect_unix(&path) {
                Ok(socket) => held.push(socket),
                Err(error) => break error.kind(),
            }
        };
        assert_eq!(rejected, io::ErrorKind::WouldBlock);
    }
}
