//! Layer 5: the channel between the accept thread and the workers, and what they know of each other: which sleeps,
//! which has how many connections.

use super::h1::Connection;
use super::listen::Listener;
use super::mailbox::Mailbox;
use super::shared::Shared;
use super::sleep::SleepFlag;
use crate::base::ids::ListenerId;
use crate::base::inherited::Socket;
use crate::base::time::{self, Moment};
use crate::state::listener::OpenListener;
use crate::state::workers::{Gauges, RequestInfo};
use crossbeam_channel::{Receiver, Sender, TrySendError, bounded, unbounded};
use mio::Waker;
use parking_lot::RwLock;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use std::time::Duration;

/// Connections that a thread takes in, from the channel or from the kernel, before those that it has get their turn.
pub const TAKEN_AT_ONCE: usize = 64;
/// The channel has room for so many connections at least, in 32 bytes each, so that a reload can raise
/// `threadpool.queue_capacity`: a channel does not grow.
const CHANNEL_MIN: usize = 1024;

/// Lists of its exchanges that a worker may be asked for at once; one more goes without its exchanges. An operator or a
/// script or two ask at the same time, and a worker responds within its turn.
const LISTS_WAITING_MAX: usize = 4;

/// What the channel carries.
#[derive(Debug)]
pub enum Work {
    /// A connection that has something to be read, with the moment at which that was known.
    Connection(Box<Connection>, Moment),
    /// The worker that takes this stops.
    Stop,
}

/// What the accept thread is told.
#[derive(Debug)]
pub enum Message {
    /// A connection that waits for a request: to be parked.
    Park(Box<Connection>),
    /// A reload has changed the listeners.
    ChangeListeners(ListenerChange),
    /// Where copies of its listening sockets are wanted.
    CopySockets(Sender<io::Result<Vec<Socket>>>),
}

/// What changes of the listeners.
#[derive(Debug, Default)]
pub struct ListenerChange {
    /// Sockets that listen already.
    pub opened: Vec<(Listener, Arc<OpenListener>)>,
    /// Their backlogs are emptied first.
    pub closed: Vec<ListenerId>,
}

/// The workers of one data plane, and their channel.
#[derive(Debug)]
pub struct WorkerPool {
    /// What all threads share.
    pub shared: Arc<Shared>,
    /// What the supervisor sees.
    pub gauges: Gauges,
    channel: (Sender<Work>, Receiver<Work>),
    /// What the channel has room for, beside the messages to stop.
    room: usize,
    /// Connections that may wait in the channel.
    capacity: AtomicUsize,
    /// Workers that wait in the channel.
    blocked: AtomicUsize,
    handles: RwLock<Vec<Arc<Handle>>>,
    /// For the accept thread. It is not bounded: there are as many messages as connections and reloads at the most.
    messages: (Sender<Message>, Receiver<Message>),
    accept_waker: Arc<Waker>,
    /// More connections than this are a reason for a worker to pass some on; `usize::MAX` while there is none.
    share: AtomicUsize,
    next_number: AtomicUsize,
    accept_ended: AtomicBool,
    /// Connections that were open when the accept thread ended.
    left_open: AtomicUsize,
    /// How often workers were asked to look at their idle server connections.
    sweeps: AtomicU64,
}

/// Where a worker sends the list of its exchanges.
pub type Listing = Sender<Vec<RequestInfo>>;

/// A worker as others see it.
#[derive(Debug)]
pub struct Handle {
    /// Counts up; names the thread and chooses where it counts.
    pub number: usize,
    /// Its connections.
    pub connections: AtomicUsize,
    /// Its exchanges and tunnels.
    pub in_flight: AtomicUsize,
    /// It waits in its poller, or is about to.
    pub sleeps: SleepFlag,
    /// The time that it ever slept, in nanoseconds. Only the worker itself writes it.
    slept_nanos: AtomicU64,
    /// How often its connections moved. Only the worker itself writes it.
    moves: AtomicU64,
    /// Asks it for a list of its exchanges.
    pub lists: (Sender<Listing>, Receiver<Listing>),
    mailbox: Arc<Mailbox>,
}

impl Handle {
    /// The worker has slept for so long; called by the worker alone.
    pub fn note_sleep(&self, slept: Duration) {
        self.slept_nanos.store(self.slept_nanos.load(Relaxed) + slept.as_nanos() as u64, Relaxed);
    }

