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
    saturated: bool,
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
        let window = now.since(self.at);
        if window >= WINDOW {
            let own = own_time();
            let ticks = std::fs::read_to_string("/proc/stat").ok().and_then(|text| parse(&text));
            // An old look says nothing about now.
            let recent = window < 20 * WINDOW;
            self.saturated =
                recent && own.saturating_sub(self.own).as_secs_f64() >= OWN_SHARE * window.as_secs_f64();
            self.saturated &= matches!((self.ticks, ticks), (Some(then), Some(now)) if is_full(then, now));
            (self.at, self.own, self.ticks) = (now, own, ticks);
        }
        self.saturated
    }
}

fn is_full(then: Ticks, now: Ticks) -> bool {
    let all = now.all.saturating_sub(then.all);
    let idle = now.idle.saturating_sub(then.idle);
    all > 0 && idle as f64 <= IDLE_SHARE * all as f64
}

/// The first line of `/proc/stat`: `cpu user nice system idle iowait irq softirq steal …` (proc(5)).
fn parse(text: &str) -> Option<Ticks> {
    let line = text.lines().next()?.strip_prefix("cpu ")?;
    let times: Vec<u64> = line.split_ascii_whitespace().take(8).map_while(|time| time.parse().ok()).collect();
    let idle = times.get(3)? + times.get(4)?;
    Some(Ticks { idle, all: times.iter().sum() })
}

/// Processor time of this process, all threads.
fn own_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap_or(0), time.tv_nsec.try_into().unwrap_or(0))
}

#[cfg(test)]
mod tests {
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
    fn full_means_next_to_no_idle_time() {
        let then = Ticks { idle: 100, all: 1000 };
        for (idle, all, full) in
            [(101, 1020, true), (103, 1020, false), (100, 1000, false), (120, 1020, false)]
        {
            assert_eq!(is_full(then, Ticks { idle, all }), full, "{idle} of {all}");
        }
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
