//! Step 6: dialled. A connection to the server: the pooled one that was used last, or a new one.

use super::Plane;
use super::away::Berth;
use super::socket::Socket;
use super::stream::Stream;
use crate::base::limits;
use crate::base::time::{self, Moment};
use crate::state::address::Address;
use crate::state::addresses;
use crate::state::server::Server;
use crate::state::stats::Shard;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, ipproto, socket_with, sockopt,
};
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

/// How long a receive from a server waits in one system call, before it also watches the client.
pub const SERVER_SLICE: Duration = Duration::from_millis(250);

/// How long connecting waits in one system call, before it looks whether others wait for its worker.
const CONNECT_SLICE: Duration = Duration::from_millis(4);

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
    /// The generation of the server's addresses under which it was made.
    pub generation: u64,
    /// Its place among those that the accept thread watches, once it was left there.
    pub berth: Option<Berth>,
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

/// A new connection to the server. Errors come from connecting; nothing was sent.
pub fn link(plane: &Plane, stream: &mut Stream, server: &Server) -> io::Result<Link> {
    let (socket, generation) = match open(plane, stream, server) {
        Err(error) if limits::is_exhausted(&error) => {
            // Connections that idle hold the descriptors that this one needs.
            plane.pool.clear_all();
            open(plane, stream, server)?
        }
        opened => opened?,
    };
    socket.set_slice(SERVER_SLICE)?;
    Ok(Link { socket, reused: false, generation, berth: None })
}

/// A pooled connection to the server, if there is one that will do.
pub fn pooled(plane: &Plane, server: &Server, need: Need, now: Moment) -> Option<Link> {
    if need == Need::New {
        return None;
    }
    while let Some((link, idle_for)) = plane.pool.take(server, now) {
        let idle_for = if link.was_stirred() { LOOK_AFTER } else { idle_for };
        if will_do(&link.socket, server, need, idle_for) {
            return Some(Link { reused: true, ..link });
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

/// A connection, and its generation.
fn open(plane: &Plane, stream: &mut Stream, server: &Server) -> io::Result<(Socket, u64)> {
    let timeout = plane.config.timeouts.connect;
    match &server.address {
        Address::Unix(path) => {
            let generation = server.addresses().generation();
            Ok((open_unix(path, timeout)?, generation))
        }
        Address::Tcp { host, .. } => open_one_of(plane, stream, server, timeout)
            .unwrap_or_else(|| Err(io::Error::other(format!("{host:?} has not been resolved")))),
    }
}

/// Tries the server's addresses, one after the other, within the timeout in total; `None` when it has none.
fn open_one_of(
    plane: &Plane,
    stream: &mut Stream,
    server: &Server,
    timeout: Duration,
) -> Option<io::Result<(Socket, u64)>> {
    let deadline = time::now().after(timeout);
    let mut failed = None;
    for (address, left) in server.addresses().candidates() {
        let time = addresses::share(deadline.since(time::now()), left);
        match open_tcp(plane, stream, &address, time) {
            Ok(socket) => return Some(Ok((socket, server.addresses().record_connect_ok(address)))),
            // Our own shortage: no other address would do better.
            Err(error) if limits::is_out_of_descriptors(&error) => return Some(Err(error)),
            Err(error) => {
                server.addresses().record_connect_failed(address);
                failed = Some(addresses::first_error(failed, error));
            }
        }
    }
    failed.map(Err)
}

/// Most servers accept within the slice, in one system call. Who waits for a worker does not wait for one that does
/// not: a machine that is gone says nothing at all.
fn open_tcp(
    plane: &Plane,
    stream: &mut Stream,
    address: &SocketAddr,
    timeout: Duration,
) -> io::Result<Socket> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let fd = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, Some(ipproto::TCP))?;
    sockopt::set_tcp_nodelay(&fd, true)?;
    sockopt::set_socket_timeout(&fd, sockopt::Timeout::Send, Some(CONNECT_SLICE.min(timeout)))?;
    match connect(&fd, address) {
        // Time ran out, or a signal came: it goes on connecting.
        Err(Errno::INPROGRESS | Errno::AGAIN | Errno::INTR) => {}
        Err(errno) => return Err(errno.into()),
        Ok(()) => return Ok(Socket::from(fd)),
    }
    let socket = Socket::from(fd);
    stream.wait_to_connect(plane, &socket, timeout.saturating_sub(CONNECT_SLICE))?;
    sockopt::socket_error(&socket)??;
    Ok(socket)
}

/// A full backlog makes connecting to a Unix socket wait; the send timeout bounds that.
fn open_unix(path: &Path, timeout: Duration) -> io::Result<Socket> {
    let fd = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    sockopt::set_socket_timeout(&fd, sockopt::Timeout::Send, Some(timeout))?;
    connect(&fd, &SocketAddrUnix::new(path)?)?;
    // From here on it bounds a splice, which is to wait no longer than one to a TCP socket.
    sockopt::set_socket_timeout(&fd, sockopt::Timeout::Send, Some(CONNECT_SLICE.min(timeout)))?;
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
    use std::os::fd::OwnedFd;
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
    fn a_splice_to_a_unix_socket_does_not_wait_for_as_long_as_connecting_may() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let socket = open_unix(&path, Duration::from_secs(2)).unwrap();
        let slice = sockopt::socket_timeout(&socket, sockopt::Timeout::Send).unwrap().unwrap();
        assert!(slice < Duration::from_millis(100), "{slice:?}");
    }

    #[test]
    fn all_addresses_of_a_name_are_tried_and_the_one_that_responded_is_remembered() {
        let live = std::net::TcpListener::bind("127.0.0.42:0").unwrap();
        let port = live.local_addr().unwrap().port();
        let address = format!("app.test:{port}").parse().unwrap();
        let plane = crate::data::ahead::tests::plane_before(address, |_| {});
        let server = plane.table.find("a").unwrap();
        let mut stream = Stream::default();
        assert!(link(&plane, &mut stream, &server).is_err(), "nothing was looked up yet");
        server
            .addresses()
            .replace([41, 42].into_iter().map(|last| SocketAddr::from(([127, 0, 0, last], port))).collect());
        let generation = server.addresses().generation();
        let link = link(&plane, &mut stream, &server).unwrap();
        assert!(server.addresses().keeps_idle(link.generation) && link.generation > generation);
        let first = server.addresses().candidates().next().unwrap().0;
        assert_eq!(first, live.local_addr().unwrap());
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
