//! The bounded request queue of the sample server, and the threads that process it.

use super::{Options, response, spawn, wait};
use crate::base::random::Random;
use crate::base::time::{self, Moment};
use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;
use tiny_http::Request;

/// State shared by all threads of one sample server.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) name: String,
    pub(super) capacity: usize,
    pub(super) in_progress: AtomicUsize,
    pub(super) processed: AtomicU64,
    numbers: AtomicU64,
}

/// The sender of the queue. The workers end when the last clone is gone and the queue is empty.
#[derive(Clone, Debug)]
pub(super) struct Queue {
    jobs: Sender<Job>,
    pub(super) shared: Arc<Shared>,
}

struct Job {
    request: Request,
    id: u64,
    queued: Moment,
}

impl Queue {
    /// Queues a request; returns it when the queue is full.
    pub(super) fn push(&self, request: Request) -> Option<Request> {
        let id = self.shared.numbers.fetch_add(1, Ordering::Relaxed) + 1;
        let job = Job { request, id, queued: time::now() };
        match self.jobs.try_send(job) {
            Ok(()) => None,
            Err(TrySendError::Full(job) | TrySendError::Disconnected(job)) => Some(job.request),
        }
    }

    /// How many requests wait for a worker.
    pub(super) fn length(&self) -> usize {
        self.jobs.len()
    }
}

/// Starts the workers. Each holds `alive` while it lives, and skips its delays once `hurry` disconnects.
pub(super) fn start(
    options: &Options,
    name: &str,
    hurry: &Receiver<Infallible>,
    alive: &Sender<Infallible>,
) -> Result<Queue, String> {
    let shared = Arc::new(Shared {
        name: name.to_string(),
        capacity: options.queue_capacity,
        in_progress: AtomicUsize::new(0),
        processed: AtomicU64::new(0),
        numbers: AtomicU64::new(0),
    });
    let (jobs, waiting) = bounded(options.queue_capacity);
    for number in 0..options.workers {
        let worker = Worker {
            shared: Arc::clone(&shared),
            waiting: waiting.clone(),
            hurry: hurry.clone(),
            pace: Pace { delay: options.delay, jitter: options.jitter, fail_rate: options.fail_rate },
            random: Random::fresh(),
            _alive: alive.clone(),
        };
        spawn(&format!("sample-{number}"), move || worker.work())?;
    }
    Ok(Queue { jobs, shared })
}

struct Worker {
    shared: Arc<Shared>,
    waiting: Receiver<Job>,
    hurry: Receiver<Infallible>,
    pace: Pace,
    random: Random,
    _alive: Sender<Infallible>,
}

impl Worker {
    fn work(mut self) {
        while let Ok(job) = self.waiting.recv() {
            self.shared.in_progress.fetch_add(1, Ordering::SeqCst);
            self.serve(job);
            self.shared.in_progress.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// Counts before it responds, so that a client with a response finds itself counted.
    fn serve(&mut self, job: Job) {
        let begun = time::now();
        wait(self.pace.of_one(&mut self.random), &self.hurry);
        let served = response::Served {
            server: &self.shared.name,
            id: job.id,
            waited_ms: response::millis(begun.since(job.queued)),
            served_ms: response::millis(time::now().since(begun)),
            error: self.pace.fails(&mut self.random).then_some("failed on purpose, by the fail rate"),
        };
        self.shared.processed.fetch_add(1, Ordering::SeqCst);
        let status = if served.error.is_some() { 500 } else { 200 };
        response::send(job.request, status, &served);
    }
}

/// How long requests take and how many fail.
struct Pace {
    delay: Duration,
    jitter: Duration,
    fail_rate: f64,
}

impl Pace {
    /// The delay, plus or minus the jitter.
    fn of_one(&self, random: &mut Random) -> Duration {
        let longest = self.delay + self.jitter;
        longest.saturating_sub(self.jitter.mul_f64(2.0 * random.fraction()))
    }

    fn fails(&self, random: &mut Random) -> bool {
        random.fraction() < self.fail_rate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(delay: u64, jitter: u64, fail_rate: f64) -> Pace {
        Pace { delay: Duration::from_millis(delay), jitter: Duration::from_millis(jitter), fail_rate }
    }

    #[test]
    fn the_delay_stays_within_the_jitter() {
        let mut random = Random::seeded(1);
        let pace = pace(20, 5, 0.0);
        for _ in 0..1000 {
            let took = pace.of_one(&mut random);
            assert!(Duration::from_millis(15) <= took && took <= Duration::from_millis(25), "{took:?}");
        }
    }

    #[test]
    fn a_jitter_above_the_delay_never_goes_below_zero() {
        let mut random = Random::seeded(2);
        let pace = pace(1, 50, 0.0);
        assert!((0..1000).all(|_| pace.of_one(&mut random) <= Duration::from_millis(51)));
    }

    #[test]
    fn the_fail_rate_is_a_share() {
        let mut random = Random::seeded(3);
        let failures =
            |rate, random: &mut Random| (0..10_000).filter(|_| pace(0, 0, rate).fails(random)).count();
        assert_eq!(failures(0.0, &mut random), 0);
        assert_eq!(failures(1.0, &mut random), 10_000);
        assert!((800..1200).contains(&failures(0.1, &mut random)));
    }
}
