//! The schema against the reader, key by key and value by value.

use super::super::tests::{file_with, keys_of_the_reader};
use super::super::{Config, Probe, parse};
use super::*;
use serde_json::{Value as Json, json};
use std::cell::RefCell;
use std::collections::{BTreeSet, HashMap};
use std::path::Path;

fn schema() -> Json {
    serde_json::from_str(SCHEMA).unwrap()
}

fn resolve<'s>(root: &'s Json, schema: &'s Json) -> &'s Json {
    match schema.get("$ref").and_then(Json::as_str) {
        Some(reference) => &root["$defs"][reference.strip_prefix("#/$defs/").unwrap()],
        None => schema,
    }
}

/// Every key with its description; an entry of a list is `[]`.
fn walk(root: &Json, schema: &Json, path: &str, found: &mut Vec<(String, Json)>) {
    let schema = resolve(root, schema);
    for (key, inner) in schema.get("properties").and_then(Json::as_object).into_iter().flatten() {
        let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        found.push((path.clone(), inner.clone()));
        walk(root, inner, &path, found);
        if let Some(items) = resolve(root, inner).get("items") {
            walk(root, items, &format!("{path}[]"), found);
        }
    }
}

fn keys() -> Vec<(String, Json)> {
    let (root, mut found) = (schema(), Vec::new());
    walk(&root, &root, "", &mut found);
    found
}

#[test]
fn the_schema_has_the_keys_of_the_reader() {
    let ours: BTreeSet<String> = keys().into_iter().map(|(key, _)| key).collect();
    let readers = keys_of_the_reader();
    let missing: Vec<_> = readers.difference(&ours).collect();
    let unknown: Vec<_> = ours.difference(&readers).collect();
    assert!(missing.is_empty(), "src/state/config/schema.json lacks {missing:#?}");
    assert!(
        unknown.is_empty(),
        "src/state/config/schema.json has what the reader does not know: {unknown:#?}"
    );
    for (key, schema) in keys() {
        let about = schema
            .get("description")
            .or(resolve(&self::schema(), &schema).get("description").cloned().as_ref())
            .cloned();
        assert!(about.is_some_and(|about| about != ""), "{key} has no description");
    }
}

#[test]
fn the_defaults_of_the_schema_are_those_of_the_reader() {
    let mut checked = 0;
    for (key, schema) in keys() {
        // There is no file of users to read.
        let Some(default) = schema.get("default").filter(|_| !key.contains("basic_auth.")) else {
            continue;
        };
        let read = |value| {
            let text = file_with(&key, value);
            let mut config =
                parse(&text, Path::new("")).unwrap_or_else(|faults| panic!("{key}: {}", faults[0]));
            config.warnings.clear();
            if let Probe::Http(http) = &mut config.servers.health_check.probe {
                http.is_strict = false;
            }
            config.servers.load_report.enabled =
                config.servers.load_report.enabled.filter(|_| !key.ends_with("load_report.path"));
            for route in &mut config.routes {
                route.guards.error_pages =
                    route.guards.error_pages.take().filter(|_| !key.starts_with("error_pages"));
            }
            config
        };
        assert_eq!(read(Some(default.clone())), read(None), "{key}: {default} is not the default");
        checked += 1;
    }
    assert!(checked > 90, "{checked}");
}

/// Whether an expression matches; each is compiled once.
fn is_match(pattern: &str, text: &str) -> bool {
    thread_local!(static COMPILED: RefCell<HashMap<String, regex::Regex>> = RefCell::default());
    COMPILED.with_borrow_mut(|compiled| {
        let one = compiled.entry(pattern.to_owned()).or_insert_with(|| regex::Regex::new(pattern).unwrap());
        one.is_match(text)
    })
}

