//! Walks a tree through typed getters. A getter that finds a fault records it and continues with the default, so that
//! one walk finds every fault. A key that no getter asked for is unknown.

use super::fault::Fault;
use super::source::Source;
use super::spell;
use super::tree::{Entry, Node, Value};
use super::{examples, hints};
use crate::state::stamp::Stamped;
use std::collections::{BTreeSet, HashMap, HashSet};

/// The most faults that are reported; more are useless to a reader, and each costs a walk through its line.
const FAULTS_MAX: usize = 200;

/// A list of which no example is known.
const SOME_LIST: &str = "[ ... ]";

/// What a walk has found so far.
#[derive(Debug, Default)]
pub(super) struct Reader {
    faults: Vec<Found>,
    warnings: Vec<Found>,
    strays: Vec<Stray>,
    /// Files whose contents belong to values.
    contents: Vec<Stamped>,
    /// The position of each value that a getter asked for, by its path.
    places: HashMap<String, usize>,
    /// Every key that a getter asked for, list indices left out: `servers.list[].weight`.
    schema: BTreeSet<String>,
}

/// A fault before its position is looked up.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) path: String,
    pub(super) at: Option<usize>,
    pub(super) advice: String,
}

/// A key that no getter asked for.
#[derive(Debug)]
struct Stray {
    path: String,
    at: usize,
    key: String,
    /// The object that it stands in: `routes[].request_headers`.
    object: String,
    siblings: Vec<&'static str>,
}

impl Reader {
    /// A reader of a tree in which these faults were found already.
    pub(super) fn with(faults: Vec<Found>) -> Self {
        Reader { faults, ..Reader::default() }
    }

    /// Reads the tree from its top.
    pub(super) fn top<T>(&mut self, node: &Node, inside: impl FnOnce(&mut Section<'_, '_>) -> T) -> T {
        self.object(String::new(), String::new(), Some(node), inside)
    }

    /// Records two or more keys that contradict each other, unless one of them is at fault by itself. The fault is
    /// reported at the first of them that the file has.
    pub(super) fn contradiction(&mut self, paths: &[&str], advice: String) {
        if let Some(found) = self.about(paths, advice) {
            self.faults.push(found);
        }
    }

    /// Records something that is valid but looks like a mistake.
    pub(super) fn warning(&mut self, paths: &[&str], advice: String) {
        if let Some(found) = self.about(paths, advice) {
            self.warnings.push(found);
        }
    }

    /// Whether the file has a value there.
    pub(super) fn is_given(&self, path: &str) -> bool {
        self.places.contains_key(path)
    }

    /// The files whose contents belong to values, as they were before they were read.
    pub(super) fn take_contents(&mut self) -> Vec<Stamped> {
        std::mem::take(&mut self.contents)
    }

    /// All faults and warnings, in the order of the text.
    pub(super) fn finish(mut self, source: &Source) -> (Vec<Fault>, Vec<Fault>) {
        for stray in std::mem::take(&mut self.strays) {
            let advice = self.suggestion(&stray);
            self.faults.push(Found { path: stray.path, at: Some(stray.at), advice });
        }
        (told(self.faults, source), told(self.warnings, source))
    }

    fn about(&self, paths: &[&str], advice: String) -> Option<Found> {
        if self.faults.len() > FAULTS_MAX
            || paths.iter().any(|path| self.faults.iter().any(|found| found.path == *path))
        {
            return None;
        }
        let path = paths.iter().find(|path| self.is_given(path)).or(paths.first())?;
        Some(Found { path: (*path).to_owned(), at: self.places.get(*path).copied(), advice })
    }

    /// Advice on an unknown key: the place of a key of that name, a sibling of similar name, or the list of known keys.
    fn suggestion(&self, stray: &Stray) -> String {
        if let Some(advice) = hints::hint(&stray.object, &stray.key) {
            return format!("unknown key; {advice}");
        }
        if let Some(place) = self.place_of(&stray.key) {
            return format!("unknown key; did you mean {place}?");
        }
        if let Some(sibling) = spell::nearest(&stray.key, stray.siblings.iter().copied()) {
            return format!("unknown key; did you mean \"{sibling}\"?");
        }
        match hints::no_names(&stray.object) {
            Some(advice) => format!("unknown key; {advice}"),
            None => format!("unknown key; known here: {}", stray.siblings.join(", ")),
        }
    }

    /// The place of a key of this name: the only one, or the top level. A name that many objects have says nothing.
    fn place_of(&self, key: &str) -> Option<String> {
        let mut places = self.schema.iter().filter(|path| path.rsplit('.').next() == Some(key));
        match (places.next()?, places.next()) {
            _ if self.schema.contains(key) => Some(format!("\"{key}\" at the top level")),
            (only, None) => Some(only.to_string()),
            _ => None,
        }
    }

