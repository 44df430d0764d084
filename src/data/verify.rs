//! Layer 1: threads that verify passwords. A password hash takes tens of milliseconds of a processor, in which a worker
//! would serve hundreds of requests; so a few threads do that, from a bounded queue, while the exchange is suspended.

use super::mailbox::Mailbox;
use crate::base::ids::ConnectionKey;
use crate::base::time::{self, Moment};
use crate::state::guard::Unverified;
use crate::state::queue::Call;
use crossbeam_channel::{Receiver, Sender, bounded};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::thread;

/// Credentials that wait. At 50 ms each two threads take 1.6 s for so many.
const WAITING_MAX: usize = 64;
/// Threads at the most; fewer where there are fewer than twice as many processors.
const THREADS_MAX: usize = 4;

/// What is known of credentials that are being verified.
#[derive(Debug, Default)]
pub struct Pending(AtomicU8);

const RIGHT: u8 = 1;
const WRONG: u8 = 2;

impl Pending {
    /// Whether they are right; `None`: that is not known yet.
    pub fn result(&self) -> Option<bool> {
        match self.0.load(Relaxed) {
            RIGHT => Some(true),
            WRONG => Some(false),
            _ => None,
        }
    }
}

/// The threads, which start when they are needed first and end with this.
#[derive(Debug, Default)]
pub struct Verifier {
    jobs: OnceLock<Option<Sender<Job>>>,
}

/// Credentials, and which connection waits for them.
#[derive(Debug)]
struct Job {
    unverified: Unverified,
    pending: Arc<Pending>,
    mailbox: Arc<Mailbox>,
    client: ConnectionKey,
    until: Moment,
}

impl Verifier {
    /// Has credentials verified for this connection of a worker, which is called when it is done; by then if at all.
    /// `None`: too many wait.
    pub fn begin(
        &self,
        unverified: Unverified,
        mailbox: &Arc<Mailbox>,
        client: ConnectionKey,
        until: Moment,
    ) -> Option<Arc<Pending>> {
        let pending = Arc::new(Pending::default());
        let (mailbox, shown) = (Arc::clone(mailbox), Arc::clone(&pending));
        let job = Job { unverified, pending, mailbox, client, until };
        let jobs = self.jobs.get_or_init(start).as_ref()?;
        jobs.try_send(job).is_ok().then_some(shown)
    }
}

/// Starts the threads; `None` where not one can be started.
fn start() -> Option<Sender<Job>> {
    let (jobs, taken) = bounded(WAITING_MAX);
    let processors = thread::available_parallelism().map_or(1, usize::from);
    let mut started = false;
    for number in 1..=(processors / 2).clamp(1, THREADS_MAX) {
        let taken = taken.clone();
        let builder = thread::Builder::new().name(format!("verify-{number}"));
        match builder.spawn(move || run(&taken)) {
            Ok(_) => started = true,
            Err(error) => log::error!("a thread that verifies passwords cannot be started: {error}"),
        }
    }
    started.then_some(jobs)
}

fn run(jobs: &Receiver<Job>) {
    for job in jobs {
        // Its exchange has given up, or is gone.
        if time::now() >= job.until || Arc::strong_count(&job.pending) == 1 {
            continue;
        }
        // Invariant 5: a panic costs one exchange.
        let is_right = catch_unwind(AssertUnwindSafe(|| job.unverified.verify())).unwrap_or(false);
        job.pending.0.store(if is_right { RIGHT } else { WRONG }, Relaxed);
        job.mailbox.call(job.client);
    }
}
