//! Which server gets the request. An algorithm is a function from candidates to one of them.
//!
//! One file per algorithm. None allocates, reads a clock or keeps state; what must be remembered (turns, latencies,
//! requests in flight) belongs to the table and is passed as an argument. All are O(number of candidates), and of a large
//! table only a sample are candidates ([`Algorithm::sample`]).

mod avoid;
mod consistent_hash;
mod dynamic;
mod least_connections;
mod order;
mod random_two;
mod round_robin;
mod shares;
mod weighted;
mod why;

use super::latency::Reading;

pub use consistent_hash::{Contender, PARTS, part};
pub use order::schedule;
pub use why::Why;

/// A share of the traffic, relative to the other servers; 1 to 1000 (0 means: no new requests).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Weight(pub u16);

/// A server's index in the table's order; stable for one snapshot of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slot(pub u32);

/// A server as an algorithm sees it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// Its index in the table.
    pub slot: Slot,
    /// Its weight; a candidate of weight 0 is never picked.
    pub weight: Weight,
    /// Stable hash of the server's name.
    pub hash: u64,
    /// Requests that this balancer has in flight with it, tunnels included.
    pub in_flight: u32,
    /// Those of them that are tunnels: open, but no work that others wait for.
    pub tunnels: u32,
    /// What its responses usually take; None when unknown.
    pub latency: Option<Reading>,
    /// The share of good responses among the recent ones, 0 to 1.
    pub good: f32,
    /// How long requests have been without any response, in microseconds; 0 when that is not significant
    /// ([`super::silence`]).
    pub silence_us: f32,
    /// It seems to hang: it should get no request that it may never respond to. Judged once for each choice, not in each
    /// comparison.
    pub is_silent: bool,
    /// Milliseconds since it was last sent a request.
    pub unasked_ms: u32,
    /// By what its own report changes its expected latency, 1 or more ([`super::report`]).
    pub report: f32,
    /// It fails or hangs, and others do not: it gets trials only. Set by [`Algorithm::pick`].
    pub is_avoided: bool,
    /// What `dynamic` ranks by, the expected time to a good response in microseconds. Set by [`Algorithm::pick`].
    pub cost: f32,
}

impl Candidate {
    /// A server of whose requests and responses nothing is known: enough for turns and hashes, which compare no servers.
    pub fn new(slot: Slot, weight: Weight, hash: u64) -> Self {
        Candidate {
            slot,
            weight,
            hash,
            in_flight: 0,
            tunnels: 0,
            latency: None,
            good: 1.0,
            silence_us: 0.0,
            is_silent: false,
            unasked_ms: 0,
            report: 1.0,
            is_avoided: false,
            cost: 0.0,
        }
    }
}

/// The inputs that differ from one request to the next.
#[derive(Clone, Copy, Debug)]
pub struct Draw<'a> {
    /// 64 uniformly random bits.
    pub random: u64,
    /// A counter of requests.
    pub turn: u64,
    /// Hash of the client's address.
    pub key: u64,
    /// The smooth weighted order of the snapshot, from [`schedule`]. It should contain only the servers in use: the
    /// turn of a server that is not among the candidates goes to a random one.
    pub schedule: &'a [Slot],
    /// The connection may stay open for hours (an upgrade): what is open decides, not what is fast now.
    pub is_long_lived: bool,
    /// The candidates are a sample, drawn by weight: a choice among them must not count weights again.
    pub is_sample: bool,
}

/// The algorithms by name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Algorithm {
    /// In turn, by weight, in nginx's smooth order.
    RoundRobin,
    /// The fewest requests in flight relative to its weight.
    LeastConnections,
    /// The less loaded of two random servers.
    RandomTwo,
    /// The same server for the same client, as long as it is available: [`Algorithm::ConsistentHash`] by client.
    IpHash,
    /// The same server for the same key, as long as it is available.
    ConsistentHash,
    /// The least expected wait: by latency, requests in flight, and the servers' load reports.
    #[default]
    Dynamic,
}

impl Algorithm {
    /// All of them, in the order of the documentation.
    pub const ALL: [Algorithm; 6] = [
        Algorithm::RoundRobin,
        Algorithm::LeastConnections,
        Algorithm::RandomTwo,
        Algorithm::IpHash,
        Algorithm::ConsistentHash,
        Algorithm::Dynamic,
    ];

