//! What differs between two documents, by key path, for people.

use serde_json::{Map, Value};
use std::collections::HashMap;

/// Keys whose values are never shown.
const SECRETS: [&str; 8] =
    ["token", "password", "passwd", "secret", "credential", "authorization", "api-key", "cookie"];
/// What a text begins with that must not be shown. No text of a file has it.
const MARK: char = '\0';
/// What stands for a secret.
const SECRET: &str = "(secret)";
/// A longer value is shown up to here, in characters.
const SHOWN_MAX: usize = 120;

/// A text that is compared, but not shown.
pub(super) fn secret(text: &str) -> String {
    format!("{MARK}{text}")
}

/// What is different in `after`: one sentence for each key, in the order of the paths.
pub(super) fn differences(before: &Value, after: &Value) -> Vec<Difference> {
    let mut found = Vec::new();
    compare("", before, after, &mut found);
    found
}

/// One key of which the values differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// `timeouts.response`; that of a list where an entry of it was added or removed.
    pub path: String,
    /// `30s -> 10s`, `added b (10.0.0.2:80)`.
    pub change: String,
}

fn compare(path: &str, before: &Value, after: &Value, found: &mut Vec<Difference>) {
    match (before, after) {
        (one, other) if one == other => {}
        (Value::Object(one), Value::Object(other)) => compare_objects(path, one, other, found),
        (Value::Array(one), Value::Array(other)) if is_named(one) && is_named(other) => {
            compare_lists(path, one, other, found);
        }
        (one, other) => {
            let change = format!("{} -> {}", shown(path, one), shown(path, other));
            found.push(Difference { path: path.to_owned(), change });
        }
    }
}

fn compare_objects(
    path: &str,
    before: &Map<String, Value>,
    after: &Map<String, Value>,
    found: &mut Vec<Difference>,
) {
    let mut keys: Vec<&String> = before.keys().chain(after.keys()).collect();
    keys.sort();
    keys.dedup();
    for key in keys {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        match (before.get(key), after.get(key)) {
            (Some(one), Some(other)) => compare(&path, one, other, found),
            (Some(one), None) => absent(&path, one, &Value::Null, true, found),
            (None, Some(other)) => absent(&path, &Value::Null, other, false, found),
            (None, None) => {}
        }
    }
}

/// One side does not have the key: sections and lists are compared with an empty one, other values with the default.
fn absent(path: &str, before: &Value, after: &Value, is_removed: bool, found: &mut Vec<Difference>) {
    let there = if is_removed { before } else { after };
    let is_pool = path.strip_prefix("pools.").is_some_and(|name| !name.contains('.'));
    if is_pool {
        let change = if is_removed { "removed" } else { "added" }.to_owned();
        found.push(Difference { path: path.to_owned(), change });
        return;
    }
    let empty = match there {
        Value::Object(_) => Value::Object(Map::new()),
        Value::Array(list) if is_named(list) && !list.is_empty() => Value::Array(Vec::new()),
        value => {
            let value = shown(path, value);
            let change =
                if is_removed { format!("{value} -> default") } else { format!("default -> {value}") };
            found.push(Difference { path: path.to_owned(), change });
            return;
        }
    };
    match is_removed {
        true => compare(path, there, &empty, found),
        false => compare(path, &empty, there, found),
    }
}

/// Lists of objects, such as servers, routes and listeners: entries belong together by their names.
fn compare_lists(path: &str, before: &[Value], after: &[Value], found: &mut Vec<Difference>) {
    let mut tell = |change: String| found.push(Difference { path: path.to_owned(), change });
    let (old, new) = (Named::of(before), Named::of(after));
    old.without(&new).for_each(|name| tell(format!("removed {name}{}", place(old.get(name)))));
    new.without(&old).for_each(|name| tell(format!("added {name}{}", place(new.get(name)))));
    if !old.shared_with(&new).eq(new.shared_with(&old)) {
        tell("has another order".to_owned());
    }
    for name in old.shared_with(&new) {
        if let (Some(one), Some(other)) = (old.get(name), new.get(name)) {
            compare(&format!("{path}[{name}]"), one, other, found);
        }
    }
}

/// The entries of a list by their names: there may be thousands. Of several with one name the first counts.
struct Named<'v> {
    names: Vec<String>,
    entries: HashMap<String, &'v Value>,
}

impl<'v> Named<'v> {
    fn of(list: &'v [Value]) -> Self {
        let names: Vec<_> = list.iter().enumerate().map(|(at, entry)| entry_name(entry, at)).collect();
        // From the end, so that the first one of a name stays.
        let entries = names.iter().cloned().zip(list).rev().collect();
        Named { names, entries }
    }

    fn get(&self, name: &str) -> Option<&'v Value> {
        self.entries.get(name).copied()
    }

    /// The names that the other list does not have, in their order.
    fn without(&self, other: &Named<'_>) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str).filter(|name| other.get(name).is_none())
    }

    /// The names that both lists have.
    fn shared_with(&self, other: &Named<'_>) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str).filter(|name| other.get(name).is_some())
    }
}

fn is_named(list: &[Value]) -> bool {
    list.iter().all(Value::is_object)
}

/// What an entry of a list is called: its name, or what it is named after where it has none.
fn entry_name(entry: &Value, at: usize) -> String {
    let of = |key: &str| entry.get(key).filter(|value| value.is_string() || value.is_number());
    let named = of("name").or(of("address")).map(plain);
    let rule = || {
        let parts: Vec<_> = ["host", "path", "port"].iter().filter_map(|key| of(key)).map(plain).collect();
        (!parts.is_empty()).then(|| parts.join(""))
    };
    named.or_else(rule).unwrap_or_else(|| at.to_string())
}

