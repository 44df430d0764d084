//! The admin API on its TCP port: a small data plane in front of the admin API's private socket, with the same strict
//! parser and limits as the balancer's own port, and workers of its own, so that admin and metrics respond when the
//! main pool is full.

use super::listeners::listener_error;
use super::{Error, Published, Running};
use crate::base::inherited::Sockets;
use crate::base::limits::{self, Descriptors};
use crate::control::admin::BODY_MAX;
use crate::data::Proxy;
use crate::state::address::Address;
use crate::state::config::{Config, Listener, Place, ServerSpec, Via};
use crate::state::live::Files;
use crate::state::sinks::Sinks;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// How long the front waits for requests in flight when the balancer stops.
pub(super) const DRAIN: Duration = Duration::from_secs(1);
/// Its own workers: more than the number of bodies that the admin API reads at once, so that slow ones never occupy
/// all.
const WORKERS: (usize, usize) = (2, 16);
/// Requests that may wait for them: all that its connections can send.
const QUEUE: usize = CONNECTIONS;
/// The most connections; fewer when descriptors are scarce.
const CONNECTIONS: usize = 1024;
/// The share of all descriptors that they may use.
const DESCRIPTORS_SHARE: usize = 8;
/// Time for a head, and between two reads of a body or of a response: these requests are small.
const CLIENT: Duration = Duration::from_secs(5);

/// Starts the data plane in front of the private socket. `None` if it was not asked for and cannot listen.
pub(super) fn front(
    main: &Config,
    bind: SocketAddr,
    socket: PathBuf,
    sockets: &mut Sockets,
) -> Result<Option<Running>, Error> {
    let config = Arc::new(guarded(main, bind, socket));
    match Proxy::open(
        ("admin", Descriptors::for_admin_clients()),
        config,
        Files::default(),
        Sinks::default(),
        sockets,
    ) {
        Ok((proxy, acceptor)) => Running::start(proxy, acceptor).map(Some),
        Err((_, error)) if error.kind() == io::ErrorKind::AddrInUse && is_default(main) => {
            log::warn!(
                "admin: {}; the admin API is on its socket only",
                listener_error(&Place::Tcp(bind), &error)
            );
            Ok(None)
        }
        Err((_, error)) => Err(Error(format!("admin.bind: {}", listener_error(&Place::Tcp(bind), &error)))),
    }
}

/// A balancer whose configuration does not name the admin API also runs without it: two of them may run side by side.
/// If the configuration names it, it is required.
pub(super) fn unless_default(main: &Config, reason: String) -> Result<Option<Published>, Error> {
    if is_default(main) {
        log::warn!("there is no admin API: {reason}");
        return Ok(None);
    }
    Err(Error(format!("admin: {reason}")))
}

/// Whether the file leaves the admin port at its default.
pub(super) fn is_default(main: &Config) -> bool {
    main.admin.bind == Config::default().admin.bind
}

fn guarded(main: &Config, bind: SocketAddr, socket: PathBuf) -> Config {
    let mut config = Config::default();
    config.listen.listeners = vec![Listener { name: "admin".to_owned(), ..Listener::plain(bind) }];
    config.listen.via = Via::Named("evenkeel-admin".to_owned());
    config.servers.list = vec![ServerSpec::new("admin", Address::Unix(socket))];
    config.servers.health_check.rules.enabled = false;
    config.servers.ejection.consecutive_failures = 0;
    config.servers.pool.idle = WORKERS.1;
    (config.threadpool.bounds.min, config.threadpool.bounds.max) = WORKERS;
    config.threadpool.queue_capacity = QUEUE;
    config.limits.body = Some(BODY_MAX);
    let connections = CONNECTIONS.min(limits::descriptors() / DESCRIPTORS_SHARE).max(8);
    config.limits.connections = Some(connections);
    config.limits.tunnels = 0;
    config.decisions.per_second = 0;
    config.timeouts = main.timeouts.clone();
    config.timeouts.client_head = config.timeouts.client_head.min(CLIENT);
    config.timeouts.client_body = config.timeouts.client_body.min(CLIENT);
    config
}
