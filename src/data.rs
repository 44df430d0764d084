//! The data plane: every byte of a client. Its one way to wait is a worker's poller; an exchange is a value that is
//! advanced without blocking. From the bottom up, each file using those above it:
//!
//! | layer | files |
//! |---|---|
//! | 0 | [`socket`], [`splice`], [`poller`], [`timers`], [`buffers`], [`carrier`] (what a transport is over) |
//! | 0 | [`sleep`] (no work is left lying), [`called`] (a list without a lock while it is empty) |
//! | 1 | [`transport`] and [`tls`], [`proxy_header`] (sent before everything else) |
//! | 1 | [`tls_info`] (of a session), [`server_pool`], [`mailbox`] (how other threads call a connection) |
//! | 1 | [`verify`] (passwords), [`shared`] (what threads share) |
//! | 2 | [`context`] (what a worker lends), [`client`], [`failure`] (of an attempt), [`connecting`] (to a server) |
//! | 2 | [`meta`] (what is kept of a request), [`guard`] (what a request has to pass), [`upload`], [`download`] |
//! | 2 | [`upstream`] (choose a server), [`request_view`] (a request as its route sees it) |
//! | 2 | [`route`] (which pool, and the head for it), [`question`] (may a request pass) |
//! | 3 | [`exchange`], [`finish`] (count, log, tell health), [`tunnel`] |
//! | 4 | [`h1`] (heads, keep-alive, closing) |
//! | 5 | [`worker_pool`] (the channel), [`worker`], [`accept`], [`listen`], [`reload`] |
//!
//! A connection's way: `accept` → the channel → `worker` → `h1` → `exchange` → `finish`; idle, it is parked in `accept`.

pub mod accept;
pub mod buffers;
pub mod called;
pub mod carrier;
pub mod client;
pub mod connecting;
pub mod context;
pub mod download;
pub mod exchange;
pub mod failure;
pub mod finish;
pub mod guard;
pub mod h1;
pub mod listen;
pub mod mailbox;
pub mod meta;
pub mod poller;
pub mod proxy_header;
pub mod question;
pub mod reload;
pub mod request_view;
pub mod route;
pub mod server_pool;
pub mod shared;
#[cfg(test)]
mod simulation;
pub mod sleep;
pub mod socket;
pub mod splice;
pub mod timers;
pub mod tls;
pub mod tls_info;
pub mod transport;
pub mod tunnel;
pub mod upload;
pub mod upstream;
pub mod verify;
pub mod worker;
pub mod worker_pool;

use crate::base::ids::{ListenerId, PoolId};
use crate::base::inherited::{Socket, Sockets};
use crate::base::limits::Descriptors;
use crate::base::time::{self, Moment};
use crate::policy::pool::Bounds;
use crate::state::config::Config;
use crate::state::listener::OpenListener;
use crate::state::live::{Files, Live};
use crate::state::merge::Merged;
use crate::state::sinks::Sinks;
use crate::state::stats::Stats;
use crate::state::table::Table;
use crate::state::verdict::Verdicts;
use crate::state::workers::{Gauges, RequestInfo, Workers};
use accept::Acceptor;
use listen::Listener;
use poller::Poller;
use shared::Shared;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::Duration;
use worker_pool::WorkerPool;

/// A worker's stack. Its buffers are on the heap; what is on the stack is one head's fields.
const WORKER_STACK_BYTES: usize = 256 * 1024;

/// Another thread of ours is not waited for longer: a worker that lists its exchanges, the accept thread at the deadline of a
/// drain or for copies of its sockets. Each has a turn every few milliseconds, and so later only where no processor is free.
const THREAD_WAIT: Duration = Duration::from_secs(5);

/// A data plane: what its threads share, and its workers.
#[derive(Clone, Debug)]
pub struct Proxy {
    /// What its threads share.
    pub shared: Arc<Shared>,
    pool: Arc<WorkerPool>,
}

