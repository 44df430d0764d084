//! What the workers of one pool and their supervisor share: gauges, counters, and a nudge.

use crate::base::load::{self, Used};
use crate::base::time::Moment;
use crossbeam_channel::{Receiver, Sender, bounded};
use crossbeam_utils::CachePadded;
use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

/// The gauges. Workers write them, the supervisor and the accept thread read them.
#[derive(Debug)]
pub struct Crew {
    idle: CachePadded<AtomicUsize>,
    rests: CachePadded<AtomicU64>,
    work: CachePadded<Work>,
    workers: AtomicUsize,
    hired: AtomicU64,
    dismissed: AtomicU64,
    lost: AtomicU64,
    nudge: (Sender<()>, Receiver<()>),
    nudged_at: AtomicU64,
    asked: AtomicUsize,
    asked_at: AtomicU64,
    load: load::Shared,
}

/// What a crew has done, ever.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Requests that workers have finished with.
    pub ended: u64,
    /// The time that workers were held by them. What several requests waited for at once counts once.
    pub held: Duration,
    /// The time that each took, from when a worker had it in hand: of those sent ahead all count their wait.
    pub took: Duration,
}

#[derive(Debug, Default)]
struct Work {
    ended: AtomicU64,
    held_nanos: AtomicU64,
    took_nanos: AtomicU64,
    last_taken: AtomicU64,
    last_wait_nanos: AtomicU64,
}

impl Default for Crew {
    fn default() -> Self {
        Crew {
            idle: CachePadded::new(AtomicUsize::new(0)),
            rests: CachePadded::new(AtomicU64::new(0)),
            work: CachePadded::new(Work::default()),
            workers: AtomicUsize::new(0),
            hired: AtomicU64::new(0),
            dismissed: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            nudge: bounded(1),
            nudged_at: AtomicU64::new(0),
            asked: AtomicUsize::new(0),
            asked_at: AtomicU64::new(0),
            load: load::Shared::default(),
        }
    }
}

impl Crew {
    /// Workers waiting on the channel.
    pub fn idle(&self) -> usize {
        self.idle.load(Relaxed)
    }

    /// Workers that were hired and not dismissed.
    pub fn workers(&self) -> usize {
        self.workers.load(Relaxed)
    }

    /// Workers that hold a request (or linger after one).
    pub fn busy(&self) -> usize {
        self.workers().saturating_sub(self.idle())
    }

    /// Workers ever hired.
    pub fn hired(&self) -> u64 {
        self.hired.load(Relaxed)
    }

    /// Workers ever dismissed.
    pub fn dismissed(&self) -> u64 {
        self.dismissed.load(Relaxed)
    }

    /// What was done so far.
    pub fn done(&self) -> Done {
        Done {
            ended: self.work.ended.load(Relaxed),
            held: Duration::from_nanos(self.work.held_nanos.load(Relaxed)),
            took: Duration::from_nanos(self.work.took_nanos.load(Relaxed)),
        }
    }

    /// When the last request left the queue, and how long it had waited.
    pub fn last_taken(&self) -> (Moment, Duration) {
        let wait = Duration::from_nanos(self.work.last_wait_nanos.load(Relaxed));
        (Moment::from_nanos(self.work.last_taken.load(Relaxed)), wait)
    }

    /// A worker goes to wait on the channel.
    pub fn rests(&self) {
        self.idle.fetch_add(1, Relaxed);
        self.rests.fetch_add(1, Relaxed);
    }

    /// How often workers went to wait on the channel, ever.
    pub fn rested(&self) -> u64 {
        self.rests.load(Relaxed)
    }

    /// A worker came back from the channel.
    pub fn rises(&self) {
        self.idle.fetch_sub(1, Relaxed);
    }

    /// A worker took a request that had waited for `wait`.
    pub fn takes(&self, wait: Duration, now: Moment) {
        self.work.last_wait_nanos.store(wait.as_nanos() as u64, Relaxed);
        self.work.last_taken.store(now.as_nanos(), Relaxed);
    }

    /// A worker took an answer from the queue: it moves.
    pub fn goes_on(&self, now: Moment) {
        self.work.last_taken.store(now.as_nanos(), Relaxed);
    }

    /// A worker was held for `held` by a request that took it `took`; see [`Done`].
    pub fn holds(&self, held: Duration, took: Duration) {
        self.work.ended.fetch_add(1, Relaxed);
        self.work.held_nanos.fetch_add(held.as_nanos() as u64, Relaxed);
        self.work.took_nanos.fetch_add(took.as_nanos() as u64, Relaxed);
    }

    /// The supervisor counts a worker in, just before it starts it.
    pub fn counts_in(&self) {
        self.workers.fetch_add(1, Relaxed);
        self.hired.fetch_add(1, Relaxed);
    }

    /// The worker that was counted in could not be started.
    pub fn never_came(&self) {
        self.workers.fetch_sub(1, Relaxed);
        self.hired.fetch_sub(1, Relaxed);
    }

    /// The supervisor counts a dismissed worker out. It leaves as soon as it takes its notice.
    pub fn counts_out(&self) {
        self.workers.fetch_sub(1, Relaxed);
        self.dismissed.fetch_add(1, Relaxed);
    }

