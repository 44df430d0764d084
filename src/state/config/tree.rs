//! The JSON text as a tree in which every value and every key has its position.
//!
//! serde_json checks the syntax and limits the depth (127 levels). It does not report positions, so a scanner that only
//! knows where tokens begin runs alongside: both read the text from left to right, and each value or key that
//! serde_json begins is the scanner's next token. The scanner does not need to check anything.

use super::fault::Fault;
use super::source::Source;
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use std::fmt;

/// A value and the offset of its first byte.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) at: usize,
    pub(super) value: Value,
}

#[derive(Debug)]
pub(super) enum Value {
    Null,
    Flag(bool),
    /// A non-negative integer that fits; all other numbers are `Number`.
    Whole(u64),
    Number(f64),
    Text(String),
    List(Vec<Node>),
    /// In the order of the file, including duplicate keys.
    Object(Vec<Entry>),
}

/// A key with its position and value.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) at: usize,
    pub(super) key: String,
    pub(super) node: Node,
}

/// The tree of a text, or its one syntax fault.
pub(super) fn parse(source: &Source<'_>) -> Result<Node, Vec<Fault>> {
    let mut starts = Starts { text: source.text().as_bytes(), at: 0 };
    let mut json = serde_json::Deserializer::from_str(source.text());
    let node = Seed(&mut starts).deserialize(&mut json);
    let node = node.and_then(|node| json.end().map(|()| node));
    node.map_err(|error| vec![syntax(source, &error)])
}

impl Node {
    /// An empty object.
    pub(super) fn empty() -> Self {
        Node { at: 0, value: Value::Object(Vec::new()) }
    }

    /// The position of the value of a key, such as `log.access` or `servers.list[2].address`.
    pub(super) fn place(&self, key: &str) -> Option<usize> {
        let (first, rest) = key.split_once('.').map_or((key, None), |(first, rest)| (first, Some(rest)));
        let (name, index) = first.split_once('[').map_or((first, None), |(name, index)| (name, Some(index)));
        let Value::Object(entries) = &self.value else { return None };
        let mut node = &entries.iter().find(|entry| entry.key == name)?.node;
        if let Some(index) = index {
            let Value::List(nodes) = &node.value else { return None };
            node = nodes.get(index.strip_suffix(']')?.parse::<usize>().ok()?)?;
        }
        rest.map_or(Some(node.at), |rest| node.place(rest))
    }
}

impl fmt::Display for Node {
    /// Short, for use in a sentence.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.value {
            Value::Null => out.write_str("null"),
            Value::Flag(flag) => write!(out, "{flag}"),
            Value::Whole(number) => write!(out, "{number}"),
            Value::Number(number) => write!(out, "{number:?}"),
            Value::Text(text) if text.chars().nth(60).is_none() => write!(out, "{text:?}"),
            Value::Text(text) => write!(out, "{:?}...", text.chars().take(40).collect::<String>()),
            Value::List(_) => out.write_str("a list"),
            Value::Object(_) => out.write_str("an object"),
        }
    }
}

/// The positions at which values and keys of a text begin, from left to right.
struct Starts<'t> {
    text: &'t [u8],
    at: usize,
}

impl Starts<'_> {
    fn next(&mut self) -> usize {
        self.skip(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | b',' | b':' | b']' | b'}'));
        let start = self.at;
        match self.text.get(start) {
            Some(b'"') => self.skip_text(),
            Some(b'{' | b'[') => self.at += 1,
            _ => self.skip(|byte| !matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | b',' | b']' | b'}')),
        }
        start
    }

    fn skip(&mut self, is_skipped: impl Fn(u8) -> bool) {
        while self.text.get(self.at).is_some_and(|byte| is_skipped(*byte)) {
            self.at += 1;
        }
    }

    fn skip_text(&mut self) {
        self.at += 1;
        while let Some(byte) = self.text.get(self.at) {
            self.at += if *byte == b'\\' { 2 } else { 1 };
            if *byte == b'"' {
                return;
            }
        }
    }
}

/// Makes a node of the next value.
struct Seed<'s, 't>(&'s mut Starts<'t>);

impl<'de> DeserializeSeed<'de> for Seed<'_, '_> {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Node, D::Error> {
        let at = self.0.next();
        let value = json.deserialize_any(Visit(self.0))?;
        Ok(Node { at, value })
    }
}

/// Makes a key of the next text.
struct KeySeed<'s, 't>(&'s mut Starts<'t>);

impl<'de> DeserializeSeed<'de> for KeySeed<'_, '_> {
    type Value = (usize, String);

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(usize, String), D::Error> {
        let at = self.0.next();
        Ok((at, String::deserialize(json)?))
    }
}

struct Visit<'s, 't>(&'s mut Starts<'t>);

