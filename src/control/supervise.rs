//! The supervisor: starts and stops workers according to the pool policy. It sleeps until it is woken or its next
//! check.

use crate::base::load;
use crate::base::text;
use crate::base::time::{self, Moment};
use crate::policy::pool::{Memory, Order, Seen};
use crate::state::workers::Workers;
use std::io;
use std::time::Duration;

/// A worker that could not be told to stop, because the channel was full, is told after this.
const STOP_AGAIN: Duration = Duration::from_millis(10);

/// How long stopping workers may take, so that they can still write their last log lines and responses.
const STOP_TIMEOUT: Duration = Duration::from_millis(500);

/// Waits of this length or longer are ended by the first request that arrives while another is in flight.
const LONG: Duration = Duration::from_millis(100);

/// Between two lines of the log about threads that cannot be started: one is tried many times a minute.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// Runs until the data plane has stopped, then tells every worker to stop.
pub fn run(workers: &dyn Workers) {
    let mut memory = Memory::new(load::processors());
    let (mut start_failed, mut next_line) = (false, NextLine(Moment::START));
    while !workers.is_stopped() {
        let gauges = workers.gauges();
        let seen = Seen {
            workers: gauges.workers(),
            in_flight: workers.in_flight().saturating_sub(workers.tunnels()),
            slept: workers.slept(),
            moves: workers.moves(),
            start_failed,
        };
        match memory.order(&seen, workers.bounds(), time::now()) {
            Order::Start(count) => start_failed = !start(workers, count, &mut next_line),
            Order::Stop(count) => stop(workers, count),
            Order::Wait(wait) => {
                share(workers, &memory);
                let wait = if workers.is_draining() { wait.min(LONG) } else { wait };
                gauges.wait(wait, wait >= LONG);
            }
        }
    }
    while workers.gauges().workers() > 0 {
        stop(workers, workers.gauges().workers());
    }
    // The connections that they close still get their reason.
    let until = time::now().after(STOP_TIMEOUT);
    while workers.alive() > 0 && time::now() < until {
        workers.gauges().wait(Duration::from_millis(1), false);
    }
}

/// Busy workers get an equal share of the connections: a worker with more passes some on.
fn share(workers: &dyn Workers, memory: &Memory) {
    let count = workers.gauges().workers();
    let held = workers.held();
    let even = (count > 1 && memory.is_busy()).then(|| held.div_ceil(count));
    // A small imbalance does not justify moving connections.
    workers.set_share(even.map(|even| even + even / 8 + 1));
}

/// False when the operating system has no more threads.
fn start(workers: &dyn Workers, count: usize, next_line: &mut NextLine) -> bool {
    let gauges = workers.gauges();
    for _ in 0..count {
        if let Err(error) = start_one(workers) {
            let left = text::counted(gauges.workers(), "worker", "workers");
            if next_line.is_due(time::now()) {
                log::warn!("no thread can be started ({error}); going on with {left}, trying again later");
            }
            return false;
        }
    }
    log::debug!("started {count}, now {} workers", gauges.workers());
    true
}

/// Starts a worker. The first one is there before a client is: without any, clients would be held for ever.
pub fn start_one(workers: &dyn Workers) -> io::Result<()> {
    // Counted before it starts, so that a worker that ends at once is not subtracted first.
    workers.gauges().count_in();
    workers.start_worker().inspect_err(|_| workers.gauges().count_in_failed())
}

/// When the log may have the next line about a failed start.
struct NextLine(Moment);

impl NextLine {
    fn is_due(&mut self, now: Moment) -> bool {
        let is_due = now >= self.0;
        if is_due {
            self.0 = now.after(TELL_EVERY);
        }
        is_due
    }
}

fn stop(workers: &dyn Workers, count: usize) {
    let gauges = workers.gauges();
    let told = (0..count).take_while(|_| workers.stop_worker()).inspect(|_| gauges.count_out()).count();
    log::debug!("stopped {told}, now {} workers", gauges.workers());
    if told < count {
        gauges.wait(STOP_AGAIN, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_starts_get_a_line_at_once_and_then_one_every_ten_seconds() {
        let mut next_line = NextLine(Moment::START);
        let due: Vec<u64> =
            (0..25_000).step_by(120).filter(|ms| next_line.is_due(Moment::from_millis(*ms))).collect();
        assert_eq!(due, [0, 10_080, 20_160]);
    }
}
