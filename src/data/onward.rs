//! Step 7, in between: a request is out, and its worker goes on with other work: with a few more before it takes the
//! answers ([`super::ahead`]), or leaving the answer to whoever is free when it comes ([`super::away`]).

use super::Plane;
use super::ahead::Pending;
use super::attend::Worker;
use super::hands::Hands;
use crate::base::time::{self, Moment};

/// Whether the worker goes on with other work once a request is out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Onward {
    /// It waits for the answer.
    Wait,
    /// It has a few on their way ([`super::ahead`]).
    Ahead,
    /// Nobody waits ([`super::away`]).
    Away,
}

/// Whether a worker with these hands waits for the next answer.
pub(super) fn may(plane: &Plane, hands: &Hands, now: Moment) -> Onward {
    match () {
        () if hands.stream.has_left() => Onward::Wait,
        // The next wave of answers may be in the poller already.
        () if hands.ahead.watch.is_on() && hands.ahead.is_empty() && plane.has_place_away() => Onward::Away,
        () if plane.away.count() == 0 && hands.ahead.has_room() && asks_for_haste(plane, hands) => {
            Onward::Ahead
        }
        () if hands.ahead.is_empty() && plane.has_many_in_hand(now) => Onward::Away,
        () => Onward::Wait,
    }
}

/// Servers are quick, and others wait: in the queue, in company with this worker, or for it to take the answers of what
/// it has sent ahead. Who is alone in company at the moment may have others there in the next. To wait for this one alone
/// would hand those to other workers, each of which would have to be woken.
fn asks_for_haste(plane: &Plane, hands: &Hands) -> bool {
    let is_awaited = !hands.ahead.is_alone() || hands.ahead.company.is_kept();
    plane.queue.asks_for_haste() || (is_awaited && plane.queue.is_quick())
}

impl Worker {
    /// Goes on with the next of those sent ahead, or with a client in company that has something to say; false when
    /// nothing is on its way.
    pub(super) fn conclude_next(&mut self) -> bool {
        match self.hands.ahead.next(&self.plane) {
            Some(pending) => self.resume(pending),
            None if self.hands.ahead.may_hear() => self.hear_of_next(),
            None => return !self.hands.ahead.is_alone(),
        }
        true
    }

    /// Goes on with a request that was sent ahead.
    pub(super) fn resume(&mut self, pending: Pending) {
        let Pending { connection, carry, bytes, drained, sent, started } = pending;
        self.input.begin(&bytes, 0);
        self.input.drained = drained;
        self.hands.ahead.keep(bytes);
        self.sent = Some(sent);
        self.guard(&connection, |worker| worker.attend(&connection, carry, started));
    }

    /// Leaves a request that is out, with the client's bytes, for later.
    pub(super) fn put_aside(&mut self, pending: Pending, onward: Onward) {
        match onward {
            Onward::Away => self.leave_away(pending),
            Onward::Ahead | Onward::Wait => self.hands.ahead.push(pending),
        }
    }

    /// Nobody waits for it. Where its answer is here already, or cannot be watched for, this worker takes it next.
    fn leave_away(&mut self, mut pending: Pending) {
        let now = time::now();
        pending.sent.away_since = Some(now);
        // The accept thread must hear of a client that goes.
        let is_watched = self.plane.lot.watch(&pending.connection).is_ok();
        let back = if is_watched { self.plane.away.leave(pending, now) } else { Some(pending) };
        back.into_iter().for_each(|pending| self.hands.ahead.push(pending));
    }
}

#[cfg(test)]
mod tests {
    use super::super::ahead::tests::{ahead, plane};
    use super::*;
    use std::time::Duration;

    #[test]
    fn who_has_sent_ahead_goes_on_so_while_servers_are_quick() {
        let plane = plane();
        let mut hands = Hands::new(&plane, 1);
        let (mut sent, _servers) = ahead(&plane, 1);
        assert_eq!(may(&plane, &hands, Moment::START), Onward::Wait, "nobody knows the servers");
        plane.queue.adapt(Duration::from_millis(1));
        assert_eq!(may(&plane, &hands, Moment::START), Onward::Wait, "nobody else waits");
        let first = sent.next(&plane).unwrap();
        hands.ahead.push(first);
        assert_eq!(may(&plane, &hands, Moment::START), Onward::Ahead, "one waits for this worker");
        plane.queue.adapt(Duration::from_millis(10));
        assert_eq!(may(&plane, &hands, Moment::START), Onward::Wait, "servers are slow");
    }
}
