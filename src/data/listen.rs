//! Layer 5: the listening socket. What is set here once, accepted sockets inherit (Linux), so that accepting costs no further
//! call.

use super::socket::Socket;
use crate::base::sys;
use crate::base::time;
use crossbeam_channel::after;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketFlags, SocketType, acceptfrom_with, bind, getsockname, ipproto, listen, socket_with,
    sockopt,
};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::Duration;

/// Connections that the kernel completes before they are accepted. The standard library asks for 128.
const BACKLOG: i32 = 4096;

/// Bytes of a response that the kernel holds for a client beyond what is on its way. Its own choice is up to 4 MiB,
/// which a group of slow readers makes it copy at once.
const UNSENT_BYTES: u32 = 256 * 1024;

/// Silence after which the kernel asks whether the client's host is still there.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(120);

/// A port that is taken is tried for so long: a successor that starts at the moment at which its predecessor is told to
/// stop meets a port that is being closed, which takes milliseconds. (nginx tries for 2.5 s.)
const TAKEN_WAIT: Duration = Duration::from_millis(500);
/// Between two tries.
const TAKEN_RETRY: Duration = Duration::from_millis(10);

/// A socket that listens, with the address it got.
#[derive(Debug)]
pub struct Listener {
    fd: OwnedFd,
    /// With the port that the kernel chose when 0 was asked for.
    pub address: SocketAddr,
}

impl Listener {
    /// Binds and listens. Errors are the operating system's: the port is taken, or not ours to take.
    pub fn open(address: SocketAddr) -> io::Result<Self> {
        let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let fd = socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
        sockopt::set_socket_reuseaddr(&fd, true)?;
        sockopt::set_tcp_nodelay(&fd, true)?;
        sockopt::set_socket_keepalive(&fd, true)?;
        sockopt::set_tcp_keepidle(&fd, KEEPALIVE_IDLE)?;
        sys::hold_unsent(&fd, UNSENT_BYTES);
        while_taken(|| bind(&fd, &address))?;
        while_taken(|| listen(&fd, BACKLOG))?;
        let address = SocketAddr::try_from(getsockname(&fd)?)?;
        Ok(Listener { fd, address })
    }

    /// The descriptor's number, for the poller.
    pub fn raw(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// The next connection, with the address of its peer.
    pub fn accept(&self) -> Result<(Socket, Option<SocketAddr>), Errno> {
        let (fd, peer) = acceptfrom_with(&self.fd, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
        Ok((Socket::from(fd), peer.and_then(|peer| SocketAddr::try_from(peer).ok())))
    }
}

/// Tries again for a moment while the address is taken.
fn while_taken(attempt: impl Fn() -> rustix::io::Result<()>) -> rustix::io::Result<()> {
    let until = time::now().after(TAKEN_WAIT);
    loop {
        match attempt() {
            Err(Errno::ADDRINUSE) if time::now() < until => _ = after(TAKEN_RETRY).recv(),
            done => return done,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream;
    use std::os::fd::AsFd;

    #[test]
    #[cfg(target_os = "linux")]
    fn accepted_sockets_inherit_what_the_listener_has() {
        let listener = Listener::open("127.0.0.1:0".parse().unwrap()).unwrap();
        let _client = TcpStream::connect(listener.address).unwrap();
        let (accepted, peer) = listener.accept().unwrap();
        assert!(peer.is_some());
        assert!(sockopt::tcp_nodelay(accepted.as_fd()).unwrap());
        assert!(sockopt::socket_keepalive(accepted.as_fd()).unwrap());
    }

    #[test]
    fn a_taken_port_is_an_error() {
        let listener = Listener::open("127.0.0.1:0".parse().unwrap()).unwrap();
        assert_eq!(Listener::open(listener.address).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }
}
