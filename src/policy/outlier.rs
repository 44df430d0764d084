//! Which server fails far more requests than the others.
//!
//! The servers of a pool get the same requests. If a request is bad or the application is broken, all servers
//! fail it, and no server is at fault. A server is an outlier when its share of errors exceeds the share of
//! all others together by a margin, and by more than chance explains; or when it fails so many in a row as
//! chance does not explain. An error is a 5xx or a failure (cannot connect, reset, timeout, broken response).
//!
//! The last responses of a server are compared with those of the others in the same period: first those of
//! the last second, then more and more of the past, until there are [`RESPONSES_TO_JUDGE`] or [`SPAN`] is
//! reached. A busy server is detected within a second or two, a quiet one takes longer.

use crate::base::ids::ServerId;
use crate::base::time::Moment;
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::time::Duration;

/// Time between two checks.
pub const CHECK_EVERY: Duration = Duration::from_millis(500);
/// Anything older is forgotten: a quiet server may take this long to show enough errors.
pub const SPAN: Duration = Duration::from_secs(30);
/// Checks in [`SPAN`].
const CHECKS: usize = (SPAN.as_millis() / CHECK_EVERY.as_millis()) as usize;
/// The fewest checks that are judged together: a short pause of a server does not justify its ejection.
const CHECKS_MIN: u32 = 2;
/// Enough responses to judge a server; more of the past would hide recent changes.
const RESPONSES_TO_JUDGE: u32 = 30;
/// With fewer errors a server is not judged.
const ERRORS_MIN: u32 = 10;
/// Standard deviations between the shares. Two checks a second for ten servers are two million a day; chance
/// exceeds five deviations once in three million.
const DEVIATIONS: f64 = 5.0;
/// How likely a row of errors may be by chance: the same as [`DEVIATIONS`].
const ROW_CHANCE: f64 = 1e-6;

/// Counts of a server's requests since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Requests that got a response or failed.
    pub ended: u64,
    /// Those of them that were errors.
    pub errors: u64,
    /// Errors since the last good response.
    pub in_row: u32,
}

/// Errors among requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// All requests.
    pub errors: u32,
    /// All of them.
    pub of: u32,
}

/// When a server is far above the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// By how many percentage points its share exceeds theirs; 0 disables both checks.
    pub margin_percent: u32,
    /// Errors in a row, beside which the others' share of errors makes chance unlikely; 0 disables this check.
    pub in_row: u32,
}

/// A server that fails far more than the others, with the figures for the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outlier {
    /// Its share of errors.
    pub own: Share,
    /// The share of all others together, in the same period.
    pub others: Share,
    /// The period in seconds, rounded up.
    pub seconds: u32,
}

impl fmt::Display for Outlier {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Outlier { own, others, seconds } = self;
        write!(
            out,
            "{} of {} responses in {seconds} s were 5xx or failed, while the other servers' share is {:.0} %",
            own.errors,
            own.of,
            others.rate() * 100.0
        )
    }
}

impl Share {
    fn rate(self) -> f64 {
        if self.of == 0 { 0.0 } else { f64::from(self.errors) / f64::from(self.of) }
    }

    fn plus(self, other: Share) -> Share {
        Share { errors: self.errors.saturating_add(other.errors), of: self.of.saturating_add(other.of) }
    }

    fn minus(self, other: Share) -> Share {
        Share { errors: self.errors.saturating_sub(other.errors), of: self.of.saturating_sub(other.of) }
    }
}

/// Whether a share exceeds that of the others far enough: by the margin in percentage points, and beyond chance.
pub fn is_outlier(own: Share, others: Share, margin_percent: u32) -> bool {
    if own.errors < ERRORS_MIN || others.of == 0 || margin_percent == 0 {
        return false;
    }
    let excess = own.rate() - others.rate();
    let both = own.plus(others).rate();
    let deviation = (both * (1.0 - both) * (1.0 / f64::from(own.of) + 1.0 / f64::from(others.of))).sqrt();
    excess * 100.0 >= f64::from(margin_percent) && excess >= DEVIATIONS * deviation
}

