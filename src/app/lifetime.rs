//! From a signal to the end: what signals do to a running balancer, and the order in which it stops.

use super::{Balancer, Error, spawn};
use crate::base::signals::{self, Received};
use crate::base::time;
use crate::control::access;
use crossbeam_channel::{after, bounded, never, select};
use signal_hook::consts::{SIGHUP, SIGUSR1, SIGUSR2};
use std::time::Duration;

/// Handles the signals that stop, and all others that operators send to a load balancer, because their default is to
/// end the process.
pub(super) fn watch_signals(stop: &[i32]) -> Result<signals::Watch, Error> {
    let others: Vec<i32> =
        [SIGHUP, SIGUSR1, SIGUSR2].into_iter().filter(|signal| !stop.contains(signal)).collect();
    signals::Watch::new(stop, &others).map_err(|error| Error(format!("signals cannot be received: {error}")))
}

impl Balancer {
    /// Waits for a signal, then drains; a second stop signal ends the drain early.
    pub(super) fn run_until(self, signals: &signals::Watch) -> Result<(), Error> {
        let access = self.access.as_ref().map(|(handle, _)| handle.clone());
        let timeouts = &self.main.proxy.shared.config.timeouts;
        let (drain, delay) = (timeouts.drain, timeouts.shutdown_delay);
        if let Some(signal) = next_stop(signals, access.as_ref(), None) {
            if !delay.is_zero() {
                log::info!("{signal}: not ready any more; the ports close in {delay:?}");
                self.main.proxy.shared.announce_drain();
                if let Some(signal) = next_stop(signals, access.as_ref(), Some(delay)) {
                    return Err(stopped_at_once(signal));
                }
            }
            log::info!(
                "{signal}: the ports are closed; requests in flight are finished, for up to {drain:?}"
            );
        }
        let deadline = time::now().after(drain);
        self.leave(deadline);
        let handle = signals.handle();
        let (give, taken) = bounded(1);
        let drain = spawn("drain", move || {
            taken.into_iter().for_each(|balancer: Self| balancer.stop(deadline));
            handle.close();
        });
        let Ok(drain) = drain.inspect_err(|error| log::warn!("{error}; a second signal is not handled"))
        else {
            // Not a reason to interrupt the requests in flight.
            self.stop(deadline);
            log::info!("stopped");
            return Ok(());
        };
        let _ = give.send(self);
        drop(give);
        if let Some(signal) = next_stop(signals, access.as_ref(), None) {
            return Err(stopped_at_once(signal));
        }
        let _ = drain.join();
        log::info!("stopped");
        Ok(())
    }
}

/// The name of the next stop signal. `None`: no more signals will arrive, or none has within `limit`.
fn next_stop(
    signals: &signals::Watch,
    access: Option<&access::Handle>,
    limit: Option<Duration>,
) -> Option<&'static str> {
    let over = limit.map_or_else(never, after);
    loop {
        let received = select! {
            recv(signals.receiver()) -> received => received,
            recv(over) -> _ => return None,
        };
        match received.ok()? {
            Received::Stop(name) | Received::StopNow(name) => return Some(name),
            Received::Other(signal) => respond_to(signal, access),
        }
    }
}

fn stopped_at_once(signal: &str) -> Error {
    Error(format!("stopped at once by a second {signal}; requests in flight were cut"))
}

/// Handles a signal that does not stop the process.
fn respond_to(signal: i32, access: Option<&access::Handle>) {
    match (signal, access) {
        (SIGUSR1, Some(access)) => access.reopen(),
        (SIGUSR1, None) => log::info!("SIGUSR1: there is no access log to reopen"),
        (SIGHUP, _) => log::warn!(
            "SIGHUP: reloading the configuration is not built yet; nothing was changed, restart to apply a changed file"
        ),
        (SIGUSR2, _) => log::warn!(
            "SIGUSR2: upgrading the running binary is not built yet; nothing was changed, restart to run a new binary"
        ),
        (other, _) => log::warn!("{}: this signal has no function", signals::name(other)),
    }
}
