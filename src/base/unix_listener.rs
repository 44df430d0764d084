//! A Unix socket that listens at a path: with its mode from the start, never taken from a running process, and created
//! again when its file is gone.

use super::limits;
use super::random::Random;
use super::time::{self, Moment};
use parking_lot::Mutex;
use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with,
};
use std::fs::{self, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Pending connections; the kernel limits it to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;
/// How many other temporary names are tried when one is taken.
const NAMES: usize = 16;
/// How long a start waits for another one that is checking the same folder: that takes milliseconds.
const LOCK_WAIT: Duration = Duration::from_secs(2);
/// Time between two attempts.
const LOCK_TRY: Duration = Duration::from_millis(10);

/// The socket's path in the file system.
#[derive(Debug)]
pub struct UnixPath {
    path: PathBuf,
    kind: Kind,
    place: Mutex<Place>,
}

#[derive(Debug)]
struct Place {
    /// Device and inode: whether `path` is still ours. None once it was given up.
    file: Option<(u64, u64)>,
    /// Why the file could not be created again, as last logged.
    told: Option<String>,
}

/// What the socket is for.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// The configuration key of its path, for sentences.
    pub key: &'static str,
    /// The permissions of its file.
    pub mode: u32,
}

/// Listens at `path`. A socket that a dead process left is replaced. The error is a sentence for the operator.
pub fn open(path: &Path, kind: Kind) -> Result<(UnixPath, OwnedFd), String> {
    open_as(path, kind, false)
}

/// Listens at `path` in the place of a process that listens there now. Its connections, those in its backlog too, stay its
/// own.
pub fn replace(path: &Path, kind: Kind) -> Result<(UnixPath, OwnedFd), String> {
    open_as(path, kind, true)
}

fn open_as(path: &Path, kind: Kind, replaces: bool) -> Result<(UnixPath, OwnedFd), String> {
    let (listener, file) = take_place(path, kind, replaces, time::now().after(LOCK_WAIT))?;
    let place = Mutex::new(Place { file: Some(file), told: None });
    Ok((UnixPath { path: path.to_owned(), kind, place }, listener))
}

impl UnixPath {
    /// The path of a socket that another process opened there and has handed over.
    pub fn adopt(path: &Path, kind: Kind) -> Self {
        let place = Mutex::new(Place { file: identity(path), told: None });
        UnixPath { path: path.to_owned(), kind, place }
    }

    /// Leaves the file to the process that has the socket now.
    pub fn leave(&self) {
        self.place.lock().file = None;
    }

    /// A new listener at the path when the file there is gone or was replaced. Never waits.
    pub fn renew(&self) -> Option<OwnedFd> {
        let mut place = self.place.lock();
        let file = place.file?;
        if identity(&self.path) == Some(file) {
            return None;
        }
        match take_place(&self.path, self.kind, false, Moment::START) {
            Ok((listener, file)) => {
                log::warn!("{}: the socket {:?} was gone, and is there again", self.kind.key, self.path);
                *place = Place { file: Some(file), told: None };
                Some(listener)
            }
            Err(reason) => {
                if place.told.as_ref() != Some(&reason) {
                    log::warn!("{}: the socket {:?} is gone: {reason}", self.kind.key, self.path);
                    place.told = Some(reason);
                }
                None
            }
        }
    }

