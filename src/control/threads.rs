//! A bounded number of threads for work that waits: probes, load reports, look-ups of names. One is started when work
//! arrives and all are occupied, up to the limit; beyond that the work waits, in order.

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, unbounded};
use parking_lot::Mutex;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// The stack of a thread: ureq and the system's resolver need some room.
const STACK: usize = 512 * 1024;

/// A thread that has had no work for so long ends: the next one is started as quickly as it is needed, and many may have
/// been needed once.
const IDLE: Duration = Duration::from_secs(10);

type Job = Box<dyn FnOnce() + Send>;

/// The threads. They live as long as this value, and then end when their work is done.
#[derive(Debug)]
pub struct Threads {
    name: &'static str,
    max: usize,
    /// Threads ever started, for their names.
    number: usize,
    counts: Arc<Mutex<Counts>>,
    jobs: (Sender<Job>, Receiver<Job>),
    /// The log has said that no more threads are available.
    told: bool,
}

#[derive(Debug, Default)]
struct Counts {
    threads: usize,
    /// Jobs that run or wait.
    pending: usize,
}

impl Threads {
    /// No thread runs yet; at most `max` run at once. Each thread has this name, with a number.
    pub fn new(name: &'static str, max: usize) -> Self {
        // The callers limit what waits: at most one job of each kind for a server or a name.
        Threads { name, max, number: 0, counts: Arc::default(), jobs: unbounded(), told: false }
    }

    /// Runs the job as soon as a thread is free. False when no thread at all is available: the job is dropped.
    pub fn run(&mut self, job: impl FnOnce() + Send + 'static) -> bool {
        let needs_one = {
            let mut counts = self.counts.lock();
            counts.pending += 1;
            let needs_one = counts.pending > counts.threads && counts.threads < self.max;
            counts.threads += usize::from(needs_one);
            needs_one
        };
        if needs_one && !self.start() {
            self.counts.lock().threads -= 1;
        }
        // A thread ends only while there are as many others as there are jobs, so one of them takes this one.
        let mut counts = self.counts.lock();
        if counts.threads == 0 {
            counts.pending -= 1;
            return false;
        }
        drop(counts);
        self.jobs.0.send(Box::new(job)).is_ok()
    }

    fn start(&mut self) -> bool {
        let (jobs, counts) = (self.jobs.1.clone(), Arc::clone(&self.counts));
        let name = format!("{}-{}", self.name, self.number);
        match thread::Builder::new().name(name).stack_size(STACK).spawn(move || work(&jobs, &counts)) {
            Ok(_) => {
                self.number += 1;
                true
            }
            Err(error) => {
                if !std::mem::replace(&mut self.told, true) {
                    let running = self.counts.lock().threads - 1;
                    log::warn!("no thread is available for a {} ({error}); {running} are running", self.name);
                }
                false
            }
        }
    }
}

fn work(jobs: &Receiver<Job>, counts: &Mutex<Counts>) {
    loop {
        match jobs.recv_timeout(IDLE) {
            Ok(job) => {
                // What a peer sends must not end a thread, nor be counted as running for ever.
                if catch_unwind(AssertUnwindSafe(job)).is_err() {
                    log::error!("a probe panicked; please report this");
                }
                counts.lock().pending -= 1;
            }
            Err(RecvTimeoutError::Timeout) => {
                let mut counts = counts.lock();
                if counts.pending < counts.threads {
                    counts.threads -= 1;
                    return;
                }
            }
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crossbeam_channel::bounded;

    #[test]
    fn work_that_waits_holds_up_none_until_the_bound_is_reached() {
        let mut threads = Threads::new("test", 2);
        let (release, held) = bounded::<()>(0);
        let (tell, told) = unbounded();
        let job = |number: usize, waits: bool| {
            let (tell, held) = (tell.clone(), held.clone());
            move || {
                waits.then(|| held.recv());
                let _ = tell.send(number);
            }
        };
        assert!(threads.run(job(0, true)));
        assert!(threads.run(job(1, false)), "a second thread");
        assert_eq!(told.recv(), Ok(1));
        assert!(threads.run(job(2, true)) && threads.run(job(3, false)));
        assert!(told.is_empty(), "both wait");
        drop(release);
        let mut rest: Vec<_> = told.iter().take(3).collect();
        rest.sort_unstable();
        assert_eq!((rest, threads.counts.lock().threads), (vec![0, 2, 3], 2));
    }

    #[test]
    fn without_threads_the_job_is_rejected() {
        assert!(!Threads::new("test", 0).run(|| {}));
    }
}
