//! `retries`, and `retries` of each route: whether a failed attempt is made again, at another server.

use super::reader::Section;
use super::rules;
use crate::policy::retry::Rules;
use std::ops::RangeInclusive;
use std::time::Duration;

/// A client that waits for longer than ten minutes has given up.
const WAIT: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(600);

/// Reads the section. What it leaves out is as in `default`.
pub(super) fn read(s: &mut Section<'_, '_>, default: Rules) -> Rules {
    let mut rules = Rules {
        attempts: s.get("attempts", default.attempts, rules::whole(0..=10)),
        budget_percent: s.get("budget_percent", default.budget_percent, rules::whole(0..=100)),
        budget_min: s.get("budget_min", default.budget_min, rules::whole(0..=1000)),
        wait_for_server: s.maybe("wait_for_server", default.wait_for_server, rules::duration(WAIT)),
        ..default
    };
    let is_given = s.has("on_status");
    let on_status = s.maybe("on_status", None, rules::error_statuses);
    if is_given {
        rules.on_status = on_status;
    }
    if is_given && rules.on_status.is_some() && rules.attempts == 0 {
        s.warn("on_status", "has no effect while \"attempts\" is 0; write \"attempts\": 1".to_owned());
    }
    rules
}
