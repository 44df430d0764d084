//! Signals of the operating system: which of them ask to stop, and when a further one is a second request.

use super::time::{self, Moment};
use crossbeam_channel::{Receiver, unbounded};
use signal_hook::consts::{SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};
use std::io::{self, IsTerminal};
use std::thread;
use std::time::Duration;

/// The signals that ask a process to stop. SIGQUIT is the graceful stop of nginx and of container images made for it.
pub const STOP: [i32; 3] = [SIGTERM, SIGINT, SIGQUIT];
/// A stop signal that follows the first within this time is the same request: shells, `timeout` and container tools
/// signal a process and then its group, some milliseconds apart. A deliberate second ctrl-C comes later.
const SAME_REQUEST: Duration = Duration::from_secs(1);

/// The meaning of a signal. The text is its name, such as `SIGTERM`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// The first request to stop: finish what is in flight.
    Stop(&'static str),
    /// A second request to stop: do not wait for anything.
    StopNow(&'static str),
    /// A signal that does not ask to stop.
    Other(i32),
}

/// The signals that a process handles, taken in by a thread of their own. After it is dropped they have no effect.
#[derive(Debug)]
pub struct Watch {
    handle: Handle,
    received: Receiver<Received>,
}

impl Watch {
    /// Handles from now on the signals that ask to stop and these others.
    pub fn new(stop: &[i32], others: &[i32]) -> io::Result<Self> {
        let mut signals = Signals::new(stop.iter().chain(others))?;
        let (handle, stop) = (signals.handle(), stop.to_vec());
        // As many as the operating system delivers; the receiver takes each at once.
        let (tell, received) = unbounded();
        let run = move || {
            let mut requests = StopRequests::default();
            for signal in signals.forever() {
                let received = match stop.contains(&signal) {
                    false => Some(Received::Other(signal)),
                    true => requests.judge(name(signal), time::now()),
                };
                received.into_iter().for_each(|received| _ = tell.send(received));
            }
        };
        thread::Builder::new().name("signals".to_owned()).spawn(run)?;
        Ok(Watch { handle, received })
    }

    /// Waits for the next relevant signal. `None`: the handle was closed.
    pub fn wait(&self) -> Option<Received> {
        self.received.recv().ok()
    }

    /// Where the signals arrive; disconnected once the handle was closed.
    pub fn receiver(&self) -> &Receiver<Received> {
        &self.received
    }

    /// Ends the wait from another thread.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.handle.close();
    }
}

/// Whether the process was started in a terminal: SIGHUP then means that the terminal was closed.
pub fn has_terminal() -> bool {
    io::stdin().is_terminal() || io::stdout().is_terminal() || io::stderr().is_terminal()
}

/// The name of a signal.
pub fn name(signal: i32) -> &'static str {
    signal_hook::low_level::signal_name(signal).unwrap_or("a signal")
}

/// Distinguishes a repetition from a second request.
#[derive(Debug, Default)]
struct StopRequests {
    first: Option<Moment>,
}

impl StopRequests {
    /// The meaning of a stop signal with this name at this moment; `None`: the same request as the one before.
    fn judge(&mut self, name: &'static str, now: Moment) -> Option<Received> {
        match self.first {
            None => {
                self.first = Some(now);
                Some(Received::Stop(name))
            }
            Some(first) if now.since(first) < SAME_REQUEST => None,
            Some(_) => Some(Received::StopNow(name)),
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
        check(5000, Some(Received::Stop("SIGTERM")));
        check(5000, None);
        check(5050, None);
        check(5999, None);
        check(6000, Some(Received::StopNow("SIGTERM")));
    }
}
