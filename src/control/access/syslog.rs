//! Lines to syslog: a datagram for each, to a Unix socket or over UDP (RFC 5426).
//!
//! Over UDP it is a message of RFC 5424. A daemon on this machine reads another form from its socket, the one that the C
//! library's `syslog` writes: rsyslog and journald take RFC 5424 there for text, and its version `1` for the program.

use crate::base::lines::{self, Lost};
use crate::base::time;
use crate::state::config::SyslogPlace;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixDatagram;
use std::path::Path;

/// Facility local0 (16), severity informational (6): what HAProxy and nginx send is commonly sorted by it.
const PRIORITY: u8 = 16 * 8 + 6;

/// A connected socket to syslog.
#[derive(Debug)]
pub(super) struct Syslog {
    place: SyslogPlace,
    socket: Datagrams,
}

#[derive(Debug)]
enum Datagrams {
    Unix(UnixDatagram),
    Udp(UdpSocket),
}

impl Syslog {
    /// Connects. Over UDP this succeeds without a listener.
    pub(super) fn open(place: &SyslogPlace) -> io::Result<Self> {
        Ok(Syslog { place: place.clone(), socket: Datagrams::open(place)? })
    }

    /// Sends each of these lines. If the reader takes nothing, it waits only as long as `wait` returns true. A daemon that was
    /// restarted has a new socket under the old name.
    pub(super) fn write(&mut self, bytes: &[u8], wait: impl Fn(BorrowedFd<'_>) -> bool) -> Result<(), Lost> {
        let head = self.head();
        let mut message = Vec::new();
        let mut rest = bytes;
        while let Some(end) = memchr::memchr(b'\n', rest) {
            message.clear();
            message.extend_from_slice(head.as_bytes());
            message.extend_from_slice(&rest[..end]);
            self.send(&message, &wait).map_err(|error| Lost { lines: lines::count(rest), error })?;
            rest = &rest[end + 1..];
        }
        Ok(())
    }

    /// What is before the text. A daemon on this machine adds the time and the host itself.
    fn head(&self) -> String {
        let process = std::process::id();
        match self.place {
            SyslogPlace::Unix(_) => format!("<{PRIORITY}>evenkeel[{process}]: "),
            SyslogPlace::Udp(_) => {
                let time = humantime::format_rfc3339_millis(time::wall());
                format!("<{PRIORITY}>1 {time} {} evenkeel {process} access - ", host())
            }
        }
    }

    fn send(&mut self, message: &[u8], wait: impl Fn(BorrowedFd<'_>) -> bool) -> io::Result<()> {
        let mut is_new = false;
        loop {
            match self.socket.send(message) {
                Ok(()) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    if !wait(self.socket.as_fd()) {
                        return Err(error);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if is_new => return Err(error),
                Err(_) => (self.socket, is_new) = (Datagrams::open(&self.place)?, true),
            }
        }
    }
}

/// The name of this machine as a message may have it.
fn host() -> String {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let host = host.chars().filter(char::is_ascii_graphic).collect::<String>();
    if host.is_empty() { "-".to_owned() } else { host }
}

impl Datagrams {
    fn open(place: &SyslogPlace) -> io::Result<Self> {
        match place {
            SyslogPlace::Unix(path) => Self::unix(path),
            SyslogPlace::Udp(target) => {
                let target = target.to_socket_addrs()?.next();
                let target = target.ok_or_else(|| io::Error::other("the name has no address"))?;
                let any: SocketAddr = match target {
                    SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
                    SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
                };
                let socket = UdpSocket::bind(any)?;
                socket.connect(target)?;
                socket.set_nonblocking(true)?;
                Ok(Datagrams::Udp(socket))
            }
        }
    }

    fn unix(path: &Path) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        socket.connect(path)?;
        socket.set_nonblocking(true)?;
        Ok(Datagrams::Unix(socket))
    }

    fn send(&self, message: &[u8]) -> io::Result<()> {
        match self {
            Datagrams::Unix(socket) => socket.send(message),
            Datagrams::Udp(socket) => socket.send(message),
        }
        .map(drop)
    }

    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Datagrams::Unix(socket) => socket.as_fd(),
            Datagrams::Udp(socket) => socket.as_fd(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// A message to a daemon on this machine: the program, the process and the text.
    #[track_caller]
    fn check_local(message: &[u8], text: &str) {
        let expected = format!("<134>evenkeel[{}]: {text}", std::process::id());
        assert_eq!(std::str::from_utf8(message).unwrap(), expected);
    }

    /// A message of RFC 5424 as a reader takes it apart: what is before the text, and the text.
    #[track_caller]
    fn check(message: &[u8], text: &str) {
        let message = std::str::from_utf8(message).unwrap();
        let parts: Vec<&str> = message.splitn(8, ' ').collect();
        let [priority, at, host, program, process, id, data, rest] = parts[..] else { panic!("{message}") };
        assert_eq!((priority, program, id, data, rest), ("<134>1", "evenkeel", "access", "-", text));
        assert!(at.ends_with('Z') && at.contains('T') && !host.is_empty(), "{message}");
        assert_eq!(process, std::process::id().to_string());
    }

    #[test]
    fn each_line_is_a_message_and_a_restarted_daemon_gets_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let (daemon, mut bytes) = (UnixDatagram::bind(&path).unwrap(), [0; 500]);
        let mut syslog = Syslog::open(&SyslogPlace::Unix(path.clone())).unwrap();
        syslog.write(b"one\ntwo \"x\"\n", |_| true).unwrap();
        for text in ["one", "two \"x\""] {
            let count = daemon.recv(&mut bytes).unwrap();
            check_local(&bytes[..count], text);
        }
        drop(daemon);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(syslog.write(b"lost\nlost\n", |_| true).unwrap_err().lines, 2);
        let daemon = UnixDatagram::bind(&path).unwrap();
        syslog.write(b"three\n", |_| true).unwrap();
        let count = daemon.recv(&mut bytes).unwrap();
        check_local(&bytes[..count], "three");
    }

    #[test]
    fn udp_needs_no_listener_and_reaches_one() {
        let (daemon, mut bytes) = (UdpSocket::bind("127.0.0.1:0").unwrap(), [0; 500]);
        daemon.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let place = SyslogPlace::Udp(daemon.local_addr().unwrap().to_string());
        Syslog::open(&place).unwrap().write(b"one\n", |_| true).unwrap();
        let count = daemon.recv(&mut bytes).unwrap();
        check(&bytes[..count], "one");
    }
}
