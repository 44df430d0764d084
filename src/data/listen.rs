//! The listening socket, and the pollers that tell of it. What is set here once, accepted sockets inherit (Linux), so that
//! accepting costs no further call.

use super::watch::Watch;
use crate::base::sys;
use crate::base::time;
use crossbeam_channel::after;
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token, Waker};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketFlags, SocketType, bind, getsockname, ipproto, listen, socket_with, sockopt,
};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{OwnedFd, RawFd};
use std::time::Duration;

/// Connections that the kernel completes before we accept them. The standard library asks for 128.
const BACKLOG: i32 = 4096;

/// How long a worker lingers on a client's socket: the least that the kernel's timer can do well.
pub const CLIENT_SLICE: Duration = Duration::from_millis(4);

/// Bytes of an answer that the kernel holds for a client beyond what is on its way. Its own choice is up to 4 MiB,
/// which a crowd of slow readers makes it copy at once.
const UNSENT: u32 = 256 * 1024;

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
    /// The socket, not blocking.
    pub fd: OwnedFd,
    /// With the port that the kernel chose when 0 was asked for.
    pub address: SocketAddr,
}

/// Binds and listens. Errors are the operating system's: the port is taken, or not ours to take.
pub fn open(address: SocketAddr) -> io::Result<Listener> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let fd = socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
    sockopt::set_socket_reuseaddr(&fd, true)?;
    sockopt::set_tcp_nodelay(&fd, true)?;
    sockopt::set_socket_keepalive(&fd, true)?;
    sockopt::set_tcp_keepidle(&fd, KEEPALIVE_IDLE)?;
    sockopt::set_socket_timeout(&fd, sockopt::Timeout::Recv, Some(CLIENT_SLICE))?;
    // For splice, which has no flag of its own that says not to wait; sends have.
    sockopt::set_socket_timeout(&fd, sockopt::Timeout::Send, Some(CLIENT_SLICE))?;
    sys::hold_unsent(&fd, UNSENT);
    while_taken(|| bind(&fd, &address))?;
    while_taken(|| listen(&fd, BACKLOG))?;
    let address = SocketAddr::try_from(getsockname(&fd)?)?;
    Ok(Listener { fd, address })
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

/// Where the accept thread waits: at the poller of all connections, or, while workers have that, at one that knows of the
/// listener alone.
#[derive(Debug)]
pub struct Pollers {
    /// Of all connections.
    pub shared: Poll,
    own: Poll,
    /// Workers had the shared one at the last turn.
    gave: bool,
}

impl Pollers {
    /// Two new ones.
    pub fn new() -> io::Result<Self> {
        Ok(Pollers { shared: Poll::new()?, own: Poll::new()?, gave: false })
    }

    /// For [`Watch::new`].
    pub fn waker(&self, token: Token) -> io::Result<Waker> {
        Waker::new(self.own.registry(), token)
    }

    /// A listener, which both tell of.
    pub fn add(&self, listener: RawFd, token: Token) -> io::Result<()> {
        for poll in [&self.shared, &self.own] {
            poll.registry().register(&mut SourceFd(&listener), token, Interest::READABLE)?;
        }
        Ok(())
    }

    /// Before a wait: whether it will be elsewhere than the last. What the one has told may be lost on the other then.
    pub fn turn(&mut self, watch: &Watch) -> bool {
        let is_kept = watch.is_kept();
        std::mem::replace(&mut self.gave, is_kept) != is_kept
    }

    /// Waits where the last turn led, and looks at the shared poller as well when no worker does. Whether the listener
    /// was told of; events are those of the shared one.
    pub fn wait(
        &mut self,
        watch: &Watch,
        events: &mut Events,
        mut patience: Duration,
        listener: Token,
    ) -> io::Result<bool> {
        let tells = |events: &Events| events.iter().any(|event| event.token() == listener);
        let mut told = false;
        if self.gave {
            self.own.poll(events, Some(patience))?;
            told = tells(events);
            events.clear();
            if !watch.is_unattended(time::now()) {
                return Ok(told);
            }
            patience = Duration::ZERO;
        }
        self.shared.poll(events, Some(patience))?;
        Ok(told || tells(events))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{acceptfrom_with, sockopt};
    use std::net::TcpStream;

    #[test]
    #[cfg(target_os = "linux")]
    fn accepted_sockets_inherit_what_the_listener_has() {
        let listener = open("127.0.0.1:0".parse().unwrap()).unwrap();
        let _client = TcpStream::connect(listener.address).unwrap();
        let (accepted, _) = acceptfrom_with(&listener.fd, SocketFlags::CLOEXEC).unwrap();
        assert!(sockopt::tcp_nodelay(&accepted).unwrap());
        assert!(sockopt::socket_keepalive(&accepted).unwrap());
        let slice = sockopt::socket_timeout(&accepted, sockopt::Timeout::Recv).unwrap();
        assert!(slice.is_some_and(|slice| slice >= CLIENT_SLICE));
    }

    #[test]
    fn a_taken_port_is_an_error() {
        let listener = open("127.0.0.1:0".parse().unwrap()).unwrap();
        assert_eq!(open(listener.address).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }
}
