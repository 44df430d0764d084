//! Which servers that health has taken out are used where too few are left.
//!
//! Probes can be wrong about all servers at once: a page that somebody broke, a port that a firewall closed, a check that
//! fails when a database does. And when most of a pool is out, the rest gets a multiple of its load and fails next. So where
//! fewer than `panic_percent` of a pool's servers are left, the *last known good* ones are used as well:
//!
//! - servers that have been up before, and that nothing but their probes speaks against: they respond to a probe, though not as
//!   expected, or live requests succeeded while their probes failed;
//! - where that leaves no server at all, those that are ejected and can be connected to: an ejection says that others are
//!   better, and there are none.
//!
//! A server that cannot be connected to is never used, nor one that an operator has taken out. What live requests then find out
//! counts at once: failures in a row end it for a server, until its probes get responses again for a while.

use crate::base::time::Moment;
use std::time::Duration;

/// What is known of a server beside whether its probes pass. Written by the health thread alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// Its last probe got a response, whichever.
    responds: bool,
    /// Live requests succeeded while its probes failed.
    serves: bool,
    /// The last attempt to connect to it failed.
    is_unreachable: bool,
    /// Since when live requests fail.
    against: Option<Moment>,
    /// Good live responses as of the last failed probe; `None` unless the last one failed.
    good: Option<u64>,
}

/// A probe that failed, and what live traffic says at the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FailedProbe {
    /// What became of it.
    pub got: Got,
    /// Good live responses of the server so far.
    pub good: u64,
    /// Bad ones since the last good one.
    pub bad_in_row: u32,
}

/// What a failed probe got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Got {
    /// A response that is not the expected one.
    Response,
    /// None, from where requests go.
    Nothing,
    /// None, from a port that only probes go to: that says nothing about requests.
    NothingElsewhere,
}

/// How live traffic may speak against a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// So many failed or bad responses in a row do.
    pub in_row: u32,
    /// For so long; then a server whose probes get responses is tried again.
    pub time: Duration,
}

impl Evidence {
    /// A probe passed: nothing speaks against the server.
    #[must_use]
    pub fn passed(self) -> Self {
        Evidence { responds: true, ..Evidence::default() }
    }

    /// A probe failed.
    #[must_use]
    pub fn failed(self, probe: FailedProbe, limits: Limits, now: Moment) -> Self {
        let FailedProbe { got, good, bad_in_row } = probe;
        // Only responses since an earlier failed probe contradict this one: those before it may be from before the fault.
        let serves = self.serves || self.good.is_some_and(|before| good > before && bad_in_row == 0);
        let is_over =
            self.against.is_some_and(|since| got != Got::Nothing && now.since(since) >= limits.time);
        let against = match self.against.filter(|_| !is_over) {
            None if bad_in_row >= limits.in_row && !is_over => Some(now),
            against => against,
        };
        let is_unreachable = match got {
            Got::Response => false,
            Got::Nothing => self.is_unreachable || !serves,
            Got::NothingElsewhere => self.is_unreachable && !is_over,
        };
        Evidence { responds: got == Got::Response, serves, is_unreachable, against, good: Some(good) }
    }

    /// A live request failed, which was the `in_row`th in a row.
    #[must_use]
    pub fn request_failed(self, is_unreachable: bool, in_row: u32, limits: Limits, now: Moment) -> Self {
        let speaks_against = is_unreachable || in_row >= limits.in_row;
        Evidence {
            is_unreachable: self.is_unreachable || is_unreachable,
            serves: self.serves && !speaks_against,
            against: self.against.or(speaks_against.then_some(now)),
            ..self
        }
    }

    /// A live request succeeded after one that failed.
    #[must_use]
    pub fn request_passed(self) -> Self {
        Evidence { is_unreachable: false, against: None, ..self }
    }

