//! The listeners of a start, and the certificates: what is read, and what is said of them.

use super::{Error, spawn};
use crate::base::{limits, time};
use crate::control::certificates;
use crate::data::Proxy;
use crate::data::shared::Shared;
use crate::state::config::{self, Config, Place};
use crate::state::listener::OpenListener;
use crate::state::live::Files;
use crate::state::tls::Problem;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

/// Where clients connect, for people: a URL, and the listener's name where it has one.
pub(super) fn ready_on(shared: &Shared) -> Vec<String> {
    shared.table.live().listeners.iter().map(|listener| ready_at(listener)).collect()
}

fn ready_at(listener: &OpenListener) -> String {
    let scheme = if listener.tls.is_some() { "https" } else { "http" };
    let settings = &listener.settings;
    let name = settings.listed.map_or(String::new(), |_| format!(" (listener {})", settings.name));
    match &listener.place {
        Place::Tcp(address) => format!("{scheme}://{address}{name}"),
        Place::Unix(_) => format!("{}, {scheme}{name}", listener.place),
    }
}

/// Reads the files that a configuration names.
pub(super) fn read_files(config: &Config) -> Result<Files, Error> {
    let now = i64::try_from(time::unix_seconds()).unwrap_or(i64::MAX);
    Files::read(config, None, now).map_err(|problems| {
        let told = |problem: Problem| {
            config::fault_at(config.file.as_deref(), &problem.key, problem.advice).to_string()
        };
        Error(problems.into_iter().map(told).collect::<Vec<_>>().join("\n\n"))
    })
}

/// Starts the thread that reads certificates again. A reload may bring the first ones.
pub(super) fn watch_certificates(main: &Proxy) -> Result<(certificates::Handle, JoinHandle<()>), Error> {
    let (watcher, handle) = certificates::Watcher::new(Arc::clone(&main.shared.table));
    Ok((handle, spawn(certificates::THREAD, move || watcher.run())?))
}

/// Why the listener with this index could not be opened, and what to do.
pub(super) fn open_error(config: &Config, at: usize, error: &io::Error) -> Error {
    match config.listen.listeners.get(at) {
        Some(listener) => listener_error(&listener.place, error),
        None => Error(error.to_string()),
    }
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
        _ => format!("cannot listen on {address}: {error}{}", limits::remedy(error).unwrap_or_default()),
    })
}