    /// As written in the configuration: `round_robin` …
    pub fn name(self) -> &'static str {
        match self {
            Algorithm::RoundRobin => "round_robin",
            Algorithm::LeastConnections => "least_connections",
            Algorithm::RandomTwo => "random_two",
            Algorithm::IpHash => "ip_hash",
            Algorithm::ConsistentHash => "consistent_hash",
            Algorithm::Dynamic => "dynamic",
        }
    }

    /// The algorithm of that name; case matters.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }

    /// One of the candidates: None only when there is none with a weight above 0. Sets what it found out of each.
    pub fn pick(self, candidates: &mut [Candidate], draw: Draw<'_>) -> Option<Slot> {
        if let [only] = candidates {
            return (only.weight.0 > 0).then_some(only.slot);
        }
        if self.compares() {
            avoid::mark(candidates);
            if let Some(slot) = avoid::trial(candidates, draw, self == Algorithm::Dynamic) {
                return Some(slot);
            }
        }
        match self {
            Algorithm::RoundRobin => round_robin::pick(candidates, draw),
            Algorithm::IpHash | Algorithm::ConsistentHash => consistent_hash::pick(candidates, draw),
            Algorithm::RandomTwo => random_two::pick(candidates, draw),
            Algorithm::Dynamic if !draw.is_long_lived => dynamic::pick(candidates, draw),
            _ => least_connections::pick(candidates, draw),
        }
    }

    /// Whether it compares servers by their load and their responses; the others go by turn or by hash.
    pub fn compares(self) -> bool {
        match self {
            Algorithm::RoundRobin | Algorithm::IpHash | Algorithm::ConsistentHash => false,
            Algorithm::LeastConnections | Algorithm::RandomTwo | Algorithm::Dynamic => true,
        }
    }

    /// Whether it goes by a hash of the request's key.
    pub fn hashes(self) -> bool {
        matches!(self, Algorithm::IpHash | Algorithm::ConsistentHash)
    }

    /// How many candidates it needs of a larger table: the server whose turn it is, and the rest at random by weight. A
    /// choice of two is already nearly as good as one of all (Mitzenmacher, "The power of two choices", 2001); more of
    /// them make room for slow servers, and for those that fail. A hash must see every candidate.
    pub fn sample(self) -> Option<usize> {
        match self {
            Algorithm::RoundRobin => Some(SPARE),
            Algorithm::RandomTwo => Some(3),
            Algorithm::Dynamic | Algorithm::LeastConnections => Some(SAMPLE),
            Algorithm::IpHash | Algorithm::ConsistentHash => None,
        }
    }
}

/// For turns: the server whose turn it is, and some for when that one takes no requests.
const SPARE: usize = 4;

/// Servers that are compared for a request. With 16 p99 is within 1 % of that with 8; with 4 it is up to 1.29 times that, where
/// 100 servers are of unlike speed (docs/experiments.md).
const SAMPLE: usize = 8;

/// Shared by the tests of the algorithms.
#[cfg(test)]
mod testing {
    use super::*;

    /// A candidate of that weight with this many requests in flight; nothing else is known of it.
    pub(super) fn candidate(slot: u32, weight: u16, in_flight: u32) -> Candidate {
        let hash = u64::from(slot + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Candidate { in_flight, ..Candidate::new(Slot(slot), Weight(weight), hash) }
    }

    /// The schedule that a table of these candidates would have.
    pub(super) fn scheduled(candidates: &[Candidate]) -> Vec<Slot> {
        schedule(&candidates.iter().map(|c| (c.slot, c.weight)).collect::<Vec<_>>())
    }

    /// How often each slot below `slots` is picked in this many requests.
    pub(super) fn shares(
        algorithm: Algorithm,
        candidates: &[Candidate],
        order: &[Slot],
        times: u64,
        slots: usize,
    ) -> Vec<u64> {
        let mut random = crate::base::random::Random::seeded(7);
        let mut counts = vec![0; slots];
        for turn in 0..times {
            let draw = Draw {
                random: random.number(),
                turn,
                key: random.number(),
                schedule: order,
                is_long_lived: false,
                is_sample: false,
            };
            counts[algorithm.pick(&mut candidates.to_vec(), draw).unwrap().0 as usize] += 1;
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
    fn nothing_is_picked_from_nothing_or_weight_zero() {
        let none = Draw {
            random: u64::MAX,
            turn: 3,
            key: 9,
            schedule: &[Slot(0)],
            is_long_lived: false,
            is_sample: false,
        };
        for algorithm in Algorithm::ALL {
            assert_eq!(algorithm.pick(&mut [], none), None, "{algorithm:?}");
            let mut idle = [candidate(0, 0, 0), candidate(1, 0, 0)];
            assert_eq!(algorithm.pick(&mut idle, none), None, "{algorithm:?}");
            let one = [candidate(0, 0, 0), candidate(1, 1, 900), candidate(2, 0, 0)];
            assert_eq!(shares(algorithm, &one, &[Slot(0), Slot(2)], 200, 3), [0, 200, 0], "{algorithm:?}");
        }
    }

    #[test]
    fn idle_equal_servers_share_evenly_and_weights_divide() {
        let equal = [candidate(0, 1, 0), candidate(1, 1, 0), candidate(2, 1, 0)];
        let weighted = [candidate(0, 5, 0), candidate(1, 1, 0), candidate(2, 1, 0)];
        for algorithm in Algorithm::ALL {
            let even = shares(algorithm, &equal, &scheduled(&equal), 9_000, 3);
            assert!(even.iter().all(|n| (2_800..=3_200).contains(n)), "{algorithm:?} {even:?}");
            let by_weight = shares(algorithm, &weighted, &scheduled(&weighted), 7_000, 3);
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
            let counts = shares(algorithm, &some, &order, 2_000, 40);
            for (slot, count) in counts.into_iter().enumerate() {
                assert!(count == 0 || (slot % 3 == 1 && slot % 7 != 0), "{algorithm:?} picked {slot}");
            }
        }
    }
}
