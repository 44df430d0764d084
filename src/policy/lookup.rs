//! Which names are looked up and when, and how many look-ups run at once.
//!
//! A look-up by the system's resolver has no configurable timeout (10 s and more when no name server responds), and
//! cannot be cancelled. So:
//!
//! - a look-up that takes longer than [`TIME_LIMIT`] counts as failed. Its thread stays occupied until it returns, and
//!   its name is looked up in the *slow* lane from then on, until a look-up finishes in time again;
//! - names whose last look-up finished in time have a lane of their own, so that slow names never delay them. A look-up
//!   in that lane that exceeds the limit makes room for the next one;
//! - in both lanes the zones (the part after the first dot) take turns: many names of one dead zone do not delay the
//!   first look-up of a name in another zone.

use crate::base::time::Moment;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// A look-up that takes longer counts as failed. Local resolvers respond within milliseconds; 2 s is also what a
/// request may spend on connecting.
pub const TIME_LIMIT: Duration = Duration::from_secs(2);
/// The most look-ups that run at once, overdue ones included: each occupies a thread.
pub const RUNNING_MAX: usize = 64;
/// Concurrent look-ups of names whose last look-up finished in time.
const PROMPT_MAX: usize = 4;
/// Concurrent look-ups of names that were slow, or have no result yet.
const SLOW_MAX: usize = 32;
/// From a successful look-up to the next one: a moved name is detected within a few seconds, and a resolver gets fewer
/// queries than the servers get probes.
const INTERVAL: Duration = Duration::from_secs(5);
/// From a failed look-up to the next one; doubles with each failure in a row, up to [`RETRY_MAX`]. During a deployment
/// names appear while this process starts.
const RETRY: Duration = Duration::from_millis(250);
/// A name that resolves again is found within a second.
const RETRY_MAX: Duration = Duration::from_secs(1);
/// A failed connect brings a look-up forward, but not closer to the last one than this.
const REQUESTED: Duration = Duration::from_secs(1);

/// The names of all servers, and the state of their look-ups.
#[derive(Debug, Default)]
pub struct Lookups {
    names: HashMap<Arc<str>, Name>,
    due: BinaryHeap<Reverse<(Moment, Arc<str>)>>,
    prompt: Lane,
    slow: Lane,
    /// In start order, which is also the order in which they exceed the limit.
    begun: VecDeque<(Moment, Arc<str>)>,
}

/// The look-ups of one lane: running and waiting.
#[derive(Debug, Default)]
struct Lane {
    running: usize,
    zones: HashMap<Box<str>, VecDeque<Arc<str>>>,
    turns: VecDeque<Box<str>>,
}

#[derive(Debug)]
struct Name {
    /// Servers that have it.
    users: usize,
    state: State,
    is_prompt: bool,
    failures: u32,
    finished: Option<Moment>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing to do until then.
    Idle(Moment),
    /// Its lane is full.
    Waiting,
    /// Running since then.
    Running { since: Moment, prompt: bool, late: bool },
}

impl Lookups {
    /// One more server uses this name. A new name is looked up at once.
    pub fn add(&mut self, name: &str, now: Moment) {
        if let Some(known) = self.names.get_mut(name) {
            known.users += 1;
            return;
        }
        let name: Arc<str> = name.into();
        let state = State::Idle(now);
        let known = Name { users: 1, state, is_prompt: false, failures: 0, finished: None };
        self.names.insert(Arc::clone(&name), known);
        self.due.push(Reverse((now, name)));
    }

    /// One server fewer uses this name. A name without servers is forgotten once its look-up has returned.
    pub fn remove(&mut self, name: &str) {
        let Some(known) = self.names.get_mut(name) else { return };
        known.users = known.users.saturating_sub(1);
        if known.users == 0 && matches!(known.state, State::Idle(_)) {
            self.names.remove(name);
        }
    }

    /// A connection to the name's address failed: the name may have moved.
    pub fn request(&mut self, name: &str, now: Moment) {
        let Some((name, known)) = self.names.get_key_value(name) else { return };
        let State::Idle(due) = known.state else { return };
        let at = known.finished.map_or(now, |finished| finished.after(REQUESTED)).max(now);
        if at < due {
            let name = Arc::clone(name);
            self.idle_until(&name, at);
        }
    }

    /// The next look-up to start, if one is due and there is room. The caller starts it, and calls [`Lookups::finish`]
    /// when it returns.
    pub fn begin(&mut self, now: Moment) -> Option<Arc<str>> {
        self.queue_due(now);
        let room = self.prompt.running + self.slow.running < RUNNING_MAX;
        let prompt = room && self.prompt.running < PROMPT_MAX;
        let slow = room && self.slow.running < SLOW_MAX;
        if let Some(name) = prompt.then(|| self.prompt.pop()).flatten() {
            return self.run(name, true, now);
        }
        slow.then(|| self.slow.pop()).flatten().and_then(|name| self.run(name, false, now))
    }

