//! The reference of the configuration and the schema say the same, key by key.

use super::{blocks, root};
use evenkeel::state::config;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;

/// Every key of the schema has an entry in the reference, and an example there: `"key": value` in the entry itself, or a
/// configuration that has the key.
#[test]
fn every_key_of_the_schema_has_an_entry_and_an_example() {
    let schema: Value = serde_json::from_str(config::SCHEMA).unwrap();
    let mut keys = BTreeSet::new();
    keys_of(&schema, &schema, "", &mut keys);
    let text = fs::read_to_string(root().join("docs/configuration.md")).unwrap();
    let mut shown = BTreeSet::new();
    for block in blocks(&text, "json") {
        shown_keys(&serde_json::from_str(&block).unwrap(), "", &mut shown);
    }
    let entries = entries(&text);
    for key in keys {
        let entry = entries.iter().find(|entry| entry.starts_with(&format!("- **`{key}`** (")));
        let entry = entry.unwrap_or_else(|| panic!("docs/configuration.md has no entry for {key}"));
        let start = format!("\"{}\": ", key.rsplit('.').next().unwrap());
        let inline = entry.split('`').skip(1).step_by(2).filter(|code| code.starts_with(&start));
        let mut examples = inline.map(|code| serde_json::from_str::<Value>(&format!("{{ {code} }}")));
        let has_one = examples.next().is_some_and(|example| example.is_ok());
        assert!(has_one || shown.contains(&key), "docs/configuration.md has no example of {key}");
    }
}

/// With this variable set, the test below writes the words of the document into the schema.
const UPDATE: &str = "EVENKEEL_UPDATE_SCHEMA";

/// The schema has no words of its own: editors show those of the document.
#[test]
fn the_descriptions_of_the_schema_are_the_words_of_the_document() {
    let (schema, words) = (serde_json::from_str(config::SCHEMA).unwrap(), words_of_the_document());
    let mut places = BTreeMap::new();
    described(&schema, &schema, "", "", &mut places);
    let mut differ = Vec::new();
    for (keys, is) in places.values() {
        // What a route has as well may have two entries; the longer one tells more.
        let said = keys.iter().filter_map(|key| words.get(key)).max_by_key(|said| said.len());
        differ.extend(said.filter(|said| *said != is).map(|said| (&keys[0], is, said)));
    }
    let as_json = |text: &str| format!("\"description\": {}", serde_json::to_string(text).unwrap());
    if std::env::var_os(UPDATE).is_some() {
        let mut text = config::SCHEMA.to_owned();
        for (key, is, said) in differ {
            assert_eq!(text.matches(&as_json(is)).count(), 1, "{key}: change {is:?} by hand");
            text = text.replace(&as_json(is), &as_json(said));
        }
        return fs::write(root().join("src/state/config/schema.json"), text).unwrap();
    }
    assert!(differ.is_empty(), "run this test with {UPDATE}=1: {differ:#?}");
    assert!(places.len() > 200, "{}", places.len());
}

/// Where each description of the schema stands, with the keys that it is for (an entry of a list is `[]`).
fn described(
    schema: &Value,
    part: &Value,
    path: &str,
    place: &str,
    places: &mut BTreeMap<String, (Vec<String>, String)>,
) {
    let (part, place) = match part["$ref"].as_str() {
        Some(name) => (schema.pointer(name.trim_start_matches('#')).expect(name), name),
        None => (part, place),
    };
    for (key, inner) in part["properties"].as_object().into_iter().flatten() {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        let place = format!("{place}/{key}");
        let referred = inner["$ref"].as_str().map(|name| (name, schema.pointer(&name[1..]).expect(name)));
        let own = inner["description"].as_str().map(|text| (place.as_str(), text));
        let text =
            own.or_else(|| referred.and_then(|(name, there)| Some((name, there["description"].as_str()?))));
        let (at, text) = text.unwrap_or_else(|| panic!("{path} has no description"));
        let entry = places.entry(at.to_owned()).or_insert_with(|| (Vec::new(), text.to_owned()));
        entry.0.push(path.clone());
        described(schema, inner, &path, &place, places);
        let items = referred.map_or(inner, |(_, there)| there).get("items");
        if let Some(items) = items {
            described(schema, items, &format!("{path}[]"), &format!("{place}[]"), places);
        }
    }
}

