//! The balancer's own addresses. None can be a server: a request would loop back, or reach the admin API from outside.

use super::address::Address;
use super::config::{Config, Place};
use crate::base::local;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The most symbolic links that are followed; the kernel follows 40.
const LINKS: usize = 40;

/// Where this balancer listens.
#[derive(Debug)]
pub struct Own {
    /// Where clients connect.
    listeners: Vec<Place>,
    /// `None` while the port is not known.
    admin: Option<SocketAddr>,
    socket: Option<PathBuf>,
}

/// The part of the balancer that an address belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// A port for clients.
    Port,
    /// A Unix socket for clients.
    Socket,
    /// `admin.bind`.
    AdminPort,
    /// `admin.socket`.
    AdminSocket,
    /// A descriptor of some process, reached through its file system.
    Descriptor,
}

impl Part {
    /// What is wrong with such an address, for the operator.
    pub fn fault(self) -> &'static str {
        match self {
            Part::Port | Part::Socket => "is the balancer itself; write where the server listens",
            Part::AdminPort => "is the balancer's own admin port; write where the server listens",
            Part::AdminSocket => "is the balancer's own admin socket; write where the server listens",
            Part::Descriptor => "leads to a descriptor of a process; write the path of the server's socket",
        }
    }

    /// The configuration keys that set it.
    pub fn keys(self) -> &'static [&'static str] {
        match self {
            Part::Port => &["load_balancer.load_balancer_port", "load_balancer.bind"],
            Part::AdminPort => &["admin.bind"],
            Part::AdminSocket => &["admin.socket"],
            Part::Socket | Part::Descriptor => &[],
        }
    }
}

impl Own {
    /// The addresses of a configuration. A port 0 is not known yet, and matches nothing.
    pub fn of(config: &Config) -> Own {
        let listeners = config.listen.listeners.iter().map(|listener| listener.place.clone()).collect();
        Own::listening(config, listeners, None)
    }

    /// The same, with the actual addresses of the listeners, and of the admin port where it is known.
    pub fn listening(config: &Config, listeners: Vec<Place>, admin: Option<SocketAddr>) -> Own {
        let admin = admin.or(config.admin.bind.filter(|bind| bind.port() != 0));
        Own { listeners, admin, socket: config.admin.socket.clone() }
    }

    /// Which part of the balancer listens at an address, as far as that can be determined without network access.
    pub fn part(&self, address: &Address) -> Option<Part> {
        match address {
            Address::Tcp { host, port } if self.ports().any(|own| reaches(host, *port, own)) => {
                Some(Part::Port)
            }
            Address::Tcp { host, port } => {
                self.admin.is_some_and(|admin| reaches(host, *port, admin)).then_some(Part::AdminPort)
            }
            Address::Unix(path) => self.part_at(path),
        }
    }

    fn part_at(&self, path: &Path) -> Option<Part> {
        let places = places(path);
        if places.iter().any(|place| place.starts_with("/proc")) {
            return Some(Part::Descriptor);
        }
        let is_same = |socket: &Path| {
            let own = self::places(socket);
            places.iter().any(|place| own.contains(place))
                || file(path).is_some_and(|file_there| file(socket) == Some(file_there))
        };
        if self.socket.as_deref().is_some_and(is_same) {
            return Some(Part::AdminSocket);
        }
        let mut sockets = self.listeners.iter().filter_map(|place| match place {
            Place::Unix(path) => Some(path),
            Place::Tcp(_) => None,
        });
        sockets.any(|socket| is_same(socket)).then_some(Part::Socket)
    }

    fn ports(&self) -> impl Iterator<Item = SocketAddr> {
        self.listeners.iter().filter_map(Place::address)
    }
}

/// Whether one listener would get the other's connections. Port 0 is chosen later, and never twice.
pub fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    one.port() != 0
        && one.port() == other.port()
        && (ip_reaches(one.ip(), other.ip()) || ip_reaches(other.ip(), one.ip()))
}

/// Whether a connection to this host and port reaches a listener here.
fn reaches(host: &str, port: u16, listener: SocketAddr) -> bool {
    if port == 0 || port != listener.port() {
        return false;
    }
    let ip = listener.ip().to_canonical();
    match host.parse::<IpAddr>() {
        Ok(server) => ip_reaches(server, ip),
        Err(_) if local::is_localhost(host) => ip.is_unspecified() || ip.is_loopback(),
        Err(_) => ip.is_unspecified() && local::is_host_name(host),
    }
}

fn ip_reaches(server: IpAddr, listener: IpAddr) -> bool {
    let (server, listener) = (server.to_canonical(), listener.to_canonical());
    match (server.is_unspecified(), listener.is_unspecified()) {
        (_, true) => local::is_local(server),
        // A connection to the unspecified address goes to loopback.
        (true, false) => listener.is_loopback(),
        (false, false) => server == listener,
    }
}

