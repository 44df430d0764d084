//! `${NAME}`, `${NAME:-default}` and `${file:PATH}` in the texts of a file.

use super::tree::{Node, Value, Variable};
use crate::base::files::{self, unreadable};
use crate::base::template::Placeholder;
use crate::state::stamp::Stamped;
use std::ffi::OsString;
use std::io::Read;
use std::path::Path;

/// The largest file that is put into a text, in bytes: as long as the longest text that is taken.
const FILE_MAX: u64 = 64 * 1024;

/// Where the values of variables come from.
pub(super) struct Variables<'a> {
    /// The value of an environment variable.
    pub(super) environment: &'a dyn Fn(&str) -> Option<OsString>,
    /// Where relative paths start.
    pub(super) folder: &'a Path,
    /// The files that were read.
    pub(super) files: Vec<Stamped>,
}

impl Variables<'_> {
    /// Replaces the variables in all texts of a tree. A text with one that has no value becomes [`Value::Unknown`], and is
    /// reported with the path of its key, its position and a sentence.
    pub(super) fn expand(
        &mut self,
        node: &mut Node,
        path: &str,
        report: &mut impl FnMut(String, usize, String),
    ) {
        match &mut node.value {
            Value::Text(text) if text.contains("${") => match self.text(text) {
                Ok((made, variables)) => {
                    node.written = Some(std::mem::replace(text, made));
                    node.variables = Some(variables);
                }
                Err(advice) => {
                    report(path.to_owned(), node.at, advice);
                    node.value = Value::Unknown;
                }
            },
            Value::List(nodes) => {
                for (at, node) in nodes.iter_mut().enumerate() {
                    self.expand(node, &format!("{path}[{at}]"), report);
                }
            }
            Value::Object(entries) => {
                for entry in entries {
                    let path = super::reader::join(path, &super::reader::shown(&entry.key));
                    self.expand(&mut entry.node, &path, report);
                }
            }
            _ => {}
        }
    }

    fn text(&mut self, text: &str) -> Result<(String, Vec<Variable>), String> {
        let (mut made, mut variables, mut rest) = (String::new(), Vec::new(), text);
        while let Some((before, after)) = rest.split_once("${") {
            if let Some(before) = before.strip_suffix('$') {
                made.push_str(before);
                made.push_str("${");
                rest = after;
                continue;
            }
            let (inside, after) = after.split_once('}').ok_or(
                "a variable begins with ${ and is not closed; write } behind its name, or $${ for these characters",
            )?;
            let (value, variable) = self.value(inside)?;
            made.push_str(before);
            made.push_str(&value);
            variables.push(variable);
            rest = after;
        }
        made.push_str(rest);
        Ok((made, variables))
    }

    fn value(&mut self, inside: &str) -> Result<(String, Variable), String> {
        if let Some(path) = inside.strip_prefix("file:") {
            return self.file(path).map(|text| (text, Variable::File(path.to_owned())));
        }
        let (name, default) = match inside.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (inside, None),
        };
        if !is_name(name) {
            return Err(format!(
                "${{{inside}}} is not a variable; write ${{NAME}}, ${{NAME:-default}} or ${{file:PATH}}, or $${{ for these characters"
            ));
        }
        let found = (self.environment)(name).filter(|value| default.is_none() || !value.is_empty());
        match (found.map(OsString::into_string), default) {
            (Some(Ok(value)), _) => Ok((value, Variable::Environment(name.to_owned()))),
            (Some(Err(_)), _) => Err(format!("the environment variable {name} is not UTF-8 text")),
            (None, Some(default)) => Ok((default.to_owned(), Variable::Default(name.to_owned()))),
            (None, None) => Err(missing(name)),
        }
    }

    fn file(&mut self, path: &str) -> Result<String, String> {
        let path = self.folder.join(path);
        self.files.push(Stamped::now(&path));
        let cannot = |error: std::io::Error| unreadable(&path, &error);
        let mut text = String::new();
        let file = files::open(&path).map_err(cannot)?;
        file.take(FILE_MAX + 1).read_to_string(&mut text).map_err(cannot)?;
        if text.len() as u64 > FILE_MAX {
            return Err(format!("{} is larger than 64KiB", path.display()));
        }
        // Editors and `echo` end the last line; that is not part of a value.
        text.truncate(text.trim_end_matches(['\r', '\n']).len());
        Ok(text)
    }
}

