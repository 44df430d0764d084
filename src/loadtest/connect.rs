//! Opens nonblocking connections.

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType, connect, sockopt};
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;

/// Begins to connect; later errors appear at the first write.
pub(super) fn begin(address: SocketAddr, nodelay: bool) -> io::Result<TcpStream> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = nonblocking_socket(family)?;
    if nodelay {
        sockopt::set_tcp_nodelay(&socket, true)?;
    }
    loop {
        match connect(&socket, &address) {
            Ok(()) | Err(Errno::INPROGRESS) => return Ok(TcpStream::from(socket)),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(target_os = "linux")]
fn nonblocking_socket(family: AddressFamily) -> io::Result<OwnedFd> {
    use rustix::net::{SocketFlags, socket_with};
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    Ok(socket_with(family, SocketType::STREAM, flags, None)?)
}

#[cfg(not(target_os = "linux"))]
fn nonblocking_socket(family: AddressFamily) -> io::Result<OwnedFd> {
    let socket = rustix::net::socket(family, SocketType::STREAM, None)?;
    rustix::io::ioctl_fioclex(&socket)?;
    rustix::io::ioctl_fionbio(&socket, true)?;
    Ok(socket)
}
