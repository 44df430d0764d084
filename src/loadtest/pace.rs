//! When requests are due: as soon as a connection is free, or on a schedule.

use crate::base::time::{self, Moment};
use crossbeam_channel::{Receiver, Sender, bounded, never};
use std::convert::Infallible;
use std::time::Duration;

/// When the next request is due.
#[derive(Clone, Debug)]
pub(super) enum Pace {
    /// As soon as the previous one on the same connection has its response.
    Closed,
    /// On a schedule, independent of responses.
    Open(Timetable),
}

/// Requests at a fixed interval. One that finds no free connection is sent late, and its latency still counts from the
/// moment it was due: a slow server cannot hide its queue by slowing the generator.
#[derive(Clone, Debug)]
pub(super) struct Timetable {
    /// When number 0 is due.
    first: Moment,
    every_ns: f64,
    number: u64,
}

impl Timetable {
    /// The schedule of driver `part` of `parts`, which take turns at `rate` requests a second in total.
    pub(super) fn new(start: Moment, rate: f64, part: usize, parts: usize) -> Self {
        let every_ns = 1e9 / rate;
        let first = start.after(Duration::from_nanos((every_ns * part as f64) as u64));
        Timetable { first, every_ns: every_ns * parts as f64, number: 0 }
    }

    fn due(&self) -> Moment {
        self.first.after(Duration::from_nanos((self.every_ns * self.number as f64) as u64))
    }
}

impl Pace {
    /// Takes the next request when it is due: returns the moment its latency counts from.
    pub(super) fn take(&mut self, now: Moment) -> Option<Moment> {
        match self {
            Pace::Closed => Some(now),
            Pace::Open(table) => {
                let due = table.due();
                if due > now {
                    return None;
                }
                table.number += 1;
                Some(due)
            }
        }
    }

    /// When the next one is due on the schedule.
    pub(super) fn next(&self) -> Option<Moment> {
        match self {
            Pace::Closed => None,
            Pace::Open(table) => Some(table.due()),
        }
    }

    /// How many were due before `end` and not taken, of `left` if those are limited.
    pub(super) fn overdue(&self, end: Moment, left: Option<u64>) -> u64 {
        match self {
            Pace::Closed => 0,
            Pace::Open(table) if table.due() >= end => 0,
            Pace::Open(table) => {
                let late = end.since(table.due()).as_nanos() as f64;
                ((late / table.every_ns).ceil() as u64).min(left.unwrap_or(u64::MAX))
            }
        }
    }
}

/// Wakes a poller at a given time, with a precision below a millisecond: a separate thread, which ends with the ticker.
#[derive(Debug)]
pub(super) struct Ticker {
    orders: Sender<Moment>,
    ordered: Moment,
}

impl Ticker {
    /// Starts the thread.
    pub(super) fn start(waker: mio::Waker) -> Result<Self, String> {
        let (orders, taken) = bounded(16);
        let thread = std::thread::Builder::new().name("ticker".to_string());
        let started = thread.spawn(move || tick(&waker, &taken));
        started.map_err(|error| format!("cannot start a thread: {error}"))?;
        Ok(Ticker { orders, ordered: Moment::START })
    }

    /// Requests a wake-up, once for each moment. If the channel is full, an earlier wake-up is already pending.
    pub(super) fn wake_at(&mut self, moment: Moment) {
        if moment != self.ordered && self.orders.try_send(moment).is_ok() {
            self.ordered = moment;
        }
    }
}

fn tick(waker: &mio::Waker, orders: &Receiver<Moment>) {
    // The kernel delays timers by up to 50 us to save power, which is a large part of a fast response's latency.
    #[cfg(target_os = "linux")]
    let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1));
    while let Ok(moment) = orders.recv() {
        let _ = never::<Infallible>().recv_deadline(time::instant(moment));
        if let Err(error) = waker.wake() {
            log::debug!("a driver is not woken: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn micros(micros: u64) -> Moment {
        Moment::from_nanos(micros * 1000)
    }

    #[test]
    fn the_timetable_keeps_its_rate_and_counts_from_the_due_moment() {
        let mut pace = Pace::Open(Timetable::new(micros(0), 1000.0, 0, 1));
        assert_eq!(pace.take(micros(0)), Some(micros(0)));
        assert_eq!(pace.take(micros(999)), None);
        assert_eq!(pace.next(), Some(micros(1000)));
        assert_eq!(pace.take(micros(3500)), Some(micros(1000)));
        assert_eq!(pace.take(micros(3500)), Some(micros(2000)));
        assert_eq!(pace.take(micros(3500)), Some(micros(3000)));
        assert_eq!(pace.take(micros(3500)), None);
    }

    #[test]
    fn drivers_take_turns() {
        let due = |part| Pace::Open(Timetable::new(micros(0), 1000.0, part, 2)).next();
        assert_eq!((due(0), due(1)), (Some(micros(0)), Some(micros(1000))));
    }

    #[test]
    fn what_was_due_and_not_sent_is_reported() {
        let mut pace = Pace::Open(Timetable::new(micros(0), 1000.0, 0, 1));
        pace.take(micros(0));
        assert_eq!(pace.overdue(micros(1000), None), 0);
        assert_eq!(pace.overdue(micros(4000), None), 3);
        assert_eq!(pace.overdue(micros(4000), Some(2)), 2);
        assert_eq!(Pace::Closed.overdue(micros(4000), None), 0);
    }

    #[test]
    fn the_ticker_wakes_a_poller() {
        let mut poll = mio::Poll::new().unwrap();
        let waker = mio::Waker::new(poll.registry(), mio::Token(7)).unwrap();
        let mut ticker = Ticker::start(waker).unwrap();
        ticker.wake_at(time::now().after(Duration::from_millis(2)));
        let mut events = mio::Events::with_capacity(1);
        poll.poll(&mut events, Some(Duration::from_secs(20))).unwrap();
        assert_eq!(events.iter().next().map(mio::event::Event::token), Some(mio::Token(7)));
    }
}
