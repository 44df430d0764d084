//! The admin API: status, metrics and changes, on a Unix socket of the same user and, through the app, on TCP.
//!
//! The path of a request: the [front](crate::front) reads its head; [`guard`] and [`api`] check it before its body is
//! read, and respond to `/live` and `/ready` at once. Accepted requests are served by tiny_http's threads: [`intake`]
//! reads them, [`api`] has the endpoints, [`status`], [`recent`], [`decisions`] and [`metrics`] their contents. [`dashboard`] is a page
//! that shows them.

mod agents;
mod api;
mod checks;
mod dashboard;
mod decisions;
mod fail_open;
mod guard;
mod intake;
mod listeners;
mod metrics;
mod names;
mod queues;
mod rates;
mod recent;
mod requests;
mod response;
mod routes;
mod server_status;
mod servers;
mod sessions;
mod status;
#[cfg(test)]
mod tests;
mod tiers;

pub use intake::BODY_MAX;

use crate::base::ids::ServerId;
use crate::base::limits;
use crate::base::time::{self, Moment};
use crate::base::unix_listener::{self, UnixPath};
use crate::front::{self, Front, Limits, Private, Response, Service};
use crate::http1::head::RequestHead;
use crate::state::config::Place;
use crate::state::events::Events;
use crate::state::history::History;
use crate::state::instance::Instance;
use crate::state::live::Live;
use crate::state::own::Own;
use crate::state::reload::{Reload, Reloads};
use crate::state::server::Server;
use crate::state::stats::Stats;
use crate::state::table::Table;
use crate::state::upgrade::Upgrading;
use crate::state::workers::Workers;
use intake::Call;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// The time that requests in flight get at a stop.
const STOP_TIMEOUT: Duration = Duration::from_secs(1);
/// Connections on the Unix socket, and as many from the TCP port; fewer where descriptors are few.
const CONNECTIONS: usize = 512;
/// The share of all descriptors that each of the two may use.
const DESCRIPTORS_SHARE: usize = 8;
/// The index of the private socket among the listeners.
const PUBLISHED: usize = 1;

/// The Unix socket: for the same user alone.
const SOCKET: unix_listener::Kind = unix_listener::Kind { key: "admin.socket", mode: 0o600 };

/// See [`View::registered`].
pub type Registered = Arc<dyn Fn(&Arc<Server>) + Send + Sync>;
/// See [`View::changed`].
pub type Changed = Arc<dyn Fn() + Send + Sync>;
/// See [`View::forgotten`].
pub type Forgotten = Arc<dyn Fn(ServerId) + Send + Sync>;

/// What the admin API shows and changes, and the callbacks for changes.
pub struct View {
    /// The configuration and the servers.
    pub table: Arc<Table>,
    /// Where the admin API is published on TCP, once that is known.
    pub published: Arc<OnceLock<SocketAddr>>,
    /// What the data plane counts.
    pub stats: Arc<Stats>,
    /// What happened lately.
    pub events: Arc<Events>,
    /// The last minutes of traffic.
    pub history: Arc<History>,
    /// The data plane's workers and connections.
    pub workers: Arc<dyn Workers>,
    /// Which balancer this is, but for its listeners.
    pub instance: Instance,
    /// Reads the configuration again.
    pub reload: Reload,
    /// What came of that so far.
    pub reloads: Arc<Reloads>,
    /// When the balancer was started.
    pub started: Moment,
    /// Tells the health thread that a server is new, came back or changed its mode: it probes at once.
    pub registered: Registered,
    /// Tells the health thread of a server that was taken out.
    pub forgotten: Forgotten,
    /// Tells of a change that is to be kept.
    pub changed: Changed,
    /// Starts upgrades of the running binary.
    pub upgrading: Arc<Upgrading>,
    /// Another process listens on the socket, and this one takes its place.
    pub takes_over: bool,
}

impl View {
    /// The current configuration.
    fn live(&self) -> Arc<Live> {
        self.table.live()
    }

    /// The balancer's own addresses, which no server can have.
    fn own(&self) -> Own {
        let live = self.live();
        let places = live.listeners.iter().map(|listener| listener.place.clone()).collect();
        Own::listening(&live.config, places, self.published.get().copied())
    }