    fn object<T>(
        &mut self,
        path: String,
        schema: String,
        node: Option<&Node>,
        inside: impl FnOnce(&mut Section<'_, '_>) -> T,
    ) -> T {
        let (entries, at, wrong): (&[Entry], _, _) = match node.map(|node| (&node.value, node)) {
            None | Some((Value::Unknown, _)) => (&[], None, None),
            Some((Value::Object(entries), node)) => (entries, Some(node.at), None),
            Some((_, node)) => (&[], None, Some(node)),
        };
        let (known, foreign) = (Vec::new(), Vec::new());
        let mut section = Section { reader: self, path, schema, entries, known, foreign, at };
        let read = inside(&mut section);
        if let Some(node) = wrong {
            section.no_object(node);
        }
        section.close();
        read
    }

    fn fault(&mut self, path: String, at: Option<usize>, advice: String) {
        self.faults.push(Found { path, at, advice });
    }
}

/// One object of the tree, read key by key. A missing value or another type reads as an empty object.
pub(super) struct Section<'r, 'n> {
    reader: &'r mut Reader,
    path: String,
    schema: String,
    entries: &'n [Entry],
    known: Vec<&'static str>,
    /// Keys that were reported by [`Section::foreign`].
    foreign: Vec<&'static str>,
    /// None when there is no object.
    at: Option<usize>,
}

impl Section<'_, '_> {
    /// The value of a key by a rule, whose error is a sentence; the default when there is none or it is at fault.
    pub(super) fn get<T>(
        &mut self,
        key: &'static str,
        default: T,
        rule: impl Fn(&Node) -> Result<T, String>,
    ) -> T {
        self.value(key, rule).unwrap_or(default)
    }

