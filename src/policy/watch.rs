//! How many workers wait at the poller while many requests are away ([`crate::data::watch`]).
//!
//! One that always finds work there never sleeps, and what it leaves of the processors is for whoever else runs on them;
//! two that share what one could do keep putting each other to sleep. Measured with servers of 10 ms, two processors and
//! the load generator on the same machine: with 1,000 connections 49,000 requests/s with one and 41,000 with two, a quarter
//! of the machine idle; with 300 connections 24,000 and 21,600. With 100, two answer sooner: p50 11.6 ms, and 11.9 with
//! one. So there is one for every two processors, and one more only when those are busy all the time and half of a
//! processor is not used by anybody.

use crate::base::load::Used;

/// Of its processor's time, with which a worker counts as busy all the time.
const BUSY: f64 = 0.9;
/// Processors that nobody uses, with which there is room for one more.
const ROOM: f64 = 0.5;

/// Places from the start, on so many processors.
pub fn least(processors: usize) -> usize {
    (processors / 2).max(1)
}

/// How many places there should be where there are so many now, after a window in which so much was used.
pub fn places(now: usize, processors: usize, used: Used) -> usize {
    match () {
        () if used.has_room_beside(now, processors, BUSY, ROOM) => now + 1,
        () if now > least(processors) && used.own <= BUSY * (now - 1) as f64 => now - 1,
        () => now,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_follow_what_the_machine_has_to_give() {
        for (now, processors, own, idle, expected) in [
            (1, 2, 0.95, 0.10, 1),
            (1, 2, 0.95, 0.30, 2),
            (1, 2, 0.50, 0.60, 1),
            (2, 2, 1.90, 0.00, 2),
            (2, 2, 0.80, 0.25, 1),
            (2, 2, 0.95, 0.25, 2),
            (1, 1, 1.00, 0.60, 1),
            (4, 8, 3.90, 0.05, 4),
            (4, 8, 3.90, 0.07, 5),
            (5, 8, 4.00, 0.40, 5),
            (5, 8, 3.50, 0.40, 4),
            (4, 8, 1.00, 0.80, 4),
            (8, 8, 7.90, 0.90, 8),
        ] {
            let used = Used { own, idle };
            assert_eq!(places(now, processors, used), expected, "{now} of {processors}, {used:?}");
        }
    }
}
