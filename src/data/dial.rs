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
        if will_do(&socket, server, need, idle_for) {
            return Some(Link { socket, reused: true });
        }
    }
    None
}

/// Whether a pooled connection may carry a request. One that must not be used is looked at once more: a server that
/// has said something unasked may do so again, sooner than the next look.
fn will_do(socket: &Socket, server: &Server, need: Need, idle_for: Duration) -> bool {
    let is_fresh = need == Need::Any && idle_for < LOOK_AFTER && !server.is_talkative();
    if is_fresh || socket.is_quiet() {
        return true;
    }
    if !socket.is_at_end() {
        server.talks_unasked();
    }
    false
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ids::ServerId;
    use crate::policy::health::Health;
    use crate::policy::pick::Weight;
    use crate::state::config::ServerSpec;
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    const RESTED: Duration = Duration::from_millis(1);

    fn server() -> Server {
        let address = "127.0.0.1:9001".parse().unwrap();
        let spec = ServerSpec { name: "a".into(), address, weight: Weight(1), backup: false };
        Server::new(ServerId(0), &spec, Health::Up)
    }

    fn pair() -> (Socket, UnixStream) {
        let (near, far) = UnixStream::pair().unwrap();
        (Socket::from(OwnedFd::from(near)), far)
    }

    #[test]
    fn a_server_that_talked_unasked_is_looked_at_before_every_request() {
        let server = server();
        let (quiet, _far) = pair();
        assert!(will_do(&quiet, &server, Need::Any, RESTED));
        let (noisy, mut far) = pair();
        far.write_all(b"unasked").unwrap();
        assert!(will_do(&noisy, &server, Need::Any, Duration::ZERO), "nobody looks");
        assert!(!server.is_talkative());
        assert!(!will_do(&noisy, &server, Need::Any, RESTED));
        assert!(server.is_talkative());
        assert!(!will_do(&noisy, &server, Need::Any, Duration::ZERO), "it is known now");
        assert!(will_do(&quiet, &server, Need::Any, Duration::ZERO));
    }

    #[test]
    fn a_server_that_closed_has_said_nothing() {
        let server = server();
        let (closed, far) = pair();
        drop(far);
        assert!(!will_do(&closed, &server, Need::Any, RESTED));
        assert!(!will_do(&closed, &server, Need::Alive, Duration::ZERO));
        assert!(!server.is_talkative());
    }
}
