//! The getters of an object: values, and objects inside.

use super::*;

/// Objects that are switched off with null.
const NULLABLE: [&str; 7] =
    ["client_auth", "rate_limit", "concurrency_limit", "basic_auth", "forward_auth", "error_pages", "sticky"];

/// How other programs switch something off.
fn is_off(value: &Value) -> bool {
    match value {
        Value::Flag(on) => !on,
        Value::Text(text) => {
            matches!(&*text.to_ascii_lowercase(), "off" | "none" | "no" | "false" | "disabled")
        }
        _ => false,
    }
}

impl Section<'_, '_> {
    /// The value of a key by a rule, whose error is a sentence; the default when there is none or it is at fault.
    pub(in super::super) fn get<T>(
        &mut self,
        key: &'static str,
        default: T,
        rule: impl Fn(&Node) -> Result<T, String>,
    ) -> T {
        self.value(key, rule).unwrap_or(default)
    }

    /// The same for a key that may be null.
    pub(in super::super) fn maybe<T>(
        &mut self,
        key: &'static str,
        default: Option<T>,
        rule: impl Fn(&Node) -> Result<T, String>,
    ) -> Option<T> {
        let or_null = |node: &Node| match node.is_null() {
            true => Ok(None),
            false => rule(node).map(Some).map_err(|advice| format!("{advice}, or null")),
        };
        self.value(key, or_null).unwrap_or(default)
    }

    /// The value of a required key; None is a fault that has been recorded.
    pub(in super::super) fn required<T>(
        &mut self,
        key: &'static str,
        rule: impl Fn(&Node) -> Result<T, String>,
    ) -> Option<T> {
        if self.at.is_some() && !self.has(key) {
            let place = join(&self.path, key);
            let example = examples::value(&join(&self.schema, key)).unwrap_or("...");
            self.reader.fault(place, self.at, format!("is missing; write \"{key}\": {example}"));
        }
        self.value(key, rule)
    }

