//! The listeners of a start, and the certificates: what is read, and what is said of them.

use super::{Error, spawn};
use crate::base::time;
use crate::control::certificates;
use crate::data::Proxy;
use crate::data::shared::Shared;
use crate::state::config::{self, Config, Place};
use crate::state::tls::{Problem, Tls};
use std::io;
use std::thread::JoinHandle;

/// Where clients connect, for people: a URL, and the listener's name where it has one.
pub(super) fn ready_on(shared: &Shared) -> Vec<String> {
    let each = shared.config.listen.listeners.iter().zip(&shared.inlets);
    each.map(|(listener, inlet)| {
        let scheme = if inlet.tls.is_some() { "https" } else { "http" };
        let name = listener.listed.map_or(String::new(), |_| format!(" (listener {})", listener.name));
        match &inlet.place {
            Place::Tcp(address) => format!("{scheme}://{address}{name}"),
            Place::Unix(_) => format!("{}, {scheme}{name}", inlet.place),
        }
    })
    .collect()
}

/// Reads the certificates of all listeners and pools.
pub(super) fn open_tls(config: &Config) -> Result<Tls, Error> {
    let now = i64::try_from(time::unix_seconds()).unwrap_or(i64::MAX);
    Tls::open(config, now).map_err(|problems| {
        let told = |problem: Problem| {
            config::fault_at(config.file.as_deref(), &problem.key, problem.advice).to_string()
        };
        Error(problems.into_iter().map(told).collect::<Vec<_>>().join("\n\n"))
    })
}

/// Starts the thread that reads certificates again, where there are any.
pub(super) fn watch_certificates(
    main: &Proxy,
) -> Result<Option<(certificates::Handle, JoinHandle<()>)>, Error> {
    let listeners: Vec<_> = main.shared.inlets.iter().filter_map(|inlet| inlet.tls.clone()).collect();
    if listeners.is_empty() {
        return Ok(None);
    }
    let (watcher, handle) = certificates::Watcher::new(listeners);
    Ok(Some((handle, spawn(certificates::THREAD, move || watcher.run())?)))
}

/// What to do if the port, or the path, cannot be used.
pub(super) fn listener_error(place: &Place, error: &io::Error) -> Error {
    let Place::Tcp(address) = place else { return Error(error.to_string()) };
    let port = address.port();
    Error(match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "port {port} of {} is taken by another program; stop that program (`ss -ltnp | grep {port}` shows it), \
             or choose another port in the configuration",
            address.ip()
        ),
        io::ErrorKind::PermissionDenied => format!(
            "port {port} may not be opened by this user: ports below 1024 need the capability CAP_NET_BIND_SERVICE; \
             grant it, or choose a port above 1023"
        ),
        io::ErrorKind::AddrNotAvailable => {
            format!(
                "{} is not an address of this machine; write one that is, or 0.0.0.0 for all",
                address.ip()
            )
        }
        _ => format!("cannot listen on {address}: {error}"),
    })
}
