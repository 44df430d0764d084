//! A file of requests: one a line, as words or as a JSON object, or all of it one JSON array.

use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// The most requests in a file: counts are kept for each.
const ENTRIES_MAX: usize = 10_000;
/// The largest weight.
const WEIGHT_MAX: u32 = 1_000_000;

/// One request of several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Absolute, or a path that begins with `/`, at the scheme, host and port of [`super::Options::url`].
    pub url: String,
    /// The method.
    pub method: String,
    /// How often it is sent, in proportion to the others; at least 1.
    pub weight: u32,
    /// Further headers, besides those of all requests.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Default for Entry {
    fn default() -> Self {
        Entry { url: "/".into(), method: "GET".into(), weight: 1, headers: Vec::new(), body: Vec::new() }
    }
}

/// As in JSON. A body that is not a string is sent as JSON, with its Content-Type.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    url: String,
    method: Option<String>,
    weight: Option<u32>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    body: Option<Value>,
}

/// Reads the text of a file. Fails with a sentence that names the line.
pub fn read(text: &str) -> Result<Vec<Entry>, String> {
    let entries = match text.trim_start().starts_with('[') {
        true => {
            let written: Vec<Written> = serde_json::from_str(text).map_err(|error| error.to_string())?;
            written.into_iter().map(entry).collect::<Result<_, _>>()?
        }
        false => lines(text)?,
    };
    match entries.len() {
        0 => Err("there is no request in it; write a URL in each line, such as: GET /requests".to_string()),
        1..=ENTRIES_MAX => Ok(entries),
        more => Err(format!("{more} requests are too many; at most {ENTRIES_MAX} are told apart")),
    }
}

fn lines(text: &str) -> Result<Vec<Entry>, String> {
    let mut entries = Vec::new();
    for (number, line) in text.lines().map(str::trim).enumerate() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let read = match line.starts_with('{') {
            true => serde_json::from_str(line).map_err(|error| error.to_string()).and_then(entry),
            false => words(line),
        };
        entries.push(read.map_err(|wrong| format!("line {}: {wrong}", number + 1))?);
    }
    Ok(entries)
}

/// `[METHOD] URL [weight=N]`.
fn words(line: &str) -> Result<Entry, String> {
    let mut entry = Entry::default();
    let mut rest: Vec<&str> = line.split_whitespace().collect();
    if let Some(weight) = rest.last().and_then(|word| word.strip_prefix("weight=")) {
        entry.weight = weight.parse().map_err(|_| format!("weight={weight} is not a whole number"))?;
        rest.pop();
    }
    match rest[..] {
        [url] => entry.url = url.to_string(),
        [method, url] => (entry.method, entry.url) = (method.to_string(), url.to_string()),
        _ => return Err("write METHOD URL weight=N, or a JSON object".to_string()),
    }
    weighed(entry)
}

fn entry(written: Written) -> Result<Entry, String> {
    let mut headers: Vec<_> = written.headers.into_iter().collect();
    let body = match written.body {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::String(text)) => text.into_bytes(),
        Some(json) => {
            if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type")) {
                headers.push(("Content-Type".to_string(), "application/json".to_string()));
            }
            json.to_string().into_bytes()
        }
    };
    let method = written.method.unwrap_or_else(|| if body.is_empty() { "GET" } else { "POST" }.to_string());
    weighed(Entry { url: written.url, method, weight: written.weight.unwrap_or(1), headers, body })
}

fn weighed(entry: Entry) -> Result<Entry, String> {
    match entry.weight {
        1..=WEIGHT_MAX => Ok(entry),
        other => Err(format!("a weight is a whole number from 1 to {WEIGHT_MAX}, not {other}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_words_or_an_object() {
        let check = |text: &str, wanted: Entry| assert_eq!(read(text), Ok(vec![wanted]), "{text}");
        let with = |method: &str, url: &str, weight: u32| Entry {
            method: method.into(),
            url: url.into(),
            weight,
            ..Entry::default()
        };
        check("/a", with("GET", "/a", 1));
        check("# all of it\n\n  POST http://h:1/a?b  weight=7\n", with("POST", "http://h:1/a?b", 7));
        check(r#"{"url": "/a"}"#, with("GET", "/a", 1));
        check(
            r#"{"url": "/a", "body": "x", "headers": {"A": "b"}, "weight": 2}"#,
            Entry { body: b"x".to_vec(), headers: vec![("A".into(), "b".into())], ..with("POST", "/a", 2) },
        );
        check(
            r#"[{"url": "/a", "method": "PATCH", "body": {"n": 1}}]"#,
            Entry {
                body: br#"{"n":1}"#.to_vec(),
                headers: vec![("Content-Type".into(), "application/json".into())],
                ..with("PATCH", "/a", 1)
            },
        );
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        let check = |text: &str, word: &str| {
            let told = read(text).unwrap_err();
            assert!(told.contains(word), "{told}");
        };
        check("", "no request");
        check("/a\nGET /b c d", "line 2: write METHOD URL");
        check("/a weight=0", "line 1: a weight");
        check("/a weight=x", "not a whole number");
        check("\n{\"url\": 1}", "line 2: ");
        check("{\"uri\": \"/\"}", "unknown field");
        check("[{\"url\": \"/\"}, 3]", "line 1");
        check(&"/a\n".repeat(ENTRIES_MAX + 1), "too many");
    }
}
