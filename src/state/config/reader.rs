//! Walks a tree through typed getters. A getter that finds a fault records it and continues with the default, so that
//! one walk finds every fault. A key that no getter asked for is unknown.

mod lists;
mod section;

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
            // The object may have the same name as the one that has the key.
            let parent = place.rsplit_once('.').map(|(parent, _)| parent);
            return match parent.is_some_and(|parent| stray.object.ends_with(&format!(".{parent}"))) {
                true => format!("unknown key; did you mean \"{place}\" at the top level?"),
                false => format!("unknown key; did you mean {place}?"),
            };
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
    /// Keys that were reported by [`Section::foreign`] and [`Section::rejects`].
    foreign: Vec<&'static str>,
    /// None when there is no object.
    at: Option<usize>,
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
