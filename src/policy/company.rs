//! Whether a worker keeps company: stays with several clients at once, as an event loop does.
//!
//! [`super::linger`] holds a worker for one client. A worker in company waits in one system call for the next requests
//! of many clients and for the answers to what it has sent for them, so one thread does all of a request: no wake-up of
//! the accept thread, none of another worker.
//!
//! What it costs: clients of one company share one thread. So there are few companies:
//!
//! | companies | their clients | another? | because |
//! |---|---|---|---|
//! | fewer than half of the processors | any | yes | the other half is for clients, servers and everything else |
//! | fewer than processors | [`ENOUGH`] each | yes | one thread is not enough |
//! | fewer than twice the processors | [`PLENTY`] each | yes | who waits for a thread that does not run at the moment is one of fewer |
//! | as many or more | any | no | the queue and its crew do that better |
//!
//! A company takes whoever it has answered, so a single worker of a crew at rest soon has all clients, and nothing is ever
//! in the queue that could call another. Where the processors have nothing more to give that is well: with 64 connections
//! on two cores that servers and clients share, one company of all cost 0.94 of the processor time of two of half, for 1.02
//! of the requests. But where its thread is all that holds them up, a part of the processors is not used by anybody. (On
//! those two, too, in one of five measurements, or seven of nine: the kernel keeps the thread and one of its clients' on the
//! same processor, where they interrupt each other 10,000 to 20,000 times a second, and a fifth of the machine is idle.) Then
//! the crew is asked for a worker if none is idle, and the company leaves it all clients beyond [`ENOUGH`].
//!
//! When clients keep coming that find no place, all companies part for a while ([`super::rest`]), and none begin behind a long
//! queue: what the crew does through the queue is worth more then.

use crate::base::load::Used;
use std::time::Duration;

/// Clients of one company. With 256 connections four of them were worth 1.14 of the crew, in requests a second; with
/// 1,000 connections and places for all, 0.8 of it.
pub const MOST: usize = 96;
/// Where companies have so many clients each, one more is worth a thread. With 30 and 40 connections one company was
/// worth 1.03 and 0.97 of the crew.
const ENOUGH: usize = 32;
/// And with so many each, more of them than there are processors: no client waits long for a thread that is not running.
const PLENTY: usize = 64;
/// So much of a processor for each company: its thread hardly ever sleeps, or does not get more.
const BUSY: f64 = 0.7;
/// Processors that nobody uses, with which there is room for another company.
const ROOM: f64 = 0.3;
/// Companies count as full with this share of their places taken: clients come and go.
const FULL: f64 = 0.9;
/// One company may have so many clients more than the mean of all.
const LEAD: usize = 4;
/// As long as there are so few connections for each processor, a worker that stays with one alone answers sooner.
const FEW: usize = 2;
/// With one request in so many from a client that found no place, companies part.
const CROWD: u64 = 4;
/// The rest after the queue was long.
const QUEUE_REST: Duration = Duration::from_millis(100);

/// What is seen of all companies.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// Processors of this machine, at least one.
    pub processors: usize,
    /// Open client connections.
    pub connections: usize,
    /// Requests waiting in the channel.
    pub queued: usize,
    /// Workers waiting at the channel.
    pub idle: usize,
    /// Companies.
    pub companies: usize,
    /// The clients of all of them.
    pub clients: usize,
}

impl Seen {
    fn are_full(&self) -> bool {
        self.clients as f64 >= FULL * (self.companies * MOST) as f64
    }

    /// Each has so many clients.
    fn have(&self, clients: usize) -> bool {
        self.clients >= self.companies * clients
    }

    /// So few connections that each may have a worker to itself.
    fn are_few(&self) -> bool {
        self.connections <= FEW * self.processors
    }
}

/// No more companies than this on so many processors.
pub fn most(processors: usize) -> usize {
    2 * processors
}

/// Whether a worker without a company may begin one.
pub fn may_begin(seen: Seen) -> bool {
    let wanted = match seen.companies {
        companies if companies < (seen.processors / 2).max(1) => true,
        companies if companies < seen.processors => seen.have(ENOUGH),
        companies if companies < most(seen.processors) => seen.have(PLENTY),
        _ => false,
    };
    wanted && !seen.are_few()
}

/// Whether the threads of these companies hold up their clients, after a window in which so much was used.
pub fn wants_another(seen: Seen, used: Used) -> bool {
    let is_held_up = seen.companies > 0 && used.has_room_beside(seen.companies, seen.processors, BUSY, ROOM);
    is_held_up && seen.have(ENOUGH) && !seen.are_few()
}

/// Whether a company with so many clients takes one more, where another is wanted or is not.
pub fn may_grow(seen: Seen, clients: usize, wants_another: bool) -> bool {
    let leaves_some = wants_another && clients >= ENOUGH && seen.idle > 0 && seen.companies < seen.processors;
    !leaves_some
        && clients < MOST
        && clients <= seen.clients / seen.companies.max(1) + LEAD
        && !seen.are_few()
}

