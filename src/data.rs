//! Floor 3, the data plane: the life of a request, a file a step.
//!
//! 1. [`accept`]: one thread accepts, hears of bytes on parked connections, ends what missed its deadline
//! 2. [`park`]: where connections wait without a thread ([`handover`]: who has one; [`watch`]: with many requests away,
//!    workers do the accept thread's waiting)
//! 3. [`admit`]: the bounded channel, and what is turned away
//! 4. [`attend`]: a worker reads the head ([`input`]: its bytes)
//! 5. [`choose`]: a server, and the lease on it
//! 6. [`dial`]: a connection to it, from the [`pool`] or new
//! 7. [`exchange`]: the request goes out; tried again where that is safe ([`hands`]: what a worker works with)
//!    (a worker may go on meanwhile, [`onward`]: with a few at once, [`ahead`], or with nobody waiting, [`away`])
//! 8. [`hear`]: the answer's head; [`upload`] and [`relay`]: bodies ([`splice`], [`stream`]: long ones); [`tunnel`]: what an upgrade turned into
//! 9. [`finish`]: counted, told to the health thread; kept, lingered on ([`linger`], with several clients: [`company`]),
//!    parked or closed ([`close`]); [`rest`]: when workers stay with nobody

pub mod accept;
pub mod admit;
pub mod ahead;
pub mod attend;
pub mod away;
pub mod choose;
pub mod close;
pub mod company;
pub mod dial;
pub mod exchange;
pub mod finish;
pub mod handover;
pub mod hands;
pub mod hear;
pub mod input;
pub mod linger;
pub mod listen;
pub mod onward;
pub mod park;
pub mod pool;
pub mod relay;
pub mod rest;
pub mod socket;
pub mod splice;
pub mod stream;
pub mod tunnel;
pub mod upload;
pub mod watch;

use crate::base::dice;
use crate::base::ids::{RequestIds, ServerId};
use crate::base::limits;
use crate::base::time::{self, Moment};
use crate::policy::retry::Budget;
use crate::state::access::AccessSink;
use crate::state::config::Config;
use crate::state::crew::{Crew, Team};
use crate::state::stats::Stats;
use crate::state::table::Table;
use crate::state::verdict::Verdicts;
use accept::Acceptor;
use admit::Queue;
use away::Away;
use company::Companies;
use listen::Pollers;
use park::Lot;
use pool::Pool;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;
use watch::Watch;

/// A worker's stack. Its buffers are on the heap; what is on the stack is one head's fields.
const WORKER_STACK: usize = 256 * 1024;
/// Descriptors that are kept for servers, probes, files and the admin plane.
const RESERVED_DESCRIPTORS: usize = 32;

/// A client that was promised a kept-alive connection may have its next request on the way when draining
/// begins: idle connections stay open for this long, so that it is answered. Busy ones go with their next answer.
const LAST_CALL: Duration = Duration::from_millis(500);

/// One data plane: listeners, a crew, a table of servers. The balancer has two, one for its clients and a
/// small one that guards its own admin API.
#[derive(Debug)]
pub struct Plane {
    /// For logs and thread names.
    pub name: &'static str,
    /// What it was started with.
    pub config: Arc<Config>,
    /// Its servers.
    pub table: Arc<Table>,
    /// What it counts.
    pub stats: Arc<Stats>,
    /// What it learns of its servers.
    pub verdicts: Verdicts,
    /// Its workers.
    pub crew: Crew,
    /// The address that it listens on.
    pub address: SocketAddr,
    /// Where a line per request goes, if that is wanted.
    pub access: Option<AccessSink>,
    queue: Queue,
    lot: Lot,
    away: Arc<Away>,
    companies: Arc<Companies>,
    watch: Arc<Watch>,
    pool: Pool,
    budget: Budget,
    connections_max: usize,
    pseudonym: String,
    ids: RequestIds,
    /// Counts requests, for the algorithms that go round.
    turn: AtomicU64,
    next_worker: AtomicUsize,
    tunnels: AtomicUsize,
    streamers: AtomicUsize,
    draining: OnceLock<Moment>,
    stop_by: AtomicU64,
    /// No connection is left, and none can come.
    accept_ended: AtomicBool,
    waker: mio::Waker,
}