    /// Which balancer this is.
    fn instance(&self) -> Instance {
        let live = self.live();
        let places = || live.listeners.iter().map(|listener| &listener.place);
        Instance {
            listen: places().find_map(Place::address),
            listeners: places().map(ToString::to_string).collect(),
            ..self.instance.clone()
        }
    }
}

/// The admin API, listening. [`Admin::run`] serves.
pub struct Admin {
    front: Front,
    api: Arc<Api>,
}

/// Stops the admin API; cheap to clone.
#[derive(Clone, Debug)]
pub struct Stopper {
    front: front::Stopper,
    socket: Arc<UnixPath>,
}

impl Stopper {
    /// Removes the socket's path, so that a successor can use it when this returns, and asks [`Admin::run`] to return.
    /// Never waits; a second call does nothing.
    pub fn stop(&self) {
        self.socket.remove();
        self.front.stop(time::now().after(STOP_TIMEOUT));
    }
}

/// Listens on `config.admin.socket`. The error is a sentence for the operator. Clients can connect from here on and get
/// a response once [`Admin::run`] runs.
pub fn open(view: View) -> Result<Admin, String> {
    let path = view.live().config.admin.socket.clone();
    let path = path.ok_or("admin.socket is null in the configuration: there is no admin API to open")?;
    let cannot = |error: io::Error| {
        let remedy = limits::remedy(&error).unwrap_or_default();
        format!("cannot listen beside {}: {error}{remedy}", path.display())
    };
    let folder = path.parent().unwrap_or(Path::new("")).to_owned();
    let open = if view.takes_over { unix_listener::replace } else { unix_listener::open };
    let (socket, listener) = open(&path, SOCKET)?;
    let published = Private::open(&folder).map_err(cannot)?;
    let listeners = vec![listener, published.listener().map_err(cannot)?.into()];
    let api = Arc::new(Api { view, socket: Arc::new(socket), published });
    let service = Arc::clone(&api) as Arc<dyn Service>;
    let front = front::open("admin", service, bounds(), listeners, &folder).map_err(cannot)?;
    Ok(Admin { front, api })
}

fn bounds() -> Limits {
    Limits {
        connections: CONNECTIONS.min(limits::descriptors() / DESCRIPTORS_SHARE).max(8),
        // A request of some hundred bytes, and a body of 64 KiB at most: both take milliseconds.
        head: Duration::from_secs(5),
        body: Duration::from_secs(5),
        // Longer than the data plane on the TCP port keeps an idle connection, so that it never reuses one that is just
        // being closed.
        idle: Duration::from_secs(60),
        body_max: BODY_MAX,
        bodies: 8,
        keeps_bodies: true,
        // tiny_http has four threads that it never ends; this many requests need no more.
        in_flight: 2,
        response: Duration::from_secs(10),
        write: Duration::from_secs(10),
        helpers: 2,
    }
}

impl Admin {
    /// The handle that ends [`Admin::run`].
    pub fn stopper(&self) -> Stopper {
        Stopper { front: self.front.stopper(), socket: Arc::clone(&self.api.socket) }
    }

    /// Where the data plane on the TCP port connects to: a socket that only this process can reach.
    pub fn published_at(&self) -> PathBuf {
        self.api.published.path().to_owned()
    }

    /// Serves until it is stopped.
    pub fn run(self) {
        self.front.run();
        self.api.socket.remove();
    }
}

/// The service behind the front.
struct Api {
    view: View,
    socket: Arc<UnixPath>,
    published: Private,
}

impl Service for Api {
    fn judge(&self, head: &RequestHead<'_, '_>, listener: usize) -> Option<Response> {
        match Call::judged(head, listener == PUBLISHED) {
            Some(call) => api::judge(&self.view, &call),
            None => Some(Response::text(501, "This method is not known.\n")),
        }
    }

    fn serve(&self, mut request: tiny_http::Request) {
        let response = Call::served(&mut request).and_then(|call| {
            catch_unwind(AssertUnwindSafe(|| api::response(&self.view, &call))).map_err(|_| {
                log::error!("the admin API failed on {} {}", call.method, call.path);
                call.reject(500, "The admin API failed on this request. The log has the details.")
            })
        });
        intake::respond(request, response.unwrap_or_else(|rejection| rejection));
    }

    fn rejection(&self, path: &str, status: u16, sentence: &str) -> Response {
        Response::rejection(path, status, sentence)
    }

    fn renew(&self) -> Option<OwnedFd> {
        self.socket.renew()
    }
}
