//! A blocking connection of a probe, or of a command to the admin API, in clear text or with TLS, in which every call has a time limit.

use super::{SHORTEST, Silence, Target, words};
use crate::base::time::{self, Moment};
use crate::base::{limits, local};
use crate::http1::proxy_protocol;
use crate::state::address::Address;
use crate::state::addresses;
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with, sockopt};
use rustls::ClientConnection;
use std::io::{self, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// A connection, and the TLS session over it if the server speaks TLS.
#[derive(Debug)]
pub struct Channel {
    stream: Stream,
    session: Option<Box<ClientConnection>>,
}

/// A connection to the first address that accepts one, behind a PROXY header where the servers get one, and that address,
/// which a Unix socket has not.
pub(super) fn open(target: &Target, deadline: Moment) -> io::Result<(Stream, Option<SocketAddr>)> {
    let (mut stream, address) = connected(target, deadline)?;
    if let Some(version) = target.connecting.send_proxy {
        let mut timed = Timed { stream: &mut stream, deadline: Some(deadline) };
        timed.write_all(&proxy_protocol::written(version, None, 0))?;
    }
    Ok((stream, address))
}

/// Each address gets a share of the time that is left.
fn connected(target: &Target, deadline: Moment) -> io::Result<(Stream, Option<SocketAddr>)> {
    if let Address::Unix(path) = &target.address {
        return Ok((Stream::Unix(open_unix(path, deadline.since(time::now()))?), None));
    }
    let mut failed = None;
    for (address, left) in target.candidates.clone() {
        let time = addresses::share(deadline.since(time::now()), left).max(SHORTEST);
        match open_tcp(&address, target.connecting.source, time) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                return Ok((Stream::Tcp(stream), Some(address)));
            }
            Err(error) => failed = Some(addresses::first_error(failed, error)),
        }
    }
    Err(failed.unwrap_or_else(|| io::Error::other("the server has no address")))
}

/// From an address of this machine, if it is not the system's choice; the send timeout bounds connecting, too.
fn open_tcp(address: &SocketAddr, source: Option<IpAddr>, timeout: Duration) -> io::Result<TcpStream> {
    let Some(source) = source else { return TcpStream::connect_timeout(address, timeout) };
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let fd = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    local::come_from(&fd, source, address)?;
    sockopt::set_socket_timeout(&fd, sockopt::Timeout::Send, Some(timeout.max(SHORTEST)))?;
    match retry_on_intr(|| connect(&fd, address)) {
        Err(Errno::INPROGRESS) => Err(io::ErrorKind::TimedOut.into()),
        connected => Ok(connected.map(|()| TcpStream::from(fd))?),
    }
}

/// Connecting to a Unix socket waits while the backlog is full; the send timeout bounds that.
pub fn open_unix(path: &Path, timeout: Duration) -> io::Result<UnixStream> {
    let fd = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    sockopt::set_socket_timeout(&fd, sockopt::Timeout::Send, Some(timeout.max(SHORTEST)))?;
    let address = SocketAddrUnix::new(path)?;
    retry_on_intr(|| connect(&fd, &address))?;
    Ok(UnixStream::from(fd))
}

impl Channel {
    /// A connection; the TLS handshake, if there is a session, is part of the first write or of
    /// [`Channel::complete_handshake`].
    pub fn new(stream: Stream, session: Option<ClientConnection>) -> Self {
        Channel { stream, session: session.map(Box::new) }
    }

    /// Completes the TLS handshake, if there is one.
    pub(super) fn complete_handshake(&mut self, deadline: Moment) -> io::Result<()> {
        let mut timed = Timed { stream: &mut self.stream, deadline: Some(deadline) };
        while let Some(session) = self.session.as_mut().filter(|session| session.is_handshaking()) {
            session.complete_io(&mut timed)?;
        }
        Ok(())
    }

    /// Writes all of the bytes.
    pub(super) fn write_all(&mut self, bytes: &[u8], deadline: Option<Moment>) -> io::Result<()> {
        let mut timed = Timed { stream: &mut self.stream, deadline };
        match &mut self.session {
            None => timed.write_all(bytes),
            Some(session) => {
                let mut secure = rustls::Stream::new(&mut **session, &mut timed);
                secure.write_all(bytes).and_then(|()| secure.flush())
            }
        }
    }

    /// Reads what is there, or waits for it; 0 is the end.
    pub(super) fn read(&mut self, bytes: &mut [u8], deadline: Option<Moment>) -> io::Result<usize> {
        let mut timed = Timed { stream: &mut self.stream, deadline };
        match &mut self.session {
            None => timed.read(bytes),
            Some(session) => match rustls::Stream::new(&mut **session, &mut timed).read(bytes) {
                // Without close_notify: whether that matters is for the reader of what came before.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(0),
                read => read,
            },
        }
    }
}

/// A connected socket.
#[derive(Debug)]
pub enum Stream {
    /// Over TCP.
    Tcp(TcpStream),
    /// A Unix socket.
    Unix(UnixStream),
}

impl Stream {
    fn write(&mut self, bytes: &[u8], limit: Option<Duration>) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.set_write_timeout(limit).and_then(|()| stream.write(bytes)),
            Stream::Unix(stream) => stream.set_write_timeout(limit).and_then(|()| stream.write(bytes)),
        }
    }

    fn read(&mut self, bytes: &mut [u8], limit: Option<Duration>) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.set_read_timeout(limit).and_then(|()| stream.read(bytes)),
            Stream::Unix(stream) => stream.set_read_timeout(limit).and_then(|()| stream.read(bytes)),
        }
    }
}

/// A connection of which several calls have one time limit together: a handshake makes many.
struct Timed<'s> {
    stream: &'s mut Stream,
    deadline: Option<Moment>,
}

impl Timed<'_> {
    fn left(&self) -> io::Result<Option<Duration>> {
        let left = self.deadline.map(|deadline| deadline.since(time::now()));
        if left == Some(Duration::ZERO) { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
    }

    /// A call in the time that is left. One that was interrupted, as where the process was stopped and goes on, is made again:
    /// it says nothing of the server.
    fn uninterrupted(
        &mut self,
        mut call: impl FnMut(&mut Stream, Option<Duration>) -> io::Result<usize>,
    ) -> io::Result<usize> {
        loop {
            let left = self.left()?;
            match call(self.stream, left) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                done => return done,
            }
        }
    }
}

impl Read for Timed<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.uninterrupted(|stream, left| stream.read(bytes, left))
    }
}

impl Write for Timed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.uninterrupted(|stream, left| stream.write(bytes, left))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Silence {
    /// Why a call failed.
    pub(super) fn of_io(error: &io::Error, timeout: Duration) -> Self {
        Silence { words: words(error, timeout), is_ours: limits::is_exhausted(error) }
    }
}

/// Whether the time of a call was over; a Unix socket whose backlog is full, and a socket with a time limit, return
/// "would block" then.
pub(super) fn is_late(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock)
}
