//! The JSON text as a tree in which every value and every key has its position.
//!
//! jsonc-parser checks the syntax: JSON, with comments (`//` and `/* */`) and with commas after last entries.

use super::source::Source;
use jsonc_parser::ast::{self, ObjectPropName};
use jsonc_parser::common::Ranged;
use jsonc_parser::errors::{ParseError, ParseErrorKind};
use jsonc_parser::{CollectOptions, ParseOptions, ParseStringErrorKind, parse_to_ast};
use std::fmt;

/// JSON with comments and trailing commas. What JSON5 has beside them would only be a second way to write the same.
const SYNTAX: ParseOptions = ParseOptions {
    allow_comments: true,
    allow_trailing_commas: true,
    allow_loose_object_property_names: false,
    allow_missing_commas: false,
    allow_single_quoted_strings: false,
    allow_hexadecimal_numbers: false,
    allow_unary_plus_numbers: false,
    allow_bare_decimal_point_numbers: false,
    allow_non_finite_numbers: false,
    allow_extended_string_escapes: false,
};

/// What is wrong with a text without its second quote.
const NOT_CLOSED: &str =
    "not JSON: this text is not closed; write \" at its end, and \\n for a new line in it";

/// The most lists and objects inside of one another: three times what any key needs (10). Reading recurses, and a text of 60,000
/// levels, which a body of the admin API may have, overflowed a stack.
const LEVELS_MAX: usize = 32;

/// A value and its position.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) at: usize,
    pub(super) value: Value,
    /// What its text was made of, where it had variables.
    pub(super) variables: Option<Vec<Variable>>,
    /// Its text as the file has it, where that has variables.
    pub(super) written: Option<String>,
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
    /// A text with a variable that has no value, which has been reported.
    Unknown,
}

/// Something that stood for a part of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Variable {
    /// An environment variable.
    Environment(String),
    /// An environment variable without a value, whose default was taken.
    Default(String),
    /// The contents of a file.
    File(String),
}

impl Node {
    /// The same without positions; `text` says how a text is told.
    pub(super) fn to_json(&self, text: &impl Fn(&Node, &str) -> String) -> serde_json::Value {
        use serde_json::Value as Json;
        match &self.value {
            Value::Null | Value::Unknown => Json::Null,
            Value::Flag(flag) => Json::from(*flag),
            Value::Whole(number) => Json::from(*number),
            Value::Number(number) => Json::from(*number),
            Value::Text(value) => Json::from(text(self, value)),
            Value::List(list) => list.iter().map(|node| node.to_json(text)).collect(),
            Value::Object(entries) => {
                let entry = |entry: &Entry| (entry.key.clone(), entry.node.to_json(text));
                Json::Object(entries.iter().map(entry).collect())
            }
        }
    }
}

/// A key with its position and value.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) at: usize,
    pub(super) key: String,
    pub(super) node: Node,
}

/// Why a text is no tree.
#[derive(Debug)]
pub(super) struct SyntaxFault {
    pub(super) at: usize,
    pub(super) advice: String,
}

/// The tree of the text that begins at a position, or its one syntax fault.
pub(super) fn parse(source: &Source, start: usize) -> Result<Node, SyntaxFault> {
    let text = source.text(start);
    let fault = |at: usize, advice: String| SyntaxFault { at: start + at, advice };
    if let Some((at, advice)) = broken(text) {
        return Err(fault(at, advice));
    }
    let parsed = parse_to_ast(text, &CollectOptions::default(), &SYNTAX);
    let parsed = parsed.map_err(|error| {
        let (at, advice) = syntax(text, &error);
        fault(at, advice)
    })?;
    let Some(value) = parsed.value else {
        let is_blank = text.trim().is_empty();
        let what = if is_blank { "the text is empty" } else { "the text has nothing but comments" };
        return Err(fault(text.len(), format!("{what}; write at least {{}}")));
    };
    node(value, start).map_err(|(at, advice)| fault(at, advice))
}

