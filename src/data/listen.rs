//! Layer 5: a listening socket, TCP or Unix. What is set here once, accepted sockets inherit (Linux), so that accepting costs
//! no further call.

use super::buffers::TURN_BYTES;
use super::socket::Socket;
use super::timers::TRY_AGAIN_INTERVAL;
use crate::base::inherited;
use crate::base::limits::Descriptors;
use crate::base::sys;
use crate::base::time;
use crate::base::unix_listener::{self, UnixPath};
use crate::state::config::Place;
use crossbeam_channel::after;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketFlags, SocketType, acceptfrom_with, bind, getsockname, ipproto, listen, socket_with,
    sockopt,
};
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::time::Duration;

/// Connections that the kernel completes before they are accepted. The standard library asks for 128.
const BACKLOG: i32 = 4096;

/// Silence after which the kernel asks whether the client's host is still there.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(120);

/// A port that is taken is tried for so long: a successor that starts at the moment at which its predecessor is told to
/// stop meets a port that is being closed, which takes milliseconds. (nginx tries for 2.5 s.)
const TAKEN_WAIT: Duration = Duration::from_millis(500);

/// The Unix sockets of clients: for every user, like a TCP port; the folder's permissions may say otherwise.
const SOCKET: unix_listener::Kind =
    unix_listener::Kind { key: "load_balancer.listeners[].port", mode: 0o666 };

/// A socket that listens, with the place it got.
#[derive(Debug)]
pub struct Listener {
    fd: OwnedFd,
    /// With the port that the kernel chose when 0 was asked for.
    pub place: Place,
    /// The same as it was asked for.
    asked: Place,
    /// For a Unix socket: its file, which is removed with the listener.
    path: Option<UnixPath>,
    /// The last connection got one of the descriptors that are left to others.
    is_short: bool,
}

impl Listener {
    /// Binds and listens. Errors are the operating system's: the port is taken, or not ours to take.
    pub fn open(place: &Place) -> io::Result<Self> {
        match place {
            Place::Tcp(address) => Self::open_tcp(*address),
            Place::Unix(path) => Self::open_unix(path),
        }
    }

    /// Listens on a socket that another process has opened for this place.
    pub fn inherit(socket: inherited::Socket, asked: &Place) -> io::Result<Self> {
        let inherited::Socket { fd, is_ours, .. } = socket;
        rustix::io::ioctl_fionbio(&fd, true)?;
        let (place, path) = match asked {
            Place::Tcp(_) => {
                set_options(&fd)?;
                (Place::Tcp(SocketAddr::try_from(getsockname(&fd)?)?), None)
            }
            Place::Unix(path) => (asked.clone(), is_ours.then(|| UnixPath::adopt(path, SOCKET))),
        };
        Ok(Listener { fd, place, asked: asked.clone(), path, is_short: false })
    }

    /// The same socket, for another process.
    pub fn duplicate(&self, name: &str) -> io::Result<inherited::Socket> {
        let (name, place) = (name.to_owned(), self.asked.to_string());
        Ok(inherited::Socket { name, place, is_ours: self.path.is_some(), fd: self.fd.try_clone()? })
    }

    /// Another process has the socket, too: its file stays when this listener closes.
    pub fn leave(&self) {
        self.path.iter().for_each(UnixPath::leave);
    }

    /// A successor may start while its predecessor still has the path, as with a port.
    fn open_unix(path: &Path) -> io::Result<Self> {
        let until = time::now().after(TAKEN_WAIT);
        loop {
            match unix_listener::open(path, SOCKET) {
                Ok((file, fd)) => {
                    rustix::io::ioctl_fionbio(&fd, true)?;
                    let place = Place::Unix(path.to_owned());
                    return Ok(Listener {
                        fd,
                        asked: place.clone(),
                        place,
                        path: Some(file),
                        is_short: false,
                    });
                }
                Err(_) if time::now() < until => _ = after(TRY_AGAIN_INTERVAL).recv(),
                Err(reason) => return Err(io::Error::other(reason)),
            }
        }
    }

    /// For a Unix socket whose file is gone: listens at the path again. True when it did, with another descriptor.
    pub fn renew(&mut self) -> bool {
        let Some(fd) = self.path.as_ref().and_then(UnixPath::renew) else { return false };
        let is_ready = rustix::io::ioctl_fionbio(&fd, true).is_ok();
        if is_ready {
            self.fd = fd;
        }
        is_ready
    }

    /// Whether it is a Unix socket, whose file may be lost.
    pub fn is_unix(&self) -> bool {
        self.path.is_some()
    }

