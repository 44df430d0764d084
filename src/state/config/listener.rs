//! A listener of the configuration: where clients connect, and what comes before a request there.

use super::Network;
use super::listeners;
use crate::policy::route::Path as PathRule;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// One place where clients connect: that of `load_balancer_port`, or one of `load_balancer.listeners`.
#[derive(Clone, Debug, PartialEq)]
pub struct Listener {
    /// Unique; a name like that of a server.
    pub name: String,
    /// Where it is.
    pub place: Place,
    /// Clients must speak TLS here.
    pub tls: Option<TlsToClients>,
    /// Peers that must begin with a PROXY header; no others may. On a Unix socket all must. `None` is off.
    pub proxy_protocol: Option<Vec<Network>>,
    /// Each request is answered with a redirect to https on this port.
    pub redirect_to_https: Option<u16>,
    /// Requests for these paths are not.
    pub redirect_except: Vec<PathRule>,
    /// Its index in `load_balancer.listeners`; `None` for that of `load_balancer_port`.
    pub listed: Option<usize>,
}

/// Where a listener is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// With port 0 the operating system chooses one.
    Tcp(SocketAddr),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

/// `load_balancer.listeners[].tls`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsToClients {
    /// Never empty. The first is for clients that name no host, or one that no certificate is for, where they may come in.
    pub certificates: Vec<HostCertificate>,
    /// The oldest version that is spoken.
    pub min_version: TlsVersion,
    /// Whether clients are asked for certificates, where a certificate here does not say otherwise.
    pub client_auth: Option<ClientAuth>,
    /// Protocols that are offered (RFC 7301), the preferred first; empty offers none.
    pub alpn: Vec<String>,
    /// Clients that name no host, or one that no certificate is for, are rejected.
    pub refuses_unknown_names: bool,
    /// From the accepted connection to the end of the handshake; `None` is `timeouts.client_head`.
    pub handshake_timeout: Option<Duration>,
}

/// The certificate of some hosts, and which clients may come in for them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostCertificate {
    /// Where it is.
    pub files: Certificate,
    /// Whether clients of these hosts are asked for certificates: its own, or that of the listener.
    pub client_auth: Option<ClientAuth>,
}

/// Two files in PEM form; they may be the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The certificate, then those that lead to the authority that issued it.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// A version of TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    /// RFC 5246.
    Tls12,
    /// RFC 8446.
    Tls13,
}

impl TlsVersion {
    /// As the file has it.
    pub fn name(self) -> &'static str {
        match self {
            TlsVersion::Tls12 => "1.2",
            TlsVersion::Tls13 => "1.3",
        }
    }
}

/// `client_auth`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientAuth {
    /// Authorities whose certificates are accepted, in PEM form.
    pub ca: PathBuf,
    /// Lists of revoked certificates (CRL), in PEM form.
    pub crl: Option<PathBuf>,
    /// Clients without a certificate are rejected.
    pub require: bool,
}

impl ClientAuth {
    /// `none`, `request` or `require`.
    pub fn name(auth: Option<&ClientAuth>) -> &'static str {
        match auth {
            None => "none",
            Some(auth) if auth.require => "require",
            Some(_) => "request",
        }
    }
}

impl Listener {
    /// The listener of `load_balancer_port`: clear text at this address.
    pub fn plain(address: SocketAddr) -> Self {
        Listener {
            name: listeners::DEFAULT_NAME.to_owned(),
            place: Place::Tcp(address),
            tls: None,
            proxy_protocol: None,
            redirect_to_https: None,
            redirect_except: Vec::new(),
            listed: None,
        }
    }

    /// Its key in the file.
    pub fn key(&self) -> String {
        match self.listed {
            Some(at) => format!("load_balancer.listeners[{at}]"),
            None => "load_balancer".to_owned(),
        }
    }

    /// The key of its port or path.
    pub fn port_key(&self) -> String {
        self.key() + if self.listed.is_some() { ".port" } else { ".load_balancer_port" }
    }

    /// The key of its address.
    pub fn bind_key(&self) -> String {
        self.key() + ".bind"
    }
}

impl Place {
    /// The TCP address.
    pub fn address(&self) -> Option<SocketAddr> {
        match self {
            Place::Tcp(address) => Some(*address),
            Place::Unix(_) => None,
        }
    }

    /// The TCP port; `None` where the operating system chooses it.
    pub fn port(&self) -> Option<u16> {
        self.address().map(|address| address.port()).filter(|port| *port != 0)
    }

    /// Whether only one of the two can be bound.
    pub fn conflicts(&self, other: &Place) -> bool {
        let (one, other) = match (self, other) {
            (Place::Tcp(one), Place::Tcp(other)) => (one, other),
            (Place::Unix(one), Place::Unix(other)) => return one == other,
            _ => return false,
        };
        let covers = |all: IpAddr, ip: IpAddr| match all {
            // `::` takes IPv4, too.
            IpAddr::V6(all) => all.is_unspecified(),
            IpAddr::V4(all) => all.is_unspecified() && ip.to_canonical().is_ipv4(),
        };
        let (ip, other_ip) = (one.ip().to_canonical(), other.ip().to_canonical());
        let same_port = one.port() != 0 && one.port() == other.port();
        same_port && (ip == other_ip || covers(ip, other_ip) || covers(other_ip, ip))
    }
}

impl fmt::Display for Place {
    /// `0.0.0.0:8000` or `unix:/run/web.sock`.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Tcp(address) => address.fmt(out),
            Place::Unix(path) => write!(out, "unix:{}", path.display()),
        }
    }
}