/// The entries of a document's lists of keys, each in one line: `` - **`key`** (type; default; bounds): text ``.
fn entries(document: &str) -> Vec<String> {
    let mut entries: Vec<String> = Vec::new();
    let mut is_open = false;
    for line in document.lines() {
        match (line.starts_with("- **`"), line.strip_prefix("  ")) {
            (true, _) => entries.push(line.to_owned()),
            (false, Some(rest)) if is_open => *entries.last_mut().unwrap() += &format!(" {rest}"),
            _ => {
                is_open = false;
                continue;
            }
        }
        is_open = true;
    }
    entries
}

/// What the document says of each key: the text of its entry, or the first paragraph under its heading. A link is its text.
fn words_of_the_document() -> BTreeMap<String, String> {
    let document = fs::read_to_string(root().join("docs/configuration.md")).unwrap();
    let mut words = BTreeMap::new();
    for entry in entries(&document) {
        let (key, text) = (entry.split('`').nth(1).unwrap(), entry.split_once("): ").unwrap().1);
        let before = words.insert(key.to_owned(), without_links(text));
        assert!(before.is_none(), "docs/configuration.md has two entries for {key}");
    }
    for section in document.split("\n## `").skip(1) {
        let (key, rest) = section.split_once("`\n").unwrap();
        let paragraph = rest.trim_start().split("\n\n").next().unwrap().replace('\n', " ");
        words.entry(key.to_owned()).or_insert_with(|| without_links(&paragraph));
    }
    words
}

/// `[text](address)` as `text`.
fn without_links(text: &str) -> String {
    let mut parts = text.split("](");
    let mut out = parts.next().unwrap().to_owned();
    for part in parts {
        let (_, rest) = part.split_once(')').unwrap();
        let start = out.rfind('[').unwrap();
        out.remove(start);
        out.push_str(rest);
    }
    out
}

/// The keys of values below this part of a schema, as the reference writes them. A pool has those of `servers`, and a
/// route the guards of the top level; both are described once.
fn keys_of(schema: &Value, part: &Value, path: &str, keys: &mut BTreeSet<String>) {
    if let Some(name) = part["$ref"].as_str() {
        return keys_of(schema, schema.pointer(name.trim_start_matches('#')).expect(name), path, keys);
    }
    for choice in ["anyOf", "oneOf", "allOf"].iter().flat_map(|key| part[key].as_array()).flatten() {
        keys_of(schema, choice, path, keys);
    }
    if part["items"].is_object() {
        keys_of(schema, &part["items"], &format!("{path}[]"), keys);
    }
    for (key, part) in part["properties"].as_object().into_iter().flatten() {
        let is_described_above =
            path == "routes[]" && schema["properties"].get(key).is_some_and(Value::is_object);
        if path.is_empty() && key == "pools"
            || is_described_above && !["timeouts", "retries", "limits"].contains(&&**key)
        {
            continue;
        }
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        let before = keys.len();
        keys_of(schema, part, &path, keys);
        // Objects have headings; what they hold has rows.
        if keys.len() == before {
            keys.insert(path);
        }
    }
}

/// The keys that a configuration has, in the same notation.
fn shown_keys(value: &Value, path: &str, keys: &mut BTreeSet<String>) {
    for (key, value) in value.as_object().into_iter().flatten() {
        let path = match (path, &**key) {
            ("", _) => key.clone(),
            ("pools", _) => "servers".to_owned(),
            _ => format!("{path}.{key}"),
        };
        shown_keys(value, &path, keys);
        keys.insert(path);
    }
    value.as_array().into_iter().flatten().for_each(|item| shown_keys(item, &format!("{path}[]"), keys));
}