    /// The next look-up that exceeded [`TIME_LIMIT`]; each is returned once. It counts as failed from now on, although
    /// it may still return a result.
    pub fn late(&mut self, now: Moment) -> Option<Arc<str>> {
        while let Some((begun, name)) = self.begun.front() {
            let (begun, name) = (*begun, Arc::clone(name));
            let known = self.names.get_mut(&name);
            let is_it = |known: &&mut Name| matches!(known.state, State::Running { since, late: false, .. } if since == begun);
            let Some(known) = known.filter(is_it) else {
                self.begun.pop_front();
                continue;
            };
            if now < begun.after(TIME_LIMIT) {
                return None;
            }
            self.begun.pop_front();
            known.is_prompt = false;
            known.failures = known.failures.saturating_add(1);
            if let State::Running { prompt, late, .. } = &mut known.state {
                *late = true;
                // It makes room in its lane.
                if std::mem::take(prompt) {
                    self.prompt.running -= 1;
                    self.slow.running += 1;
                }
            }
            return Some(name);
        }
        None
    }

    /// A look-up has returned, with an address or without. Returns whether it finished in time.
    pub fn finish(&mut self, name: &str, found: bool, now: Moment) -> bool {
        let Some((name, known)) = self.names.get_key_value(name) else { return false };
        let name = Arc::clone(name);
        let State::Running { prompt, late, since } = known.state else { return false };
        let lane = if prompt { &mut self.prompt } else { &mut self.slow };
        lane.running -= 1;
        let Some(known) = self.names.get_mut(&name) else { return false };
        if known.users == 0 {
            self.names.remove(&name);
            return false;
        }
        let in_time = now.since(since) < TIME_LIMIT;
        known.is_prompt = in_time;
        known.finished = Some(now);
        known.failures = match found {
            true => 0,
            false if late => known.failures,
            false => known.failures.saturating_add(1),
        };
        let wait = match known.failures {
            0 => INTERVAL,
            failures => RETRY.saturating_mul(1 << (failures - 1).min(8)).min(RETRY_MAX),
        };
        self.idle_until(&name, now.after(wait));
        in_time
    }

    /// The next time at which there is something to do: a look-up is due, or one exceeds the limit.
    pub fn next(&self) -> Moment {
        let due = self.due.peek().map_or(Moment::NEVER, |Reverse((at, _))| *at);
        let late = self.begun.front().map_or(Moment::NEVER, |(begun, _)| begun.after(TIME_LIMIT));
        due.min(late)
    }

    fn idle_until(&mut self, name: &Arc<str>, at: Moment) {
        if let Some(known) = self.names.get_mut(name) {
            known.state = State::Idle(at);
            self.due.push(Reverse((at, Arc::clone(name))));
        }
    }

    fn queue_due(&mut self, now: Moment) {
        while self.due.peek().is_some_and(|Reverse((at, _))| *at <= now) {
            let Some(Reverse((at, name))) = self.due.pop() else { return };
            // Entries of the heap other than the name's current one are out of date.
            let Some(known) = self.names.get_mut(&name).filter(|known| known.state == State::Idle(at)) else {
                continue;
            };
            known.state = State::Waiting;
            let lane = if known.is_prompt { &mut self.prompt } else { &mut self.slow };
            lane.push(name);
        }
    }

    fn run(&mut self, name: Arc<str>, prompt: bool, now: Moment) -> Option<Arc<str>> {
        let known = self.names.get_mut(&name)?;
        known.state = State::Running { since: now, prompt, late: false };
        let lane = if prompt { &mut self.prompt } else { &mut self.slow };
        lane.running += 1;
        self.begun.push_back((now, Arc::clone(&name)));
        Some(name)
    }
}

impl Lane {
    fn push(&mut self, name: Arc<str>) {
        let zone = name.split_once('.').map_or("", |(_, zone)| zone);
        match self.zones.get_mut(zone) {
            Some(names) => names.push_back(name),
            None => {
                self.turns.push_back(zone.into());
                self.zones.insert(zone.into(), VecDeque::from([name]));
            }
        }
    }