impl Node {
    /// A value that stands there as it is.
    pub(super) fn new(at: usize, value: Value) -> Self {
        Node { at, value, variables: None, written: None }
    }

    /// An empty object.
    pub(super) fn empty() -> Self {
        Node::new(0, Value::Object(Vec::new()))
    }

    /// What a text stands for when all of it came from variables and it is a number, `true`, `false` or `null`: quotes are
    /// needed around a variable, so they do not make a text of it.
    pub(super) fn unquoted(&self) -> Option<Value> {
        let Value::Text(text) = &self.value else { return None };
        self.variables.as_ref()?;
        Some(match text.trim() {
            "true" => Value::Flag(true),
            "false" => Value::Flag(false),
            "null" => Value::Null,
            number => self::number(number)
                .filter(|_| number.starts_with(|c: char| c.is_ascii_digit() || c == '-'))?,
        })
    }

    /// Whether it is null, or a variable that is.
    pub(super) fn is_null(&self) -> bool {
        matches!(self.value, Value::Null) || matches!(self.unquoted(), Some(Value::Null))
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
            Value::Number(number) if number.fract() == 0.0 && number.abs() < 1e15 => {
                write!(out, "{number:.0}")
            }
            Value::Number(number) => write!(out, "{number:?}"),
            Value::Text(text) if text.chars().nth(60).is_none() => write!(out, "{text:?}"),
            Value::Text(text) => write!(out, "{:?}...", text.chars().take(40).collect::<String>()),
            Value::List(_) => out.write_str("a list"),
            Value::Object(_) => out.write_str("an object"),
            Value::Unknown => out.write_str("a variable without a value"),
        }
    }
}

/// The node of a parsed value; the error is a fault and its offset.
fn node(value: ast::Value<'_>, start: usize) -> Result<Node, (usize, String)> {
    let at = value.start();
    let value = match value {
        ast::Value::NullKeyword(_) => Value::Null,
        ast::Value::BooleanLit(flag) => Value::Flag(flag.value),
        ast::Value::NumberLit(literal) => {
            number(literal.value).ok_or_else(|| (at, "not JSON: this number is too large".to_owned()))?
        }
        ast::Value::StringLit(text) => Value::Text(text.value.into_owned()),
        ast::Value::Array(list) => {
            Value::List(list.elements.into_iter().map(|value| node(value, start)).collect::<Result<_, _>>()?)
        }
        ast::Value::Object(object) => Value::Object(
            object.properties.into_iter().map(|one| entry(one, start)).collect::<Result<_, _>>()?,
        ),
    };
    Ok(Node::new(start + at, value))
}

fn entry(property: ast::ObjectProp<'_>, start: usize) -> Result<Entry, (usize, String)> {
    let at = start + property.name.start();
    let key = match property.name {
        ObjectPropName::String(text) => text.value.into_owned(),
        ObjectPropName::Word(word) => word.value.to_owned(),
    };
    Ok(Entry { at, key, node: node(property.value, start)? })
}

fn number(text: &str) -> Option<Value> {
    let whole = text.parse().ok().map(Value::Whole);
    whole.or_else(|| text.parse().ok().filter(|number: &f64| number.is_finite()).map(Value::Number))
}