/// A path and the targets of its symbolic links, each with its folder resolved: all names of one file lead to the same
/// paths, even while the file does not exist.
fn places(path: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut at = path.to_owned();
    for _ in 0..LINKS {
        let place = resolved(&at);
        let link = fs::read_link(&place).ok();
        let folder = place.parent().map(Path::to_owned);
        found.push(place);
        match link {
            Some(link) => at = folder.unwrap_or_default().join(link),
            None => break,
        }
    }
    found
}

/// The path with its folder resolved; the folder as written when it does not exist yet.
fn resolved(path: &Path) -> PathBuf {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    };
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let resolved = fs::canonicalize(folder).or_else(|_| std::path::absolute(folder));
    resolved.unwrap_or_else(|_| folder.to_owned()).join(name)
}

/// Device and inode of the target of a path.
fn file(path: &Path) -> Option<(u64, u64)> {
    fs::metadata(path).ok().map(|found| (found.dev(), found.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    fn own(listen: &str, admin: &str) -> Own {
        let listeners = vec![Place::Tcp(listen.parse().unwrap())];
        Own { listeners, admin: admin.parse().ok(), socket: None }
    }

    fn check(own: &Own, address: &str, expected: Option<Part>) {
        assert_eq!(own.part(&address.parse().unwrap()), expected, "{address} at {own:?}");
    }

    #[test]
    fn a_port_is_its_own_by_every_address_and_name() {
        let any = own("0.0.0.0:8000", "127.0.0.1:9301");
        let name = format!("{}:8000", rustix::system::uname().nodename().to_str().unwrap());
        let names = ["localhost:8000", "LOCALHOST.:8000", "a.localhost:8000", &name];
        let addresses = ["127.0.0.1:8000", "127.1.2.3:8000", "0.0.0.0:8000", "[::1]:8000", "[::]:8000"];
        let mapped = ["[::ffff:127.0.0.1]:8000", "[::ffff:7f00:1]:8000", "[0:0:0:0:0:0:0:1]:8000"];
        for address in names.into_iter().chain(addresses).chain(mapped) {
            check(&any, address, Some(Part::Port));
        }
        for address in ["127.0.0.1:8001", "192.0.2.1:8000", "server.example:8000"] {
            check(&any, address, None);
        }
        for address in ["127.0.0.1:9301", "localhost:9301", "0.0.0.0:9301", "[::ffff:127.0.0.1]:9301"] {
            check(&any, address, Some(Part::AdminPort));
        }
        check(&any, "127.0.0.2:9301", None);
        let one = own("192.0.2.1:8000", "[::1]:0");
        check(&one, "192.0.2.1:8000", Some(Part::Port));
        check(&one, "127.0.0.1:8000", None);
        check(&own("[::]:8000", "[::1]:0"), "127.0.0.1:8000", Some(Part::Port));
        check(&own("127.0.0.1:0", "[::1]:0"), "127.0.0.1:8000", None);
    }

    #[test]
    fn a_socket_is_its_own_by_every_path() {
        let folder = tempfile::tempdir().unwrap();
        let at = |path: &str| format!("unix:{}/{path}", folder.path().display());
        let socket = folder.path().join("evenkeel.sock");
        fs::create_dir(folder.path().join("sub")).unwrap();
        symlink(folder.path(), folder.path().join("sub/up")).unwrap();
        symlink("evenkeel.sock", folder.path().join("link")).unwrap();
        symlink(folder.path().join("link"), folder.path().join("link2")).unwrap();
        symlink("/proc/self/fd/0", folder.path().join("fd")).unwrap();
        let own = Own { socket: Some(socket.clone()), ..own("127.0.0.1:1", "127.0.0.1:2") };
        for is_there in [false, true] {
            let _listener = is_there.then(|| UnixListener::bind(&socket).unwrap());
            for path in [
                "evenkeel.sock",
                "/evenkeel.sock",
                "./evenkeel.sock",
                "sub/../evenkeel.sock",
                "sub/up/evenkeel.sock",
                "link",
                "link2",
            ] {
                check(&own, &at(path), Some(Part::AdminSocket));
            }
            check(&own, &at("other.sock"), None);
        }
        let web = Own {
            listeners: vec![Place::Unix(socket.clone())],
            socket: None,
            ..self::own("[::1]:1", "[::1]:2")
        };
        check(&web, &at("link2"), Some(Part::Socket));
        fs::hard_link(&socket, folder.path().join("hard")).unwrap();
        check(&own, &at("hard"), Some(Part::AdminSocket));
        for path in ["unix:/proc/self/fd/3", "unix:/dev/fd/3", &at("fd"), "unix:/proc/../proc/self/fd/3"] {
            check(&own, path, Some(Part::Descriptor));
        }
    }
}