fn place(entry: Option<&Value>) -> String {
    let address = entry
        .and_then(|entry| entry.get("address"))
        .filter(|_| entry.is_some_and(|entry| entry.get("name").is_some()));
    address.map_or(String::new(), |address| format!(" ({})", plain(address)))
}

fn plain(value: &Value) -> String {
    match value.as_str() {
        Some(text) if text.starts_with(MARK) => SECRET.to_owned(),
        Some(text) => text.to_owned(),
        // Lists and objects may have a secret in them.
        None if value.to_string().contains("\\u0000") => SECRET.to_owned(),
        None => value.to_string(),
    }
}

fn shown(path: &str, value: &Value) -> String {
    let key = path.rsplit('.').next().unwrap_or_default().to_ascii_lowercase();
    if SECRETS.iter().any(|secret| key.contains(secret)) && key != "cookies" {
        return SECRET.to_owned();
    }
    let text = plain(value);
    match text.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::random::Random;
    use crate::base::time;
    use std::time::Duration;

    fn check(before: &str, after: &str, expected: &[&str]) {
        let read = |text: &str| serde_json::from_str(text).unwrap();
        let changes = differences(&read(before), &read(after));
        let told: Vec<_> = changes.iter().map(|found| format!("{}: {}", found.path, found.change)).collect();
        assert_eq!(told, expected, "{before} -> {after}");
    }

    #[test]
    fn each_change_is_told_by_its_path() {
        check("{}", "{}", &[]);
        check(
            r#"{"timeouts": {"response": "30s"}}"#,
            r#"{"timeouts": {"response": "10s", "connect": "1s"}}"#,
            &["timeouts.connect: default -> 1s", "timeouts.response: 30s -> 10s"],
        );
        check(
            r#"{"pools": {"api": {"list": [{"name": "a", "address": "10.0.0.1:80"}]}, "old": {}}}"#,
            r#"{"pools": {"api": {"list": [{"name": "b", "address": "10.0.0.2:80"}]}, "new": {"list": []}}}"#,
            &[
                "pools.api.list: removed a (10.0.0.1:80)",
                "pools.api.list: added b (10.0.0.2:80)",
                "pools.new: added",
                "pools.old: removed",
            ],
        );
        check(
            r#"{"routes": [{"name": "x", "pool": "a"}, {"name": "y"}]}"#,
            r#"{"routes": [{"name": "y"}, {"name": "x", "pool": "b"}]}"#,
            &["routes: has another order", "routes[x].pool: a -> b"],
        );
        check(
            r#"{"admin": {"token": "one"}}"#,
            r#"{"admin": {"token": "two"}}"#,
            &["admin.token: (secret) -> (secret)"],
        );
        check(
            r#"{"load_balancer": {"listeners": [{"port": 1}]}, "servers": {"list": [{"address": "a:1"}]}}"#,
            r#"{"load_balancer": {"listeners": [{"port": 1}, {"port": 2}]}}"#,
            &["load_balancer.listeners: added 2", "servers.list: removed a:1"],
        );
    }

    /// With 10,000 routes a reload took 50 s.
    #[test]
    fn the_time_grows_with_the_length_of_a_list() {
        let list = |from: usize| -> Value {
            (from..from + 20_000).map(|at| serde_json::json!({ "name": format!("n{at}") })).collect()
        };
        let begun = time::now();
        let found =
            differences(&serde_json::json!({"routes": list(0)}), &serde_json::json!({"routes": list(1)}));
        let told: Vec<_> = found.iter().map(|found| found.change.as_str()).collect();
        assert_eq!(told, ["removed n0", "added n20000"]);
        assert!(time::now().since(begun) < Duration::from_secs(10), "the square of it takes minutes");
    }

    /// A random document.
    fn random(random: &mut Random, depth: usize) -> Value {
        match random.below(if depth == 0 { 3 } else { 5 }) {
            0 => Value::from(random.below(3)),
            1 => Value::from(["a", "b"][random.below(2)]),
            2 => Value::Bool(random.below(2) == 0),
            3 => (0..random.below(4))
                .map(|at| {
                    let entry = Map::from_iter([("name".to_owned(), Value::from(format!("n{at}")))]);
                    let mut entry = Value::Object(entry);
                    entry["value"] = self::random(random, depth - 1);
                    entry
                })
                .collect(),
            _ => Value::Object(
                (0..random.below(4)).map(|at| (format!("k{at}"), self::random(random, depth - 1))).collect(),
            ),
        }
    }

    #[test]
    fn there_is_a_difference_exactly_where_documents_differ() {
        let mut chance = Random::seeded(14);
        let (mut same, mut empty) = (0, Value::Object(Map::new()));
        for _ in 0..2000 {
            let (one, other) = (random(&mut chance, 3), random(&mut chance, 3));
            let wrap = |value: &Value| serde_json::json!({ "top": value });
            assert_eq!(differences(&wrap(&one), &wrap(&one)), []);
            let is_same = one == other;
            same += usize::from(is_same);
            assert_eq!(differences(&wrap(&one), &wrap(&other)).is_empty(), is_same, "{one} {other}");
            empty = one;
        }
        assert!(same > 0 && !empty.is_null());
    }
}
