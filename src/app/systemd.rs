//! What systemd wants to know of a service, and the sockets that it opened for it (sd_notify(3), sd_listen_fds(3)). Without
//! systemd nothing happens here.

use crate::base::inherited::Socket;
use listenfd::ListenFd;
use sd_notify::NotifyState;
use std::env;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::time::Duration;

/// The service is up, or its reload is over.
pub(super) fn ready() {
    tell(&[NotifyState::Ready]);
}

/// The service reads its configuration again; [`ready`] says when it has. systemd, with `Type=notify-reload`, tells by the time
/// whether this belongs to its signal.
pub(super) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(time) => tell(&[NotifyState::Reloading, time]),
        Err(error) => log::debug!("systemd does not hear of the reload: {error}"),
    }
}

/// The service stops.
pub(super) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Another process is the service now; this one goes on for a while.
pub(super) fn main_process(pid: u32) {
    tell(&[NotifyState::MainPid(pid), NotifyState::Ready]);
}

/// The service is alive.
pub(super) fn alive() {
    tell(&[NotifyState::Watchdog]);
}

/// How often [`alive`] is to be called; `None`: never. Twice within the time after which systemd restarts the service.
pub(super) fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|limit| limit / 2)
}

/// The sockets of a socket unit, which are named after it or by its `FileDescriptorName`.
pub(super) fn sockets() -> Vec<Socket> {
    // Before the crate takes the variables away.
    let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':').map(str::to_owned);
    let mut passed = ListenFd::from_env();
    let count = passed.len();
    let one = |at| {
        let name = names.next().unwrap_or_default();
        let socket = match passed.take_tcp_listener(at) {
            Ok(Some(listener)) => of_tcp(name, listener),
            _ => match passed.take_unix_listener(at) {
                Ok(Some(listener)) => of_unix(name, listener),
                _ => None,
            },
        };
        if socket.is_none() {
            log::warn!("the socket {at} from systemd is not a listening stream socket");
        }
        socket
    };
    (0..count).filter_map(one).collect()
}

fn of_tcp(name: String, listener: TcpListener) -> Option<Socket> {
    let place = listener.local_addr().ok()?.to_string();
    Some(of(name, place, listener.into()))
}

fn of_unix(name: String, listener: UnixListener) -> Option<Socket> {
    let address = listener.local_addr().ok()?;
    let place = format!("unix:{}", address.as_pathname()?.display());
    Some(of(name, place, listener.into()))
}

fn of(name: String, place: String, fd: OwnedFd) -> Socket {
    // No process that is started from here is to have it by accident.
    let _ = rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::CLOEXEC);
    Socket { name, place, is_ours: false, fd }
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        log::debug!("systemd does not hear: {error}");
    }
}
