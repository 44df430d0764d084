//! Which addresses and names belong to this machine.

use super::sys;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;

/// Whether packets to this address stay on this machine. Asks the kernel for a route; sends nothing and never waits. (A
/// successful bind would prove less: `ip_nonlocal_bind` allows any address.)
pub fn is_local(ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    ip.is_loopback() || ip.is_unspecified() || source_for(ip) == Some(ip)
}

/// Whether a name means this machine everywhere (RFC 6761 section 6.3, and common entries of host files).
pub fn is_localhost(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    matches!(
        &*name,
        "localhost"
            | "localhost.localdomain"
            | "localhost4"
            | "localhost6"
            | "ip6-localhost"
            | "ip6-loopback"
    ) || name.ends_with(".localhost")
}

/// Whether it is the name of this machine, in full or its first label.
pub fn is_host_name(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    let uname = rustix::system::uname();
    let own = uname.nodename().to_str().unwrap_or_default();
    let first = own.split('.').next().unwrap_or_default();
    !own.is_empty() && [own, first].iter().any(|own| name.eq_ignore_ascii_case(own))
}

/// The socket, which is not connected yet, will come from this address to that one, if both are of one family. The error
/// says that it is not there.
pub fn come_from(socket: &impl AsFd, source: IpAddr, to: &SocketAddr) -> io::Result<()> {
    if source.is_ipv4() != to.is_ipv4() {
        return Ok(());
    }
    sys::choose_port_later(socket);
    rustix::net::bind(socket, &SocketAddr::new(source, 0)).map_err(|errno| {
        let error = io::Error::from(errno);
        match error.kind() {
            io::ErrorKind::AddrNotAvailable => {
                io::Error::new(error.kind(), format!("the source {source} is not an address of this machine"))
            }
            _ => error,
        }
    })
}

fn source_for(ip: IpAddr) -> Option<IpAddr> {
    let any = match ip {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    // Any port: connecting a datagram socket only selects the route.
    socket.connect(SocketAddr::new(ip, 9)).ok()?;
    socket.local_addr().ok().map(|own| own.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_addresses_and_names_are_known() {
        for ip in ["127.0.0.1", "127.1.2.3", "::1", "0.0.0.0", "::ffff:127.0.0.1"] {
            assert!(is_local(ip.parse().unwrap()), "{ip}");
        }
        // From the address blocks for documentation, which no host has.
        for ip in ["192.0.2.1", "2001:db8::1"] {
            assert!(!is_local(ip.parse().unwrap()), "{ip}");
        }
        for name in ["localhost", "LOCALHOST.", "a.localhost", "ip6-loopback"] {
            assert!(is_localhost(name), "{name}");
        }
        for name in ["localhost.example", "mylocalhost", ""] {
            assert!(!is_localhost(name) && !is_host_name(name), "{name}");
        }
        let own = rustix::system::uname();
        assert!(is_host_name(own.nodename().to_str().unwrap()));
    }
}
