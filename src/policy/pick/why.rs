//! Why an algorithm picked a server. A choice is a pure function of its candidates and its draw, so the reason is found again
//! from the same two, for the few choices that somebody looks at, and a choice itself costs nothing more.

use super::{Algorithm, Candidate, Draw, Slot, avoid, dynamic, least_connections, shares, weighted};

/// Why this server, and no other candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// There was no other candidate.
    OnlyOne,
    /// It has been without a request for long: one shows how it is now.
    Trial,
    /// It has the least cost, or the fewest requests in flight for its weight.
    Least,
    /// It is its turn among those that are as good as the best.
    Turn,
    /// At random among those that are as good as the best.
    Random,
    /// The less loaded one of two that were drawn at random.
    LessOfTwo,
    /// The hash of the request's key leads to it.
    Hash,
    /// Its client's session is there.
    Session,
    /// It came up a short while ago, and this is one of the few requests that it gets yet.
    SlowStart,
    /// It is out, and no server that is up took the connection.
    LastResort,
}

impl Why {
    /// The word in the admin API.
    pub fn name(self) -> &'static str {
        match self {
            Why::OnlyOne => "only_one",
            Why::Trial => "trial",
            Why::Least => "least",
            Why::Turn => "turn",
            Why::Random => "random",
            Why::LessOfTwo => "less_of_two",
            Why::Hash => "hash",
            Why::Session => "session",
            Why::SlowStart => "slow_start",
            Why::LastResort => "last_resort",
        }
    }
}

impl Algorithm {
    /// Why it picked this one of the candidates, which are as [`Algorithm::pick`] left them, and how many were as good.
    pub fn why(self, candidates: &[Candidate], draw: Draw<'_>, picked: Slot) -> (Why, usize) {
        if candidates.len() == 1 {
            return (Why::OnlyOne, 1);
        }
        let is_by_speed = self == Algorithm::Dynamic;
        if self.compares() && avoid::trial(candidates, draw, is_by_speed) == Some(picked) {
            return (Why::Trial, 1);
        }
        let among = |fits: &dyn Fn(&Candidate) -> bool| among(candidates, draw, picked, fits);
        match self {
            Algorithm::RoundRobin => among(&|_| true),
            Algorithm::IpHash | Algorithm::ConsistentHash => (Why::Hash, 1),
            Algorithm::RandomTwo => (Why::LessOfTwo, 2),
            Algorithm::Dynamic if !draw.is_long_lived => match shares::are_wanted(candidates) {
                true => among(&shares::keeps_up(candidates)),
                false => among(&dynamic::is_best(candidates)),
            },
            _ => among(&least_connections::is_least(candidates)),
        }
    }
}

/// One of the candidates that fit was picked, by turn or at random; where none fits it was the best of the others.
fn among(
    candidates: &[Candidate],
    draw: Draw<'_>,
    picked: Slot,
    fits: &dyn Fn(&Candidate) -> bool,
) -> (Why, usize) {
    let fits = |candidate: &Candidate| candidate.weight.0 > 0 && fits(candidate);
    let turn = weighted::whose_turn(candidates, draw).filter(|candidate| fits(candidate));
    match candidates.iter().filter(|candidate| fits(candidate)).count() {
        0 | 1 => (Why::Least, 1),
        count if turn.is_some_and(|turn| turn.slot == picked) => (Why::Turn, count),
        count => (Why::Random, count),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::*;
    use super::*;
    use crate::policy::latency::Reading;

    fn draw(turn: u64, schedule: &[Slot]) -> Draw<'_> {
        // The highest bits are set: no trial.
        Draw { random: u64::MAX << 40, turn, key: 5, schedule, is_long_lived: false, is_sample: false }
    }

    /// Servers as (weight, in flight, latency in ms); what is said of the one that is picked at this turn.
    fn check(algorithm: Algorithm, servers: &[(u16, u32, f32)], turn: u64, expected: (Why, usize)) {
        let full = |(slot, &(weight, in_flight, ms)): (u32, &(u16, u32, f32))| Candidate {
            latency: Some(Reading { typical_us: ms * 1_000.0, load: 1.0, samples: 15.0 }),
            ..candidate(slot, weight, in_flight)
        };
        let mut all: Vec<_> = (0..).zip(servers).map(full).collect();
        let order = scheduled(&all);
        let picked = algorithm.pick(&mut all, draw(turn, &order)).unwrap();
        assert_eq!(algorithm.why(&all, draw(turn, &order), picked), expected, "{algorithm:?} {servers:?}");
    }

    #[test]
    fn each_algorithm_says_why() {
        let (quick, slow) = ((1, 0, 2.0), (1, 0, 50.0));
        check(Algorithm::Dynamic, &[quick], 0, (Why::OnlyOne, 1));
        check(Algorithm::Dynamic, &[quick, slow], 0, (Why::Least, 1));
        check(Algorithm::Dynamic, &[quick, slow], 1, (Why::Least, 1));
        check(Algorithm::Dynamic, &[quick, quick, slow], 0, (Why::Turn, 2));
        // The third server's turn, which is slow: one of the other two.
        check(Algorithm::Dynamic, &[quick, quick, slow], 2, (Why::Random, 2));
        check(Algorithm::Dynamic, &[(3, 0, 2.0), (1, 0, 50.0)], 0, (Why::Turn, 2));
        check(Algorithm::LeastConnections, &[(1, 3, 2.0), (1, 1, 50.0)], 0, (Why::Least, 1));
        check(Algorithm::LeastConnections, &[quick, slow], 1, (Why::Turn, 2));
        check(Algorithm::RoundRobin, &[quick, slow], 1, (Why::Turn, 2));
        check(Algorithm::RandomTwo, &[quick, slow], 1, (Why::LessOfTwo, 2));
        check(Algorithm::IpHash, &[quick, slow], 1, (Why::Hash, 1));
    }

    #[test]
    fn a_trial_is_told() {
        let mut all = [candidate(0, 1, 0), Candidate { unasked_ms: 5_000, ..candidate(1, 1, 9) }];
        let draw = Draw { random: 0, ..draw(0, &[]) };
        assert_eq!(Algorithm::Dynamic.pick(&mut all, draw), Some(Slot(1)));
        assert_eq!(Algorithm::Dynamic.why(&all, draw, Slot(1)), (Why::Trial, 1));
    }
}
