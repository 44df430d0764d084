//! Which addresses of a name are servers of its pool: those of its last answers.
//!
//! One answer is not the whole truth. A resolver whose question for IPv4 or IPv6 got lost tells only the other addresses, and some
//! name servers give a part of a long list at a time. So an address leaves when two answers in a row are without it. No answer, or one
//! without any address, takes nothing out.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

/// The most servers of one name. Each is probed and has statistics and metrics of its own; a list of more addresses is rather a
/// mistake, or belongs behind a balancer of its own.
pub const MEMBERS_MAX: usize = 256;
/// An address that so many answers in a row are without is taken out.
const ABSENT_MAX: u8 = 2;

/// The addresses of one name that are servers.
#[derive(Debug, Default)]
pub struct Members {
    known: BTreeMap<IpAddr, Member>,
}

#[derive(Debug)]
struct Member {
    address: SocketAddr,
    /// Answers without it since the last one with it.
    absent: u8,
}

/// What an answer leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Taken {
    /// All addresses that are servers now, sorted.
    pub members: Vec<SocketAddr>,
    /// Some of them were not in the answer: another one should be asked for soon.
    pub is_incomplete: bool,
    /// Addresses of the answer that are none because there are [`MEMBERS_MAX`] already.
    pub left_out: usize,
}

impl Members {
    /// Those of the addresses that are known already.
    pub fn of(addresses: impl IntoIterator<Item = SocketAddr>) -> Self {
        let member = |address: SocketAddr| (address.ip().to_canonical(), Member { address, absent: 0 });
        Members { known: addresses.into_iter().map(member).collect() }
    }

    /// Takes an answer; its order does not matter, and neither do addresses that it has twice.
    pub fn take(&mut self, answer: &[SocketAddr]) -> Taken {
        let mut answer = Members::of(answer.iter().copied()).known;
        if !answer.is_empty() {
            for (ip, member) in &mut self.known {
                member.absent = if answer.contains_key(ip) { 0 } else { member.absent + 1 };
            }
            self.known.retain(|_, member| member.absent < ABSENT_MAX);
        }
        answer.retain(|ip, _| !self.known.contains_key(ip));
        let room = MEMBERS_MAX - self.known.len().min(MEMBERS_MAX);
        let left_out = answer.len().saturating_sub(room);
        self.known.extend(answer.into_iter().take(room));
        Taken {
            members: self.known.values().map(|member| member.address).collect(),
            is_incomplete: self.known.values().any(|member| member.absent > 0),
            left_out,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(list: &str) -> Vec<SocketAddr> {
        let one = |ip: &str| SocketAddr::new(ip.parse().unwrap(), 80);
        list.split_whitespace().map(one).collect()
    }

    /// Answers one after the other, and the members after the last one; a `?` behind them: another answer should come soon.
    fn check(answers: &[&str], expected: &str) {
        let mut members = Members::default();
        let taken = answers.iter().map(|answer| members.take(&addresses(answer))).last().unwrap();
        let shown: Vec<_> = taken.members.iter().map(|address| address.ip().to_string()).collect();
        let shown = shown.join(" ") + if taken.is_incomplete { " ?" } else { "" };
        assert_eq!(shown, expected, "{answers:?}");
        assert_eq!(taken.left_out, 0);
    }

    #[test]
    fn members_follow_the_answers() {
        check(&["10.0.0.2 10.0.0.1"], "10.0.0.1 10.0.0.2");
        check(&["10.0.0.1 10.0.0.2", "10.0.0.2 10.0.0.1 10.0.0.2"], "10.0.0.1 10.0.0.2");
        check(&["10.0.0.1", "10.0.0.3 10.0.0.1 fd00::1"], "10.0.0.1 10.0.0.3 fd00::1");
        check(&["10.0.0.1 fd00::1", "10.0.0.1"], "10.0.0.1 fd00::1 ?");
        check(&["10.0.0.1 fd00::1", "10.0.0.1", "10.0.0.1"], "10.0.0.1");
        check(&["10.0.0.1 fd00::1", "10.0.0.1", "fd00::1", "10.0.0.1"], "10.0.0.1 fd00::1 ?");
        check(&["10.0.0.1 10.0.0.2", "", "", ""], "10.0.0.1 10.0.0.2");
        check(&["10.0.0.1", "10.0.0.9", "10.0.0.9"], "10.0.0.9");
        check(&["10.0.0.1 ::ffff:10.0.0.1"], "::ffff:10.0.0.1");
        check(&[""], "");
    }

    #[test]
    fn members_are_bounded_and_those_that_are_known_stay() {
        let many = |from: u32, count: u32| -> Vec<SocketAddr> {
            (from..from + count).map(|at| SocketAddr::new(IpAddr::from(at.to_be_bytes()), 80)).collect()
        };
        let mut members = Members::of(many(5_000, 2));
        let answer = [many(5_000, 2), many(1_000, 300)].concat();
        let taken = members.take(&answer);
        assert_eq!((taken.members.len(), taken.left_out), (MEMBERS_MAX, 46));
        assert!(many(5_000, 2).iter().all(|address| taken.members.contains(address)));
        assert_eq!(members.take(&answer), taken);
    }
}
