//! How busy the machine is, and how much of that is this process: whether one more thread could help.

use super::time::Moment;
use rustix::time::{ClockId, clock_gettime};
use std::time::Duration;

/// The shortest stretch that the kernel's counters (in hundredths of a second) say something of.
const WINDOW: Duration = Duration::from_millis(100);
/// Less idle time than this means that the processors have nothing to give.
const IDLE_SHARE: f64 = 0.10;
/// With less than this of one processor, this process is not why.
const OWN_SHARE: f64 = 0.25;

/// A look at the processors, renewed when a window has passed.
#[derive(Debug, Default)]
pub struct Processors {
    at: Moment,
    own: Duration,
    ticks: Option<Ticks>,
    used: Option<Used>,
}

/// What was used of the processors over a window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Used {
    /// Processors that this process had, all threads together.
    pub own: f64,
    /// The share of all processors' time that nobody used, 0 to 1.
    pub idle: f64,
}

impl Used {
    /// Whether each of so many threads of this process takes `busy` of a processor or more, and `room` of one or more is
    /// left for another thread.
    pub fn has_room_beside(self, threads: usize, processors: usize, busy: f64, room: f64) -> bool {
        let are_busy = self.own >= busy * threads as f64;
        are_busy && threads < processors && self.idle * processors as f64 >= room
    }
}

/// Time of all processors since boot, in the kernel's ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ticks {
    idle: u64,
    all: u64,
}

impl Processors {
    /// Whether the processors were fully used over the last window, and this process was a good part of why.
    /// Never, where the kernel does not tell (`/proc/stat`).
    pub fn are_saturated(&mut self, now: Moment) -> bool {
        self.look(now);
        self.used.is_some_and(|used| used.idle <= IDLE_SHARE && used.own >= OWN_SHARE)
    }

    /// What was used over the window that has just passed, once for each; never, where the kernel does not tell.
    pub fn look(&mut self, now: Moment) -> Option<Used> {
        let window = now.since(self.at);
        if window < WINDOW {
            return None;
        }
        let own = own_time();
        let ticks = std::fs::read_to_string("/proc/stat").ok().and_then(|text| parse(&text));
        let own_share = own.saturating_sub(self.own).as_secs_f64() / window.as_secs_f64();
        let idle = self.ticks.zip(ticks).and_then(|(then, now)| idle_share(then, now));
        // An old look says nothing about now.
        let recent = window < 20 * WINDOW;
        self.used = idle.filter(|_| recent).map(|idle| Used { own: own_share, idle });
        (self.at, self.own, self.ticks) = (now, own, ticks);
        self.used
    }
}

fn idle_share(then: Ticks, now: Ticks) -> Option<f64> {
    let all = now.all.saturating_sub(then.all);
    let idle = now.idle.saturating_sub(then.idle);
    (all > 0).then(|| idle as f64 / all as f64)
}

/// The first line of `/proc/stat`: `cpu user nice system idle iowait irq softirq steal …` (proc(5)).
fn parse(text: &str) -> Option<Ticks> {
    let line = text.lines().next()?.strip_prefix("cpu ")?;
    let times: Vec<u64> = line.split_ascii_whitespace().take(8).map_while(|time| time.parse().ok()).collect();
    let idle = times.get(3)? + times.get(4)?;
    Some(Ticks { idle, all: times.iter().sum() })
}

/// Processors that this process may use, one at least.
pub fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Processor time of this process, all threads.
fn own_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap_or(0), time.tv_nsec.try_into().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::super::time;
    use super::*;

    #[test]
    fn the_kernels_line_is_read() {
        let ticks = parse("cpu  10 20 30 400 50 6 7 8 0 0\ncpu0 1 2 3\n").unwrap();
        assert_eq!(ticks, Ticks { idle: 450, all: 531 });
        for text in ["", "cpu", "cpu x", "intr 1"] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn the_idle_share_is_that_of_the_time_that_passed() {
        let then = Ticks { idle: 100, all: 1000 };
        for (idle, all, share) in
            [(101, 1020, Some(0.05)), (120, 1020, Some(1.0)), (100, 1004, Some(0.0)), (100, 1000, None)]
        {
            assert_eq!(idle_share(then, Ticks { idle, all }), share, "{idle} of {all}");
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_look_tells_of_the_window_since_the_one_before() {
        let (mut processors, at) = (Processors::default(), Moment::from_millis);
        assert_eq!(processors.look(at(5_000)), None, "nothing to compare with");
        assert_eq!(processors.look(at(5_099)), None, "too soon");
        let begun = time::now();
        let mut sum = 0u64;
        while time::now().since(begun) < WINDOW {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        let used = processors.look(at(5_100)).unwrap();
        assert!(used.own > 0.0 && (0.0..=1.0).contains(&used.idle), "{used:?}");
        assert_eq!(processors.look(at(50_000)), None, "that was long ago");
    }

    #[test]
    fn this_process_uses_time() {
        let before = own_time();
        let mut sum = 0u64;
        while own_time() == before {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        assert!(own_time() > before);
    }
}