impl Plane {
    /// Binds the listener and makes everything ready; no thread runs yet. The error is the listener's.
    pub fn open(
        name: &'static str,
        config: Arc<Config>,
        table: Arc<Table>,
        verdicts: Verdicts,
        access: Option<AccessSink>,
    ) -> io::Result<(Arc<Plane>, Acceptor)> {
        let listener = listen::open(config.listen.address)?;
        let pollers = Pollers::new()?;
        let registry = || pollers.shared.registry().try_clone();
        let pseudonym = config.listen.via.clone();
        let pseudonym = pseudonym.unwrap_or_else(|| format!("evenkeel-{:08x}", dice::entropy() as u32));
        let plane = Arc::new(Plane {
            name,
            table,
            stats: Arc::default(),
            verdicts,
            crew: Crew::default(),
            address: listener.address,
            access,
            queue: Queue::new(
                config.threadpool.queue_capacity,
                config.threadpool.bounds.max,
                config.threadpool.admit,
            ),
            away: Away::new(registry()?),
            companies: Companies::new(),
            watch: Watch::new(registry()?, pollers.waker(accept::WAKER)?),
            lot: Lot::new(registry()?, config.limits.connections_per_address.is_some()),
            pool: Pool::new(config.servers.pool.idle, config.servers.pool.idle_time),
            budget: Budget::new(),
            connections_max: connections_max(&config),
            pseudonym,
            ids: RequestIds::default(),
            turn: AtomicU64::new(0),
            next_worker: AtomicUsize::new(1),
            tunnels: AtomicUsize::new(0),
            streamers: AtomicUsize::new(0),
            draining: OnceLock::new(),
            stop_by: AtomicU64::new(Moment::NEVER.as_nanos()),
            accept_ended: AtomicBool::new(false),
            waker: mio::Waker::new(pollers.shared.registry(), accept::WAKER)?,
            config,
        });
        let acceptor = Acceptor::new(Arc::clone(&plane), pollers, listener)?;
        Ok((plane, acceptor))
    }

    /// No new connections; requests in hand are finished; the accept thread ends when all connections have
    /// left, or at the deadline. A later call can only bring the deadline nearer.
    pub fn drain(&self, deadline: Moment) {
        self.draining.get_or_init(time::now);
        self.stop_by.fetch_min(deadline.as_nanos(), Ordering::AcqRel);
        // Without a wake-up the accept thread sees it at its next look.
        let _ = self.waker.wake();
        self.watch.wake();
        self.crew.nudge();
    }

    /// Closes the idle connections to a server that must not be used any more (`Addresses::keeps_idle`): now, and not
    /// at the next look at them.
    pub fn close_idle(&self, server: ServerId) {
        self.pool.clear(server);
    }

    /// Whether the plane takes no new connections.
    pub fn is_draining(&self) -> bool {
        self.draining.get().is_some()
    }

    /// Whether idle connections may be closed: the plane drains, and its clients have had time for what was
    /// on its way.
    fn last_call_is_over(&self, now: Moment) -> bool {
        self.draining.get().is_some_and(|begun| {
            let last_call = LAST_CALL.min(self.drain_deadline().since(*begun) / 2);
            now.since(*begun) >= last_call
        })
    }

    fn drain_deadline(&self) -> Moment {
        Moment::from_nanos(self.stop_by.load(Ordering::Acquire))
    }

    /// Requests wait, and nobody is idle.
    fn is_short_of_workers(&self) -> bool {
        self.crew.idle() == 0 && !self.queue.is_empty()
    }

    /// Every place for a worker that leaves the crew with a long body is taken.
    fn is_full_of_streamers(&self) -> bool {
        self.streamers.load(Ordering::Relaxed) >= self.config.limits.streamers
    }
}

/// A plane as its supervisor sees it: the gauges, and a way to hire and to give notice.
#[derive(Clone, Debug)]
pub struct Workers(pub Arc<Plane>);

impl Team for Workers {
    fn crew(&self) -> &Crew {
        &self.0.crew
    }

    fn queued(&self) -> usize {
        self.0.queue.len()
    }

    fn hire(&self) -> io::Result<()> {
        let number = self.0.next_worker.fetch_add(1, Ordering::Relaxed);
        let plane = Arc::clone(&self.0);
        let builder = thread::Builder::new().name(format!("worker-{number}")).stack_size(WORKER_STACK);
        builder.spawn(move || attend::run(plane, number)).map(drop)
    }

    fn dismiss(&self) -> bool {
        self.0.queue.push_notice()
    }

    fn is_draining(&self) -> bool {
        self.0.is_draining()
    }

    fn is_stopped(&self) -> bool {
        // The crew serves until the last connection has left, and none can come.
        let left = self.0.accept_ended.load(Ordering::Acquire);
        self.0.is_draining() && (left || time::now() >= self.0.drain_deadline())
    }

    fn connections(&self) -> usize {
        self.0.lot.open()
    }

    fn away(&self) -> usize {
        // One that is answered waits for a worker, and is with its server no more.
        self.0.away.count().saturating_sub(self.0.queue.answered())
    }

    fn in_company(&self) -> usize {
        self.0.companies.clients()
    }

    fn on_watch(&self) -> usize {
        self.0.watch.count()
    }

    fn tunnels(&self) -> usize {
        self.0.tunnels.load(Ordering::Relaxed)
    }

    fn streamers(&self) -> usize {
        self.0.streamers.load(Ordering::Relaxed)
    }
}

/// The configured limit, or what the descriptor limit leaves when every request may hold a server
/// connection too, and as many are idle as workers may have had on their way (law 2).
fn connections_max(config: &Config) -> usize {
    let descriptors = limits::descriptors();
    let workers = config.threadpool.bounds.max;
    let pooled = config.servers.pool.idle.min(workers.saturating_mul(ahead::MOST));
    let left = descriptors.saturating_sub(RESERVED_DESCRIPTORS + workers + pooled);
    // A very low limit still serves a few: better slow than not at all.
    config.limits.connections.unwrap_or(usize::MAX).min(left.max(descriptors / 4)).max(1)
}