    /// Removes the file, unless another process has put its own there, and gives the path up. Never waits.
    pub fn remove(&self) {
        let Some(file) = self.place.lock().file.take() else { return };
        let _lock = lock(&self.path, Moment::START);
        if identity(&self.path) == Some(file) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Device and inode. The number is not reused while the socket that has it is open.
fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::symlink_metadata(path).ok().map(|found| (found.dev(), found.ino()))
}

/// A listening socket at `path`, and its identity. Checking and taking the path is atomic among all processes that use
/// this function.
fn take_place(
    path: &Path,
    kind: Kind,
    replaces: bool,
    deadline: Moment,
) -> Result<(OwnedFd, (u64, u64)), String> {
    let _lock = lock(path, deadline);
    if !replaces {
        vacant(path, kind.key)?;
    }
    let cannot =
        |error: io::Error| format!("cannot listen on {}: {}", path.display(), advice(&error, kind.key));
    let (socket, bound) = bound_beside(path).map_err(cannot)?;
    settle(socket, kind.mode, &bound, path).map_err(|error| {
        let _ = fs::remove_file(&bound);
        cannot(error)
    })
}

/// A lock on the folder, which leaves nothing behind; released when dropped. None: the deadline has passed, or the file
/// system has no locks. The caller then continues without one, because another program may hold it; what remains is a
/// short race between the check and the rename.
fn lock(path: &Path, deadline: Moment) -> Option<OwnedFd> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = rustix::fs::open(folder, flags, Mode::empty()).ok()?;
    loop {
        match flock(&folder, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Some(folder),
            Err(Errno::AGAIN | Errno::INTR) if time::now() < deadline => {
                let _ = crossbeam_channel::after(LOCK_TRY).recv();
            }
            Err(_) => return None,
        }
    }
}

/// Whether a socket may be put there: the path is free, or has a socket on which no process listens.
fn vacant(path: &Path, key: &str) -> Result<(), String> {
    let shown = path.display();
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(format!("cannot look at {shown}: {}", advice(&error, key))),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(format!("{shown} exists and is not a socket; move it away, or name another {key}"));
        }
        Ok(_) => {}
    }
    match responds(path) {
        Ok(true) => Err(format!(
            "another process listens on {shown}; stop it, or name another {key} in this configuration"
        )),
        Ok(false) => Ok(()),
        Err(error) => {
            Err(format!("cannot tell whether a process lives behind {shown}: {}", advice(&error, key)))
        }
    }
}

