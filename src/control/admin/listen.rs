//! The Unix socket: for the same user alone from its first instant, and never taken from a process that lives.

use crate::base::dice::Dice;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with,
};
use std::fs::{self, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

/// Connections that wait to be accepted.
const BACKLOG: i32 = 128;
/// Other names that are tried when a name for the beginning is taken.
const NAMES: usize = 16;

/// A listening socket and its place in the file system.
#[derive(Debug)]
pub(super) struct Socket {
    listener: UnixListener,
    path: PathBuf,
    /// The name that it was bound to. tiny_http knows this one: when its server is dropped, it connects there, to
    /// wake its accept thread, and removes it.
    bound: PathBuf,
    /// Device and inode: whether `path` is still ours.
    file: (u64, u64),
}

/// Listens at `path`. A socket that a dead process left is replaced. The error is a sentence for the operator.
pub(super) fn open(path: &Path) -> Result<Socket, String> {
    vacant(path)?;
    let cannot = |error: io::Error| format!("cannot listen on {}: {}", path.display(), advice(&error));
    let (socket, bound) = bound_beside(path).map_err(cannot)?;
    let socket = settle(socket, &bound, path);
    socket.map_err(|error| {
        let _ = fs::remove_file(&bound);
        cannot(error)
    })
}

impl Socket {
    /// A listener for one tiny_http server.
    pub(super) fn listener(&self) -> io::Result<UnixListener> {
        self.listener.try_clone()
    }

    /// Whether a connection waits to be accepted at this moment.
    pub(super) fn is_awaited(&self) -> bool {
        let mut slots = [PollFd::new(&self.listener, PollFlags::IN)];
        matches!(poll(&mut slots, Some(&Timespec::default())), Ok(1))
    }

    /// Connects to it and closes; never waits.
    pub(super) fn touch(&self) {
        let _ = answers(&self.path);
    }

    /// Takes the socket from where clients look for it, unless another process has put its own there.
    pub(super) fn hide(&self) {
        if fs::symlink_metadata(&self.path).is_ok_and(|found| (found.dev(), found.ino()) == self.file) {
            let _ = fs::rename(&self.path, &self.bound);
        }
    }

    /// Removes what is left of it.
    pub(super) fn remove(&self) {
        let _ = fs::remove_file(&self.bound);
    }
}

/// Whether a socket may be put there: nothing is there, or a socket on which nobody answers.
fn vacant(path: &Path) -> Result<(), String> {
    let shown = path.display();
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(format!("cannot look at {shown}: {}", advice(&error))),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(format!(
                "{shown} is there and is no socket; move it away, or name another admin.socket"
            ));
        }
        Ok(_) => {}
    }
    match answers(path) {
        Ok(true) => Err(format!(
            "another process answers on {shown}; stop it, or name another admin.socket in this configuration"
        )),
        Ok(false) => Ok(()),
        Err(error) => Err(format!("cannot tell whether a process lives behind {shown}: {}", advice(&error))),
    }
}

/// Whether a process listens there. Never waits: a full backlog says that one does.
fn answers(path: &Path) -> io::Result<bool> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    match connect(&socket, &SocketAddrUnix::new(path)?) {
        Ok(()) | Err(Errno::AGAIN) => Ok(true),
        Err(Errno::CONNREFUSED | Errno::NOENT) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// A socket bound to a name of its own in the same folder. It does not listen yet.
fn bound_beside(path: &Path) -> io::Result<(OwnedFd, PathBuf)> {
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    let mut dice = Dice::fresh();
    let mut last = Errno::ADDRINUSE;
    for _ in 0..NAMES {
        let name = path.with_file_name(hidden_name(path, &mut dice));
        match bind(&socket, &SocketAddrUnix::new(&name)?) {
            Ok(()) => return Ok((socket, name)),
            Err(Errno::ADDRINUSE) => last = Errno::ADDRINUSE,
            Err(error) => return Err(error.into()),
        }
    }
    Err(last.into())
}

/// A name of chance that is not longer than the socket's own, for the whole path has 107 bytes at most.
fn hidden_name(path: &Path, dice: &mut Dice) -> String {
    let length = path.file_name().map_or(0, |name| name.len()).clamp(2, 16);
    let digits = format!("{:016x}", dice.number());
    format!(".{}", &digits[..length - 1])
}

/// The mode, then the listening, then the name that clients know: until it listens nobody can connect, so that
/// nobody ever could with another mode. The umask would do it too, but is the whole process's.
fn settle(socket: OwnedFd, bound: &Path, path: &Path) -> io::Result<Socket> {
    fs::set_permissions(bound, Permissions::from_mode(0o600))?;
    let found = fs::symlink_metadata(bound)?;
    listen(&socket, BACKLOG)?;
    fs::rename(bound, path)?;
    let (path, bound, file) = (path.to_owned(), bound.to_owned(), (found.dev(), found.ino()));
    Ok(Socket { listener: UnixListener::from(socket), path, bound, file })
}

fn advice(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => {
            "its folder does not exist; create it, or name another admin.socket".to_owned()
        }
        io::ErrorKind::PermissionDenied => {
            format!("{error}; run as a user who may write there, or name another admin.socket")
        }
        _ => format!("{error}; name another admin.socket"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    #[test]
    fn the_socket_is_private_and_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let socket = open(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "the name of the beginning is gone");
        UnixStream::connect(&path).unwrap();
        socket.hide();
        assert!(!path.exists());
        socket.remove();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn only_what_a_dead_process_left_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("evenkeel.sock");
        drop(UnixListener::bind(&path).unwrap());
        let first = open(&path).unwrap();
        let second = open(&path).unwrap_err();
        assert!(second.contains("another process answers") && second.contains("admin.socket"), "{second}");
        drop(first);
        drop(open(&path).unwrap());
        fs::remove_file(&path).unwrap();
        fs::write(&path, "data").unwrap();
        assert!(open(&path).unwrap_err().contains("is no socket"));
        assert_eq!(fs::read(&path).unwrap(), b"data");
    }

    #[test]
    fn a_busy_process_counts_as_living() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("evenkeel.sock");
        let socket =
            socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
        bind(&socket, &SocketAddrUnix::new(&path).unwrap()).unwrap();
        listen(&socket, 0).unwrap();
        let _fills_the_backlog = UnixStream::connect(&path).unwrap();
        assert!(open(&path).unwrap_err().contains("another process answers"));
    }

    #[test]
    fn another_process_s_socket_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("evenkeel.sock");
        let ours = open(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let _theirs = open(&path).unwrap();
        ours.hide();
        ours.remove();
        UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn faults_say_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let error = open(&folder.path().join("no/such/folder.sock")).unwrap_err();
        assert!(error.contains("create it"), "{error}");
        let name = "x".repeat(107 - folder.path().as_os_str().len() - 1);
        assert!(open(&folder.path().join(name)).is_ok(), "the longest path that the system takes");
    }
}
