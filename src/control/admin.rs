//! The admin API: status, metrics and changes, spoken by tiny_http on a Unix socket of the same user.
//!
//! Nobody on the network reaches tiny_http: the app publishes the socket on TCP through a small data plane of its
//! own, with its strict parser, limits and timeouts (`docs/architecture.md` says why). The way of a request:
//! [`listen`] the socket; `intake` reads it whole, and is the only room that knows what tiny_http must not be
//! given; [`guard`] who may do what; [`api`] the endpoints; [`status`] and [`metrics`] what they show.

mod answer;
mod api;
mod guard;
mod intake;
mod listen;
mod metrics;
mod status;
#[cfg(test)]
mod tests;

pub use intake::BODY_MAX;

use crate::base::ids::ServerId;
use crate::base::time::{self, Moment};
use crate::state::config::Config;
use crate::state::crew::Team;
use crate::state::instance::Instance;
use crate::state::server::Server;
use crate::state::stats::Stats;
use crate::state::table::Table;
use crossbeam_channel::{Receiver, Sender, bounded, select};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// Threads that answer. More than the workers of the small data plane in front (two to four), so that clients which
/// stall there never hold all of them.
const HELPERS: usize = 8;
/// Their stacks: the buffers are on the heap.
const HELPER_STACK: usize = 256 * 1024;
/// Between two starts of tiny_http, when its accept loop came to an end.
const REOPEN: Duration = Duration::from_millis(200);
/// Between two looks whether somebody waits to be accepted…
const LOOK: Duration = Duration::from_secs(1);
/// …and so many looks in a row that find one mean that the accept loop is gone: it takes microseconds.
const LOOKS: u32 = 3;
/// Ended accept loops whose connections are still served.
const OLD_ROUNDS: usize = 3;
/// What requests in hand get at a stop.
const FAREWELL: Duration = Duration::from_secs(1);

const NO_THREAD: &str = "no thread can be started";

/// See [`View::registered`].
pub type Registered = Arc<dyn Fn(&Arc<Server>) + Send + Sync>;
/// See [`View::forgotten`].
pub type Forgotten = Arc<dyn Fn(ServerId) + Send + Sync>;

/// What the admin API shows and changes, and whom it tells.
pub struct View {
    /// What the balancer was started with.
    pub config: Arc<Config>,
    /// The servers.
    pub table: Arc<Table>,
    /// What the data plane counts.
    pub stats: Arc<Stats>,
    /// The data plane's workers and connections.
    pub team: Arc<dyn Team>,
    /// Which balancer this is.
    pub instance: Instance,
    /// When the balancer was started.
    pub started: Moment,
    /// Tells the health thread of a server that is new, came back or changed its mode: it probes at once.
    pub registered: Registered,
    /// Tells the health thread of a server that was taken out.
    pub forgotten: Forgotten,
}

/// The admin API, listening. [`Admin::run`] answers.
pub struct Admin {
    view: Arc<View>,
    socket: Arc<listen::Socket>,
    stop: (Sender<()>, Receiver<()>),
}

/// Stops the admin API; cheap to clone.
#[derive(Clone, Debug)]
pub struct Stopper {
    stop: Sender<()>,
    socket: Arc<listen::Socket>,
}

impl Stopper {
    /// Takes the socket from where clients look for it, so that a successor can have the name when this returns, and
    /// asks [`Admin::run`] to return. Never waits; a second call does nothing.
    pub fn stop(&self) {
        self.socket.hide();
        // A full channel holds the same request already.
        let _ = self.stop.try_send(());
    }
}

/// Listens on `config.admin.socket`. The error is a sentence for the operator. Clients can connect from here on and
/// are answered once [`Admin::run`] runs.
pub fn open(view: View) -> Result<Admin, String> {
    let path = view.config.admin.socket.clone();
    let path = path.ok_or("admin.socket is null in the configuration: there is no admin API to open")?;
    let socket = listen::open(&path)?;
    Ok(Admin { view: Arc::new(view), socket: Arc::new(socket), stop: bounded(1) })
}

impl Admin {
    /// The handle that ends [`Admin::run`].
    pub fn stopper(&self) -> Stopper {
        Stopper { stop: self.stop.0.clone(), socket: Arc::clone(&self.socket) }
    }

    /// Answers until it is stopped, then removes the socket.
    pub fn run(self) {
        let mut rounds = VecDeque::new();
        while self.serve(&mut rounds) {
            if self.stop.1.recv_timeout(REOPEN).is_ok() {
                break;
            }
        }
        // Out of sight first: who looks now finds no balancer, rather than one that does not answer.
        self.socket.hide();
        let deadline = time::now().after(FAREWELL);
        rounds.into_iter().for_each(|round: Round| round.end(deadline));
        self.socket.remove();
    }

