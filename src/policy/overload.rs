//! When a server has more requests than it can respond to in time, and how many it gets then: `max_in_flight:
//! "auto"`, the default.
//!
//! Without a limit a server that gets more than it can do has a queue that grows until clients leave. From
//! then on it works for clients that have gone, and next to no response is good. So from when its queue is
//! longer than clients like to wait, it gets as many requests as it responds to in a bearable time (its rate
//! times that time, Little's law). The rest waits in the queue of the pool, which knows what has waited for
//! too long, and goes to the first server with room.
//!
//! **There is no limit without evidence of an overload**, which takes all of: most responses take several
//! times as long as usual, so many requests wait that the last one will be served after a time that is long
//! both in seconds and in proportion to the usual one, and more and more of them wait. So none of the
//! following is one: a server that becomes slow for another reason than its load, one that stands still for a
//! while, long polls beside quick requests, any number of clients that wait patiently. Or: most clients leave
//! before their response, where responses used to take a small part of the time that they waited.
//!
//! **The limit is a trial.** Where fewer requests at once make a server respond to fewer of them, it has room
//! for more: the limit goes, and the next trial comes later. A limit that no request reaches goes, too.
//! Requests whose client has yet to send the rest of them do not wait for the server: they are no evidence,
//! and do not count against a limit.
//!
//! The constants were swept (docs/experiments.md, "A limit in an overload").

use crate::base::time::Moment;
use parking_lot::Mutex;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::time::Duration;

/// Between two looks at a server.
pub const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Responses and requests without one that a judgement rests on, and the lowest limit: with 8 a burst of a
/// second sets a limit, with 32 servers of one slot get one too late.
const REQUESTS_MIN: u32 = 16;
/// What is seen in a longer time is no rate of now. With 5 s it is the same.
const PERIOD_MAX: Duration = Duration::from_secs(30);
/// A response is late from so many times the usual latency on. With 2 it is the same; with 8 a limit comes
/// later, and a tenth fewer responses are good where there are two balancers or a hundred servers.
const LATE_TIMES: f32 = 4.0;
/// A queue is long when what comes last is served after so many times the usual latency. At 95 % of what
/// twelve slots can do one request in a thousand waits for eleven times of what one takes. With 32 a hundred
/// servers of one slot have a quarter fewer good responses.
const LONG_TIMES: f32 = 16.0;
/// And after so much time at the least. With 2 s, at twice the capacity and with clients that leave after 1
/// s, 28 % get a good response in place of 49, and of clients that wait for 10 s where servers fail only 0.4
/// to 1.8 % more do: what does not fit into the queue is as much.
const LONG_MIN: Duration = Duration::from_secs(1);
/// The queue at a server that has a limit is shorter by this factor, so that what waited in front of it is in
/// time, too. With 1 clients that leave after 1 s get 27 % in place of 49; with 0.25 more is rejected where
/// servers fail.
const SHORTER: f32 = 0.5;
/// Judgements in a row that it takes to limit a server, and to believe that it has room after all. With 1 a
/// burst of a second sets a limit, with 4 it comes later.
const IN_A_ROW: u32 = 2;
/// Fewer requests at once make it respond to fewer, if its rate falls below this part of what it was: it gets
/// half of what it had at the most, and half as many responses where each takes the same time whatever their
/// number. With 0.8 two balancers take each other's limits away.
const FALLEN: f32 = 0.5;
/// The rate is that of about so much time: at 100 responses a second chance moves it by a tenth. With 0.3 s
/// chance ends limits (45 % good at twice the capacity in place of 51), with 3 s a burst sets one.
const RATE_OF: Duration = Duration::from_secs(1);
/// The highest rate fades to 1/e in this time. With 5 and 100 s it is the same within 1 %.
const RATE_FADES: Duration = Duration::from_secs(20);
/// The usual latency grows towards what is seen now to 1/e of the difference in this time, and falls at once:
/// a new release may be slower for good. With 60 s a load of 1.05 times the capacity is taken for usual.
const USUAL_GROWS: Duration = Duration::from_secs(600);
/// A limit that no request reached for so long goes. With 0.5 and 10 s it is the same.
const UNREACHED: Duration = Duration::from_secs(2);
/// With a limit, and where [`STALLED_RESPONSES`] came in such a time before, fewer responses than a judgement
/// rests on are judged after this time, too: requests that stand still at the server may have all of its
/// limit. A stop of the server that is shorter ends no limit.
const STALLED_MIN: Duration = Duration::from_secs(5);
/// With so many expected, less than [`REQUESTS_MIN`] are an eighth.
const STALLED_RESPONSES: f32 = 128.0;
/// After a limit that brought nothing the next one comes after this, twice that after another one, and so on.
/// With 1 s a server that becomes slower and slower is limited too often, with 30 s two balancers are without
/// limits for too long.
const AGAIN_MIN: Duration = Duration::from_secs(5);
/// At the most after this.
const AGAIN_MAX: Duration = Duration::from_secs(600);

