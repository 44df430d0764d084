//! From the options to what drivers need: where to connect, and the bytes of each request.

use super::plan::{self, Mix, Origin};
use super::secure::{self, Client, Stream};
use super::target::{Request, Target};
use super::{Entry, Options};
use crate::base::program;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Time limit of the connection before the load, and of its handshake.
const FIRST_CONNECT: Duration = Duration::from_secs(2);
/// The most hosts in a file of requests: each connection of the load becomes one to each of them.
const ORIGINS_MAX: usize = 64;

/// The targets of a run, and what is sent to them.
pub(super) struct Prepared {
    pub(super) origins: Vec<Origin>,
    pub(super) mix: Mix,
}

/// Fails with a sentence when an option is not valid or a host cannot be resolved. With `probes`, each host is connected
/// to once, and the first of its addresses that accepts is used.
pub(super) fn prepare(options: &Options, probes: bool) -> Result<Prepared, String> {
    let base = Target::parse(&options.url)?;
    let mut wanted = Vec::new();
    if options.entries.is_empty() {
        let request = Request::build(&base, options)?;
        wanted.push((base.clone(), request, 1));
    }
    for entry in &options.entries {
        let target = Target::parse(&absolute(entry, &base))?;
        let request = Request::of_entry(&target, entry, options)?;
        wanted.push((target, request, entry.weight.max(1)));
    }
    let (mut targets, mut entries): (Vec<Target>, Vec<_>) = (Vec::new(), Vec::new());
    for (target, request, weight) in wanted {
        let same =
            |one: &Target| (one.secure, &one.host, one.port) == (target.secure, &target.host, target.port);
        let origin = targets.iter().position(same).unwrap_or(targets.len());
        if origin == targets.len() {
            targets.push(target);
        }
        entries.push((plan::Entry { request, origin }, weight));
    }
    if targets.len() > ORIGINS_MAX {
        return Err(format!(
            "{} hosts are too many; at most {ORIGINS_MAX} can be loaded at once",
            targets.len()
        ));
    }
    Ok(Prepared { origins: origins(&targets, options, probes)?, mix: Mix::new(entries) })
}

/// The URL of an entry: a path alone is at the host of the options.
fn absolute(entry: &Entry, base: &Target) -> String {
    match entry.url.starts_with('/') {
        true => format!("{}://{}{}", if base.secure { "https" } else { "http" }, base.authority, entry.url),
        false => entry.url.clone(),
    }
}

fn origins(targets: &[Target], options: &Options, probes: bool) -> Result<Vec<Origin>, String> {
    let secure = targets.iter().any(|target| target.secure);
    let config = secure.then(|| secure::config(options.insecure, options.cacert.as_deref())).transpose()?;
    let origin = |target: &Target| {
        let tls = config.as_ref().filter(|_| target.secure);
        let tls = tls.map(|config| Client::new(config, options, &target.host)).transpose()?;
        let addresses = target.resolve()?;
        let address = if probes { first_that_accepts(&addresses, tls.as_ref())? } else { addresses[0] };
        Ok(Origin { address, tls })
    };
    targets.iter().map(origin).collect()
}

/// One connection before the load: if nothing listens there is nothing to measure.
fn first_that_accepts(addresses: &[SocketAddr], tls: Option<&Client>) -> Result<SocketAddr, String> {
    let mut first = None;
    for address in addresses {
        match TcpStream::connect_timeout(address, FIRST_CONNECT) {
            Ok(socket) => return greet(socket, *address, tls).map(|()| *address),
            Err(error) => first = first.or(Some((address, error))),
        }
    }
    let Some((address, error)) = first else { return Err("the host has no address".to_string()) };
    let program = program::name();
    Err(match error.kind() {
        ErrorKind::ConnectionRefused => format!(
            "nothing listens on {address}: start the balancer in another terminal first (`{program}`, or `{program} \
             demo`), or name another URL, as in `{program} loadtest http://localhost:8000/`"
        ),
        ErrorKind::TimedOut => format!(
            "no connection to {address} within {} s: check the address, and whether a firewall drops packets to it",
            FIRST_CONNECT.as_secs()
        ),
        _ => format!("cannot connect to {address}: {error}; check the address and the network"),
    })
}

/// The handshake, where there is one: a certificate that is not trusted would fail every request.
fn greet(socket: TcpStream, address: SocketAddr, tls: Option<&Client>) -> Result<(), String> {
    let limits =
        socket.set_read_timeout(Some(FIRST_CONNECT)).and(socket.set_write_timeout(Some(FIRST_CONNECT)));
    let greeted = limits.and_then(|()| Stream::over(socket, tls)?.greet());
    greeted.map_err(|error| {
        let why = secure::handshake_failure(&error).unwrap_or_else(|| match error.kind() {
            ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset => {
                "the server closed the connection; is this a port for TLS?".to_string()
            }
            ErrorKind::WouldBlock | ErrorKind::TimedOut => {
                format!("no response within {} s; is this a port for TLS?", FIRST_CONNECT.as_secs())
            }
            _ => error.to_string(),
        });
        format!("no TLS with {address}: {why}")
    })
}
