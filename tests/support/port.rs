//! A port of this machine that stays ours while nothing listens on it.

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, getsockname, listen, socket_with, sockopt};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;

/// A bound socket that never listens: a connection to it is refused, and no other process gets the port.
#[derive(Debug)]
pub struct Port {
    address: SocketAddr,
    _held: OwnedFd,
}

impl Port {
    /// One that the kernel chooses.
    pub fn reserve() -> Self {
        let held = bound("127.0.0.1:0".parse().unwrap());
        Port { address: SocketAddr::try_from(getsockname(&held).unwrap()).unwrap(), _held: held }
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Listens on it, until the listener is dropped; then again, if asked.
    pub fn listen(&self) -> TcpListener {
        let fd = bound(self.address);
        listen(&fd, 1024).unwrap();
        TcpListener::from(fd)
    }
}

/// Both this socket and the listener say that the address may be shared, and only one listens.
fn bound(address: SocketAddr) -> OwnedFd {
    let fd = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
    sockopt::set_socket_reuseaddr(&fd, true).unwrap();
    bind(&fd, &address).unwrap();
    fd
}