/// What is known of one server's overload. Workers count; the health thread looks.
#[derive(Debug, Default)]
pub struct Overload {
    responses: AtomicU32,
    /// Those that were late, and requests that got none in such a time.
    late: AtomicU32,
    gave_up: AtomicU32,
    /// What is late, in microseconds; 0 while nothing is.
    late_us: AtomicU32,
    /// The limit; 0 is none.
    most: AtomicU32,
    is_reached: AtomicBool,
    state: Mutex<State>,
}

/// What a look brought about.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Change {
    /// It has a limit from now on.
    Limited {
        /// Requests at once.
        most: u32,
        /// Those that it had.
        in_flight: u32,
        /// What it responds to in a second.
        per_second: f32,
    },
    /// It has no limit any more, as no request reached it.
    Released,
    /// The same, as it responded to fewer requests with it.
    Futile,
}

#[derive(Debug, Default)]
struct State {
    since: Moment,
    in_flight: u32,
    /// The usual latency without a queue, in microseconds; 0 while it is not known.
    usual_us: f32,
    /// In responses per second; 0 while it is not known.
    rate: f32,
    /// The highest rate; it fades with [`RATE_FADES`].
    highest: f32,
    /// Judgements in a row that found an overload, or that a limit brings nothing.
    in_a_row: u32,
    limit: Option<Limit>,
    again: Duration,
    not_before: Moment,
}

#[derive(Clone, Copy, Debug)]
struct Limit {
    /// The rate before it.
    rate: f32,
    /// How many seconds the last request waited then.
    waited_s: f32,
    /// When what was in flight then is gone.
    shows_from: Moment,
    reached_at: Moment,
}

/// What was counted in a period.
#[derive(Clone, Copy, Debug)]
struct Seen {
    responses: u32,
    late: u32,
    gave_up: u32,
    seconds: f32,
    in_flight: u32,
}

impl Overload {
    /// A good response has begun.
    pub fn responded(&self, took: Duration) {
        self.responses.fetch_add(1, Relaxed);
        if self.is_late(took) {
            self.late.fetch_add(1, Relaxed);
        }
    }

    /// A request got none before its client or its time was gone.
    pub fn gave_up(&self, waited: Duration) {
        if self.is_late(waited) {
            self.late.fetch_add(1, Relaxed);
            self.gave_up.fetch_add(1, Relaxed);
        }
    }

    /// A request could have used the server, had it no limit.
    pub fn reached(&self) {
        if !self.is_reached.load(Relaxed) {
            self.is_reached.store(true, Relaxed);
        }
    }

    /// The most requests at once now; `None` without an overload.
    pub fn most(&self) -> Option<u32> {
        Some(self.most.load(Relaxed)).filter(|most| *most > 0)
    }