/// Whether a schema takes a value; what of JSON Schema `schema.json` uses.
fn takes(root: &Json, schema: &Json, value: &Json) -> bool {
    let is_type = |name: &str| match name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "number" => value.is_number(),
        "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("{other} is no type"),
    };
    let keyword = |(keyword, rule): (&String, &Json)| match keyword.as_str() {
        "$ref" => takes(root, resolve(root, schema), value),
        "type" => match rule {
            Json::String(name) => is_type(name),
            names => names.as_array().unwrap().iter().any(|name| is_type(name.as_str().unwrap())),
        },
        "anyOf" => rule.as_array().unwrap().iter().any(|one| takes(root, one, value)),
        "enum" => rule.as_array().unwrap().contains(value),
        "const" => rule == value,
        "minimum" => value.as_f64().is_none_or(|number| number >= rule.as_f64().unwrap()),
        "maximum" => value.as_f64().is_none_or(|number| number <= rule.as_f64().unwrap()),
        "minLength" => {
            value.as_str().is_none_or(|text| text.chars().count() as u64 >= rule.as_u64().unwrap())
        }
        "minItems" => value.as_array().is_none_or(|list| list.len() as u64 >= rule.as_u64().unwrap()),
        "minProperties" => value.as_object().is_none_or(|map| map.len() as u64 >= rule.as_u64().unwrap()),
        "pattern" => value.as_str().is_none_or(|text| is_match(rule.as_str().unwrap(), text)),
        "items" => value.as_array().is_none_or(|list| list.iter().all(|one| takes(root, rule, one))),
        "required" => {
            let has = |map: &serde_json::Map<String, Json>| {
                rule.as_array().unwrap().iter().all(|key| map.contains_key(key.as_str().unwrap()))
            };
            value.as_object().is_none_or(has)
        }
        "properties" => value.as_object().is_none_or(|map| {
            map.iter().all(|(key, value)| rule.get(key).is_none_or(|rule| takes(root, rule, value)))
        }),
        "additionalProperties" => value.as_object().is_none_or(|map| {
            let is_own = |key: &String| schema.get("properties").is_some_and(|own| own.get(key).is_some());
            map.iter()
                .filter(|(key, _)| !is_own(key))
                .all(|(_, value)| *rule != false && takes(root, rule, value))
        }),
        "$schema" | "title" | "description" | "default" | "examples" | "writeOnly" | "$defs" => true,
        other => panic!("{other} is not looked at here"),
    };
    match schema {
        Json::Bool(all) => *all,
        _ => schema.as_object().unwrap().iter().all(keyword),
    }
}

/// Values of all kinds that keys have.
fn samples() -> Vec<Json> {
    let texts = [
        "",
        "a",
        "true",
        "80",
        "65536",
        "1m 30s",
        "1.5s",
        "0",
        "16KiB",
        "1 mb",
        "16K",
        "/a/*",
        "a:1",
        "[::1]:80",
        "unix:/a",
        "::1",
        "10.0.0.0/8",
        "200-399, 404",
        "GET",
        "header:X-A",
        "1.2",
        "strict",
        "info",
        "gzip",
        "text/*",
        "https://{host}{uri}",
        "http/1.1",
        "${KIND:-5}",
        "$${",
    ];
    let mut all: Vec<Json> = texts.iter().map(|text| json!(text)).collect();
    all.extend(["a", "::1", "GET", "gzip", "text/*", "/a"].map(|text| json!([text])));
    all.extend([0_u64, 1, 99, 100, 301, 600, 65536, 10_000_001].map(|number| json!(number)));
    all.extend([
        json!(null),
        json!(true),
        json!(false),
        json!(-1),
        json!(1.5),
        json!(3.0),
        json!([]),
        json!({}),
    ]);
    all.extend([json!([{}]), json!({ "default": 1 }), json!({ "X-A": "b" }), json!([{ "address": "a:1" }])]);
    all
}

