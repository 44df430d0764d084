//! The JSON schema of the file, for editors and for `check --print`.
//!
//! It is a file of its own, `schema.json`. Tests hold it against the reader: both have the same keys, defaults and bounds,
//! and the schema takes whatever the reader takes.

use super::source::Source;
use super::tree::{self, Entry, Node, Value};

/// The schema (JSON Schema, draft 2020-12).
pub const SCHEMA: &str = include_str!("schema.json");

/// The schema as a tree, with its keys in the order of the file.
pub(super) struct Schema {
    root: Node,
}

impl Schema {
    /// Reads the schema.
    pub(super) fn new() -> Self {
        let root = tree::parse(&Source::new(None, SCHEMA), 0);
        Schema { root: root.unwrap_or_else(|_| Node::empty()) }
    }

    /// The description of the whole file.
    pub(super) fn root(&self) -> &Node {
        &self.root
    }

    /// What a description says under a keyword, itself or where it refers to.
    pub(super) fn find<'s>(&'s self, schema: &'s Node, keyword: &str) -> Option<&'s Node> {
        entry(schema, keyword).or_else(|| entry(self.referred(schema)?, keyword))
    }

    /// The keys of an object in the order of the schema, each with its description.
    pub(super) fn properties<'s>(&'s self, schema: &'s Node) -> &'s [Entry] {
        match self.find(schema, "properties").map(|node| &node.value) {
            Some(Value::Object(entries)) => entries,
            _ => &[],
        }
    }

    fn referred(&self, schema: &Node) -> Option<&Node> {
        let Value::Text(reference) = &entry(schema, "$ref")?.value else { return None };
        entry(entry(&self.root, "$defs")?, reference.strip_prefix("#/$defs/")?)
    }
}

fn entry<'n>(node: &'n Node, key: &str) -> Option<&'n Node> {
    let Value::Object(entries) = &node.value else { return None };
    entries.iter().find(|entry| entry.key == key).map(|entry| &entry.node)
}

#[cfg(test)]
mod tests;