    /// Looks at what was counted. `in_flight` requests wait for a response now, and one takes `typical_us`.
    pub fn look(&self, in_flight: u32, typical_us: Option<f32>, now: Moment) -> Option<Change> {
        let mut state = self.state.lock();
        let is_reached = self.is_reached.load(Relaxed) && self.is_reached.swap(false, Relaxed);
        if let Some(limit) = &mut state.limit {
            if is_reached {
                limit.reached_at = now;
            } else if now.since(limit.reached_at) >= UNREACHED {
                state.limit = None;
                state.in_a_row = 0;
                self.most.store(0, Relaxed);
                return Some(Change::Released);
            }
        }
        let seen = self.take(&mut state, in_flight, now)?;
        let change = match state.limit {
            None => state.begins(seen, typical_us, now),
            Some(limit) => state.goes_on(limit, seen, now),
        };
        self.late_us.store(state.late_us(), Relaxed);
        self.most.store(state.most(), Relaxed);
        change
    }

    fn is_late(&self, took: Duration) -> bool {
        let late_us = self.late_us.load(Relaxed);
        late_us > 0 && took.as_micros() >= u128::from(late_us)
    }

    /// What was counted, once that is enough.
    fn take(&self, state: &mut State, in_flight: u32, now: Moment) -> Option<Seen> {
        let events = self.responses.load(Relaxed) + self.gave_up.load(Relaxed);
        let period = now.since(state.since);
        // Without requests there is no rate, only idle time.
        let is_over = in_flight == 0 && state.limit.is_none() || period > PERIOD_MAX;
        let is_stalled = state.limit.is_some_and(|limit| limit.is_stalled(period));
        if events < REQUESTS_MIN && !is_over && !is_stalled {
            return None;
        }
        let is_enough = events >= REQUESTS_MIN || state.limit.is_some();
        let begun = std::mem::replace(&mut state.in_flight, in_flight);
        state.since = now;
        let [responses, late, gave_up] =
            [&self.responses, &self.late, &self.gave_up].map(|count| count.swap(0, Relaxed));
        let seen =
            Seen { responses, late, gave_up, seconds: period.as_secs_f32().max(1e-3), in_flight: begun };
        is_enough.then_some(seen)
    }
}

impl Limit {
    /// Whether there were many responses in such a time before.
    fn is_stalled(self, period: Duration) -> bool {
        period >= STALLED_MIN && self.rate * period.as_secs_f32() >= STALLED_RESPONSES
    }
}

impl Seen {
    /// Three of four were late.
    fn is_mostly_late(self) -> bool {
        self.late * 4 >= (self.responses + self.gave_up) * 3
    }
}

impl State {
    /// Without a limit: whether there is one from now on.
    fn begins(&mut self, seen: Seen, typical_us: Option<f32>, now: Moment) -> Option<Change> {
        let in_flight = self.in_flight;
        self.note_rate(seen);
        let grows = in_flight > seen.in_flight;
        let is_long = in_flight as f32 > self.rate * self.long_s() && in_flight >= REQUESTS_MIN;
        let leave = seen.gave_up > seen.responses && in_flight >= REQUESTS_MIN;
        if !seen.is_mostly_late() || !(is_long && grows || leave) {
            self.in_a_row = 0;
            typical_us.into_iter().for_each(|us| self.note_usual(us, seen.seconds));
            return None;
        }
        self.in_a_row += 1;
        if self.in_a_row < IN_A_ROW || now < self.not_before {
            return None;
        }
        self.in_a_row = 0;
        let waited_s = in_flight as f32 / self.highest.max(0.1);
        let drains = Duration::from_secs_f32(waited_s.min(60.0));
        let limit =
            Limit { rate: self.highest, waited_s, shows_from: now.after(drains * 2), reached_at: now };
        self.limit = Some(limit);
        Some(Change::Limited { most: self.most(), in_flight, per_second: self.highest })
    }