/// Whether a process listens there. Never waits: a full backlog means that one does.
fn responds(path: &Path) -> io::Result<bool> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    match connect(&socket, &SocketAddrUnix::new(path)?) {
        Ok(()) | Err(Errno::AGAIN) => Ok(true),
        Err(Errno::CONNREFUSED | Errno::NOENT) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// A socket bound to a temporary name in the same folder. It does not listen yet.
fn bound_beside(path: &Path) -> io::Result<(OwnedFd, PathBuf)> {
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    let mut random = Random::fresh();
    let mut last = Errno::ADDRINUSE;
    for _ in 0..NAMES {
        let name = path.with_file_name(hidden_name(path, &mut random));
        match bind(&socket, &SocketAddrUnix::new(&name)?) {
            Ok(()) => return Ok((socket, name)),
            Err(Errno::ADDRINUSE) => last = Errno::ADDRINUSE,
            Err(error) => return Err(error.into()),
        }
    }
    Err(last.into())
}

/// A random name that is not longer than the socket's own, because the whole path has 107 bytes at most.
fn hidden_name(path: &Path, random: &mut Random) -> String {
    let length = path.file_name().map_or(0, |name| name.len()).clamp(2, 16);
    let digits = format!("{:016x}", random.number());
    format!(".{}", &digits[..length - 1])
}

/// First the mode, then listen, then rename to the final path: nothing can connect before it listens, so no connection
/// is ever made under another mode. The umask would do this too, but is process-wide.
fn settle(socket: OwnedFd, mode: u32, bound: &Path, path: &Path) -> io::Result<(OwnedFd, (u64, u64))> {
    fs::set_permissions(bound, Permissions::from_mode(mode))?;
    let found = fs::symlink_metadata(bound)?;
    listen(&socket, BACKLOG)?;
    fs::rename(bound, path)?;
    Ok((socket, (found.dev(), found.ino())))
}

fn advice(error: &io::Error, key: &str) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => {
            format!("its folder does not exist; create it, or name another {key}")
        }
        io::ErrorKind::PermissionDenied => {
            format!("{error}; run as a user who may write there, or name another {key}")
        }
        _ => match limits::remedy(error) {
            // Another name would help as little.
            Some(remedy) => format!("{error}{remedy}"),
            None => format!("{error}; name another {key}"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::sync::Barrier;

    const ADMIN: Kind = Kind { key: "admin.socket", mode: 0o600 };

    fn open(path: &Path) -> Result<(UnixPath, OwnedFd), String> {
        super::open(path, ADMIN)
    }

    #[test]
    fn the_socket_is_private_and_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let (socket, _listener) = open(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "the name of the beginning is gone");
        UnixStream::connect(&path).unwrap();
        socket.remove();
        assert!(socket.renew().is_none(), "it was given up");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn only_what_a_dead_process_left_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("evenkeel.sock");
        drop(UnixListener::bind(&path).unwrap());
        let first = open(&path).unwrap();
        let second = open(&path).unwrap_err();
        assert!(second.contains("another process listens") && second.contains("admin.socket"), "{second}");
        drop(first);
        drop(open(&path).unwrap());
        fs::remove_file(&path).unwrap();
        fs::write(&path, "data").unwrap();
        assert!(open(&path).unwrap_err().contains("is not a socket"));
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
        assert!(open(&path).unwrap_err().contains("another process listens"));
    }

    #[test]
    fn another_process_s_socket_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("evenkeel.sock");
        let (ours, _listener) = open(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let _theirs = open(&path).unwrap();
        assert!(ours.renew().is_none(), "a living process keeps it");
        assert!(ours.place.lock().told.as_ref().unwrap().contains("another process listens"));
        ours.remove();
        UnixStream::connect(&path).unwrap();
    }

    #[test]
    fn a_file_that_is_gone_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("evenkeel.sock");
        let (ours, _first) = open(&path).unwrap();
        assert!(ours.renew().is_none(), "it is there");
        fs::remove_file(&path).unwrap();
        let _second = ours.renew().unwrap();
        UnixStream::connect(&path).unwrap();
        fs::remove_file(&path).unwrap();
        drop(UnixListener::bind(&path).unwrap());
        let _third = ours.renew().expect("nothing responds on what is there");
        UnixStream::connect(&path).unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, "data").unwrap();
        assert!(ours.renew().is_none());
        assert_eq!(fs::read(&path).unwrap(), b"data", "what is no socket stays");
        drop(folder);
        assert!(ours.renew().is_none(), "nor is there a folder to put it");
    }

    #[test]
    fn of_many_starts_at_the_same_moment_one_has_the_socket() {
        let folder = tempfile::tempdir().unwrap();
        for leaves_dead in [false, true] {
            let path = folder.path().join(format!("{leaves_dead}.sock"));
            if leaves_dead {
                drop(UnixListener::bind(&path).unwrap());
            }
            let barrier = Barrier::new(8);
            let start = || {
                barrier.wait();
                open(&path)
            };
            let opened: Vec<_> = std::thread::scope(|scope| {
                let starts: Vec<_> = (0..8).map(|_| scope.spawn(start)).collect();
                starts.into_iter().map(|start| start.join().unwrap()).collect()
            });
            let ours: Vec<_> = opened.iter().flatten().collect();
            assert_eq!(ours.len(), 1, "{opened:?}");
            assert_eq!(identity(&path), ours[0].0.place.lock().file);
        }
    }

    #[test]
    fn faults_say_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let error = open(&folder.path().join("no/such/folder.sock")).unwrap_err();
        assert!(error.contains("create it"), "{error}");
        for few in [Errno::MFILE, Errno::NFILE] {
            let advice = advice(&few.into(), "admin.socket");
            assert!(advice.contains("ulimit -n") && !advice.contains("admin.socket"), "{advice}");
        }
        let name = "x".repeat(107 - folder.path().as_os_str().len() - 1);
        assert!(open(&folder.path().join(name)).is_ok(), "the longest path that the system takes");
    }
}