/// Whether so many errors in a row are more than chance explains, beside this share of the others, which is
/// lower by the margin in percentage points.
pub fn is_row_an_outlier(in_row: u32, others: Share, limits: Limits) -> bool {
    let Limits { margin_percent, in_row: least } = limits;
    let excess = 1.0 - others.rate();
    if least == 0 || in_row < least || others.of < least || excess * 100.0 < f64::from(margin_percent) {
        return false;
    }
    // Never 0: few responses of the others say little about their share. It is never 1 either, so a long row
    // would always be more than chance explains: where the others fail as well, the margin decides.
    let rate = (f64::from(others.errors) + 1.0) / (f64::from(others.of) + 2.0);
    f64::from(in_row) * rate.ln() <= ROW_CHANCE.ln()
}

/// What is recorded of the servers that take requests.
#[derive(Debug, Default)]
pub struct Outliers {
    servers: HashMap<ServerId, Track>,
    /// All servers together, one entry per check, the newest last.
    pool: VecDeque<Share>,
    next_look: Moment,
}

#[derive(Debug)]
struct Track {
    last: Totals,
    /// One entry per check, the newest last.
    looks: VecDeque<Share>,
}

impl Outliers {
    /// When [`Outliers::look`] has something to do again.
    pub fn next_look(&self) -> Moment {
        self.next_look
    }

    /// Checks the servers that take requests now; a server that was not among them at the last check starts
    /// without history. Returns the outliers, the worst first. Does nothing before [`Outliers::next_look`].
    pub fn look(
        &mut self,
        servers: &[(ServerId, Totals)],
        limits: Limits,
        now: Moment,
    ) -> Vec<(ServerId, Outlier)> {
        if now < self.next_look {
            return Vec::new();
        }
        self.next_look = now.after(CHECK_EVERY);
        self.forget_all_but(servers);
        self.note(servers);
        let judged = self.servers.iter().filter_map(|(id, track)| Some((*id, self.judge(track, limits)?)));
        let mut outliers: Vec<_> = judged.collect();
        // The id breaks ties: the order of the map differs between runs.
        outliers.sort_by(|(one_id, one), (two_id, two)| {
            let by_rate = two.own.rate().total_cmp(&one.own.rate());
            by_rate.then(two.own.of.cmp(&one.own.of)).then(one_id.0.cmp(&two_id.0))
        });
        outliers
    }

    /// Servers that have left must not count among the others any more.
    fn forget_all_but(&mut self, servers: &[(ServerId, Totals)]) {
        if self.servers.len() == servers.len() && servers.iter().all(|(id, _)| self.servers.contains_key(id))
        {
            return;
        }
        let stays: std::collections::HashSet<_> = servers.iter().map(|(id, _)| *id).collect();
        let pool = &mut self.pool;
        self.servers.retain(|id, track| {
            let keeps = stays.contains(id);
            if !keeps {
                pool.iter_mut()
                    .rev()
                    .zip(track.looks.iter().rev())
                    .for_each(|(all, own)| *all = all.minus(*own));
            }
            keeps
        });
    }

    fn note(&mut self, servers: &[(ServerId, Totals)]) {
        let mut sum = Share::default();
        for (id, totals) in servers {
            let track =
                self.servers.entry(*id).or_insert_with(|| Track { last: *totals, looks: VecDeque::new() });
            let share = Share {
                errors: totals.errors.saturating_sub(track.last.errors) as u32,
                of: totals.ended.saturating_sub(track.last.ended) as u32,
            };
            track.last = *totals;
            push(&mut track.looks, share);
            sum = sum.plus(share);
        }
        push(&mut self.pool, sum);
    }

    fn judge(&self, track: &Track, limits: Limits) -> Option<Outlier> {
        let (mut own, mut all, mut looks) = (Share::default(), Share::default(), 0_u32);
        // A server that no longer fails must not be ejected for its past.
        track.looks.back().filter(|newest| newest.errors > 0)?;
        for (mine, pool) in track.looks.iter().rev().zip(self.pool.iter().rev()) {
            (own, all, looks) = (own.plus(*mine), all.plus(*pool), looks + 1);
            let others = all.minus(own);
            if looks >= CHECKS_MIN && is_outlier(own, others, limits.margin_percent) {
                let seconds = (CHECK_EVERY * looks).as_secs_f32().ceil() as u32;
                return Some(Outlier { own, others, seconds });
            }
            if own.of >= RESPONSES_TO_JUDGE && looks >= CHECKS_MIN {
                break;
            }
        }
        self.judge_row(track, limits)
    }

