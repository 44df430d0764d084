//! Step 6: dialled. A connection to the server: the pooled one that was used last, or a new one.

use super::Plane;
use super::socket::Socket;
use crate::base::limits;
use crate::base::time::Moment;
use crate::state::address::Address;
use crate::state::server::Server;
use crate::state::stats::Shard;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with, sockopt};
use std::io;
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

/// How long a receive from a server waits in one system call, before it also watches the client.
pub const SERVER_SLICE: Duration = Duration::from_millis(250);

/// A connection that was idle for longer is looked at before any request: the server may have closed it, or
/// said something that would be taken for the answer. Under load connections rest for less, and the look
/// would be a fifth system call for each request.
pub const LOOK_AFTER: Duration = Duration::from_micros(500);

/// A connection to a server, held for one exchange.
#[derive(Debug)]
pub struct Link {
    /// The socket.
    pub socket: Socket,
    /// It has carried a request before: the server may have closed it meanwhile.
    pub reused: bool,
}

/// What kind of connection a request needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Any that seems alive: should it turn out to be dead, the request can be sent again.
    Any,
    /// One that is seen to be alive: the request must not be sent twice.
    Alive,
    /// A new one: a pooled one has just failed this request.
    New,
}

/// A connection to the server. Errors come from connecting; nothing was sent.
pub fn link(plane: &Plane, server: &Server, need: Need, now: Moment) -> io::Result<Link> {
    if let Some(link) = pooled(plane, server, need, now) {
        return Ok(link);
    }
    let timeout = plane.config.timeouts.connect;
    let socket = match open(server, timeout) {
        Err(error) if limits::is_exhausted(&error) => {
            // Connections that idle hold the descriptors that this one needs.
            plane.pool.clear_all();
            open(server, timeout)?
        }
        opened => opened?,
    };
    socket.set_slice(SERVER_SLICE)?;
    Ok(Link { socket, reused: false })
}

/// A pooled connection to the server, if there is one that will do.
pub fn pooled(plane: &Plane, server: &Server, need: Need, now: Moment) -> Option<Link> {
    if need == Need::New {
        return None;
    }
    while let Some((socket, idle_for)) = plane.pool.take(server.id, now) {
        let is_fresh = need == Need::Any && idle_for < LOOK_AFTER;
        if is_fresh || socket.is_quiet() {
            return Some(Link { socket, reused: true });
        }
    }
    None
}

/// Counts how a link came about.
pub fn count(shard: &Shard, link: &Link) {
    use crate::state::stats::Counter::{Dials, Reuses};
    shard.count(if link.reused { Reuses } else { Dials });
}

fn open(server: &Server, timeout: Duration) -> io::Result<Socket> {
    match &server.address {
        Address::Unix(path) => open_unix(path, timeout),
        Address::Tcp { host, .. } => {
            let address = server.resolved().ok_or_else(|| {
                io::Error::new(io::ErrorKind::NotFound, format!("{host:?} has not been resolved"))
            })?;
            let stream = TcpStream::connect_timeout(&address, timeout)?;
            stream.set_nodelay(true)?;
            Ok(Socket::from(OwnedFd::from(stream)))
        }
    }
}

/// A full backlog makes connecting to a Unix socket wait; the send timeout bounds that.
fn open_unix(path: &Path, timeout: Duration) -> io::Result<Socket> {
    let fd = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    sockopt::set_socket_timeout(&fd, sockopt::Timeout::Send, Some(timeout))?;
    connect(&fd, &SocketAddrUnix::new(path)?)?;
    Ok(Socket::from(fd))
}
