//! Which server gets the request. An algorithm is a function from candidates to one of them.
//!
//! A file per algorithm. None allocates, reads a clock or keeps a memory; what must be remembered (turns,
//! latencies, requests in flight) is the table's and comes in as an argument. All are O(number of
//! candidates).

mod dynamic;
mod ip_hash;
mod least_connections;
mod lot;
mod order;
mod random_two;
mod round_robin;

use super::latency::Reading;
use super::silence;
use std::time::Duration;

pub use order::schedule;

/// A share of the traffic, relative to the other servers; 1 to 1000 (0 means: no new requests).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Weight(pub u16);

/// A server's place in the table's order; stable for one snapshot of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slot(pub u32);

/// A server as an algorithm sees it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// Its place in the table.
    pub slot: Slot,
    /// Its share; a candidate of weight 0 is never picked.
    pub weight: Weight,
    /// Stable hash of the server's name.
    pub hash: u64,
    /// Requests that this balancer has with it now, and its recent failures as if they were still in flight
    /// ([`super::failures`]).
    pub in_flight: u32,
    /// Decayed, peak-sensitive latency; None when nothing is known.
    pub latency: Option<Reading>,
    /// For how long requests have been without any response; zero when that says nothing ([`super::silence`]).
    pub silence: Duration,
    /// Requests that the server says it has queued and in progress (ours among them), already aged (fades to
    /// 0); None when it does not say.
    pub reported: Option<f32>,
}

impl Candidate {
    /// It seems to hang: better no request than one that it may never answer.
    pub fn is_silent(&self) -> bool {
        silence::is_silent(self.silence, || self.latency.map(|latency| latency.faded_us))
    }
}

/// What differs from one request to the next.
#[derive(Clone, Copy, Debug)]
pub struct Draw<'a> {
    /// Chance: 64 even bits.
    pub random: u64,
    /// Counts the requests.
    pub turn: u64,
    /// Hash of the client's address.
    pub key: u64,
    /// The smooth weighted order of the snapshot, from [`schedule`]. Best made of the servers in use only:
    /// the turn of a server that is not among the candidates is given out by lot.
    pub schedule: &'a [Slot],
}

/// An algorithm: None only when there is no candidate with a weight above 0.
pub type Pick = fn(&[Candidate], Draw<'_>) -> Option<Slot>;

/// The algorithms by name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Algorithm {
    /// In turn, by weight, in nginx's smooth order.
    RoundRobin,
    /// The least requests in flight for its weight.
    LeastConnections,
    /// The less loaded of two that chance chose.
    RandomTwo,
    /// The same server for the same client, as long as it is there.
    IpHash,
    /// The least expected wait: latency, requests in flight, and what the servers say of themselves.
    #[default]
    Dynamic,
}

impl Algorithm {
    /// All of them, in the order in which they are explained.
    pub const ALL: [Algorithm; 5] = [
        Algorithm::RoundRobin,
        Algorithm::LeastConnections,
        Algorithm::RandomTwo,
        Algorithm::IpHash,
        Algorithm::Dynamic,
    ];

    /// As written in the configuration: `round_robin` …
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::RoundRobin => "round_robin",
            Algorithm::LeastConnections => "least_connections",
            Algorithm::RandomTwo => "random_two",
            Algorithm::IpHash => "ip_hash",
            Algorithm::Dynamic => "dynamic",
        }
    }

    /// The algorithm of that name, letter for letter.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }

    /// The function itself.
    pub fn pick(self) -> Pick {
        match self {
            Algorithm::RoundRobin => round_robin::pick,
            Algorithm::LeastConnections => least_connections::pick,
            Algorithm::RandomTwo => random_two::pick,
            Algorithm::IpHash => ip_hash::pick,
            Algorithm::Dynamic => dynamic::pick,
        }
    }

    /// The most candidates worth looking at: all of them (None), or a random sample of so many from a larger
    /// table. Chance alone makes a choice of two nearly as good as one of all (Mitzenmacher, "The power of
    /// two choices", 2001); a few more make room for weights and for servers that are slow. The others must
    /// see every candidate: a sample would break a turn, or send a client elsewhere.
    pub fn sample(self) -> Option<usize> {
        match self {
            Algorithm::Dynamic => Some(16),
            Algorithm::RandomTwo => Some(8),
            Algorithm::RoundRobin | Algorithm::LeastConnections | Algorithm::IpHash => None,
        }
    }
}

