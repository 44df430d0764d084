//! The workers of a data plane as seen by the control plane: gauges, and the operations of a supervisor.

use crate::base::ids::PoolId;
use crate::policy::pool::Bounds;
use parking_lot::{Condvar, Mutex};
use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use std::time::Duration;

/// What a worker pool and its supervisor share.
#[derive(Debug)]
pub struct Gauges {
    workers: AtomicUsize,
    started: AtomicU64,
    stopped: AtomicU64,
    /// The total time that ended workers have slept, in nanoseconds.
    slept_nanos: AtomicU64,
    /// How often ended workers served connections that became ready.
    moves: AtomicU64,
    asleep: AtomicBool,
    /// The supervisor is to wake up. No channel: waiting in one spins for some microseconds first, at each of its 100 looks
    /// per second, which was 1 % of the processor time under load.
    notice: Mutex<bool>,
    noticed: Condvar,
}

impl Default for Gauges {
    fn default() -> Self {
        Gauges {
            workers: AtomicUsize::new(0),
            started: AtomicU64::new(0),
            stopped: AtomicU64::new(0),
            slept_nanos: AtomicU64::new(0),
            moves: AtomicU64::new(0),
            asleep: AtomicBool::new(false),
            notice: Mutex::new(false),
            noticed: Condvar::new(),
        }
    }
}

impl Gauges {
    /// Workers that were started and not told to stop.
    pub fn workers(&self) -> usize {
        self.workers.load(Relaxed)
    }

    /// Workers ever started.
    pub fn started(&self) -> u64 {
        self.started.load(Relaxed)
    }

    /// Workers ever told to stop.
    pub fn stopped(&self) -> u64 {
        self.stopped.load(Relaxed)
    }

    /// The supervisor counts a worker, just before it starts it.
    pub fn count_in(&self) {
        self.workers.fetch_add(1, Relaxed);
        self.started.fetch_add(1, Relaxed);
    }

    /// The worker that was counted could not be started.
    pub fn count_in_failed(&self) {
        self.workers.fetch_sub(1, Relaxed);
        self.started.fetch_sub(1, Relaxed);
    }

    /// The supervisor stops counting a worker that it has told to stop.
    pub fn count_out(&self) {
        self.workers.fetch_sub(1, Relaxed);
        self.stopped.fetch_add(1, Relaxed);
    }

    /// A worker ends: the time that it slept, and how often it served connections.
    pub fn add_ended(&self, slept: Duration, moves: u64) {
        self.slept_nanos.fetch_add(slept.as_nanos() as u64, Relaxed);
        self.moves.fetch_add(moves, Relaxed);
    }

    /// The sums over the workers that have ended.
    pub fn ended(&self) -> (Duration, u64) {
        (Duration::from_nanos(self.slept_nanos.load(Relaxed)), self.moves.load(Relaxed))
    }

    /// Wakes the supervisor. One pending wake-up is enough.
    pub fn notify(&self) {
        *self.notice.lock() = true;
        self.noticed.notify_one();
    }

    /// The same, but only a load unless the supervisor sleeps for long.
    pub fn notify_if_asleep(&self) {
        if self.asleep.load(Relaxed) && self.asleep.swap(false, SeqCst) {
            self.notify();
        }
    }

    /// The supervisor waits for a wake-up for at most `limit`; `for_long` when there is no work at all.
    pub fn wait(&self, limit: Duration, for_long: bool) {
        self.asleep.store(for_long, SeqCst);
        let mut notice = self.notice.lock();
        if !*notice {
            self.noticed.wait_for(&mut notice, limit);
        }
        *notice = false;
        drop(notice);
        self.asleep.store(false, SeqCst);
    }
}

/// An exchange in flight, for display.
#[derive(Clone, Debug)]
pub struct RequestInfo {
    /// Its id; empty for a tunnel.
    pub id: String,
    /// The client.
    pub client: Option<IpAddr>,
    /// The request line as sent to the server; empty once it is no longer kept.
    pub request: String,
    /// The server that it was sent to last.
    pub server: Option<String>,
    /// What it is waiting for.
    pub waits_for: &'static str,
    /// Of its route.
    pub priority: &'static str,
    /// How much time is left until its response is worthless; `None` where that is not known.
    pub left: Option<Duration>,
    /// Time since its head was complete.
    pub age: Duration,
    /// Payload bytes from the client.
    pub received_bytes: u64,
    /// Bytes to the client.
    pub sent_bytes: u64,
    /// The status of the response that has begun; 0 before.
    pub status: u16,
}

/// A data plane as seen by its supervisor and the admin API. Tests implement their own.
pub trait Workers: Send + Sync {
    /// The gauges.
    fn gauges(&self) -> &Gauges;
    /// How many workers there may be.
    fn bounds(&self) -> Bounds;
    /// Connections waiting for a worker.
    fn queued(&self) -> usize;
    /// Requests waiting for a server with free capacity.
    fn waiting(&self) -> usize;

    /// Those of them that wait for a server of this pool.
    fn waiting_in(&self, pool: PoolId) -> usize;
    /// Exchanges and tunnels.
    fn in_flight(&self) -> usize;
    /// Connections held by workers; parked ones are not included.
    fn held(&self) -> usize;
    /// The total time that workers have slept.
    fn slept(&self) -> Duration;
    /// How often workers served connections, in total.
    fn moves(&self) -> u64;
    /// Starts one more worker. The error is the operating system's: no more threads.
    fn start_worker(&self) -> io::Result<()>;
    /// Workers whose threads run, those that were told to stop among them.
    fn alive(&self) -> usize;
    /// Tells one worker to stop; false when the channel is full.
    fn stop_worker(&self) -> bool;
    /// A worker with more connections than this passes some on; `None`: no limit.
    fn set_share(&self, connections: Option<usize>);
    /// No new connections are accepted.
    fn is_draining(&self) -> bool;
    /// It drains, or is about to: it is to get no new clients.
    fn is_leaving(&self) -> bool;
    /// The data plane has stopped: no worker is needed any more.
    fn is_stopped(&self) -> bool;
    /// Open client connections.
    fn connections(&self) -> usize;
    /// Open tunnels.
    fn tunnels(&self) -> usize;
    /// Exchanges and tunnels in flight, as reported by their workers.
    fn requests(&self) -> Vec<RequestInfo>;
}
