//! The order in which waiting requests are served: by priority, and within one first in, first out. Where the
//! requests of a priority stand (CoDel, [`admit`](super::admit)) and clients are impatient, they are served last
//! in, first out: in an overload that lasts, first in, first out would serve only requests whose clients have
//! given up (Maurer, "Fail at Scale", 2015). A value: no clock, no lock.
//!
//! A higher priority is served first, but none waits forever: when [`PASSED_MAX`] requests of higher priority
//! were served before the ones of a priority, one of these is served.

use super::admit::Codel;
use crate::base::time::Moment;
use std::collections::VecDeque;
use std::time::Duration;

/// Of how much worth a request is, compared with others that wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// Served when nothing else waits, and from time to time.
    Low,
    /// As most.
    #[default]
    Normal,
    /// Before all others.
    High,
}

impl Priority {
    /// All of them, from the lowest.
    pub const ALL: [Priority; 3] = [Priority::Low, Priority::Normal, Priority::High];

    /// The word in the configuration and in the admin API.
    pub fn name(self) -> &'static str {
        match self {
            Priority::Low => "low",
            Priority::Normal => "normal",
            Priority::High => "high",
        }
    }
}

/// Requests of higher priority that may be served while one of a lower priority waits: with all three
/// waiting, each gets a tenth of the servers' room at least.
pub const PASSED_MAX: u32 = 8;

/// A place in the order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Grows with each that entered.
    number: u64,
    /// Of the request that has it.
    pub priority: Priority,
}

/// What waits, in order.
#[derive(Debug)]
pub struct Backlog<T> {
    /// From the lowest priority.
    lines: [Line<T>; Priority::ALL.len()],
    last_number: u64,
}

#[derive(Debug)]
struct Line<T> {
    waiting: VecDeque<Entry<T>>,
    /// Requests of higher priority that were served while this line was not empty, since it was served last.
    passed: u32,
    codel: Codel,
    /// As of the last request that was served: what is served next changes only then.
    stands: bool,
    /// The last one is served first; the same holds.
    newest_first: bool,
}

#[derive(Debug)]
struct Entry<T> {
    number: u64,
    item: T,
    since: Moment,
    fine: Fine,
}

/// Which wait is fine for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fine {
    /// Up to this.
    pub target: Duration,
    /// Its client waits for so long and no longer, whatever others do: it has a deadline.
    pub expires: bool,
}

/// There was no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl<T> Default for Backlog<T> {
    fn default() -> Self {
        let lines = Priority::ALL.map(|_| Line {
            waiting: VecDeque::new(),
            passed: 0,
            codel: Codel::default(),
            stands: false,
            newest_first: false,
        });
        Backlog { lines, last_number: 0 }
    }
}

impl<T> Backlog<T> {
    /// How many wait.
    pub fn len(&self) -> usize {
        self.lines.iter().map(|line| line.waiting.len()).sum()
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.lines.iter().all(|line| line.waiting.is_empty())
    }

    /// How many of this priority wait, and whether they are served last in, first out.
    pub fn of(&self, priority: Priority) -> (usize, bool) {
        let line = &self.lines[priority as usize];
        (line.waiting.len(), line.newest_first)
    }

    /// Whether the requests of this priority stand.
    pub fn stands(&self, priority: Priority) -> bool {
        self.lines[priority as usize].stands
    }

    /// One more. Where `capacity` wait, the one that would be served
    /// last of all has to leave: it comes back, or [`Full`] if the new one is it.
    pub fn enter(
        &mut self,
        item: T,
        priority: Priority,
        fine: Fine,
        capacity: usize,
        now: Moment,
    ) -> Result<(Place, Option<T>), Full> {
        let pushed_out = match self.len() >= capacity {
            true => Some(self.make_room(priority).ok_or(Full)?),
            false => None,
        };
        self.last_number += 1;
        let number = self.last_number;
        let entry = Entry { number, item, since: now, fine };
        self.lines[priority as usize].waiting.push_back(entry);
        Ok((Place { number, priority }, pushed_out))
    }

    /// Takes the last one out, if it is served after a new one of this priority.
    fn make_room(&mut self, priority: Priority) -> Option<T> {
        let lowest = self.lines.iter().position(|line| !line.waiting.is_empty())?;
        let line = &mut self.lines[lowest];
        match line.newest_first {
            true if lowest <= priority as usize => line.waiting.pop_front(),
            false if lowest < priority as usize => line.waiting.pop_back(),
            _ => None,
        }
        .map(|entry| entry.item)
    }

    /// What is served next.
    pub fn first(&self) -> Option<(Place, &T)> {
        let line = self.next_line()?;
        let entry = self.lines[line].next()?;
        Some((Place { number: entry.number, priority: Priority::ALL[line] }, &entry.item))
    }

