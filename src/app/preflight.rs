//! Checks on this machine before a start: missing folders, files that cannot be written, addresses and ports that
//! cannot be used. Nothing is created, and no connection is accepted.

mod exposed;

use super::listeners::listener_error;
use super::publish;
use crate::base::ids::PoolId;
use crate::base::{files, limits, time};
use crate::control::{access, certificates, state_file};
use crate::state::config::{AccessLog, AccessTarget, Config, Listener, Place};
use crate::state::instance::Instance;
use crate::state::live::{Files, Live, too_many_connections};
use crate::state::tls::Problem;
use rustix::fs::{Access, access};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, ipproto, socket_with, sockopt,
};
use std::fs::{self, OpenOptions};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

pub use exposed::exposed;

/// A reason why a start would fail or be incomplete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obstacle {
    /// The configuration key that it comes from.
    pub key: String,
    /// What is wrong and what to do.
    pub advice: String,
    /// The balancer would not start; else it would go without.
    pub stops: bool,
}

/// All obstacles to a start with this configuration. Whatever the balancer that runs with the same file uses is no
/// obstacle, because the next one takes it over.
pub fn preflight(config: &Config, running: Option<&Instance>) -> Vec<Obstacle> {
    let admin_stops = !publish::is_default(config);
    let admin = &config.admin;
    let listeners = config.listen.listeners.iter().map(|listener| (true, self::listener(listener, running)));
    let others = [
        (admin_stops, admin.socket.as_deref().map_or(Ok(()), |path| socket(path, "admin.socket", running))),
        (admin_stops, admin.bind.map_or(Ok(()), |bind| port(bind, "admin.bind", "admin.bind", running))),
        (true, config.log.access.as_ref().map_or(Ok(()), access_log)),
        // The balancer runs without it, and loses at a restart what it was to keep.
        (false, admin.state_file.as_deref().map_or(Ok(()), kept)),
    ];
    let sources = config.pool_ids().map(|pool| (false, source(config, pool)));
    let failed =
        listeners.chain(others).chain(sources).filter_map(|(stops, check)| Some((stops, check.err()?)));
    // A start raises it, too.
    limits::raise_descriptors();
    let lowered =
        too_many_connections(config).map(|advice| (false, ("limits.connections".to_owned(), advice)));
    let obstacle = |(stops, (key, advice))| Obstacle { key, advice, stops };
    failed.chain(lowered).map(obstacle).chain(files(config)).chain(exposed(config)).collect()
}

/// What stands in the way of a reload to this configuration: places of new listeners, and a new access log.
pub(super) fn of_reload(config: &Config, before: &Live) -> Vec<Obstacle> {
    let listeners = &config.listen.listeners;
    let new = listeners.iter().zip(before.still_open(listeners)).filter(|(_, open)| open.is_none());
    let new = new.map(|(listener, _)| self::listener(listener, None));
    let log = config.log.access.as_ref().filter(|_| config.log.access != before.config.log.access);
    let failed = new.chain(log.map(access_log)).filter_map(Result::err);
    failed.map(|(key, advice)| Obstacle { key, advice, stops: true }).collect()
}

/// What is wrong with the files of TLS and of responses.
fn files(config: &Config) -> Vec<Obstacle> {
    let now = i64::try_from(time::unix_seconds()).unwrap_or(i64::MAX);
    let (problems, stops) = match Files::read(config, None, now) {
        Ok(files) => (doubts(config, &files, now), false),
        Err(problems) => (problems, true),
    };
    problems.into_iter().map(|Problem { key, advice }| Obstacle { key, advice, stops }).collect()
}

/// Why clients may reject certificates that are valid, and those that expire soon.
fn doubts(config: &Config, files: &Files, now: i64) -> Vec<Problem> {
    let mut doubts = Vec::new();
    for (listener, tls) in config.listen.listeners.iter().zip(&files.tls.listeners) {
        let Some(tls) = tls else { continue };
        doubts.extend(tls.doubts());
        for (at, expiry) in tls.expiries().iter().enumerate() {
            let key = format!("{}.tls.certificates[{at}].certificate", listener.key());
            let soon = certificates::warning(expiry, now);
            let soon = soon.map(|soon| format!("{} {soon}; renew it", expiry.file.display()));
            doubts.extend(soon.map(|advice| Problem { key, advice }));
        }
    }
    doubts
}

/// The key, and what is wrong with its value.
type Verdict = Result<(), (String, String)>;

fn listener(listener: &Listener, running: Option<&Instance>) -> Verdict {
    let key = listener.port_key();
    match &listener.place {
        Place::Tcp(address) => port(*address, &key, &listener.bind_key(), running),
        Place::Unix(path) => socket(path, &key, running),
    }
}