    /// Connections of the worker have moved so often; called by the worker alone.
    pub fn note_moves(&self, moves: u64) {
        self.moves.store(self.moves.load(Relaxed) + moves, Relaxed);
    }
}

impl WorkerPool {
    /// A pool without workers. `accept_waker` wakes the accept thread.
    pub fn new(shared: &Arc<Shared>, accept_waker: Arc<Waker>) -> Self {
        let config = &shared.table.live().config;
        let room = config.threadpool.queue_capacity.max(CHANNEL_MIN);
        WorkerPool {
            gauges: Gauges::default(),
            channel: bounded(room + config.threadpool.bounds.max + 1),
            room,
            capacity: AtomicUsize::new(config.threadpool.queue_capacity.clamp(1, room)),
            blocked: AtomicUsize::new(0),
            handles: RwLock::default(),
            messages: unbounded(),
            accept_waker,
            share: AtomicUsize::new(usize::MAX),
            next_number: AtomicUsize::new(1),
            accept_ended: AtomicBool::new(false),
            left_open: AtomicUsize::new(0),
            sweeps: AtomicU64::new(0),
            shared: Arc::clone(shared),
        }
    }

    /// The most connections that [`WorkerPool::set_capacity`] can let wait.
    pub fn room(&self) -> usize {
        self.room
    }

    /// Sets how many connections may wait in the channel: 1 to [`WorkerPool::room`].
    pub fn set_capacity(&self, connections: usize) {
        self.capacity.store(connections.clamp(1, self.room), Relaxed);
    }

    /// Connections that wait in the channel.
    pub fn waiting(&self) -> usize {
        self.channel.1.len()
    }

    /// Passes a connection to a worker; a full channel hands it back.
    pub fn push(&self, connection: Box<Connection>, at: Moment) -> Result<(), Box<Connection>> {
        if self.channel.0.len() >= self.capacity.load(Relaxed) {
            return Err(connection);
        }
        match self.channel.0.try_send(Work::Connection(connection, at)) {
            Err(TrySendError::Full(Work::Connection(connection, _))) => return Err(connection),
            // The pool has the receiver, so the channel is never disconnected.
            _ => self.wake_one(),
        }
        Ok(())
    }

    /// Asks one worker to stop; false when there is no room for that now.
    pub fn push_stop(&self) -> bool {
        let pushed = self.channel.0.try_send(Work::Stop).is_ok();
        self.wake_one();
        pushed
    }

    /// The next work, if there is any now.
    pub fn take_now(&self) -> Option<Work> {
        // A look costs less than a try, which ends in a fence.
        if self.channel.1.is_empty() { None } else { self.channel.1.try_recv().ok() }
    }

    /// Waits for work; `None` after `limit`.
    pub fn take(&self, limit: Duration) -> Option<Work> {
        self.blocked.fetch_add(1, SeqCst);
        let taken = self.channel.1.recv_timeout(limit);
        self.blocked.fetch_sub(1, SeqCst);
        taken.ok()
    }

    /// Sees to it that work in the channel is taken: one that waits in the channel takes it by itself; where none does,
    /// one that sleeps in its poller is woken, that with the fewest connections. Where none sleeps, each looks at
    /// the channel before it does.
    pub fn wake_one(&self) {
        if self.blocked.load(SeqCst) > 0 {
            return;
        }
        let handles = self.handles.read();
        let sleeping = handles.iter().filter(|handle| handle.sleeps.is_set());
        let fewest = sleeping.min_by_key(|handle| handle.connections.load(Relaxed));
        if let Some(handle) = fewest.filter(|handle| handle.sleeps.take()) {
            handle.mailbox.wake();
        }
    }

    /// Hands an idle connection to the accept thread.
    pub fn park(&self, connection: Box<Connection>) {
        self.tell_accept(Message::Park(connection));
    }

    /// Has the accept thread open and close listeners.
    pub fn change_listeners(&self, change: ListenerChange) {
        self.tell_accept(Message::ChangeListeners(change));
    }

    /// Asks the accept thread for copies of its listening sockets.
    pub fn ask_sockets(&self) -> Receiver<io::Result<Vec<Socket>>> {
        let (give, taken) = bounded(1);
        self.tell_accept(Message::CopySockets(give));
        taken
    }

    fn tell_accept(&self, message: Message) {
        // The pool has the receiver.
        let _ = self.messages.0.send(message);
        self.wake_accept();
    }

    /// What the accept thread is told next.
    pub fn take_message(&self) -> Option<Message> {
        self.messages.1.try_recv().ok()
    }