/// What the tests of the algorithms share.
#[cfg(test)]
mod testing {
    use super::*;

    /// A candidate of that weight with so many requests in flight; nothing else is known of it.
    pub(super) fn candidate(slot: u32, weight: u16, in_flight: u32) -> Candidate {
        let hash = u64::from(slot + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Candidate {
            slot: Slot(slot),
            weight: Weight(weight),
            hash,
            in_flight,
            latency: None,
            silence: Duration::ZERO,
            reported: None,
        }
    }

    /// The schedule that a table of these candidates would have.
    pub(super) fn scheduled(candidates: &[Candidate]) -> Vec<Slot> {
        schedule(&candidates.iter().map(|c| (c.slot, c.weight)).collect::<Vec<_>>())
    }

    /// How often each slot below `slots` is picked in so many requests.
    pub(super) fn shares(
        pick: Pick,
        candidates: &[Candidate],
        order: &[Slot],
        times: u64,
        slots: usize,
    ) -> Vec<u64> {
        let mut dice = crate::base::dice::Dice::seeded(7);
        let mut counts = vec![0; slots];
        for turn in 0..times {
            let draw = Draw { random: dice.number(), turn, key: dice.number(), schedule: order };
            counts[pick(candidates, draw).unwrap().0 as usize] += 1;
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::testing::*;
    use super::*;

    #[test]
    fn names_go_both_ways() {
        for algorithm in Algorithm::ALL {
            assert_eq!(Algorithm::of_name(algorithm.name()), Some(algorithm));
        }
        assert_eq!(Algorithm::of_name("Dynamic"), None);
        assert_eq!(Algorithm::default().name(), "dynamic");
    }

    #[test]
    fn nobody_picks_from_nothing_or_weight_zero() {
        let none = Draw { random: u64::MAX, turn: 3, key: 9, schedule: &[Slot(0)] };
        for algorithm in Algorithm::ALL {
            let pick = algorithm.pick();
            assert_eq!(pick(&[], none), None, "{algorithm:?}");
            assert_eq!(pick(&[candidate(0, 0, 0), candidate(1, 0, 0)], none), None, "{algorithm:?}");
            let one = [candidate(0, 0, 0), candidate(1, 1, 900), candidate(2, 0, 0)];
            assert_eq!(shares(pick, &one, &[Slot(0), Slot(2)], 200, 3), [0, 200, 0], "{algorithm:?}");
        }
    }

    #[test]
    fn idle_equal_servers_share_evenly_and_weights_divide() {
        let equal = [candidate(0, 1, 0), candidate(1, 1, 0), candidate(2, 1, 0)];
        let weighted = [candidate(0, 5, 0), candidate(1, 1, 0), candidate(2, 1, 0)];
        for algorithm in Algorithm::ALL {
            let even = shares(algorithm.pick(), &equal, &scheduled(&equal), 9_000, 3);
            assert!(even.iter().all(|n| (2_800..=3_200).contains(n)), "{algorithm:?} {even:?}");
            let by_weight = shares(algorithm.pick(), &weighted, &scheduled(&weighted), 7_000, 3);
            assert!((4_800..=5_200).contains(&by_weight[0]), "{algorithm:?} {by_weight:?}");
            assert!(by_weight[1..].iter().all(|n| (880..=1_120).contains(n)), "{algorithm:?} {by_weight:?}");
        }
    }

    #[test]
    fn every_pick_is_a_candidate_in_any_order_and_any_subset() {
        let all: Vec<_> = (0..40).map(|slot| candidate(slot, (slot % 7) as u16, slot % 5)).collect();
        let order = scheduled(&all);
        let some: Vec<_> = all.iter().rev().filter(|c| c.slot.0 % 3 == 1).copied().collect();
        for algorithm in Algorithm::ALL {
            let counts = shares(algorithm.pick(), &some, &order, 2_000, 40);
            for (slot, count) in counts.into_iter().enumerate() {
                assert!(count == 0 || (slot % 3 == 1 && slot % 7 != 0), "{algorithm:?} picked {slot}");
            }
        }
    }
}
