//! The supervisor: hires and dismisses workers as the crew's policy says. It sleeps until a nudge or a
//! deadline, never in a loop.

use crate::base::load::{self, Processors};
use crate::base::time::{self, Moment};
use crate::policy::crew::{self, Bounds, Memory, Order, Seen};
use crate::state::crew::{Crew, Done, Team};
use std::time::Duration;

/// A notice that found no room in the queue is tried again after this.
const NOTICE_PAUSE: Duration = Duration::from_millis(10);

/// Workers wait for servers most of the time: with fewer than this for each processor, one more helps even
/// where all processors are busy.
const PER_PROCESSOR: usize = 4;

/// Runs until the team has stopped, then sends every worker home.
pub fn run(team: &dyn Team, bounds: Bounds) {
    let mut memory = Memory::new();
    let mut processors = Processors::default();
    let mut spawn_failed = false;
    let floor = PER_PROCESSOR * load::processors();
    while !team.is_stopped() {
        let now = time::now();
        // The one thread that looks; others ask it to.
        processors.look(now).into_iter().for_each(|used| team.crew().tells_used(used, now));
        let cpu_saturated = processors.are_saturated() && team.crew().workers() >= floor;
        let seen = look(team, cpu_saturated, spawn_failed, now);
        match crew::order(&mut memory, seen, bounds, now) {
            Order::Hire(count) => spawn_failed = !hire(team, count),
            Order::Dismiss(count) => dismiss(team, count),
            Order::WaitUntil(until) => {
                let until =
                    if team.crew().is_watched(now) { until.min(now.after(Crew::WATCH)) } else { until };
                let _ = team.crew().nudges().recv_deadline(time::instant(until));
            }
        }
    }
    while team.crew().workers() > 0 {
        dismiss(team, team.crew().workers());
    }
}

fn look(team: &dyn Team, cpu_saturated: bool, spawn_failed: bool, now: Moment) -> Seen {
    let crew: &Crew = team.crew();
    let Done { ended, held, .. } = crew.done();
    let (last_taken, last_wait) = crew.last_taken();
    Seen {
        workers: crew.workers(),
        idle: crew.idle(),
        queued: team.queued(),
        away: team.away(),
        asked: crew.asked(now),
        lost: crew.lost(),
        rests: crew.rested(),
        ended,
        held,
        last_taken,
        last_wait,
        cpu_saturated,
        spawn_failed,
    }
}

/// False when the operating system had no more threads to give.
fn hire(team: &dyn Team, count: usize) -> bool {
    for _ in 0..count {
        // Counted before it starts, so that one that ends at once is not counted out first.
        team.crew().counts_in();
        if let Err(error) = team.hire() {
            team.crew().never_came();
            let workers = team.crew().workers();
            log::warn!(
                "no thread to be had ({error}); going on with {workers} workers and trying again later"
            );
            return false;
        }
    }
    log::debug!("hired {count}, now {} workers", team.crew().workers());
    true
}

fn dismiss(team: &dyn Team, count: usize) {
    let given = (0..count).take_while(|_| team.dismiss()).inspect(|_| team.crew().counts_out()).count();
    log::debug!("dismissed {given}, now {} workers", team.crew().workers());
    if given < count {
        let _ = team.crew().nudges().recv_timeout(NOTICE_PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crossbeam_channel::{Receiver, Sender, bounded};
    use std::io;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use std::thread;

    /// A team whose work is to wait at a barrier that the test lifts.
    struct Gate {
        crew: Crew,
        work: (Sender<bool>, Receiver<bool>),
        open: (Sender<()>, Receiver<()>),
        spawns_left: AtomicUsize,
        stopped: AtomicBool,
        told: (Sender<usize>, Receiver<usize>),
    }

    impl Gate {
        fn new(spawns: usize) -> Arc<Self> {
            Arc::new(Gate {
                crew: Crew::default(),
                work: bounded(100),
                open: bounded(100),
                spawns_left: AtomicUsize::new(spawns),
                stopped: AtomicBool::new(false),
                told: crossbeam_channel::unbounded(),
            })
        }

        fn submit(&self) {
            self.work.0.send(true).unwrap();
            if self.crew.idle() == 0 {
                self.crew.nudge();
            }
        }

        fn stop(&self) {
            self.stopped.store(true, Ordering::SeqCst);
            self.crew.nudge();
        }
    }

    struct Shared(Arc<Gate>);

    impl Team for Shared {
        fn crew(&self) -> &Crew {
            &self.0.crew
        }
        fn queued(&self) -> usize {
            self.0.work.1.len()
        }
        fn hire(&self) -> io::Result<()> {
            let left = self
                .0
                .spawns_left
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
            left.map_err(|_| io::Error::from(io::ErrorKind::WouldBlock))?;
            let gate = Arc::clone(&self.0);
            thread::spawn(move || {
                loop {
                    gate.crew.rests();
                    let work = gate.work.1.recv().unwrap();
                    gate.crew.rises();
                    if !work {
                        return;
                    }
                    gate.told.0.send(gate.crew.workers()).unwrap();
                    gate.open.1.recv().unwrap();
                }
            });
            Ok(())
        }
        fn dismiss(&self) -> bool {
            self.0.work.0.try_send(false).is_ok()
        }
        fn is_draining(&self) -> bool {
            self.is_stopped()
        }
        fn is_stopped(&self) -> bool {
            self.0.stopped.load(Ordering::SeqCst)
        }
        fn connections(&self) -> usize {
            0
        }
        fn away(&self) -> usize {
            0
        }

        fn in_company(&self) -> usize {
            0
        }

        fn on_watch(&self) -> usize {
            0
        }

        fn tunnels(&self) -> usize {
            0
        }
        fn streamers(&self) -> usize {
            0
        }
    }

    fn bounds(min: usize, max: usize) -> Bounds {
        Bounds { min, max, target_wait: Duration::from_millis(1), window: Duration::from_millis(40) }
    }

    fn supervise(gate: &Arc<Gate>, bounds: Bounds) -> thread::JoinHandle<()> {
        let team = Shared(Arc::clone(gate));
        thread::spawn(move || run(&team, bounds))
    }

    #[test]
    fn workers_that_are_all_held_get_company_and_the_company_goes_home() {
        let gate = Gate::new(100);
        let supervisor = supervise(&gate, bounds(1, 4));
        for _ in 0..4 {
            gate.submit();
        }
        // All four are held at once, which needs four workers: each tells when it takes its work.
        for _ in 0..4 {
            gate.told.1.recv_timeout(Duration::from_secs(20)).unwrap();
        }
        assert_eq!(gate.crew.workers(), 4);
        for _ in 0..4 {
            gate.open.0.send(()).unwrap();
        }
        let deadline = time::now().after(Duration::from_secs(20));
        while gate.crew.workers() > 1 {
            assert!(time::now() < deadline, "still {} workers", gate.crew.workers());
            thread::yield_now();
        }
        gate.stop();
        supervisor.join().unwrap();
        assert_eq!(gate.crew.workers(), 0);
        assert_eq!(gate.crew.hired(), gate.crew.dismissed());
    }

    #[test]
    fn a_crew_that_cannot_grow_serves_on_with_those_it_has() {
        let gate = Gate::new(1);
        let supervisor = supervise(&gate, bounds(1, 4));
        for _ in 0..3 {
            gate.submit();
        }
        for _ in 0..3 {
            gate.told.1.recv_timeout(Duration::from_secs(20)).unwrap();
            gate.open.0.send(()).unwrap();
        }
        assert_eq!(gate.crew.workers(), 1);
        gate.stop();
        supervisor.join().unwrap();
    }
}