/// Whether this address could be listened on; its port and its IP address have these keys.
fn port(address: SocketAddr, key: &str, bind_key: &str, running: Option<&Instance>) -> Verdict {
    match bindable(address) {
        Ok(()) => Ok(()),
        Err(error)
            if error.kind() == io::ErrorKind::AddrInUse
                && running.is_some_and(|running| running.has_port(address.port())) =>
        {
            Ok(())
        }
        Err(error) => {
            let is_foreign = error.kind() == io::ErrorKind::AddrNotAvailable;
            let key = if is_foreign { bind_key } else { key };
            Err((key.to_owned(), listener_error(&Place::Tcp(address), &error).to_string()))
        }
    }
}

/// Binds like the listener, but does not listen: no client can connect meanwhile.
pub(super) fn bindable(address: SocketAddr) -> io::Result<()> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let fd = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, Some(ipproto::TCP))?;
    sockopt::set_socket_reuseaddr(&fd, true)?;
    Ok(bind(&fd, &address)?)
}

/// Whether connections to the servers of a pool can come from the address that it names. Addresses come and go with
/// interfaces: the balancer starts without it, and tells with each probe that it is not there.
fn source(config: &Config, pool: PoolId) -> Verdict {
    let Some(address) = config.pool(pool).connecting.source else { return Ok(()) };
    bindable(SocketAddr::new(address, 0)).map_err(|_| {
        let advice =
            format!("{address} is not an address of this machine; write one that `ip address` shows");
        (format!("{}.source", config.pool_key(pool)), advice)
    })
}

/// Whether a socket could be created there.
fn socket(path: &Path, key: &str, running: Option<&Instance>) -> Verdict {
    let fault = |advice| Err((key.to_owned(), format!("{advice}, or name another path")));
    folder(path).or_else(fault)?;
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            fault(format!("{} exists and is not a socket; move it away", path.display()))
        }
        Ok(_) if running.is_none() && responds(path) => {
            fault(format!("another process listens on {}; stop it", path.display()))
        }
        _ => Ok(()),
    }
}

/// Whether a process listens on the socket. Never waits: a full backlog means that one does.
fn responds(path: &Path) -> bool {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let Ok(fd) = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None) else { return false };
    let Ok(address) = SocketAddrUnix::new(path) else { return false };
    matches!(connect(&fd, &address), Ok(()) | Err(Errno::AGAIN))
}

/// Whether the access log could be opened.
fn access_log(target: &AccessLog) -> Verdict {
    let fault = |advice| Err(("log.access".to_owned(), format!("{advice}, or write another path")));
    let path = match &target.to {
        AccessTarget::File(path) => path,
        AccessTarget::Stdout => return Ok(()),
        AccessTarget::Syslog(place) => {
            let unmet = |error| fault(format!("{place} cannot be reached: {error}; start the syslog daemon"));
            return access::syslog_can_be_opened(place).or_else(unmet);
        }
    };
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => fault(format!("{} is a folder; name a file in it", path.display())),
        // Opening a pipe could wait for its reader.
        Ok(found) if !found.is_file() => Ok(()),
        Ok(_) => OpenOptions::new().append(true).open(path).map(drop).or_else(|error| {
            fault(format!("{} cannot be written: {error}; give this user the right to", path.display()))
        }),
        Err(_) => folder(path).or_else(fault),
    }
}

/// Whether the state file could be written, and what it has can be used.
fn kept(path: &Path) -> Verdict {
    state_file(path)?;
    state_file::changes(path).map(drop).map_err(|why| {
        let shown = path.display();
        let advice = format!(
            "{shown} cannot be used: {why}; mend it, or a start renames it and goes on without the changes in it"
        );
        ("admin.state_file".to_owned(), advice)
    })
}

/// Whether the state file could be written: a new file takes its place each time.
pub(super) fn state_file(path: &Path) -> Verdict {
    let fault = |advice| Err(("admin.state_file".to_owned(), format!("{advice}, or write another path")));
    match state_file::must_be_plain(path) {
        Ok(()) => folder(&files::behind_links(path)).or_else(fault),
        Err(_) if path.is_dir() => fault(format!("{} is a folder; name a file in it", path.display())),
        Err(_) => fault(format!("{} exists and is not a plain file; write null for none", path.display())),
    }
}

/// Whether `deploy/evenkeel.service` makes the folder when it starts, with the right owner.
fn is_of_unit(folder: &Path) -> bool {
    let made = ["/run/evenkeel", "/var/lib/evenkeel", "/var/log/evenkeel"];
    made.iter().any(|one| folder == Path::new(one))
}

