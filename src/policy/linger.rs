//! Whether a worker stays a moment on the socket that it has just answered.
//!
//! A client in a closed loop sends its next request within microseconds. A worker that is still there reads
//! it without a word between threads: no wake-up of the accept thread, none of a worker. But while it stays
//! it is lost to others, for what its receive timeout of a few milliseconds really is (4 to 8 ms at 250 Hz).
//! So:
//!
//! | queued | idle workers | connections | wasted lately | stay? | because |
//! |---|---|---|---|---|---|
//! | some | any | any | any | no | others wait: read without blocking, then park |
//! | none | some | any | no | yes | a newcomer finds a worker |
//! | none | none | at most one a worker | no | yes | every connection has a worker to itself |
//! | none | none | more | no | no | the next one to wake up would wait for the timeout |
//! | none | any | any | yes | no, but for a rare trial | think time is longer than the timeout |

/// What the worker sees.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// Requests waiting in the channel.
    pub queued: usize,
    /// Workers waiting on the channel.
    pub idle: usize,
    /// All workers.
    pub workers: usize,
    /// Open client connections.
    pub connections: usize,
    /// How lingering went on this connection.
    pub credit: Credit,
}

/// Whether to stay. When it says no for want of credit the caller calls [`Credit::skipped`]; calling that
/// whenever it says no does no harm.
pub fn may(seen: Seen) -> bool {
    let nobody_waits = seen.queued == 0;
    let newcomers_are_served = seen.idle > 0 || seen.connections <= seen.workers;
    nobody_waits && newcomers_are_served && seen.credit.is_good()
}

/// How lingering went on this connection so far. After the k-th waste in a row the next 2^k − 1 chances are
/// let pass: 1, 3, 7, 15, then 31 each time, so that a quiet connection costs a timeout once in 32 requests,
/// and one that turns busy is noticed. One that pays clears the account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Credit(pub u8);

impl Credit {
    /// The next request came while the worker stayed.
    #[must_use]
    pub fn paid(self) -> Self {
        Credit::default()
    }

    /// The time ran out.
    #[must_use]
    pub fn wasted(self) -> Self {
        let wastes = (self.wastes() + 1).min(MOST_WASTES);
        Credit(wastes << SKIP_BITS | ((1 << wastes) - 1))
    }

    /// A chance was let pass.
    #[must_use]
    pub fn skipped(self) -> Self {
        if self.is_good() { self } else { Credit(self.0 - 1) }
    }

    /// Whether the next chance may be taken.
    pub fn is_good(self) -> bool {
        self.0 & SKIP_MASK == 0
    }

    /// In a row.
    fn wastes(self) -> u8 {
        self.0 >> SKIP_BITS
    }
}

/// The low bits count the chances still to be let pass, the high ones the wastes in a row.
const SKIP_BITS: u8 = 5;
const SKIP_MASK: u8 = (1 << SKIP_BITS) - 1;
const MOST_WASTES: u8 = SKIP_BITS;

#[cfg(test)]
mod tests {
    use super::*;

    fn check(queued: usize, idle: usize, workers: usize, connections: usize, credit: Credit, expected: bool) {
        let seen = Seen { queued, idle, workers, connections, credit };
        assert_eq!(may(seen), expected, "{seen:?}");
    }

    #[test]
    fn stays_only_where_nobody_suffers() {
        let (good, bad) = (Credit::default(), Credit::default().wasted());
        check(0, 0, 1, 1, good, true);
        check(0, 0, 1, 2, good, false);
        check(0, 1, 2, 900, good, true);
        check(0, 0, 16, 16, good, true);
        check(0, 0, 16, 17, good, false);
        check(1, 0, 16, 16, good, false);
        check(1, 5, 16, 1, good, false);
        check(0, 5, 16, 1, bad, false);
    }

    /// The chances that a connection whose lingers never pay lets pass before each trial.
    fn check_skips(mut credit: Credit, expected: &[u32]) {
        let skips = expected.iter().map(|_| {
            credit = credit.wasted();
            let mut skips = 0;
            while !credit.is_good() {
                credit = credit.skipped();
                skips += 1;
            }
            skips
        });
        assert_eq!(skips.collect::<Vec<_>>(), expected);
    }

    #[test]
    fn wastes_make_trials_rare_and_bounded_and_one_that_pays_clears_them() {
        check_skips(Credit::default(), &[1, 3, 7, 15, 31, 31, 31]);
        let wasted = (0..9).fold(Credit::default(), |credit, _| credit.wasted());
        check_skips(wasted.paid(), &[1, 3]);
        assert_eq!(Credit::default().skipped(), Credit::default());
    }
}
