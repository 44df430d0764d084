//! When requests are due: as soon as a connection is free, or on a schedule.

use super::Stage;
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

/// Requests at a rate that is fixed or grows by stages. One that finds no free connection is sent late, and its latency
/// still counts from the moment it was due: a slow server cannot hide its queue by slowing the generator.
#[derive(Clone, Debug)]
pub(super) struct Timetable {
    start: Moment,
    stages: Vec<Stage>,
    /// Requests a second after the last stage.
    then_per_s: f64,
    /// This driver's place among those that take turns.
    part: u64,
    parts: u64,
    /// How many this driver has taken.
    number: u64,
}

impl Timetable {
    /// The schedule of driver `part` of `parts`, which take turns.
    pub(super) fn new(start: Moment, stages: &[Stage], then_per_s: f64, part: usize, parts: usize) -> Self {
        let (part, parts) = (part as u64, parts as u64);
        Timetable { start, stages: stages.to_vec(), then_per_s, part, parts, number: 0 }
    }

    /// When the driver's next request is due.
    fn due(&self) -> Moment {
        let mut left = (self.number * self.parts + self.part) as f64;
        let mut before_s = 0.0;
        for stage in &self.stages {
            if left < stage.requests() {
                return self.at(before_s + stage.seconds_until(left));
            }
            left -= stage.requests();
            before_s += stage.lasts.as_secs_f64();
        }
        self.at(before_s + left / self.then_per_s)
    }

    fn at(&self, seconds: f64) -> Moment {
        Duration::try_from_secs_f64(seconds).map_or(Moment::NEVER, |seconds| self.start.after(seconds))
    }

    /// How many requests of all drivers are due before `end`.
    fn due_before(&self, end: Moment) -> u64 {
        let mut left_s = end.since(self.start).as_secs_f64();
        let mut sum = 0.0;
        for stage in &self.stages {
            let here = left_s.min(stage.lasts.as_secs_f64());
            sum += stage.requests_in(here);
            left_s -= here;
        }
        // A request that is due at the very end is not before it, whatever the rounding.
        (sum + left_s * self.then_per_s - 1e-6).max(0.0).ceil() as u64
    }
}

impl Stage {
    /// How many requests it has.
    fn requests(&self) -> f64 {
        self.requests_in(self.lasts.as_secs_f64())
    }

    /// How many requests its first `seconds` have: the area under a line.
    fn requests_in(&self, seconds: f64) -> f64 {
        self.from_per_s * seconds + self.growth() * seconds * seconds / 2.0
    }

    /// The inverse: when request `number` of it is due.
    fn seconds_until(&self, number: f64) -> f64 {
        let square = self.from_per_s * self.from_per_s + 2.0 * self.growth() * number;
        let speed = self.from_per_s + square.max(0.0).sqrt();
        if speed > 0.0 { 2.0 * number / speed } else { 0.0 }
    }

    /// Requests a second more each second.
    fn growth(&self) -> f64 {
        (self.to_per_s - self.from_per_s) / self.lasts.as_secs_f64()
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
        let Pace::Open(table) = self else { return 0 };
        let all = table.due_before(end);
        let mine = all.saturating_sub(table.part).div_ceil(table.parts);
        mine.saturating_sub(table.number).min(left.unwrap_or(u64::MAX))
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
        let mut pace = Pace::Open(Timetable::new(micros(0), &[], 1000.0, 0, 1));
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
        let due = |part| Pace::Open(Timetable::new(micros(0), &[], 1000.0, part, 2)).next();
        assert_eq!((due(0), due(1)), (Some(micros(0)), Some(micros(1000))));
    }

    #[test]
    fn what_was_due_and_not_sent_is_reported() {
        let mut pace = Pace::Open(Timetable::new(micros(0), &[], 1000.0, 0, 1));
        pace.take(micros(0));
        assert_eq!(pace.overdue(micros(1000), None), 0);
        assert_eq!(pace.overdue(micros(4000), None), 3);
        assert_eq!(pace.overdue(micros(4000), Some(2)), 2);
        assert_eq!(Pace::Closed.overdue(micros(4000), None), 0);
    }

    #[test]
    fn a_ramp_has_the_requests_that_its_rates_say() {
        let stage = |from_per_s, to_per_s, seconds| Stage {
            from_per_s,
            to_per_s,
            lasts: Duration::from_secs(seconds),
        };
        let stages = [stage(0.0, 100.0, 10), stage(100.0, 100.0, 5), stage(100.0, 50.0, 4)];
        let mut pace = Pace::Open(Timetable::new(micros(0), &stages, 50.0, 0, 1));
        let second = |second: u64| Moment::from_millis(second * 1000);
        // 100 requests/s after 10 s: 500 in all; then 500; then 75/s on average; then 50/s.
        for (until, sum) in [(5, 125), (10, 500), (15, 1000), (19, 1300), (21, 1400)] {
            assert_eq!(pace.overdue(second(until), None), sum, "{until} s");
        }
        let mut last = Moment::START;
        for _ in 0..1400 {
            let due = pace.take(second(21)).unwrap();
            assert!(due >= last);
            last = due;
        }
        assert_eq!((pace.take(second(20)), pace.overdue(second(21), None)), (None, 0));
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
