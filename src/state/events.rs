//! What happened lately: a bounded list of events that the health thread, the admin API and others add to, for the
//! dashboard and `GET /api/v1/events`. Never written per request.

use crate::base::time;
use log::Level;
use parking_lot::Mutex;
use std::collections::VecDeque;

/// The most events that are kept; the oldest go first. At about 200 bytes each this is some 100 KB.
const EVENTS_MAX: usize = 500;
/// The longest line that is kept, in bytes: room for every line of the log but for one with a long list in it.
const LINE_MAX: usize = 600;

/// What an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    /// A server's health, or a pool without a server that is up.
    Health,
    /// A change through the admin API.
    Change,
    /// The configuration was read again, or could not be.
    Reload,
    /// Requests that were rejected or failed.
    Traffic,
    /// The balancer itself: started, drains.
    Balancer,
}

impl Topic {
    /// The word in the admin API.
    pub fn name(self) -> &'static str {
        match self {
            Topic::Health => "health",
            Topic::Change => "change",
            Topic::Reload => "reload",
            Topic::Traffic => "traffic",
            Topic::Balancer => "balancer",
        }
    }
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Grows by one with each event of this process, from 1.
    pub number: u64,
    /// Milliseconds since 1970.
    pub unix_ms: u64,
    /// What it is about.
    pub topic: Topic,
    /// How bad it is.
    pub level: Level,
    /// What happened, as in the log.
    pub line: String,
}

/// The last events.
#[derive(Debug, Default)]
pub struct Events {
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    last: u64,
    events: VecDeque<Event>,
}

impl Events {
    /// Writes a line to the log and keeps it as an event, so that the two never differ.
    pub fn log(&self, topic: Topic, level: Level, line: impl Into<String>) {
        let line = line.into();
        log::log!(level, "{line}");
        self.keep(topic, level, line);
    }

    /// Keeps an event whose line the caller writes to the log.
    pub fn keep(&self, topic: Topic, level: Level, line: impl Into<String>) {
        let line = cut(line.into());
        let unix_ms = time::unix_millis();
        let mut kept = self.kept.lock();
        kept.last += 1;
        let number = kept.last;
        if kept.events.len() == EVENTS_MAX {
            kept.events.pop_front();
        }
        kept.events.push_back(Event { number, unix_ms, topic, level, line });
    }

    /// The events with a number above this one, the oldest first.
    pub fn after(&self, number: u64) -> Vec<Event> {
        let kept = self.kept.lock();
        let begin = kept.events.partition_point(|event| event.number <= number);
        kept.events.range(begin..).cloned().collect()
    }
}

/// The text, or as much of it as is kept.
fn cut(mut line: String) -> String {
    if line.len() > LINE_MAX {
        let end = (0..=LINE_MAX).rev().find(|at| line.is_char_boundary(*at)).unwrap_or(0);
        line.truncate(end);
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(events: &Events, after: u64) -> Vec<u64> {
        events.after(after).iter().map(|event| event.number).collect()
    }

    #[test]
    fn the_last_events_are_kept_in_order_and_found_by_number() {
        let events = Events::default();
        assert_eq!(numbers(&events, 0), Vec::<u64>::new());
        (0..3).for_each(|_| events.keep(Topic::Health, Level::Warn, "down"));
        assert_eq!(numbers(&events, 0), [1, 2, 3]);
        assert_eq!(numbers(&events, 2), [3]);
        assert_eq!(numbers(&events, 99), Vec::<u64>::new());
        (0..EVENTS_MAX).for_each(|_| events.keep(Topic::Change, Level::Info, "changed"));
        let kept = numbers(&events, 0);
        assert_eq!((kept.len(), kept[0]), (EVENTS_MAX, 4), "the oldest are gone");
    }

    #[test]
    fn a_long_line_is_cut_between_two_characters() {
        let events = Events::default();
        events.keep(Topic::Traffic, Level::Info, format!("x{}", "ü".repeat(LINE_MAX)));
        let line = &events.after(0)[0].line;
        assert_eq!(line.len(), LINE_MAX - 1 + "…".len());
        assert!(line.ends_with("ü…"), "{line}");
    }
}