impl Proxy {
    /// Takes the listeners from `sockets`, binds the others, and makes everything ready; no thread runs yet. The error is
    /// that of the listener with this index. The name comes with the descriptors that clients and workers may take.
    pub fn open(
        name: (&'static str, Descriptors),
        config: Arc<Config>,
        mut files: Files,
        sinks: Sinks,
        sockets: &mut Sockets,
    ) -> Result<(Proxy, Acceptor), (usize, io::Error)> {
        let (mut listeners, mut known, stats) = (Vec::new(), Vec::new(), Arc::new(Stats::default()));
        let mut tls = std::mem::take(&mut files.tls.listeners).into_iter();
        for (at, settings) in config.listen.listeners.iter().enumerate() {
            let opened = match sockets.take(&settings.name, &settings.place.to_string()) {
                Some(socket) => Listener::inherit(socket, &settings.place),
                None => Listener::open(&settings.place),
            };
            let listener = opened.map_err(|error| (at, error))?;
            known.push(Arc::new(OpenListener {
                id: ListenerId(at as u32),
                name: settings.name.as_str().into(),
                settings: settings.clone(),
                place: listener.place.clone(),
                tls: tls.next().flatten(),
                traffic: stats.traffic.listener(&settings.name),
            }));
            listeners.push(listener);
        }
        let of_first = |error| (0, error);
        let poller = Poller::new().map_err(of_first)?;
        let table = Arc::new(Table::of(Live::new(config, files, known.clone(), sinks, &stats.traffic, None)));
        let shared = Arc::new(Shared::new(name, table, stats, Verdicts::default()));
        let pool = Arc::new(WorkerPool::new(&shared, poller.waker()));
        let listeners = listeners.into_iter().zip(known).collect();
        let acceptor = Acceptor::new(Arc::clone(&pool), poller, listeners).map_err(of_first)?;
        Ok((Proxy { shared, pool }, acceptor))
    }

    /// Copies of the listening sockets, for another process.
    pub fn sockets(&self) -> io::Result<Vec<Socket>> {
        let copies = self.pool.ask_sockets().recv_timeout(THREAD_WAIT);
        copies.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    /// Goes on with another configuration; see [`reload::reload`].
    pub fn reload(
        &self,
        config: Arc<Config>,
        files: Files,
        sinks: Sinks,
        next_id: &mut u32,
    ) -> Result<Merged, reload::Unopened> {
        reload::reload(&self.pool, config, files, sinks, next_id)
    }

    /// The most connections that may wait for a worker without a restart.
    pub fn queue_room(&self) -> usize {
        self.pool.room()
    }

    /// No new connections; exchanges in flight are finished; the accept thread ends when all connections have left, or at
    /// the deadline. A later call can only bring the deadline nearer.
    pub fn drain(&self, deadline: Moment) {
        self.shared.drain(deadline);
        self.pool.wake_all();
    }

    /// Once the accept thread has ended: the connections that missed the deadline.
    pub fn left_open(&self) -> usize {
        self.pool.left_open()
    }

    /// Closes idle connections to servers that must not be used any more (`Addresses::keeps_idle`): now, and not at the
    /// next look at them.
    pub fn close_idle(&self) {
        self.pool.sweep();
    }
}

impl Workers for Proxy {
    fn gauges(&self) -> &Gauges {
        &self.pool.gauges
    }

    fn bounds(&self) -> Bounds {
        self.shared.table.live().config.threadpool.bounds
    }

    fn queued(&self) -> usize {
        self.pool.waiting()
    }

    fn waiting(&self) -> usize {
        self.shared.table.live().waiting()
    }

    fn waiting_in(&self, pool: PoolId) -> usize {
        self.shared.table.live().pool(pool).queue.len()
    }

    fn in_flight(&self) -> usize {
        self.pool.in_flight()
    }

    fn held(&self) -> usize {
        self.pool.connections()
    }

    fn slept(&self) -> Duration {
        self.pool.slept()
    }

    fn moves(&self) -> u64 {
        self.pool.moves()
    }

    fn start_worker(&self) -> io::Result<()> {
        let number = self.pool.next_number();
        let pool = Arc::clone(&self.pool);
        // Here, so that the supervisor sees a shortage.
        let poller = Poller::new()?;
        // The first one may have a kept descriptor: without any worker clients would hold theirs for ever.
        if self.pool.gauges.workers() > 1 {
            self.shared.descriptors.check(poller.raw())?;
        }
        let builder = thread::Builder::new().name(format!("worker-{number}")).stack_size(WORKER_STACK_BYTES);
        builder.spawn(move || worker::run(&pool, number, poller)).map(drop)
    }

    fn alive(&self) -> usize {
        self.pool.alive()
    }

    fn stop_worker(&self) -> bool {
        self.pool.push_stop()
    }

    fn set_share(&self, connections: Option<usize>) {
        self.pool.set_share(connections.unwrap_or(usize::MAX));
    }

    fn is_draining(&self) -> bool {
        self.shared.is_draining()
    }

    fn is_leaving(&self) -> bool {
        self.shared.is_leaving()
    }

    fn is_stopped(&self) -> bool {
        // The workers serve until the last connection has left, and none can come; the accept thread tells them.
        let late = self.shared.drain_deadline().after(THREAD_WAIT);
        let over = self.pool.has_accept_ended() || time::now() >= late;
        self.shared.is_draining() && over
    }

    fn connections(&self) -> usize {
        self.shared.open()
    }

    fn tunnels(&self) -> usize {
        self.shared.tunnels.load(Relaxed)
    }

    fn requests(&self) -> Vec<RequestInfo> {
        self.pool.requests(THREAD_WAIT)
    }
}
