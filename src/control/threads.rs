//! A bounded number of threads for work that waits: probes, load reports, look-ups of names. One is started when work
//! arrives and all are occupied, up to the limit; beyond that the work waits, in order.

use crossbeam_channel::{Receiver, Sender, unbounded};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// The stack of a thread: ureq and the system's resolver need some room.
const STACK: usize = 512 * 1024;

type Job = Box<dyn FnOnce() + Send>;

/// The threads. They live as long as this value, and then end when their work is done.
#[derive(Debug)]
pub struct Threads {
    name: &'static str,
    max: usize,
    started: usize,
    /// Jobs that run or wait.
    pending: Arc<AtomicUsize>,
    jobs: (Sender<Job>, Receiver<Job>),
    /// The log has said that no more threads are available.
    told: bool,
}

impl Threads {
    /// No thread runs yet; at most `max` run at once. Each thread has this name, with a number.
    pub fn new(name: &'static str, max: usize) -> Self {
        // The callers limit what waits: at most one job of each kind for a server or a name.
        Threads { name, max, started: 0, pending: Arc::default(), jobs: unbounded(), told: false }
    }

    /// Runs the job as soon as a thread is free. False when no thread at all is available: the job is dropped.
    pub fn run(&mut self, job: impl FnOnce() + Send + 'static) -> bool {
        let pending = self.pending.fetch_add(1, Ordering::AcqRel) + 1;
        if pending > self.started && self.started < self.max {
            self.start();
        }
        if self.started == 0 {
            self.pending.fetch_sub(1, Ordering::AcqRel);
            return false;
        }
        self.jobs.0.send(Box::new(job)).is_ok()
    }

    fn start(&mut self) {
        let (jobs, pending) = (self.jobs.1.clone(), Arc::clone(&self.pending));
        let work = move || {
            for job in jobs {
                job();
                pending.fetch_sub(1, Ordering::AcqRel);
            }
        };
        let name = format!("{}-{}", self.name, self.started);
        match thread::Builder::new().name(name).stack_size(STACK).spawn(work) {
            Ok(_) => self.started += 1,
            Err(error) if !std::mem::replace(&mut self.told, true) => {
                log::warn!(
                    "no thread is available for a {} ({error}); {} are running",
                    self.name,
                    self.started
                );
            }
            Err(_) => {}
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
        assert_eq!((rest, threads.started), (vec![0, 2, 3], 2));
    }

    #[test]
    fn without_threads_the_job_is_rejected() {
        assert!(!Threads::new("test", 0).run(|| {}));
    }
}
