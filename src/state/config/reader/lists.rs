//! The getters of lists, and of objects whose keys are names.

use super::*;

impl Section<'_, '_> {
    /// The objects of a list, of servers where no other example is known; entries for which `None` is returned are left out.
    pub(in super::super) fn objects<T>(
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
    pub(in super::super) fn objects_like<T>(
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
    pub(in super::super) fn named<T>(
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

    /// The same for a list that may be null; None is null, or a missing key.
    pub(in super::super) fn values_or_null<T>(
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
    pub(in super::super) fn pairs<T>(
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

    /// The values of a list, each by the same rule; None when the key is missing or not a list.
    pub(in super::super) fn values<T>(
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

    /// Whether the file has an empty list there.
    pub(in super::super) fn is_empty_list(&self, key: &str) -> bool {
        let is = |entry: &Entry| {
            entry.key == key && matches!(&entry.node.value, Value::List(nodes) if nodes.is_empty())
        };
        self.entries.iter().any(is)
    }

    /// Whether the file has a list there.
    pub(in super::super) fn is_list(&self, key: &str) -> bool {
        self.entries.iter().any(|entry| entry.key == key && matches!(entry.node.value, Value::List(_)))
    }
}

impl<'n> Section<'_, 'n> {
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
}