    /// Wakes the accept thread.
    pub fn wake_accept(&self) {
        // It fails only where the counter of the waker is full: then it is awake.
        let _ = self.accept_waker.wake();
    }

    /// Wakes all threads: something that they look at at each turn has changed.
    pub fn wake_all(&self) {
        self.wake_accept();
        self.handles.read().iter().for_each(|handle| handle.mailbox.wake());
        self.gauges.notify();
    }

    /// Has all workers look at their idle server connections now: some must not be used again.
    pub fn sweep(&self) {
        self.sweeps.fetch_add(1, SeqCst);
        self.handles.read().iter().for_each(|handle| handle.mailbox.wake());
    }

    /// How often [`WorkerPool::sweep`] was called.
    pub fn sweeps(&self) -> u64 {
        self.sweeps.load(SeqCst)
    }

    /// A number for the next worker.
    pub fn next_number(&self) -> usize {
        self.next_number.fetch_add(1, Relaxed)
    }

    /// A worker has started.
    pub fn enter(&self, number: usize, mailbox: &Arc<Mailbox>) -> Arc<Handle> {
        let handle = Arc::new(Handle {
            number,
            connections: AtomicUsize::new(0),
            in_flight: AtomicUsize::new(0),
            sleeps: SleepFlag::default(),
            slept_nanos: AtomicU64::new(0),
            moves: AtomicU64::new(0),
            lists: bounded(LISTS_WAITING_MAX),
            mailbox: Arc::clone(mailbox),
        });
        self.handles.write().push(Arc::clone(&handle));
        handle
    }

    /// A worker has ended.
    pub fn leave(&self, handle: &Handle) {
        let slept = Duration::from_nanos(handle.slept_nanos.load(Relaxed));
        self.gauges.add_ended(slept, handle.moves.load(Relaxed));
        self.handles.write().retain(|other| other.number != handle.number);
    }

    /// Workers whose threads run.
    pub fn alive(&self) -> usize {
        self.handles.read().len()
    }

    /// Exchanges and tunnels of all workers.
    pub fn in_flight(&self) -> usize {
        self.handles.read().iter().map(|handle| handle.in_flight.load(Relaxed)).sum()
    }

    /// Connections of all workers; those that are parked are not among them.
    pub fn connections(&self) -> usize {
        self.handles.read().iter().map(|handle| handle.connections.load(Relaxed)).sum()
    }

    /// The time that all workers ever slept.
    pub fn slept(&self) -> Duration {
        let nanos: u64 = self.handles.read().iter().map(|handle| handle.slept_nanos.load(Relaxed)).sum();
        Duration::from_nanos(nanos) + self.gauges.ended().0
    }

    /// How often connections ever moved, in all workers.
    pub fn moves(&self) -> u64 {
        let moves: u64 = self.handles.read().iter().map(|handle| handle.moves.load(Relaxed)).sum();
        moves + self.gauges.ended().1
    }

    /// More connections than this are a reason for a worker to pass some on.
    pub fn share(&self) -> usize {
        self.share.load(Relaxed)
    }

    /// Sets [`WorkerPool::share`].
    pub fn set_share(&self, share: usize) {
        self.share.store(share, Relaxed);
    }

    /// The accept thread has ended: no connection comes any more.
    pub fn accept_ends(&self) {
        // Before the workers see it, which then close what is left.
        self.left_open.store(self.shared.open(), SeqCst);
        self.accept_ended.store(true, SeqCst);
        self.gauges.notify();
    }

    /// Connections that were open when the accept thread ended: those that missed the deadline.
    pub fn left_open(&self) -> usize {
        self.left_open.load(SeqCst)
    }

    /// Whether the accept thread has ended.
    pub fn has_accept_ended(&self) -> bool {
        self.accept_ended.load(SeqCst)
    }

    /// Lists exchanges in flight: each worker that responds within `limit` tells its own. One without connections has none; it
    /// may be blocked in the channel, and would respond late.
    pub fn requests(&self, limit: Duration) -> Vec<RequestInfo> {
        let until = time::instant(time::now().after(limit));
        let (sender, receiver) = unbounded();
        for handle in self.handles.read().iter().filter(|handle| handle.connections.load(Relaxed) > 0) {
            if handle.lists.0.try_send(sender.clone()).is_ok() {
                handle.mailbox.wake();
            }
        }
        drop(sender);
        let mut all = Vec::new();
        while let Ok(some) = receiver.recv_deadline(until) {
            all.extend(some);
        }
        all
    }
}