    /// With a limit: whether it brings anything.
    fn goes_on(&mut self, limit: Limit, seen: Seen, now: Moment) -> Option<Change> {
        self.note_rate(seen);
        // Where clients have left, the server may work for those.
        let shows_from = match seen.gave_up * 8 > seen.responses {
            true => limit.shows_from.max(now.after(RATE_OF * 3)),
            false => limit.shows_from,
        };
        self.limit = Some(Limit { shows_from, ..limit });
        // If requests wait less than before, it is another balancer that has taken the rest of the rate.
        let is_slow = self.in_flight as f32 > self.rate * limit.waited_s;
        let (fallen, rate) = (limit.rate * FALLEN, self.rate);
        let is_futile = now >= shows_from && (rate < fallen && is_slow || rate < fallen / 2.0);
        self.in_a_row = if is_futile { self.in_a_row + 1 } else { 0 };
        if self.in_a_row < IN_A_ROW {
            return None;
        }
        (self.limit, self.in_a_row) = (None, 0);
        self.again = (self.again * 2).clamp(AGAIN_MIN, AGAIN_MAX);
        self.not_before = now.after(self.again);
        Some(Change::Futile)
    }

    fn note_rate(&mut self, seen: Seen) {
        let kept = |time: Duration| (-seen.seconds / time.as_secs_f32()).exp();
        let rate = seen.responses as f32 / seen.seconds;
        self.rate = if self.rate == 0.0 { rate } else { rate + (self.rate - rate) * kept(RATE_OF) };
        self.highest = self.rate.max(self.highest * kept(RATE_FADES));
    }

    fn note_usual(&mut self, us: f32, seconds: f32) {
        let part = 1.0 - (-seconds / USUAL_GROWS.as_secs_f32()).exp();
        let is_new = self.usual_us == 0.0 || us < self.usual_us;
        self.usual_us = if is_new { us } else { self.usual_us + (us - self.usual_us) * part };
    }

    /// After how many seconds the last one of a long queue is served.
    fn long_s(&self) -> f32 {
        (self.usual_us * 1e-6 * LONG_TIMES).max(LONG_MIN.as_secs_f32())
    }

    fn late_us(&self) -> u32 {
        (self.usual_us * LATE_TIMES) as u32
    }