/// What is looked for before jsonc-parser reads the text, with its offset: a text that goes over the end of its line or has a
/// control character, which jsonc-parser takes, because all that follows a missing quote is read wrongly; and deep nesting,
/// because each level takes stack, of which the threads of the admin API have little.
fn broken(text: &str) -> Option<(usize, String)> {
    let bytes = text.as_bytes();
    let byte = |at: usize| bytes.get(at).copied();
    let (mut at, mut depth) = (0, 0_usize);
    while let Some(first) = byte(at) {
        at += match (first, byte(at + 1)) {
            (b'/', Some(b'/')) => memchr::memchr2(b'\n', b'\r', &bytes[at..])?,
            (b'/', Some(b'*')) => 2 + memchr::memmem::find(&bytes[at + 2..], b"*/")? + 2,
            (b'"', _) => {
                let mut end = at + 1;
                while byte(end)? != b'"' {
                    if byte(end)? < b' ' {
                        return Some((at, NOT_CLOSED.to_owned()));
                    }
                    end += if byte(end)? == b'\\' { 2 } else { 1 };
                }
                end + 1 - at
            }
            (b'[' | b'{', _) if depth == LEVELS_MAX => {
                let advice =
                    format!("this is nested more than {LEVELS_MAX} levels deep; no key needs more than 10");
                return Some((at, advice));
            }
            (b'[' | b'{', _) => {
                depth += 1;
                1
            }
            (b']' | b'}', _) => {
                depth = depth.saturating_sub(1);
                1
            }
            _ => 1,
        };
    }
    None
}

