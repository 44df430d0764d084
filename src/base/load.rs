//! How busy the machine is, and how much of that is this process: whether one more thread could help.

use super::time::Moment;
use rustix::time::{ClockId, clock_gettime};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// The shortest stretch that the kernel's counters (in hundredths of a second) say something of.
const WINDOW: Duration = Duration::from_millis(100);
/// A window and a bit: who looks when asked then finds that one has passed.
const ASK_AGAIN: Duration = Duration::from_millis(110);
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

/// The last look of the one thread that reads the kernel's counters, for all others: reading those costs the more the more
/// processors there are, and is nothing for a thread that serves requests.
#[derive(Debug, Default)]
pub struct Shared {
    /// See [`pack`].
    used: AtomicU64,
    at: AtomicU64,
    asked_at: AtomicU64,
}

/// Which look a reader has heard of last.
#[derive(Clone, Copy, Debug, Default)]
pub struct Heard(u16);

impl Shared {
    /// Tells the others; the one thread that looks.
    pub fn tell(&self, used: Used, now: Moment) {
        let number = (self.used.load(Relaxed) as u16).wrapping_add(1);
        self.at.store(now.as_nanos(), Relaxed);
        self.used.store(pack(used, number), Relaxed);
    }

    /// What was used over a window that has passed recently, once for each.
    pub fn hear(&self, heard: &mut Heard, now: Moment) -> Option<Used> {
        let (used, number) = unpack(self.used.load(Relaxed));
        let is_recent = now.since(Moment::from_nanos(self.at.load(Relaxed))) < 2 * WINDOW;
        let is_news = number != std::mem::replace(&mut heard.0, number);
        (is_news && is_recent).then_some(used)
    }

    /// Whether it is time to ask for another look. One asks for all.
    pub fn asks(&self, now: Moment) -> bool {
        let last = self.asked_at.load(Relaxed);
        now.since(Moment::from_nanos(last)) >= ASK_AGAIN
            && self.asked_at.compare_exchange(last, now.as_nanos(), Relaxed, Relaxed).is_ok()
    }
}

/// In one word, so that its parts belong together: 32 bits of thousandths of a processor, 16 of ten-thousandths that are
/// idle, 16 of a number.
fn pack(used: Used, number: u16) -> u64 {
    let (own, idle) = ((used.own * 1e3) as u32, (used.idle * 1e4) as u16);
    u64::from(own) << 32 | u64::from(idle) << 16 | u64::from(number)
}

fn unpack(word: u64) -> (Used, u16) {
    let (own, idle) = ((word >> 32) as u32, (word >> 16) as u16);
    (Used { own: f64::from(own) / 1e3, idle: f64::from(idle) / 1e4 }, word as u16)
}

/// Time of all processors since boot, in the kernel's ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ticks {
    idle: u64,
    all: u64,
}

impl Processors {
    /// Whether the processors were fully used over the last window that was looked at, and this process was a good part
    /// of why. Never, where the kernel does not tell (`/proc/stat`).
    pub fn are_saturated(&self) -> bool {
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
    fn a_look_is_heard_of_once_by_each_and_not_when_it_is_old() {
        let (shared, ms) = (Shared::default(), Moment::from_millis);
        let (mut one, mut two) = (Heard::default(), Heard::default());
        assert_eq!(shared.hear(&mut one, ms(1000)), None, "there was none");
        let used = Used { own: 63.25, idle: 0.125 };
        shared.tell(used, ms(1000));
        assert_eq!(shared.hear(&mut one, ms(1001)), Some(used));
        assert_eq!(shared.hear(&mut one, ms(1002)), None);
        assert_eq!(shared.hear(&mut two, ms(1199)), Some(used));
        shared.tell(used, ms(1100));
        assert_eq!(shared.hear(&mut two, ms(1300)), None, "that was long ago");
    }

    #[test]
    fn one_asks_for_all() {
        let (shared, ms) = (Shared::default(), Moment::from_millis);
        assert!(shared.asks(ms(500)) && !shared.asks(ms(500)) && !shared.asks(ms(609)));
        assert!(shared.asks(ms(610)));
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