    /// A worker left the crew without notice: it went on with a long body as a streamer, or it ended.
    pub fn loses(&self) {
        // At a stop all are counted out, those who hold a request too.
        let _ = self.workers.fetch_update(Relaxed, Relaxed, |workers| workers.checked_sub(1));
        self.lost.fetch_add(1, Relaxed);
        self.nudge();
    }

    /// Workers that ever left without notice.
    pub fn lost(&self) -> u64 {
        self.lost.load(Relaxed)
    }

    /// A worker that had left asks to be taken back; false when the crew has `max` without it.
    pub fn takes_back(&self, max: usize) -> bool {
        let one_more = |workers| (workers < max).then_some(workers + 1);
        self.workers.fetch_update(Relaxed, Relaxed, one_more).is_ok()
    }

    /// A request was queued and nobody is idle: the supervisor should look. It does so for
    /// [`Crew::WATCH`] after each nudge, so that under load most requests cost it nothing.
    pub fn nudge_for_queued(&self, now: Moment) {
        let last = Moment::from_nanos(self.nudged_at.load(Relaxed));
        if now.since(last) >= Self::WATCH / 2 {
            self.nudged_at.store(now.as_nanos(), Relaxed);
            self.nudge();
        }
    }

    /// Companies want so many workers, and nobody is idle. What they ask for counts for [`Crew::ASKED`].
    pub fn asks_for(&self, workers: usize, now: Moment) {
        self.asked.store(workers, Relaxed);
        self.asked_at.store(now.as_nanos(), Relaxed);
        if self.workers() < workers {
            self.nudge();
        }
    }

    /// How many workers were asked for lately; 0 if none.
    pub fn asked(&self, now: Moment) -> usize {
        let is_lately = now.since(Moment::from_nanos(self.asked_at.load(Relaxed))) < Self::ASKED;
        if is_lately { self.asked.load(Relaxed) } else { 0 }
    }

    /// How long it counts that somebody asked for workers.
    pub const ASKED: Duration = Duration::from_millis(20);

    /// How long the supervisor goes on watching after a nudge, at the least.
    pub const WATCH: Duration = Duration::from_millis(2);

    /// Whether a queued request asked for a look a moment ago.
    pub fn is_watched(&self, now: Moment) -> bool {
        now.since(Moment::from_nanos(self.nudged_at.load(Relaxed))) < Self::WATCH
    }

    /// What was used of the processors over a window, as the supervisor saw it: once for each window. Who asks keeps the
    /// supervisor looking.
    pub fn used(&self, heard: &mut load::Heard, now: Moment) -> Option<Used> {
        if self.load.asks(now) {
            self.nudge();
        }
        self.load.hear(heard, now)
    }

    /// The supervisor has looked at the processors.
    pub fn tells_used(&self, used: Used, now: Moment) {
        self.load.tell(used, now);
    }

    /// Asks the supervisor to look; never waits. One nudge that it has not seen yet is enough.
    pub fn nudge(&self) {
        let _ = self.nudge.0.try_send(());
    }

    /// Where the supervisor hears nudges.
    pub fn nudges(&self) -> &Receiver<()> {
        &self.nudge.1
    }
}

/// A worker's place in its crew. Dropped without a word (the thread ended in a way that nobody planned), it
/// tells the supervisor.
#[derive(Debug)]
pub struct Membership<'c>(&'c Crew);

impl<'c> Membership<'c> {
    /// Of a worker that was counted in.
    pub fn of(crew: &'c Crew) -> Self {
        Membership(crew)
    }

    /// It was counted out: it took its notice, or left the crew with a long body.
    pub fn ends(self) {
        std::mem::forget(self);
    }
}

impl Drop for Membership<'_> {
    fn drop(&mut self) {
        self.0.loses();
    }
}

/// A data plane as the control plane sees it: gauges, and what a supervisor can do. A test has its own.
pub trait Team: Send + Sync {
    /// The gauges.
    fn crew(&self) -> &Crew;
    /// Requests that wait.
    fn queued(&self) -> usize;
    /// Starts one more worker. The error is the operating system's: no more threads.
    fn hire(&self) -> io::Result<()>;
    /// Gives notice to whichever worker is idle next; false when the queue has no room for that now.
    fn dismiss(&self) -> bool;
    /// No new connections are taken.
    fn is_draining(&self) -> bool;
    /// The plane has stopped: no more orders.
    fn is_stopped(&self) -> bool;
    /// Open client connections.
    fn connections(&self) -> usize;
    /// Requests that are with a server while no worker waits for them.
    fn away(&self) -> usize;
    /// Clients that a worker stays with among others, and those of their requests that it has sent ahead.
    fn in_company(&self) -> usize;
    /// Workers that wait for clients and servers in the accept thread's place, or are called to it.
    fn on_watch(&self) -> usize;
    /// Open tunnels.
    fn tunnels(&self) -> usize;
    /// Workers that left the crew with a long body.
    fn streamers(&self) -> usize;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_leaves_after_all_were_counted_out_is_not_counted_again() {
        let crew = Crew::default();
        crew.counts_in();
        crew.counts_out();
        crew.loses();
        assert_eq!((crew.workers(), crew.lost()), (0, 1));
    }
}