    /// Errors in a row show a server with little traffic that fails, before its share does.
    fn judge_row(&self, track: &Track, limits: Limits) -> Option<Outlier> {
        let sum =
            |looks: &VecDeque<Share>| looks.iter().fold(Share::default(), |sum, share| sum.plus(*share));
        let in_row = track.last.in_row;
        if limits.margin_percent == 0 || in_row < limits.in_row {
            return None;
        }
        let others = sum(&self.pool).minus(sum(&track.looks));
        let own = Share { errors: in_row, of: in_row };
        let seconds = (CHECK_EVERY * self.pool.len() as u32).as_secs_f32().ceil() as u32;
        is_row_an_outlier(in_row, others, limits).then_some(Outlier { own, others, seconds })
    }
}

fn push(looks: &mut VecDeque<Share>, share: Share) {
    if looks.len() == CHECKS {
        looks.pop_front();
    }
    looks.push_back(share);
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { margin_percent: 30, in_row: 0 };

    /// Errors and requests of a server, and of the others.
    fn check(own: (u32, u32), others: (u32, u32), expected: bool) {
        let share = |(errors, of)| Share { errors, of };
        assert_eq!(is_outlier(share(own), share(others), 30), expected, "{own:?} beside {others:?}");
    }

    #[test]
    fn a_share_far_above_the_others_and_beyond_chance() {
        check((41, 50), (1, 100), true);
        check((10, 10), (0, 20), true);
        check((10, 10), (0, 10), false);
        check((9, 9), (0, 1_000), false);
        check((30, 30), (0, 0), false);
        // ordinary rates, and the margin
        check((10, 200), (10, 1_000), false);
        check((25, 100), (1, 1_000), false);
        check((35, 100), (1, 1_000), true);
        // all fail, or many fail by chance
        check((100, 100), (100, 100), false);
        check((100, 100), (70, 100), true);
        check((14, 20), (15, 40), false);
        check((58, 100), (90, 300), false);
        check((61, 100), (90, 300), true);
    }

    fn check_row(in_row: u32, others: (u32, u32), expected: bool) {
        let others = Share { errors: others.0, of: others.1 };
        let limits = Limits { in_row: 5, ..LIMITS };
        assert_eq!(is_row_an_outlier(in_row, others, limits), expected, "{in_row} beside {others:?}");
    }

    #[test]
    fn a_row_of_errors_that_chance_does_not_explain() {
        check_row(4, (0, 1_000), false);
        check_row(5, (0, 20), true);
        check_row(5, (0, 10), false);
        check_row(6, (0, 10), true);
        check_row(5, (0, 0), false);
        check_row(99, (0, 4), false);
        check_row(5, (30, 300), false);
        check_row(7, (30, 300), true);
        check_row(30, (99, 100), false);
        check_row(9_999, (1_000, 1_000), false);
        // all fail: however long the row is, and however few responses the others had
        check_row(537, (16, 16), false);
        check_row(u32::MAX, (1_000, 1_000), false);
        check_row(9_999, (71, 100), false);
        check_row(99, (70, 100), true);
    }

    /// Checks servers, given for each check what was added to each since the last as (errors, requests).
    /// Returns the outliers of the last check, by index.
    fn run(looks: &[Vec<(u64, u64)>]) -> Vec<u32> {
        let mut outliers = Outliers::default();
        let mut totals = vec![Totals::default(); looks[0].len()];
        let list = |totals: &[Totals]| (0..).map(ServerId).zip(totals.iter().copied()).collect::<Vec<_>>();
        let mut found = outliers.look(&list(&totals), LIMITS, Moment::START);
        for (look, n) in looks.iter().zip(1..) {
            for (total, (errors, requests)) in totals.iter_mut().zip(look) {
                total.errors += errors;
                total.ended += requests;
            }
            found = outliers.look(&list(&totals), LIMITS, Moment::from_millis(n * 500));
        }
        found.into_iter().map(|(id, _)| id.0).collect()
    }

    fn times(look: &[(u64, u64)], times: usize) -> Vec<Vec<(u64, u64)>> {
        vec![look.to_vec(); times]
    }

    #[test]
    fn a_busy_server_is_found_at_once_and_a_quiet_one_in_time() {
        assert_eq!(run(&times(&[(0, 99), (99, 99), (0, 99)], 2)), [1]);
        let before = times(&[(0, 99), (1, 99), (0, 99)], 200);
        let after = times(&[(0, 99), (50, 50), (0, 99)], 1);
        assert_eq!(run(&[before.clone(), after.clone()].concat()), [1], "half of its last second suffices");
        let quiet = [times(&[(0, 20), (0, 20)], 60), times(&[(1, 1), (0, 39)], 9)].concat();
        assert_eq!(run(&quiet), [0; 0]);
        let busy_before = [times(&[(0, 200), (0, 200)], 60), times(&[(1, 1), (0, 400)], 10)].concat();
        assert_eq!(run(&busy_before), [0]);
        let well_again = [times(&[(9, 9), (0, 99)], 1), times(&[(0, 1), (0, 99)], 1)].concat();
        assert_eq!(run(&well_again), [0; 0]);
        let longer = [times(&[(0, 20), (0, 20)], 60), times(&[(1, 1), (0, 39)], 10)].concat();
        assert_eq!(run(&longer), [0]);
        assert_eq!(run(&times(&[(99, 99), (99, 99), (0, 99), (0, 99)], 3)).len(), 2);
    }

    #[test]
    fn nothing_where_all_fail_or_few_do() {
        assert_eq!(run(&times(&[(99, 99), (99, 99)], 60)), [0; 0]);
        assert_eq!(run(&times(&[(5, 99), (1, 99)], 60)), [0; 0]);
        assert_eq!(run(&times(&[(3, 3), (0, 3)], 3)), [0; 0]);
        assert_eq!(run(&times(&[(99, 99)], 60)), [0; 0]);
        assert_eq!(run(&times(&[(99, 99), (0, 0)], 60)), [0; 0]);
        // the whole pool begins to fail, one server slightly earlier
        let early = [times(&[(0, 99), (0, 99)], 60), vec![vec![(30, 99), (0, 99)], vec![(99, 99), (80, 99)]]];
        assert_eq!(run(&early.concat()), [0; 0]);
    }

    #[test]
    fn a_server_that_comes_back_begins_afresh_and_one_that_left_does_not_count() {
        let mut outliers = Outliers::default();
        let mut now = Moment::START;
        let mut look = |servers: &[(u32, u64, u64)]| {
            let list: Vec<_> = servers
                .iter()
                .map(|&(id, errors, ended)| (ServerId(id), Totals { ended, errors, in_row: 0 }))
                .collect();
            now = now.after(CHECK_EVERY);
            outliers.look(&list, LIMITS, now).into_iter().map(|(id, _)| id.0).collect::<Vec<_>>()
        };
        look(&[(0, 0, 0), (1, 0, 0), (2, 0, 0)]);
        look(&[(0, 0, 90), (1, 90, 90), (2, 90, 90)]);
        assert_eq!(look(&[(0, 0, 180), (1, 180, 180), (2, 180, 180)]), [1, 2]);
        assert_eq!(look(&[(0, 0, 190), (2, 190, 190)]), [2]);
        assert_eq!(look(&[(0, 0, 200), (1, 280, 280), (2, 190, 190)]), [0; 0], "its past is forgotten");
    }

    #[test]
    fn the_log_has_figures() {
        let outlier =
            Outlier { own: Share { errors: 41, of: 50 }, others: Share { errors: 1, of: 99 }, seconds: 2 };
        let words = "41 of 50 responses in 2 s were 5xx or failed, while the other servers' share is 1 %";
        assert_eq!(outlier.to_string(), words);
    }
}