    /// One life of tiny_http's accept loop: any accept error ends it for good, and so does, without a word, a thread that
    /// it cannot start. Then a new one is started on the same listener. False when the stop was asked for.
    fn serve(&self, rounds: &mut VecDeque<Round>) -> bool {
        let broken = match Round::start(&self.view, &self.socket) {
            Ok((round, broken)) => {
                rounds.push_back(round);
                broken
            }
            Err(error) => {
                log::error!("the admin API cannot serve ({error}); it tries again");
                return true;
            }
        };
        let mut looks = 0;
        let why = loop {
            select! {
                recv(self.stop.1) -> _ => return false,
                recv(broken) -> error => break error.unwrap_or_else(|_| "no reason given".to_owned()),
                default(LOOK) => {
                    looks = if self.socket.is_awaited() { looks + 1 } else { 0 };
                    if looks == LOOKS {
                        break "its accept loop has died".to_owned();
                    }
                }
            }
        };
        log::error!("the admin API could not accept a connection ({why}); it goes on");
        // Connections of a round that has ended go on in it. Only the last few rounds are kept.
        if rounds.len() > OLD_ROUNDS {
            rounds.pop_front().into_iter().for_each(|round| round.end(Moment::START));
        }
        true
    }
}

/// A tiny_http server and the threads that answer for it.
struct Round {
    server: Arc<tiny_http::Server>,
    helpers: usize,
    /// Disconnected when all helpers have left.
    left: Receiver<Infallible>,
}

impl Round {
    /// Also gives where the end of the accept loop is told.
    fn start(view: &Arc<View>, socket: &Arc<listen::Socket>) -> Result<(Round, Receiver<String>), String> {
        let listener = socket.listener().map_err(|error| error.to_string())?;
        // Without a thread for its accept loop it panics.
        let server = catch_unwind(AssertUnwindSafe(|| tiny_http::Server::from_listener(listener, None)));
        let server = server.map_err(|_| NO_THREAD.to_owned())?.map_err(|error| error.to_string())?;
        let server = Arc::new(server);
        let (stays, left) = bounded(0);
        let (breaks, broken) = bounded(1);
        let start = |number| {
            let (view, socket, server) = (Arc::clone(view), Arc::clone(socket), Arc::clone(&server));
            let helper = Helper { view, socket, server, breaks: breaks.clone(), _stays: stays.clone() };
            let thread = thread::Builder::new().name(format!("admin-{number}")).stack_size(HELPER_STACK);
            thread.spawn(move || helper.run())
        };
        let helpers = (1..=HELPERS).filter_map(|number| start(number).ok()).count();
        match helpers {
            0 => Err(NO_THREAD.to_owned()),
            _ => Ok((Round { server, helpers, left }, broken)),
        }
    }

    /// Lets the helpers go, and those that have a request in hand until the deadline.
    fn end(self, deadline: Moment) {
        (0..self.helpers).for_each(|_| self.server.unblock());
        // An error either way: all have left, or time is up and a client that stalls keeps its helper.
        let _ = self.left.recv_deadline(time::instant(deadline));
    }
}

/// One thread that answers.
struct Helper {
    view: Arc<View>,
    socket: Arc<listen::Socket>,
    server: Arc<tiny_http::Server>,
    breaks: Sender<String>,
    /// Dropped when the thread ends.
    _stays: Sender<Infallible>,
}

impl Helper {
    fn run(self) {
        loop {
            match self.server.recv() {
                Ok(request) => {
                    // Of two connections at nearly the same time, tiny_http may give both to one idle thread. The
                    // second is not looked at until some other connection ends: so one ends here, at once.
                    self.socket.touch();
                    // Beyond `respond`, which catches what a handler does, only tiny_http itself can panic.
                    drop(catch_unwind(AssertUnwindSafe(|| respond(&self.view, request))));
                }
                // An end that was asked for looks the same; then nobody listens.
                Err(error) => return drop(self.breaks.try_send(error.to_string())),
            }
        }
    }
}

/// One request, from its body to its answer.
fn respond(view: &View, mut request: tiny_http::Request) {
    let answer = intake::read(&mut request).and_then(|call| {
        catch_unwind(AssertUnwindSafe(|| api::answer(view, &call))).map_err(|_| {
            log::error!("the admin API failed on {} {}", call.method, call.path);
            answer::Answer::refusal(
                &call.path,
                500,
                "The admin API failed on this request. The log has the details.",
            )
        })
    });
    intake::answer(request, answer.unwrap_or_else(|refusal| refusal));
}
