//! A listening Unix socket without a name: only this process can connect to it.

use crate::base::random::Random;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with,
};
use std::fs::{self, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

/// Pending connections; the kernel limits it to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;
/// How many other names are tried when one is taken.
const NAMES: usize = 16;

/// The socket, and a path to it.
///
/// It is bound to a name for a moment, because the only sockets without a file are in the abstract name space, where
/// every user of the machine could connect. A handle on its file keeps it reachable after the name is removed: later
/// changes of the file system do not affect it, and no other process can take its place.
#[derive(Debug)]
pub struct Private {
    listener: UnixListener,
    path: PathBuf,
    /// The handle that `path` goes through.
    _handle: Option<OwnedFd>,
    /// The name, if the system has no such handles; removed at the end.
    named: Option<PathBuf>,
}

impl Private {
    /// Creates one. Its name is in this folder for a moment, so this user must be able to write there.
    pub fn open(folder: &Path) -> io::Result<Private> {
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        let (socket, name) = bound(folder)?;
        let private = settle(socket, &name);
        private.inspect_err(|_| _ = fs::remove_file(&name))
    }

    /// Another descriptor of the listener.
    pub fn listener(&self) -> io::Result<UnixListener> {
        self.listener.try_clone()
    }

    /// The path at which only this process connects to it, as long as this value lives.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Connects without waiting; a full backlog is an error of the kind `WouldBlock`.
    pub(super) fn connect(&self) -> io::Result<OwnedFd> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        connect(&socket, &SocketAddrUnix::new(&self.path)?)?;
        Ok(socket)
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        self.named.iter().for_each(|name| _ = fs::remove_file(name));
    }
}

/// A socket bound to a random name in this folder. It does not listen yet.
fn bound(folder: &Path) -> io::Result<(OwnedFd, PathBuf)> {
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    let mut random = Random::fresh();
    for _ in 0..NAMES {
        // Short: the whole path has 107 bytes at most.
        let name = folder.join(format!(".{:06x}", random.number() & 0xff_ffff));
        match bind(&socket, &SocketAddrUnix::new(&name)?) {
            Ok(()) => return Ok((socket, name)),
            Err(Errno::ADDRINUSE) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Errno::ADDRINUSE.into())
}

/// Sets the mode, opens the handle, removes the name, and then listens: until it listens nothing can connect.
fn settle(socket: OwnedFd, name: &Path) -> io::Result<Private> {
    fs::set_permissions(name, Permissions::from_mode(0o600))?;
    let handle = handle(name);
    listen_on(&socket)?;
    let listener = UnixListener::from(socket);
    match handle {
        Some((handle, path)) => {
            fs::remove_file(name)?;
            Ok(Private { listener, path, _handle: Some(handle), named: None })
        }
        None => {
            let name = std::path::absolute(name)?;
            Ok(Private { listener, path: name.clone(), _handle: None, named: Some(name) })
        }
    }
}

fn listen_on(socket: &OwnedFd) -> io::Result<()> {
    Ok(listen(socket, BACKLOG)?)
}

/// A handle on the file, and the path through it to the socket, whether or not the name still exists.
#[cfg(target_os = "linux")]
fn handle(name: &Path) -> Option<(OwnedFd, PathBuf)> {
    use rustix::fs::{Mode, OFlags, open};
    use std::os::fd::AsRawFd;
    let handle = open(name, OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW, Mode::empty()).ok()?;
    let path = PathBuf::from(format!("/proc/self/fd/{}", handle.as_raw_fd()));
    // Without /proc there is no such path.
    fs::metadata(&path).is_ok().then_some((handle, path))
}

#[cfg(not(target_os = "linux"))]
fn handle(_: &Path) -> Option<(OwnedFd, PathBuf)> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    #[test]
    #[cfg(target_os = "linux")]
    fn it_is_reached_without_a_name() {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (Private::open(folder.path()).unwrap(), Private::open(folder.path()).unwrap());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "no name is left");
        drop(folder);
        for private in [&one, &other] {
            let mut near = UnixStream::connect(private.path()).unwrap();
            near.write_all(b"x").unwrap();
            let mut byte = [0];
            private.listener().unwrap().accept().unwrap().0.read_exact(&mut byte).unwrap();
        }
        let _waits = other.connect().unwrap();
        one.listener.set_nonblocking(true).unwrap();
        assert!(one.listener.accept().is_err(), "each path leads to its own socket");
    }

    #[test]
    fn a_folder_that_cannot_be_had_is_an_error() {
        assert!(Private::open(Path::new("/no/such/folder")).is_err());
    }
}