    /// Whether a server that was up before, and whose probes fail, is one of the last known good.
    pub fn is_good(self) -> bool {
        let nothing_known = self.good.is_some() && !self.is_unreachable;
        self.against.is_none() && (self.serves || self.responds || nothing_known)
    }

    /// Whether a server that is ejected can be used where there is no other.
    pub fn is_reachable(self) -> bool {
        !self.is_unreachable
    }
}

/// Whether so few of a pool's servers are left that the last known good ones are used as well. Those that an operator has
/// taken out do not count at all.
pub fn is_panic(left: usize, servers: usize, panic_percent: u32) -> bool {
    servers > 0 && left.saturating_mul(100) < servers.saturating_mul(panic_percent as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { in_row: 5, time: Duration::from_secs(10) };

    /// Events a second apart, and whether the server is then one of the last known good. Probes: passed (`+`), a wrong response (`w`),
    /// nothing (`-`), nothing from a port of its own (`p`); requests: good (`g`), 500 (`5`), failed (`f`), cannot connect (`c`).
    fn check(events: &str, expected: bool) {
        let (mut evidence, mut good, mut in_row, mut failed) = (Evidence::default(), 0, 0, 0);
        for (event, second) in events.chars().zip(1..) {
            let now = Moment::from_millis(second * 1_000);
            let probe = |got| FailedProbe { got, good, bad_in_row: in_row };
            evidence = match event {
                '+' => evidence.passed(),
                'w' => evidence.failed(probe(Got::Response), LIMITS, now),
                '-' => evidence.failed(probe(Got::Nothing), LIMITS, now),
                'p' => evidence.failed(probe(Got::NothingElsewhere), LIMITS, now),
                'f' | 'c' => {
                    (in_row, failed) = (in_row + 1, failed + 1);
                    evidence.request_failed(event == 'c', failed, LIMITS, now)
                }
                '5' => {
                    in_row += 1;
                    evidence
                }
                'g' => {
                    let is_first = failed > 0;
                    (good, in_row, failed) = (good + 1, 0, 0);
                    if is_first { evidence.request_passed() } else { evidence }
                }
                _ => evidence,
            };
        }
        assert_eq!(evidence.is_good(), expected, "{events:?}: {evidence:?}");
    }

    #[test]
    fn what_only_probes_speak_against_is_good() {
        check("+ggwww", true);
        check("+www", true);
        check("+gg-g-g-", true);
        check("+gg-g-g-------", true);
        check("+ppp", true);
        check("+gg5ww5g", true);
    }

    #[test]
    fn what_cannot_be_connected_to_or_says_nothing_is_not() {
        check("+gg---", false);
        check("+---", false);
        check("+ggg-", false);
        check("+gg-g-g-c", false);
        check("+pppc", false);
        check("+wwwc", false);
        check("+pppcp", false);
        check("+gg-g-c-", false);
    }

    #[test]
    fn failing_live_requests_speak_against_a_server_for_a_while() {
        check("+wwwfffff", false);
        check("+wwwffff", true);
        check("+wwwfffffg", true);
        check("+ww55555w", false);
        check("+ww55555wwww", false);
        check("+ww55555w          w", true);
        check("+wwwfffff          -", false);
        check("+wwwfffff          w", true);
        check("+wwc          w", true);
        check("+ppc    p", false);
        check("+ppc          p", true);
        check("+wwc          w+", true);
    }

    #[test]
    fn panic_is_below_the_share() {
        for (left, servers, percent, expected) in [
            (0, 3, 25, true),
            (0, 3, 1, true),
            (0, 3, 0, false),
            (0, 0, 25, false),
            (1, 4, 25, false),
            (1, 5, 25, true),
            (1, 3, 50, true),
            (1, 2, 50, false),
            (99, 100, 100, true),
            (100, 100, 100, false),
        ] {
            assert_eq!(is_panic(left, servers, percent), expected, "{left} of {servers} at {percent} %");
        }
    }
}
