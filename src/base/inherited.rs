//! Listening sockets that this process did not open: those of the process whose place it takes, or of systemd. And how they are
//! handed over: as descriptors over a Unix socket (`SCM_RIGHTS`, unix(7)).

use rustix::io::retry_on_intr;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

/// The most descriptors of one message (`SCM_MAX_FD` of Linux).
pub const SOCKETS_MAX: usize = 253;
/// The longest text that comes with them: what the admin API changed, and the health of some 100,000 servers.
const TEXT_MAX: u64 = 64 << 20;

/// A listening socket.
#[derive(Debug)]
pub struct Socket {
    /// The name of the listener, or the name that systemd gives it.
    pub name: String,
    /// The place in the configuration, such as `0.0.0.0:80` (with port 0 where any was asked for) or `unix:/run/a.sock`.
    pub place: String,
    /// Whether the file of a Unix socket is ours to remove: systemd removes its own.
    pub is_ours: bool,
    /// The descriptor.
    pub fd: OwnedFd,
}

/// Those that no listener has taken yet.
#[derive(Debug, Default)]
pub struct Sockets(Vec<Socket>);

impl Sockets {
    /// These sockets.
    pub fn new(sockets: Vec<Socket>) -> Self {
        Sockets(sockets)
    }

    /// The socket for a listener: that of its name at its place, else that at its place, else that of its name from systemd.
    pub fn take(&mut self, name: &str, place: &str) -> Option<Socket> {
        let at_place = |socket: &Socket| is_same_place(&socket.place, place);
        let found = self.0.iter().position(|socket| socket.name == name && at_place(socket));
        let found = found.or_else(|| self.0.iter().position(at_place));
        let found = found.or_else(|| self.0.iter().position(|socket| socket.name == name && !socket.is_ours));
        found.map(|at| self.0.remove(at))
    }

    /// What is left, for people.
    pub fn left(&self) -> Vec<String> {
        self.0.iter().map(|socket| format!("{} ({})", socket.place, socket.name)).collect()
    }
}

/// The same place in other words: `[::]:80` takes IPv4, too, as systemd opens it.
fn is_same_place(one: &str, other: &str) -> bool {
    let any = |place: &str| {
        let address = place.parse::<SocketAddr>().ok()?;
        address.ip().is_unspecified().then_some(address.port())
    };
    one == other || any(one).is_some() && any(one) == any(other)
}

/// Sends descriptors and a text.
pub fn send(mut to: &UnixStream, fds: &[BorrowedFd<'_>], text: &str) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if fds.len() > SOCKETS_MAX || !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::other(format!("more than {SOCKETS_MAX} listening sockets")));
    }
    let length = (text.len() as u64).to_be_bytes();
    // So short a message is taken as a whole.
    retry_on_intr(|| sendmsg(to, &[IoSlice::new(&length)], &mut control, SendFlags::NOSIGNAL))?;
    to.write_all(text.as_bytes())
}

/// Receives what [`send`] sent.
pub fn receive(from: &UnixStream) -> io::Result<(Vec<OwnedFd>, String)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut length = [0; 8];
    // A process that was stopped and goes on has its wait interrupted.
    let received = retry_on_intr(|| {
        recvmsg(from.as_fd(), &mut [IoSliceMut::new(&mut length)], &mut control, RecvFlags::CMSG_CLOEXEC)
    })?;
    if received.bytes != length.len() || received.flags.contains(ReturnFlags::CTRUNC) {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let rights = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(fds) => Some(fds),
        _ => None,
    });
    let fds = rights.flatten().collect();
    let length = u64::from_be_bytes(length);
    if length > TEXT_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut text = String::new();
    from.take(length).read_to_string(&mut text)?;
    if (text.len() as u64) < length { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok((fds, text)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    fn socket(name: &str, place: &str, is_ours: bool) -> Socket {
        let fd = TcpListener::bind("127.0.0.1:0").unwrap().into();
        Socket { name: name.to_owned(), place: place.to_owned(), is_ours, fd }
    }

    #[test]
    fn a_listener_finds_its_socket_by_place_and_name() {
        let mut sockets = Sockets::new(vec![
            socket("a", "127.0.0.1:0", true),
            socket("b", "127.0.0.1:0", true),
            socket("web", "[::]:80", false),
            socket("named", "unix:/x", false),
            socket("left", "unix:/y", true),
        ]);
        let mut check = |name: &str, place: &str, found: Option<&str>| {
            assert_eq!(
                sockets.take(name, place).map(|socket| socket.name).as_deref(),
                found,
                "{name} {place}"
            );
        };
        check("b", "127.0.0.1:0", Some("b"));
        check("renamed", "127.0.0.1:0", Some("a"));
        check("c", "127.0.0.1:0", None);
        check("http", "0.0.0.0:80", Some("web"));
        check("named", "127.0.0.1:1", Some("named"));
        check("left", "127.0.0.1:1", None);
        assert_eq!(sockets.left(), ["unix:/y (left)"]);
    }

    #[test]
    fn descriptors_and_a_text_go_through_a_unix_socket() {
        let (near, far) = UnixStream::pair().unwrap();
        let listeners =
            [TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap()];
        let addresses: Vec<_> = listeners.iter().map(|one| one.local_addr().unwrap()).collect();
        let text = "x".repeat(1 << 20);
        let sender = std::thread::spawn(move || {
            send(&near, &listeners.each_ref().map(|one| one.as_fd()), &text).unwrap();
            send(&near, &[], "").unwrap();
        });
        let (fds, text) = receive(&far).unwrap();
        assert_eq!((fds.len(), text.len()), (2, 1 << 20));
        assert_eq!(receive(&far).unwrap().1, "");
        sender.join().unwrap();
        for (fd, address) in fds.into_iter().zip(addresses) {
            let _client = TcpStream::connect(address).unwrap();
            assert_eq!(TcpListener::from(fd).local_addr().unwrap(), address);
        }
        assert!(receive(&far).is_err(), "the end");
    }
}