    /// Records keys that other programs have in this place, as one fault with this advice. Returns whether there was
    /// one.
    pub(in super::super) fn foreign(
        &mut self,
        keys: &[&'static str],
        advice: impl FnOnce(&dyn Fn(&str) -> Option<String>) -> String,
    ) -> bool {
        let is_foreign = |entry: &&Entry| keys.contains(&entry.key.as_str());
        let Some(first) = self.entries.iter().find(is_foreign) else { return false };
        self.foreign.extend(keys);
        let value = |key: &str| {
            let entry = self.entries.iter().find(|entry| entry.key == key)?;
            Some(match &entry.node.value {
                Value::Text(text) => text.clone(),
                _ => entry.node.to_string(),
            })
        };
        let advice = format!("unknown key; {}", advice(&value));
        self.reader.fault(join(&self.path, &first.key), Some(first.at), advice);
        true
    }

    /// Records keys that are known elsewhere and that this object cannot have, each with this advice.
    pub(in super::super) fn rejects(&mut self, keys: &[&'static str], advice: &str) {
        for entry in self.entries.iter().filter(|entry| keys.contains(&entry.key.as_str())) {
            self.reader.fault(join(&self.path, &entry.key), Some(entry.at), advice.to_owned());
        }
        self.foreign.extend(keys);
    }

    /// Notes files whose contents belong to a value, as they were before they were read.
    pub(in super::super) fn has_contents(&mut self, files: impl IntoIterator<Item = Stamped>) {
        self.reader.contents.extend(files);
    }

    /// Whether there is an object and no key in it.
    pub(in super::super) fn is_empty(&self) -> bool {
        self.at.is_some() && self.entries.is_empty()
    }

    /// Whether the file has the key.
    pub(in super::super) fn has(&self, key: &str) -> bool {
        self.entries.iter().any(|entry| entry.key == key)
    }

    /// Whether the file has a value for the key other than null.
    pub(in super::super) fn is_given(&self, key: &str) -> bool {
        self.has(key) && !self.is_null(key)
    }

    /// The object of a key.
    pub(in super::super) fn section<T>(
        &mut self,
        key: &'static str,
        inside: impl FnOnce(&mut Section<'_, '_>) -> T,
    ) -> T {
        let node = self.take(key);
        let (path, schema) = (join(&self.path, key), join(&self.schema, key));
        self.reader.object(path, schema, node, inside)
    }

    /// The object of a key that may be null: `None` when the key is missing, `Some(None)` for null or an object for which
    /// `inside` returns `None`.
    pub(in super::super) fn section_or_null<T>(
        &mut self,
        key: &'static str,
        inside: impl FnOnce(&mut Section<'_, '_>) -> Option<T>,
    ) -> Option<Option<T>> {
        let is_given = self.has(key);
        let read = self.optional(key, inside).flatten();
        is_given.then_some(read)
    }

    /// The object of a key that may be missing or null; None is that.
    pub(in super::super) fn optional<T>(
        &mut self,
        key: &'static str,
        inside: impl FnOnce(&mut Section<'_, '_>) -> T,
    ) -> Option<T> {
        if !self.has(key) || self.is_null(key) {
            // Its keys are known nonetheless.
            let schema = join(&self.schema, key);
            self.take(key);
            let path = join(&self.path, key);
            self.reader.object(path, schema, None, inside);
            return None;
        }
        Some(self.section(key, inside))
    }

    /// The same for a key that may also be true, which is an empty object, or false, which is none.
    pub(in super::super) fn optional_or_true<T>(
        &mut self,
        key: &'static str,
        inside: impl FnOnce(&mut Section<'_, '_>) -> T,
    ) -> Option<T> {
        let entry = self.entries.iter().find(|entry| entry.key == key);
        let on = match entry.map(|entry| (&entry.node.value, &entry.node)) {
            Some((Value::Object(_), _)) => return self.optional(key, inside),
            Some((Value::Flag(on), _)) => *on,
            Some((_, node)) if matches!(node.unquoted(), Some(Value::Flag(true))) => true,
            Some((_, node)) if matches!(node.unquoted(), Some(Value::Flag(false) | Value::Null)) => false,
            None | Some((Value::Null | Value::Unknown, _)) => false,
            Some((_, node)) => {
                let example = match (key, &node.value) {
                    ("compression", Value::Text(_) | Value::List(_)) => {
                        "{ \"codings\": [ \"zstd\", \"gzip\" ] }"
                    }
                    _ => "true",
                };
                let advice = format!("expected true, false or an object, found {node}; write {example}");
                self.reader.fault(join(&self.path, key), Some(node.at), advice);
                false
            }
        };
        // Its keys are known nonetheless.
        let (path, schema) = (join(&self.path, key), join(&self.schema, key));
        self.take(key);
        let read = self.reader.object(path, schema, None, inside);
        on.then_some(read)
    }

    /// Whether there is an object.
    pub(in super::super) fn is_there(&self) -> bool {
        self.at.is_some()
    }

    pub(super) fn is_null(&self, key: &str) -> bool {
        self.entries.iter().any(|entry| entry.key == key && entry.node.is_null())
    }

    /// Records something of one of the keys that is valid but looks like a mistake.
    pub(in super::super) fn warn(&mut self, key: &str, advice: String) {
        let path = join(&self.path, key);
        self.reader.warning(&[&path], advice);
    }

    /// Records that a key contradicts another one, unless it is at fault by itself.
    pub(in super::super) fn contradiction(&mut self, key: &str, advice: String) {
        let path = join(&self.path, key);
        self.reader.contradiction(&[&path], advice);
    }

    /// Records a fault of the whole object at one of its keys.
    pub(in super::super) fn fault(&mut self, key: &str, advice: String) {
        let path = if key.is_empty() { self.path.clone() } else { join(&self.path, key) };
        self.reader.fault(path, self.at, advice);
    }
}

impl<'n> Section<'_, 'n> {
    fn value<T>(&mut self, key: &'static str, rule: impl Fn(&Node) -> Result<T, String>) -> Option<T> {
        let node = self.take(key).filter(|node| !matches!(node.value, Value::Unknown))?;
        let fault = |advice| self.reader.fault(join(&self.path, key), Some(node.at), advice);
        rule(node).map_err(fault).ok()
    }

    /// Records a value that should be this object, with an example of what to write; its keys are known by now.
    pub(super) fn no_object(&mut self, node: &Node) {
        let example = match &node.value {
            _ if self.known.contains(&"list") => "{ \"list\": [ ... ] }".to_owned(),
            Value::Text(_) if self.known.contains(&"address") => format!("{{ \"address\": {node} }}"),
            _ if self.known.contains(&"address") => "{ \"address\": \"host:port\" }".to_owned(),
            Value::Flag(false) | Value::Null if self.known.contains(&"max_percent") => {
                "{ \"max_percent\": 0 }".to_owned()
            }
            _ if NULLABLE.iter().any(|key| self.schema.ends_with(key)) && is_off(&node.value) => {
                "null".to_owned()
            }
            Value::Flag(_) if self.known.contains(&"enabled") => format!("{{ \"enabled\": {node} }}"),
            Value::Whole(100..=599) if self.known.first() == Some(&"status") => {
                format!("{{ \"status\": {node} }}")
            }
            // A change of a server.
            _ if self.known.first() == Some(&"state") => "{ \"state\": \"drain\" }".to_owned(),
            Value::Text(_) if self.known.contains(&"target") => format!("{{ \"target\": {node} }}"),
            _ => examples::object(&self.schema).map_or_else(
                || self.known.first().map_or("{ ... }".to_owned(), |key| format!("{{ \"{key}\": ... }}")),
                str::to_owned,
            ),
        };
        let advice = format!("expected an object, found {node}; write {example}");
        self.reader.fault(self.path.clone(), Some(node.at), advice);
    }

    /// The node of a key, which counts as known from now on.
    pub(super) fn take(&mut self, key: &'static str) -> Option<&'n Node> {
        self.known.push(key);
        self.reader.schema.insert(join(&self.schema, key));
        let entries: &'n [Entry] = self.entries;
        let node = &entries.iter().find(|entry| entry.key == key)?.node;
        self.reader.places.insert(join(&self.path, key), node.at);
        Some(node)
    }

    /// Records duplicate keys and keys that no getter asked for.
    pub(super) fn close(self) {
        let mut seen = HashSet::new();
        for entry in self.entries {
            let path = join(&self.path, &shown(&entry.key));
            if !seen.insert(entry.key.as_str()) {
                self.reader.fault(
                    path,
                    Some(entry.at),
                    "is written twice in this object; keep one".to_owned(),
                );
            } else if !self.known.contains(&entry.key.as_str()) && !self.foreign.contains(&entry.key.as_str())
            {
                let (key, siblings) = (entry.key.clone(), self.known.clone());
                let object = self.schema.clone();
                self.reader.strays.push(Stray { path, at: entry.at, key, object, siblings });
            }
        }
    }
}