impl Variable {
    /// Whether its value should not be shown: what files hold, and what is named like a secret.
    pub(super) fn is_secret(&self) -> bool {
        match self {
            Variable::File(_) => true,
            Variable::Environment(name) | Variable::Default(name) => is_secret_name(name),
        }
    }
}

/// Whether a name is one that secrets have.
pub(super) fn is_secret_name(name: &str) -> bool {
    const WORDS: [&str; 8] =
        ["token", "secret", "password", "passwd", "credential", "authorization", "cookie", "key"];
    let name = name.to_ascii_lowercase();
    WORDS.iter().any(|word| name.contains(word))
}

fn is_name(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && text.chars().all(|each| each.is_ascii_alphanumeric() || each == '_')
}

fn missing(name: &str) -> String {
    let placeholder = match Placeholder::named(name) {
        Some(_) => format!("; for the placeholder write {{{name}}}"),
        None => String::new(),
    };
    format!("the environment variable {name} is not set; set it, or write ${{{name}:-default}}{placeholder}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expand(text: &str) -> Result<(String, Vec<Variable>), String> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("token"), "abc\r\n").unwrap();
        std::fs::write(folder.path().join("long"), "x".repeat(FILE_MAX as usize + 1)).unwrap();
        let environment = |name: &str| match name {
            "PORT" => Some("8080".into()),
            "EMPTY" => Some(OsString::new()),
            "NESTED" => Some("${PORT}".into()),
            _ => None,
        };
        let mut variables = Variables { environment: &environment, folder: folder.path(), files: Vec::new() };
        variables.text(text)
    }

    #[test]
    fn variables_are_replaced_once() {
        for (text, expected) in [
            ("${PORT}", "8080"),
            (":${PORT}/${PORT}!", ":8080/8080!"),
            ("${EMPTY}", ""),
            ("${EMPTY:-x}", "x"),
            ("${ABSENT:-a b}", "a b"),
            ("${ABSENT:-}", ""),
            ("${PORT:-1}", "8080"),
            ("${NESTED}", "${PORT}"),
            ("$${PORT}", "${PORT}"),
            ("a$${b", "a${b"),
            ("$$${PORT}", "$${PORT}"),
            ("$5 ${PORT} }{", "$5 8080 }{"),
            ("Bearer ${file:token}", "Bearer abc"),
        ] {
            assert_eq!(expand(text).unwrap().0, expected, "{text}");
        }
        let variables = expand("${PORT}${A:-}${file:token}").unwrap().1;
        let secrets: Vec<bool> = variables.iter().map(Variable::is_secret).collect();
        assert_eq!(secrets, [false, false, true]);
        assert!(Variable::Environment("ADMIN_TOKEN".to_owned()).is_secret());
    }

    #[test]
    fn what_has_no_value_is_a_sentence() {
        for (text, says) in [
            ("${ABSENT}", "ABSENT is not set; set it, or write ${ABSENT:-default}"),
            ("https://${host}/", "for the placeholder write {host}"),
            ("${}", "is not a variable"),
            ("${A B}", "$${ for these characters"),
            ("${1}", "is not a variable"),
            ("a ${PORT", "not closed"),
            ("${file:absent}", "there is no file "),
            ("${file:long}", "larger than 64KiB"),
        ] {
            let advice = expand(text).unwrap_err();
            assert!(advice.contains(says), "{text}: {advice}");
        }
    }
}