#[test]
fn the_schema_takes_what_the_reader_takes() {
    let root = schema();
    let (mut both, mut neither, mut wrong) = (0, 0, Vec::new());
    let (keys, samples) = (keys(), samples());
    // The guards of a route are those of the top level.
    let is_twice = |key: &str| {
        key.strip_prefix("routes[].")
            .is_some_and(|rest| rest != "limits.body" && keys.iter().any(|(top, _)| top == rest))
    };
    for (key, _) in keys.iter().filter(|(key, _)| !is_twice(key)) {
        for value in samples.clone() {
            let text = file_with(key, Some(value));
            let file: Json = serde_json::from_str(&text).unwrap();
            match (parse(&text, Path::new("/nonexistent")), takes(&root, &root, &file)) {
                (Ok(_), false) => wrong.push(text),
                (Ok(_), true) => both += 1,
                (Err(_), taken) => neither += usize::from(!taken),
            }
        }
    }
    assert!(wrong.is_empty(), "the reader takes these, the schema does not: {wrong:#?}");
    assert!(both > 500 && neither > 3000, "{both} taken, {neither} rejected");
}

/// Each bound and each word of the schema is one of the reader.
#[test]
fn the_bounds_and_words_of_the_schema_are_those_of_the_reader() {
    let is_taken = |key: &str, value: Json| parse(&file_with(key, Some(value)), Path::new("")).is_ok();
    let faults = |key: &str, value: Json| {
        let faults = parse(&file_with(key, Some(value)), Path::new("")).err().unwrap_or_default();
        faults.iter().map(|fault| fault.advice.clone()).collect::<Vec<_>>().join("\n")
    };
    let mut checked = 0;
    for (key, schema) in keys() {
        let alternatives =
            schema.get("anyOf").and_then(Json::as_array).cloned().unwrap_or_else(|| vec![schema]);
        for one in alternatives {
            if let Some(maximum) = one.get("maximum").and_then(Json::as_u64) {
                assert!(!is_taken(&key, json!(maximum + 1)), "{key}: {} is taken", maximum + 1);
                let said = faults(&key, json!(maximum));
                assert!(!said.contains(&format!("{maximum} is too large")), "{key}: {said}");
                checked += 1;
            }
            if let Some(minimum) = one.get("minimum").and_then(Json::as_u64) {
                let below = minimum as i64 - 1;
                assert!(
                    !is_taken(&key, json!(below)) || key.ends_with("redirect_to_https"),
                    "{key}: {below} is taken"
                );
                let said = faults(&key, json!(minimum));
                assert!(!said.contains(&format!("{minimum} is too small")), "{key}: {said}");
            }
            // This kind of probe needs a command, too.
            let is_alone = |word: &&Json| key != "servers.health_check.type" || **word != "exec";
            for word in one.get("enum").and_then(Json::as_array).into_iter().flatten().filter(is_alone) {
                assert!(
                    is_taken(&key, word.clone()),
                    "{key}: {word} is not taken: {}",
                    faults(&key, word.clone())
                );
                checked += 1;
            }
        }
    }
    assert!(checked > 60, "{checked}");
}

#[test]
fn keys_of_secrets_are_marked() {
    let secret: Vec<String> = keys()
        .into_iter()
        .filter(|(_, schema)| schema.get("writeOnly") == Some(&json!(true)))
        .map(|(key, _)| key)
        .collect();
    assert!(secret.contains(&"admin.token".to_owned()), "{secret:?}");
    for (key, _) in keys().iter().filter(|(key, _)| key.ends_with("token") || key.ends_with("password")) {
        assert!(secret.contains(key), "{key} is not marked with writeOnly");
    }
}

#[test]
fn the_tree_finds_what_is_referred_to() {
    let schema = Schema::new();
    let keys: Vec<&str> = schema.properties(schema.root()).iter().map(|entry| entry.key.as_str()).collect();
    assert_eq!(keys[..4], ["$schema", "include", "watch", "load_balancer"]);
    let servers = &schema.properties(schema.root()).iter().find(|entry| entry.key == "servers").unwrap().node;
    assert!(schema.properties(servers).iter().any(|entry| entry.key == "health_check"));
    assert_eq!(Config::default(), parse("{}", Path::new("")).unwrap());
}