    /// The zones take turns.
    fn pop(&mut self) -> Option<Arc<str>> {
        let zone = self.turns.pop_front()?;
        let names = self.zones.get_mut(&zone)?;
        let name = names.pop_front();
        match names.is_empty() {
            true => _ = self.zones.remove(&zone),
            false => self.turns.push_back(zone),
        }
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Moment {
        Moment::from_millis(ms)
    }

    fn begin_all(lookups: &mut Lookups, now: Moment) -> Vec<Arc<str>> {
        std::iter::from_fn(|| lookups.begin(now)).collect()
    }

    fn late_all(lookups: &mut Lookups, now: Moment) -> usize {
        std::iter::from_fn(|| lookups.late(now)).count()
    }

    #[test]
    fn a_name_is_looked_up_again_after_the_interval_and_sooner_after_a_failure() {
        let mut lookups = Lookups::default();
        lookups.add("a.test", at(0));
        lookups.add("a.test", at(0));
        assert_eq!(begin_all(&mut lookups, at(0)).len(), 1, "two servers, one look-up");
        assert!(begin_all(&mut lookups, at(60_000)).is_empty(), "it is under way");
        let mut now = 0;
        for (found, wait) in
            [(true, 5_000), (false, 250), (false, 500), (false, 1_000), (false, 1_000), (true, 5_000)]
        {
            lookups.finish("a.test", found, at(now));
            assert_eq!(late_all(&mut lookups, at(now)), 0);
            assert_eq!(lookups.next(), at(now + wait), "{found}");
            assert!(lookups.begin(at(now + wait - 1)).is_none());
            now += wait;
            assert!(lookups.begin(at(now)).is_some());
        }
    }

    #[test]
    fn a_failed_connect_brings_a_look_up_forward_once_a_second() {
        let mut lookups = Lookups::default();
        lookups.add("a.test", at(0));
        lookups.begin(at(0));
        lookups.request("a.test", at(0));
        lookups.finish("a.test", true, at(10));
        lookups.request("a.test", at(20));
        lookups.request("a.test", at(30));
        assert_eq!(lookups.next(), at(1_010));
        assert!(lookups.begin(at(1_010)).is_some());
        lookups.finish("a.test", true, at(1_020));
        lookups.request("a.test", at(4_000));
        assert!(lookups.begin(at(4_000)).is_some());
        lookups.request("another.test", at(4_000));
    }

    #[test]
    fn a_late_look_up_counts_as_failed_once_and_its_result_is_used() {
        let mut lookups = Lookups::default();
        lookups.add("a.test", at(0));
        lookups.begin(at(0));
        assert_eq!(late_all(&mut lookups, at(1_999)), 0);
        assert_eq!(lookups.next(), at(2_000));
        assert_eq!(late_all(&mut lookups, at(2_000)), 1);
        assert_eq!(late_all(&mut lookups, at(9_000)), 0);
        assert!(lookups.begin(at(9_000)).is_none(), "its thread is still occupied");
        assert!(!lookups.finish("a.test", true, at(10_000)));
        assert_eq!(lookups.next(), at(15_000));
        lookups.begin(at(15_000));
        assert!(lookups.finish("a.test", true, at(15_001)));
    }

    #[test]
    fn names_of_a_dead_zone_hold_up_no_other_name() {
        let mut lookups = Lookups::default();
        lookups.add("good.live.test", at(0));
        begin_all(&mut lookups, at(0));
        lookups.finish("good.live.test", true, at(1));
        (0..500).for_each(|number| lookups.add(&format!("h{number}.dead.test"), at(2)));
        lookups.add("new.live.test", at(2));
        let begun = begin_all(&mut lookups, at(2));
        assert_eq!(begun.len(), SLOW_MAX, "bounded");
        assert!(begun.iter().any(|name| **name == *"new.live.test"), "its zone has its turn");
        assert_eq!(late_all(&mut lookups, at(3_000)), SLOW_MAX);
        assert_eq!(begin_all(&mut lookups, at(5_001)), ["good.live.test".into()]);
    }

    #[test]
    fn names_that_were_good_and_go_silent_make_room() {
        let mut lookups = Lookups::default();
        let names: Vec<_> = (0..500).map(|number| format!("h{number}.test")).collect();
        names.iter().for_each(|name| lookups.add(name, at(0)));
        while let Some(name) = lookups.begin(at(0)) {
            lookups.finish(&name, true, at(0));
        }
        // Now the resolver does not respond: each look-up takes 10 s.
        let mut running = VecDeque::new();
        let mut most = 0;
        for ms in (5_000..60_000).step_by(100) {
            while running.front().is_some_and(|(begun, _)| ms >= begun + 10_000) {
                let (_, name): (u64, Arc<str>) = running.pop_front().unwrap();
                lookups.finish(&name, false, at(ms));
            }
            late_all(&mut lookups, at(ms));
            running.extend(begin_all(&mut lookups, at(ms)).into_iter().map(|name| (ms, name)));
            most = most.max(running.len());
        }
        assert!((SLOW_MAX..=RUNNING_MAX).contains(&most), "{most}");
    }

    #[test]
    fn a_name_without_a_server_is_forgotten() {
        let mut lookups = Lookups::default();
        lookups.add("a.test", at(0));
        lookups.add("a.test", at(0));
        lookups.begin(at(0));
        lookups.remove("a.test");
        lookups.remove("a.test");
        lookups.finish("a.test", true, at(1));
        assert!(lookups.names.is_empty());
        lookups.add("b.test", at(2));
        lookups.remove("b.test");
        assert!(lookups.names.is_empty() && lookups.begin(at(3)).is_none());
    }
}
