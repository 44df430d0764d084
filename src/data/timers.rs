//! Layer 0: deadlines of a worker's connections. A deadline mostly moves later, again and again, before it comes; so what
//! is kept is when to look, not the deadline itself: a look that is too early costs one more entry.

use super::poller::Token;
use crate::base::time::Moment;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

/// What no event tells of is tried again after this: a full channel, the full backlog of a Unix socket, a port that is taken, the
/// end of a drain.
/// Two hundred tries a second cost next to nothing.
pub const TRY_AGAIN_INTERVAL: Duration = Duration::from_millis(5);

/// The rest of a request whose response is whole is waited for as long as this without a byte: for its client to send it (the time
/// of nginx's `lingering_timeout`), and for its server to take it.
pub const REQUEST_REST_TIME: Duration = Duration::from_secs(5);

/// When to look at which connection; the soonest first.
#[derive(Debug, Default)]
pub struct Timers(BinaryHeap<Reverse<(Moment, u32, u32)>>);

impl Timers {
    /// Sees to it that the connection is looked at by `deadline`, given that it will be at `look_at` already. The new
    /// time of its next look.
    pub fn look_by(&mut self, token: Token, look_at: Moment, deadline: Moment) -> Moment {
        if look_at <= deadline {
            return look_at;
        }
        self.0.push(Reverse((deadline, token.key, token.generation)));
        deadline
    }

    /// The soonest look.
    pub fn next(&self) -> Moment {
        self.0.peek().map_or(Moment::NEVER, |Reverse((at, ..))| *at)
    }

    /// A look that is due: when it was to be, and the key and generation of its connection. Call until there is none. An entry
    /// with another time than the connection's own `look_at` is out of date: the caller passes over it.
    pub fn pop_due(&mut self, now: Moment) -> Option<(Moment, u32, u32)> {
        let Reverse(entry) = *self.0.peek().filter(|Reverse((at, ..))| *at <= now)?;
        self.0.pop();
        Some(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::super::poller::Side;
    use super::*;

    #[test]
    fn a_later_deadline_costs_nothing_and_an_earlier_one_is_kept() {
        let mut timers = Timers::default();
        let token = Token::new(Side::Client, 1, 2);
        let at = Moment::from_millis;
        let look_at = timers.look_by(token, Moment::NEVER, at(10));
        assert_eq!(look_at, at(10));
        assert_eq!(timers.look_by(token, look_at, at(20)), at(10), "one entry serves");
        assert_eq!(timers.look_by(token, look_at, at(5)), at(5));
        assert_eq!(timers.next(), at(5));
        assert_eq!(timers.pop_due(at(4)), None);
        assert_eq!(timers.pop_due(at(10)), Some((at(5), 1, 2)));
        assert_eq!(timers.pop_due(at(10)), Some((at(10), 1, 2)));
        assert_eq!(timers.pop_due(at(10)), None);
        assert_eq!(timers.next(), Moment::NEVER);
    }
}
