//! From a signal to the end: what signals do to a running balancer, and the order in which it stops.

use super::sinks::AccessLogThread;
use super::{Balancer, Error, spawn, systemd, upgrade};
use crate::base::signals::{self, Received};
use crate::base::text::grouped;
use crate::base::time::{self, Moment};
use crate::state::stats::{Counter, Stats};
use crossbeam_channel::{Receiver, Sender, after, bounded, never, select, tick};
use signal_hook::consts::{SIGHUP, SIGUSR1, SIGUSR2};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Handles the signals that stop, and all others that operators send to a load balancer, because their default is to
/// end the process.
pub(super) fn watch_signals(stop: &[i32]) -> Result<signals::Watch, Error> {
    let others: Vec<i32> =
        [SIGHUP, SIGUSR1, SIGUSR2].into_iter().filter(|signal| !stop.contains(signal)).collect();
    signals::Watch::new(stop, &others).map_err(|error| Error(format!("signals cannot be received: {error}")))
}

/// What ends the wait of a running balancer.
enum Event {
    /// A signal of this name asks to stop.
    Stop(&'static str),
    /// It does so for a second time.
    StopNow(&'static str),
    /// This process has taken over.
    Upgraded(u32),
}

/// What a balancer waits for beside its work.
struct Waiter<'a> {
    signals: &'a signals::Watch,
    access: AccessLogThread,
    upgraded: (Sender<u32>, Receiver<u32>),
    /// When systemd wants to hear of it again.
    alive: Receiver<Instant>,
}

impl Balancer {
    /// Waits for a signal, or until another process has taken over; then drains. A second stop signal ends the drain early.
    pub(super) fn run_until(self, signals: &signals::Watch) -> Result<(), Error> {
        let waiter = Waiter {
            signals,
            access: self.sinks.access(),
            upgraded: bounded(1),
            alive: systemd::watchdog_interval().map_or_else(never, tick),
        };
        let deadline = self.wait_for_end(&waiter)?;
        let stats = Arc::clone(&self.main.proxy.shared.stats);
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
            tell_end(&stats);
            return Ok(());
        };
        let _ = give.send(self);
        drop(give);
        waiter.while_draining()?;
        let _ = drain.join();
        tell_end(&stats);
        Ok(())
    }

    /// Runs until the balancer has to drain; until when it may.
    fn wait_for_end(&self, waiter: &Waiter<'_>) -> Result<Moment, Error> {
        let shared = &self.main.proxy.shared;
        let mut event = waiter.next(Some(self), None);
        if let Some(Event::Stop(_) | Event::StopNow(_)) = event {
            self.successor.end();
        }
        // Not before: a reload may have changed them.
        let live = shared.table.live();
        let (drain, delay) = (live.config.timeouts.drain, live.config.timeouts.shutdown_delay);
        if let Some(Event::Stop(signal)) = event.as_ref().filter(|_| !delay.is_zero()) {
            log::info!("{signal}: not ready any more; the ports close in {delay:?}");
            shared.announce_drain();
            match waiter.next(Some(self), Some(delay)) {
                Some(Event::Stop(signal) | Event::StopNow(signal)) => return Err(stopped_at_once(signal)),
                Some(upgraded) => event = Some(upgraded),
                None => {}
            }
        }
        match event {
            Some(Event::Stop(signal) | Event::StopNow(signal)) => {
                systemd::stopping();
                log::info!(
                    "{signal}: the ports are closed; requests in flight are finished, for up to {drain:?}"
                );
            }
            Some(Event::Upgraded(pid)) => {
                systemd::main_process(pid);
                shared.hand_over();
                log::info!(
                    "upgrade: process {pid} has taken over; requests in flight are finished here, for up to {drain:?}"
                );
            }
            None => {}
        }
        Ok(time::now().after(drain))
    }
}

impl Waiter<'_> {
    /// What comes next. `None`: no more signals will arrive, or nothing has come within `limit`. Signals that do not stop do
    /// what they do; without a balancer, while it drains, there are no upgrades.
    fn next(&self, balancer: Option<&Balancer>, limit: Option<Duration>) -> Option<Event> {
        let over = limit.map_or_else(never, after);
        let none = never();
        let asked = balancer.map_or(&none, |balancer| balancer.upgrading.asked());
        loop {
            let received = select! {
                recv(self.signals.receiver()) -> received => received,
                recv(asked) -> _ => {
                    balancer.into_iter().for_each(|balancer| upgrade::begin(balancer, self.upgraded.0.clone()));
                    continue;
                }
                recv(self.upgraded.1) -> pid => return pid.ok().map(Event::Upgraded),
                recv(self.alive) -> _ => {
                    systemd::alive();
                    continue;
                }
                recv(over) -> _ => return None,
            };
            match received.ok()? {
                Received::Stop(name) => return Some(Event::Stop(name)),
                Received::StopNow(name) => return Some(Event::StopNow(name)),
                Received::Other(signal) => respond_to(signal, &self.access, balancer),
            }
        }
    }

    /// Waits until the drain is over. An error: a second request to stop ended it early. The first one may come only now, when
    /// an upgrade began the drain: `systemctl stop` signals all processes of a unit, those that are leaving too.
    fn while_draining(&self) -> Result<(), Error> {
        loop {
            match self.next(None, None) {
                Some(Event::StopNow(signal)) => return Err(stopped_at_once(signal)),
                Some(Event::Stop(signal)) => {
                    log::info!("{signal}: this process drains already; a second one ends it at once");
                }
                // It had begun before the signal came.
                Some(Event::Upgraded(pid)) => log::info!("upgrade: process {pid} has taken over"),
                None => return Ok(()),
            }
        }
    }
}

/// The last line. No scrape of the metrics sees what was counted during the drain: the admin API is closed, or another process's.
fn tell_end(stats: &Stats) {
    let (requests, tunnels) = (stats.total(Counter::Requests), stats.total(Counter::Tunnels));
    let (requests, tunnels) = (grouped(requests), grouped(tunnels));
    log::info!("stopped; requests finished since its start: {requests}; tunnels opened: {tunnels}");
}

fn stopped_at_once(signal: &str) -> Error {
    Error(format!("stopped at once by a second {signal}; requests in flight were cut"))
}

/// Handles a signal that does not stop the process.
fn respond_to(signal: i32, access: &AccessLogThread, balancer: Option<&Balancer>) {
    let access = access.lock().as_ref().map(|(handle, _)| handle.clone());
    match (signal, access) {
        (SIGUSR1, Some(access)) => access.reopen(),
        (SIGUSR1, None) => log::info!("SIGUSR1: there is no access log to reopen"),
        // What came of it is in the log.
        (SIGHUP, _) => match balancer {
            Some(balancer) => _ = balancer.reloader.run(),
            None => log::warn!("SIGHUP: nothing was changed: the balancer drains"),
        },
        (SIGUSR2, _) => match balancer.map(|balancer| balancer.upgrading.ask()) {
            Some(Ok(())) => log::info!("SIGUSR2: upgrading"),
            Some(Err(why)) => log::warn!("SIGUSR2: nothing was changed: {why}"),
            None => log::warn!("SIGUSR2: nothing was changed: the balancer drains"),
        },
        (other, _) => log::warn!("{}: this signal has no function", signals::name(other)),
    }
}