/// Whether a file could be created there.
fn folder(path: &Path) -> Result<(), String> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.map_or(PathBuf::from("."), Path::to_owned);
    let shown = folder.display();
    match fs::metadata(&folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound && is_of_unit(&folder) => {
            Err(format!("the folder {shown} does not exist; the systemd service makes it, else create it"))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(format!("the folder {shown} does not exist; create it"))
        }
        Err(error) => Err(format!("the folder {shown} cannot be used: {error}; give this user the right to")),
        Ok(found) if !found.is_dir() => Err(format!("{shown} is not a folder; move it away")),
        Ok(_) => access(&folder, Access::WRITE_OK | Access::EXEC_OK).map_err(|error| {
            format!("no file can be made in the folder {shown}: {error}; give this user the right to")
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::config;
    use serde_json::{Value, json};
    use std::net::TcpListener;
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixListener;

    /// The keys of all obstacles for this configuration in a folder.
    fn check(folder: &Path, config: &Value, running: Option<&Instance>, expected: &[(&str, &str)]) {
        let config = config::parse(&config.to_string(), folder).unwrap();
        let names = |folder: &Path| fs::read_dir(folder).unwrap().count();
        let before = names(folder);
        let found = preflight(&config, running);
        assert_eq!(names(folder), before, "nothing is created");
        let told: Vec<_> = found.iter().map(|found| (found.key.as_str(), found.stops)).collect();
        let keys: Vec<_> = expected.iter().map(|(key, _)| (*key, *key != "admin.state_file")).collect();
        assert_eq!(told, keys, "{found:?}");
        for (found, (_, part)) in found.iter().zip(expected) {
            assert!(found.advice.contains(part), "{found:?}");
        }
    }

    #[test]
    fn the_folders_of_the_unit_are_told_as_such() {
        let unit = include_str!("../../deploy/evenkeel.service");
        for (key, folder) in
            [("Runtime", "/run/evenkeel"), ("State", "/var/lib/evenkeel"), ("Logs", "/var/log/evenkeel")]
        {
            assert!(unit.contains(&format!("\n{key}Directory=evenkeel\n")), "{key}");
            assert!(is_of_unit(Path::new(folder)), "{folder}");
        }
        assert!(!is_of_unit(Path::new("/var/log")));
    }

    #[test]
    fn what_a_start_would_meet_is_reported() {
        let folder = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = listener.local_addr().unwrap();
        let port = taken.port();
        // What is in it is for no other user.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
        fs::create_dir(folder.path().join("a-folder")).unwrap();
        fs::write(folder.path().join("a-file"), "").unwrap();
        drop(UnixListener::bind(folder.path().join("stale.sock")).unwrap());
        let _other = UnixListener::bind(folder.path().join("taken.sock")).unwrap();
        let any = |more: Value| {
            let mut config = json!({
                "load_balancer": {"load_balancer_port": 0, "bind": "127.0.0.1"},
                "admin": {"bind": null, "socket": "stale.sock"},
            });
            for (group, keys) in more.as_object().unwrap() {
                for (key, value) in keys.as_object().unwrap() {
                    config[group][key] = value.clone();
                }
            }
            config
        };
        let folder = folder.path();
        check(folder, &any(json!({})), None, &[]);
        for (config, key, part) in [
            (
                json!({"load_balancer": {"load_balancer_port": port}}),
                "load_balancer.load_balancer_port",
                "is taken",
            ),
            (
                json!({"load_balancer": {"bind": "192.0.2.1"}}),
                "load_balancer.bind",
                "not an address of this machine",
            ),
            (json!({"admin": {"bind": format!("127.0.0.1:{port}")}}), "admin.bind", "is taken"),
            (json!({"admin": {"socket": "no/s"}}), "admin.socket", "does not exist; create it"),
            (json!({"admin": {"socket": "a-file"}}), "admin.socket", "is not a socket"),
            (json!({"admin": {"socket": "a-file/s"}}), "admin.socket", "is not a folder"),
            (json!({"admin": {"socket": "taken.sock"}}), "admin.socket", "another process listens"),
            (json!({"admin": {"state_file": "no/s"}}), "admin.state_file", "does not exist; create it"),
            (
                json!({"admin": {"state_file": "a-folder"}}),
                "admin.state_file",
                "is a folder; name a file in it",
            ),
            (
                json!({"admin": {"state_file": "/dev/null"}}),
                "admin.state_file",
                "not a plain file; write null",
            ),
            (
                json!({"admin": {"state_file": "a-file"}}),
                "admin.state_file",
                "a-file cannot be used: EOF while parsing a value at line 1 column 0; mend it",
            ),
            (json!({"log": {"access": "no/a.log"}}), "log.access", "does not exist; create it"),
            (json!({"log": {"access": "a-folder"}}), "log.access", "is a folder"),
            (
                json!({"log": {"access": format!("syslog:{}/none", folder.display())}}),
                "log.access",
                "cannot be reached: No such file or directory (os error 2); start the syslog daemon",
            ),
        ] {
            check(folder, &any(config), None, &[(key, part)]);
        }
        check(folder, &any(json!({"log": {"access": "a-file"}})), None, &[]);
        check(folder, &any(json!({"log": {"access": "new.log"}})), None, &[]);
        let running = Instance { listen: Some(taken), ..Instance::default() };
        let of_running =
            json!({"load_balancer": {"load_balancer_port": port}, "admin": {"socket": "taken.sock"}});
        check(folder, &any(of_running), Some(&running), &[]);
    }
}