impl<'de> Visitor<'de> for Visit<'_, '_> {
    type Value = Value;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Value, E> {
        Ok(Value::Flag(flag))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(Value::Whole(number))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(u64::try_from(number).map_or(Value::Number(number as f64), Value::Whole))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        Ok(Value::Number(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut nodes = Vec::new();
        while let Some(node) = list.next_element_seed(Seed(self.0))? {
            nodes.push(node);
        }
        Ok(Value::List(nodes))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut entries = Vec::new();
        while let Some((at, key)) = map.next_key_seed(KeySeed(self.0))? {
            let node = map.next_value_seed(Seed(self.0))?;
            entries.push(Entry { at, key, node });
        }
        Ok(Value::Object(entries))
    }
}

/// The fault of a text that is not JSON.
fn syntax(source: &Source<'_>, error: &serde_json::Error) -> Fault {
    let said = error.to_string();
    let said = said.rsplit_once(" at line ").map_or(said.as_str(), |(said, _)| said);
    let at = source.offset(error.line(), error.column());
    let found = source.text().get(at..).unwrap_or("").trim_start();
    let advice = if source.text().trim().is_empty() {
        "the file is empty; write at least {}".to_owned()
    } else if said.starts_with("recursion limit") {
        "this is nested more than 127 levels deep; no key needs more than 4".to_owned()
    } else {
        format!("not JSON: {said}{}", remedy(error, said, found))
    };
    source.fault(String::new(), advice, Some(at))
}

/// What to write instead, if known.
fn remedy(error: &serde_json::Error, said: &str, found: &str) -> &'static str {
    match found.bytes().next() {
        _ if error.is_eof() => "; the text ends too early: close every quote, bracket and brace",
        _ if said.starts_with("trailing comma") => "; take away the comma after the last entry",
        Some(b'/' | b'#') => "; JSON has no comments",
        Some(b'\'') => "; write text in double quotes",
        Some(b'"') if said.contains("`,`") => "; write a comma between two entries",
        _ if said.starts_with("key must be") => "; write keys in double quotes",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every value and key of the tree has the position that the text has.
    fn check_places(text: &str) {
        let source = Source::new(None, text);
        check_node(text, &parse(&source).unwrap());
    }

    fn check_node(text: &str, node: &Node) {
        let here = &text[node.at..];
        match &node.value {
            Value::Null => assert!(here.starts_with("null")),
            Value::Flag(flag) => assert!(here.starts_with(&flag.to_string())),
            Value::Whole(number) => assert!(here.starts_with(&number.to_string())),
            Value::Number(_) => assert!(here.starts_with(|c: char| c == '-' || c.is_ascii_digit())),
            Value::Text(_) => assert!(here.starts_with('"')),
            Value::List(nodes) => {
                assert!(here.starts_with('['));
                nodes.iter().for_each(|node| check_node(text, node));
            }
            Value::Object(entries) => {
                assert!(here.starts_with('{'));
                for entry in entries {
                    let key =
                        serde_json::Deserializer::from_str(&text[entry.at..]).into_iter::<String>().next();
                    assert_eq!(key.unwrap().unwrap(), entry.key);
                    check_node(text, &entry.node);
                }
            }
        }
    }

    #[test]
    fn places_are_right() {
        for text in [
            "null",
            " [1,2.5 ,-3,[ ],{},[[true]],false]",
            r#"{"a":1,"b\"]}":{"c":[{"d":"x,:{"}, "\\"]}, "\\":null,"é":"\u00e9" ,"a":2}"#,
            "{\r\n\t\"a\" : 18446744073709551616,\n\"b\":\"\"}",
        ] {
            check_places(text);
        }
    }

    fn check_syntax(text: &str, line: usize, column: usize, advice: &str) {
        let faults = parse(&Source::new(None, text)).unwrap_err();
        assert_eq!(faults.len(), 1);
        assert!(faults[0].advice.contains(advice), "{text:?}: {}", faults[0]);
        assert_eq!((faults[0].line, faults[0].column), (Some(line), Some(column)), "{text:?}: {}", faults[0]);
    }

    #[test]
    fn a_fault_of_syntax_has_a_place_and_a_remedy() {
        check_syntax("", 1, 1, "empty");
        check_syntax(" \n", 2, 1, "empty");
        check_syntax("{\n  \"a\": 1,\n}", 3, 1, "take away the comma");
        check_syntax("{\"a\": 1\n \"b\": 2}", 2, 2, "a comma between");
        check_syntax("{\n  // port\n}", 2, 3, "no comments");
        check_syntax("{'a': 1}", 1, 2, "double quotes");
        check_syntax("{a: 1}", 1, 2, "double quotes");
        check_syntax("{\"a\": [1", 1, 8, "ends too early");
        check_syntax("{} x", 1, 4, "trailing characters");
        check_syntax("{\"ü\": tru}", 1, 10, "not JSON");
        check_syntax(&"[".repeat(200_000), 1, 128, "127 levels");
    }
}