    /// The same for a key that may be null.
    pub(super) fn maybe<T>(
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
    pub(super) fn required<T>(
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
    pub(super) fn foreign(
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

    /// Notes files whose contents belong to a value, as they were before they were read.
    pub(super) fn has_contents(&mut self, files: impl IntoIterator<Item = Stamped>) {
        self.reader.contents.extend(files);
    }

    /// Whether there is an object and no key in it.
    pub(super) fn is_empty(&self) -> bool {
        self.at.is_some() && self.entries.is_empty()
    }

    /// Whether the file has the key.
    pub(super) fn has(&self, key: &str) -> bool {
        self.entries.iter().any(|entry| entry.key == key)
    }

    /// Whether the file has a value for the key other than null.
    pub(super) fn is_given(&self, key: &str) -> bool {
        self.has(key) && !self.is_null(key)
    }

    /// The object of a key.
    pub(super) fn section<T>(
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
    pub(super) fn section_or_null<T>(
        &mut self,
        key: &'static str,
        inside: impl FnOnce(&mut Section<'_, '_>) -> Option<T>,
    ) -> Option<Option<T>> {
        let is_given = self.has(key);
        let read = self.optional(key, inside).flatten();
        is_given.then_some(read)
    }

    /// The object of a key that may be missing or null; None is that.
    pub(super) fn optional<T>(
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
    pub(super) fn optional_or_true<T>(
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

    /// Whether the file has a list there.
    pub(super) fn is_list(&self, key: &str) -> bool {
        self.entries.iter().any(|entry| entry.key == key && matches!(entry.node.value, Value::List(_)))
    }

    /// Whether there is an object.
    pub(super) fn is_there(&self) -> bool {
        self.at.is_some()
    }

    fn is_null(&self, key: &str) -> bool {
        self.entries.iter().any(|entry| entry.key == key && entry.node.is_null())
    }

    /// The objects of a list, of servers where no other example is known; entries for which `None` is returned are left out.
    pub(super) fn objects<T>(
        &mut self,
        key: &'static str,
        mut inside: impl FnMut(&mut Section<'_, '_>) -> Option<T>,
    ) -> Vec<T> {
        let example = match examples::object(&format!("{key}[]")) {
            Some(example) => format!("[ {example} ]"),
            None => "[ { \"address\": \"host:port\" } ]".to_owned(),
        };
        self.objects_like(key, &example, |section, _| inside(section))
    }

    /// The objects of a list that looks like the example, each with its index; entries for which `None` is returned are
    /// left out.
    pub(super) fn objects_like<T>(
        &mut self,
        key: &'static str,
        example: &str,
        mut inside: impl FnMut(&mut Section<'_, '_>, usize) -> Option<T>,
    ) -> Vec<T> {
        let schema = format!("{}[]", join(&self.schema, key));
        let nodes = self.list(key, example).unwrap_or(&[]);
        if nodes.is_empty() {
            // The keys of an entry are known nonetheless.
            self.reader.object(join(&self.path, key), schema.clone(), None, |section| inside(section, 0));
        }
        let nodes = nodes.iter().enumerate();
        let mut each = |(at, node): (usize, &Node)| {
            let path = format!("{}[{at}]", join(&self.path, key));
            self.reader.places.insert(path.clone(), node.at);
            self.reader.object(path, schema.clone(), Some(node), |section| inside(section, at))
        };
        nodes.filter_map(&mut each).collect()
    }

    /// The objects that are the values of an object whose keys are names, in the order of the file. Each has the keys
    /// of the object `like`.
    pub(super) fn named<T>(
        &mut self,
        key: &'static str,
        like: &'static str,
        mut inside: impl FnMut(&str, &mut Section<'_, '_>) -> T,
    ) -> Vec<T> {
        let path = join(&self.path, key);
        let node = self.take(key).filter(|node| !matches!(node.value, Value::Unknown));
        let Some(node) = node else { return Vec::new() };
        let Value::Object(entries) = &node.value else {
            let advice =
                format!("expected an object, found {node}; write {{ \"api\": {{ \"list\": [ ... ] }} }}");
            self.reader.fault(path, Some(node.at), advice);
            return Vec::new();
        };
        let mut seen = HashSet::new();
        let mut read = Vec::new();
        for entry in entries {
            let path = join(&path, &shown(&entry.key));
            if !seen.insert(entry.key.as_str()) {
                self.reader.fault(
                    path,
                    Some(entry.at),
                    "is written twice in this object; keep one".to_owned(),
                );
                continue;
            }
            self.reader.places.insert(path.clone(), entry.node.at);
            let inside = |s: &mut Section<'_, '_>| inside(&entry.key, s);
            read.push(self.reader.object(path, like.to_owned(), Some(&entry.node), inside));
        }
        read
    }

    /// Whether the file has an empty list there.
    pub(super) fn is_empty_list(&self, key: &str) -> bool {
        let is = |entry: &Entry| {
            entry.key == key && matches!(&entry.node.value, Value::List(nodes) if nodes.is_empty())
        };
        self.entries.iter().any(is)
    }

    /// The same for a list that may be null; None is null, or a missing key.
    pub(super) fn values_or_null<T>(
        &mut self,
        key: &'static str,
        rule: impl Fn(&Node) -> Result<T, String>,
    ) -> Option<Vec<T>> {
        if self.is_null(key) {
            self.take(key);
            return None;
        }
        self.values(key, rule)
    }

    /// The entries of an object whose keys are names, each by the same rule, in the order of the file.
    pub(super) fn pairs<T>(
        &mut self,
        key: &'static str,
        example: &str,
        rule: impl Fn(&str, &Node) -> Result<T, String>,
    ) -> Vec<T> {
        let path = join(&self.path, key);
        let node = self.take(key).filter(|node| !matches!(node.value, Value::Unknown));
        let Some(node) = node else { return Vec::new() };
        let Value::Object(entries) = &node.value else {
            let advice = format!("expected an object, found {node}; write {example}");
            self.reader.fault(path, Some(node.at), advice);
            return Vec::new();
        };
        let (mut seen, mut values) = (HashSet::new(), Vec::new());
        for entry in entries {
            let result = match seen.insert(entry.key.as_str()) {
                _ if matches!(entry.node.value, Value::Unknown) => continue,
                true => rule(&entry.key, &entry.node),
                false => Err("is written twice in this object; keep one".to_owned()),
            };
            match result {
                Ok(value) => values.push(value),
                Err(advice) => {
                    self.reader.fault(join(&path, &shown(&entry.key)), Some(entry.node.at), advice)
                }
            }
        }
        values
    }

    /// Records something of one of the keys that is valid but looks like a mistake.
    pub(super) fn warn(&mut self, key: &str, advice: String) {
        let path = join(&self.path, key);
        self.reader.warning(&[&path], advice);
    }

    /// Records that a key contradicts another one, unless it is at fault by itself.
    pub(super) fn contradiction(&mut self, key: &str, advice: String) {
        let path = join(&self.path, key);
        self.reader.contradiction(&[&path], advice);
    }

    /// Records a fault of the whole object at one of its keys.
    pub(super) fn fault(&mut self, key: &str, advice: String) {
        let path = if key.is_empty() { self.path.clone() } else { join(&self.path, key) };
        self.reader.fault(path, self.at, advice);
    }

    /// The values of a list, each by the same rule; None when the key is missing or not a list.
    pub(super) fn values<T>(
        &mut self,
        key: &'static str,
        rule: impl Fn(&Node) -> Result<T, String>,
    ) -> Option<Vec<T>> {
        let nodes = self.list(key, SOME_LIST)?;
        let mut values = Vec::new();
        let known = nodes.iter().enumerate().filter(|(_, node)| !matches!(node.value, Value::Unknown));
        for (at, node) in known {
            match rule(node) {
                Ok(value) => values.push(value),
                Err(advice) => {
                    self.reader.fault(format!("{}[{at}]", join(&self.path, key)), Some(node.at), advice)
                }
            }
        }
        Some(values)
    }
}

impl<'n> Section<'_, 'n> {
    fn value<T>(&mut self, key: &'static str, rule: impl Fn(&Node) -> Result<T, String>) -> Option<T> {
        let node = self.take(key).filter(|node| !matches!(node.value, Value::Unknown))?;
        let fault = |advice| self.reader.fault(join(&self.path, key), Some(node.at), advice);
        rule(node).map_err(fault).ok()
    }

    /// Records a value that should be this object, with an example of what to write; its keys are known by now.
    fn no_object(&mut self, node: &Node) {
        let example = match &node.value {
            _ if self.known.contains(&"list") => "{ \"list\": [ ... ] }".to_owned(),
            Value::Text(_) if self.known.contains(&"address") => format!("{{ \"address\": {node} }}"),
            _ if self.known.contains(&"address") => "{ \"address\": \"host:port\" }".to_owned(),
            Value::Flag(false) | Value::Null if self.known.contains(&"max_percent") => {
                "{ \"max_percent\": 0 }".to_owned()
            }
            Value::Flag(false) if self.schema.ends_with("client_auth") => "null".to_owned(),
            Value::Flag(_) if self.known.contains(&"enabled") => format!("{{ \"enabled\": {node} }}"),
            Value::Whole(100..=599) if self.known.first() == Some(&"status") => {
                format!("{{ \"status\": {node} }}")
            }
            Value::Text(_) if self.known.contains(&"target") => format!("{{ \"target\": {node} }}"),
            _ => examples::object(&self.schema).map_or_else(
                || self.known.first().map_or("{ ... }".to_owned(), |key| format!("{{ \"{key}\": ... }}")),
                str::to_owned,
            ),
        };
        let advice = format!("expected an object, found {node}; write {example}");
        self.reader.fault(self.path.clone(), Some(node.at), advice);
    }

    fn list(&mut self, key: &'static str, example: &str) -> Option<&'n [Node]> {
        let node = self.take(key)?;
        let known = examples::list(&join(&self.schema, key)).unwrap_or(SOME_LIST);
        let alone = match &node.value {
            Value::Text(_) if example == SOME_LIST && known == SOME_LIST => Some(format!("[ {node} ]")),
            _ => None,
        };
        let example = match alone.as_deref() {
            Some(alone) => alone,
            None if example == SOME_LIST => known,
            None => example,
        };
        match &node.value {
            Value::List(nodes) => Some(nodes),
            Value::Unknown => None,
            _ => {
                let advice = format!("expected a list, found {node}; write {example}");
                self.reader.fault(join(&self.path, key), Some(node.at), advice);
                None
            }
        }
    }

    /// The node of a key, which counts as known from now on.
    fn take(&mut self, key: &'static str) -> Option<&'n Node> {
        self.known.push(key);
        self.reader.schema.insert(join(&self.schema, key));
        let entries: &'n [Entry] = self.entries;
        let node = &entries.iter().find(|entry| entry.key == key)?.node;
        self.reader.places.insert(join(&self.path, key), node.at);
        Some(node)
    }

    /// Records duplicate keys and keys that no getter asked for.
    fn close(self) {
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

pub(super) fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

/// A key of the file as a part of a path: escaped and truncated, because it may be anything.
pub(super) fn shown(key: &str) -> String {
    key.escape_debug().take(60).collect()
}

/// The faults in the order of the text, those without a position last; those beyond the limit as a number.
fn told(mut found: Vec<Found>, source: &Source) -> Vec<Fault> {
    found.sort_by_key(|found| found.at.unwrap_or(usize::MAX));
    let rest = found.len().saturating_sub(FAULTS_MAX);
    found.truncate(FAULTS_MAX);
    let faults = found.into_iter().map(|found| source.fault(found.path, found.advice, found.at));
    let mut faults: Vec<Fault> = faults.collect();
    if rest > 0 {
        faults.push(source.fault(String::new(), format!("and {rest} more faults"), None));
    }
    faults
}

#[cfg(test)]
impl Reader {
    pub(super) fn schema(&self) -> &BTreeSet<String> {
        &self.schema
    }
}
