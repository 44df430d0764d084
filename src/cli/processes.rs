//! Running balancers on this machine, found through `/proc`: needed for one whose admin API is off.

use super::{Arguments, Command};
use crate::state::config::FILE;
use crate::state::instance::Instance;
use clap::Parser;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

/// The state of a listening socket in `/proc/net/tcp`.
const LISTENS: &str = "0A";
/// The flags of a listening socket in `/proc/net/unix` (`__SO_ACCEPTCON`).
const ACCEPTS: &str = "00010000";
/// Sockets that are tried: the folder of an admin socket has a few.
const SOCKETS_MAX: usize = 32;

/// The balancer that runs with the same file, with those of these addresses on which it listens. `None` if there is none, or the operating system does not provide this.
pub(super) fn balancer_of(
    wanted: &Instance,
    listen: &[SocketAddr],
    admin: Option<SocketAddr>,
) -> Option<Instance> {
    let found: Vec<Instance> = processes_of(wanted)
        .into_iter()
        .map(|pid| {
            let sockets = sockets_of(pid);
            let has = |address: &SocketAddr| {
                listeners_at(address.port()).iter().any(|inode| sockets.contains(inode))
            };
            let listeners = listen.iter().filter(|address| has(address)).map(ToString::to_string).collect();
            let (listen, admin) = (listen.iter().copied().find(has), admin.filter(has));
            Instance { pid, listen, listeners, admin, ..wanted.clone() }
        })
        .collect();
    // One that drains beside its successor no longer listens.
    let listens = found.iter().find(|instance| instance.listen.is_some());
    listens.or(found.first()).cloned()
}

/// Unix sockets among which is the admin socket of a balancer that runs with the same file. Needed where the file, which names
/// it, is not valid any more. The kernel knows a socket by the name that it was bound to, and the balancer renames it within its
/// folder: so all of these folders are returned.
pub(super) fn unix_sockets_of(wanted: &Instance) -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/net/unix").unwrap_or_default();
    let listeners: Vec<(u64, &str)> = table.lines().filter_map(unix_listener).collect();
    let mut folders: Vec<PathBuf> = Vec::new();
    for pid in processes_of(wanted) {
        let sockets = sockets_of(pid);
        let here = fs::read_link(format!("/proc/{pid}/cwd")).unwrap_or_default();
        let theirs = listeners.iter().filter(|(inode, _)| sockets.contains(inode));
        folders.extend(theirs.filter_map(|(_, path)| here.join(path).parent().map(Path::to_owned)));
    }
    folders.sort();
    folders.dedup();
    folders.iter().flat_map(|folder| sockets_in(folder)).take(SOCKETS_MAX).collect()
}

/// The sockets in a folder.
fn sockets_in(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let sockets = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_socket()));
    sockets.map(|entry| entry.path()).collect()
}

/// The balancers that run with the same file.
fn processes_of(wanted: &Instance) -> Vec<u32> {
    let numbers = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = numbers.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| file_of(*pid).is_some_and(|file| Instance::of(&file).has_same_file(wanted))).collect()
}

/// The configuration file with which a process runs as a balancer.
fn file_of(pid: u32) -> Option<PathBuf> {
    let process = Path::new("/proc").join(pid.to_string());
    let (name, own) = (program_of(&process), program_of(Path::new("/proc/self")));
    if pid == std::process::id() || !name.is_some_and(|name| is_evenkeel(&name, own.as_deref())) {
        return None;
    }
    let line = fs::read_to_string(process.join("cmdline")).ok()?;
    let words = line.split_terminator('\0');
    let arguments = Arguments::try_parse_from(words).ok()?;
    let named = match arguments.command {
        None => None,
        Some(Command::Run(named)) => named.file.file,
        Some(_) => return None,
    };
    let file = named.or(arguments.config).unwrap_or(FILE.into());
    Some(fs::read_link(process.join("cwd")).ok()?.join(file))
}

