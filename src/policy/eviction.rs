//! When idle connections are looked for, to make room for new ones: not for each of a flood.

use crate::base::time::Moment;
use std::time::Duration;

/// Idle connections closed at once to make room; looking for them costs a walk over all.
pub const EVICTED: usize = 32;
/// When a look found fewer than that, no more idle ones are left, and the next look waits for so long: a flood of
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

    /// A walk found so many, of [`EVICTED`] that it looked for.
    pub fn looked(&mut self, found: usize, now: Moment) {
        if found < EVICTED {
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
                room.looked(EVICTED - 1, now);
                walks += 1;
            }
        }
        assert_eq!(walks, 50);
        room.looked(EVICTED, Moment::from_millis(2_000));
        assert!(room.is_due(Moment::from_millis(2_000)), "there may be more");
    }
}
