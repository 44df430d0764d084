//! Signals of the operating system: which ask to stop, and when a further one is a second request.

use super::time::{self, Moment};
use signal_hook::consts::{SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};
use std::io::{self, IsTerminal};
use std::time::Duration;

/// The signals that ask a process to stop. SIGQUIT is the graceful stop of nginx and of the images made for it.
pub const STOP: [i32; 3] = [SIGTERM, SIGINT, SIGQUIT];
/// A stop signal that follows the first within this time is the same request: shells, `timeout` and container tools
/// signal a process and then its group, some milliseconds apart. A person who means it presses ctrl-C later than that.
const SAME_REQUEST: Duration = Duration::from_secs(1);

/// What a signal means. The text is its name, as in `SIGTERM`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// The first request to stop: finish what is in flight.
    Stop(&'static str),
    /// A second request to stop: do not wait for anything.
    StopNow(&'static str),
    /// One that does not ask to stop.
    Other(i32),
}

/// The signals that a process listens to. Dropping it leaves them without an effect.
#[derive(Debug)]
pub struct Watch {
    signals: Signals,
    stop: Vec<i32>,
    requests: StopRequests,
}

impl Watch {
    /// Listens from here on to those that ask to stop and to others.
    pub fn new(stop: &[i32], others: &[i32]) -> io::Result<Self> {
        let signals = Signals::new(stop.iter().chain(others))?;
        Ok(Watch { signals, stop: stop.to_vec(), requests: StopRequests::default() })
    }

    /// Waits for the next signal that means something. `None`: the handle was closed.
    pub fn wait(&mut self) -> Option<Heard> {
        for signal in self.signals.forever() {
            if !self.stop.contains(&signal) {
                return Some(Heard::Other(signal));
            }
            if let Some(heard) = self.requests.judge(name(signal), time::now()) {
                return Some(heard);
            }
        }
        None
    }

    /// Ends the wait from another thread.
    pub fn handle(&self) -> Handle {
        self.signals.handle()
    }
}

/// Whether the process was started in a terminal: then SIGHUP says that this was closed.
pub fn has_terminal() -> bool {
    io::stdin().is_terminal() || io::stdout().is_terminal() || io::stderr().is_terminal()
}

/// The name of a signal.
pub fn name(signal: i32) -> &'static str {
    signal_hook::low_level::signal_name(signal).unwrap_or("a signal")
}

/// Tells a repetition from a second request.
#[derive(Debug, Default)]
struct StopRequests {
    first: Option<Moment>,
}

impl StopRequests {
    /// What a stop signal of this name means at this moment; `None`: the same as the one before it.
    fn judge(&mut self, name: &'static str, now: Moment) -> Option<Heard> {
        match self.first {
            None => {
                self.first = Some(now);
                Some(Heard::Stop(name))
            }
            Some(first) if now.since(first) < SAME_REQUEST => None,
            Some(_) => Some(Heard::StopNow(name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_signal_that_is_repeated_within_a_second_is_one_request() {
        let mut requests = StopRequests::default();
        let mut check = |at_ms, expected| {
            assert_eq!(requests.judge("SIGTERM", Moment::from_millis(at_ms)), expected, "{at_ms} ms");
        };
        check(5000, Some(Heard::Stop("SIGTERM")));
        check(5000, None);
        check(5050, None);
        check(5999, None);
        check(6000, Some(Heard::StopNow("SIGTERM")));
    }
}
