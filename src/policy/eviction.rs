//! When idle connections are looked for, to make room for new ones: not for each of a flood.

use crate::base::time::Moment;
use std::time::Duration;

/// Connections closed at once to make room, at least.
const EVICTED: usize = 32;
/// Of so many open connections one is closed at once: looking for them costs a walk over all, and each new connection
/// then pays for this many steps of a walk, however many are open.
const ONE_IN: usize = 32;
/// When a look found fewer than it looked for, no more idle ones are left, and the next look waits for so long: a flood of
/// connections must not make a walk over all open ones each. At most 50 walks a second take 6 ms with 12,000 open.
const LOOK_FOR_ROOM_EVERY: Duration = Duration::from_millis(20);

/// When idle connections are looked for again, in a walk over all that are open.
#[derive(Debug, Default)]
pub struct LookForRoom {
    next: Moment,
}

impl LookForRoom {
    /// Whether it is time for a walk.
    pub fn is_due(&self, now: Moment) -> bool {
        now >= self.next
    }

    /// How many a walk over so many open connections looks for.
    pub fn wanted(open: usize) -> usize {
        EVICTED.max(open / ONE_IN)
    }

    /// A walk found so many of those that it looked for.
    pub fn looked(&mut self, found: usize, wanted: usize, now: Moment) {
        if found < wanted {
            self.next = now.after(LOOK_FOR_ROOM_EVERY);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_connections_makes_few_walks_where_none_is_idle() {
        let mut room = LookForRoom::default();
        let mut walks = 0;
        for now in (0..1_000).map(Moment::from_millis) {
            if room.is_due(now) {
                room.looked(EVICTED - 1, EVICTED, now);
                walks += 1;
            }
        }
        assert_eq!(walks, 50);
        room.looked(EVICTED, EVICTED, Moment::from_millis(2_000));
        assert!(room.is_due(Moment::from_millis(2_000)), "there may be more");
    }

    #[test]
    fn a_walk_costs_each_new_connection_the_same_however_many_are_open() {
        for (open, expected) in [(0, 32), (500, 32), (9_000, 281), (1_000_000, 31_250)] {
            assert_eq!(LookForRoom::wanted(open), expected);
        }
    }
}