/// The offset and the advice for a text that is not JSON.
fn syntax(text: &str, error: &ParseError) -> (usize, String) {
    use ParseErrorKind as Kind;
    use ParseStringErrorKind as InText;
    let at = error.range().start;
    let rest = text.get(at..).unwrap_or("");
    let first = rest.chars().next();
    let after_blanks = at + (rest.len() - rest.trim_start().len());
    match error.kind() {
        Kind::ExpectedComma => (after_blanks, "not JSON: write a comma between two entries".to_owned()),
        Kind::UnterminatedObject | Kind::UnterminatedArray => {
            let close = if first == Some('{') { '}' } else { ']' };
            (
                at,
                format!("not JSON: the text ends too early: this is not closed; write {close} where it ends"),
            )
        }
        Kind::String(InText::UnterminatedStringLiteral) => (
            at,
            "not JSON: this text is not closed; write \" at its end, and \\n for a new line in it".to_owned(),
        ),
        Kind::UnterminatedCommentBlock => {
            (at, "not JSON: this comment is not closed; write */ at its end".to_owned())
        }
        Kind::SingleQuotedStringsNotAllowed => (at, "not JSON: write strings in double quotes".to_owned()),
        Kind::ExpectedStringObjectProperty => (at, "not JSON: write keys in double quotes".to_owned()),
        _ if first == Some('\'') => (at, "not JSON: write strings in double quotes".to_owned()),
        _ if first == Some('#') => (at, "not JSON: a comment begins with //".to_owned()),
        Kind::UnexpectedComma => {
            (at, "not JSON: there is no entry before this comma; take it away".to_owned())
        }
        Kind::UnexpectedTokenInObject if first == Some(',') => {
            (at, "not JSON: there is no entry before this comma; take it away".to_owned())
        }
        Kind::ExpectedColonAfterObjectKey => {
            let what = if rest.is_empty() { "the text ends too early: " } else { "" };
            (at, format!("not JSON: {what}write a colon and a value after the key"))
        }
        Kind::ExpectedObjectValue => {
            (at, "not JSON: the text ends too early: the key has no value".to_owned())
        }
        Kind::MultipleRootJsonValues => {
            (at, "not JSON: trailing characters: the file ends with the } before them".to_owned())
        }
        Kind::UnexpectedWord | Kind::UnexpectedToken if at == 0 && first.is_some_and(char::is_alphabetic) => {
            (at, "not JSON: the file is JSON and begins with {; see docs/configuration.md, or run with --print-config".to_owned())
        }
        Kind::UnexpectedWord | Kind::UnexpectedToken if first.is_some_and(char::is_alphabetic) => {
            (at, "not JSON: this is not a value; write strings in double quotes".to_owned())
        }
        kind => (at, format!("not JSON: {}", kind.to_string().to_lowercase())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Every value and key of the tree has the position that the text has.
    fn check_places(text: &str) {
        let mut source = Source::new(None, "before");
        let start = source.add(None, text);
        check_node(&format!("before\n{text}"), &parse(&source, start).unwrap());
    }

    fn check_node(text: &str, node: &Node) {
        let here = &text[node.at..];
        match &node.value {
            Value::Null => assert!(here.starts_with("null")),
            Value::Flag(flag) => assert!(here.starts_with(&flag.to_string())),
            Value::Whole(number) => assert!(here.starts_with(&number.to_string())),
            Value::Number(_) => {
                assert!(here.starts_with(|first: char| first == '-' || first.is_ascii_digit()))
            }
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
            Value::Unknown => panic!("there are no variables"),
        }
    }

    #[test]
    fn places_are_right() {
        for text in [
            "null",
            " [1,2.5 ,-3,[ ],{},[[true]],false]",
            r#"{"a":1,"b\"]}":{"c":[{"d":"x,:{"}, "\\"]}, "\\":null,"é":"\u00e9" ,"a":2}"#,
            "{\r\n\t\"a\" : 18446744073709551616,\n\"b\":\"\"}",
            "// é\n{ /* \" { */ \"a\": [ 1, // x, ]\n ], }",
        ] {
            check_places(text);
        }
    }

    /// The tree without its positions.
    fn plain(node: &Node) -> serde_json::Value {
        match &node.value {
            Value::Null | Value::Unknown => serde_json::Value::Null,
            Value::Flag(flag) => (*flag).into(),
            Value::Whole(number) => (*number).into(),
            Value::Number(number) => (*number).into(),
            Value::Text(text) => text.clone().into(),
            Value::List(nodes) => nodes.iter().map(plain).collect(),
            Value::Object(entries) => {
                entries.iter().map(|entry| (entry.key.clone(), plain(&entry.node))).collect()
            }
        }
    }

    fn read(text: &str) -> Result<serde_json::Value, String> {
        parse(&Source::new(None, text), 0).map(|node| plain(&node)).map_err(|fault| fault.advice)
    }

    #[test]
    fn comments_and_trailing_commas_mean_nothing() {
        let plain: serde_json::Value = serde_json::json!({ "a": [1, "// no /* comment"], "b": {} });
        for text in [
            r#"{"a":[1,"// no /* comment"],"b":{}}"#,
            "{\"a\":[1,\"// no /* comment\",],\"b\":{},}",
            "// the first line\n{ /* a */ \"a\" /**/ : [ 1, // one\r\n \"// no /* comment\" /* * / */ ],\n\"b\": { /* none */ } } // the end",
        ] {
            assert_eq!(read(text).unwrap(), plain, "{text}");
        }
    }

    /// A tree as text, in which all numbers have the same form; the last digits of large ones differ between readers.
    fn shown(tree: &serde_json::Value) -> String {
        use serde_json::Value as Tree;
        match tree {
            Tree::Number(number) => format!("{:.10e}", number.as_f64().unwrap()),
            Tree::Array(list) => format!("{:?}", list.iter().map(shown).collect::<Vec<_>>()),
            Tree::Object(map) => {
                format!("{:?}", map.iter().map(|(key, one)| (key, shown(one))).collect::<Vec<_>>())
            }
            other => other.to_string(),
        }
    }

    proptest! {
        /// What serde_json takes means the same here; what it rejects is rejected, but for comments and last commas.
        #[test]
        fn it_agrees_with_serde_json(text in r#"[\[\]{}:,"\\0-9a-fntruels.+é\n -]{0,24}|\{"[a-z]*(\\u[dD][89a-f][0-9]{2}){0,2}":[-0-9.eE]{1,6}\}"#) {
            let theirs = serde_json::from_str::<serde_json::Value>(&text);
            match (read(&text), theirs) {
                (Ok(ours), Ok(theirs)) => {
                    // A key that is written twice is reported later.
                    prop_assert_eq!(shown(&ours), shown(&theirs));
                }
                (Ok(_), Err(error)) => {
                    let is_comma = error.to_string().starts_with("trailing comma") || text.contains(',');
                    prop_assert!(is_comma, "{text}");
                }
                (Err(fault), Ok(_)) => prop_assert!(false, "{text}: {fault}"),
                (Err(_), Err(_)) => {}
            }
        }
    }

    fn check_syntax(text: &str, place: &str, advice: &str) {
        let source = Source::new(None, text);
        let fault = parse(&source, 0).unwrap_err();
        assert!(fault.advice.contains(advice), "{text:?}: {}", fault.advice);
        assert_eq!(source.shown(fault.at), place, "{text:?}: {}", fault.advice);
    }

    #[test]
    fn a_fault_of_syntax_has_a_place_and_a_remedy() {
        check_syntax("", "1:1", "empty");
        check_syntax(" \n", "2:1", "empty");
        check_syntax("// {}", "1:6", "nothing but comments");
        check_syntax("{,}", "1:2", "no entry before this comma");
        check_syntax("[1,,]", "1:4", "no entry before this comma");
        check_syntax("{\"a\": 1\n \"b\": 2}", "2:2", "a comma between");
        check_syntax("{\n  # port\n}", "2:3", "a comment begins with //");
        check_syntax("{\n  /* port\n}", "2:3", "write */");
        check_syntax("{'a': 1}", "1:2", "double quotes");
        check_syntax("{\"a\": 'b'}", "1:7", "double quotes");
        check_syntax("{a: 1}", "1:2", "double quotes");
        check_syntax("{\"a\": on}", "1:7", "double quotes");
        check_syntax("{\"a\": [1", "1:7", "ends too early");
        check_syntax("{\"a\": {", "1:7", "ends too early");
        check_syntax("{\"a\"", "1:5", "ends too early");
        check_syntax("{\"a\":", "1:6", "ends too early");
        check_syntax("{\"a\" 1}", "1:6", "write a colon");
        check_syntax("{\"a\": \"b}", "1:7", "not closed");
        check_syntax("{\"a\": \"b\n\"}", "1:7", "not closed");
        check_syntax("{\"a\": \"b,\n \"c\": \"d\"}", "1:7", "not closed");
        check_syntax("{\"a\": \"b\\\n\"}", "1:9", "not JSON");
        check_syntax("{} x", "1:4", "not JSON");
        check_syntax("{\"a\": @}", "1:7", "not JSON");
        check_syntax("{} {}", "1:4", "trailing characters");
        check_syntax("{\"ü\": tru}", "1:7", "not JSON");
        check_syntax("{\"a\": 1e999}", "1:7", "too large");
        check_syntax("{\"a\": 0x1F}", "1:7", "not JSON");
    }

    /// In a thread with as little stack as those of the admin API; too much of it ends the process.
    fn parse_with_little_stack(text: String) -> Result<(), (usize, String)> {
        let parsing = move || {
            let parsed = parse(&Source::new(None, &text), 0);
            parsed.map(|node| drop(plain(&node))).map_err(|fault| (fault.at, fault.advice))
        };
        std::thread::Builder::new().stack_size(256 * 1024).spawn(parsing).unwrap().join().unwrap()
    }

    #[test]
    fn the_depth_is_bounded() {
        for (open, inside, close) in [("[", "", "]"), ("{\"a\":", "0", "}"), ("[{ \"a\": ", "0", "}]")] {
            let nested = |times| format!("{}{inside}{}", open.repeat(times), close.repeat(times));
            let most = LEVELS_MAX / open.matches(['[', '{']).count();
            assert_eq!(parse_with_little_stack(nested(most)), Ok(()), "{open}");
            let (at, advice) = parse_with_little_stack(nested(most + 1)).unwrap_err();
            assert_eq!((at, advice.contains("32 levels")), (open.len() * most, true), "{open}: {advice}");
            assert!(parse_with_little_stack(open.repeat(200_000)).is_err(), "{open}");
        }
        let flat = format!("[{}\"{}\" /* {1} */ // {1}\n]", "[],{},".repeat(1000), "[".repeat(1000));
        assert_eq!(
            parse_with_little_stack(flat),
            Ok(()),
            "what is beside it, in a text or in a comment does not count"
        );
    }
}