/// The name of the file that a process runs, as the kernel keeps it.
fn program_of(process: &Path) -> Option<String> {
    Some(fs::read_to_string(process.join("comm")).ok()?.trim_end().to_owned())
}

/// Whether a program of this name may be a balancer: several versions on one machine have their version in the name, and a file
/// that was renamed is called as this program is.
fn is_evenkeel(name: &str, own: Option<&str>) -> bool {
    name.starts_with("evenkeel") || Some(name) == own
}

/// The inodes of the sockets that a process has open.
fn sockets_of(pid: u32) -> Vec<u64> {
    let opened = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let targets = opened.filter_map(|entry| fs::read_link(entry.path()).ok());
    targets
        .filter_map(|target| target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok())
        .collect()
}

/// The inodes of the sockets that listen on a port.
fn listeners_at(port: u16) -> Vec<u64> {
    let tables =
        ["/proc/net/tcp", "/proc/net/tcp6"].map(|table| fs::read_to_string(table).unwrap_or_default());
    tables.iter().flat_map(|table| table.lines().filter_map(|line| listener_at(line, port))).collect()
}

/// The inode in a line of such a table, if it is a listener on this port.
fn listener_at(line: &str, port: u16) -> Option<u64> {
    let mut words = line.split_whitespace().skip(1);
    let local = words.next()?;
    let state = words.nth(1)?;
    let inode = words.nth(5)?;
    let at = local.rsplit_once(':').map(|(_, port)| u16::from_str_radix(port, 16));
    (state == LISTENS && at == Some(Ok(port))).then(|| inode.parse().ok()).flatten()
}

/// The inode and the path in a line of `/proc/net/unix`, if it is a listener with a path.
fn unix_listener(line: &str) -> Option<(u64, &str)> {
    let mut words = line.split_whitespace();
    let flags = words.nth(3)?;
    let (inode, path) = (words.nth(2)?.parse().ok()?, words.next()?);
    (flags == ACCEPTS && !path.starts_with('@')).then_some((inode, path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_are_read_from_the_tables_of_the_kernel() {
        const LINE: &str = "   0: 0100007F:1F40 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 12345 1 000";
        assert_eq!(listener_at(LINE, 8000), Some(12345));
        assert_eq!(listener_at(LINE, 8001), None);
        assert_eq!(listener_at(&LINE.replace(" 0A ", " 01 "), 8000), None);
        assert_eq!(listener_at("  sl  local_address rem_address   st", 8000), None);
    }

    #[test]
    fn unix_listeners_with_a_path_are_read_from_the_table_of_the_kernel() {
        const LINE: &str = "0000000000000000: 00000002 00000000 00010000 0001 01 12345 /run/a.sock";
        assert_eq!(unix_listener(LINE), Some((12345, "/run/a.sock")));
        assert_eq!(unix_listener(&LINE.replace(" 00010000 ", " 00000000 ")), None, "a connection");
        assert_eq!(unix_listener(&LINE.replace("/run", "@/run")), None, "a name without a file");
        assert_eq!(unix_listener("Num       RefCount Protocol Flags    Type St Inode Path"), None);
    }

    #[test]
    fn a_balancer_is_known_by_its_name_or_by_ours() {
        for (name, own, expected) in [
            ("evenkeel", "evenkeel", true),
            ("evenkeel-0.2", "evenkeel", true),
            ("balancer", "balancer", true),
            ("balancer", "evenkeel", false),
            ("nginx", "evenkeel", false),
        ] {
            assert_eq!(is_evenkeel(name, Some(own)), expected, "{name}, {own}");
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_has_the_socket_that_it_listens_on() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let sockets = sockets_of(std::process::id());
        assert!(listeners_at(port).iter().any(|inode| sockets.contains(inode)));
        assert!(file_of(std::process::id()).is_none(), "a test is no balancer");
    }
}