    /// The limit; 0 is none.
    fn most(&self) -> u32 {
        if self.limit.is_none() {
            0
        } else {
            ((self.highest * self.long_s() * SHORTER) as u32).max(REQUESTS_MIN)
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Change::Limited { most, in_flight, per_second } => write!(
                f,
                "overloaded: {in_flight} requests wait there, and it responds to {per_second:.0} a second; it gets {most} at once, the others wait here"
            ),
            Change::Released => f.write_str("no longer overloaded: no limit of requests at once"),
            Change::Futile => f.write_str(
                "slow, but not overloaded: with fewer requests at once it responds to fewer; no limit",
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    /// A server under virtual time, in steps of 10 ms, and clients that send it so many requests a second.
    struct World {
        overload: Overload,
        /// When the requests in flight were sent, in steps.
        in_flight: VecDeque<u64>,
        /// Those whose clients have left, and which the server works on all the same.
        left: u32,
        step: u64,
        /// Parts of a request and of a response that are left over.
        fractions: (f64, f64),
        changes: Vec<Change>,
        responses: u64,
        held_back: u64,
    }

    /// What takes time at the server.
    #[derive(Clone, Copy)]
    enum Takes {
        /// It responds to so many in a second at the most, one after the other, and needs so many steps for one.
        Work { per_second: f64, steps: u64 },
        /// Each takes so many steps, whatever the number.
        Steps(u64),
        /// The same, and one more with each so many steps from then on, up to 400.
        Slower { from: u64, one_in: u64 },
    }

    impl World {
        fn new() -> Self {
            World {
                overload: Overload::default(),
                in_flight: VecDeque::new(),
                left: 0,
                step: 0,
                fractions: (0.0, 0.0),
                changes: Vec::new(),
                responses: 0,
                held_back: 0,
            }
        }

        /// So many seconds with so many requests each, of clients that leave after `patience` steps.
        fn run(&mut self, seconds: u64, per_second: f64, takes: Takes, patience: u64) -> &mut Self {
            for _ in 0..seconds * 100 {
                self.step += 1;
                let takes = match takes {
                    Takes::Slower { from, one_in } => {
                        Takes::Steps((4 + (self.step - from) / one_in).min(400))
                    }
                    takes => takes,
                };
                self.arrive(per_second / 100.0);
                self.respond(takes);
                while self.in_flight.front().is_some_and(|sent| self.step - sent > patience) {
                    self.in_flight.pop_front();
                    self.left += 1;
                    self.overload.gave_up(Duration::from_millis(patience * 10));
                }
                if self.step % 10 == 0 {
                    let typical_us = match takes {
                        _ if self.responses == 0 => None,
                        Takes::Work { per_second, steps } => {
                            let queued =
                                (self.in_flight.len() as f64 + f64::from(self.left)) / per_second * 1e6;
                            Some((steps * 10_000) as f32 + queued as f32)
                        }
                        Takes::Steps(steps) | Takes::Slower { from: steps, .. } => {
                            Some((steps * 10_000) as f32)
                        }
                    };
                    let now = Moment::from_millis(self.step * 10);
                    self.changes.extend(self.overload.look(self.in_flight.len() as u32, typical_us, now));
                }
            }
            self
        }

        fn arrive(&mut self, requests: f64) {
            self.fractions.0 += requests;
            while self.fractions.0 >= 1.0 {
                self.fractions.0 -= 1.0;
                match self.overload.most().is_none_or(|most| (self.in_flight.len() as u32) < most) {
                    true => self.in_flight.push_back(self.step),
                    false => {
                        self.held_back += 1;
                        self.overload.reached();
                    }
                }
            }
        }

        fn respond(&mut self, takes: Takes) {
            let (steps, most) = match takes {
                Takes::Steps(steps) | Takes::Slower { from: steps, .. } => (steps, f64::INFINITY),
                Takes::Work { per_second, steps } => (steps, per_second / 100.0),
            };
            self.fractions.1 = (self.fractions.1 + most).min(1e6);
            while self.fractions.1 >= 1.0 {
                if self.left > 0 {
                    self.left -= 1;
                } else if self.in_flight.front().is_some_and(|sent| self.step - sent >= steps) {
                    let sent = self.in_flight.pop_front().unwrap_or(self.step);
                    self.responses += 1;
                    self.overload.responded(Duration::from_millis((self.step - sent) * 10));
                } else {
                    break;
                }
                self.fractions.1 -= 1.0;
            }
            // What it could have done while it had nothing to do is gone.
            self.fractions.1 = self.fractions.1.min(1.0);
        }
    }

    const QUICK: Takes = Takes::Work { per_second: 100.0, steps: 4 };

    #[test]
    fn in_an_overload_it_gets_what_it_responds_to_in_half_a_second_and_afterwards_all() {
        for (load, patience) in [(1.3, 1_000), (2.0, 300), (8.0, 300), (8.0, 6_000)] {
            let mut world = World::new();
            world.run(20, 70.0, QUICK, patience);
            assert_eq!((world.overload.most(), world.held_back), (None, 0));
            world.run(60, 100.0 * load, QUICK, patience);
            let most = world.overload.most();
            assert!(
                most.is_some_and(|most| (40..=75).contains(&most)),
                "{load}: {most:?} {:?}",
                world.changes
            );
            let before = world.responses;
            world.run(10, 100.0 * load, QUICK, patience);
            assert!(world.responses - before >= 950, "{load}: {}", world.responses - before);
            world.run(20, 70.0, QUICK, patience);
            assert_eq!(world.overload.most(), None);
            assert_eq!(world.changes.len(), 2, "{load}: {:?}", world.changes);
        }
    }

    #[test]
    fn a_server_that_is_slow_for_another_reason_has_no_limit() {
        let slow = [Takes::Steps(40), Takes::Steps(300), Takes::Steps(3_000)];
        for takes in slow {
            let mut world = World::new();
            world.run(20, 80.0, Takes::Steps(4), 10_000).run(120, 80.0, takes, 10_000);
            assert_eq!((&world.changes[..], world.held_back), (&[][..], 0));
        }
        // Gradually. At the worst a limit is tried out, brings nothing, and goes, and comes again later.
        for one_in in [2, 3, 4, 6, 12, 100] {
            let mut world = World::new();
            world.run(20, 80.0, Takes::Steps(4), 10_000);
            let from = world.step;
            world.run(500, 80.0, Takes::Slower { from, one_in }, 10_000);
            let is_tried = |pair: &[Change]| matches!(pair, [Change::Limited { .. }, Change::Futile]);
            assert!(world.changes.chunks(2).all(is_tried), "{one_in}: {:?}", world.changes);
            // Of 40,000.
            assert!(world.held_back < 3_000, "{one_in}: {}", world.held_back);
            assert_eq!(world.overload.most(), None);
        }
    }

    #[test]
    fn pauses_bursts_and_clients_that_wait_patiently_are_no_overload() {
        let mut world = World::new();
        for _ in 0..20 {
            world.run(1, 180.0, QUICK, 10_000).run(4, 30.0, QUICK, 10_000);
        }
        assert_eq!(world.held_back, 0, "{:?}", world.changes);
        // A thousand clients that send their next request when they have a response.
        let mut world = World::new();
        world.run(10, 50.0, QUICK, 100_000);
        (0..1_000).for_each(|_| world.in_flight.push_back(world.step));
        world.run(60, 100.0, QUICK, 100_000);
        assert_eq!(world.held_back, 0, "{:?}", world.changes);
    }

    /// Whatever the reason, requests that never end must not keep all others out.
    #[test]
    fn a_limit_that_requests_without_an_end_fill_goes() {
        for per_second in [100.0, 30.0] {
            let quick = Takes::Work { per_second, steps: 4 };
            let mut world = World::new();
            world.run(60, 0.7 * per_second, quick, 10_000).run(60, 2.0 * per_second, quick, 10_000);
            assert!(world.overload.most().is_some(), "{per_second}: {:?}", world.changes);
            world.run(70, 2.0 * per_second, Takes::Steps(1_000_000), 1_000_000);
            assert_eq!((world.overload.most(), world.changes.last()), (None, Some(&Change::Futile)));
        }
        // A server that stands still for a second and goes on keeps its limit.
        let mut world = World::new();
        world.run(20, 70.0, QUICK, 300).run(20, 200.0, QUICK, 300);
        assert!(world.overload.most().is_some());
        world.run(1, 200.0, Takes::Steps(1_000_000), 300).run(10, 200.0, QUICK, 300);
        assert!(world.overload.most().is_some(), "{:?}", world.changes);
    }

    #[test]
    fn long_polls_beside_quick_requests_do_not_count() {
        let mut world = World::new();
        world.run(10, 80.0, QUICK, 10_000);
        for second in 0..120 {
            for _ in 0..100 {
                (0..80 / 10).for_each(|_| world.overload.responded(Duration::from_millis(40)));
            }
            (0..30).for_each(|_| world.overload.responded(Duration::from_secs(30)));
            (0..10).for_each(|_| world.overload.gave_up(Duration::from_secs(25)));
            for look in 0..10 {
                let now = Moment::from_millis(10_000 + second * 1_000 + look * 100);
                let in_flight = 100 + second as u32 * 10;
                world.changes.extend(world.overload.look(in_flight, Some(40_000.0), now));
            }
        }
        assert_eq!(world.changes, []);
    }
}