    fn open_tcp(address: SocketAddr) -> io::Result<Self> {
        let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let fd = socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
        sockopt::set_socket_reuseaddr(&fd, true)?;
        set_options(&fd)?;
        if address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) {
            // IPv4, too, whatever the system's default is.
            sockopt::set_ipv6_v6only(&fd, false)?;
        }
        while_taken(|| bind(&fd, &address))?;
        while_taken(|| listen(&fd, BACKLOG))?;
        let place = Place::Tcp(SocketAddr::try_from(getsockname(&fd)?)?);
        Ok(Listener { fd, place, asked: Place::Tcp(address), path: None, is_short: false })
    }

    /// The descriptor's number, for the poller.
    pub fn raw(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// The next connection, with the address of its peer. `MFILE` once a connection got one of the descriptors that are left
    /// to others, until the next one would not: connections wait in the kernel.
    pub fn accept(&mut self, descriptors: Descriptors) -> Result<(Socket, Option<SocketAddr>), Errno> {
        if self.is_short && descriptors.are_exceeded_by(rustix::io::dup(&self.fd)?.as_raw_fd()) {
            return Err(Errno::MFILE);
        }
        let (fd, peer) = acceptfrom_with(&self.fd, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK)?;
        self.is_short = descriptors.are_exceeded_by(fd.as_raw_fd());
        Ok((Socket::from(fd), peer.and_then(|peer| SocketAddr::try_from(peer).ok())))
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.path.iter().for_each(UnixPath::remove);
    }
}

/// What accepted sockets inherit.
fn set_options(fd: &OwnedFd) -> io::Result<()> {
    sockopt::set_tcp_nodelay(fd, true)?;
    sockopt::set_socket_keepalive(fd, true)?;
    sockopt::set_tcp_keepidle(fd, KEEPALIVE_IDLE)?;
    // What the kernel holds for a client beyond what is on its way: a turn's bytes. Its own choice is up to 4 MiB, which a group
    // of slow readers makes it copy at once.
    sys::hold_unsent(fd, TURN_BYTES as u32);
    Ok(())
}

/// Tries again for a moment while the address is taken.
fn while_taken(attempt: impl Fn() -> rustix::io::Result<()>) -> rustix::io::Result<()> {
    let until = time::now().after(TAKEN_WAIT);
    loop {
        match attempt() {
            Err(Errno::ADDRINUSE) if time::now() < until => _ = after(TRY_AGAIN_INTERVAL).recv(),
            done => return done,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream;
    use std::os::fd::AsFd;
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixStream;

    fn open(address: &str) -> io::Result<Listener> {
        Listener::open(&Place::Tcp(address.parse().unwrap()))
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn accepted_sockets_inherit_what_the_listener_has() {
        let mut listener = open("127.0.0.1:0").unwrap();
        let _client = TcpStream::connect(listener.place.address().unwrap()).unwrap();
        let (accepted, peer) = listener.accept(Descriptors::ALL).unwrap();
        assert!(peer.is_some());
        assert!(sockopt::tcp_nodelay(accepted.as_fd()).unwrap());
        assert!(sockopt::socket_keepalive(accepted.as_fd()).unwrap());
    }

    #[test]
    fn a_taken_port_is_an_error() {
        let listener = open("127.0.0.1:0").unwrap();
        assert_eq!(Listener::open(&listener.place).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn the_unspecified_address_of_ipv6_takes_ipv4_too() {
        let Ok(listener) = open("[::]:0") else { return };
        let port = listener.place.port().unwrap();
        TcpStream::connect(("127.0.0.1", port)).unwrap();
    }

    #[test]
    fn a_socket_that_is_handed_over_serves_on_and_its_file_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("web.sock");
        for place in [Place::Unix(path.clone()), Place::Tcp("127.0.0.1:0".parse().unwrap())] {
            let old = Listener::open(&place).unwrap();
            let mut new = Listener::inherit(old.duplicate("web").unwrap(), &place).unwrap();
            assert_eq!(old.place, new.place);
            old.leave();
            drop(old);
            match new.place.address() {
                Some(address) => drop(TcpStream::connect(address).unwrap()),
                None => drop(UnixStream::connect(&path).unwrap()),
            }
            assert!(new.accept(Descriptors::ALL).is_ok());
            drop(new);
            assert!(!path.exists());
        }
    }

    #[test]
    fn a_unix_socket_is_there_for_as_long_as_its_listener() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("web.sock");
        let place = Place::Unix(path.clone());
        let mut listener = Listener::open(&place).unwrap();
        UnixStream::connect(&path).unwrap();
        assert!(listener.accept(Descriptors::ALL).is_ok());
        assert_eq!(listener.accept(Descriptors::ALL).unwrap_err(), Errno::AGAIN, "nothing blocks");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o666);
        let taken = Listener::open(&place).unwrap_err().to_string();
        assert!(taken.contains("another process"), "{taken}");
        assert!(!listener.renew());
        std::fs::remove_file(&path).unwrap();
        assert!(listener.renew());
        UnixStream::connect(&path).unwrap();
        drop(listener);
        assert!(!path.exists());
    }
}