    /// Takes out what is served now; `each` of those behind it is served after so much more time. Whether its
    /// priority stands, by the wait of the oldest; `None`: it was pushed out. It does not where all are
    /// served within `interval`, as where a quick backup has taken over: to reject some of them would help
    /// none. Where clients are patient, the oldest is still the next.
    pub fn serve(
        &mut self,
        place: Place,
        interval: Duration,
        each: Duration,
        is_patient: bool,
        now: Moment,
    ) -> Option<bool> {
        let at = place.priority as usize;
        let line = &mut self.lines[at];
        line.find(place)?;
        let oldest = line.waiting.front()?;
        let is_soon_gone = each * u32::try_from(line.waiting.len()).unwrap_or(u32::MAX) < interval;
        let stands = line.codel.take(oldest.fine.target, interval, oldest.since, now) && !is_soon_gone;
        (line.stands, line.newest_first) = (stands, stands && (oldest.fine.expires || !is_patient));
        self.leave(place);
        self.lines[at].passed = 0;
        for lower in self.lines[..at].iter_mut().filter(|line| !line.waiting.is_empty()) {
            lower.passed += 1;
        }
        Some(stands)
    }

    /// Takes out what waits no more. `None`: it was pushed out.
    pub fn leave(&mut self, place: Place) -> Option<T> {
        let line = &mut self.lines[place.priority as usize];
        let entry = line.waiting.remove(line.find(place)?)?;
        if line.waiting.is_empty() {
            (line.passed, line.stands, line.newest_first) = (0, false, false);
        }
        Some(entry.item)
    }

    /// Whether it waits, and was not pushed out.
    pub fn has(&self, place: Place) -> bool {
        self.lines[place.priority as usize].find(place).is_some()
    }

    /// All that wait, and whether their priority stands.
    pub fn entries(&self) -> impl Iterator<Item = (Place, &T, bool)> {
        let lines = Priority::ALL.into_iter().zip(&self.lines);
        lines.flat_map(|(priority, line)| {
            let place = move |entry: &Entry<T>| Place { number: entry.number, priority };
            line.waiting.iter().map(move |entry| (place(entry), &entry.item, line.stands))
        })
    }

    /// The line that was passed over for long enough, from the lowest; else the highest that is not empty.
    fn next_line(&self) -> Option<usize> {
        let filled = || (0..self.lines.len()).filter(|at| !self.lines[*at].waiting.is_empty());
        let due = filled().find(|at| self.lines[*at].passed >= PASSED_MAX);
        due.or_else(|| filled().next_back())
    }
}

impl<T> Line<T> {
    fn next(&self) -> Option<&Entry<T>> {
        if self.newest_first { self.waiting.back() } else { self.waiting.front() }
    }

