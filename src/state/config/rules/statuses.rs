//! The rules for lists of statuses.

use super::super::tree::{Node, Value};
use super::{Read, text};
use crate::policy::statuses::Statuses;

/// Statuses and ranges of them.
pub(in crate::state::config) fn statuses(node: &Node) -> Read<Vec<(u16, u16)>> {
    let advice = "write statuses from 100 to 599, such as \"200-399,404\"";
    let text = match &node.value {
        Value::Whole(number) => number.to_string(),
        _ => text(node, advice)?.to_owned(),
    };
    let ranges = text.split(',').map(|part| statuses_of(part.trim())).collect::<Option<Vec<_>>>();
    ranges.ok_or_else(|| match class_of(&text) {
        Some(class) => {
            format!("{node} is not a valid list of statuses; write \"{class}00-{class}99\" for that class")
        }
        None => format!("{node} is not a valid list of statuses; {advice}"),
    })
}

/// Statuses of errors: what succeeded, or leads elsewhere, is none.
pub(in crate::state::config) fn error_statuses(node: &Node) -> Read<Statuses> {
    let statuses = Statuses::of(&statuses(node)?);
    match statuses.are_within(400..=599) {
        true => Ok(statuses),
        false => Err(format!(
            "{node} has a status below 400, which is not an error; write one such as \"502-504,429\""
        )),
    }
}

/// The 2 of `2xx`.
fn class_of(text: &str) -> Option<char> {
    let class = text.to_ascii_lowercase().strip_suffix("xx")?.parse().ok()?;
    ('1'..='5').contains(&class).then_some(class)
}

fn statuses_of(part: &str) -> Option<(u16, u16)> {
    let (low, high) = part.split_once('-').unwrap_or((part, part));
    let (low, high) = (status(low.trim())?, status(high.trim())?);
    (low <= high).then_some((low, high))
}

fn status(text: &str) -> Option<u16> {
    let is_digits = text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|status| is_digits && (100..=599).contains(status))
}