/// How long companies rest when so many requests are queued: more than they could hold show that they are not what is
/// needed, and will not be as soon as the queue happens to be short.
pub fn rest_for_queue(seen: Seen) -> Option<Duration> {
    (seen.queued > MOST * most(seen.processors)).then_some(QUEUE_REST)
}

/// Whether a client that found no place shows that there are too many of them for companies.
pub fn is_crowd(seen: Seen) -> bool {
    seen.companies >= most(seen.processors) && seen.are_full()
}

/// Whether companies should part: beside so many requests of theirs came others from clients without a place.
pub fn should_part(served: u64, without_place: u64) -> bool {
    without_place * CROWD > served
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(processors: usize, connections: usize, companies: usize, clients: usize) -> Seen {
        Seen { processors, connections, queued: 0, idle: 0, companies, clients }
    }

    #[test]
    fn companies_begin_in_order_and_are_never_many() {
        for (processors, connections, companies, clients, expected) in [
            (2, 4, 0, 0, false),
            (2, 5, 0, 0, true),
            (2, 64, 1, ENOUGH - 1, false),
            (2, 64, 1, ENOUGH, true),
            (1, 3, 0, 0, true),
            (2, 999, 2, 2 * PLENTY - 1, false),
            (2, 999, 2, 2 * PLENTY, true),
            (2, 999, 4, 4 * MOST, false),
            (1, 999, 1, PLENTY, true),
            (1, 999, 2, 2 * MOST, false),
            (8, 99, 3, 9, true),
            (8, 99, 4, 9, false),
            (8, 999, 4, 4 * ENOUGH, true),
            (8, 999, 16, 16 * MOST, false),
        ] {
            let seen = seen(processors, connections, companies, clients);
            assert_eq!(may_begin(seen), expected, "{seen:?}");
        }
    }

    #[test]
    fn a_company_grows_to_its_bound_and_not_far_beyond_the_others() {
        for (companies, all, own, expected) in
            [(1, 95, 95, true), (1, 96, 96, false), (4, 16, 8, true), (4, 16, 9, false), (4, 120, 31, true)]
        {
            assert_eq!(may_grow(seen(8, 99, companies, all), own, false), expected, "{own} of {all}");
        }
        assert!(!may_grow(seen(8, 16, 1, 0), 0, false), "each of few connections has a worker to itself");
    }

    #[test]
    fn another_is_wanted_where_threads_hold_up_their_clients() {
        let bound = Used { own: 0.8, idle: 0.18 };
        for (processors, companies, clients, used, expected) in [
            (2, 1, ENOUGH, bound, true),
            (2, 1, ENOUGH - 1, bound, false),
            (2, 0, 0, bound, false),
            (2, 2, 2 * ENOUGH, bound, false),
            (1, 1, ENOUGH, bound, false),
            (2, 1, 64, Used { own: 0.95, idle: 0.1 }, false),
            (2, 1, 64, Used { own: 0.3, idle: 0.6 }, false),
            (8, 1, 64, Used { own: 1.0, idle: 0.8 }, true),
            (8, 2, 64, Used { own: 1.3, idle: 0.7 }, false),
            (8, 2, 64, Used { own: 1.9, idle: 0.7 }, true),
        ] {
            let seen = seen(processors, 99, companies, clients);
            assert_eq!(wants_another(seen, used), expected, "{seen:?} {used:?}");
        }
    }

    #[test]
    fn a_company_leaves_clients_to_who_may_begin_another() {
        for (companies, own, idle, wants, grows) in [
            (1, ENOUGH, 1, true, false),
            (1, ENOUGH, 1, false, true),
            (1, ENOUGH - 1, 1, true, true),
            // Nobody could take them.
            (1, ENOUGH, 0, true, true),
            // Somebody has begun it.
            (2, ENOUGH, 1, true, true),
        ] {
            let seen = Seen { idle, ..seen(2, 99, companies, companies * ENOUGH) };
            assert_eq!(may_grow(seen, own, wants), grows, "{seen:?}");
        }
    }

    #[test]
    fn many_without_a_place_part_all() {
        assert!(!is_crowd(seen(2, 999, 3, 3 * MOST)), "another company may begin");
        assert!(is_crowd(seen(2, 999, 4, 4 * MOST - 30)));
        assert!(!is_crowd(seen(2, 999, 4, 2 * MOST)));
        assert!(should_part(100, 26) && !should_part(100, 25) && !should_part(0, 0));
    }

    #[test]
    fn a_long_queue_is_the_crews() {
        let rest = |queued| rest_for_queue(Seen { queued, ..seen(2, 999, 0, 0) });
        assert_eq!((rest(4 * MOST), rest(4 * MOST + 1)), (None, Some(QUEUE_REST)));
    }
}