    fn find(&self, place: Place) -> Option<usize> {
        self.waiting.binary_search_by_key(&place.number, |entry| entry.number).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::Priority::*;
    use super::*;

    const TARGET: Fine = Fine { target: Duration::from_millis(5), expires: false };
    const INTERVAL: Duration = Duration::from_millis(100);

    fn at(ms: u64) -> Moment {
        Moment::from_millis(ms)
    }

    /// So many of these priorities, a millisecond apart from 1 s on; the items are the numbers.
    fn filled(priorities: &[Priority]) -> Backlog<usize> {
        let mut backlog = Backlog::default();
        for (number, priority) in priorities.iter().enumerate() {
            backlog.enter(number, *priority, TARGET, 100, at(1_000 + number as u64)).unwrap();
        }
        backlog
    }

    fn serve(backlog: &mut Backlog<usize>, ms: u64) -> Option<usize> {
        let (place, item) = backlog.first().map(|(place, item)| (place, *item))?;
        backlog.serve(place, INTERVAL, INTERVAL, false, at(ms)).unwrap();
        Some(item)
    }

    /// The order in which they are served, at these times in ms.
    fn check(priorities: &[Priority], times: &[u64], expected: &[usize]) {
        let mut backlog = filled(priorities);
        let served: Vec<_> = times.iter().filter_map(|ms| serve(&mut backlog, *ms)).collect();
        assert_eq!((served.as_slice(), backlog.len()), (expected, priorities.len() - expected.len()));
    }

    #[test]
    fn first_in_first_out_by_priority() {
        check(&[], &[1_010], &[]);
        check(&[Normal; 4], &[1_010, 1_050, 1_109], &[0, 1, 2]);
        check(&[Low, Normal, High, Normal], &[1_010; 4], &[2, 1, 3, 0]);
    }

    #[test]
    fn last_in_first_out_where_it_stands() {
        // Long waits for 100 ms: from the next one on the last one is served first.
        check(&[Normal; 6], &[1_010, 1_110, 1_111, 1_112, 1_113, 1_114], &[0, 1, 5, 4, 3, 2]);
        // Only the priority that stands is turned round.
        check(&[Low, High, High, Low, High], &[1_010, 1_110, 1_111, 1_112, 1_113], &[1, 2, 4, 0, 3]);
        // When none is left of those that have waited for long, it is first in, first out again.
        let mut backlog = filled(&[Normal; 3]);
        let served: Vec<_> = [1_010, 1_110, 1_111].map(|ms| serve(&mut backlog, ms).unwrap()).into();
        assert_eq!((served, backlog.of(Normal)), (vec![0, 1, 2], (0, false)));
        (7..9).for_each(|item| _ = backlog.enter(item, Normal, TARGET, 100, at(1_200)).unwrap());
        assert_eq!([1_201, 1_202].map(|ms| serve(&mut backlog, ms).unwrap()), [7, 8]);
    }

    #[test]
    fn where_clients_are_patient_and_have_no_deadline_the_oldest_is_first_though_it_stands() {
        for (expires, is_patient, expected) in [(false, true, 2), (true, true, 5), (false, false, 5)] {
            let mut backlog = Backlog::default();
            for number in 0..6 {
                backlog.enter(number, Normal, Fine { expires, ..TARGET }, 100, at(1_000)).unwrap();
            }
            for ms in [1_010, 1_110] {
                let place = backlog.first().unwrap().0;
                backlog.serve(place, INTERVAL, INTERVAL, is_patient, at(ms)).unwrap();
            }
            let next = backlog.first().map(|(_, item)| *item);
            assert_eq!((next, backlog.stands(Normal)), (Some(expected), true), "{expires} {is_patient}");
        }
    }

    #[test]
    fn what_stands_goes_by_the_oldest_though_the_youngest_is_served() {
        let mut backlog = filled(&[Normal; 3]);
        assert_eq!([1_010, 1_110].map(|ms| serve(&mut backlog, ms).unwrap()), [0, 1]);
        for ms in 1_111..1_120 {
            backlog.enter(9, Normal, TARGET, 100, at(ms)).unwrap();
            let place = backlog.first().unwrap().0;
            assert_eq!(backlog.serve(place, INTERVAL, INTERVAL, false, at(ms)), Some(true));
        }
        assert_eq!(backlog.of(Normal), (1, true));
    }

    #[test]
    fn none_waits_forever() {
        let mut backlog = filled(&[Low, Normal]);
        let mut served = Vec::new();
        for _ in 0..12 {
            backlog.enter(9, High, TARGET, 100, at(1_002)).unwrap();
            served.extend(serve(&mut backlog, 1_002));
        }
        let ordinary: Vec<_> = served.iter().map(|item| *item < 9).collect();
        assert_eq!(ordinary.iter().position(|is_lower| *is_lower), Some(PASSED_MAX as usize));
        assert_eq!(ordinary.iter().filter(|is_lower| **is_lower).count(), 2, "{served:?}");
    }

    #[test]
    fn a_full_queue_gives_way_to_what_would_be_served_before() {
        let enter = |backlog: &mut Backlog<usize>, priority| {
            let before = backlog.len();
            let entered = backlog.enter(9, priority, TARGET, before, at(1_120));
            entered.map(|(place, pushed_out)| {
                assert!(backlog.has(place) && backlog.len() == before);
                pushed_out
            })
        };
        let full = |priority| enter(&mut filled(&[Low, Normal, Low]), priority);
        assert_eq!(full(High), Ok(Some(2)), "the youngest of the lowest");
        assert_eq!(full(Normal), Ok(Some(2)));
        assert_eq!(full(Low), Err(Full));
        assert_eq!(enter(&mut filled(&[Normal]), Normal), Err(Full));
        assert_eq!(enter(&mut filled(&[Normal]), Low), Err(Full));
        assert_eq!(enter(&mut filled(&[]), High), Err(Full));
        let mut standing = filled(&[Low; 5]);
        [1_010, 1_110].into_iter().for_each(|ms| _ = serve(&mut standing, ms));
        assert_eq!(enter(&mut standing, Low), Ok(Some(2)), "the oldest, where it is served last");
    }

    #[test]
    fn what_left_is_not_served() {
        let mut backlog = filled(&[Normal; 3]);
        let first = backlog.first().unwrap().0;
        assert_eq!((backlog.leave(first), backlog.leave(first), backlog.has(first)), (Some(0), None, false));
        assert_eq!(backlog.serve(first, INTERVAL, INTERVAL, false, at(1_010)), None);
        assert_eq!(backlog.first().map(|(_, item)| *item), Some(1));
    }
}
